//! The `.siren` image format: a picture stored as a function, and its decoder.
//!
//! A file holds a small SIREN, a network with sine activations (Sitzmann et al. 2020), or latents that
//! feed one. A decoder evaluates it at whatever resolution is asked for: the same file gives a
//! thumbnail, a 2048-pixel render, the colour at (1.2, 200.5), and exact gradients and Laplacians.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use siren_image::{Decoder, View};
//!
//! let bytes = std::fs::read("samples/coffee.siren")?;
//! let thumbnail = Decoder::new(&bytes)?.render(&View::fit(256))?;
//! assert_eq!((thumbnail.size().width, thumbnail.size().height), (256, 171));
//! # Ok(())
//! # }
//! ```
//!
//! [`Render`] gives a large render strip by strip, [`Decoder::sample`] one point with its
//! derivatives, [`Evaluator`](eval::Evaluator) blocks of arbitrary points. With the feature `image`,
//! [`register`] makes `image::open("x.siren")` work. The encoder is the crate `siren-encoder`.
//!
//! # How it is built
//!
//! Bytes go through [`container`] and the coding of the weights to a [`network::Siren`] or to
//! [`latents::Latents`], through [`eval`] and [`Render`] to pixels. What evaluates is a
//! [`Backend`](backend::Backend): the CPU, or what the crate `siren-gpu` has. The format is specified in
//! `spec/siren.md`.

pub mod backend;
#[cfg(feature = "internals")]
pub mod coding;
#[cfg(not(feature = "internals"))]
#[allow(dead_code, reason = "half of it is the encoder's")]
mod coding;
pub mod container;
mod cpu;
mod decode;
mod error;
pub mod eval;
pub mod fallback;
mod geometry;
pub mod latents;
mod limits;
pub mod network;
#[cfg(feature = "internals")]
pub mod parallel;
#[cfg(not(feature = "internals"))]
#[allow(dead_code, reason = "some of it is for siren-gpu")]
mod parallel;
#[cfg(feature = "image")]
mod plugin;
pub mod raster;
mod reduce;
mod render;
mod settings;
pub mod speed;
mod view;

pub use container::{BitDepth, Metadata};
pub use decode::Decoder;
pub use error::{DecodeError, DeviceError, Limit, RasterError};
pub use geometry::{Crop, PixelGrid, Scale, Size, plane_point};
pub use limits::Limits;
pub use network::{Channels, Jet, Siren, Topology};
#[cfg(feature = "image")]
pub use plugin::{SirenDecoder, register};
pub use raster::{Raster, Samples, psnr};
pub use render::Render;
pub use settings::{Settings, SettingsError};
pub use view::{Field, Sampling, View};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
