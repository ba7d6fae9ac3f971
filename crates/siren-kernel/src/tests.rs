//! The kernels against plain arithmetic, on every instruction set of this machine.

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

    fn layer(&self) -> Affine {
        Affine { matrix: self.matrix(), biases: self.biases.clone() }
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

fn every_case(test: impl Fn(Simd, &Case)) {
    for simd in instruction_sets() {
        for (inputs, outputs) in SIZES {
            test(simd, &Case::new(inputs, outputs));
        }
    }
}

#[test]
fn layers_are_those_of_plain_arithmetic() {
    every_case(|simd, case| {
        let mut out = vec![f32::NAN; case.outputs * case.points];
        let mut slope = out.clone();
        let layer = case.layer();
        layer.matrix.product(simd, &case.h, &mut out);
        case.check(&out, |o, p| case.affine(o, p) - f64::from(case.biases[o]));
        type Function = fn(f64) -> f64;
        let activations: [(Activation, Function, Function); 3] = [
            (Activation::Identity, |a| a, |_| 1.0),
            (Activation::Sine, f64::sin, f64::cos),
            (Activation::Relu, |a| a.max(0.0), |a| if a > 0.0 { 1.0 } else { 0.0 }),
        ];
        for (activation, value, derivative) in activations {
            out.fill(f32::NAN);
            layer.layer(simd, activation, &case.h, &mut out);
            case.check(&out, |o, p| value(case.affine(o, p)));
            out.fill(f32::NAN);
            slope.fill(f32::NAN);
            layer.layer_with_slope(simd, activation, &case.h, &mut out, &mut slope);
            case.check(&out, |o, p| value(case.affine(o, p)));
            case.check(&slope, |o, p| derivative(case.affine(o, p)));
        }
    });
}

#[test]
fn gradients_are_those_of_plain_arithmetic() {
    every_case(|simd, case| {
        // A transposed matrix and slopes: the way back to the inputs.
        let delta = Case::new(case.outputs, case.inputs);
        let slope = Case::new(7, case.inputs);
        let slope: Vec<f32> =
            (0..case.inputs * delta.points).map(|i| slope.h[i % slope.h.len()]).collect();
        let mut out = vec![f32::NAN; case.inputs * delta.points];
        delta.matrix().product_times(simd, &delta.h, &slope, &mut out);
        delta.check(&out, |o, p| {
            let product = delta.affine(o, p) - f64::from(delta.biases[o]);
            f64::from(slope[o * delta.points + p]) * product
        });

        let mut layer = vec![0.0; case.outputs * case.points];
        case.matrix().product(simd, &case.h, &mut layer);
        let mut gradient = vec![0.5; case.outputs * case.inputs];
        add_outer(simd, &layer, case.outputs, &case.h, case.inputs, &mut gradient);
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
    for simd in instruction_sets() {
        let mut out = vec![0.0; 28 * points];
        case.layer().layer(simd, Activation::Sine, &case.h, &mut out);
        let shifted: Vec<f32> = case
            .h
            .chunks(points)
            .flat_map(|r| [&r[points - 5..], &r[..points - 5]].concat())
            .collect();
        let mut moved = vec![0.0; 28 * points];
        case.layer().layer(simd, Activation::Sine, &shifted, &mut moved);
        for (row, moved) in out.chunks(points).zip(moved.chunks(points)) {
            assert_eq!(row[..points - 5], moved[5..]);
        }
    }
}
