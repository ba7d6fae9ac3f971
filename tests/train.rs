//! The trainer's parts through the library: the fused training step against candle's own
//! operations.
#![cfg(feature = "encode")]

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sirenc::container::TrainingOmega;
use sirenc::train::Model;
use sirenc::{Channels, Topology};

/// A batch of `points` random pixels and weights.
fn batch(channels: usize, points: usize, rng: &mut impl Rng) -> (Tensor, Tensor) {
    let mut numbers = |count: usize, low: f32| -> Vec<f32> {
        (0..count).map(|_| rng.random_range(low..1.0)).collect()
    };
    let inputs = numbers(2 * points, -1.0);
    let mut targets = numbers(channels * points, -1.0);
    targets.extend(numbers(points, 0.2));
    let tensor = |numbers, rows| Tensor::from_vec(numbers, (rows, points), &Device::Cpu).unwrap();
    (tensor(inputs, 2), tensor(targets, channels + 1))
}

fn norm(tensor: &Tensor) -> f64 {
    f64::from(tensor.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()).sqrt()
}

#[test]
fn fused_gradients_are_those_of_candle() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for case in 0..60 {
        let channels = Channels::from_count(1 + case % 4).unwrap();
        let layers = rng.random_range(1..=6);
        let hidden = (0..layers).map(|_| rng.random_range(1..=70)).collect();
        let topology = Topology::new(channels, hidden).unwrap();
        let omega = TrainingOmega { first: 20.0, hidden: 30.0 };
        let mean = vec![0.1; channels.count()];
        let device = Device::Cpu;
        let model = Model::initialize(&topology, omega, &mean, &device, &mut rng).unwrap();
        let points = [1, 2, 63, 64, 65, 511, 513, rng.random_range(1..5000)][case % 8];
        let (inputs, targets) = batch(channels.count(), points, &mut rng);
        let fused = model.loss(&inputs, &targets).unwrap();
        let reference = model.reference_loss(&inputs, &targets).unwrap();
        let loss = |loss: &Tensor| f64::from(loss.to_scalar::<f32>().unwrap());
        let (found, wanted) = (loss(&fused), loss(&reference));
        assert!((found / wanted - 1.0).abs() < 1e-4, "{topology} {points}: {found} {wanted}");
        let (fused, reference) = (fused.backward().unwrap(), reference.backward().unwrap());
        for variable in model.variables() {
            let fused = fused.get(&variable).unwrap();
            let wanted = reference.get(&variable).unwrap();
            assert_eq!(fused.dims(), wanted.dims());
            let error = norm(&(fused - wanted).unwrap()) / norm(wanted);
            assert!(error < 1e-4, "{topology} {channels} {points}: {error}");
        }
    }
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let topology = Topology::uniform(Channels::Rgb, 2, 9).unwrap();
    let omega = TrainingOmega { first: 3.0, hidden: 1.0 };
    let model = Model::initialize(&topology, omega, &[0.0; 3], &Device::Cpu, &mut rng).unwrap();
    let (inputs, targets) = batch(3, 777, &mut rng);
    let gradients = model.loss(&inputs, &targets).unwrap().backward().unwrap();
    for variable in model.variables() {
        let gradient = gradients.get(&variable).unwrap().copy().unwrap();
        let start = variable.as_tensor().copy().unwrap();
        let at = |step: f64| {
            variable
                .set(&(&start + (&gradient * (step / norm(&gradient))).unwrap()).unwrap())
                .unwrap();
            f64::from(model.loss(&inputs, &targets).unwrap().to_scalar::<f32>().unwrap())
        };
        let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
        at(0.0);
        let wanted = norm(&gradient);
        assert!((slope / wanted - 1.0).abs() < 0.02, "{slope}, not {wanted}");
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let topology = Topology::uniform(Channels::Rgb, 1, 4).unwrap();
    let omega = TrainingOmega { first: 30.0, hidden: 30.0 };
    let model = Model::initialize(&topology, omega, &[0.0; 3], &Device::Cpu, &mut rng).unwrap();
    let (inputs, targets) = batch(3, 10, &mut rng);
    let (_, grey) = batch(1, 10, &mut rng);
    let (_, fewer) = batch(3, 9, &mut rng);
    for (inputs, targets) in [(&inputs, &grey), (&inputs, &fewer), (&targets, &targets)] {
        let error = model.loss(inputs, targets).unwrap_err().to_string();
        assert!(error.contains("a batch is"), "{error}");
    }
    let doubles = inputs.to_dtype(candle_core::DType::F64).unwrap();
    assert!(model.loss(&doubles, &targets).is_err());
}
