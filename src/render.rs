//! Pixels from a function: a grid of points goes through the evaluator on all cores and
//! comes out as samples (spec section 8), reduced where the grid is finer than the render.
//! Memory and work follow the output alone.

use std::ops::Range;
use std::sync::Arc;
#[cfg(feature = "gpu")]
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use crate::container::BitDepth;
use crate::error::DecodeError;
use crate::eval::{BLOCK, Columns, Evaluator, GridEvaluator, Points};
use crate::geometry::{Grid, Size};
#[cfg(feature = "gpu")]
use crate::gpu::{Adapter, Gpu, GpuError, Renderer, Variant};
use crate::network::Channels;
use crate::raster::{Raster, Samples};
use crate::reduce::{self, Reduction, Refined};
#[cfg(feature = "gpu")]
use crate::speed;

/// What is rendered of the function.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Field {
    /// The picture.
    #[default]
    Value,
    /// Per colour channel, `gain` times the length of the gradient.
    Gradient {
        /// Output per unit of gradient, not below 0; 1 unit is a full-scale step within a native
        /// pixel.
        gain: f64,
    },
    /// Per colour channel, one half plus `gain` times the Laplacian.
    Laplacian {
        /// Output per unit of Laplacian, in full-scale steps per native pixel squared; negative for
        /// the other sign.
        gain: f64,
    },
}

impl Field {
    /// Refuses a gain that shows nothing.
    pub(crate) fn check(self) -> Result<(), DecodeError> {
        match self {
            Self::Gradient { gain } | Self::Laplacian { gain } if !gain.is_finite() => {
                Err(DecodeError::InvalidGain("it must be finite"))
            }
            Self::Gradient { gain } if gain < 0.0 => {
                Err(DecodeError::InvalidGain("that of the gradient must not be below 0"))
            }
            _ => Ok(()),
        }
    }
}

/// How a picture is sampled below its native size. Derivatives are always sampled at points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sampling {
    /// A lattice up to eight times finer, reduced by Lanczos's filter: no aliasing.
    #[default]
    Filtered,
    /// The function at each pixel's centre, as section 8 of the spec defines a render.
    Point,
}

/// A view of a picture, ready to be evaluated row by row.
#[derive(Debug, Clone)]
pub struct Render<'a> {
    function: Function<'a>,
    /// The points that are evaluated.
    grid: Grid,
    /// What makes the render of a finer grid.
    reduction: Option<Reduction>,
    field: Field,
    depth: BitDepth,
    /// The function's derivatives times this are per native pixel.
    per_pixel: f64,
    #[cfg(feature = "gpu")]
    on_gpu: Option<Arc<Mutex<OnGpu>>>,
}

/// What evaluates the grid in the CPU's place until it fails.
#[cfg(feature = "gpu")]
#[derive(Debug)]
enum OnGpu {
    Works(Adapter, Box<Renderer>),
    Failed(GpuError),
}

#[derive(Debug, Clone)]
enum Function<'a> {
    Siren(&'a Evaluator),
    Grids { evaluator: Arc<GridEvaluator>, columns: Columns },
}

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
        let threads = rayon::current_num_threads() as u64;
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

impl<'a> Render<'a> {
    /// Prepares a render of `grid`; `native` is the picture's own size.
    pub fn new(
        evaluator: &'a Evaluator,
        native: Size,
        grid: Grid,
        field: Field,
        depth: BitDepth,
    ) -> Self {
        let per_pixel = 2.0 / f64::from(native.longer_side());
        Self::of(Function::Siren(evaluator), grid, field, depth, per_pixel)
    }

    /// Prepares a render of `grid`, whose picture's own size must be that of the grids.
    /// Their planes must hold what [`footprint`](crate::grids::footprint) tells for the
    /// render's pixel centres, or rendering panics. Memory follows the width.
    pub fn of_grids(
        evaluator: Arc<GridEvaluator>,
        grid: Grid,
        field: Field,
        depth: BitDepth,
    ) -> Self {
        let u: Vec<f64> = (0..grid.size.width).map(|column| grid.u(column)).collect();
        let columns = evaluator.columns(&u, field != Field::Value);
        Self::of(Function::Grids { evaluator, columns }, grid, field, depth, 1.0)
    }

    fn of(
        function: Function<'a>,
        grid: Grid,
        field: Field,
        depth: BitDepth,
        per_pixel: f64,
    ) -> Self {
        Self {
            function,
            grid,
            reduction: None,
            field,
            depth,
            per_pixel,
            #[cfg(feature = "gpu")]
            on_gpu: None,
        }
    }

    /// Reduces the render's pixels, which must be values then.
    pub(crate) fn reduced(self, reduction: Option<Reduction>) -> Self {
        Self { reduction, ..self }
    }

    /// Has a GPU evaluate the function: values only. Where it fails on the way,
    /// the CPU goes on.
    ///
    /// # Errors
    /// [`GpuError::Unsupported`] for derivatives; others from the device.
    #[cfg(feature = "gpu")]
    pub fn on_gpu(self, gpu: &Gpu) -> Result<Self, GpuError> {
        if self.field != Field::Value {
            return Err(GpuError::Unsupported("derivatives"));
        }
        // What is reduced is not rounded before.
        let depth = self.reduction.is_none().then_some(self.depth);
        let renderer = match &self.function {
            Function::Siren(evaluator) => {
                let siren = evaluator.siren();
                let variant = Variant::of_renders(siren.topology(), gpu);
                Renderer::new(gpu, siren, self.grid, depth, variant)?
            }
            Function::Grids { evaluator, .. } => {
                let left_out = evaluator.left_out();
                Renderer::of_grids(gpu, evaluator.grids(), left_out, self.grid, depth)?
            }
        };
        let works = OnGpu::Works(gpu.adapter().clone(), renderer.into());
        Ok(Self { on_gpu: Some(Arc::new(Mutex::new(works))), ..self })
    }

    /// The same by a GPU that [`Gpu::automatic`] opens, where it is expected to be faster, its start
    /// included. Where it does not take the render, [`Render::gpu_failure`] says why.
    #[cfg(feature = "gpu")]
    pub fn on_gpu_if_faster(self) -> Self {
        if self.field != Field::Value {
            return self;
        }
        let operations = self.operations() * self.grid.size.pixels() as f64;
        if !speed::gpu_is_faster(operations, rayon::current_num_threads(), 0) {
            return self;
        }
        let error = match Gpu::automatic() {
            Ok(None) => return self,
            Ok(Some(gpu)) => match self.clone().on_gpu(&gpu) {
                Ok(render) => return render,
                Err(error) => error,
            },
            Err(error) => error,
        };
        Self { on_gpu: Some(Arc::new(Mutex::new(OnGpu::Failed(error)))), ..self }
    }

    /// Multiplications for a point, roughly.
    #[cfg(feature = "gpu")]
    fn operations(&self) -> f64 {
        match &self.function {
            Function::Siren(evaluator) => evaluator.siren().topology().weight_count() as f64,
            Function::Grids { evaluator, .. } => {
                let (first, last) = (evaluator.grids().sines(), evaluator.grids().output());
                // Beside the weights, the splines of the levels.
                (first.weights.len() + last.weights.len() + 20 * first.inputs) as f64
            }
        }
    }

    /// The adapter that evaluates the function, as long as it works.
    #[cfg(feature = "gpu")]
    pub fn adapter(&self) -> Option<Adapter> {
        match &*locked(self.on_gpu.as_ref()?) {
            OnGpu::Works(adapter, _) => Some(adapter.clone()),
            OnGpu::Failed(_) => None,
        }
    }

    /// Why the GPU failed and the CPU went on, if it did.
    #[cfg(feature = "gpu")]
    pub fn gpu_failure(&self) -> Option<GpuError> {
        match &*locked(self.on_gpu.as_ref()?) {
            OnGpu::Works(..) => None,
            OnGpu::Failed(error) => Some(error.clone()),
        }
    }

    /// What the GPU makes of some rows; nothing where there is none that works.
    #[cfg(feature = "gpu")]
    fn by_gpu<T>(&self, run: impl FnOnce(&mut Renderer) -> Result<T, GpuError>) -> Option<T> {
        let mut on_gpu = locked(self.on_gpu.as_ref()?);
        let OnGpu::Works(_, renderer) = &mut *on_gpu else { return None };
        match run(renderer) {
            Ok(result) => Some(result),
            Err(error) => {
                *on_gpu = OnGpu::Failed(error);
                None
            }
        }
    }

    /// Size of the whole render.
    pub fn size(&self) -> Size {
        self.reduction.as_ref().map_or(self.grid.size, Reduction::size)
    }

    /// Bits of each sample.
    pub fn depth(&self) -> BitDepth {
        self.depth
    }

    /// Channels of the render: those of the picture, without alpha for derivatives.
    pub fn channels(&self) -> Channels {
        let channels = match &self.function {
            Function::Siren(evaluator) => evaluator.siren().topology().channels(),
            Function::Grids { evaluator, .. } => evaluator.grids().channels(),
        };
        match self.field {
            Field::Value => channels,
            _ => channels.without_alpha(),
        }
    }

    /// The whole render.
    pub fn raster(&self) -> Raster {
        self.rows(0..self.size().height)
    }

    /// Rows of a strip of about a million evaluated points.
    pub fn strip_rows(&self) -> u32 {
        strip_rows(self.grid.size, self.size())
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
        #[cfg(feature = "gpu")]
        if self.reduction.is_none()
            && let Some(samples) = self.by_gpu(|renderer| renderer.samples(rows.clone()))
        {
            return Raster::new(size, self.channels(), samples).expect("as many samples as pixels");
        }
        let samples = match self.depth {
            BitDepth::Eight => {
                Samples::U8(self.all_samples(rows, |unit| (unit * 255.0 + 0.5) as u8))
            }
            BitDepth::Sixteen => {
                Samples::U16(self.all_samples(rows, |unit| (unit * 65535.0 + 0.5) as u16))
            }
        };
        Raster::new(size, self.channels(), samples).expect("as many samples as pixels")
    }

    /// The samples of rows, strip by strip. `quantize` rounds half up and, as Rust's casts do,
    /// takes what lies below or above the range to its ends and NaN to 0.
    fn all_samples<T: Copy + Default + Send>(
        &self,
        rows: Range<u32>,
        quantize: impl Fn(f32) -> T + Sync,
    ) -> Vec<T> {
        let row = self.size().width as usize * self.channels().count();
        let mut samples = vec![T::default(); rows.len() * row];
        let strip = self.strip_rows();
        let strips = samples.chunks_mut(strip as usize * row);
        for (top, samples) in rows.step_by(strip as usize).zip(strips) {
            let bottom = top + (samples.len() / row) as u32;
            self.samples(top..bottom, samples, &quantize);
        }
        samples
    }

    /// Fills `samples` with rows of the render: those evaluated, or what a finer grid reduces to.
    fn samples<T: Send>(
        &self,
        rows: Range<u32>,
        samples: &mut [T],
        quantize: impl Fn(f32) -> T + Sync,
    ) {
        let Some(reduction) = &self.reduction else {
            return self.fill(rows.start, samples, quantize);
        };
        let channels = self.channels();
        let count = channels.count();
        let (fine_width, width) = (self.grid.size.width as usize, self.size().width as usize);
        let fine_rows = reduction.fine_rows(rows.clone());
        let at_a_time = self::fine_rows(fine_width);
        let mut fine = vec![0.0f32; at_a_time.min(fine_rows.len()) * fine_width * count];
        let mut across = vec![0.0f32; fine_rows.len() * width * count];
        let tops = fine_rows.clone().step_by(at_a_time);
        for (top, out) in tops.zip(across.chunks_mut(at_a_time * width * count)) {
            let here = out.len() / width * fine_width;
            let fine = &mut fine[..here];
            // What a decoder would show; NaN is 0.
            self.fill(top, fine, |unit| if unit > 0.0 { unit.min(1.0) } else { 0.0 });
            let fine = fine.par_chunks_mut(fine_width * count);
            fine.zip(out.par_chunks_mut(width * count)).for_each(|(fine, out)| {
                reduce::premultiply(channels, fine);
                reduction.across(fine, count, out);
            });
        }
        samples.par_chunks_mut(width * count).enumerate().for_each_init(
            || vec![0.0; width * count],
            |row, (index, samples)| {
                reduction.down(rows.start + index as u32, &across, fine_rows.start, row);
                reduce::straighten(channels, row);
                samples.iter_mut().zip(row).for_each(|(sample, unit)| *sample = quantize(*unit));
            },
        );
    }

    /// Fills `samples` from row `top` on.
    fn fill<T: Send>(&self, top: u32, samples: &mut [T], quantize: impl Fn(f32) -> T + Sync) {
        #[cfg(feature = "gpu")]
        if self.reduction.is_some() {
            let row = self.grid.size.width as usize * self.channels().count();
            let rows = top..top + (samples.len() / row) as u32;
            if let Some(values) = self.by_gpu(|renderer| renderer.values(rows)) {
                let samples = samples.par_iter_mut().zip(values);
                samples.for_each(|(sample, value)| *sample = quantize(value * 0.5 + 0.5));
                return;
            }
        }
        match &self.function {
            Function::Siren(evaluator) => self.fill_blocks(evaluator, top, samples, quantize),
            Function::Grids { evaluator, columns } => {
                self.fill_rows(evaluator, columns, top, samples, quantize);
            }
        }
    }

    fn fill_blocks<T: Send>(
        &self,
        evaluator: &Evaluator,
        top: u32,
        samples: &mut [T],
        quantize: impl Fn(f32) -> T + Sync,
    ) {
        let channels = self.channels().count();
        let first = u64::from(top) * u64::from(self.grid.size.width);
        samples.par_chunks_mut(BLOCK * channels).enumerate().for_each_init(
            || {
                let rows = vec![0.0; 4 * evaluator.channels() * BLOCK];
                (evaluator.scratch(), Points::default(), rows)
            },
            |(scratch, points, out), (block, samples)| {
                let start = first + (block * BLOCK) as u64;
                for i in 0..samples.len() / channels {
                    (points.x[i], points.y[i]) = self.grid.centre(start + i as u64);
                }
                match self.field {
                    Field::Value => evaluator.values(points, scratch, out),
                    _ => evaluator.jets(points, scratch, out),
                }
                self.store(out, BLOCK, samples, &quantize);
            },
        );
    }

    fn fill_rows<T: Send>(
        &self,
        evaluator: &GridEvaluator,
        columns: &Columns,
        top: u32,
        samples: &mut [T],
        quantize: impl Fn(f32) -> T + Sync,
    ) {
        let channels = self.channels().count();
        let row = self.grid.size.width as usize * channels;
        let together = columns.rows_together();
        samples.par_chunks_mut(together * row).enumerate().for_each_init(
            || (evaluator.scratch(columns), Vec::with_capacity(together)),
            |(scratch, v), (index, samples)| {
                let first = top + (index * together) as u32;
                v.clear();
                v.extend((first..).take(samples.len() / row).map(|row| self.grid.v(row)));
                evaluator.rows(columns, v, scratch, |points, length, rows| {
                    let samples = &mut samples[points.start * channels..points.end * channels];
                    self.store(rows, length, samples, &quantize);
                });
            },
        );
    }

    /// The samples of a block of pixels, from rows of `length` values or parts of jets.
    fn store<T>(
        &self,
        rows: &[f32],
        length: usize,
        samples: &mut [T],
        quantize: impl Fn(f32) -> T,
    ) {
        let channels = self.channels().count();
        let part = |channel: usize, part: usize, i: usize| rows[(4 * channel + part) * length + i];
        match self.field {
            Field::Value => {
                for (channel, row) in rows.chunks_exact(length).enumerate().take(channels) {
                    let samples = samples[channel..].iter_mut().step_by(channels);
                    samples.zip(row).for_each(|(s, value)| *s = quantize(value * 0.5 + 0.5));
                }
            }
            Field::Gradient { gain } => {
                let gain = narrow(0.5 * self.per_pixel * gain);
                each(samples, channels, quantize, |channel, i| {
                    gain * part(channel, 1, i).hypot(part(channel, 2, i))
                });
            }
            Field::Laplacian { gain } => {
                let gain = narrow(0.5 * self.per_pixel * self.per_pixel * gain);
                each(samples, channels, quantize, |channel, i| 0.5 + gain * part(channel, 3, i));
            }
        }
    }
}

/// Fills the samples of pixels with what `unit` gives for a channel and a pixel.
fn each<T>(
    samples: &mut [T],
    channels: usize,
    quantize: impl Fn(f32) -> T,
    unit: impl Fn(usize, usize) -> f32,
) {
    for (i, pixel) in samples.chunks_exact_mut(channels).enumerate() {
        for (channel, sample) in pixel.iter_mut().enumerate() {
            *sample = quantize(unit(channel, i));
        }
    }
}

/// A finite number as the nearest finite one.
fn narrow(number: f64) -> f32 {
    number.clamp(f32::MIN.into(), f32::MAX.into()) as f32
}

#[cfg(feature = "gpu")]
fn locked(on_gpu: &Mutex<OnGpu>) -> MutexGuard<'_, OnGpu> {
    on_gpu.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding;
    use crate::container::{Container, Representation};
    use crate::decode::{Decoder, RenderOptions};
    use crate::geometry::{Scale, View};
    use siren_kernel::instruction_sets;

    /// Spec section 10, by every instruction set of this machine and without any, and by a GPU.
    #[test]
    fn every_instruction_set_meets_every_vector() {
        #[cfg(feature = "gpu")]
        let gpu = Gpu::for_tests();
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/conformance");
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
            let view = View { crop: None, scale: Scale::Exact(size) };
            let grid = Grid::new(decoder.size(), &view).unwrap();
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
            for level in instruction_sets() {
                let by = format!("{level:?}");
                match representation {
                    Representation::Siren => {
                        let siren = coding::decode(*coding, topology, weights).unwrap();
                        let evaluator = Evaluator::with_simd(siren, level);
                        check(Render::new(&evaluator, decoder.size(), grid, field, depth), &by);
                    }
                    Representation::Grid => {
                        let grids = decoder.grids().unwrap().unwrap();
                        let evaluator = GridEvaluator::with_simd((*grids).clone(), 0, level);
                        check(Render::of_grids(Arc::new(evaluator), grid, field, depth), &by);
                    }
                }
            }
            #[cfg(feature = "gpu")]
            if let Some(gpu) = &gpu {
                let options =
                    RenderOptions { view, sampling: Sampling::Point, ..Default::default() };
                let options = RenderOptions { depth: Some(depth), ..options };
                let render = decoder.prepare(&options).unwrap().on_gpu(gpu).unwrap();
                check(render.clone(), "gpu");
                assert_eq!(render.gpu_failure(), None);
            }
            vectors += 1;
        }
        assert!(vectors >= 16, "vectors are missing");
    }
}
