//! Forward pass, loss and backward pass of a batch in one sweep, as a candle custom op for
//! the CPU. A block of points goes forward and back through all layers while it is in
//! cache; candle's own operations send every intermediate result through memory.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::kernel::{Activation, LANES, Level, Matrix, add_outer};
use crate::network::Topology;
use crate::quantize::Sensitivity;

/// Bytes of activations that a block may take, and the most points. Longer rows outweigh a
/// stay in the second-level cache: 512 points of 10x28 (1.2 MB) are 5 % faster than 256.
const BLOCK_BYTES: usize = 3 << 19;
const MAX_BLOCK: usize = 512;
/// Points whose gradients are summed by one thread. Shards depend on the batch alone, so
/// sums have the same order on any number of threads.
const SHARD: usize = 512;
/// Most shards of a batch; each holds a copy of the gradient.
const MAX_SHARDS: usize = 32;

/// Mean squared error of a SIREN on a batch, with its gradient.
///
/// A clone shares the working memory.
#[derive(Debug, Clone)]
pub struct FusedLoss {
    network: Arc<Network>,
}

#[derive(Debug)]
struct Network {
    layers: Vec<LayerShape>,
    level: Level,
    /// Working memory of threads that are not at work.
    spare: Mutex<Vec<Scratch>>,
}

#[derive(Debug, Clone, Copy)]
struct LayerShape {
    inputs: usize,
    outputs: usize,
    scale: f32,
    /// Place of the first weight among all.
    start: usize,
}

impl LayerShape {
    /// Places of the layer's weights and biases among all.
    fn range(self) -> Range<usize> {
        self.start..self.start + (self.inputs + 1) * self.outputs
    }
}

/// A layer as the kernels read it, its factor folded in.
struct Packed {
    forward: Matrix,
    backward: Matrix,
    biases: Vec<f32>,
}

/// Activations of one block.
#[derive(Debug)]
struct Scratch {
    /// Inputs of each layer, below them a row of ones for the biases.
    h: Vec<Vec<f32>>,
    /// Cosines of each hidden layer.
    slope: Vec<Vec<f32>>,
    /// Outputs, and gradients of the affine outputs of a layer and of the one before it.
    delta: Vec<f32>,
    previous: Vec<f32>,
}

impl FusedLoss {
    /// The loss for networks of `topology` whose layers compute
    /// `sin(scale (W h + b))`, the last one without the sine; `scales` has a factor for each
    /// layer.
    ///
    /// # Panics
    /// If `scales` has not one factor a layer.
    pub fn new(topology: &Topology, scales: &[f32]) -> Self {
        assert_eq!(scales.len(), topology.layers().count(), "a factor for each layer");
        let mut start = 0;
        let layers = topology
            .layers()
            .zip(scales)
            .map(|((inputs, outputs), &scale)| {
                let shape = LayerShape { inputs, outputs, scale, start };
                start = shape.range().end;
                shape
            })
            .collect();
        let network = Network { layers, level: Level::new(), spare: Mutex::default() };
        Self { network: Arc::new(network) }
    }

    /// The loss as a scalar tensor.
    ///
    /// `weights` is one dimension, f32: for each layer `[W | b]` row by row, `outputs` rows
    /// of `inputs + 1`. `inputs` is `[2, points]`; `targets` is `[channels + 1, points]`,
    /// the last row the weight of each point. Both are contiguous. The loss is the mean over
    /// points and channels of weight times squared error, that of colours times the square of
    /// the target's alpha where there is one. The gradient is that of `weights`
    /// alone; it is computed together with the loss.
    ///
    /// # Errors
    /// candle's, for other shapes and devices than these.
    pub fn loss(&self, weights: &Tensor, inputs: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let op = Op { network: self.network.clone(), gradient: Mutex::default() };
        weights.apply_op3(inputs, targets, op)
    }

    /// How much the outputs change with the weights of each layer, `scales` folded in: the
    /// mean over a layer's weights of the diagonal of the Gauss-Newton matrix, that is of the
    /// mean over points of the squared derivatives, summed over channels.
    ///
    /// Shapes as for [`FusedLoss::loss`]; `signs`, `[channels, points]`, are random numbers 1
    /// and -1: the square of a sum of derivatives with random signs is on average the sum of
    /// their squares (Hutchinson's estimator).
    pub(super) fn sensitivities(
        &self,
        weights: &Tensor,
        inputs: &Tensor,
        signs: &[f32],
    ) -> Result<Vec<Sensitivity>> {
        let weights = weights.to_vec1::<f32>()?;
        let inputs = inputs.flatten_all()?.to_vec1::<f32>()?;
        Ok(self.network.sensitivities(&weights, &inputs, signs))
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

struct Op {
    network: Arc<Network>,
    gradient: Mutex<Vec<f32>>,
}

impl CustomOp3 for Op {
    fn name(&self) -> &'static str {
        "siren-loss"
    }

    fn cpu_fwd(
        &self,
        weights: &CpuStorage,
        weights_layout: &Layout,
        inputs: &CpuStorage,
        inputs_layout: &Layout,
        targets: &CpuStorage,
        targets_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let Network { layers, .. } = &*self.network;
        let (rows, points) = inputs_layout.shape().dims2()?;
        let output = layers.last().expect("a network has layers");
        let channels = output.outputs;
        if rows != 2 || targets_layout.shape().dims2()? != (channels + 1, points) || points == 0 {
            bail!("siren-loss: a batch is [2, points] and [{channels} + 1, points]");
        }
        let count = output.range().end;
        if weights_layout.shape().dims1()? != count {
            bail!("siren-loss: the network has {count} weights");
        }
        let weights = contiguous(weights, weights_layout)?;
        let inputs = contiguous(inputs, inputs_layout)?;
        let targets = contiguous(targets, targets_layout)?;
        let (loss, gradient) = self.network.loss_and_gradient(weights, inputs, targets);
        *self.gradient.lock().unwrap_or_else(PoisonError::into_inner) = gradient;
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(
        &self,
        weights: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = self.gradient.lock().unwrap_or_else(PoisonError::into_inner);
        let gradient = Tensor::from_slice(&gradient, weights.shape(), weights.device())?;
        Ok((Some(gradient.broadcast_mul(grad)?), None, None))
    }
}

/// A loss that is known already as a function of `weights`, with its gradient.
#[cfg(feature = "gpu")]
pub(super) fn with_gradient(weights: &Tensor, loss: f64, gradient: Vec<f32>) -> Result<Tensor> {
    weights.apply_op1(Known { loss: loss as f32, gradient })
}

#[cfg(feature = "gpu")]
struct Known {
    loss: f32,
    gradient: Vec<f32>,
}

#[cfg(feature = "gpu")]
impl candle_core::CustomOp1 for Known {
    fn name(&self) -> &'static str {
        "known-loss"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![self.loss]), Shape::from(())))
    }

    fn bwd(&self, weights: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let gradient = Tensor::from_slice(&self.gradient, weights.shape(), weights.device())?;
        Ok(Some(gradient.broadcast_mul(grad)?))
    }
}

fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::RequiresContiguous { op: "siren-loss" })?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

impl Network {
    /// The loss, and its gradient in the order of `weights`.
    fn loss_and_gradient(
        &self,
        weights: &[f32],
        inputs: &[f32],
        targets: &[f32],
    ) -> (f64, Vec<f32>) {
        let points = inputs.len() / 2;
        let packed = self.pack(weights);
        let shard = shard(points);
        let starts: Vec<usize> = (0..points).step_by(shard).collect();
        let shards: Vec<(f64, Vec<f32>)> = starts
            .into_par_iter()
            .map(|start| {
                let spare = || self.spare.lock().unwrap_or_else(PoisonError::into_inner);
                let idle = spare().pop();
                let mut scratch = idle.unwrap_or_else(|| Scratch::new(&self.layers));
                let mut gradient = vec![0.0; weights.len()];
                let mut error = 0.0;
                let end = points.min(start + shard);
                for first in (start..end).step_by(scratch.block()) {
                    let count = scratch.block().min(end - first);
                    scratch.load(inputs, points, first, count);
                    self.forward(&packed, &mut scratch);
                    error += scratch.compare(targets, points, first, count);
                    self.backward(&packed, &mut scratch, |_, shape, delta, h| {
                        let LayerShape { inputs, outputs, .. } = shape;
                        let part = &mut gradient[shape.range()];
                        add_outer(self.level, delta, outputs, h, inputs + 1, part);
                    });
                }
                spare().push(scratch);
                (error, gradient)
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
        let mean = 1.0 / (targets.len() - points) as f64;
        for layer in &self.layers {
            let factor = (2.0 * mean * f64::from(layer.scale)) as f32;
            gradient[layer.range()].iter_mut().for_each(|g| *g *= factor);
        }
        (error * mean, gradient)
    }

    /// Sensitivities of the layers at a sample of points; `signs` is `[channels, points]`.
    fn sensitivities(&self, weights: &[f32], inputs: &[f32], signs: &[f32]) -> Vec<Sensitivity> {
        let points = inputs.len() / 2;
        let packed = self.pack(weights);
        let mut scratch = Scratch::new(&self.layers);
        let block = scratch.block();
        let mut sums = vec![Sensitivity::default(); self.layers.len()];
        for first in (0..points).step_by(block) {
            let count = block.min(points - first);
            scratch.load(inputs, points, first, count);
            self.forward(&packed, &mut scratch);
            for (row, signs) in
                scratch.delta.chunks_exact_mut(block).zip(signs.chunks_exact(points))
            {
                row.fill(0.0);
                row[..count].copy_from_slice(&signs[first..first + count]);
            }
            self.backward(&packed, &mut scratch, |l, shape, delta, h| {
                // Sums over the rows, point by point.
                let squares = |rows: &[f32]| {
                    let mut sums = vec![0.0f32; block];
                    for row in rows.chunks_exact(block) {
                        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value * value);
                    }
                    sums
                };
                let delta = squares(delta);
                let h = squares(&h[..shape.inputs * block]);
                let product: f32 = delta.iter().zip(&h).map(|(d, h)| d * h).sum();
                sums[l].weights += f64::from(product) / shape.inputs as f64;
                sums[l].biases += f64::from(delta.iter().sum::<f32>());
            });
        }
        for (sum, shape) in sums.iter_mut().zip(&self.layers) {
            let count = (points * shape.outputs) as f64;
            sum.weights /= count;
            sum.biases /= count;
        }
        sums
    }

    fn pack(&self, weights: &[f32]) -> Vec<Packed> {
        let pack = |layer: &LayerShape| {
            let &LayerShape { inputs, outputs, scale, start } = layer;
            let at = |o: usize, k: usize| scale * weights[start + o * (inputs + 1) + k];
            Packed {
                forward: Matrix::new(outputs, inputs, at),
                backward: Matrix::new(inputs, outputs, |k, o| at(o, k)),
                biases: (0..outputs).map(|o| at(o, inputs)).collect(),
            }
        };
        self.layers.iter().map(pack).collect()
    }

    /// Leaves the outputs in `scratch.delta`.
    fn forward(&self, packed: &[Packed], scratch: &mut Scratch) {
        let block = scratch.block();
        let (output, hidden) = packed.split_last().expect("a network has layers");
        for (l, layer) in hidden.iter().enumerate() {
            let LayerShape { inputs, outputs, .. } = self.layers[l];
            let (before, after) = scratch.h.split_at_mut(l + 1);
            let h = &before[l][..inputs * block];
            let out = &mut after[0][..outputs * block];
            let (biases, sine) = (&layer.biases, Activation::Sine);
            let slope = &mut scratch.slope[l];
            layer.forward.layer_with_slope(self.level, biases, sine, h, out, slope);
        }
        let LayerShape { inputs, outputs, .. } = self.layers[hidden.len()];
        let h = &scratch.h[hidden.len()][..inputs * block];
        let out = &mut scratch.delta[..outputs * block];
        output.forward.layer(self.level, &output.biases, Activation::Identity, h, out);
    }

    /// Carries gradients of the outputs, in `scratch.delta`, back through the layers. `visit`
    /// is given each layer, last to first, with the gradients of its affine outputs and with
    /// its inputs, below which stands a row of ones.
    fn backward(
        &self,
        packed: &[Packed],
        scratch: &mut Scratch,
        mut visit: impl FnMut(usize, LayerShape, &[f32], &[f32]),
    ) {
        let block = scratch.block();
        for (l, layer) in packed.iter().enumerate().rev() {
            let shape = self.layers[l];
            let LayerShape { inputs, outputs, .. } = shape;
            let delta = &scratch.delta[..outputs * block];
            visit(l, shape, delta, &scratch.h[l]);
            if l > 0 {
                let slope = &scratch.slope[l - 1];
                let previous = &mut scratch.previous[..inputs * block];
                layer.backward.product_times(self.level, delta, slope, previous);
                std::mem::swap(&mut scratch.delta, &mut scratch.previous);
            }
        }
    }
}

impl Scratch {
    fn new(layers: &[LayerShape]) -> Self {
        let rows: usize = layers.iter().map(|l| l.inputs + 1 + l.outputs).sum();
        // A power of two, so that shards are whole blocks.
        let affordable = (BLOCK_BYTES / (4 * rows)).clamp(LANES, MAX_BLOCK);
        let block = 1 << affordable.ilog2();
        let widest = layers.iter().map(|l| l.inputs.max(l.outputs)).max().unwrap_or(1);
        let hidden = layers.len() - 1;
        Self {
            h: layers.iter().map(|l| vec![1.0; (l.inputs + 1) * block]).collect(),
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

    /// Takes in `count` points; the rest of the block keeps points of earlier blocks.
    fn load(&mut self, inputs: &[f32], points: usize, first: usize, count: usize) {
        let block = self.block();
        let rows = self.h[0].chunks_exact_mut(block).zip(inputs.chunks_exact(points));
        for (row, input) in rows {
            row[..count].copy_from_slice(&input[first..first + count]);
        }
    }

    /// Turns outputs into weighted errors, zero beyond `count` points; returns the sum of
    /// weight times squared error.
    fn compare(&mut self, targets: &[f32], points: usize, first: usize, count: usize) -> f64 {
        let block = self.block();
        let (targets, weights) = targets.split_at(targets.len() - points);
        let of_colours = colour_weights(targets, &weights[first..], points, first, count);
        let channels = targets.len() / points;
        let mut sum = 0.0;
        let rows = self.delta.chunks_exact_mut(block).zip(targets.chunks_exact(points));
        for (channel, (row, target)) in rows.enumerate() {
            let (used, unused) = row.split_at_mut(count);
            let mut row_sum = 0.0;
            let weights = match &of_colours {
                Some(weights) if channel + 1 < channels => weights,
                _ => &weights[first..],
            };
            let targets = target[first..].iter().zip(weights);
            for (value, (target, weight)) in used.iter_mut().zip(targets) {
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

/// Weights of the colours of `count` points: the points' times the squares of their alpha, which
/// makes the error that of premultiplied colours. `None` without alpha.
fn colour_weights(
    targets: &[f32],
    weights: &[f32],
    points: usize,
    first: usize,
    count: usize,
) -> Option<Vec<f32>> {
    let channels = targets.len() / points;
    let alpha = channels.is_multiple_of(2).then(|| &targets[(channels - 1) * points..])?;
    let alpha = alpha[first..first + count].iter().map(|target| 0.5 * (target + 1.0));
    Some(alpha.zip(weights).map(|(alpha, weight)| weight * alpha * alpha).collect())
}
