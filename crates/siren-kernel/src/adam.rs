//! Adam on slices.

use fearless_simd::prelude::*;
use fearless_simd::{Level, dispatch};

use super::tile::{load, store};

/// Far below the gradients of squared errors that are summed over a picture.
const EPSILON: f32 = 1e-9;

/// Adam (Kingma and Ba 2015) of one step.
#[derive(Debug, Clone, Copy)]
pub struct Adam {
    /// Decay of the mean of the gradients.
    pub beta1: f32,
    /// Decay of the mean of their squares.
    pub beta2: f32,
    /// Learning rate with the first moment's bias corrected.
    pub rate: f32,
    /// 1 over the root of the second moment's bias.
    pub second: f32,
    /// Added to the root of the squares.
    pub epsilon: f32,
}

impl Adam {
    /// For step `step`, from 1 on.
    pub fn new(rate: f64, betas: (f64, f64), step: u32) -> Self {
        let bias = |beta: f64| 1.0 - beta.powi(step as i32);
        Self {
            beta1: betas.0 as f32,
            beta2: betas.1 as f32,
            rate: (rate / bias(betas.0)) as f32,
            second: (1.0 / bias(betas.1).sqrt()) as f32,
            epsilon: EPSILON,
        }
    }

    /// The same with the biases already corrected, see the fields.
    pub fn with_biases([beta1, beta2]: [f32; 2], rate: f32, second: f32) -> Self {
        Self { beta1, beta2, rate, second, epsilon: EPSILON }
    }

    /// Updates values of any number; `moments` are the first and the second.
    pub fn apply(
        self,
        simd: Level,
        values: &mut [f32],
        moments: [&mut [f32]; 2],
        gradient: &[f32],
    ) {
        dispatch!(simd, simd => self.rows(simd, values, moments, gradient));
    }

    #[inline(always)]
    fn rows<S: Simd>(
        self,
        simd: S,
        values: &mut [f32],
        moments: [&mut [f32]; 2],
        gradient: &[f32],
    ) {
        let constant = |value| S::f32s::splat(simd, value);
        let [first, second] = moments;
        let lanes = S::f32s::LEN;
        let whole = values.len() / lanes * lanes;
        let (keep1, take1) = (constant(self.beta1), constant(1.0 - self.beta1));
        let (keep2, take2) = (constant(self.beta2), constant(1.0 - self.beta2));
        for at in (0..whole).step_by(lanes) {
            let g: S::f32s = load(simd, gradient, at);
            let m = keep1.mul_add(load::<S>(simd, first, at), take1 * g);
            let v = keep2.mul_add(load::<S>(simd, second, at), take2 * g * g);
            store(m, first, at);
            store(v, second, at);
            let root = v.sqrt() * constant(self.second) + constant(self.epsilon);
            let value: S::f32s = load(simd, values, at);
            store(value - constant(self.rate) * m / root, values, at);
        }
        for at in whole..values.len() {
            let g = gradient[at];
            first[at] = self.beta1 * first[at] + (1.0 - self.beta1) * g;
            second[at] = self.beta2 * second[at] + (1.0 - self.beta2) * g * g;
            let root = second[at].sqrt() * self.second + self.epsilon;
            values[at] -= self.rate * first[at] / root;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instruction_sets;

    /// Algorithm 1 of Kingma and Ba, in f64.
    #[test]
    fn steps_are_those_of_the_paper_on_every_instruction_set() {
        const BETAS: (f64, f64) = (0.9, 0.99);
        const RATE: f64 = 0.05;
        let gradient = |step: u32, i: usize| ((step * 7) as f32 + 1.3 * i as f32).sin();
        for simd in instruction_sets() {
            let mut values = vec![0.5; 37];
            let (mut first, mut second) = (vec![0.0; 37], vec![0.0; 37]);
            let mut wanted = vec![(0.5, 0.0, 0.0); 37];
            for step in 1..=20 {
                let g: Vec<f32> = (0..37).map(|i| gradient(step, i)).collect();
                let adam = Adam::new(RATE, BETAS, step);
                adam.apply(simd, &mut values, [&mut first, &mut second], &g);
                for (&g, (theta, m, v)) in g.iter().zip(&mut wanted) {
                    let g = f64::from(g);
                    *m = BETAS.0 * *m + (1.0 - BETAS.0) * g;
                    *v = BETAS.1 * *v + (1.0 - BETAS.1) * g * g;
                    let bias = |beta: f64| 1.0 - beta.powi(step as i32);
                    let (m, v) = (*m / bias(BETAS.0), *v / bias(BETAS.1));
                    *theta -= RATE * m / (v.sqrt() + f64::from(EPSILON));
                }
            }
            for (value, (wanted, ..)) in values.iter().zip(&wanted) {
                assert!((f64::from(*value) - wanted).abs() < 1e-5, "{simd:?}: {value} {wanted}");
            }
        }
    }
}
