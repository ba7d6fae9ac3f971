//! `sirenc devices` and `--device`: what can train and render on this machine, which of it is taken,
//! and what is said where it fails.

#[cfg(feature = "gpu")]
use anyhow::Context;
use anyhow::Result;
use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
#[cfg(any(feature = "encode", not(feature = "gpu")))]
use sirenc::EncodeError;
use sirenc::Render;
#[cfg(feature = "gpu")]
use sirenc::gpu::Gpu;

use super::{Outcome, output};

/// Where to train or to render.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum DeviceName {
    /// A GPU where this build and machine have one that is expected to be faster, else the CPU
    Auto,
    /// The CPU
    Cpu,
    /// An NVIDIA GPU
    Cuda,
    /// An Apple GPU
    Metal,
    /// Any GPU, through Vulkan, Metal, Direct3D 12 or OpenGL
    Gpu,
}

impl DeviceName {
    /// Those that render.
    pub fn of_renders() -> impl TypedValueParser<Value = Self> {
        let names = [Self::Auto, Self::Cpu, Self::Gpu].map(|name| name.to_possible_value());
        PossibleValuesParser::new(names.into_iter().flatten())
            .map(|name| Self::from_str(&name, false).expect("a possible value"))
    }

    #[cfg(feature = "encode")]
    pub fn library(self) -> sirenc::DeviceChoice {
        use sirenc::DeviceChoice;
        match self {
            Self::Auto => DeviceChoice::Auto,
            Self::Cpu => DeviceChoice::Cpu,
            Self::Cuda => DeviceChoice::Cuda,
            Self::Metal => DeviceChoice::Metal,
            Self::Gpu => DeviceChoice::Gpu,
        }
    }
}

/// What renders, for all files of a command.
pub(super) enum RenderDevice {
    Cpu,
    #[cfg(feature = "gpu")]
    Auto(AutomaticGpu),
    #[cfg(feature = "gpu")]
    Gpu(Gpu),
}

impl RenderDevice {
    pub fn open(name: DeviceName) -> Result<Self> {
        match name {
            #[cfg(feature = "gpu")]
            DeviceName::Auto => Ok(Self::Auto(AutomaticGpu::default())),
            #[cfg(feature = "gpu")]
            DeviceName::Gpu => Ok(Self::Gpu(Gpu::open().context("device gpu")?)),
            #[cfg(not(feature = "gpu"))]
            DeviceName::Gpu => Err(EncodeError::not_built("gpu").into()),
            _ => Ok(Self::Cpu),
        }
    }

    /// Moves a render to the device.
    pub fn take(&self, render: Render) -> Result<Render> {
        match self {
            Self::Cpu => Ok(render),
            #[cfg(feature = "gpu")]
            Self::Auto(gpu) => Ok(gpu.take(render)),
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => render.on(|job| gpu.backend(job)).context("device gpu"),
        }
    }

    /// Tells of a GPU that was taken without being asked for, and of one that failed.
    #[cfg(feature = "gpu")]
    pub fn report(&self, input: &std::path::Path, render: &Render) {
        if let Some(error) = render.failure() {
            warn_of_failure(&error.to_string());
        } else if let (Self::Auto(_), Some(device)) = (self, render.device()) {
            super::progress::message(&format!("{}: rendered on {device}", input.display()));
        }
    }

    #[cfg(not(feature = "gpu"))]
    pub fn report(&self, _: &std::path::Path, _: &Render) {}
}

/// The GPU that is taken where none was asked for, opened for the first render that is worth it, and
/// once more where it was lost.
#[cfg(feature = "gpu")]
#[derive(Default)]
pub(super) struct AutomaticGpu(std::cell::RefCell<Option<Gpu>>);

#[cfg(feature = "gpu")]
impl AutomaticGpu {
    /// Moves a render to it, where it is expected to be faster, its start included.
    fn take(&self, render: Render) -> Render {
        let threads = rayon::current_num_threads();
        // A GPU has no derivatives.
        let worth_it = render.field() == sirenc::Field::Value
            && sirenc::speed::gpu_is_faster(render.operations(), threads, 0);
        if !worth_it {
            return render;
        }
        match self.open() {
            Ok(None) => render,
            Ok(Some(gpu)) => render.on_or_cpu(|job| gpu.backend(job)),
            Err(error) => render.on_or_cpu(|_| Err(error.into())),
        }
    }

    fn open(&self) -> Result<Option<Gpu>, sirenc::gpu::GpuError> {
        let mut opened = self.0.borrow_mut();
        if opened.as_ref().is_none_or(Gpu::is_lost) {
            *opened = Gpu::automatic()?;
        }
        Ok(opened.clone())
    }
}

/// Says that a GPU failed and the CPU went on.
#[cfg(any(feature = "encode", feature = "gpu"))]
pub(super) fn warn_of_failure(failure: &str) {
    super::progress::message(&format!("warning: {failure}; went on on the CPU"));
}

pub(super) fn run() -> Result<Outcome> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut lines = vec![format!("cpu: {threads} threads")];
    lines.extend(adapters());
    #[cfg(feature = "encode")]
    for (name, choice) in
        [("cuda", sirenc::DeviceChoice::Cuda), ("metal", sirenc::DeviceChoice::Metal)]
    {
        let found = choice.check().map_or_else(reason, |()| "candle's reference path".into());
        lines.push(format!("{name}: {found}"));
    }
    output::print((lines.join("\n") + "\n").as_bytes())
}

#[cfg(feature = "gpu")]
fn adapters() -> Vec<String> {
    use sirenc::gpu::{ADAPTER_VARIABLE, Adapter};
    let line = |adapter: Adapter| {
        let Adapter { name, driver, backend, software, automatic, .. } = adapter;
        let only = match (software, automatic) {
            (true, _) => format!(" (software: used only where {ADAPTER_VARIABLE} names it)"),
            (_, false) => " (not taken by --device auto)".to_owned(),
            (_, true) => String::new(),
        };
        format!("gpu: {name}, {driver}, {backend}{only}")
    };
    let lines: Vec<String> = sirenc::gpu::adapters().into_iter().map(line).collect();
    if lines.is_empty() { vec!["gpu: none was found".into()] } else { lines }
}

#[cfg(not(feature = "gpu"))]
fn adapters() -> Vec<String> {
    vec![format!("gpu: {}", reason(EncodeError::not_built("gpu")))]
}

/// Why a device cannot be used.
#[cfg(any(feature = "encode", not(feature = "gpu")))]
fn reason(error: EncodeError) -> String {
    match error {
        EncodeError::Device { reason, .. } => reason,
        other => other.to_string(),
    }
}
