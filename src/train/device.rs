//! Choice of the device: candle's, and beside the CPU a GPU that computes loss and gradient.

use candle_core::Device;

use crate::error::EncodeError;
#[cfg(feature = "gpu")]
use crate::gpu::Gpu;

/// Where training runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A GPU that this build supports and this machine has, else the CPU.
    #[default]
    Auto,
    /// The CPU, all cores.
    Cpu,
    /// The first NVIDIA GPU; needs the cargo feature `cuda`.
    Cuda,
    /// The first Apple GPU; needs the cargo feature `metal`.
    Metal,
    /// Any GPU, for the loss and its gradient; the optimizer stays on the CPU. Needs the cargo
    /// feature `gpu`.
    Gpu,
}

/// An opened device.
pub(crate) struct Opened {
    /// Where candle's tensors live.
    pub device: Device,
    pub name: &'static str,
    #[cfg(feature = "gpu")]
    pub gpu: Option<Gpu>,
}

impl DeviceChoice {
    /// Opens the device and closes it again.
    ///
    /// # Errors
    /// [`EncodeError::Device`] says what is missing.
    pub fn check(self) -> Result<(), EncodeError> {
        self.open().map(|_| ())
    }

    /// Opens the device.
    pub(crate) fn open(self) -> Result<Opened, EncodeError> {
        match self {
            Self::Auto => Ok(Self::open(Self::Cuda)
                .or_else(|_| Self::open(Self::Metal))
                .unwrap_or_else(|_| Opened::new("cpu", Device::Cpu))),
            Self::Cpu => Ok(Opened::new("cpu", Device::Cpu)),
            Self::Cuda if !cfg!(feature = "cuda") => Err(not_built("cuda")),
            Self::Metal if !cfg!(feature = "metal") => Err(not_built("metal")),
            Self::Cuda => opened("cuda", Device::new_cuda(0)),
            Self::Metal => opened("metal", Device::new_metal(0)),
            #[cfg(not(feature = "gpu"))]
            Self::Gpu => Err(not_built("gpu")),
            #[cfg(feature = "gpu")]
            Self::Gpu => match Gpu::open() {
                Ok(gpu) => Ok(Opened { gpu: Some(gpu), ..Opened::new("gpu", Device::Cpu) }),
                Err(error) => Err(failed("gpu", error)),
            },
        }
    }
}

impl Opened {
    fn new(name: &'static str, device: Device) -> Self {
        Self {
            device,
            name,
            #[cfg(feature = "gpu")]
            gpu: None,
        }
    }
}

fn opened(
    device: &'static str,
    result: candle_core::Result<Device>,
) -> Result<Opened, EncodeError> {
    match result {
        Ok(opened) => Ok(Opened::new(device, opened)),
        Err(error) => Err(failed(device, error)),
    }
}

/// The error of a device that does not work.
pub(super) fn failed(device: &'static str, error: impl std::error::Error) -> EncodeError {
    EncodeError::Device { device, reason: error.to_string() }
}

fn not_built(device: &'static str) -> EncodeError {
    let reason = format!("this build has no {device} support; install with `--features {device}`");
    EncodeError::Device { device, reason }
}
