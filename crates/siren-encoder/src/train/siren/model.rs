//! A SIREN in training: its weights, the factors that make them easy to train, and how they are
//! rounded. Slices of numbers; knows no pictures, no schedule and no device.

use std::borrow::Cow;
use std::f32::consts::PI;

use rand::Rng;

use super::stepper::LayerPlace;
use crate::error::EncodeError;
use siren_image::coding::compact::{self, Steps};
use siren_image::container::TrainingOmega;
use siren_image::network::{Siren, Topology};

/// Trainable weights, layer by layer rows `[W | b]` of `inputs + 1`. Each layer has a factor beside
/// them, omega_0 and a learning rate of its own, that is folded into them in [`SirenModel::siren`]: an
/// optimizer's steps are as large as the factor says.
#[derive(Debug, Clone)]
pub struct SirenModel {
    topology: Topology,
    layers: Vec<LayerPlace>,
    weights: Vec<f32>,
    /// Step sizes of each layer's weights and biases, once they are rounded.
    steps: Option<Vec<[f32; 2]>>,
}

impl SirenModel {
    /// SIREN initialization (Sitzmann et al. 2020, section 3.2 and supplement 1.5):
    /// first layer uniform in +-1/n, others uniform in +-sqrt(6/n)/omega_0 for n inputs;
    /// biases uniform in +-1/sqrt(n), as in the authors' code. The output biases start at
    /// `mean`, one value a channel, so that nothing needs to be unlearned first.
    ///
    /// # Errors
    /// [`EncodeError::Settings`] where a weight is not finite.
    pub fn initialize(
        topology: &Topology,
        omega: TrainingOmega,
        mean: &[f32],
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
        Ok(Self::from_siren(&siren, omega))
    }

    /// A model that computes what `siren` does.
    pub fn from_siren(siren: &Siren, omega: TrainingOmega) -> Self {
        let topology = siren.topology();
        let layers = LayerPlace::all(topology, &scales(topology, omega));
        let mut weights = Vec::with_capacity(topology.weight_count());
        for (layer, LayerPlace { scale, .. }) in siren.layers().iter().zip(&layers) {
            let rows = layer.weights.chunks_exact(layer.inputs).zip(&layer.biases);
            let rows = rows.flat_map(|(row, bias)| row.iter().chain([bias]));
            weights.extend(rows.map(|w| w / scale));
        }
        Self { topology: topology.clone(), layers, weights, steps: None }
    }

    /// The factor of every layer.
    pub fn scales(&self) -> Vec<f32> {
        self.layers.iter().map(|layer| layer.scale).collect()
    }

    /// All weights, without the layers' factors.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The same for an optimizer, or to put back a copy.
    pub fn weights_mut(&mut self) -> &mut [f32] {
        &mut self.weights
    }

    pub(super) fn layers(&self) -> &[LayerPlace] {
        &self.layers
    }

    /// From now on the network is evaluated with its weights rounded to these steps, while
    /// gradients reach the weights themselves (straight-through; Bengio et al. 2013,
    /// arXiv 1308.3432).
    ///
    /// # Panics
    /// If there is not one pair of steps a layer.
    pub(crate) fn quantize(&mut self, steps: &[Steps]) {
        assert_eq!(steps.len(), self.layers.len(), "a pair of steps for each layer");
        let sizes = self.layers.iter().zip(steps).map(|(layer, steps)| {
            let size = |code| (compact::step_size(code) / f64::from(layer.scale)) as f32;
            [size(steps.weights), size(steps.biases)]
        });
        self.steps = Some(sizes.collect());
    }

    /// The weights that the network is evaluated with, as [`Stepper`](super::Stepper) takes them.
    pub fn evaluated(&self) -> Cow<'_, [f32]> {
        let Some(steps) = &self.steps else { return Cow::Borrowed(&self.weights) };
        let mut rounded = self.weights.clone();
        for (layer, [weight, bias]) in self.layers.iter().zip(steps) {
            for row in rounded[layer.range()].chunks_exact_mut(layer.inputs + 1) {
                for (k, value) in row.iter_mut().enumerate() {
                    let step = if k < layer.inputs { weight } else { bias };
                    *value = (*value / step).round() * step;
                }
            }
        }
        Cow::Owned(rounded)
    }

    /// The network, factors folded in, weights not rounded.
    ///
    /// # Errors
    /// [`EncodeError::Verification`] where a weight is not finite.
    pub fn siren(&self) -> Result<Siren, EncodeError> {
        let mut file_order = Vec::with_capacity(self.weights.len());
        for layer in &self.layers {
            let rows = || self.weights[layer.range()].chunks_exact(layer.inputs + 1);
            let scaled = |w: &f32| w * layer.scale;
            file_order.extend(rows().flat_map(|row| row[..layer.inputs].iter().map(scaled)));
            file_order.extend(rows().map(|row| scaled(&row[layer.inputs])));
        }
        Siren::from_weights(self.topology.clone(), &file_order)
            .map_err(|error| EncodeError::Verification(error.to_string()))
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
