//! Values of a function at the pixel centres of a grid.

use std::ops::Range;

use super::pipeline::{Access, Header, bind, bindings, pass};
use super::{Gpu, GpuError, MOST_BYTES, Timer, Variant, axes, bytes_of, floats};
use siren_image::Field;
use siren_image::backend::{Function, Job, Rows};
use siren_image::container::BitDepth;
use siren_image::network::Siren;
use siren_image::parallel;
use siren_image::{PixelGrid, Size};

/// Pixels of one dispatch: little memory.
const MOST_PIXELS: u32 = 1 << 20;
/// Pixels that a thread unpacks at a time.
const UNPACKED: usize = 1 << 14;

use wgpu::BufferUsages as U;

/// A network and a grid on a GPU.
#[derive(Debug)]
pub struct Renderer {
    gpu: Gpu,
    size: Size,
    channels: usize,
    depth: Option<BitDepth>,
    /// Rows of one dispatch.
    rows: u32,
    /// The kernels of a dispatch and their workgroups.
    kernels: Vec<(wgpu::ComputePipeline, u32)>,
    /// One is read while the other is computed; they are not shared.
    slots: [Slot; 2],
}

/// What evaluates a function: kernels and what they are given.
pub(super) struct Parts<'a> {
    /// One after the other; the last one writes the pixels.
    pub kernels: Vec<KernelParts<'a>>,
    /// The parameters, bound as 0. The first two words are those of each dispatch: its pixels, and
    /// the number of the first.
    pub parameters: Vec<u32>,
}

/// A kernel and its workgroups.
pub(super) struct KernelParts<'a> {
    pub pipeline: wgpu::ComputePipeline,
    pub workgroups: u32,
    /// What is bound besides the parameters and, of the last kernel, the pixels, which are 6.
    pub buffers: &'a [(u32, &'a wgpu::Buffer)],
}

/// Buffers of a dispatch.
#[derive(Debug)]
struct Slot {
    parameters: wgpu::Buffer,
    values: wgpu::Buffer,
    readable: wgpu::Buffer,
    /// Of each kernel.
    bound: Vec<wgpu::BindGroup>,
    timer: Option<Timer>,
}

impl Renderer {
    /// Prepares renders of `grid` in samples of `depth`, or in values as they are.
    ///
    /// # Errors
    /// [`GpuError::TooLarge`], [`GpuError::Unsupported`] and [`GpuError::Failed`].
    ///
    /// # Panics
    /// If the variant does not fit.
    pub fn new(
        gpu: &Gpu,
        siren: &Siren,
        grid: PixelGrid,
        depth: Option<BitDepth>,
        variant: Variant,
    ) -> Result<Self, GpuError> {
        let topology = siren.topology();
        assert!(variant.fits(topology, gpu), "a variant that fits");
        let layout = variant.layout(topology);
        let accesses = [
            (0, Access::Uniform),
            (1, Access::Read),
            (2, Access::Read),
            (4, Access::Write),
            (6, Access::Write),
        ];
        let bindings = bindings(gpu, &accesses);
        let pipeline = variant.pipeline(gpu, &layout, "render", format(depth), &bindings)?;
        let mut packed = vec![0; 4 * layout.length];
        let layers = siren.layers();
        layout.each_weight(|layer, o, k, place| {
            let layer = &layers[layer];
            let bias = k == layer.inputs;
            let weight = if bias { layer.biases[o] } else { layer.weights[o * layer.inputs + k] };
            packed[place] = weight.to_bits();
        });
        let weights = gpu.buffer_of("the weights", &packed, U::STORAGE)?;
        let places: Vec<u32> = axes(&grid).collect();
        let coordinates = gpu.buffer_of("the coordinates", &places, U::STORAGE)?;
        let rows = rows(gpu, grid.size, layout.flops());
        let pixels = u64::from(rows) * u64::from(grid.size.width);
        let scratch_length = variant.scratch_length(&layout, false);
        let of_scratch = 16 * u64::from(scratch_length);
        let affordable = MOST_BYTES / of_scratch.max(1);
        let most = affordable.min(variant.workgroups.into()).max(1);
        let iterations = layout.iterations(variant.invocations as usize, variant.pixels as usize);
        let workgroups = gpu.workgroups(pixels.div_ceil(variant.pixels.into()), most, iterations);
        let scratch = gpu.buffer("activations", of_scratch * u64::from(workgroups), U::STORAGE)?;
        let channels = topology.channels().count();
        let header = Header {
            points: 0,
            first: 0,
            workgroups,
            size: grid.size,
            channels,
            sixteen: false,
            all: true,
            layers: layout.layer_count(),
            gradient_length: 0,
            scratch_length,
        };
        let buffers = &[(1, &weights), (2, &coordinates), (4, &scratch)];
        let parts = Parts {
            kernels: vec![KernelParts { pipeline, workgroups, buffers }],
            parameters: [&header.words()[..], &layout.table()].concat(),
        };
        Self::of_parts(gpu, parts, grid.size, rows, channels, depth)
    }

    /// Prepares what a render asks for.
    ///
    /// # Errors
    /// [`GpuError::Unsupported`] for derivatives, and as [`Renderer::new`].
    pub fn of_job(gpu: &Gpu, job: &Job) -> Result<Self, GpuError> {
        if job.field != Field::Value {
            return Err(GpuError::Unsupported("derivatives"));
        }
        match job.function {
            Function::Siren(siren) => {
                let variant = Variant::of_renders(siren.topology(), gpu);
                Self::new(gpu, siren, job.grid, job.depth, variant)
            }
            Function::Latents { latents, left_out } => {
                Self::of_latents(gpu, latents, left_out, job.grid, job.depth)
            }
            _ => Err(GpuError::Unsupported("functions of this kind")),
        }
    }

    /// Prepares renders of `size` by dispatches of `rows` rows, which [`rows`] tells.
    pub(super) fn of_parts(
        gpu: &Gpu,
        parts: Parts,
        size: Size,
        rows: u32,
        channels: usize,
        depth: Option<BitDepth>,
    ) -> Result<Self, GpuError> {
        if size.pixels() > u32::MAX.into() {
            // The kernels number them.
            return Err(GpuError::Unsupported("renders of 2^32 pixels and more"));
        }
        let Parts { kernels, parameters } = parts;
        let bytes = u64::from(rows) * u64::from(size.width) * bytes_per_pixel(depth) as u64;
        let slot = || -> Result<Slot, GpuError> {
            let parameters = gpu.buffer_of("the parameters", &parameters, U::UNIFORM)?;
            let values = gpu.buffer("the render", bytes, U::STORAGE | U::COPY_SRC)?;
            let readable = gpu.buffer("the render", bytes, U::MAP_READ | U::COPY_DST)?;
            let bound = kernels.iter().enumerate().map(|(index, kernel)| {
                let pixels: &[_] = if index + 1 == kernels.len() { &[(6, &values)] } else { &[] };
                let buffers = [kernel.buffers, &[(0, &parameters)], pixels].concat();
                bind(gpu, &kernel.pipeline.get_bind_group_layout(0), &buffers)
            });
            let bound = bound.collect();
            Ok(Slot { parameters, values, readable, bound, timer: None })
        };
        let slots = [slot()?, slot()?];
        gpu.check()?;
        let kernels = kernels.into_iter().map(|kernel| (kernel.pipeline, kernel.workgroups));
        let kernels = kernels.collect();
        Ok(Self { gpu: gpu.clone(), size, channels, depth, rows, kernels, slots })
    }

    /// From now on renders are timed on the GPU, where it can.
    ///
    /// # Errors
    /// [`GpuError::Failed`].
    pub fn time_passes(&mut self) -> Result<(), GpuError> {
        for slot in &mut self.slots {
            slot.timer = Timer::new(&self.gpu, 1)?;
        }
        Ok(())
    }

    /// Seconds that the GPU took for the last dispatch.
    ///
    /// # Errors
    /// [`GpuError::Failed`].
    pub async fn pass_time_async(&self) -> Result<Option<f64>, GpuError> {
        let Some(timer) = &self.slots[0].timer else { return Ok(None) };
        Ok(Some(timer.read(&self.gpu).await?[0]))
    }

    /// The GPU.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Bits of the samples that were asked for; `None` for values.
    pub fn depth(&self) -> Option<BitDepth> {
        self.depth
    }

    /// Fills `out` as [`Backend::rows`](siren_image::backend::Backend::rows) says. To be awaited to its end:
    /// half of it cannot be done.
    ///
    /// # Errors
    /// [`GpuError::Failed`].
    ///
    /// # Panics
    /// As that.
    pub async fn fill(&mut self, rows: Range<u32>, out: Rows<'_>) -> Result<(), GpuError> {
        assert_eq!(out.depth(), self.depth, "the depth that was asked for");
        match out {
            Rows::Values(out) => {
                let unpack = |pixel: &[u8], out: &mut [f32]| {
                    let values = out.iter_mut().zip(floats(pixel));
                    values.for_each(|(out, value)| *out = value * 0.5 + 0.5);
                };
                self.run(rows, out, unpack).await
            }
            Rows::Eight(out) => {
                let unpack =
                    |pixel: &[u8], out: &mut [u8]| out.copy_from_slice(&pixel[..out.len()]);
                self.run(rows, out, unpack).await
            }
            Rows::Sixteen(out) => {
                let unpack = |pixel: &[u8], out: &mut [u16]| {
                    let pairs = pixel.as_chunks::<2>().0;
                    out.iter_mut().zip(pairs).for_each(|(out, b)| *out = u16::from_le_bytes(*b));
                };
                self.run(rows, out, unpack).await
            }
        }
    }

    /// The values of some rows, the channels of a pixel side by side, in the outputs' range.
    ///
    /// # Errors
    /// [`GpuError::Failed`].
    ///
    /// # Panics
    /// If the range is empty or reaches beyond the grid, and with a depth.
    pub async fn values_async(&mut self, rows: Range<u32>) -> Result<Vec<f32>, GpuError> {
        assert!(self.depth.is_none(), "values were asked for");
        let mut values = vec![0.0; self.count(&rows)];
        let unpack = |pixel: &[u8], out: &mut [f32]| {
            out.iter_mut().zip(floats(pixel)).for_each(|(out, value)| *out = value);
        };
        self.run(rows, &mut values, unpack).await?;
        Ok(values)
    }

    /// Numbers of some rows.
    pub(super) fn count(&self, rows: &Range<u32>) -> usize {
        assert!(!rows.is_empty() && rows.end <= self.size.height, "no such rows");
        rows.len() * self.size.width as usize * self.channels
    }

    /// Computes rows; `unpack` makes the channels of a pixel from its bytes.
    async fn run<T: Send>(
        &self,
        rows: Range<u32>,
        out: &mut [T],
        unpack: impl Fn(&[u8], &mut [T]) + Sync,
    ) -> Result<(), GpuError> {
        assert_eq!(out.len(), self.count(&rows), "room for the rows");
        let tops: Vec<u32> = rows.clone().step_by(self.rows as usize).collect();
        let each = self.rows as usize * self.size.width as usize * self.channels;
        let mut before = None;
        let chunks = tops.into_iter().zip(out.chunks_mut(each)).zip(self.slots.iter().cycle());
        for ((top, out), slot) in chunks {
            let submission = self.submit(slot, top, out.len() / self.channels);
            if let Some((slot, submission, out)) = before.replace((slot, submission, out)) {
                self.finish(slot, submission, out, &unpack).await?;
            }
        }
        let (slot, submission, out) = before.expect("there are rows");
        self.finish(slot, submission, out, &unpack).await
    }

    fn submit(&self, slot: &Slot, top: u32, points: usize) -> wgpu::SubmissionIndex {
        let gpu = &self.gpu;
        let words = [points as u32, top * self.size.width];
        gpu.queue.write_buffer(&slot.parameters, 0, &bytes_of(&words));
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        let timer = slot.timer.as_ref().map(|timer| timer.pass(0));
        let kernels = self.kernels.iter().zip(&slot.bound);
        let kernels = kernels.map(|((pipeline, workgroups), bound)| (pipeline, bound, *workgroups));
        pass(&mut encoder, kernels, timer);
        let bytes = (points * bytes_per_pixel(self.depth)) as u64;
        encoder.copy_buffer_to_buffer(&slot.values, 0, &slot.readable, 0, bytes);
        if let Some(timer) = &slot.timer {
            timer.resolve(&mut encoder);
        }
        gpu.queue.submit([encoder.finish()])
    }

    async fn finish<T: Send>(
        &self,
        slot: &Slot,
        submission: wgpu::SubmissionIndex,
        out: &mut [T],
        unpack: &(impl Fn(&[u8], &mut [T]) + Sync),
    ) -> Result<(), GpuError> {
        // A renderer itself stays on its thread in a browser.
        let (size, channels) = (bytes_per_pixel(self.depth), self.channels);
        let bytes = (out.len() / channels * size) as u64;
        let unpack_all = |bytes: &[u8]| {
            let length = UNPACKED * channels;
            parallel::each_chunk(
                out,
                length,
                || (),
                |(), number, out| {
                    let bytes = bytes[number * UNPACKED * size..].chunks_exact(size);
                    let pixels = bytes.zip(out.chunks_exact_mut(channels));
                    pixels.for_each(|(pixel, out)| unpack(pixel, out));
                },
            );
        };
        self.gpu.read(&slot.readable, bytes, Some(submission), unpack_all).await
    }
}

/// Bytes of a pixel of four channels.
fn bytes_per_pixel(depth: Option<BitDepth>) -> usize {
    match depth {
        None => 16,
        Some(BitDepth::Eight) => 4,
        Some(BitDepth::Sixteen) => 8,
    }
}

/// How a kernel writes pixels, as emit.wgsl has it.
pub(super) fn format(depth: Option<BitDepth>) -> u32 {
    match depth {
        None => 0,
        Some(BitDepth::Eight) => 8,
        Some(BitDepth::Sixteen) => 16,
    }
}

/// Rows that a dispatch computes of a render, where a pixel takes so many operations.
pub(super) fn rows(gpu: &Gpu, size: Size, flops: u64) -> u32 {
    let pixels = (gpu.most_flops / flops).min(MOST_PIXELS.into()) as u32;
    (pixels / size.width).clamp(1, size.height)
}
