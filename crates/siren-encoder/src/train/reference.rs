//! The reference trainer: a SIREN's loss and gradient by candle's own operations, on any of candle's
//! devices. Tests hold the fused step against it; it is also the way to `--device cuda` and `metal`.
//! The one room that knows candle.
//!
//! Activations are `[features, points]`, so that matrix products, biases and sums run along
//! contiguous points.

use candle_core::{Device, Result as Tensors, Tensor, Var};

use super::device::Device as TrainingDevice;
use super::latents;
use super::siren::{Batch, LayerPlace, Step, Stepper, Task, TrainingPixels};
use crate::error::EncodeError;
use siren_image::DeviceError;

/// A picture and a network whose steps candle computes.
#[derive(Debug)]
pub struct Reference<'a> {
    picture: TrainingPixels<'a>,
    layers: Vec<LayerPlace>,
    device: Device,
}

impl<'a> Reference<'a> {
    /// Prepares the steps of a task on a device.
    ///
    /// # Panics
    /// If there is not one factor a layer.
    pub fn new(task: &Task<'a>, device: &Device) -> Self {
        Self {
            picture: TrainingPixels::new(task.raster),
            layers: LayerPlace::all(task.topology, &task.scales),
            device: device.clone(),
        }
    }

    /// The loss of a batch without its gradient; see [`Stepper::step`].
    ///
    /// # Errors
    /// candle's.
    pub fn loss(&self, weights: &[f32], batch: Batch) -> Tensors<f64> {
        let (inputs, targets) = self.tensors(batch)?;
        let loss = self.loss_of(&self.variables(weights)?, &inputs, &targets)?;
        Ok(loss.to_scalar::<f32>()?.into())
    }

    fn loss_and_gradient(&self, weights: &[f32], batch: Batch) -> Tensors<Step> {
        let (inputs, targets) = self.tensors(batch)?;
        let variables = self.variables(weights)?;
        let loss = self.loss_of(&variables, &inputs, &targets)?;
        let gradients = loss.backward()?;
        let mut gradient = Vec::with_capacity(weights.len());
        for variable in &variables {
            let part = gradients.get(variable).expect("the loss hangs on all weights");
            gradient.extend(part.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(Step { loss: loss.to_scalar::<f32>()?.into(), gradient })
    }

    /// `[W | b]` of each layer.
    fn variables(&self, weights: &[f32]) -> Tensors<Vec<Var>> {
        let layers = self.layers.iter();
        let variable = |layer: &LayerPlace| {
            let shape = (layer.outputs, layer.inputs + 1);
            Var::from_slice(&weights[layer.range()], shape, &self.device)
        };
        layers.map(variable).collect()
    }

    /// Coordinates, `[2, points]`, and samples in [-1, 1] with below them the weight of each
    /// pixel, `[channels + 1, points]`.
    fn tensors(&self, batch: Batch) -> Tensors<(Tensor, Tensor)> {
        let TrainingPixels { channels, .. } = self.picture;
        let points = self.picture.points(batch);
        let pixels = || (0..points).map(|i| self.picture.pixel(batch, i));
        let places: Vec<(f32, f32)> = pixels().map(|p| self.picture.place(p.number)).collect();
        let inputs: Vec<f32> =
            places.iter().map(|place| place.0).chain(places.iter().map(|place| place.1)).collect();
        let mut targets = vec![0.0; channels * points];
        self.picture.targets(pixels().map(|p| p.number), |i, channel, sample| {
            targets[channel * points + i] = sample;
        });
        targets.extend(pixels().map(|p| p.weight));
        let inputs = Tensor::from_vec(inputs, (2, points), &self.device)?;
        Ok((inputs, Tensor::from_vec(targets, (channels + 1, points), &self.device)?))
    }

    fn loss_of(&self, variables: &[Var], inputs: &Tensor, targets: &Tensor) -> Tensors<Tensor> {
        let TrainingPixels { channels, .. } = self.picture;
        let weights = targets.narrow(0, channels, 1)?;
        let outputs = self.forward(variables, inputs)?;
        let errors = (outputs - targets.narrow(0, 0, channels)?)?.sqr()?.broadcast_mul(&weights)?;
        if !channels.is_multiple_of(2) {
            return errors.mean_all();
        }
        let colours = channels - 1;
        let alpha = targets.narrow(0, colours, 1)?.affine(0.5, 0.5)?;
        let of_colours = errors.narrow(0, 0, colours)?.broadcast_mul(&alpha.sqr()?)?;
        Tensor::cat(&[of_colours, errors.narrow(0, colours, 1)?], 0)?.mean_all()
    }

    /// `[2, points]` to `[channels, points]`.
    fn forward(&self, variables: &[Var], inputs: &Tensor) -> Tensors<Tensor> {
        let last = self.layers.len() - 1;
        let mut h = inputs.clone();
        for (l, (layer, variable)) in self.layers.iter().zip(variables).enumerate() {
            // The factor is applied to the small tensors.
            let scaled = variable.affine(layer.scale.into(), 0.0)?;
            let weights = scaled.narrow(1, 0, layer.inputs)?;
            h = weights.matmul(&h)?.broadcast_add(&scaled.narrow(1, layer.inputs, 1)?)?;
            if l < last {
                h = h.sin()?;
            }
        }
        Ok(h)
    }
}

impl Stepper for Reference<'_> {
    fn step(&mut self, weights: &[f32], batch: Batch) -> Result<Step, DeviceError> {
        self.loss_and_gradient(weights, batch).map_err(|error| DeviceError::new(first_line(&error)))
    }
}

/// One of candle's devices.
#[derive(Debug)]
struct Opened {
    name: &'static str,
    device: Device,
}

/// Opens `cuda` or `metal`.
pub(super) fn open(name: &'static str) -> Result<Box<dyn TrainingDevice>, EncodeError> {
    let (opened, needed) = match name {
        "cuda" if cfg!(feature = "cuda") => (Device::new_cuda(0), "an NVIDIA card with its driver"),
        "metal" if cfg!(feature = "metal") => (Device::new_metal(0), "an Apple GPU"),
        _ => return Err(EncodeError::not_built(name)),
    };
    let device = opened.map_err(|error| EncodeError::Device {
        device: name,
        reason: format!("{needed} is needed: {}", first_line(&error)),
    })?;
    Ok(Box::new(Opened { name, device }))
}

impl TrainingDevice for Opened {
    fn name(&self) -> String {
        self.name.into()
    }

    fn siren<'a>(&mut self, task: &Task<'a>) -> Result<Box<dyn Stepper + 'a>, DeviceError> {
        Ok(Box::new(Reference::new(task, &self.device)))
    }

    fn latents(&mut self, _: &latents::Sizes) -> Result<Box<dyn latents::Stepper>, DeviceError> {
        Err(DeviceError::new("latents are not trained through candle"))
    }
}

/// With RUST_BACKTRACE candle tells a backtrace below.
fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
