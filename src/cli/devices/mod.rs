//! `sirenc devices` and `--device`: what can train and render on this machine, which of it is taken,
//! and what is said where it fails.

#[cfg(feature = "gpu")]
mod gpu;
#[cfg(not(feature = "gpu"))]
#[path = "no_gpu.rs"]
mod gpu;

use anyhow::Result;
use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use sirenc::Render;

#[cfg(feature = "encode")]
pub(super) use gpu::accelerated;
use gpu::{AutomaticGpu, Gpu};

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
    Auto(AutomaticGpu),
    Gpu(Gpu),
}

impl RenderDevice {
    pub fn open(name: DeviceName) -> Result<Self> {
        match name {
            DeviceName::Auto => Ok(Self::Auto(AutomaticGpu::default())),
            DeviceName::Gpu => Ok(Self::Gpu(Gpu::open()?)),
            _ => Ok(Self::Cpu),
        }
    }

    /// Moves a render to the device.
    pub fn take(&self, render: Render) -> Result<Render> {
        match self {
            Self::Cpu => Ok(render),
            Self::Auto(gpu) => Ok(gpu.take(render)),
            Self::Gpu(gpu) => gpu.take(render),
        }
    }

    /// Tells of a GPU that was taken without being asked for, and of one that failed.
    pub fn report(&self, input: &std::path::Path, render: &Render) {
        if let Some(error) = render.failure() {
            warn_of_failure(&error.to_string());
        } else if let (Self::Auto(_), Some(device)) = (self, render.device()) {
            super::progress::message(&format!("{}: rendered on {device}", input.display()));
        }
    }
}

/// Says that a GPU failed and the CPU went on.
pub(super) fn warn_of_failure(failure: &str) {
    super::progress::message(&format!("warning: {failure}; went on on the CPU"));
}

pub(super) fn run() -> Result<Outcome> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut lines = vec![format!("cpu: {threads} threads")];
    lines.extend(gpu::adapters());
    #[cfg(feature = "encode")]
    for (name, choice) in
        [("cuda", sirenc::DeviceChoice::Cuda), ("metal", sirenc::DeviceChoice::Metal)]
    {
        let found = choice.check().map_or_else(reason, |()| "candle's reference path".into());
        lines.push(format!("{name}: {found}"));
    }
    output::print((lines.join("\n") + "\n").as_bytes())
}

/// Why a device of candle's cannot be used.
#[cfg(feature = "encode")]
fn reason(error: sirenc::EncodeError) -> String {
    match error {
        sirenc::EncodeError::Device { reason, .. } => reason,
        other => other.to_string(),
    }
}
