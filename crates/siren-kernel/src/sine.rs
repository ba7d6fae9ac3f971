//! Sine and cosine in SIMD registers.

use fearless_simd::prelude::*;

/// Adding and taking away 1.5 * 2^23 rounds to an integer in any vector unit.
const ROUND: f32 = 12_582_912.0;
/// A little beyond pi/2 for the rounding of k; only huge arguments are changed.
const REACH: f32 = 1.58;

/// `a - k pi` in [-pi/2, pi/2] for the nearest integer k, and the sign bit of (-1)^k. One
/// step with pi in f32 is off by 3e-8 |a|, less than the rounding of `a` itself.
#[inline(always)]
fn reduce<S: Simd>(simd: S, a: S::f32s) -> (S::f32s, S::u32s) {
    let constant = |value| S::f32s::splat(simd, value);
    let shifted = a.mul_add(constant(std::f32::consts::FRAC_1_PI), constant(ROUND));
    let k = shifted - constant(ROUND);
    let r = k.mul_add(constant(-std::f32::consts::PI), a);
    let r = r.min(constant(REACH)).max(constant(-REACH));
    (r, shifted.bitcast::<S::u32s>() << 31)
}

#[inline(always)]
fn with_sign<S: Simd>(value: S::f32s, sign: S::u32s) -> S::f32s {
    (value.bitcast::<S::u32s>() ^ sign).bitcast::<S::f32s>()
}

/// `r + r^3 p(r^2)`: the odd minimax polynomial of degree 9, error 5e-9.
#[inline(always)]
fn sine_near_zero<S: Simd>(simd: S, r: S::f32s, q: S::f32s) -> S::f32s {
    let constant = |value| S::f32s::splat(simd, value);
    let p = q.mul_add(constant(2.600_054_6e-6), constant(-1.980_661_5e-4));
    let p = q.mul_add(p, constant(8.333_017e-3));
    let p = q.mul_add(p, constant(-1.666_665_7e-1));
    (r * q).mul_add(p, r)
}

/// `1 + r^2 p(r^2)`: the even minimax polynomial of degree 10, error 3e-10.
#[inline(always)]
fn cosine_near_zero<S: Simd>(simd: S, q: S::f32s) -> S::f32s {
    let constant = |value| S::f32s::splat(simd, value);
    let p = q.mul_add(constant(-2.607_710_3e-7), constant(2.476_188_6e-5));
    let p = q.mul_add(p, constant(-1.388_840_4e-3));
    let p = q.mul_add(p, constant(4.166_664e-2));
    let p = q.mul_add(p, constant(-0.5));
    q.mul_add(p, constant(1.0))
}

/// Sine: range reduction to [-pi/2, pi/2], then an odd polynomial. Within 2e-7 + 1e-7 |a| of
/// the true value (an f32 is known to 6e-8 |a|); bounded by 1 for every finite argument.
#[inline(always)]
pub fn sine<S: Simd>(simd: S, a: S::f32s) -> S::f32s {
    let (r, sign) = reduce(simd, a);
    with_sign::<S>(sine_near_zero(simd, r, r * r), sign)
}

/// Sine and cosine, as [`sine`].
#[inline(always)]
pub fn sine_and_cosine<S: Simd>(simd: S, a: S::f32s) -> (S::f32s, S::f32s) {
    let (r, sign) = reduce(simd, a);
    let q = r * r;
    let sine = sine_near_zero(simd, r, q);
    let cosine = cosine_near_zero(simd, q);
    (with_sign::<S>(sine, sign), with_sign::<S>(cosine, sign))
}

#[cfg(test)]
mod tests {
    use crate::{Activation, Affine, LANES, Simd, instruction_sets};

    /// Sine and cosine through a 1x1 layer with the weight 1.
    fn sine_and_cosine(simd: Simd, arguments: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let one = Affine::new(1, 1, |_, k| [1.0, 0.0][k]);
        let mut sine = vec![0.0; arguments.len()];
        let mut cosine = sine.clone();
        let sin = Activation::Sine;
        one.layer_with_slope(simd, sin, arguments, &mut sine, &mut cosine);
        let mut alone = sine.clone();
        one.layer(simd, sin, arguments, &mut alone);
        assert_eq!(alone, sine);
        (sine, cosine)
    }

    #[test]
    fn accurate_and_bounded_on_every_instruction_set() {
        let steps = (LANES * 6000) as i32;
        let arguments: Vec<f32> = (-steps..steps).map(|i| i as f32 * 2.37e-3).collect();
        let huge: Vec<f32> =
            (0..LANES).map(|i| [1e4, -1e6, 1e9, 1e20, f32::MAX, f32::MIN][i % 6]).collect();
        for simd in instruction_sets() {
            let (sine, cosine) = sine_and_cosine(simd, &arguments);
            for ((&a, sine), cosine) in arguments.iter().zip(sine).zip(cosine) {
                let (true_sine, true_cosine) = f64::from(a).sin_cos();
                let bound = 2e-7 + 1e-7 * f64::from(a.abs());
                assert!((f64::from(sine) - true_sine).abs() < bound, "{simd:?}: sin {a}");
                assert!((f64::from(cosine) - true_cosine).abs() < bound, "{simd:?}: cos {a}");
            }
            let (sine, cosine) = sine_and_cosine(simd, &huge);
            assert!(sine.iter().chain(&cosine).all(|v| v.abs() <= 1.0), "{simd:?}");
        }
    }
}
