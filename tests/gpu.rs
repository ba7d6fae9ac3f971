//! The GPU's kernels against f64 and against the CPU's, on a software adapter.
//!
//! Without one (Debian: mesa-vulkan-drivers) the tests pass without a check, unless
//! `SIRENC_TEST_GPU` is set; where it is `card`, they run on the best other adapter.
#![cfg(all(feature = "gpu", feature = "encode"))]

mod common;

use std::sync::LazyLock;

use common::{Random, planes_container, uniform, waves, weights};
use sirenc::eval::Evaluator;
use sirenc::gpu::{Gpu, GpuError, Kernel, Renderer, Trainer, Variant};
use sirenc::train::siren::{Batch, Step, Stepper, WeightedPixel};
use sirenc::{
    BitDepth, Channels, Crop, Decoder, Field, PixelGrid, Raster, Render, Samples, Sampling, Siren,
    Size, Topology, View,
};

static GPU: LazyLock<Option<Gpu>> = LazyLock::new(Gpu::for_tests);

/// Random weights with factors, as the fused loss has them, and the network that they make.
fn network(topology: &Topology, seed: u64) -> (Siren, Vec<f32>, Vec<f32>) {
    let siren = Siren::from_weights(topology.clone(), &weights(topology, seed)).unwrap();
    let scales: Vec<f32> = (0..siren.layers().len()).map(|l| 0.5 + l as f32).collect();
    let rows = siren.layers().iter().zip(&scales).flat_map(|(layer, scale)| {
        let rows = layer.weights.chunks_exact(layer.inputs).zip(&layer.biases);
        rows.flat_map(|(row, bias)| row.iter().chain([bias])).map(move |w| w / scale)
    });
    let weights = rows.collect();
    (siren, scales, weights)
}

fn raster(size: Size, channels: Channels, depth: BitDepth, seed: u64) -> Raster {
    let mut random = Random(seed);
    let count = size.pixels() as usize * channels.count();
    let samples = match depth {
        BitDepth::Eight => Samples::U8((0..count).map(|_| (256.0 * random.next()) as u8).collect()),
        BitDepth::Sixteen => {
            Samples::U16((0..count).map(|_| (65536.0 * random.next()) as u16).collect())
        }
    };
    Raster::new(size, channels, samples).unwrap()
}

fn pixels(raster: &Raster, count: usize, seed: u64) -> Vec<WeightedPixel> {
    let mut random = Random(seed);
    let all = raster.size().pixels() as f64;
    let mut pixel = || WeightedPixel {
        number: (all * random.next()) as u32,
        weight: random.between(0.2, 2.0) as f32,
    };
    (0..count).map(|_| pixel()).collect()
}

/// Loss and gradient in f64, by backpropagation.
fn wanted(siren: &Siren, scales: &[f32], raster: &Raster, batch: Batch) -> (f64, Vec<f64>) {
    let all: Vec<WeightedPixel> = match batch {
        Batch::All => (0..raster.size().pixels() as u32)
            .map(|number| WeightedPixel { number, weight: 1.0 })
            .collect(),
        Batch::Of(pixels) => pixels.to_vec(),
    };
    let grid = PixelGrid::new(raster.size(), &View::default()).unwrap();
    let width = raster.size().width;
    let (channels, has_alpha) = (raster.channels().count(), raster.channels().has_alpha());
    let mut loss = 0.0;
    let mut gradients: Vec<Vec<f64>> =
        siren.layers().iter().map(|l| vec![0.0; (l.inputs + 1) * l.outputs]).collect();
    for pixel in &all {
        let (column, row) = (pixel.number % width, pixel.number / width);
        let mut h = vec![vec![f64::from(grid.x(column) as f32), f64::from(grid.y(row) as f32)]];
        let mut slopes = Vec::new();
        let last = siren.layers().len() - 1;
        for (index, layer) in siren.layers().iter().enumerate() {
            let input = h.last().unwrap();
            let rows = layer.weights.chunks_exact(layer.inputs).zip(&layer.biases);
            let affine: Vec<f64> = rows
                .map(|(row, &bias)| {
                    let sum: f64 = row.iter().zip(input).map(|(&w, h)| f64::from(w) * h).sum();
                    sum + f64::from(bias)
                })
                .collect();
            slopes.push(affine.iter().map(|a| a.cos()).collect::<Vec<f64>>());
            let sine = |a: f64| if index == last { a } else { a.sin() };
            h.push(affine.into_iter().map(sine).collect());
        }
        let unit = |c: usize| f64::from(raster.unit(pixel.number as usize * channels + c));
        let mut delta: Vec<f64> = (0..channels)
            .map(|c| {
                let alpha = if has_alpha && c + 1 < channels { unit(channels - 1) } else { 1.0 };
                let error = h[last + 1][c] - (2.0 * unit(c) - 1.0);
                let weight = f64::from(pixel.weight) * alpha * alpha;
                loss += weight * error * error;
                weight * error
            })
            .collect();
        for (index, layer) in siren.layers().iter().enumerate().rev() {
            let row = layer.inputs + 1;
            for (o, d) in delta.iter().enumerate() {
                let part = &mut gradients[index][o * row..(o + 1) * row];
                for (sum, h) in part.iter_mut().zip(h[index].iter().chain([&1.0])) {
                    *sum += d * h;
                }
            }
            if index > 0 {
                delta = (0..layer.inputs)
                    .map(|k| {
                        let weights = layer.weights.iter().skip(k).step_by(layer.inputs);
                        let sum: f64 = weights.zip(&delta).map(|(&w, d)| f64::from(w) * d).sum();
                        sum * slopes[index - 1][k]
                    })
                    .collect();
            }
        }
    }
    let mean = 1.0 / (all.len() * channels) as f64;
    let gradients = gradients.into_iter().zip(scales).flat_map(|(gradient, &scale)| {
        gradient.into_iter().map(move |g| 2.0 * mean * f64::from(scale) * g)
    });
    (mean * loss, gradients.collect())
}

/// Holds a step against f64, layer by layer.
fn check(siren: &Siren, step: &Step, (loss, gradient): &(f64, Vec<f64>), what: &str) {
    let error = (step.loss / loss - 1.0).abs();
    assert!(error < 1e-4, "{what}: loss {}, not {loss}", step.loss);
    let mut start = 0;
    for layer in siren.layers() {
        let range = start..start + (layer.inputs + 1) * layer.outputs;
        start = range.end;
        let (mut error, mut norm) = (0.0, 0.0);
        for (&found, wanted) in step.gradient[range.clone()].iter().zip(&gradient[range]) {
            error += (f64::from(found) - wanted).powi(2);
            norm += wanted.powi(2);
        }
        let error = (error / norm).sqrt();
        assert!(error < 2e-4, "{what}: a gradient is off by {error}");
    }
    assert_eq!(step.gradient.len(), gradient.len());
}

/// Every way of dividing the work, where the tiles of Mesa's compiler are not too large.
fn variants() -> Vec<Variant> {
    let mut variants = Vec::new();
    for kernel in [Variant::TILES, Variant::WIDE_TILES, Variant::PIXELS] {
        let tiles = kernel.kernel != Kernel::Pixels;
        variants.extend([
            kernel,
            Variant { staged: !kernel.staged, ..kernel },
            Variant { workgroups: 1, ..kernel },
            Variant { invocations: 128, pixels: 128, splits: 2, wide: tiles, ..kernel },
        ]);
    }
    variants.push(Variant { pixels: 16, ..Variant::TILES });
    variants
}

#[test]
fn gradients_of_all_variants_are_those_of_f64() {
    let Some(gpu) = &*GPU else { return };
    let size = Size { width: 23, height: 17 };
    for (case, variant) in variants().into_iter().enumerate() {
        let channels = Channels::from_count(1 + case % 4).unwrap();
        let topology = Topology::new(channels, vec![5, 8, 3]).unwrap();
        let (siren, scales, weights) = network(&topology, case as u64);
        let depth = if case % 2 == 0 { BitDepth::Eight } else { BitDepth::Sixteen };
        let raster = raster(size, channels, depth, 7);
        assert!(variant.fits(&topology, gpu), "{variant:?}");
        let mut trainer = Trainer::new(gpu, &raster, &topology, &scales, variant).unwrap();
        for count in [0, 1, 77, 300] {
            let some = pixels(&raster, count, case as u64);
            let batch = if count == 0 { Batch::All } else { Batch::Of(&some) };
            let step = trainer.step(&weights, batch).unwrap();
            let wanted = wanted(&siren, &scales, &raster, batch);
            check(&siren, &step, &wanted, &format!("{variant:?}, {channels}, {count}"));
        }
    }
}

#[test]
fn gradients_of_all_topologies_are_those_of_f64() {
    let Some(gpu) = &*GPU else { return };
    let mut random = Random(3);
    let mut topologies: Vec<Topology> = [(10, 28), (13, 49), (4, 256), (1, 1), (3, 300)]
        .map(|(layers, features)| uniform(Channels::Rgb, layers, features))
        .into();
    for case in 0..6 {
        let layers = random.between(1.0, 6.0) as usize;
        let hidden = (0..layers).map(|_| random.between(1.0, 70.0) as usize).collect();
        topologies
            .push(Topology::new(Channels::from_count(1 + case % 4).unwrap(), hidden).unwrap());
    }
    for (case, topology) in topologies.iter().enumerate() {
        let (siren, scales, weights) = network(topology, case as u64);
        let raster =
            raster(Size { width: 30, height: 20 }, topology.channels(), BitDepth::Eight, 7);
        // Every second one as with a large batch.
        let variant = Variant::of_training(topology, 75 + case % 2 * 100_000, gpu);
        let mut trainer = Trainer::new(gpu, &raster, topology, &scales, variant).unwrap();
        let some = pixels(&raster, 75, case as u64);
        let step = trainer.step(&weights, Batch::Of(&some)).unwrap();
        let wanted = wanted(&siren, &scales, &raster, Batch::Of(&some));
        check(&siren, &step, &wanted, &topology.to_string());
        // Bit by bit the same from run to run.
        assert_eq!(trainer.step(&weights, Batch::Of(&some)).unwrap(), step, "{topology}");
    }
}

#[test]
fn dispatches_add_up() {
    let Some(gpu) = &*GPU else { return };
    let topology = Topology::new(Channels::Rgb, vec![5, 8, 3]).unwrap();
    let (siren, scales, weights) = network(&topology, 5);
    let raster = raster(Size { width: 23, height: 17 }, Channels::Rgb, BitDepth::Eight, 7);
    let some = pixels(&raster, 300, 5);
    let variants = [
        Variant::TILES,
        Variant { workgroups: 1, ..Variant::TILES },
        Variant { invocations: 128, pixels: 128, splits: 2, wide: true, ..Variant::WIDE_TILES },
        Variant::PIXELS,
    ];
    // One tile, or a few.
    for flops in [1, 300_000] {
        let gpu = gpu.clone().with_most_flops(flops);
        for variant in variants {
            let mut trainer = Trainer::new(&gpu, &raster, &topology, &scales, variant).unwrap();
            for batch in [Batch::All, Batch::Of(&some)] {
                let step = trainer.step(&weights, batch).unwrap();
                let what = format!("{variant:?}, {flops}");
                check(&siren, &step, &wanted(&siren, &scales, &raster, batch), &what);
                assert_eq!(trainer.step(&weights, batch).unwrap(), step, "{what}");
            }
        }
    }
    let grid = PixelGrid::new(raster.size(), &View::default()).unwrap();
    let [parts, whole] = [gpu.clone().with_most_flops(1), gpu.clone()].map(|gpu| {
        let variant = Variant::of_renders(&topology, &gpu);
        let depth = Some(BitDepth::Sixteen);
        let mut renderer = Renderer::new(&gpu, &siren, grid, depth, variant).unwrap();
        renderer.samples(2..17).unwrap()
    });
    assert_eq!(parts, whole);
}

#[test]
fn renders_are_those_of_the_definition() {
    let Some(gpu) = &*GPU else { return };
    let native = Size { width: 60, height: 41 };
    let shapes = [vec![28; 10], vec![49; 13], vec![1], vec![300, 7, 64]];
    for (case, hidden) in shapes.into_iter().enumerate() {
        let channels = Channels::from_count(4 - case).unwrap();
        let topology = Topology::new(channels, hidden).unwrap();
        let (siren, ..) = network(&topology, case as u64);
        let grid = PixelGrid::new(native, &View::default()).unwrap();
        let variant = Variant::of_renders(&topology, gpu);
        let all = 0..native.height;
        for depth in [BitDepth::Eight, BitDepth::Sixteen] {
            let mut renderer = Renderer::new(gpu, &siren, grid, Some(depth), variant).unwrap();
            let found = renderer.samples(all.clone()).unwrap();
            assert_eq!(renderer.samples(all.clone()).unwrap(), found, "from run to run");
            let evaluator = Evaluator::new(siren.clone());
            let render = Render::new(evaluator.clone(), native, grid, Field::Value, depth);
            let levels: Vec<u32> = match (&found, render.raster().samples()) {
                (Samples::U8(a), Samples::U8(b)) => {
                    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b).into()).collect()
                }
                (Samples::U16(a), Samples::U16(b)) => {
                    // 16 bits show how far the functions are apart.
                    a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b)) / 128).collect()
                }
                _ => panic!("not the depth asked for"),
            };
            let differ = levels.iter().filter(|&&level| level > 0).count();
            let most = levels.iter().max().unwrap();
            assert!(*most <= 1 && 1000 * differ <= 5 * levels.len(), "{topology}: {differ}");
        }
        // Values of a part, as they are.
        let mut renderer = Renderer::new(gpu, &siren, grid, None, variant).unwrap();
        let values = renderer.values(7..9).unwrap();
        let count = channels.count();
        assert_eq!(values.len(), 2 * 60 * count);
        for (i, value) in values.iter().enumerate() {
            let (column, row) = ((i / count % 60) as u32, 7 + (i / count / 60) as u32);
            let jets = siren.evaluate(grid.x(column), grid.y(row));
            let error = (f64::from(*value) - jets[i % count].value).abs();
            assert!(error < 4e-3, "{topology}: {error}");
        }
    }
}

#[test]
fn a_lost_device_is_an_error() {
    let Some(gpu) = Gpu::for_tests() else { return };
    let topology = uniform(Channels::Rgb, 2, 6);
    let (_, scales, weights) = network(&topology, 1);
    let raster = raster(Size { width: 9, height: 9 }, Channels::Rgb, BitDepth::Eight, 7);
    let variant = Variant::of_training(&topology, 81, &gpu);
    let mut trainer = Trainer::new(&gpu, &raster, &topology, &scales, variant).unwrap();
    trainer.step(&weights, Batch::All).unwrap();
    gpu.lose();
    for _ in 0..2 {
        let lost = trainer.step(&weights, Batch::All);
        let lost = lost.unwrap_err().to_string();
        assert!(lost.starts_with("the GPU failed: "), "{lost}");
    }
    assert!(Trainer::new(&gpu, &raster, &topology, &scales, variant).is_err());
}

#[test]
fn the_cpu_goes_on_with_a_render() {
    let Some(gpu) = Gpu::for_tests() else { return };
    let native = Size { width: 60, height: 41 };
    let (siren, ..) = network(&uniform(Channels::Rgb, 2, 6), 1);
    let evaluator = Evaluator::new(siren);
    let grid = PixelGrid::new(native, &View::default()).unwrap();
    let render = Render::new(evaluator, native, grid, Field::Value, BitDepth::Eight);
    let on_gpu = render.clone().on(|job| gpu.backend(job)).unwrap();
    on_gpu.rows(0..20);
    let name = format!("gpu ({})", gpu.adapter().name);
    assert_eq!((on_gpu.device(), on_gpu.failure()), (Some(name), None));
    gpu.lose();
    assert!(on_gpu.rows(20..41) == render.rows(20..41));
    assert!(gpu.is_lost());
    assert_eq!(on_gpu.device(), None);
    let lost = "the GPU failed: the device was lost";
    let failure = on_gpu.failure().unwrap().to_string();
    assert!(failure.starts_with(lost), "{failure}");
    let failure = render.clone().on(|job| gpu.backend(job)).unwrap_err().to_string();
    assert!(failure.starts_with(lost), "{failure}");
    let by_cpu = render.clone().on_or_cpu(|job| gpu.backend(job));
    assert!(by_cpu.failure().unwrap().to_string().starts_with(lost));
    assert!(by_cpu.raster() == render.raster());
}

/// Spec section 10, as `src/render.rs` has it for the instruction sets of the CPU.
#[test]
fn every_vector_is_met() {
    let Some(gpu) = &*GPU else { return };
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/conformance");
    let mut vectors = 0;
    for entry in std::fs::read_dir(&directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some((stem, size)) = name.strip_suffix(".f64").and_then(|name| name.rsplit_once('.'))
        else {
            continue;
        };
        let (width, height) = size.split_once('x').unwrap();
        let size = Size { width: width.parse().unwrap(), height: height.parse().unwrap() };
        let file = std::fs::read(directory.join(format!("{stem}.siren"))).unwrap();
        let view = View::exact(size);
        let view = view.sampling(Sampling::Point).depth(BitDepth::Eight);
        let render = Decoder::new(&file).unwrap().prepare(&view).unwrap();
        let render = render.on(|job| gpu.backend(job)).unwrap();
        let Samples::U8(samples) = render.raster().into_samples() else { panic!("8 bits") };
        assert_eq!(render.failure(), None);
        let wanted = std::fs::read(directory.join(&name)).unwrap();
        let wanted = wanted.as_chunks::<8>().0.iter().map(|t| {
            let t = f64::from_le_bytes(*t);
            (t.clamp(0.0, 1.0) * 255.0 + 0.5).floor() as u8
        });
        assert_eq!(samples.len(), wanted.len());
        let differences: Vec<u8> = samples.iter().zip(wanted).map(|(a, b)| a.abs_diff(b)).collect();
        assert!(differences.iter().all(|&difference| difference <= 1), "{name}");
        let equal = differences.iter().filter(|&&difference| difference == 0).count();
        assert!(equal as f64 >= 0.999 * samples.len() as f64, "{name}: {equal}");
        vectors += 1;
    }
    assert!(vectors >= 16, "vectors are missing");
}

/// Waves and coarse splines, from files.
#[test]
fn planes_are_rendered_as_on_the_cpu() {
    let Some(gpu) = &*GPU else { return };
    let size = Size { width: 150, height: 91 };
    let crop = Crop { x: 61.5, y: 33.0, width: 40.0, height: 21.0 };
    let views = [
        View::native(),
        View::scaled(3.1).crop(crop),
        View::scaled(0.4).crop(crop),
        // Without waves.
        View::fit(7),
        View::scaled(0.3).sampling(Sampling::Point),
        View::native().planes(2),
    ];
    let all = [waves(1, 8, 2, 3), waves(2, 16, 1, 4), waves(4, 32, 3, 2), waves(0, 0, 2, 4)];
    for (case, bases) in all.into_iter().enumerate() {
        let topology = uniform(Channels::from_count(4 - case).unwrap(), 1, 12);
        let file = planes_container(size, bases, topology, (6, 5), case as u64).write();
        let decoder = Decoder::new(&file).unwrap();
        for view in views {
            let by_cpu = decoder.prepare(&view.depth(BitDepth::Eight)).unwrap();
            let by_gpu = by_cpu.clone().on(|job| gpu.backend(job)).unwrap();
            let [found, wanted] = [&by_gpu, &by_cpu].map(|render| render.raster().into_samples());
            assert_eq!(by_gpu.failure(), None);
            let (Samples::U8(found), Samples::U8(wanted)) = (found, wanted) else {
                panic!("8 bits")
            };
            let close = found.iter().zip(&wanted).all(|(a, b)| a.abs_diff(*b) <= 1);
            assert!(close, "case {case}, {view:?}");
        }
        let render =
            decoder.prepare(&View::native().field(Field::Laplacian { gain: 1.0 })).unwrap();
        let refused = render.on(|job| gpu.backend(job)).unwrap_err().to_string();
        assert_eq!(refused, "derivatives are not computed on a GPU yet");
    }
}

#[test]
fn what_does_not_fit_is_told() {
    let Some(gpu) = &*GPU else { return };
    assert!(!Variant::PIXELS.fits(&uniform(Channels::Rgb, 2, 33), gpu));
    // Cards have up to 64 KiB of workgroup memory.
    assert!(!Variant::TILES.fits(&uniform(Channels::Rgb, 1, 300), gpu));
    let wide = Variant::of_training(&uniform(Channels::Rgb, 1, 300), 100, gpu);
    assert_eq!(wide, Variant::WIDE_TILES);
    assert!(matches!(Gpu::named("no such card"), Err(GpuError::NoAdapter(_))));
}

/// The binary, told to use the software adapter or another one.
#[cfg(feature = "cli")]
fn sirenc(adapter: &str, arguments: &[&str]) -> assert_cmd::assert::Assert {
    let mut command = assert_cmd::Command::cargo_bin("sirenc").unwrap();
    command.env(sirenc::gpu::ADAPTER_VARIABLE, adapter).args(arguments).assert()
}

#[cfg(feature = "cli")]
#[test]
fn the_binary_encodes_and_decodes_on_the_gpu() {
    let Some(gpu) = &*GPU else { return };
    let name = gpu.adapter().name.as_str();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (source, siren) = (path("a.png"), path("a.siren"));
    let picture = common::picture_of_bytes(40, 30, Channels::Rgb);
    let Samples::U8(samples) = picture.into_samples() else { panic!("bytes") };
    image::RgbImage::from_raw(40, 30, samples).unwrap().save(&source).unwrap();
    let siren_settings = ["--hidden-layers", "2", "--hidden-features", "7", "--batch", "200"];
    let grid_settings = ["--representation", "grid", "--bpp", "4", "--seed", "3"];
    for (settings, steps) in [(&siren_settings[..], "80"), (&grid_settings[..], "30")] {
        let encode = |output: &str| {
            let more = ["--steps", steps, "--device", "gpu", "--force", "-o", output];
            let all = [&["encode", source.as_str()], settings, &more].concat();
            sirenc(name, &all).success().stderr(predicates::str::contains("on gpu"));
        };
        encode(&siren);
        let once_more = path("b.siren");
        encode(&once_more);
        assert_eq!(std::fs::read(&siren).unwrap(), std::fs::read(&once_more).unwrap());
        for view in [&["--scale", "1.7"][..], &["--scale", "0.4"], &["--crop", "13,4,20,11"]] {
            let decoded = ["cpu", "gpu"].map(|device| {
                let output = path(&format!("{device}.png"));
                let arguments = ["decode", &siren, "--device", device, "--force", "-o", &output];
                sirenc(name, &[&arguments[..], view].concat()).success();
                image::open(output).unwrap().into_rgb8()
            });
            let [cpu, gpu] = &decoded;
            assert_eq!(cpu.dimensions(), gpu.dimensions());
            let pairs = cpu.as_raw().iter().zip(gpu.as_raw());
            assert!(pairs.clone().all(|(a, b)| a.abs_diff(*b) <= 1), "{settings:?} {view:?}");
            assert!(pairs.filter(|(a, b)| a != b).count() * 100 < cpu.as_raw().len());
        }
    }
    let preview = ["decode", &siren, "--planes", "2", "--device", "gpu", "--force"];
    sirenc(name, &preview).success();
    sirenc(name, &["decode", &siren, "--device", "gpu", "--derivative", "gradient", "--force"])
        .failure()
        .stderr(predicates::str::contains("derivatives are not computed on a GPU"));
    let missing = ["encode", source.as_str(), "--device", "gpu", "--force"];
    sirenc("no such card", &missing)
        .failure()
        .stderr(predicates::str::contains("device gpu: no adapter is named no such card"));
    sirenc(name, &["devices"]).success().stdout(predicates::str::contains(name));
}
