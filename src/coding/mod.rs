//! Weight payload to [`Siren`] and back, one file per weight coding (spec section 6).
//! Knows no chunks and no files.

mod f16;

use crate::container::WeightCoding;
use crate::error::DecodeError;
use crate::network::{Siren, Topology};

/// Decodes the weights of a network of the given topology.
///
/// # Errors
/// [`DecodeError::WeightLength`] or [`DecodeError::NonFiniteWeight`].
pub fn decode(
    coding: WeightCoding,
    topology: &Topology,
    payload: &[u8],
) -> Result<Siren, DecodeError> {
    match coding {
        WeightCoding::F16 => f16::decode(topology, payload),
    }
}

/// Encodes the weights of a network; values are rounded to what the coding can hold.
pub fn encode(coding: WeightCoding, siren: &Siren) -> Vec<u8> {
    match coding {
        WeightCoding::F16 => f16::encode(siren),
    }
}
