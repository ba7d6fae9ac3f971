//! What the headers of BMP, TGA, ICO and WebP files say that `image` does not look at: profiles,
//! whether the fourth byte of a pixel is alpha, PNG files inside, their length; no pixels (BITMAPV5HEADER; Truevision TGA 2.0).

/// Where a BMP file's header begins, behind that of the file.
const BMP_HEADER: usize = 14;
/// Sizes of headers with masks for the channels, and with a profile.
const BMP_V4: usize = 108;
const BMP_V5: usize = 124;

/// A number of four bytes of the header.
fn bmp_number(bytes: &[u8], at: usize) -> Option<usize> {
    let number = bytes.get(BMP_HEADER + at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*number) as usize)
}

/// The profile that is embedded in a BMP file.
pub(super) fn bmp_profile(bytes: &[u8]) -> Option<&[u8]> {
    let embedded = bytes.get(BMP_HEADER + 56..)?.starts_with(b"DEBM");
    if bmp_number(bytes, 0)? < BMP_V5 || !embedded {
        return None;
    }
    let start = BMP_HEADER.checked_add(bmp_number(bytes, 112)?)?;
    bytes.get(start..start.checked_add(bmp_number(bytes, 116)?)?)
}

/// The file with the masks of its header in force, where they say that 32 bits have alpha and the
/// compression, none, would have them left alone.
pub(super) fn with_masks(bytes: &[u8]) -> Option<Vec<u8>> {
    const BITFIELDS: u8 = 3;
    let masks: Option<Vec<usize>> = (0..4).map(|mask| bmp_number(bytes, 40 + 4 * mask)).collect();
    let usual = masks? == [0x00ff_0000, 0xff00, 0xff, 0xff00_0000];
    let is_32_bits = bytes.get(BMP_HEADER + 14..BMP_HEADER + 16)? == [32, 0];
    if bmp_number(bytes, 0)? < BMP_V4 || bmp_number(bytes, 16)? != 0 || !usual || !is_32_bits {
        return None;
    }
    let mut copy = bytes.to_vec();
    copy[BMP_HEADER + 16] = BITFIELDS;
    Some(copy)
}

/// What the fourth byte of a TGA file's pixels is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TgaAlpha {
    None,
    Straight,
    Premultiplied,
}

/// What the header, and where there is one the extension area, say of alpha.
pub(super) fn tga_alpha(bytes: &[u8]) -> TgaAlpha {
    let has_bits = bytes.get(17).is_some_and(|descriptor| descriptor & 15 != 0);
    match tga_attributes(bytes) {
        Some(0 | 1) => TgaAlpha::None,
        Some(4) => TgaAlpha::Premultiplied,
        Some(3) => TgaAlpha::Straight,
        _ if has_bits => TgaAlpha::Straight,
        _ => TgaAlpha::None,
    }
}

/// The attributes type of the extension area.
fn tga_attributes(bytes: &[u8]) -> Option<u8> {
    let footer = bytes.last_chunk::<26>()?;
    let (place, signature) = footer.split_first_chunk()?;
    let place = u32::from_le_bytes(*place) as usize;
    let signed = signature[4..].starts_with(b"TRUEVISION-XFILE.\0");
    (signed && place > 0).then(|| bytes.get(place.checked_add(494)?).copied())?
}

/// The largest picture of an ICO file, if it is a PNG file.
pub(super) fn ico_png(bytes: &[u8]) -> Option<&[u8]> {
    let (head, entries) = bytes.split_first_chunk::<6>()?;
    let count = usize::from(u16::from_le_bytes([head[4], head[5]]));
    let entries = entries.as_chunks::<16>().0.iter().take(count);
    // 0 stands for 256; where sizes are equal, more bits win.
    let side = |side: u8| usize::from(side.wrapping_sub(1)) + 1;
    let rank = |entry: &[u8; 16]| (side(entry[0]) * side(entry[1]), [entry[7], entry[6]]);
    let largest = entries.max_by_key(|entry| rank(entry))?;
    let number = |at: usize| Some(u32::from_le_bytes(*largest[at..].first_chunk()?) as usize);
    let (length, start) = (number(8)?, number(12)?);
    let picture = bytes.get(start..start.checked_add(length)?)?;
    picture.starts_with(b"\x89PNG\r\n\x1a\n").then_some(picture)
}

/// Whether a RIFF file, as WebP is, has fewer bytes than it says.
pub(super) fn is_cut_riff(bytes: &[u8]) -> bool {
    let length = bytes.get(4..).and_then(|rest| rest.first_chunk());
    length.is_some_and(|length| (bytes.len() as u64) < u64::from(u32::from_le_bytes(*length)) + 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_area_of_tga_has_the_last_word_on_alpha() {
        for (descriptor, attributes, alpha) in [
            (8, None, TgaAlpha::Straight),
            (0, None, TgaAlpha::None),
            (8, Some(0), TgaAlpha::None),
            (0, Some(3), TgaAlpha::Straight),
            (8, Some(4), TgaAlpha::Premultiplied),
            (8, Some(2), TgaAlpha::Straight),
        ] {
            let mut file = vec![0; 18];
            file[17] = descriptor;
            if let Some(attributes) = attributes {
                file.extend([0; 494]);
                file.push(attributes);
                file.extend(18u32.to_le_bytes());
                file.extend([0; 4]);
                file.extend(b"TRUEVISION-XFILE.\0");
            }
            assert_eq!(tga_alpha(&file), alpha, "{descriptor} {attributes:?}");
        }
    }
}
