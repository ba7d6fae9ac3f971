//! Chunks: type, length, payload, CRC-32 (spec section 4).

use byteorder::{ByteOrder, LittleEndian};

use super::{Cicp, MAX_SETTINGS_LEN, read_slice, read_varint, write_varint};
use crate::error::DecodeError;

pub(super) const WEIGHTS: &[u8; 4] = b"WGHT";
pub(super) const ICC: &[u8; 4] = b"iccp";
pub(super) const CICP: &[u8; 4] = b"cicp";
pub(super) const EXIF: &[u8; 4] = b"exif";
pub(super) const XMP: &[u8; 4] = b"xmpp";
pub(super) const SETTINGS: &[u8; 4] = b"sett";

const INSIDE: &str = "a chunk";

/// One chunk, its payload still in the file's bytes.
pub(super) struct Chunk<'a> {
    pub kind: [u8; 4],
    pub payload: &'a [u8],
    /// Offset of the first byte after the chunk.
    pub end: usize,
}

impl Chunk<'_> {
    /// An upper-case first letter means that the picture cannot be shown without it.
    pub fn is_critical(&self) -> bool {
        self.kind[0].is_ascii_uppercase()
    }

    pub fn is_known(&self) -> bool {
        [WEIGHTS, ICC, CICP, EXIF, XMP, SETTINGS].contains(&&self.kind)
    }

    pub fn name(&self) -> String {
        String::from_utf8_lossy(&self.kind).into_owned()
    }
}

/// Reads the chunk that starts at `start`.
pub(super) fn read(bytes: &[u8], start: usize) -> Result<Chunk<'_>, DecodeError> {
    let mut offset = start;
    let at = &mut offset;
    let mut kind = [0; 4];
    kind.copy_from_slice(read_slice(bytes, at, 4, INSIDE)?);
    if !kind.iter().all(u8::is_ascii_alphabetic) {
        return Err(DecodeError::MalformedChunkType { found: kind, offset: start });
    }
    let len = read_varint(bytes, at, "chunk length", INSIDE)?;
    let payload = read_slice(bytes, at, len as usize, INSIDE)?;
    let computed = crc32fast::hash(&bytes[start..*at]);
    let stored = LittleEndian::read_u32(read_slice(bytes, at, 4, INSIDE)?);
    let chunk = Chunk { kind, payload, end: offset };
    if stored != computed {
        let inside = format!("chunk {}", chunk.name());
        return Err(DecodeError::Checksum { inside, offset: start, stored, computed });
    }
    Ok(chunk)
}

/// What is there of a weight chunk that starts at `start` and is cut short.
pub(super) fn read_cut_weights(bytes: &[u8], start: usize) -> Option<Chunk<'_>> {
    let kind = *bytes[start..].first_chunk()?;
    let mut offset = start + kind.len();
    let len = read_varint(bytes, &mut offset, "chunk length", INSIDE).ok()?;
    let rest = &bytes[offset..];
    let payload = &rest[..rest.len().min(len as usize)];
    (&kind == WEIGHTS).then_some(Chunk { kind, payload, end: bytes.len() })
}

/// Appends a chunk.
pub(super) fn write(kind: &[u8; 4], payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(kind);
    write_varint(u32::try_from(payload.len()).expect("chunks are below 4 GiB"), out);
    out.extend_from_slice(payload);
    let crc = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

pub(super) fn cicp(payload: &[u8]) -> Result<Cicp, DecodeError> {
    let &[primaries, transfer, matrix, full_range] = payload else {
        return Err(DecodeError::MalformedChunk { kind: "cicp", rule: "it must hold four bytes" });
    };
    if matrix != 0 || full_range > 1 {
        return Err(DecodeError::MalformedChunk {
            kind: "cicp",
            rule: "MatrixCoefficients must be 0 and the range flag 0 or 1",
        });
    }
    Ok(Cicp { primaries, transfer, matrix, full_range })
}

pub(super) fn settings(payload: &[u8]) -> Result<String, DecodeError> {
    let malformed = |rule| DecodeError::MalformedChunk { kind: "sett", rule };
    if payload.len() > MAX_SETTINGS_LEN {
        return Err(malformed("it must not exceed 4096 bytes"));
    }
    let text = std::str::from_utf8(payload).map_err(|_| malformed("it must be UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(malformed("it must not hold control characters"));
    }
    Ok(text.to_owned())
}
