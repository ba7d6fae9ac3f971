//! Step sizes and rounding of a network's weights for a wanted number of bytes. Knows the
//! compact weight coding; trains nothing and knows no pixels.

use siren_image::coding::compact::{self, Quantized, STEP_CODES, Steps};
use siren_image::container::BitDepth;
use siren_image::network::Siren;

/// What an error of a layer's weights does to the picture: the mean of the Gauss-Newton
/// diagonal, for squared errors summed over the channels, with respect to the weights as
/// they are in a [`Siren`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sensitivity {
    pub weights: f64,
    pub biases: f64,
}

/// Steps that let the weights of `siren`, rounded to the nearest, take at most `bytes`.
///
/// A step is inversely proportional to the root of its group's sensitivity, so that each
/// group adds the same error per weight: reverse water-filling at high rates.
pub(crate) fn allocate(siren: &Siren, sensitivities: &[Sensitivity], bytes: usize) -> Vec<Steps> {
    let at = |level: f64| -> Vec<Steps> {
        let code = |sensitivity: f64| {
            let size = level - 0.5 * sensitivity.max(1e-12).log2();
            ((4.0 * size).round() as i32).clamp(*STEP_CODES.start(), *STEP_CODES.end())
        };
        let steps = |s: &Sensitivity| Steps { weights: code(s.weights), biases: code(s.biases) };
        sensitivities.iter().map(steps).collect()
    };
    let fits = |steps: &[Steps]| size(&Quantized::nearest(siren, steps)) <= bytes;
    // Steps from 2^-20 to 2^10 at a sensitivity of 1.
    let (mut small, mut large) = (-20.0, 10.0);
    for _ in 0..12 {
        let middle = 0.5 * (small + large);
        if fits(&at(middle)) { large = middle } else { small = middle }
    }
    at(large)
}

/// Bytes of the payload.
fn size(quantized: &Quantized) -> usize {
    compact::encode(quantized).len()
}

/// Rounds the weights so that they take at most `bytes`: to the nearest step if that
/// suffices, else by rate and distortion, as gently as possible, else with larger steps.
pub(crate) fn fit(
    siren: &Siren,
    steps: &[Steps],
    sensitivities: &[Sensitivity],
    bytes: usize,
) -> Quantized {
    let nearest = Quantized::nearest(siren, steps);
    if size(&nearest) <= bytes {
        return nearest;
    }
    let round = |lambda: f64| rate_distortion(siren, steps, &nearest, lambda);
    let (mut low, mut high) = (0.0, MOST_LAMBDA);
    let mut best = round(high);
    if size(&best) > bytes {
        return Quantized::nearest(siren, &allocate(siren, sensitivities, bytes));
    }
    for _ in 0..10 {
        let middle = 0.5 * (low + high);
        let rounded = round(middle);
        if size(&rounded) <= bytes {
            (best, high) = (rounded, middle);
        } else {
            low = middle;
        }
    }
    best
}

/// Squared steps that a bit may cost. At high rates a finer step trades a bit for
/// 2 ln 2 / 12 = 0.116 of them; beyond twice that larger steps are better.
const MOST_LAMBDA: f64 = 0.25;

/// Rounds each weight up or down, whichever has the lower sum of squared error and
/// `lambda` times its bits.
fn rate_distortion(siren: &Siren, steps: &[Steps], nearest: &Quantized, lambda: f64) -> Quantized {
    let distributions: Vec<_> = nearest.layers().iter().map(compact::distribution).collect();
    Quantized::new(siren, steps, |value, layer, bias| {
        if bias {
            return value.round() as i32;
        }
        let cost = |q: f64| (q - value).powi(2) + lambda * distributions[layer].bits(q as i32);
        let (down, up) = (value.floor(), value.ceil());
        (if cost(down) <= cost(up) { down } else { up }) as i32
    })
}

/// A network of one colour: all weights but the last biases are 0.
pub(crate) fn constant(siren: &Siren, depth: BitDepth) -> Quantized {
    let fine = match depth {
        BitDepth::Eight => -40,
        BitDepth::Sixteen => -72,
    };
    Quantized::nearest(siren, &vec![Steps { weights: 0, biases: fine }; siren.layers().len()])
}
