//! Block kernels of small dense networks: forward, backward, gradients of the weights.
//!
//! A block of points goes through a layer while it is in cache. Activations are rows: one
//! row of `points` numbers per feature, points as SIMD lanes, so that a layer of any width
//! fills the vector unit. Runs on the instruction set it is told, on one thread; knows
//! nothing of pictures, files or training.

mod sine;
mod tile;

pub(crate) use fearless_simd::Level;
use fearless_simd::dispatch;

/// Points of a block are a multiple of this: the most that one register tile takes.
pub(crate) const LANES: usize = 64;

/// What follows the affine map of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// Nothing.
    Identity,
    /// `sin a`.
    Sine,
    /// `max(a, 0)`; the derivative at 0 is 0.
    #[cfg_attr(not(test), expect(dead_code, reason = "the grid representation trains with it"))]
    Relu,
}

/// A matrix in the order in which the kernels read it: for each tile of outputs and each
/// input, the weights of the tile's outputs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Matrix {
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
    pub fn product(&self, level: Level, h: &[f32], out: &mut [f32]) {
        self.apply(level, h, out, tile::Product);
    }

    /// `out = activation(M h + biases)`.
    pub fn layer(
        &self,
        level: Level,
        biases: &[f32],
        activation: Activation,
        h: &[f32],
        out: &mut [f32],
    ) {
        match activation {
            Activation::Identity => self.apply(level, h, out, tile::Affine { biases }),
            Activation::Sine => self.apply(level, h, out, tile::Sine { biases }),
            Activation::Relu => self.apply(level, h, out, tile::Relu { biases }),
        }
    }

    /// [`Matrix::layer`] that also gives the derivative of the activation at each output,
    /// laid out as `out`.
    pub fn layer_with_slope(
        &self,
        level: Level,
        biases: &[f32],
        activation: Activation,
        h: &[f32],
        out: &mut [f32],
        slope: &mut [f32],
    ) {
        assert_eq!(slope.len(), out.len(), "as many slopes as outputs");
        match activation {
            Activation::Identity => {
                self.layer(level, biases, activation, h, out);
                slope.fill(1.0);
            }
            Activation::Sine => self.apply(level, h, out, tile::SineWithSlope { biases, slope }),
            Activation::Relu => self.apply(level, h, out, tile::ReluWithSlope { biases, slope }),
        }
    }

    /// `out = slope * (M h)`, element by element. With the transposed weights of a layer and
    /// the gradients of its affine outputs as `h`, these are the gradients of the affine
    /// outputs of the layer before.
    pub fn product_times(&self, level: Level, h: &[f32], slope: &[f32], out: &mut [f32]) {
        assert_eq!(slope.len(), out.len(), "as many slopes as outputs");
        self.apply(level, h, out, tile::ProductTimes { slope });
    }

    fn apply(&self, level: Level, h: &[f32], out: &mut [f32], epilogue: impl tile::Epilogue) {
        let points = row_length(h, self.inputs);
        assert_eq!(points, row_length(out, self.outputs), "blocks of equal length");
        dispatch!(level, simd => tile::apply(simd, &self.tiles, self.outputs, points, h, out, epilogue));
    }
}

/// Sums of products over the points of a block: the gradient of a layer's weights.
///
/// `delta` has a row for each of `outputs` outputs, `h` one for each of `inputs` inputs;
/// `gradient[o * inputs + k]` grows by the sum of `delta[o] * h[k]`.
pub(crate) fn add_outer(
    level: Level,
    delta: &[f32],
    outputs: usize,
    h: &[f32],
    inputs: usize,
    gradient: &mut [f32],
) {
    let points = row_length(h, inputs);
    assert_eq!(points, row_length(delta, outputs), "blocks of equal length");
    assert_eq!(gradient.len(), outputs * inputs, "a gradient for each weight");
    dispatch!(level, simd => tile::add_outer(simd, delta, outputs, h, inputs, points, gradient));
}

/// Sine layer of jets. `rows` holds, for each feature, rows of value, derivative to x,
/// derivative to y and Laplacian of `W h`, `points` each; `biases` are added to the values,
/// then all four go through the sine (spec section 5).
pub(crate) fn sine_of_jets(level: Level, biases: &[f32], points: usize, rows: &mut [f32]) {
    assert_eq!(4 * points, row_length(rows, biases.len()), "four rows a feature");
    dispatch!(level, simd => tile::sine_of_jets(simd, biases, points, rows));
}

/// Length of each of `rows` rows.
fn row_length(block: &[f32], rows: usize) -> usize {
    let points = block.len() / rows;
    assert_eq!(points * rows, block.len(), "rows of equal length");
    assert!(points > 0 && points.is_multiple_of(LANES), "rows of whole registers");
    points
}

/// The instruction sets of this machine, best first.
#[cfg(test)]
pub(crate) fn levels() -> Vec<Level> {
    use fearless_simd::Simd;
    let best = Level::new();
    let mut levels = vec![best];
    #[cfg(target_arch = "x86_64")]
    {
        levels.extend(best.as_avx2().map(|simd| simd.level()));
        levels.extend(best.as_sse4_2().map(|simd| simd.level()));
        levels.extend(best.as_sse2().map(|simd| simd.level()));
    }
    levels.push(Level::fallback());
    levels
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const SIZES: [(usize, usize); 12] = [
        (1, 1),
        (2, 3),
        (3, 2),
        (4, 6),
        (5, 7),
        (28, 28),
        (29, 13),
        (49, 50),
        (64, 1),
        (1, 64),
        (255, 19),
        (256, 256),
    ];

    struct Case {
        inputs: usize,
        outputs: usize,
        points: usize,
        weights: Vec<f32>,
        biases: Vec<f32>,
        h: Vec<f32>,
    }

    impl Case {
        fn new(inputs: usize, outputs: usize) -> Self {
            let mut rng = ChaCha8Rng::seed_from_u64((inputs * 1000 + outputs) as u64);
            let points = LANES * rng.random_range(1..=3);
            let mut numbers = |count: usize| -> Vec<f32> {
                (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
            };
            Self {
                inputs,
                outputs,
                points,
                weights: numbers(inputs * outputs),
                biases: numbers(outputs),
                h: numbers(inputs * points),
            }
        }

        fn matrix(&self) -> Matrix {
            Matrix::new(self.outputs, self.inputs, |o, k| self.weights[o * self.inputs + k])
        }

        /// `W h + b` at an output and a point, in f64.
        fn affine(&self, output: usize, point: usize) -> f64 {
            let term = |k: usize| {
                let weight = f64::from(self.weights[output * self.inputs + k]);
                weight * f64::from(self.h[k * self.points + point])
            };
            f64::from(self.biases[output]) + (0..self.inputs).map(term).sum::<f64>()
        }

        fn check(&self, found: &[f32], wanted: impl Fn(usize, usize) -> f64) {
            for output in 0..self.outputs {
                for point in 0..self.points {
                    let found = f64::from(found[output * self.points + point]);
                    let wanted = wanted(output, point);
                    let (o, i) = (self.outputs, self.inputs);
                    assert!((found - wanted).abs() < 2e-5, "{o}x{i}: {found}, not {wanted}");
                }
            }
        }
    }

    fn every_case(test: impl Fn(Level, &Case)) {
        for level in levels() {
            for (inputs, outputs) in SIZES {
                test(level, &Case::new(inputs, outputs));
            }
        }
    }

    #[test]
    fn layers_are_those_of_plain_arithmetic() {
        every_case(|level, case| {
            let mut out = vec![f32::NAN; case.outputs * case.points];
            let mut slope = out.clone();
            let matrix = case.matrix();
            matrix.product(level, &case.h, &mut out);
            case.check(&out, |o, p| case.affine(o, p) - f64::from(case.biases[o]));
            type Function = fn(f64) -> f64;
            let activations: [(Activation, Function, Function); 3] = [
                (Activation::Identity, |a| a, |_| 1.0),
                (Activation::Sine, f64::sin, f64::cos),
                (Activation::Relu, |a| a.max(0.0), |a| if a > 0.0 { 1.0 } else { 0.0 }),
            ];
            for (activation, value, derivative) in activations {
                out.fill(f32::NAN);
                matrix.layer(level, &case.biases, activation, &case.h, &mut out);
                case.check(&out, |o, p| value(case.affine(o, p)));
                out.fill(f32::NAN);
                slope.fill(f32::NAN);
                let (b, h) = (&case.biases, &case.h);
                matrix.layer_with_slope(level, b, activation, h, &mut out, &mut slope);
                case.check(&out, |o, p| value(case.affine(o, p)));
                case.check(&slope, |o, p| derivative(case.affine(o, p)));
            }
        });
    }

    #[test]
    fn gradients_are_those_of_plain_arithmetic() {
        every_case(|level, case| {
            // A transposed matrix and slopes: the way back to the inputs.
            let delta = Case::new(case.outputs, case.inputs);
            let slope = Case::new(7, case.inputs);
            let slope: Vec<f32> =
                (0..case.inputs * delta.points).map(|i| slope.h[i % slope.h.len()]).collect();
            let mut out = vec![f32::NAN; case.inputs * delta.points];
            delta.matrix().product_times(level, &delta.h, &slope, &mut out);
            delta.check(&out, |o, p| {
                let product = delta.affine(o, p) - f64::from(delta.biases[o]);
                f64::from(slope[o * delta.points + p]) * product
            });

            let mut layer = vec![0.0; case.outputs * case.points];
            case.matrix().product(level, &case.h, &mut layer);
            let mut gradient = vec![0.5; case.outputs * case.inputs];
            add_outer(level, &layer, case.outputs, &case.h, case.inputs, &mut gradient);
            for o in 0..case.outputs {
                for k in 0..case.inputs {
                    let row = |block: &[f32], at: usize| -> Vec<f64> {
                        let row = &block[at * case.points..(at + 1) * case.points];
                        row.iter().map(|&v| v.into()).collect()
                    };
                    let products = row(&layer, o).into_iter().zip(row(&case.h, k));
                    let wanted = 0.5 + products.map(|(d, h)| d * h).sum::<f64>();
                    let found = f64::from(gradient[o * case.inputs + k]);
                    let bound = 1e-6 * (case.points * case.inputs) as f64;
                    assert!((found - wanted).abs() < bound, "{found}, not {wanted}");
                }
            }
        });
    }

    #[test]
    fn a_point_does_not_depend_on_its_neighbours() {
        let case = Case::new(28, 28);
        let points = case.points;
        for level in levels() {
            let mut out = vec![0.0; 28 * points];
            case.matrix().layer(level, &case.biases, Activation::Sine, &case.h, &mut out);
            let shifted: Vec<f32> = case
                .h
                .chunks(points)
                .flat_map(|r| [&r[points - 5..], &r[..points - 5]].concat())
                .collect();
            let mut moved = vec![0.0; 28 * points];
            case.matrix().layer(level, &case.biases, Activation::Sine, &shifted, &mut moved);
            for (row, moved) in out.chunks(points).zip(moved.chunks(points)) {
                assert_eq!(row[..points - 5], moved[5..]);
            }
        }
    }
}
