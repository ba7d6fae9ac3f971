//! The vectors in `spec/conformance`: the f64 definition gives their values, and renders
//! stay within the specification's bound. `SIRENC_WRITE_VECTORS=1` writes them anew.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{
    Random, compact_container, container, latents_container, latents_file, latents_networks,
    planes_container, splines, uniform, waves,
};
use half::f16;
use sirenc::coding::entropy::{Laplace, Logistic, Writer};
use sirenc::coding::latents::{Context, IntegerLayer};
use sirenc::coding::payload::{Networks, splines_shape, waves_shape};
use sirenc::container::{Cicp, Container};
use sirenc::latents::{Bases, Basis, Plane};
use sirenc::{
    BitDepth, Channels, DecodeError, Decoder, PixelGrid, Raster, Samples, Sampling, Size, Topology,
    View,
};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/conformance")
}

fn view(size: Size) -> View {
    View::exact(size)
}

/// Reference values of a render, row by row, channels side by side.
fn reference(decoder: &Decoder, size: Size) -> Vec<f64> {
    let grid = PixelGrid::new(decoder.size(), &view(size)).unwrap();
    let grids = decoder.latents().unwrap();
    let mut values = Vec::new();
    for row in 0..size.height {
        for column in 0..size.width {
            let jets = match &grids {
                None => decoder.siren().unwrap().evaluate(grid.x(column), grid.y(row)),
                Some(grids) => grids.evaluate(grid.u(column), grid.v(row)),
            };
            values.extend(jets.iter().map(|jet| (jet.value + 1.0) / 2.0));
        }
    }
    values
}

/// Every vector: name, size of the file's picture's render.
fn vectors() -> Vec<(String, Size)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(stem) = name.strip_suffix(".f64") {
            let (name, size) = stem.rsplit_once('.').unwrap();
            let (width, height) = size.split_once('x').unwrap();
            let size = Size { width: width.parse().unwrap(), height: height.parse().unwrap() };
            found.push((name.to_owned(), size));
        }
    }
    found
}

#[test]
fn every_vector_is_met() {
    if std::env::var_os("SIRENC_WRITE_VECTORS").is_some() {
        write_vectors();
    }
    let vectors = vectors();
    assert!(vectors.len() >= 22, "vectors are missing");
    for (name, size) in vectors {
        let decoder = Decoder::new(&read(&format!("{name}.siren"))).unwrap();
        let stored = read(&format!("{name}.{}x{}.f64", size.width, size.height));
        let (numbers, _) = stored.as_chunks::<8>();
        let stored: Vec<f64> = numbers.iter().map(|n| f64::from_le_bytes(*n)).collect();
        let computed = reference(&decoder, size);
        assert_eq!(stored.len(), computed.len(), "{name}");
        // sin is not the same on every machine to the last bit, and ten layers amplify.
        assert!(stored.iter().zip(&computed).all(|(a, b)| (a - b).abs() < 1e-9), "{name}");

        let depth = Some(BitDepth::Eight);
        let sampling = Sampling::Point;
        let options = view(size).depth(depth).sampling(sampling);
        let raster = decoder.render(&options).unwrap();
        let Samples::U8(samples) = raster.samples() else { unreachable!("8 bits") };
        let mut equal = 0;
        for (t, &sample) in stored.iter().zip(samples) {
            let wanted = (t.clamp(0.0, 1.0) * 255.0 + 0.5).floor();
            let difference = (wanted - f64::from(sample)).abs();
            assert!(difference <= 1.0, "{name}: {wanted} {sample}");
            equal += usize::from(difference == 0.0);
        }
        assert!(equal as f64 >= 0.999 * samples.len() as f64, "{name}: {equal}");
    }
}

fn read(name: &str) -> Vec<u8> {
    let path = directory().join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write_vectors() {
    let size = |width, height| Size { width, height };
    let write = |name: &str, bytes: &[u8], size: Size| {
        fs::write(directory().join(format!("{name}.siren")), bytes).unwrap();
        let values = reference(&Decoder::new(bytes).unwrap(), size);
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let name = format!("{name}.{}x{}.f64", size.width, size.height);
        fs::write(directory().join(name), bytes).unwrap();
    };
    let photo = fs::read(directory().join("../../samples/camera.siren")).unwrap();
    write("photo", &photo, size(64, 64));
    let rgb = container(768, 512, uniform(Channels::Rgb, 10, 28), 100);
    write("rgb", &rgb.write(), size(48, 32));
    let layers = Topology::new(Channels::Rgba, vec![20, 7, 33, 12]).unwrap();
    let rgba = Container { depth: BitDepth::Sixteen, ..container(41, 57, layers, 101) };
    write("rgba16", &rgba.write(), size(41, 57));
    let small = container(16, 9, uniform(Channels::GreyAlpha, 1, 1), 102);
    write("grey-alpha", &small.write(), size(20, 31));
    let wide = container(300, 7, uniform(Channels::Grey, 3, 16), 103);
    write("wide", &wide.write(), size(300, 7));

    let layers = Topology::new(Channels::GreyAlpha, vec![9, 30, 14]).unwrap();
    let compact = Container { depth: BitDepth::Sixteen, ..compact_container(33, 50, layers, 107) };
    write("compact", &compact.write(), size(33, 50));
    let deep = compact_container(1200, 900, uniform(Channels::Rgb, 10, 33), 108);
    write("compact-deep", &deep.write(), size(40, 30));

    let mut contrast = container(31, 47, uniform(Channels::Rgb, 2, 16), 105);
    // The output layer's weights times eight.
    let output = contrast.weights.len() - 2 * (16 * 3 + 3);
    for weight in contrast.weights[output..].chunks_exact_mut(2) {
        let value = f16::from_le_bytes([weight[0], weight[1]]) * f16::from_f32(8.0);
        weight.copy_from_slice(&value.to_le_bytes());
    }
    write("contrast", &contrast.write(), size(31, 47));

    let mut full = container(24, 24, uniform(Channels::Rgb, 2, 10), 104);
    full.omega = None;
    full.metadata.icc = Some(vec![1; 200]);
    full.metadata.cicp = Some(Cicp { primaries: 12, transfer: 13, matrix: 0, full_range: 1 });
    full.metadata.exif = Some(b"II*\0\x08\0\0\0\0\0\0\0\0\0".to_vec());
    full.metadata.xmp = Some(b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>".to_vec());
    full.metadata.settings = Some("written by hand".into());
    let mut bytes = full.write();
    // An unknown ancillary chunk before the weights.
    let at = bytes.windows(4).position(|w| w == b"WGHT").unwrap();
    let mut chunk = b"noTe\x05hello".to_vec();
    chunk.extend_from_slice(&crc32fast::hash(&chunk).to_le_bytes());
    bytes.splice(at..at, chunk);
    write("chunks", &bytes, size(24, 24));

    let one = |channels, sines| uniform(channels, 1, sines);
    let two_tiles = latents_container(size(300, 40), 7, one(Channels::Rgb, 24), (12, 8), 110);
    write("grid", &two_tiles.write(), size(100, 30));
    let reduced = latents_container(size(97, 130), 5, one(Channels::Grey, 16), (8, 8), 111);
    write("grid-reduced", &reduced.write(), size(24, 32));
    let alpha = latents_container(size(33, 50), 4, one(Channels::GreyAlpha, 10), (6, 9), 112);
    let alpha = Container { depth: BitDepth::Sixteen, ..alpha };
    write("grid-grey-alpha16", &alpha.write(), size(33, 50));
    let rgba = latents_container(size(41, 27), 3, one(Channels::Rgba, 13), (5, 5), 113);
    write("grid-rgba", &rgba.write(), size(60, 50));
    let least = latents_container(size(20, 20), 1, one(Channels::Grey, 1), (1, 1), 114);
    write("grid-one-level", &least.write(), size(5, 5));
    let tiles = extreme_latents(size(600, 9), splines(3), (Channels::Rgb, 6), 115);
    write("grid-tiles", &tiles.write(), size(150, 9));
    let deep = extreme_context(size(3, 600), splines(10), 116);
    write("grid-deep", &deep.write(), size(3, 60));

    let mixed = waves(1, 8, 2, 3);
    let mixed = planes_container(size(45, 38), mixed, one(Channels::Rgb, 14), (8, 6), 117).write();
    write("grid-waves", &mixed, size(45, 38));
    write("grid-waves", &mixed, size(17, 14));
    write("grid-waves", &mixed, size(70, 50));
    let tiles = extreme_latents(size(270, 20), waves(2, 16, 1, 2), (Channels::Grey, 7), 123);
    write("grid-waves-tiles", &tiles.write(), size(270, 20));
    let large = waves(3, 32, 9, 1);
    let large = planes_container(size(40, 35), large, one(Channels::Rgba, 9), (5, 7), 119);
    let large = Container { depth: BitDepth::Sixteen, ..large };
    write("grid-waves-32", &large.write(), size(40, 35));
    let deep = extreme_context(size(3, 90), waves(4, 8, 0, 10), 120);
    write("grid-waves-deep", &deep.write(), size(3, 90));
    write_bad();
    write_bad_latents();
    write_bad_waves();
}

/// Tiles that are 0 beside tiles that are not, and latents of every magnitude.
fn extreme_latents(
    size: Size,
    bases: Bases,
    (channels, sines): (Channels, usize),
    seed: u64,
) -> Container {
    let topology = uniform(channels, 1, sines);
    let mut random = Random(seed);
    let planes: Vec<Plane> = bases
        .iter()
        .enumerate()
        .map(|(index, basis)| {
            let mut plane = Plane::new(basis, size);
            let width = plane.width();
            // A wave goes through a whole cell.
            let large = if matches!(basis, Basis::Waves { .. }) { 0.001 } else { 0.02 };
            for (at, q) in plane.values_mut().iter_mut().enumerate() {
                // Of the finest plane the second tile is 0, of the next one the first.
                let zero = match index {
                    0 => at % width / 256 == 1,
                    1 => at % width < 256,
                    _ => false,
                };
                let magnitude = random.between(0.0, 15.0).exp2() as i16;
                let is_large = random.next() < large;
                let magnitude = if is_large { magnitude } else { magnitude.min(5) };
                let sign = if random.next() < 0.5 { -1 } else { 1 };
                *q = if zero { 0 } else { sign * magnitude };
            }
            plane
        })
        .collect();
    latents_file(&planes, size, &latents_networks(bases, &topology, (8, 4), seed), topology)
}

/// Entropy models with the most features and the largest weights.
fn extreme_context(size: Size, bases: Bases, seed: u64) -> Container {
    let topology = uniform(Channels::Rgb, 1, 9);
    let mut random = Random(seed);
    let mut layer = |inputs: usize, outputs: usize, drop: u32, largest: i32, unit: i32| {
        let most = ((1 << 24) - (1 << drop) - 1) / largest / inputs as i32;
        let weight = |_| (f64::from(most) * random.between(-1.0, 1.0)).round() as i32;
        let mut weights: Vec<i32> = (0..inputs * outputs).map(weight).collect();
        // One row with all that is allowed.
        weights[..inputs].fill(most);
        let left = (1 << 24) - (1 << drop) - 1 - largest * most * inputs as i32;
        let mut biases = vec![0; outputs];
        biases[0] = -left / unit;
        IntegerLayer::new(drop, weights, biases).unwrap()
    };
    let mut context = |shape: [usize; 4]| {
        let [inputs, h1, h2, outputs] = shape;
        let layers = [
            layer(inputs, h1, 10, 1023, 1),
            layer(h1, h2, 12, 4095, 64),
            layer(h2, outputs, 14, 4095, 64),
        ];
        Context::new(shape, layers).unwrap()
    };
    let splines = context(splines_shape([64, 64]));
    let waves = (bases.waves() > 0).then(|| context(waves_shape([64, 64])));
    let others = latents_networks(bases, &topology, (1, 1), seed);
    let networks = Networks { splines, waves, ..others };
    let planes: Vec<Plane> = bases
        .iter()
        .map(|basis| {
            let mut plane = Plane::new(basis, size);
            plane.values_mut().iter_mut().for_each(|q| *q = random.between(-20.0, 20.0) as i16);
            plane
        })
        .collect();
    latents_file(&planes, size, &networks, topology)
}

/// A payload of the entropy coder.
fn stream(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    write(&mut writer);
    writer.finish()
}

/// Files that break one rule each; checksums are right unless they are the rule.
fn write_bad() {
    let good = container(24, 24, uniform(Channels::Grey, 1, 3), 106);
    let bytes = good.write();
    let weights_at = bytes.windows(4).position(|w| w == b"WGHT").unwrap();
    let header_end = weights_at - 4;
    let write = |name: &str, bytes: &[u8]| {
        fs::write(directory().join("bad").join(format!("{name}.siren")), bytes).unwrap();
    };
    let header = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut header = bytes[..header_end].to_vec();
        change(&mut header);
        header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
        write(name, &[&header, &bytes[weights_at..]].concat());
    };
    let chunk = |kind: &[u8], payload: &[u8]| {
        let mut chunk = [kind, &[payload.len() as u8], payload].concat();
        chunk.extend_from_slice(&crc32fast::hash(&chunk).to_le_bytes());
        chunk
    };
    let insert = |name: &str, chunks: &[Vec<u8>]| {
        write(name, &[&bytes[..weights_at], &chunks.concat(), &bytes[weights_at..]].concat());
    };
    header("version-2", &|h| h[8] = 2);
    header("representation-255", &|h| h[9] = 255);
    header("weight-coding-255", &|h| h[10] = 255);
    header("reserved-bit", &|h| h[11] |= 0x40);
    header("reserved-depth", &|h| h[11] |= 0x0c);
    header("width-0", &|h| h[12] = 0);
    header("varint-too-long", &|h| h.splice(12..13, [0x98, 0x00]).for_each(drop));
    header("hidden-layers-0", &|h| h[14] = 0);
    header("hidden-layers-65", &|h| h[14] = 65);
    header("features-0", &|h| h[15] = 0);
    header("features-1025", &|h| h.splice(15..16, [0x81, 0x08]).for_each(drop));
    header("omega-nan", &|h| h[16..18].copy_from_slice(&0x7e00u16.to_le_bytes()));
    header("weights-missing", &|h| h[15] = 4);
    insert("unknown-critical", &[chunk(b"NoTe", b"")]);
    insert("type-not-letters", &[chunk(b"no1e", b"")]);
    insert("duplicate", &[chunk(b"exif", b""), chunk(b"exif", b"")]);
    insert("cicp-short", &[chunk(b"cicp", &[1, 13, 0])]);
    insert("cicp-matrix", &[chunk(b"cicp", &[1, 13, 1, 1])]);
    insert("sett-control", &[chunk(b"sett", b"a\tb")]);
    insert("sett-not-utf8", &[chunk(b"sett", b"\xff")]);
    insert("second-weights", &[bytes[weights_at..].to_vec()]);
    let mut nan = good.clone();
    nan.weights[..2].copy_from_slice(&0x7e00u16.to_le_bytes());
    write("weight-nan", &nan.write());
    let mut infinite = good.clone();
    infinite.weights[..2].copy_from_slice(&0x7c00u16.to_le_bytes());
    write("weight-infinite", &infinite.write());
    let compact = compact_container(24, 24, uniform(Channels::Grey, 1, 3), 106);
    let payload = |name: &str, weights: Vec<u8>| {
        write(name, &Container { weights, ..compact.clone() }.write());
    };
    payload("compact-trailing-zero", [&compact.weights[..], &[0]].concat());
    payload("compact-unused-bytes", [&compact.weights[..], &[1; 7]].concat());
    payload("compact-step-out-of-range", stream(|w| w.integer(52, Logistic::of(20))));
    payload(
        "compact-width-out-of-range",
        stream(|w| {
            w.integer(0, Logistic::of(20));
            w.integer(18, Logistic::of(20));
        }),
    );
    payload(
        "compact-integer-out-of-range",
        stream(|w| {
            [0, 0, 0].iter().for_each(|&parameter| w.integer(parameter, Logistic::of(20)));
            (0..6).for_each(|_| w.integer(0, Logistic::of(46)));
            w.integer(0, Logistic::of(20));
            w.natural(1 << 24, 5);
        }),
    );
    payload("compact-quantile-out-of-range", vec![0xff; 8]);
    write("trailing-byte", &[&bytes[..], &[0]].concat());
    write("truncated", &bytes[..bytes.len() - 1]);
    write("no-weights", &bytes[..weights_at]);
    let flipped = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        bytes
    };
    write("crc-header", &flipped(header_end));
    write("crc-weights", &flipped(bytes.len() - 1));
    write("line-endings", &[&bytes[..4], &bytes[5..]].concat());
    write("empty", &[]);
}

/// A layer of an entropy model: bits dropped, weights row by row, biases.
type Integers<'a> = (u32, &'a [i32], &'a [i32]);

const ZEROS: &[i32] = &[0; 21];
/// Entropy models of one hidden feature a layer that are all 0: of splines and of waves.
const SPLINES: [Integers; 3] = [(0, ZEROS, &[0]), (0, &[0], &[0]), (0, &[0, 0], &[0, 0])];
const WAVES: [Integers; 3] = [(0, ZEROS.split_at(17).0, &[0]), (0, &[0], &[0]), (0, &[0], &[0])];

/// The least networks of so many planes, one sine and one channel, with the layers of entropy
/// models, widths as given.
fn least_networks(planes: usize, widths: u32, layers: &[Integers]) -> Vec<u8> {
    stream(|w| {
        let parameter = Logistic::of(20);
        // Sine layer and output layer: as predicted, all 0.
        (0..3).for_each(|_| w.integer(0, parameter));
        (0..planes).for_each(|_| w.integer(0, Logistic::of(46)));
        w.integer(0, parameter);
        w.natural(0, 5);
        (0..3).for_each(|_| w.integer(0, parameter));
        (0..1 + planes).for_each(|_| w.integer(0, Logistic::of(46)));
        w.integer(0, parameter);
        w.integer(0, Logistic::of(46));
        for (drop, weights, biases) in layers {
            w.natural(*drop, 3);
            for integers in [weights, biases] {
                w.natural(widths, 5);
                let distribution = Logistic::of(widths.min(63) as u8);
                integers.iter().for_each(|&q| w.integer(q, distribution));
            }
        }
    })
}

/// A payload from its parts.
fn grid_payload(numbers: &[u32], networks: &[u8], streams: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    let lengths = std::iter::once(networks).chain(streams.iter().copied()).map(|s| s.len() as u32);
    for mut number in numbers.iter().copied().chain(lengths) {
        while number >= 0x80 {
            out.push(number as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
    }
    out.extend_from_slice(networks);
    streams.iter().for_each(|stream| out.extend_from_slice(stream));
    out
}

/// The size of the pictures of files that break a rule.
const BAD_SIZE: Size = Size { width: 20, height: 12 };

/// A file of one sine and such a payload.
fn bad_file(weights: Vec<u8>) -> Container {
    let topology = uniform(Channels::Grey, 1, 1);
    let networks = latents_networks(splines(1), &topology, (1, 1), 0);
    let planes = [Plane::new(Basis::Splines { level: 0 }, BAD_SIZE)];
    Container { weights, ..latents_file(&planes, BAD_SIZE, &networks, topology) }
}

/// Writes a file that breaks a rule.
fn write_refused(name: &str, bytes: &[u8], rule: &str) {
    let Err(error) = render(bytes) else { panic!("{name} is not refused") };
    let error = error.to_string();
    assert!(error.contains(rule), "{name}: {error}");
    fs::write(directory().join("bad").join(format!("grid-{name}.siren")), bytes).unwrap();
}

/// Networks that break a rule in one layer of an entropy model: it has other drop, last weight and
/// last bias.
fn changed_layer(
    planes: usize,
    models: &[Integers],
    layer: usize,
    (drop, weight, bias): (u32, i32, i32),
) -> Vec<u8> {
    let mut weights: Vec<Vec<i32>> = models.iter().map(|layer| layer.1.to_vec()).collect();
    let mut biases: Vec<Vec<i32>> = models.iter().map(|layer| layer.2.to_vec()).collect();
    let mut drops = vec![0; models.len()];
    *weights[layer].last_mut().unwrap() = weight;
    *biases[layer].last_mut().unwrap() = bias;
    drops[layer] = drop;
    let layers = (0..models.len()).map(|i| (drops[i], &weights[i][..], &biases[i][..]));
    least_networks(planes, 20, &layers.collect::<Vec<_>>())
}

/// What a model that is all 0 says of every latent, about another integer: the same slices.
fn least_laplace(shift: i32) -> Laplace {
    Laplace::new(-64 * shift, 40)
}

/// Files of splines that break one rule each.
fn write_bad_latents() {
    let networks = least_networks(1, 20, &SPLINES);
    let latents = stream(|w| (0..240).for_each(|i| w.laplace(i % 7 - 3, &least_laplace(0))));
    let good = grid_payload(&[1, 0, 1, 1], &networks, &[&latents]);
    let file = |weights: Vec<u8>| bad_file(weights).write();
    assert_eq!(render(&file(good.clone())).map(|raster| raster.size()), Ok(BAD_SIZE));
    let write = write_refused;

    let header = |name: &str, rule: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let bytes = file(good.clone());
        let weights_at = bytes.windows(4).position(|w| w == b"WGHT").unwrap();
        let mut header = bytes[..weights_at - 4].to_vec();
        change(&mut header);
        header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
        write(name, &[&header, &bytes[weights_at..]].concat(), rule);
    };
    header("coding-f16", "weight coding of a grid", &|h| h[10] = 0);
    header("two-hidden-layers", "hidden layers of a grid", &|h| h[14] = 2);
    header("sines-0", "hidden features", &|h| h[15] = 0);

    let with = |name: &str, rule: &str, payload: Vec<u8>| write(name, &file(payload), rule);
    let numbers = |name: &str, field: &str, numbers: [u32; 4]| {
        with(name, field, grid_payload(&numbers, &networks, &[&latents]));
    };
    numbers("levels-0", "levels is 0", [0, 0, 1, 1]);
    numbers("levels-11", "levels is 11", [11, 0, 1, 1]);
    numbers("finest-level-10", "coarsest level is 10", [1, 10, 1, 1]);
    numbers("coarsest-level-10", "coarsest level is 10", [2, 9, 1, 1]);
    numbers("entropy-features-0", "of the entropy model is 0", [1, 0, 0, 1]);
    numbers("entropy-features-65", "of the entropy model is 65", [1, 0, 1, 65]);
    with("empty", "table is cut", Vec::new());
    with("table-cut", "table is cut", vec![1, 0, 1, 1, 1, 0x80]);
    let padded = [&good[..4], &[good[4] | 0x80, 0], &good[5..]].concat();
    with("table-varint-padded", "table is cut or malformed", padded);
    let wide = Container { width: 1 << 20, ..bad_file(good.clone()) };
    write("fewer-bytes-than-tiles", &wide.write(), "fewer bytes than tiles");
    with("lengths-too-long", "do not add up", good[..good.len() - 1].to_vec());
    with("lengths-too-short", "do not add up", [&good[..], &[1]].concat());
    with("networks-cut", "networks are cut", good[..20].to_vec());

    let networks_of = |name: &str, rule: &str, networks: Vec<u8>| {
        with(name, rule, grid_payload(&[1, 0, 1, 1], &networks, &[&latents]));
    };
    networks_of("networks-trailing-zero", "trailing zero", [&networks[..], &[0]].concat());
    networks_of("networks-unused-bytes", "bytes after", [&networks[..], &[1; 9]].concat());
    networks_of("networks-quantile-out-of-range", "quantile out of range", vec![0xff; 8]);
    let step = stream(|w| w.integer(52, Logistic::of(20)));
    networks_of("networks-step-out-of-range", "parameter out of range", step);
    let entropy = |name: &str, rule: &str, layer: usize, change: (u32, i32, i32)| {
        networks_of(name, rule, changed_layer(1, &SPLINES, layer, change));
    };
    entropy("entropy-drop-16", "more bits dropped", 0, (16, 0, 0));
    let wide = least_networks(1, 64, &SPLINES);
    networks_of("entropy-width-64", "parameter out of range", wide);
    // One less would be within the bound: 1023 * 16400 + 15 + 1 = 2^24 = 4095 * 4096 + 64 * 63 + 64.
    entropy("entropy-sums-0", "more than 24 bits", 0, (0, 16_400, -15));
    entropy("entropy-sums-1", "more than 24 bits", 1, (6, -4096, 63));
    entropy("entropy-sums-2", "more than 24 bits", 2, (6, 4096, -63));

    let latents_of = |name: &str, rule: &str, latents: &[u8]| {
        with(name, rule, grid_payload(&[1, 0, 1, 1], &networks, &[latents]));
    };
    latents_of("latents-trailing-zero", "trailing zero", &[&latents[..], &[0]].concat());
    latents_of("latents-unused-bytes", "bytes after", &[&latents[..], &[1; 9]].concat());
    latents_of("latents-quantile-out-of-range", "quantile out of range", &[0xff; 8]);
    let large = |value: i32, shift: i32| {
        stream(|w| {
            w.laplace(value, &least_laplace(shift));
            (1..240).for_each(|_| w.laplace(0, &least_laplace(0)));
        })
    };
    let largest = grid_payload(&[1, 0, 1, 1], &networks, &[&large(32_757, 10)]);
    assert!(render(&file(largest)).is_ok());
    latents_of("latent-32768", "latent out of range", &large(32_758, 10));
    latents_of("latent-minus-32768", "latent out of range", &large(-32_758, -10));
    // The upper escape, then ones.
    latents_of("latent-too-long", "integer out of range", &[0xff; 5]);
}

/// Files with waves that break one rule each: one plane of cells of 8, and one level of splines.
fn write_bad_waves() {
    let models = [&SPLINES[..], &WAVES].concat();
    let networks = least_networks(2, 20, &models);
    let level = stream(|w| (0..240).for_each(|i| w.laplace(i % 5 - 2, &least_laplace(0))));
    // All 64 frequencies of 3 x 2 cells.
    let count = 64 * 3 * 2;
    let waves_of = |value: i32, shift: i32| {
        stream(|w| {
            w.bits(6, 63);
            w.laplace(value, &least_laplace(shift));
            (1..count).for_each(|i| w.laplace(i % 3 - 1, &least_laplace(0)));
        })
    };
    let latents = waves_of(1, 0);
    const NUMBERS: [u32; 7] = [1, 16, 3, 1, 1, 1, 1];
    let good = grid_payload(&NUMBERS, &networks, &[&level, &latents]);
    let file = |weights: Vec<u8>| bad_file(weights).write();
    assert_eq!(render(&file(good.clone())).map(|raster| raster.size()), Ok(BAD_SIZE));

    let with = |name: &str, rule: &str, payload: Vec<u8>| write_refused(name, &file(payload), rule);
    let number = |name: &str, rule: &str, at: usize, number: u32| {
        let mut numbers = NUMBERS;
        numbers[at] = number;
        with(name, rule, grid_payload(&numbers, &networks, &[&level, &latents]));
    };
    number("waves-5-planes", "planes of waves is 80", 1, 5 * 16);
    number("waves-coarsest-level-10", "coarsest level is 10", 1, 16 + 10);
    number("waves-cell-4", "logarithm of the cell is 2", 2, 2);
    number("waves-cell-64", "logarithm of the cell is 6", 2, 6);
    number("waves-entropy-features-0", "of the entropy model is 0", 5, 0);
    number("waves-entropy-features-65", "of the entropy model is 65", 6, 65);
    let long = Container { width: 1, height: 1 << 16, ..bad_file(good.clone()) };
    write_refused("waves-fewer-bytes-than-tiles", &long.write(), "fewer bytes than tiles");
    with("waves-lengths-too-long", "do not add up", good[..good.len() - 1].to_vec());
    with("waves-lengths-too-short", "do not add up", [&good[..], &[1]].concat());

    let networks_of = |name: &str, rule: &str, networks: Vec<u8>| {
        with(name, rule, grid_payload(&NUMBERS, &networks, &[&level, &latents]));
    };
    networks_of("waves-networks-unused-bytes", "bytes after", [&networks[..], &[1; 9]].concat());
    let entropy = |name: &str, rule: &str, layer: usize, change: (u32, i32, i32)| {
        networks_of(name, rule, changed_layer(2, &models, SPLINES.len() + layer, change));
    };
    entropy("waves-entropy-drop-16", "more bits dropped", 1, (16, 0, 0));
    entropy("waves-entropy-sums-0", "more than 24 bits", 0, (0, -16_400, 15));
    entropy("waves-entropy-sums-1", "more than 24 bits", 1, (6, 4096, 63));
    entropy("waves-entropy-sums-2", "more than 24 bits", 2, (6, -4096, -63));

    let latents_of = |name: &str, rule: &str, latents: &[u8]| {
        with(name, rule, grid_payload(&NUMBERS, &networks, &[&level, latents]));
    };
    let trailing = [&latents[..], &[0]].concat();
    latents_of("waves-latents-trailing-zero", "trailing zero", &trailing);
    let unused = [&latents[..], &[1; 9]].concat();
    latents_of("waves-latents-unused-bytes", "bytes after", &unused);
    // Fewer frequencies than there are latents of.
    let fewer = stream(|w| {
        w.bits(6, 20);
        (0..count).for_each(|i| w.laplace(i % 3 - 1, &least_laplace(0)));
    });
    latents_of("waves-latents-of-fewer-frequencies", "bytes after", &fewer);
    latents_of("waves-latents-quantile-out-of-range", "quantile out of range", &[0xff; 8]);
    let largest = grid_payload(&NUMBERS, &networks, &[&level, &waves_of(-32_757, -10)]);
    assert!(render(&file(largest)).is_ok());
    latents_of("waves-latent-32768", "latent out of range", &waves_of(32_758, 10));
    latents_of("waves-latent-minus-32768", "latent out of range", &waves_of(-32_758, -10));
}

/// The picture of a file, which a decoder need not read before.
fn render(bytes: &[u8]) -> Result<Raster, DecodeError> {
    Decoder::new(bytes)?.render(&View::native())
}

#[test]
fn every_bad_file_is_refused() {
    let mut count = 0;
    for entry in fs::read_dir(directory().join("bad")).unwrap() {
        let path = entry.unwrap().path();
        assert!(render(&fs::read(&path).unwrap()).is_err(), "{}", path.display());
        count += 1;
    }
    assert!(count >= 86, "files are missing: {count}");
}
