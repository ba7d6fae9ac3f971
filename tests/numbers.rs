//! The extremes of every number on the command line: each is taken or refused by name, at once, in
//! little memory, and nothing panics.
#![cfg(all(feature = "cli", feature = "encode", target_os = "linux"))]

mod common;
mod workplace;

use std::fs;
use std::process::{Command, Output};

use common::{container, picture_of_bytes, planes_container, uniform, waves};
use rayon::prelude::*;
use sirenc::{Channels, Samples, Size};
use workplace::Workplace;

/// Edges of integers, of floating-point numbers and of what a number may look like.
const NUMBERS: [&str; 54] = [
    "0",
    "-0",
    "-1",
    "1",
    "-3.5",
    "0.5",
    "8",
    "16",
    "127",
    "-128",
    "255",
    "256",
    "32767",
    "-32768",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483649",
    "4294967295",
    "4294967296",
    "9007199254740992",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "1e-320",
    "-1e-320",
    "1e-45",
    "1e-40",
    "1e-9",
    "1e9",
    "1e38",
    "1e39",
    "1e300",
    "-1e300",
    "1e309",
    "nan",
    "-nan",
    "inf",
    "-inf",
    "",
    "-",
    "--",
    "0x10",
    "1e3",
    "1_000",
    "+1",
    "17179869184G",
    "-1K",
];

/// Commands with a number at `{}`, the option that a refused one names, and what is said to be wrong
/// where it is not the number alone.
const ENCODE: &[(&str, &str, &[&str])] = &[
    ("--steps 3 --quality {}", "--quality", &[]),
    ("--steps 3 --psnr {}", "--psnr", &["beyond reach", "the PSNR"]),
    ("--steps 3 --psnr {} --representation grid", "--psnr", &["beyond reach", "the PSNR"]),
    ("--steps 3 --bpp {}", "--bpp", &["bytes are too few"]),
    ("--steps 3 --bpp {} --representation grid", "--bpp", &["bytes are too few"]),
    ("--steps 3 --bytes {}", "--bytes", &["bytes are too few"]),
    ("--steps 3 --bytes {} --coding f16", "--bytes", &["bytes are too few"]),
    ("--steps 3 --bytes {} --representation grid", "--bytes", &["bytes are too few"]),
    ("--steps 3 --hidden-layers {} --hidden-features 4", "--hidden-layers", &[]),
    ("--steps 3 --hidden-layers 2 --hidden-features {}", "--hidden-features", &[]),
    ("--steps 3 --hidden-layers 2 --hidden-features 4,{}", "--hidden-features", &[]),
    ("--steps 3 --hidden-layers {} --hidden-features {}", "--hidden-layers", &[]),
    ("--steps 3 --omega0 {}", "--omega0", &["omega_0"]),
    ("--steps 3 --omega0-hidden {}", "--omega0-hidden", &["omega_0"]),
    ("--steps 3 --effort {}", "--effort", &[]),
    ("--steps {} --timeout 0.1", "--steps", &[]),
    ("--steps {} --timeout 0.1 --representation grid", "--steps", &[]),
    ("--steps 3 --stop-after {}", "--stop-after", &[]),
    ("--steps 3 --batch {}", "--batch", &[]),
    ("--steps 3 --learning-rate {}", "--learning-rate", &["learning rate"]),
    ("--steps 3 --seed {}", "--seed", &[]),
    ("--steps 3 --timeout {}", "--timeout", &["give it more time"]),
    ("--steps 9 --timeout {} --representation grid", "--timeout", &["give it more time"]),
    ("--steps 3 --checkpoint # --checkpoint-every {}", "--checkpoint-every", &[]),
    ("--steps 3 --threads {}", "--threads", &[]),
];

const DECODE: &[(&str, &str, &[&str])] = &[
    ("--size {}", "--size", &["pixels", "side"]),
    ("--size {}x1", "--size", &["pixels", "side"]),
    ("--size 1x{}", "--size", &["pixels", "side"]),
    ("--size {}x{}", "--size", &["pixels", "side"]),
    ("--scale {}", "--scale", &["pixels", "side"]),
    ("--crop {},0,1,1", "--crop", &["crop"]),
    ("--crop 0,0,{},1", "--crop", &["crop"]),
    ("--crop 0,0,{},{} --size 5", "--crop", &["crop", "side"]),
    ("--crop {},{},{},{}", "--crop", &["crop"]),
    ("--derivative gradient --gain {}", "--gain", &["gain"]),
    ("--derivative laplacian --gain {}", "--gain", &[]),
    ("--depth {}", "--depth", &[]),
    ("--format jpg --jpeg-quality {}", "--jpeg-quality", &[]),
    ("--max-pixels {}", "--max-pixels", &["--max-pixels"]),
    ("--max-memory {}", "--max-memory", &["--max-memory"]),
    ("--threads {}", "--threads", &[]),
];

/// Not an option, which would take whatever follows it.
const OF_PLACES: &[&str] =
    &["lies outside the picture", "unexpected argument", "required arguments were not provided"];

const OTHERS: &[(&str, &str, &[&str])] = &[
    ("decode g.siren -o - --planes {}", "--planes", &[]),
    ("sample a.siren {} 1", "<X>", OF_PLACES),
    ("sample g.siren 1 {}", "<Y>", OF_PLACES),
    ("edit a.siren -o - --cicp {},13,0,1", "--cicp", &[]),
    ("edit a.siren -o - --cicp 1,{},0,1", "--cicp", &[]),
    ("edit a.siren -o - --cicp 1,13,{},1", "--cicp", &[]),
    ("edit a.siren -o - --cicp 1,13,0,{}", "--cicp", &[]),
];

fn workplace() -> Workplace {
    let w = Workplace::new();
    let Samples::U8(samples) = picture_of_bytes(16, 12, Channels::Rgb).into_samples() else {
        panic!("8 bits")
    };
    fs::write(w.path("a.ppm"), [&b"P6\n16 12\n255\n"[..], &samples].concat()).unwrap();
    fs::write(w.path("a.siren"), container(16, 12, uniform(Channels::Rgb, 2, 5), 1).write())
        .unwrap();
    let size = Size { width: 16, height: 12 };
    let grids = planes_container(size, waves(1, 8, 1, 2), uniform(Channels::Rgb, 1, 4), (3, 3), 1);
    fs::write(w.path("g.siren"), grids.write()).unwrap();
    w
}

/// Runs the binary in half a gigabyte and ten seconds of a core.
fn run(w: &Workplace, arguments: &[String]) -> Output {
    Command::new("sh")
        .current_dir(w.0.path())
        // A backtrace takes memory that is not there.
        .env("RUST_BACKTRACE", "0")
        .args([
            "-c",
            "ulimit -d 524288 && ulimit -t 10 && exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_sirenc"),
        ])
        .args(arguments)
        .output()
        .unwrap()
}

/// What is wrong with how the command ended for a number.
fn wrong(output: &Output, option: &str, reasons: &[&str]) -> Option<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let first = stderr.lines().next().unwrap_or_default();
    let says = |what: &str| first.contains(what);
    let named = says(&format!("'{option}"));
    let ok = match output.status.code() {
        Some(0) => !stderr.contains("error: ") && !output.stdout.is_empty(),
        Some(1) => {
            let lines = stderr.lines().count();
            says("error: ") && lines == 1 && reasons.iter().any(|reason| says(reason))
        }
        Some(2) => says("error: ") && (named || reasons.iter().any(|reason| says(reason))),
        _ => false,
    };
    (!ok || stderr.contains("panicked")).then(|| format!("{:?}: {stderr}", output.status))
}

#[test]
fn files_without_an_end_are_read_no_further() {
    let w = workplace();
    for command in [
        "edit a.siren -o b.siren --icc /dev/zero",
        "edit a.siren -o b.siren --exif /dev/zero",
        "edit a.siren -o b.siren --xmp /dev/zero",
        "encode a.ppm -o b.siren --resume /dev/zero",
        "encode a.ppm -o b.siren --checkpoint /dev/zero",
    ] {
        let arguments: Vec<String> = command.split(' ').map(str::to_owned).collect();
        let output = run(&w, &arguments);
        let failure = wrong(&output, "", &["/dev/zero"]);
        assert!(output.status.code() == Some(1) && failure.is_none(), "{command}: {failure:?}");
        assert!(!w.path("b.siren").exists(), "{command}");
    }
}

#[test]
fn every_number_is_taken_or_refused_by_name() {
    let w = workplace();
    let encode = "encode a.ppm -o - --device cpu ".to_owned();
    let decode = |file: &str| format!("decode {file} -o - ");
    let with = |command: String,
                cases: &'static [(&'static str, &'static str, &'static [&str])]| {
        cases.iter().map(move |(rest, option, says)| (command.clone() + rest, *option, *says))
    };
    let mut commands: Vec<_> = with(encode, ENCODE).collect();
    commands.extend(with(decode("a.siren"), DECODE));
    commands.extend(with(decode("g.siren"), DECODE));
    commands.extend(with(String::new(), OTHERS));
    let digits = "9".repeat(400);
    let numbers: Vec<&str> = NUMBERS.iter().copied().chain([&*digits]).collect();
    let failures: Vec<String> = commands
        .par_iter()
        .enumerate()
        .flat_map_iter(|(index, (command, option, reasons))| {
            let (mut taken, mut refused) = (0, 0);
            let mut failures = Vec::new();
            for (nth, number) in numbers.iter().enumerate() {
                let checkpoint = format!("{index}-{nth}");
                let arguments = command.split(' ').map(|word| match word {
                    "#" => checkpoint.clone(),
                    word => word.replace("{}", number),
                });
                let arguments: Vec<String> = arguments.collect();
                let output = run(&w, &arguments);
                match output.status.code() {
                    Some(0) => taken += 1,
                    _ => refused += 1,
                }
                let failure = wrong(&output, option, reasons);
                failures.extend(failure.map(|failure| format!("{arguments:?}: {failure}")));
            }
            if taken == 0 || refused == 0 {
                failures.push(format!("{command}: {taken} taken, {refused} refused"));
            }
            failures
        })
        .collect();
    assert!(failures.is_empty(), "{}\n{}", failures.len(), failures.join("\n"));
}
