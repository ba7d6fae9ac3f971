//! The CPU's training step of a SIREN: forward pass, loss and backward pass of a batch in one sweep.
//! A block of points goes forward and back through all layers while it is in cache; candle's own
//! operations (`reference`) send every intermediate result through memory.

use std::ops::Range;

use rayon::prelude::*;

use super::stepper::{Batch, LayerPlace, Step, Stepper, Task, TrainingPixels, WeightedPixel};
use crate::quantize::Sensitivity;
use crate::train::spare::Spare;
use siren_image::DeviceError;
use siren_kernel::{Activation, Affine, LANES, Matrix, Simd, add_outer};

/// Bytes of activations that a block may take, and the most points. Longer rows outweigh a
/// stay in the second-level cache: 512 points of 10x28 (1.2 MB) are 5 % faster than 256.
const BLOCK_BYTES: usize = 3 << 19;
const MAX_BLOCK: usize = 512;
/// Points whose gradients are summed by one thread. Shards depend on the batch alone, so
/// sums have the same order on any number of threads.
const SHARD: usize = 512;
/// Most shards of a batch; each holds a copy of the gradient.
const MAX_SHARDS: usize = 32;

/// A picture and a network whose steps are computed on all cores.
#[derive(Debug)]
pub struct Fused<'a> {
    picture: TrainingPixels<'a>,
    layers: Vec<LayerPlace>,
    simd: Simd,
    spare: Spare<FusedScratch>,
}

/// A layer as the kernels read it, its factor folded in.
struct PackedLayer {
    forward: Affine,
    backward: Matrix,
}

/// Activations of one block.
#[derive(Debug)]
struct FusedScratch {
    /// Inputs of each layer, below them a row of ones for the biases.
    h: Vec<Vec<f32>>,
    /// Cosines of each hidden layer.
    slope: Vec<Vec<f32>>,
    /// Samples of the points, a row a channel, and the points' weights.
    targets: Vec<f32>,
    weights: Vec<f32>,
    /// Outputs, and gradients of the affine outputs of a layer and of the one before it.
    delta: Vec<f32>,
    previous: Vec<f32>,
}

impl Stepper for Fused<'_> {
    fn step(&mut self, weights: &[f32], batch: Batch) -> Result<Step, DeviceError> {
        Ok(self.loss_and_gradient(weights, batch))
    }
}

/// Points of each shard of a batch.
fn shard(points: usize) -> usize {
    SHARD.max(points.div_ceil(MAX_SHARDS).next_multiple_of(LANES))
}

/// Threads that a batch of so many points can occupy.
pub(super) fn most_threads(points: usize) -> usize {
    points.div_ceil(shard(points))
}

impl<'a> Fused<'a> {
    /// Prepares the steps of a task.
    ///
    /// # Panics
    /// If there is not one factor a layer, or the picture has other channels than the topology.
    pub fn new(task: &Task<'a>) -> Self {
        assert_eq!(task.raster.channels(), task.topology.channels(), "the picture's channels");
        Self {
            picture: TrainingPixels::new(task.raster),
            layers: LayerPlace::all(task.topology, &task.scales),
            simd: Simd::new(),
            spare: Spare::default(),
        }
    }

    fn loss_and_gradient(&self, weights: &[f32], batch: Batch) -> Step {
        let points = self.picture.points(batch);
        let packed = self.pack(weights);
        let shard = shard(points);
        let starts: Vec<usize> = (0..points).step_by(shard).collect();
        let new = || FusedScratch::new(&self.layers);
        let shards: Vec<(f64, Vec<f32>)> = starts
            .into_par_iter()
            .map(|start| {
                let points = start..points.min(start + shard);
                self.spare.with_or(new, |scratch| self.shard(&packed, batch, points, scratch))
            })
            .collect();
        let mut shards = shards.into_iter();
        let (mut error, mut gradient) = shards.next().expect("a batch has points");
        for (more, part) in shards {
            error += more;
            for (sum, part) in gradient.iter_mut().zip(part) {
                *sum += part;
            }
        }
        let mean = 1.0 / (points * self.picture.channels) as f64;
        for layer in &self.layers {
            let factor = (2.0 * mean * f64::from(layer.scale)) as f32;
            gradient[layer.range()].iter_mut().for_each(|g| *g *= factor);
        }
        Step { loss: error * mean, gradient }
    }

    /// The error of some points of a batch and its gradient, factors left out.
    fn shard(
        &self,
        packed: &[PackedLayer],
        batch: Batch,
        points: Range<usize>,
        scratch: &mut FusedScratch,
    ) -> (f64, Vec<f32>) {
        let mut gradient = vec![0.0; self.layers.iter().map(|layer| layer.range().len()).sum()];
        let mut error = 0.0;
        for first in points.clone().step_by(scratch.block()) {
            let count = scratch.block().min(points.end - first);
            let pixels = (first..first + count).map(|i| self.picture.pixel(batch, i));
            scratch.load(&self.picture, pixels);
            self.forward(packed, scratch);
            error += scratch.compare(count);
            self.backward(packed, scratch, |_, layer, delta, h| {
                let LayerPlace { inputs, outputs, .. } = layer;
                let part = &mut gradient[layer.range()];
                add_outer(self.simd, delta, outputs, h, inputs + 1, part);
            });
        }
        (error, gradient)
    }

    /// How much the outputs change with the weights of each layer, factors folded in: the
    /// mean over a layer's weights of the diagonal of the Gauss-Newton matrix, that is of the
    /// mean over pixels of the squared derivatives, summed over channels.
    ///
    /// `signs`, a row for each channel, are random numbers 1 and -1: the square of a sum of
    /// derivatives with random signs is on average the sum of their squares (Hutchinson's
    /// estimator).
    pub(super) fn sensitivities(
        &self,
        weights: &[f32],
        pixels: &[u32],
        signs: &[f32],
    ) -> Vec<Sensitivity> {
        let points = pixels.len();
        let packed = self.pack(weights);
        let mut scratch = FusedScratch::new(&self.layers);
        let block = scratch.block();
        let mut sums = vec![Sensitivity::default(); self.layers.len()];
        for first in (0..points).step_by(block) {
            let count = block.min(points - first);
            let here = pixels[first..first + count].iter();
            scratch.load(&self.picture, here.map(|&number| WeightedPixel { number, weight: 1.0 }));
            self.forward(&packed, &mut scratch);
            for (row, signs) in
                scratch.delta.chunks_exact_mut(block).zip(signs.chunks_exact(points))
            {
                row.fill(0.0);
                row[..count].copy_from_slice(&signs[first..first + count]);
            }
            self.backward(&packed, &mut scratch, |l, layer, delta, h| {
                // Sums over the rows, point by point.
                let squares = |rows: &[f32]| {
                    let mut sums = vec![0.0f32; block];
                    for row in rows.chunks_exact(block) {
                        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value * value);
                    }
                    sums
                };
                let delta = squares(delta);
                let h = squares(&h[..layer.inputs * block]);
                let product: f32 = delta.iter().zip(&h).map(|(d, h)| d * h).sum();
                sums[l].weights += f64::from(product) / layer.inputs as f64;
                sums[l].biases += f64::from(delta.iter().sum::<f32>());
            });
        }
        for (sum, layer) in sums.iter_mut().zip(&self.layers) {
            let count = (points * layer.outputs) as f64;
            sum.weights /= count;
            sum.biases /= count;
        }
        sums
    }

    fn pack(&self, weights: &[f32]) -> Vec<PackedLayer> {
        let pack = |layer: &LayerPlace| {
            let &LayerPlace { inputs, outputs, scale, start } = layer;
            let at = |o: usize, k: usize| scale * weights[start + o * (inputs + 1) + k];
            PackedLayer {
                forward: Affine::new(outputs, inputs, at),
                backward: Matrix::new(inputs, outputs, |k, o| at(o, k)),
            }
        };
        self.layers.iter().map(pack).collect()
    }

    /// Leaves the outputs in `scratch.delta`.
    fn forward(&self, packed: &[PackedLayer], scratch: &mut FusedScratch) {
        let block = scratch.block();
        let (output, hidden) = packed.split_last().expect("a network has layers");
        for (l, layer) in hidden.iter().enumerate() {
            let LayerPlace { inputs, outputs, .. } = self.layers[l];
            let (before, after) = scratch.h.split_at_mut(l + 1);
            let h = &before[l][..inputs * block];
            let out = &mut after[0][..outputs * block];
            let slope = &mut scratch.slope[l];
            layer.forward.layer_with_slope(self.simd, Activation::Sine, h, out, slope);
        }
        let LayerPlace { inputs, outputs, .. } = self.layers[hidden.len()];
        let h = &scratch.h[hidden.len()][..inputs * block];
        let out = &mut scratch.delta[..outputs * block];
        output.forward.layer(self.simd, Activation::Identity, h, out);
    }

    /// Carries gradients of the outputs, in `scratch.delta`, back through the layers. `visit`
    /// is given each layer, last to first, with the gradients of its affine outputs and with
    /// its inputs, below which stands a row of ones.
    fn backward(
        &self,
        packed: &[PackedLayer],
        scratch: &mut FusedScratch,
        mut visit: impl FnMut(usize, LayerPlace, &[f32], &[f32]),
    ) {
        let block = scratch.block();
        for (l, layer) in packed.iter().enumerate().rev() {
            let here = self.layers[l];
            let LayerPlace { inputs, outputs, .. } = here;
            let delta = &scratch.delta[..outputs * block];
            visit(l, here, delta, &scratch.h[l]);
            if l > 0 {
                let slope = &scratch.slope[l - 1];
                let previous = &mut scratch.previous[..inputs * block];
                layer.backward.product_times(self.simd, delta, slope, previous);
                std::mem::swap(&mut scratch.delta, &mut scratch.previous);
            }
        }
    }
}

impl FusedScratch {
    fn new(layers: &[LayerPlace]) -> Self {
        let rows: usize = layers.iter().map(|l| l.inputs + 1 + l.outputs).sum();
        // A power of two, so that shards are whole blocks.
        let affordable = (BLOCK_BYTES / (4 * rows)).clamp(LANES, MAX_BLOCK);
        let block = 1 << affordable.ilog2();
        let widest = layers.iter().map(|l| l.inputs.max(l.outputs)).max().unwrap_or(1);
        let hidden = layers.len() - 1;
        Self {
            h: layers.iter().map(|l| vec![1.0; (l.inputs + 1) * block]).collect(),
            targets: vec![0.0; layers[hidden].outputs * block],
            weights: vec![0.0; block],
            slope: layers[..hidden].iter().map(|l| vec![0.0; l.outputs * block]).collect(),
            delta: vec![0.0; widest * block],
            previous: vec![0.0; widest * block],
        }
    }

    /// Points of a block.
    fn block(&self) -> usize {
        // x, y and the ones.
        self.h[0].len() / 3
    }

    /// Takes in the pixels of a block; the rest of it keeps pixels of earlier blocks.
    fn load(
        &mut self,
        picture: &TrainingPixels,
        pixels: impl Iterator<Item = WeightedPixel> + Clone,
    ) {
        let block = self.block();
        let (x, y) = self.h[0].split_at_mut(block);
        let places = x.iter_mut().zip(y).zip(&mut self.weights);
        for (((x, y), of_pixel), WeightedPixel { number, weight }) in places.zip(pixels.clone()) {
            (*x, *y) = picture.place(number);
            *of_pixel = weight;
        }
        let targets = &mut self.targets;
        picture.targets(pixels.map(|pixel| pixel.number), |i, channel, sample| {
            targets[channel * block + i] = sample;
        });
    }

    /// Turns outputs into weighted errors, zero beyond `count` points; returns the sum of
    /// weight times squared error. The weights of colours are the pixels' times the square of their
    /// alpha, which makes the error that of premultiplied colours.
    fn compare(&mut self, count: usize) -> f64 {
        let block = self.block();
        let channels = self.targets.len() / block;
        let alpha = channels.is_multiple_of(2).then(|| &self.targets[(channels - 1) * block..]);
        let of_colours: Option<Vec<f32>> = alpha.map(|alpha| {
            let alpha = alpha[..count].iter().map(|target| 0.5 * (target + 1.0));
            alpha.zip(&self.weights).map(|(alpha, weight)| weight * alpha * alpha).collect()
        });
        let mut sum = 0.0;
        let rows = self.delta.chunks_exact_mut(block).zip(self.targets.chunks_exact(block));
        for (channel, (row, targets)) in rows.enumerate() {
            let (used, unused) = row.split_at_mut(count);
            let mut row_sum = 0.0;
            let weights = match &of_colours {
                Some(weights) if channel + 1 < channels => weights,
                _ => &self.weights,
            };
            for (value, (target, weight)) in used.iter_mut().zip(targets.iter().zip(weights)) {
                let error = *value - target;
                *value = weight * error;
                row_sum += *value * error;
            }
            sum += f64::from(row_sum);
            unused.fill(0.0);
        }
        sum
    }
}
