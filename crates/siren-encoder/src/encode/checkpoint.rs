//! Checkpoints: what the trainings of an encode have come to, written on the way and gone on from.
//! A private format of this build and no part of the specification: signature, what the encode is
//! of, the trainings that are over, the one in progress, CRC-32. Opens no files.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::options::{Options, Representation};
use super::session::Attempt;
use super::size::Job;
use crate::error::EncodeError;
use crate::train::archive::{Archive, Archived};
use crate::train::{Control, Observe, Progress};
use siren_image::Size;

/// Goes up where training changes and the version does not.
const REVISION: u32 = 9;

/// Checkpoints of an encode, for [`Encoder::checkpoints`](super::Encoder::checkpoints).
pub struct Checkpoints<'a> {
    /// The one to go on from, as `save` got it.
    pub from: Option<&'a [u8]>,
    /// The least time between two.
    pub every: Duration,
    /// Gets each, and one at the step after which the observer stops the training. Of latents
    /// it takes some 25 bytes for a pixel of the picture, of one SIREN some 45 for a weight.
    pub save: &'a mut dyn FnMut(&[u8]),
}

impl Checkpoints<'_> {
    /// What every checkpoint begins with.
    pub const SIGNATURE: &'static [u8] = b"sirenc checkpoint";
}

impl Attempt {
    /// Saves or restores all of it.
    fn archive(&mut self, archive: &mut Archive) -> Result<(), EncodeError> {
        archive.sized(&mut self.bytes)?;
        archive.f64(&mut self.psnr)?;
        archive.f64(&mut self.lambda)?;
        archive.usize(&mut self.surplus)?;
        archive.u32(&mut self.steps_done)?;
        archive.u32(&mut self.steps_planned)?;
        archive.u32(&mut self.recoveries)?;
        archive.bool(&mut self.single_colour)
    }
}

/// The trainings of an encode, one after another.
pub(super) struct Trainings<'a> {
    checkpoints: Option<Checkpoints<'a>>,
    /// Picture and options.
    subject: String,
    finished: Vec<Attempt>,
    /// How many of them have been asked for.
    asked: usize,
    /// The state of the training in progress that a checkpoint goes on with.
    saved: Option<&'a [u8]>,
    saved_at: Instant,
}

impl<'a> Trainings<'a> {
    pub fn new(job: Job, checkpoints: Option<Checkpoints<'a>>) -> Result<Self, EncodeError> {
        let mut trainings = Self {
            subject: checkpoints.as_ref().map_or(String::new(), |_| subject(job)),
            finished: Vec::new(),
            asked: 0,
            saved: None,
            saved_at: Instant::now(),
            checkpoints,
        };
        if let Some(bytes) = trainings.checkpoints.as_ref().and_then(|c| c.from) {
            let body = checked(bytes).ok_or(EncodeError::CheckpointDamaged)?;
            let mut archive = Archive::Reading(body);
            trainings.archive(&mut archive)?;
            if let Archive::Reading(rest) = archive {
                trainings.saved = Some(rest);
            }
        }
        Ok(trainings)
    }

    /// The next training and its file: as a checkpoint has it, else by `train`, which goes on with
    /// the state that it is given.
    pub fn next(
        &mut self,
        observe: &mut dyn FnMut(&Progress) -> Control,
        train: impl FnOnce(Option<&[u8]>, &mut Observe) -> Result<Attempt, EncodeError>,
    ) -> Result<Attempt, EncodeError> {
        self.asked += 1;
        if let Some(finished) = self.finished.get(self.asked - 1) {
            return Ok(finished.clone());
        }
        let saved = self.saved.take();
        let attempt = train(saved, &mut |progress, run| {
            let control = observe(progress);
            self.save(run, control == Control::Stop);
            control
        })?;
        self.finished.push(attempt.clone());
        Ok(attempt)
    }

    /// Saves a checkpoint if it is time to, or if this was the last step.
    fn save(&mut self, run: &mut dyn Archived, is_last: bool) {
        let due = |c: &Checkpoints| is_last || self.saved_at.elapsed() >= c.every;
        if !self.checkpoints.as_ref().is_some_and(due) {
            return;
        }
        let mut bytes = Checkpoints::SIGNATURE.to_vec();
        let mut archive = Archive::Writing(&mut bytes);
        let written = self.archive(&mut archive).and_then(|()| run.archive(&mut archive));
        // A device that fails does so in the next step too, which tells.
        if written.is_err() {
            return;
        }
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        if let Some(checkpoints) = &mut self.checkpoints {
            (checkpoints.save)(&bytes);
        }
        self.saved_at = Instant::now();
    }

    /// Saves or restores all but the training in progress.
    fn archive(&mut self, archive: &mut Archive) -> Result<(), EncodeError> {
        let mut subject = self.subject.clone().into_bytes();
        archive.sized(&mut subject)?;
        let subject = String::from_utf8_lossy(&subject);
        if subject != self.subject {
            let mut lines = subject.lines().zip(self.subject.lines());
            let (saved, wanted) = lines.find(|(a, b)| a != b).unwrap_or_default();
            let (saved, wanted) = (saved.to_owned(), wanted.to_owned());
            return Err(EncodeError::CheckpointMismatch { saved, wanted });
        }
        let mut count = self.finished.len();
        archive.usize(&mut count)?;
        for index in 0..count {
            if index == self.finished.len() {
                self.finished.push(Attempt::default());
            }
            self.finished[index].archive(archive)?;
        }
        Ok(())
    }
}

/// What a checkpoint holds between its signature and its checksum, if that is right.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (body, checksum) = bytes.split_last_chunk()?;
    let is_whole = crc32fast::hash(body) == u32::from_le_bytes(*checksum);
    body.strip_prefix(Checkpoints::SIGNATURE).filter(|_| is_whole)
}

/// All that decides the file, a line each.
fn subject(Job { raster, options }: Job) -> String {
    let Options { target, training, resume, metadata, .. } = options;
    let representation = match options.representation {
        Representation::Auto => "default",
        Representation::Siren(_) => "siren",
        Representation::Latents(_) => "grid",
    };
    let Size { width, height } = raster.size();
    let (channels, depth) = (raster.channels(), raster.depth());
    let samples = hash(raster.samples());
    let steps = |steps: Option<u32>| steps.map_or("default".into(), |steps| steps.to_string());
    let lines = [
        ("encoder", format!("{} ({REVISION})", env!("CARGO_PKG_VERSION"))),
        ("picture", format!("{width}x{height} {channels} {depth:?} {samples}")),
        ("target", format!("{target:?}")),
        ("effort", training.effort.to_string()),
        ("steps", steps(training.steps)),
        ("stop after", steps(training.stop_after)),
        ("seed", training.seed.to_string()),
        ("representation", representation.into()),
        ("file to resume", hash(&format!("{resume:?}"))),
        ("metadata", hash(&format!("{metadata:?}"))),
        ("other options", hash(&format!("{options:?}"))),
    ];
    lines.iter().map(|(name, value)| format!("{name} {value}\n")).collect()
}

fn hash(value: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
