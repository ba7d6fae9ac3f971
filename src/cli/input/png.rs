//! The metadata in the chunks of a PNG file, wherever they stand and in whichever form writers put
//! it there; no pixels (PNG, third edition; ImageMagick's raw profiles). What
//! is compressed is inflated up to a limit only.

use std::io::Read;

use flate2::read::ZlibDecoder;
use sirenc::container::Cicp;

use super::told::{MAX_METADATA_BYTES, NO_IPTC, too_large};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
const XMP_KEYWORD: &[u8] = b"XML:com.adobe.xmp";
const XMP_OF_JPEG: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// What the colours mean without a profile (PNG, sections 11.3.2.1 and 11.3.2.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Calibration {
    /// Samples are light to this power.
    pub gamma: f64,
    /// x and y of the white point, red, green and blue.
    pub chromaticities: Option<[f64; 8]>,
}

/// What the chunks tell beside the picture.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Chunks {
    pub icc: Option<Vec<u8>>,
    pub cicp: Option<Cicp>,
    pub exif: Option<Vec<u8>>,
    pub xmp: Option<Vec<u8>>,
    /// Where neither an ICC profile nor cICP nor sRGB says more.
    pub calibration: Option<Calibration>,
    /// Whether there are other frames.
    pub animated: bool,
    pub warnings: Vec<String>,
}

impl Chunks {
    /// Looks at every chunk up to what is malformed.
    pub fn read(bytes: &[u8]) -> Self {
        let mut found = Self::default();
        let (mut gamma, mut chromaticities, mut described) = (None, None, false);
        let mut rest = bytes.strip_prefix(SIGNATURE).unwrap_or(&[]);
        while let Some((kind, body, after)) = chunk(rest) {
            rest = after;
            match kind {
                b"IEND" => break,
                b"eXIf" => found.exif = Some(body.to_vec()),
                b"iCCP" => {
                    described = true;
                    found.profile(body);
                }
                b"sRGB" => described = true,
                b"cICP" => {
                    described = true;
                    match *body {
                        [primaries, transfer, 0, full_range] => {
                            found.cicp = Some(Cicp { primaries, transfer, matrix: 0, full_range });
                        }
                        _ => found.warnings.push("its cICP is not one for RGB and left out".into()),
                    }
                }
                b"gAMA" => gamma = body.first_chunk().map(|g| u32::from_be_bytes(*g)),
                b"cHRM" => chromaticities = chromaticities_of(body),
                b"acTL" => {
                    let frames = body.first_chunk().map(|n| u32::from_be_bytes(*n));
                    found.animated = frames.is_some_and(|frames| frames > 1);
                }
                b"tEXt" | b"zTXt" | b"iTXt" => found.text(kind, body),
                _ => {}
            }
        }
        let gamma = gamma.filter(|&gamma| gamma > 0 && !described);
        found.calibration =
            gamma.map(|gamma| Calibration { gamma: f64::from(gamma) / 1e5, chromaticities });
        found
    }

    fn profile(&mut self, body: &[u8]) {
        let Some((_, [0, packed @ ..])) = split_at_nul(body) else { return };
        match inflate(packed) {
            Inflated::Whole(profile) => self.icc = Some(profile),
            Inflated::TooLarge => self.warnings.push(too_large("ICC profile")),
            Inflated::Damaged => {
                self.warnings.push("its ICC profile is damaged and left out".into());
            }
        }
    }

    /// Text chunks: XMP, and profiles as lines of hexadecimal digits.
    fn text(&mut self, kind: &[u8], body: &[u8]) {
        let Some((keyword, text)) = split_at_nul(body) else { return };
        let raw_profile = keyword.strip_prefix(b"Raw profile type ");
        if keyword != XMP_KEYWORD && raw_profile.is_none() {
            return;
        }
        let name = if keyword == XMP_KEYWORD { "XMP" } else { "raw profile" };
        let text = match (kind, text) {
            (b"tEXt", text) => Inflated::Whole(text.to_vec()),
            (b"zTXt", [0, packed @ ..]) => inflate(packed),
            // Two fields more: a language, and the keyword in it.
            (b"iTXt", [compressed, 0, fields @ ..]) => {
                let fields = split_at_nul(fields).and_then(|(_, rest)| split_at_nul(rest));
                match fields {
                    Some((_, text)) if *compressed == 0 => Inflated::Whole(text.to_vec()),
                    Some((_, packed)) => inflate(packed),
                    None => Inflated::Damaged,
                }
            }
            _ => Inflated::Damaged,
        };
        let text = match text {
            Inflated::Whole(text) if text.len() <= MAX_METADATA_BYTES => text,
            Inflated::Damaged => {
                self.warnings.push(format!("its {name} is damaged and left out"));
                return;
            }
            _ => {
                self.warnings.push(too_large(name));
                return;
            }
        };
        match raw_profile {
            None => self.xmp = Some(text),
            Some(kind) => self.raw_profile(kind, &text),
        }
    }

    /// What chunks of its own do not hold is taken from a raw profile.
    fn raw_profile(&mut self, kind: &[u8], text: &[u8]) {
        let Some(profile) = unhexed(text) else {
            self.warnings.push("its raw profile is damaged and left out".into());
            return;
        };
        match kind {
            b"exif" | b"APP1" | b"xmp" => match profile.strip_prefix(XMP_OF_JPEG) {
                Some(packet) => self.xmp = self.xmp.take().or(Some(packet.to_vec())),
                None if kind == b"xmp" => self.xmp = self.xmp.take().or(Some(profile)),
                None => self.exif = self.exif.take().or(Some(profile)),
            },
            b"icc" | b"icm" => self.icc = self.icc.take().or(Some(profile)),
            b"iptc" | b"8bim" => self.warnings.push(NO_IPTC.into()),
            _ => {}
        }
    }
}

/// The next chunk: type, body, and what follows its checksum.
fn chunk(bytes: &[u8]) -> Option<(&[u8; 4], &[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (kind, rest) = rest.split_first_chunk()?;
    let (body, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((kind, body, rest.get(4..)?))
}

fn split_at_nul(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let nul = bytes.iter().position(|&byte| byte == 0)?;
    Some((&bytes[..nul], &bytes[nul + 1..]))
}

enum Inflated {
    Whole(Vec<u8>),
    TooLarge,
    Damaged,
}

fn inflate(packed: &[u8]) -> Inflated {
    let mut bytes = Vec::new();
    let limit = MAX_METADATA_BYTES as u64 + 1;
    match ZlibDecoder::new(packed).take(limit).read_to_end(&mut bytes) {
        Ok(length) if length as u64 == limit => Inflated::TooLarge,
        Ok(_) => Inflated::Whole(bytes),
        Err(_) => Inflated::Damaged,
    }
}

/// A raw profile: a name and a length on lines of their own, then hexadecimal digits in lines.
fn unhexed(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut lines = text.trim_start().splitn(3, '\n');
    let (_, length, digits) = (lines.next()?, lines.next()?, lines.next()?);
    let length: usize = length.trim().parse().ok()?;
    let digits: Option<Vec<u8>> = digits
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect();
    let profile: Vec<u8> = digits?.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    (profile.len() == length).then_some(profile)
}

fn chromaticities_of(body: &[u8]) -> Option<[f64; 8]> {
    let mut places = [0.0; 8];
    for (place, number) in places.iter_mut().zip(body.first_chunk::<32>()?.chunks_exact(4)) {
        *place = f64::from(u32::from_be_bytes(number.try_into().ok()?)) / 1e5;
    }
    Some(places)
}
