//! `Limits`: each is checked before the work, and what they say of memory and work is true.

mod common;

use common::{
    Random, container, heavy_container, latents_container, planes_container, uniform, waves,
};
use sirenc::coding::f16;
use sirenc::container::Container;
use sirenc::{Channels, Crop, DecodeError, Decoder, Field, Limit, Limits, Sampling, Size, View};

fn sized(width: u32, height: u32) -> View {
    View::exact(Size { width, height })
}

/// The limit that refuses a render, and what the render takes of it.
fn refused(file: &Container, limits: Limits, options: &View) -> (Limit, u64) {
    let decoder = Decoder::with_limits(&file.write(), limits);
    match decoder.and_then(|decoder| decoder.render(options)) {
        Err(DecodeError::LimitExceeded { what, requested, .. }) => (what, requested),
        other => panic!("not refused: {:?}", other.map(|raster| raster.size())),
    }
}

const SIZE: Size = Size { width: 300, height: 200 };

fn latents() -> Container {
    latents_container(SIZE, 4, uniform(Channels::Rgb, 1, 9), (6, 5), 3)
}

fn latents_with_waves() -> Container {
    planes_container(SIZE, waves(1, 16, 2, 3), uniform(Channels::Rgb, 1, 9), (6, 5), 3)
}

#[test]
fn each_limit_refuses() {
    let none = Limits::NONE;
    let siren = container(300, 200, uniform(Channels::Rgb, 2, 8), 1);
    let weights = siren.topology.weight_count() as u64;
    for file in [&siren, &latents(), &latents_with_waves()] {
        let options = View::native();
        let refused = |limits| refused(file, limits, &options);
        assert_eq!(refused(none.max_pixels(59_999)), (Limit::Pixels, 60_000));
        assert_eq!(refused(none.max_dimension(299)), (Limit::Dimension, 300));
        assert_eq!(refused(none.max_memory(200_000)).0, Limit::Memory);
        let few = none.max_operations(100_000);
        assert_eq!(refused(few).0, Limit::Operations);
        let decoder = Decoder::with_limits(&file.write(), Limits::default()).unwrap();
        assert_eq!(decoder.limits(), Limits::default());
        assert!(decoder.render(&options).is_ok());
    }
    let limits = none.max_weights(weights - 1);
    assert_eq!(refused(&siren, limits, &sized(1, 1)), (Limit::Weights, weights));
    let limits = none.max_weights(weights);
    assert!(Decoder::with_limits(&siren.write(), limits).is_ok());
    let limits = none.max_memory(16 * weights - 1);
    assert_eq!(refused(&siren, limits, &sized(1, 1)), (Limit::Memory, 16 * weights));
}

#[test]
fn operations_are_those_of_the_points_and_the_latents() {
    let topology = uniform(Channels::Grey, 3, 8);
    let siren = container(64, 64, topology.clone(), 1);
    let weights = topology.weight_count() as u64;
    let none = Limits::NONE.max_operations(0);
    let operations = |options: &View| refused(&siren, none, options).1 / weights;
    assert_eq!(operations(&View::native()), 64 * 64);
    assert_eq!(operations(&sized(128, 32)), 128 * 32 * 2);
    let point = sized(16, 16).sampling(Sampling::Point);
    assert_eq!(operations(&point), 16 * 16);
    let jets = sized(16, 16).field(Field::Gradient { gain: 1.0 });
    assert_eq!(operations(&jets), 16 * 16 * 4);
    // 64 x 64 latents of the finest level, and those of the others, 21 * 6 + 6 * 5 + 5 * 2 each.
    let file = latents_container(
        Size { width: 64, height: 64 },
        2,
        uniform(Channels::Grey, 1, 9),
        (6, 5),
        3,
    );
    let points = 64 * 64 * (2 * 9 + (9 + 2) + 8 * 2);
    let latents = (64 * 64 + 32 * 32) * (21 * 6 + 6 * 5 + 5 * 2);
    takes_exactly(&file, points + latents);
    // Waves: 17 * 6 + 6 * 5 + 5 a latent, and 2 * 8 latents along each axis of a point.
    let file = planes_container(
        Size { width: 60, height: 64 },
        waves(2, 8, 1, 1),
        uniform(Channels::Grey, 1, 9),
        (6, 5),
        3,
    );
    let points = 60 * 64 * (3 * 9 + (9 + 3) + 8 + 2 * 32);
    let latents = 2 * 64 * 64 * (17 * 6 + 6 * 5 + 5) + 30 * 32 * (21 * 6 + 6 * 5 + 5 * 2);
    takes_exactly(&file, points + latents);
}

/// A render at the native size takes so many operations.
fn takes_exactly(file: &Container, operations: u64) {
    let decode = |max_operations| {
        let limits = Limits::NONE.max_operations(max_operations);
        Decoder::with_limits(&file.write(), limits)?.render(&View::native())
    };
    assert!(decode(operations).is_ok());
    let error = decode(operations - 1).unwrap_err();
    assert!(matches!(error, DecodeError::LimitExceeded { requested: r, .. } if r == operations));
}

/// The documentation of [`Limits::max_operations`]: at most 100 points for an output pixel, but for
/// those around the view.
#[test]
fn the_work_follows_the_output() {
    let mut random = Random(7);
    let mut any = |least: f64, most: f64| random.between(least.ln(), most.ln()).exp() as u32;
    for _ in 0..2000 {
        let (width, height) = (any(1.0, 2e9), any(1.0, 2e9));
        let (out_width, out_height) = (any(1.0, 1e5), any(1.0, 1e5));
        let file = container(width, height, uniform(Channels::Grey, 1, 1), 1);
        let limits = Limits::NONE.max_operations(0);
        let weights = file.topology.weight_count() as u64;
        let found = refused(&file, limits, &sized(out_width, out_height)).1 / weights;
        let most = 100 * u64::from(out_width) * u64::from(out_height);
        assert!(found <= most, "{width}x{height} -> {out_width}x{out_height}: {found} > {most}");
    }
}

/// A file of a few hundred bytes that claims the largest network.
#[test]
fn a_tiny_file_of_a_huge_network_is_bounded() {
    let bytes = heavy_container().write();
    assert!(bytes.len() < 1000, "{}", bytes.len());
    let decoder = Decoder::new(&bytes).unwrap();
    let error = decoder.render(&View::native()).unwrap_err();
    let refused = matches!(error, DecodeError::LimitExceeded { what: Limit::Operations, .. });
    assert!(refused, "{error}");
    assert!(decoder.render(&sized(4, 4)).is_ok());
    assert!(f16::encode(decoder.siren().unwrap()).len() > 2_000_000);
}

/// The least memory under which a render is prepared.
#[cfg(all(feature = "cli", target_os = "linux"))]
fn least_memory(bytes: &[u8], options: &View) -> u64 {
    let (mut least, mut most) = (0, 1u64 << 31);
    while most - least > 1 << 12 {
        let max_memory = (least + most) / 2;
        let limits = Limits::NONE.max_memory(max_memory);
        let decoder = Decoder::with_limits(bytes, limits);
        match decoder.and_then(|decoder| decoder.prepare(options).map(drop)) {
            Ok(()) => most = max_memory,
            Err(DecodeError::LimitExceeded { .. }) => least = max_memory,
            Err(other) => panic!("{other}"),
        }
    }
    most
}

/// What a process takes anyway, with the stacks of its threads.
#[cfg(all(feature = "cli", target_os = "linux"))]
const BESIDE: u64 = 16 << 20;

/// Renders that may take just what they need take no more.
#[cfg(all(feature = "cli", target_os = "linux"))]
#[test]
fn memory_stays_within_its_limit() {
    let directory = tempfile::tempdir().unwrap();
    let wide = |height| container(4000, height, uniform(Channels::Rgba, 2, 8), 1);
    let size = Size { width: 1100, height: 750 };
    let large = latents_container(size, 8, uniform(Channels::Rgb, 1, 12), (4, 4), 3);
    let fine = waves(2, 32, 2, 4);
    let fine = planes_container(size, fine, uniform(Channels::Rgb, 1, 12), (4, 4), 3);
    let crop = Crop { x: 500.0, y: 300.0, width: 40.0, height: 30.0 };
    let view = View::native().crop(crop);
    let cases = [
        (wide(10), View::native(), vec![]),
        (large.clone(), view, vec!["--crop", "500,300,40,30"]),
        (large.clone(), sized(100, 70), vec!["--size", "100x70"]),
        (large.clone(), View::native(), vec![]),
        (large, sized(1090, 740), vec!["--size", "1090x740"]),
        (fine.clone(), View::native(), vec![]),
        (fine, sized(100, 70), vec!["--size", "100x70"]),
        (wide(4000), sized(3000, 3000), vec!["--size", "3000x3000"]),
        (
            container(220_000, 9, uniform(Channels::Rgba, 2, 8), 1),
            sized(200_000, 9),
            vec!["--size", "200000x9"],
        ),
    ];
    let mut cases = cases.map(|(file, options, arguments)| {
        let bytes = file.write();
        (least_memory(&bytes, &options), bytes, arguments)
    });
    cases.sort();
    let path = directory.path().join("picture.siren");
    // So much is the kernel to give to the process, besides its program.
    let decode = |bytes: &[u8], given: u64, memory: u64, arguments: &[&str]| {
        std::fs::write(&path, bytes).unwrap();
        let command = format!("ulimit -d {}; exec \"$0\" \"$@\"", given.div_ceil(1024));
        let output = std::process::Command::new("sh")
            // A backtrace takes memory that is not there.
            .env("RUST_BACKTRACE", "0")
            .args(["-c", &command, env!("CARGO_BIN_EXE_sirenc"), "decode", "--threads", "2"])
            .args(["--format", "pam", "-o", "/dev/null", "--force", "--max-memory"])
            .arg(memory.to_string())
            .arg(&path)
            .args(arguments)
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    for (memory, bytes, arguments) in &cases {
        let given = memory + bytes.len() as u64 + BESIDE;
        let (success, stderr) = decode(bytes, given, *memory, arguments);
        assert!(success, "{arguments:?} in {memory} bytes: {stderr}");
        let (success, stderr) = decode(bytes, given, memory - (1 << 13), arguments);
        assert!(!success && stderr.contains("--max-memory"), "{arguments:?}: {stderr}");
    }
    // What is given would not do for twice the memory.
    let (memory, bytes, arguments) = cases.last().unwrap();
    let (success, stderr) = decode(bytes, memory / 2 + BESIDE, *memory, arguments);
    assert!(!success && stderr.contains("memory allocation"), "{stderr}");
}
