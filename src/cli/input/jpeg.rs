//! The segments of a JPEG file and the metadata in them; no pixels (ITU-T T.81, annex B; the ICC's
//! annex B.4; Adobe's XMP Specification Part 3, section 1.1.3; CIPA DC-007 for what follows).

use super::metadata::xmp;
use super::told::{EXIF_OF_JPEG, MAX_METADATA_BYTES, NO_IPTC, too_large};

const ICC: &[u8] = b"ICC_PROFILE\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
const EXTENDED_XMP: &[u8] = b"http://ns.adobe.com/xmp/extension/\0";
/// Several pictures in one file, as gain maps are.
const MULTI_PICTURE: &[u8] = b"MPF\0";
/// IPTC's resource among those of Photoshop.
const PHOTOSHOP: &[u8] = b"Photoshop 3.0\0";
const IPTC: &[u8] = b"8BIM\x04\x04";

/// A segment: its marker, and what follows the length.
pub(super) struct Segment<'a> {
    pub marker: u8,
    pub body: &'a [u8],
}

/// Walks over the segments of a file, and over entropy-coded data between them.
pub(super) struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Segments<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What follows the last segment.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn step_over(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or(&[]);
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        loop {
            self.step_over(self.rest.iter().position(|&byte| byte == 0xff)?);
            let marker = *self.rest.get(1)?;
            match marker {
                // The first of several 0xff.
                0xff => self.step_over(1),
                // A sample's 0xff, TEM, restarts and the start: no segment follows.
                0x00 | 0x01 | 0xd0..=0xd8 => self.step_over(2),
                0xd9 => {
                    self.step_over(2);
                    return Some(Segment { marker, body: &[] });
                }
                _ => {
                    let length =
                        self.rest.get(2..4).map_or(0, |l| u16::from_be_bytes([l[0], l[1]]));
                    let end = (2 + usize::from(length)).min(self.rest.len());
                    let body = self.rest.get(4..end).unwrap_or(&[]);
                    self.step_over(end);
                    return Some(Segment { marker, body });
                }
            }
        }
    }
}

/// What the segments tell beside the picture.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Told {
    /// Components of the frame: 1 grey, 3 colour, 4 CMYK or YCCK.
    pub components: u8,
    pub icc: Option<Vec<u8>>,
    pub exif: Option<Vec<u8>>,
    pub xmp: Option<Vec<u8>>,
    pub warnings: Vec<String>,
}

impl Told {
    /// Looks at every segment of the picture, which ends after `length` bytes.
    pub fn read(bytes: &[u8], length: usize) -> Self {
        let mut told = Self::default();
        let mut profile = Vec::new();
        let mut extension = Vec::new();
        let mut iptc = false;
        let mut others = is_picture_or_film(&bytes[length.min(bytes.len())..]);
        for Segment { marker, body } in Segments::new(&bytes[..length.min(bytes.len())]) {
            match marker {
                // Start of frame; 0xc4, 0xc8 and 0xcc are something else.
                0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                    told.components = body.get(5).copied().unwrap_or(0);
                }
                0xe1 => {
                    if let Some(exif) = body.strip_prefix(EXIF_OF_JPEG) {
                        told.exif.get_or_insert_with(|| exif.to_vec());
                    } else if let Some(packet) = body.strip_prefix(XMP) {
                        told.xmp.get_or_insert_with(|| packet.to_vec());
                    } else if let Some(part) = body.strip_prefix(EXTENDED_XMP) {
                        extension.push(part);
                    }
                }
                0xe2 => {
                    others |= body.starts_with(MULTI_PICTURE);
                    profile.extend(body.strip_prefix(ICC));
                }
                0xed => {
                    iptc |= body.starts_with(PHOTOSHOP)
                        && body.windows(IPTC.len()).any(|window| window == IPTC);
                }
                _ => {}
            }
        }
        told.assemble_profile(&profile);
        told.assemble_xmp(&extension);
        if let Some(packet) = told.xmp.as_deref().and_then(|xmp| std::str::from_utf8(xmp).ok())
            && let Some(rest) = xmp::without_following_pictures(packet)
        {
            told.xmp = Some(rest.into_bytes());
            others = true;
        }
        if iptc {
            told.warn(NO_IPTC);
        }
        if others {
            told.warn("what follows the picture, as a gain map for HDR or a film, is not kept");
        }
        told
    }

    fn warn(&mut self, warning: &str) {
        self.warnings.push(warning.to_owned());
    }

    /// Puts the parts of a profile together: number, count and bytes each.
    fn assemble_profile(&mut self, parts: &[&[u8]]) {
        let Some(&[_, count, ..]) = parts.first() else { return };
        if parts.iter().map(|part| part.len()).sum::<usize>() > MAX_METADATA_BYTES {
            self.warnings.push(too_large("ICC profile"));
            return;
        }
        let part = |number: u8| parts.iter().find(|part| part.first() == Some(&number)).copied();
        let whole: Option<Vec<&[u8]>> = (1..=*count).map(|number| part(number)?.get(2..)).collect();
        match whole {
            Some(whole) if !whole.is_empty() => self.icc = Some(whole.concat()),
            _ => self.warn("its ICC profile lacks parts and is left out"),
        }
    }

    /// Puts XMP and its extension together: the digest that the packet names, the length of all
    /// parts, the place of this one, and bytes.
    fn assemble_xmp(&mut self, parts: &[&[u8]]) {
        // What is no text is seen to by those who look at XMP of every format.
        let packet = self.xmp.as_deref().and_then(xmp::to_utf8);
        let Some(text) = packet.and_then(|packet| String::from_utf8(packet).ok()) else { return };
        let mut ordered: Vec<(u32, &[u8])> = Vec::new();
        for part in parts {
            let Some((digest, rest)) = part.split_first_chunk::<32>() else { continue };
            let Some((place, bytes)) = rest.get(4..).and_then(|rest| rest.split_first_chunk())
            else {
                continue;
            };
            if std::str::from_utf8(digest).is_ok_and(|digest| text.contains(digest)) {
                ordered.push((u32::from_be_bytes(*place), bytes));
            }
        }
        ordered.sort_by_key(|&(place, _)| place);
        let extension: Vec<u8> = ordered.iter().flat_map(|&(_, bytes)| bytes).copied().collect();
        let length = parts.first().and_then(|part| part.get(32..)?.first_chunk());
        let length = length.map(|length| u32::from_be_bytes(*length) as usize);
        let whole = length == Some(extension.len());
        let extension = xmp::to_utf8(&extension).and_then(|e| String::from_utf8(e).ok());
        let extended = xmp::is_extended(&text);
        let joined = extension
            .filter(|_| extended && whole && length <= Some(MAX_METADATA_BYTES))
            .and_then(|extension| xmp::with_extension(&text, &extension));
        self.xmp = Some(match joined {
            Some(joined) => joined.into_bytes(),
            None if extended => {
                self.warn("the extension of its XMP is damaged and left out");
                xmp::without_extension(&text).into_bytes()
            }
            None => text.into_bytes(),
        });
    }
}

/// Whether what follows a picture is another one, or a film as phones append it.
fn is_picture_or_film(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|window| window == b"ftyp" || window.starts_with(b"\xff\xd8\xff"))
}
