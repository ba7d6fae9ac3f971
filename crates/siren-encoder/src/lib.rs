//! The encoder of the `.siren` image format: trains networks on a picture and writes a file.
//!
//! ```
//! # fn encode(raster: &siren_image::Raster) -> Result<(), siren_encoder::EncodeError> {
//! let encoded = siren_encoder::Encoder::new().bytes(6_000).effort(5).encode(raster)?;
//! println!("{} bytes, {:.2} dB", encoded.bytes.len(), encoded.psnr);
//! # Ok(())
//! # }
//! ```
//!
//! [`Encoder::on_progress`] shows how far it is and cancels, [`Encoder::checkpoints`] go on where an
//! earlier process ended. [`train`] has the trainers for experiments.
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
    Checkpoints, DEFAULT_QUALITY, Encoded, Encoder, Encoding, LatentOptions, Preset,
    Representation, SirenOptions, Target,
};
pub use error::EncodeError;
#[cfg(feature = "image")]
pub use plugin::SirenEncoder;
pub use train::{Control, DeviceChoice, OptimizerChoice, Progress};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
