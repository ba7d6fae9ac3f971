//! Values of a SIREN at the pixel centres of a grid.

use std::ops::Range;

use rayon::prelude::*;

use super::layout::Layout;
use super::pipeline::{Access, HEADER, Header, bind, bindings, pass};
use super::{Gpu, GpuError, Timer, Variant, axes, bytes_of, floats};
use crate::container::BitDepth;
use crate::geometry::Grid;
use crate::network::Siren;
use crate::raster::Samples;

/// Pixels of one dispatch: a moment on any GPU, and little memory.
const MOST_PIXELS: u32 = 1 << 20;
/// Most bytes of scratch.
const MOST_BYTES: u64 = 1 << 27;
/// Pixels that a thread unpacks at a time.
const UNPACKED: usize = 1 << 14;

use wgpu::BufferUsages as U;

/// A network and a grid on a GPU.
#[derive(Debug)]
pub struct Renderer {
    gpu: Gpu,
    grid: Grid,
    channels: usize,
    depth: Option<BitDepth>,
    /// Rows of one dispatch.
    rows: u32,
    pipeline: wgpu::ComputePipeline,
    plan: Plan,
    /// One is read while the other is computed; they are not shared.
    slots: [Slot; 2],
}

/// What the parameters of a dispatch are made from.
#[derive(Debug)]
struct Plan {
    variant: Variant,
    layout: Layout,
    workgroups: u32,
}

/// Buffers of a dispatch.
#[derive(Debug)]
struct Slot {
    parameters: wgpu::Buffer,
    values: wgpu::Buffer,
    readable: wgpu::Buffer,
    bound: wgpu::BindGroup,
    timer: Option<Timer>,
}

impl Renderer {
    /// Prepares renders of `grid` in samples of `depth`, or in values as they are.
    ///
    /// # Errors
    /// [`GpuError::TooLarge`] and [`GpuError::Failed`].
    ///
    /// # Panics
    /// If the variant does not fit.
    pub fn new(
        gpu: &Gpu,
        siren: &Siren,
        grid: Grid,
        depth: Option<BitDepth>,
        variant: Variant,
    ) -> Result<Self, GpuError> {
        let topology = siren.topology();
        assert!(variant.fits(topology, gpu), "a variant that fits");
        let layout = variant.layout(topology);
        let bindings = bindings(
            gpu,
            &[
                (0, Access::Uniform),
                (1, Access::Read),
                (2, Access::Read),
                (4, Access::Write),
                (6, Access::Write),
            ],
        );
        let format = match depth {
            None => 0,
            Some(BitDepth::Eight) => 8,
            Some(BitDepth::Sixteen) => 16,
        };
        let pipeline = variant.pipeline(gpu, &layout, "render", format, &bindings)?;
        let mut packed = vec![0; 4 * layout.length];
        let layers = siren.layers();
        layout.each_weight(|layer, o, k, place| {
            let layer = &layers[layer];
            let bias = k == layer.inputs;
            let weight = if bias { layer.biases[o] } else { layer.weights[o * layer.inputs + k] };
            packed[place] = weight.to_bits();
        });
        let weights =
            gpu.buffer("the weights", 16 * layout.length as u64, U::STORAGE | U::COPY_DST)?;
        gpu.queue.write_buffer(&weights, 0, &bytes_of(&packed));
        let (width, height) = (grid.size.width, grid.size.height);
        let places: Vec<u32> = axes(&grid).collect();
        let coordinates =
            gpu.buffer("the coordinates", 4 * places.len() as u64, U::STORAGE | U::COPY_DST)?;
        gpu.queue.write_buffer(&coordinates, 0, &bytes_of(&places));
        let rows = (MOST_PIXELS / width).clamp(1, height);
        let tiles = (u64::from(rows) * u64::from(width)).div_ceil(variant.pixels.into());
        let iterations = layout.iterations(variant.invocations as usize, variant.pixels as usize);
        let of_scratch = 16 * u64::from(variant.scratch_length(&layout, false));
        let affordable = MOST_BYTES / of_scratch.max(1);
        let most = affordable.min(variant.workgroups.into()).max(1);
        let workgroups = gpu.workgroups(tiles, most, iterations);
        let plan = Plan { variant, layout, workgroups };
        let scratch = gpu.buffer("activations", of_scratch * u64::from(workgroups), U::STORAGE)?;
        let pixels = u64::from(rows) * u64::from(width);
        let slot = || -> Result<Slot, GpuError> {
            let bytes = pixels * bytes_per_pixel(depth) as u64;
            let length = 4 * (HEADER + plan.layout.table().len()) as u64;
            let parameters = gpu.buffer("the parameters", length, U::UNIFORM | U::COPY_DST)?;
            let values = gpu.buffer("the render", bytes, U::STORAGE | U::COPY_SRC)?;
            let readable = gpu.buffer("the render", bytes, U::MAP_READ | U::COPY_DST)?;
            let buffers =
                [(0, &parameters), (1, &weights), (2, &coordinates), (4, &scratch), (6, &values)];
            let bound = bind(gpu, &bindings, &buffers);
            Ok(Slot { parameters, values, readable, bound, timer: None })
        };
        let slots = [slot()?, slot()?];
        gpu.check()?;
        let channels = topology.channels().count();
        Ok(Self { gpu: gpu.clone(), grid, channels, depth, rows, pipeline, plan, slots })
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
    pub fn pass_time(&self) -> Result<Option<f64>, GpuError> {
        let Some(timer) = &self.slots[0].timer else { return Ok(None) };
        Ok(Some(timer.read(&self.gpu)?[0]))
    }

    /// The samples of some rows, of the depth that was asked for.
    ///
    /// # Errors
    /// [`GpuError::Failed`].
    ///
    /// # Panics
    /// If the range is empty or reaches beyond the grid, and without a depth.
    pub fn samples(&mut self, rows: Range<u32>) -> Result<Samples, GpuError> {
        let count = self.count(&rows);
        match self.depth.expect("a depth was asked for") {
            BitDepth::Eight => {
                let mut samples = vec![0; count];
                self.run(rows, &mut samples, |pixel, out| {
                    out.copy_from_slice(&pixel[..out.len()])
                })?;
                Ok(Samples::U8(samples))
            }
            BitDepth::Sixteen => {
                let mut samples = vec![0; count];
                self.run(rows, &mut samples, |pixel, out: &mut [u16]| {
                    let pairs = pixel.as_chunks::<2>().0;
                    out.iter_mut().zip(pairs).for_each(|(out, b)| *out = u16::from_le_bytes(*b));
                })?;
                Ok(Samples::U16(samples))
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
    pub fn values(&mut self, rows: Range<u32>) -> Result<Vec<f32>, GpuError> {
        assert!(self.depth.is_none(), "values were asked for");
        let mut values = vec![0.0; self.count(&rows)];
        self.run(rows, &mut values, |pixel, out| {
            out.iter_mut().zip(floats(pixel)).for_each(|(out, value)| *out = value);
        })?;
        Ok(values)
    }

    fn count(&self, rows: &Range<u32>) -> usize {
        assert!(!rows.is_empty() && rows.end <= self.grid.size.height, "no such rows");
        rows.len() * self.grid.size.width as usize * self.channels
    }

    /// Computes rows; `unpack` makes the channels of a pixel from its bytes.
    fn run<T: Send>(
        &self,
        rows: Range<u32>,
        out: &mut [T],
        unpack: impl Fn(&[u8], &mut [T]) + Sync,
    ) -> Result<(), GpuError> {
        let tops: Vec<u32> = rows.clone().step_by(self.rows as usize).collect();
        let each = self.rows as usize * self.grid.size.width as usize * self.channels;
        let mut before = None;
        let chunks = tops.into_iter().zip(out.chunks_mut(each)).zip(self.slots.iter().cycle());
        for ((top, out), slot) in chunks {
            let submission = self.submit(slot, top, out.len() / self.channels);
            if let Some((slot, submission, out)) = before.replace((slot, submission, out)) {
                self.finish(slot, submission, out, &unpack)?;
            }
        }
        let (slot, submission, out) = before.expect("there are rows");
        self.finish(slot, submission, out, &unpack)
    }

    fn submit(&self, slot: &Slot, top: u32, points: usize) -> wgpu::SubmissionIndex {
        let Self { gpu, plan, grid, .. } = self;
        let Plan { variant, layout, workgroups } = plan;
        let header = Header {
            points: points as u32,
            first: top * grid.size.width,
            workgroups: *workgroups,
            size: grid.size,
            channels: self.channels,
            sixteen: false,
            all: true,
            layers: layout.layer_count(),
            gradient_length: 0,
            scratch_length: variant.scratch_length(layout, false),
        };
        let parameters = [&header.words()[..], &layout.table()].concat();
        gpu.queue.write_buffer(&slot.parameters, 0, &bytes_of(&parameters));
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        let timer = slot.timer.as_ref().map(|timer| (timer, 0));
        pass(&mut encoder, &self.pipeline, &slot.bound, *workgroups, timer);
        let bytes = (points * bytes_per_pixel(self.depth)) as u64;
        encoder.copy_buffer_to_buffer(&slot.values, 0, &slot.readable, 0, bytes);
        if let Some(timer) = &slot.timer {
            timer.resolve(&mut encoder);
        }
        gpu.queue.submit([encoder.finish()])
    }

    fn finish<T: Send>(
        &self,
        slot: &Slot,
        submission: wgpu::SubmissionIndex,
        out: &mut [T],
        unpack: &(impl Fn(&[u8], &mut [T]) + Sync),
    ) -> Result<(), GpuError> {
        let size = bytes_per_pixel(self.depth);
        let bytes = (out.len() / self.channels * size) as u64;
        self.gpu.read(&slot.readable, bytes, Some(submission), |bytes| {
            let parts = bytes.par_chunks(UNPACKED * size);
            parts.zip(out.par_chunks_mut(UNPACKED * self.channels)).for_each(|(bytes, out)| {
                let pixels = bytes.chunks_exact(size).zip(out.chunks_exact_mut(self.channels));
                pixels.for_each(|(pixel, out)| unpack(pixel, out));
            });
        })
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
