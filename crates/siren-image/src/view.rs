//! What is asked for of a picture: which part, how large, the picture or a derivative of it. Plain
//! data; renders nothing.

use crate::container::BitDepth;
use crate::error::DecodeError;
use crate::geometry::{Crop, PixelGrid, Scale, Size};
use crate::network::Channels;

/// What is rendered of a picture: by default all of it at its native size, as it is.
///
/// ```
/// use siren_image::{Crop, Field, View};
///
/// let thumbnail = View::fit(256);
/// let part = View::scaled(2.0).crop(Crop { x: 10.0, y: 20.0, width: 64.0, height: 64.0 });
/// let edges = View::native().field(Field::Gradient { gain: 4.0 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct View {
    /// The part; `None` is the whole picture.
    pub crop: Option<Crop>,
    /// How large.
    pub scale: Scale,
    /// The picture or a derivative of it.
    pub field: Field,
    /// What is done about detail that the render is too small for.
    pub sampling: Sampling,
    /// Bits per sample; `None` is the depth of the source picture.
    pub depth: Option<BitDepth>,
    /// So many of the coarsest planes of latents, at least one: a preview; `None` is all.
    pub planes: Option<usize>,
}

impl View {
    /// The picture at its native size.
    pub fn native() -> Self {
        Self::default()
    }

    /// As large as a square of this side holds: the longer side of the output, in pixels.
    pub fn fit(longer_side: u32) -> Self {
        Self::default().scale(Scale::LongerSide(longer_side))
    }

    /// So many output pixels per native pixel.
    pub fn scaled(factor: f64) -> Self {
        Self::default().scale(Scale::Factor(factor))
    }

    /// Exactly this size; stretched where the aspect ratio differs.
    pub fn exact(size: Size) -> Self {
        Self::default().scale(Scale::Exact(size))
    }

    /// How large.
    pub fn scale(self, scale: Scale) -> Self {
        Self { scale, ..self }
    }

    /// A part of the picture.
    pub fn crop(self, crop: impl Into<Option<Crop>>) -> Self {
        Self { crop: crop.into(), ..self }
    }

    /// The picture or a derivative of it.
    pub fn field(self, field: Field) -> Self {
        Self { field, ..self }
    }

    /// What is done about detail that the render is too small for.
    pub fn sampling(self, sampling: Sampling) -> Self {
        Self { sampling, ..self }
    }

    /// Bits per sample.
    pub fn depth(self, depth: impl Into<Option<BitDepth>>) -> Self {
        Self { depth: depth.into(), ..self }
    }

    /// So many of the coarsest planes of latents.
    pub fn planes(self, planes: impl Into<Option<usize>>) -> Self {
        Self { planes: planes.into(), ..self }
    }
}

impl PixelGrid {
    /// The pixel centres of `view` of a picture of `native` size.
    ///
    /// # Errors
    /// [`DecodeError::InvalidView`] for a crop that is empty, not finite, not inside
    /// the picture or too small for the size, and for a size of 0 or one that does not fit in 31
    /// bits.
    pub fn new(native: Size, view: &View) -> Result<Self, DecodeError> {
        Self::of(native, view.crop, view.scale)
    }
}

/// What is rendered of the function.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Field {
    /// The picture.
    #[default]
    Value,
    /// Per colour channel, `gain` times the length of the gradient.
    Gradient {
        /// Output per unit of gradient, not below 0; 1 unit is a full-scale step within a native
        /// pixel.
        gain: f64,
    },
    /// Per colour channel, one half plus `gain` times the Laplacian.
    Laplacian {
        /// Output per unit of Laplacian, in full-scale steps per native pixel squared; negative for
        /// the other sign.
        gain: f64,
    },
}

impl Field {
    /// Channels of the render of a picture of these: derivatives have no alpha.
    pub(crate) fn channels(self, picture: Channels) -> Channels {
        if self == Self::Value { picture } else { picture.without_alpha() }
    }

    /// Refuses a gain that shows nothing.
    pub(crate) fn check(self) -> Result<(), DecodeError> {
        match self {
            Self::Gradient { gain } | Self::Laplacian { gain } if !gain.is_finite() => {
                Err(DecodeError::InvalidGain("it must be finite"))
            }
            Self::Gradient { gain } if gain < 0.0 => {
                Err(DecodeError::InvalidGain("that of the gradient must not be below 0"))
            }
            _ => Ok(()),
        }
    }
}

/// How a picture is sampled below its native size. Derivatives are always sampled at points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Sampling {
    /// A lattice up to eight times finer, reduced by Lanczos's filter: no aliasing.
    #[default]
    Filtered,
    /// The function at each pixel's centre, as section 8 of the spec defines a render.
    Point,
}
