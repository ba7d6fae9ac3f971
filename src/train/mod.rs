//! Pixels to [`Siren`]: mini-batches, schedule, optimizer, recovery from divergence.
//! Uses candle, which nothing outside this directory and `encode` may. Knows no files
//! and no weight codings.

mod device;
mod model;
mod quality;
mod sampling;
mod schedule;

use std::time::{Duration, Instant};

use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::container::TrainingOmega;
use crate::error::EncodeError;
use crate::network::{Siren, Topology};
use crate::raster::{Raster, decibels};
pub use device::DeviceChoice;
use model::Model;
use sampling::Sampler;
use schedule::Schedule;

/// How a network is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Training {
    /// omega_0 of the first and of the other hidden layers (Sitzmann et al. 2020,
    /// section 3.2: 30 for both).
    pub omega: TrainingOmega,
    /// Length of the learning-rate schedule in steps.
    pub steps: u32,
    /// Stop after so many steps of the schedule.
    pub stop_after: Option<u32>,
    /// Pixels in each step's batch; a picture with fewer is one batch.
    pub batch: usize,
    /// Peak learning rate of Adam.
    pub learning_rate: f64,
    /// Seed of the initial weights and of the order of the pixels.
    pub seed: u64,
    /// Train no longer than this; the schedule is shortened to end in time.
    pub timeout: Option<Duration>,
    /// Where the tensors live.
    pub device: DeviceChoice,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            omega: TrainingOmega { first: 30.0, hidden: 30.0 },
            steps: 5000,
            stop_after: None,
            batch: 8192,
            learning_rate: 2e-3,
            seed: 0,
            timeout: None,
            device: DeviceChoice::Auto,
        }
    }
}

/// Where a training run stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub step: u32,
    /// Steps planned.
    pub steps: u32,
    /// PSNR in dB of the recent batches.
    pub psnr: f64,
}

/// What an observer wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Train on.
    Continue,
    /// Stop and keep the best network so far.
    Stop,
}

/// The result of a training run.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The best network seen.
    pub siren: Siren,
    /// Steps done.
    pub steps_done: u32,
    /// Length of the schedule; less than asked for where a time-out shortened it.
    pub steps_planned: u32,
    /// How often training was set back to an earlier state.
    pub recoveries: u32,
    /// Name of the device that trained.
    pub device: &'static str,
}

/// A batch loss this many times the smoothed loss, or a smoothed loss this many times its
/// lowest value, counts as divergence.
const SPIKE: f64 = 4.0;
/// Learning-rate factor of each recovery.
const BACKOFF: f64 = 0.5;
/// The same where nothing was learned yet: the rate is far off.
const FAR_BACKOFF: f64 = 0.1;
/// After so many recoveries the run goes on as it is.
const MAX_RECOVERIES: u32 = 24;
/// A network whose error is above this share of a single colour's has learned nothing.
const FLAT: f64 = 0.98;
/// Such a network gets this share of the run before the learning rate is lowered.
const ATTEMPTS: u32 = 20;
/// It gets no fewer steps than this.
const MIN_ATTEMPT: u32 = 50;
/// Weight of the newest batch in the smoothed loss.
const SMOOTHING: f64 = 0.05;
/// How often in a run the network is measured and, if it is the best so far, kept.
const CHECKS: u32 = 50;

/// Trains a network of `topology` on `raster`.
///
/// `observe` is called after every step and may end the run. The result depends on the
/// settings and the kind of machine, not on the number of threads.
///
/// # Errors
/// [`EncodeError::Diverged`] where recovery failed and nothing better than a single
/// colour was found; [`EncodeError::Cancelled`] where `observe` stopped the run before
/// that; [`EncodeError::Device`] and [`EncodeError::Tensor`] from the device.
pub fn train(
    raster: &Raster,
    topology: &Topology,
    training: &Training,
    mut observe: impl FnMut(&Progress) -> Control,
) -> Result<Trained, EncodeError> {
    let started = Instant::now();
    let (device, device_name) = training.device.open()?;
    let mut rng = ChaCha8Rng::seed_from_u64(training.seed);
    let flat = quality::mean_colour(raster);
    let flat_error = quality::mean_square_distance(raster, &flat);
    let constant = Siren::constant(topology.clone(), &flat);
    let mut best = (constant, flat_error);
    if raster.is_flat() {
        return Ok(Trained {
            siren: best.0,
            steps_done: 0,
            steps_planned: training.steps,
            recoveries: 0,
            device: device_name,
        });
    }

    let model = Model::initialize(topology, training.omega, &flat, &device, &mut rng)?;
    let mut sampler = Sampler::new(raster, training.batch, rng);
    let mut schedule = Schedule::new(training.learning_rate, training.steps);
    let mut optimizer = adam(&model)?;
    let mut good = model.weights()?;
    let mut backoff = 1.0;
    let mut recoveries = 0;
    let mut smoothed = f64::NAN;
    let mut lowest = f64::INFINITY;
    let mut stopped = false;
    let mut step = 0;
    let mut restored_at = 0;
    while step < schedule.steps().min(training.stop_after.unwrap_or(u32::MAX)) {
        optimizer.set_learning_rate(backoff * schedule.rate(step));
        let (loss, gradients) = model.loss_and_gradients(&sampler.next_batch(), &device)?;
        let worse = loss > SPIKE * smoothed || smoothed > SPIKE * lowest;
        let may_restore = recoveries < MAX_RECOVERIES;
        let mut diverged = !loss.is_finite() || (worse && may_restore && step > schedule::WARM_UP);
        if !diverged {
            optimizer.step(&gradients)?;
            step += 1;
            smoothed =
                if smoothed.is_nan() { loss } else { smoothed + SMOOTHING * (loss - smoothed) };
            lowest = lowest.min(smoothed);
            let end = schedule.steps();
            if step % (end / CHECKS).max(1) == 0 || step == end {
                let siren = model.siren()?;
                let error = quality::quick_error(raster, &siren);
                if error < best.1 {
                    good = model.weights()?;
                    best = (siren, error);
                }
                // A rate so high that nothing is learned is a divergence too.
                let chance = MIN_ATTEMPT.max(end / ATTEMPTS);
                diverged = best.1 >= FLAT * flat_error && step - restored_at >= chance;
            }
        }
        if diverged && may_restore {
            let nothing_learned = best.1 >= FLAT * flat_error;
            backoff *= if nothing_learned { FAR_BACKOFF } else { BACKOFF };
            recoveries += 1;
            model.set_weights(&good)?;
            optimizer = adam(&model)?;
            smoothed = f64::NAN;
            lowest = f64::INFINITY;
            restored_at = step;
        } else if !loss.is_finite() {
            break;
        }
        if let Some(timeout) = training.timeout {
            let elapsed = started.elapsed();
            if step == schedule::WARM_UP {
                schedule.shorten(step, timeout.as_secs_f64() / elapsed.as_secs_f64());
            }
            stopped |= elapsed >= timeout;
        }
        let progress = Progress { step, steps: schedule.steps(), psnr: decibels(smoothed / 4.0) };
        stopped |= observe(&progress) == Control::Stop;
        if stopped {
            break;
        }
    }
    // A run that was cut short has a last state that no check has seen.
    if let Ok(siren) = model.siren() {
        let error = quality::quick_error(raster, &siren);
        if error < best.1 {
            best = (siren, error);
        }
    }
    if best.1 >= flat_error {
        if stopped {
            return Err(EncodeError::Cancelled);
        }
        // Where the network has learned the mean and nothing else, as from noise, one
        // colour is the right answer; otherwise the run has failed.
        let learned_the_mean = (1.0 / FLAT - 1.0) * flat_error >= (smoothed - flat_error).abs();
        if !learned_the_mean {
            return Err(EncodeError::Diverged { recoveries, psnr: decibels(flat_error / 4.0) });
        }
    }
    Ok(Trained {
        siren: best.0,
        steps_done: step,
        steps_planned: schedule.steps(),
        recoveries,
        device: device_name,
    })
}

/// Adam as candle-nn has it: AdamW without weight decay.
fn adam(model: &Model) -> Result<AdamW, EncodeError> {
    let params = ParamsAdamW { weight_decay: 0.0, ..ParamsAdamW::default() };
    Ok(AdamW::new(model.variables(), params)?)
}
