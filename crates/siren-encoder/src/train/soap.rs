//! SOAP (Vyas et al. 2024, arXiv 2409.11321, algorithm 3): Adam in the slowly updated
//! eigenbasis of Shampoo's preconditioner, here with Nesterov's look-ahead. The matrices of
//! a SIREN are so small that the preconditioner costs little beside the gradients. Knows
//! slices of numbers.

use nalgebra::DMatrix;

use super::archive::Archive;
use crate::error::EncodeError;

/// Settings of SOAP.
#[derive(Debug, Clone, PartialEq)]
pub struct SoapParams {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the mean of the gradients.
    pub beta1: f64,
    /// Decay of the mean of the squared gradients and of Shampoo's factors.
    pub beta2: f64,
    /// Added to the root of the squares.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Steps from one update of the eigenbases to the next.
    pub precondition_frequency: usize,
    /// A side of a matrix that is longer than this has no preconditioner.
    pub max_precondition_dim: usize,
}

impl SoapParams {
    /// What served best for SIRENs of photographs (docs/experiments.md).
    pub const DEFAULT: Self = Self {
        lr: 2e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.0,
        precondition_frequency: 10,
        max_precondition_dim: 1024,
    };
}

impl Default for SoapParams {
    /// [`SoapParams::DEFAULT`].
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A matrix of weights in training; one of a single row or column has a preconditioner on its
/// other side only. The first step only sets up the preconditioner.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// Means of the gradients and of their squares, in the eigenbases.
    momentum: DMatrix<f32>,
    squares: DMatrix<f32>,
    left: Option<Side>,
    right: Option<Side>,
    steps: usize,
}

/// Shampoo's factor of one side and the basis that nearly diagonalizes it.
#[derive(Debug, Clone)]
struct Side {
    factor: DMatrix<f32>,
    basis: DMatrix<f32>,
}

impl Side {
    fn new(dim: usize, params: &SoapParams) -> Option<Self> {
        (1 < dim && dim <= params.max_precondition_dim)
            .then(|| Self { factor: DMatrix::zeros(dim, dim), basis: DMatrix::identity(dim, dim) })
    }

    /// `factor = decay * factor + (1 - decay) * a b`.
    fn accumulate(&mut self, decay: f32, a: &DMatrix<f32>, b: &DMatrix<f32>) {
        self.factor.gemm(1.0 - decay, a, b, decay);
    }

    /// Takes the eigenvectors as the basis, largest eigenvalue first.
    fn diagonalize(&mut self) {
        // In f32 nalgebra's are NaN for some matrices of low rank.
        let eigen = self.factor.map(f64::from).symmetric_eigen();
        let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        self.set_basis(eigen.eigenvectors.select_columns(&order).map(|x| x as f32));
    }

    /// One step of orthogonal iteration towards the eigenvectors.
    fn follow(&mut self) {
        self.set_basis((&self.factor * &self.basis).qr().q());
    }

    /// Any orthogonal basis will do where a decomposition fails.
    fn set_basis(&mut self, basis: DMatrix<f32>) {
        if basis.iter().all(|x| x.is_finite()) {
            self.basis = basis;
        }
    }
}

impl Matrix {
    /// For `len` weights in rows of `columns`.
    pub fn new(len: usize, columns: usize, params: &SoapParams) -> Self {
        // Rows in memory are nalgebra's columns.
        let (long, wide) = (columns, len / columns);
        Self {
            left: Side::new(long, params),
            right: Side::new(wide, params),
            ..Self::vector_of(long, wide)
        }
    }

    /// For `len` weights without a preconditioner: Adam's step.
    pub fn vector(len: usize) -> Self {
        Self::vector_of(len, 1)
    }

    fn vector_of(long: usize, wide: usize) -> Self {
        let zeros = || DMatrix::zeros(long, wide);
        Self { momentum: zeros(), squares: zeros(), left: None, right: None, steps: 0 }
    }

    /// Saves or restores all of it.
    pub(crate) fn archive(&mut self, archive: &mut Archive) -> Result<(), EncodeError> {
        archive.usize(&mut self.steps)?;
        archive.f32s(self.momentum.as_mut_slice())?;
        archive.f32s(self.squares.as_mut_slice())?;
        for Side { factor, basis } in self.sides() {
            archive.f32s(factor.as_mut_slice())?;
            archive.f32s(basis.as_mut_slice())?;
        }
        Ok(())
    }

    /// Into the eigenbases.
    fn project(&self, mut matrix: DMatrix<f32>) -> DMatrix<f32> {
        if let Some(side) = &self.left {
            // nalgebra's product with a transposed matrix takes three times as long.
            matrix = side.basis.transpose() * matrix;
        }
        if let Some(side) = &self.right {
            matrix *= &side.basis;
        }
        matrix
    }

    /// Out of the eigenbases.
    fn project_back(&self, mut matrix: DMatrix<f32>) -> DMatrix<f32> {
        if let Some(side) = &self.left {
            matrix = &side.basis * matrix;
        }
        if let Some(side) = &self.right {
            matrix *= side.basis.transpose();
        }
        matrix
    }

    /// One step of `weights`.
    pub fn step(&mut self, weights: &mut [f32], gradient: &[f32], params: &SoapParams) {
        let (rows, columns) = self.momentum.shape();
        let gradient = DMatrix::from_column_slice(rows, columns, gradient);
        self.steps += 1;
        if self.steps == 1 {
            self.accumulate(0.0, &gradient);
            self.sides().for_each(Side::diagonalize);
            return;
        }
        self.update(weights, gradient.clone(), params);
        self.accumulate(params.beta2 as f32, &gradient);
        if self.steps.is_multiple_of(params.precondition_frequency) {
            let momentum = self.project_back(self.momentum.clone());
            self.sides().for_each(Side::follow);
            self.momentum = self.project(momentum);
        }
    }

    fn update(&mut self, weights: &mut [f32], gradient: DMatrix<f32>, params: &SoapParams) {
        let count = self.steps as i32 - 1;
        let (beta1, beta2) = (params.beta1 as f32, params.beta2 as f32);
        let gradient = self.project(gradient);
        self.momentum.zip_apply(&gradient, |m, g| *m = beta1 * *m + (1.0 - beta1) * g);
        self.squares.zip_apply(&gradient, |v, g| *v = beta2 * *v + (1.0 - beta2) * g * g);
        // The momentum as it will be once the same gradient has come again.
        let rate = (params.lr / (1.0 - params.beta1.powi(count + 1))) as f32;
        let scale = (1.0 / (1.0 - params.beta2.powi(count))) as f32;
        let eps = params.eps as f32;
        let mut change = gradient;
        change.zip_zip_apply(&self.momentum, &self.squares, |g, m, v| {
            let ahead = beta1 * m + (1.0 - beta1) * *g;
            *g = rate * ahead / ((scale * v).sqrt() + eps);
        });
        let change = self.project_back(change);
        let keep = (1.0 - params.lr * params.weight_decay) as f32;
        for (weight, change) in weights.iter_mut().zip(change.as_slice()) {
            *weight = keep * *weight - change;
        }
    }

    fn sides(&mut self) -> impl Iterator<Item = &mut Side> {
        self.left.iter_mut().chain(&mut self.right)
    }

    fn accumulate(&mut self, decay: f32, gradient: &DMatrix<f32>) {
        let transposed = gradient.transpose();
        if let Some(side) = &mut self.left {
            side.accumulate(decay, gradient, &transposed);
        }
        if let Some(side) = &mut self.right {
            side.accumulate(decay, &transposed, gradient);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// An ill-conditioned quadratic in a matrix, `|A (X - T)|^2`, beside one in a vector.
    #[test]
    fn reaches_the_minimum_of_a_skewed_quadratic() {
        let a = DMatrix::from_row_slice(3, 3, &[3f32, 1.0, 0.0, 1.0, 1.0, 0.5, 0.0, 0.5, 0.2]);
        let target = DMatrix::from_fn(3, 4, |row, column| (4 * row + column) as f32);
        // Rows in memory are nalgebra's columns.
        let matrix = |x: &[f32]| DMatrix::from_column_slice(4, 3, x).transpose();
        let mut params = SoapParams { lr: 0.1, ..SoapParams::default() };
        let (mut x, mut of_x) = (vec![0.0; 12], Matrix::new(12, 4, &params));
        let (mut v, mut of_v) = (vec![0.0; 2], Matrix::vector(2));
        let loss = |x: &[f32], v: &[f32]| {
            let squares: f32 = v.iter().map(|v| (v - 1.0).powi(2)).sum();
            (&a * (matrix(x) - &target)).norm_squared() + squares
        };
        let first = loss(&x, &v);
        for step in 0..600 {
            params.lr = 0.3 * (1.0 - f64::from(step) / 600.0);
            let by_x = 2.0 * a.transpose() * &a * (matrix(&x) - &target);
            of_x.step(&mut x, by_x.transpose().as_slice(), &params);
            let by_v: Vec<f32> = v.iter().map(|v| 2.0 * (v - 1.0)).collect();
            of_v.step(&mut v, &by_v, &params);
        }
        let last = loss(&x, &v);
        assert!(last < 1e-5 * first, "{first} -> {last}");
    }

    #[test]
    fn gradients_of_low_rank_give_finite_steps() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for round in 0..300 {
            let params = SoapParams { eps: 1e-12, ..SoapParams::DEFAULT };
            let mut matrix = Matrix::new(3 * 40, 40, &params);
            let mut weights = vec![0.0; 3 * 40];
            let apart = 10f32.powi(-(round % 5));
            for _ in 0..2 {
                // Rows that are much alike, and weights that have no gradient, as those of levels
                // that are not in use yet.
                let row: Vec<f32> = (0..40).map(|_| rng.random_range(-1000.0..1000.0)).collect();
                let mut near = |value: f32| value * (1.0 + apart * rng.random_range(-1.0..1.0));
                let mut gradient: Vec<f32> =
                    (0..3).flat_map(|_| row.iter().map(|&g| near(g)).collect::<Vec<_>>()).collect();
                gradient.chunks_exact_mut(40).for_each(|row| row[32..34].fill(0.0));
                matrix.step(&mut weights, &gradient, &params);
            }
            assert!(weights.iter().all(|w| w.is_finite()), "{round}");
        }
    }
}
