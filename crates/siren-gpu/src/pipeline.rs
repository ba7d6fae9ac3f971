//! Kernels, and what they are given: compilation, bindings, parameters, passes.

use super::{Gpu, GpuError};
use siren_image::Size;

/// Sine and cosine; the kernel's uniform `parameters` must have `nothing`, a `vec4u` of zeros.
pub(super) const SINE: &str = include_str!("shaders/sine.wgsl");
/// The pixels of a render, in the binding 6; `parameters` must have `points`, their number, and
/// the kernel the constant `FORMAT`.
pub(super) const EMIT: &str = include_str!("shaders/emit.wgsl");

/// Compiles an entry point.
pub(super) fn compile(
    gpu: &Gpu,
    source: String,
    entry_point: &'static str,
    bindings: Option<&wgpu::BindGroupLayout>,
) -> Result<wgpu::ComputePipeline, GpuError> {
    let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(entry_point),
        source: wgpu::ShaderSource::Wgsl(source.into()),
    });
    let layout = bindings.map(|bindings| {
        gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(bindings)],
            immediate_size: 0,
        })
    });
    let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(entry_point),
        layout: layout.as_ref(),
        module: &module,
        entry_point: Some(entry_point),
        compilation_options: wgpu::PipelineCompilationOptions {
            // The kernels write before they read.
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        },
        cache: None,
    });
    gpu.check()?;
    Ok(pipeline)
}

/// The layout of a kernel's bindings: for each number whether it is uniform, or else writable.
pub(super) fn bindings(gpu: &Gpu, all: &[(u32, Access)]) -> wgpu::BindGroupLayout {
    let entries: Vec<_> = all
        .iter()
        .map(|&(binding, access)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: match access {
                    Access::Uniform => wgpu::BufferBindingType::Uniform,
                    Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                    Access::Write => wgpu::BufferBindingType::Storage { read_only: false },
                },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
    gpu.device.create_bind_group_layout(&descriptor)
}

/// How a kernel sees a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Uniform,
    Read,
    Write,
}

/// Binds buffers to their numbers.
pub(super) fn bind(
    gpu: &Gpu,
    layout: &wgpu::BindGroupLayout,
    buffers: &[(u32, &wgpu::Buffer)],
) -> wgpu::BindGroup {
    let entries: Vec<_> = buffers
        .iter()
        .map(|&(binding, buffer)| wgpu::BindGroupEntry {
            binding,
            resource: buffer.as_entire_binding(),
        })
        .collect();
    gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout,
        entries: &entries,
    })
}

/// What the parameters of every kernel begin with; zeros where it has no use for them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    /// Pixels of the dispatch, and the first one's place among all.
    pub points: u32,
    pub first: u32,
    pub workgroups: u32,
    /// Size of the picture or the render.
    pub size: Size,
    pub channels: usize,
    /// Whether the picture's samples have 16 bits.
    pub sixteen: bool,
    /// Whether the pixels are all of the picture in order.
    pub all: bool,
    /// Layers, in the table that follows.
    pub layers: usize,
    /// `vec4f` of a gradient, and of scratch for a workgroup.
    pub gradient_length: u32,
    pub scratch_length: u32,
}

impl Header {
    /// The words, of which the last four are the zeros that sines need.
    pub fn words(&self) -> [u32; 16] {
        [
            self.points,
            self.first,
            self.workgroups,
            self.size.width,
            self.size.height,
            self.channels as u32,
            self.sixteen.into(),
            self.all.into(),
            self.layers as u32,
            self.gradient_length,
            self.scratch_length,
            0,
            0,
            0,
            0,
            0,
        ]
    }
}

/// Records a pass of a kernel with so many workgroups, or of several one after the other, and when
/// it begins and ends.
pub(super) fn pass<'a>(
    encoder: &mut wgpu::CommandEncoder,
    kernels: impl IntoIterator<Item = (&'a wgpu::ComputePipeline, &'a wgpu::BindGroup, u32)>,
    timestamp_writes: Option<wgpu::ComputePassTimestampWrites>,
) {
    let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
    let mut pass = encoder.begin_compute_pass(&descriptor);
    for (pipeline, bound, workgroups) in kernels {
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, bound, &[]);
        pass.dispatch_workgroups(workgroups, 1, 1);
    }
}
