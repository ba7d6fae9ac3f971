//! From trained latents to what a file holds: the weights of the networks as integers, with
//! steps that weigh their bits against the picture and the latents, and rounded latents.

use super::model::{LatentModel, Networks};
use super::{Picture, Shape, Stage, Trained, context};
use siren_image::Size;
use siren_image::coding::compact::{QuantizedLayer, STEP_CODES, Steps, step_size};
use siren_image::coding::latents::{Context, IntegerLayer, MAX_DROP};
use siren_image::coding::payload::{self, Networks as Rounded};
use siren_image::latents::{Bases, Basis, Plane};

/// Bits of the largest weight before steps are made larger: of the synthesis, whose weights are
/// the finer the longer they were trained, and of the entropy model.
const FINEST: (f64, f64) = (12.0, 9.0);
/// Step codes from one try to the next: half an octave.
const STRIDE: i32 = 2;
/// Pixels, and latents, on which tries are measured.
const SAMPLE: usize = 1 << 19;

/// How finely the weights are rounded.
#[derive(Debug, Clone, Copy)]
struct Grain {
    sine: Steps,
    output: Steps,
    /// Of the layers of the entropy models, one model after the other.
    drops: [u32; 6],
}

/// How many of the parts of a [`Grain`], each tried by itself, the picture hangs on.
const PICTURE_PARTS: usize = 4;

impl Grain {
    /// The finest that is tried.
    fn finest(networks: &Networks) -> Self {
        let steps = |rows: &[f32], inputs: usize| {
            let most = |bias: bool| {
                let values = rows.chunks_exact(inputs + 1);
                let part =
                    |row: &'_ [f32]| if bias { row[inputs].abs() } else { largest(&row[..inputs]) };
                values.map(part).fold(0.0, f32::max)
            };
            let code = |most: f32| {
                let step = f64::from(most.max(1e-6)).log2() - FINEST.0;
                ((4.0 * step).round() as i32).clamp(*STEP_CODES.start(), *STEP_CODES.end())
            };
            Steps { weights: code(most(false)), biases: code(most(true)) }
        };
        let shape = networks.shape.synthesis();
        let drop = |l: usize| {
            let layer = networks.entropy.iter().flatten().nth(l);
            let most = f64::from(layer.map_or(0.0, |layer| largest(layer)).max(1e-3));
            let scaled = FINEST.1 - most.log2() - f64::from(raised(l));
            scaled.round().clamp(0.0, f64::from(MAX_DROP)) as u32
        };
        Self {
            sine: steps(&networks.sine, shape.planes),
            output: steps(&networks.output, shape.sines + shape.planes),
            drops: std::array::from_fn(drop),
        }
    }

    /// The same with one part coarser, if it can be.
    fn coarser(mut self, part: usize) -> Option<Self> {
        let step = match part {
            0 => &mut self.output.weights,
            1 => &mut self.sine.weights,
            2 => &mut self.output.biases,
            3 => &mut self.sine.biases,
            _ => {
                let drop = &mut self.drops[part - 4];
                *drop = drop.checked_sub(1)?;
                return Some(self);
            }
        };
        *step += STRIDE;
        STEP_CODES.contains(step).then_some(self)
    }
}

/// What networks cost on part of the picture, scaled up to the whole of it.
struct Sample<'a> {
    model: &'a mut LatentModel,
    stage: Stage<'a>,
    lambda: f64,
    /// One of so many blocks and bands is measured.
    share: usize,
}

impl<'a> Sample<'a> {
    fn new(model: &'a mut LatentModel, picture: &'a Picture<'a>, lambda: f64) -> Self {
        let share = (picture.width * picture.height).div_ceil(SAMPLE);
        let stage = Stage { base: 0, shift: 0, picture };
        Self { model, stage, lambda, share }
    }

    fn errors(&mut self, networks: &Networks) -> f64 {
        self.model.set_networks(networks);
        self.model.errors(&self.stage, self.share)
    }

    fn bits(&mut self, networks: &Networks) -> f64 {
        self.model.set_networks(networks);
        self.lambda * self.model.bits(self.share)
    }
}

/// Bits that the inputs of layer `l` of the entropy models lack of those of the others.
fn raised(l: usize) -> u32 {
    if l.is_multiple_of(3) { 6 } else { 0 }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// The networks in integers, and as a decoder sees them.
fn rounded(networks: &Networks, grain: &Grain) -> Option<(Rounded, Networks)> {
    let mut seen = networks.clone();
    let quantize = |rows: &[f32], inputs: usize, steps: Steps, seen: &mut Vec<f32>| {
        let (weight, bias) = (step_size(steps.weights), step_size(steps.biases));
        let mut layer = QuantizedLayer { steps, weights: Vec::new(), biases: Vec::new() };
        seen.clear();
        for row in rows.chunks_exact(inputs + 1) {
            for (k, &value) in row.iter().enumerate() {
                let step = if k < inputs { weight } else { bias };
                let integer = (f64::from(value) / step).round();
                seen.push((integer * step) as f32);
                let to = if k < inputs { &mut layer.weights } else { &mut layer.biases };
                to.push(integer as i32);
            }
        }
        layer
    };
    let shape = networks.shape.synthesis();
    let sines = quantize(&networks.sine, shape.planes, grain.sine, &mut seen.sine);
    let inputs = shape.sines + shape.planes;
    let output = quantize(&networks.output, inputs, grain.output, &mut seen.output);
    let mut models = Vec::new();
    for (model, shape) in networks.shape.contexts().into_iter().enumerate() {
        let mut layers = Vec::new();
        for (layer, (inputs, _)) in shape.layers().into_iter().enumerate() {
            let drop = grain.drops[3 * model + layer];
            let unit = f64::from(1u32 << (drop + raised(layer)));
            let (mut weights, mut biases) = (Vec::new(), Vec::new());
            let values = networks.entropy[model][layer].iter();
            for (value, seen) in values.zip(&mut seen.entropy[model][layer]) {
                let integer = (f64::from(*value) * unit).round();
                *seen = (integer / unit) as f32;
                let bias = (weights.len() + biases.len()) % (inputs + 1) == inputs;
                if bias { &mut biases } else { &mut weights }.push(integer as i32);
            }
            layers.push(IntegerLayer::new(drop, weights, biases).ok()?);
        }
        let context::ContextShape { inputs, hidden: [h1, h2], outputs } = shape;
        models.push(Context::new([inputs, h1, h2, outputs], layers.try_into().ok()?).ok()?);
    }
    let mut models = models.into_iter();
    let splines = models.next()?;
    Some((Rounded { sines, output, splines, waves: models.next() }, seen))
}

impl Trained<'_> {
    /// Rounds the latents to the nearest and then the networks: each part's steps grow as long
    /// as squared error plus lambda times the bits falls.
    pub fn round_networks(&mut self) -> Rounded {
        self.model.cpu.end_training();
        self.model.cpu.harden();
        let Self { model, picture, lambda, .. } = self;
        let networks = model.networks();
        let mut grain = Grain::finest(&networks);
        let mut best = loop {
            // Sums of the entropy model may be too large for fine weights.
            if let Some(rounded) = rounded(&networks, &grain) {
                break rounded;
            }
            let all = 0..grain.drops.len();
            let finest = all.filter(|&l| grain.drops[l] > 0).max_by_key(|&l| grain.drops[l]);
            let Some(l) = finest else {
                // Not even the coarsest weights fit: the entropy model says nothing then.
                let mut silent = networks.clone();
                silent.entropy.iter_mut().flatten().for_each(|layer| layer.fill(0.0));
                break rounded(&silent, &grain).expect("zeros fit");
            };
            grain.drops[l] -= 1;
        };
        let mut sample = Sample::new(model, picture, *lambda);
        let mut errors = sample.errors(&best.1);
        let mut bits = sample.bits(&best.1);
        let bytes = |networks: &Rounded| 8.0 * networks.encode().len() as f64 * *lambda;
        let mut cost = errors + bits + bytes(&best.0);
        let parts = PICTURE_PARTS + 3 * networks.entropy.len();
        for part in 0..parts {
            while let Some(next) = grain.coarser(part) {
                let Some(candidate) = rounded(&networks, &next) else { break };
                let (mut new_errors, mut new_bits) = (errors, bits);
                if part < PICTURE_PARTS {
                    new_errors = sample.errors(&candidate.1);
                } else {
                    new_bits = sample.bits(&candidate.1);
                }
                let new_cost = new_errors + new_bits + bytes(&candidate.0);
                if new_cost >= cost {
                    break;
                }
                (grain, best) = (next, candidate);
                (errors, bits, cost) = (new_errors, new_bits, new_cost);
            }
        }
        self.model.set_networks(&best.1);
        best.0
    }

    /// Takes those latents away that are worth least for their bits, the more the larger `factor`
    /// is; 1 is what training weighed them with.
    pub fn thin_out(&mut self, factor: f64) {
        let stage = Stage { base: 0, shift: 0, picture: &self.picture };
        self.model.thin_out(&stage, factor * self.lambda);
    }

    /// The rounded latents, the finest plane first.
    pub fn latents(&self) -> Vec<Vec<f32>> {
        self.model.cpu.rounded().map(<[f32]>::to_vec).collect()
    }

    /// Goes back to rounded latents.
    pub fn set_latents(&mut self, latents: &[Vec<f32>]) {
        self.model.cpu.set_rounded(latents);
    }

    /// The payload.
    pub fn payload(&self, networks: &Rounded) -> Vec<u8> {
        let &Picture { width, height, .. } = &self.picture;
        let size = Size { width: width as u32, height: height as u32 };
        let planes = self.model.shape.bases.iter().zip(self.model.cpu.rounded());
        let plane = |(basis, values): (Basis, &[f32])| {
            let mut plane = Plane::new(basis, size);
            let most = f32::from(i16::MAX);
            for (to, value) in plane.values_mut().iter_mut().zip(values) {
                *to = value.clamp(-most, most) as i16;
            }
            plane
        };
        let planes: Vec<Plane> = planes.map(plane).collect();
        payload::encode(&planes, networks)
    }
}

impl Networks {
    /// The networks of a file with such planes.
    pub fn of_file(file: &Rounded, bases: Bases, channels: usize) -> Self {
        let rows = |layer: &QuantizedLayer| -> Vec<f32> {
            let layer = layer.layer();
            let rows = layer.weights.chunks_exact(layer.inputs).zip(&layer.biases);
            rows.flat_map(|(row, bias)| row.iter().chain([bias])).copied().collect()
        };
        let entropy = |context: &Context| {
            [0, 1, 2].map(|l| {
                let layer = &context.layers()[l];
                let unit = (1u32 << (layer.drop() + raised(l))) as f32;
                let inputs = layer.weights().len() / layer.biases().len();
                let rows = layer.weights().chunks_exact(inputs).zip(layer.biases());
                rows.flat_map(|(row, b)| row.iter().chain([b])).map(|&w| w as f32 / unit).collect()
            })
        };
        let (sines, hidden) = (file.sines.biases.len(), file.hidden());
        Self {
            shape: Shape { bases, sines, hidden, channels },
            sine: rows(&file.sines),
            output: rows(&file.output),
            entropy: [&file.splines].into_iter().chain(&file.waves).map(entropy).collect(),
        }
    }
}
