//! What the binary does where no GPU can be had, and where one cannot take what it is given.
//!
//! What needs an adapter takes a software one through Vulkan and is not tested without it, unless
//! `SIRENC_TEST_GPU` is 1.
#![cfg(all(feature = "cli", feature = "encode", feature = "gpu", target_os = "linux"))]

mod common;
mod workplace;

use std::fs;
use std::process::Command;
use std::time::Duration;

use common::{container, uniform};
use sirenc::gpu::{ADAPTER_VARIABLE, Gpu};
use sirenc::train::{Accelerator, Device};
use sirenc::{
    Channels, Control, DeviceChoice, DeviceError, EncodeError, Encoded, Encoder, LatentOptions,
    Raster, Samples, SirenOptions, Size,
};
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

/// A GPU that a test may lose.
#[derive(Debug)]
struct Lendable(Gpu);

impl Accelerator for Lendable {
    fn open(&self) -> Result<Box<dyn Device>, DeviceError> {
        Ok(Box::new(self.0.clone()))
    }

    fn open_automatically(&self) -> Result<Option<Box<dyn Device>>, DeviceError> {
        self.open().map(Some)
    }
}

/// A drawing of waves.
fn waves() -> Raster {
    let size = Size { width: 70, height: 44 };
    let sample = |i: usize| {
        let (x, y) = ((i % 70) as f32, (i / 70) as f32);
        (127.5 + 60.0 * (0.3 * x + 0.1 * y).sin() + 60.0 * (0.02 * x * y).cos()) as u8
    };
    let samples = (0..size.pixels() as usize).map(sample).collect();
    Raster::new(size, Channels::Grey, Samples::U8(samples)).unwrap()
}

/// An encode on `gpu`, lost after a step: numbers and PSNR of all steps, and what came of it.
fn encode_on(
    gpu: Option<&Gpu>,
    encoder: Encoder,
    lost_after: u32,
) -> (Vec<(u32, f64)>, Result<Encoded, EncodeError>) {
    let encoder = match gpu {
        Some(gpu) => encoder
            .device(DeviceChoice::Gpu)
            .accelerator(std::sync::Arc::new(Lendable(gpu.clone()))),
        None => encoder.device(DeviceChoice::Cpu),
    };
    let mut steps = Vec::new();
    let encoding = encoder.on_progress(|progress| {
        steps.push((progress.step, progress.psnr));
        if let Some(gpu) = gpu.filter(|_| progress.step == lost_after) {
            gpu.lose();
        }
        Control::Continue
    });
    let encoded = encoding.encode(&waves());
    (steps, encoded)
}

fn small_siren() -> Encoder {
    Encoder::new().representation(SirenOptions::new().hidden([6, 6]).batch(100)).steps(60)
}

#[test]
fn a_lost_gpu_does_not_end_the_training_of_a_siren() {
    let Some(gpu) = Gpu::for_tests() else { return };
    let name = format!("gpu ({})", gpu.adapter().name);
    let (unbroken, encoded) = encode_on(Some(&gpu), small_siren(), 61);
    let encoded = encoded.unwrap();
    assert_eq!((&encoded.device, encoded.device_failure), (&name, None));

    let gpu = Gpu::for_tests().unwrap();
    let (broken, encoded) = encode_on(Some(&gpu), small_siren(), 20);
    assert_eq!(broken[..20], unbroken[..20]);
    assert_eq!((unbroken.len(), broken.len()), (60, 60));
    // The CPU goes on from the same weights.
    assert!((broken[59].1 - unbroken[59].1).abs() < 0.5, "{:?} {:?}", broken[59], unbroken[59]);
    let encoded = encoded.unwrap();
    let failure = encoded.device_failure.unwrap();
    assert!(failure.starts_with("the GPU failed: the device was lost"), "{failure}");
    assert_eq!(encoded.device, format!("{name}, then cpu"));
}

#[test]
fn a_lost_gpu_does_not_end_the_training_of_latents() {
    const STEPS: u32 = 150;
    /// Steps after which the trainer keeps its state.
    const KEPT_EVERY: u32 = 128;
    let Some(gpu) = Gpu::for_tests() else { return };
    let latents = || Encoder::new().representation(LatentOptions::new());
    let encoder = || latents().quality(90.0).steps(STEPS);
    // Before latents are rounded: what is measured then is part of the picture.
    let late = |steps: &[(u32, f64)]| steps[steps.len() - 10].1;
    let (on_cpu, _) = encode_on(None, encoder(), STEPS);
    let (on_gpu, encoded) = encode_on(Some(&gpu), encoder(), STEPS + 1);
    assert_eq!(encoded.unwrap().device_failure, None);
    // Noise is another.
    let (a, b) = (late(&on_gpu), late(&on_cpu));
    assert!((a - b).abs() < 1.5, "{a} {b}");
    for lost_after in [50, STEPS] {
        let (broken, encoded) = encode_on(Gpu::for_tests().as_ref(), encoder(), lost_after);
        assert!(encoded.unwrap().device_failure.is_some());
        let lost = lost_after as usize;
        assert_eq!(broken[..lost], on_gpu[..lost]);
        // On from what was kept last.
        let kept = lost_after / KEPT_EVERY * KEPT_EVERY;
        assert_eq!(broken[lost].0, kept + 1);
        assert_eq!(broken.len() as u32, lost_after + STEPS - kept);
        assert!((late(&broken) - a).abs() < 1.5, "{} {a}", late(&broken));
    }
}

#[test]
fn a_gpu_that_fails_from_the_start_is_an_error_where_it_was_asked_for() {
    let Some(gpu) = Gpu::for_tests() else { return };
    gpu.lose();
    for encoder in [small_siren(), small_siren().representation(LatentOptions::new())] {
        let (_, encoded) = encode_on(Some(&gpu), encoder, 61);
        let error = encoded.unwrap_err().to_string();
        assert!(error.starts_with("device gpu: the GPU failed: "), "{error}");
    }
    // Worth a GPU, which nobody asked for.
    let siren = SirenOptions::new().hidden([64; 4]).batch(4096);
    let long = Encoder::new().representation(siren).timeout(Duration::from_secs(2)).steps(100_000);
    let encoded = long.accelerator(std::sync::Arc::new(Lendable(gpu))).encode(&waves()).unwrap();
    assert_eq!(encoded.device, "cpu");
    assert!(encoded.device_failure.unwrap().starts_with("the GPU failed: "));
}
