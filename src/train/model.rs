//! The reference model: a SIREN written in candle tensors, on any device.
//!
//! Activations are `[features, points]`, so that matrix products, biases and sums run
//! along contiguous points.

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use rand::Rng;

use super::fused::FusedLoss;
use super::sampling::Batch;
use crate::container::TrainingOmega;
use crate::error::EncodeError;
use crate::network::{Siren, Topology};

/// Trainable weights, one tensor `[W | b]` of `[outputs, inputs + 1]` a layer. omega_0 is a
/// factor beside them here and folded into them in [`Model::siren`], so that an optimizer's
/// step size means the same in every layer.
pub(super) struct Model {
    topology: Topology,
    layers: Vec<TrainedLayer>,
    fused: FusedLoss,
}

struct TrainedLayer {
    weights: Var,
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
            let mut uniform = |bound: f32| rng.random_range(-bound..=bound);
            let mut weights = Vec::with_capacity(outputs * (inputs + 1));
            for output in 0..outputs {
                weights.extend((0..inputs).map(|_| uniform(bound)));
                weights.push(if index == last { mean[output] } else { uniform(1.0 / n.sqrt()) });
            }
            layers.push(weights);
        }
        Self::from_layers(topology, omega, layers, device)
    }

    /// A model that computes what `siren` does.
    pub fn from_siren(
        siren: &Siren,
        omega: TrainingOmega,
        device: &Device,
    ) -> Result<Self, EncodeError> {
        let factors = factors(siren.topology(), omega);
        let layers = siren.layers().iter().zip(factors).map(|(layer, omega)| {
            let rows = layer.weights.chunks_exact(layer.inputs).zip(&layer.biases);
            rows.flat_map(|(row, bias)| row.iter().chain([bias])).map(|w| w / omega).collect()
        });
        Self::from_layers(siren.topology(), omega, layers.collect(), device)
    }

    fn from_layers(
        topology: &Topology,
        omega: TrainingOmega,
        layers: Vec<Vec<f32>>,
        device: &Device,
    ) -> Result<Self, EncodeError> {
        let factors: Vec<f32> = factors(topology, omega).collect();
        let shapes = topology.layers().zip(&factors);
        let layers: candle_core::Result<_> = layers
            .into_iter()
            .zip(shapes)
            .map(|(weights, ((inputs, outputs), &omega))| {
                let weights = Var::from_vec(weights, (outputs, inputs + 1), device)?;
                Ok(TrainedLayer { weights, omega: omega.into() })
            })
            .collect();
        let fused = FusedLoss::new(topology, &factors);
        Ok(Self { topology: topology.clone(), layers: layers?, fused })
    }

    /// The trainable tensors, one a layer.
    pub fn variables(&self) -> Vec<Var> {
        self.layers.iter().map(|l| l.weights.clone()).collect()
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
            let rows = layer.weights.affine(layer.omega, 0.0)?.to_vec2::<f32>()?;
            let inputs = rows[0].len() - 1;
            weights.extend(rows.iter().flat_map(|row| &row[..inputs]));
            weights.extend(rows.iter().map(|row| row[inputs]));
        }
        Siren::from_weights(self.topology.clone(), &weights)
            .map_err(|error| EncodeError::Verification(error.to_string()))
    }

    /// Mean squared error of a batch, in the range of the outputs, and its gradients.
    pub fn loss_and_gradients(&self, batch: &Batch) -> Result<(f64, GradStore), EncodeError> {
        let loss = self.loss(&batch.inputs, &batch.targets)?;
        Ok((f64::from(loss.to_scalar::<f32>()?), loss.backward()?))
    }

    /// The loss by the fused kernel where there is one, else by candle's operations.
    fn loss(&self, inputs: &Tensor, targets: &Tensor) -> candle_core::Result<Tensor> {
        if !inputs.device().is_cpu() {
            return self.reference_loss(inputs, targets);
        }
        let weights = self.layers.iter().map(|l| l.weights.flatten_all());
        let weights = Tensor::cat(&weights.collect::<candle_core::Result<Vec<_>>>()?, 0)?;
        self.fused.loss(&weights, inputs, targets)
    }

    /// The loss by candle's operations.
    fn reference_loss(&self, inputs: &Tensor, targets: &Tensor) -> candle_core::Result<Tensor> {
        (self.forward(inputs)? - targets)?.sqr()?.mean_all()
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

/// omega_0 of every layer, 1 for the output layer.
fn factors(topology: &Topology, omega: TrainingOmega) -> impl Iterator<Item = f32> {
    let hidden = topology.hidden().len();
    (0..=hidden).map(move |layer| match layer {
        0 => omega.first,
        l if l == hidden => 1.0,
        _ => omega.hidden,
    })
}

impl TrainedLayer {
    /// `omega_0 (W h + b)`, the factor applied to the small tensors.
    fn affine(&self, h: &Tensor) -> candle_core::Result<Tensor> {
        let inputs = self.weights.dim(1)? - 1;
        let scaled = self.weights.affine(self.omega, 0.0)?;
        let weights = scaled.narrow(1, 0, inputs)?;
        weights.matmul(h)?.broadcast_add(&scaled.narrow(1, inputs, 1)?)
    }
}
