//! Steps of trainings on a GPU, of one SIREN ([`siren`]) and of latents ([`latents`]), and the GPU as
//! the encoder's accelerator: opened for the first training, then kept for those that follow.

mod latents;
mod siren;

use std::sync::{Mutex, PoisonError};

use super::pipeline::compile;
use super::{Gpu, GpuError, Timer, Variant};
use latents::LatentTrainer;
pub use siren::Trainer;
use siren_encoder::train::siren::{Stepper, Task};
use siren_encoder::train::{self, Device};
use siren_image::DeviceError;

/// Trains on a GPU: the best, or the one of [`ADAPTER_VARIABLE`](super::ADAPTER_VARIABLE).
#[derive(Debug, Default)]
pub struct Accelerator {
    opened: Mutex<Option<Gpu>>,
}

impl Accelerator {
    /// One whose GPU is open already.
    pub fn of(gpu: Gpu) -> Self {
        Self { opened: Mutex::new(Some(gpu)) }
    }

    /// The GPU that is open, if it still works, else what `open` opens.
    fn gpu(
        &self,
        open: impl FnOnce() -> Result<Option<Gpu>, GpuError>,
    ) -> Result<Option<Gpu>, GpuError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.as_ref().is_none_or(Gpu::is_lost) {
            *opened = open()?;
        }
        Ok(opened.clone())
    }
}

impl train::Accelerator for Accelerator {
    fn open(&self) -> Result<Box<dyn Device>, DeviceError> {
        let gpu = self.gpu(|| Gpu::open().map(Some))?;
        Ok(Box::new(gpu.expect("it has opened")))
    }

    fn open_automatically(&self) -> Result<Option<Box<dyn Device>>, DeviceError> {
        let gpu = self.gpu(Gpu::automatic)?;
        Ok(gpu.map(|gpu| -> Box<dyn Device> { Box::new(gpu) }))
    }
}

impl Device for Gpu {
    fn name(&self) -> String {
        format!("gpu ({})", self.adapter().name)
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
