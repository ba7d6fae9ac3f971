//! A network with a picture, its training step on the CPU and on the GPU, and how to time them.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sirenc::container::TrainingOmega;
use sirenc::gpu::{Gpu, Trainer, Variant};
use sirenc::train::siren::{Batch, Fused, SirenModel, Stepper, Task};
use sirenc::{Channels, DeviceError, Raster, Samples, Size, Topology};

/// Time for which the GPU is kept busy before it is measured.
pub const WARM_UP: Duration = Duration::from_millis(150);

/// A network and a picture.
pub struct Case {
    pub topology: Topology,
    pub raster: Raster,
    pub model: SirenModel,
    scales: Vec<f32>,
    /// As a stepper takes them.
    weights: Vec<f32>,
}

impl Case {
    pub fn new(layers: usize, features: usize, size: Size) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let samples = (0..3 * size.pixels()).map(|_| rng.random()).collect();
        let raster = Raster::new(size, Channels::Rgb, Samples::U8(samples)).unwrap();
        let topology = Topology::uniform(Channels::Rgb, layers, features).unwrap();
        let omega = TrainingOmega { first: 30.0, hidden: 30.0 };
        let model = SirenModel::initialize(&topology, omega, &[0.0; 3], &mut rng).unwrap();
        let scales: Vec<f32> = (0..=layers).map(|l| if l == layers { 1.0 } else { 30.0 }).collect();
        let siren = model.siren().unwrap();
        let weights = siren.layers().iter().zip(&scales).flat_map(|(layer, scale)| {
            let rows = layer.weights.chunks_exact(layer.inputs).zip(&layer.biases);
            rows.flat_map(|(row, bias)| row.iter().chain([bias])).map(move |w| w / scale)
        });
        let weights = weights.collect();
        Self { topology, raster, model, scales, weights }
    }

    pub fn pixels(&self) -> usize {
        self.raster.size().pixels() as usize
    }

    pub fn flops(&self) -> f64 {
        self.topology.layers().map(|(inputs, outputs)| 2.0 * (inputs * outputs) as f64).sum()
    }

    /// Gradient and seconds of the CPU's fused kernel.
    pub fn cpu_step(&self) -> (Vec<f32>, f64) {
        let Self { raster, topology, scales, .. } = self;
        let (scales, points) = (scales.clone(), self.pixels());
        let mut fused = Fused::new(&Task { raster, topology, scales, points });
        let mut step = || fused.step(&self.weights, Batch::All).unwrap().gradient;
        let gradient = step();
        (gradient, shortest(3, || drop(step())))
    }

    /// Largest relative deviation of a layer's gradient.
    pub fn deviation(&self, found: &[f32], wanted: &[f32]) -> f64 {
        let mut start = 0;
        let deviations = self.topology.layers().map(|(inputs, outputs)| {
            let range = start..start + (inputs + 1) * outputs;
            start = range.end;
            let pairs = found[range.clone()].iter().zip(&wanted[range]);
            let (mut error, mut norm) = (0.0, 0.0);
            for (found, wanted) in pairs {
                error += f64::from(found - wanted).powi(2);
                norm += f64::from(*wanted).powi(2);
            }
            (error / norm).sqrt()
        });
        deviations.fold(0.0, |a: f64, b| if b > a || b.is_nan() { b } else { a })
    }
}

/// Seconds of the fastest run.
pub fn shortest(runs: usize, mut work: impl FnMut()) -> f64 {
    let times = (0..runs).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

/// Seconds of a run, half of the runs taking longer.
pub fn median(runs: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..runs).map(|_| shortest(1, &mut work)).collect();
    times.sort_by(f64::total_cmp);
    times[runs / 2]
}

/// Seconds of a training step on the GPU.
pub struct Timing {
    /// The whole of it.
    pub step: f64,
    /// What the GPU worked of these, and what of that it summed.
    pub passes: Option<[f64; 2]>,
    /// The first one, kernels compiled.
    pub first: f64,
    pub gradient: Vec<f32>,
}

/// Times steps of a batch.
pub fn time(
    gpu: &Gpu,
    case: &Case,
    variant: Variant,
    batch: Batch,
    runs: usize,
) -> Result<Timing, DeviceError> {
    let start = Instant::now();
    let mut trainer = Trainer::new(gpu, &case.raster, &case.topology, &case.scales, variant)?;
    let gradient = trainer.step(&case.weights, batch)?.gradient;
    let first = start.elapsed().as_secs_f64();
    // A GPU that idled, as while kernels are compiled, is slow at first.
    let busy = Instant::now();
    while runs > 3 && busy.elapsed() < WARM_UP {
        trainer.step(&case.weights, batch)?;
    }
    let mut failed = None;
    let step = median(runs, || failed = trainer.step(&case.weights, batch).err());
    if let Some(error) = failed {
        return Err(error);
    }
    trainer.time_passes()?;
    let mut passes = None;
    for _ in 0..5 {
        trainer.step(&case.weights, batch)?;
        passes = trainer.pass_times()?;
    }
    Ok(Timing { step, passes, first, gradient })
}
