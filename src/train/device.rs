//! Choice of the candle device.

use candle_core::Device;

use crate::error::EncodeError;

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
}

impl DeviceChoice {
    /// The device and its name.
    pub(crate) fn open(self) -> Result<(Device, &'static str), EncodeError> {
        match self {
            Self::Auto => Ok(Self::open(Self::Cuda)
                .or_else(|_| Self::open(Self::Metal))
                .unwrap_or((Device::Cpu, "cpu"))),
            Self::Cpu => Ok((Device::Cpu, "cpu")),
            Self::Cuda if !cfg!(feature = "cuda") => Err(not_built("cuda")),
            Self::Metal if !cfg!(feature = "metal") => Err(not_built("metal")),
            Self::Cuda => opened("cuda", Device::new_cuda(0)),
            Self::Metal => opened("metal", Device::new_metal(0)),
        }
    }
}

fn opened(
    device: &'static str,
    result: candle_core::Result<Device>,
) -> Result<(Device, &'static str), EncodeError> {
    match result {
        Ok(opened) => Ok((opened, device)),
        Err(error) => Err(EncodeError::Device { device, reason: error.to_string() }),
    }
}

fn not_built(device: &'static str) -> EncodeError {
    let reason = format!("this build has no {device} support; install with `--features {device}`");
    EncodeError::Device { device, reason }
}
