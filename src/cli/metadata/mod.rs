//! Metadata on its way from one file to another: the kinds that go along, and orientation,
//! which is in the pixels already and must not be applied twice.

pub(super) mod exif;
pub(super) mod xmp;

use std::path::Path;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
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

/// Colour channels of the pictures that an ICC profile is for: 1 grey, 3 RGB and the like, 4 CMYK
/// (ISO 15076-1, table 19).
pub(super) fn colours_of_profile(icc: &[u8]) -> Option<usize> {
    match icc.get(16..20)? {
        b"GRAY" => Some(1),
        b"RGB " => Some(3),
        _ => None,
    }
}

/// The orientation, 1 to 8, by EXIF, else by XMP.
pub(super) fn orientation(metadata: &Metadata) -> Option<u8> {
    let by_exif = metadata.exif.as_deref().and_then(exif::orientation);
    by_exif.or_else(|| metadata.xmp.as_deref().and_then(xmp::orientation))
}

/// Has EXIF and XMP say what is true of a `.siren` file and its renders: upright.
pub(super) fn make_upright(metadata: &mut Metadata) {
    if let Some(exif) = &mut metadata.exif {
        exif::reset_orientation(exif);
    }
    if let Some(xmp) = &mut metadata.xmp {
        xmp::reset_orientation(xmp);
    }
}
