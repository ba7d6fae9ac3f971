//! Steps of trainings on a GPU, of one SIREN ([`siren`]) and of latents ([`latents`]), and the GPU as
//! the encoder's accelerator: opened for the first training, then kept for those that follow.

mod latents;
mod siren;

use super::pipeline::compile;
use super::{Gpu, GpuError, KeptGpu, Timer, Variant};
use latents::LatentTrainer;
pub use siren::Trainer;
use siren_encoder::train::siren::{Stepper, Task};
use siren_encoder::train::{self, Device};
use siren_image::DeviceError;

/// Trains on a GPU: the best, or the one of [`ADAPTER_VARIABLE`](super::ADAPTER_VARIABLE).
#[derive(Debug, Default)]
pub struct Accelerator(KeptGpu);

impl train::Accelerator for Accelerator {
    fn open(&self) -> Result<Box<dyn Device>, DeviceError> {
        Ok(Box::new(self.0.open()?))
    }

    fn open_automatically(&self) -> Result<Option<Box<dyn Device>>, DeviceError> {
        let gpu = self.0.automatic()?;
        Ok(gpu.map(|gpu| -> Box<dyn Device> { Box::new(gpu) }))
    }
}

impl Device for Gpu {
    fn name(&self) -> String {
        self.adapter().device_name()
    }

    fn siren<'a>(&mut self, task: &Task<'a>) -> Result<Box<dyn Stepper + 'a>, DeviceError> {
        let &Task { raster, topology, ref scales, points } = task;
        let variant = Variant::of_training(topology, points, self);
        Ok(Box::new(Trainer::new(self, raster, topology, scales, variant)?))
    }

    fn latents(
        &mut self,
        sizes: &train::latents::Sizes,
    ) -> Result<Box<dyn train::latents::Stepper>, DeviceError> {
        if sizes.bases.waves() > 0 {
            return Err(GpuError::Unsupported("trainings of waves").into());
        }
        Ok(Box::new(LatentTrainer::new(self, sizes.clone())?))
    }
}

/// A training step in evaluations: forward, and the gradients of activations and of weights.
const EVALUATIONS: u64 = 3;

/// Compiles the kernel that sums the gradients of all workgroups.
fn compile_sum(gpu: &Gpu) -> Result<wgpu::ComputePipeline, GpuError> {
    compile(gpu, include_str!("../shaders/sum.wgsl").to_owned(), "sum", None)
}

/// Workgroups of that kernel for gradients of so many `vec4f`.
fn sum_workgroups(gradient_length: u32) -> u32 {
    /// `vec4f` that each takes.
    const COLUMNS: u32 = 16;
    gradient_length.div_ceil(COLUMNS)
}

/// Checks the count of points that kernels leave behind a gradient, `end`, and gives the error.
fn counted_error(end: &[f32], wanted: usize) -> Result<f64, GpuError> {
    let (seen, wanted) = (end[1] as u64 + 1024 * end[2] as u64, wanted as u64);
    if seen != wanted {
        return Err(GpuError::Incomplete { seen, wanted });
    }
    Ok(f64::from(end[0]))
}

impl Timer {
    /// [`Timer::pass`] for one of the dispatches that make up a pass.
    fn part(
        &self,
        pass: u32,
        part: usize,
        parts: usize,
    ) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let (first, last) = (part == 0, part + 1 == parts);
        let mut whole = self.pass(pass);
        whole.beginning_of_pass_write_index.take_if(|_| !first);
        whole.end_of_pass_write_index.take_if(|_| !last);
        (first || last).then_some(whole)
    }
}

impl Gpu {
    /// Tiles of a dispatch that takes its part of so many, each of so many operations.
    fn tiles_of_dispatch(&self, tiles: u64, flops: u64) -> u64 {
        let most = (self.most_flops / flops).max(1);
        tiles.div_ceil(tiles.div_ceil(most))
    }
}
