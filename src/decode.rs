//! From the bytes of a `.siren` file to pixels: container, coding, evaluator, render.
//! The whole decoder as a user of the library sees it; imports nothing of the encoder.

use crate::coding;
use crate::container::{BitDepth, Container, Metadata};
use crate::error::DecodeError;
use crate::eval::Evaluator;
use crate::geometry::{Grid, Size, View, plane_point};
use crate::network::{Channels, Jet, Siren};
use crate::raster::Raster;
use crate::render::{Field, Render};

/// Bounds on what a decoder will do for a file, checked before anything is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest number of pixels of one render. Default: 2^28.
    pub max_pixels: u64,
    /// Longest side of one render in pixels. Default: 2^17.
    pub max_dimension: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_pixels: 1 << 28, max_dimension: 1 << 17 }
    }
}

impl Limits {
    /// Whatever the format allows.
    pub const NONE: Self = Self { max_pixels: u64::MAX, max_dimension: u32::MAX };

    fn check(&self, size: Size) -> Result<(), DecodeError> {
        let exceeded = |what, requested: u64, limit: u64| {
            if requested > limit {
                Err(DecodeError::LimitExceeded { what, requested, limit })
            } else {
                Ok(())
            }
        };
        exceeded("a side in pixels", size.longer_side().into(), self.max_dimension.into())?;
        exceeded("a number of pixels", size.pixels(), self.max_pixels)
    }
}

/// How a picture is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RenderOptions {
    /// Which part, how large.
    pub view: View,
    /// The picture or a derivative of it.
    pub field: Field,
    /// Bits per sample; `None` is the depth of the source picture.
    pub depth: Option<BitDepth>,
    /// Bounds on the size of the render.
    pub limits: Limits,
}

/// An opened `.siren` file.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use sirenc::{Decoder, RenderOptions, Scale, View};
///
/// let bytes = std::fs::read("samples/coffee.siren")?;
/// let decoder = Decoder::new(&bytes)?;
/// let view = View { crop: None, scale: Scale::LongerSide(64) };
/// let thumbnail = decoder.render(&RenderOptions { view, ..Default::default() })?;
/// assert_eq!(thumbnail.size().width, 64);
/// let colour = decoder.sample(1.2, 200.5);
/// assert_eq!(colour.len(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Decoder {
    container: Container,
    evaluator: Evaluator,
}

impl Decoder {
    /// Opens a file: parses and checks all of it, renders nothing.
    ///
    /// # Errors
    /// A [`DecodeError`] for every way in which the file breaks the format.
    pub fn new(bytes: &[u8]) -> Result<Self, DecodeError> {
        let container = Container::read(bytes)?;
        let siren = coding::decode(container.coding, &container.topology, &container.weights)?;
        Ok(Self { container, evaluator: Evaluator::new(siren) })
    }

    /// The native size, that of the source picture.
    pub fn size(&self) -> Size {
        Size { width: self.container.width, height: self.container.height }
    }

    /// The channels of the picture.
    pub fn channels(&self) -> Channels {
        self.container.topology.channels()
    }

    /// Bits per sample of the source picture.
    pub fn depth(&self) -> BitDepth {
        self.container.depth
    }

    /// ICC profile, cICP, EXIF, XMP and encoder settings.
    pub fn metadata(&self) -> &Metadata {
        &self.container.metadata
    }

    /// Everything the file says.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// The network.
    pub fn siren(&self) -> &Siren {
        self.evaluator.siren()
    }

    /// Renders the picture in one piece.
    ///
    /// # Errors
    /// [`DecodeError::InvalidView`] or [`DecodeError::LimitExceeded`].
    pub fn render(&self, options: &RenderOptions) -> Result<Raster, DecodeError> {
        Ok(self.prepare(options)?.raster())
    }

    /// Prepares a render whose rows can be asked for strip by strip; needs no memory yet.
    ///
    /// # Errors
    /// As [`Decoder::render`].
    pub fn prepare(&self, options: &RenderOptions) -> Result<Render<'_>, DecodeError> {
        let grid = Grid::new(self.size(), &options.view)?;
        options.limits.check(grid.size)?;
        let depth = options.depth.unwrap_or(self.container.depth);
        Ok(Render::new(&self.evaluator, self.size(), grid, options.field, depth))
    }

    /// The colour at a native pixel position and its exact derivatives, one [`Jet`] per
    /// channel. The centre of the first pixel is (0.5, 0.5).
    ///
    /// Values are in [0, 1] where the picture's samples are (not clamped), derivatives
    /// per native pixel. Evaluated in f64.
    pub fn sample(&self, u: f64, v: f64) -> Vec<Jet> {
        let (x, y) = plane_point(self.size(), u, v);
        let per_pixel = 2.0 / f64::from(self.size().longer_side());
        let mut jets = self.siren().evaluate(x, y);
        for jet in &mut jets {
            jet.value = jet.value * 0.5 + 0.5;
            jet.dx *= 0.5 * per_pixel;
            jet.dy *= 0.5 * per_pixel;
            jet.laplacian *= 0.5 * per_pixel * per_pixel;
        }
        jets
    }
}
