//! Pictures in whatever formats there are readers for: pixels by those libraries, what is beside
//! them by the files of this folder, and what is made of both, which is the same for all formats.

use std::io::{Cursor, ErrorKind};
use std::path::Path;

use ::png::DecodingError as PngError;
use anyhow::{Context, Result, anyhow, bail};
use image::codecs::gif::GifDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{AnimationDecoder, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};
use sirenc::Raster;
use sirenc::container::{Cicp, Metadata};

use super::bitmap::TgaAlpha;
use super::scan::{self, Damage};
use super::told::{EXIF_OF_JPEG, MAX_METADATA_BYTES, too_large};
use super::{MAX_INPUT_BYTES, bitmap, is_siren, jpeg, metadata, png, tiff};
use crate::cli::colour::ToSrgb;
use crate::cli::progress;

/// A picture with what came along in its file.
pub(in crate::cli) struct Picture {
    pub raster: Raster,
    #[cfg_attr(not(feature = "encode"), expect(dead_code))]
    pub metadata: Metadata,
    /// What of the file is lost or was changed, one sentence each.
    warnings: Vec<String>,
}

/// Decodes a picture, says what is lost of its file.
#[cfg(feature = "encode")]
pub(in crate::cli) fn picture(path: &Path) -> Result<Picture> {
    picture_from(path, &super::bytes(path)?)
}

/// The same from the bytes of the file.
pub(in crate::cli) fn picture_from(path: &Path, bytes: &[u8]) -> Result<Picture> {
    let picture = decode(bytes, path).with_context(|| path.display().to_string())?;
    for warning in &picture.warnings {
        progress::message(&format!("warning: {}: {warning}", path.display()));
    }
    Ok(picture)
}

/// What a file holds, before anything is made of it.
#[derive(Default)]
pub(super) struct Read {
    pub image: DynamicImage,
    /// As in EXIF, where the format has a place of its own for it.
    pub orientation: Option<u8>,
    pub icc: Option<Vec<u8>>,
    pub cicp: Option<Cicp>,
    pub exif: Option<Vec<u8>>,
    pub xmp: Option<Vec<u8>>,
    pub calibration: Option<png::Calibration>,
    /// Whether the samples were CMYK.
    pub cmyk: bool,
    /// Whether there is another frame or page.
    pub several: bool,
    /// Whether alpha that is 0 everywhere is what writers leave in bytes that they do not use.
    pub unsure_of_alpha: bool,
    pub warnings: Vec<String>,
}

/// Decodes the bytes of a picture that is not a `.siren` file; its orientation is applied. The
/// extension of `path` tells formats without a signature.
fn decode(bytes: &[u8], path: &Path) -> Result<Picture> {
    if is_siren(bytes) {
        bail!("this is a .siren file already; `sirenc decode` makes a picture of it");
    }
    // `image` knows no BigTIFF by its signature, and TGA has none.
    let tiff = || tiff::is_tiff(bytes).then_some(ImageFormat::Tiff);
    let tga = || ImageFormat::from_path(path).ok().filter(|&f| f == ImageFormat::Tga);
    let format = image::guess_format(bytes).ok().or_else(tiff).or_else(tga);
    let mut read = match format {
        Some(ImageFormat::Png) => read_png(bytes)?,
        Some(ImageFormat::Tiff) => tiff::read(bytes)?,
        Some(ImageFormat::Jpeg) => read_jpeg(bytes)?,
        Some(ImageFormat::Bmp) => read_bmp(bytes)?,
        Some(ImageFormat::Tga) => read_tga(bytes)?,
        Some(ImageFormat::WebP) if bitmap::is_cut_riff(bytes) => {
            bail!("cannot decode: the file is cut short")
        }
        // `image` takes only RGBA for PNG in an icon.
        Some(ImageFormat::Ico) if bitmap::ico_png(bytes).is_some() => {
            read_png(bitmap::ico_png(bytes).unwrap_or_default())?
        }
        Some(format) => of_image(bytes, format)?,
        None => bail!("not a picture in a format that sirenc reads"),
    };
    if read.cmyk {
        read.warn("CMYK was converted without its profile; colours are approximate");
        // The pixels are RGB now, which this profile does not describe.
        read.icc = None;
    }
    if read.several {
        read.warn("holds several pictures, as an animation does; only the first is read");
    }
    read.check_alpha();
    read.check_metadata();
    read.finish()
}

/// Reads a picture by `image` alone.
fn of_image(bytes: &[u8], format: ImageFormat) -> Result<Read> {
    let mut decoder = decoder(bytes, format)?;
    let read = Read {
        // Metadata that cannot be read is no reason to refuse a picture.
        icc: match format {
            ImageFormat::Gif => gif_profile(bytes),
            _ => decoder.icc_profile().ok().flatten(),
        },
        exif: decoder.exif_metadata().ok().flatten(),
        xmp: decoder.xmp_metadata().ok().flatten(),
        several: holds_more(bytes, format),
        unsure_of_alpha: format == ImageFormat::Ico,
        ..Read::default()
    };
    let mut image = pixels(decoder)?;
    if format == ImageFormat::Gif && image.as_rgba8().is_some_and(is_opaque) {
        // `image` makes RGBA of every GIF file.
        image = image.into_rgb8().into();
    }
    Ok(Read { image, ..read })
}

fn decoder(bytes: &[u8], format: ImageFormat) -> Result<impl ImageDecoder + '_> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // Limits come after the metadata, which they do not bound.
    reader.no_limits();
    reader.into_decoder().map_err(cannot_decode)
}

/// The pixels of what `image` reads, within the memory that a picture may take.
fn pixels(mut decoder: impl ImageDecoder) -> Result<DynamicImage> {
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(MAX_INPUT_BYTES);
    limits.reserve(decoder.total_bytes())?;
    decoder.set_limits(limits)?;
    DynamicImage::from_decoder(decoder).map_err(cannot_decode)
}

/// Reads a JPEG file.
fn read_jpeg(bytes: &[u8]) -> Result<Read> {
    let ending = scan::ending(bytes);
    if ending.damage == Some(Damage::Short) {
        match ending.marked {
            true => bail!("damaged: the picture data of the JPEG file ends early"),
            false => bail!("cut short: a JPEG file without its end"),
        }
    }
    let jpeg::Told { components, icc, exif, xmp, mut warnings } =
        jpeg::Told::read(bytes, ending.length);
    if ending.damage.is_some() {
        warnings.push("its picture data is damaged; parts of the picture may be wrong".into());
    }
    if !ending.marked {
        warnings.push("has no end marker; the picture is whole".into());
    }
    let image = pixels(decoder(bytes, ImageFormat::Jpeg)?)?;
    Ok(Read { image, icc, exif, xmp, cmyk: components == 4, warnings, ..Read::default() })
}

/// Reads a PNG file.
fn read_png(bytes: &[u8]) -> Result<Read> {
    let png::Chunks { icc, cicp, exif, xmp, calibration, animated, warnings } =
        png::Chunks::read(bytes);
    Ok(Read {
        image: png_pixels(bytes)
            .map_err(cannot_decode_png)?
            .context("cannot decode: samples are missing")?,
        icc,
        cicp,
        exif,
        xmp,
        calibration,
        several: animated,
        warnings,
        ..Read::default()
    })
}

fn png_pixels(bytes: &[u8]) -> Result<Option<DynamicImage>, PngError> {
    let limits = ::png::Limits { bytes: MAX_INPUT_BYTES as usize };
    let mut decoder = ::png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(::png::Transformations::EXPAND);
    let mut reader = decoder.read_info()?;
    let length = reader.output_buffer_size().filter(|&length| length as u64 <= MAX_INPUT_BYTES);
    let mut samples = vec![0; length.ok_or(PngError::LimitsExceeded)?];
    reader.next_frame(&mut samples)?;
    let (width, height) = reader.info().size();
    let (colour, depth) = reader.output_color_type();
    let channels = colour.samples();
    Ok(match depth {
        ::png::BitDepth::Sixteen => {
            let wide = samples.chunks_exact(2).map(|s| u16::from_be_bytes([s[0], s[1]]));
            Sample::image(width, height, channels, wide.collect::<Vec<u16>>())
        }
        _ => Sample::image(width, height, channels, samples),
    })
}

fn cannot_decode_png(error: PngError) -> anyhow::Error {
    match error {
        PngError::IoError(io) if io.kind() == ErrorKind::UnexpectedEof => {
            anyhow!("cannot decode: the file is cut short")
        }
        PngError::LimitsExceeded => anyhow!("larger than {MAX_INPUT_BYTES} bytes in memory"),
        other => anyhow!(other).context("cannot decode"),
    }
}

/// Reads a BMP file.
fn read_bmp(bytes: &[u8]) -> Result<Read> {
    let icc = bitmap::bmp_profile(bytes).map(Vec::from);
    let with_masks = bitmap::with_masks(bytes);
    let image = pixels(decoder(with_masks.as_deref().unwrap_or(bytes), ImageFormat::Bmp)?)?;
    Ok(Read { image, icc, unsure_of_alpha: true, ..Read::default() })
}

/// Reads a TGA file.
fn read_tga(bytes: &[u8]) -> Result<Read> {
    let mut image = pixels(decoder(bytes, ImageFormat::Tga)?)?;
    match (bitmap::tga_alpha(bytes), &mut image) {
        (TgaAlpha::None, DynamicImage::ImageRgba8(_)) => image = image.into_rgb8().into(),
        (TgaAlpha::None, DynamicImage::ImageLumaA8(_)) => image = image.into_luma8().into(),
        (TgaAlpha::Premultiplied, DynamicImage::ImageRgba8(image)) => {
            for pixel in image.pixels_mut() {
                let [r, g, b, alpha] = pixel.0;
                pixel.0 = [divided(r, alpha), divided(g, alpha), divided(b, alpha), alpha];
            }
        }
        _ => {}
    }
    Ok(Read { image, unsure_of_alpha: true, ..Read::default() })
}

impl Read {
    pub fn warn(&mut self, warning: &str) {
        self.warnings.push(warning.to_owned());
    }

    /// Where alpha hides all colours, they are gone, or alpha is.
    fn check_alpha(&mut self) {
        let hidden = match &self.image {
            DynamicImage::ImageLumaA8(image) => hides_colours(image),
            DynamicImage::ImageRgba8(image) => hides_colours(image),
            DynamicImage::ImageLumaA16(image) => hides_colours(image),
            DynamicImage::ImageRgba16(image) => hides_colours(image),
            _ => false,
        };
        if hidden && self.unsure_of_alpha {
            self.warn("alpha is 0 everywhere and was taken for none");
            self.image = self.image.to_rgb8().into();
        } else if hidden {
            self.warn("alpha is 0 everywhere: nothing is to be seen, and no colours are kept");
        }
    }

    /// Drops metadata that a `.siren` file does not hold or that makes no sense, and says so.
    fn check_metadata(&mut self) {
        for (block, name) in
            [(&mut self.icc, "ICC profile"), (&mut self.exif, "EXIF"), (&mut self.xmp, "XMP")]
        {
            if block.as_ref().is_some_and(|block| block.len() > MAX_METADATA_BYTES) {
                *block = None;
                self.warnings.push(too_large(name));
            }
        }
        let colours = if self.image.color().has_color() { 3 } else { 1 };
        if let Some(profile) = &self.icc
            && metadata::colours_of_profile(profile).is_some_and(|of_profile| of_profile != colours)
        {
            self.icc = None;
            self.warn("its ICC profile is for pictures with other channels and left out");
        }
        if let Some(exif) = &mut self.exif
            && exif.starts_with(EXIF_OF_JPEG)
        {
            // Some writers of WebP and PNG leave this in.
            exif.drain(..EXIF_OF_JPEG.len());
        }
        if self.exif.as_deref().is_some_and(|exif| !metadata::exif::is_exif(exif)) {
            self.exif = None;
            self.warn("its EXIF is damaged and left out");
        }
        if let Some(packet) = self.xmp.take() {
            self.xmp = metadata::xmp::to_utf8(&packet);
            if self.xmp.is_none() {
                self.warn("its XMP is no text and left out");
            }
        }
    }

    /// The picture, upright and in the colours that its metadata describes.
    fn finish(self) -> Result<Picture> {
        let Self { mut image, icc, cicp, exif, xmp, mut warnings, .. } = self;
        let mut metadata = Metadata { icc, cicp, exif, xmp, settings: None };
        let orientation = self.orientation.or_else(|| metadata::orientation(&metadata));
        let orientation = orientation.and_then(Orientation::from_exif);
        let orientation = orientation.unwrap_or(Orientation::NoTransforms);
        // The pixels are turned here, so nothing must turn them again.
        metadata::make_upright(&mut metadata);
        image.apply_orientation(orientation);
        if orientation != Orientation::NoTransforms
            && metadata.exif.as_mut().is_some_and(metadata::exif::remove_thumbnail)
        {
            warnings.push("its EXIF thumbnail, which is not upright, is left out".into());
        }
        let mut raster = Raster::try_from(image)?;
        if let Some(calibration) = self.calibration
            && let png::Calibration { gamma, chromaticities } = calibration
        {
            match ToSrgb::of_gamma(gamma, chromaticities, &raster) {
                Ok(None) => {}
                Ok(Some(to_srgb)) => {
                    raster = to_srgb.convert(raster)?;
                    let text =
                        format!("its colours, of gamma {gamma} without a profile, are now sRGB");
                    warnings.push(text);
                }
                Err(_) => {
                    warnings
                        .push("its gamma and primaries make no sense; it was read as sRGB".into());
                }
            }
        }
        Ok(Picture { raster, metadata, warnings })
    }
}

/// Whether alpha is 0 everywhere, and colours are not.
fn hides_colours<P: image::Pixel>(image: &image::ImageBuffer<P, Vec<P::Subpixel>>) -> bool {
    let zero = <P::Subpixel as image::Primitive>::DEFAULT_MIN_VALUE;
    let mut coloured = false;
    let mut pixels = image.pixels().filter_map(|pixel| pixel.channels().split_last());
    pixels.all(|(&alpha, colours)| {
        coloured |= colours.iter().any(|&colour| colour > zero);
        alpha == zero
    }) && coloured
}

/// Says of a file's early end what it is; `image` is terse about it.
fn cannot_decode(error: ImageError) -> anyhow::Error {
    match &error {
        ImageError::IoError(io) if io.kind() == ErrorKind::UnexpectedEof => {
            anyhow!("cannot decode: the file is cut short")
        }
        _ => anyhow!(error).context("cannot decode"),
    }
}

fn is_opaque(image: &image::RgbaImage) -> bool {
    image.pixels().all(|pixel| pixel.0[3] == u8::MAX)
}

/// The ICC profile of a GIF file, which `image` does not hand on.
fn gif_profile(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = gif::Decoder::new(bytes).ok()?;
    decoder.next_frame_info().ok()?;
    decoder.icc_profile().map(Vec::from)
}

/// Whether the file has another frame after the picture that is read.
fn holds_more(bytes: &[u8], format: ImageFormat) -> bool {
    let input = Cursor::new(bytes);
    match format {
        ImageFormat::Gif => GifDecoder::new(input).is_ok_and(has_second_frame),
        ImageFormat::WebP => WebPDecoder::new(input)
            .is_ok_and(|decoder| decoder.has_animation() && has_second_frame(decoder)),
        _ => false,
    }
}

fn has_second_frame<'a>(decoder: impl AnimationDecoder<'a>) -> bool {
    decoder.into_frames().nth(1).is_some_and(|frame| frame.is_ok())
}

/// A sample of 8 or 16 bits.
pub(super) trait Sample: Copy + Into<u32> + image::Primitive {
    /// The nearest sample to a value that is not negative.
    fn of(value: f32) -> Self;

    /// A picture of one to four channels, if there are as many samples as it takes.
    fn image(width: u32, height: u32, channels: usize, samples: Vec<Self>) -> Option<DynamicImage>;
}

macro_rules! sample {
    ($sample:ty, $grey:ident, $grey_alpha:ident, $rgb:ident, $rgba:ident) => {
        impl Sample for $sample {
            fn of(value: f32) -> Self {
                (value + 0.5) as Self
            }

            fn image(
                width: u32,
                height: u32,
                channels: usize,
                samples: Vec<Self>,
            ) -> Option<DynamicImage> {
                use image::ImageBuffer as Buffer;
                match channels {
                    1 => Buffer::from_raw(width, height, samples).map(DynamicImage::$grey),
                    2 => Buffer::from_raw(width, height, samples).map(DynamicImage::$grey_alpha),
                    3 => Buffer::from_raw(width, height, samples).map(DynamicImage::$rgb),
                    4 => Buffer::from_raw(width, height, samples).map(DynamicImage::$rgba),
                    _ => None,
                }
            }
        }
    };
}

sample!(u8, ImageLuma8, ImageLumaA8, ImageRgb8, ImageRgba8);
sample!(u16, ImageLuma16, ImageLumaA16, ImageRgb16, ImageRgba16);

/// A premultiplied sample without its alpha.
pub(super) fn divided<T: Sample>(sample: T, alpha: T) -> T {
    match (sample.into(), alpha.into(), T::DEFAULT_MAX_VALUE.into()) {
        (_, 0, _) => T::DEFAULT_MIN_VALUE,
        // More than alpha is no premultiplied colour: as bright as it gets.
        (sample, alpha, most) => T::of(sample.min(alpha) as f32 * most as f32 / alpha as f32),
    }
}
