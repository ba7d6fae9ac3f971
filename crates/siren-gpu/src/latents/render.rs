//! Renders of latents. Splines are summed at each pixel; waves, which take many latents, first along
//! the columns for all rows of a dispatch, then along the row at each pixel.

use wgpu::BufferUsages as U;

use super::super::pipeline::compile;
use super::super::render::{KernelParts, Parts, format, rows};
use super::super::{Gpu, GpuError, MOST_BYTES, Renderer};
use super::{
    INVOCATIONS, LevelTable, Network, PICTURE, Parameters, SUM_COLUMNS, Waves, places, source,
};
use siren_image::PixelGrid;
use siren_image::container::BitDepth;
use siren_image::latents::{Basis, Latents, Plane};
use siren_image::network::Layer;

/// Workgroups that share the pixels of a dispatch, at most.
const WORKGROUPS: u64 = 4224;

impl Renderer {
    /// Prepares renders of `grid` without the `left_out` finest planes, in samples of `depth`, or
    /// in values as they are. The planes in use must hold the grid's
    /// [`footprint`](Basis::footprint).
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
        let planes = &latents.planes()[left_out..];
        let network = Network::of_picture(planes.len(), latents.sines().outputs, channels);
        let packed = packed(&network, latents, left_out);
        let waves = Waves::of(planes);
        let (of_waves, of_splines) = planes.split_at(waves.planes);
        let pipeline = compile(gpu, source(&PICTURE, format(depth)), "render", None)?;

        let most_bytes = MOST_BYTES.min(gpu.buffer_limit(U::STORAGE));
        // Latents of the splines, then for each row of pixels so many sums along columns.
        let held: usize = of_splines.iter().map(|plane| plane.values().len()).sum();
        let sums: usize = of_waves.iter().map(|plane| plane.region().width).sum();
        let flops = network.flops() + waves.flops(sums.div_ceil(size.width as usize));
        let room = most_bytes.saturating_sub(4 * held as u64);
        let most = (room / (4 * sums.max(1) as u64)).max(1);
        let rows = u64::from(rows(gpu, size, flops)).min(most) as u32;
        let pixels = u64::from(rows) * u64::from(size.width);
        let of_workgroup = (16 * network.rows * INVOCATIONS) as u64;
        let most = (most_bytes / of_workgroup).clamp(1, WORKGROUPS);
        let tiles = pixels.div_ceil(INVOCATIONS as u64);
        let iterations = network.iterations() + waves.planes * (waves.across + 1);
        let workgroups = gpu.workgroups(tiles, most, iterations);

        gpu.check_size("the coordinates", waves.bytes(planes.len(), &grid), U::STORAGE)?;
        let places = picture_words(planes, waves, &grid);
        let places = gpu.buffer_of("the coordinates", &places, U::STORAGE)?;
        let weights = gpu.buffer_of("the weights", &packed, U::STORAGE)?;
        let bytes = 4 * (held as u64 + sums as u64 * u64::from(rows));
        let values = gpu.larger_buffer_of("the latents", &words(of_splines), bytes, U::STORAGE)?;
        let work = of_workgroup * u64::from(workgroups);
        let work = gpu.buffer("the workgroups' rows", work, U::STORAGE)?;
        let parameters = Parameters {
            workgroups,
            size: (size.width as usize, size.height as usize),
            channels,
            waves,
            levels: tables(planes, held, rows),
            ..Parameters::default()
        };
        let buffers = &[(1, &weights), (2, &places), (3, &values), (4, &work)];
        let picture = KernelParts { pipeline, workgroups, buffers };
        let parameters = parameters.words(&network);
        let of = |kernels| {
            Self::of_parts(gpu, Parts { kernels, parameters }, size, rows, channels, depth)
        };
        if waves.planes == 0 {
            return of(vec![picture]);
        }
        let latents = gpu.buffer_of("the latents", &words(of_waves), U::STORAGE)?;
        let items = sums as u64 * u64::from(rows);
        let most = gpu.device.limits().max_compute_workgroups_per_dimension;
        let columns = KernelParts {
            pipeline: compile(gpu, source(&SUM_COLUMNS, 0), "sum_columns", None)?,
            workgroups: items.div_ceil(INVOCATIONS as u64).min(most.into()) as u32,
            buffers: &[(2, &places), (3, &values), (5, &latents)],
        };
        of(vec![columns, picture])
    }
}

impl Waves {
    /// Those of some planes.
    fn of(planes: &[Plane]) -> Self {
        let is_wave = |plane: &&Plane| matches!(plane.basis(), Basis::Waves { .. });
        let count = planes.iter().take_while(is_wave).count();
        let Some(plane) = planes.first().filter(|_| count > 0) else { return Self::default() };
        let [across, down] =
            [plane.width(), plane.height()].map(|length| plane.basis().taps(length));
        Self { planes: count, across, down }
    }

    /// Floating-point operations at a pixel, which has so many sums along columns.
    fn flops(&self, sums: usize) -> u64 {
        (2 * (self.planes * self.across + sums * self.down)) as u64
    }

    /// Bytes of the places and weights of a grid, for `planes` planes in all.
    fn bytes(&self, planes: usize, grid: &PixelGrid) -> u64 {
        let along = |count: u32, weights| u64::from(count) * (2 * planes + weights) as u64;
        4 * (along(grid.size.width, self.across) + along(grid.size.height, self.down))
    }
}

/// The planes, with `held` latents of splines before the waves' sums of so many rows.
fn tables(planes: &[Plane], held: usize, rows: u32) -> Vec<LevelTable> {
    let (mut latents, mut sums) = (0, held);
    let table = |plane: &Plane| {
        let (width, height) = (plane.region().width, plane.region().height);
        let (end, count, number) = match plane.basis() {
            Basis::Waves { .. } => (&mut sums, rows as usize, 0),
            Basis::Splines { level } => (&mut latents, height, level),
        };
        let start = *end;
        *end += width * count;
        LevelTable { width, height, start, number, ..LevelTable::default() }
    };
    planes.iter().map(table).collect()
}

/// The latents that planes hold, one after the other.
fn words(planes: &[Plane]) -> Vec<u32> {
    let latents = planes.iter().flat_map(Plane::values);
    latents.map(|&latent| f32::from(latent).to_bits()).collect()
}

/// Places of the render's columns and of its rows in each plane, then the waves' weights.
fn picture_words(planes: &[Plane], waves: Waves, grid: &PixelGrid) -> Vec<u32> {
    let mut words = Vec::new();
    let across = || (0..grid.size.width).map(|column| grid.u(column));
    let down = || (0..grid.size.height).map(|row| grid.v(row));
    for plane in planes {
        words.extend(places(plane.basis(), plane.width(), plane.region().x, across()));
    }
    for plane in planes {
        words.extend(places(plane.basis(), plane.height(), plane.region().y, down()));
    }
    if waves.planes == 0 {
        return words;
    }
    let plane = &planes[0];
    let columns = weights(plane.basis(), plane.width(), across());
    // All columns' side by side for each latent.
    words.extend((0..waves.across).flat_map(|tap| columns.iter().skip(tap).step_by(waves.across)));
    words.extend(weights(plane.basis(), plane.height(), down()));
    words
}

/// Weights of the latents that positions along an axis take, position by position.
fn weights(basis: Basis, length: usize, positions: impl Iterator<Item = f64>) -> Vec<u32> {
    let mut weights = vec![0.0; basis.taps(length)];
    let mut words = Vec::new();
    for position in positions {
        basis.weights(length, position, &mut weights);
        words.extend(weights.iter().map(|&weight| (weight as f32).to_bits()));
    }
    words
}

/// The weights without those of the planes that are left out.
fn packed(network: &Network, latents: &Latents, left_out: usize) -> Vec<u32> {
    let rows = |layer: &Layer, sines: usize| -> Vec<f32> {
        let rows = layer.weights.chunks_exact(layer.inputs).zip(&layer.biases);
        let row = |(weights, &bias): (&[f32], &f32)| {
            let (of_sines, of_planes) = weights.split_at(sines);
            [of_sines, &of_planes[left_out..], &[bias]].concat()
        };
        rows.flat_map(row).collect()
    };
    let (first, last) = (latents.sines(), latents.output());
    network.packed(&[&rows(first, 0), &rows(last, first.outputs)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use siren_image::eval::LatentsEvaluator;
    use siren_image::latents::{Bases, Region};
    use siren_image::{Crop, Field, Render, Samples, Size, View};

    /// A function of unit scale with all its planes whole.
    fn random(
        size: Size,
        bases: Bases,
        sines: usize,
        channels: usize,
        rng: &mut impl Rng,
    ) -> Latents {
        let planes = bases.iter().map(|basis| {
            let mut plane = Plane::new(basis, size);
            let most = if matches!(basis, Basis::Waves { .. }) { 9 } else { 60 };
            plane.values_mut().iter_mut().for_each(|q| *q = rng.random_range(-most..=most));
            plane
        });
        let planes: Vec<Plane> = planes.collect();
        let mut layer = |inputs: usize, outputs: usize, bounds: &dyn Fn(usize) -> f32| Layer {
            inputs,
            outputs,
            weights: (0..inputs * outputs)
                .map(|i| bounds(i % inputs) * rng.random_range(-1.0..1.0))
                .collect(),
            biases: (0..outputs).map(|_| rng.random_range(-1.0..1.0)).collect(),
        };
        let first = layer(planes.len(), sines, &|_| 0.1);
        let mixed = 1.0 / (sines as f32).sqrt();
        let of_output = |i: usize| if i < sines { mixed } else { 5e-3 };
        let output = layer(sines + planes.len(), channels, &of_output);
        Latents::new(size, planes, first, output).unwrap()
    }

    /// The same without the `left_out` finest planes and what a grid does not take of the others.
    fn part(latents: &Latents, left_out: usize, grid: &PixelGrid) -> Latents {
        let u = grid.u(0)..=grid.u(grid.size.width - 1);
        let v = grid.v(0)..=grid.v(grid.size.height - 1);
        let planes = latents.planes().iter().enumerate().map(|(index, whole)| {
            let (basis, size) = (whole.basis(), latents.size());
            let footprint = basis.footprint(size, &u, &v);
            let region = if index < left_out { Region::default() } else { footprint };
            let Region { x, y, width, .. } = region;
            let mut plane = Plane::with_region(basis, size, region);
            for (i, latent) in plane.values_mut().iter_mut().enumerate() {
                *latent = whole.get_clamped((x + i % width) as i64, (y + i / width) as i64);
            }
            plane
        });
        let (sines, output) = (latents.sines().clone(), latents.output().clone());
        Latents::new(latents.size(), planes.collect(), sines, output).unwrap()
    }

    #[test]
    fn renders_are_those_of_the_definition() {
        let Some(gpu) = Gpu::for_tests() else { return };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let bases = |waves, cell, finest, levels| Bases::new(waves, cell, finest, levels).unwrap();
        let crop = View::default().crop(Crop { x: 3.3, y: 40.0, width: 21.0, height: 9.0 });
        let wide = View::exact(Size { width: 9, height: 3 });
        let (whole, enlarged, reduced) = (View::default(), View::scaled(3.3), View::scaled(0.37));
        let cases = [
            // Size, planes, sines, view, planes left out.
            ((97, 61), bases(0, 0, 0, 7), 32, whole, 0),
            ((97, 61), bases(0, 0, 2, 5), 13, reduced, 1),
            ((97, 61), bases(0, 0, 1, 3), 5, crop.scale(enlarged.scale), 0),
            ((97, 61), bases(1, 8, 2, 3), 13, whole, 0),
            ((97, 61), bases(2, 16, 1, 2), 9, crop.scale(enlarged.scale), 0),
            ((97, 61), bases(1, 32, 2, 2), 9, reduced, 0),
            ((97, 61), bases(4, 32, 0, 10), 32, whole, 0),
            ((40, 70), bases(3, 16, 2, 2), 9, enlarged, 2),
            ((5, 70), bases(3, 8, 0, 2), 9, whole, 3),
            ((1, 1), bases(2, 32, 0, 1), 3, wide, 1),
        ];
        for (case, (size, bases, sines, view, left_out)) in cases.into_iter().enumerate() {
            let size = Size { width: size.0, height: size.1 };
            let channels = 1 + case % 4;
            let latents = random(size, bases, sines, channels, &mut rng);
            let grid = PixelGrid::new(size, &view).unwrap();
            let part = part(&latents, left_out, &grid);
            let all = 0..grid.size.height;

            let renderer =
                |gpu: &Gpu, depth| Renderer::of_latents(gpu, &part, left_out, grid, depth).unwrap();
            let found = renderer(&gpu, None).values(all.clone()).unwrap();
            for (i, found) in found.chunks_exact(channels).enumerate() {
                let (column, row) = (i as u32 % grid.size.width, i as u32 / grid.size.width);
                for (jet, found) in part.evaluate(grid.u(column), grid.v(row)).iter().zip(found) {
                    let error = (f64::from(*found) - jet.value).abs();
                    assert!(error < 2e-5, "case {case}, {column} {row}: {error}");
                }
            }
            // A dispatch for each row, from a row within on.
            let few = gpu.clone().with_most_flops(1);
            let rows = all.end / 3..all.end;
            let start = rows.start as usize * grid.size.width as usize * channels;
            assert!(renderer(&few, None).values(rows).unwrap() == found[start..], "case {case}");

            let depth = BitDepth::Eight;
            let evaluator = LatentsEvaluator::new(part.clone(), left_out);
            let by_cpu = Render::of_latents(evaluator, grid, Field::Value, depth).raster();
            let by_gpu = renderer(&gpu, Some(depth)).samples(all).unwrap();
            let (Samples::U8(by_cpu), Samples::U8(by_gpu)) = (by_cpu.samples(), &by_gpu) else {
                panic!("8 bits")
            };
            assert!(by_cpu.iter().zip(by_gpu).all(|(a, b)| a.abs_diff(*b) <= 1), "case {case}");
        }
    }

    #[test]
    fn tables_that_are_too_large_are_told() {
        let Some(gpu) = Gpu::for_tests() else { return };
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let size = Size { width: 64, height: 1 };
        let latents = random(size, Bases::new(1, 32, 0, 1).unwrap(), 1, 1, &mut rng);
        let wide = View::exact(Size { width: 1 << 29, height: 1 });
        let grid = PixelGrid::new(size, &wide).unwrap();
        let refused = Renderer::of_latents(&gpu, &latents, 0, grid, None).unwrap_err();
        assert!(matches!(refused, GpuError::TooLarge { what: "the coordinates", .. }));
    }
}
