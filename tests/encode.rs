//! The encoder through the library: what it reaches, keeps and refuses. Pictures are
//! small so that training takes seconds.
#![cfg(feature = "encode")]

mod common;

use std::time::{Duration, Instant};

use common::{Random, picture};
use sirenc::Representation;
use sirenc::container::{TrainingOmega, WeightCoding};
use sirenc::{
    BitDepth, Channels, Control, Decoder, EncodeError, Encoded, Encoder, LatentOptions, Metadata,
    OptimizerChoice, Raster, Samples, SirenOptions, Size, Target, View, psnr,
};

const SIZE: Size = Size { width: 40, height: 24 };

/// A network of given size.
fn siren() -> SirenOptions {
    SirenOptions::new().hidden([16; 3]).coding(WeightCoding::F16)
}

fn encoder(steps: u32) -> Encoder {
    Encoder::new().representation(siren()).steps(steps)
}

fn run(raster: &Raster, encoder: &Encoder) -> Result<Encoded, EncodeError> {
    encoder.encode(raster)
}

#[test]
fn every_kind_of_picture_comes_back() {
    for channels in [Channels::Grey, Channels::GreyAlpha, Channels::Rgb, Channels::Rgba] {
        for depth in [BitDepth::Eight, BitDepth::Sixteen] {
            let raster = picture(SIZE, channels, depth);
            let encoded = run(&raster, &encoder(300)).unwrap();
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
        run(&raster, &encoder(30)).unwrap().bytes
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
    for representation in [SirenOptions::new().into(), Representation::from(LatentOptions::new())] {
        let encoder = Encoder::new().bytes(1000).steps(300);
        let encoded = run(&raster, &encoder.representation(representation.clone())).unwrap();
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
        pool.install(|| run(&raster, &encoder(30)).unwrap().bytes)
    };
    let one = threads(1);
    assert_eq!(one, threads(1));
    assert_eq!(one, threads(3));
    assert_ne!(one, run(&raster, &encoder(30).seed(1)).unwrap().bytes);
}

#[test]
fn divergence_is_recovered_from() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let encoder = encoder(400).representation(siren().learning_rate(1.0));
    let encoded = run(&raster, &encoder).unwrap();
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
        let encoded = run(&raster, &encoder(60)).unwrap();
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
            let encoded = run(raster, &Encoder::new().effort(effort)).unwrap();
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
    let encoded = run(&raster, &encoder(1000)).unwrap();
    assert_eq!(encoded.psnr, f64::INFINITY);
    assert_eq!(encoded.steps_done, 0);
    for (coding, weights) in [(WeightCoding::F16, 2 * 9), (WeightCoding::Compact, 16)] {
        let siren = SirenOptions::new().coding(coding);
        let encoder = Encoder::new().bytes(1000).representation(siren).omit_settings(true);
        let encoding = encoder.on_progress(|_| unreachable!("nothing to train"));
        let encoded = encoding.encode(&raster).unwrap();
        assert_eq!((encoded.psnr, encoded.bytes.len()), (f64::INFINITY, 29 + weights));
    }
}

#[test]
fn stopping_keeps_the_best_and_says_so() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let stop = |at: u32| {
        let encoding = encoder(500).on_progress(|progress| {
            if progress.step == at { Control::Stop } else { Control::Continue }
        });
        encoding.encode(&raster)
    };
    let encoded = stop(200).unwrap();
    assert_eq!((encoded.steps_done, encoded.steps_planned), (200, 500));
    assert!(encoded.psnr > 20.0, "{} dB", encoded.psnr);
    let decoder = Decoder::new(&encoded.bytes).unwrap();
    let settings = decoder.metadata().settings.clone().unwrap();
    assert!(settings.contains("steps=500 stop_after=200"), "{settings}");
    // The settings make the same file again.
    assert_eq!(run(&raster, &encoder(500).stop_after(200)).unwrap().bytes, encoded.bytes);
}

#[test]
fn a_resumed_network_gets_better_and_never_worse() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let first = run(&raster, &encoder(60)).unwrap();
    let file = Decoder::new(&first.bytes).unwrap().container().clone();
    let resumed = |steps: u32, siren: SirenOptions| {
        let encoder = encoder(steps).representation(siren).resume(file.clone());
        run(&raster, &encoder).unwrap()
    };
    let longer = resumed(300, siren());
    assert_eq!(longer.topology, first.topology);
    assert!(longer.psnr > first.psnr + 1.0, "{} -> {} dB", first.psnr, longer.psnr);
    assert!(resumed(1, siren()).psnr >= first.psnr);
    assert!(resumed(30, siren().learning_rate(1.0)).psnr >= first.psnr);
    let grey = picture(SIZE, Channels::Grey, BitDepth::Eight);
    let refused = encoder(10).resume(file.clone());
    assert!(matches!(run(&grey, &refused), Err(EncodeError::Settings(_))));
    // Coding and omega_0 are those of the file, where nothing else is said.
    let by_default = run(&raster, &Encoder::new().steps(60).resume(file.clone())).unwrap();
    let again = Decoder::new(&by_default.bytes).unwrap().container().clone();
    assert_eq!((again.coding, again.omega), (file.coding, file.omega));
    let latents = Encoder::new().representation(LatentOptions::new()).resume(file);
    let error = run(&raster, &latents).unwrap_err().to_string();
    assert!(error.contains("holds one SIREN"), "{error}");
}

#[test]
fn adam_trains_too() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let adam = siren().optimizer(OptimizerChoice::Adam);
    let encoded = run(&raster, &encoder(400).representation(adam)).unwrap();
    assert!(encoded.psnr > 25.0, "{} dB", encoded.psnr);
}

#[test]
fn time_outs_hold() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let encoder = encoder(1_000_000).timeout(Duration::from_secs(1));
    let started = Instant::now();
    let encoded = run(&raster, &encoder).unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(encoded.steps_planned < 1_000_000);
    assert!(encoded.psnr > 20.0, "{} dB", encoded.psnr);
}

/// One SIREN of any size.
fn free(target: Target, steps: u32) -> Encoder {
    Encoder::new().target(target).representation(SirenOptions::new()).steps(steps)
}

#[test]
fn byte_targets_hold() {
    let raster = picture(Size { width: 64, height: 48 }, Channels::Rgb, BitDepth::Eight);
    for bytes in [110, 130, 200, 400, 1000, 1100, 5000] {
        for coding in [WeightCoding::F16, WeightCoding::Compact] {
            let siren = SirenOptions::new().coding(coding);
            let encoder = free(Target::Bytes(bytes), 300).representation(siren);
            let len = run(&raster, &encoder).unwrap().bytes.len() as u64;
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
        let compact = siren().coding(WeightCoding::Compact);
        let encoder = encoder(300).bytes(bytes).representation(compact);
        let encoded = run(&raster, &encoder).unwrap();
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
    let grids = |quality: f64| common::latents_encoder(Target::Quality(quality), 100);
    for (raster, encoder) in [
        (small(16, 3), &siren as &dyn Fn(f64) -> Encoder),
        (small(60, 10), &siren),
        (small(60, 10), &grids),
    ] {
        let all = [1.0, 30.0, 60.0, 100.0].map(|quality| run(&raster, &encoder(quality)).unwrap());
        let all = all.map(|encoded| (encoded.bytes.len(), encoded.psnr));
        let rises = all.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
        assert!(rises && all[3].1 > all[0].1 + 6.0, "{all:?}");
    }
}

#[test]
fn a_psnr_is_reached_or_refused() {
    let mut runs = 0;
    let encoding = free(Target::Psnr(16.0), 300).on_progress(|progress| {
        runs = progress.run;
        Control::Continue
    });
    let encoded = encoding.encode(&blocks(12)).unwrap();
    assert!((16.0..17.5).contains(&encoded.psnr), "{} dB", encoded.psnr);
    assert!((1..=8).contains(&runs), "{runs}");
    let noise = (0..32 * 32 * 3).map(|i| (Random(i).next() * 256.0) as u8).collect();
    let noise = Raster::new(Size { width: 32, height: 32 }, Channels::Rgb, Samples::U8(noise));
    let noise = noise.unwrap();
    let encoder = free(Target::Psnr(40.0), 60).representation(SirenOptions::new().hidden([8; 2]));
    let error = run(&noise, &encoder).unwrap_err();
    let EncodeError::PsnrUnreached { wanted: 40.0, best, .. } = error else { panic!("{error}") };
    assert_eq!(run(&noise, &encoder.best_effort(true)).unwrap().psnr, best);
}

#[test]
fn settings_that_make_no_sense_are_errors() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let refused = |encoder: Encoder| {
        let error = run(&raster, &encoder).unwrap_err();
        assert!(matches!(error, EncodeError::Settings(_)), "{error}");
    };
    refused(encoder(0));
    refused(encoder(80).stop_after(0));
    refused(encoder(80).effort(0));
    refused(encoder(80).effort(10));
    refused(encoder(80).bpp(-1.0));
    refused(encoder(80).bpp(f64::INFINITY));
    refused(encoder(80).quality(0.0));
    refused(encoder(80).psnr(f64::NAN));
    refused(encoder(80).psnr(f64::MAX));
    let refused = |siren: SirenOptions| refused(encoder(80).representation(siren));
    let omega = |first, hidden| siren().omega(TrainingOmega { first, hidden });
    refused(siren().batch(0));
    refused(siren().learning_rate(f64::NAN));
    refused(omega(0.0, 30.0));
    refused(omega(30.0, 1e-40));
    refused(omega(30.0, f32::INFINITY));
    refused(siren().hidden([]));
    refused(siren().hidden([2000]));
    refused(siren().hidden([usize::MAX; 3]));
    refused(siren().hidden(vec![1; 100_000]));
}

/// Sizes beyond all that the picture can use are those of one that it can.
#[test]
fn the_largest_sizes_follow_the_picture() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let most = 2 * 40 * 24 * 3 + 4096;
    let f16 = encoder(3).representation(SirenOptions::new().coding(WeightCoding::F16));
    for given in [free(Target::Auto, 3), common::latents_encoder(Target::Auto, 3), f16] {
        let targets =
            [Target::Bytes(most), Target::Bytes(u64::MAX), Target::Bpp(1e9), Target::Bpp(f64::MAX)];
        let files = targets.map(|target| {
            let encoded = run(&raster, &given.clone().target(target)).unwrap();
            assert!(encoded.bytes.len() as u64 <= most);
            encoded.bytes
        });
        assert!(files.iter().all(|file| *file == files[0]), "{given:?}");
    }
}

#[test]
fn the_longest_training_ends_when_it_is_told_to() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let siren = SirenOptions::new().hidden([16; 3]);
    let latents = Representation::from(LatentOptions::new());
    for (representation, of_all_pixels) in
        [(siren.clone().into(), siren.batch(usize::MAX).into()), (latents.clone(), latents)]
    {
        let encoder = Encoder::new().timeout(Duration::MAX);
        let short = encoder.clone().representation(representation).steps(40);
        assert_eq!(run(&raster, &short).unwrap().steps_done, 40);
        let mut done = 0;
        let long = encoder.representation(of_all_pixels).steps(u32::MAX);
        let long = long.on_progress(|progress| {
            done = progress.step;
            if done < 30 { Control::Continue } else { Control::Stop }
        });
        let ended = long.encode(&raster);
        assert!(matches!(ended, Ok(_) | Err(EncodeError::Cancelled)) && done == 30);
    }
}

#[test]
fn metadata_travels() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let given = Metadata {
        icc: Some(vec![1, 2, 3]),
        exif: Some(vec![4; 1000]),
        xmp: Some(b"<x/>".to_vec()),
        ..Metadata::default()
    };
    let encoder = encoder(80).metadata(given.clone());
    let decoder = Decoder::new(&run(&raster, &encoder).unwrap().bytes).unwrap();
    let metadata = decoder.metadata();
    assert_eq!(metadata.icc, given.icc);
    assert_eq!(metadata.exif, given.exif);
    assert_eq!(metadata.xmp, given.xmp);
    assert!(metadata.settings.as_ref().unwrap().starts_with("sirenc "));
    let bare = run(&raster, &encoder.omit_settings(true)).unwrap();
    let bare = Decoder::new(&bare.bytes).unwrap();
    assert_eq!((bare.metadata().settings.as_ref(), bare.container().omega), (None, None));
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_is_not_built_in_is_an_error() {
    let raster = picture(SIZE, Channels::Rgb, BitDepth::Eight);
    let error = run(&raster, &encoder(80).device(sirenc::DeviceChoice::Cuda)).unwrap_err();
    assert!(matches!(error, EncodeError::Device { device: "cuda", .. }), "{error}");
}
