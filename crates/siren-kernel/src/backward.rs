//! The way back: derivatives of activations, gradients of inputs and of weights.

use fearless_simd::prelude::*;
use fearless_simd::{Level, dispatch};

use super::sine::sine_and_cosine;
use super::tile::{Epilogue, has_many_registers, load, store};
use super::{Activation, Affine, Matrix, row_length};

impl Affine {
    /// [`Affine::layer`] that also gives the derivative of the activation at each output,
    /// laid out as `out`.
    pub fn layer_with_slope(
        &self,
        simd: Level,
        activation: Activation,
        h: &[f32],
        out: &mut [f32],
        slope: &mut [f32],
    ) {
        assert_eq!(slope.len(), out.len(), "as many slopes as outputs");
        match activation {
            Activation::Identity => {
                self.layer(simd, activation, h, out);
                slope.fill(1.0);
            }
            Activation::Sine => self.apply(simd, h, out, SineWithSlope { slope }),
            Activation::Relu => self.apply(simd, h, out, ReluWithSlope { slope }),
        }
    }
}

impl Matrix {
    /// `out = slope * (M h)`, element by element. With the transposed weights of a layer and
    /// the gradients of its affine outputs as `h`, these are the gradients of the affine
    /// outputs of the layer before; [`Matrix::product`] gives those of the layer's inputs.
    pub fn product_times(&self, simd: Level, h: &[f32], slope: &[f32], out: &mut [f32]) {
        assert_eq!(slope.len(), out.len(), "as many slopes as outputs");
        self.apply(simd, None, h, out, ProductTimes { slope });
    }
}

/// Sums of products over the points of a block: the gradient of a layer's weights.
///
/// `delta` has a row for each of `outputs` outputs, `h` one for each of `inputs` inputs;
/// `gradient[o * inputs + k]` grows by the sum of `delta[o] * h[k]`.
pub fn add_outer(
    simd: Level,
    delta: &[f32],
    outputs: usize,
    h: &[f32],
    inputs: usize,
    gradient: &mut [f32],
) {
    let points = row_length(h, inputs);
    assert_eq!(points, row_length(delta, outputs), "blocks of equal length");
    assert_eq!(gradient.len(), outputs * inputs, "a gradient for each weight");
    let factors = Factors { delta, outputs, h, inputs, points };
    dispatch!(simd, simd => add_outer_simd(simd, factors, gradient));
}

/// `slope * a`.
struct ProductTimes<'a> {
    slope: &'a [f32],
}

impl Epilogue for ProductTimes<'_> {
    #[inline(always)]
    fn finish<S: Simd>(&mut self, simd: S, at: usize, a: S::f32s) -> S::f32s {
        a * load(simd, self.slope, at)
    }
}

/// `sin a`, and `cos a` beside it.
struct SineWithSlope<'a> {
    slope: &'a mut [f32],
}

impl Epilogue for SineWithSlope<'_> {
    #[inline(always)]
    fn finish<S: Simd>(&mut self, simd: S, at: usize, a: S::f32s) -> S::f32s {
        let (sine, cosine) = sine_and_cosine(simd, a);
        store(cosine, self.slope, at);
        sine
    }
}

/// `max(a, 0)`, and 1 beside it where `a` is above 0.
struct ReluWithSlope<'a> {
    slope: &'a mut [f32],
}

impl Epilogue for ReluWithSlope<'_> {
    #[inline(always)]
    fn finish<S: Simd>(&mut self, simd: S, at: usize, a: S::f32s) -> S::f32s {
        let (zero, one) = (S::f32s::splat(simd, 0.0), S::f32s::splat(simd, 1.0));
        store(a.simd_gt(zero).select(one, zero), self.slope, at);
        a.max(zero)
    }
}

/// Outputs of a tile of [`add_outer`].
const OUTER_OUTPUTS: usize = 4;

/// What [`add_outer`] multiplies.
#[derive(Clone, Copy)]
struct Factors<'a> {
    delta: &'a [f32],
    outputs: usize,
    h: &'a [f32],
    inputs: usize,
    points: usize,
}

/// [`add_outer`] for an instruction set.
#[inline(always)]
fn add_outer_simd<S: Simd>(simd: S, factors: Factors, gradient: &mut [f32]) {
    if has_many_registers::<S>() {
        add_outer_tiles::<S, 4>(simd, factors, gradient);
    } else {
        add_outer_tiles::<S, 2>(simd, factors, gradient);
    }
}

/// Tiles of four outputs and `K` inputs. The last tiles repeat their last row and drop what
/// they sum up twice.
#[inline(always)]
fn add_outer_tiles<S: Simd, const K: usize>(simd: S, factors: Factors, gradient: &mut [f32]) {
    let Factors { delta, outputs, h, inputs, points } = factors;
    const N: usize = OUTER_OUTPUTS;
    let lanes = S::f32s::LEN;
    let row = |block, at| -> &[f32] {
        let block: &[f32] = block;
        &block[at * points..][..points]
    };
    for first in (0..outputs).step_by(N) {
        let delta: [&[f32]; N] = std::array::from_fn(|n| row(delta, (first + n).min(outputs - 1)));
        for left in (0..inputs).step_by(K) {
            let h: [&[f32]; K] = std::array::from_fn(|k| row(h, (left + k).min(inputs - 1)));
            let mut sums = [[S::f32s::splat(simd, 0.0); K]; N];
            for at in (0..points).step_by(lanes) {
                let mut x = [S::f32s::splat(simd, 0.0); K];
                for k in 0..K {
                    x[k] = load(simd, h[k], at);
                }
                for n in 0..N {
                    let d: S::f32s = load(simd, delta[n], at);
                    for k in 0..K {
                        sums[n][k] = d.mul_add(x[k], sums[n][k]);
                    }
                }
            }
            let count = K.min(inputs - left);
            for n in 0..N.min(outputs - first) {
                let gradient = &mut gradient[(first + n) * inputs + left..][..count];
                for (gradient, sum) in gradient.iter_mut().zip(sums[n]) {
                    *gradient += sum.reduce_sum();
                }
            }
        }
    }
}
