//! Why a file is refused, and why a device fails: each variant a rule that was broken.
//! Knows the vocabulary of the format; prints nothing and decides nothing.

use thiserror::Error;

/// Why a `.siren` file was refused. Offsets are in bytes from the start of the file.
#[derive(Debug, Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The file does not begin with the signature (spec section 2).
    #[error("not a .siren file: it begins with {}", hex(.found))]
    NotSiren {
        /// The first bytes of the file, at most eight.
        found: Vec<u8>,
    },
    /// The signature was altered the way text-mode or 7-bit transfers do.
    #[error(
        "a .siren file damaged by a text-mode or 7-bit transfer (signature {}): transfer it again as binary",
        hex(.found)
    )]
    SignatureDamaged {
        /// The first bytes of the file, at most eight.
        found: Vec<u8>,
    },
    /// The file ends in the middle of something.
    #[error("truncated: the file ends at byte {offset}, inside {inside}")]
    Truncated {
        /// Length of the file.
        offset: usize,
        /// What was being read.
        inside: &'static str,
    },
    /// A newer version of the format.
    #[error("format version {0} is newer than this decoder (it knows version 1): update sirenc")]
    UnsupportedVersion(u8),
    /// A representation this decoder does not know.
    #[error("representation {0} is not known to this decoder: update sirenc")]
    UnsupportedRepresentation(u8),
    /// A weight coding this decoder does not know.
    #[error("weight coding {0} is not known to this decoder: update sirenc")]
    UnsupportedWeightCoding(u8),
    /// A reserved value or bit is set.
    #[error("reserved {field} has the value {value} (offset {offset})")]
    Reserved {
        /// Name of the header field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// Where it stands.
        offset: usize,
    },
    /// A variable-length integer is not in its shortest form or exceeds 32 bits.
    #[error("malformed integer for {field} at offset {offset}")]
    MalformedInteger {
        /// Name of the field.
        field: &'static str,
        /// Where it starts.
        offset: usize,
    },
    /// A field lies outside the limits of the format (spec section 9).
    #[error("{field} is {value}; the format allows {min} to {max}")]
    OutOfRange {
        /// Name of the field.
        field: &'static str,
        /// The value found.
        value: u64,
        /// Least allowed value.
        min: u64,
        /// Largest allowed value.
        max: u64,
    },
    /// A checksum does not match its bytes.
    #[error(
        "checksum mismatch in {inside} at offset {offset}: stored {stored:08x}, computed {computed:08x}; the file is corrupt"
    )]
    Checksum {
        /// `header` or the chunk's type.
        inside: String,
        /// Where the header or chunk starts.
        offset: usize,
        /// The CRC-32 in the file.
        stored: u32,
        /// The CRC-32 of the bytes.
        computed: u32,
    },
    /// A chunk type that is not four ASCII letters.
    #[error("malformed chunk type {} at offset {offset}", hex(.found))]
    MalformedChunkType {
        /// The four bytes found.
        found: [u8; 4],
        /// Where they stand.
        offset: usize,
    },
    /// A critical chunk this decoder does not know.
    #[error("critical chunk {kind} at offset {offset} is not known to this decoder: update sirenc")]
    UnknownCriticalChunk {
        /// The chunk's type.
        kind: String,
        /// Where it starts.
        offset: usize,
    },
    /// A chunk that may stand once stands twice.
    #[error("second {kind} chunk at offset {offset}")]
    DuplicateChunk {
        /// The chunk's type.
        kind: String,
        /// Where the second one starts.
        offset: usize,
    },
    /// A chunk's payload breaks the rules of its type.
    #[error("malformed {kind} chunk: {rule}")]
    MalformedChunk {
        /// The chunk's type.
        kind: &'static str,
        /// The broken rule.
        rule: &'static str,
    },
    /// The weight payload has the wrong length for the header's topology.
    #[error("the weights take {found} bytes, the header's topology needs {expected}")]
    WeightLength {
        /// Bytes the topology needs.
        expected: u64,
        /// Bytes in the chunk.
        found: u64,
    },
    /// The entropy-coded weights are not what the coding can write.
    #[error("malformed weights of layer {layer}: {rule}")]
    MalformedWeights {
        /// Layer from 0 on, the output layer last.
        layer: usize,
        /// The broken rule.
        rule: &'static str,
    },
    /// The entropy-coded latents are not what the coding can write.
    #[error("malformed latents of plane {plane}, tile {tile}: {rule}")]
    MalformedLatents {
        /// The plane, 0 the finest.
        plane: usize,
        /// Number of the tile in its plane, row by row.
        tile: usize,
        /// The broken rule.
        rule: &'static str,
    },
    /// A weight is NaN or infinite.
    #[error("weight {index} is {value}; weights must be finite")]
    NonFiniteWeight {
        /// Index in file order.
        index: usize,
        /// The value.
        value: f32,
    },
    /// Bytes follow the last chunk.
    #[error("{count} bytes follow the end of the picture at offset {offset}")]
    TrailingData {
        /// Where the file should have ended.
        offset: usize,
        /// How many bytes follow.
        count: usize,
    },
    /// The requested render, or the file itself, is larger than the limits in force.
    #[error("{what} of {requested} exceeds the limit of {limit}")]
    LimitExceeded {
        /// What would be too large.
        what: Limit,
        /// The size asked for.
        requested: u64,
        /// The limit in force.
        limit: u64,
    },
    /// The requested view is not a rectangle of pixels.
    #[error("invalid view: {0}")]
    InvalidView(&'static str),
    /// The requested derivative has a gain that shows nothing.
    #[error("invalid gain: {0}")]
    InvalidGain(&'static str),
}

/// One of the bounds on what a decoder does for a file.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// [`Limits::max_pixels`](crate::Limits::max_pixels).
    #[error("a number of pixels")]
    Pixels,
    /// [`Limits::max_dimension`](crate::Limits::max_dimension).
    #[error("a side in pixels")]
    Dimension,
    /// [`Limits::max_weights`](crate::Limits::max_weights).
    #[error("a number of weights")]
    Weights,
    /// [`Limits::max_memory`](crate::Limits::max_memory).
    #[error("memory in bytes")]
    Memory,
    /// [`Limits::max_operations`](crate::Limits::max_operations).
    #[error("a number of operations")]
    Operations,
}

/// Why samples are no [`Raster`](crate::Raster).
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RasterError {
    /// A side has no pixels.
    #[error("{width}x{height} is not a picture")]
    Empty {
        /// Pixels from left to right.
        width: u32,
        /// Pixels from top to bottom.
        height: u32,
    },
    /// There are not as many samples as the pixels have channels.
    #[error("{found} samples for {width}x{height} pixels, which take {wanted}")]
    SampleCount {
        /// Pixels from left to right.
        width: u32,
        /// Pixels from top to bottom.
        height: u32,
        /// Samples that so many pixels take.
        wanted: u64,
        /// Samples that there are.
        found: u64,
    },
    /// Samples are floating-point numbers, whose range is not known.
    #[error("floating-point pictures are not supported; convert to 16 bits first")]
    FloatingPoint,
    /// Pixels of another kind.
    #[error("pictures of {0} are not supported")]
    Unsupported(String),
}

/// Why a device other than the CPU cannot do what it was asked for, in words for people.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{0}")]
pub struct DeviceError(String);

impl DeviceError {
    /// What went wrong.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// Bytes as spaced hexadecimal, `(nothing)` when there are none.
fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "(nothing)".into();
    }
    let parts: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    parts.join(" ")
}
