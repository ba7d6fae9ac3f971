//! The `.siren` image format and its codec: a picture stored as a function.
//!
//! An encoder trains a small SIREN on one picture, a network with sine activations
//! (Sitzmann et al. 2020), and writes its weights. A decoder evaluates the network at
//! whatever resolution is asked for: the same file gives a thumbnail, a 2048-pixel render,
//! the colour at (1.2, 200.5), and exact gradients and Laplacians.
//!
//! # Decoding
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use sirenc::{Decoder, RenderOptions, Scale, View};
//!
//! let bytes = std::fs::read("samples/coffee.siren")?;
//! let decoder = Decoder::new(&bytes)?;
//! let view = View { scale: Scale::LongerSide(256), ..View::default() };
//! let raster = decoder.render(&RenderOptions { view, ..RenderOptions::default() })?;
//! assert_eq!((raster.size().width, raster.size().height), (256, 171));
//! # Ok(())
//! # }
//! ```
//!
//! [`Render`] gives a large render strip by strip, [`Decoder::sample`] one point with its
//! derivatives, [`Evaluator`](eval::Evaluator) blocks of arbitrary points.
//!
//! # Encoding
//!
//! ```
//! # #[cfg(feature = "encode")]
//! # fn encode(raster: &sirenc::Raster) -> Result<(), sirenc::EncodeError> {
//! let encoded = sirenc::Encoder::new().bytes(6_000).effort(5).encode(raster)?;
//! println!("{} bytes, {:.2} dB", encoded.bytes.len(), encoded.psnr);
//! # Ok(())
//! # }
//! ```
//!
//! [`Encoder`] takes a [`Raster`] (feature `encode`, on by default). [`Encoder::on_progress`] shows
//! how far it is and cancels, [`Encoder::checkpoints`] go on where an earlier process ended.
//!
//! # With the `image` crate
//!
//! [`register`] makes `image::open("x.siren")` work; [`SirenDecoder`] and [`SirenEncoder`]
//! are that crate's traits (feature `image`, on by default).
//!
//! # How it is built
//!
//! Bytes go through [`container`] and the weight coding to a [`network::Siren`], through
//! [`eval`] and [`Render`] to pixels; the encoder goes from pixels through the trainer and
//! the same weight coding and container back to bytes. The decoder uses nothing of the
//! encoder and builds without candle (`--no-default-features`). The format itself is
//! specified in `spec/siren.md`.

pub mod coding;
pub mod container;
mod decode;
#[cfg(feature = "encode")]
pub mod encode;
mod error;
pub mod eval;
pub mod fallback;
mod geometry;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod grids;
mod kernel;
mod limits;
pub mod network;
#[cfg(feature = "image")]
mod plugin;
#[cfg(feature = "encode")]
mod quantize;
mod raster;
#[cfg(feature = "encode")]
mod rate;
mod reduce;
mod render;
mod settings;
#[cfg(any(feature = "encode", feature = "gpu"))]
mod speed;
#[cfg(feature = "encode")]
pub mod train;

pub use container::{BitDepth, Metadata};
pub use decode::{Decoder, RenderOptions};
#[cfg(feature = "encode")]
pub use encode::{
    Checkpoints, DEFAULT_QUALITY, Encoded, Encoder, Encoding, LatentOptions, Preset, SirenOptions,
    Target,
};
pub use error::{DecodeError, DeviceError, EncodeError, Limit};
pub use geometry::{Crop, Grid, Scale, Size, View, plane_point};
pub use limits::Limits;
pub use network::{Channels, Jet, Siren, Topology};
#[cfg(all(feature = "image", feature = "encode"))]
pub use plugin::SirenEncoder;
#[cfg(feature = "image")]
pub use plugin::{SirenDecoder, register};
pub use raster::{Raster, Samples, psnr};
pub use render::{Field, Render, Sampling};
pub use settings::{Settings, SettingsError};
#[cfg(feature = "encode")]
pub use train::{Control, DeviceChoice, OptimizerChoice, Progress};
