//! Encoding as latents: sizes, targets, determinism, odd pictures, through the public API.
#![cfg(feature = "encode")]

mod common;

use std::time::{Duration, Instant};

use common::{latents_encoder, picture_of_bytes};
use sirenc::container::Representation;
use sirenc::{
    BitDepth, Channels, Control, Decoder, EncodeError, Encoded, Encoder, Raster, Samples, Size,
    Target, View, psnr,
};

fn run(raster: &Raster, encoder: &Encoder) -> Encoded {
    encoder.encode(raster).unwrap()
}

fn decoded(encoded: &Encoded) -> Raster {
    Decoder::new(&encoded.bytes).unwrap().render(&View::native()).unwrap()
}

#[test]
fn a_size_is_kept_and_nearly_used() {
    let raster = picture_of_bytes(96, 64, Channels::Rgb);
    let mut last = 0.0;
    for bytes in [700, 1000, 1500] {
        let encoded = run(&raster, &latents_encoder(Target::Bytes(bytes), 300));
        let used = encoded.bytes.len() as u64;
        assert!(used <= bytes && used * 10 > bytes * 8, "{used} of {bytes} bytes");
        let psnr = psnr(&raster, &decoded(&encoded));
        assert!((psnr - encoded.psnr).abs() < 1e-9);
        assert!(psnr > last && psnr > 22.0, "{bytes} bytes: {psnr} dB after {last}");
        last = psnr;
    }
    let error = latents_encoder(Target::Bytes(200), 40).encode(&raster);
    let Err(EncodeError::TooFewBytes { wanted: 200, smallest }) = error else { panic!() };
    assert!((200..900).contains(&smallest), "{smallest}");
}

#[test]
fn a_psnr_is_reached_or_refused() {
    let raster = picture_of_bytes(64, 48, Channels::Grey);
    let encoded = run(&raster, &latents_encoder(Target::Psnr(30.0), 120));
    assert!((30.0..32.0).contains(&encoded.psnr), "{} dB", encoded.psnr);
    let error = latents_encoder(Target::Psnr(90.0), 40).encode(&raster);
    assert!(matches!(error, Err(EncodeError::PsnrUnreached { .. })));
}

#[test]
fn the_seed_decides_and_not_the_threads() {
    let raster = picture_of_bytes(300, 40, Channels::Rgb);
    let encoder = latents_encoder(Target::Bytes(2500), 24);
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&raster, &encoder).bytes)
    };
    let one = with_threads(1);
    assert!(one == with_threads(3));
    assert!(one != run(&raster, &encoder.clone().seed(1)).bytes);
}

#[test]
fn odd_pictures_become_files() {
    for (width, height) in [(1, 1), (2, 3), (1, 70), (33, 1), (17, 16)] {
        for channels in [Channels::Grey, Channels::GreyAlpha, Channels::Rgb, Channels::Rgba] {
            let raster = picture_of_bytes(width, height, channels);
            let encoded = run(&raster, &latents_encoder(Target::Auto, 20));
            assert_eq!(decoded(&encoded).size(), raster.size());
            assert_eq!(decoded(&encoded).channels(), channels);
        }
    }
    let samples = (0..60 * 40u32).map(|i| (i * 27) as u16).collect();
    let size = Size { width: 60, height: 40 };
    let raster = Raster::new(size, Channels::Grey, Samples::U16(samples)).unwrap();
    let encoded = run(&raster, &latents_encoder(Target::Bytes(900), 60));
    assert_eq!(decoded(&encoded).depth(), BitDepth::Sixteen);
}

#[test]
fn a_run_that_is_stopped_keeps_what_it_has() {
    let raster = picture_of_bytes(96, 64, Channels::Rgb);
    let stop_at = |last: u32| {
        let encoding = latents_encoder(Target::Bytes(1500), 100).on_progress(|progress| {
            assert!(progress.bytes.is_some() && progress.psnr.is_finite());
            if progress.step == last { Control::Stop } else { Control::Continue }
        });
        encoding.encode(&raster)
    };
    let encoded = stop_at(70).unwrap();
    assert_eq!((encoded.steps_done, encoded.steps_planned), (70, 100));
    assert!(encoded.bytes.len() <= 1500 && encoded.psnr > 20.0, "{} dB", encoded.psnr);
    // A stop before the picture's own size is reached keeps the coarse levels.
    let early = stop_at(20).unwrap();
    assert_eq!((early.steps_done, early.steps_planned), (20, 100));
    assert!(early.psnr < encoded.psnr && early.psnr > 10.0, "{} dB", early.psnr);
    // The settings make it again.
    let decoder = Decoder::new(&encoded.bytes).unwrap();
    let settings = decoder.metadata().settings.clone().unwrap();
    assert!(settings.contains("stop_after=70"), "{settings}");
}

#[test]
fn a_run_ends_in_time() {
    let raster = picture_of_bytes(400, 300, Channels::Rgb);
    let encoder = latents_encoder(Target::Bpp(0.5), 100_000).timeout(Duration::from_secs(3));
    let started = Instant::now();
    let encoded = run(&raster, &encoder);
    assert!(encoded.steps_planned < 100_000);
    // Twice the time: the machine may have other things to do.
    assert!(started.elapsed() < Duration::from_secs(6));
}

#[test]
fn training_goes_on_from_a_file() {
    let raster = picture_of_bytes(96, 64, Channels::Rgb);
    let first = run(&raster, &latents_encoder(Target::Bytes(1500), 40));
    let file = Decoder::new(&first.bytes).unwrap().container().clone();
    let more = Encoder::new().steps(60).resume(file);
    let second = run(&raster, &more);
    assert!(second.psnr >= first.psnr, "{} dB after {}", second.psnr, first.psnr);
    assert!(second.bytes.len() <= first.bytes.len() + 40);
    // Its latents are of its size.
    let other = picture_of_bytes(96, 65, Channels::Rgb);
    let error = more.encode(&other).unwrap_err().to_string();
    assert!(error.contains("of 96x64 pixels"), "{error}");
}

#[test]
fn a_small_picture_whose_file_is_too_large_is_trained_again() {
    let photo = image::open("samples/coffee.png").unwrap();
    let small = photo.resize_exact(120, 80, image::imageops::FilterType::Triangle).into_rgb8();
    let size = Size { width: 120, height: 80 };
    let raster = Raster::new(size, Channels::Rgb, Samples::U8(small.into_raw())).unwrap();
    let mut runs = 0;
    let encoding = latents_encoder(Target::Bytes(2000), 100).on_progress(|progress| {
        runs = runs.max(progress.run);
        Control::Continue
    });
    let encoded = encoding.encode(&raster).unwrap();
    assert!(runs > 1);
    assert!(encoded.bytes.len() <= 2000);
    assert!(encoded.psnr > 30.5, "{} dB", encoded.psnr);
    assert_eq!((encoded.steps_done, encoded.steps_planned), (100, 100));
}

#[test]
fn the_representation_follows_the_size() {
    let of = |(width, height), bytes| {
        let encoder = Encoder::new().bytes(bytes).steps(30);
        run(&picture_of_bytes(width, height, Channels::Rgb), &encoder).representation
    };
    assert_eq!(of((96, 64), 400), Representation::Siren);
    assert_eq!(of((192, 128), 5000), Representation::Latents);
    // Many bits per pixel.
    assert_eq!(of((96, 64), 5000), Representation::Siren);
}

/// The picture with columns and rows exchanged.
fn transposed(raster: &Raster) -> Raster {
    let Size { width, height } = raster.size();
    let Samples::U8(samples) = raster.samples() else { unreachable!("8 bits") };
    let count = raster.channels().count();
    let pixel = |x: u32, y: u32| &samples[(y * width + x) as usize * count..][..count];
    let turned = (0..width).flat_map(|x| (0..height).flat_map(move |y| pixel(x, y)));
    let samples = Samples::U8(turned.copied().collect());
    Raster::new(Size { width: height, height: width }, raster.channels(), samples).unwrap()
}

/// Narrow pictures are gone through another way: column by column, several rows at a time.
#[test]
fn narrow_pictures_are_as_good_as_wide_ones() {
    for (width, channels) in [
        (1, Channels::Grey),
        (2, Channels::Rgb),
        (3, Channels::Rgba),
        (8, Channels::Rgb),
        (20, Channels::Grey),
        (70, Channels::Rgb),
    ] {
        let narrow = picture_of_bytes(width, 400, channels);
        let wide = transposed(&narrow);
        let target = Target::Bytes(600 + 8 * u64::from(width));
        let psnr_of = |raster: &Raster| {
            let encoded = run(raster, &latents_encoder(target, 120));
            let found = psnr(raster, &decoded(&encoded));
            // Without what nobody sees of it, so a little better.
            assert!(channels.has_alpha() || (found - encoded.psnr).abs() < 1e-9);
            encoded.psnr
        };
        let (narrow, wide) = (psnr_of(&narrow), psnr_of(&wide));
        assert!(narrow > 15.0 && (narrow - wide).abs() < 2.5, "{width}: {narrow} dB, {wide} dB");
    }
}
