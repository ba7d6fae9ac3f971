//! A GPU as the encoder's accelerator: opened for the first training, then kept for those that follow.

use std::sync::{Mutex, PoisonError};

use super::latents::LatentTrainer;
use super::{Gpu, GpuError, Trainer, Variant};
use siren_encoder::train::siren::{self, Task};
use siren_encoder::train::{self, Device, latents};
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

    fn siren<'a>(&mut self, task: &Task<'a>) -> Result<Box<dyn siren::Stepper + 'a>, DeviceError> {
        let &Task { raster, topology, ref scales, points } = task;
        let variant = Variant::of_training(topology, points, self);
        Ok(Box::new(Trainer::new(self, raster, topology, scales, variant)?))
    }

    fn latents(
        &mut self,
        sizes: &latents::Sizes,
    ) -> Result<Box<dyn latents::Stepper>, DeviceError> {
        Ok(Box::new(LatentTrainer::new(self, sizes.clone())?))
    }
}
