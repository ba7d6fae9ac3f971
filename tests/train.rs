//! The trainer's parts through the library: the fused training step against candle's own
//! operations.
#![cfg(feature = "candle")]

use candle_core::Device;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sirenc::container::TrainingOmega;
use sirenc::train::reference::Reference;
use sirenc::train::siren::{Batch, Fused, SirenModel, Step, Stepper, Task, WeightedPixel};
use sirenc::{Channels, Raster, Samples, Size, Topology};

/// A picture of random samples.
fn picture(channels: Channels, rng: &mut impl Rng) -> Raster {
    let size = Size { width: rng.random_range(1..90), height: rng.random_range(1..90) };
    let count = size.pixels() as usize * channels.count();
    let samples = match rng.random() {
        true => Samples::U8((0..count).map(|_| rng.random()).collect()),
        false => Samples::U16((0..count).map(|_| rng.random()).collect()),
    };
    Raster::new(size, channels, samples).unwrap()
}

/// A batch of random pixels and weights.
fn pixels(raster: &Raster, points: usize, rng: &mut impl Rng) -> Vec<WeightedPixel> {
    let all = raster.size().pixels() as u32;
    let mut pixel = || {
        let number = rng.random_range(0..all);
        WeightedPixel { number, weight: rng.random_range(0.2..1.0) }
    };
    (0..points).map(|_| pixel()).collect()
}

fn model(topology: &Topology, omega: TrainingOmega, rng: &mut impl Rng) -> SirenModel {
    let mean = vec![0.1; topology.channels().count()];
    SirenModel::initialize(topology, omega, &mean, rng).unwrap()
}

fn norm(numbers: impl IntoIterator<Item = f32>) -> f64 {
    numbers.into_iter().map(|number| f64::from(number).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn fused_gradients_are_those_of_candle() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for case in 0..60 {
        let channels = Channels::from_count(1 + case % 4).unwrap();
        let layers = rng.random_range(1..=6);
        let hidden: Vec<usize> = (0..layers).map(|_| rng.random_range(1..=70)).collect();
        let topology = Topology::new(channels, hidden).unwrap();
        let omega = TrainingOmega { first: 20.0, hidden: 30.0 };
        let model = model(&topology, omega, &mut rng);
        let points = [1, 2, 63, 64, 65, 511, 513, rng.random_range(1..5000)][case % 8];
        let raster = picture(channels, &mut rng);
        let some = pixels(&raster, points, &mut rng);
        let batch = if case % 5 == 4 { Batch::All } else { Batch::Of(&some) };
        let task = Task { raster: &raster, topology: &topology, scales: model.scales(), points };
        let fused = Fused::new(&task).step(model.weights(), batch).unwrap();
        let mut reference = Reference::new(&task, &Device::Cpu);
        let wanted = reference.step(model.weights(), batch).unwrap();
        assert_eq!(reference.loss(model.weights(), batch).unwrap(), wanted.loss);
        let (found, loss) = (fused.loss, wanted.loss);
        assert!((found / loss - 1.0).abs() < 1e-4, "{topology} {points}: {found} {loss}");
        assert_eq!(fused.gradient.len(), topology.weight_count());
        let mut layer = 0..0;
        for (inputs, outputs) in topology.layers() {
            layer = layer.end..layer.end + outputs * (inputs + 1);
            let pairs = fused.gradient[layer.clone()].iter().zip(&wanted.gradient[layer.clone()]);
            let error =
                norm(pairs.map(|(a, b)| a - b)) / norm(wanted.gradient[layer.clone()].to_vec());
            assert!(error < 1e-4, "{topology} {channels} {points}: {error}");
        }
    }
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let topology = Topology::uniform(Channels::Rgb, 2, 9).unwrap();
    let model = model(&topology, TrainingOmega { first: 3.0, hidden: 1.0 }, &mut rng);
    let raster = picture(Channels::Rgb, &mut rng);
    let some = pixels(&raster, 777, &mut rng);
    let task = Task { raster: &raster, topology: &topology, scales: model.scales(), points: 777 };
    let mut fused = Fused::new(&task);
    let Step { gradient, .. } = fused.step(model.weights(), Batch::Of(&some)).unwrap();
    let mut layer = 0..0;
    for (inputs, outputs) in topology.layers() {
        layer = layer.end..layer.end + outputs * (inputs + 1);
        let wanted = norm(gradient[layer.clone()].to_vec());
        let mut at = |step: f64| {
            let mut weights = model.weights().to_vec();
            for (weight, slope) in weights[layer.clone()].iter_mut().zip(&gradient[layer.clone()]) {
                *weight += (step / wanted) as f32 * slope;
            }
            fused.step(&weights, Batch::Of(&some)).unwrap().loss
        };
        let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
        assert!((slope / wanted - 1.0).abs() < 0.02, "{slope}, not {wanted}");
    }
}

#[test]
#[should_panic(expected = "the picture's channels")]
fn a_picture_of_other_channels_is_a_mistake() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let topology = Topology::uniform(Channels::Rgb, 1, 4).unwrap();
    let grey = picture(Channels::Grey, &mut rng);
    let scales = vec![1.0; 2];
    Fused::new(&Task { raster: &grey, topology: &topology, scales, points: 10 });
}
