//! Evaluation of a [`Siren`] at many points at once, values and derivatives, in f32, and of
//! latents in rows of points.
//! Lays the network out for the block kernels; starts no threads and knows no pixels.

mod latents;

use crate::network::{Layer, Siren};
pub use latents::{Columns, LatentsEvaluator, RowScratch};
use siren_kernel::{Activation, Affine, Matrix, Simd};

/// Points evaluated together.
pub const BLOCK: usize = 256;

/// Points whose jets are evaluated together: a jet is four rows, so the memory is that of a
/// block of values.
const JET_BLOCK: usize = BLOCK / 4;

/// A network laid out for evaluation, in blocks of [`BLOCK`] points, by the best
/// instruction set that this machine has.
#[derive(Debug, Clone)]
pub struct Evaluator {
    siren: Siren,
    layers: Vec<Affine>,
    widest: usize,
    simd: Simd,
}

/// Working memory of one thread, reused from block to block.
#[derive(Debug, Clone)]
pub struct Scratch {
    current: Vec<f32>,
    next: Vec<f32>,
}

impl Evaluator {
    /// Prepares `siren` for evaluation.
    pub fn new(siren: Siren) -> Self {
        Self::with_simd(siren, Simd::new())
    }

    pub(crate) fn with_simd(siren: Siren, simd: Simd) -> Self {
        let widest = siren.topology().layers().map(|(i, o)| i.max(o)).max().unwrap_or(2);
        let lay_out = |layer: &Layer| Affine {
            matrix: Matrix::new(layer.outputs, layer.inputs, |o, k| {
                layer.weights[o * layer.inputs + k]
            }),
            biases: layer.biases.clone(),
        };
        let layers = siren.layers().iter().map(lay_out).collect();
        Self { siren, layers, widest, simd }
    }

    /// The network.
    pub fn siren(&self) -> &Siren {
        &self.siren
    }

    /// Number of output channels.
    pub fn channels(&self) -> usize {
        self.siren.topology().channels().count()
    }

    /// Working memory for one thread.
    pub fn scratch(&self) -> Scratch {
        let len = self.widest * BLOCK;
        Scratch { current: vec![0.0; len], next: vec![0.0; len] }
    }

    /// Bytes of the working memory of one thread.
    pub(crate) fn scratch_bytes(&self) -> u64 {
        (2 * size_of::<f32>() * self.widest * BLOCK) as u64
    }

    /// Values at a block of points.
    ///
    /// `out` receives one row of [`BLOCK`] values per channel. The result at a point
    /// depends on that point alone, not on its place in the block.
    ///
    /// # Panics
    /// If `out` is shorter than that.
    pub fn values(&self, points: &Points, scratch: &mut Scratch, out: &mut [f32]) {
        let Scratch { current, next } = scratch;
        current[..BLOCK].copy_from_slice(&points.x);
        current[BLOCK..2 * BLOCK].copy_from_slice(&points.y);
        let layers = self.siren.layers().iter().zip(&self.layers);
        for (index, (layer, affine)) in layers.enumerate() {
            let h = &current[..layer.inputs * BLOCK];
            if index + 1 == self.layers.len() {
                let out = &mut out[..layer.outputs * BLOCK];
                affine.layer(self.simd, Activation::Identity, h, out);
            } else {
                let out = &mut next[..layer.outputs * BLOCK];
                affine.layer(self.simd, Activation::Sine, h, out);
                std::mem::swap(current, next);
            }
        }
    }

    /// Values and derivatives with respect to the plane at a block of points.
    ///
    /// `out` receives four rows of [`BLOCK`] numbers per channel: value, derivative to
    /// x, derivative to y, Laplacian.
    ///
    /// # Panics
    /// If `out` is shorter than that.
    pub fn jets(&self, points: &Points, scratch: &mut Scratch, out: &mut [f32]) {
        for first in (0..BLOCK).step_by(JET_BLOCK) {
            let rows = self.jet_block(points, first, scratch);
            for (row, out) in rows.chunks_exact(JET_BLOCK).zip(out.chunks_exact_mut(BLOCK)) {
                out[first..first + JET_BLOCK].copy_from_slice(row);
            }
        }
    }

    /// The jets of [`JET_BLOCK`] points from `first` on, four rows a channel.
    fn jet_block<'a>(&self, points: &Points, first: usize, scratch: &'a mut Scratch) -> &'a [f32] {
        const STRIDE: usize = 4 * JET_BLOCK;
        let Scratch { current, next } = scratch;
        let last = first + JET_BLOCK;
        current[..2 * STRIDE].fill(0.0);
        current[..JET_BLOCK].copy_from_slice(&points.x[first..last]);
        current[JET_BLOCK..2 * JET_BLOCK].fill(1.0);
        current[STRIDE..STRIDE + JET_BLOCK].copy_from_slice(&points.y[first..last]);
        current[STRIDE + 2 * JET_BLOCK..STRIDE + 3 * JET_BLOCK].fill(1.0);
        let layers = self.siren.layers().iter().zip(&self.layers);
        for (index, (layer, affine)) in layers.enumerate() {
            let h = &current[..layer.inputs * STRIDE];
            let rows = &mut next[..layer.outputs * STRIDE];
            affine.matrix.product(self.simd, h, rows);
            if index + 1 == self.layers.len() {
                for (rows, bias) in rows.chunks_exact_mut(STRIDE).zip(&layer.biases) {
                    rows[..JET_BLOCK].iter_mut().for_each(|value| *value += bias);
                }
            } else {
                siren_kernel::sine_of_jets(self.simd, &layer.biases, JET_BLOCK, rows);
            }
            std::mem::swap(current, next);
        }
        &current[..self.channels() * STRIDE]
    }
}

/// A block of points of the plane.
#[derive(Debug, Clone)]
pub struct Points {
    /// x of each point.
    pub x: [f32; BLOCK],
    /// y of each point.
    pub y: [f32; BLOCK],
}

impl Default for Points {
    fn default() -> Self {
        Self { x: [0.0; BLOCK], y: [0.0; BLOCK] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Channels, Topology};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use siren_kernel::instruction_sets;

    /// A network as the SIREN initialization has it, with an output layer of unit scale.
    fn random(topology: Topology, rng: &mut impl Rng) -> Siren {
        let mut weights = Vec::new();
        for (inputs, outputs) in topology.layers() {
            let bound = if inputs == 2 { 15.0 } else { (6.0 / inputs as f32).sqrt() };
            weights.extend((0..(inputs + 1) * outputs).map(|_| rng.random_range(-bound..bound)));
        }
        Siren::from_weights(topology, &weights).unwrap()
    }

    #[test]
    fn every_instruction_set_agrees_with_the_definition() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let shapes =
            [vec![1], vec![7, 3], vec![20; 5], vec![28; 10], vec![49; 13], vec![300, 1, 65]];
        for (index, hidden) in shapes.into_iter().enumerate() {
            let channels = Channels::from_count(1 + index % 4).unwrap();
            let siren = random(Topology::new(channels, hidden).unwrap(), &mut rng);
            let mut points = Points::default();
            for (x, y) in points.x.iter_mut().zip(&mut points.y) {
                (*x, *y) = (rng.random_range(-1.0..1.0), rng.random_range(-1.0..1.0));
            }
            for simd in instruction_sets() {
                let evaluator = Evaluator::with_simd(siren.clone(), simd);
                let mut scratch = evaluator.scratch();
                let mut values = vec![f32::NAN; channels.count() * BLOCK];
                let mut jets = vec![f32::NAN; 4 * values.len()];
                evaluator.values(&points, &mut scratch, &mut values);
                evaluator.jets(&points, &mut scratch, &mut jets);
                for i in 0..BLOCK {
                    let wanted = siren.evaluate(points.x[i].into(), points.y[i].into());
                    for (channel, jet) in wanted.iter().enumerate() {
                        let close = |found: f32, wanted: f64, scale: f64| {
                            let error = (f64::from(found) - wanted).abs() / scale;
                            // An eighth of a step of 8 bits.
                            assert!(error < 1e-3, "{simd:?} {}: {error}", siren.topology());
                        };
                        let row = |part| jets[(4 * channel + part) * BLOCK + i];
                        close(values[channel * BLOCK + i], jet.value, 1.0);
                        close(row(0), jet.value, 1.0);
                        let slope = 1.0 + jet.dx.hypot(jet.dy);
                        close(row(1), jet.dx, slope);
                        close(row(2), jet.dy, slope);
                        close(row(3), jet.laplacian, 10.0 * slope * slope);
                    }
                }
            }
        }
    }
}
