//! GPUs, where this build has them: for renders, for trainings, and in the list of devices.

use anyhow::{Context, Result};
use sirenc::Render;
use sirenc::gpu::{self, ADAPTER_VARIABLE, Adapter, KeptGpu};

/// A GPU that was asked for, open.
pub struct Gpu(gpu::Gpu);

impl Gpu {
    pub fn open() -> Result<Self> {
        Ok(Self(gpu::Gpu::open().context("device gpu")?))
    }

    /// Moves a render to it.
    pub fn take(&self, render: Render) -> Result<Render> {
        render.on(|job| self.0.backend(job)).context("device gpu")
    }
}

/// The GPU that is taken where none was asked for, opened for the first render that is worth it.
#[derive(Default)]
pub struct AutomaticGpu(KeptGpu);

impl AutomaticGpu {
    /// Moves a render to it, where it is expected to be faster, its start included.
    pub fn take(&self, render: Render) -> Render {
        let threads = rayon::current_num_threads();
        // A GPU has no derivatives.
        let worth_it = render.field() == sirenc::Field::Value
            && sirenc::speed::gpu_is_faster(render.operations(), threads, 0);
        if !worth_it {
            return render;
        }
        match self.0.automatic() {
            Ok(None) => render,
            Ok(Some(gpu)) => render.on_or_cpu(|job| gpu.backend(job)),
            Err(error) => render.on_or_cpu(|_| Err(error.into())),
        }
    }
}

/// An encoder that may train on a GPU.
#[cfg(feature = "encode")]
pub fn accelerated(encoder: sirenc::Encoder) -> sirenc::Encoder {
    encoder.accelerator(std::sync::Arc::new(gpu::Accelerator::default()))
}

/// The adapters, a line each.
pub fn adapters() -> Vec<String> {
    let line = |adapter: Adapter| {
        let Adapter { name, driver, backend, software, automatic, .. } = adapter;
        let only = match (software, automatic) {
            (true, _) => format!(" (software: used only where {ADAPTER_VARIABLE} names it)"),
            (_, false) => " (not taken by --device auto)".to_owned(),
            (_, true) => String::new(),
        };
        format!("gpu: {name}, {driver}, {backend}{only}")
    };
    let lines: Vec<String> = gpu::adapters().into_iter().map(line).collect();
    if lines.is_empty() { vec!["gpu: none was found".into()] } else { lines }
}
