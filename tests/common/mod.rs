//! What several test files need: random networks and grids, files made of them, pictures.
#![allow(dead_code)]

use half::f16;
use sirenc::coding::compact::{self, Quantized, QuantizedLayer, Steps};
use sirenc::coding::latents::{Context, IntegerLayer};
use sirenc::coding::payload::{self, Networks, splines_shape, waves_shape};
use sirenc::container::{Container, Representation, TrainingOmega, WeightCoding};
use sirenc::latents::{Bases, Basis, Latents, Plane};
use sirenc::network::Layer;
use sirenc::{BitDepth, Channels, Metadata, Raster, Samples, Siren, Size, Topology};

/// A small deterministic generator (SplitMix64), uniform in [0, 1).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.next()
    }
}

/// Weights like those of a trained network: first layer up to +-15, others as in the
/// SIREN initialization, times omega_0.
pub fn weights(topology: &Topology, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    let mut weights = Vec::new();
    let last = topology.hidden().len();
    for (index, (inputs, outputs)) in topology.layers().enumerate() {
        let bound = match index {
            0 => 15.0,
            i if i == last => (6.0 / inputs as f64).sqrt() / 8.0,
            _ => (6.0 / inputs as f64).sqrt(),
        };
        for _ in 0..inputs * outputs {
            weights.push(random.between(-bound, bound));
        }
        for _ in 0..outputs {
            weights.push(random.between(-0.5, 0.5));
        }
    }
    weights.iter().map(|&w| f16::from_f64(w).to_f32()).collect()
}

/// A file of a random network.
pub fn container(width: u32, height: u32, topology: Topology, seed: u64) -> Container {
    let weights = weights(&topology, seed);
    Container {
        width,
        height,
        depth: BitDepth::Eight,
        omega: Some(TrainingOmega { first: 30.0, hidden: 30.0 }),
        representation: Representation::Siren,
        coding: WeightCoding::F16,
        metadata: Metadata::default(),
        weights: weights.iter().flat_map(|&w| f16::from_f32(w).to_le_bytes()).collect(),
        topology,
    }
}

/// The same in the compact weight coding, with steps as small as those of trained networks
/// and here and there much smaller ones.
pub fn compact_container(width: u32, height: u32, topology: Topology, seed: u64) -> Container {
    let siren = Siren::from_weights(topology.clone(), &weights(&topology, seed)).unwrap();
    let mut random = Random(seed);
    let mut code = || random.between(-26.0, -6.0) as i32 - if random.next() < 0.3 { 30 } else { 0 };
    let mut steps = || Steps { weights: code(), biases: code() };
    let steps: Vec<Steps> = topology.layers().map(|_| steps()).collect();
    Container {
        coding: WeightCoding::Compact,
        weights: compact::encode(&Quantized::nearest(&siren, &steps)),
        ..container(width, height, topology, seed)
    }
}

/// A file of a few hundred bytes that claims one of the largest networks.
pub fn heavy_container() -> Container {
    let topology = uniform(Channels::Rgb, 2, 1000);
    let siren = Siren::constant(topology.clone(), &[0.0; 3]);
    let steps = vec![Steps { weights: 0, biases: 0 }; 3];
    let weights = compact::encode(&Quantized::nearest(&siren, &steps));
    let coding = WeightCoding::Compact;
    Container { coding, weights, ..container(4000, 4000, topology, 1) }
}

pub fn uniform(channels: Channels, layers: usize, features: usize) -> Topology {
    Topology::uniform(channels, layers, features).unwrap()
}

/// So many levels of splines, the finest level 0.
pub fn splines(levels: usize) -> Bases {
    Bases::new(0, 0, 0, levels).unwrap()
}

/// Planes of waves of cells of so many pixels, and levels of splines from `finest` on.
pub fn waves(planes: usize, cell: usize, finest: usize, levels: usize) -> Bases {
    Bases::new(planes, cell, finest, levels).unwrap()
}

/// Latents of unit scale, all planes whole.
pub fn latents(size: Size, bases: Bases, sines: usize, channels: usize, seed: u64) -> Latents {
    let mut random = Random(seed);
    let mut planes = Vec::new();
    for basis in bases.iter() {
        let most = if matches!(basis, Basis::Waves { .. }) { 9.0 } else { 60.0 };
        let mut plane = Plane::new(basis, size);
        for q in plane.values_mut() {
            *q = random.between(-most, most) as i16;
        }
        planes.push(plane);
    }
    let count = bases.count();
    let mut layer = |inputs: usize, outputs: usize, bound: &dyn Fn(usize) -> f64| {
        let weight = |i| bound(i % inputs) * random.between(-1.0, 1.0);
        let weights = (0..inputs * outputs).map(weight).map(|w| w as f32).collect();
        let biases = (0..outputs).map(|_| random.between(-0.5, 0.5) as f32).collect();
        Layer { inputs, outputs, weights, biases }
    };
    let first = layer(count, sines, &|_| 0.1);
    let mixed = 1.0 / (sines as f64).sqrt();
    let output = layer(sines + count, channels, &|i| if i < sines { mixed } else { 5e-3 });
    Latents::new(size, planes, first, output).unwrap()
}

/// A file of splines alone, as [`planes_container`].
pub fn latents_container(
    size: Size,
    levels: usize,
    topology: Topology,
    hidden: (usize, usize),
    seed: u64,
) -> Container {
    planes_container(size, splines(levels), topology, hidden, seed)
}

/// A file of latents: latents and weights as in trained ones, smaller in finer levels and of
/// higher frequencies. `hidden` is that of the entropy models, whose predictions are not good.
pub fn planes_container(
    size: Size,
    bases: Bases,
    topology: Topology,
    hidden: (usize, usize),
    seed: u64,
) -> Container {
    let mut random = Random(seed);
    let plane = |basis| {
        let mut plane = Plane::new(basis, size);
        let width = plane.width();
        for (at, q) in plane.values_mut().iter_mut().enumerate() {
            let scale = match basis {
                Basis::Splines { level } => 1.0 + 3.0 * level as f64,
                Basis::Waves { cell } => {
                    let frequency = at % width % cell + at / width % cell;
                    4.0 * 0.02f64.powf(frequency as f64 / cell as f64)
                }
            };
            let u = random.between(-1.0, 1.0);
            *q = (-scale * (1.0 - u.abs()).ln()).copysign(u) as i16;
        }
        plane
    };
    let planes: Vec<Plane> = bases.iter().map(plane).collect();
    latents_file(&planes, size, &latents_networks(bases, &topology, hidden, seed), topology)
}

/// The file of such planes and networks.
pub fn latents_file(
    planes: &[Plane],
    size: Size,
    networks: &Networks,
    topology: Topology,
) -> Container {
    Container {
        width: size.width,
        height: size.height,
        depth: BitDepth::Eight,
        omega: None,
        representation: Representation::Latents,
        coding: WeightCoding::Compact,
        metadata: Metadata::default(),
        weights: payload::encode(planes, networks),
        topology,
    }
}

/// Random networks of latents.
pub fn latents_networks(
    bases: Bases,
    topology: &Topology,
    (h1, h2): (usize, usize),
    seed: u64,
) -> Networks {
    let mut random = Random(seed + 1);
    let planes = bases.count();
    let (sines, channels) = (topology.hidden()[0], topology.channels().count());
    let mut integers = |count: usize, most: f64| -> Vec<i32> {
        (0..count).map(|_| random.between(-most, most).round() as i32).collect()
    };
    let layer = QuantizedLayer {
        steps: Steps { weights: -16, biases: -20 },
        weights: integers(planes * sines, 2.0),
        biases: integers(sines, 90.0),
    };
    // Values spread over [-1, 1] whatever the number of sines.
    let mixed = 160.0 / (sines as f64).sqrt();
    let row = |_| [integers(sines, mixed), integers(planes, 3.0)].concat();
    let output = QuantizedLayer {
        steps: Steps { weights: -32, biases: -36 },
        weights: (0..channels).flat_map(row).collect(),
        biases: integers(channels, 160.0),
    };
    let mut layer_of = |inputs: usize, outputs: usize, drop: u32| {
        let weights = integers(inputs * outputs, 12.0);
        IntegerLayer::new(drop, weights, integers(outputs, 9.0)).unwrap()
    };
    let mut context = |shape: [usize; 4]| {
        let [inputs, h1, h2, outputs] = shape;
        let layers = [layer_of(inputs, h1, 2), layer_of(h1, h2, 5), layer_of(h2, outputs, 5)];
        Context::new(shape, layers).unwrap()
    };
    let splines = context(splines_shape([h1, h2]));
    let waves = (bases.waves() > 0).then(|| context(waves_shape([h1, h2])));
    Networks { sines: layer, output, splines, waves }
}

/// A smooth picture without symmetries, so that swapped or mirrored axes show.
pub fn picture(size: Size, channels: Channels, depth: BitDepth) -> Raster {
    let mut values = Vec::new();
    for y in 0..size.height {
        for x in 0..size.width {
            let (u, v) = (f64::from(x) / 32.0, f64::from(y) / 32.0);
            for channel in 0..channels.count() {
                let phase = channel as f64;
                let value = 0.5 + 0.3 * (3.0 * u + phase).sin() + 0.2 * (5.0 * v + 2.0 * u).cos();
                values.push(value.clamp(0.0, 1.0));
            }
        }
    }
    let samples = match depth {
        BitDepth::Eight => Samples::U8(values.iter().map(|v| (v * 255.0 + 0.5) as u8).collect()),
        BitDepth::Sixteen => {
            Samples::U16(values.iter().map(|v| (v * 65535.0 + 0.5) as u16).collect())
        }
    };
    Raster::new(size, channels, samples).unwrap()
}

/// The same, of 8 bits.
pub fn picture_of_bytes(width: u32, height: u32, channels: Channels) -> Raster {
    picture(Size { width, height }, channels, BitDepth::Eight)
}

/// Encodes as latents in so many steps.
#[cfg(feature = "encode")]
pub fn latents_encoder(target: sirenc::Target, steps: u32) -> sirenc::Encoder {
    let latents = sirenc::LatentOptions::new();
    sirenc::Encoder::new().target(target).representation(latents).steps(steps)
}
