//! Renders to picture files, strip by strip where the format allows it.

use std::cell::RefCell;
use std::io::{BufWriter, Seek, Write};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use image_webp::{ColorType as WebpColorType, WebPEncoder};
use indicatif::ProgressBar;
use jpeg_encoder::JpegColorType;
use sirenc::container::{Cicp, Metadata};
use sirenc::{BitDepth, Channels, Raster, Render, Samples};
use tiff::encoder::colortype::{ColorType, Gray8, Gray16, RGB8, RGB16};
use tiff::encoder::{DirectoryEncoder, TiffEncoder, TiffKindStandard, TiffValue};
use tiff::tags::{ExtraSamples, Tag, Type};
use tiff::{Directory, TiffResult};

use super::colour::ToSrgb;
use super::metadata::exif::{self, Field};
use super::output::Sink;

/// What stands before EXIF (its length) and XMP in a JPEG file.
const EXIF_NAME: usize = 6;
const XMP_NAME: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// Picture formats that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// PNG, 8 or 16 bits
    Png,
    /// JPEG, 8 bits, no alpha
    #[value(alias = "jpg")]
    Jpeg,
    /// Lossless WebP, 8 bits, at most 16,383 pixels a side
    Webp,
    /// TIFF, 8 or 16 bits
    #[value(alias = "tif")]
    Tiff,
    /// PGM or PPM, or PAM where there is alpha; 8 or 16 bits
    #[value(aliases = ["ppm", "pgm"])]
    Pnm,
    /// PAM, 8 or 16 bits
    Pam,
}

impl Format {
    /// The format that a name's extension stands for.
    pub fn of_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match extension.as_str() {
            "png" => Self::Png,
            "jpg" | "jpeg" => Self::Jpeg,
            "webp" => Self::Webp,
            "tif" | "tiff" => Self::Tiff,
            "pnm" | "ppm" | "pgm" => Self::Pnm,
            "pam" => Self::Pam,
            _ => return None,
        })
    }

    /// The usual extension.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Webp => "webp",
            Self::Tiff => "tiff",
            Self::Pnm => "pnm",
            Self::Pam => "pam",
        }
    }

    /// Says what a file of this format and name cannot hold.
    pub fn check_name(self, path: &Path, channels: Channels) -> Result<()> {
        let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        let path = path.display();
        match extension.as_deref() {
            Some("ppm" | "pgm") if self == Self::Pnm && channels.has_alpha() => {
                bail!("{path} would need an alpha channel; write .pam or .png")
            }
            Some("pgm") if self == Self::Pnm && channels.colour_count() > 1 => {
                bail!("{path} would need colours; write .ppm")
            }
            _ => Ok(()),
        }
    }

    /// What of the colour space the format cannot hold.
    pub fn loses_colour_space(self, metadata: &Metadata) -> Option<&'static str> {
        match self {
            Self::Png => None,
            Self::Pnm | Self::Pam if metadata.icc.is_some() => Some("ICC profile"),
            _ => metadata.cicp.and(Some("cICP")),
        }
    }

    /// Takes out EXIF and XMP where the format cannot hold them; tells which.
    pub fn leave_out(self, metadata: &mut Metadata) -> Vec<&'static str> {
        // A segment of JPEG has 65,533 bytes, the name of what it holds among them.
        let (exif, xmp) = match self {
            Self::Png | Self::Webp | Self::Tiff => (usize::MAX, usize::MAX),
            Self::Jpeg => (65_533 - EXIF_NAME, 65_533 - XMP_NAME.len()),
            Self::Pnm | Self::Pam => (0, 0),
        };
        let blocks = [(&mut metadata.exif, exif, "EXIF"), (&mut metadata.xmp, xmp, "XMP")];
        let too_long = blocks.into_iter().filter_map(|(block, most, name)| {
            block.take_if(|block| block.len() > most).map(|_| name)
        });
        too_long.collect()
    }

    /// Bits that the format can hold, if fewer than a picture may have.
    pub fn max_depth(self) -> BitDepth {
        match self {
            Self::Jpeg | Self::Webp => BitDepth::Eight,
            Self::Png | Self::Tiff | Self::Pnm | Self::Pam => BitDepth::Sixteen,
        }
    }
}

/// A render in the colours that are wanted.
pub(super) struct Source {
    pub render: Render,
    pub to_srgb: Option<ToSrgb>,
}

impl Source {
    /// Some rows, as [`Render::rows`].
    fn rows(&self, rows: Range<u32>) -> Result<Raster> {
        self.converted(self.render.rows(rows))
    }

    /// All from top to bottom, as [`Render::strips`].
    fn strips(&self) -> impl Iterator<Item = Result<Raster>> + '_ {
        self.render.strips().map(|strip| self.converted(strip))
    }

    fn converted(&self, raster: Raster) -> Result<Raster> {
        match &self.to_srgb {
            Some(to_srgb) => to_srgb.convert(raster),
            None => Ok(raster),
        }
    }
}

/// Writes `source` to `file`. PNG, JPEG, TIFF and PNM stream; WebP needs the whole
/// picture in memory.
pub(super) fn write(
    source: &Source,
    metadata: &Metadata,
    format: Format,
    jpeg_quality: u8,
    bar: &ProgressBar,
    file: &mut dyn Sink,
) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 18, file);
    match format {
        Format::Png => write_png(source, metadata, bar, &mut file)?,
        Format::Jpeg => write_jpeg(source, metadata, jpeg_quality, bar, &mut file)?,
        Format::Webp => write_webp(source, metadata, &mut file)?,
        Format::Tiff => write_tiff(source, metadata, bar, &mut file)?,
        Format::Pnm => write_pnm(source, false, bar, &mut file)?,
        Format::Pam => write_pnm(source, true, bar, &mut file)?,
    }
    file.flush()?;
    Ok(())
}

fn write_png(
    source: &Source,
    metadata: &Metadata,
    bar: &ProgressBar,
    sink: &mut impl Write,
) -> Result<()> {
    let render = &source.render;
    let mut info = png::Info::with_size(render.size().width, render.size().height);
    info.color_type = match render.channels() {
        Channels::Grey => png::ColorType::Grayscale,
        Channels::GreyAlpha => png::ColorType::GrayscaleAlpha,
        Channels::Rgb => png::ColorType::Rgb,
        Channels::Rgba => png::ColorType::Rgba,
    };
    info.bit_depth = match render.depth() {
        BitDepth::Eight => png::BitDepth::Eight,
        BitDepth::Sixteen => png::BitDepth::Sixteen,
    };
    info.icc_profile = metadata.icc.as_deref().map(Into::into);
    info.exif_metadata = metadata.exif.as_deref().map(Into::into);
    if let Some(xmp) = metadata.xmp.as_ref().and_then(|xmp| std::str::from_utf8(xmp).ok()) {
        let keyword = "XML:com.adobe.xmp".to_owned();
        info.utf8_text.push(png::text_metadata::ITXtChunk::new(keyword, xmp));
    }
    let mut encoder = png::Encoder::with_info(sink, info)?;
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    if let Some(Cicp { primaries, transfer, matrix, full_range }) = metadata.cicp {
        // `png` 0.18 reads this chunk but does not write it.
        let chunk = png::chunk::ChunkType(*b"cICP");
        writer.write_chunk(chunk, &[primaries, transfer, matrix, full_range])?;
    }
    let mut writer = writer.stream_writer()?;
    for strip in source.strips() {
        let strip = strip?;
        bar.inc(strip.size().height.into());
        match strip.samples() {
            Samples::U8(samples) => writer.write_all(samples)?,
            Samples::U16(samples) => writer.write_all(&big_endian(samples))?,
        }
    }
    writer.finish()?;
    Ok(())
}

fn write_jpeg(
    source: &Source,
    metadata: &Metadata,
    quality: u8,
    bar: &ProgressBar,
    sink: &mut impl Write,
) -> Result<()> {
    let render = &source.render;
    let size = render.size();
    let (Ok(width), Ok(height)) = (u16::try_from(size.width), u16::try_from(size.height)) else {
        bail!("JPEG holds at most 65,535 pixels a side");
    };
    if render.channels().has_alpha() {
        bail!("JPEG has no alpha channel; write PNG, WebP or TIFF");
    }
    let mut encoder = jpeg_encoder::Encoder::new(sink, quality);
    if let Some(icc) = &metadata.icc {
        encoder.add_icc_profile(icc)?;
    }
    if let Some(exif) = &metadata.exif {
        encoder.add_exif_metadata(exif)?;
    }
    if let Some(xmp) = &metadata.xmp {
        encoder.add_app_segment(1, [XMP_NAME, xmp.as_slice()].concat())?;
    }
    let failed = RefCell::new(None);
    let rows = JpegRows { source, width, height, bar, strip: RefCell::new(None), failed: &failed };
    encoder.encode_image(rows)?;
    failed.into_inner().map_or(Ok(()), Err)
}

/// Rows as the JPEG encoder asks for them, from the strip that holds them.
struct JpegRows<'a> {
    source: &'a Source,
    width: u16,
    height: u16,
    bar: &'a ProgressBar,
    /// First row and pixels of the strip at hand.
    strip: RefCell<Option<(u32, Raster)>>,
    /// Why a strip could not be had; the JPEG encoder has no way to hand it on.
    failed: &'a RefCell<Option<anyhow::Error>>,
}

impl jpeg_encoder::ImageBuffer for JpegRows<'_> {
    fn get_jpeg_color_type(&self) -> JpegColorType {
        match self.source.render.channels().colour_count() {
            1 => JpegColorType::Luma,
            _ => JpegColorType::Ycbcr,
        }
    }

    fn width(&self) -> u16 {
        self.width
    }

    fn height(&self) -> u16 {
        self.height
    }

    fn fill_buffers(&self, y: u16, buffers: &mut [Vec<u8>; 4]) {
        let row = u32::from(y);
        let mut held = self.strip.borrow_mut();
        let holds = |(top, strip): &(u32, Raster)| (*top..top + strip.size().height).contains(&row);
        if !held.as_ref().is_some_and(holds) {
            let render = &self.source.render;
            let rows = render.strip_rows();
            let top = row - row % rows;
            let bottom = (top + rows).min(render.size().height);
            let strip = self.source.rows(top..bottom).unwrap_or_else(|error| {
                *self.failed.borrow_mut() = Some(error);
                render.rows(top..bottom)
            });
            *held = Some((top, strip));
            self.bar.set_position(bottom.into());
        }
        let (top, strip) = held.as_ref().expect("just filled");
        let Samples::U8(samples) = strip.samples() else { unreachable!("JPEG renders 8 bits") };
        let channels = strip.channels().count();
        let stride = channels * usize::from(self.width);
        let start = (row - top) as usize * stride;
        for pixel in samples[start..start + stride].chunks_exact(channels) {
            match *pixel {
                [grey] => buffers[0].push(grey),
                [r, g, b] => {
                    let (y, cb, cr) = jpeg_encoder::rgb_to_ycbcr(r, g, b);
                    buffers[0].push(y);
                    buffers[1].push(cb);
                    buffers[2].push(cr);
                }
                _ => unreachable!("alpha was refused"),
            }
        }
    }
}

fn write_webp(source: &Source, metadata: &Metadata, sink: &mut impl Write) -> Result<()> {
    let render = &source.render;
    if render.size().longer_side() > 16_383 {
        bail!("WebP holds at most 16,383 pixels a side");
    }
    let raster = source.rows(0..render.size().height)?;
    let Samples::U8(samples) = raster.samples() else { unreachable!("WebP renders 8 bits") };
    let mut encoder = WebPEncoder::new(sink);
    if let Some(icc) = &metadata.icc {
        encoder.set_icc_profile(icc.clone());
    }
    if let Some(exif) = &metadata.exif {
        encoder.set_exif_metadata(exif.clone());
    }
    if let Some(xmp) = &metadata.xmp {
        encoder.set_xmp_metadata(xmp.clone());
    }
    let colour = match raster.channels() {
        Channels::Grey => WebpColorType::L8,
        Channels::GreyAlpha => WebpColorType::La8,
        Channels::Rgb => WebpColorType::Rgb8,
        Channels::Rgba => WebpColorType::Rgba8,
    };
    let size = raster.size();
    encoder.encode(samples, size.width, size.height, colour).context("WebP")?;
    Ok(())
}

fn write_tiff(
    source: &Source,
    metadata: &Metadata,
    bar: &ProgressBar,
    sink: &mut (impl Write + Seek),
) -> Result<()> {
    let render = &source.render;
    let bytes = render.size().pixels() * (4 * render.depth().bytes()) as u64;
    if bytes > u64::from(u32::MAX) - (1 << 20) {
        bail!("this render is too large for TIFF; write PNG");
    }
    let encoder = TiffEncoder::new(sink)?;
    match (render.channels(), render.depth()) {
        (Channels::Grey, BitDepth::Eight) => {
            write_page::<Gray8, _>(encoder, source, metadata, bar, eight)
        }
        (_, BitDepth::Eight) => write_page::<RGB8, _>(encoder, source, metadata, bar, eight),
        (Channels::Grey, BitDepth::Sixteen) => {
            write_page::<Gray16, _>(encoder, source, metadata, bar, sixteen)
        }
        (_, BitDepth::Sixteen) => write_page::<RGB16, _>(encoder, source, metadata, bar, sixteen),
    }
}

fn eight(strip: Raster) -> Vec<u8> {
    let Samples::U8(samples) = strip.into_samples() else { unreachable!("as the render") };
    samples
}

fn sixteen(strip: Raster) -> Vec<u16> {
    let Samples::U16(samples) = strip.into_samples() else { unreachable!("as the render") };
    samples
}

/// Writes the picture and its metadata. Every colour type is a type of its own in this library;
/// `samples` takes those of a strip.
fn write_page<C: ColorType, W: Write + Seek>(
    mut encoder: TiffEncoder<W>,
    source: &Source,
    metadata: &Metadata,
    bar: &ProgressBar,
    samples: fn(Raster) -> Vec<C::Inner>,
) -> Result<()>
where
    [C::Inner]: TiffValue,
{
    let render = &source.render;
    let exif = metadata.exif.as_deref().unwrap_or(&[]);
    let mut fields = exif::fields(exif, None);
    let links = write_linked(&mut encoder, exif, &fields, 0)?;
    // The other fields are those of the picture that was, and there is another one now.
    fields.retain(|f| exif::DESCRIPTIONS.contains(&f.tag) || exif::ACCOMPANYING.contains(&f.tag));
    let mut image = encoder.new_image::<C>(render.size().width, render.size().height)?;
    image.rows_per_strip(render.strip_rows())?;
    let directory = image.encoder();
    write_fields(directory, &fields)?;
    for (tag, place) in links {
        directory.write_tag(tag, place)?;
    }
    if let Some(icc) = &metadata.icc {
        directory.write_tag(Tag::IccProfile, icc.as_slice())?;
    }
    if let Some(xmp) = &metadata.xmp {
        const XMP: Tag = Tag::Unknown(700);
        directory.write_tag(XMP, xmp.as_slice())?;
    }
    if render.channels().has_alpha() {
        image.extra_samples(&[ExtraSamples::UnassociatedAlpha])?;
    }
    for strip in source.strips() {
        let strip = strip?;
        bar.inc(strip.size().height.into());
        image.write_strip(&samples(grey_alpha_to_rgba(strip)))?;
    }
    image.finish()?;
    Ok(())
}

/// Writes the directories of EXIF that are linked to from another one; tells where to.
fn write_linked<W: Write + Seek>(
    encoder: &mut TiffEncoder<W>,
    exif: &[u8],
    fields: &[Field],
    depth: usize,
) -> TiffResult<Vec<(Tag, u32)>> {
    /// That of interoperability hangs on that of EXIF, and none on that.
    const DEEPEST: usize = 2;
    let mut links = Vec::new();
    for field in fields.iter().filter(|_| depth < DEEPEST) {
        let Some(place) = field.directory else { continue };
        let fields = exif::fields(exif, Some(place));
        let inner = write_linked(encoder, exif, &fields, depth + 1)?;
        let mut directory = encoder.extra_directory()?;
        write_fields(&mut directory, &fields)?;
        for (tag, place) in inner {
            directory.write_tag(tag, place)?;
        }
        let place = directory.finish_with_offsets()?.offset;
        links.push((Tag::from_u16_exhaustive(field.tag), place));
    }
    Ok(links)
}

/// Writes the fields of EXIF that hold values.
fn write_fields<W: Write + Seek>(
    directory: &mut DirectoryEncoder<W, TiffKindStandard>,
    fields: &[Field],
) -> TiffResult<()> {
    let mut entries = Directory::empty();
    for field in fields.iter().filter(|field| field.directory.is_none()) {
        if let Some(kind) = Type::from_u16(field.kind) {
            let entry = directory.write_entry_bytes(kind, &field.bytes)?;
            entries.extend([(Tag::from_u16_exhaustive(field.tag), entry)]);
        }
    }
    directory.extend_from(&entries);
    Ok(())
}

/// TIFF readers rarely know grey with alpha.
fn grey_alpha_to_rgba(strip: Raster) -> Raster {
    fn expand<T: Copy>(samples: &[T]) -> Vec<T> {
        samples.chunks_exact(2).flat_map(|p| [p[0], p[0], p[0], p[1]]).collect()
    }
    if strip.channels() != Channels::GreyAlpha {
        return strip;
    }
    let samples = match strip.samples() {
        Samples::U8(samples) => Samples::U8(expand(samples)),
        Samples::U16(samples) => Samples::U16(expand(samples)),
    };
    Raster::new(strip.size(), Channels::Rgba, samples).expect("four samples for two")
}

/// netpbm's pgm(5), ppm(5) and pam(5); samples of 16 bits are big-endian.
fn write_pnm(
    source: &Source,
    always_pam: bool,
    bar: &ProgressBar,
    sink: &mut impl Write,
) -> Result<()> {
    let render = &source.render;
    let (width, height) = (render.size().width, render.size().height);
    let max = (1u32 << render.depth().bits()) - 1;
    let channels = render.channels();
    match channels {
        Channels::Grey if !always_pam => write!(sink, "P5\n{width} {height}\n{max}\n")?,
        Channels::Rgb if !always_pam => write!(sink, "P6\n{width} {height}\n{max}\n")?,
        _ => {
            let kind = match channels {
                Channels::Grey => "GRAYSCALE",
                Channels::GreyAlpha => "GRAYSCALE_ALPHA",
                Channels::Rgb => "RGB",
                Channels::Rgba => "RGB_ALPHA",
            };
            let depth = channels.count();
            write!(
                sink,
                "P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH {depth}\nMAXVAL {max}\nTUPLTYPE {kind}\nENDHDR\n"
            )?;
        }
    }
    for strip in source.strips() {
        let strip = strip?;
        bar.inc(strip.size().height.into());
        match strip.samples() {
            Samples::U8(samples) => sink.write_all(samples)?,
            Samples::U16(samples) => sink.write_all(&big_endian(samples))?,
        }
    }
    Ok(())
}

fn big_endian(samples: &[u16]) -> Vec<u8> {
    samples.iter().flat_map(|s| s.to_be_bytes()).collect()
}
