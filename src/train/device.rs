//! Choice of the device: candle's, and beside the CPU a GPU that computes loss and gradient.

use candle_core::Device;

use crate::error::EncodeError;
#[cfg(feature = "gpu")]
use crate::gpu::{Gpu, Trainer, Variant};
#[cfg(feature = "gpu")]
use crate::network::Topology;
#[cfg(feature = "gpu")]
use crate::raster::Raster;

/// Where training runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first of [`DeviceChoice::Gpu`], [`DeviceChoice::Cuda`] and [`DeviceChoice::Metal`] that
    /// this build supports and this machine has, where it is expected to be faster; else the CPU. Not
    /// an integrated GPU, nor one through OpenGL.
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

impl DeviceChoice {
    /// Opens the device and closes it again.
    ///
    /// # Errors
    /// [`EncodeError::Device`] says what is missing.
    pub fn check(self) -> Result<(), EncodeError> {
        TrainingDevice::new(self).open(false).map(|_| ())
    }
}

/// The device of all trainings of an encode, opened for the first of them. Where a GPU fails, the
/// CPU goes on.
pub(crate) struct TrainingDevice {
    choice: DeviceChoice,
    /// Where candle's tensors live, once it is open.
    tensors: Option<Device>,
    /// What to call it.
    pub name: String,
    /// What computes loss and gradient in the CPU's place.
    #[cfg(feature = "gpu")]
    gpu: Option<Gpu>,
    /// Whether it has done a step.
    #[cfg(feature = "gpu")]
    has_worked: bool,
    /// Why the GPU failed.
    pub failure: Option<String>,
}

impl TrainingDevice {
    /// One that is open and computes on a GPU.
    #[cfg(all(test, feature = "gpu"))]
    pub fn of_gpu(choice: DeviceChoice, gpu: Gpu) -> Self {
        let mut device = Self::new(choice);
        device.tensors = Some(Device::Cpu);
        device.compute_on(gpu);
        device
    }

    pub fn new(choice: DeviceChoice) -> Self {
        Self {
            choice,
            tensors: None,
            name: "cpu".into(),
            #[cfg(feature = "gpu")]
            gpu: None,
            #[cfg(feature = "gpu")]
            has_worked: false,
            failure: None,
        }
    }

    /// Opens the device, if it is not open, and gives candle's.
    ///
    /// # Errors
    /// [`EncodeError::Device`] where one that was asked for is not there.
    pub fn open(&mut self, gpu_is_faster: bool) -> Result<Device, EncodeError> {
        let tensors = match (self.tensors.take(), self.choice) {
            (Some(tensors), _) => tensors,
            (None, DeviceChoice::Auto) if gpu_is_faster => self.open_any(),
            (None, DeviceChoice::Auto | DeviceChoice::Cpu) => Device::Cpu,
            (None, DeviceChoice::Cuda) => self.open_tensors("cuda")?,
            (None, DeviceChoice::Metal) => self.open_tensors("metal")?,
            (None, DeviceChoice::Gpu) => {
                self.open_gpu()?;
                Device::Cpu
            }
        };
        Ok(self.tensors.insert(tensors).clone())
    }

    /// Opens the first device beside the CPU.
    fn open_any(&mut self) -> Device {
        self.open_automatic();
        if self.name != "cpu" || self.failure.is_some() {
            return Device::Cpu;
        }
        let others = self.open_tensors("cuda").or_else(|_| self.open_tensors("metal"));
        others.unwrap_or(Device::Cpu)
    }

    /// Opens the device for latent grids, which candle does not train, if it is not open.
    ///
    /// # Errors
    /// As [`TrainingDevice::open`].
    pub fn open_for_grids(&mut self, gpu_is_faster: bool) -> Result<(), EncodeError> {
        if self.name != "cpu" || self.failure.is_some() {
            return Ok(());
        }
        match self.choice {
            DeviceChoice::Auto if gpu_is_faster => self.open_automatic(),
            DeviceChoice::Gpu => self.open_gpu()?,
            _ => {}
        }
        Ok(())
    }

    /// Opens the GPU that is taken where none was asked for, if there is one.
    fn open_automatic(&mut self) {
        #[cfg(feature = "gpu")]
        match Gpu::automatic() {
            Ok(None) => {}
            Ok(Some(gpu)) => self.compute_on(gpu),
            Err(error) => self.failure = Some(error.to_string()),
        }
    }

    /// What computes in the CPU's place, once it is open.
    #[cfg(feature = "gpu")]
    pub fn gpu(&self) -> Option<&Gpu> {
        self.gpu.as_ref()
    }

    fn open_tensors(&mut self, name: &'static str) -> Result<Device, EncodeError> {
        let (opened, needed) = match name {
            "cuda" if cfg!(feature = "cuda") => {
                (Device::new_cuda(0), "an NVIDIA card with its driver")
            }
            "metal" if cfg!(feature = "metal") => (Device::new_metal(0), "an Apple GPU"),
            _ => return Err(EncodeError::not_built(name)),
        };
        let tensors = opened.map_err(|error| {
            // With RUST_BACKTRACE candle tells a backtrace below.
            let error = error.to_string();
            let error = error.lines().next().unwrap_or_default();
            EncodeError::Device { device: name, reason: format!("{needed} is needed: {error}") }
        })?;
        self.name = name.into();
        Ok(tensors)
    }

    #[cfg(feature = "gpu")]
    fn open_gpu(&mut self) -> Result<(), EncodeError> {
        self.compute_on(Gpu::open().map_err(|error| failed("gpu", error))?);
        Ok(())
    }

    #[cfg(not(feature = "gpu"))]
    fn open_gpu(&mut self) -> Result<(), EncodeError> {
        Err(EncodeError::not_built("gpu"))
    }

    /// Has a GPU compute loss and gradient, beside candle's CPU.
    #[cfg(feature = "gpu")]
    fn compute_on(&mut self, gpu: Gpu) {
        self.name = format!("gpu ({})", gpu.adapter().name);
        self.gpu = Some(gpu);
    }

    /// Puts a picture on the GPU, if there is one that works.
    ///
    /// # Errors
    /// As [`TrainingDevice::give_up`].
    #[cfg(feature = "gpu")]
    pub fn trainer(
        &mut self,
        raster: &Raster,
        topology: &Topology,
        scales: &[f32],
        points: usize,
    ) -> Result<Option<Trainer>, EncodeError> {
        let Some(gpu) = &self.gpu else { return Ok(None) };
        let variant = Variant::of_training(topology, points, gpu);
        match Trainer::new(gpu, raster, topology, scales, variant) {
            Ok(trainer) => Ok(Some(trainer)),
            Err(error) => self.give_up(error).map(|()| None),
        }
    }

    /// Says that the GPU has done a step.
    #[cfg(feature = "gpu")]
    pub fn has_worked(&mut self) {
        self.has_worked = true;
    }

    /// Gives the GPU up, for good.
    ///
    /// # Errors
    /// [`EncodeError::Device`] for one that was asked for and has done nothing yet.
    #[cfg(feature = "gpu")]
    pub fn give_up(&mut self, error: impl std::fmt::Display) -> Result<(), EncodeError> {
        if self.choice == DeviceChoice::Gpu && !self.has_worked {
            return Err(failed("gpu", error));
        }
        self.name = match self.has_worked {
            true => format!("{}, then cpu", self.name),
            false => "cpu".into(),
        };
        self.failure = Some(error.to_string());
        self.gpu = None;
        Ok(())
    }
}

#[cfg(feature = "gpu")]
fn failed(device: &'static str, error: impl std::fmt::Display) -> EncodeError {
    EncodeError::Device { device, reason: error.to_string() }
}
