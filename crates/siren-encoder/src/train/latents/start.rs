//! The networks that training starts from: trained on other photographs, or random.
//!
//! Those in `start/` were trained on mosaics of public-domain photographs; docs/experiments.md
//! tells which and how.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Shape;
use super::model::Networks;
use siren_image::coding::payload::{Hidden, Networks as Rounded};
use siren_image::latents::Bases;
use siren_image::network::{Channels, Topology};

/// Networks for RGB.
struct Trained {
    sines: usize,
    hidden: Hidden,
    /// Planes of waves, their cells, and the finest level of splines.
    planes: (usize, usize, usize),
    /// The lambda that they were trained for.
    lambda: f64,
    stream: &'static [u8],
}

/// The level after the coarsest of the trained networks.
const LEVELS: usize = 7;
const TRAINED: [Trained; 8] = [
    Trained::of_splines(12, [8, 8], 1e-2, include_bytes!("start/12-8-8.bin")),
    Trained::of_splines(20, [12, 8], 6e-3, include_bytes!("start/20-12-8.bin")),
    Trained::of_splines(32, [16, 16], 3e-3, include_bytes!("start/32-16-16.bin")),
    Trained::of_splines(32, [24, 24], 1e-3, include_bytes!("start/32-24-24.bin")),
    Trained::of_splines(48, [32, 32], 5e-4, include_bytes!("start/48-32-32.bin")),
    Trained::of_waves(24, [12, 8], (1, [8, 8]), 6.7e-3, include_bytes!("start/24-12-8-w1-8-8.bin")),
    Trained::of_waves(32, [12, 8], (2, [8, 8]), 1.7e-3, include_bytes!("start/32-12-8-w2-8-8.bin")),
    Trained::of_waves(
        32,
        [16, 16],
        (3, [12, 8]),
        3.7e-4,
        include_bytes!("start/32-16-16-w3-12-8.bin"),
    ),
];

/// How much larger the logarithm of the scale of splines beside waves is expected to be at first: with
/// all latents zero, a model that is sure of what comes next would keep them so.
const DOUBT: f32 = 1.0;
/// How much the steps of the latents follow lambda: in proportion to this power of it.
const STEP_POWER: f64 = 0.25;

/// Networks of `shape` for latents of steps that suit `lambda`.
pub fn networks(shape: Shape, lambda: f64, seed: u64) -> Networks {
    match TRAINED.iter().find(|trained| trained.fits(shape)) {
        Some(trained) => trained.networks(shape, lambda),
        None => random(shape, seed),
    }
}

impl Trained {
    const fn of_splines(
        sines: usize,
        hidden: [usize; 2],
        lambda: f64,
        stream: &'static [u8],
    ) -> Self {
        let hidden = Hidden { splines: hidden, waves: None };
        Self { sines, hidden, planes: (0, 0, 0), lambda, stream }
    }

    /// With so many planes of waves of 8, and features of their entropy model.
    const fn of_waves(
        sines: usize,
        splines: [usize; 2],
        (count, waves): (usize, [usize; 2]),
        lambda: f64,
        stream: &'static [u8],
    ) -> Self {
        let hidden = Hidden { splines, waves: Some(waves) };
        Self { sines, hidden, planes: (count, 8, 2), lambda, stream }
    }

    fn fits(&self, shape: Shape) -> bool {
        let bases = shape.bases;
        let planes = (bases.waves(), bases.cell(), bases.finest());
        let same = (self.sines, self.hidden, self.planes) == (shape.sines, shape.hidden, planes);
        same && bases.finest() + bases.levels() <= LEVELS
    }

    fn networks(&self, shape: Shape, lambda: f64) -> Networks {
        let topology = Topology::uniform(Channels::Rgb, 1, self.sines).expect("within the limits");
        let (waves, cell, finest) = self.planes;
        let bases = Bases::new(waves, cell, finest, LEVELS - finest).expect("within the limits");
        let rounded = Rounded::decode(self.stream, &topology, bases.count(), self.hidden);
        let mut rgb = Networks::of_file(&rounded.expect("the encoder's own"), bases, 3);
        if waves > 0 {
            let scale = rgb.entropy[0][2].last_mut().expect("a bias");
            *scale += DOUBT;
        }
        let scale = (lambda / self.lambda).powf(STEP_POWER) as f32;
        let (all, planes) = (bases.count(), shape.bases.count());
        let mut sine = Vec::new();
        for row in rgb.sine.chunks_exact(all + 1) {
            sine.extend(row[..planes].iter().map(|w| w * scale));
            sine.push(row[all]);
        }
        let row = |row: &[f32]| -> Vec<f32> {
            let (sines, rest) = row.split_at(self.sines);
            let of_planes = rest[..planes].iter().map(|w| w * scale);
            sines.iter().copied().chain(of_planes).chain([rest[all]]).collect()
        };
        let rows: Vec<Vec<f32>> = rgb.output.chunks_exact(self.sines + all + 1).map(row).collect();
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
        Networks { shape, sine, output, entropy: rgb.entropy }
    }
}

/// What the sums of the planes of waves that come after the first, the last of all, do to red,
/// green and blue.
const COLOURS: [[f32; 3]; 2] = [[1.0, 0.0, -1.0], [0.6, -1.0, 0.6]];

/// Random networks, their bounds found by trial.
fn random(shape: Shape, seed: u64) -> Networks {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let planes = shape.bases.count();
    let mut uniform = |bound: f32| rng.random_range(-bound..bound);
    let is_colour = |plane: usize| plane + 1 < shape.bases.waves();
    let mut sine = Vec::with_capacity(shape.sines * (planes + 1));
    for _ in 0..shape.sines {
        sine.extend((0..planes).map(|plane| uniform(if is_colour(plane) { 0.02 } else { 0.14 })));
        sine.push(uniform(1.5));
    }
    let mut output = Vec::with_capacity(shape.channels * (shape.sines + planes + 1));
    for channel in 0..shape.channels {
        output.extend((0..shape.sines).map(|_| uniform(0.1)));
        output.extend((0..planes).map(|plane| {
            let colour = || COLOURS[(shape.bases.waves() - 2 - plane) % COLOURS.len()];
            if is_colour(plane) { 0.03 * colour().get(channel).unwrap_or(&0.0) } else { 0.05 }
        }));
        output.push(0.0);
    }
    let entropy = shape.contexts().into_iter().map(|context| {
        context.layers().map(|(inputs, outputs)| {
            let bound = (1.0 / inputs as f32).sqrt();
            (0..outputs * (inputs + 1)).map(|_| uniform(bound)).collect()
        })
    });
    let entropy = entropy.collect();
    Networks { shape, sine, output, entropy }
}
