//! TIFF and BigTIFF: the first page that is no thumbnail, with its metadata. `image` reads neither
//! grey with alpha nor colours that are premultiplied, nor any page but the first (TIFF 6.0).

use std::io::Cursor;

use anyhow::{Context, Result, anyhow, bail};
use image::DynamicImage;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::encoder::{DirectoryEncoder, TiffEncoder, TiffKindStandard};
use tiff::tags::{ByteOrder, IfdPointer, Tag, Type, ValueBuffer};
use tiff::{ColorType, Directory, TiffError};

use super::MAX_INPUT_BYTES;
use super::metadata::exif::{ACCOMPANYING, DESCRIPTIONS};
use super::picture::{Read, Sample, divided};
use super::told::{MAX_METADATA_BYTES, NO_IPTC, too_large};

type File<'a> = Decoder<Cursor<&'a [u8]>>;

const XMP: Tag = Tag::Unknown(700);
const IPTC: Tag = Tag::Unknown(33723);
const INTEROPERABILITY: Tag = Tag::Unknown(0xa005);

/// Whether the bytes begin as a TIFF or BigTIFF file.
pub(super) fn is_tiff(bytes: &[u8]) -> bool {
    [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|head| bytes.starts_with(*head))
}

/// Reads a picture with its metadata.
pub(super) fn read(bytes: &[u8]) -> Result<Read> {
    let mut limits = Limits::unlimited();
    limits.decoding_buffer_size = MAX_INPUT_BYTES as usize;
    // No value is longer than its file, whatever it says.
    limits.ifd_value_size = bytes.len();
    let mut file = Decoder::new(Cursor::new(bytes)).map_err(cannot_decode)?.with_limits(limits);
    let several = seek_to_picture(&mut file)?;
    let mut read = Read { several, ..Read::default() };
    (read.image, read.cmyk) = picture(&mut file, &mut read.warnings)?;
    read.orientation = file.find_tag_unsigned(Tag::Orientation).ok().flatten();
    read.icc = block(&mut file, Tag::IccProfile, "ICC profile", &mut read.warnings);
    read.xmp = block(&mut file, XMP, "XMP", &mut read.warnings);
    if file.image_ifd().find_entry(IPTC).is_some() {
        read.warn(NO_IPTC);
    }
    match exif(&mut file) {
        Ok(exif) => read.exif = exif,
        Err(_) => read.warn("its EXIF is damaged and left out"),
    }
    Ok(read)
}

/// Goes to the first page that is no thumbnail, or to the first; tells whether there are others.
fn seek_to_picture(file: &mut File) -> Result<bool> {
    let is_reduced = |file: &mut File| {
        let flags: Option<u32> = file.find_tag_unsigned(Tag::NewSubfileType).ok().flatten();
        let kind: Option<u32> = file.find_tag_unsigned(Tag::SubfileType).ok().flatten();
        flags.is_some_and(|flags| flags & 1 == 1) || kind == Some(2)
    };
    // Bounded: the decoder refuses pages that follow each other in a circle.
    let mut index = 0;
    while is_reduced(file) && file.more_images() && file.next_image().is_ok() {
        index += 1;
    }
    let mut others = false;
    if is_reduced(file) {
        index = 0;
    } else {
        while !others && file.more_images() && file.next_image().is_ok() {
            others = !is_reduced(file);
        }
    }
    file.seek_to_image(index).map_err(cannot_decode)?;
    Ok(others)
}

/// A block of bytes, unless it is too large.
fn block(file: &mut File, tag: Tag, name: &str, warnings: &mut Vec<String>) -> Option<Vec<u8>> {
    let mut directory = file.image_ifd();
    let length = usize::try_from(directory.find_entry(tag)?.count()).ok()?;
    if length > MAX_METADATA_BYTES {
        warnings.push(too_large(name));
        return None;
    }
    let mut value = ValueBuffer::empty(Type::BYTE);
    directory.find_tag_buf(tag, &mut value).ok()??;
    Some(value.as_bytes().to_vec())
}

/// The samples of a page, and whether they were CMYK.
fn picture(file: &mut File, warnings: &mut Vec<String>) -> Result<(DynamicImage, bool)> {
    let (width, height) = file.dimensions().map_err(cannot_decode)?;
    let told = Told::new(file)?;
    let mut samples = DecodingResult::U8(Vec::new());
    let planes = file.read_image_to_buffer(&mut samples).map_err(cannot_decode)?.planes;
    let pixels = u64::from(width) * u64::from(height);
    let layout = told.layout(planes, pixels as usize, warnings)?;
    let (depth, count) = (told.colour.bit_depth(), layout.count);
    let image = match (samples, depth) {
        (DecodingResult::U8(packed), 1 | 2 | 4) if count == 1 => {
            layout.image(width, height, unpacked(&packed, width as usize, depth))
        }
        (DecodingResult::U8(samples), 8) => layout.image(width, height, samples),
        (DecodingResult::U16(samples), 16) => layout.image(width, height, samples),
        (DecodingResult::F16(_) | DecodingResult::F32(_) | DecodingResult::F64(_), _) => {
            bail!("floating-point pictures are not supported; convert to 16 bits first")
        }
        (
            DecodingResult::I8(_)
            | DecodingResult::I16(_)
            | DecodingResult::I32(_)
            | DecodingResult::I64(_),
            _,
        ) => bail!("TIFF with signed samples is not read; convert it to unsigned ones"),
        _ => bail!("TIFF with {depth} bits a sample is not read; convert it to 8 or 16 bits"),
    };
    Ok((image.context("cannot decode: samples are missing")?, layout.colours == 4))
}

/// What a page says of its samples.
struct Told {
    photometric: Option<u16>,
    extra: Vec<u16>,
    colour: ColorType,
}

impl Told {
    /// Refuses what `tiff` would not read as it is meant.
    fn new(file: &mut File) -> Result<Self> {
        let photometric: Option<u16> =
            file.find_tag_unsigned(Tag::PhotometricInterpretation).map_err(cannot_decode)?;
        if photometric == Some(3) {
            bail!("TIFF with a palette is not read; convert it to RGB first");
        }
        let extra: Option<Vec<u16>> =
            file.find_tag_unsigned_vec(Tag::ExtraSamples).map_err(cannot_decode)?;
        let colour = file.colortype().map_err(cannot_decode)?;
        let predictor: Option<u16> = file.find_tag_unsigned(Tag::Predictor).ok().flatten();
        let stored: Option<usize> = file.find_tag_unsigned(Tag::SamplesPerPixel).ok().flatten();
        let planar: Option<u16> = file.find_tag_unsigned(Tag::PlanarConfiguration).ok().flatten();
        if predictor.is_some_and(|predictor| predictor > 1)
            && planar != Some(2)
            && stored.is_some_and(|stored| stored > usize::from(colour.num_samples()))
        {
            // `tiff` 0.11 undoes the predictor as if they were not there.
            bail!(
                "TIFF with a predictor and channels that are neither colour nor alpha is not read; \
                 write it without them or without the predictor"
            );
        }
        Ok(Self { photometric, extra: extra.unwrap_or_default(), colour })
    }

    /// How the samples lie, now that they are read.
    fn layout(
        &self,
        planes: usize,
        pixels: usize,
        warnings: &mut Vec<String>,
    ) -> Result<TiffLayout> {
        // Colours, samples with those that are neither colour nor alpha, and where alpha is.
        let (colours, count) = match self.colour {
            ColorType::Gray(_) => (1, 1),
            ColorType::Multiband { num_samples, .. } if matches!(self.photometric, Some(0 | 1)) => {
                (1, usize::from(num_samples))
            }
            ColorType::RGB(_) | ColorType::YCbCr(_) => (3, 3),
            ColorType::RGBA(_) => (3, 4),
            ColorType::CMYK(_) => (4, 4),
            ColorType::CMYKA(_) => (4, 5),
            other => bail!("TIFF with samples {other:?} is not read; convert it to RGB first"),
        };
        let alpha = (count > colours).then(|| self.extra.first().copied().unwrap_or(2));
        let alpha = alpha.filter(|kind| matches!(kind, 1 | 2));
        if self.extra.len() > usize::from(alpha.is_some()) {
            warnings.push("channels that are neither colour nor alpha are left out".into());
        }
        let is_ycbcr = matches!(self.colour, ColorType::YCbCr(_));
        Ok(TiffLayout { colours, count, alpha, is_ycbcr, planes, pixels })
    }
}

/// Samples of less than a byte, whose rows end with a byte, as bytes.
fn unpacked(packed: &[u8], width: usize, depth: u8) -> Vec<u8> {
    let (depth, most) = (usize::from(depth), (1u16 << depth) - 1);
    let rows = packed.chunks_exact((width * depth).div_ceil(8));
    let sample = |row: &[u8], x: usize| {
        let shift = 8 - depth - x * depth % 8;
        (u16::from(row[x * depth / 8] >> shift) & most) * 255 / most
    };
    rows.flat_map(|row| (0..width).map(move |x| sample(row, x) as u8)).collect()
}

/// How samples lie in memory and what they mean.
struct TiffLayout {
    colours: usize,
    /// Samples of a pixel.
    count: usize,
    /// ExtraSamples of the first sample that is no colour: 1 premultiplied, 2 straight alpha.
    alpha: Option<u16>,
    is_ycbcr: bool,
    planes: usize,
    pixels: usize,
}

impl TiffLayout {
    /// Grey or RGB, with straight alpha where there is alpha.
    fn image<T: Sample>(&self, width: u32, height: u32, samples: Vec<T>) -> Option<DynamicImage> {
        let Self { colours, count, alpha, pixels, .. } = *self;
        let out = colours.min(3) + usize::from(alpha.is_some());
        if samples.len() < pixels * count {
            return None;
        }
        let is_as_stored = count == out && self.planes == 1 && alpha != Some(1) && !self.is_ycbcr;
        if is_as_stored && colours < 4 {
            return T::image(width, height, out, samples);
        }
        let (pixel_step, sample_step) = if self.planes > 1 { (1, pixels) } else { (count, 1) };
        let mut arranged = Vec::with_capacity(pixels * out);
        for pixel in 0..pixels {
            let at = |index: usize| samples[pixel * pixel_step + index * sample_step];
            let mut colour = [at(0); 3];
            for (index, sample) in colour.iter_mut().enumerate().take(colours) {
                *sample = at(index);
            }
            if colours == 4 {
                colour = cmyk_to_rgb([at(0), at(1), at(2), at(3)]);
            } else if self.is_ycbcr {
                colour = ycbcr_to_rgb(colour);
            }
            if let Some(alpha) = alpha {
                let opacity = at(colours);
                let straight = |sample| if alpha == 1 { divided(sample, opacity) } else { sample };
                arranged.extend(colour[..out - 1].iter().copied().map(straight));
                arranged.push(opacity);
            } else {
                arranged.extend(&colour[..out]);
            }
        }
        T::image(width, height, out, arranged)
    }
}

fn most<T: Sample>() -> f32 {
    T::DEFAULT_MAX_VALUE.into() as f32
}

/// Without a profile, as `image` does of JPEG.
fn cmyk_to_rgb<T: Sample>(cmyk: [T; 4]) -> [T; 3] {
    let share = |sample: T| 1.0 - sample.into() as f32 / most::<T>();
    [0, 1, 2].map(|index| T::of(share(cmyk[index]) * share(cmyk[3]) * most::<T>()))
}

/// By ITU-R BT.601, full range (JFIF 1.02), which is the default of TIFF too.
fn ycbcr_to_rgb<T: Sample>(ycbcr: [T; 3]) -> [T; 3] {
    let [y, cb, cr] = ycbcr.map(|sample| sample.into() as f32);
    let middle = (most::<T>() + 1.0) / 2.0;
    let (cb, cr) = (cb - middle, cr - middle);
    let rgb = [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb];
    rgb.map(|value| T::of(value.clamp(0.0, most::<T>())))
}

/// The EXIF of a page as a block of its own, in this machine's byte order; without the orientation,
/// which is that of the page.
fn exif(file: &mut File) -> Result<Option<Vec<u8>>, TiffError> {
    let has = |file: &mut File, tag| file.image_ifd().find_entry(tag).is_some();
    let described = DESCRIPTIONS.iter().any(|&tag| has(file, Tag::from_u16_exhaustive(tag)));
    if !described && !has(file, Tag::ExifDirectory) && !has(file, Tag::GpsDirectory) {
        return Ok(None);
    }
    let mut bytes = Cursor::new(Vec::new());
    let mut block = TiffEncoder::new(&mut bytes)?;
    let mut inner = Vec::new();
    for tag in [Tag::ExifDirectory, Tag::GpsDirectory] {
        let Some(place) = file.find_tag_unsigned(tag)? else { continue };
        let directory = file.read_directory(IfdPointer(place))?;
        let mut links = Vec::new();
        if let Some(place) =
            file.read_directory_tags(&directory).find_tag_unsigned(INTEROPERABILITY)?
        {
            let directory = file.read_directory(IfdPointer(place))?;
            links
                .push((INTEROPERABILITY, copied(file, &directory, block.extra_directory()?, &[])?));
        }
        inner.push((tag, copied(file, &directory, block.extra_directory()?, &links)?));
    }
    let mut picture = Directory::empty();
    let tags = file.image_ifd();
    for tag in DESCRIPTIONS.iter().chain(&ACCOMPANYING).map(|&tag| Tag::from_u16_exhaustive(tag)) {
        picture.extend(tags.find_entry(tag).map(|entry| (tag, entry)));
    }
    copied(file, &picture, block.image_directory()?, &inner)?;
    let bytes = bytes.into_inner();
    Ok((bytes.len() <= MAX_METADATA_BYTES).then_some(bytes))
}

/// Copies the entries of a directory, with links to others that have been copied; tells where to.
fn copied<'a, W: std::io::Write + std::io::Seek>(
    file: &mut File,
    directory: &Directory,
    mut copy: DirectoryEncoder<'a, W, TiffKindStandard>,
    links: &[(Tag, u32)],
) -> Result<u32, TiffError> {
    let tags: Vec<Tag> = directory.iter().map(|(tag, _)| tag).collect();
    for tag in tags.into_iter().filter(|&tag| tag != INTEROPERABILITY) {
        let mut value = ValueBuffer::empty(Type::BYTE);
        let mut entries = file.read_directory_tags(directory);
        let length = entries.find_entry(tag).map_or(0, |entry| entry.count());
        if length <= MAX_METADATA_BYTES as u64 && entries.find_tag_buf(tag, &mut value)?.is_some() {
            value.set_byte_order(ByteOrder::native());
            copy.write_tag_buf(tag, &value)?;
        }
    }
    for &(tag, offset) in links {
        copy.write_tag(tag, offset)?;
    }
    Ok(copy.finish_with_offsets()?.offset)
}

fn cannot_decode(error: TiffError) -> anyhow::Error {
    match error {
        TiffError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            anyhow!("cannot decode: the file is cut short")
        }
        TiffError::LimitsExceeded => anyhow!("larger than {MAX_INPUT_BYTES} bytes in memory"),
        other => anyhow!(other).context("cannot decode"),
    }
}
