//! SOAP as an optimizer of candle's variables.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use candle_nn::Optimizer;
use rayon::prelude::*;

use super::{Archive, Matrix, SoapParams};
use crate::error::EncodeError;

/// The optimizer. Variables of two dimensions have a preconditioner on both sides, others
/// are trained as by Adam. The first step only sets up the preconditioner.
#[derive(Debug)]
pub struct Soap {
    states: Vec<(Var, Matrix)>,
    params: SoapParams,
}

impl Soap {
    /// Saves or restores all but the variables and the settings.
    pub(crate) fn archive(
        &mut self,
        archive: &mut Archive,
    ) -> std::result::Result<(), EncodeError> {
        self.states.iter_mut().try_for_each(|(_, matrix)| matrix.archive(archive))
    }
}

impl Optimizer for Soap {
    type Config = SoapParams;

    fn new(vars: Vec<Var>, params: SoapParams) -> Result<Self> {
        let vars = vars.into_iter().filter(|var| var.dtype().is_float());
        let state = |var: Var| {
            let len = var.elem_count();
            let matrix = match *var.dims() {
                [_, columns] => Matrix::new(len, columns, &params),
                _ => Matrix::vector(len),
            };
            (var, matrix)
        };
        Ok(Self { states: vars.map(state).collect(), params })
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        let params = &self.params;
        self.states.par_iter_mut().try_for_each(|(variable, matrix)| {
            let Some(gradient) = grads.get(variable) else { return Ok(()) };
            let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
            let mut weights = variable.flatten_all()?.to_vec1::<f32>()?;
            matrix.step(&mut weights, &gradient, params);
            variable.set(&Tensor::from_vec(weights, variable.shape(), variable.device())?)
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
