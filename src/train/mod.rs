//! Pixels to [`Siren`]: mini-batches, schedule, optimizer, recovery from divergence.
//! Uses candle, which nothing outside this directory and `encode` may. Knows no files
//! and no weight codings.
//!
//! [`Encoder`](crate::Encoder) does all of it. For experiments the parts stand alone: [`Model`] is a
//! SIREN in candle tensors, [`FusedLoss`] the loss and gradient of a batch as one operation
//! of candle, [`Soap`] an optimizer of candle-nn.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use candle_core::{Device, Tensor};
//! use candle_nn::Optimizer;
//! use rand::SeedableRng;
//! use sirenc::container::TrainingOmega;
//! use sirenc::train::{Model, Soap, SoapParams};
//! use sirenc::{Channels, Topology};
//!
//! // A grey ramp of 32 pixels; the last row of the targets weighs the pixels.
//! let x: Vec<f32> = (0..32).map(|i| i as f32 / 16.0 - 1.0).collect();
//! let inputs = Tensor::from_vec([x.clone(), vec![0.0; 32]].concat(), (2, 32), &Device::Cpu)?;
//! let targets = Tensor::from_vec([x, vec![1.0; 32]].concat(), (2, 32), &Device::Cpu)?;
//!
//! let topology = Topology::uniform(Channels::Grey, 2, 16)?;
//! let omega = TrainingOmega { first: 30.0, hidden: 30.0 };
//! let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
//! let model = Model::initialize(&topology, omega, &[0.0], &Device::Cpu, &mut rng)?;
//! let mut soap = Soap::new(model.variables(), SoapParams::default())?;
//! for step in 0..200 {
//!     soap.set_learning_rate(3e-3 * (1.0 - f64::from(step) / 200.0));
//!     soap.backward_step(&model.loss(&inputs, &targets)?)?;
//! }
//! assert!(model.loss(&inputs, &targets)?.to_scalar::<f32>()? < 1e-4);
//! let jets = model.siren()?.evaluate(0.25, 0.0);
//! # assert!((jets[0].value - 0.25).abs() < 0.05);
//! # Ok(())
//! # }
//! ```

pub(crate) mod archive;
mod device;
mod effort;
mod fused;
pub(crate) mod grid;
mod model;
mod options;
mod quality;
mod sampling;
mod schedule;
mod soap;

use std::time::Instant;

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::coding::compact::{Quantized, Steps};
use crate::error::EncodeError;
#[cfg(feature = "gpu")]
use crate::gpu::{self, Trainer, WeightedPixel};
use crate::network::{Siren, Topology};
use crate::quantize::{self, Sensitivity};
use crate::raster::{Raster, decibels};
use crate::rate;
use crate::speed;
use archive::{Archive, Archived};
pub use device::DeviceChoice;
pub(crate) use device::TrainingDevice;
pub use fused::FusedLoss;
pub use model::Model;
pub use options::{Control, OptimizerChoice, Progress};
pub(crate) use options::{OMEGA, SirenTraining, Training};
use quality::Errors;
#[cfg(feature = "gpu")]
use sampling::Pixel;
use sampling::{Pixels, Sampler};
use schedule::Schedule;
pub use soap::{Soap, SoapParams};

/// Called after every step; may save the run, and end it.
pub(crate) type Observe<'a> = dyn FnMut(&Progress, &mut dyn Archived) -> Control + 'a;

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
/// A resumed run starts with this share of the peak learning rate.
const RESUMED: f64 = 0.5;

/// Share of a run with a budget after which the weights are rounded, and after which their
/// steps stay as they are.
const QUANTIZED_FROM: f64 = 0.8;
const STEPS_FIXED_FROM: f64 = 0.95;
/// Pixels that sensitivities are measured on.
const SENSITIVITY_PIXELS: usize = 1 << 12;

/// Trains a network of `topology` on `raster`, from `initial` on if there is one, or from what
/// [`Archived::archive`] wrote in a run of the same arguments.
///
/// With a `budget`, the bytes that the weights may take in the compact coding, the later
/// part of the run trains the network with its weights rounded.
///
/// `observe` is called after every step and may end the run. The result depends on the
/// settings and the kind of machine, not on the number of threads.
///
/// # Errors
/// [`EncodeError::Cancelled`] where `observe` stopped the run before anything better than a
/// single colour was found; [`EncodeError::Device`] and [`EncodeError::Tensor`] from the
/// device.
pub(crate) fn train(
    device: &mut TrainingDevice,
    raster: &Raster,
    topology: &Topology,
    (initial, budget): (Option<&Siren>, Option<usize>),
    training: &SirenTraining,
    saved: Option<&[u8]>,
    observe: &mut Observe,
) -> Result<Trained, EncodeError> {
    let batch = training.batch(topology.weight_count());
    let points = batch.min(raster.size().pixels() as usize);
    let tensors = &device.open(gpu_is_faster(training, topology, points))?;
    let started = Instant::now();
    let flat = quality::mean_colour(raster);
    let constant = Siren::constant(topology.clone(), &flat);
    if raster.is_flat() {
        return Ok(Trained {
            siren: constant,
            steps: None,
            sensitivities: Vec::new(),
            steps_done: 0,
            steps_planned: training.common.steps(),
            recoveries: 0,
            single_colour: true,
        });
    }
    let mut rng = ChaCha8Rng::seed_from_u64(training.common.seed);
    let rate = training.learning_rate.unwrap_or_else(|| {
        let expected = rate::Model::new(raster).psnr_of_weights(topology, training.common.effort);
        schedule::peak(topology, expected)
    });
    let (model, peak) = match initial {
        Some(siren) => (Model::from_siren(siren, training.omega, tensors)?, RESUMED * rate),
        None => (Model::initialize(topology, training.omega, &flat, tensors, &mut rng)?, rate),
    };
    #[cfg(feature = "gpu")]
    let trainer = device.trainer(raster, topology, &model.scales(), points)?;
    let mut run = Run {
        raster,
        training,
        batch,
        budget,
        flat,
        constant,
        best: Best { weights: model.weights()?, steps: None, error: 1.0 },
        worse: false,
        learned: false,
        steps: None,
        initial: model.weights()?,
        good: model.weights()?,
        recent: model.weights()?,
        optimizer: AnyOptimizer::new(training.optimizer, &model)?,
        model,
        sampler: Sampler::new(raster, tensors, rng),
        #[cfg(feature = "gpu")]
        device,
        #[cfg(feature = "gpu")]
        trainer,
        schedule: Schedule::new(peak, training.common.steps()),
        step: 0,
        backoff: 1.0,
        recoveries: 0,
        restored_at: 0,
        smoothed: f64::NAN,
        lowest: f64::INFINITY,
    };
    if let Some(saved) = saved {
        run.archive(&mut Archive::Reading(saved))?;
    } else if initial.is_some() {
        run.check()?;
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

/// Whether a GPU is expected to train faster than the CPU, with so many points in a batch.
fn gpu_is_faster(training: &SirenTraining, topology: &Topology, points: usize) -> bool {
    let steps = training.common.steps().min(training.common.stop_after.unwrap_or(u32::MAX));
    // A training step is about three evaluations.
    let step = 3.0 * topology.weight_count() as f64 * points as f64;
    let threads = rayon::current_num_threads().min(fused::most_threads(points));
    speed::gpu_is_faster(f64::from(steps) * step, threads, steps)
}

/// A training run.
struct Run<'a> {
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
    initial: Vec<Tensor>,
    /// The weights to go back to after a divergence, and a later copy.
    good: Vec<Tensor>,
    recent: Vec<Tensor>,
    model: Model,
    sampler: Sampler<'a>,
    #[cfg(feature = "gpu")]
    device: &'a mut TrainingDevice,
    /// What computes loss and gradient in the CPU's place.
    #[cfg(feature = "gpu")]
    trainer: Option<Trainer>,
    schedule: Schedule,
    optimizer: AnyOptimizer,
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
    /// As [`Model::weights`] has them.
    weights: Vec<Tensor>,
    /// The steps that its weights are rounded to.
    steps: Option<Vec<Steps>>,
    /// Its error over that of the mean colour.
    error: f64,
}

impl Run<'_> {
    /// The step before which the run ends.
    fn end(&self) -> u32 {
        self.schedule.steps().min(self.training.common.stop_after.unwrap_or(u32::MAX))
    }

    /// One step, or one recovery. Returns whether the run can go on.
    fn step(&mut self) -> Result<bool, EncodeError> {
        let rate = self.backoff * self.schedule.rate(self.step);
        let warmth = schedule::warm_up(self.step - self.restored_at);
        self.optimizer.set_learning_rate(rate * warmth);
        let pixels = self.sampler.next_pixels(self.batch);
        let (loss, gradients) = self.loss_and_gradients(&pixels)?;
        let may_restore = self.recoveries < MAX_RECOVERIES;
        let worse = loss > SPIKE * self.smoothed || self.smoothed > RISE * self.lowest;
        let diverged = worse && self.step > schedule::WARM_UP;
        if !loss.is_finite() || (diverged && may_restore) {
            return if may_restore { self.recover().map(|()| true) } else { Ok(false) };
        }
        self.optimizer.step(&gradients)?;
        self.step += 1;
        let change = SMOOTHING * (loss - self.smoothed);
        self.smoothed = if self.smoothed.is_nan() { loss } else { self.smoothed + change };
        self.lowest = self.lowest.min(self.smoothed);
        if self.step.is_multiple_of(COPY_EVERY) && self.smoothed <= SOUND * self.lowest {
            self.good = std::mem::replace(&mut self.recent, self.model.weights()?);
        }
        let progress = f64::from(self.step) / f64::from(self.schedule.steps());
        let is_mark = self.schedule.is_mark(self.step, CHECKS);
        let due = if self.steps.is_none() { progress >= QUANTIZED_FROM } else { is_mark };
        if self.budget.is_some() && due && progress < STEPS_FIXED_FROM {
            self.quantize()?;
        }
        if is_mark {
            let best = self.best.error;
            if let Some(errors) = self.check()? {
                self.sampler.focus(&errors);
                let worse = errors.relative > WORSE * best;
                let astray = worse && (self.worse || errors.relative > FLAT);
                if astray && self.learned && may_restore {
                    self.good = self.best.weights.clone();
                    self.recover()?;
                }
                self.worse = worse;
            }
            // A rate so high that nothing is learned is a divergence too.
            let chance = MIN_ATTEMPT.max(self.schedule.steps() / ATTEMPTS);
            if may_restore && !self.learned && self.step - self.restored_at >= chance {
                self.recover()?;
            }
        }
        Ok(true)
    }

    fn loss_and_gradients(&mut self, pixels: &Pixels) -> Result<(f64, GradStore), EncodeError> {
        #[cfg(feature = "gpu")]
        if let Some(trainer) = &mut self.trainer {
            let weighted: Vec<WeightedPixel> = match pixels {
                Pixels::All => Vec::new(),
                Pixels::Some(pixels) => {
                    let width = self.raster.size().width;
                    let weighted = |&Pixel { column, row, weight }: &Pixel| WeightedPixel {
                        number: row * width + column,
                        weight,
                    };
                    pixels.iter().map(weighted).collect()
                }
            };
            let batch = match pixels {
                Pixels::All => gpu::Batch::All,
                Pixels::Some(_) => gpu::Batch::Of(&weighted),
            };
            let result = self.model.loss_and_gradients_by(|weights| {
                trainer.step(weights, batch).map(|step| (step.loss, step.gradient))
            })?;
            // The weights stay those of the last good step.
            match result {
                Ok(result) => {
                    self.device.has_worked();
                    return Ok(result);
                }
                Err(error) => self.device.give_up(error)?,
            }
            self.trainer = None;
        }
        self.model.loss_and_gradients(&self.sampler.batch(pixels)?)
    }

    /// Rounds the weights from now on, to steps for the budget.
    fn quantize(&mut self) -> Result<(), EncodeError> {
        let (Some(budget), Ok(siren)) = (self.budget, self.model.siren()) else { return Ok(()) };
        let sensitivities = self.sensitivities()?;
        let steps = quantize::allocate(&siren, &sensitivities, budget);
        self.model.quantize(&steps)?;
        if self.steps.replace(steps).is_none() {
            // Errors with and without rounding do not compare.
            self.best.error = 1.0;
            self.smoothed = f64::NAN;
            self.lowest = f64::INFINITY;
            self.check()?;
        }
        Ok(())
    }

    fn sensitivities(&mut self) -> Result<Vec<Sensitivity>, EncodeError> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.training.common.seed);
        let sample = self.sampler.sample(SENSITIVITY_PIXELS, &mut rng)?;
        self.model.sensitivities(&sample, &mut rng)
    }

    /// Measures the network and keeps it if it is the best so far. A diverged network has
    /// no errors.
    fn check(&mut self) -> Result<Option<Errors>, EncodeError> {
        let Ok(siren) = self.model.siren() else { return Ok(None) };
        let rounded = self.steps.as_ref().map(|steps| Quantized::nearest(&siren, steps).siren());
        let Ok(evaluated) = rounded.unwrap_or(Ok(siren)) else { return Ok(None) };
        let trained = f64::from(self.schedule.steps()) * self.batch as f64;
        // A training step is about three evaluations.
        let affordable = CHECK_SHARE * 3.0 * trained / f64::from(CHECKS);
        let pixels = (affordable as u64).clamp(CHECK_PIXELS.0, CHECK_PIXELS.1);
        let errors = quality::measure(self.raster, &evaluated, &self.flat, pixels);
        if errors.relative < self.best.error {
            let (weights, steps) = (self.model.weights()?, self.steps.clone());
            self.best = Best { weights, steps, error: errors.relative };
        }
        self.learned |= self.best.error < FLAT;
        Ok(Some(errors))
    }

    /// Goes back to earlier weights with a lower learning rate.
    fn recover(&mut self) -> Result<(), EncodeError> {
        if !self.learned {
            self.backoff *= FAR_BACKOFF;
            self.good = self.initial.clone();
        } else {
            self.backoff *= BACKOFF;
        }
        self.recoveries += 1;
        self.model.set_weights(&self.good)?;
        self.recent = self.good.clone();
        self.optimizer = AnyOptimizer::new(self.training.optimizer, &self.model)?;
        self.smoothed = f64::NAN;
        self.lowest = f64::INFINITY;
        self.restored_at = self.step;
        Ok(())
    }

    fn finish(mut self, stopped: bool) -> Result<Trained, EncodeError> {
        self.check()?;
        let single_colour = self.best.error >= 1.0;
        if single_colour && stopped {
            return Err(EncodeError::Cancelled);
        }
        let sensitivities = match self.budget {
            Some(_) if !single_colour => self.sensitivities()?,
            _ => Vec::new(),
        };
        let siren = if single_colour {
            self.constant
        } else {
            self.model.set_weights(&self.best.weights)?;
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

impl Archived for Run<'_> {
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
        let mut weights = self.model.weights()?;
        for copy in [&mut weights, &mut self.good, &mut self.recent, &mut self.best.weights] {
            archive_weights(copy, archive)?;
        }
        self.model.set_weights(&weights)?;
        for steps in [&mut self.steps, &mut self.best.steps] {
            archive_steps(steps, weights.len(), archive)?;
        }
        if let Some(steps) = &self.steps {
            self.model.quantize(steps)?;
        }
        self.sampler.archive(archive)?;
        self.optimizer.archive(archive)
    }
}

fn archive_weights(weights: &mut [Tensor], archive: &mut Archive) -> Result<(), EncodeError> {
    for tensor in weights {
        let mut values = tensor.flatten_all()?.to_vec1()?;
        archive.f32s(&mut values)?;
        *tensor = Tensor::from_vec(values, tensor.shape(), tensor.device())?;
    }
    Ok(())
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

enum AnyOptimizer {
    Soap(Soap),
    Adam(AdamW),
}

impl AnyOptimizer {
    fn new(choice: OptimizerChoice, model: &Model) -> Result<Self, EncodeError> {
        let variables = model.variables();
        Ok(match choice {
            OptimizerChoice::Soap => Self::Soap(Soap::new(variables, SoapParams::default())?),
            OptimizerChoice::Adam => {
                let params = ParamsAdamW { weight_decay: 0.0, ..ParamsAdamW::default() };
                Self::Adam(AdamW::new(variables, params)?)
            }
        })
    }

    fn archive(&mut self, archive: &mut Archive) -> Result<(), EncodeError> {
        match self {
            Self::Soap(soap) => soap.archive(archive),
            // candle-nn keeps its moments to itself.
            Self::Adam(_) => unreachable!("checkpoints are refused with Adam"),
        }
    }

    fn set_learning_rate(&mut self, rate: f64) {
        match self {
            Self::Soap(soap) => soap.set_learning_rate(rate),
            Self::Adam(adam) => adam.set_learning_rate(rate),
        }
    }

    fn step(&mut self, gradients: &GradStore) -> Result<(), EncodeError> {
        match self {
            Self::Soap(soap) => soap.step(gradients)?,
            Self::Adam(adam) => adam.step(gradients)?,
        }
        Ok(())
    }
}

#[cfg(all(test, feature = "gpu"))]
mod tests {
    use super::*;
    use crate::geometry::Size;
    use crate::gpu::Gpu;
    use crate::network::Channels;
    use crate::raster::Samples;

    fn ramp() -> Raster {
        let samples = (0..24 * 16).map(|i| (i % 24 * 10) as u8).collect();
        Raster::new(Size { width: 24, height: 16 }, Channels::Grey, Samples::U8(samples)).unwrap()
    }

    /// Trains on a device, calling `at` after every step, and gives the PSNR of all steps.
    fn psnrs(
        device: &mut TrainingDevice,
        mut at: impl FnMut(u32),
    ) -> Result<Vec<f64>, EncodeError> {
        let topology = Topology::uniform(Channels::Grey, 2, 6).unwrap();
        let common = Training { steps: Some(60), ..Training::default() };
        let training = SirenTraining { common, batch: Some(100), ..SirenTraining::default() };
        let mut psnrs = Vec::new();
        let observe = &mut |progress: &Progress, _: &mut dyn Archived| {
            psnrs.push(progress.psnr);
            at(progress.step);
            Control::Continue
        };
        let start = (None, None);
        let trained = train(device, &ramp(), &topology, start, &training, None, observe)?;
        assert_eq!(trained.steps_done, 60);
        Ok(psnrs)
    }

    #[test]
    fn a_lost_gpu_does_not_end_an_encode() {
        let Some(gpu) = Gpu::for_tests() else { return };
        let name = format!("gpu ({})", gpu.adapter().name);
        let mut device = TrainingDevice::of_gpu(DeviceChoice::Gpu, gpu);
        let unbroken = psnrs(&mut device, |_| {}).unwrap();
        assert_eq!((&device.name, &device.failure), (&name, &None));

        let gpu = Gpu::for_tests().unwrap();
        let mut device = TrainingDevice::of_gpu(DeviceChoice::Gpu, gpu.clone());
        let lose = |step| {
            if step == 20 {
                gpu.lose()
            }
        };
        let broken = psnrs(&mut device, lose).unwrap();
        assert_eq!(broken[..20], unbroken[..20]);
        // The CPU goes on from the same weights.
        assert!((broken[59] - unbroken[59]).abs() < 0.5, "{} {}", broken[59], unbroken[59]);
        let failure = device.failure.clone().unwrap();
        assert!(failure.starts_with("the GPU failed: the device was lost"), "{failure}");
        assert_eq!(device.name, format!("{name}, then cpu"));
        // Another training of the encode does not try again.
        psnrs(&mut device, |_| {}).unwrap();
        assert_eq!(device.failure.unwrap(), failure);
    }

    #[test]
    fn a_gpu_that_fails_from_the_start_is_an_error_where_it_was_asked_for() {
        let Some(gpu) = Gpu::for_tests() else { return };
        gpu.lose();
        let mut device = TrainingDevice::of_gpu(DeviceChoice::Gpu, gpu.clone());
        let error = psnrs(&mut device, |_| {}).unwrap_err().to_string();
        assert!(error.starts_with("device gpu: the GPU failed: "), "{error}");
        let mut device = TrainingDevice::of_gpu(DeviceChoice::Auto, gpu);
        psnrs(&mut device, |_| {}).unwrap();
        assert_eq!(device.name, "cpu");
        assert!(device.failure.unwrap().starts_with("the GPU failed: "));
    }
}
