//! SOAP (Vyas et al. 2024, arXiv 2409.11321, algorithm 3): Adam in the slowly updated
//! eigenbasis of Shampoo's preconditioner. The matrices of a SIREN are so small that the
//! preconditioner costs little beside the gradients.

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
    /// The paper's, but for beta2 (docs/experiments.md) and the weight decay.
    fn default() -> Self {
        Self {
            lr: 3e-3,
            beta1: 0.95,
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
    /// Mean of the gradients, in the space of the variable.
    momentum: DMatrix<f32>,
    /// Mean of the squared gradients, in the eigenbases.
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

    /// `decay * factor + (1 - decay) * a b`.
    fn accumulate(&mut self, decay: f32, a: &DMatrix<f32>, b: &DMatrix<f32>) {
        self.factor.gemm(1.0 - decay, a, b, decay);
    }

    /// The eigenvectors, largest eigenvalue first.
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
    fn new(variable: Var, params: &SoapParams) -> Result<Self> {
        // candle's rows are nalgebra's columns.
        let (columns, rows) = match variable.dims() {
            &[columns, rows] => (columns, rows),
            _ => (variable.elem_count(), 1),
        };
        Ok(Self {
            variable,
            momentum: DMatrix::zeros(rows, columns),
            squares: DMatrix::zeros(rows, columns),
            left: Side::new(rows, params),
            right: if rows > 1 { Side::new(columns, params) } else { None },
        })
    }

    /// Into the eigenbases.
    fn project(&self, matrix: &DMatrix<f32>) -> DMatrix<f32> {
        let half = self.left.as_ref().map(|side| side.basis.tr_mul(matrix));
        let half = half.as_ref().unwrap_or(matrix);
        self.right.as_ref().map_or_else(|| half.clone(), |side| half * &side.basis)
    }

    /// Out of the eigenbases.
    fn project_back(&self, matrix: DMatrix<f32>) -> DMatrix<f32> {
        let half = self.left.as_ref().map_or(matrix.clone(), |side| &side.basis * matrix);
        self.right.as_ref().map_or_else(|| half.clone(), |side| &half * side.basis.transpose())
    }

    fn step(&mut self, gradient: &Tensor, params: &SoapParams, steps: usize) -> Result<()> {
        let (rows, columns) = self.momentum.shape();
        let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
        let gradient = DMatrix::from_vec(rows, columns, gradient);
        let (beta1, beta2) = (params.beta1 as f32, params.beta2 as f32);
        if steps == 1 {
            self.accumulate(if steps == 1 { 0.0 } else { beta2 }, &gradient);
            self.sides().for_each(Side::diagonalize);
            return Ok(());
        }
        let projected = self.project(&gradient);
        self.momentum.zip_apply(&gradient, |m, g| *m = beta1 * *m + (1.0 - beta1) * g);
        self.squares.zip_apply(&projected, |v, g| *v = beta2 * *v + (1.0 - beta2) * g * g);
        let updates = (steps - 1) as i32;
        let correct1 = 1.0 - params.beta1.powi(updates);
        let correct2 = 1.0 - params.beta2.powi(updates);
        let rate = (params.lr / correct1) as f32;
        let (scale, eps) = ((1.0 / correct2) as f32, params.eps as f32);
        let mut update = self.project(&self.momentum);
        update.zip_apply(&self.squares, |m, v| *m = rate * *m / ((scale * v).sqrt() + eps));
        let update = self.project_back(update);

        let weights = self.variable.flatten_all()?.to_vec1::<f32>()?;
        let keep = (1.0 - params.lr * params.weight_decay) as f32;
        let weights: Vec<f32> =
            weights.iter().zip(update.as_slice()).map(|(w, u)| keep * w - u).collect();
        let weights = Tensor::from_vec(weights, self.variable.shape(), self.variable.device())?;
        self.variable.set(&weights)?;

        self.accumulate(beta2, &gradient);
        if steps.is_multiple_of(params.precondition_frequency) {
            self.sides().for_each(Side::follow);
        }
        Ok(())
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
        let states = vars.map(|var| State::new(var, &params)).collect::<Result<_>>()?;
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
