//! How to train, and what an observer of it is told and answers. Plain data; what is of one SIREN
//! alone is a type of its own, so that latents cannot be told it.

use std::time::Duration;

use super::{DeviceChoice, effort};
use siren_image::container::TrainingOmega;

/// How long and where to train.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Training {
    /// How long to train, 1 (about a second) to 9 (all that is known).
    pub effort: u8,
    /// Length of the learning-rate schedule in steps, instead of the effort's.
    pub steps: Option<u32>,
    /// Stop after so many steps of the schedule.
    pub stop_after: Option<u32>,
    /// Seed of all that is random.
    pub seed: u64,
    /// Train no longer than this; the schedule is shortened to end in time.
    pub timeout: Option<Duration>,
    /// What trains.
    pub device: DeviceChoice,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            effort: 3,
            steps: None,
            stop_after: None,
            seed: 0,
            timeout: None,
            device: DeviceChoice::Auto,
        }
    }
}

impl Training {
    /// Steps of the learning-rate schedule of one SIREN.
    pub fn steps(&self) -> u32 {
        self.steps.unwrap_or_else(|| effort::length(self.effort).steps)
    }

    /// The same with all that a run can add to it: one that is cut short tells its steps.
    pub fn longest(self) -> Self {
        Self { stop_after: Some(self.steps()), ..self }
    }
}

/// How one SIREN is trained.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SirenTraining {
    pub common: Training,
    /// omega_0 of the first and of the other hidden layers.
    pub omega: TrainingOmega,
    /// The optimizer.
    pub optimizer: OptimizerChoice,
    /// Pixels in each step's batch, instead of the effort's, of which a network of fewer weights
    /// takes as many as its weights, or [`SMALL_BATCH`]; a picture with fewer is one batch.
    pub batch: Option<usize>,
    /// Peak learning rate, instead of the one for the topology and the picture.
    pub learning_rate: Option<f64>,
}

/// omega_0 of all layers (Sitzmann et al. 2020, section 3.2).
pub(crate) const OMEGA: TrainingOmega = TrainingOmega { first: 30.0, hidden: 30.0 };

/// Small networks learn no better from batches of more pixels than they have weights, or than
/// this where they have fewer (docs/experiments.md).
const SMALL_BATCH: usize = 2048;

impl Default for SirenTraining {
    fn default() -> Self {
        Self {
            common: Training::default(),
            omega: OMEGA,
            optimizer: OptimizerChoice::Soap,
            batch: None,
            learning_rate: None,
        }
    }
}

impl SirenTraining {
    /// The same with other common settings.
    pub fn with(self, change: impl FnOnce(Training) -> Training) -> Self {
        Self { common: change(self.common), ..self }
    }

    /// Pixels of each step's batch for a network of so many weights.
    pub fn batch(&self, weights: usize) -> usize {
        let of_effort = || effort::length(self.common.effort).batch.min(weights.max(SMALL_BATCH));
        self.batch.unwrap_or_else(of_effort)
    }
}

/// The optimizers of one SIREN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OptimizerChoice {
    /// SOAP (Vyas et al. 2024).
    #[default]
    Soap,
    /// Adam (Kingma and Ba 2015), for comparison.
    Adam,
}

/// Where a training run stands.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
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
    /// Bytes that the latents take so far.
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
