//! What the readers of formats share: how much metadata is kept, and what is said of the rest.

/// Bytes that an ICC profile, EXIF or XMP may have.
pub(in crate::cli) const MAX_METADATA_BYTES: usize = 8 << 20;

/// IPTC has no place in a `.siren` file.
pub(super) const NO_IPTC: &str = "its IPTC metadata is not kept";

/// What stands before the TIFF header of EXIF in a JPEG file.
pub(in crate::cli) const EXIF_OF_JPEG: &[u8] = b"Exif\0\0";

/// The warning about a block of metadata that is larger than [`MAX_METADATA_BYTES`].
pub(super) fn too_large(name: &str) -> String {
    format!("its {name} has more than {} MiB and is left out", MAX_METADATA_BYTES >> 20)
}
