//! Vector arithmetic of the latents' training: soft rounding, the rate of a latent, and the sums
//! of rows that the spline needs. Rows of f32 in, rows out; knows no pictures.

use fearless_simd::prelude::*;
use fearless_simd::{Level, dispatch};

use super::tile::{load, store};

/// 2^y, relative error 3e-7; y is clamped to [-126, 126].
#[inline(always)]
fn exp2<S: Simd>(simd: S, y: S::f32s) -> S::f32s {
    let constant = |value| S::f32s::splat(simd, value);
    let y = y.max(constant(-126.0)).min(constant(126.0));
    let k = (y + constant(0.5)).floor();
    // Taylor series of e^(f ln 2), |f| <= 1/2.
    let f = (y - k) * constant(std::f32::consts::LN_2);
    let p = f.mul_add(constant(1.0 / 720.0), constant(1.0 / 120.0));
    let p = f.mul_add(p, constant(1.0 / 24.0));
    let p = f.mul_add(p, constant(1.0 / 6.0));
    let p = f.mul_add(p, constant(0.5));
    let p = f.mul_add(p, constant(1.0));
    let p = f.mul_add(p, constant(1.0));
    let exponent = (k + constant(127.0)).to_int::<S::i32s>() << 23;
    p * exponent.bitcast::<S::f32s>()
}

/// log2 x of a normal number, absolute error 1e-6.
#[inline(always)]
fn log2<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let constant = |value| S::f32s::splat(simd, value);
    // The bits of the root of one half: mantissas go from there to its double.
    let root = S::i32s::splat(simd, 0x3f35_04f3);
    let bits = x.bitcast::<S::i32s>();
    let exponent = (bits - root) >> 23;
    let m = (bits - (exponent << 23)).bitcast::<S::f32s>();
    let s = (m - constant(1.0)) / (m + constant(1.0));
    let q = s * s;
    let p = q.mul_add(constant(2.0 / 9.0), constant(2.0 / 7.0));
    let p = q.mul_add(p, constant(2.0 / 5.0));
    let p = q.mul_add(p, constant(2.0 / 3.0));
    let p = q.mul_add(p, constant(2.0));
    (s * p).mul_add(constant(std::f32::consts::LOG2_E), exponent.to_float::<S::f32s>())
}

/// `tanh x`.
#[inline(always)]
fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let constant = |value| S::f32s::splat(simd, value);
    let e = exp2(simd, x * constant(2.0 * std::f32::consts::LOG2_E));
    constant(1.0) - constant(2.0) / (e + constant(1.0))
}

/// Soft rounding (Agustsson and Theis 2020, equation 6) twice with noise between, as C3 has it
/// (Kim et al. 2023, equation 4).
#[derive(Debug, Clone, Copy)]
pub struct SoftRounding {
    /// 1 over the temperature, and 1 over twice the tanh of half of that.
    inverse: f32,
    scale: f32,
}

impl SoftRounding {
    /// At a temperature above 0: the lower, the harder.
    pub fn new(temperature: f32) -> Self {
        let inverse = 1.0 / temperature;
        Self { inverse, scale: 0.5 / (0.5 * inverse).tanh() }
    }

    /// Replaces `noise` by the rounded `values` with that noise, and gives the derivatives.
    /// Rows are of any length.
    pub fn apply(self, simd: Level, values: &[f32], noise: &mut [f32], slopes: &mut [f32]) {
        dispatch!(simd, simd => self.rows(simd, values, noise, slopes));
    }

    #[inline(always)]
    fn rows<S: Simd>(self, simd: S, values: &[f32], noise: &mut [f32], slopes: &mut [f32]) {
        let lanes = S::f32s::LEN;
        let whole = values.len() / lanes * lanes;
        for at in (0..whole).step_by(lanes) {
            self.vector(simd, &values[at..], &mut noise[at..], &mut slopes[at..]);
        }
        let rest = values.len() - whole;
        if rest > 0 {
            let mut padded = [[0.0; 16]; 3];
            padded[0][..rest].copy_from_slice(&values[whole..]);
            padded[1][..rest].copy_from_slice(&noise[whole..]);
            let [values, out, slope] = &mut padded;
            self.vector(simd, values, out, slope);
            noise[whole..].copy_from_slice(&out[..rest]);
            slopes[whole..].copy_from_slice(&slope[..rest]);
        }
    }

    #[inline(always)]
    fn vector<S: Simd>(self, simd: S, values: &[f32], noise: &mut [f32], slopes: &mut [f32]) {
        let (soft, slope) = self.round(simd, load(simd, values, 0));
        let (soft, next) = self.round(simd, soft + load(simd, noise, 0));
        store(soft, noise, 0);
        store(slope * next, slopes, 0);
    }

    #[inline(always)]
    fn round<S: Simd>(self, simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
        let constant = |value| S::f32s::splat(simd, value);
        let floor = x.floor();
        let away = x - floor - constant(0.5);
        let t = tanh(simd, away * constant(self.inverse));
        let soft = t.mul_add(constant(self.scale), floor + constant(0.5));
        let slope = (constant(1.0) - t * t) * constant(self.scale * self.inverse);
        (soft, slope)
    }
}

/// Least and largest log2 of a scale, as the format has them.
const LOG_SCALES: (f32, f32) = (-5.0, 8.0);
/// The least probability that any latent keeps.
const LEAST: f32 = 1.0 / 65_536.0;

/// Bits of each latent alone; shapes as for [`rate`].
pub fn bits(simd: Level, values: &[f32], centres: &[f32], log_scales: &[f32], out: &mut [f32]) {
    dispatch!(simd, simd => bits_rows(simd, values, centres, log_scales, out));
}

#[inline(always)]
fn bits_rows<S: Simd>(
    simd: S,
    values: &[f32],
    centres: &[f32],
    log_scales: &[f32],
    out: &mut [f32],
) {
    for at in (0..out.len()).step_by(S::f32s::LEN) {
        let x = load::<S>(simd, values, at) - load(simd, centres, at);
        let (_, p) = probability(simd, x, load(simd, log_scales, at));
        store(S::f32s::splat(simd, 0.0) - log2(simd, p), out, at);
    }
}

/// Bits of latents and their derivatives. `values` are the latents, `centres` and `log_scales`
/// (log2) their distributions; the latter two become the derivatives of the bits with respect
/// to them, `slopes` those with respect to the latents. Only the first `count` points are
/// counted, the rest gets zeros. Rows are multiples of 16.
pub fn rate(
    simd: Level,
    count: usize,
    values: &[f32],
    centres: &mut [f32],
    log_scales: &mut [f32],
    slopes: &mut [f32],
) -> f64 {
    let bits = dispatch!(simd, simd => rate_rows(simd, count, values, centres, log_scales, slopes));
    centres[count..].fill(0.0);
    log_scales[count..].fill(0.0);
    slopes[count..].fill(0.0);
    bits
}

/// Parts of the probability of a latent that the derivatives share.
struct Parts<V> {
    inverse: V,
    clamped: V,
    near: V,
    far: V,
    a: V,
    b: V,
}

/// The probability of [x - 1/2, x + 1/2] under the Laplace distribution around 0.
#[inline(always)]
fn probability<S: Simd>(simd: S, x: S::f32s, raw: S::f32s) -> (Parts<S::f32s>, S::f32s) {
    let constant = |value| S::f32s::splat(simd, value);
    let (zero, one, half) = (constant(0.0), constant(1.0), constant(0.5));
    let log_scale = raw.max(constant(LOG_SCALES.0)).min(constant(LOG_SCALES.1));
    let clamped = raw.simd_eq(log_scale).select(one, zero);
    let inverse = exp2(simd, zero - log_scale);
    let exponent = |distance: S::f32s| {
        exp2(simd, zero - distance.abs() * inverse * constant(std::f32::consts::LOG2_E))
    };
    let d = x.abs();
    let (near, far) = (d - half, d + half);
    let (a, b) = (exponent(near), exponent(far));
    let inside = one - (a + b) * half;
    let outside = (a - b) * half;
    let p = d.simd_lt(half).select(inside, outside) + constant(LEAST);
    (Parts { inverse, clamped, near, far, a, b }, p)
}

#[inline(always)]
fn rate_rows<S: Simd>(
    simd: S,
    count: usize,
    values: &[f32],
    centres: &mut [f32],
    log_scales: &mut [f32],
    slopes: &mut [f32],
) -> f64 {
    let constant = |value| S::f32s::splat(simd, value);
    let (zero, half) = (constant(0.0), constant(0.5));
    let lanes = S::f32s::LEN;
    let mut sum = 0.0;
    for at in (0..count).step_by(lanes) {
        let x = load::<S>(simd, values, at) - load(simd, centres, at);
        let (parts, p) = probability(simd, x, load(simd, log_scales, at));
        let Parts { inverse, clamped, near, far, a, b } = parts;
        let bits = zero - log2(simd, p);
        let by_p = zero - constant(std::f32::consts::LOG2_E) / p;
        let by_d = by_p * (b - a) * half * inverse;
        // The derivative to the scale, times scale and ln 2, is that to its log2.
        let spread = (a * near - b * far) * half * inverse * constant(std::f32::consts::LN_2);
        let by_x = x.simd_lt(zero).select(zero - by_d, by_d);
        store(by_x, slopes, at);
        store(zero - by_x, centres, at);
        store(by_p * spread * clamped, log_scales, at);
        if at + lanes <= count {
            sum += f64::from(bits.reduce_sum());
        } else {
            sum += bits.as_slice()[..count - at].iter().map(|&b| f64::from(b)).sum::<f64>();
        }
    }
    sum
}

/// `out = sum of weights[k] rows[k]`; each row has the length of `out`, a multiple of 16.
pub fn combine(simd: Level, rows: [&[f32]; 4], weights: &[f32; 4], out: &mut [f32]) {
    dispatch!(simd, simd => combine_rows(simd, rows, weights, out));
}

#[inline(always)]
fn combine_rows<S: Simd>(simd: S, rows: [&[f32]; 4], weights: &[f32; 4], out: &mut [f32]) {
    let [w0, w1, w2, w3] = weights.map(|w| S::f32s::splat(simd, w));
    for at in (0..out.len()).step_by(S::f32s::LEN) {
        let sum = w0 * load(simd, rows[0], at);
        let sum = w1.mul_add(load::<S>(simd, rows[1], at), sum);
        let sum = w2.mul_add(load::<S>(simd, rows[2], at), sum);
        let sum = w3.mul_add(load::<S>(simd, rows[3], at), sum);
        store(sum, out, at);
    }
}

/// `to += weight from`, rows of equal length, a multiple of 16.
pub fn add_scaled(simd: Level, weight: f32, from: &[f32], to: &mut [f32]) {
    dispatch!(simd, simd => add_scaled_rows(simd, weight, from, to));
}

#[inline(always)]
fn add_scaled_rows<S: Simd>(simd: S, weight: f32, from: &[f32], to: &mut [f32]) {
    let weight = S::f32s::splat(simd, weight);
    for at in (0..to.len()).step_by(S::f32s::LEN) {
        let sum = weight.mul_add(load::<S>(simd, from, at), load::<S>(simd, to, at));
        store(sum, to, at);
    }
}

/// The sum of squared errors of `outputs`, clamped to [-1, 1], against `targets`. The outputs
/// become `factor` times their errors, not clamped.
pub fn compare(simd: Level, targets: &[f32], outputs: &mut [f32], factor: f32) -> f32 {
    dispatch!(simd, simd => compare_rows(simd, targets, outputs, factor))
}

#[inline(always)]
fn compare_rows<S: Simd>(simd: S, targets: &[f32], outputs: &mut [f32], factor: f32) -> f32 {
    let constant = |value| S::f32s::splat(simd, value);
    let (one, minus) = (constant(1.0), constant(-1.0));
    let lanes = S::f32s::LEN;
    let whole = targets.len() / lanes * lanes;
    let mut sums = constant(0.0);
    for at in (0..whole).step_by(lanes) {
        let target: S::f32s = load(simd, targets, at);
        let output: S::f32s = load(simd, outputs, at);
        let error = output.min(one).max(minus) - target;
        sums = error.mul_add(error, sums);
        store((output - target) * constant(factor), outputs, at);
    }
    let mut sum = sums.reduce_sum();
    for (output, target) in outputs[whole..].iter_mut().zip(&targets[whole..]) {
        sum += (output.clamp(-1.0, 1.0) - target).powi(2);
        *output = (*output - target) * factor;
    }
    sum
}

/// The same with weights, whose square roots are `roots`.
pub fn compare_weighted(targets: &[f32], roots: &[f32], outputs: &mut [f32], factor: f32) -> f32 {
    let mut sum = 0.0;
    for (output, (target, root)) in outputs.iter_mut().zip(targets.iter().zip(roots)) {
        sum += (root * (output.clamp(-1.0, 1.0) - target)).powi(2);
        *output = (*output - target) * factor * root * root;
    }
    sum
}
