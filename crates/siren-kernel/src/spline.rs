//! Sums of rows with the weights of splines and waves: rows of integers to one of numbers, and
//! neighbours in such a row to a point.

use fearless_simd::{Level, dispatch, f32x8, prelude::*};

/// Most points of a [`Run`]. Rows of weights and points are so much longer than their use.
pub const RUN: usize = 8;

/// At most [`RUN`] points side by side between the same knots.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// The first point.
    pub point: u32,
    /// The first of the numbers around them.
    pub tap: u32,
}

/// `out = sum_k weights[k] rows[k]`; the rows are at least as long as `out`.
pub fn combine(simd: Level, weights: &[f32; 4], rows: &[&[i16]; 4], out: &mut [f32]) {
    /// The compiler finds the vectors.
    #[inline(always)]
    fn sum(weights: &[f32; 4], rows: &[&[i16]; 4], out: &mut [f32]) {
        let [a, b, c, d] = rows.map(|row| &row[..out.len()]);
        for (i, out) in out.iter_mut().enumerate() {
            let term = |k: usize, row: &[i16]| weights[k] * f32::from(row[i]);
            *out = term(0, a) + term(1, b) + term(2, c) + term(3, d);
        }
    }
    dispatch!(simd, _ => sum(weights, rows, out));
}

/// `out += weight row`; the row is at least as long as `out`.
pub fn add(simd: Level, weight: f32, row: &[i16], out: &mut [f32]) {
    /// The compiler finds the vectors.
    #[inline(always)]
    fn sum(weight: f32, row: &[i16], out: &mut [f32]) {
        out.iter_mut().zip(row).for_each(|(out, &value)| *out += weight * f32::from(value));
    }
    assert!(row.len() >= out.len(), "a row for all of it");
    dispatch!(simd, _ => sum(weight, row, out));
}

/// Weights of neighbours, a row of each point's for every neighbour, and the row that they are
/// weights of.
#[derive(Debug, Clone, Copy)]
pub struct Term<'a> {
    /// One row after the other.
    pub weights: &'a [f32],
    /// Length of a row of weights.
    pub stride: usize,
    /// The neighbours.
    pub row: &'a [f32],
}

/// The points of `runs`, one after the other: `out[p - first] = sum of the terms' sums over
/// k of weights[k][p] row[tap(p) + k]`, `first` being the first point.
///
/// The rows of weights reach [`RUN`] numbers beyond the start of the last run. So does
/// `out`, where what lies beyond the points is overwritten.
pub fn interpolate<const N: usize>(simd: Level, runs: &[Run], terms: &[Term; N], out: &mut [f32]) {
    dispatch!(simd, simd => along(simd, runs, terms, out));
}

#[inline(always)]
fn along<S: Simd, const N: usize>(simd: S, runs: &[Run], terms: &[Term; N], out: &mut [f32]) {
    let Some(first) = runs.first().map(|run| run.point) else { return };
    for run in runs {
        let (point, tap) = (run.point as usize, run.tap as usize);
        let mut sum = f32x8::splat(simd, 0.0);
        for term in terms {
            let rows = term.weights.chunks_exact(term.stride);
            for (tap, weights) in term.row[tap..].iter().zip(rows) {
                let weights = f32x8::from_slice(simd, &weights[point..point + RUN]);
                sum = f32x8::splat(simd, *tap).mul_add(weights, sum);
            }
        }
        // The lanes beyond the run are the next one's.
        let at = (run.point - first) as usize;
        sum.store_slice(&mut out[at..at + RUN]);
    }
}
