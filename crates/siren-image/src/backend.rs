//! What a renderer asks of a device: rows of a grid of points, as numbers or as samples.
//! A device learns of its work by a [`Job`] and answers in [`Rows`]. The CPU is the first one; others
//! live outside of the decoder and are handed to [`Render::on`](crate::Render::on). Evaluates nothing
//! itself.

use std::fmt::Debug;
use std::ops::Range;

use crate::container::BitDepth;
use crate::error::DeviceError;
use crate::geometry::PixelGrid;
use crate::latents::Latents;
use crate::network::Siren;
use crate::view::Field;

/// A device that has a function and a grid of points, and evaluates rows of it.
pub trait Backend: Debug + Send {
    /// What to call it, as in `gpu (GeForce RTX 4090)`.
    fn name(&self) -> String;

    /// Fills `out` with rows of the grid, the channels of a point side by side. Ranges may come in
    /// any order.
    ///
    /// # Errors
    /// [`DeviceError`] where the device fails; `out` may hold anything then.
    ///
    /// # Panics
    /// If the grid has no such rows, or `out` is not as long as they are or of another depth than the
    /// [`Job`].
    fn rows(&mut self, rows: Range<u32>, out: Rows) -> Result<(), DeviceError>;
}

/// What is to be evaluated, for a device to prepare itself.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Job<'a> {
    /// The function.
    pub function: Function<'a>,
    /// The points.
    pub grid: PixelGrid,
    /// Bits of the samples that will be asked for; `None` where it will be [`Rows::Values`].
    pub depth: Option<BitDepth>,
    /// What is wanted of the function.
    pub field: Field,
}

/// A function of the plane.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Function<'a> {
    /// A network of coordinates.
    Siren(&'a Siren),
    /// Latents.
    Latents {
        /// Their planes in use hold what the points need.
        latents: &'a Latents,
        /// How many of the finest planes are not in use: their sums are 0.
        left_out: usize,
    },
}

/// Rows of points that a device fills.
#[derive(Debug)]
pub enum Rows<'a> {
    /// Values as they are, those of the picture's samples in [0, 1].
    Values(&'a mut [f32]),
    /// Samples of 8 bits.
    Eight(&'a mut [u8]),
    /// Samples of 16 bits.
    Sixteen(&'a mut [u16]),
}

impl Rows<'_> {
    /// The same rows once more, for who may try twice.
    pub fn reborrow(&mut self) -> Rows<'_> {
        match self {
            Self::Values(out) => Rows::Values(out),
            Self::Eight(out) => Rows::Eight(out),
            Self::Sixteen(out) => Rows::Sixteen(out),
        }
    }

    /// The [`Job::depth`] that they belong to.
    pub fn depth(&self) -> Option<BitDepth> {
        match self {
            Self::Values(_) => None,
            Self::Eight(_) => Some(BitDepth::Eight),
            Self::Sixteen(_) => Some(BitDepth::Sixteen),
        }
    }
}
