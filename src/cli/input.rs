//! Reading inputs: `.siren` files, and pictures in what formats the `image` crate knows.

use std::fs;
use std::io::{Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use image::codecs::gif::GifDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{
    AnimationDecoder, DynamicImage, ExtendedColorType, ImageDecoder, ImageError, ImageFormat,
    ImageReader,
};
use sirenc::container::{Cicp, Metadata, SIGNATURE};
use sirenc::{Channels, Decoder, Raster, Samples, Size};
use tiff::tags::Tag;

use super::{jpeg, metadata};

/// Bytes that an input may have, and memory that decoding a picture may take.
const MAX_INPUT_BYTES: u64 = 4 << 30;

/// What stands before the TIFF header of EXIF in a JPEG file.
pub(super) const EXIF_OF_JPEG: &[u8] = b"Exif\0\0";

/// A picture with what came along in its file.
pub(super) struct Picture {
    pub raster: Raster,
    #[cfg_attr(not(feature = "encode"), expect(dead_code))]
    pub metadata: Metadata,
    /// What of the file is not in the picture, one sentence each.
    #[cfg_attr(not(feature = "encode"), expect(dead_code))]
    pub losses: Vec<&'static str>,
}

/// An input in messages.
pub(super) fn name(path: &Path) -> String {
    if path == Path::new("-") { "stdin".into() } else { path.display().to_string() }
}

/// Whether an input is stdin or another stream, as of a shell's `<(...)`: it has no name that an
/// output's could follow from, even where a file is behind it.
pub(super) fn is_stream(path: &Path) -> bool {
    ["-", "/dev/stdin"].map(Path::new).contains(&path)
        || ["/dev/fd", "/proc"].iter().any(|directory| path.starts_with(directory))
        || fs::metadata(path).is_ok_and(|found| !found.is_file())
}

/// The bytes of a file, or of stdin for `-`; never none.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>> {
    read(path, |_| true)
}

/// The bytes of what should be a `.siren` file; no more than the first few of one that is none.
pub(super) fn siren_bytes(path: &Path) -> Result<Vec<u8>> {
    read(path, is_siren)
}

/// The bytes of a file or of stdin, if the first ones are those of a file to `go_on` with.
fn read(path: &Path, go_on: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
    let name = name(path);
    let cannot_read = || format!("cannot read {name}");
    let mut file: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin().lock()),
        _ if path.is_dir() => bail!("{name} is a directory"),
        _ => Box::new(fs::File::open(path).with_context(cannot_read)?),
    };
    let mut bytes = Vec::new();
    let mut first = file.by_ref().take(SIGNATURE.len() as u64);
    first.read_to_end(&mut bytes).with_context(cannot_read)?;
    if bytes.is_empty() {
        bail!("{name} is empty");
    }
    if go_on(&bytes) {
        file.take(MAX_INPUT_BYTES).read_to_end(&mut bytes).with_context(cannot_read)?;
        if bytes.len() as u64 > MAX_INPUT_BYTES {
            bail!("{name} has more than {MAX_INPUT_BYTES} bytes");
        }
    }
    Ok(bytes)
}

/// Opens a `.siren` file.
pub(super) fn siren(path: &Path) -> Result<Decoder> {
    siren_from(path, &siren_bytes(path)?)
}

/// Opens the bytes of a `.siren` file; `path` is for messages.
pub(super) fn siren_from(path: &Path, bytes: &[u8]) -> Result<Decoder> {
    Decoder::new(bytes).with_context(|| path.display().to_string())
}

/// Whether the bytes are meant to be a `.siren` file.
pub(super) fn is_siren(bytes: &[u8]) -> bool {
    bytes.starts_with(&SIGNATURE)
}

/// Decodes a picture, says what is lost of its file.
#[cfg(feature = "encode")]
pub(super) fn picture(path: &Path) -> Result<Picture> {
    let picture = decode(&bytes(path)?, path).with_context(|| path.display().to_string())?;
    for loss in &picture.losses {
        super::progress::message(&format!("warning: {}: {loss}", path.display()));
    }
    Ok(picture)
}

/// Decodes the bytes of a picture that is not a `.siren` file; its orientation is applied. The
/// extension of `path` tells formats without a signature.
pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<Picture> {
    if is_siren(bytes) {
        bail!("this is a .siren file already; `sirenc decode` makes a picture of it");
    }
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let by_name = || ImageFormat::from_path(path).ok().filter(|&f| f == ImageFormat::Tga);
    let Some(format) = reader.format().or_else(by_name) else {
        bail!("not a picture in a format that sirenc reads");
    };
    reader.set_format(format);
    let jpeg = (format == ImageFormat::Jpeg).then(|| jpeg::markers(bytes));
    if jpeg.as_ref().is_some_and(|markers| !markers.ended) {
        bail!("cut short: a JPEG file without its end");
    }
    // Limits come after the metadata, which they do not bound.
    reader.no_limits();
    let mut decoder = reader.into_decoder().map_err(cannot_decode)?;
    let cmyk = jpeg.is_some_and(|markers| markers.components == 4)
        || matches!(
            decoder.original_color_type(),
            ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16
        );
    let mut orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    // Metadata that cannot be read is no reason to refuse a picture.
    let mut metadata = Metadata {
        icc: decoder.icc_profile().ok().flatten(),
        cicp: if format == ImageFormat::Png { png_cicp(bytes) } else { None },
        exif: decoder.exif_metadata().ok().flatten(),
        xmp: decoder.xmp_metadata().ok().flatten(),
        settings: None,
    };
    if format == ImageFormat::Tiff {
        // `image` 0.25 loses blocks that are larger than a 32nd of the pixels.
        metadata.icc = tiff_block(bytes, Tag::IccProfile);
        metadata.xmp = tiff_block(bytes, Tag::Unknown(700));
    }
    if cmyk {
        // The pixels are RGB now, which this profile does not describe.
        metadata.icc = None;
    }
    if let Some(exif) = &mut metadata.exif
        && exif.starts_with(EXIF_OF_JPEG)
    {
        // Some writers of WebP leave this in, and `image` 0.25 then misses the orientation.
        exif.drain(..EXIF_OF_JPEG.len());
        orientation = Orientation::from_exif_chunk(exif).unwrap_or(orientation);
    }
    // The pixels are turned below, so nothing must turn them again.
    metadata::make_upright(&mut metadata);
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(MAX_INPUT_BYTES);
    limits.reserve(decoder.total_bytes())?;
    decoder.set_limits(limits)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(cannot_decode)?;
    if format == ImageFormat::Gif && image.as_rgba8().is_some_and(is_opaque) {
        // `image` makes RGBA of every GIF file.
        image = image.into_rgb8().into();
    }
    image.apply_orientation(orientation);
    let mut losses = Vec::new();
    if cmyk {
        losses.push("CMYK was converted without its profile; colours are approximate");
    }
    if holds_more(bytes, format) {
        losses.push("holds several pictures, as an animation does; only the first is read");
    }
    Ok(Picture { raster: raster(image)?, metadata, losses })
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

/// Whether the file has another frame or page after the picture that is read.
fn holds_more(bytes: &[u8], format: ImageFormat) -> bool {
    let input = Cursor::new(bytes);
    match format {
        ImageFormat::Png => png::Decoder::new(input).read_info().is_ok_and(|reader| {
            reader.info().animation_control.is_some_and(|animation| animation.num_frames > 1)
        }),
        ImageFormat::Gif => GifDecoder::new(input).is_ok_and(has_second_frame),
        ImageFormat::WebP => WebPDecoder::new(input)
            .is_ok_and(|decoder| decoder.has_animation() && has_second_frame(decoder)),
        // A reduced copy of the first page is none of its own.
        ImageFormat::Tiff => tiff::decoder::Decoder::new(input).is_ok_and(|mut decoder| {
            decoder.more_images()
                && decoder.next_image().is_ok()
                && !decoder.get_tag_u32(Tag::NewSubfileType).is_ok_and(|kind| kind & 1 == 1)
        }),
        _ => false,
    }
}

fn has_second_frame<'a>(decoder: impl AnimationDecoder<'a>) -> bool {
    decoder.into_frames().nth(1).is_some_and(|frame| frame.is_ok())
}

/// Samples as they are stored; alpha is straight in every format that `image` reads.
fn raster(image: DynamicImage) -> Result<Raster> {
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
        _ => bail!("floating-point pictures are not supported; convert to 16 bits first"),
    };
    Raster::new(size, channels, samples)
        .with_context(|| format!("{}x{} is not a picture", size.width, size.height))
}

/// The cICP chunk of a PNG file, which `image` does not hand on.
fn png_cicp(bytes: &[u8]) -> Option<Cicp> {
    let reader = png::Decoder::new(Cursor::new(bytes)).read_info().ok()?;
    let points = reader.info().coding_independent_code_points?;
    (points.matrix_coefficients == 0).then_some(Cicp {
        primaries: points.color_primaries,
        transfer: points.transfer_function,
        matrix: 0,
        full_range: points.is_video_full_range_image.into(),
    })
}

/// A block of bytes in the first directory of a TIFF file.
fn tiff_block(bytes: &[u8], tag: Tag) -> Option<Vec<u8>> {
    let decoder = tiff::decoder::Decoder::new(Cursor::new(bytes)).ok()?;
    decoder.with_limits(tiff::decoder::Limits::unlimited()).get_tag_u8_vec(tag).ok()
}

/// Inputs with every directory replaced by the files in it that `wanted` accepts, in
/// the order of their names; for what is not there, why.
pub(super) fn expand(
    inputs: &[PathBuf],
    wanted: impl Fn(&Path) -> bool,
) -> Vec<(PathBuf, Result<(), String>)> {
    let mut files = Vec::new();
    for input in inputs {
        if input.is_dir() {
            match files_in(input, &wanted) {
                Ok(found) => files.extend(found.into_iter().map(|file| (file, Ok(())))),
                Err(error) => files.push((input.clone(), Err(format!("{error:#}")))),
            }
            continue;
        }
        let hint = match inputs {
            _ if metadata::is_kind(input) => " (kinds of metadata follow `=`, as in --strip=exif)",
            [_, last] if last == input => " (an output is named with -o)",
            _ => "",
        };
        let found = match fs::metadata(input) {
            Err(error) if input != Path::new("-") => {
                Err(format!("cannot read {}{hint}: {error}", input.display()))
            }
            _ => Ok(()),
        };
        files.push((input.clone(), found));
    }
    files
}

fn files_in(directory: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot read {}", directory.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let is_hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        if path.is_file() && !is_hidden && wanted(&path) {
            found.push(path);
        }
    }
    if found.is_empty() {
        bail!("no suitable files in {}", directory.display());
    }
    found.sort();
    Ok(found)
}

/// Whether a name's extension is one of a picture format that can be read.
#[cfg(feature = "encode")]
pub(super) fn has_picture_extension(path: &Path) -> bool {
    ImageFormat::from_path(path).is_ok_and(|format| format.reading_enabled())
}

/// Whether a name's extension is `siren`.
pub(super) fn has_siren_extension(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("siren"))
}
