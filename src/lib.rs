//! The `.siren` image format and its codec under one name: a picture stored as a function.
//!
//! This crate is the command `sirenc`, and what users of the library need from the crates that it is
//! built of: [`siren_image`], the format and its decoder, [`siren_encoder`] (feature `encode`) and
//! [`siren_gpu`] (feature `gpu`). Who only decodes depends on `siren-image` alone.

pub use siren_image::*;

#[cfg(feature = "encode")]
pub use siren_encoder::*;
#[cfg(feature = "gpu")]
pub use siren_gpu as gpu;
