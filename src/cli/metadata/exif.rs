//! EXIF blocks: their orientation and thumbnail. What changes, changes in place, so that every
//! offset in a block stays right, those of makers' notes too. Knows bytes only (CIPA DC-008-2019,
//! section 4.6; TIFF 6.0, section 2).

const ORIENTATION: u16 = 0x0112;
/// Offsets and lengths of thumbnails: as strips, and as JPEG.
const THUMBNAILS: [(u16, u16); 2] = [(0x0111, 0x0117), (0x0201, 0x0202)];
/// Offsets of the EXIF, GPS and interoperability directories.
const DIRECTORIES: [u16; 3] = [0x8769, 0x8825, 0xa005];
/// More directories than a block of any camera has.
const MOST_DIRECTORIES: usize = 8;

/// What EXIF has in the directory of the picture that a TIFF file does not have of its own
/// (CIPA DC-008-2019, table 4): descriptions, and the programs and computers that go along with
/// them.
pub(in crate::cli) const DESCRIPTIONS: [u16; 6] = [0x010e, 0x010f, 0x0110, 0x0132, 0x013b, 0x8298];
pub(in crate::cli) const ACCOMPANYING: [u16; 2] = [0x0131, 0x013c];

/// An entry of a directory with its values in this machine's byte order.
pub(in crate::cli) struct Field {
    pub tag: u16,
    /// The type by its number in TIFF.
    pub kind: u16,
    pub bytes: Vec<u8>,
    /// The directory that it links to.
    pub directory: Option<usize>,
}

/// The entries of the picture's directory, or of the one at this place.
pub(in crate::cli) fn fields(exif: &[u8], directory: Option<usize>) -> Vec<Field> {
    let Some(block) = Block::new(exif) else { return Vec::new() };
    let Some(directory) = directory.or_else(|| block.first()) else { return Vec::new() };
    let field = |entry: Entry| {
        let mut bytes = exif[entry.values.clone()].to_vec();
        if block.big_endian == cfg!(target_endian = "little") {
            // Rationals are two numbers.
            let unit = if matches!(entry.kind, 5 | 10) { 4 } else { entry.width };
            bytes.chunks_exact_mut(unit).for_each(<[u8]>::reverse);
        }
        let links = DIRECTORIES.contains(&entry.tag) && entry.values.len() == 4;
        let directory = links.then(|| block.number(entry.values)).flatten();
        Field { tag: entry.tag, kind: entry.kind, bytes, directory }
    };
    block.entries(directory).into_iter().map(field).collect()
}

/// An entry of a directory.
struct Entry {
    tag: u16,
    kind: u16,
    /// Bytes of one value: 1, 2, 4 or 8.
    width: usize,
    /// Where its values are.
    values: std::ops::Range<usize>,
}

/// A block with a TIFF header.
struct Block<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl<'a> Block<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let big_endian = match bytes.get(..4)? {
            b"II*\0" => false,
            b"MM\0*" => true,
            _ => return None,
        };
        Some(Self { bytes, big_endian })
    }

    /// The unsigned number in these bytes, of which there are at most four.
    fn number(&self, at: std::ops::Range<usize>) -> Option<usize> {
        let bytes = self.bytes.get(at)?;
        let push = |number: usize, byte: &u8| (number << 8) | usize::from(*byte);
        Some(match self.big_endian {
            true => bytes.iter().fold(0, push),
            false => bytes.iter().rev().fold(0, push),
        })
    }

    /// Where the directory of the picture is.
    fn first(&self) -> Option<usize> {
        self.number(4..8)
    }

    /// The place of the offset of the directory that follows one.
    fn next(&self, directory: usize) -> Option<std::ops::Range<usize>> {
        let at =
            directory.checked_add(2 + 12 * self.number(directory..directory.checked_add(2)?)?)?;
        Some(at..at.checked_add(4)?)
    }

    /// The entries of a directory that lie within the block.
    fn entries(&self, directory: usize) -> Vec<Entry> {
        let count = directory.checked_add(2).and_then(|end| self.number(directory..end));
        let entry = |index| {
            let at = directory + 2 + 12 * index;
            let tag = self.number(at..at + 2)? as u16;
            let kind = self.number(at + 2..at + 4)? as u16;
            let width = match kind {
                3 | 8 => 2,
                4 | 9 | 11 | 13 => 4,
                5 | 10 | 12 => 8,
                _ => 1,
            };
            let length = self.number(at + 4..at + 8)?.checked_mul(width)?;
            let start = if length <= 4 { at + 8 } else { self.number(at + 8..at + 12)? };
            let values = start..start.checked_add(length)?;
            (values.end <= self.bytes.len()).then_some(Entry { tag, kind, width, values })
        };
        (0..count.unwrap_or(0))
            .map_while(|index| (directory + 12 * index < self.bytes.len()).then(|| entry(index)))
            .flatten()
            .collect()
    }

    /// The first value of an entry with whole numbers.
    fn value(&self, entries: &[Entry], tag: u16) -> Option<usize> {
        let entry = entries.iter().find(|entry| entry.tag == tag && entry.width <= 4)?;
        self.number(entry.values.start..entry.values.start + entry.width.min(entry.values.len()))
    }

    /// Where the first value of the orientation is: a SHORT by the standard, a BYTE or a LONG as
    /// some programs write it.
    fn orientation(&self) -> Option<std::ops::Range<usize>> {
        let entries = self.entries(self.first()?);
        let entry = entries.iter().find(|entry| entry.tag == ORIENTATION && entry.width <= 4)?;
        (!entry.values.is_empty()).then(|| entry.values.start..entry.values.start + entry.width)
    }

    /// The end of all that is neither the thumbnail nor its directory.
    fn end_of_picture(&self) -> usize {
        let mut end = 8;
        let mut directories: Vec<usize> = self.first().into_iter().collect();
        let mut index = 0;
        while let Some(&directory) = directories.get(index) {
            let entries = self.entries(directory);
            end = end.max(self.next(directory).map_or(0, |next| next.end));
            end = entries.iter().map(|entry| entry.values.end).fold(end, usize::max);
            let inner = DIRECTORIES.iter().filter_map(|&tag| self.value(&entries, tag));
            directories.extend(inner);
            directories.truncate(MOST_DIRECTORIES);
            index += 1;
        }
        end
    }
}

/// Whether a block begins as EXIF does, with a TIFF header.
pub(in crate::cli) fn is_exif(exif: &[u8]) -> bool {
    Block::new(exif).is_some()
}

/// The orientation, 1 to 8, of the picture that a block belongs to.
pub(in crate::cli) fn orientation(exif: &[u8]) -> Option<u8> {
    let block = Block::new(exif)?;
    let value = block.number(block.orientation()?)?;
    (1..=8).contains(&value).then_some(value as u8)
}

/// Sets the orientation, where there is one, to 1: upright.
pub(in crate::cli) fn reset_orientation(exif: &mut [u8]) {
    let Some(block) = Block::new(exif) else { return };
    let (big_endian, place) = (block.big_endian, block.orientation());
    let Some(place) = place.and_then(|place| exif.get_mut(place)) else { return };
    place.fill(0);
    let lowest = if big_endian { place.len() - 1 } else { 0 };
    place[lowest] = 1;
}

/// Takes out the thumbnail, if there is one: cuts it off where nothing lies behind it, else
/// overwrites it with zeros.
pub(in crate::cli) fn remove_thumbnail(exif: &mut Vec<u8>) -> bool {
    let Some(block) = Block::new(exif) else { return false };
    let Some(link) = block.first().and_then(|first| block.next(first)) else { return false };
    let Some(directory) = block.number(link.clone()).filter(|&directory| directory != 0) else {
        return false;
    };
    let entries = block.entries(directory);
    let pictures: Vec<_> = THUMBNAILS
        .iter()
        .filter_map(|&(offset, length)| {
            let start = block.value(&entries, offset)?;
            Some(start..start.checked_add(block.value(&entries, length)?)?.min(exif.len()))
        })
        .collect();
    let end = block.end_of_picture();
    let behind = |start: usize| start >= end;
    if behind(directory) && pictures.iter().all(|picture| behind(picture.start)) {
        exif.truncate(end);
    } else {
        for picture in pictures {
            if let Some(picture) = exif.get_mut(picture) {
                picture.fill(0);
            }
        }
    }
    exif[link].fill(0);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block of one entry for the orientation, of this type.
    fn block(big_endian: bool, kind: u8, value: &[u8]) -> Vec<u8> {
        let number = |value: u32, width: usize| {
            let bytes = value.to_be_bytes()[4 - width..].to_vec();
            if big_endian { bytes } else { bytes.into_iter().rev().collect() }
        };
        let mut bytes = if big_endian { b"MM\0*".to_vec() } else { b"II*\0".to_vec() };
        for (value, width) in [(8, 4), (1, 2), (0x0112, 2), (kind.into(), 2), (1, 4)] {
            bytes.extend(number(value, width));
        }
        bytes.extend(value);
        bytes.resize(26, 0);
        bytes
    }

    #[test]
    fn orientation_is_found_and_reset_in_every_legal_type() {
        for (big_endian, kind, value, upright) in [
            (false, 3, &[6, 0, 0, 0], [1, 0, 0, 0]),
            (true, 3, &[0, 6, 0, 0], [0, 1, 0, 0]),
            (false, 4, &[6, 0, 0, 0], [1, 0, 0, 0]),
            (true, 4, &[0, 0, 0, 6], [0, 0, 0, 1]),
            (false, 1, &[6, 0, 0, 0], [1, 0, 0, 0]),
            (true, 1, &[6, 0, 0, 0], [1, 0, 0, 0]),
        ] {
            let mut exif = block(big_endian, kind, value);
            assert_eq!(orientation(&exif), Some(6), "{big_endian} {kind}");
            reset_orientation(&mut exif);
            assert_eq!(exif, block(big_endian, kind, &upright));
        }
        for exif in [&block(false, 2, b"6\0")[..], &block(false, 3, &[9])[..], b"II*\0", b""] {
            assert!(orientation(exif).is_none_or(|value| (1..=8).contains(&value)));
        }
    }

    #[test]
    fn a_thumbnail_is_cut_off() {
        let mut exif = block(false, 3, &[6]);
        // The directory of the thumbnail follows, then the thumbnail.
        exif[22..26].copy_from_slice(&26u32.to_le_bytes());
        let before = exif[..22].to_vec();
        exif.extend(2u16.to_le_bytes());
        for (tag, value) in [(0x0201u16, 26 + 2 + 24 + 4), (0x0202, 5u32)] {
            exif.extend(tag.to_le_bytes());
            exif.extend(4u16.to_le_bytes());
            exif.extend(1u32.to_le_bytes());
            exif.extend(value.to_le_bytes());
        }
        exif.extend([0; 4]);
        exif.extend(b"a JPG");
        let mut again = exif.clone();
        assert!(remove_thumbnail(&mut exif));
        assert_eq!(exif, [&before[..], &[0; 4]].concat());
        assert!(!remove_thumbnail(&mut exif));
        // With something behind it, it is overwritten.
        again[18..22].copy_from_slice(&[0; 4]);
        again[12..14].copy_from_slice(&2u16.to_le_bytes());
        again[14..18].copy_from_slice(&7u32.to_le_bytes());
        let end = again.len() as u32;
        again[18..22].copy_from_slice(&end.to_le_bytes());
        again.extend(b"a maker");
        assert!(remove_thumbnail(&mut again));
        assert!(again.ends_with(b"\0\0\0\0\0a maker"));
    }
}
