//! Pixels to networks: one SIREN ([`siren`]) or latents and theirs ([`latents`]), side by side over
//! what they share: devices, SOAP, Adam, efforts, checkpoints. Knows no files and no sizes of files.

mod adam;
pub(crate) mod archive;
mod device;
mod effort;
pub mod latents;
mod options;
#[cfg(feature = "candle")]
pub mod reference;
pub mod siren;
pub mod soap;
mod spare;

use archive::Archived;
pub(crate) use device::TrainingDevice;
pub use device::{Accelerator, Device, DeviceChoice};
pub use options::{Control, OptimizerChoice, Progress};
pub(crate) use options::{OMEGA, SirenTraining, Training};

/// A resumed run starts with this share of the peak learning rate.
const RESUMED: f64 = 0.5;

/// Called after every step; may save the run, and end it.
pub(crate) type Observe<'a> = dyn FnMut(&Progress, &mut dyn Archived) -> Control + 'a;
