//! Training steps, renders and encodes on a GPU beside the CPU's in the same run, as a table; with
//! `--sweep`, all ways in which the kernels can divide the work. See benches/README.md.

mod case;
mod sweep;

use std::path::Path;
use std::time::Instant;

use case::{Case, Timing, WARM_UP, median, shortest, time};
use sirenc::eval::Evaluator;
use sirenc::gpu::{Gpu, Variant};
use sirenc::train::siren::Batch;
use sirenc::{
    BitDepth, Channels, Control, Decoder, DeviceChoice, Encoded, Encoder, Field, LatentOptions,
    PixelGrid, Preset, Raster, Render, Samples, Sampling, SirenOptions, Size, View,
};

/// dB that encodes at coin-0.3 are to reach.
const WANTED: f64 = 29.3;
/// Size of the files of latents.
const BPP: f64 = 0.4;

fn main() {
    let (options, mut pictures): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let has = |option: &str| options.iter().any(|given| given == option);
    if pictures.is_empty() {
        pictures.push("samples/coffee.png".into());
    }
    let gpu = Gpu::open().unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(1);
    });
    let small = has("--small");
    let (size, large) = match small {
        true => (Size { width: 48, height: 32 }, Size { width: 160, height: 90 }),
        false => (Size { width: 768, height: 512 }, Size { width: 3840, height: 2160 }),
    };
    let sirenc::gpu::Adapter { name, driver, backend, .. } = gpu.adapter();
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{name} ({driver}, {backend}) beside {threads} threads of its host's CPU:");
    if has("--sweep") {
        return sweep::sweep(&gpu, small, size, large);
    }
    println!("\n| | GPU | CPU | |\n|---|---|---|---|");
    let mut table = Table { gpu, small, large, notes: Vec::new() };
    let cases = [(10, 28), (13, 49)].map(|(layers, features)| Case::new(layers, features, size));
    cases.iter().for_each(|case| table.step(case));
    for case in &cases {
        let evaluator = Evaluator::new(case.model.siren().unwrap());
        let grid = PixelGrid::new(large, &View::default()).unwrap();
        let render = Render::new(evaluator, large, grid, Field::Value, BitDepth::Eight);
        table.render(&case.topology.to_string(), &render);
    }
    for picture in &pictures {
        let path = Path::new(picture);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let raster = read(path, small);
        table.siren(&name, &raster);
        table.grids(&name, &raster);
    }
    println!();
    table.notes.iter().for_each(|note| println!("- {note}"));
}

/// What is printed row by row, and below it.
struct Table {
    gpu: Gpu,
    small: bool,
    /// Size of renders.
    large: Size,
    notes: Vec<String>,
}

/// Seconds, and how they are told.
type Cell = Option<(f64, String)>;

fn milliseconds(seconds: f64) -> (f64, String) {
    let digits = if seconds < 0.01 { 2 } else { 1 };
    (seconds, format!("{:.digits$} ms", 1e3 * seconds))
}

fn row(what: &str, gpu: Cell, cpu: Cell) {
    let ratio = match (&gpu, &cpu) {
        (Some((gpu, _)), Some((cpu, _))) => format!("{:.1}x", cpu / gpu),
        _ => String::new(),
    };
    let [gpu, cpu] = [gpu, cpu].map(|cell| cell.map_or("-".into(), |(_, text)| text));
    println!("| {what} | {gpu} | {cpu} | {ratio} |");
}

impl Table {
    /// The loss of all pixels and its gradient.
    fn step(&mut self, case: &Case) {
        let (wanted, cpu) = case.cpu_step();
        let variant = Variant::of_training(&case.topology, case.pixels(), &self.gpu);
        let what = format!("training step, {}, {} pixels", case.topology, case.pixels());
        let runs = if self.small { 3 } else { 50 };
        let gpu = match time(&self.gpu, case, variant, Batch::All, runs) {
            Ok(Timing { step, gradient, .. }) => {
                let deviation = case.deviation(&gradient, &wanted);
                self.notes.push(format!(
                    "{what}: gradients differ by {deviation:.1e} of a layer's at most"
                ));
                Some(milliseconds(step))
            }
            Err(error) => {
                self.notes.push(format!("{what}: {error}"));
                None
            }
        };
        row(&what, gpu, Some(milliseconds(cpu)));
    }

    fn render(&mut self, function: &str, render: &Render) {
        let Size { width, height } = render.size();
        let what = format!("render, {function}, {width}x{height}");
        let mut wanted = Vec::new();
        let cpu = shortest(3, || wanted = bytes(render));
        let gpu = render.clone().on(|job| self.gpu.backend(job)).and_then(|render| {
            let found = bytes(&render);
            let busy = Instant::now();
            while !self.small && busy.elapsed() < WARM_UP {
                render.raster();
            }
            let time = median(if self.small { 1 } else { 15 }, || drop(render.raster()));
            render.failure().map_or(Ok((found, time)), Err)
        });
        let gpu = match gpu {
            Ok((found, time)) => {
                let levels = found.iter().zip(&wanted).map(|(a, b)| a.abs_diff(*b));
                let most = levels.clone().max().unwrap_or(0);
                let differ = levels.filter(|&level| level > 0).count();
                let share = 100.0 * differ as f64 / wanted.len() as f64;
                let note = format!("{what}: {share:.4} % of the samples differ, by {most} at most");
                self.notes.push(note);
                Some(milliseconds(time))
            }
            Err(error) => {
                self.notes.push(format!("{what}: {error}"));
                None
            }
        };
        row(&what, gpu, Some(milliseconds(cpu)));
    }

    /// The lowest effort that reaches the wanted PSNR, or else the highest tried.
    fn siren(&mut self, name: &str, raster: &Raster) {
        let what = format!("{name}, `--preset coin-0.3`");
        let efforts: &[u8] = if self.small { &[1] } else { &[1, 2, 3, 5, 7] };
        let mut reach = |device| {
            let mut last = None;
            for &effort in efforts {
                let coin = SirenOptions::preset(Preset::Coin03);
                let encoder = Encoder::new().representation(coin);
                let encoded = self.encode(&what, raster, encoder, effort, device)?.0;
                last = Some(encoded_cell(&encoded));
                if encoded.psnr >= WANTED {
                    break;
                }
            }
            last
        };
        let [gpu, cpu] = [DeviceChoice::Gpu, DeviceChoice::Cpu].map(&mut reach);
        row(&format!("encode {what}, to {WANTED} dB"), gpu, cpu);
    }

    /// An encode, a step of it and a render.
    fn grids(&mut self, name: &str, raster: &Raster) {
        let what = format!("{name}, latent grids, {BPP} bpp");
        let mut run = |device| {
            let encoder = Encoder::new().representation(LatentOptions::new()).bpp(BPP);
            let effort = if self.small { 1 } else { 7 };
            self.encode(&what, raster, encoder, effort, device)
        };
        let [gpu, cpu] = [DeviceChoice::Gpu, DeviceChoice::Cpu].map(&mut run);
        let cell = |run: &Option<(Encoded, f64)>| run.as_ref().map(|(e, _)| encoded_cell(e));
        row(&format!("encode {what}"), cell(&gpu), cell(&cpu));
        let step = |run: &Option<(Encoded, f64)>| run.as_ref().map(|(_, step)| milliseconds(*step));
        row(&format!("training step, latent grids of {name}"), step(&gpu), step(&cpu));
        let Some((encoded, _)) = cpu else { return };
        let decoder = Decoder::new(&encoded.bytes).unwrap();
        let view = View::exact(self.large);
        let view = view.sampling(Sampling::Point);
        self.render(&format!("latent grids of {name}"), &decoder.prepare(&view).unwrap());
    }

    /// A file, and the seconds of half of the steps in the later half of the training.
    fn encode(
        &mut self,
        what: &str,
        raster: &Raster,
        encoder: Encoder,
        effort: u8,
        device: DeviceChoice,
    ) -> Option<(Encoded, f64)> {
        let mut encoder = encoder.effort(effort).device(device);
        if self.small {
            encoder = encoder.steps(40);
        }
        let mut times = Vec::new();
        let encoding = encoder.on_progress(|_| {
            times.push(Instant::now());
            Control::Continue
        });
        let result = encoding.encode(raster);
        let encoded = match result {
            Ok(encoded) => encoded,
            Err(error) => {
                self.notes.push(format!("{what}: {error}"));
                return None;
            }
        };
        let on = &encoded.device;
        self.notes.push(format!("{what}: effort {effort} on {on}, {}", encoded_cell(&encoded).1));
        if let Some(failure) = &encoded.device_failure {
            self.notes.push(format!("{what}: {failure}"));
            return None;
        }
        let later = &times[times.len() / 2..];
        let mut steps: Vec<f64> =
            later.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        steps.sort_by(f64::total_cmp);
        let step = steps.get(steps.len() / 2).copied().unwrap_or(f64::NAN);
        Some((encoded, step))
    }
}

fn encoded_cell(encoded: &Encoded) -> (f64, String) {
    let seconds = encoded.elapsed.as_secs_f64();
    (seconds, format!("{:.2} dB in {seconds:.1} s", encoded.psnr))
}

fn bytes(render: &Render) -> Vec<u8> {
    match render.raster().into_samples() {
        Samples::U8(samples) => samples,
        Samples::U16(samples) => samples.into_iter().map(|sample| (sample >> 8) as u8).collect(),
    }
}

/// A picture in RGB; a corner of it where all is to be small.
fn read(path: &Path, small: bool) -> Raster {
    let mut image = image::open(path).unwrap().into_rgb8();
    if small {
        image = image::imageops::crop(&mut image, 0, 0, 192, 128).to_image();
    }
    let size = Size { width: image.width(), height: image.height() };
    Raster::new(size, Channels::Rgb, Samples::U8(image.into_raw())).unwrap()
}
