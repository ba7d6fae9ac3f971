//! What a device computes for the training of latents: how the networks see them, the picture's error,
//! the latents' bits, the gradients of both, and the latents' own update by Adam. The CPU (`cpu`) and
//! a GPU do. The optimizers of the networks and the schedule are elsewhere.

use super::synthesis::Picture;
use siren_image::DeviceError;
use siren_image::coding::payload::Hidden;
use siren_image::latents::Bases;

/// Sizes of planes and networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// The planes.
    pub bases: Bases,
    /// Width and height of each in latents, the finest first.
    pub planes: Vec<(usize, usize)>,
    /// Features of the sine layer.
    pub sines: usize,
    /// Features of the hidden layers of the entropy models.
    pub hidden: Hidden,
    /// Channels of the picture.
    pub channels: usize,
}

/// The picture at 1 / 2^shift of its size, for the planes from `base` on: latents of the finest of
/// these are no denser than its pixels.
#[derive(Debug, Clone, Copy)]
pub struct Stage<'a> {
    /// The finest plane in use.
    pub base: usize,
    /// How often the picture's size was halved.
    pub shift: usize,
    /// The pixels that are trained on.
    pub picture: &'a Picture<'a>,
}

/// Rows of weights, each with its bias at the end, or their gradients: of the sine layer and the
/// output layer, for the planes in use, and of the entropy models.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// A row a feature: a weight for each plane in use, and the bias.
    pub sine: Vec<f32>,
    /// A row a channel: a weight for each feature and for each plane in use, and the bias.
    pub output: Vec<f32>,
    /// Both hidden layers and the output layer of the model of splines and, where there are waves,
    /// of theirs.
    pub entropy: Vec<[Vec<f32>; 3]>,
}

/// How the networks see the latents.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rounding {
    /// As in the step before.
    Kept,
    /// Rounded to the nearest.
    Hard,
    /// Rounded softly, with Kumaraswamy's noise (Kim et al. 2023, section 3.1).
    Soft {
        /// Temperature of the rounding.
        temperature: f64,
        /// Parameter of the noise.
        noise: f64,
    },
}

/// Adam on the latents.
#[derive(Debug, Clone, PartialEq)]
pub struct LatentUpdate {
    /// What a bit weighs against the squared error.
    pub lambda: f64,
    /// Adam's decays.
    pub betas: (f64, f64),
    /// For each plane in use the rate with the first moment's bias corrected, and 1 over the root
    /// of the second's bias.
    pub rates: Vec<(f32, f32)>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// How the networks see the latents.
    pub rounding: Rounding,
    /// Nothing where the latents stay as they are.
    pub update: Option<LatentUpdate>,
    /// One of so many parts of the picture, and of the latents, gives gradients of the weights.
    pub shares: [usize; 2],
    /// Number of the step.
    pub number: u32,
    /// Seed of the noise of all steps.
    pub seed: u64,
}

impl Stage<'_> {
    /// The samples in [-1, 1], the channels of a pixel side by side.
    pub fn interleaved(&self) -> Vec<f32> {
        let &Picture { width, height, channels, .. } = self.picture;
        let mut samples = vec![0.0; width * height * channels];
        let mut row = vec![0.0; width];
        for (y, samples) in samples.chunks_exact_mut(width * channels).enumerate() {
            for channel in 0..channels {
                self.picture.samples(channel, y * width, 1, &mut row);
                let to = samples[channel..].iter_mut().step_by(channels);
                to.zip(&row).for_each(|(to, sample)| *to = *sample);
            }
        }
        samples
    }
}

impl Step {
    /// A seed of its own.
    pub fn key(&self) -> u64 {
        mix(self.seed ^ mix(self.number.into()))
    }
}

/// Spreads bits (splitmix64).
pub(super) fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// What a step gives, from before its update.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Squared errors in [0, 1] of the clamped outputs, averaged over the channels, summed over
    /// the whole picture's pixels.
    pub error: f64,
    /// Bits of the latents.
    pub bits: f64,
    /// Gradients of the weights.
    pub gradients: Weights,
}

/// Has the latents, and computes the steps of a training. Numbers of latents are a value and the means
/// of its gradients and of their squares, plane after plane, the finest first.
pub trait Stepper: Send {
    /// One step on a stage. Stages follow one another from coarse to fine.
    ///
    /// # Errors
    /// The device's; the CPU has none.
    fn step(
        &mut self,
        stage: &Stage,
        weights: &Weights,
        step: &Step,
    ) -> Result<Outcome, DeviceError>;

    /// The latents of all planes.
    ///
    /// # Errors
    /// The device's.
    fn latents(&self) -> Result<Vec<[f32; 3]>, DeviceError>;

    /// Sets what [`Stepper::latents`] gives.
    ///
    /// # Errors
    /// The device's.
    fn set_latents(&mut self, latents: &[[f32; 3]]) -> Result<(), DeviceError>;
}
