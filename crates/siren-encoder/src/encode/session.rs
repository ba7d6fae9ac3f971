//! An encode under way: the picture and the options, the device, the trainings that are done, and
//! who watches. What a training is of is told by `siren` and `latents`.

use super::checkpoint::Trainings;
use super::options::Target;
use super::size::Job;
use crate::error::EncodeError;
use crate::train::{Control, Observe, Progress, TrainingDevice};

/// Called after every step; may end the training.
pub(super) type Observer<'a> = dyn FnMut(&Progress) -> Control + 'a;

/// An encode under way.
pub(super) struct Session<'a, 'c> {
    pub job: Job<'a>,
    pub device: TrainingDevice,
    pub trainings: Trainings<'c>,
    pub observer: &'a mut Observer<'a>,
    /// Whether the observer has ended the training.
    pub stopped: bool,
}

impl Session<'_, '_> {
    /// The next training and its file, shown to the observer as number `run`: as a checkpoint has
    /// it, else by `train`, which gets the device and the state to go on with.
    pub fn train(
        &mut self,
        run: u32,
        train: impl FnOnce(
            &mut TrainingDevice,
            Option<&[u8]>,
            &mut Observe,
        ) -> Result<Attempt, EncodeError>,
    ) -> Result<Attempt, EncodeError> {
        let Self { device, trainings, observer, stopped, .. } = self;
        let mut observe = |progress: &Progress| {
            let control = observer(&Progress { run, ..*progress });
            *stopped |= control == Control::Stop;
            control
        };
        trainings.next(&mut observe, |saved, observe| train(device, saved, observe))
    }

    /// What to say of a PSNR that was not reached, by the best attempt at it.
    pub fn unreached(&self, best: &Attempt) -> EncodeError {
        let Target::Psnr(wanted) = self.job.options.target else {
            unreachable!("a PSNR is wanted")
        };
        EncodeError::PsnrUnreached { wanted, best: best.psnr, bytes: best.bytes.len() as u64 }
    }
}

/// A finished file, and how its training went.
#[derive(Clone, Default)]
pub(super) struct Attempt {
    pub bytes: Vec<u8>,
    pub psnr: f64,
    pub steps_done: u32,
    pub steps_planned: u32,
    pub recoveries: u32,
    pub single_colour: bool,
    /// The last lambda of latents.
    pub lambda: f64,
    /// Bytes that were taken away from latents to keep to the limit.
    pub surplus: usize,
}
