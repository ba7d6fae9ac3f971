//! Evaluator and training step side by side with one large matrix product (the machine's
//! limit) and with candle's own operations, in one process. See benches/README.md.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use candle_core::{Device, Tensor};
use divan::Bencher;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sirenc::container::TrainingOmega;
use sirenc::eval::{BLOCK, Evaluator, Points};
use sirenc::train::reference::Reference;
use sirenc::train::siren::{Batch, Fused, SirenModel, Stepper, Task, WeightedPixel};
use sirenc::{BitDepth, Channels, Field, PixelGrid, Raster, Render, Samples, Size, Topology, View};

/// Hidden layers x hidden features: COIN's, and the SIREN paper's.
const TOPOLOGIES: [&str; 5] = ["5x20", "10x28", "10x40", "13x49", "4x256"];
/// Points of a batch.
const BATCH: usize = 32_768;
/// Rows and columns of the large matrix product.
const SIDE: usize = 1536;

/// Shortest times of each benchmark in seconds, and of the matrix products between its runs.
static TIMES: Mutex<BTreeMap<(String, String), Times>> = Mutex::new(BTreeMap::new());

#[derive(Clone, Copy)]
struct Times {
    work: f64,
    product: f64,
}

fn main() {
    divan::main();
    report();
}

/// Runs `work` under divan and a large matrix product before every run, so that both see the
/// same machine; keeps the shortest times.
fn measure<T>(bencher: Bencher, name: &str, topology: &str, mut work: impl FnMut() -> T) {
    let matrix = |value: f32| Tensor::full(value, (SIDE, SIDE), &Device::Cpu).unwrap();
    let (a, b) = (matrix(0.5).contiguous().unwrap(), matrix(0.25).contiguous().unwrap());
    let mut best = Times { work: f64::INFINITY, product: f64::INFINITY };
    let Times { work: shortest, product } = &mut best;
    let multiply = || {
        let start = Instant::now();
        a.matmul(&b).unwrap();
        *product = product.min(start.elapsed().as_secs_f64());
    };
    bencher.with_inputs(multiply).bench_local_values(|()| {
        let start = Instant::now();
        let result = work();
        *shortest = shortest.min(start.elapsed().as_secs_f64());
        result
    });
    TIMES.lock().unwrap().insert((topology.into(), name.into()), best);
}

fn topology(text: &str) -> Topology {
    let (layers, features) = text.split_once('x').unwrap();
    Topology::uniform(Channels::Rgb, layers.parse().unwrap(), features.parse().unwrap()).unwrap()
}

/// Multiplications and additions of one evaluation at a point.
fn flops(topology: &Topology) -> f64 {
    topology.layers().map(|(inputs, outputs)| 2.0 * (inputs * outputs) as f64).sum()
}

fn model(topology: &Topology) -> SirenModel {
    let omega = TrainingOmega { first: 30.0, hidden: 30.0 };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    SirenModel::initialize(topology, omega, &[0.0; 3], &mut rng).unwrap()
}

/// Random pixels of a random picture.
fn batch() -> (Raster, Vec<WeightedPixel>) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let size = Size { width: 768, height: 512 };
    let samples = (0..3 * size.pixels()).map(|_| rng.random()).collect();
    let raster = Raster::new(size, Channels::Rgb, Samples::U8(samples)).unwrap();
    let mut pixel = || rng.random_range(0..size.pixels() as u32);
    let pixels = (0..BATCH).map(|_| WeightedPixel { number: pixel(), weight: 1.0 }).collect();
    (raster, pixels)
}

#[divan::bench(args = TOPOLOGIES, sample_count = 5, sample_size = 1)]
fn evaluator(bencher: Bencher, text: &str) {
    let evaluator = Evaluator::new(model(&topology(text)).siren().unwrap());
    let points = Points::default();
    measure(bencher, "evaluator", text, || {
        (0..BATCH / BLOCK).into_par_iter().for_each_init(
            || (evaluator.scratch(), vec![0.0; 3 * BLOCK]),
            |(scratch, out), _| evaluator.values(&points, scratch, out),
        );
    });
}

#[divan::bench(args = TOPOLOGIES, sample_count = 5, sample_size = 1)]
fn training_step(bencher: Bencher, text: &str) {
    let (topology, (raster, pixels)) = (&topology(text), batch());
    let model = model(topology);
    let task = Task { raster: &raster, topology, scales: model.scales(), points: BATCH };
    let mut fused = Fused::new(&task);
    measure(bencher, "training", text, || fused.step(model.weights(), Batch::Of(&pixels)).unwrap());
}

#[divan::bench(args = TOPOLOGIES, sample_count = 3, sample_size = 1)]
fn candle_evaluator(bencher: Bencher, text: &str) {
    let (topology, (raster, pixels)) = (&topology(text), batch());
    let model = model(topology);
    let task = Task { raster: &raster, topology, scales: model.scales(), points: BATCH };
    let candle = Reference::new(&task, &Device::Cpu);
    measure(bencher, "candle evaluator", text, || {
        candle.loss(model.weights(), Batch::Of(&pixels)).unwrap()
    });
}

#[divan::bench(args = TOPOLOGIES, sample_count = 3, sample_size = 1)]
fn candle_training_step(bencher: Bencher, text: &str) {
    let (topology, (raster, pixels)) = (&topology(text), batch());
    let model = model(topology);
    let task = Task { raster: &raster, topology, scales: model.scales(), points: BATCH };
    let mut candle = Reference::new(&task, &Device::Cpu);
    measure(bencher, "candle training", text, || {
        candle.step(model.weights(), Batch::Of(&pixels)).unwrap()
    });
}

/// A whole picture of 768x512 pixels, 8-bit samples.
#[divan::bench(args = ["10x28"], sample_count = 5, sample_size = 1)]
fn decode_768x512(bencher: Bencher, text: &str) {
    let evaluator = Evaluator::new(model(&topology(text)).siren().unwrap());
    let size = Size { width: 768, height: 512 };
    let grid = PixelGrid::new(size, &View::default()).unwrap();
    let render = Render::new(evaluator.clone(), size, grid, Field::Value, BitDepth::Eight);
    measure(bencher, "decode", text, || render.raster());
}

/// The ratios, and with `SIRENC_BENCH_JSON=FILE` the times for benches/jax_step.py.
fn report() {
    let times = TIMES.lock().unwrap();
    let find = |name: &str, text: &str| times.get(&(text.into(), name.into())).copied();
    println!("\nGFLOP/s, share of a large matrix product's, and times as fast as candle's");
    println!("operations (batch {BATCH}; a training step counts three evaluations)\n");
    println!("{:8} {:>22} {:>22}", "", "evaluator", "training step");
    for text in TOPOLOGIES {
        let column = |name: &str, evaluations: f64| {
            let Some(ours) = find(name, text) else { return String::new() };
            let rate = evaluations * flops(&topology(text)) * BATCH as f64 / ours.work;
            let limit = 2.0 * (SIDE as f64).powi(3) / ours.product;
            let candle = find(&format!("candle {name}"), text);
            let times = candle.map_or("-".into(), |c| format!("{:.1}x", c.work / ours.work));
            format!("{:.1} {:3.0} % {times:>6}", rate / 1e9, 100.0 * rate / limit)
        };
        println!("{text:8} {:>22} {:>22}", column("evaluator", 1.0), column("training", 3.0));
    }
    if let Ok(path) = std::env::var("SIRENC_BENCH_JSON") {
        let rows: Vec<_> = times
            .iter()
            .map(|((text, name), times)| {
                serde_json::json!({ "topology": text, "name": name, "seconds": times.work })
            })
            .collect();
        std::fs::write(path, serde_json::to_string_pretty(&rows).unwrap()).unwrap();
    }
}
