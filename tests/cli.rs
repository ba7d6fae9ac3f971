//! The binary, as people and scripts use it.
#![cfg(all(feature = "cli", feature = "encode"))]

mod common;
mod workplace;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use assert_cmd::assert::OutputAssertExt;
use common::{container, latents_container, uniform};
use image::{ExtendedColorType, ImageEncoder};
use predicates::prelude::*;
use sirenc::container::{Container, TrainingOmega};
use sirenc::{BitDepth, Channels, Samples, Size, Topology};
use workplace::{Workplace, python_has_numpy};

impl Workplace {
    /// A small picture as a PNG file.
    fn png(&self, name: &str, channels: Channels, depth: BitDepth) -> PathBuf {
        let size = Size { width: 48, height: 32 };
        let raster = common::picture(size, channels, depth);
        let (bytes, colour) = match raster.samples() {
            Samples::U8(s) => (
                s.clone(),
                [
                    ExtendedColorType::L8,
                    ExtendedColorType::La8,
                    ExtendedColorType::Rgb8,
                    ExtendedColorType::Rgba8,
                ],
            ),
            Samples::U16(s) => (
                s.iter().flat_map(|s| s.to_ne_bytes()).collect(),
                [
                    ExtendedColorType::L16,
                    ExtendedColorType::La16,
                    ExtendedColorType::Rgb16,
                    ExtendedColorType::Rgba16,
                ],
            ),
        };
        let path = self.path(name);
        let file = fs::File::create(&path).unwrap();
        image::codecs::png::PngEncoder::new(file)
            .write_image(&bytes, 48, 32, colour[channels.count() - 1])
            .unwrap();
        path
    }

    /// A small `.siren` file.
    fn siren(&self, name: &str, channels: Channels) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, container(60, 40, uniform(channels, 3, 9), 5).write()).unwrap();
        path
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

const QUICK: &str = "--hidden-layers 2 --hidden-features 12 --steps 60";

fn dimensions(path: &Path) -> (u32, u32) {
    image::image_dimensions(path).unwrap()
}

#[test]
fn a_picture_goes_to_siren_and_back() {
    let w = Workplace::new();
    w.png("a.png", Channels::Rgb, BitDepth::Eight);
    w.run(&format!("encode a.png {QUICK} --steps 400").replace("--steps 60 ", ""))
        .success()
        .stdout("")
        .stderr(predicate::str::contains("a.png -> a.siren: 2x12, "));
    w.run("decode a.siren -o b.png").success().stdout("").stderr("");
    assert_eq!(dimensions(&w.path("b.png")), (48, 32));
    w.run("decode a.siren --size 2048 -o large.png").success();
    assert_eq!(dimensions(&w.path("large.png")), (2048, 1365));
    let compared = w.run("compare a.png b.png --json").success();
    let facts: serde_json::Value = serde_json::from_slice(&compared.get_output().stdout).unwrap();
    assert!(facts["psnr"].as_f64().unwrap() > 20.0, "{facts}");
    // A .siren file is rendered by compare itself.
    let direct = w.run("compare a.png a.siren --json").success();
    assert_eq!(direct.get_output().stdout, compared.get_output().stdout);
    assert_eq!(w.names(), ["a.png", "a.siren", "b.png", "large.png"]);
}

#[test]
fn training_can_be_resumed() {
    let w = Workplace::new();
    w.png("a.png", Channels::Rgb, BitDepth::Eight);
    w.png("b.png", Channels::Grey, BitDepth::Eight);
    w.run(&format!("encode a.png {QUICK} --coding f16")).success();
    let psnr = |file: &str| {
        let compared = w.run(&format!("compare a.png {file} --json")).success();
        let facts: serde_json::Value =
            serde_json::from_slice(&compared.get_output().stdout).unwrap();
        facts["psnr"].as_f64().unwrap()
    };
    w.run("encode a.png --resume a.siren -o more.siren -e 1").success();
    assert!(psnr("more.siren") > psnr("a.siren") + 1.0);
    w.run("encode a.png --resume more.siren -o one.siren --steps 1").success();
    assert!(psnr("one.siren") >= psnr("more.siren"));
    w.run("info more.siren").success().stdout(predicate::str::contains(
        "made by         sirenc encode IN --resume FILE --coding f16 --effort 1\n",
    ));
    w.fails("encode b.png --resume a.siren", "other channels than the picture");
    w.fails("encode a.png b.png --resume a.siren", "give one input");
    w.fails("encode a.png --resume none.siren", "cannot read none.siren");
    w.run("encode a.png --resume a.siren --preset paper").code(2);
    w.run("encode a.png --effort 10").code(2);
}

#[test]
fn the_command_in_info_makes_the_file_again() {
    let w = Workplace::new();
    w.png("a.png", Channels::Rgb, BitDepth::Eight);
    let omegas = "--omega0 20 --omega0-hidden 25";
    for options in [
        format!("{QUICK} --coding f16 --seed 5 {omegas}"),
        format!("{QUICK} --bytes 1100 --seed 5 {omegas}"),
        "-e 1 --steps 30 --bytes 1200".into(),
        "-e 1 --steps 30 --bytes 1200 --representation siren".into(),
        "-e 1 --steps 30 --bytes 1200 --representation grid".into(),
        "-e 1 --steps 30 --psnr 8 --hidden-layers 3 --hidden-features 60".into(),
    ] {
        w.run(&format!("encode a.png {options} -o a.siren --force")).success();
        let info = w.run("info a.siren --json").success();
        let facts: serde_json::Value = serde_json::from_slice(&info.get_output().stdout).unwrap();
        let command = facts["command"].as_str().unwrap();
        let command = command.replace("sirenc ", "").replace("IN", "a.png");
        w.run(&format!("{command} -o again.siren")).success();
        let files = ["a.siren", "again.siren"].map(|name| fs::read(w.path(name)).unwrap());
        assert_eq!(files[0], files[1], "{options}: {command}");
    }
}

#[test]
fn latent_grids_are_not_told_what_only_a_siren_has() {
    let w = Workplace::new();
    w.png("a.png", Channels::Rgb, BitDepth::Eight);
    for (options, name) in [
        ("--coding f16", "the coding f16"),
        ("--omega0 20", "omega_0"),
        ("--omega0-hidden 20", "omega_0"),
        ("--optimizer adam", "the optimizer"),
        ("--batch 100", "the batch"),
        ("--learning-rate 0.01", "the learning rate"),
        ("--device cuda", "the device"),
    ] {
        let error = format!("a.png: invalid settings: latent grids take no choice of {name}");
        w.fails(&format!("encode a.png --representation grid {options}"), &error);
    }
    w.run("encode a.png --representation grid --hidden-layers 3 --hidden-features 9").code(2);
    // What is as usual anyway does not matter.
    let usual = "--coding compact --omega0 30 --optimizer soap --bytes 700 --steps 9";
    w.run(&format!("encode a.png --representation grid {usual}")).success();
}

#[test]
fn info_tells_the_command_of_early_files_too() {
    let w = Workplace::new();
    let siren = |settings: &str| {
        let mut file = container(20, 10, Topology::new(Channels::Rgb, vec![9, 7]).unwrap(), 5);
        file.omega = Some(TrainingOmega { first: 30.0, hidden: 25.0 });
        file.metadata.settings = Some(settings.into());
        file
    };
    let grid = |settings: &str| {
        let size = Size { width: 20, height: 10 };
        let mut file = latents_container(size, 2, uniform(Channels::Rgb, 1, 9), (6, 5), 1);
        file.metadata.settings = Some(settings.into());
        file
    };
    let command = |file: Container| -> Option<String> {
        fs::write(w.path("a.siren"), file.write()).unwrap();
        let info = w.run("info a.siren --json").success();
        let facts: serde_json::Value = serde_json::from_slice(&info.get_output().stdout).unwrap();
        let command = facts["command"].as_str()?;
        Some(command.strip_prefix("sirenc encode IN ").unwrap().to_owned())
    };
    let layers = "--hidden-layers 2 --hidden-features 9,7";
    let omega = "--omega0 30 --omega0-hidden 25";
    for (early, now, expected) in [
        ("", "", format!("{layers} {omega}")),
        (
            " --bytes 2290 --effort 7 --steps 9 --stop-after 8 --seed 5",
            " bytes=2290 effort=7 steps=9 stop_after=8 seed=5",
            format!("{layers} {omega} --bytes 2290 --effort 7 --steps 9 --stop-after 8 --seed 5"),
        ),
        (
            " --coding f16 --batch 300 --learning-rate 0.002 --optimizer adam",
            " coding=f16 batch=300 learning_rate=0.002 optimizer=adam",
            format!(
                "{layers} {omega} --coding f16 --batch 300 --learning-rate 0.002 --optimizer adam"
            ),
        ),
        (
            " --representation siren --psnr 24.5 --best-effort",
            " representation=siren psnr=24.5 best_effort=yes",
            format!("{omega} --representation siren --psnr 24.5 --best-effort"),
        ),
        (
            " --hidden-layers 2 --hidden-features 9,7 --psnr 8",
            " hidden=9,7 psnr=8",
            format!("{omega} --hidden-layers 2 --hidden-features 9,7 --psnr 8"),
        ),
        (
            " --resume FILE --coding f16 --effort 1",
            " resume=yes coding=f16 effort=1",
            "--resume FILE --coding f16 --effort 1".into(),
        ),
    ] {
        for text in [early, now] {
            let told = command(siren(&format!("sirenc 0.1.0{text}")));
            assert_eq!(told.as_deref(), Some(&*expected), "{text}");
        }
    }
    for (early, now, expected) in [
        ("", "", "--representation grid"),
        (" --representation grid --effort 7", " effort=7", "--representation grid --effort 7"),
        (" --quality 4.5", " quality=4.5", "--representation grid --quality 4.5"),
        (" --resume FILE --bytes 1037", " resume=yes bytes=1037", "--resume FILE --bytes 1037"),
    ] {
        for text in [early, now] {
            let told = command(grid(&format!("sirenc 0.1.0{text}")));
            assert_eq!(told.as_deref(), Some(expected), "{text}");
        }
    }
    for text in ["other 0.1.0 effort=7", "sirenc", "sirenc 0.1.0 $(ls)", "sirenc 9.0.0 new=1"] {
        assert_eq!(command(siren(text)), None, "{text}");
    }
}

#[test]
fn every_output_format_is_written_whole() {
    let w = Workplace::new();
    for channels in [Channels::Grey, Channels::GreyAlpha, Channels::Rgb, Channels::Rgba] {
        let alpha = channels.has_alpha();
        w.siren("a.siren", channels);
        w.run("decode a.siren -o a.png").success();
        let reference = image::open(w.path("a.png")).unwrap();
        for name in ["a.jpg", "a.webp", "a.tiff", "a.ppm", "a.pnm", "a.pam"] {
            let run = w.run(&format!("decode a.siren -o {name}"));
            if name == "a.ppm" && alpha {
                run.failure().stderr(predicate::str::contains("write .pam or .png"));
                assert!(!w.path("a.ppm").exists());
                continue;
            }
            if name == "a.jpg" && alpha {
                run.failure().stderr(predicate::str::contains("JPEG has no alpha"));
                continue;
            }
            run.success();
            let picture = image::open(w.path(name)).unwrap();
            assert_eq!((picture.width(), picture.height()), (60, 40), "{name}");
            if name != "a.jpg" {
                assert_eq!(picture.into_rgba8(), reference.to_rgba8(), "{channels} {name}");
            }
            let is_pam = fs::read(w.path(name)).unwrap().starts_with(b"P7\n");
            assert_eq!(is_pam, name == "a.pam" || name == "a.pnm" && alpha, "{channels} {name}");
        }
        let _ = fs::remove_file(w.path("a.ppm"));
        for name in ["b.png", "b.tiff", "b.pnm"] {
            w.run(&format!("decode a.siren --depth 16 -o {name}")).success();
            let sixteen = image::open(w.path(name)).unwrap();
            assert_eq!(sixteen.color().bytes_per_pixel() / sixteen.color().channel_count(), 2);
            let (a, b) = (reference.to_rgba16(), sixteen.into_rgba16());
            assert!(a.iter().zip(b.iter()).all(|(a, b)| a.abs_diff(*b) <= 129), "{name}");
        }
    }
    w.siren("rgb.siren", Channels::Rgb);
    w.fails("decode rgb.siren -o c.pgm", "would need colours; write .ppm");
    w.run("decode rgb.siren --format pam -o c.ppm").success();
    w.fails("decode a.siren --depth 16 -o c.webp", "WEBP holds 8 bits only");
    w.fails("decode a.siren -o c.xyz", "has no extension of a format");
    w.fails("decode a.siren -o c", "has no extension of a format");
}

#[test]
fn crops_scales_and_derivatives_render() {
    let w = Workplace::new();
    w.siren("a.siren", Channels::Rgb);
    for (options, size) in [
        ("--scale 2", (120, 80)),
        ("--size 30", (30, 20)),
        ("--size 33x7", (33, 7)),
        ("--crop 1.5,2.25,20,10", (20, 10)),
        ("--crop 1.5,2.25,20,10 --scale 3", (60, 30)),
        ("--crop 0,0,10,20 --size 100", (50, 100)),
        ("--derivative gradient", (60, 40)),
        ("--derivative laplacian --gain 3", (60, 40)),
    ] {
        w.run(&format!("decode a.siren {options} -o out.png")).success();
        assert_eq!(dimensions(&w.path("out.png")), size, "{options}");
    }
    w.fails("decode a.siren --crop 50,0,20,10 -o out2.png", "the crop must be a rectangle");
    w.run("decode a.siren --size 0 -o out2.png").code(2);
    w.run("decode a.siren --size 10 --scale 2 -o out2.png").code(2);
    w.fails("decode a.siren --scale 1e12 -o out2.png", "2^31");
    for options in ["--size 100000000", "--size 100000x100000", "--scale 4000"] {
        let started = Instant::now();
        w.fails(&format!("decode a.siren {options} -o out2.png"), "--max-pixels N allows it");
        assert!(started.elapsed() < Duration::from_secs(5), "refused at once");
    }
    w.fails(
        "decode a.siren --size 300 --max-pixels 59999 -o out2.png",
        "exceeds the limit of 59999",
    );
    w.run("decode a.siren --size 300 --max-pixels 60000 -o out.png").success();
    assert!(!w.path("out2.png").exists());
}

#[test]
fn pipes_carry_nothing_but_data() {
    let w = Workplace::new();
    let png = fs::read(w.png("a.png", Channels::Grey, BitDepth::Eight)).unwrap();
    let piped = |arguments: &str, stdin: &[u8]| {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_sirenc"));
        command.current_dir(w.0.path()).args(arguments.split_whitespace()).write_stdin(stdin);
        command.assert().success().get_output().stdout.clone()
    };
    let siren = piped(&format!("encode - {QUICK}"), &png);
    assert_eq!(siren, piped(&format!("encode - -o - {QUICK}"), &png));
    assert!(sirenc::Decoder::new(&siren).is_ok());
    for (format, start) in [
        ("png", &b"\x89PNG"[..]),
        ("jpeg", b"\xff\xd8"),
        ("webp", b"RIFF"),
        ("tiff", b"II*\0"),
        ("pnm", b"P5"),
    ] {
        let picture = piped(&format!("decode - -o - --format {format}"), &siren);
        assert!(picture.starts_with(start), "{format}");
        assert!(image::load_from_memory(&picture).is_ok(), "{format}");
    }
    assert!(piped("info -", &siren).starts_with(b"file"));
    assert_eq!(w.names(), ["a.png"]);
}

#[test]
fn existing_files_are_kept_unless_named() {
    let w = Workplace::new();
    w.png("a.png", Channels::Rgb, BitDepth::Eight);
    fs::write(w.path("a.siren"), b"precious").unwrap();
    w.fails(&format!("encode a.png {QUICK}"), "a.siren exists; name it with -o or use --force");
    assert_eq!(fs::read(w.path("a.siren")).unwrap(), b"precious");
    w.run(&format!("encode a.png {QUICK} --skip-existing")).success();
    assert_eq!(fs::read(w.path("a.siren")).unwrap(), b"precious");
    w.run(&format!("encode a.png {QUICK} -o a.siren")).success();
    fs::write(w.path("a.siren"), b"precious").unwrap();
    w.run(&format!("encode a.png {QUICK} --force")).success();
    w.fails("decode a.siren", "a.png exists");
    w.fails("export a.siren -o a.siren/x.py", "there is no directory a.siren");
    w.fails("encode a.png -o none/a.siren", "there is no directory none");
    for output in ["a.png", "b.jpg"] {
        let message = format!("{output} has the name of a picture");
        w.fails(&format!("encode a.png {QUICK} -o {output}"), &message);
    }
    w.fails("encode a.png b.siren", "cannot read b.siren (an output is named with -o)");
    w.fails("decode a.siren --size 20000x1 -o b.webp", "WebP holds at most 16,383");
    w.run(&format!("encode a.png {QUICK} -o new/")).success();
    assert!(w.path("new/a.siren").exists());
}

#[test]
fn batches_report_every_failure_and_can_be_resumed() {
    let w = Workplace::new();
    fs::create_dir(w.path("in")).unwrap();
    w.png("in/a.png", Channels::Rgb, BitDepth::Eight);
    w.png("in/c.png", Channels::Grey, BitDepth::Sixteen);
    fs::write(w.path("in/b.png"), b"no picture").unwrap();
    fs::write(w.path("in/notes.txt"), b"not considered").unwrap();
    w.run(&format!("encode in -o out {QUICK}"))
        .code(3)
        .stderr(predicate::str::contains("in/b.png"));
    assert!(w.path("out/a.siren").exists() && !w.path("out/c.siren").exists());
    w.run(&format!("encode in -o out {QUICK} --skip-existing --keep-going")).code(3);
    assert!(w.path("out/c.siren").exists() && !w.path("out/b.siren").exists());
    fs::remove_file(w.path("in/b.png")).unwrap();
    w.run(&format!("encode in -o out {QUICK} --skip-existing")).success().stderr("");
    // What is hidden is left alone.
    fs::write(w.path("out/.c.siren"), "none").unwrap();
    w.run("decode out -o pictures").success();
    assert_eq!(dimensions(&w.path("pictures/c.png")), (48, 32));
    w.run("decode out/c.siren -o new/").success();
    assert_eq!(dimensions(&w.path("new/c.png")), (48, 32));
    w.run("decode out/c.siren --format jpg").success();
    assert_eq!(dimensions(&w.path("out/c.jpg")), (48, 32));
    w.fails(&format!("encode in/a.png in/c.png -o - {QUICK}"), "several outputs");
    w.png("a.png", Channels::Rgb, BitDepth::Eight);
    w.fails(
        &format!("encode a.png in/a.png -o out {QUICK}"),
        "a.png and in/a.png would be written to one file, out/a.siren",
    );
}

#[test]
fn a_batch_goes_on_without_what_is_missing_or_clashes() {
    let w = Workplace::new();
    w.png("a.png", Channels::Rgb, BitDepth::Eight);
    w.png("b.png", Channels::Rgb, BitDepth::Eight);
    fs::copy(w.path("b.png"), w.path("b.jpg")).unwrap();
    let inputs = "missing.png a.png b.png b.jpg";
    // Nothing is begun where something cannot be done.
    w.fails(&format!("encode {inputs} {QUICK}"), "cannot read missing.png");
    let clash = "b.png and b.jpg would be written to one file, b.siren";
    w.fails(&format!("encode a.png b.png b.jpg {QUICK}"), clash);
    assert_eq!(w.names(), ["a.png", "b.jpg", "b.png"]);
    let run = w.run(&format!("encode {inputs} {QUICK} --keep-going --json")).code(3);
    let output = run.get_output();
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(stderr.contains("cannot read missing.png") && stderr.contains(clash), "{stderr}");
    let records = records(&output.stdout);
    let statuses: Vec<_> = records.iter().map(|r| r["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["failed", "written", "failed", "failed"]);
    assert!(records[3]["error"].as_str().unwrap().starts_with(clash));
    assert_eq!(w.names(), ["a.png", "a.siren", "b.jpg", "b.png"]);

    w.siren("b.siren", Channels::Rgb);
    fs::write(w.path("bad.siren"), "none").unwrap();
    w.fails("decode a.siren missing.siren b.siren -o out", "cannot read missing.siren");
    assert!(!w.path("out").exists());
    let batch = "decode bad.siren a.siren missing.siren b.siren -o out";
    w.run(&format!("{batch} --keep-going")).code(3).stderr(predicate::str::contains("bad.siren"));
    assert!(w.path("out/a.png").exists() && w.path("out/b.png").exists());
    fs::write(w.path("out/a.png"), "kept").unwrap();
    w.run("decode a.siren b.siren -o out --skip-existing").success().stdout("").stderr("");
    assert_eq!(fs::read(w.path("out/a.png")).unwrap(), b"kept");
}

/// What `--json` has printed.
fn records(stdout: &[u8]) -> Vec<serde_json::Value> {
    let text = std::str::from_utf8(stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn records_tell_of_every_file() {
    let w = Workplace::new();
    w.png("a.png", Channels::Rgb, BitDepth::Sixteen);
    let run = w.run(&format!("encode a.png {QUICK} --json")).success();
    let encoded = records(&run.get_output().stdout).remove(0);
    let bytes = fs::metadata(w.path("a.siren")).unwrap().len();
    for (key, value) in [
        ("schema", serde_json::json!(1)),
        ("input", "a.png".into()),
        ("output", "a.siren".into()),
        ("status", "written".into()),
        ("error", serde_json::Value::Null),
        ("width", 48.into()),
        ("height", 32.into()),
        ("channels", 3.into()),
        ("bit_depth", 16.into()),
        ("representation", "siren".into()),
        ("bytes", bytes.into()),
        ("bpp", (8.0 * bytes as f64 / (48.0 * 32.0)).into()),
        ("steps", 60.into()),
        ("stopped_early", false.into()),
    ] {
        assert_eq!(encoded[key], value, "{key}");
    }
    assert!(encoded["psnr"].as_f64().unwrap() > 5.0);
    assert!(encoded["seconds"].as_f64().unwrap() > 0.0);

    let run = w.run("decode a.siren --size 96 --depth 8 -o b.png --json").success();
    let decoded = records(&run.get_output().stdout).remove(0);
    assert_eq!((&decoded["width"], &decoded["height"]), (&96.into(), &64.into()));
    assert_eq!(decoded["bytes"], fs::metadata(w.path("b.png")).unwrap().len());
    assert!(decoded["psnr"].is_null() && decoded["bit_depth"] == 8);
    // All records have the same keys.
    let keys = |record: &serde_json::Value| -> Vec<String> {
        record.as_object().unwrap().keys().cloned().collect()
    };
    let run = w.run("decode a.siren missing.siren --json").code(1);
    let refused = records(&run.get_output().stdout);
    assert_eq!(refused.len(), 1, "the other one was not begun");
    let error = refused[0]["error"].as_str().unwrap();
    assert!(error.starts_with("cannot read missing.siren"), "{error}");
    assert_eq!(keys(&refused[0]), keys(&encoded));
    let run = w.run("encode a.png --skip-existing --json").success();
    let skipped = records(&run.get_output().stdout).remove(0);
    assert_eq!((&skipped["status"], &skipped["output"]), (&"skipped".into(), &"a.siren".into()));
    assert_eq!(keys(&skipped), keys(&decoded));
    w.fails("decode a.siren -o - --json", "--json prints to stdout; name an output");
}

#[test]
fn quiet_leaves_errors_only() {
    let w = Workplace::new();
    w.png("a.png", Channels::Rgb, BitDepth::Eight);
    w.run(&format!("encode a.png {QUICK} --quiet")).success().stdout("").stderr("");
    w.run("--quiet decode a.siren -o b.png").success().stdout("").stderr("");
    w.run("--quiet decode none.siren -o b.png").code(1).stderr(predicate::str::contains("error: "));
}

#[test]
fn outputs_can_have_the_time_of_their_inputs() {
    let w = Workplace::new();
    let past = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let png = w.png("a.png", Channels::Rgb, BitDepth::Eight);
    fs::File::options().write(true).open(png).unwrap().set_modified(past).unwrap();
    let time = |name: &str| fs::metadata(w.path(name)).unwrap().modified().unwrap();
    w.run(&format!("encode a.png {QUICK} --preserve")).success();
    w.run("decode a.siren -o b.png --preserve").success();
    w.run("edit a.siren --in-place --strip --preserve").success();
    w.run("decode a.siren -o c.png").success();
    assert_eq!([time("a.siren"), time("b.png")], [past; 2]);
    assert!(time("c.png") > past);
    w.fails("decode a.siren -o - --preserve", "stdout has no time");
}

#[test]
fn info_takes_several_files() {
    let w = Workplace::new();
    for name in ["a.siren", "b.siren"] {
        w.siren(name, Channels::Rgb);
    }
    let run = w.run("info a.siren b.siren").success();
    let text = String::from_utf8(run.get_output().stdout.clone()).unwrap();
    assert!(text.starts_with("file            a.siren\n"), "{text}");
    assert!(text.contains("\n\nfile            b.siren\n"), "{text}");
    let run = w.run("info . none.siren --json").code(3);
    let run = run.stderr(predicate::str::contains("cannot read none.siren"));
    let files = records(&run.get_output().stdout);
    assert_eq!(files.len(), 2);
    assert!(files.iter().all(|file| file["schema"] == 1 && file["width"] == 60));
    // One alone is spread over lines, as ever.
    let run = w.run("info a.siren --json").success();
    assert!(run.get_output().stdout.starts_with(b"{\n"));
}

#[test]
fn metadata_and_orientation_are_carried_over() {
    let w = Workplace::new();
    let raster = common::picture(Size { width: 48, height: 32 }, Channels::Rgb, BitDepth::Eight);
    let Samples::U8(pixels) = raster.samples() else { unreachable!() };
    // TIFF header, one entry: orientation 6, to be turned by 90 degrees clockwise.
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    let icc = vec![7; 200];
    let file = fs::File::create(w.path("a.png")).unwrap();
    let mut encoder = image::codecs::png::PngEncoder::new(file);
    encoder.set_exif_metadata(exif.clone()).unwrap();
    encoder.set_icc_profile(icc.clone()).unwrap();
    encoder.write_image(pixels, 48, 32, ExtendedColorType::Rgb8).unwrap();

    w.run(&format!("encode a.png {QUICK}")).success();
    let info = w.run("info a.siren").success();
    let text = String::from_utf8(info.get_output().stdout.clone()).unwrap();
    assert!(text.contains("32x48 pixels") && text.contains("ICC profile     200 bytes"), "{text}");
    for name in ["b.png", "b.jpg", "b.webp", "b.tiff"] {
        use image::{ImageDecoder, ImageReader, metadata::Orientation};
        w.run(&format!("decode a.siren -o {name}")).success();
        let mut decoder = ImageReader::open(w.path(name)).unwrap().into_decoder().unwrap();
        assert_eq!(decoder.dimensions(), (32, 48), "{name}");
        assert_eq!(decoder.orientation().unwrap(), Orientation::NoTransforms, "{name}");
        if name == "b.tiff" {
            let file = fs::File::open(w.path(name)).unwrap();
            let mut tiff = tiff::decoder::Decoder::new(file).unwrap();
            let profile = tiff.get_tag_u8_vec(tiff::tags::Tag::IccProfile).unwrap();
            assert_eq!(profile, icc);
            continue;
        }
        assert_eq!(decoder.icc_profile().unwrap().as_ref(), Some(&icc), "{name}");
        let kept = decoder.exif_metadata().unwrap().unwrap();
        assert_eq!(kept.len(), exif.len(), "{name}");
    }
    w.run(&format!("encode a.png {QUICK} --strip --no-settings -o bare.siren")).success();
    let bare = fs::read(w.path("bare.siren")).unwrap();
    let metadata = sirenc::Decoder::new(&bare).unwrap().metadata().clone();
    assert_eq!(metadata, sirenc::Metadata::default());
}

#[test]
fn samples_are_printed() {
    let w = Workplace::new();
    w.siren("a.siren", Channels::Rgba);
    let run = w.run("sample a.siren 1.2 30.5 --json").success();
    let facts: serde_json::Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
    let file = fs::read(w.path("a.siren")).unwrap();
    let jets = sirenc::Decoder::new(&file).unwrap().sample(1.2, 30.5).unwrap();
    let channels = facts["channels"].as_array().unwrap();
    assert_eq!(channels.len(), 4);
    for (channel, jet) in channels.iter().zip(&jets) {
        assert_eq!(channel["value"].as_f64(), Some(jet.value));
        assert_eq!(channel["gradient"][1].as_f64(), Some(jet.dy));
        assert_eq!(channel["laplacian"].as_f64(), Some(jet.laplacian));
    }
    w.run("sample a.siren 1.2 30.5").success().stdout(predicate::str::contains("alpha"));
    w.fails("sample a.siren 61 3", "lies outside the picture of 60x40 pixels");
    w.fails("sample a.siren -1 3", "lies outside the picture");
}

#[test]
fn comparisons_notice_what_differs() {
    let w = Workplace::new();
    w.png("a.png", Channels::Rgb, BitDepth::Eight);
    w.png("b.png", Channels::Rgb, BitDepth::Sixteen);
    w.png("c.png", Channels::Rgba, BitDepth::Eight);
    w.run("compare a.png a.png").success().stdout(predicate::str::contains("identical"));
    w.run("compare a.png b.png").success().stdout(predicate::str::contains("PSNR        58"));
    w.run("compare a.png c.png").success().stdout(predicate::str::contains("MS-SSIM"));
    w.siren("a.siren", Channels::Rgb);
    w.fails("compare a.png a.siren", "the pictures differ in size: 48x32 and 60x40");
}

#[test]
fn exports_hold_the_network() {
    let w = Workplace::new();
    for channels in [Channels::Grey, Channels::GreyAlpha, Channels::Rgb, Channels::Rgba] {
        let file = fs::read(w.siren("a.siren", channels)).unwrap();
        let decoder = sirenc::Decoder::new(&file).unwrap();
        w.run("export a.siren -o a.safetensors").success();
        let bytes = fs::read(w.path("a.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for (index, layer) in decoder.siren().unwrap().layers().iter().enumerate() {
            let weight = tensors.tensor(&format!("layers.{index}.weight")).unwrap();
            assert_eq!(weight.shape(), [layer.outputs, layer.inputs]);
            let expected: Vec<u8> = layer.weights.iter().flat_map(|w| w.to_le_bytes()).collect();
            assert_eq!(weight.data(), expected);
        }
        w.run("export a.siren -o a.glsl").success();
        let shader = fs::read_to_string(w.path("a.glsl")).unwrap();
        assert!(shader.starts_with("#version 300 es\n") && shader.contains("vec4 siren(vec2 p)"));
        w.run("export a.siren -o a.py").success();
        assert!(fs::read_to_string(w.path("a.py")).unwrap().lines().count() <= 12);
        if python_has_numpy() {
            w.python("py.pnm", "60");
            w.run("decode a.siren -o a.png").success();
            w.alike("a.png", "py.pnm");
            w.python("large.pnm", "90");
            assert_eq!(dimensions(&w.path("large.pnm")), (90, 60));
        }
    }
}

#[test]
fn tiny_pictures_encode() {
    let w = Workplace::new();
    for (width, height) in [(1, 1), (1, 5000), (5000, 1)] {
        let picture =
            image::GrayImage::from_fn(width, height, |x, y| image::Luma([((x + y) / 25) as u8]));
        picture.save(w.path("a.png")).unwrap();
        w.run("encode a.png --hidden-layers 2 --hidden-features 12 --steps 400 --force").success();
        w.run("decode a.siren -o b.png").success();
        assert_eq!(dimensions(&w.path("b.png")), (width, height));
    }
}

#[test]
fn helpers_are_generated() {
    let w = Workplace::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = w.run(&format!("completions {shell}")).success();
        run.stdout(predicate::str::contains("sirenc"));
    }
    w.run("man man1").success();
    for command in ["encode", "decode", "edit"] {
        assert!(w.path(&format!("man1/sirenc-{command}.1")).exists());
    }
}

#[cfg(unix)]
#[test]
fn a_directory_without_permission_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let w = Workplace::new();
    w.siren("a.siren", Channels::Rgb);
    let closed = w.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(closed.join("probe"), b"").is_ok() {
        // Root may write anywhere but to a file system that is mounted read-only.
        w.fails("decode a.siren -o /proc/sirenc.png", "cannot write /proc/sirenc.png");
    } else {
        w.fails("decode a.siren -o closed/a.png", "cannot write closed/a.png: Permission denied");
    }
}

#[cfg(unix)]
#[test]
fn streams_are_inputs_without_a_name() {
    let w = Workplace::new();
    let png = w.png("a.png", Channels::Rgb, BitDepth::Eight);
    w.siren("a.siren", Channels::Rgb);
    w.run(&format!("encode a.png {QUICK} -o b.siren")).success();
    let encoded = fs::read(w.path("b.siren")).unwrap();
    let shell = |line: &str| w.shell(line).assert();
    // As with `-`, the output goes to stdout, also where a file is behind the stream.
    for input in ["- < a.png", "/dev/stdin < a.png", "/dev/fd/0 < a.png", "<(cat a.png)"] {
        shell(&format!("sirenc encode {QUICK} {input}")).success().stdout(encoded.clone());
        let run = shell(&format!("sirenc encode {QUICK} -o {} {input}", w.0.path().display()));
        run.code(1).stderr(predicate::str::contains("has no name to derive the output's from"));
    }
    let run = shell("sirenc decode <(cat a.siren) <(cat a.siren)");
    run.code(1).stdout("").stderr(predicate::str::contains("several outputs do not fit on stdout"));
    let run = shell("cat a.siren | sirenc edit /dev/stdin --in-place --strip");
    run.code(1).stderr(predicate::str::contains("/dev/stdin cannot be edited in place"));
    shell("cat a.siren | sirenc decode /dev/stdin -o b.png").success().stdout("");
    assert_eq!(w.names(), ["a.png", "a.siren", "b.png", "b.siren"]);
    assert!(png.exists());
}

#[cfg(unix)]
#[test]
fn names_do_not_reach_the_terminal_as_commands() {
    let w = Workplace::new();
    let name = "\u{1b}]0;title\u{7}\n\u{202e}gnp ä 東 \\";
    let shown = r"\u{1b}]0;title\u{7}\n\u{202e}gnp ä 東 \";
    let png = w.png("a.png", Channels::Rgb, BitDepth::Eight);
    fs::rename(png, w.path(&format!("{name}.png"))).unwrap();
    let run = |arguments: &str, extension: &str| {
        w.command(arguments).arg(format!("{name}{extension}")).assert()
    };
    let encoded = run(&format!("encode {QUICK}"), ".png").success().stdout("");
    let stderr = String::from_utf8(encoded.get_output().stderr.clone()).unwrap();
    assert!(stderr.starts_with(&format!("{shown}.png -> {shown}.siren: ")), "{stderr}");
    let info = run("info", ".siren").success();
    let stdout = String::from_utf8(info.get_output().stdout.clone()).unwrap();
    assert!(stdout.starts_with(&format!("file            {shown}.siren\n")), "{stdout}");
    let missing = format!("error: cannot read {shown}: No such file");
    run("decode", "").code(1).stderr(predicate::str::starts_with(missing));
    let wrong = run("decode x --depth", "").code(2).stdout("");
    wrong.stderr(predicate::str::contains("\u{202e}").not().and(predicate::str::contains("202e")));
    // Scripts get the name itself.
    let info = run("info --json", ".siren").success();
    let facts: serde_json::Value = serde_json::from_slice(&info.get_output().stdout).unwrap();
    assert_eq!(facts["file"], format!("{name}.siren"));
}
