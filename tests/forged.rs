//! Forged headers cost a decoder neither time nor memory. Alone in its file, since the
//! peak memory of all children of this process is what is measured.
#![cfg(all(feature = "cli", target_os = "linux"))]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{container, uniform};
use nix::sys::resource::{UsageWho, getrusage};
use sirenc::Channels;

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
    for (bytes, message) in [
        (pixels, "exceeds the limit"),
        (wide, "exceeds the limit"),
        (weights, "the format allows 1 to 1024"),
        (chunk, "truncated"),
    ] {
        let path = directory.path().join("forged.siren");
        std::fs::write(&path, bytes).unwrap();
        let started = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_sirenc"))
            .arg("decode")
            .arg(&path)
            .args(["-o", "-"])
            .output()
            .unwrap();
        assert!(started.elapsed() < Duration::from_secs(1));
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(message), "{stderr}");
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    assert!(usage.max_rss() < 50 * 1024, "{} KiB", usage.max_rss());
}
