//! Where training runs: the CPU, or a device that computes its steps in the CPU's place. Devices come
//! from outside, as an [`Accelerator`]; candle's from `reference`. Knows no pictures and no GPU.

use std::fmt::Debug;
use std::sync::Arc;

use super::{latents, siren};
use crate::error::EncodeError;
use siren_image::DeviceError;
use siren_image::fallback::Fallback;
use siren_image::speed;

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
    /// Any GPU, for the steps; the optimizer of the networks stays on the CPU. Needs an
    /// [`Accelerator`].
    Gpu,
}

impl DeviceChoice {
    /// Opens one of candle's devices and closes it again; nothing is opened for other choices.
    ///
    /// # Errors
    /// [`EncodeError::Device`] says what is missing.
    pub fn check(self) -> Result<(), EncodeError> {
        match self {
            Self::Cuda => of_candle("cuda").map(drop),
            Self::Metal => of_candle("metal").map(drop),
            Self::Auto | Self::Cpu | Self::Gpu => Ok(()),
        }
    }
}

/// What opens a device that trains; an encoder asks it once a training begins.
pub trait Accelerator: Debug + Send + Sync {
    /// Opens the device, since it was asked for.
    ///
    /// # Errors
    /// [`DeviceError`] says what is missing.
    fn open(&self) -> Result<Box<dyn Device>, DeviceError>;

    /// Opens the device where nobody has asked for one; `None` where there is none to be taken without
    /// being asked for.
    ///
    /// # Errors
    /// Where there is one that does not open.
    fn open_automatically(&self) -> Result<Option<Box<dyn Device>>, DeviceError>;
}

/// An open device.
pub trait Device: Debug + Send {
    /// What to call it.
    fn name(&self) -> String;

    /// Prepares the training of one SIREN.
    ///
    /// # Errors
    /// Where the device does not take it.
    fn siren<'a>(
        &mut self,
        task: &siren::Task<'a>,
    ) -> Result<Box<dyn siren::Stepper + 'a>, DeviceError>;

    /// Prepares the training of latents.
    ///
    /// # Errors
    /// Where the device does not take it.
    fn latents(&mut self, sizes: &latents::Sizes)
    -> Result<Box<dyn latents::Stepper>, DeviceError>;
}

/// What a training takes, roughly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// Multiplications with an addition each.
    pub operations: f64,
    /// Threads that can share them.
    pub threads: usize,
    /// Steps that wait for one another.
    pub steps: u32,
}

impl Work {
    fn is_for_gpu(self) -> bool {
        speed::gpu_is_faster(self.operations, self.threads, self.steps)
    }
}

/// The device of all trainings of an encode, opened for the first of them.
#[derive(Debug)]
pub(crate) struct TrainingDevice {
    choice: DeviceChoice,
    accelerator: Option<Arc<dyn Accelerator>>,
    /// Once it is open.
    opened: Option<Fallback<Box<dyn Device>>>,
}

impl TrainingDevice {
    pub fn new(choice: DeviceChoice, accelerator: Option<Arc<dyn Accelerator>>) -> Self {
        Self { choice, accelerator, opened: None }
    }

    /// Opens the device for the training of a SIREN, if it is not open.
    ///
    /// # Errors
    /// [`EncodeError::Device`] where one that was asked for is not there.
    pub fn open_for_sirens(&mut self, work: &Work) -> Result<(), EncodeError> {
        if self.opened.is_some() {
            return Ok(());
        }
        self.opened = Some(match self.choice {
            DeviceChoice::Cuda => named(of_candle("cuda")?, true),
            DeviceChoice::Metal => named(of_candle("metal")?, true),
            DeviceChoice::Auto if work.is_for_gpu() => {
                let opened = self.open_automatically();
                let nothing = opened.device().is_none() && opened.failure().is_none();
                let candles = || of_candle("cuda").or_else(|_| of_candle("metal")).ok();
                match nothing.then(candles).flatten() {
                    Some(device) => named(device, false),
                    None => opened,
                }
            }
            _ => self.open_common()?,
        });
        Ok(())
    }

    /// Opens the device for the training of latents, which candle does not train, if it is not open.
    /// What has waves no accelerator trains yet.
    ///
    /// # Errors
    /// As [`TrainingDevice::open_for_sirens`].
    pub fn open_for_latents(&mut self, work: &Work, has_waves: bool) -> Result<(), EncodeError> {
        if self.opened.is_none() {
            self.opened = Some(match self.choice {
                DeviceChoice::Auto if work.is_for_gpu() && !has_waves => self.open_automatically(),
                _ => self.open_common()?,
            });
        }
        Ok(())
    }

    /// The accelerator where it was asked for, else the CPU.
    fn open_common(&self) -> Result<Fallback<Box<dyn Device>>, EncodeError> {
        if self.choice != DeviceChoice::Gpu {
            return Ok(Fallback::cpu());
        }
        let accelerator = self.accelerator.as_ref();
        let device = accelerator.ok_or_else(|| EncodeError::not_built("gpu"))?.open();
        Ok(named(device.map_err(|error| self.error(error))?, true))
    }

    /// The accelerator's device that is taken where none was asked for, if there is one.
    fn open_automatically(&self) -> Fallback<Box<dyn Device>> {
        let Some(accelerator) = &self.accelerator else { return Fallback::cpu() };
        match accelerator.open_automatically() {
            Ok(Some(device)) => named(device, false),
            Ok(None) => Fallback::cpu(),
            Err(failure) => Fallback::failed(failure),
        }
    }

    fn opened(&mut self) -> &mut Fallback<Box<dyn Device>> {
        self.opened.get_or_insert_with(Fallback::cpu)
    }

    /// What computes the steps of a SIREN in the CPU's place, if anything does.
    ///
    /// # Errors
    /// [`EncodeError::Device`] where a device that was asked for fails.
    pub fn siren<'a>(
        &mut self,
        task: &siren::Task<'a>,
    ) -> Result<Option<Box<dyn siren::Stepper + 'a>>, EncodeError> {
        self.opened().prepare(|device| device.siren(task)).map_err(|error| self.error(error))
    }

    /// What computes the steps of latents in the CPU's place, if anything does.
    ///
    /// # Errors
    /// [`EncodeError::Device`] where a device that was asked for fails.
    pub fn latents(
        &mut self,
        sizes: &latents::Sizes,
    ) -> Result<Option<Box<dyn latents::Stepper>>, EncodeError> {
        self.opened().prepare(|device| device.latents(sizes)).map_err(|error| self.error(error))
    }

    /// A step on the device; `None` where it fails and the CPU goes on.
    ///
    /// # Errors
    /// [`EncodeError::Device`] for the first step of a device that was asked for.
    pub fn run<T>(
        &mut self,
        step: impl FnOnce() -> Result<T, DeviceError>,
    ) -> Result<Option<T>, EncodeError> {
        self.opened().run(|_| step()).map_err(|error| self.error(error))
    }

    /// Says that the device has done a step, outside of [`TrainingDevice::run`].
    pub fn worked(&mut self) {
        self.opened().worked();
    }

    /// Says that the device has failed, outside of [`TrainingDevice::run`]; the CPU goes on.
    ///
    /// # Errors
    /// As [`TrainingDevice::run`].
    pub fn give_up(&mut self, failure: DeviceError) -> Result<(), EncodeError> {
        self.opened().give_up(failure).map_err(|error| self.error(error))
    }

    fn error(&self, error: DeviceError) -> EncodeError {
        let device = match self.choice {
            DeviceChoice::Cuda => "cuda",
            DeviceChoice::Metal => "metal",
            _ => "gpu",
        };
        EncodeError::Device { device, reason: error.to_string() }
    }

    /// What has trained: a device, `cpu`, or the one and then the other.
    pub fn name(&self) -> String {
        self.opened.as_ref().map_or_else(|| "cpu".into(), Fallback::name)
    }

    /// Why a device failed, where the CPU went on.
    pub fn failure(&self) -> Option<String> {
        self.opened.as_ref()?.failure().map(ToString::to_string)
    }
}

fn named(device: Box<dyn Device>, required: bool) -> Fallback<Box<dyn Device>> {
    let name = device.name();
    Fallback::new(device, name, required)
}

/// Opens one of candle's devices.
#[cfg(feature = "candle")]
fn of_candle(name: &'static str) -> Result<Box<dyn Device>, EncodeError> {
    super::reference::open(name)
}

#[cfg(not(feature = "candle"))]
fn of_candle(name: &'static str) -> Result<Box<dyn Device>, EncodeError> {
    Err(EncodeError::not_built(name))
}
