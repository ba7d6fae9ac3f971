//! Bytes to [`Container`] and back: signature, header, chunks, checksums (spec sections 2 to 4).
//! Knows nothing of what the weight payload means; that is `coding`.

// Nothing that a file says may overflow, or index beyond an end.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod chunk;
mod header;

use std::fmt;

use crate::error::DecodeError;
use crate::network::Topology;
pub use header::{BitDepth, SIGNATURE, TrainingOmega, VERSION};

/// Largest length of the encoder settings text in bytes.
pub const MAX_SETTINGS_LEN: usize = 4096;

/// How the picture is represented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Representation {
    /// One SIREN from (x, y) to the channels: code 0.
    Siren,
    /// Latents that go through one sine layer: code 1. The topology's one hidden layer
    /// are the sines; the weight coding is compact.
    Latents,
}

/// How the weights are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightCoding {
    /// IEEE 754 binary16, little-endian, in file order: code 0.
    F16,
    /// Integers with step sizes, entropy-coded: code 1.
    #[default]
    Compact,
}

impl fmt::Display for Representation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Siren => "siren",
            Self::Latents => "grid",
        })
    }
}

impl fmt::Display for WeightCoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16 => "f16",
            Self::Compact => "compact",
        })
    }
}

/// Colour description by code points (ITU-T H.273), as in PNG's cICP chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cicp {
    /// ColourPrimaries.
    pub primaries: u8,
    /// TransferCharacteristics.
    pub transfer: u8,
    /// MatrixCoefficients; 0, since samples are RGB or grey.
    pub matrix: u8,
    /// VideoFullRangeFlag, 0 or 1.
    pub full_range: u8,
}

/// What travels with a picture and does not change its samples.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// ICC profile of the samples.
    pub icc: Option<Vec<u8>>,
    /// Code points of the samples; they take precedence over an ICC profile.
    pub cicp: Option<Cicp>,
    /// EXIF block, starting with its TIFF header.
    pub exif: Option<Vec<u8>>,
    /// XMP packet, UTF-8.
    pub xmp: Option<Vec<u8>>,
    /// Name of the encoder and the settings that differ from its defaults.
    pub settings: Option<String>,
}

/// Everything a `.siren` file says, weights still in their coding.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Native width in pixels, 1 to 2^31 - 1.
    pub width: u32,
    /// Native height in pixels, 1 to 2^31 - 1.
    pub height: u32,
    /// Bits per sample of the source picture.
    pub depth: BitDepth,
    /// Shape of the network.
    pub topology: Topology,
    /// omega_0 used in training, for information only.
    pub omega: Option<TrainingOmega>,
    /// How the picture is represented.
    pub representation: Representation,
    /// How the weights are written.
    pub coding: WeightCoding,
    /// Optional chunks.
    pub metadata: Metadata,
    /// Payload of the weight chunk.
    pub weights: Vec<u8>,
}

impl Container {
    /// Parses a whole file.
    ///
    /// Allocates no more than the file's own length. Unknown ancillary chunks are
    /// checked and skipped.
    ///
    /// # Errors
    /// Every rule of spec sections 2 to 4 and 9 that the file breaks has its own
    /// [`DecodeError`].
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::read_chunks(bytes, false)
    }

    /// Parses a file that is cut short inside its weight chunk: what has arrived of the weights
    /// is there, unchecked.
    ///
    /// # Errors
    /// As [`Container::read`], and [`DecodeError::Truncated`] where the cut lies elsewhere.
    pub fn read_cut(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::read_chunks(bytes, true)
    }

    fn read_chunks(bytes: &[u8], cut: bool) -> Result<Self, DecodeError> {
        let (header, mut offset) = header::read(bytes)?;
        let mut metadata = Metadata::default();
        let mut seen: Vec<[u8; 4]> = Vec::new();
        loop {
            let chunk = match chunk::read(bytes, offset) {
                Err(error @ DecodeError::Truncated { .. }) if cut => {
                    chunk::read_cut_weights(bytes, offset).ok_or(error)?
                }
                chunk => chunk?,
            };
            if chunk.is_known() && seen.contains(&chunk.kind) {
                return Err(DecodeError::DuplicateChunk { kind: chunk.name(), offset });
            }
            seen.push(chunk.kind);
            match &chunk.kind {
                chunk::ICC => metadata.icc = Some(chunk.payload.to_vec()),
                chunk::CICP => metadata.cicp = Some(chunk::cicp(chunk.payload)?),
                chunk::EXIF => metadata.exif = Some(chunk.payload.to_vec()),
                chunk::XMP => metadata.xmp = Some(chunk.payload.to_vec()),
                chunk::SETTINGS => metadata.settings = Some(chunk::settings(chunk.payload)?),
                chunk::WEIGHTS => {
                    let count = bytes.len().saturating_sub(chunk.end);
                    if count > 0 {
                        return Err(DecodeError::TrailingData { offset: chunk.end, count });
                    }
                    return Ok(Self {
                        width: header.width,
                        height: header.height,
                        depth: header.depth,
                        topology: header.topology,
                        omega: header.omega,
                        representation: header.representation,
                        coding: header.coding,
                        metadata,
                        weights: chunk.payload.to_vec(),
                    });
                }
                _ if chunk.is_critical() => {
                    return Err(DecodeError::UnknownCriticalChunk { kind: chunk.name(), offset });
                }
                _ => {}
            }
            offset = chunk.end;
        }
    }

    /// The file. Optional chunks come first, the weights last.
    ///
    /// # Panics
    /// If `width` or `height` lies outside 1 to 2^31 - 1, the settings are longer than
    /// [`MAX_SETTINGS_LEN`], or a grid has other than one hidden layer and the compact
    /// weight coding.
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.weights.len().saturating_add(64));
        header::write(self, &mut out);
        self.metadata.write(&mut out);
        chunk::write(chunk::WEIGHTS, &self.weights, &mut out);
        out
    }
}

impl Metadata {
    /// Appends a chunk for all that is there.
    fn write(&self, out: &mut Vec<u8>) {
        let Self { icc, cicp, exif, xmp, settings } = self;
        let cicp = cicp.map(|c| [c.primaries, c.transfer, c.matrix, c.full_range]);
        let optional = [
            (chunk::ICC, icc.as_deref()),
            (chunk::CICP, cicp.as_ref().map(<[u8; 4]>::as_slice)),
            (chunk::EXIF, exif.as_deref()),
            (chunk::XMP, xmp.as_deref()),
            (chunk::SETTINGS, settings.as_ref().map(String::as_bytes)),
        ];
        for (kind, payload) in optional {
            if let Some(payload) = payload {
                chunk::write(kind, payload, out);
            }
        }
    }
}

/// The file `bytes` with other metadata. Header, weights and unknown ancillary chunks stay as they
/// are, byte for byte.
///
/// # Errors
/// As [`Container::read`].
///
/// # Panics
/// If the settings are longer than [`MAX_SETTINGS_LEN`].
pub fn replace_metadata(bytes: &[u8], metadata: &Metadata) -> Result<Vec<u8>, DecodeError> {
    Container::read(bytes)?;
    assert!(metadata.settings.as_ref().is_none_or(|s| s.len() <= MAX_SETTINGS_LEN));
    let (_, mut offset) = header::read(bytes)?;
    let mut out = bytes.get(..offset).unwrap_or_default().to_vec();
    metadata.write(&mut out);
    while offset < bytes.len() {
        let chunk = chunk::read(bytes, offset)?;
        if !chunk.is_known() || &chunk.kind == chunk::WEIGHTS {
            out.extend_from_slice(bytes.get(offset..chunk.end).unwrap_or_default());
        }
        offset = chunk.end;
    }
    Ok(out)
}

/// Appends `value` as an unsigned LEB128 integer in its shortest form.
pub fn write_varint(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads bytes from front to back, never beyond their end.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    /// Where the next one is.
    position: usize,
    /// What is read, for errors.
    inside: &'static str,
}

impl<'a> Cursor<'a> {
    /// From `position` on.
    pub fn new(bytes: &'a [u8], position: usize, inside: &'static str) -> Self {
        Self { bytes, position, inside }
    }

    pub fn position(&self) -> usize {
        self.position
    }

    /// The next `len` bytes.
    pub fn slice(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let truncated = DecodeError::Truncated { offset: self.bytes.len(), inside: self.inside };
        let end = self.position.checked_add(len);
        let slice = end.and_then(|end| Some((self.bytes.get(self.position..end)?, end)));
        let (slice, end) = slice.ok_or(truncated)?;
        self.position = end;
        Ok(slice)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        Ok(*self.slice(N)?.first_chunk().expect("as many bytes"))
    }

    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// An unsigned LEB128 integer of at most 32 bits in its shortest form.
    pub fn varint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let malformed = DecodeError::MalformedInteger { field, offset: self.position };
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let padded = byte == 0 && shift > 0;
                return match u32::try_from(value) {
                    Ok(value) if !padded => Ok(value),
                    _ => Err(malformed),
                };
            }
        }
        Err(malformed)
    }

    /// A CRC-32 that must be the one of the bytes from `start` up to it.
    fn checksum(
        &mut self,
        start: usize,
        inside: impl FnOnce() -> String,
    ) -> Result<(), DecodeError> {
        let read = self.bytes.get(start..self.position).unwrap_or_default();
        let computed = crc32fast::hash(read);
        let stored = u32::from_le_bytes(self.array()?);
        if stored != computed {
            let inside = inside();
            return Err(DecodeError::Checksum { inside, offset: start, stored, computed });
        }
        Ok(())
    }

    /// All that is left.
    fn rest(self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_and_have_one_form() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, u32::MAX] {
            let mut bytes = Vec::new();
            write_varint(value, &mut bytes);
            let mut cursor = Cursor::new(&bytes, 0, "v");
            assert_eq!(cursor.varint("v"), Ok(value));
            assert_eq!(cursor.position(), bytes.len());
        }
        let malformed = Err(DecodeError::MalformedInteger { field: "v", offset: 0 });
        for bytes in [&[0x80, 0x00][..], &[0xff, 0xff, 0xff, 0xff, 0x1f], &[0xff; 6]] {
            assert_eq!(Cursor::new(bytes, 0, "v").varint("v"), malformed);
        }
        let cut = Cursor::new(&[0x80], 0, "v").varint("v");
        assert_eq!(cut, Err(DecodeError::Truncated { offset: 1, inside: "v" }));
    }
}
