//! Whatever ends a process, a file is the old one, the whole new one, or not there; what cannot be
//! written is refused before the work; and the end of a reader is not that of the work.
#![cfg(all(feature = "cli", feature = "encode", unix))]

mod common;
mod workplace;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::assert::{Assert, OutputAssertExt};
use common::{container, latents_container, picture_of_bytes, uniform};
use predicates::prelude::*;
use sirenc::{Channels, Decoder, Samples, Size};
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

fn signal(child: &Child, name: &str) {
    Command::new("kill").args(["-s", name, &child.id().to_string()]).assert().success();
}

fn interrupt(child: &Child) {
    signal(child, "INT");
}

/// Runs with a stdout that nobody reads any more.
fn without_reader(w: &Workplace, arguments: &str) -> Assert {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    w.command(arguments).stdout(writer).stderr(Stdio::piped()).assert()
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
        // A file size limit, the signal of which is no end, stands in for the disk.
        let limit = format!("POSIXLY_CORRECT=1; ulimit -f {}", blocks.min(8));
        let run = w.shell(&format!("{limit}; sirenc {command}")).assert();
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

/// A render that takes minutes, once it has begun to write.
fn long_decode(w: &Workplace, before: &str) -> Child {
    let line = format!("{before}; exec sirenc decode a.siren --size 20000 -o out.png");
    let child = w.shell(&line).spawn().unwrap();
    let started = Instant::now();
    while names(w).len() < 3 && started.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

#[test]
fn an_interrupted_decode_leaves_nothing() {
    let w = workplace();
    let mut child = long_decode(&w, ":");
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(names(&w), ["a.png", "a.siren"]);
}

#[test]
fn other_signals_end_a_decode_and_leave_nothing() {
    let w = workplace();
    for name in ["QUIT", "ALRM", "USR1", "USR2", "XCPU"] {
        // Without a core dump.
        let mut child = long_decode(&w, "ulimit -c 0");
        signal(&child, name);
        let status = child.wait().unwrap();
        assert!(status.signal().is_some(), "{name}: {status}");
        assert_eq!(names(&w), ["a.png", "a.siren"], "{name}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn ignored_signals_stay_ignored() {
    let w = workplace();
    // As nohup does with HUP.
    let mut child = long_decode(&w, "trap '' HUP USR1");
    for name in ["HUP", "USR1"] {
        signal(&child, name);
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(child.try_wait().unwrap(), None);
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(names(&w), ["a.png", "a.siren"]);
}

#[test]
fn what_cannot_be_written_is_refused_before_the_work() {
    let w = workplace();
    fs::write(w.path("bad"), "neither a picture nor a .siren file").unwrap();
    let long = "n".repeat(300);
    symlink("loop", w.path("loop")).unwrap();
    symlink("no/where", w.path("nowhere")).unwrap();
    // Had the work begun, it would have ended with the input.
    for command in
        ["encode bad", "decode bad --format png", "edit bad --strip", "export bad --format glsl"]
    {
        // Not even root may write to these.
        for output in ["/proc/out", &long, "loop", "nowhere", "no/out", "a.png/out"] {
            w.fails(&format!("{command} -o {output}"), &format!("cannot write {output}: ")).code(1);
        }
        w.fails(&format!("{command} -o out"), "bad: ").code(1);
    }
    for checkpoint in ["/proc/out", &long, "nowhere", "."] {
        let command = format!("encode bad -o out --checkpoint {checkpoint}");
        w.fails(&command, &format!("cannot write {checkpoint}: "));
    }
    for (directory, command) in [
        ("bad.siren", "encode bad --force"),
        ("bad.png", "decode bad --force"),
        ("bad.safetensors", "export bad --force"),
    ] {
        fs::create_dir(w.path(directory)).unwrap();
        w.fails(command, &format!("cannot write {directory}: it is a directory"));
    }
    // A pipe is not opened to see whether it can be: that would wait for a reader.
    Command::new("mkfifo").arg(w.path("pipe")).assert().success();
    w.fails("encode bad -o pipe", "bad: not a picture");
    w.fails("encode - --preserve -o out", "stdin has no time that --preserve could keep");
}

#[test]
fn a_shader_is_not_written_without_its_texture() {
    let w = workplace();
    let size = Size { width: 70, height: 45 };
    let grids = latents_container(size, 4, uniform(Channels::Rgb, 1, 6), (3, 3), 1);
    fs::write(w.path("grids.siren"), grids.write()).unwrap();
    fs::create_dir(w.path("grids.latents.png")).unwrap();
    let message = "cannot write grids.latents.png: it is a directory";
    w.fails("export grids.siren -o grids.glsl", message);
    assert!(!w.path("grids.glsl").exists());
}

#[test]
fn protection_is_respected() {
    let w = workplace();
    fs::write(w.path("bad"), "no picture").unwrap();
    fs::write(w.path("protected"), OLD).unwrap();
    fs::create_dir(w.path("closed")).unwrap();
    let protect = |name, mode| {
        fs::set_permissions(w.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    protect("protected", 0o444);
    protect("closed", 0o555);
    if fs::write(w.path("closed/probe"), "").is_ok() {
        // Nothing is closed to root.
        return;
    }
    for output in ["protected", "closed/out"] {
        let message = format!("cannot write {output}: Permission denied");
        w.fails(&format!("encode bad -o {output}"), &message);
    }
    protect("closed", 0o755);
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_cannot_be_replaced_is_written() {
    let w = workplace();
    w.run("decode a.siren --format png -o expected").success();
    for name in ["mounted", "behind"] {
        fs::write(w.path(name), OLD.repeat(10_000)).unwrap();
    }
    let script = "mount --bind behind mounted && \"$0\" decode a.siren --format png -o mounted";
    let mut shell = Command::new("unshare");
    shell.current_dir(w.0.path()).args(["-rm", "bash", "-c", script]);
    let output = shell.arg(env!("CARGO_BIN_EXE_sirenc")).output();
    // Not every kernel lets everybody mount.
    let Ok(output) = output else { return };
    let stderr = String::from_utf8(output.stderr).unwrap();
    if stderr.starts_with("unshare: ") || stderr.starts_with("mount: ") {
        return;
    }
    assert!(output.status.success(), "{stderr}");
    assert!(fs::read(w.path("behind")).unwrap() == fs::read(w.path("expected")).unwrap());
    assert_eq!(fs::read(w.path("mounted")).unwrap(), OLD.repeat(10_000));
    assert!(!names(&w).iter().any(|name| name.starts_with(".sirenc-")));
}

#[test]
fn a_link_is_written_through() {
    let w = workplace();
    fs::create_dir(w.path("there")).unwrap();
    symlink("there/out.png", w.path("one.png")).unwrap();
    symlink("one.png", w.path("two.png")).unwrap();
    w.run("decode a.siren -o two.png").success();
    let is_link = |name| w.path(name).symlink_metadata().unwrap().is_symlink();
    assert!(is_link("one.png") && is_link("two.png") && !is_link("there/out.png"));
    assert!(image::open(w.path("there/out.png")).is_ok());
    // Whoever gives no name does not mean the place that a link of that name leads to.
    symlink("there/else.png", w.path("a.png.png")).unwrap();
    fs::copy(w.path("a.siren"), w.path("a.png.siren")).unwrap();
    w.fails("decode a.png.siren", "a.png.png exists");
    assert!(!w.path("there/else.png").exists());
}

#[test]
fn the_end_of_a_reader_is_not_that_of_the_work() {
    let w = workplace();
    fs::copy(w.path("a.png"), w.path("b.png")).unwrap();
    let quick = "--hidden-layers 2 --hidden-features 12 --steps 20";
    without_reader(&w, &format!("encode a.png b.png -o siren --json {quick}")).success().stderr(
        predicate::str::contains("a.png -> siren").and(predicate::str::contains("b.png -> siren")),
    );
    without_reader(&w, "decode siren -o png --json").success().stderr("");
    without_reader(&w, "edit siren -o edited --strip --json").success().stderr("");
    for name in ["siren/b.siren", "png/b.png", "edited/b.siren"] {
        assert!(w.path(name).exists(), "{name}");
    }
    for seen_enough in ["info a.siren", "info siren", "decode a.siren -o -", "devices"] {
        without_reader(&w, seen_enough).success().stderr("");
    }
    // What fails still does.
    for command in
        ["info missing.siren a.siren", "decode missing.siren a.siren -o new --keep-going --json"]
    {
        let run = without_reader(&w, command).code(3);
        run.stderr(predicate::str::contains("cannot read missing.siren"));
    }
    without_reader(&w, "decode missing.siren -o -").code(1);
}

#[test]
fn a_closed_stdout_is_an_error_of_what_goes_there() {
    let w = workplace();
    fs::write(w.path("bad"), "no picture").unwrap();
    for command in ["encode bad", "decode bad", "edit bad --strip", "export bad"] {
        // Nobody waits for the work.
        let run = w.shell(&format!("sirenc {command} -o - >&-")).assert().code(1);
        run.stderr("error: stdout is closed; name an output with -o\n");
    }
    w.shell("sirenc decode a.siren -o - > /dev/null").assert().success();
    // Text that nobody wants is none.
    w.shell("sirenc info a.siren >&-").assert().success().stderr("");
}

#[test]
fn what_goes_to_stdout_needs_no_temporary_directory() {
    let w = workplace();
    for format in ["png", "tiff"] {
        let command = format!("decode a.siren --format {format} -o");
        w.run(&format!("{command} out")).success();
        let run = w.command(&format!("{command} -")).env("TMPDIR", "/nonexistent").assert();
        run.success().stdout(fs::read(w.path("out")).unwrap());
    }
    // Where it does not fit is named.
    let line = "ulimit -f 2; sirenc decode a.siren --format pnm -o -";
    let full =
        predicate::str::is_match("cannot write to stdout: temporary directory .*: File too large")
            .unwrap();
    w.shell(line).assert().code(1).stdout("").stderr(full);
    // A pipe in the place of a file is written to in the same way.
    Command::new("mkfifo").arg(w.path("pipe")).assert().success();
    let reader = std::thread::spawn({
        let pipe = w.path("pipe");
        || fs::read(pipe).unwrap()
    });
    let mut command = w.command("decode a.siren --format tiff -o pipe");
    command.env("TMPDIR", "/nonexistent").assert().success();
    assert!(reader.join().unwrap() == fs::read(w.path("out")).unwrap());
}
