//! Renders of latents.

use wgpu::BufferUsages as U;

use super::super::pipeline::compile;
use super::super::render::{Parts, format, rows};
use super::super::{Gpu, GpuError, MOST_BYTES, Renderer};
use super::{INVOCATIONS, LevelTable, Network, PICTURE, Parameters, places, source};
use siren_image::PixelGrid;
use siren_image::container::BitDepth;
use siren_image::latents::Latents;
use siren_image::network::Layer;

/// Workgroups that share the pixels of a dispatch, at most.
const WORKGROUPS: u64 = 4224;

impl Renderer {
    /// Prepares renders of `grid` without the `left_out` finest levels, in samples of `depth`, or
    /// in values as they are. The planes in use must hold the grid's
    /// [`footprint`](siren_image::latents::footprint).
    ///
    /// # Errors
    /// [`GpuError::TooLarge`], [`GpuError::Unsupported`] and [`GpuError::Failed`].
    pub fn of_latents(
        gpu: &Gpu,
        latents: &Latents,
        left_out: usize,
        grid: PixelGrid,
        depth: Option<BitDepth>,
    ) -> Result<Self, GpuError> {
        let (size, channels) = (grid.size, latents.channels().count());
        let Planes { levels, places, values } = Planes::new(latents, left_out, &grid);
        let network = Network::of_picture(levels.len(), latents.sines().outputs, channels);
        let packed = packed(&network, latents, left_out);

        let pipeline = compile(gpu, source(&PICTURE, format(depth)), "render", None)?;
        let rows = rows(gpu, size, network.flops());
        let pixels = u64::from(rows) * u64::from(size.width);
        let of_workgroup = (16 * network.rows * INVOCATIONS) as u64;
        let most = (MOST_BYTES / of_workgroup).clamp(1, WORKGROUPS);
        let tiles = pixels.div_ceil(INVOCATIONS as u64);
        let workgroups = gpu.workgroups(tiles, most, network.iterations());
        let parameters = Parameters {
            workgroups,
            size: (size.width as usize, size.height as usize),
            channels,
            levels,
            ..Parameters::default()
        };
        let weights = gpu.buffer_of("the weights", &packed, U::STORAGE)?;
        let places = gpu.buffer_of("the coordinates", &places, U::STORAGE)?;
        let values = gpu.buffer_of("the latents", &values, U::STORAGE)?;
        let work = of_workgroup * u64::from(workgroups);
        let work = gpu.buffer("the workgroups' rows", work, U::STORAGE)?;
        let parts = Parts {
            pipeline,
            workgroups,
            parameters: parameters.words(&network),
            buffers: &[(1, &weights), (2, &places), (3, &values), (4, &work)],
        };
        Self::of_parts(gpu, parts, size, rows, channels, depth)
    }
}

/// The planes in use as the kernel reads them.
struct Planes {
    levels: Vec<LevelTable>,
    /// Places of the render's columns and of its rows in each.
    places: Vec<u32>,
    values: Vec<u32>,
}

impl Planes {
    fn new(latents: &Latents, left_out: usize, grid: &PixelGrid) -> Self {
        let planes = || latents.planes().iter().enumerate().skip(left_out);
        let (mut levels, mut start) = (Vec::new(), 0);
        let (mut words, mut values) = (Vec::new(), Vec::new());
        for (number, plane) in planes() {
            let region = plane.region();
            let (width, height) = (region.width, region.height);
            levels.push(LevelTable { width, height, start, number, ..LevelTable::default() });
            start += width * height;
            values.extend(plane.values().iter().map(|&q| f32::from(q).to_bits()));
            let columns = (0..grid.size.width).map(|i| grid.u(i));
            words.extend(places(number, plane.width(), region.x, columns));
        }
        for (number, plane) in planes() {
            let down = (0..grid.size.height).map(|j| grid.v(j));
            words.extend(places(number, plane.height(), plane.region().y, down));
        }
        Self { levels, places: words, values }
    }
}

/// The weights without those of the levels that are left out.
fn packed(network: &Network, latents: &Latents, left_out: usize) -> Vec<u32> {
    let rows = |layer: &Layer, sines: usize| -> Vec<f32> {
        let rows = layer.weights.chunks_exact(layer.inputs).zip(&layer.biases);
        let row = |(weights, &bias): (&[f32], &f32)| {
            let (of_sines, of_levels) = weights.split_at(sines);
            [of_sines, &of_levels[left_out..], &[bias]].concat()
        };
        rows.flat_map(row).collect()
    };
    let (first, last) = (latents.sines(), latents.output());
    network.packed(&[&rows(first, 0), &rows(last, first.outputs)])
}
