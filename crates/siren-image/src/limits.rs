//! Bounds on what a decoder does for a file, checked before anything is allocated or evaluated
//! for it. Knows numbers only; what a render takes is told by those who make it.

use crate::error::{DecodeError, Limit};
use crate::geometry::Size;

/// Bounds on what a decoder will do for a file.
///
/// The defaults allow every picture that is of use on a desktop machine, and bound what a hostile
/// file can cost it: some minutes, 2 GiB. A server sets lower ones. The bytes of the file
/// itself are the caller's to bound.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use siren_image::{DecodeError, Decoder, Limits, View};
///
/// let bytes = std::fs::read("samples/coffee.siren")?;
/// let limits = Limits::default().max_pixels(10_000);
/// let decoder = Decoder::with_limits(&bytes, limits)?;
/// let refused = decoder.render(&View::native());
/// assert!(matches!(refused, Err(DecodeError::LimitExceeded { limit: 10_000, .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Largest number of pixels of one render. Default: 2^28.
    pub max_pixels: u64,
    /// Longest side of one render in pixels. Default: 2^17.
    pub max_dimension: u32,
    /// Most weights of a SIREN. Default: 2^20, the format's own limit.
    pub max_weights: u64,
    /// Most bytes of memory, besides those of the file: the network, latents, working memory, and
    /// the pixels of a render in one piece. Latents that a decoder keeps for renders to come are among
    /// them, and are dropped where a render needs the room. Default: 2^31. A GPU's own memory is not
    /// counted: a render takes up to 200 MB of it, more where a row has more than 2^20 pixels.
    pub max_memory: u64,
    /// Most operations of one render, each a multiplication with an addition: those of the network
    /// at every point that is evaluated, and those of the entropy model for every latent that is
    /// decoded. Default: 2^42.
    ///
    /// Whatever this is, a point takes at most 2^20 operations (four times that for derivatives),
    /// an output pixel at most 100 points, not counting those around the view that a filter
    /// reaches, and a latent less than 2^13; a byte of a file holds at most 2^16 latents.
    pub max_operations: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_pixels: 1 << 28,
            max_dimension: 1 << 17,
            max_weights: 1 << 20,
            max_memory: 1 << 31,
            max_operations: 1 << 42,
        }
    }
}

/// What something takes of limits.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spent {
    /// Of [`Limits::max_memory`].
    pub memory: u64,
    /// Of [`Limits::max_operations`].
    pub operations: u64,
}

impl Spent {
    /// This and as much more.
    pub fn and(self, memory: u64, operations: u64) -> Self {
        Self {
            memory: self.memory.saturating_add(memory),
            operations: self.operations.saturating_add(operations),
        }
    }
}

impl Limits {
    /// Whatever the format allows.
    pub const NONE: Self = Self {
        max_pixels: u64::MAX,
        max_dimension: u32::MAX,
        max_weights: u64::MAX,
        max_memory: u64::MAX,
        max_operations: u64::MAX,
    };

    /// These with another [`Limits::max_pixels`](#structfield.max_pixels).
    pub const fn max_pixels(self, max_pixels: u64) -> Self {
        Self { max_pixels, ..self }
    }

    /// These with another [`Limits::max_dimension`](#structfield.max_dimension).
    pub const fn max_dimension(self, max_dimension: u32) -> Self {
        Self { max_dimension, ..self }
    }

    /// These with another [`Limits::max_weights`](#structfield.max_weights).
    pub const fn max_weights(self, max_weights: u64) -> Self {
        Self { max_weights, ..self }
    }

    /// These with another [`Limits::max_memory`](#structfield.max_memory).
    pub const fn max_memory(self, max_memory: u64) -> Self {
        Self { max_memory, ..self }
    }

    /// These with another [`Limits::max_operations`](#structfield.max_operations).
    pub const fn max_operations(self, max_operations: u64) -> Self {
        Self { max_operations, ..self }
    }

    pub(crate) fn check_size(&self, size: Size) -> Result<(), DecodeError> {
        check(Limit::Dimension, size.longer_side().into(), self.max_dimension.into())?;
        check(Limit::Pixels, size.pixels(), self.max_pixels)
    }

    pub(crate) fn check_weights(&self, weights: u64) -> Result<(), DecodeError> {
        check(Limit::Weights, weights, self.max_weights)
    }

    pub(crate) fn check(&self, spent: Spent) -> Result<(), DecodeError> {
        check(Limit::Operations, spent.operations, self.max_operations)?;
        check(Limit::Memory, spent.memory, self.max_memory)
    }
}

fn check(what: Limit, requested: u64, limit: u64) -> Result<(), DecodeError> {
    if requested > limit {
        return Err(DecodeError::LimitExceeded { what, requested, limit });
    }
    Ok(())
}
