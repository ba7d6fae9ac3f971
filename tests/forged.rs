//! Forged headers cost a decoder neither time nor memory. Alone in its file, since the
//! peak memory of all children of this process is what is measured.
#![cfg(all(feature = "cli", target_os = "linux"))]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{container, latents_container, planes_container, uniform, waves};
use nix::sys::resource::{UsageWho, getrusage};
use sirenc::container::Container;
use sirenc::{Channels, Size};

/// A file of latents whose tiles are all 0, so that each takes a byte.
fn empty_latents(width: u32, height: u32, levels: u32) -> Container {
    let small = Size { width: 1, height: 1 };
    let topology = uniform(Channels::Rgb, 1, 4);
    let file = latents_container(small, levels as usize, topology, (8, 8), 0);
    let tiles = |level: u32| {
        let side = |native: u32| native.div_ceil(1 << level).div_ceil(256) as usize;
        side(width) * side(height)
    };
    // Levels, the finest of them, hidden features, the length of the networks: two bytes; then a
    // byte a level.
    let mut weights = file.weights.clone();
    assert!(weights[4] >= 0x80 && weights[5] < 0x80, "a length of two bytes");
    let lengths = 6..6 + levels as usize;
    let networks = usize::from(weights[4] & 0x7f) | usize::from(weights[5]) << 7;
    weights.truncate(lengths.end + networks);
    weights.splice(lengths, vec![0; (0..levels).map(tiles).sum()]).for_each(drop);
    Container { width, height, weights, ..file }
}

#[test]
fn forged_headers_fail_within_a_second_and_50_megabytes() {
    let directory = tempfile::tempdir().unwrap();
    let pixels = container(46_341, 46_341, uniform(Channels::Rgb, 2, 4), 0).write();
    let wide = container(1 << 28, 1, uniform(Channels::Rgb, 2, 4), 0).write();
    // 64 layers of 4,000 features: 10^9 weights.
    let mut weights = container(64, 64, uniform(Channels::Rgb, 2, 200), 0).write();
    weights[14] = 64;
    weights[15..17].copy_from_slice(&[0xa0, 0x1f]);
    let crc = crc32fast::hash(&weights[..21]);
    weights[21..25].copy_from_slice(&crc.to_le_bytes());
    // A chunk of almost 4 GiB.
    let mut chunk = container(64, 64, uniform(Channels::Rgb, 2, 4), 0).write();
    let at = chunk.windows(4).position(|w| w == b"WGHT").unwrap() + 4;
    chunk.splice(at..at + 1, [0xff, 0xff, 0xff, 0xff, 0x0f]);
    // Latents: more tiles than bytes; as many pixels as bytes allow, and more latents than
    // a thumbnail needs but for their having one level; streams of 4 GiB each.
    let most = (1 << 31) - 1;
    let small = Size { width: 9, height: 9 };
    let with_waves =
        planes_container(small, waves(4, 8, 0, 2), uniform(Channels::Rgb, 1, 4), (8, 8), 0);
    let of_waves = Container { width: most, height: 1, ..with_waves }.write();
    let grid = latents_container(small, 2, uniform(Channels::Rgb, 1, 4), (8, 8), 0);
    let tiles = Container { width: most, height: most, ..grid.clone() }.write();
    let one_level = empty_latents(1 << 17, 1 << 16, 1).write();
    let mut lengths = grid.clone();
    lengths.weights.splice(6..8, [0xff, 0xff, 0xff, 0xff, 0x0f].repeat(2)).for_each(drop);
    let mut networks = grid;
    networks.weights.splice(4..6, [0xff, 0xff, 0xff, 0xff, 0x0f]).for_each(drop);
    let decode = |bytes: &[u8], arguments: &[&str]| {
        let path = directory.path().join("forged.siren");
        std::fs::write(&path, bytes).unwrap();
        let started = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_sirenc"))
            .arg("decode")
            .arg(&path)
            .args(["-o", "-"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(started.elapsed() < Duration::from_secs(1));
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (bytes, arguments, message) in [
        (&pixels, &[][..], "exceeds the limit"),
        (&wide, &[], "exceeds the limit"),
        (&weights, &[], "the format allows 1 to 1024"),
        (&chunk, &[], "truncated"),
        (&tiles, &[], "fewer bytes than tiles"),
        (&of_waves, &[], "fewer bytes than tiles"),
        (&one_level, &[], "exceeds the limit"),
        (&one_level, &["--size", "64"], "exceeds the limit"),
        (&lengths.write(), &[], "do not add up"),
        (&networks.write(), &[], "networks are cut"),
    ] {
        let (code, stderr) = decode(bytes, arguments);
        assert_eq!(code, Some(1));
        assert!(stderr.contains(message), "{stderr}");
    }
    // A thumbnail of a large picture does not need its finest levels.
    let large = empty_latents(1 << 14, 1 << 14, 10).write();
    assert_eq!(decode(&large, &["--size", "64"]), (Some(0), String::new()));
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    assert!(usage.max_rss() < 50 * 1024, "{} KiB", usage.max_rss());
}
