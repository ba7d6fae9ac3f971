//! The plain kernel: points are the inner dimension, so the compiler can use vector
//! registers, and a block of points goes through all layers while it is in cache.

use super::{Points, Scratch};
use crate::network::Layer;

/// Points evaluated together.
pub const BLOCK: usize = 256;

type Row = [f32; BLOCK];

pub(super) fn values(layers: &[Layer], points: &Points, scratch: &mut Scratch, out: &mut [f32]) {
    let (current, _) = scratch.current.as_chunks_mut::<BLOCK>();
    let (next, _) = scratch.next.as_chunks_mut::<BLOCK>();
    let (mut current, mut next) = (current, next);
    current[0] = points.x;
    current[1] = points.y;
    let (output, hidden) = layers.split_last().expect("a network has layers");
    for layer in hidden {
        for (row, weights, bias) in rows(layer) {
            let target = &mut next[row];
            affine(weights, bias, |k| &current[k], target);
            for value in target.iter_mut() {
                *value = sin_cos(*value).0;
            }
        }
        std::mem::swap(&mut current, &mut next);
    }
    let (out, _) = out.as_chunks_mut::<BLOCK>();
    for (row, weights, bias) in rows(output) {
        affine(weights, bias, |k| &current[k], &mut out[row]);
    }
}

pub(super) fn jets(layers: &[Layer], points: &Points, scratch: &mut Scratch, out: &mut [f32]) {
    let (current, _) = scratch.current.as_chunks_mut::<BLOCK>();
    let (next, _) = scratch.next.as_chunks_mut::<BLOCK>();
    let (mut current, mut next) = (current, next);
    current[..8].fill([0.0; BLOCK]);
    current[0] = points.x;
    current[1] = [1.0; BLOCK];
    current[4] = points.y;
    current[6] = [1.0; BLOCK];
    let (output, hidden) = layers.split_last().expect("a network has layers");
    for layer in hidden {
        for (row, weights, bias) in rows(layer) {
            for part in 0..4 {
                let bias = if part == 0 { bias } else { 0.0 };
                affine(weights, bias, |k| &current[4 * k + part], &mut next[4 * row + part]);
            }
            let [value, dx, dy, laplacian] = &mut next[4 * row..4 * row + 4] else {
                unreachable!("four rows")
            };
            for i in 0..BLOCK {
                let (sin, cos) = sin_cos(value[i]);
                laplacian[i] = cos * laplacian[i] - sin * (dx[i] * dx[i] + dy[i] * dy[i]);
                dx[i] *= cos;
                dy[i] *= cos;
                value[i] = sin;
            }
        }
        std::mem::swap(&mut current, &mut next);
    }
    let (out, _) = out.as_chunks_mut::<BLOCK>();
    for (row, weights, bias) in rows(output) {
        for part in 0..4 {
            let bias = if part == 0 { bias } else { 0.0 };
            affine(weights, bias, |k| &current[4 * k + part], &mut out[4 * row + part]);
        }
    }
}

/// Row number, weights and bias of every output of a layer.
fn rows(layer: &Layer) -> impl Iterator<Item = (usize, &[f32], f32)> {
    let rows = layer.weights.chunks_exact(layer.inputs).zip(&layer.biases);
    rows.enumerate().map(|(row, (weights, &bias))| (row, weights, bias))
}

/// `target = bias + sum of weights[k] * input(k)`, summed in the order of the inputs.
fn affine<'a>(weights: &[f32], bias: f32, input: impl Fn(usize) -> &'a Row, target: &mut Row) {
    *target = [bias; BLOCK];
    for (k, &w) in weights.iter().enumerate() {
        for (t, &h) in target.iter_mut().zip(input(k)) {
            *t += w * h;
        }
    }
}

/// Sine and cosine: two-step range reduction to [-pi/2, pi/2], then an odd polynomial of
/// degree 9 and an even one of degree 10 (minimax fits, 5e-9 and 3e-10). Within 3e-7 of
/// the true values for |a| < 1000; bounded by 1 for every finite argument.
#[inline(always)]
pub(crate) fn sin_cos(a: f32) -> (f32, f32) {
    use std::f32::consts::FRAC_1_PI;
    // Adding and taking away 1.5 * 2^23 rounds to an integer in any vector unit.
    const ROUND: f32 = 12_582_912.0;
    // pi in two parts; the first has eight significant bits, so k * PI_HIGH is exact.
    const PI_HIGH: f32 = 3.140_625;
    const PI_LOW: f32 = 9.676_536e-4;
    let shifted = a * FRAC_1_PI + ROUND;
    let k = shifted - ROUND;
    let odd = shifted.to_bits() << 31;
    let r = (a - k * PI_HIGH) - k * PI_LOW;
    // A little beyond pi/2 for the rounding of k; only huge arguments are changed.
    let r = r.clamp(-1.58, 1.58);
    let r2 = r * r;
    let s = ((2.600_054_6e-6 * r2 - 1.980_661_5e-4) * r2 + 8.333_017e-3) * r2 - 1.666_665_7e-1;
    let c = (((-2.607_710_3e-7 * r2 + 2.476_188_6e-5) * r2 - 1.388_840_4e-3) * r2 + 4.166_664e-2)
        * r2
        - 0.5;
    let sin = r + r * r2 * s;
    let cos = 1.0 + r2 * c;
    (f32::from_bits(sin.to_bits() ^ odd), f32::from_bits(cos.to_bits() ^ odd))
}

#[cfg(test)]
mod tests {
    use super::sin_cos;

    #[test]
    fn sine_and_cosine_are_accurate_and_bounded() {
        for i in -400_000..400_000 {
            let a = i as f32 * 2.37e-3;
            let (sin, cos) = sin_cos(a);
            let (true_sin, true_cos) = f64::from(a).sin_cos();
            assert!((f64::from(sin) - true_sin).abs() < 3e-7, "sin {a}");
            assert!((f64::from(cos) - true_cos).abs() < 3e-7, "cos {a}");
        }
        for a in [1e4, -1e6, 1e9, 1e20, f32::MAX, f32::MIN] {
            let (sin, cos) = sin_cos(a);
            assert!(sin.abs() <= 1.0 && cos.abs() <= 1.0, "{a}: {sin} {cos}");
        }
    }
}
