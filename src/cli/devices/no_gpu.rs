//! The twin of `gpu` in a build without GPUs: none is ever taken.

use anyhow::{Result, bail};
use sirenc::Render;

const NOT_BUILT: &str = "this build has no gpu support; install with `--features gpu`";

/// A GPU that was asked for: there is none.
pub enum Gpu {}

impl Gpu {
    pub fn open() -> Result<Self> {
        bail!("device gpu: {NOT_BUILT}")
    }

    pub fn take(&self, _: Render) -> Result<Render> {
        match *self {}
    }
}

/// The GPU that is taken where none was asked for: there is none.
#[derive(Default)]
pub struct AutomaticGpu {}

impl AutomaticGpu {
    pub fn take(&self, render: Render) -> Render {
        render
    }
}

/// The encoder as it is.
#[cfg(feature = "encode")]
pub fn accelerated(encoder: sirenc::Encoder) -> sirenc::Encoder {
    encoder
}

/// Why there are no adapters.
pub fn adapters() -> Vec<String> {
    vec![format!("gpu: {NOT_BUILT}")]
}
