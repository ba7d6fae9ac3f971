//! The vectors in `spec/conformance`: the f64 definition gives their values, and renders
//! stay within the specification's bound. `SIRENC_WRITE_VECTORS=1` writes them anew.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{compact_container, container, uniform};
use half::f16;
use sirenc::coding::entropy::{Logistic, Writer};
use sirenc::container::{Cicp, Container};
use sirenc::{
    BitDepth, Channels, Decoder, Grid, RenderOptions, Samples, Scale, Size, Topology, View,
};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/conformance")
}

fn view(size: Size) -> View {
    View { crop: None, scale: Scale::Exact(size) }
}

/// Reference values of a render, row by row, channels side by side.
fn reference(decoder: &Decoder, size: Size) -> Vec<f64> {
    let grid = Grid::new(decoder.size(), &view(size)).unwrap();
    let mut values = Vec::new();
    for row in 0..size.height {
        for column in 0..size.width {
            let jets = decoder.siren().evaluate(grid.x(column), grid.y(row));
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
    assert!(vectors.len() >= 9, "vectors are missing");
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
        let options = RenderOptions { view: view(size), depth, ..Default::default() };
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
    write_bad();
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
    payload("compact-step-out-of-range", stream(|w| w.integer(52, &Logistic::new(20))));
    payload(
        "compact-width-out-of-range",
        stream(|w| {
            w.integer(0, &Logistic::new(20));
            w.integer(18, &Logistic::new(20));
        }),
    );
    payload(
        "compact-integer-out-of-range",
        stream(|w| {
            [0, 0, 0].iter().for_each(|&parameter| w.integer(parameter, &Logistic::new(20)));
            (0..6).for_each(|_| w.integer(0, &Logistic::new(46)));
            w.integer(0, &Logistic::new(20));
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

#[test]
fn every_bad_file_is_refused() {
    let mut count = 0;
    for entry in fs::read_dir(directory().join("bad")).unwrap() {
        let path = entry.unwrap().path();
        assert!(Decoder::new(&fs::read(&path).unwrap()).is_err(), "{}", path.display());
        count += 1;
    }
    assert!(count >= 36, "files are missing: {count}");
}
