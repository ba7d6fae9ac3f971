//! Pixels to a [`Siren`]: mini-batches, schedule, SOAP, recovery from divergence, the
//! weights rounded towards the end. The steps themselves are a [`Stepper`]'s. Knows no files and no
//! device by name.

mod fused;
mod model;
mod quality;
mod sampling;
mod schedule;
mod stepper;

use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::adam::Moments;
use super::archive::{Archive, Archived};
use super::device::{TrainingDevice, Work};
use super::soap::{self, SoapParams};
use super::{Control, Observe, OptimizerChoice, Progress, RESUMED, SirenTraining};
use crate::error::EncodeError;
use crate::quantize::{self, Sensitivity};
use crate::rate;
pub use fused::Fused;
pub use model::SirenModel;
use quality::Errors;
use sampling::Sampler;
use schedule::Schedule;
use siren_image::coding::compact::{Quantized, Steps};
use siren_image::network::{Siren, Topology};
use siren_image::raster::{Raster, decibels};
use siren_kernel::{Adam, Simd};
pub(crate) use stepper::LayerPlace;
#[cfg(feature = "candle")]
pub(crate) use stepper::TrainingPixels;
pub use stepper::{Batch, Step, Stepper, Task, WeightedPixel};

/// What is trained, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    pub raster: &'a Raster,
    pub topology: &'a Topology,
    /// A network to train on, instead of a random one.
    pub initial: Option<&'a Siren>,
    /// The bytes that the weights may take in the compact coding: the later part of the run trains the
    /// network with its weights rounded.
    pub budget: Option<usize>,
    pub training: &'a SirenTraining,
}

/// The result of a training run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trained {
    /// The best network seen.
    pub siren: Siren,
    /// The steps that its weights were trained to be rounded to.
    pub steps: Option<Vec<Steps>>,
    /// What errors of its weights do to the picture; nothing for a single colour.
    pub sensitivities: Vec<Sensitivity>,
    /// Steps done.
    pub steps_done: u32,
    /// Length of the schedule; less than asked for where a time-out shortened it.
    pub steps_planned: u32,
    /// How often training was set back to an earlier state.
    pub recoveries: u32,
    /// Whether nothing better than one colour was found.
    pub single_colour: bool,
}

/// A batch loss this many times the smoothed loss, or a smoothed loss this many times its
/// lowest value, counts as divergence.
const SPIKE: f64 = 4.0;
const RISE: f64 = 2.0;
/// Learning-rate factor of each recovery.
const BACKOFF: f64 = 0.7;
/// Steps from one copy of the weights to the next. A recovery goes back to the last but one,
/// which no divergence that is just noticed has touched.
const COPY_EVERY: u32 = 50;
/// A copy is made while the smoothed loss is no more than this many times its lowest value.
const SOUND: f64 = 1.2;
/// The same where nothing was learned yet: the rate is far off.
const FAR_BACKOFF: f64 = 0.25;
/// After so many recoveries the run goes on as it is.
const MAX_RECOVERIES: u32 = 24;
/// A network whose error is twice in a row more than this many times the best before it has
/// gone astray; so has one that unlearned everything.
const WORSE: f64 = 1.02;
/// A network whose error is above this share of a single colour's has learned next to nothing.
const FLAT: f64 = 0.9;
/// Such a network gets this share of the run before the learning rate is lowered.
const ATTEMPTS: u32 = 20;
/// It gets no fewer steps than this.
const MIN_ATTEMPT: u32 = 50;
/// Weight of the newest batch in the smoothed loss.
const SMOOTHING: f64 = 0.05;
/// How often in a run the network is measured and, if it is the best so far, kept; more
/// often early on, while the errors change.
const CHECKS: u32 = 12;
/// Part of the run's work that all measurements together may take.
const CHECK_SHARE: f64 = 0.05;
/// Fewest and most pixels of a measurement.
const CHECK_PIXELS: (u64, u64) = (1 << 13, 1 << 17);

/// Share of a run with a budget after which the weights are rounded, and after which their
/// steps stay as they are.
const QUANTIZED_FROM: f64 = 0.8;
const STEPS_FIXED_FROM: f64 = 0.95;
/// Pixels that sensitivities are measured on.
const SENSITIVITY_PIXELS: usize = 1 << 12;

/// Trains a network, from `start` on, or from what [`Archived::archive`] wrote in a run of the same
/// start.
///
/// `observe` is called after every step and may end the run. The result depends on the
/// settings and the kind of machine, not on the number of threads.
///
/// # Errors
/// [`EncodeError::Cancelled`] where `observe` stopped the run before anything better than a
/// single colour was found; [`EncodeError::Device`] from the device.
pub(crate) fn train(
    start: &Start,
    device: &mut TrainingDevice,
    saved: Option<&[u8]>,
    observe: &mut Observe,
) -> Result<Trained, EncodeError> {
    let &Start { raster, topology, training, .. } = start;
    device.open_for_sirens(&work(start))?;
    let started = Instant::now();
    if raster.is_flat() {
        return Ok(Trained {
            siren: Siren::constant(topology.clone(), &quality::mean_colour(raster)),
            steps: None,
            sensitivities: Vec::new(),
            steps_done: 0,
            steps_planned: training.common.steps(),
            recoveries: 0,
            single_colour: true,
        });
    }
    let mut run = SirenRun::new(start, device)?;
    if let Some(saved) = saved {
        run.archive(&mut Archive::Reading(saved))?;
    } else if start.initial.is_some() {
        run.check();
    }
    let mut stopped = false;
    while !stopped && run.step < run.end() {
        if !run.step()? {
            break;
        }
        if let Some(timeout) = training.common.timeout {
            let elapsed = started.elapsed();
            if run.step == schedule::WARM_UP {
                let share = timeout.as_secs_f64() / elapsed.as_secs_f64();
                run.schedule.shorten(run.step, share);
            }
            stopped = elapsed >= timeout;
        }
        let steps = run.schedule.steps();
        let psnr = decibels(run.smoothed / 4.0);
        let progress = Progress { run: 1, step: run.step, steps, psnr, bytes: None };
        stopped |= observe(&progress, &mut run) == Control::Stop;
    }
    run.finish(stopped)
}

/// Pixels of a batch.
fn points(start: &Start) -> usize {
    let batch = start.training.batch(start.topology.weight_count());
    batch.min(start.raster.size().pixels() as usize)
}

/// What the training takes.
fn work(start: &Start) -> Work {
    let &Start { topology, training, .. } = start;
    let steps = training.common.steps().min(training.common.stop_after.unwrap_or(u32::MAX));
    let points = points(start);
    // A training step is about three evaluations.
    let step = 3.0 * topology.weight_count() as f64 * points as f64;
    let threads = rayon::current_num_threads().min(fused::most_threads(points));
    Work { operations: f64::from(steps) * step, threads, steps }
}

/// A training run.
struct SirenRun<'a> {
    raster: &'a Raster,
    training: &'a SirenTraining,
    /// Pixels of a step.
    batch: usize,
    /// Bytes of the weights in the compact coding.
    budget: Option<usize>,
    /// The mean colour, and a network of it.
    flat: Vec<f32>,
    constant: Siren,
    /// The best network measured.
    best: Best,
    /// Whether the last measurement was worse than the best before it.
    worse: bool,
    /// Whether there was one that is clearly better than the mean colour.
    learned: bool,
    /// The steps that weights are rounded to.
    steps: Option<Vec<Steps>>,
    /// The weights at the start.
    initial: Vec<f32>,
    /// The weights to go back to after a divergence, and a later copy.
    good: Vec<f32>,
    recent: Vec<f32>,
    model: SirenModel,
    sampler: Sampler,
    device: &'a mut TrainingDevice,
    cpu: Fused<'a>,
    /// What computes the steps in the CPU's place.
    stepper: Option<Box<dyn Stepper + 'a>>,
    schedule: Schedule,
    optimizer: Optimizer,
    /// Steps done.
    step: u32,
    /// Factor of the learning rate.
    backoff: f64,
    recoveries: u32,
    restored_at: u32,
    /// Smoothed loss of the batches, and its lowest value.
    smoothed: f64,
    lowest: f64,
}

/// The best network measured.
struct Best {
    /// As [`SirenModel::weights`] has them.
    weights: Vec<f32>,
    /// The steps that its weights are rounded to.
    steps: Option<Vec<Steps>>,
    /// Its error over that of the mean colour.
    error: f64,
}

impl<'a> SirenRun<'a> {
    fn new(start: &Start<'a>, device: &'a mut TrainingDevice) -> Result<Self, EncodeError> {
        let &Start { raster, topology, initial, budget, training } = start;
        let flat = quality::mean_colour(raster);
        let mut rng = ChaCha8Rng::seed_from_u64(training.common.seed);
        let rate = training.learning_rate.unwrap_or_else(|| {
            let expected =
                rate::RateModel::new(raster).psnr_of_weights(topology, training.common.effort);
            schedule::peak(topology, expected)
        });
        let (model, peak) = match initial {
            Some(siren) => (SirenModel::from_siren(siren, training.omega), RESUMED * rate),
            None => (SirenModel::initialize(topology, training.omega, &flat, &mut rng)?, rate),
        };
        let weights = model.weights().to_vec();
        let task = Task { raster, topology, scales: model.scales(), points: points(start) };
        Ok(Self {
            raster,
            training,
            batch: training.batch(topology.weight_count()),
            budget,
            constant: Siren::constant(topology.clone(), &flat),
            flat,
            best: Best { weights: weights.clone(), steps: None, error: 1.0 },
            worse: false,
            learned: false,
            steps: None,
            initial: weights.clone(),
            good: weights.clone(),
            recent: weights,
            optimizer: Optimizer::new(training.optimizer, &model),
            cpu: Fused::new(&task),
            stepper: device.siren(&task)?,
            model,
            sampler: Sampler::new(raster.size(), rng),
            device,
            schedule: Schedule::new(peak, training.common.steps()),
            step: 0,
            backoff: 1.0,
            recoveries: 0,
            restored_at: 0,
            smoothed: f64::NAN,
            lowest: f64::INFINITY,
        })
    }

    /// The step before which the run ends.
    fn end(&self) -> u32 {
        self.schedule.steps().min(self.training.common.stop_after.unwrap_or(u32::MAX))
    }

    /// One step, or one recovery. Returns whether the run can go on.
    fn step(&mut self) -> Result<bool, EncodeError> {
        let rate = self.backoff * self.schedule.rate(self.step);
        let warmth = schedule::warm_up(self.step - self.restored_at);
        let pixels = self.sampler.next_pixels(self.batch);
        let Step { loss, gradient } = self.loss_and_gradient(pixels.batch())?;
        let may_restore = self.recoveries < MAX_RECOVERIES;
        let worse = loss > SPIKE * self.smoothed || self.smoothed > RISE * self.lowest;
        let diverged = worse && self.step > schedule::WARM_UP;
        if !loss.is_finite() || (diverged && may_restore) {
            return {
                if may_restore {
                    self.recover();
                }
                Ok(may_restore)
            };
        }
        self.optimizer.step(&mut self.model, &gradient, rate * warmth);
        self.step += 1;
        self.follow(loss);
        let progress = f64::from(self.step) / f64::from(self.schedule.steps());
        let is_mark = self.schedule.is_mark(self.step, CHECKS);
        let due = if self.steps.is_none() { progress >= QUANTIZED_FROM } else { is_mark };
        if self.budget.is_some() && due && progress < STEPS_FIXED_FROM {
            self.quantize();
        }
        if is_mark {
            self.look(may_restore);
        }
        Ok(true)
    }

    /// Takes note of a step's loss; keeps its weights now and then while all is well.
    fn follow(&mut self, loss: f64) {
        let change = SMOOTHING * (loss - self.smoothed);
        self.smoothed = if self.smoothed.is_nan() { loss } else { self.smoothed + change };
        self.lowest = self.lowest.min(self.smoothed);
        if self.step.is_multiple_of(COPY_EVERY) && self.smoothed <= SOUND * self.lowest {
            self.good = std::mem::replace(&mut self.recent, self.model.weights().to_vec());
        }
    }

    /// Measures the network, and goes back where it has gone astray.
    fn look(&mut self, may_restore: bool) {
        let best = self.best.error;
        if let Some(errors) = self.check() {
            self.sampler.focus(&errors);
            let worse = errors.relative > WORSE * best;
            let astray = worse && (self.worse || errors.relative > FLAT);
            if astray && self.learned && may_restore {
                self.good = self.best.weights.clone();
                self.recover();
            }
            self.worse = worse;
        }
        // A rate so high that nothing is learned is a divergence too.
        let chance = MIN_ATTEMPT.max(self.schedule.steps() / ATTEMPTS);
        if may_restore && !self.learned && self.step - self.restored_at >= chance {
            self.recover();
        }
    }

    fn loss_and_gradient(&mut self, batch: Batch) -> Result<Step, EncodeError> {
        let weights = self.model.evaluated();
        if let Some(stepper) = &mut self.stepper {
            if let Some(step) = self.device.run(|| stepper.step(&weights, batch))? {
                return Ok(step);
            }
            // The weights stay those of the last good step.
            self.stepper = None;
        }
        Ok(self.cpu.step(&weights, batch).expect("the CPU does not fail"))
    }

    /// Rounds the weights from now on, to steps for the budget.
    fn quantize(&mut self) {
        let (Some(budget), Ok(siren)) = (self.budget, self.model.siren()) else { return };
        let sensitivities = self.sensitivities();
        let steps = quantize::allocate(&siren, &sensitivities, budget);
        self.model.quantize(&steps);
        if self.steps.replace(steps).is_none() {
            // Errors with and without rounding do not compare.
            self.best.error = 1.0;
            self.smoothed = f64::NAN;
            self.lowest = f64::INFINITY;
            self.check();
        }
    }

    /// The sensitivities of the layers, on a sample of the pixels.
    fn sensitivities(&self) -> Vec<Sensitivity> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.training.common.seed);
        let sample = self.sampler.sample(SENSITIVITY_PIXELS, &mut rng);
        let count = self.raster.channels().count() * sample.len();
        let signs = (0..count).map(|_| if rng.random() { 1.0 } else { -1.0 });
        let signs: Vec<f32> = signs.collect();
        self.cpu.sensitivities(&self.model.evaluated(), &sample, &signs)
    }

    /// Measures the network and keeps it if it is the best so far. A diverged network has
    /// no errors.
    fn check(&mut self) -> Option<Errors> {
        let siren = self.model.siren().ok()?;
        let rounded = self.steps.as_ref().map(|steps| Quantized::nearest(&siren, steps).siren());
        let evaluated = rounded.unwrap_or(Ok(siren)).ok()?;
        let trained = f64::from(self.schedule.steps()) * self.batch as f64;
        // A training step is about three evaluations.
        let affordable = CHECK_SHARE * 3.0 * trained / f64::from(CHECKS);
        let pixels = (affordable as u64).clamp(CHECK_PIXELS.0, CHECK_PIXELS.1);
        let errors = quality::measure(self.raster, &evaluated, &self.flat, pixels);
        if errors.relative < self.best.error {
            let (weights, steps) = (self.model.weights().to_vec(), self.steps.clone());
            self.best = Best { weights, steps, error: errors.relative };
        }
        self.learned |= self.best.error < FLAT;
        Some(errors)
    }

    /// Goes back to earlier weights with a lower learning rate.
    fn recover(&mut self) {
        if !self.learned {
            self.backoff *= FAR_BACKOFF;
            self.good = self.initial.clone();
        } else {
            self.backoff *= BACKOFF;
        }
        self.recoveries += 1;
        self.model.weights_mut().copy_from_slice(&self.good);
        self.recent = self.good.clone();
        self.optimizer = Optimizer::new(self.training.optimizer, &self.model);
        self.smoothed = f64::NAN;
        self.lowest = f64::INFINITY;
        self.restored_at = self.step;
    }

    fn finish(mut self, stopped: bool) -> Result<Trained, EncodeError> {
        self.check();
        let single_colour = self.best.error >= 1.0;
        if single_colour && stopped {
            return Err(EncodeError::Cancelled);
        }
        let sensitivities = match self.budget {
            Some(_) if !single_colour => self.sensitivities(),
            _ => Vec::new(),
        };
        let siren = if single_colour {
            self.constant
        } else {
            self.model.weights_mut().copy_from_slice(&self.best.weights);
            self.model.siren()?
        };
        Ok(Trained {
            siren,
            steps: self.best.steps,
            sensitivities,
            steps_done: self.step,
            steps_planned: self.schedule.steps(),
            recoveries: self.recoveries,
            single_colour,
        })
    }
}

impl Archived for SirenRun<'_> {
    fn archive(&mut self, archive: &mut Archive) -> Result<(), EncodeError> {
        for number in [&mut self.step, &mut self.recoveries, &mut self.restored_at] {
            archive.u32(number)?;
        }
        let Self { backoff, smoothed, lowest, .. } = self;
        for number in [backoff, smoothed, lowest, &mut self.best.error] {
            archive.f64(number)?;
        }
        archive.bool(&mut self.worse)?;
        archive.bool(&mut self.learned)?;
        archive.f32s(self.model.weights_mut())?;
        for copy in [&mut self.good, &mut self.recent, &mut self.best.weights] {
            archive.f32s(copy)?;
        }
        for steps in [&mut self.steps, &mut self.best.steps] {
            archive_steps(steps, self.model.layers().len(), archive)?;
        }
        if let Some(steps) = &self.steps {
            self.model.quantize(steps);
        }
        self.sampler.archive(archive)?;
        self.optimizer.archive(archive)
    }
}

/// Steps of so many layers, if there are any.
fn archive_steps(
    steps: &mut Option<Vec<Steps>>,
    layers: usize,
    archive: &mut Archive,
) -> Result<(), EncodeError> {
    let mut are_there = steps.is_some();
    archive.bool(&mut are_there)?;
    let none = || vec![Steps { weights: 0, biases: 0 }; layers];
    let mut codes = steps.take().unwrap_or_else(none);
    if are_there {
        for Steps { weights, biases } in &mut codes {
            archive.i32(weights)?;
            archive.i32(biases)?;
        }
        *steps = Some(codes);
    }
    Ok(())
}

/// What updates the weights.
enum Optimizer {
    /// A matrix for each layer.
    Soap(Vec<soap::Matrix>),
    Adam(Moments),
}

/// Adam's decays and what it adds to the root of the squares (Kingma and Ba 2015, section 2).
const ADAM: (f64, f64) = (0.9, 0.999);
const ADAM_EPSILON: f32 = 1e-8;

impl Optimizer {
    fn new(choice: OptimizerChoice, model: &SirenModel) -> Self {
        match choice {
            OptimizerChoice::Soap => {
                let matrix = |layer: &LayerPlace| {
                    let (len, columns) = (layer.range().len(), layer.inputs + 1);
                    soap::Matrix::new(len, columns, &SoapParams::DEFAULT)
                };
                Self::Soap(model.layers().iter().map(matrix).collect())
            }
            OptimizerChoice::Adam => Self::Adam(Moments::new(model.weights().len())),
        }
    }

    fn archive(&mut self, archive: &mut Archive) -> Result<(), EncodeError> {
        match self {
            Self::Soap(layers) => layers.iter_mut().try_for_each(|layer| layer.archive(archive)),
            Self::Adam(moments) => moments.archive(archive),
        }
    }

    /// One step of the model's weights, at a learning rate.
    fn step(&mut self, model: &mut SirenModel, gradient: &[f32], rate: f64) {
        match self {
            Self::Soap(matrices) => {
                let params = SoapParams { lr: rate, ..SoapParams::DEFAULT };
                let lens: Vec<usize> = model.layers().iter().map(|l| l.range().len()).collect();
                let (mut weights, mut gradient) = (model.weights_mut(), gradient);
                let mut layers = Vec::with_capacity(lens.len());
                for (matrix, len) in matrices.iter_mut().zip(lens) {
                    let here = weights.split_off_mut(..len).expect("as many weights as layers");
                    let of_these = gradient.split_off(..len).expect("a gradient of all weights");
                    layers.push((matrix, here, of_these));
                }
                layers.into_par_iter().for_each(|(matrix, weights, gradient)| {
                    matrix.step(weights, gradient, &params);
                });
            }
            Self::Adam(Moments { means: [first, second], steps }) => {
                *steps += 1;
                let adam = Adam { epsilon: ADAM_EPSILON, ..Adam::new(rate, ADAM, *steps) };
                adam.apply(Simd::new(), model.weights_mut(), [first, second], gradient);
            }
        }
    }
}
