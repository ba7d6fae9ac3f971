//! The reference model: a SIREN written in candle tensors, on any device.
//!
//! Activations are `[features, points]`, so that matrix products, biases and sums run
//! along contiguous points.

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use rand::Rng;
use rayon::prelude::*;

use super::sampling::Batch;
use crate::container::TrainingOmega;
use crate::error::EncodeError;
use crate::network::{Siren, Topology};

/// Points that go through the layers together on the CPU. At 2,048 the activations of a
/// typical network stay in cache; 8,192 take twice as long a point.
const CPU_SHARD: usize = 2048;

/// From this many features on, candle's matrix products use all cores by themselves;
/// shards that run side by side would only fight over them.
const WIDE: usize = 64;

/// Trainable weights. omega_0 is a factor beside them here and folded into them in
/// [`Model::siren`], so that Adam's step size means the same in every layer.
pub(super) struct Model {
    topology: Topology,
    layers: Vec<TrainedLayer>,
}

struct TrainedLayer {
    weights: Var,
    biases: Var,
    omega: f64,
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
        let last = topology.hidden().len();
        let mut layers = Vec::new();
        for (index, (inputs, outputs)) in topology.layers().enumerate() {
            let n = inputs as f32;
            let bound = if index == 0 { 1.0 / n } else { (6.0 / n).sqrt() / omega.hidden };
            let omega = match index {
                0 => omega.first,
                i if i == last => 1.0,
                _ => omega.hidden,
            };
            let mut uniform = |count: usize, bound: f32| -> Vec<f32> {
                (0..count).map(|_| rng.random_range(-bound..=bound)).collect()
            };
            let weights = uniform(outputs * inputs, bound);
            let biases =
                if index == last { mean.to_vec() } else { uniform(outputs, 1.0 / n.sqrt()) };
            layers.push(TrainedLayer {
                weights: Var::from_vec(weights, (outputs, inputs), device)?,
                biases: Var::from_vec(biases, (outputs, 1), device)?,
                omega: omega.into(),
            });
        }
        Ok(Self { topology: topology.clone(), layers })
    }

    /// The trainable tensors, weights and biases of each layer in turn.
    pub fn variables(&self) -> Vec<Var> {
        self.layers.iter().flat_map(|l| [l.weights.clone(), l.biases.clone()]).collect()
    }

    /// A copy of all weights, without omega_0.
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

    /// The network with omega_0 folded in.
    pub fn siren(&self) -> Result<Siren, EncodeError> {
        let mut weights = Vec::with_capacity(self.topology.weight_count());
        for layer in &self.layers {
            for tensor in [layer.weights.as_tensor(), layer.biases.as_tensor()] {
                let scaled = tensor.affine(layer.omega, 0.0)?;
                weights.extend(scaled.flatten_all()?.to_vec1::<f32>()?);
            }
        }
        Siren::from_weights(self.topology.clone(), &weights)
            .map_err(|error| EncodeError::Verification(error.to_string()))
    }

    /// Mean squared error of a batch, in the range of the outputs, and its gradients.
    pub fn loss_and_gradients(
        &self,
        batch: &Batch,
        device: &Device,
    ) -> Result<(f64, GradStore), EncodeError> {
        let points = batch.points();
        let shard = if device.is_cpu() { CPU_SHARD } else { points };
        let starts: Vec<usize> = (0..points).step_by(shard).collect();
        let shard_gradients = |start: usize| {
            let part = start..(start + shard).min(points);
            let len = part.len();
            let channels = self.topology.channels().count();
            let (inputs, targets) = batch.columns(part);
            let inputs = Tensor::from_vec(inputs, (2, len), device)?;
            let targets = Tensor::from_vec(targets, (channels, len), device)?;
            let error = (self.forward(&inputs)? - targets)?.sqr()?.sum_all()?;
            let loss = error.affine(1.0 / (points * channels) as f64, 0.0)?;
            Ok((f64::from(loss.to_scalar::<f32>()?), loss.backward()?))
        };
        let wide = self.topology.hidden().iter().any(|&features| features >= WIDE);
        let parts: candle_core::Result<Vec<_>> = if wide {
            starts.into_iter().map(shard_gradients).collect()
        } else {
            starts.into_par_iter().map(shard_gradients).collect()
        };
        // Summed in the order of the points, whatever thread finished first.
        let mut parts = parts?.into_iter();
        let (mut loss, mut gradients) = parts.next().expect("a batch has points");
        for (part_loss, part) in parts {
            loss += part_loss;
            for variable in self.variables() {
                if let (Some(sum), Some(part)) = (gradients.get(&variable), part.get(&variable)) {
                    let sum = (sum + part)?;
                    gradients.insert(&variable, sum);
                }
            }
        }
        Ok((loss, gradients))
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

impl TrainedLayer {
    /// `omega_0 (W h + b)`, the factor applied to the small tensors.
    fn affine(&self, h: &Tensor) -> candle_core::Result<Tensor> {
        let weights = self.weights.affine(self.omega, 0.0)?;
        let biases = self.biases.affine(self.omega, 0.0)?;
        weights.matmul(h)?.broadcast_add(&biases)
    }
}
