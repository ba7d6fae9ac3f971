//! A GPU for threads that wait: the one place that blocks, and that drives devices by polling them. In
//! a browser there is neither: it drives its devices itself, and who waits there awaits.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::{Adapter, Gpu, GpuError, Renderer};
use siren_image::DeviceError;
use siren_image::Samples;
use siren_image::backend::{Backend, Job, Rows};
use siren_image::container::BitDepth;

/// Waits for a future.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    pollster::block_on(future)
}

/// Waits until a device has done a submission, or else the last one, and has called back who asked
/// for it.
pub(super) fn drive(
    device: &wgpu::Device,
    submission: Option<wgpu::SubmissionIndex>,
) -> Result<(), GpuError> {
    let wait = wgpu::PollType::Wait { submission_index: submission, timeout: None };
    device.poll(wait).map(drop).map_err(|error| {
        // A device that is lost says so in the next turn.
        let _ = device.poll(wgpu::PollType::Poll);
        GpuError::Failed(error.to_string())
    })
}

/// [`adapters_async`](super::adapters_async), waited for.
pub fn adapters() -> Vec<Adapter> {
    block_on(super::adapters_async())
}

impl Gpu {
    /// [`Gpu::open_async`], waited for.
    ///
    /// # Errors
    /// As that.
    pub fn open() -> Result<Self, GpuError> {
        block_on(Self::open_async())
    }

    /// [`Gpu::automatic_async`], waited for.
    ///
    /// # Errors
    /// As that.
    pub fn automatic() -> Result<Option<Self>, GpuError> {
        block_on(Self::automatic_async())
    }

    /// [`Gpu::named_async`], waited for.
    ///
    /// # Errors
    /// As that.
    pub fn named(name: &str) -> Result<Self, GpuError> {
        block_on(Self::named_async(name))
    }

    /// Opens an adapter for tests, a software one if there is one. Where `SIRENC_TEST_GPU` is set
    /// there must be one: where it is `card`, the best of those that are not software.
    ///
    /// # Panics
    /// Where what must be there is not, or does not open.
    #[doc(hidden)]
    pub fn for_tests() -> Option<Self> {
        let wanted = std::env::var("SIRENC_TEST_GPU").ok();
        let card = wanted.as_deref() == Some("card");
        let opened = block_on(Self::first(&super::OPENGL_LAST, |a| a.software != card));
        let opened = opened.expect("an adapter that opens");
        assert!(opened.is_some() || wanted.is_none(), "SIRENC_TEST_GPU: there is no adapter");
        opened
    }

    /// A renderer, as [`Render::on`](siren_image::Render::on) asks for it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let bytes = std::fs::read("samples/coffee.siren")?;
    /// # let render = siren_image::Decoder::new(&bytes)?.prepare(&Default::default())?;
    /// # let Some(gpu) = siren_gpu::Gpu::automatic()? else { return Ok(()) };
    /// let render = render.on(|job| gpu.backend(job))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Renderer::of_job`].
    pub fn backend(&self, job: &Job) -> Result<Box<dyn Backend>, DeviceError> {
        Ok(Box::new(Renderer::of_job(self, job)?))
    }
}

/// A GPU that is opened when it is first asked for, kept, and opened once more where it was lost.
#[derive(Debug, Default)]
pub struct KeptGpu(Mutex<Option<Gpu>>);

impl KeptGpu {
    /// The GPU that is kept, else as [`Gpu::open`].
    ///
    /// # Errors
    /// As that.
    pub fn open(&self) -> Result<Gpu, GpuError> {
        let gpu = self.get(|| Gpu::open().map(Some))?;
        Ok(gpu.expect("it has opened"))
    }

    /// The GPU that is kept, else as [`Gpu::automatic`].
    ///
    /// # Errors
    /// As that.
    pub fn automatic(&self) -> Result<Option<Gpu>, GpuError> {
        self.get(Gpu::automatic)
    }

    fn get(
        &self,
        open: impl FnOnce() -> Result<Option<Gpu>, GpuError>,
    ) -> Result<Option<Gpu>, GpuError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(Gpu::is_lost) {
            *kept = open()?;
        }
        Ok(kept.clone())
    }
}

impl Backend for Renderer {
    fn name(&self) -> String {
        self.gpu().adapter().device_name()
    }

    fn rows(&mut self, rows: Range<u32>, out: Rows) -> Result<(), DeviceError> {
        Ok(block_on(self.fill(rows, out))?)
    }
}

impl Renderer {
    /// The samples of some rows, of the depth that was asked for.
    ///
    /// # Errors
    /// [`GpuError::Failed`].
    ///
    /// # Panics
    /// If the range is empty or reaches beyond the grid, and without a depth.
    pub fn samples(&mut self, rows: Range<u32>) -> Result<Samples, GpuError> {
        let count = self.count(&rows);
        match self.depth().expect("a depth was asked for") {
            BitDepth::Eight => {
                let mut samples = vec![0; count];
                block_on(self.fill(rows, Rows::Eight(&mut samples)))?;
                Ok(Samples::U8(samples))
            }
            BitDepth::Sixteen => {
                let mut samples = vec![0; count];
                block_on(self.fill(rows, Rows::Sixteen(&mut samples)))?;
                Ok(Samples::U16(samples))
            }
        }
    }

    /// [`Renderer::values_async`], waited for.
    ///
    /// # Errors
    /// As that.
    ///
    /// # Panics
    /// As that.
    pub fn values(&mut self, rows: Range<u32>) -> Result<Vec<f32>, GpuError> {
        block_on(self.values_async(rows))
    }

    /// [`Renderer::pass_time_async`], waited for.
    ///
    /// # Errors
    /// As that.
    pub fn pass_time(&self) -> Result<Option<f64>, GpuError> {
        block_on(self.pass_time_async())
    }
}
