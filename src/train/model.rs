//! The reference model: a SIREN written in candle tensors, on any device.
//!
//! Activations are `[features, points]`, so that matrix products, biases and sums run
//! along contiguous points.

use std::f32::consts::PI;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use rand::Rng;

#[cfg(feature = "gpu")]
use super::fused;
use super::fused::FusedLoss;
use super::sampling::Batch;
use crate::coding::compact::{self, Steps};
use crate::container::TrainingOmega;
use crate::error::EncodeError;
use crate::network::{Siren, Topology};
use crate::quantize::Sensitivity;

/// Trainable weights, one tensor `[W | b]` of `[outputs, inputs + 1]` a layer. Each layer has
/// a factor beside them, omega_0 and a learning rate of its own, that is folded into them in
/// [`Model::siren`]: an optimizer's steps are as large as the factor says.
pub struct Model {
    topology: Topology,
    layers: Vec<TrainedLayer>,
    fused: FusedLoss,
}

struct TrainedLayer {
    weights: Var,
    scale: f64,
    /// Step sizes of a row of `weights`, `[1, inputs + 1]`.
    steps: Option<Tensor>,
}

impl Model {
    /// SIREN initialization (Sitzmann et al. 2020, section 3.2 and supplement 1.5):
    /// first layer uniform in +-1/n, others uniform in +-sqrt(6/n)/omega_0 for n inputs;
    /// biases uniform in +-1/sqrt(n), as in the authors' code. The output biases start at
    /// `mean`, one value a channel, so that nothing needs to be unlearned first.
    pub fn initialize(
        topology: &Topology,
        omega: TrainingOmega,
        mean: &[f32],
        device: &Device,
        rng: &mut impl Rng,
    ) -> Result<Self, EncodeError> {
        let hidden = topology.hidden().len();
        let mut file_order = Vec::with_capacity(topology.weight_count());
        for (index, (inputs, outputs)) in topology.layers().enumerate() {
            let n = inputs as f32;
            // omega_0 belongs to the function; what an optimizer sees is scaled anew below.
            let (omega, bound) = match index {
                0 => (omega.first, 1.0 / n),
                i if i == hidden => (1.0, (6.0 / n).sqrt() / omega.hidden),
                _ => (omega.hidden, (6.0 / n).sqrt() / omega.hidden),
            };
            let mut uniform = |bound: f32| omega * rng.random_range(-bound..=bound);
            file_order.extend((0..outputs * inputs).map(|_| uniform(bound)));
            match index == hidden {
                true => file_order.extend(mean),
                false => file_order.extend((0..outputs).map(|_| uniform(1.0 / n.sqrt()))),
            }
        }
        shorten_biases(topology, &mut file_order);
        let siren = Siren::from_weights(topology.clone(), &file_order)
            .map_err(|error| EncodeError::Settings(error.to_string()))?;
        Self::from_siren(&siren, omega, device)
    }

    /// A model that computes what `siren` does.
    pub fn from_siren(
        siren: &Siren,
        omega: TrainingOmega,
        device: &Device,
    ) -> Result<Self, EncodeError> {
        let topology = siren.topology();
        let scales = scales(topology, omega);
        let layers: candle_core::Result<_> = siren
            .layers()
            .iter()
            .zip(&scales)
            .map(|(layer, &scale)| {
                let rows = layer.weights.chunks_exact(layer.inputs).zip(&layer.biases);
                let rows = rows.flat_map(|(row, bias)| row.iter().chain([bias]));
                let weights: Vec<f32> = rows.map(|w| w / scale).collect();
                let shape = (layer.outputs, layer.inputs + 1);
                let weights = Var::from_vec(weights, shape, device)?;
                Ok(TrainedLayer { weights, scale: scale.into(), steps: None })
            })
            .collect();
        let fused = FusedLoss::new(topology, &scales);
        Ok(Self { topology: topology.clone(), layers: layers?, fused })
    }

    /// The trainable tensors, one a layer.
    pub fn variables(&self) -> Vec<Var> {
        self.layers.iter().map(|l| l.weights.clone()).collect()
    }

    /// A copy of all weights, without the layers' factors.
    pub fn weights(&self) -> Result<Vec<Tensor>, EncodeError> {
        Ok(self.variables().iter().map(|v| v.as_tensor().copy()).collect::<Result<_, _>>()?)
    }

    /// Puts back a copy taken by [`Model::weights`].
    pub fn set_weights(&self, weights: &[Tensor]) -> Result<(), EncodeError> {
        for (variable, weights) in self.variables().iter().zip(weights) {
            variable.set(weights)?;
        }
        Ok(())
    }

    /// From now on the network is evaluated with its weights rounded to these steps, while
    /// gradients reach the weights themselves (straight-through; Bengio et al. 2013,
    /// arXiv 1308.3432).
    ///
    /// # Panics
    /// If there is not one pair of steps a layer.
    pub fn quantize(&mut self, steps: &[Steps]) -> Result<(), EncodeError> {
        assert_eq!(steps.len(), self.layers.len(), "a pair of steps for each layer");
        for (layer, steps) in self.layers.iter_mut().zip(steps) {
            let inputs = layer.weights.dim(1)? - 1;
            let size = |code| (compact::step_size(code) / layer.scale) as f32;
            let mut row = vec![size(steps.weights); inputs];
            row.push(size(steps.biases));
            layer.steps = Some(Tensor::from_vec(row, (1, inputs + 1), layer.weights.device())?);
        }
        Ok(())
    }

    /// The sensitivities of the layers at the points of a batch.
    pub(super) fn sensitivities(
        &self,
        batch: &Batch,
        rng: &mut impl Rng,
    ) -> Result<Vec<Sensitivity>, EncodeError> {
        let inputs = batch.inputs.to_device(&Device::Cpu)?;
        let weights = self.evaluated()?.to_device(&Device::Cpu)?;
        let count = self.topology.channels().count() * inputs.dim(1)?;
        let signs = (0..count).map(|_| if rng.random() { 1.0 } else { -1.0 });
        let signs: Vec<f32> = signs.collect();
        Ok(self.fused.sensitivities(&weights, &inputs, &signs)?)
    }

    /// The network, factors folded in, weights not rounded.
    pub fn siren(&self) -> Result<Siren, EncodeError> {
        let mut weights = Vec::with_capacity(self.topology.weight_count());
        for layer in &self.layers {
            let rows = layer.weights.affine(layer.scale, 0.0)?.to_vec2::<f32>()?;
            let inputs = rows[0].len() - 1;
            weights.extend(rows.iter().flat_map(|row| &row[..inputs]));
            weights.extend(rows.iter().map(|row| row[inputs]));
        }
        Siren::from_weights(self.topology.clone(), &weights)
            .map_err(|error| EncodeError::Verification(error.to_string()))
    }

    /// The loss of a batch and its gradients.
    pub(super) fn loss_and_gradients(
        &self,
        batch: &Batch,
    ) -> Result<(f64, GradStore), EncodeError> {
        let loss = self.loss(&batch.inputs, &batch.targets)?;
        Ok((f64::from(loss.to_scalar::<f32>()?), loss.backward()?))
    }

    /// The same by `compute`, which is given the weights that the network is evaluated with, as
    /// [`FusedLoss`] has them, and gives the loss and its gradient for them.
    #[cfg(feature = "gpu")]
    pub(super) fn loss_and_gradients_by<E>(
        &self,
        compute: impl FnOnce(&[f32]) -> Result<(f64, Vec<f32>), E>,
    ) -> Result<Result<(f64, GradStore), E>, EncodeError> {
        let weights = self.evaluated()?;
        Ok(match compute(&weights.to_vec1()?) {
            Ok((loss, gradient)) => {
                Ok((loss, fused::with_gradient(&weights, loss, gradient)?.backward()?))
            }
            Err(error) => Err(error),
        })
    }

    /// The factor of every layer.
    #[cfg(feature = "gpu")]
    pub(super) fn scales(&self) -> Vec<f32> {
        self.layers.iter().map(|layer| layer.scale as f32).collect()
    }

    /// The mean squared error of a batch, in the range of the outputs: by the fused kernel
    /// on the CPU, else by candle's operations.
    ///
    /// `inputs` is `[2, points]`; `targets` is `[channels + 1, points]`, the last row the
    /// weight of each point, to which that of colours adds the square of the target's alpha.
    ///
    /// # Errors
    /// candle's, for other shapes than these.
    pub fn loss(&self, inputs: &Tensor, targets: &Tensor) -> candle_core::Result<Tensor> {
        if !inputs.device().is_cpu() {
            return self.reference_loss(inputs, targets);
        }
        self.fused.loss(&self.evaluated()?, inputs, targets)
    }

    /// The weights of all layers that the network is evaluated with, as [`FusedLoss`] has them.
    fn evaluated(&self) -> candle_core::Result<Tensor> {
        let weights = self.layers.iter().map(|l| l.evaluated()?.flatten_all());
        Tensor::cat(&weights.collect::<candle_core::Result<Vec<_>>>()?, 0)
    }

    /// The same by candle's operations on any device: the reference.
    ///
    /// # Errors
    /// As [`Model::loss`].
    pub fn reference_loss(&self, inputs: &Tensor, targets: &Tensor) -> candle_core::Result<Tensor> {
        let has_alpha = self.topology.channels().has_alpha();
        let channels = self.topology.channels().count();
        let weights = targets.narrow(0, channels, 1)?;
        let errors = (self.forward(inputs)? - targets.narrow(0, 0, channels)?)?;
        let errors = errors.sqr()?.broadcast_mul(&weights)?;
        if !has_alpha {
            return errors.mean_all();
        }
        let colours = channels - 1;
        let alpha = targets.narrow(0, colours, 1)?.affine(0.5, 0.5)?;
        let of_colours = errors.narrow(0, 0, colours)?.broadcast_mul(&alpha.sqr()?)?;
        Tensor::cat(&[of_colours, errors.narrow(0, colours, 1)?], 0)?.mean_all()
    }

    /// `[2, points]` to `[channels, points]`.
    fn forward(&self, inputs: &Tensor) -> candle_core::Result<Tensor> {
        let mut h = inputs.clone();
        let (output, hidden) = self.layers.split_last().expect("a network has layers");
        for layer in hidden {
            h = layer.affine(&h)?.sin()?;
        }
        output.affine(&h)
    }
}

/// The learning rate of the first layer, and of the last but for [`OUTPUT_RATE`]; those
/// between grow evenly. Errors of the first layers grow on their way through the others
/// (docs/experiments.md).
const FIRST_RATE: f32 = 0.5;
const LAST_RATE: f32 = 2.0;
/// The output layer has no omega_0 that would speed it up.
const OUTPUT_RATE: f32 = 3.0;

/// The factor of every layer: omega_0 times the layer's learning rate.
fn scales(topology: &Topology, omega: TrainingOmega) -> Vec<f32> {
    let hidden = topology.hidden().len();
    let scale = |layer: usize| {
        let depth = layer as f32 / hidden as f32;
        let omega = match layer {
            0 => omega.first,
            l if l == hidden => OUTPUT_RATE,
            _ => omega.hidden,
        };
        omega * FIRST_RATE.powf(1.0 - depth) * LAST_RATE.powf(depth)
    };
    (0..=hidden).map(scale).collect()
}

/// Brings the biases of hidden layers to -pi/2 to pi/2, which takes fewer bits, without a
/// change of the function: `sin(a + pi) = -sin(a)`. `weights` are in file order.
fn shorten_biases(topology: &Topology, weights: &mut [f32]) {
    let mut rest = weights;
    let mut flip: Vec<bool> = Vec::new();
    let hidden = topology.hidden().len();
    for (index, (inputs, outputs)) in topology.layers().enumerate() {
        let (layer, tail) = rest.split_at_mut((inputs + 1) * outputs);
        let (matrix, biases) = layer.split_at_mut(inputs * outputs);
        for row in matrix.chunks_exact_mut(inputs) {
            row.iter_mut().zip(&flip).filter(|(_, flip)| **flip).for_each(|(w, _)| *w = -*w);
        }
        if index < hidden {
            let turns = |bias: &f32| (bias / PI).round();
            flip = biases.iter().map(|bias| turns(bias) % 2.0 != 0.0).collect();
            biases.iter_mut().for_each(|bias| *bias -= PI * turns(bias));
        }
        rest = tail;
    }
}

impl TrainedLayer {
    /// The weights that the network is evaluated with.
    fn evaluated(&self) -> candle_core::Result<Tensor> {
        let Some(steps) = &self.steps else { return Ok(self.weights.as_tensor().clone()) };
        let weights = self.weights.as_tensor();
        let detached = weights.detach();
        let rounded = detached.broadcast_div(steps)?.round()?.broadcast_mul(steps)?;
        weights + (rounded - detached)?
    }

    /// `scale (W h + b)`, the factor applied to the small tensors.
    fn affine(&self, h: &Tensor) -> candle_core::Result<Tensor> {
        let inputs = self.weights.dim(1)? - 1;
        let scaled = self.evaluated()?.affine(self.scale, 0.0)?;
        let weights = scaled.narrow(1, 0, inputs)?;
        weights.matmul(h)?.broadcast_add(&scaled.narrow(1, inputs, 1)?)
    }
}
