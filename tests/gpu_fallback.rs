//! What the binary does where no GPU can be had, and where one cannot take what it is given.
//!
//! What needs an adapter takes a software one through Vulkan and is not tested without it, unless
//! `SIRENC_TEST_GPU` is 1.
#![cfg(all(feature = "cli", feature = "encode", feature = "gpu", target_os = "linux"))]

mod common;
mod workplace;

use std::fs;
use std::process::Command;

use common::{container, uniform};
use sirenc::Channels;
use sirenc::gpu::{ADAPTER_VARIABLE, Gpu};
use workplace::Workplace;

/// A picture and a network, and a render, that take one thread long enough for a GPU to be looked
/// for: in 600 steps or more.
const ENCODE: &str =
    "encode a.pgm --hidden-layers 2 --hidden-features 64 --threads 1 --force -o b.siren";
const DECODE: &str = "decode a.siren --threads 1 --force";

fn workplace() -> Workplace {
    let w = Workplace::new();
    let samples = (0..48 * 32).map(|i| (i % 48 * 5) as u8);
    fs::write(w.path("a.pgm"), [b"P5\n48 32\n255\n".to_vec(), samples.collect()].concat()).unwrap();
    fs::write(w.path("a.siren"), container(240, 160, uniform(Channels::Rgb, 4, 256), 1).write())
        .unwrap();
    w
}

/// Commands on machines without a GPU: one where no driver is installed, and one where the
/// libraries cannot be loaded.
fn machines(w: &Workplace, arguments: &str) -> [Command; 2] {
    let mut no_driver = w.command(arguments);
    no_driver.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent");
    no_driver.env("WGPU_BACKEND", "vulkan");
    let mut no_library = w.command(arguments);
    for name in ["libvulkan.so.1", "libvulkan.so", "libEGL.so.1", "libEGL.so"] {
        fs::write(w.path(name), "no library").unwrap();
    }
    no_library.env("LD_LIBRARY_PATH", w.0.path()).env_remove("WGPU_BACKEND");
    [no_driver, no_library].map(|mut command| {
        command.env_remove(ADAPTER_VARIABLE);
        command
    })
}

/// Exit code, stdout and stderr.
fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|s| String::from_utf8(s).unwrap());
    (output.status.code(), stdout, stderr)
}

#[test]
fn a_gpu_that_was_asked_for_and_is_missing_is_an_error() {
    let w = workplace();
    for arguments in [ENCODE, DECODE] {
        for mut command in machines(&w, &format!("{arguments} --device gpu")) {
            let (code, _, stderr) = run(&mut command);
            let needed = "no GPU was found; Vulkan, Metal, Direct3D 12 or OpenGL with the card's";
            assert!(code == Some(1) && stderr.starts_with("error: "), "{code:?} {stderr}");
            assert!(stderr.contains(&format!("device gpu: {needed}")), "{stderr}");
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
        }
    }
}

#[test]
fn auto_is_silent_about_a_gpu_that_is_missing() {
    let w = workplace();
    for name in ["", "any"] {
        for mut command in machines(&w, &format!("{ENCODE} --steps 600 --device auto")) {
            let (code, _, stderr) = run(command.env(ADAPTER_VARIABLE, name));
            assert!(code == Some(0) && stderr.contains(" s on cpu"), "{code:?} {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
        }
        for mut command in machines(&w, &format!("{DECODE} --device auto")) {
            let (code, _, stderr) = run(command.env(ADAPTER_VARIABLE, name));
            assert_eq!((code, stderr.as_str()), (Some(0), ""));
        }
    }
}

#[test]
fn devices_tells_that_there_is_no_gpu() {
    for mut command in machines(&Workplace::new(), "devices") {
        let (code, stdout, stderr) = run(&mut command);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert!(
            stdout.starts_with("cpu: ") && stdout.contains("\ngpu: none was found"),
            "{stdout}"
        );
    }
}

/// A command that may take the software adapter, if there is one.
fn on_software(w: &Workplace, arguments: &str) -> Option<Command> {
    let gpu = Gpu::for_tests()?;
    if !gpu.adapter().software || gpu.adapter().backend != "Vulkan" {
        return None;
    }
    let mut command = w.command(arguments);
    command.env(ADAPTER_VARIABLE, &gpu.adapter().name).env("NODEVICE_SELECT", "1");
    Some(command)
}

#[test]
fn auto_takes_a_gpu_that_is_expected_to_be_faster() {
    let w = workplace();
    let run = |arguments: &str| {
        let (code, _, stderr) = run(&mut on_software(&w, arguments)?);
        assert_eq!(code, Some(0), "{stderr}");
        Some(stderr)
    };
    // The kernels are compiled within the time.
    let Some(encoded) = run(&format!("{ENCODE} --steps 100000 --timeout 15")) else { return };
    assert!(encoded.contains(" s on gpu (llvmpipe"), "{encoded}");
    assert!(run(&format!("{ENCODE} --steps 100")).unwrap().contains(" s on cpu"));
    assert_eq!(run(&format!("{DECODE} --device auto --size 20")).unwrap(), "");
    // The CPU is the default.
    assert_eq!(run(DECODE).unwrap(), "");
}

#[test]
fn the_cpu_takes_what_is_too_large_for_an_automatic_gpu() {
    let w = Workplace::new();
    fs::write(w.path("a.siren"), container(64, 1, uniform(Channels::Grey, 3, 9), 1).write())
        .unwrap();
    let row = (0..4200u16).flat_map(|column| (column * 15).to_be_bytes());
    let samples = row.collect::<Vec<u8>>().repeat(4000);
    fs::write(w.path("a.pgm"), [b"P5\n4200 4000\n65535\n".to_vec(), samples].concat()).unwrap();
    let decode = "decode a.siren -o a.pgm --size 34000000x1 --threads 1 --force";
    let encode = &format!("{ENCODE} --steps 9999 --timeout 4 --learning-rate 0.003");
    for (arguments, what) in [(encode.as_str(), "the picture"), (decode, "the coordinates")] {
        let Some(mut command) = on_software(&w, &format!("{arguments} --device auto")) else {
            return;
        };
        let (code, _, stderr) = run(&mut command);
        assert!(code == Some(0) && !stderr.contains("on gpu"), "{code:?} {stderr}");
        let warning = stderr.lines().next().unwrap();
        let starts = warning.starts_with(&format!("warning: {what} of "));
        assert!(starts && warning.ends_with("; went on on the CPU"), "{stderr}");
        assert_eq!(stderr.matches("warning").count(), 1, "{stderr}");
        let mut command = on_software(&w, &format!("{arguments} --device gpu")).unwrap();
        let (code, _, stderr) = run(&mut command);
        assert!(code == Some(1) && stderr.contains("more than the GPU's limit"), "{stderr}");
    }
}
