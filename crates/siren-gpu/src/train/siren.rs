//! The loss of a batch and its gradient.

use std::mem;

use super::{EVALUATIONS, compile_sum, counted_error, sum_workgroups};
use crate::layout::Layout;
use crate::native::block_on;
use crate::pipeline::{Access, Header, bind, bindings, pass};
use crate::{Gpu, GpuError, MOST_BYTES, Timer, Variant, axes, bytes_of, floats};
use siren_encoder::train::siren::{Batch, Step, Stepper};
use siren_image::DeviceError;
use siren_image::network::Topology;
use siren_image::{PixelGrid, Size, View};
use siren_image::{Raster, Samples};

/// A picture and a topology on a GPU, for training.
#[derive(Debug)]
pub struct Trainer {
    gpu: Gpu,
    variant: Variant,
    layout: Layout,
    /// The factor of every layer.
    scales: Vec<f32>,
    weight_count: usize,
    size: Size,
    channels: usize,
    sixteen: bool,
    kernel: wgpu::ComputePipeline,
    bindings: wgpu::BindGroupLayout,
    sum: wgpu::ComputePipeline,
    weights: wgpu::Buffer,
    picture: wgpu::Buffer,
    sums: wgpu::Buffer,
    readable: wgpu::Buffer,
    /// What depends on the number of pixels.
    plan: Option<BatchBuffers>,
    timer: Option<Timer>,
}

#[derive(Debug)]
struct BatchBuffers {
    points: usize,
    all: bool,
    /// Pixels of a dispatch.
    each: usize,
    workgroups: u32,
    parameters: wgpu::Buffer,
    batch: wgpu::Buffer,
    bound: wgpu::BindGroup,
    bound_sum: wgpu::BindGroup,
}

use wgpu::BufferUsages as U;

impl Trainer {
    /// Puts a picture on a GPU, for networks of `topology` whose layers compute
    /// `scale (W h + b)`; `scales` has a factor for each layer.
    ///
    /// # Errors
    /// [`GpuError::TooLarge`] and [`GpuError::Failed`].
    ///
    /// # Panics
    /// If `scales` has not one factor a layer, the picture not the topology's channels, or the
    /// variant does not fit.
    pub fn new(
        gpu: &Gpu,
        raster: &Raster,
        topology: &Topology,
        scales: &[f32],
        variant: Variant,
    ) -> Result<Self, GpuError> {
        assert_eq!(scales.len(), topology.layers().count(), "a factor for each layer");
        assert_eq!(raster.channels(), topology.channels(), "the picture's channels");
        assert!(variant.fits(topology, gpu), "a variant that fits");
        let layout = variant.layout(topology);
        let bindings = bindings(
            gpu,
            &[
                (0, Access::Uniform),
                (1, Access::Read),
                (2, Access::Read),
                (3, Access::Read),
                (4, Access::Write),
                (5, Access::Write),
            ],
        );
        let kernel = variant.pipeline(gpu, &layout, "train", 0, &bindings)?;
        let sum = compile_sum(gpu)?;
        let words = picture_words(raster);
        let picture = gpu.buffer_of("the picture", &words, U::STORAGE)?;
        let weights =
            gpu.buffer("the weights", 16 * layout.length as u64, U::STORAGE | U::COPY_DST)?;
        let gradient_bytes = 16 * (layout.length as u64 + 1);
        let sums = gpu.buffer("the gradient", gradient_bytes, U::STORAGE | U::COPY_SRC)?;
        let readable = gpu.buffer("the gradient", gradient_bytes, U::MAP_READ | U::COPY_DST)?;
        Ok(Self {
            gpu: gpu.clone(),
            variant,
            layout,
            scales: scales.to_vec(),
            weight_count: topology.weight_count(),
            size: raster.size(),
            channels: topology.channels().count(),
            sixteen: matches!(raster.samples(), Samples::U16(_)),
            kernel,
            bindings,
            sum,
            weights,
            picture,
            sums,
            readable,
            plan: None,
            timer: None,
        })
    }

    /// From now on steps are timed on the GPU, where it can.
    ///
    /// # Errors
    /// [`GpuError::Failed`].
    pub fn time_passes(&mut self) -> Result<(), GpuError> {
        self.timer = Timer::new(&self.gpu, 2)?;
        Ok(())
    }

    /// Seconds that the GPU took for the last step's loss and gradient, and for summing up.
    ///
    /// # Errors
    /// [`GpuError::Failed`].
    pub fn pass_times(&self) -> Result<Option<[f64; 2]>, GpuError> {
        let Some(timer) = &self.timer else { return Ok(None) };
        let times = block_on(timer.read(&self.gpu))?;
        Ok(Some([times[0], times[1]]))
    }

    /// The loss of a batch and its gradient. `weights` holds for each layer `[W | b]` row by row,
    /// as [`FusedLoss`](siren_encoder::train::FusedLoss) has them.
    ///
    /// # Errors
    /// [`GpuError::Incomplete`], [`GpuError::TooLarge`] and [`GpuError::Failed`].
    ///
    /// # Panics
    /// If the network has not as many weights, or the batch has no pixels.
    fn compute(&mut self, weights: &[f32], batch: Batch) -> Result<Step, GpuError> {
        assert_eq!(weights.len(), self.weight_count, "as many weights as the topology has");
        let (points, all) = match batch {
            Batch::All => (self.size.pixels() as usize, true),
            Batch::Of(pixels) => (pixels.len(), false),
        };
        if !self.plan.as_ref().is_some_and(|plan| plan.points == points && plan.all == all) {
            // The old plan's buffers make room first.
            self.plan = None;
            self.plan = Some(self.plan(points, all)?);
        }
        let plan = self.plan.as_ref().expect("it was just made");
        let queue = &self.gpu.queue;
        queue.write_buffer(&self.weights, 0, &bytes_of(&self.packed(weights)));
        if let Batch::Of(pixels) = batch {
            let pairs = pixels.iter().map(|pixel| [pixel.number, pixel.weight.to_bits()]);
            let pairs: Vec<[u32; 2]> = pairs.collect();
            queue.write_buffer(&plan.batch, 0, &bytes_of(pairs.as_flattened()));
        }
        let encoder = || self.gpu.device.create_command_encoder(&Default::default());
        let mut commands = encoder();
        let parts = points.div_ceil(plan.each);
        for part in 0..parts {
            if part > 0 {
                queue.submit([mem::replace(&mut commands, encoder()).finish()]);
            }
            if parts > 1 {
                let first = part * plan.each;
                let words = [plan.each.min(points - first) as u32, first as u32];
                queue.write_buffer(&plan.parameters, 0, &bytes_of(&words));
            }
            let times = self.timer.as_ref().and_then(|timer| timer.part(0, part, parts));
            pass(&mut commands, [(&self.kernel, &plan.bound, plan.workgroups)], times);
        }
        let times = self.timer.as_ref().map(|timer| timer.pass(1));
        let columns = sum_workgroups(self.gradient_length());
        pass(&mut commands, [(&self.sum, &plan.bound_sum, columns)], times);
        let bytes = 16 * u64::from(self.gradient_length());
        commands.copy_buffer_to_buffer(&self.sums, 0, &self.readable, 0, bytes);
        if let Some(timer) = &self.timer {
            timer.resolve(&mut commands);
        }
        queue.submit([commands.finish()]);
        let sums = self.gpu.read(&self.readable, bytes, None, |bytes| floats(bytes).collect());
        let sums: Vec<f32> = block_on(sums)?;
        self.unpacked(&sums, points)
    }

    fn gradient_length(&self) -> u32 {
        // The last holds the error.
        self.layout.length as u32 + 1
    }

    fn plan(&self, points: usize, all: bool) -> Result<BatchBuffers, GpuError> {
        assert!(points > 0, "a batch has pixels");
        let Self { gpu, variant, layout, .. } = self;
        let pixels = u64::from(variant.pixels);
        let tiles = (points as u64).div_ceil(pixels);
        let tiles = gpu.tiles_of_dispatch(tiles, EVALUATIONS * layout.flops() * pixels);
        let of_gradient = 16 * u64::from(variant.splits * self.gradient_length());
        let scratch_length = variant.scratch_length(layout, true);
        let of_scratch = 16 * u64::from(scratch_length);
        let limits = gpu.device.limits();
        let most = MOST_BYTES.min(limits.max_storage_buffer_binding_size);
        let affordable = most / of_gradient.max(of_scratch);
        let most = affordable.min(variant.workgroups.into()).max(1);
        let invocations = (variant.invocations / variant.splits) as usize;
        let iterations = layout.iterations(invocations, variant.pixels as usize);
        let workgroups = gpu.workgroups(tiles, most, iterations);
        let gradients = u64::from(workgroups) * of_gradient;
        let gradients = gpu.buffer("the workgroups' gradients", gradients, U::STORAGE)?;
        let scratch = u64::from(workgroups) * of_scratch;
        let scratch = gpu.buffer("the workgroups' activations", scratch, U::STORAGE)?;
        let batch_bytes = if all { 8 } else { 8 * points as u64 };
        let batch = gpu.buffer("the batch", batch_bytes, U::STORAGE | U::COPY_DST)?;
        let header = Header {
            points: points as u32,
            first: 0,
            workgroups,
            size: self.size,
            channels: self.channels,
            sixteen: self.sixteen,
            all,
            layers: layout.layer_count(),
            gradient_length: self.gradient_length(),
            scratch_length,
        };
        let parameters = [&header.words()[..], &layout.table()].concat();
        let parameters = gpu.buffer_of("the parameters", &parameters, U::UNIFORM)?;
        let counts = [self.gradient_length(), workgroups * variant.splits, 0, 0];
        let counts = gpu.buffer_of("the counts", &counts, U::UNIFORM)?;
        let bound = bind(
            gpu,
            &self.bindings,
            &[
                (0, &parameters),
                (1, &self.weights),
                (2, &self.picture),
                (3, &batch),
                (4, &scratch),
                (5, &gradients),
            ],
        );
        let of_sum = self.sum.get_bind_group_layout(0);
        let bound_sum = bind(gpu, &of_sum, &[(0, &counts), (1, &gradients), (2, &self.sums)]);
        gpu.check()?;
        let each = (tiles * pixels) as usize;
        Ok(BatchBuffers { points, all, each, workgroups, parameters, batch, bound, bound_sum })
    }

    /// Weights as the kernels read them, factors folded in.
    fn packed(&self, weights: &[f32]) -> Vec<u32> {
        let mut packed = vec![0; 4 * self.layout.length];
        let mut weights = weights.iter();
        self.layout.each_weight(|layer, _, _, place| {
            let weight = weights.next().expect("as many weights as the layout has");
            packed[place] = (self.scales[layer] * weight).to_bits();
        });
        packed
    }

    fn unpacked(&self, sums: &[f32], points: usize) -> Result<Step, GpuError> {
        let (gradient, end) = sums.split_at(4 * self.layout.length);
        let error = counted_error(end, points)?;
        let mean = 1.0 / (points * self.channels) as f64;
        let factor = |scale: &f32| (2.0 * mean * f64::from(*scale)) as f32;
        let factors: Vec<f32> = self.scales.iter().map(factor).collect();
        let mut in_order = Vec::with_capacity(self.weight_count);
        self.layout.each_weight(|layer, _, _, place| {
            in_order.push(factors[layer] * gradient[place]);
        });
        Ok(Step { loss: mean * error, gradient: in_order })
    }
}

impl Stepper for Trainer {
    fn step(&mut self, weights: &[f32], batch: Batch) -> Result<Step, DeviceError> {
        Ok(self.compute(weights, batch)?)
    }
}

/// x of each column, y of each row, and the samples.
fn picture_words(raster: &Raster) -> Vec<u32> {
    let grid = PixelGrid::new(raster.size(), &View::default()).expect("a raster's own size");
    let mut words: Vec<u32> = axes(&grid).collect();
    let channels = raster.channels().count();
    match raster.samples() {
        Samples::U8(samples) => words.extend(samples.chunks_exact(channels).map(|pixel| {
            pixel.iter().rev().fold(0, |word, &sample| word << 8 | u32::from(sample))
        })),
        Samples::U16(samples) => words.extend(samples.chunks_exact(channels).flat_map(|pixel| {
            let at = |channel: usize| pixel.get(channel).copied().map_or(0, u32::from);
            [at(0) | at(1) << 16, at(2) | at(3) << 16]
        })),
    }
    words
}
