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
//! use sirenc::{Decoder, View};
//!
//! let bytes = std::fs::read("samples/coffee.siren")?;
//! let raster = Decoder::new(&bytes)?.render(&View::fit(256))?;
//! assert_eq!((raster.size().width, raster.size().height), (256, 171));
//! # Ok(())
//! # }
//! ```
//!
//! A [`View`] says what is wanted: a thumbnail as above, [`View::scaled`] with a
//! [`crop`](View::crop) for a region, [`field`](View::field) for gradients. [`Render`] gives a large
//! render strip by strip, [`Decoder::sample`] one point with its derivatives,
//! [`Evaluator`](eval::Evaluator) blocks of arbitrary points.
//!
//! # Encoding
//!
//! [`encode`] takes a [`Raster`] and [`EncodeOptions`] (feature `encode`, on by default).
//! [`encode_with_checkpoints`] goes on where an earlier process ended.
//!
//! # With the `image` crate
//!
//! [`register`] makes `image::open("x.siren")` work; [`SirenDecoder`] and [`SirenEncoder`]
//! are that crate's traits (feature `image`, on by default). A [`Raster`] becomes a
//! `DynamicImage`, and the other way round:
//!
//! ```
//! # #[cfg(feature = "image")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use sirenc::{Decoder, Raster, View};
//!
//! let bytes = std::fs::read("samples/coffee.siren")?;
//! let thumbnail = Decoder::new(&bytes)?.render(&View::fit(32))?;
//! let picture = image::DynamicImage::from(thumbnail).flipv();
//! assert_eq!(Raster::try_from(picture)?.size().width, 32);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "image"))]
//! # fn main() {}
//! ```
//!
//! # How it is built
//!
//! Bytes go through [`container`] and the weight coding to a [`network::Siren`], through
//! [`eval`] and [`Render`] to pixels; the encoder goes from pixels through the trainer and
//! the same weight coding and container back to bytes. The decoder uses nothing of the
//! encoder and builds without candle (`--no-default-features`). The format itself is
//! specified in `spec/siren.md`.

pub mod backend;
pub mod coding;
pub mod container;
mod cpu;
mod decode;
#[cfg(feature = "encode")]
mod encode;
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
mod parallel;
#[cfg(feature = "image")]
mod plugin;
#[cfg(feature = "encode")]
mod quantize;
mod raster;
#[cfg(feature = "encode")]
mod rate;
mod reduce;
mod render;
#[cfg(any(feature = "encode", feature = "gpu"))]
pub mod speed;
#[cfg(feature = "encode")]
pub mod train;
mod view;

pub use container::{BitDepth, Metadata};
pub use decode::Decoder;
#[cfg(feature = "encode")]
pub use encode::{
    Checkpoints, DEFAULT_QUALITY, EncodeOptions, Encoded, Preset, Target, encode,
    encode_with_checkpoints,
};
pub use error::{DecodeError, DeviceError, EncodeError, Limit, RasterError};
pub use geometry::{Crop, Grid, Scale, Size, plane_point};
pub use limits::Limits;
pub use network::{Channels, Jet, Siren, Topology};
#[cfg(all(feature = "image", feature = "encode"))]
pub use plugin::SirenEncoder;
#[cfg(feature = "image")]
pub use plugin::{SirenDecoder, register};
pub use raster::{Raster, Samples, psnr};
pub use render::Render;
#[cfg(feature = "encode")]
pub use train::{Control, DeviceChoice, OptimizerChoice, Progress, Training};
pub use view::{Field, Sampling, View};
