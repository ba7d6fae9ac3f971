//! XMP packets: their encoding, parts, orientation, and what they say of pictures that are gone.
//! All by the names that writers use, so that the rest of a packet stays as it is, byte for byte
//! (ISO 16684-1; Adobe's XMP Specification Part 3, section 1.1.3 for JPEG).

/// The namespace of HDR gain maps (ISO 21496-1's predecessor) and the list of what follows a
/// picture in its file, by the prefixes of their definitions.
const GAIN_MAP: &str = "hdrgm:";
const DIRECTORY: &str = "Container:Directory";
/// That more is in an extension, which has been put in its place.
const EXTENDED: &str = "xmpNote:HasExtendedXMP";
const ORIENTATION: &str = "tiff:Orientation";

/// A packet in UTF-8 without the NULs that some writers append; `None` for what is no text.
pub(in crate::cli) fn to_utf8(packet: &[u8]) -> Option<Vec<u8>> {
    let wide = match packet {
        [0xfe, 0xff, rest @ ..] => Some((rest, true)),
        [0xff, 0xfe, rest @ ..] => Some((rest, false)),
        [0, b'<', ..] => Some((packet, true)),
        [b'<', 0, ..] => Some((packet, false)),
        _ => None,
    };
    let text = match wide {
        None => std::str::from_utf8(packet).ok()?.to_owned(),
        Some((units, big_endian)) => {
            let units = units.chunks_exact(2).map(|unit| match big_endian {
                true => u16::from_be_bytes([unit[0], unit[1]]),
                false => u16::from_le_bytes([unit[0], unit[1]]),
            });
            let text: String = char::decode_utf16(units).collect::<Result<_, _>>().ok()?;
            // The XML declaration, if any, names the encoding.
            text.replacen("encoding=\"UTF-16\"", "encoding=\"UTF-8\"", 1)
        }
    };
    Some(text.trim_end_matches('\0').as_bytes().to_vec())
}

/// Whether a packet says that it has an extension.
pub(in crate::cli) fn is_extended(packet: &str) -> bool {
    packet.contains(EXTENDED)
}

/// The packet alone, which no longer says that it has an extension.
pub(in crate::cli) fn without_extension(packet: &str) -> String {
    without(packet, EXTENDED)
}

/// A packet with the descriptions of its extension among its own; `None` where either has no
/// place for them.
pub(in crate::cli) fn with_extension(packet: &str, extension: &str) -> Option<String> {
    const END: &str = "</rdf:RDF>";
    let start = extension.find("<rdf:RDF")?;
    let start = start + extension[start..].find('>')? + 1;
    let descriptions = &extension[start..extension.rfind(END)?.max(start)];
    let mut whole = without_extension(packet);
    whole.insert_str(whole.rfind(END)?, descriptions);
    Some(whole)
}

/// The packet without its claims of pictures that follow in the file, if there are any.
pub(in crate::cli) fn without_following_pictures(packet: &str) -> Option<String> {
    let rest = without(&without(packet, DIRECTORY), GAIN_MAP);
    (rest != packet).then_some(rest)
}

/// The orientation, 1 to 8.
pub(in crate::cli) fn orientation(packet: &[u8]) -> Option<u8> {
    let digit = packet[orientations(packet).next()?];
    (b'1'..=b'8').contains(&digit).then(|| digit - b'0')
}

/// Sets every orientation to 1: upright.
pub(in crate::cli) fn reset_orientation(packet: &mut [u8]) {
    let places: Vec<usize> = orientations(packet).collect();
    for place in places {
        if (b'2'..=b'8').contains(&packet[place]) {
            packet[place] = b'1';
        }
    }
}

/// Where the values of orientations are, written as attributes or as elements.
fn orientations(packet: &[u8]) -> impl Iterator<Item = usize> {
    let names = packet.windows(ORIENTATION.len()).enumerate();
    let names = names.filter(|(_, name)| *name == ORIENTATION.as_bytes());
    names.filter_map(|(at, _)| {
        let at = at + ORIENTATION.len();
        let value = packet[at..].iter().position(|byte| !b" \t\r\n=\"'>".contains(byte))?;
        Some(at + value)
    })
}

/// The text without attributes and elements whose names begin with `name`.
fn without(text: &str, name: &str) -> String {
    let mut rest = text;
    let mut kept = String::with_capacity(text.len());
    while let Some(at) = rest.find(name) {
        let (before, from) = rest.split_at(at);
        let opens = before.ends_with('<');
        let end = match before.chars().next_back() {
            Some('<') => end_of_element(from),
            Some(' ' | '\t' | '\r' | '\n') => end_of_attribute(from),
            _ => None,
        };
        match end {
            Some(end) => {
                kept.push_str(if opens { &before[..at - 1] } else { before.trim_end() });
                rest = &from[end..];
            }
            None => {
                kept.push_str(&rest[..at + name.len()]);
                rest = &from[name.len()..];
            }
        }
    }
    kept + rest
}

/// Where the element ends whose name a text begins with.
fn end_of_element(text: &str) -> Option<usize> {
    let name = &text[..text.find(|c: char| c.is_whitespace() || c == '>' || c == '/')?];
    let tag = text.find('>')?;
    if text[..tag].ends_with('/') {
        return Some(tag + 1);
    }
    let close = format!("</{name}");
    let close = text.find(&close)?;
    Some(close + text[close..].find('>')? + 1)
}

/// Where the attribute ends whose name a text begins with.
fn end_of_attribute(text: &str) -> Option<usize> {
    let equals = text.find('=').filter(|&at| !text[..at].contains(['<', '>', '"', '\'']))?;
    let value = equals + 1 + text[equals + 1..].find(|c: char| !c.is_whitespace())?;
    let quote = text[value..].chars().next().filter(|c| matches!(c, '"' | '\''))?;
    Some(value + 1 + text[value + 1..].find(quote)? + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orientation_is_found_and_reset_in_either_form() {
        for (before, found, after) in [
            (r#"<a tiff:Orientation="6" b="6">"#, Some(6), r#"<a tiff:Orientation="1" b="6">"#),
            ("<a tiff:Orientation = '8'>", Some(8), "<a tiff:Orientation = '1'>"),
            (
                "<tiff:Orientation>3</tiff:Orientation>",
                Some(3),
                "<tiff:Orientation>1</tiff:Orientation>",
            ),
            ("<tiff:Orientation", None, "<tiff:Orientation"),
        ] {
            let mut packet = before.as_bytes().to_vec();
            assert_eq!(orientation(&packet), found, "{before}");
            reset_orientation(&mut packet);
            assert_eq!(packet, after.as_bytes());
        }
    }

    #[test]
    fn utf_16_becomes_utf_8() {
        let text = "<?xpacket begin=\"\u{feff}\"?><a b=\"é\"/>";
        for big_endian in [false, true] {
            for mark in ["", "\u{feff}"] {
                let units = mark.encode_utf16().chain(text.encode_utf16());
                let bytes = |unit: u16| match big_endian {
                    true => unit.to_be_bytes(),
                    false => unit.to_le_bytes(),
                };
                let wide: Vec<u8> = units.flat_map(bytes).collect();
                assert_eq!(to_utf8(&wide).as_deref(), Some(text.as_bytes()));
            }
        }
        assert_eq!(to_utf8(b"<a/>\0\0").as_deref(), Some(&b"<a/>"[..]));
        assert_eq!(to_utf8(b"<a b=\"\xe9\"/>"), None);
        assert_eq!(to_utf8(b"\xff\xfe\x00\xd8"), None);
    }

    #[test]
    fn an_extension_joins_its_packet() {
        let packet = r#"<x><rdf:RDF xmlns:rdf="r"><rdf:Description a="1" xmpNote:HasExtendedXMP="AB"/></rdf:RDF></x>"#;
        let extension = r#"<x><rdf:RDF xmlns:rdf="r"><rdf:Description b="2"/></rdf:RDF></x>"#;
        let whole = r#"<x><rdf:RDF xmlns:rdf="r"><rdf:Description a="1"/><rdf:Description b="2"/></rdf:RDF></x>"#;
        assert_eq!(with_extension(packet, extension).as_deref(), Some(whole));
        assert_eq!(with_extension(packet, "<x/>"), None);
        assert_eq!(with_extension("<x/>", extension), None);
    }

    #[test]
    fn claims_of_gain_maps_go() {
        for (before, after) in [
            (r#"<a b="1" hdrgm:Version="1.0" c='2'/>"#, r#"<a b="1" c='2'/>"#),
            ("<a><hdrgm:Version>1.0</hdrgm:Version><b/></a>", "<a><b/></a>"),
            ("<a><Container:Directory x='y'><b/></Container:Directory></a>", "<a></a>"),
            ("<a><Container:Directory/></a>", "<a></a>"),
        ] {
            assert_eq!(without_following_pictures(before).as_deref(), Some(after));
        }
        for same in ["<a b=\"hdrgm:\"/>", "<hdrgm:", "<a hdrgm:b", "<a hdrgm:b=", "<a/>"] {
            assert_eq!(without_following_pictures(same), None, "{same}");
        }
    }
}
