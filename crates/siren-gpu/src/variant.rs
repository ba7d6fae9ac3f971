//! How the kernels divide the work: constants in front of their source.

use super::layout::Layout;
use super::pipeline::{EMIT, SINE, compile};
use super::{Gpu, GpuError};
use siren_image::network::Topology;

/// What an invocation computes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// Four outputs of a layer for four pixels, activations in workgroup memory.
    Tiles,
    /// The same with activations in the device's memory: for layers of any width.
    WideTiles,
    /// All outputs of a layer for one pixel: for hidden layers of up to 32 features.
    Pixels,
}

/// A way of dividing the work. All of them compute the same but for rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// What an invocation computes at a time.
    pub kernel: Kernel,
    /// Invocations of a workgroup; as many as pixels of a tile for [`Kernel::Pixels`].
    pub invocations: u32,
    /// Pixels of a tile, a multiple of 16.
    pub pixels: u32,
    /// Parts of a tile whose weights' gradients different invocations sum.
    pub splits: u32,
    /// Eight pixels instead of four: for tiles.
    pub wide: bool,
    /// Each layer's weights are copied to workgroup memory.
    pub staged: bool,
    /// Workgroups at most.
    pub workgroups: u32,
}

/// Widest hidden layer in blocks for [`Kernel::Pixels`].
const MOST_BLOCKS: usize = 8;
/// Pixels of a batch from which on large tiles are faster.
const LARGE_BATCH: usize = 1 << 15;
/// Bytes of workgroup memory besides tiles, for each invocation.
const SUM_BYTES: u32 = 8;

impl Variant {
    /// Tiles of 32 pixels.
    pub const TILES: Self = Self {
        kernel: Kernel::Tiles,
        invocations: 64,
        pixels: 32,
        splits: 1,
        wide: false,
        staged: false,
        workgroups: 1584,
    };
    /// The same for layers of any width.
    pub const WIDE_TILES: Self = Self { kernel: Kernel::WideTiles, ..Self::TILES };
    /// One pixel an invocation.
    pub const PIXELS: Self =
        Self { kernel: Kernel::Pixels, invocations: 64, pixels: 64, staged: true, ..Self::TILES };

    /// What trains fastest of what works for a topology on a device, with so many pixels in a
    /// batch (measured on an NVIDIA H100).
    pub fn of_training(topology: &Topology, points: usize, gpu: &Gpu) -> Self {
        let layout = Layout::new(topology, false);
        let narrow = layout.widest <= MOST_BLOCKS;
        let large =
            Self { invocations: 256, pixels: 128, splits: 2, wide: true, ..Self::WIDE_TILES };
        let best = match (narrow, points >= LARGE_BATCH) {
            (true, _) => Self::TILES,
            (false, true) => large,
            (false, false) => Self { pixels: 16, ..Self::TILES },
        };
        Self::first(&[best, Self::TILES], topology, gpu)
    }

    /// What renders fastest of what works for a topology on a device.
    pub fn of_renders(topology: &Topology, gpu: &Gpu) -> Self {
        let pixels = Self { workgroups: 8448, ..Self::PIXELS };
        let tiles = Self { invocations: 128, pixels: 64, workgroups: 4224, ..Self::WIDE_TILES };
        // Software's compilers take minutes for the kernel of pixels.
        let all = [pixels, tiles];
        Self::first(if gpu.adapter.software { &all[1..] } else { &all }, topology, gpu)
    }

    fn first(all: &[Self], topology: &Topology, gpu: &Gpu) -> Self {
        let fitting = all.iter().copied().find(|variant| variant.fits(topology, gpu));
        fitting.unwrap_or(Self::WIDE_TILES)
    }

    /// Whether the kernels work for a topology on a device.
    pub fn fits(&self, topology: &Topology, gpu: &Gpu) -> bool {
        let limits = gpu.device.limits();
        let layout = self.layout(topology);
        let invocations = self.invocations
            <= limits
                .max_compute_invocations_per_workgroup
                .min(limits.max_compute_workgroup_size_x);
        let lengths = self.tile_length(&layout) + self.staged_length(&layout);
        let memory = 16 * lengths + SUM_BYTES * self.invocations;
        let narrow = self.kernel != Kernel::Pixels || layout.widest <= MOST_BLOCKS;
        invocations && narrow && memory <= limits.max_compute_workgroup_storage_size
    }

    pub(super) fn layout(&self, topology: &Topology) -> Layout {
        Layout::new(topology, self.kernel == Kernel::Pixels)
    }

    /// `vec4f` of workgroup memory for the activations of a tile.
    fn tile_length(&self, layout: &Layout) -> u32 {
        match self.kernel {
            Kernel::WideTiles => 1,
            _ => self.slots(layout),
        }
    }

    /// `vec4f` of workgroup memory for weights.
    fn staged_length(&self, layout: &Layout) -> u32 {
        if self.staged { layout.largest_layer() as u32 } else { 1 }
    }

    fn slots(&self, layout: &Layout) -> u32 {
        (2 * layout.widest as u32 + 1) * (self.pixels + 1)
    }

    /// `vec4f` of scratch that a workgroup needs.
    pub(super) fn scratch_length(&self, layout: &Layout, training: bool) -> u32 {
        let slots = if self.kernel == Kernel::WideTiles { self.slots(layout) } else { 0 };
        let kept = if training { layout.hidden as u32 * self.pixels } else { 0 };
        slots + kept
    }

    /// Compiles an entry point; `format` is that of a render's pixels.
    pub(super) fn pipeline(
        &self,
        gpu: &Gpu,
        layout: &Layout,
        entry_point: &'static str,
        format: u32,
        bindings: &wgpu::BindGroupLayout,
    ) -> Result<wgpu::ComputePipeline, GpuError> {
        let &Self { invocations, pixels, splits, wide, staged, .. } = self;
        let constants = format!(
            "const INVOCATIONS = {invocations}u;\n\
             const PIXELS = {pixels}u;\n\
             const GROUPS = {groups}u;\n\
             const SPLITS = {splits}u;\n\
             const BLOCKS = {blocks}u;\n\
             const SHARED = {shared};\n\
             const TILE_LENGTH = {tile}u;\n\
             const WIDE = {wide};\n\
             const STAGED = {staged};\n\
             const STAGED_LENGTH = {staged_length}u;\n\
             const FORMAT = {format}u;\n",
            groups = pixels / if wide { 8 } else { 4 },
            blocks = layout.widest,
            shared = self.kernel != Kernel::WideTiles,
            tile = self.tile_length(layout),
            staged_length = self.staged_length(layout),
        );
        let kernel = match self.kernel {
            Kernel::Pixels => include_str!("shaders/pixels.wgsl"),
            _ => include_str!("shaders/tiles.wgsl"),
        };
        let source = [&constants, SINE, EMIT, include_str!("shaders/common.wgsl"), kernel].concat();
        compile(gpu, source, entry_point, Some(bindings))
    }
}
