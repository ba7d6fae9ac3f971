//! Pixels to latents and their networks. The loss is the squared error plus lambda times
//! the bits (section 3 of Kim et al. 2023, "C3"), lambda follows the wanted size or PSNR while
//! the training runs. Starts at a quarter of the picture's size. Uses no candle; knows no files.

mod context;
mod cpu;
mod lines;
mod model;
mod round;
mod start;
mod stepper;
mod synthesis;
mod waves;

use std::time::{Duration, Instant};

use super::archive::{Archive, Archived};
use super::device::{TrainingDevice, Work};
use super::{Control, Observe, Progress, RESUMED, Training, effort};
use crate::error::EncodeError;
pub use cpu::Cpu;
pub(crate) use model::Networks;
use model::{LatentModel, Measured, Thrift, Update};
use siren_image::DeviceError;
use siren_image::Size;
use siren_image::coding::latents::TILE;
use siren_image::coding::payload::Hidden;
use siren_image::latents::{Bases, Basis, Plane};
use siren_image::raster::{Raster, decibels};
pub(crate) use start::networks;
pub use stepper::{LatentUpdate, Outcome, Rounding, Sizes, Stage, Step, Stepper, Weights};
pub use synthesis::{Picture, Pixels};

/// What the training aims at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// Bits of the latents.
    Bits(f64),
    /// PSNR in dB.
    Psnr(f64),
}

/// Sizes of the networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub bases: Bases,
    pub sines: usize,
    /// Features of the hidden layers of the entropy models.
    pub hidden: Hidden,
    pub channels: usize,
}

impl Shape {
    fn synthesis(self) -> synthesis::SynthesisShape {
        let Self { bases, sines, channels, .. } = self;
        synthesis::SynthesisShape { planes: bases.count(), sines, channels }
    }

    fn contexts(self) -> Vec<context::ContextShape> {
        context::ContextShape::all(self.hidden)
    }

    /// Weights and biases of all networks.
    pub fn weight_count(self) -> usize {
        let synthesis = self.synthesis();
        let entropy: usize = self.contexts().iter().flat_map(|context| context.lens()).sum();
        synthesis.sine_len() + synthesis.output_len() + entropy
    }

    /// Streams of latents in a picture of `size`.
    pub fn streams(self, size: Size) -> usize {
        let tiles = |basis: Basis| {
            let tiles = |native: u32| basis.length(native).div_ceil(TILE);
            tiles(size.width) * tiles(size.height)
        };
        self.bases.iter().map(tiles).sum()
    }

    /// The finest plane that is no denser than the pixels of the picture at 1 / 2^shift of its size;
    /// none where there is no such plane.
    fn base(self, shift: usize) -> Option<usize> {
        let dense = |basis: &Basis| match *basis {
            Basis::Splines { level } => level < shift,
            Basis::Waves { .. } => shift > 0,
        };
        let base = self.bases.iter().take_while(dense).count();
        (base < self.bases.count()).then_some(base)
    }
}

/// How long a run takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Length {
    /// Steps at the picture's own size.
    steps: u32,
    /// Steps at a half of it, and again at a quarter.
    coarse: u32,
}

impl Length {
    /// The effort's, or as many steps as the training has.
    pub fn new(training: &Training) -> Self {
        let (steps, coarse) = effort::grid_length(training.effort);
        match training.steps {
            None => Self { steps, coarse },
            Some(all) => {
                let coarse = coarse.min(all / 4);
                Self { steps: all - 2 * coarse, coarse }
            }
        }
    }

    /// All steps.
    pub fn all(self) -> u32 {
        self.steps + 2 * self.coarse
    }

    /// A shorter run.
    pub fn share(self, share: f64) -> Self {
        let part = |steps: u32| ((f64::from(steps) * share).ceil() as u32).max(1);
        Self { steps: part(self.steps), coarse: part(self.coarse) }
    }
}

/// What a run starts from and how long it takes.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub networks: Networks,
    /// Latents of an earlier run, the finest plane first: no coarse stages then.
    pub planes: Option<Vec<Plane>>,
    pub goal: Goal,
    /// Bits that the latents are expected to take.
    pub bits: f64,
    /// The first lambda.
    pub lambda: f64,
    pub length: Length,
    /// Stop after so many steps of all.
    pub stop_after: Option<u32>,
    /// End in so much time.
    pub timeout: Option<Duration>,
    pub seed: u64,
}

/// A trained picture; the latents are not rounded yet.
pub(crate) struct Trained<'a> {
    model: LatentModel,
    picture: Picture<'a>,
    /// The last lambda.
    pub lambda: f64,
    pub steps_done: u32,
    pub steps_planned: u32,
}

/// What hangs on the kind of planes.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Temperature of the soft rounding at the start and at the end.
    temperatures: (f64, f64),
    /// Adam's peak rate of the networks.
    networks: f64,
    /// Adam's peak rate of the latents, for [`RATE_BPP`], and how many times that it is at most.
    latents: (f64, f64),
    /// At an unchanged lambda, bits per pixel fall by so much while rounding gets harder; by at
    /// most so many times the goal; with this power of what is left of the steps.
    fall: (f64, f64, i32),
}

/// With splines alone, and with waves, which are two latents a pixel and more: while the rounding is
/// soft they take far more bits than in the end.
const SPLINES: Pace = Pace {
    temperatures: (0.5, 0.05),
    networks: 1.4e-2,
    latents: (2.6e-2, 2.2),
    fall: (0.09, 0.6, 1),
};
const WAVES: Pace = Pace {
    temperatures: (0.7, 0.05),
    networks: 2e-2,
    latents: (3.6e-2, 1.25),
    fall: (1.0, 2.0, 2),
};
/// Parameter of the noise at the start and at the end.
const NOISE: (f64, f64) = (3.0, 2.0);
/// A resumed run starts with rounding almost as hard as it ends.
const RESUMED_TEMPERATURE: f64 = 0.2;
/// The rate of the latents is for so many bits per pixel, and goes with this power of them.
const RATE_BPP: f64 = 0.4;
const RATE_POWER: f64 = 0.35;
/// From so many bits per pixel on, second moments of the latents are of fewer steps.
const DENSE: f64 = 0.9;
/// The rate of a plane rises from zero over this share of the steps of the stage that brings it
/// in, but over at most so many steps.
const WARM_UP: (f64, f64) = (0.4, 40.0);
/// Share of the steps at full size that train the networks alone, on rounded latents, and the
/// rate at their start.
const LAST: f64 = 0.04;
const LAST_RATE: f64 = 1e-3;
/// The least share of a rate that is left at the end.
const LEAST_RATE: f64 = 0.01;
/// What a step leaves out.
const THRIFT: Thrift = Thrift { weights: 4, bands: 2 };
/// How fast lambda follows: per step, at least, at most, and in strides per run.
const FOLLOW: (f64, f64, f64) = (0.004, 0.15, 12.0);
/// It is that fast from this share of the steps at full size on, and slower before: a new level
/// begins with a burst of bits.
const FOLLOW_FROM: f64 = 0.4;
/// How often the picture's size is halved in the coarse stages.
const COARSE: [usize; 2] = [2, 1];
/// The coarse stages of a time-limited run end at a half of this share of its time, and at this
/// share.
const COARSE_TIME: f64 = 0.3;
/// Seconds that rounding and writing take: in all, and for a pixel.
const AFTER: (f64, f64) = (0.8, 6e-7);
/// Steps on a device after which the state is kept.
const KEEP_EVERY: u32 = 128;
/// Steps of a time-limited run before it is known how long a step takes.
const TRIAL: u32 = 4;

/// Trains on `raster` on a device from `start` on, or from what [`Archived::archive`] wrote in a run of the
/// same start.
pub(crate) fn train<'a>(
    raster: &'a Raster,
    start: Start,
    device: &mut TrainingDevice,
    saved: Option<&[u8]>,
    observe: &mut Observe,
) -> Result<Trained<'a>, EncodeError> {
    let has_waves = start.networks.shape.bases.waves() > 0;
    device.open_for_latents(&work(raster, &start), has_waves)?;
    let picture = Picture::new(raster);
    let mut run = LatentRun::new(&picture, start, device);
    if let Some(saved) = saved {
        run.archive(&mut Archive::Reading(saved))?;
        run.restored = run.done;
        run.stopped = run.is_at_stop();
    }
    run.move_to_device()?;
    while let Err(broken) = run.stages(&picture, observe) {
        match broken {
            Broken::Device(failure) => run.fall_back(failure)?,
            Broken::Encode(error) => return Err(error),
        }
    }
    let LatentRun { model, lambda, done, planned, .. } = run;
    Ok(Trained { model, picture, lambda, steps_done: done, steps_planned: planned })
}

/// What the training takes.
fn work(raster: &Raster, start: &Start) -> Work {
    let Length { steps, coarse } = start.length;
    // Steps at the picture's size, and those at a half and at a quarter of it as parts of one. A
    // step is about three evaluations, of as many weights as there are.
    let whole = f64::from(steps) + f64::from(coarse) * (1.0 / 4.0 + 1.0 / 16.0);
    let weights = start.networks.shape.weight_count() as f64;
    let operations = 3.0 * whole * weights * raster.size().pixels() as f64;
    Work { operations, threads: rayon::current_num_threads(), steps: start.length.all() }
}

/// Why the stages ended before their end.
enum Broken {
    /// The CPU can go on.
    Device(DeviceError),
    Encode(EncodeError),
}

impl From<DeviceError> for Broken {
    fn from(failure: DeviceError) -> Self {
        Self::Device(failure)
    }
}

impl From<EncodeError> for Broken {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

/// A run in progress.
struct LatentRun<'a> {
    started: Instant,
    device: &'a mut TrainingDevice,
    start: Start,
    /// Pixels of the picture.
    pixels: f64,
    model: LatentModel,
    lambda: f64,
    done: u32,
    /// Of the steps done before the run was restored, those of this and later stages.
    restored: u32,
    planned: u32,
    stopped: bool,
    /// What to go back to where a device fails.
    kept: Vec<u8>,
}

impl<'a> LatentRun<'a> {
    fn new(picture: &Picture, mut start: Start, device: &'a mut TrainingDevice) -> Self {
        let mut networks = start.networks.clone();
        let resumed = start.planes.take();
        if resumed.is_none() {
            networks.set_colour(&picture.mean());
        }
        let mut model = LatentModel::new((picture.width, picture.height), networks, start.seed);
        let stages = COARSE.iter().filter(|&&shift| model.shape.base(shift).is_some()).count();
        let stages = if resumed.is_some() { 0 } else { stages as u32 };
        for (latents, plane) in model.cpu.planes.iter_mut().zip(resumed.iter().flatten()) {
            latents.values = plane.values().iter().map(|&q| f32::from(q)).collect();
        }
        start.planes = resumed;
        Self {
            started: Instant::now(),
            pixels: (picture.width * picture.height) as f64,
            model,
            lambda: start.lambda,
            done: 0,
            restored: 0,
            planned: stages * start.length.coarse + start.length.steps,
            stopped: false,
            kept: Vec::new(),
            device,
            start,
        }
    }

    /// All stages, from where the run is.
    fn stages(&mut self, picture: &Picture, observe: &mut Observe) -> Result<(), Broken> {
        if self.start.planes.is_none() {
            let half = picture.halved();
            for shift in COARSE {
                // A picture of few levels may have none that are as coarse.
                let Some(base) = self.model.shape.base(shift) else { continue };
                let picture = if shift > 1 { &half.halved() } else { &half };
                self.coarse(&Stage { base, shift, picture }, observe)?;
            }
        }
        self.fine(&Stage { base: 0, shift: 0, picture }, observe)?;
        Ok(self.model.fetch()?)
    }

    /// Has the device compute the steps, if there is one.
    fn move_to_device(&mut self) -> Result<(), EncodeError> {
        let Some(stepper) = self.device.latents(&self.model.sizes())? else { return Ok(()) };
        self.keep()?;
        match self.model.move_to(stepper) {
            Ok(()) => Ok(()),
            Err(failure) => self.fall_back(failure),
        }
    }

    /// Keeps the state of the run.
    fn keep(&mut self) -> Result<(), EncodeError> {
        let mut kept = std::mem::take(&mut self.kept);
        kept.clear();
        self.archive(&mut Archive::Writing(&mut kept))?;
        self.kept = kept;
        Ok(())
    }

    /// Goes back to what was kept, and on on the CPU, where the device failed.
    ///
    /// # Errors
    /// As [`TrainingDevice::give_up`].
    fn fall_back(&mut self, failure: DeviceError) -> Result<(), EncodeError> {
        self.device.give_up(failure)?;
        self.model.leave_device();
        let kept = std::mem::take(&mut self.kept);
        self.archive(&mut Archive::Reading(&kept))?;
        self.restored = self.done;
        Ok(())
    }

    /// Whether as many steps are done as the run is to stop after.
    fn is_at_stop(&self) -> bool {
        self.start.stop_after.is_some_and(|most| self.done >= most)
    }

    /// Tells how a step went, and asks whether to go on.
    fn tell(&mut self, measured: Measured, observe: &mut Observe) -> Result<(), EncodeError> {
        self.done += 1;
        if self.model.is_on_device() {
            self.device.worked();
            if self.done.is_multiple_of(KEEP_EVERY) {
                self.keep()?;
            }
        }
        let progress = Progress {
            run: 1,
            step: self.done,
            steps: self.planned,
            psnr: decibels(measured.error / self.pixels),
            bytes: Some(measured.bits / 8.0),
        };
        let control = observe(&progress, self);
        self.stopped |= control == Control::Stop || self.is_at_stop() || self.spent() >= 1.0;
        Ok(())
    }

    /// Share of the time that has passed; what comes after the training has its own.
    fn spent(&self) -> f64 {
        let Some(limit) = self.start.timeout else { return 0.0 };
        let limit = limit.as_secs_f64();
        let after = (AFTER.0 + AFTER.1 * self.pixels).min(0.5 * limit);
        self.started.elapsed().as_secs_f64() / (limit - after)
    }

    /// Steps at 1 / 2^base of the size.
    fn coarse(&mut self, stage: &Stage, observe: &mut Observe) -> Result<(), Broken> {
        let Pace { temperatures, networks, .. } = self.pace();
        let rates = self.update(self.latent_rate(), networks, self.start.length.coarse);
        let rounding = Rounding::Soft { temperature: temperatures.0, noise: NOISE.0 };
        let share = COARSE_TIME / stage.shift as f64;
        let passed = self.restored.min(self.start.length.coarse);
        self.restored -= passed;
        for _ in passed..self.start.length.coarse {
            if self.stopped || self.spent() >= share {
                break;
            }
            let measured = self.model.step(stage, rounding, self.lambda, rates, THRIFT)?;
            self.tell(measured, observe)?;
        }
        Ok(())
    }

    fn pace(&self) -> Pace {
        if self.model.shape.bases.waves() > 0 { WAVES } else { SPLINES }
    }

    /// Bits per pixel that the latents are expected to take.
    fn bpp(&self) -> f64 {
        self.start.bits / self.pixels
    }

    /// An update at these rates in a stage of `steps`.
    fn update(&self, latents: f64, networks: f64, steps: u32) -> Update {
        let beta2 = if self.bpp() < DENSE { 0.99 } else { 0.95 };
        let warm_up = (WARM_UP.0 * f64::from(steps)).min(WARM_UP.1);
        Update { latents, networks, beta2, warm_up }
    }

    /// Peak rate of the latents: small ones take small steps.
    fn latent_rate(&self) -> f64 {
        let (rate, most) = self.pace().latents;
        rate * (self.bpp() / RATE_BPP).powf(RATE_POWER).clamp(0.7, most)
    }

    /// Steps at the picture's own size.
    fn fine(&mut self, stage: &Stage, observe: &mut Observe) -> Result<(), Broken> {
        if self.stopped {
            return Ok(());
        }
        let mut step = std::mem::take(&mut self.restored);
        if step == 0 && self.start.planes.is_none() && self.model.shape.bases.waves() > 0 {
            self.model.start_waves(stage)?;
        }
        let (before, mut is_hard) = (self.done - step, false);
        let mut steps = self.start.length.steps;
        self.planned = before + steps;
        let begun = self.spent();
        while step < steps && !self.stopped {
            if step == TRIAL && self.start.timeout.is_some() {
                let each = (self.spent() - begun) / f64::from(TRIAL);
                let affordable = (1.0 - self.spent()) / each;
                steps = steps.min(step.saturating_add(affordable as u32));
                self.planned = before + steps;
            }
            let last = ((f64::from(steps) * LAST) as u32).min(steps.saturating_sub(1));
            let soft = steps - last;
            let measured = if step < soft {
                self.soft_step(stage, f64::from(step) / f64::from(soft), steps)?
            } else {
                let is_kept = std::mem::replace(&mut is_hard, true);
                let rounding = if is_kept { Rounding::Kept } else { Rounding::Hard };
                let rate = LAST_RATE * f64::from(steps - step) / f64::from(last);
                self.model.step_networks(stage, rounding, rate, THRIFT)?
            };
            step += 1;
            self.tell(measured, observe)?;
        }
        Ok(())
    }

    /// A step of latents and networks, when `progress` of the `steps` of its kind is done.
    fn soft_step(&mut self, stage: &Stage, progress: f64, steps: u32) -> Result<Measured, Broken> {
        let resumed = self.start.planes.is_some();
        let Pace { mut temperatures, networks, .. } = self.pace();
        if resumed {
            temperatures.0 = RESUMED_TEMPERATURE;
        }
        let peak = self.latent_rate() * if resumed { RESUMED } else { 1.0 };
        let falling = |(from, to): (f64, f64)| from + (to - from) * progress;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        let share = cosine.max(LEAST_RATE);
        let rates = self.update(peak * share, networks * share, steps);
        let rounding = Rounding::Soft { temperature: falling(temperatures), noise: falling(NOISE) };
        let measured = self.model.step(stage, rounding, self.lambda, rates, THRIFT)?;
        self.follow(measured, progress, steps);
        Ok(measured)
    }

    /// Moves lambda towards the goal.
    fn follow(&mut self, measured: Measured, progress: f64, steps: u32) {
        let excess = match self.start.goal {
            Goal::Bits(bits) => {
                let (bpp, share, power) = self.pace().fall;
                let ahead = (bpp * self.pixels).min(share * bits) * (1.0 - progress).powi(power);
                (measured.bits.max(1.0) / (bits + ahead)).ln()
            }
            Goal::Psnr(psnr) => {
                let wanted = 10f64.powf(-psnr / 10.0) * self.pixels;
                (wanted / measured.error.max(1e-12 * self.pixels)).ln()
            }
        };
        let speed = (FOLLOW.2 / f64::from(steps)).clamp(FOLLOW.0, FOLLOW.1);
        let trust = (progress / FOLLOW_FROM).min(1.0).powi(2);
        self.lambda *= (speed * trust * excess.clamp(-0.7, 0.7)).exp();
    }
}

impl Archived for LatentRun<'_> {
    fn archive(&mut self, archive: &mut Archive) -> Result<(), EncodeError> {
        archive.f64(&mut self.lambda)?;
        archive.u32(&mut self.done)?;
        self.model.archive(archive)
    }
}
