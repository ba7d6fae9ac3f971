//! Metadata on its way from one file to another: the kinds that go along, and orientation,
//! which is in the pixels already and must not be applied twice.

use std::path::Path;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use image::metadata::Orientation;
use sirenc::container::Metadata;

/// Kinds of metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// The ICC profile
    Icc,
    /// The colour space by code points, as in PNG's cICP chunk
    Cicp,
    /// EXIF
    Exif,
    /// XMP
    Xmp,
    /// Encoder settings and seed
    Settings,
}

impl Kind {
    /// The kinds that pictures carry too.
    const OF_PICTURES: [Self; 4] = [Self::Icc, Self::Cicp, Self::Exif, Self::Xmp];

    /// Takes this kind out.
    fn remove(self, metadata: &mut Metadata) {
        match self {
            Self::Icc => metadata.icc = None,
            Self::Cicp => metadata.cicp = None,
            Self::Exif => metadata.exif = None,
            Self::Xmp => metadata.xmp = None,
            Self::Settings => metadata.settings = None,
        }
    }
}

/// Whether what was taken for an input is the name of a kind.
pub(super) fn is_kind(input: &Path) -> bool {
    input.to_str().is_some_and(|name| Kind::from_str(name, false).is_ok())
}

/// Takes out the listed kinds; an empty list stands for all.
pub(super) fn strip(metadata: &mut Metadata, kinds: &[Kind]) {
    let kinds = if kinds.is_empty() { Kind::value_variants() } else { kinds };
    kinds.iter().for_each(|kind| kind.remove(metadata));
}

/// Which kinds go from a picture to its `.siren` file, or back.
#[derive(Args)]
pub(super) struct Selection {
    /// Leave out metadata: these kinds, or all of them
    #[arg(long, value_name = "KIND,...", num_args = 0..=1, require_equals = true,
        value_delimiter = ',', value_parser = kind_of_pictures(), conflicts_with = "keep")]
    strip: Option<Vec<Kind>>,
    /// Keep these kinds of metadata and leave out the others
    #[arg(long, value_name = "KIND,...", value_delimiter = ',', value_parser = kind_of_pictures())]
    keep: Option<Vec<Kind>>,
}

impl Selection {
    /// Takes out what is not wanted.
    pub fn apply(&self, metadata: &mut Metadata) {
        if let Some(kinds) = &self.strip {
            strip(metadata, kinds);
        }
        if let Some(kept) = &self.keep {
            let dropped = Kind::OF_PICTURES.iter().filter(|kind| !kept.contains(kind));
            dropped.for_each(|kind| kind.remove(metadata));
        }
    }
}

fn kind_of_pictures() -> impl TypedValueParser<Value = Kind> {
    let kinds = Kind::OF_PICTURES.map(|kind| kind.to_possible_value().expect("none is skipped"));
    PossibleValuesParser::new(kinds)
        .map(|name| Kind::from_str(&name, false).expect("one of the possible values"))
}

/// Colour channels of the pictures that an ICC profile is for: 1 grey, 3 RGB (ISO 15076-1, table 19).
pub(super) fn colours_of_profile(icc: &[u8]) -> Option<usize> {
    match icc.get(16..20)? {
        b"GRAY" => Some(1),
        b"RGB " => Some(3),
        _ => None,
    }
}

/// Has EXIF and XMP say what is true of a `.siren` file and its renders: upright.
pub(super) fn make_upright(metadata: &mut Metadata) {
    if let Some(exif) = &mut metadata.exif {
        let _ = Orientation::remove_from_exif_chunk(exif);
    }
    if let Some(xmp) = &mut metadata.xmp {
        reset_orientation(xmp);
    }
}

/// Sets `tiff:Orientation` of an XMP packet to 1, written as an attribute or as an element.
fn reset_orientation(xmp: &mut [u8]) {
    const NAME: &[u8] = b"tiff:Orientation";
    let mut at = 0;
    while let Some(found) = xmp[at..].windows(NAME.len()).position(|w| w == NAME) {
        at += found + NAME.len();
        let value = xmp[at..].iter().position(|byte| !b" \t\r\n=\"'>".contains(byte));
        if let Some(digit) = value.map(|value| &mut xmp[at + value])
            && (b'2'..=b'8').contains(digit)
        {
            *digit = b'1';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orientation_in_xmp_is_reset_in_either_form() {
        for (before, after) in [
            (r#"<a tiff:Orientation="6" b="6">"#, r#"<a tiff:Orientation="1" b="6">"#),
            ("<a tiff:Orientation = '8'>", "<a tiff:Orientation = '1'>"),
            ("<tiff:Orientation>3</tiff:Orientation>", "<tiff:Orientation>1</tiff:Orientation>"),
            ("<tiff:Orientation", "<tiff:Orientation"),
        ] {
            let mut xmp = before.as_bytes().to_vec();
            reset_orientation(&mut xmp);
            assert_eq!(xmp, after.as_bytes());
        }
    }
}
