//! sirenc
mod coding;
pub mod container;
mod decode;
#[cfg(feature = "encode")]
mod encode;
mod error;
pub mod eval;
mod geometry;
pub mod network;
mod raster;
mod render;
#[cfg(feature = "encode")]
mod train;
pub use container::BitDepth;
pub use decode::*;
#[cfg(feature = "encode")]
pub use encode::*;
pub use error::*;
pub use geometry::*;
pub use network::{Channels, Topology};
pub use raster::*;
pub use render::*;
#[cfg(feature = "encode")]
pub use train::*;
