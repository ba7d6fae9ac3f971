//! Pixels from a function: a [`Backend`] evaluates a grid of points, the CPU or a device in its place,
//! and samples come out (spec section 8), reduced where the grid is finer than the render.
//! Memory and work follow the output alone. Knows no device by name.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::{Backend, Function, Job, Rows};
use crate::container::BitDepth;
use crate::cpu::{Cpu, eight, sixteen};
use crate::error::DeviceError;
use crate::eval::{Evaluator, LatentsEvaluator};
use crate::fallback::Fallback;
use crate::geometry::{PixelGrid, Size};
use crate::network::Channels;
use crate::parallel;
use crate::raster::{Raster, Samples};
use crate::reduce::{self, Reduction, Refined};
use crate::view::Field;

/// A view of a picture, ready to be evaluated row by row. Holds all it needs; a clone is cheap and
/// renders on the same device.
#[derive(Debug, Clone)]
pub struct Render {
    /// What evaluates the points where no other device does.
    cpu: Cpu,
    /// What makes the render of a finer grid.
    reduction: Option<Arc<Reduction>>,
    depth: BitDepth,
    device: Option<Arc<Mutex<Device>>>,
}

/// What evaluates the points in the CPU's place until it fails.
type Device = Fallback<Box<dyn Backend>>;

/// Points that a strip aims at: enough for all cores, little enough for the cache.
const STRIP_POINTS: u64 = 1 << 20;
/// Least rows of a strip of a reduced render, whose strips share the points between them.
const REDUCED_ROWS: u32 = 16;
/// Points of a finer grid that are held at a time: fewer where 64 rows have fewer, more where 8 rows
/// have more.
const FINE_POINTS: (usize, usize) = (1 << 16, 1 << 22);
const FINE_ROWS: (usize, usize) = (8, 64);

/// What a render takes, told before any of it is allocated.
pub(crate) struct Demand {
    /// Points that are evaluated.
    pub points: u64,
    /// Bytes of a strip and of what it is made of, the function and a thread's rows left out.
    pub memory: u64,
    threads: u64,
}

impl Demand {
    /// Of a render of `size`, from a finer lattice where there is one.
    pub fn new(size: Size, refined: Option<&Refined>, channels: Channels, depth: BitDepth) -> Self {
        let evaluated = refined.map_or(size, |refined| refined.grid.size);
        let rows = strip_rows(evaluated, size);
        let pixel = channels.count() as u64;
        let (width, fine_width) = (u64::from(size.width), u64::from(evaluated.width));
        let threads = parallel::threads() as u64;
        let strip = u64::from(rows) * width * pixel * depth.bytes() as u64;
        let Some(refined) = refined else {
            return Self { points: size.pixels(), memory: strip, threads };
        };
        let of_strip = refined.most_rows(rows);
        let (strips, last) = (size.height / rows, size.height % rows);
        let of_last = if last > 0 { refined.most_rows(last) } else { 0 };
        let fine_rows_of_all = u64::from(strips) * u64::from(of_strip) + u64::from(of_last);
        let fine = fine_rows(evaluated.width as usize).min(of_strip as usize) as u64 * fine_width;
        let across = (u64::from(of_strip) + threads) * width;
        Self {
            points: fine_rows_of_all * fine_width,
            memory: strip
                + refined.reduction_bytes()
                + (fine + across) * pixel * size_of::<f32>() as u64,
            threads,
        }
    }

    /// Bytes of all threads where one takes so many.
    pub fn of_threads(&self, bytes: u64) -> u64 {
        self.threads.saturating_mul(bytes)
    }
}

/// Rows of a strip of a render of `size` for which `evaluated` points are evaluated.
fn strip_rows(evaluated: Size, size: Size) -> u32 {
    let least = if evaluated.height > size.height { REDUCED_ROWS } else { 1 };
    let points = evaluated.pixels() / u64::from(size.height);
    let rows = (STRIP_POINTS / points.max(1)).min(size.height.into()) as u32;
    rows.max(least.min(size.height))
}

/// Rows of so many points of a finer grid that are held at a time.
fn fine_rows(width: usize) -> usize {
    let [least, most] = [FINE_POINTS.0, FINE_POINTS.1].map(|points| points / width);
    FINE_ROWS.1.clamp(least, most).max(FINE_ROWS.0)
}

impl Render {
    /// Prepares a render of `grid`; `native` is the picture's own size.
    pub fn new(
        evaluator: impl Into<Arc<Evaluator>>,
        native: Size,
        grid: PixelGrid,
        field: Field,
        depth: BitDepth,
    ) -> Self {
        Self::of(Cpu::of_siren(evaluator.into(), native.longer_side(), grid, field), depth)
    }

    /// Prepares a render of `grid`, whose picture's own size must be that of the latents.
    /// Their planes must hold what [`footprint`](crate::latents::Basis::footprint) tells for the
    /// render's pixel centres, or rendering panics. Memory follows the width.
    pub fn of_latents(
        evaluator: impl Into<Arc<LatentsEvaluator>>,
        grid: PixelGrid,
        field: Field,
        depth: BitDepth,
    ) -> Self {
        Self::of(Cpu::of_latents(evaluator.into(), grid, field), depth)
    }

    fn of(cpu: Cpu, depth: BitDepth) -> Self {
        Self { cpu, reduction: None, depth, device: None }
    }

    /// Reduces the render's pixels, which must be values then.
    pub(crate) fn reduced(self, reduction: Option<Reduction>) -> Self {
        Self { reduction: reduction.map(Arc::new), ..self }
    }

    /// Has the device that `make` prepares evaluate the function. Where it fails on the way, the CPU
    /// goes on.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn on(
        self,
        make: impl FnOnce(&Job) -> Result<Box<dyn Backend>, DeviceError>,
    ) -> Result<Self, DeviceError> {
        let backend = make(&self.job())?;
        let name = backend.name();
        Ok(self.with(Fallback::new(backend, name, false)))
    }

    /// As [`Render::on`], for a device that nobody has asked for: where it does not take the render,
    /// the CPU does, and [`Render::failure`] says why.
    pub fn on_or_cpu(
        self,
        make: impl FnOnce(&Job) -> Result<Box<dyn Backend>, DeviceError>,
    ) -> Self {
        self.clone().on(make).unwrap_or_else(|failure| self.with(Fallback::failed(failure)))
    }

    fn with(self, device: Device) -> Self {
        Self { device: Some(Arc::new(Mutex::new(device))), ..self }
    }

    /// What a device is to know of the render.
    fn job(&self) -> Job<'_> {
        Job {
            function: self.cpu.function(),
            grid: *self.cpu.grid(),
            // What is reduced is not rounded before.
            depth: self.reduction.is_none().then_some(self.depth),
            field: self.cpu.field(),
        }
    }

    /// Multiplications that all points of the render take, roughly: for who chooses the device.
    pub fn operations(&self) -> f64 {
        let of_point = match self.cpu.function() {
            Function::Siren(siren) => siren.topology().weight_count(),
            Function::Latents { latents, .. } => {
                let (first, last) = (latents.sines(), latents.output());
                let sums = latents.planes().iter().map(|plane| {
                    let (basis, width, height) = (plane.basis(), plane.width(), plane.height());
                    // Splines take their time for more than their few weights.
                    (basis.taps(width) + basis.taps(height)).max(20)
                });
                first.weights.len() + last.weights.len() + sums.sum::<usize>()
            }
        };
        of_point as f64 * self.cpu.grid().size.pixels() as f64
    }

    /// The device in the CPU's place, as long as it works.
    pub fn device(&self) -> Option<String> {
        let device = locked(self.device.as_ref()?);
        device.device().map(|backend| backend.name())
    }

    /// Why the device failed and the CPU went on, if it did.
    pub fn failure(&self) -> Option<DeviceError> {
        locked(self.device.as_ref()?).failure().cloned()
    }

    /// Size of the whole render.
    pub fn size(&self) -> Size {
        self.reduction.as_ref().map_or(self.cpu.grid().size, |reduction| reduction.size())
    }

    /// What is rendered of the function.
    pub fn field(&self) -> Field {
        self.cpu.field()
    }

    /// Bits of each sample.
    pub fn depth(&self) -> BitDepth {
        self.depth
    }

    /// Channels of the render: those of the picture, without alpha for derivatives.
    pub fn channels(&self) -> Channels {
        self.cpu.channels()
    }

    /// The whole render.
    pub fn raster(&self) -> Raster {
        self.rows(0..self.size().height)
    }

    /// Rows of a strip of about a million evaluated points.
    pub fn strip_rows(&self) -> u32 {
        strip_rows(self.cpu.grid().size, self.size())
    }

    /// The render from top to bottom in strips of [`Render::strip_rows`] rows; the last
    /// one may have fewer.
    pub fn strips(&self) -> impl Iterator<Item = Raster> + '_ {
        let height = self.size().height;
        let rows = self.strip_rows();
        (0..height).step_by(rows as usize).map(move |top| {
            let bottom = top.saturating_add(rows).min(height);
            self.rows(top..bottom)
        })
    }

    /// Some rows of the render.
    ///
    /// # Panics
    /// If the range is empty or reaches beyond the render.
    pub fn rows(&self, rows: Range<u32>) -> Raster {
        assert!(!rows.is_empty() && rows.end <= self.size().height, "no such rows");
        let size = Size { width: self.size().width, height: rows.end - rows.start };
        let count = size.pixels() as usize * self.channels().count();
        let samples = match self.depth {
            BitDepth::Eight => {
                let mut samples = vec![0; count];
                match &self.reduction {
                    None => self.evaluate(rows, Rows::Eight(&mut samples)),
                    Some(reduction) => self.reduce(reduction, rows, &mut samples, eight),
                }
                Samples::U8(samples)
            }
            BitDepth::Sixteen => {
                let mut samples = vec![0; count];
                match &self.reduction {
                    None => self.evaluate(rows, Rows::Sixteen(&mut samples)),
                    Some(reduction) => self.reduce(reduction, rows, &mut samples, sixteen),
                }
                Samples::U16(samples)
            }
        };
        Raster::new(size, self.channels(), samples).expect("as many samples as pixels")
    }

    /// Rows of the grid, by the device or else by the CPU.
    fn evaluate(&self, rows: Range<u32>, mut out: Rows) {
        if let Some(device) = &self.device {
            let run = |device: &mut Box<dyn Backend>| device.rows(rows.clone(), out.reborrow());
            // An error of a device that was not required is told by `failure`.
            if let Ok(Some(())) = locked(device).run(run) {
                return;
            }
        }
        self.cpu.evaluate(rows, out);
    }

    /// Rows of the render from those of a finer grid, strip by strip.
    fn reduce<T: Send>(
        &self,
        reduction: &Reduction,
        rows: Range<u32>,
        samples: &mut [T],
        quantize: impl Fn(f32) -> T + Sync,
    ) {
        let row = self.size().width as usize * self.channels().count();
        let strip = self.strip_rows() as usize;
        for (top, samples) in rows.step_by(strip).zip(samples.chunks_mut(strip * row)) {
            let bottom = top + (samples.len() / row) as u32;
            self.reduce_strip(reduction, top..bottom, samples, &quantize);
        }
    }

    fn reduce_strip<T: Send>(
        &self,
        reduction: &Reduction,
        rows: Range<u32>,
        samples: &mut [T],
        quantize: impl Fn(f32) -> T + Sync,
    ) {
        let channels = self.channels();
        let count = channels.count();
        let (fine_width, width) = (self.cpu.grid().size.width as usize, self.size().width as usize);
        let fine_rows = reduction.fine_rows(rows.clone());
        let at_a_time = self::fine_rows(fine_width);
        let mut fine = vec![0.0f32; at_a_time.min(fine_rows.len()) * fine_width * count];
        let mut across = vec![0.0f32; fine_rows.len() * width * count];
        let tops = fine_rows.clone().step_by(at_a_time);
        for (top, out) in tops.zip(across.chunks_mut(at_a_time * width * count)) {
            let here = out.len() / (width * count);
            let fine = &mut fine[..here * fine_width * count];
            self.evaluate(top..top + here as u32, Rows::Values(fine));
            let (fine, out) = ((fine, fine_width * count), (out, width * count));
            parallel::each_pair(fine, out, |fine, out| {
                fine.iter_mut().for_each(|unit| *unit = shown(*unit));
                reduce::premultiply(channels, fine);
                reduction.across(fine, count, out);
            });
        }
        parallel::each_chunk(
            samples,
            width * count,
            || vec![0.0; width * count],
            |row, index, samples| {
                reduction.down(rows.start + index as u32, &across, fine_rows.start, row);
                reduce::straighten(channels, row);
                samples.iter_mut().zip(row).for_each(|(sample, unit)| *sample = quantize(*unit));
            },
        );
    }
}

/// What a decoder would show of a value; NaN is 0.
fn shown(unit: f32) -> f32 {
    if unit > 0.0 { unit.min(1.0) } else { 0.0 }
}

fn locked(device: &Mutex<Device>) -> MutexGuard<'_, Device> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding;
    use crate::container::{Container, Representation};
    use crate::decode::Decoder;
    use crate::view::View;
    use siren_kernel::instruction_sets;

    /// Spec section 10, by every instruction set of this machine and without any.
    #[test]
    fn every_instruction_set_meets_every_vector() {
        let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let directory = package.join("../../spec/conformance");
        // cargo adds this to packages, which do not have the vectors.
        if package.join("Cargo.toml.orig").exists() && !directory.exists() {
            eprintln!("skipped: the vectors of the specification are not in this package");
            return;
        }
        let mut vectors = 0;
        for entry in std::fs::read_dir(&directory).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let Some((stem, size)) =
                name.strip_suffix(".f64").and_then(|name| name.rsplit_once('.'))
            else {
                continue;
            };
            let (width, height) = size.split_once('x').unwrap();
            let size = Size { width: width.parse().unwrap(), height: height.parse().unwrap() };
            let decoder = std::fs::read(directory.join(format!("{stem}.siren"))).unwrap();
            let decoder = Decoder::new(&decoder).unwrap();
            let wanted = std::fs::read(directory.join(&name)).unwrap();
            let (wanted, _) = wanted.as_chunks::<8>();
            let grid = PixelGrid::new(decoder.size(), &View::exact(size)).unwrap();
            let Container { representation, coding, topology, weights, .. } = decoder.container();
            let (field, depth) = (Field::Value, BitDepth::Eight);
            let check = |render: Render, by: &str| {
                let raster = render.raster();
                let Samples::U8(samples) = raster.samples() else { unreachable!("8 bits") };
                assert_eq!(samples.len(), wanted.len());
                let wanted = wanted.iter().map(|t| {
                    let t = f64::from_le_bytes(*t);
                    (t.clamp(0.0, 1.0) * 255.0 + 0.5).floor() as u8
                });
                let differences = samples.iter().zip(wanted).map(|(a, b)| a.abs_diff(b));
                let (mut equal, mut most) = (0, 0u8);
                for difference in differences {
                    equal += usize::from(difference == 0);
                    most = most.max(difference);
                }
                assert!(most <= 1, "{name} {by}: {most}");
                assert!(equal as f64 >= 0.999 * samples.len() as f64, "{name} {by}: {equal}");
            };
            for simd in instruction_sets() {
                let by = format!("{simd:?}");
                match representation {
                    Representation::Siren => {
                        let siren = coding::decode(*coding, topology, weights).unwrap();
                        let evaluator = Evaluator::with_simd(siren, simd);
                        check(Render::new(evaluator, decoder.size(), grid, field, depth), &by);
                    }
                    Representation::Latents => {
                        let latents = decoder.latents().unwrap().unwrap();
                        let evaluator = LatentsEvaluator::with_simd(latents, 0, simd);
                        check(Render::of_latents(evaluator, grid, field, depth), &by);
                    }
                }
            }
            vectors += 1;
        }
        assert!(vectors >= 16, "vectors are missing");
    }
}
