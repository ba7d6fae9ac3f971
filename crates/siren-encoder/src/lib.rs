//! The encoder of the `.siren` image format: trains networks on a picture and writes a file.
//!
//! [`encode`] takes a [`Raster`](siren_image::Raster) and [`EncodeOptions`];
//! [`encode_with_checkpoints`] goes on where an earlier process ended. [`train`] has the trainers for
//! experiments.
//!
//! # How it is built
//!
//! Pixels go through the trainer ([`train::siren`] or [`train::latents`]), the quantizer and
//! `siren-image`'s coding and container to bytes, which are decoded once more before they are returned.
//! What computes a training's steps is a `Stepper`: the CPU, or what an
//! [`Accelerator`](train::Accelerator) opens, as the crate `siren-gpu` has one. candle is the reference
//! (feature `candle`).

mod encode;
mod error;
#[cfg(feature = "image")]
mod plugin;
mod quantize;
mod rate;
pub mod train;

pub use encode::{
    Checkpoints, DEFAULT_QUALITY, EncodeOptions, Encoded, Preset, Target, encode,
    encode_with_checkpoints,
};
pub use error::EncodeError;
#[cfg(feature = "image")]
pub use plugin::SirenEncoder;
pub use train::{Control, DeviceChoice, OptimizerChoice, Progress, Training};
