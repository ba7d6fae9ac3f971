//! Whatever ends a process, a file is the old one, the whole new one, or not there.
#![cfg(all(feature = "cli", feature = "encode", unix))]

mod common;
mod workplace;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::assert::OutputAssertExt;
use common::{container, picture_of_bytes, uniform};
use predicates::prelude::*;
use sirenc::{Channels, Decoder, Samples};
use workplace::Workplace;

/// A picture and a `.siren` file, and what was there before.
fn workplace() -> Workplace {
    let w = Workplace::new();
    let raster = picture_of_bytes(48, 32, Channels::Rgb);
    let Samples::U8(samples) = raster.samples() else { unreachable!("8 bits") };
    image::save_buffer(w.path("a.png"), samples, 48, 32, image::ColorType::Rgb8).unwrap();
    let file = container(60, 40, uniform(Channels::Rgb, 3, 9), 5);
    fs::write(w.path("a.siren"), file.write()).unwrap();
    w
}

const OLD: &[u8] = b"what was there before";

/// Commands that write `out`, some of them for long enough to be broken off.
const COMMANDS: [&str; 5] = [
    "decode a.siren --size 1500 --format tiff -o out",
    "encode a.png --hidden-layers 2 --hidden-features 12 --steps 300 --coding f16 -o out",
    "encode a.png --bytes 900 --representation grid --steps 40 -o out",
    "edit a.siren --strip -o out",
    "export a.siren --format safetensors -o out",
];

fn names(w: &Workplace) -> Vec<String> {
    let entries = fs::read_dir(w.0.path()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn interrupt(child: &Child) {
    let id = child.id().to_string();
    Command::new("kill").args(["-INT", &id]).assert().success();
}

/// Has `end` end each command at many moments of its run; `check` sees what is left.
fn at_any_moment(end: impl Fn(&mut Child), check: impl Fn(&Workplace, &str, &[u8], Option<i32>)) {
    for command in COMMANDS {
        let w = workplace();
        let started = Instant::now();
        w.run(command).success();
        let (took, new) = (started.elapsed(), fs::read(w.path("out")).unwrap());
        for moment in 0..12 {
            fs::write(w.path("out"), OLD).unwrap();
            let mut child = w.command(command).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(took * moment / 10);
            end(&mut child);
            let code = child.wait().unwrap().code();
            check(&w, command, &new, code);
        }
    }
}

#[test]
fn a_kill_at_any_moment_leaves_the_old_file_or_the_new_one() {
    at_any_moment(
        |child| child.kill().unwrap(),
        |w, command, new, _| {
            let left = fs::read(w.path("out")).unwrap();
            assert!(left == OLD || left == new, "{command}: {} bytes", left.len());
            // Nobody is there any more to take away what was being written.
            for name in names(w) {
                let known = ["a.png", "a.siren", "out"].contains(&&*name);
                assert!(known || name.starts_with(".sirenc-"), "{command}: {name}");
                if !known {
                    fs::remove_file(w.path(&name)).unwrap();
                }
            }
        },
    );
}

#[test]
fn ctrl_c_at_any_moment_leaves_the_old_file_or_a_new_one() {
    at_any_moment(
        |child| interrupt(child),
        |w, command, new, code| {
            let left = fs::read(w.path("out")).unwrap();
            // Before the handler is there, the signal ends the process by itself.
            assert!(matches!(code, None | Some(0 | 130)), "{command}: {code:?}");
            // Training that is ended keeps the best so far.
            let is_whole = left == new || Decoder::new(&left).is_ok();
            let is_old = left == OLD && code != Some(0);
            assert!(is_whole || is_old, "{command}: {} bytes, {code:?}", left.len());
            assert_eq!(names(w), ["a.png", "a.siren", "out"], "{command}");
        },
    );
}

#[test]
fn a_disk_that_fills_up_leaves_the_old_file() {
    for command in COMMANDS {
        let w = workplace();
        w.run(command).success();
        let blocks = fs::metadata(w.path("out")).unwrap().len().saturating_sub(1) / 512;
        fs::write(w.path("out"), OLD).unwrap();
        // A file size limit stands in for the disk.
        let limited = format!(
            "trap '' XFSZ; POSIXLY_CORRECT=1; ulimit -f {}; exec {} {command}",
            blocks.min(8),
            env!("CARGO_BIN_EXE_sirenc")
        );
        let run = Command::new("bash").current_dir(w.0.path()).args(["-c", &limited]).assert();
        run.code(1).stderr(predicate::str::contains("cannot write out: File too large"));
        assert_eq!(fs::read(w.path("out")).unwrap(), OLD, "{command}");
        assert_eq!(names(&w), ["a.png", "a.siren", "out"], "{command}");
        let full = command.replace("-o out", "-o /dev/full");
        w.fails(&full, "No space left on device").code(1);
    }
}

#[test]
fn ctrl_c_keeps_the_best_network() {
    let w = workplace();
    let mut command =
        w.command("encode a.png --hidden-layers 2 --hidden-features 12 --steps 1000000 -o b.siren");
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("stopped early, of 1000000; best result kept"), "{stderr}");
    w.run("decode b.siren -o b.png").success();
}

#[test]
fn an_interrupted_decode_leaves_nothing() {
    let w = workplace();
    let child = w.command("decode a.siren --size 20000 -o out.png").spawn().unwrap();
    let started = Instant::now();
    while names(&w).len() < 3 && started.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(10));
    }
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(names(&w), ["a.png", "a.siren"]);
}
