//! Checkpoints of latent grids: what the trainings of an encode have come to, written on the way
//! and gone on from. A private format of this build and no part of the specification: signature,
//! what the encode is of, the trainings that are over, the one in progress, CRC-32. Opens no files.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::{Attempt, Earlier, Plan};
use crate::encode::EncodeOptions;
use crate::error::EncodeError;
use crate::geometry::Size;
use crate::raster::Raster;
use crate::train::archive::Archive;
use crate::train::grid::{self, Run};
use crate::train::{Control, Progress};

const SIGNATURE: &[u8; 17] = b"sirenc checkpoint";
/// Goes up where training changes and the version does not.
const REVISION: u32 = 3;

/// Checkpoints of an encode as latent grids, for
/// [`encode_with_checkpoints`](crate::encode_with_checkpoints).
pub struct Checkpoints<'a> {
    /// The one to go on from, as `save` got it.
    pub from: Option<&'a [u8]>,
    /// The least time between two.
    pub every: Duration,
    /// Gets each, some 25 bytes for a pixel of the picture, and one at the step after which the
    /// observer stops the training.
    pub save: &'a mut dyn FnMut(&[u8]),
}

/// A training that is over: what later ones, and the file, hang on.
#[derive(Clone, Default)]
struct Finished {
    bytes: Vec<u8>,
    psnr: f64,
    lambda: f64,
    steps_done: u32,
    steps_planned: u32,
}

impl Finished {
    fn archive(&mut self, archive: &mut Archive) -> Result<(), EncodeError> {
        archive.sized(&mut self.bytes)?;
        archive.f64(&mut self.psnr)?;
        archive.f64(&mut self.lambda)?;
        archive.u32(&mut self.steps_done)?;
        archive.u32(&mut self.steps_planned)
    }
}

/// The trainings of an encode, one after another.
pub(super) struct Trainings<'a> {
    checkpoints: Option<Checkpoints<'a>>,
    /// Picture and options.
    subject: String,
    finished: Vec<Finished>,
    /// How many of them have been asked for.
    asked: usize,
    /// The state of the training in progress that a checkpoint goes on with.
    saved: Option<&'a [u8]>,
    saved_at: Instant,
}

impl<'a> Trainings<'a> {
    pub fn new(
        raster: &Raster,
        options: &EncodeOptions,
        checkpoints: Option<Checkpoints<'a>>,
    ) -> Result<Self, EncodeError> {
        let mut trainings = Self {
            subject: checkpoints.as_ref().map_or(String::new(), |_| subject(raster, options)),
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

    /// The next training, its result, and the last lambda.
    pub fn next(
        &mut self,
        plan: &Plan,
        earlier: Option<Earlier>,
        observe: &mut dyn FnMut(&Progress) -> Control,
    ) -> Result<(Attempt, f64), EncodeError> {
        self.asked += 1;
        if let Some(Finished { bytes, psnr, lambda, steps_done, steps_planned }) =
            self.finished.get(self.asked - 1).cloned()
        {
            let report = plan.report(steps_done, steps_planned);
            return Ok((Attempt { bytes, psnr, report }, lambda));
        }
        let saved = self.saved.take();
        let mut observe = |progress: &Progress, run: &mut Run| {
            let control = observe(progress);
            self.save(run, control == Control::Stop);
            control
        };
        let mut trained = grid::train(plan.raster, plan.start(earlier), saved, &mut observe)?;
        let attempt = plan.finish(&mut trained)?;
        let Attempt { ref bytes, psnr, .. } = attempt;
        let lambda = trained.lambda;
        let (steps_done, steps_planned) = (trained.steps_done, trained.steps_planned);
        let bytes = bytes.clone();
        self.finished.push(Finished { bytes, psnr, lambda, steps_done, steps_planned });
        Ok((attempt, lambda))
    }

    /// Saves a checkpoint if it is time to, or if this was the last step.
    fn save(&mut self, run: &mut Run, is_last: bool) {
        let due = |c: &Checkpoints| is_last || self.saved_at.elapsed() >= c.every;
        if !self.checkpoints.as_ref().is_some_and(due) {
            return;
        }
        let mut bytes = SIGNATURE.to_vec();
        let mut archive = Archive::Writing(&mut bytes);
        let written = self.archive(&mut archive).and_then(|()| run.archive(&mut archive));
        written.expect("only reading fails");
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
                self.finished.push(Finished::default());
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
    body.strip_prefix(SIGNATURE).filter(|_| is_whole)
}

/// All that decides the file, a line each.
fn subject(raster: &Raster, options: &EncodeOptions) -> String {
    let EncodeOptions { target, representation, training, resume, metadata, .. } = options;
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
        ("representation", representation.map_or("default".into(), |given| given.to_string())),
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
