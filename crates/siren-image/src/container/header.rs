//! Signature and header (spec sections 2 and 3).

use half::f16;

use super::{Container, Cursor, Representation, WeightCoding, write_varint};
use crate::error::DecodeError;
use crate::network::{Channels, Topology, check_range, limits};

/// The first eight bytes of every file. The high bit shows 7-bit transfers, CR LF and
/// the lone LF show line-ending conversions, 0x1a stops a DOS `type` (as in PNG).
pub const SIGNATURE: [u8; 8] = *b"\x89SRN\r\n\x1a\n";

/// The version of the format that this crate reads and writes.
pub const VERSION: u8 = 1;

const INSIDE: &str = "the header";
const OMEGA_PRESENT: u8 = 1 << 4;
const FEATURES_PER_LAYER: u8 = 1 << 5;
const RESERVED_BITS: u8 = 0b1100_0000;

/// Bits per sample of the source picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BitDepth {
    /// 8 bits: code 0.
    Eight,
    /// 16 bits: code 1.
    Sixteen,
}

impl BitDepth {
    /// 8 or 16.
    pub fn bits(self) -> u8 {
        match self {
            Self::Eight => 8,
            Self::Sixteen => 16,
        }
    }

    /// Bytes of one sample: 1 or 2.
    pub fn bytes(self) -> usize {
        usize::from(self.bits() / 8)
    }
}

impl WeightCoding {
    /// What stands for it in the header.
    fn code(self) -> u8 {
        match self {
            Self::F16 => 0,
            Self::Compact => 1,
        }
    }
}

/// The omega_0 that training used. It is folded into the stored weights, so no decoder
/// needs it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingOmega {
    /// omega_0 of the first layer.
    pub first: f32,
    /// omega_0 of the other hidden layers.
    pub hidden: f32,
}

/// The fields of the header.
pub(super) struct Header {
    pub width: u32,
    pub height: u32,
    pub depth: BitDepth,
    pub topology: Topology,
    pub omega: Option<TrainingOmega>,
    pub representation: Representation,
    pub coding: WeightCoding,
}

/// Reads signature and header; returns the offset of the first chunk as well.
pub(super) fn read(bytes: &[u8]) -> Result<(Header, usize), DecodeError> {
    check_signature(bytes)?;
    let mut cursor = Cursor::new(bytes, SIGNATURE.len(), INSIDE);
    let fields = Fields::read(&mut cursor)?;
    cursor.checksum(0, || "header".into())?;
    // The header is what its writer meant; now see whether we can follow it.
    Ok((fields.header()?, cursor.position()))
}

/// What the header says, whatever it means.
struct Fields {
    representation: u8,
    coding: u8,
    format: u8,
    format_offset: usize,
    width: u32,
    height: u32,
    hidden: Vec<usize>,
    omega: Option<TrainingOmega>,
}

impl Fields {
    fn read(cursor: &mut Cursor) -> Result<Self, DecodeError> {
        let version = cursor.byte()?;
        if version != VERSION {
            return Err(match version {
                0 => DecodeError::Reserved { field: "version", value: 0, offset: 8 },
                newer => DecodeError::UnsupportedVersion(newer),
            });
        }
        let [representation, coding] = cursor.array()?;
        let format_offset = cursor.position();
        let format = cursor.byte()?;
        let width = cursor.varint("width")?;
        let height = cursor.varint("height")?;
        let hidden_layers = usize::from(cursor.byte()?);
        check_range("hidden layers", hidden_layers as u64, 1, limits::MAX_HIDDEN_LAYERS as u64)?;
        let listed = if format & FEATURES_PER_LAYER == 0 { 1 } else { hidden_layers };
        let mut hidden = Vec::with_capacity(hidden_layers);
        for _ in 0..listed {
            hidden.push(cursor.varint("hidden features")? as usize);
        }
        let first = hidden.first().copied().unwrap_or_default();
        hidden.resize(hidden_layers, first);
        let omega = if format & OMEGA_PRESENT == 0 {
            None
        } else {
            let mut value = || Ok::<_, DecodeError>(f16::from_le_bytes(cursor.array()?).to_f32());
            Some(TrainingOmega { first: value()?, hidden: value()? })
        };
        Ok(Self { representation, coding, format, format_offset, width, height, hidden, omega })
    }

    fn header(self) -> Result<Header, DecodeError> {
        let Self { format, format_offset, width, height, hidden, omega, .. } = self;
        let representation = match self.representation {
            0 => Representation::Siren,
            1 => Representation::Latents,
            other => return Err(DecodeError::UnsupportedRepresentation(other)),
        };
        let coding = match self.coding {
            0 => WeightCoding::F16,
            1 => WeightCoding::Compact,
            other => return Err(DecodeError::UnsupportedWeightCoding(other)),
        };
        check_grid(representation, coding, hidden.len())?;
        let reserved = |field, value: u8| DecodeError::Reserved {
            field,
            value: value.into(),
            offset: format_offset,
        };
        if format & RESERVED_BITS != 0 {
            return Err(reserved("format bits", format >> 6));
        }
        let depth = match format >> 2 & 3 {
            0 => BitDepth::Eight,
            1 => BitDepth::Sixteen,
            other => return Err(reserved("bit depth code", other)),
        };
        let channels =
            Channels::from_count(usize::from(format & 3) + 1).expect("two bits, one to four");
        check_range("width", width.into(), 1, limits::MAX_DIMENSION.into())?;
        check_range("height", height.into(), 1, limits::MAX_DIMENSION.into())?;
        if omega.is_some_and(|o| !(o.first.is_finite() && o.hidden.is_finite())) {
            return Err(reserved("training omega_0 (not finite)", 0));
        }
        let topology = Topology::new(channels, hidden)?;
        Ok(Header { width, height, depth, topology, omega, representation, coding })
    }
}

/// Latents have one hidden layer and the compact weight coding.
fn check_grid(
    representation: Representation,
    coding: WeightCoding,
    hidden_layers: usize,
) -> Result<(), DecodeError> {
    if representation == Representation::Latents {
        check_range("weight coding of a grid", coding.code().into(), 1, 1)?;
        check_range("hidden layers of a grid", hidden_layers as u64, 1, 1)?;
    }
    Ok(())
}

/// Writes signature and header of `container`.
pub(super) fn write(container: &Container, out: &mut Vec<u8>) {
    let dimensions = 1..=limits::MAX_DIMENSION;
    assert!(dimensions.contains(&container.width) && dimensions.contains(&container.height));
    let topology = &container.topology;
    let uniform = topology.uniform_features();
    let depth = match container.depth {
        BitDepth::Eight => 0,
        BitDepth::Sixteen => 1,
    };
    let mut format = topology.channels().count().saturating_sub(1) as u8 | depth << 2;
    if container.omega.is_some() {
        format |= OMEGA_PRESENT;
    }
    if uniform.is_none() {
        format |= FEATURES_PER_LAYER;
    }
    check_grid(container.representation, container.coding, topology.hidden().len())
        .expect("a grid of the format");
    let representation = match container.representation {
        Representation::Siren => 0,
        Representation::Latents => 1,
    };
    out.extend_from_slice(&SIGNATURE);
    out.extend_from_slice(&[VERSION, representation, container.coding.code(), format]);
    write_varint(container.width, out);
    write_varint(container.height, out);
    out.push(topology.hidden().len() as u8);
    let listed = if uniform.is_some() { 1 } else { topology.hidden().len() };
    for &features in topology.hidden().iter().take(listed) {
        write_varint(features as u32, out);
    }
    if let Some(omega) = container.omega {
        for value in [omega.first, omega.hidden] {
            out.extend_from_slice(&f16::from_f32(value).to_le_bytes());
        }
    }
    let crc = crc32fast::hash(out);
    out.extend_from_slice(&crc.to_le_bytes());
}

fn check_signature(bytes: &[u8]) -> Result<(), DecodeError> {
    let start = bytes.get(..SIGNATURE.len()).unwrap_or(bytes);
    if start == SIGNATURE {
        return Ok(());
    }
    if !start.is_empty() && SIGNATURE.starts_with(start) {
        return Err(DecodeError::Truncated { offset: bytes.len(), inside: "the signature" });
    }
    let found = start.to_vec();
    let letters = start.get(1..4) == Some(&SIGNATURE[1..4]);
    let high_bit_lost = start.first().is_some_and(|&b| b == SIGNATURE[0] & 0x7f);
    let high_bit_kept = start.first() == Some(&SIGNATURE[0]);
    Err(if letters && (high_bit_kept || high_bit_lost) {
        DecodeError::SignatureDamaged { found }
    } else {
        DecodeError::NotSiren { found }
    })
}
