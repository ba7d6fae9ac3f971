//! The markers of a JPEG file: what `image` does not tell of it, since its decoder fills up what
//! is missing with grey and converts CMYK without a word.

/// What the markers say.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Markers {
    /// Components of the frame: 1 grey, 3 colour, 4 CMYK or YCCK.
    pub components: u8,
    /// Whether the picture's end is marked; thumbnails in its metadata do not count.
    pub ended: bool,
}

/// Walks over the segments of a file, up to the end of its first picture.
pub(super) fn markers(bytes: &[u8]) -> Markers {
    let mut found = Markers::default();
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| byte == 0xff) {
        rest = &rest[at..];
        let Some(&marker) = rest.get(1) else { break };
        let skipped = match marker {
            // The first of several 0xff.
            0xff => 1,
            // A sample's 0xff, TEM, restarts and the start: no segment follows.
            0x00 | 0x01 | 0xd0..=0xd8 => 2,
            0xd9 => {
                found.ended = true;
                break;
            }
            _ => {
                // Start of frame; 0xc4, 0xc8 and 0xcc are something else.
                if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
                    found.components = rest.get(9).copied().unwrap_or(0);
                }
                let length = rest.get(2..4).map_or(0, |l| u16::from_be_bytes([l[0], l[1]]));
                2 + usize::from(length)
            }
        };
        rest = rest.get(skipped..).unwrap_or(&[]);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_the_picture_itself_counts() {
        let thumbnail = b"\xff\xd8\xff\xe1\0\x06\xff\xd8\xff\xd9";
        let frame = b"\xff\xc0\0\x0b\x08\0\x01\0\x01\x04\x01\x11\0";
        let scan = b"\xff\xda\0\x02\x12\xff\0\xff\xd0\x34";
        let mut file = [&thumbnail[..], frame, scan].concat();
        assert_eq!(markers(&file), Markers { components: 4, ended: false });
        file.extend(b"\xff\xff\xd9 and more");
        assert_eq!(markers(&file), Markers { components: 4, ended: true });
        assert_eq!(markers(b"\xff\xd8\xff\xe1\xff"), Markers::default());
    }
}
