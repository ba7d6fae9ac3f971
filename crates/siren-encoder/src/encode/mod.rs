//! From pixels to the bytes of a `.siren` file, by an [`Encoder`]: what nobody sees is left out (`simplify`), the
//! options are looked through (`options`), a representation is chosen by size (`size`), `siren` or
//! `latents` train what fits and put it into a file (`file`), which goes through the decoder once
//! more (`verify`). `session` is what they share, `checkpoint` what is saved on the way. Opens no
//! files.

mod checkpoint;
mod encoder;
mod file;
mod latents;
mod options;
mod session;
mod simplify;
mod siren;
mod size;
mod verify;

use std::time::Duration;

pub use checkpoint::Checkpoints;
pub use encoder::{Encoder, Encoding};
pub use options::{DEFAULT_QUALITY, LatentOptions, Preset, Representation, SirenOptions, Target};
use siren_image::container;
use siren_image::network::Topology;

/// A finished encode.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Encoded {
    /// The file.
    pub bytes: Vec<u8>,
    /// What the decoder makes of the file at native size, against the source, in dB; of the
    /// channels that are stored, colours premultiplied. From 2^23 pixels on it is measured on
    /// every second row or fewer.
    pub psnr: f64,
    /// Bits per pixel, the whole file counted.
    pub bpp: f64,
    /// How the picture is represented.
    pub representation: container::Representation,
    /// The network's shape; of latents, that of the network that they feed.
    pub topology: Topology,
    /// Training steps done.
    pub steps_done: u32,
    /// Training steps planned.
    pub steps_planned: u32,
    /// How often training was set back after diverging.
    pub recoveries: u32,
    /// Whether the file holds one colour: the picture has no other, or training found
    /// nothing better.
    pub single_colour: bool,
    /// The device that trained: `cpu`, `cuda`, `metal`, or `gpu` with the name of the card.
    pub device: String,
    /// Why a GPU failed, where the CPU went on.
    pub device_failure: Option<String>,
    /// Time the encode took.
    pub elapsed: Duration,
}
