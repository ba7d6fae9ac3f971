//! The networks of latents in training, their optimizers, and one step of all parameters: what a
//! [`Stepper`] computes, and SOAP and Adam on the networks. Knows no schedule and no rate control.

use super::Shape;
use super::context::Wanted;
use super::cpu::{Cpu, Share};
use super::stepper::{LatentUpdate, Outcome, Rounding, Sizes, Stage, Step, Stepper, Weights};
use super::synthesis::Gradients;
use crate::error::EncodeError;
use crate::train::adam::Moments;
use crate::train::archive::Archive;
use crate::train::soap::{self, SoapParams};
use siren_image::DeviceError;
use siren_image::latents::Basis;
use siren_kernel::Adam;
use siren_kernel::Simd;

/// A group of weights in training by the optimizer `O`.
pub struct Group<O> {
    pub values: Vec<f32>,
    gradient: Vec<f32>,
    optimizer: O,
}

impl<O> Group<O> {
    fn new(values: Vec<f32>, optimizer: O) -> Self {
        Self { gradient: vec![0.0; values.len()], values, optimizer }
    }
}

impl Group<soap::Matrix> {
    /// Rows of `columns` weights, trained by SOAP.
    pub fn matrix(values: Vec<f32>, columns: usize) -> Self {
        let optimizer = soap::Matrix::new(values.len(), columns, &SOAP);
        Self::new(values, optimizer)
    }
}

impl Group<Moments> {
    /// Trained by Adam.
    pub fn plain(values: Vec<f32>) -> Self {
        let optimizer = Moments::new(values.len());
        Self::new(values, optimizer)
    }
}

/// Rows of weights, each with its bias at the end.
#[derive(Debug, Clone, PartialEq)]
pub struct Networks {
    pub shape: Shape,
    pub sine: Vec<f32>,
    pub output: Vec<f32>,
    /// Layers of the entropy model of splines and, where there are waves, of theirs.
    pub entropy: Vec<[Vec<f32>; 3]>,
}

impl Networks {
    /// Chooses the biases of the outputs so that latents of zero give `colour`, in [-1, 1].
    pub fn set_colour(&mut self, colour: &[f32]) {
        let (planes, sines) = (self.shape.bases.count(), self.shape.sines);
        let rows = self.output.chunks_exact_mut(sines + planes + 1);
        for (row, colour) in rows.zip(colour) {
            let biases = self.sine.chunks_exact(planes + 1).map(|row| row[planes].sin());
            let sum: f32 = row.iter().zip(biases).map(|(w, sine)| w * sine).sum();
            row[sines + planes] = colour - sum;
        }
    }
}

/// What a pass over the picture shows.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Squared errors in [0, 1] of the clamped outputs, averaged over the channels, summed over
    /// the pixels.
    pub error: f64,
    /// Bits of the latents.
    pub bits: f64,
}

/// How much of the work each step leaves out.
#[derive(Debug, Clone, Copy)]
pub struct Thrift {
    /// One of so many blocks gives gradients of the networks of the picture.
    pub weights: usize,
    /// One of so many bands gives new rates and gradients; the others keep their last.
    pub bands: usize,
}

pub struct LatentModel {
    pub shape: Shape,
    sine: Group<soap::Matrix>,
    output: Group<soap::Matrix>,
    entropy: Vec<[Group<Moments>; 3]>,
    seed: u64,
    steps: u32,
    /// The latents, or room for those that a device has.
    pub cpu: Cpu,
    /// What computes the steps in the CPU's place, and has the latents then.
    device: Option<Box<dyn Stepper>>,
}

/// Adam's parameters in an update: learning rates of the latents and of the networks.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    pub latents: f64,
    pub networks: f64,
    /// Of second moments of the latents.
    pub beta2: f64,
    /// The rate of latents that have not moved before rises over so many steps.
    pub warm_up: f64,
}

/// Of first moments, and of second moments of the entropy model.
const BETAS: (f64, f64) = (0.9, 0.999);
/// What trains the synthesis, at this share of the rate of the entropy model.
const SOAP: SoapParams = SoapParams { beta2: 0.97, eps: 1e-12, ..SoapParams::DEFAULT };
const SOAP_SHARE: f64 = 0.7;
/// Latents of level l are so many times 2^l of what Adam's rate is for, and those of waves are as
/// those of level 0.
const LATENT_SCALE: f64 = 4.0;

impl LatentModel {
    pub fn new((width, height): (usize, usize), networks: Networks, seed: u64) -> Self {
        let Networks { shape, sine, output, entropy } = networks;
        let Shape { bases, sines, hidden, channels } = shape;
        let plane = |basis: Basis| [width, height].map(|native| basis.length(native as u32)).into();
        let planes = bases.iter().map(plane).collect();
        let sizes = Sizes { bases, planes, sines, hidden, channels };
        Self {
            shape,
            sine: Group::matrix(sine, bases.count() + 1),
            output: Group::matrix(output, sines + bases.count() + 1),
            entropy: entropy.into_iter().map(|model| model.map(Group::plain)).collect(),
            seed,
            steps: 0,
            cpu: Cpu::new(&sizes),
            device: None,
        }
    }

    /// Sizes of latents and networks.
    pub fn sizes(&self) -> Sizes {
        let Shape { bases, sines, hidden, channels } = self.shape;
        let planes = self.cpu.planes.iter().map(|plane| (plane.width, plane.height)).collect();
        Sizes { bases, planes, sines, hidden, channels }
    }

    pub fn networks(&self) -> Networks {
        Networks {
            shape: self.shape,
            sine: self.sine.values.clone(),
            output: self.output.values.clone(),
            entropy: self.entropy_values(),
        }
    }

    pub fn set_networks(&mut self, networks: &Networks) {
        self.sine.values.clone_from(&networks.sine);
        self.output.values.clone_from(&networks.output);
        let layers = self.entropy.iter_mut().flatten();
        for (layer, values) in layers.zip(networks.entropy.iter().flatten()) {
            layer.values.clone_from(values);
        }
    }

    fn entropy_values(&self) -> Vec<[Vec<f32>; 3]> {
        let values = |model: &[Group<Moments>; 3]| model.each_ref().map(|g| g.values.clone());
        self.entropy.iter().map(values).collect()
    }

    /// Lengths of the rows of the sine layer and of the output layer.
    fn row_lens(&self) -> (usize, usize) {
        let sine = self.shape.bases.count() + 1;
        (sine, self.shape.sines + sine)
    }

    /// The weights for the planes from `base` on.
    fn weights(&self, base: usize) -> Weights {
        let (full, wide) = self.row_lens();
        Weights {
            sine: without_columns(&self.sine.values, full, 0, base),
            output: without_columns(&self.output.values, wide, self.shape.sines, base),
            entropy: self.entropy_values(),
        }
    }

    /// Saves or restores what the next step hangs on.
    pub fn archive(&mut self, archive: &mut Archive) -> Result<(), EncodeError> {
        let failed = |error: DeviceError| EncodeError::Verification(error.to_string());
        if let Archive::Writing(_) = archive {
            self.fetch().map_err(failed)?;
        }
        archive.u32(&mut self.steps)?;
        for Group { values, optimizer, .. } in [&mut self.sine, &mut self.output] {
            archive.f32s(values)?;
            optimizer.archive(archive)?;
        }
        for Group { values, optimizer, .. } in self.entropy.iter_mut().flatten() {
            archive.f32s(values)?;
            optimizer.archive(archive)?;
        }
        let mut coarser = (0, 0);
        for plane in self.cpu.planes.iter_mut().rev() {
            plane.archive(archive, coarser)?;
            coarser = (plane.width, plane.height);
        }
        if let Archive::Reading(_) = archive {
            self.hand_over().map_err(failed)?;
        }
        Ok(())
    }

    /// One step of everything on the planes from the stage's base on, seen through a rounding.
    ///
    /// # Errors
    /// Where the device failed, and with it what it had.
    pub fn step(
        &mut self,
        stage: &Stage,
        rounding: Rounding,
        lambda: f64,
        update: Update,
        thrift: Thrift,
    ) -> Result<Measured, DeviceError> {
        let rates = (stage.base..self.shape.bases.count()).map(|p| {
            let adam = self.adam(p, update);
            (adam.rate, adam.second)
        });
        let rates = rates.collect();
        let of_latents = LatentUpdate { lambda, betas: (BETAS.0, update.beta2), rates };
        let measured = self.compute(stage, rounding, Some(of_latents), thrift)?;
        self.learn(update.networks);
        Ok(measured)
    }

    /// One step of the networks alone, on latents rounded to the nearest.
    ///
    /// # Errors
    /// As [`LatentModel::step`].
    pub fn step_networks(
        &mut self,
        stage: &Stage,
        rounding: Rounding,
        rate: f64,
        thrift: Thrift,
    ) -> Result<Measured, DeviceError> {
        let measured = self.compute(stage, rounding, None, thrift)?;
        self.learn(rate);
        Ok(measured)
    }

    /// What a step gives, and the gradients of the networks.
    fn compute(
        &mut self,
        stage: &Stage,
        rounding: Rounding,
        update: Option<LatentUpdate>,
        thrift: Thrift,
    ) -> Result<Measured, DeviceError> {
        let weights = self.weights(stage.base);
        let shares = [thrift.weights, thrift.bands];
        let step = Step { rounding, update, shares, number: self.steps, seed: self.seed };
        let Outcome { error, bits, gradients } = match &mut self.device {
            Some(device) => device.step(stage, &weights, &step)?,
            None => self.cpu.step(stage, &weights, &step)?,
        };
        let (full, wide) = self.row_lens();
        self.sine.gradient = with_columns(&gradients.sine, full, 0, stage.base);
        self.output.gradient = with_columns(&gradients.output, wide, self.shape.sines, stage.base);
        let gradients = gradients.entropy.into_iter().flatten();
        for (group, gradient) in self.entropy.iter_mut().flatten().zip(gradients) {
            group.gradient = gradient;
        }
        self.steps += 1;
        Ok(Measured { error, bits })
    }

    /// Adam of the next update of a plane.
    fn adam(&mut self, p: usize, update: Update) -> Adam {
        let Update { latents, beta2, warm_up, .. } = update;
        let steps = &mut self.cpu.planes[p].moments.steps;
        *steps += 1;
        let warm = (f64::from(*steps) / warm_up).min(1.0);
        let level = match self.shape.bases.get(p) {
            Basis::Splines { level } => level,
            Basis::Waves { .. } => 0,
        };
        let rate = warm * latents * LATENT_SCALE * f64::from(1u32 << level);
        Adam::new(rate, (BETAS.0, beta2), *steps)
    }

    fn learn(&mut self, rate: f64) {
        let simd = Simd::new();
        let soap = SoapParams { lr: SOAP_SHARE * rate, ..SOAP };
        for Group { values, gradient, optimizer } in [&mut self.sine, &mut self.output] {
            optimizer.step(values, gradient, &soap);
        }
        for Group { values, gradient, optimizer } in self.entropy.iter_mut().flatten() {
            let Moments { means: [first, second], steps } = optimizer;
            *steps += 1;
            let adam = Adam::new(rate, (BETAS.0, BETAS.1), *steps);
            adam.apply(simd, values, [first, second], gradient);
        }
    }

    /// Squared errors as in [`Measured`] with latents rounded before by [`Cpu::harden`], from
    /// one of `share` blocks.
    pub fn errors(&mut self, stage: &Stage, share: usize) -> f64 {
        let weights = self.weights(stage.base);
        let share = Share::new(share, self.steps);
        self.cpu.synthesis(stage, &weights, Gradients::None, share).0
    }

    /// Bits of latents rounded before by [`Cpu::harden`], from one of `share` bands.
    pub fn bits(&mut self, share: usize) -> f64 {
        let Weights { entropy, .. } = self.weights(0);
        let share = Share::new(share, self.steps);
        self.cpu.rate(0, &entropy, (Wanted::Bits, false), share).0
    }

    /// See [`Cpu::start_waves`].
    ///
    /// # Errors
    /// The device's.
    pub fn start_waves(&mut self, stage: &Stage) -> Result<(), DeviceError> {
        self.fetch()?;
        let weights = self.weights(stage.base);
        self.cpu.start_waves(stage, &weights);
        self.hand_over()
    }

    /// See [`Cpu::thin_out`].
    pub fn thin_out(&mut self, stage: &Stage, lambda: f64) {
        let weights = self.weights(stage.base);
        self.cpu.thin_out(stage, &weights, lambda);
    }

    /// Has a device compute the steps from now on.
    ///
    /// # Errors
    /// The device's.
    pub fn move_to(&mut self, device: Box<dyn Stepper>) -> Result<(), DeviceError> {
        self.device = Some(device);
        self.hand_over()
    }

    /// Whether a device computes the steps.
    pub fn is_on_device(&self) -> bool {
        self.device.is_some()
    }

    /// Gives the device up, and with it what it had.
    pub fn leave_device(&mut self) {
        self.device = None;
    }

    /// The latents from the device, if it has them.
    ///
    /// # Errors
    /// The device's.
    pub fn fetch(&mut self) -> Result<(), DeviceError> {
        match &self.device {
            Some(device) => self.cpu.set_latents(&device.latents()?),
            None => Ok(()),
        }
    }

    /// The latents to the device, if there is one.
    fn hand_over(&mut self) -> Result<(), DeviceError> {
        match &mut self.device {
            Some(device) => device.set_latents(&self.cpu.latents()?),
            None => Ok(()),
        }
    }
}

/// Rows of `len` numbers without the `count` from `first` on.
fn without_columns(rows: &[f32], len: usize, first: usize, count: usize) -> Vec<f32> {
    let rows = rows.chunks_exact(len);
    rows.flat_map(|row| row[..first].iter().chain(&row[first + count..])).copied().collect()
}

/// The inverse of [`without_columns`], with zeros for what is missing.
fn with_columns(rows: &[f32], len: usize, first: usize, count: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows.len() / (len - count) * len);
    for row in rows.chunks_exact(len - count) {
        out.extend_from_slice(&row[..first]);
        out.extend(std::iter::repeat_n(0.0, count));
        out.extend_from_slice(&row[first..]);
    }
    out
}

#[cfg(test)]
mod tests;
