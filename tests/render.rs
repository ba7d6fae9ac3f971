//! Rendering against the f64 definition, and views against each other.

mod common;

use common::{container, latents, planes_container, splines, uniform, waves as of_waves};
use proptest::prelude::*;
use sirenc::container::Container;
use sirenc::eval::{BLOCK, Evaluator, LatentsEvaluator, Points};
use sirenc::latents::{Bases, Latents};
use sirenc::{
    BitDepth, Channels, Crop, DecodeError, Decoder, Field, PixelGrid, Raster, Render, Samples,
    Sampling, Scale, Size, Topology, View,
};

fn decoder(width: u32, height: u32, topology: Topology, seed: u64) -> Decoder {
    Decoder::new(&container(width, height, topology, seed).write()).unwrap()
}

fn render(decoder: &Decoder, crop: Option<Crop>, scale: Scale) -> Raster {
    let view = View::native().crop(crop).scale(scale);
    decoder.render(&view).unwrap()
}

fn bytes(raster: &Raster) -> &[u8] {
    let Samples::U8(samples) = raster.samples() else { panic!("8 bits") };
    samples
}

#[test]
fn renders_conform_to_the_reference() {
    for (channels, layers, features) in [
        (Channels::Rgb, 10, 28),
        (Channels::Rgba, 3, 17),
        (Channels::Grey, 4, 64),
        (Channels::GreyAlpha, 1, 1),
        (Channels::Rgb, 13, 49),
    ] {
        let decoder = decoder(61, 43, uniform(channels, layers, features), 7);
        let raster = render(&decoder, None, Scale::Native);
        let mut equal = 0;
        for (index, pixel) in bytes(&raster).chunks_exact(channels.count()).enumerate() {
            let (x, y) = ((index % 61) as f64 + 0.5, (index / 61) as f64 + 0.5);
            for (jet, &sample) in decoder.sample(x, y).unwrap().iter().zip(pixel) {
                let reference = (jet.value.clamp(0.0, 1.0) * 255.0 + 0.5).floor();
                let difference = (reference - f64::from(sample)).abs();
                assert!(difference <= 1.0, "{channels} {layers}x{features} pixel {index}");
                equal += u32::from(difference == 0.0);
            }
        }
        let share = f64::from(equal) / raster.sample_count() as f64;
        assert!(share >= 0.999, "{channels} {layers}x{features}: {share}");
    }
}

#[test]
fn evaluator_equals_the_definition() {
    for (channels, layers, features) in
        [(Channels::Rgb, 10, 28), (Channels::Rgba, 2, 5), (Channels::Grey, 1, 256)]
    {
        let decoder = decoder(50, 50, uniform(channels, layers, features), 3);
        let evaluator = Evaluator::new(decoder.siren().unwrap().clone());
        let mut points = Points::default();
        for i in 0..BLOCK {
            points.x[i] = (i as f32 * 0.37).sin();
            points.y[i] = (i as f32 * 0.73).cos();
        }
        let mut scratch = evaluator.scratch();
        let mut values = vec![0.0; channels.count() * BLOCK];
        let mut jets = vec![0.0; 4 * channels.count() * BLOCK];
        evaluator.values(&points, &mut scratch, &mut values);
        evaluator.jets(&points, &mut scratch, &mut jets);
        for i in 0..BLOCK {
            let reference =
                decoder.siren().unwrap().evaluate(points.x[i].into(), points.y[i].into());
            for (channel, jet) in reference.iter().enumerate() {
                let close = |found: f32, wanted: f64, scale: f64| {
                    let error = (f64::from(found) - wanted).abs();
                    assert!(error < 1e-4 * scale.max(1.0), "{channels} {i}: {found} {wanted}");
                };
                let at = |part: usize| jets[(4 * channel + part) * BLOCK + i];
                let slope = jet.dx.hypot(jet.dy).max(10.0);
                close(values[channel * BLOCK + i], jet.value, 1.0);
                close(at(0), jet.value, 1.0);
                close(at(1), jet.dx, slope);
                close(at(2), jet.dy, slope);
                close(at(3), jet.laplacian, jet.laplacian.abs().max(slope * slope));
            }
        }
    }
}

#[test]
fn derivatives_are_those_of_the_function() {
    let decoder = decoder(40, 30, uniform(Channels::Rgba, 3, 12), 11);
    let h = 1e-4;
    for (x, y) in [(0.5, 0.5), (1.2, 20.5), (39.0, 29.0), (17.3, 3.9)] {
        let at = |dx: f64, dy: f64| decoder.sample(x + dx, y + dy).unwrap();
        let (here, left, right) = (at(0.0, 0.0), at(-h, 0.0), at(h, 0.0));
        let (up, down) = (at(0.0, -h), at(0.0, h));
        for channel in 0..4 {
            let value = |jets: &[sirenc::Jet]| jets[channel].value;
            let dx = (value(&right) - value(&left)) / (2.0 * h);
            let dy = (value(&down) - value(&up)) / (2.0 * h);
            let around = value(&left) + value(&right) + value(&up) + value(&down);
            let laplacian = (around - 4.0 * value(&here)) / (h * h);
            let jet = here[channel];
            assert!((jet.dx - dx).abs() < 1e-6, "dx {} {dx}", jet.dx);
            assert!((jet.dy - dy).abs() < 1e-6, "dy {} {dy}", jet.dy);
            assert!((jet.laplacian - laplacian).abs() < 1e-5, "{} {laplacian}", jet.laplacian);
        }
    }
}

#[test]
fn derivative_pictures_show_the_derivatives() {
    let decoder = decoder(24, 16, uniform(Channels::Rgba, 2, 8), 5);
    let picture = |field| {
        let depth = Some(BitDepth::Sixteen);
        decoder.render(&View::native().field(field).depth(depth)).unwrap()
    };
    let gradient = picture(Field::Gradient { gain: 2.0 });
    let laplacian = picture(Field::Laplacian { gain: 3.0 });
    assert_eq!(gradient.channels(), Channels::Rgb);
    for index in 0..24 * 16 {
        let jets = decoder.sample((index % 24) as f64 + 0.5, (index / 24) as f64 + 0.5).unwrap();
        for (channel, jet) in jets[..3].iter().enumerate() {
            let length = (2.0 * jet.dx.hypot(jet.dy)).clamp(0.0, 1.0);
            let curvature = (0.5 + 3.0 * jet.laplacian).clamp(0.0, 1.0);
            let close = |raster: &Raster, wanted: f64| {
                let found = f64::from(raster.unit(3 * index + channel));
                assert!((found - wanted).abs() < 1e-4, "{index}: {found} {wanted}");
            };
            close(&gradient, length);
            close(&laplacian, curvature);
        }
    }
}

#[test]
fn gains_are_any_that_show_something() {
    let decoder = decoder(24, 16, uniform(Channels::Rgb, 2, 8), 5);
    let picture = |field| decoder.render(&View::native().field(field));
    for gain in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for field in [Field::Gradient { gain }, Field::Laplacian { gain }] {
            assert!(matches!(picture(field), Err(DecodeError::InvalidGain(_))), "{field:?}");
        }
    }
    let negative = picture(Field::Gradient { gain: -1.0 });
    assert!(matches!(negative, Err(DecodeError::InvalidGain(_))));
    // The other sign swaps dark and bright.
    let [one, other] = [0.7, -0.7].map(|gain| picture(Field::Laplacian { gain }).unwrap());
    let mirrored = |(a, b): (&u8, &u8)| (i32::from(*a) + i32::from(*b) - 255).abs() <= 1;
    assert!(one != other && bytes(&one).iter().zip(bytes(&other)).all(mirrored));
    // What is zero stays so, however large the gain is.
    let flat = container(3, 2, uniform(Channels::Grey, 1, 1), 1);
    let flat = Decoder::new(&Container { weights: vec![0; flat.weights.len()], ..flat }.write());
    let field = Field::Laplacian { gain: f64::MAX };
    let raster = flat.unwrap().render(&View::native().field(field)).unwrap();
    assert_eq!(bytes(&raster), [128; 6]);
}

#[test]
fn a_crop_of_the_whole_equals_the_crop() {
    let decoder = decoder(96, 60, uniform(Channels::Rgb, 5, 20), 2);
    for (factor, times) in [(1.0, 1), (2.0, 2), (3.0, 3)] {
        let whole = render(&decoder, None, Scale::Factor(factor));
        let crop = Crop { x: 13.0, y: 7.0, width: 40.0, height: 21.0 };
        let part = render(&decoder, Some(crop), Scale::Factor(factor));
        let longer = render(&decoder, Some(crop), Scale::LongerSide(40 * times));
        assert_eq!(part.size(), Size { width: 40 * times, height: 21 * times });
        assert_eq!(part, longer);
        let stride = 3 * whole.size().width as usize;
        let width = 3 * part.size().width as usize;
        for (row, line) in bytes(&part).chunks_exact(width).enumerate() {
            let start = (7 * times as usize + row) * stride + 3 * 13 * times as usize;
            assert_eq!(line, &bytes(&whole)[start..start + width], "x{factor} row {row}");
        }
    }
}

#[test]
fn strips_and_threads_do_not_change_a_pixel() {
    let decoder = decoder(2000, 1300, uniform(Channels::Grey, 2, 6), 9);
    let options = View::native();
    let whole = decoder.render(&options).unwrap();
    let render = decoder.prepare(&options).unwrap();
    assert!(render.strip_rows() < 1300);
    let strips: Vec<u8> = render.strips().flat_map(|s| bytes(&s).to_vec()).collect();
    assert_eq!(bytes(&whole), strips);
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(whole, one.install(|| decoder.render(&options).unwrap()));
    let rows: Vec<u8> = (0..1300).flat_map(|r| bytes(&render.rows(r..r + 1)).to_vec()).collect();
    assert_eq!(bytes(&whole), rows);
}

/// Waves of `period` native pixels along x, between 0 and 1.
fn waves(size: Size, period: f64) -> Decoder {
    let mut file = container(size.width, size.height, uniform(Channels::Grey, 1, 1), 0);
    let frequency = std::f64::consts::PI * f64::from(size.longer_side()) / period;
    let weights: [f32; 5] = [frequency as f32, 0.0, 0.3, 1.0, 0.0];
    file.weights = weights.iter().flat_map(|&w| half::f16::from_f32(w).to_le_bytes()).collect();
    Decoder::new(&file.write()).unwrap()
}

#[test]
fn reduced_renders_filter_what_they_cannot_show() {
    let size = Size { width: 640, height: 64 };
    let reduced = |period, sampling| {
        let view = View::scaled(0.1);
        let options = view.sampling(sampling);
        bytes(&waves(size, period).render(&options).unwrap()).to_vec()
    };
    let spread = |row: &[u8]| row.iter().max().unwrap() - row.iter().min().unwrap();
    // Ten native pixels a pixel: waves of 13 are too fine, waves of 60 are not.
    assert!(spread(&reduced(13.0, Sampling::Point)) > 200);
    assert!(spread(&reduced(13.0, Sampling::Filtered)[5..59]) < 12);
    let (filtered, point) = (reduced(60.0, Sampling::Filtered), reduced(60.0, Sampling::Point));
    let inner = filtered[5..59].iter().zip(&point[5..59]);
    assert!(inner.clone().all(|(a, b)| a.abs_diff(*b) < 12));
    assert!(spread(&filtered) > 220);
}

#[test]
fn strips_threads_and_crops_do_not_change_a_pixel_of_reduced_renders() {
    let size = Size { width: 1400, height: 1000 };
    let file =
        |bases| planes_container(size, bases, uniform(Channels::Rgba, 1, 7), (3, 4), 122).write();
    let [splines, with_waves] =
        [splines(6), of_waves(1, 8, 2, 4)].map(|bases| Decoder::new(&file(bases)).unwrap());
    let siren = decoder(1400, 1000, uniform(Channels::GreyAlpha, 2, 6), 9);
    for decoder in [siren, splines, with_waves] {
        let scale = Scale::Factor(0.25);
        let view = View::native().scale(scale);
        let options = view;
        let whole = decoder.render(&options).unwrap();
        let prepared = decoder.prepare(&options).unwrap();
        let (width, height) = (350, 250);
        assert_eq!(prepared.size(), Size { width, height });
        let rows: Vec<u8> =
            (0..height).flat_map(|r| bytes(&prepared.rows(r..r + 1)).to_vec()).collect();
        assert_eq!(bytes(&whole), rows);
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(whole, one.install(|| decoder.render(&options).unwrap()));
        let crop = Crop { x: 400.0, y: 200.0, width: 120.0, height: 80.0 };
        let part = render(&decoder, Some(crop), scale);
        let channels = decoder.channels().count();
        for (row, line) in bytes(&part).chunks_exact(30 * channels).enumerate() {
            let start = ((50 + row) * 350 + 100) * channels;
            assert_eq!(line, &bytes(&whole)[start..start + line.len()], "row {row}");
        }
    }
}

#[test]
fn what_is_transparent_does_not_bleed() {
    // Black and opaque on the left, white and transparent on the right.
    let mut file = container(64, 16, uniform(Channels::GreyAlpha, 1, 1), 0);
    let weights: [f32; 7] = [1.5, 0.0, 0.0, 50.0, -50.0, 0.0, 0.0];
    file.weights = weights.iter().flat_map(|&w| half::f16::from_f32(w).to_le_bytes()).collect();
    let raster = render(&Decoder::new(&file.write()).unwrap(), None, Scale::LongerSide(9));
    for pixel in bytes(&raster).chunks_exact(2) {
        assert!(pixel[1] == 0 || pixel[0] < 40, "{pixel:?}");
    }
    assert!(bytes(&raster).chunks_exact(2).any(|pixel| (100..156).contains(&pixel[1])));
}

#[test]
fn x_is_to_the_right_and_y_down() {
    // out = sin(x): grey grows to the right and is constant downwards.
    let mut file = container(64, 16, uniform(Channels::Grey, 1, 1), 0);
    let weights: [f32; 5] = [1.0, 0.0, 0.0, 1.0, 0.0];
    file.weights = weights.iter().flat_map(|&w| half::f16::from_f32(w).to_le_bytes()).collect();
    let decoder = Decoder::new(&file.write()).unwrap();
    let raster = render(&decoder, None, Scale::Native);
    let samples = bytes(&raster);
    assert!(samples[0] < samples[32] && samples[32] < samples[63]);
    assert_eq!(samples[..64], samples[64 * 15..]);
}

#[test]
fn sixteen_bits_hold_what_eight_do() {
    let decoder = decoder(30, 20, uniform(Channels::Rgb, 3, 16), 4);
    let depth = |depth| View::native().depth(depth);
    let eight = decoder.render(&depth(BitDepth::Eight)).unwrap();
    let sixteen = decoder.render(&depth(BitDepth::Sixteen)).unwrap();
    for index in 0..eight.sample_count() {
        assert!((eight.unit(index) - sixteen.unit(index)).abs() <= 0.5 / 255.0 + 1e-4);
    }
}

#[test]
fn limits_are_checked_before_pixels_are_made() {
    let decoder = decoder(0x7fff_ffff, 0x7fff_ffff, uniform(Channels::Rgb, 1, 2), 4);
    let refused = decoder.render(&View::native());
    assert!(matches!(refused, Err(DecodeError::LimitExceeded { .. })));
    let small = View::fit(32);
    assert_eq!(render(&decoder, None, small.scale).size(), Size { width: 32, height: 32 });
}

fn render_of_latents(latents: &Latents, view: View, field: Field, depth: BitDepth) -> Render {
    let grid = PixelGrid::new(latents.size(), &view).unwrap();
    Render::of_latents(LatentsEvaluator::new(latents.clone(), 0), grid, field, depth)
}

#[test]
fn renders_of_grids_show_the_function_and_its_derivatives() {
    let crop = Some(Crop { x: 13.0, y: 7.0, width: 40.0, height: 21.0 });
    let size = Size { width: 61, height: 43 };
    let bases = [splines(5), of_waves(1, 8, 2, 3), of_waves(2, 16, 0, 1), of_waves(1, 32, 1, 2)];
    for (channels, bases) in (1..=4).zip(bases) {
        let latents = latents(size, bases, 9, channels, 8);
        for (crop, scale) in [(None, Scale::Native), (crop, Scale::Factor(2.5))] {
            let view = View::native().crop(crop).scale(scale);
            let grid = PixelGrid::new(size, &view).unwrap();
            let picture =
                |field| render_of_latents(&latents, view, field, BitDepth::Sixteen).raster();
            let values = picture(Field::Value);
            let gradient = picture(Field::Gradient { gain: 2.0 });
            let laplacian = picture(Field::Laplacian { gain: 0.5 });
            let colours = gradient.channels().count();
            assert_eq!(
                (values.channels().count(), colours),
                (channels, (channels - 1) / 2 * 2 + 1)
            );
            for index in 0..grid.size.pixels() as usize {
                let width = grid.size.width as usize;
                let at = ((index % width) as u32, (index / width) as u32);
                let jets = latents.evaluate(grid.u(at.0), grid.v(at.1));
                let close = |raster: &Raster, channel: usize, wanted: f64| {
                    let at = raster.channels().count() * index + channel;
                    let error = (f64::from(raster.unit(at)) - wanted.clamp(0.0, 1.0)).abs();
                    assert!(error < 5e-5, "{index}: {error}");
                };
                for (channel, jet) in jets.iter().enumerate() {
                    close(&values, channel, jet.value * 0.5 + 0.5);
                }
                for (channel, jet) in jets[..colours].iter().enumerate() {
                    close(&gradient, channel, jet.dx.hypot(jet.dy));
                    close(&laplacian, channel, 0.5 + 0.25 * jet.laplacian);
                }
            }
        }
    }
}

#[test]
fn narrow_renders_show_the_function() {
    for width in 1..=70 {
        for size in [Size { width, height: 71 }, Size { width: 71, height: width }] {
            let bases = if width % 3 == 0 { of_waves(1, 8, 2, 2) } else { splines(6) };
            let latents = latents(size, bases, 5, 1, u64::from(width));
            let view = View::default();
            let render =
                render_of_latents(&latents, view, Field::Value, BitDepth::Sixteen).raster();
            for index in 0..size.pixels() as usize {
                let (x, y) = (index as u32 % size.width, index as u32 / size.width);
                let wanted = latents.evaluate(f64::from(x) + 0.5, f64::from(y) + 0.5)[0].value;
                let error = f64::from(render.unit(index)) - (wanted * 0.5 + 0.5).clamp(0.0, 1.0);
                assert!(error.abs() < 5e-5, "{size:?}, {index}: {error}");
            }
        }
    }
}

#[test]
fn strips_threads_and_crops_do_not_change_a_pixel_of_grids() {
    for bases in [splines(3), of_waves(1, 16, 2, 1)] {
        do_not_change_a_pixel(bases);
    }
}

fn do_not_change_a_pixel(bases: Bases) {
    let size = Size { width: 2000, height: 1300 };
    let latents = latents(size, bases, 4, 2, 9);
    let render = render_of_latents(&latents, View::default(), Field::Value, BitDepth::Eight);
    let whole = render.raster();
    assert!(render.strip_rows() < 1300);
    let strips: Vec<u8> = render.strips().flat_map(|s| bytes(&s).to_vec()).collect();
    assert_eq!(bytes(&whole), strips);
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(whole, one.install(|| render.raster()));
    let crop = Some(Crop { x: 313.0, y: 70.0, width: 501.0, height: 21.0 });
    let view = View::native().crop(crop);
    let part = render_of_latents(&latents, view, Field::Value, BitDepth::Eight).raster();
    for (row, line) in bytes(&part).chunks_exact(2 * 501).enumerate() {
        let start = 2 * ((70 + row) * 2000 + 313);
        assert_eq!(line, &bytes(&whole)[start..start + 2 * 501], "row {row}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_view_renders_or_is_an_error(
        (width, height) in (1u32..200, 1u32..200),
        crop in prop::option::of((-1.0f64..200.0, -1.0f64..200.0, 0.0f64..200.0, 0.0f64..200.0)),
        scale in prop_oneof![
            Just(Scale::Native),
            (0.0f64..4.0).prop_map(Scale::Factor),
            (0u32..300).prop_map(Scale::LongerSide),
            (0u32..300, 0u32..300).prop_map(|(width, height)| Scale::Exact(Size { width, height })),
        ],
    ) {
        let decoder = decoder(width, height, uniform(Channels::Grey, 1, 2), 1);
        let crop = crop.map(|(x, y, width, height)| Crop { x, y, width, height });
        let view = View::native().crop(crop).scale(scale);
        let options = view;
        if let Ok(raster) = decoder.render(&options) {
            prop_assert_eq!(raster.sample_count() as u64, raster.size().pixels());
            if let Scale::Exact(size) = scale {
                prop_assert_eq!(raster.size(), size);
            }
            if let Scale::LongerSide(side) = scale {
                prop_assert_eq!(raster.size().longer_side(), side);
            }
        }
    }
}

/// Bindings to other languages hold both, and hand them from thread to thread.
#[test]
fn decoders_and_renders_go_anywhere() {
    fn anywhere<T: Send + Sync + 'static>() {}
    anywhere::<Decoder>();
    anywhere::<Render>();
}
