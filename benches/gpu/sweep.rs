//! All ways in which the kernels can divide the work, for steps and renders: what the choices in
//! `src/gpu/variant.rs` were made by.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sirenc::eval::Evaluator;
use sirenc::gpu::{Gpu, Kernel, Renderer, Variant};
use sirenc::train::siren::{Batch, WeightedPixel};
use sirenc::train::soap::{Matrix, SoapParams};
use sirenc::{BitDepth, Field, PixelGrid, Render, Samples, Size, View};

use super::case::{Case, Timing, WARM_UP, median, shortest, time};

/// Measures steps on pictures of `size`, and renders of `large`.
pub fn sweep(gpu: &Gpu, small: bool, size: Size, large: Size) {
    // Seconds for the steps and the renders of each topology.
    for (layers, features, of_steps, of_renders) in [(10, 28, 120, 40), (13, 49, 50, 20)] {
        let case = Case::new(layers, features, size);
        let until = |seconds| {
            let end = Instant::now() + Duration::from_secs(seconds);
            Run { gpu: gpu.clone(), small, end }
        };
        let best = until(of_steps).steps(&case);
        until(of_steps).batches(&case, best);
        until(of_renders).renders(&case, large);
    }
}

struct Run {
    gpu: Gpu,
    small: bool,
    /// When nothing new is begun.
    end: Instant,
}

fn name(variant: &Variant) -> String {
    let kernel = match variant.kernel {
        Kernel::Tiles => "tiles",
        Kernel::WideTiles => "scratch",
        Kernel::Pixels => "pixels",
    };
    let mut text = format!("{kernel} {:3} of {:3}", variant.pixels, variant.invocations);
    text.push_str(&format!(" split {} wg {:5}", variant.splits, variant.workgroups));
    let flags = [(variant.wide, "wide"), (variant.staged, "staged")];
    for (_, flag) in flags.iter().filter(|(set, _)| *set) {
        text.push_str(&format!(" {flag}"));
    }
    text
}

/// Shapes of workgroups and tiles.
fn shapes() -> Vec<Variant> {
    let tiles = |invocations, pixels, splits, wide| Variant {
        invocations,
        pixels,
        splits,
        wide,
        ..Variant::TILES
    };
    let pixels = |pixels, splits| Variant {
        invocations: pixels,
        pixels,
        splits,
        staged: false,
        ..Variant::PIXELS
    };
    let staged = |variant| Variant { staged: true, ..variant };
    let mut shapes = vec![
        tiles(64, 32, 1, false),
        tiles(64, 64, 1, false),
        tiles(64, 64, 1, true),
        tiles(128, 64, 1, false),
        tiles(128, 64, 2, false),
        staged(tiles(64, 32, 1, false)),
        staged(tiles(64, 64, 1, true)),
        staged(tiles(128, 64, 1, false)),
        tiles(128, 64, 1, true),
        tiles(256, 128, 4, false),
        pixels(32, 1),
        pixels(64, 1),
        staged(pixels(64, 1)),
        staged(pixels(128, 2)),
        pixels(128, 1),
        pixels(128, 2),
        staged(pixels(32, 1)),
        staged(pixels(128, 1)),
    ];
    for (invocations, pixels, splits, wide) in
        [(64, 32, 1, false), (64, 64, 1, true), (128, 64, 1, false), (256, 128, 2, true)]
    {
        let shape = tiles(invocations, pixels, splits, wide);
        shapes.push(Variant { kernel: Kernel::WideTiles, ..shape });
    }
    shapes
}

/// What can be changed about a shape.
fn changes(variant: Variant) -> Vec<Variant> {
    let mut changed = vec![Variant { staged: !variant.staged, ..variant }];
    let counts = [264, 396, 528, 660, 792, 1056, 1320, 1584, 2112];
    let others = counts.iter().filter(|count| **count != variant.workgroups);
    changed.extend(others.map(|&workgroups| Variant { workgroups, ..variant }));
    changed
}

impl Run {
    /// Whether a variant is to be measured: the compilers of software take minutes for the
    /// kernel of pixels.
    fn takes(&self, case: &Case, variant: &Variant) -> bool {
        let unrolled = variant.kernel == Kernel::Pixels && self.gpu.adapter().software;
        Instant::now() < self.end && !unrolled && variant.fits(&case.topology, &self.gpu)
    }

    /// Training steps on all pixels; returns the fastest variant.
    fn steps(&self, case: &Case) -> Variant {
        let (wanted, cpu) = case.cpu_step();
        println!("\ntraining step, {}, {} pixels", case.topology, case.pixels());
        println!("  CPU: {:.2} ms", 1e3 * cpu);
        println!("  variant: ms of a step; ms on the GPU, of these summing; TFLOP/s;");
        println!("  times the CPU's speed; deviation from its gradient; first step");
        let mut tried: Vec<(Variant, f64)> = Vec::new();
        for shape in shapes() {
            for workgroups in if self.small { vec![1584] } else { vec![528, 1584] } {
                let variant = Variant { workgroups, ..shape };
                self.step(case, variant, (&wanted, cpu), &mut tried);
            }
        }
        // The best shapes with one change, and the best of all with further ones.
        for leaders in if self.small { vec![1] } else { vec![4, 2, 1] } {
            tried.sort_by(|a, b| a.1.total_cmp(&b.1));
            let best: Vec<Variant> = tried.iter().take(leaders).map(|(v, _)| *v).collect();
            for variant in best.into_iter().flat_map(changes) {
                self.step(case, variant, (&wanted, cpu), &mut tried);
            }
        }
        tried.sort_by(|a, b| a.1.total_cmp(&b.1));
        let (best, step) = tried.first().copied().unwrap_or((Variant::WIDE_TILES, f64::NAN));
        println!("  fastest: {}, {:.3} ms", name(&best), 1e3 * step);
        best
    }

    fn step(
        &self,
        case: &Case,
        variant: Variant,
        (wanted, cpu): (&[f32], f64),
        tried: &mut Vec<(Variant, f64)>,
    ) {
        if tried.iter().any(|(v, _)| *v == variant) || !self.takes(case, &variant) {
            return;
        }
        let runs = if self.small { 3 } else { 15 };
        match time(&self.gpu, case, variant, Batch::All, runs) {
            Ok(Timing { step, passes, first, gradient }) => {
                let passes = passes
                    .map_or("-".into(), |[a, b]| format!("{:.3}, {:.3}", 1e3 * (a + b), 1e3 * b));
                let flops = 3.0 * case.flops() * case.pixels() as f64;
                println!(
                    "  {:46} {:8.3} ms; {passes}; {:.2}; {:.1}x; {:.1e}; {first:.2} s",
                    name(&variant),
                    1e3 * step,
                    flops / step / 1e12,
                    cpu / step,
                    case.deviation(&gradient, wanted),
                );
                tried.push((variant, step));
            }
            Err(error) => println!("  {:46} {error}", name(&variant)),
        }
    }

    /// Steps of the batches that training has, and SOAP's part of a step.
    fn batches(&self, case: &Case, best: Variant) {
        println!("  steps of smaller batches: ms of a step; ms on the GPU");
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let staged = |variant| Variant { staged: true, ..variant };
        let pixels = Variant { invocations: 32, pixels: 32, ..Variant::PIXELS };
        let tiles = Variant { pixels: 16, ..Variant::TILES };
        let shapes = [
            best,
            Variant::TILES,
            staged(Variant::TILES),
            tiles,
            staged(tiles),
            Variant::PIXELS,
            pixels,
        ];
        let points: &[u32] = if self.small { &[1024] } else { &[1024, 4096, 10240, 65536] };
        for &points in points {
            let count = case.pixels() as u32;
            let pixel = |_| WeightedPixel { number: rng.random_range(0..count), weight: 1.0 };
            let batch: Vec<WeightedPixel> = (0..points).map(pixel).collect();
            for variant in shapes.iter().filter(|v| self.takes(case, v)) {
                match time(&self.gpu, case, *variant, Batch::Of(&batch), 15) {
                    Ok(Timing { step, passes, .. }) => {
                        let passes =
                            passes.map_or("-".into(), |[a, b]| format!("{:.3}", 1e3 * (a + b)));
                        let step = 1e3 * step;
                        println!("  {points:6}: {:46} {step:8.3} ms; {passes}", name(variant));
                    }
                    Err(error) => println!("  {points}: {} {error}", name(variant)),
                }
            }
        }
        let params = SoapParams { lr: 1e-9, ..SoapParams::default() };
        let mut weights = case.model.weights().to_vec();
        let lens = case.topology.layers().map(|(i, o)| (o * (i + 1), i + 1));
        let mut layers: Vec<(Matrix, usize)> =
            lens.map(|(len, columns)| (Matrix::new(len, columns, &params), len)).collect();
        let step = median(30, || {
            let mut rest = &mut weights[..];
            for (matrix, len) in &mut layers {
                let layer = rest.split_off_mut(..*len).expect("as many weights as layers");
                let gradient = layer.to_vec();
                matrix.step(layer, &gradient, &params);
            }
        });
        println!("  SOAP on the CPU: {:.3} ms a step", 1e3 * step);
    }

    /// Renders, and how far from the CPU's they are.
    fn renders(&self, case: &Case, size: Size) {
        let evaluator = Evaluator::new(case.model.siren().unwrap());
        let grid = PixelGrid::new(size, &View::default()).unwrap();
        let render = Render::new(evaluator.clone(), size, grid, Field::Value, BitDepth::Eight);
        let mut wanted = None;
        let cpu = shortest(2, || wanted = Some(render.raster().into_samples()));
        let Some(Samples::U8(wanted)) = wanted else { return };
        println!("\nrender, {}, {}x{}", case.topology, size.width, size.height);
        println!("  CPU: {:.2} ms", 1e3 * cpu);
        println!("  variant: ms of a render; ms of a part of 2^20 pixels on the GPU;");
        println!("  times the CPU's speed; samples that differ, most levels");
        let mut fastest: Option<(Variant, f64)> = None;
        let one_split = || shapes().into_iter().filter(|v| v.splits == 1 || v.wide);
        let mut variants: Vec<Variant> = one_split().map(|v| Variant { splits: 1, ..v }).collect();
        for index in 0..variants.len() {
            variants.push(Variant { workgroups: 8448, ..variants[index] });
        }
        for variant in variants.into_iter().filter(|v| self.takes(case, v)) {
            let gpu = &self.gpu;
            let siren = evaluator.siren();
            let result = Renderer::new(gpu, siren, grid, Some(BitDepth::Eight), variant);
            let result = result.and_then(|mut renderer| {
                let found = renderer.samples(0..size.height)?;
                let busy = Instant::now();
                while !self.small && busy.elapsed() < WARM_UP {
                    renderer.samples(0..size.height)?;
                }
                let runs = if self.small { 1 } else { 7 };
                let time = median(runs, || drop(renderer.samples(0..size.height)));
                renderer.time_passes()?;
                renderer.samples(0..size.height)?;
                Ok((found, time, renderer.pass_time()?))
            });
            match result {
                Ok((Samples::U8(found), time, pass)) => {
                    let levels = found.iter().zip(&wanted).map(|(a, b)| a.abs_diff(*b));
                    let (differ, most) = levels.fold((0u32, 0), |(differ, most), level| {
                        (differ + u32::from(level > 0), most.max(level))
                    });
                    let share = 100.0 * f64::from(differ) / wanted.len() as f64;
                    let pass = pass.map_or("-".into(), |pass| format!("{:.3}", 1e3 * pass));
                    println!(
                        "  {:46} {:8.3} ms; {pass}; {:.1}x; {share:.3} %, {most}",
                        name(&variant),
                        1e3 * time,
                        cpu / time,
                    );
                    if fastest.is_none_or(|(_, best)| time < best) {
                        fastest = Some((variant, time));
                    }
                }
                Ok(_) => unreachable!("8 bits were asked for"),
                Err(error) => println!("  {:46} {error}", name(&variant)),
            }
        }
        if let Some((best, time)) = fastest {
            println!("  fastest: {}, {:.3} ms", name(&best), 1e3 * time);
        }
    }
}
