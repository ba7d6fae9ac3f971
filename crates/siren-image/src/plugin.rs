//! The `image` crate's view of the codec: decoder, encoder, hooks and pictures for version 0.25.
//! The only file that knows that crate's traits, which change with its version 1.0.
//!
//! After [`register`], `image::open("x.siren")`, `image::load_from_memory` and
//! `ImageReader::open(..)?.with_guessed_format()?` decode `.siren` files. There is no hook for
//! saving: use [`SirenEncoder`] through `DynamicImage::write_with_encoder`.
//!
//! A [`Raster`] is made of a `DynamicImage` by `try_from`, and the other way by `from`.

use std::io::Read;

use image::error::{
    DecodingError, ImageFormatHint, LimitError, LimitErrorKind, ParameterError, ParameterErrorKind,
    UnsupportedError, UnsupportedErrorKind,
};
use image::hooks::{
    decoding_hook_registered, register_decoding_hook, register_format_detection_hook,
};
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageBuffer, ImageDecoder, ImageError, ImageResult, Pixel};

use crate::container::{BitDepth, SIGNATURE};
use crate::decode::Decoder;
use crate::error::{DecodeError, Limit, RasterError};
use crate::geometry::{PixelGrid, Size};
use crate::limits::Limits;
use crate::network::Channels;
use crate::raster::{Raster, Samples};
use crate::view::View;

/// The extension, and the format's name to the `image` crate.
const EXTENSION: &str = "siren";

/// Largest file that is read into memory: more than any valid file without metadata.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Installs the decoding hook for the extension `siren` and the detection of the
/// signature, for the whole process. Returns `false`, and changes nothing, if the
/// extension is taken.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// assert!(siren_image::register());
/// let picture = image::open("samples/coffee.siren")?;
/// assert_eq!(picture.width(), 600);
/// # Ok(())
/// # }
/// ```
pub fn register() -> bool {
    if decoding_hook_registered(EXTENSION.as_ref()) {
        return false;
    }
    let installed = register_decoding_hook(
        EXTENSION.into(),
        Box::new(|reader| Ok(Box::new(SirenDecoder::new(reader)?))),
    );
    if installed {
        register_format_detection_hook(EXTENSION.into(), &SIGNATURE, None);
    }
    installed
}

/// Decodes a `.siren` file for the `image` crate.
#[derive(Debug)]
pub struct SirenDecoder {
    decoder: Decoder,
    view: View,
    size: Size,
    channels: Channels,
    depth: BitDepth,
}

impl SirenDecoder {
    /// Reads a file; it will decode to its native size.
    ///
    /// Nothing is allocated by what the header claims: the weights take as much memory
    /// as the file has bytes, and pixels are rendered in
    /// [`read_image`](ImageDecoder::read_image), after limits were set.
    ///
    /// # Errors
    /// I/O errors, and [`DecodeError`] as [`ImageError::Decoding`].
    pub fn new(reader: impl Read) -> ImageResult<Self> {
        Self::with_view(reader, View::default())
    }

    /// Reads a file; it will decode to exactly `size`.
    ///
    /// # Errors
    /// As [`SirenDecoder::new`], and for a side of 0.
    pub fn with_size(reader: impl Read, size: Size) -> ImageResult<Self> {
        Self::with_view(reader, View::exact(size))
    }

    /// Reads a file; it will decode to `view`.
    ///
    /// # Errors
    /// As [`SirenDecoder::new`], and for a view that is not a rectangle of pixels or has an impossible
    /// gain.
    pub fn with_view(reader: impl Read, view: View) -> ImageResult<Self> {
        let mut bytes = Vec::new();
        reader.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(insufficient_memory());
        }
        // Pixels and memory are for `set_limits` to bound.
        let max_operations = Limits::default().max_operations;
        let limits = Limits::NONE.max_operations(max_operations);
        let decoder = Decoder::with_limits(&bytes, limits).map_err(decoding_error)?;
        let size = PixelGrid::new(decoder.size(), &view).map_err(decoding_error)?.size;
        view.field.check().map_err(decoding_error)?;
        let channels = view.field.channels(decoder.channels());
        let depth = view.depth.unwrap_or(decoder.depth());
        Ok(Self { decoder, view, size, channels, depth })
    }

    /// The decoder behind this one, for crops, derivatives and single samples.
    pub fn inner(&self) -> &Decoder {
        &self.decoder
    }
}

impl ImageDecoder for SirenDecoder {
    fn dimensions(&self) -> (u32, u32) {
        (self.size.width, self.size.height)
    }

    fn color_type(&self) -> ColorType {
        match (self.channels, self.depth) {
            (Channels::Grey, BitDepth::Eight) => ColorType::L8,
            (Channels::GreyAlpha, BitDepth::Eight) => ColorType::La8,
            (Channels::Rgb, BitDepth::Eight) => ColorType::Rgb8,
            (Channels::Rgba, BitDepth::Eight) => ColorType::Rgba8,
            (Channels::Grey, BitDepth::Sixteen) => ColorType::L16,
            (Channels::GreyAlpha, BitDepth::Sixteen) => ColorType::La16,
            (Channels::Rgb, BitDepth::Sixteen) => ColorType::Rgb16,
            (Channels::Rgba, BitDepth::Sixteen) => ColorType::Rgba16,
        }
    }

    fn icc_profile(&mut self) -> ImageResult<Option<Vec<u8>>> {
        Ok(self.decoder.metadata().icc.clone())
    }

    fn exif_metadata(&mut self) -> ImageResult<Option<Vec<u8>>> {
        Ok(self.decoder.metadata().exif.clone())
    }

    fn xmp_metadata(&mut self) -> ImageResult<Option<Vec<u8>>> {
        Ok(self.decoder.metadata().xmp.clone())
    }

    /// Always none: the encoder turned the pixels, whatever an EXIF block still says
    /// (spec section 4).
    fn orientation(&mut self) -> ImageResult<Orientation> {
        Ok(Orientation::NoTransforms)
    }

    fn set_limits(&mut self, limits: image::Limits) -> ImageResult<()> {
        limits.check_support(&image::LimitSupport::default())?;
        limits.check_dimensions(self.size.width, self.size.height)?;
        let max_memory = limits.max_alloc.unwrap_or(u64::MAX);
        self.decoder.set_limits(self.decoder.limits().max_memory(max_memory));
        Ok(())
    }

    fn read_image(self, buf: &mut [u8]) -> ImageResult<()> {
        assert_eq!(buf.len() as u64, self.total_bytes(), "the buffer must hold the picture");
        let render = self.decoder.prepare(&self.view).map_err(decoding_error)?;
        // There is no other render to come that would take what it keeps.
        drop(self.decoder);
        let mut rest = buf;
        for strip in render.strips() {
            let samples = native_endian(&strip);
            let (head, tail) = rest.split_at_mut(samples.len());
            head.copy_from_slice(&samples);
            rest = tail;
        }
        Ok(())
    }

    fn read_image_boxed(self: Box<Self>, buf: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(buf)
    }
}

/// Samples as they are. What holds a palette in its file, the crate has made colours of.
///
/// # Errors
/// [`RasterError::FloatingPoint`] for those in 32 bits: what they mean is for the caller to say, by
/// `to_rgb16` and the like.
impl TryFrom<DynamicImage> for Raster {
    type Error = RasterError;

    fn try_from(image: DynamicImage) -> Result<Self, RasterError> {
        let size = Size { width: image.width(), height: image.height() };
        let (channels, samples) = match image {
            DynamicImage::ImageLuma8(i) => (Channels::Grey, Samples::U8(i.into_raw())),
            DynamicImage::ImageLumaA8(i) => (Channels::GreyAlpha, Samples::U8(i.into_raw())),
            DynamicImage::ImageRgb8(i) => (Channels::Rgb, Samples::U8(i.into_raw())),
            DynamicImage::ImageRgba8(i) => (Channels::Rgba, Samples::U8(i.into_raw())),
            DynamicImage::ImageLuma16(i) => (Channels::Grey, Samples::U16(i.into_raw())),
            DynamicImage::ImageLumaA16(i) => (Channels::GreyAlpha, Samples::U16(i.into_raw())),
            DynamicImage::ImageRgb16(i) => (Channels::Rgb, Samples::U16(i.into_raw())),
            DynamicImage::ImageRgba16(i) => (Channels::Rgba, Samples::U16(i.into_raw())),
            DynamicImage::ImageRgb32F(_) | DynamicImage::ImageRgba32F(_) => {
                return Err(RasterError::FloatingPoint);
            }
            other => return Err(RasterError::Unsupported(format!("{:?}", other.color()))),
        };
        Self::new(size, channels, samples)
    }
}

impl From<Raster> for DynamicImage {
    fn from(raster: Raster) -> Self {
        fn buffer<P: Pixel>(
            size: Size,
            samples: Vec<P::Subpixel>,
        ) -> ImageBuffer<P, Vec<P::Subpixel>> {
            let Size { width, height } = size;
            ImageBuffer::from_raw(width, height, samples).expect("as many samples as pixels")
        }
        let (size, channels) = (raster.size(), raster.channels());
        match (channels, raster.into_samples()) {
            (Channels::Grey, Samples::U8(samples)) => Self::ImageLuma8(buffer(size, samples)),
            (Channels::GreyAlpha, Samples::U8(samples)) => Self::ImageLumaA8(buffer(size, samples)),
            (Channels::Rgb, Samples::U8(samples)) => Self::ImageRgb8(buffer(size, samples)),
            (Channels::Rgba, Samples::U8(samples)) => Self::ImageRgba8(buffer(size, samples)),
            (Channels::Grey, Samples::U16(samples)) => Self::ImageLuma16(buffer(size, samples)),
            (Channels::GreyAlpha, Samples::U16(samples)) => {
                Self::ImageLumaA16(buffer(size, samples))
            }
            (Channels::Rgb, Samples::U16(samples)) => Self::ImageRgb16(buffer(size, samples)),
            (Channels::Rgba, Samples::U16(samples)) => Self::ImageRgba16(buffer(size, samples)),
        }
    }
}

/// Samples as bytes; 16 bits in the machine's own order.
fn native_endian(raster: &Raster) -> std::borrow::Cow<'_, [u8]> {
    match raster.samples() {
        Samples::U8(samples) => samples.as_slice().into(),
        Samples::U16(samples) => {
            samples.iter().flat_map(|s| s.to_ne_bytes()).collect::<Vec<u8>>().into()
        }
    }
}

fn hint() -> ImageFormatHint {
    ImageFormatHint::Name(EXTENSION.into())
}

fn decoding_error(error: DecodeError) -> ImageError {
    match error {
        DecodeError::LimitExceeded { what: Limit::Memory, .. } => insufficient_memory(),
        DecodeError::LimitExceeded { .. } => {
            ImageError::Limits(LimitError::from_kind(LimitErrorKind::DimensionError))
        }
        DecodeError::InvalidView(_) | DecodeError::InvalidGain(_) => {
            let kind = ParameterErrorKind::Generic(error.to_string());
            ImageError::Parameter(ParameterError::from_kind(kind))
        }
        DecodeError::UnsupportedVersion(_)
        | DecodeError::UnsupportedRepresentation(_)
        | DecodeError::UnsupportedWeightCoding(_)
        | DecodeError::UnknownCriticalChunk { .. } => {
            let kind = UnsupportedErrorKind::GenericFeature(error.to_string());
            ImageError::Unsupported(UnsupportedError::from_format_and_kind(hint(), kind))
        }
        _ => ImageError::Decoding(DecodingError::new(hint(), error)),
    }
}

fn insufficient_memory() -> ImageError {
    ImageError::Limits(LimitError::from_kind(LimitErrorKind::InsufficientMemory))
}
