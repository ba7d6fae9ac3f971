//! Pixels to networks: one SIREN ([`siren`]) or latents and theirs ([`latents`]), side by side over
//! what they share: devices, SOAP, Adam, efforts, checkpoints. Knows no files and no sizes of files.

mod adam;
pub(crate) mod archive;
mod device;
mod effort;
pub mod latents;
#[cfg(feature = "candle")]
pub mod reference;
pub mod siren;
pub mod soap;

use std::time::Duration;

use archive::Archived;
pub(crate) use device::TrainingDevice;
pub use device::{Accelerator, Device, DeviceChoice};
use siren_image::container::TrainingOmega;

/// Small networks learn no better from batches of more pixels than they have weights, or than
/// this where they have fewer (docs/experiments.md).
const SMALL_BATCH: usize = 2048;
/// A resumed run starts with this share of the peak learning rate.
const RESUMED: f64 = 0.5;

/// How a network is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Training {
    /// omega_0 of the first and of the other hidden layers (Sitzmann et al. 2020,
    /// section 3.2: 30 for both).
    pub omega: TrainingOmega,
    /// How long to train, 1 (about a second) to 9 (all that is known); 3 by default.
    pub effort: u8,
    /// Length of the learning-rate schedule in steps, instead of the effort's.
    pub steps: Option<u32>,
    /// Stop after so many steps of the schedule.
    pub stop_after: Option<u32>,
    /// Pixels in each step's batch, instead of the effort's, of which a network of fewer weights
    /// takes as many as its weights, or 2,048; a picture with fewer is one batch.
    pub batch: Option<usize>,
    /// The optimizer.
    pub optimizer: OptimizerChoice,
    /// Peak learning rate, instead of the one for the topology and the picture: deep and wide
    /// networks take smaller steps, and so do those that are small for a hard picture.
    pub learning_rate: Option<f64>,
    /// Seed of the initial weights and of the order of the pixels.
    pub seed: u64,
    /// Train no longer than this; the schedule is shortened to end in time.
    pub timeout: Option<Duration>,
    /// What trains.
    pub device: DeviceChoice,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            omega: TrainingOmega { first: 30.0, hidden: 30.0 },
            effort: 3,
            steps: None,
            stop_after: None,
            batch: None,
            optimizer: OptimizerChoice::Soap,
            learning_rate: None,
            seed: 0,
            timeout: None,
            device: DeviceChoice::Auto,
        }
    }
}

impl Training {
    /// Steps of the learning-rate schedule.
    pub fn steps(&self) -> u32 {
        self.steps.unwrap_or_else(|| effort::length(self.effort).steps)
    }

    /// Pixels of each step's batch for a network of so many weights.
    pub fn batch(&self, weights: usize) -> usize {
        self.batch
            .unwrap_or_else(|| effort::length(self.effort).batch.min(weights.max(SMALL_BATCH)))
    }
}

/// The optimizers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptimizerChoice {
    /// SOAP (Vyas et al. 2024).
    Soap,
    /// Adam, as candle-nn has it.
    Adam,
}

/// Where a training run stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Which training run this is, from 1 on: a PSNR target or a very small network takes
    /// several.
    pub run: u32,
    /// Steps done.
    pub step: u32,
    /// Steps planned.
    pub steps: u32,
    /// PSNR in dB of the recent batches.
    pub psnr: f64,
    /// Bytes that the latents of grids take so far.
    pub bytes: Option<f64>,
}

/// What an observer wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Train on.
    Continue,
    /// Stop and keep the best network so far.
    Stop,
}

/// Called after every step; may save the run, and end it.
pub(crate) type Observe<'a> = dyn FnMut(&Progress, &mut dyn Archived) -> Control + 'a;
