//! The `image` crate's view of the encoder, for version 0.25. The only file that knows that crate's
//! traits, which change with its version 1.0.

use std::io::Write;

use image::error::{EncodingError, ImageFormatHint, UnsupportedError, UnsupportedErrorKind};
use image::{ExtendedColorType, ImageEncoder, ImageError, ImageResult};

use siren_image::{Channels, Raster, Samples, Size};

use crate::encode::Encoder;
use crate::error::EncodeError;

/// Encodes a `.siren` file for the `image` crate.
///
/// Training takes from seconds to minutes; the [`Encoder`] is told how long.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use siren_encoder::{Encoder, SirenEncoder};
///
/// let picture = image::DynamicImage::from(image::RgbImage::from_fn(16, 16, |x, y| {
///     image::Rgb([x as u8 * 16, y as u8 * 16, 128])
/// }));
/// let encoder = Encoder::new().bytes(400).steps(20);
/// let mut file = Vec::new();
/// picture.write_with_encoder(SirenEncoder::new(&mut file, encoder))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SirenEncoder<W> {
    sink: W,
    encoder: Encoder,
}

impl<W: Write> SirenEncoder<W> {
    /// An encoder that writes one file to `sink`.
    pub fn new(sink: W, encoder: Encoder) -> Self {
        Self { sink, encoder }
    }
}

impl<W: Write> ImageEncoder for SirenEncoder<W> {
    fn write_image(
        mut self,
        buf: &[u8],
        width: u32,
        height: u32,
        color_type: ExtendedColorType,
    ) -> ImageResult<()> {
        let bits = u64::from(color_type.bits_per_pixel());
        let expected = (u64::from(width) * u64::from(height) * bits).div_ceil(8);
        assert_eq!(buf.len() as u64, expected, "the buffer must hold the picture");
        let eight = || Samples::U8(buf.to_vec());
        let sixteen = || {
            let pairs = buf.as_chunks::<2>().0.iter();
            Samples::U16(pairs.map(|&pair| u16::from_ne_bytes(pair)).collect())
        };
        let (channels, samples) = match color_type {
            ExtendedColorType::L8 => (Channels::Grey, eight()),
            ExtendedColorType::La8 => (Channels::GreyAlpha, eight()),
            ExtendedColorType::Rgb8 => (Channels::Rgb, eight()),
            ExtendedColorType::Rgba8 => (Channels::Rgba, eight()),
            ExtendedColorType::L16 => (Channels::Grey, sixteen()),
            ExtendedColorType::La16 => (Channels::GreyAlpha, sixteen()),
            ExtendedColorType::Rgb16 => (Channels::Rgb, sixteen()),
            ExtendedColorType::Rgba16 => (Channels::Rgba, sixteen()),
            other => {
                let kind = UnsupportedErrorKind::Color(other);
                let error = UnsupportedError::from_format_and_kind(hint(), kind);
                return Err(ImageError::Unsupported(error));
            }
        };
        let raster = Raster::new(Size { width, height }, channels, samples);
        let encoded = raster
            .map_err(|error| EncodeError::Picture(error.to_string()))
            .and_then(|raster| self.encoder.encode(&raster))
            .map_err(|error| ImageError::Encoding(EncodingError::new(hint(), error)))?;
        self.sink.write_all(&encoded.bytes)?;
        Ok(())
    }

    fn set_icc_profile(&mut self, icc_profile: Vec<u8>) -> Result<(), UnsupportedError> {
        self.encoder.metadata_mut().icc = Some(icc_profile);
        Ok(())
    }

    fn set_exif_metadata(&mut self, exif: Vec<u8>) -> Result<(), UnsupportedError> {
        self.encoder.metadata_mut().exif = Some(exif);
        Ok(())
    }
}

/// The format's name to the `image` crate.
fn hint() -> ImageFormatHint {
    ImageFormatHint::Name("siren".into())
}
