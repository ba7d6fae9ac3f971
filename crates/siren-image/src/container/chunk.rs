//! Chunks: type, length, payload, CRC-32 (spec section 4).

use super::{Cicp, Cursor, MAX_SETTINGS_LEN, write_varint};
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
    let mut cursor = Cursor::new(bytes, start, INSIDE);
    let kind: [u8; 4] = cursor.array()?;
    if !kind.iter().all(u8::is_ascii_alphabetic) {
        return Err(DecodeError::MalformedChunkType { found: kind, offset: start });
    }
    let len = cursor.varint("chunk length")?;
    let payload = cursor.slice(len as usize)?;
    let mut chunk = Chunk { kind, payload, end: cursor.position() };
    cursor.checksum(start, || format!("chunk {}", chunk.name()))?;
    chunk.end = cursor.position();
    Ok(chunk)
}

/// What is there of a weight chunk that starts at `start` and is cut short.
pub(super) fn read_cut_weights(bytes: &[u8], start: usize) -> Option<Chunk<'_>> {
    let mut cursor = Cursor::new(bytes, start, INSIDE);
    let kind: [u8; 4] = cursor.array().ok()?;
    let len = cursor.varint("chunk length").ok()?;
    let rest = cursor.rest();
    let payload = rest.get(..len as usize).unwrap_or(rest);
    (&kind == WEIGHTS).then_some(Chunk { kind, payload, end: bytes.len() })
}

/// Appends a chunk.
pub(super) fn write(kind: &[u8; 4], payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(kind);
    write_varint(u32::try_from(payload.len()).expect("chunks are below 4 GiB"), out);
    out.extend_from_slice(payload);
    let crc = crc32fast::hash(out.get(start..).unwrap_or_default());
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
