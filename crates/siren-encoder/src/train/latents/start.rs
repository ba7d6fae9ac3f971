//! The networks that training starts from: trained on other photographs, or random.
//!
//! Those in `start/` were trained on a mosaic of public-domain photographs (the pictures of
//! scikit-image and scikit-learn; docs/experiments.md tells how).

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Shape;
use super::model::Networks;
use siren_image::coding::payload::Networks as Rounded;
use siren_image::network::{Channels, Topology};

/// Networks for RGB.
struct Trained {
    sines: usize,
    hidden: [usize; 2],
    /// The lambda that they were trained for.
    lambda: f64,
    stream: &'static [u8],
}

/// Levels of the trained networks.
const LEVELS: usize = 7;
const TRAINED: [Trained; 5] = [
    Trained::new(12, [8, 8], 1e-2, include_bytes!("start/12-8-8.bin")),
    Trained::new(20, [12, 8], 6e-3, include_bytes!("start/20-12-8.bin")),
    Trained::new(32, [16, 16], 3e-3, include_bytes!("start/32-16-16.bin")),
    Trained::new(32, [24, 24], 1e-3, include_bytes!("start/32-24-24.bin")),
    Trained::new(48, [32, 32], 5e-4, include_bytes!("start/48-32-32.bin")),
];

/// How much the steps of the latents follow lambda: in proportion to this power of it.
const STEP_POWER: f64 = 0.25;

/// Networks of `shape` for latents of steps that suit `lambda`.
pub fn networks(shape: Shape, lambda: f64, seed: u64) -> Networks {
    let fits = |trained: &&Trained| (trained.sines, trained.hidden) == (shape.sines, shape.hidden);
    match TRAINED.iter().find(fits) {
        Some(trained) if shape.levels <= LEVELS => trained.networks(shape, lambda),
        _ => random(shape, seed),
    }
}

impl Trained {
    const fn new(sines: usize, hidden: [usize; 2], lambda: f64, stream: &'static [u8]) -> Self {
        Self { sines, hidden, lambda, stream }
    }

    fn networks(&self, shape: Shape, lambda: f64) -> Networks {
        let topology = Topology::uniform(Channels::Rgb, 1, self.sines).expect("within the limits");
        let [h1, h2] = self.hidden;
        let rounded = Rounded::decode(self.stream, &topology, LEVELS, (h1, h2));
        let rgb = Networks::of_file(&rounded.expect("the encoder's own"), 3);
        let scale = (lambda / self.lambda).powf(STEP_POWER) as f32;
        let mut sine = Vec::new();
        for row in rgb.sine.chunks_exact(LEVELS + 1) {
            sine.extend(row[..shape.levels].iter().map(|w| w * scale));
            sine.push(row[LEVELS]);
        }
        let row = |row: &[f32]| -> Vec<f32> {
            let (sines, rest) = row.split_at(self.sines);
            let levels = rest[..shape.levels].iter().map(|w| w * scale);
            sines.iter().copied().chain(levels).chain([rest[LEVELS]]).collect()
        };
        let rows: Vec<Vec<f32>> =
            rgb.output.chunks_exact(self.sines + LEVELS + 1).map(row).collect();
        let zeros = vec![0.0; rows[0].len()];
        let grey: Vec<f32> =
            (0..zeros.len()).map(|k| rows.iter().map(|row| row[k]).sum::<f32>() / 3.0).collect();
        // Alpha starts flat.
        let output = match shape.channels {
            1 => grey,
            2 => [grey, zeros].concat(),
            3 => rows.concat(),
            _ => [rows.concat(), zeros].concat(),
        };
        Networks {
            shape: shape.synthesis(),
            context: shape.context(),
            sine,
            output,
            entropy: rgb.entropy,
        }
    }
}

/// Random networks, their bounds found by trial.
fn random(shape: Shape, seed: u64) -> Networks {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (shape, context) = (shape.synthesis(), shape.context());
    let mut uniform = |bound: f32| rng.random_range(-bound..bound);
    let mut sine = Vec::with_capacity(shape.sine_len());
    for _ in 0..shape.sines {
        sine.extend((0..shape.levels).map(|_| uniform(0.14)));
        sine.push(uniform(1.5));
    }
    let mut output = Vec::with_capacity(shape.output_len());
    for _ in 0..shape.channels {
        output.extend((0..shape.sines).map(|_| uniform(0.1)));
        output.extend((0..shape.levels).map(|_| 0.05));
        output.push(0.0);
    }
    let entropy = context.layers().map(|(inputs, outputs)| {
        let bound = (1.0 / inputs as f32).sqrt();
        (0..outputs * (inputs + 1)).map(|_| uniform(bound)).collect()
    });
    Networks { shape, context, sine, output, entropy }
}
