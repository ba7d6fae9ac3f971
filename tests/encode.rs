//! The encoder through the library: what it reaches, keeps and refuses. Pictures are
//! small so that training takes seconds.
#![cfg(feature = "encode")]

mod common;

use std::time::{Duration, Instant};

use common::{Random, picture};
use sirenc::container::{Representation, WeightCoding};
use sirenc::{
    BitDepth, Channels, Control, Decoder, EncodeError, EncodeOptions, Encoded, OptimizerChoice,
    Raster, Samples, Size, Target, Training, View, encode, psnr,
};

const SIZE: Size = Size { width: 40, height: 24 };

fn options(steps: u32) -> EncodeOptions {
    EncodeOptions {
        hidden: Some(vec![16; 3]),
        coding: WeightCoding::F16,
        training: Training { steps: Some(steps), ..Training::default() },
        ..EncodeOptions::default()
    }
}

fn run(raster: &Raster, options: &EncodeOptions) -> Result<Encoded, EncodeError> {
    encode(raster, options, |_| Control::Continue)
}

#[test]
fn every_kind_of_picture_comes_back() {
    for channels in [Channels::Grey, Channels::GreyAlpha, Channels::Rgb, Channels::Rgba] {
        for depth in [BitDepth::Eight, BitDepth::Sixteen] {
            let raster = picture(SIZE, channels, depth);
            let encoded = run(&raster, &options(300)).unwrap();
            assert!(encoded.psnr > 30.0, "{channels} {depth:?}: {} dB", encoded.psnr);
            let decoder = Decoder::new(&encoded.bytes).unwrap();
            let decoded = decoder.render(&View::native()).unwrap();
            assert_eq!(decoded.size(), SIZE);
            assert_eq!((decoded.channels(), decoded.depth()), (channels, depth));
            assert!((psnr(&raster, &decoded) - encoded.psnr).abs() < 1e-9);
            let bpp = encoded.bytes.len() as f64 * 8.0 / (40.0 * 24.0);
            assert_eq!(encoded.bpp, bpp);
        }
    }
}

#[test]
fn what_nobody_sees_is_not_stored() {
    let file = |channels, samples: Vec<u8>| {
        let raster = Raster::new(SIZE, channels, Samples::U8(samples)).unwrap();
        run(&raster, &options(30)).unwrap().bytes
    };
    let pixels = || (0..SIZE.pixels() as u32).map(|i| (i % 40, i / 40));
    let grey = |x: u32, y: u32| (5 * x + 3 * y) as u8;
    let of = |channels, pixel: &dyn Fn(u32, u32) -> Vec<u8>| {
        file(channels, pixels().flat_map(|(x, y)| pixel(x, y)).collect())
    };
    let plain = of(Channels::Grey, &|x, y| vec![grey(x, y)]);
    assert_eq!(plain, of(Channels::Rgb, &|x, y| vec![grey(x, y); 3]));
    assert_eq!(plain, of(Channels::GreyAlpha, &|x, y| vec![grey(x, y), 255]));
    let shape = |x: u32| if x < 20 { 255 } else { 0 };
    // What lies under transparent pixels is the mean of what can be seen, or anything.
    let hidden = |noise: u32| {
        of(Channels::Rgba, &|x, y| {
            let under = ((x * 37 + y * 91) * noise) as u8;
            let seen = vec![grey(x, y), 200 - grey(x, y) / 2, 90, 255];
            if shape(x) == 0 { vec![under, under / 2, 255 - under, 0] } else { seen }
        })
    };
    assert_eq!(hidden(0), hidden(1));
}

#[test]
fn edges_of_what_can_be_seen_do_not_bleed() {
    // A white disc, black where it is transparent.
    let size = Size { width: 64, height: 64 };
    let alpha = |i: u32| {
        let (x, y) = (f64::from(i % 64) - 31.5, f64::from(i / 64) - 31.5);
        ((20.0 - x.hypot(y)).clamp(0.0, 1.0) * 255.0) as u8
    };
    let pixel = |i: u32| [if alpha(i) > 0 { 255 } else { 0 }, alpha(i)];
    let samples = (0..64 * 64).flat_map(pixel).collect();
    let raster = Raster::new(size, Channels::GreyAlpha, Samples::U8(samples)).unwrap();
    for representation in [Representation::Siren, Representation::Grid] {
        let options = EncodeOptions {
            target: Target::Bytes(1000),
            representation: Some(representation),
            training: Training { steps: Some(300), ..Training::default() },
            ..EncodeOptions::default()
        };
        let encoded = run(&raster, &options).unwrap();
        let decoder = Decoder::new(&encoded.bytes).unwrap();
        let decoded = decoder.render(&View::native()).unwrap();
        let Samples::U8(samples) = decoded.samples() else { panic!("8 bits") };
        // On white there is nothing to see.
        let on_white = |pixel: &[u8]| 255 - (255 - u32::from(pixel[0])) * u32::from(pixel[1]) / 255;
        let darkest = samples.chunks_exact(2).map(on_white).min().unwrap();
        assert!(darkest > 215, "{representation:?}: {darkest}");
    }
}

#[test]
fn the_same_seed_gives_the_same_file_on_any_number_of_threads() {
    let raster = picture(Size { width: 90, height: 70 }, Channels::Rgb, BitDepth::Eight);
    let threads = |count| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap();
        pool.install(|| run(&raster, &options(30)).unwrap().bytes)
    };
    let one = threads(1);
    assert_eq!(one, threads(1));
    assert_eq!(one, threads(3));
    let mut other = options(30);
    other.training.seed = 1;
    assert_ne!(one, run(&raster, &other).unwrap().bytes);
}

#[test]
fn divergence_is_recovered_from() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let mut options = options(400);
    options.training.learning_rate = Some(1.0);
    let encoded = run(&raster, &options).unwrap();
    assert!(encoded.recoveries > 0);
    assert!(encoded.psnr > 20.0, "{} dB", encoded.psnr);
}

#[test]
fn odd_pictures_are_no_failure() {
    let pixels = |width, height, value: fn(u64) -> u8| {
        let count = u64::from(width) * u64::from(height) * 3;
        let samples = Samples::U8((0..count).map(value).collect());
        Raster::new(Size { width, height }, Channels::Rgb, samples).unwrap()
    };
    for raster in [
        pixels(1, 1, |_| 77),
        pixels(1, 500, |i| (i % 251) as u8),
        pixels(500, 1, |i| (i % 251) as u8),
        pixels(2, 2, |i| if i % 2 == 0 { 255 } else { 0 }),
        pixels(64, 64, |i| (Random(i).next() * 256.0) as u8),
    ] {
        let encoded = run(&raster, &options(60)).unwrap();
        let size = raster.size();
        assert_eq!(Decoder::new(&encoded.bytes).unwrap().size(), size);
        assert!(encoded.psnr > 4.0, "{size:?}: {} dB", encoded.psnr);
    }
}

#[test]
fn no_picture_ends_below_its_mean_colour() {
    let size = Size { width: 24, height: 24 };
    let pixels = |value: &dyn Fn(u64, u64) -> u8| {
        let samples = (0..24 * 24).map(|i| value(i % 24, i / 24)).collect();
        Raster::new(size, Channels::Grey, Samples::U8(samples)).unwrap()
    };
    let rasters = [
        pixels(&|x, y| if (x + y) % 2 == 0 { 255 } else { 0 }),
        pixels(&|x, y| 128 + (Random(x * 24 + y).next() * 2.0) as u8),
        pixels(&|x, y| if (x, y) == (7, 9) { 255 } else { 0 }),
        pixels(&|x, y| (Random(x * 24 + y).next() * 256.0) as u8),
        pixels(&|x, y| (10 * x + y) as u8),
    ];
    for (index, raster) in rasters.iter().enumerate() {
        let Samples::U8(samples) = raster.samples() else { unreachable!() };
        let mean = samples.iter().map(|&s| u64::from(s)).sum::<u64>() as f64 / 576.0;
        let flat = Samples::U8(vec![mean.round() as u8; 576]);
        let flat = psnr(raster, &Raster::new(size, Channels::Grey, flat).unwrap());
        for effort in 1..=3 {
            let mut options = EncodeOptions::default();
            options.training.effort = effort;
            let encoded = run(raster, &options).unwrap();
            let found = encoded.psnr;
            // Binary16 may round the mean colour to the next level.
            assert!(found > flat - 0.05, "{index}, effort {effort}: {found}, flat {flat} dB");
        }
    }
}

#[test]
fn a_flat_picture_is_exact() {
    let size = Size { width: 20, height: 30 };
    let samples = Samples::U8([200, 13, 90].repeat(600));
    let raster = Raster::new(size, Channels::Rgb, samples).unwrap();
    let encoded = run(&raster, &options(1000)).unwrap();
    assert_eq!(encoded.psnr, f64::INFINITY);
    assert_eq!(encoded.steps_done, 0);
    for (coding, weights) in [(WeightCoding::F16, 2 * 9), (WeightCoding::Compact, 16)] {
        let target = Target::Bytes(1000);
        let options =
            EncodeOptions { target, coding, omit_settings: true, ..EncodeOptions::default() };
        let encoded = encode(&raster, &options, |_| unreachable!("nothing to train")).unwrap();
        assert_eq!((encoded.psnr, encoded.bytes.len()), (f64::INFINITY, 29 + weights));
    }
}

#[test]
fn stopping_keeps_the_best_and_says_so() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let stop = |at: u32| {
        encode(&raster, &options(500), |progress| {
            if progress.step == at { Control::Stop } else { Control::Continue }
        })
    };
    let encoded = stop(200).unwrap();
    assert_eq!((encoded.steps_done, encoded.steps_planned), (200, 500));
    assert!(encoded.psnr > 20.0, "{} dB", encoded.psnr);
    let decoder = Decoder::new(&encoded.bytes).unwrap();
    let settings = decoder.metadata().settings.clone().unwrap();
    assert!(settings.contains("--steps 500 --stop-after 200"), "{settings}");
    // The settings make the same file again.
    let mut again = options(500);
    again.training.stop_after = Some(200);
    assert_eq!(run(&raster, &again).unwrap().bytes, encoded.bytes);
}

#[test]
fn a_resumed_network_gets_better_and_never_worse() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let first = run(&raster, &options(60)).unwrap();
    let resumed = |steps: u32, learning_rate: Option<f64>| {
        let mut options = options(steps);
        options.target = Target::Auto;
        options.training.learning_rate = learning_rate;
        options.resume = Some(Decoder::new(&first.bytes).unwrap().container().clone());
        run(&raster, &options).unwrap()
    };
    let longer = resumed(300, None);
    assert_eq!(longer.topology, first.topology);
    assert!(longer.psnr > first.psnr + 1.0, "{} -> {} dB", first.psnr, longer.psnr);
    assert!(resumed(1, None).psnr >= first.psnr);
    assert!(resumed(30, Some(1.0)).psnr >= first.psnr);
    let grey = picture(SIZE, Channels::Grey, BitDepth::Eight);
    let mut options = options(10);
    options.resume = Some(Decoder::new(&first.bytes).unwrap().container().clone());
    assert!(matches!(run(&grey, &options), Err(EncodeError::Settings(_))));
}

#[test]
fn adam_trains_too() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let mut options = options(400);
    options.training.optimizer = OptimizerChoice::Adam;
    let encoded = run(&raster, &options).unwrap();
    assert!(encoded.psnr > 25.0, "{} dB", encoded.psnr);
}

#[test]
fn time_outs_hold() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let mut options = options(1_000_000);
    options.training.timeout = Some(Duration::from_secs(1));
    let started = Instant::now();
    let encoded = run(&raster, &options).unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(encoded.steps_planned < 1_000_000);
    assert!(encoded.psnr > 20.0, "{} dB", encoded.psnr);
}

/// Options without a network.
fn free(target: Target, steps: u32) -> EncodeOptions {
    EncodeOptions {
        target,
        representation: Some(Representation::Siren),
        hidden: None,
        coding: WeightCoding::Compact,
        ..options(steps)
    }
}

#[test]
fn byte_targets_hold() {
    let raster = picture(Size { width: 64, height: 48 }, Channels::Rgb, BitDepth::Eight);
    for bytes in [110, 130, 200, 400, 1000, 1100, 5000] {
        for coding in [WeightCoding::F16, WeightCoding::Compact] {
            let options = EncodeOptions { coding, ..free(Target::Bytes(bytes), 300) };
            let len = run(&raster, &options).unwrap().bytes.len() as u64;
            assert!(len <= bytes, "{len} of {bytes}");
            // Binary16 has no other way than another topology.
            let least = if coding == WeightCoding::Compact { 95 } else { 80 };
            assert!(bytes < 200 || len * 100 >= bytes * least, "{coding}: {len} of {bytes}");
        }
    }
    let error = run(&raster, &free(Target::Bytes(40), 300)).unwrap_err();
    assert!(matches!(error, EncodeError::TooFewBytes { wanted: 40, .. }), "{error}");
    assert!(run(&raster, &free(Target::Bpp(1.0), 300)).unwrap().bpp <= 1.0);
}

#[test]
fn a_given_network_fits_its_bytes() {
    let raster = picture(Size { width: 64, height: 48 }, Channels::Rgb, BitDepth::Eight);
    for bytes in [300, 500, 900] {
        let options = EncodeOptions {
            coding: WeightCoding::Compact,
            target: Target::Bytes(bytes),
            ..options(300)
        };
        let encoded = run(&raster, &options).unwrap();
        assert_eq!(encoded.topology.hidden(), [16; 3]);
        let len = encoded.bytes.len() as u64;
        assert!(len <= bytes && len * 100 >= bytes * 95, "{len} of {bytes}");
    }
}

/// A picture of blocks of random colours, `side` pixels wide.
fn blocks(side: u64) -> Raster {
    blocks_of(Size { width: 96, height: 64 }, side)
}

fn blocks_of(size: Size, side: u64) -> Raster {
    let width = u64::from(size.width);
    let samples = (0..size.pixels() * 3).map(|i| {
        let (x, y) = (i / 3 % width, i / 3 / width);
        (Random(i % 3 + 3 * (x / side + width * (y / side))).next() * 256.0) as u8
    });
    Raster::new(size, Channels::Rgb, Samples::U8(samples.collect())).unwrap()
}

#[test]
fn quality_rises_with_bytes() {
    let raster = blocks(5);
    let at = |quality: f64| run(&raster, &free(Target::Quality(quality), 300)).unwrap();
    let encoded: Vec<Encoded> = [1.0, 30.0, 60.0, 100.0].map(at).into();
    for pair in encoded.windows(2) {
        assert!(pair[0].bytes.len() <= pair[1].bytes.len());
    }
    assert!(encoded[0].psnr < encoded[3].psnr);
    assert!(encoded[0].bytes.len() < encoded[3].bytes.len());
}

/// The model expects all of a small picture of a few bytes.
#[test]
fn quality_tells_in_small_pictures_too() {
    let small = |width: u32, side| blocks_of(Size { width, height: width / 2 }, side);
    let siren = |quality: f64| free(Target::Quality(quality), 300);
    let grids = |quality: f64| common::grid_options(Target::Quality(quality), 100);
    for (raster, options) in [
        (small(16, 3), &siren as &dyn Fn(f64) -> EncodeOptions),
        (small(60, 10), &siren),
        (small(60, 10), &grids),
    ] {
        let all = [1.0, 30.0, 60.0, 100.0].map(|quality| run(&raster, &options(quality)).unwrap());
        let all = all.map(|encoded| (encoded.bytes.len(), encoded.psnr));
        let rises = all.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
        assert!(rises && all[3].1 > all[0].1 + 6.0, "{all:?}");
    }
}

#[test]
fn a_psnr_is_reached_or_refused() {
    let mut runs = 0;
    let encoded = encode(&blocks(12), &free(Target::Psnr(16.0), 300), |progress| {
        runs = progress.run;
        Control::Continue
    });
    let encoded = encoded.unwrap();
    assert!((16.0..17.5).contains(&encoded.psnr), "{} dB", encoded.psnr);
    assert!((1..=8).contains(&runs), "{runs}");
    let noise = (0..32 * 32 * 3).map(|i| (Random(i).next() * 256.0) as u8).collect();
    let noise = Raster::new(Size { width: 32, height: 32 }, Channels::Rgb, Samples::U8(noise));
    let noise = noise.unwrap();
    let mut options = EncodeOptions { hidden: Some(vec![8; 2]), ..free(Target::Psnr(40.0), 60) };
    let error = run(&noise, &options).unwrap_err();
    let EncodeError::PsnrUnreached { wanted: 40.0, best, .. } = error else { panic!("{error}") };
    options.best_effort = true;
    assert_eq!(run(&noise, &options).unwrap().psnr, best);
}

#[test]
fn settings_that_make_no_sense_are_errors() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let refused = |change: fn(&mut EncodeOptions)| {
        let mut options = options(80);
        change(&mut options);
        let error = run(&raster, &options).unwrap_err();
        assert!(matches!(error, EncodeError::Settings(_)), "{error}");
    };
    refused(|o| o.training.steps = Some(0));
    refused(|o| o.training.stop_after = Some(0));
    refused(|o| o.training.batch = Some(0));
    refused(|o| o.training.effort = 0);
    refused(|o| o.training.effort = 10);
    refused(|o| o.training.learning_rate = Some(f64::NAN));
    refused(|o| o.training.omega.first = 0.0);
    refused(|o| o.training.omega.hidden = 1e-40);
    refused(|o| o.training.omega.hidden = f32::INFINITY);
    refused(|o| o.hidden = Some(vec![]));
    refused(|o| o.hidden = Some(vec![2000]));
    refused(|o| o.hidden = Some(vec![usize::MAX; 3]));
    refused(|o| o.hidden = Some(vec![1; 100_000]));
    refused(|o| o.target = Target::Bpp(-1.0));
    refused(|o| o.target = Target::Bpp(f64::INFINITY));
    refused(|o| o.target = Target::Quality(0.0));
    refused(|o| o.target = Target::Psnr(f64::NAN));
    refused(|o| o.target = Target::Psnr(f64::MAX));
}

/// Sizes beyond all that the picture can use are those of one that it can.
#[test]
fn the_largest_sizes_follow_the_picture() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let most = 2 * 40 * 24 * 3 + 4096;
    let siren = EncodeOptions { hidden: None, ..options(3) };
    for given in [free(Target::Auto, 3), common::grid_options(Target::Auto, 3), siren] {
        let targets =
            [Target::Bytes(most), Target::Bytes(u64::MAX), Target::Bpp(1e9), Target::Bpp(f64::MAX)];
        let files = targets.map(|target| {
            let encoded = run(&raster, &EncodeOptions { target, ..given.clone() }).unwrap();
            assert!(encoded.bytes.len() as u64 <= most);
            encoded.bytes
        });
        assert!(files.iter().all(|file| *file == files[0]), "{given:?}");
    }
}

#[test]
fn the_longest_training_ends_when_it_is_told_to() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let whole = options(2).hidden;
    for hidden in [whole, None] {
        let representation = hidden.is_none().then_some(Representation::Grid);
        let training = Training { timeout: Some(Duration::MAX), ..Training::default() };
        let mut options = EncodeOptions { hidden, representation, training, ..Default::default() };
        options.training.steps = Some(40);
        assert_eq!(run(&raster, &options).unwrap().steps_done, 40);
        options.training.steps = Some(u32::MAX);
        options.training.batch = options.hidden.as_ref().map(|_| usize::MAX);
        let mut done = 0;
        let ended = encode(&raster, &options, |progress| {
            done = progress.step;
            if done < 30 { Control::Continue } else { Control::Stop }
        });
        assert!(matches!(ended, Ok(_) | Err(EncodeError::Cancelled)) && done == 30);
    }
}

#[test]
fn metadata_travels() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let mut options = options(80);
    options.metadata.icc = Some(vec![1, 2, 3]);
    options.metadata.exif = Some(vec![4; 1000]);
    options.metadata.xmp = Some(b"<x/>".to_vec());
    let decoder = Decoder::new(&run(&raster, &options).unwrap().bytes).unwrap();
    let metadata = decoder.metadata();
    assert_eq!(metadata.icc, options.metadata.icc);
    assert_eq!(metadata.exif, options.metadata.exif);
    assert_eq!(metadata.xmp, options.metadata.xmp);
    assert!(metadata.settings.as_ref().unwrap().starts_with("sirenc "));
    options.omit_settings = true;
    let bare = Decoder::new(&run(&raster, &options).unwrap().bytes).unwrap();
    assert_eq!((bare.metadata().settings.as_ref(), bare.container().omega), (None, None));
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_is_not_built_in_is_an_error() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let mut options = options(80);
    options.training.device = sirenc::DeviceChoice::Cuda;
    let error = run(&raster, &options).unwrap_err();
    assert!(matches!(error, EncodeError::Device { device: "cuda", .. }), "{error}");
}
