//! Block kernels of small dense networks: forward, and for training backward.
//!
//! A block of points goes through a layer while it is in cache. Activations are rows: one
//! row of `points` numbers per feature, points as SIMD lanes, so that a layer of any width
//! fills the vector unit. Runs on the instruction set it is told, on one thread; knows
//! nothing of pictures and files.

mod adam;
mod backward;
mod integer;
mod sine;
pub mod spline;
mod tile;
pub mod training;
mod waves;

pub use adam::Adam;
pub use backward::add_outer;
/// The instruction set that a kernel runs on, found out by `Simd::new()`.
pub use fearless_simd::Level as Simd;
use fearless_simd::dispatch;
pub use integer::{INTEGER_POINTS, IntegerNetwork};
pub use waves::Waves;

/// Points of a block are a multiple of this: the most that one register tile takes.
pub const LANES: usize = 64;

/// What follows the affine map of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// `sin a`.
    Sine,
    /// `max(a, 0)`; the derivative at 0 is 0.
    Relu,
}

/// A matrix in the order in which the kernels read it: for each tile of outputs and each
/// input, the weights of the tile's outputs.
#[derive(Debug, Clone)]
pub struct Matrix {
    inputs: usize,
    outputs: usize,
    tiles: Vec<f32>,
}

impl Matrix {
    /// `outputs` rows of `inputs` numbers, both at least 1.
    pub fn new(outputs: usize, inputs: usize, at: impl Fn(usize, usize) -> f32) -> Self {
        let mut tiles = Vec::with_capacity(outputs * inputs);
        for (first, count) in tile::tiles(outputs) {
            for input in 0..inputs {
                tiles.extend((first..first + count).map(|output| at(output, input)));
            }
        }
        Self { inputs, outputs, tiles }
    }

    /// `out = M h`: `h` has a row for each input, `out` one for each output.
    pub fn product(&self, simd: Simd, h: &[f32], out: &mut [f32]) {
        self.apply(simd, None, h, out, tile::Identity);
    }

    fn packed<'a>(&'a self, biases: Option<&'a [f32]>) -> tile::Packed<'a> {
        tile::Packed { weights: &self.tiles, biases, outputs: self.outputs }
    }

    fn apply(
        &self,
        simd: Simd,
        biases: Option<&[f32]>,
        h: &[f32],
        out: &mut [f32],
        epilogue: impl tile::Epilogue,
    ) {
        let points = row_length(h, self.inputs);
        assert_eq!(points, row_length(out, self.outputs), "blocks of equal length");
        let packed = self.packed(biases);
        dispatch!(simd, simd => tile::apply(simd, packed, points, h, out, epilogue));
    }
}

/// The affine map of a layer.
#[derive(Debug, Clone)]
pub struct Affine {
    /// What the inputs are multiplied by.
    pub matrix: Matrix,
    /// What is added to each output.
    pub biases: Vec<f32>,
}

impl Affine {
    /// `outputs` rows of `inputs` weights, each followed by a bias.
    pub fn new(outputs: usize, inputs: usize, at: impl Fn(usize, usize) -> f32) -> Self {
        let biases = (0..outputs).map(|output| at(output, inputs)).collect();
        Self { matrix: Matrix::new(outputs, inputs, at), biases }
    }

    /// `out = activation(M h + biases)`.
    pub fn layer(&self, simd: Simd, activation: Activation, h: &[f32], out: &mut [f32]) {
        match activation {
            Activation::Identity => self.apply(simd, h, out, tile::Identity),
            Activation::Sine => self.apply(simd, h, out, tile::Sine),
            Activation::Relu => self.apply(simd, h, out, tile::Relu),
        }
    }

    fn apply(&self, simd: Simd, h: &[f32], out: &mut [f32], epilogue: impl tile::Epilogue) {
        self.matrix.apply(simd, Some(&self.biases), h, out, epilogue);
    }
}

/// Sine layer of jets. `rows` holds, for each feature, rows of value, derivative to x,
/// derivative to y and Laplacian of `W h`, `points` each; `biases` are added to the values,
/// then all four go through the sine (spec section 5).
pub fn sine_of_jets(simd: Simd, biases: &[f32], points: usize, rows: &mut [f32]) {
    assert_eq!(4 * points, row_length(rows, biases.len()), "four rows a feature");
    dispatch!(simd, simd => tile::sine_of_jets(simd, biases, points, rows));
}

/// Length of each of `rows` rows.
fn row_length(block: &[f32], rows: usize) -> usize {
    let points = block.len() / rows;
    assert_eq!(points * rows, block.len(), "rows of equal length");
    assert!(points > 0 && points.is_multiple_of(LANES), "rows of whole registers");
    points
}

/// The instruction sets of this machine, best first, and plain code: for tests.
#[cfg(any(test, feature = "every-instruction-set"))]
pub fn instruction_sets() -> Vec<Simd> {
    use fearless_simd::Simd as _;
    let best = Simd::new();
    let mut sets = vec![best];
    #[cfg(target_arch = "x86_64")]
    {
        sets.extend(best.as_avx2().map(|simd| simd.level()));
        sets.extend(best.as_sse4_2().map(|simd| simd.level()));
        sets.extend(best.as_sse2().map(|simd| simd.level()));
    }
    sets.push(Simd::fallback());
    sets
}

#[cfg(test)]
mod tests;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
