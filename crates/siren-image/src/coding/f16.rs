//! Weight coding 0: every weight as IEEE 754 binary16, little-endian (spec section 6.1).

use byteorder::{ByteOrder, LittleEndian};
use half::f16;

use crate::error::DecodeError;
use crate::network::{Siren, Topology};

/// Reads a payload.
///
/// # Errors
/// [`DecodeError::WeightLength`] or [`DecodeError::NonFiniteWeight`].
pub fn decode(topology: &Topology, payload: &[u8]) -> Result<Siren, DecodeError> {
    let expected = 2 * topology.weight_count();
    if payload.len() != expected {
        let (expected, found) = (expected as u64, payload.len() as u64);
        return Err(DecodeError::WeightLength { expected, found });
    }
    let value = |raw| f16::from_bits(LittleEndian::read_u16(raw)).to_f32();
    let weights: Vec<f32> = payload.chunks_exact(2).map(value).collect();
    Siren::from_weights(topology.clone(), &weights)
}

/// The payload. Rounds to nearest even; what exceeds the range of binary16 becomes its
/// largest value.
pub fn encode(siren: &Siren) -> Vec<u8> {
    let (min, max) = (f16::MIN.to_f32(), f16::MAX.to_f32());
    let weights = siren.weights();
    weights.iter().flat_map(|w| f16::from_f32(w.clamp(min, max)).to_le_bytes()).collect()
}
