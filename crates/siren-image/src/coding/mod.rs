//! Weight payload to [`Siren`] and back, one file per weight coding (spec section 6).
//! Knows no chunks and no files.

pub mod compact;
pub mod entropy;
pub mod f16;
pub mod latents;
pub mod payload;
pub mod waves;

use crate::container::WeightCoding;
use crate::error::DecodeError;
use crate::network::{Siren, Topology};

/// Decodes the weights of a network of the given topology.
///
/// # Errors
/// [`DecodeError::WeightLength`], [`DecodeError::MalformedWeights`] or
/// [`DecodeError::NonFiniteWeight`].
pub fn decode(
    coding: WeightCoding,
    topology: &Topology,
    payload: &[u8],
) -> Result<Siren, DecodeError> {
    match coding {
        WeightCoding::F16 => f16::decode(topology, payload),
        WeightCoding::Compact => compact::decode(topology, payload)?.siren(),
    }
}

/// Bits that a weight of each layer takes on average, biases included, first layer first.
///
/// # Errors
/// As [`decode`].
pub fn bits_per_weight(
    coding: WeightCoding,
    topology: &Topology,
    payload: &[u8],
) -> Result<Vec<f64>, DecodeError> {
    let counts = topology.layers().map(|(inputs, outputs)| ((inputs + 1) * outputs) as f64);
    Ok(match coding {
        WeightCoding::F16 => counts.map(|_| 16.0).collect(),
        WeightCoding::Compact => {
            let bits = compact::bits_by_layer(&compact::decode(topology, payload)?);
            bits.iter().zip(counts).map(|(bits, count)| bits / count).collect()
        }
    })
}
