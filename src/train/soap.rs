//! SOAP (Vyas et al. 2024, arXiv 2409.11321, algorithm 3): Adam in the slowly updated
//! eigenbasis of Shampoo's preconditioner, here with Nesterov's look-ahead. The matrices of
//! a SIREN are so small that the preconditioner costs little beside the gradients.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use candle_nn::Optimizer;
use nalgebra::DMatrix;
use rayon::prelude::*;

/// Settings of [`Soap`].
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

impl Default for SoapParams {
    /// What served best on photographs (docs/experiments.md).
    fn default() -> Self {
        Self {
            lr: 2e-3,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.0,
            precondition_frequency: 10,
            max_precondition_dim: 1024,
        }
    }
}

/// The optimizer. Variables of two dimensions have a preconditioner on both sides, others
/// are trained as by Adam. The first step only sets up the preconditioner.
#[derive(Debug)]
pub struct Soap {
    states: Vec<State>,
    params: SoapParams,
    steps: usize,
}

#[derive(Debug)]
struct State {
    variable: Var,
    /// Means of the gradients and of their squares, in the eigenbases.
    momentum: DMatrix<f32>,
    squares: DMatrix<f32>,
    left: Option<Side>,
    right: Option<Side>,
}

/// Shampoo's factor of one side and the basis that nearly diagonalizes it.
#[derive(Debug)]
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
        let eigen = self.factor.clone().symmetric_eigen();
        let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        self.basis = eigen.eigenvectors.select_columns(&order);
    }

    /// One step of orthogonal iteration towards the eigenvectors.
    fn follow(&mut self) {
        self.basis = (&self.factor * &self.basis).qr().q();
    }
}

impl State {
    fn new(variable: Var, params: &SoapParams) -> Self {
        // candle's rows are nalgebra's columns.
        let (columns, rows) = match *variable.dims() {
            [columns, rows] => (columns, rows),
            _ => (1, variable.elem_count()),
        };
        let matrix = variable.rank() == 2;
        Self {
            variable,
            momentum: DMatrix::zeros(rows, columns),
            squares: DMatrix::zeros(rows, columns),
            left: if matrix { Side::new(rows, params) } else { None },
            right: if matrix { Side::new(columns, params) } else { None },
        }
    }

    /// Into the eigenbases.
    fn project(&self, mut matrix: DMatrix<f32>) -> DMatrix<f32> {
        if let Some(side) = &self.left {
            matrix = side.basis.tr_mul(&matrix);
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

    fn step(&mut self, gradient: &Tensor, params: &SoapParams, steps: usize) -> Result<()> {
        let (rows, columns) = self.momentum.shape();
        let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
        let gradient = DMatrix::from_vec(rows, columns, gradient);
        if steps == 1 {
            self.accumulate(0.0, &gradient);
            self.sides().for_each(Side::diagonalize);
            return Ok(());
        }
        self.update(gradient.clone(), params, steps as i32 - 1)?;
        self.accumulate(params.beta2 as f32, &gradient);
        if steps.is_multiple_of(params.precondition_frequency) {
            let momentum = self.project_back(self.momentum.clone());
            self.sides().for_each(Side::follow);
            self.momentum = self.project(momentum);
        }
        Ok(())
    }

    /// The `count`th update of the variable.
    fn update(&mut self, gradient: DMatrix<f32>, params: &SoapParams, count: i32) -> Result<()> {
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
        let weights = self.variable.flatten_all()?.to_vec1::<f32>()?;
        let weights = weights.iter().zip(change.as_slice()).map(|(w, c)| keep * w - c);
        let weights: Vec<f32> = weights.collect();
        self.variable.set(&Tensor::from_vec(
            weights,
            self.variable.shape(),
            self.variable.device(),
        )?)
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

impl Optimizer for Soap {
    type Config = SoapParams;

    fn new(vars: Vec<Var>, params: SoapParams) -> Result<Self> {
        let vars = vars.into_iter().filter(|var| var.dtype().is_float());
        let states = vars.map(|var| State::new(var, &params)).collect();
        Ok(Self { states, params, steps: 0 })
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        self.steps += 1;
        let (params, steps) = (&self.params, self.steps);
        self.states.par_iter_mut().try_for_each(|state| match grads.get(&state.variable) {
            Some(gradient) => state.step(gradient, params, steps),
            None => Ok(()),
        })
    }

    fn learning_rate(&self) -> f64 {
        self.params.lr
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.params.lr = lr;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// An ill-conditioned quadratic in a matrix: `|A (X - T) B|^2`.
    #[test]
    fn reaches_the_minimum_of_a_skewed_quadratic() -> Result<()> {
        let device = Device::Cpu;
        let target = Tensor::arange(0f32, 12.0, &device)?.reshape((3, 4))?;
        let a = Tensor::new(&[[3f32, 1.0, 0.0], [1.0, 1.0, 0.5], [0.0, 0.5, 0.2]], &device)?;
        let x = Var::zeros((3, 4), candle_core::DType::F32, &device)?;
        let vector = Var::zeros(2, candle_core::DType::F32, &device)?;
        let loss = || -> Result<Tensor> {
            let matrix = a.matmul(&(x.as_tensor() - &target)?)?.sqr()?.sum_all()?;
            matrix + (vector.as_tensor() - 1.0)?.sqr()?.sum_all()?
        };
        let variables = vec![x.clone(), vector.clone()];
        let mut soap = Soap::new(variables, SoapParams { lr: 0.1, ..SoapParams::default() })?;
        let first = loss()?.to_scalar::<f32>()?;
        for step in 0..600 {
            soap.set_learning_rate(0.3 * (1.0 - f64::from(step) / 600.0));
            soap.backward_step(&loss()?)?;
        }
        let last = loss()?.to_scalar::<f32>()?;
        assert!(last < 1e-5 * first, "{first} -> {last}");
        Ok(())
    }
}
