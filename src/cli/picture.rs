//! Renders to picture files, strip by strip where the format allows it.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};
use indicatif::ProgressBar;
use jpeg_encoder::JpegColorType;
use sirenc::container::Metadata;
use sirenc::{BitDepth, Channels, Raster, Render, Samples};
use tiff::encoder::colortype::{Gray8, Gray16, RGB8, RGB16, RGBA8, RGBA16};
use tiff::tags::{ExtraSamples, Tag};

/// Picture formats that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// PNG, 8 or 16 bits
    Png,
    /// JPEG, 8 bits, no alpha
    Jpeg,
    /// Lossless WebP, 8 bits, at most 16,383 pixels a side
    Webp,
    /// TIFF, 8 or 16 bits
    Tiff,
    /// PGM or PPM, or PAM where there is alpha; 8 or 16 bits
    Pnm,
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
            "pnm" | "ppm" | "pgm" | "pam" => Self::Pnm,
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
        }
    }

    /// Bits that the format can hold, if fewer than a picture may have.
    pub fn max_depth(self) -> BitDepth {
        match self {
            Self::Jpeg | Self::Webp => BitDepth::Eight,
            Self::Png | Self::Tiff | Self::Pnm => BitDepth::Sixteen,
        }
    }
}

/// Writes `render` to `file`. PNG, JPEG, TIFF and PNM stream; WebP needs the whole
/// picture in memory.
pub(super) fn write(
    render: &Render,
    metadata: &Metadata,
    format: Format,
    jpeg_quality: u8,
    bar: &ProgressBar,
    file: &mut File,
) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 18, file);
    match format {
        Format::Png => write_png(render, metadata, bar, &mut file)?,
        Format::Jpeg => write_jpeg(render, metadata, jpeg_quality, bar, &mut file)?,
        Format::Webp => write_webp(render, metadata, &mut file)?,
        Format::Tiff => write_tiff(render, metadata, bar, &mut file)?,
        Format::Pnm => write_pnm(render, bar, &mut file)?,
    }
    file.flush()?;
    Ok(())
}

fn write_png(
    render: &Render,
    metadata: &Metadata,
    bar: &ProgressBar,
    sink: &mut impl Write,
) -> Result<()> {
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
    info.coding_independent_code_points =
        metadata.cicp.map(|cicp| png::CodingIndependentCodePoints {
            color_primaries: cicp.primaries,
            transfer_function: cicp.transfer,
            matrix_coefficients: cicp.matrix,
            is_video_full_range_image: cicp.full_range == 1,
        });
    if let Some(xmp) = metadata.xmp.as_ref().and_then(|xmp| std::str::from_utf8(xmp).ok()) {
        let keyword = "XML:com.adobe.xmp".to_owned();
        info.utf8_text.push(png::text_metadata::ITXtChunk::new(keyword, xmp));
    }
    let mut encoder = png::Encoder::with_info(sink, info)?;
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    let mut writer = writer.stream_writer()?;
    for strip in render.strips() {
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
    render: &Render,
    metadata: &Metadata,
    quality: u8,
    bar: &ProgressBar,
    sink: &mut impl Write,
) -> Result<()> {
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
        let segment = [b"http://ns.adobe.com/xap/1.0/\0", xmp.as_slice()].concat();
        encoder.add_app_segment(1, segment)?;
    }
    let rows = JpegRows { render, width, height, bar, strip: RefCell::new(None) };
    encoder.encode_image(rows)?;
    Ok(())
}

/// Rows as the JPEG encoder asks for them, from the strip that holds them.
struct JpegRows<'a> {
    render: &'a Render<'a>,
    width: u16,
    height: u16,
    bar: &'a ProgressBar,
    /// First row and pixels of the strip at hand.
    strip: RefCell<Option<(u32, Raster)>>,
}

impl jpeg_encoder::ImageBuffer for JpegRows<'_> {
    fn get_jpeg_color_type(&self) -> JpegColorType {
        match self.render.channels().colour_count() {
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
            let rows = self.render.strip_rows();
            let top = row - row % rows;
            let bottom = (top + rows).min(self.render.size().height);
            *held = Some((top, self.render.rows(top..bottom)));
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

fn write_webp(render: &Render, metadata: &Metadata, sink: &mut impl Write) -> Result<()> {
    if render.size().longer_side() > 16_383 {
        bail!("WebP holds at most 16,383 pixels a side");
    }
    let raster = render.raster();
    let Samples::U8(samples) = raster.samples() else { unreachable!("WebP renders 8 bits") };
    let mut encoder = WebPEncoder::new_lossless(sink);
    if let Some(icc) = &metadata.icc {
        encoder.set_icc_profile(icc.clone())?;
    }
    if let Some(exif) = &metadata.exif {
        encoder.set_exif_metadata(exif.clone())?;
    }
    let colour = match raster.channels() {
        Channels::Grey => ExtendedColorType::L8,
        Channels::GreyAlpha => ExtendedColorType::La8,
        Channels::Rgb => ExtendedColorType::Rgb8,
        Channels::Rgba => ExtendedColorType::Rgba8,
    };
    let size = raster.size();
    encoder.write_image(samples, size.width, size.height, colour).context("WebP")?;
    Ok(())
}

fn write_tiff(
    render: &Render,
    metadata: &Metadata,
    bar: &ProgressBar,
    sink: &mut (impl Write + std::io::Seek),
) -> Result<()> {
    // Every colour type is a type of its own in this library.
    macro_rules! write_as {
        ($encoder:ident, $colour:ty, $samples:path, $alpha:expr) => {{
            let size = render.size();
            let mut image = $encoder.new_image::<$colour>(size.width, size.height)?;
            image.rows_per_strip(render.strip_rows())?;
            if let Some(icc) = &metadata.icc {
                image.encoder().write_tag(Tag::IccProfile, icc.as_slice())?;
            }
            if let Some(xmp) = &metadata.xmp {
                const XMP: Tag = Tag::Unknown(700);
                image.encoder().write_tag(XMP, xmp.as_slice())?;
            }
            if $alpha {
                image.extra_samples(&[ExtraSamples::UnassociatedAlpha])?;
            }
            for strip in render.strips() {
                bar.inc(strip.size().height.into());
                let $samples(samples) = grey_alpha_to_rgba(strip).into_samples() else {
                    unreachable!("strips have the depth of the render")
                };
                image.write_strip(&samples)?;
            }
            image.finish()?;
        }};
    }
    let size = render.size();
    let bytes = size.pixels() * (4 * render.depth().bytes()) as u64;
    if bytes > u64::from(u32::MAX) - (1 << 20) {
        bail!("this render is too large for TIFF; write PNG");
    }
    let mut encoder = tiff::encoder::TiffEncoder::new(sink)?;
    match (render.channels(), render.depth()) {
        (Channels::Grey, BitDepth::Eight) => write_as!(encoder, Gray8, Samples::U8, false),
        (Channels::Rgb, BitDepth::Eight) => write_as!(encoder, RGB8, Samples::U8, false),
        (_, BitDepth::Eight) => write_as!(encoder, RGBA8, Samples::U8, false),
        (Channels::Grey, BitDepth::Sixteen) => write_as!(encoder, Gray16, Samples::U16, false),
        (Channels::Rgb, BitDepth::Sixteen) => write_as!(encoder, RGB16, Samples::U16, false),
        (_, BitDepth::Sixteen) => write_as!(encoder, RGBA16, Samples::U16, false),
    }
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
fn write_pnm(render: &Render, bar: &ProgressBar, sink: &mut impl Write) -> Result<()> {
    let (width, height) = (render.size().width, render.size().height);
    let max = (1u32 << render.depth().bits()) - 1;
    let channels = render.channels();
    match channels {
        Channels::Grey => write!(sink, "P5\n{width} {height}\n{max}\n")?,
        Channels::Rgb => write!(sink, "P6\n{width} {height}\n{max}\n")?,
        Channels::GreyAlpha | Channels::Rgba => {
            let kind = if channels == Channels::Rgba { "RGB_ALPHA" } else { "GRAYSCALE_ALPHA" };
            let depth = channels.count();
            write!(
                sink,
                "P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH {depth}\nMAXVAL {max}\nTUPLTYPE {kind}\nENDHDR\n"
            )?;
        }
    }
    for strip in render.strips() {
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
