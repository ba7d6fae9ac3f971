//! Register tiles: the loops behind [`Matrix`](super::Matrix), generic in the instruction
//! set and compiled once for each.

use fearless_simd::prelude::*;

use super::sine::{sine, sine_and_cosine};

/// Most outputs of a tile. With two registers of points each, 6 outputs, the points and a
/// weight fill the 16 registers of AVX2; with four, the 32 of AVX-512 and NEON.
const TILE: usize = 6;

/// First output and number of outputs of each tile, as even as can be: 28 are 5, 6, 5, 6, 6.
pub fn tiles(outputs: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = outputs.div_ceil(TILE);
    (0..count).map(move |i| {
        let (first, end) = (i * outputs / count, (i + 1) * outputs / count);
        (first, end - first)
    })
}

/// What happens to the sums of a tile before they are stored.
pub trait Epilogue {
    /// The value to store for the sum `a`; `at` is its place in the output.
    fn finish<S: Simd>(&mut self, simd: S, at: usize, a: S::f32s) -> S::f32s;
}

/// The sum itself.
pub struct Identity;

impl Epilogue for Identity {
    #[inline(always)]
    fn finish<S: Simd>(&mut self, _: S, _: usize, a: S::f32s) -> S::f32s {
        a
    }
}

/// `sin a`.
pub struct Sine;

impl Epilogue for Sine {
    #[inline(always)]
    fn finish<S: Simd>(&mut self, simd: S, _: usize, a: S::f32s) -> S::f32s {
        sine(simd, a)
    }
}

/// `max(a, 0)`.
pub struct Relu;

impl Epilogue for Relu {
    #[inline(always)]
    fn finish<S: Simd>(&mut self, simd: S, _: usize, a: S::f32s) -> S::f32s {
        a.max(S::f32s::splat(simd, 0.0))
    }
}

#[inline(always)]
pub fn load<S: Simd>(simd: S, from: &[f32], at: usize) -> S::f32s {
    S::f32s::from_slice(simd, &from[at..at + S::f32s::LEN])
}

#[inline(always)]
pub fn store<S: Simd, V: SimdBase<S, Element = f32>>(value: V, to: &mut [f32], at: usize) {
    value.store_slice(&mut to[at..at + V::LEN]);
}

/// Whether an instruction set has 32 registers rather than 16.
#[inline(always)]
pub const fn has_many_registers<S: Simd>() -> bool {
    S::f32s::LEN == 16 || cfg!(target_arch = "aarch64")
}

/// A matrix, as packed by [`Matrix::new`](super::Matrix::new).
#[derive(Clone, Copy)]
pub struct Packed<'a> {
    pub weights: &'a [f32],
    /// What is added to the products, or nothing.
    pub biases: Option<&'a [f32]>,
    pub outputs: usize,
}

/// A matrix times a block of rows of `points` numbers.
#[inline(always)]
pub fn apply<S: Simd>(
    simd: S,
    packed: Packed,
    points: usize,
    h: &[f32],
    out: &mut [f32],
    epilogue: impl Epilogue,
) {
    if has_many_registers::<S>() {
        apply_tiles::<S, 4>(simd, packed, points, h, out, epilogue);
    } else {
        apply_tiles::<S, 2>(simd, packed, points, h, out, epilogue);
    }
}

/// The same with tiles of `P` registers of points, which `points` must be a multiple of.
#[inline(always)]
pub fn apply_tiles<S: Simd, const P: usize>(
    simd: S,
    packed: Packed,
    points: usize,
    h: &[f32],
    out: &mut [f32],
    mut epilogue: impl Epilogue,
) {
    let inputs = h.len() / points;
    let mut rest = packed.weights;
    for (first, count) in tiles(packed.outputs) {
        let (weights, tail) = rest.split_at(count * inputs);
        rest = tail;
        let mut start = [0.0; TILE];
        if let Some(biases) = packed.biases {
            start[..count].copy_from_slice(&biases[first..first + count]);
        }
        for at in (0..points).step_by(P * S::f32s::LEN) {
            let tile = Tile { weights, start: &start, points, at, first };
            let e = &mut epilogue;
            match count {
                6 => tile.sum::<S, 6, P>(simd, h, out, e),
                5 => tile.sum::<S, 5, P>(simd, h, out, e),
                4 => tile.sum::<S, 4, P>(simd, h, out, e),
                3 => tile.sum::<S, 3, P>(simd, h, out, e),
                2 => tile.sum::<S, 2, P>(simd, h, out, e),
                _ => tile.sum::<S, 1, P>(simd, h, out, e),
            }
        }
    }
}

/// Some outputs at some points: the weights of the outputs, what their sums start from, and where
/// they lie: length of the rows, first point, first output.
#[derive(Clone, Copy)]
struct Tile<'a> {
    weights: &'a [f32],
    start: &'a [f32; TILE],
    points: usize,
    at: usize,
    first: usize,
}

impl Tile<'_> {
    /// `N` outputs at `P` registers of points.
    #[inline(always)]
    fn sum<S: Simd, const N: usize, const P: usize>(
        self,
        simd: S,
        h: &[f32],
        out: &mut [f32],
        epilogue: &mut impl Epilogue,
    ) {
        let Self { weights, start, points, at, first } = self;
        let lanes = S::f32s::LEN;
        let mut sums = [[S::f32s::splat(simd, 0.0); P]; N];
        for (sums, &start) in sums.iter_mut().zip(start) {
            *sums = [S::f32s::splat(simd, start); P];
        }
        for (weights, row) in weights.as_chunks::<N>().0.iter().zip(h.chunks_exact(points)) {
            let row = &row[at..at + P * lanes];
            let mut x = [S::f32s::splat(simd, 0.0); P];
            for (p, x) in x.iter_mut().enumerate() {
                *x = load(simd, row, p * lanes);
            }
            for n in 0..N {
                let weight = S::f32s::splat(simd, weights[n]);
                for p in 0..P {
                    sums[n][p] = weight.mul_add(x[p], sums[n][p]);
                }
            }
        }
        // By reference: arrays taken apart by value leave the registers.
        for (n, sums) in sums.iter().enumerate() {
            for (p, &sum) in sums.iter().enumerate() {
                let at = (first + n) * points + at + p * lanes;
                store(epilogue.finish(simd, at, sum), out, at);
            }
        }
    }
}

/// See [`sine_of_jets`](super::sine_of_jets).
#[inline(always)]
pub fn sine_of_jets<S: Simd>(simd: S, biases: &[f32], points: usize, rows: &mut [f32]) {
    for (rows, &bias) in rows.chunks_exact_mut(4 * points).zip(biases) {
        let (values, rows) = rows.split_at_mut(points);
        let (dxs, rows) = rows.split_at_mut(points);
        let (dys, laplacians) = rows.split_at_mut(points);
        for at in (0..points).step_by(S::f32s::LEN) {
            let a = load(simd, values, at) + S::f32s::splat(simd, bias);
            let (dx, dy): (S::f32s, S::f32s) = (load(simd, dxs, at), load(simd, dys, at));
            let laplacian: S::f32s = load(simd, laplacians, at);
            let (sine, cosine) = sine_and_cosine(simd, a);
            let square = dx.mul_add(dx, dy * dy);
            store(sine, values, at);
            store(cosine * dx, dxs, at);
            store(cosine * dy, dys, at);
            store(cosine * laplacian - sine * square, laplacians, at);
        }
    }
}
