//! Weight coding 1: integers with a step size for each group of weights, entropy-coded
//! (spec section 6.2).

use super::entropy::{
    Logistic, MAX_MAGNITUDE, MAX_ORDER, Malformed, Reader, WIDTHS, Writer, natural_bits,
};
use crate::error::DecodeError;
use crate::network::{Layer, Siren, Topology};

/// A network with integer weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantized {
    topology: Topology,
    layers: Vec<QuantizedLayer>,
}

/// The integers of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantizedLayer {
    /// Step sizes of weights and biases.
    pub steps: Steps,
    /// `W` in steps, row by row.
    pub weights: Vec<i32>,
    /// `b` in steps.
    pub biases: Vec<i32>,
}

impl QuantizedLayer {
    /// The layer that a decoder sees; a weight that exceeds the range of f32 is infinite.
    pub fn layer(&self) -> Layer {
        let values = |integers: &[i32], code| {
            let size = step_size(code);
            integers.iter().map(|&q| (f64::from(q) * size) as f32).collect::<Vec<_>>()
        };
        let outputs = self.biases.len();
        Layer {
            inputs: self.weights.len() / outputs,
            outputs,
            weights: values(&self.weights, self.steps.weights),
            biases: values(&self.biases, self.steps.biases),
        }
    }
}

/// The step sizes of a layer as codes: 2^(code / 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// Of the weights.
    pub weights: i32,
    /// Of the biases.
    pub biases: i32,
}

/// Largest magnitude of an integer that [`encode`] can write: readers refuse Exp-Golomb codes that
/// reach 2^24, and the one of a bias is 1 more at least.
const MOST: i32 = MAX_MAGNITUDE - 2;

/// Least and largest code of a step size.
pub const STEP_CODES: std::ops::RangeInclusive<i32> = -100..=27;

/// The step size of a code, the same on every machine.
pub fn step_size(code: i32) -> f64 {
    const ROOTS: [f64; 4] =
        [1.0, 1.189_207_115_002_721, std::f64::consts::SQRT_2, 1.681_792_830_507_429];
    ROOTS[code.rem_euclid(4) as usize] * 2f64.powi(code.div_euclid(4))
}

impl Quantized {
    /// `siren` with every weight rounded to the nearest step.
    ///
    /// # Panics
    /// If there is not one pair of steps a layer.
    pub fn nearest(siren: &Siren, steps: &[Steps]) -> Self {
        Self::new(siren, steps, |value, _, _| value.round() as i32)
    }

    /// The same with a rounding of one's own: a function of the weight in steps, the layer,
    /// and whether it is a bias.
    pub fn new(siren: &Siren, steps: &[Steps], round: impl Fn(f64, usize, bool) -> i32) -> Self {
        assert_eq!(siren.layers().len(), steps.len(), "a pair of steps for each layer");
        let layers =
            siren.layers().iter().zip(steps).enumerate().map(|(index, (layer, &steps))| {
                let integers = |values: &[f32], code, bias| {
                    let size = step_size(code);
                    let round = |&value: &f32| round(f64::from(value) / size, index, bias);
                    values.iter().map(|value| round(value).clamp(-MOST, MOST)).collect()
                };
                QuantizedLayer {
                    steps,
                    weights: integers(&layer.weights, steps.weights, false),
                    biases: integers(&layer.biases, steps.biases, true),
                }
            });
        Self { topology: siren.topology().clone(), layers: layers.collect() }
    }

    /// The network's shape.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The layers, first to last.
    pub fn layers(&self) -> &[QuantizedLayer] {
        &self.layers
    }

    /// The network that a decoder sees.
    ///
    /// # Errors
    /// [`DecodeError::NonFiniteWeight`] where a weight exceeds the range of f32.
    pub fn siren(&self) -> Result<Siren, DecodeError> {
        let layers = self.layers.iter().map(QuantizedLayer::layer);
        let layers = layers.flat_map(|layer| layer.weights.into_iter().chain(layer.biases));
        Siren::from_weights(self.topology.clone(), &layers.collect::<Vec<_>>())
    }

    /// The same function with sorted features in every hidden layer.
    fn sorted(&self) -> Self {
        let mut sorted = self.clone();
        for index in 1..sorted.layers.len() {
            let (before, after) = sorted.layers.split_at_mut(index);
            sort_features(&mut before[index - 1], &mut after[0]);
        }
        sorted
    }
}

/// Brings the biases of a hidden layer into positive and rising order, which saves the signs
/// and the order: `sin(-a) = -sin(a)`, and features may change places.
///
/// `next` reads the features with the first columns of its rows, which follow; columns beyond
/// them stay as they are.
pub(super) fn sort_features(layer: &mut QuantizedLayer, next: &mut QuantizedLayer) {
    let features = layer.biases.len();
    let inputs = layer.weights.len() / features;
    let columns = next.weights.len() / next.biases.len();
    let mut order: Vec<usize> = (0..features).collect();
    order.sort_by_key(|&feature| layer.biases[feature].abs());
    let sign = |feature: usize| if layer.biases[feature] < 0 { -1 } else { 1 };
    let rows = order.iter().flat_map(|&feature| {
        let row = &layer.weights[feature * inputs..][..inputs];
        row.iter().map(move |q| q * sign(feature))
    });
    let rows = rows.collect();
    for row in next.weights.chunks_exact_mut(columns) {
        let sorted: Vec<i32> = order.iter().map(|&feature| row[feature] * sign(feature)).collect();
        row[..features].copy_from_slice(&sorted);
    }
    layer.biases = order.iter().map(|&feature| layer.biases[feature].abs()).collect();
    layer.weights = rows;
}

/// Codes of the parameters that stand before a layer's integers, as far as those of the
/// layer before it tell them.
pub(super) struct Predicted {
    weight_step: i32,
    weight_width: i32,
    order: i32,
}

/// Distribution of the differences from what is predicted.
const PARAMETER_WIDTH: u8 = 20;
/// What is predicted for the first layer.
pub(super) const FIRST: Predicted = Predicted { weight_step: -24, weight_width: 46, order: 5 };
/// The steps of biases are predicted to be so much smaller than those of the weights.
const BIAS_STEP: i32 = -2;

/// The payload.
///
/// The features of hidden layers may come back in another order and with other signs, which
/// does not change the function.
///
/// # Panics
/// If a step lies outside [`STEP_CODES`].
pub fn encode(quantized: &Quantized) -> Vec<u8> {
    let sorted = quantized.sorted();
    let mut writer = Writer::default();
    let mut last = FIRST;
    let hidden = sorted.layers.len() - 1;
    for (index, layer) in sorted.layers.iter().enumerate() {
        write_layer(&mut writer, &mut last, layer, index < hidden);
    }
    writer.finish()
}

/// Writes one layer; the features of a hidden one must be sorted.
///
/// # Panics
/// If a step lies outside [`STEP_CODES`].
pub(super) fn write_layer(
    writer: &mut Writer,
    last: &mut Predicted,
    layer: &QuantizedLayer,
    is_hidden: bool,
) {
    let parameters = Logistic::of(PARAMETER_WIDTH);
    let Steps { weights: weight_step, biases: bias_step } = layer.steps;
    assert!(STEP_CODES.contains(&weight_step) && STEP_CODES.contains(&bias_step));
    let width = width_for(&layer.weights);
    writer.integer(weight_step - last.weight_step, parameters);
    writer.integer(i32::from(width) - last.weight_width, parameters);
    writer.integer(bias_step - weight_step - BIAS_STEP, parameters);
    *last = Predicted { weight_step, weight_width: width.into(), ..*last };
    let weights = Logistic::of(width);
    layer.weights.iter().for_each(|&q| writer.integer(q, weights));
    if is_hidden {
        let rises = rises(&layer.biases);
        let order = order_for(&rises);
        writer.integer(i32::from(order) - last.order, parameters);
        last.order = order.into();
        rises.iter().for_each(|&rise| writer.natural(rise, order));
    } else {
        let width = width_for(&layer.biases);
        writer.integer(i32::from(width) - last.weight_width, parameters);
        let biases = Logistic::of(width);
        layer.biases.iter().for_each(|&q| writer.integer(q, biases));
    }
}

/// The differences of the biases of a hidden layer, each from the one before it.
fn rises(biases: &[i32]) -> Vec<u32> {
    let before = std::iter::once(&0).chain(biases);
    biases.iter().zip(before).map(|(bias, before)| bias.abs_diff(*before)).collect()
}

/// The distribution that codes the weights of `layer` in the fewest bits.
pub fn distribution(layer: &QuantizedLayer) -> &'static Logistic {
    Logistic::of(width_for(&layer.weights))
}

/// The width that codes `integers` in the fewest bits, but for local minima.
pub(super) fn width_for(integers: &[i32]) -> u8 {
    let bits = |width: u8| {
        let distribution = Logistic::of(width);
        integers.iter().map(|&q| distribution.bits(q)).sum()
    };
    // The mean magnitude of a logistic distribution is 2 ln 2 times its scale.
    let mean = integers.iter().map(|q| f64::from(q.abs())).sum::<f64>() / integers.len() as f64;
    let guess = 16.0 + 4.0 * (mean / (2.0 * std::f64::consts::LN_2)).max(1e-9).log2();
    cheapest(guess.round() as u8, WIDTHS, bits)
}

fn order_for(naturals: &[u32]) -> u8 {
    let bits = |order: u8| naturals.iter().map(|&n| natural_bits(n, order)).sum();
    let most = naturals.iter().max().copied().unwrap_or(0);
    let room = (MAX_MAGNITUDE as u32 - 1).saturating_sub(most).max(1);
    cheapest(MAX_ORDER / 2, MAX_ORDER.min(room.ilog2() as u8 + 1), bits)
}

/// Walks down from `guess` to the cheapest code below `end`.
fn cheapest(guess: u8, end: u8, bits: impl Fn(u8) -> f64) -> u8 {
    let mut best = guess.min(end - 1);
    let mut least = bits(best);
    let mut walk = |up: bool| {
        while let Some(next) = if up { best.checked_add(1) } else { best.checked_sub(1) } {
            let cost = if next < end { bits(next) } else { f64::INFINITY };
            if cost >= least {
                break;
            }
            (best, least) = (next, cost);
        }
    };
    walk(true);
    walk(false);
    best
}

/// Reads a payload.
///
/// # Errors
/// [`DecodeError::MalformedWeights`] where it is no stream of such a network.
pub fn decode(topology: &Topology, payload: &[u8]) -> Result<Quantized, DecodeError> {
    let malformed =
        |index| move |Malformed(rule)| DecodeError::MalformedWeights { layer: index, rule };
    let mut reader = Reader::new(payload).map_err(malformed(0))?;
    let mut last = FIRST;
    let hidden = topology.hidden().len();
    let mut layers = Vec::with_capacity(hidden + 1);
    for (index, (inputs, outputs)) in topology.layers().enumerate() {
        let is_hidden = index < hidden;
        let layer = read_layer(&mut reader, &mut last, inputs, outputs, is_hidden);
        layers.push(layer.map_err(malformed(index))?);
    }
    reader.finish().map_err(malformed(hidden))?;
    Ok(Quantized { topology: topology.clone(), layers })
}

/// Reads one layer.
///
/// # Errors
/// [`Malformed`] where a parameter or an integer is out of range.
pub(super) fn read_layer(
    reader: &mut Reader,
    last: &mut Predicted,
    inputs: usize,
    outputs: usize,
    is_hidden: bool,
) -> Result<QuantizedLayer, Malformed> {
    let parameters = Logistic::of(PARAMETER_WIDTH);
    let parameter = |reader: &mut Reader, predicted: i32, most: std::ops::RangeInclusive<i32>| {
        let code = predicted + reader.integer(parameters)?;
        if most.contains(&code) { Ok(code) } else { Err(Malformed("a parameter out of range")) }
    };
    let widths = 0..=i32::from(WIDTHS) - 1;
    last.weight_step = parameter(reader, last.weight_step, STEP_CODES)?;
    last.weight_width = parameter(reader, last.weight_width, widths.clone())?;
    let bias_step = parameter(reader, last.weight_step + BIAS_STEP, STEP_CODES)?;
    let distribution = Logistic::of(last.weight_width as u8);
    let weights = (0..inputs * outputs).map(|_| reader.integer(distribution));
    let weights = weights.collect::<Result<_, _>>()?;
    let mut biases = Vec::with_capacity(outputs);
    if is_hidden {
        last.order = parameter(reader, last.order, 0..=i32::from(MAX_ORDER) - 1)?;
        let mut bias = 0;
        for _ in 0..outputs {
            bias += reader.natural(last.order as u8)? as i32;
            if bias >= MAX_MAGNITUDE {
                return Err(Malformed("an integer out of range"));
            }
            biases.push(bias);
        }
    } else {
        let width = parameter(reader, last.weight_width, widths)?;
        let distribution = Logistic::of(width as u8);
        for _ in 0..outputs {
            biases.push(reader.integer(distribution)?);
        }
    }
    let steps = Steps { weights: last.weight_step, biases: bias_step };
    Ok(QuantizedLayer { steps, weights, biases })
}

/// Bits that each layer takes in a payload, the parameters left out.
pub fn bits_by_layer(quantized: &Quantized) -> Vec<f64> {
    let layers = quantized.layers();
    let bits = |(index, layer): (usize, &QuantizedLayer)| {
        let signed = |integers: &[i32]| {
            let distribution = Logistic::of(width_for(integers));
            integers.iter().map(|&q| distribution.bits(q)).sum::<f64>()
        };
        let biases = if index + 1 == layers.len() {
            signed(&layer.biases)
        } else {
            let rises = rises(&layer.biases);
            let order = order_for(&rises);
            rises.iter().map(|&rise| natural_bits(rise, order)).sum()
        };
        signed(&layer.weights) + biases
    };
    layers.iter().enumerate().map(bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Channels;

    /// Found by fuzzing: biases near 2^24 steps were written in codes that no reader takes.
    #[test]
    fn weights_beyond_all_steps_are_written_and_read() {
        let topology = Topology::uniform(Channels::Rgb, 2, 5).unwrap();
        for largest in [1e3, 1e30] {
            let sign = |i: usize| if i.is_multiple_of(3) { -1.0 } else { 1.0 };
            let weights: Vec<f32> =
                (0..topology.weight_count()).map(|i| sign(i) * largest / (i + 1) as f32).collect();
            let siren = Siren::from_weights(topology.clone(), &weights).unwrap();
            for code in STEP_CODES.step_by(9) {
                let steps = vec![Steps { weights: code, biases: code }; 3];
                let written = encode(&Quantized::nearest(&siren, &steps));
                let read = decode(&topology, &written).unwrap();
                assert_eq!(encode(&read), written, "{largest} {code}");
            }
        }
    }
}
