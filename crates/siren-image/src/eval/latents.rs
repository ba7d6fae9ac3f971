//! Evaluation of [`Latents`] along the rows of a render, values and derivatives, in f32.
//! Starts no threads and knows no samples.

use std::ops::Range;

use super::{BLOCK, JET_BLOCK};
use crate::geometry::Size;
use crate::latents::{Bases, Basis, Latents, Plane, Region, clamp};
use crate::network::Topology;
use siren_kernel::{
    self, Activation, Affine, LANES, Matrix, Simd,
    spline::{RUN, Run, Term},
};

/// Latents laid out for evaluation, by the best instruction set that this machine has.
#[derive(Debug, Clone)]
pub struct LatentsEvaluator {
    latents: Latents,
    /// The finest plane that is not left out.
    finest: usize,
    sines: Affine,
    output: Matrix,
    simd: Simd,
}

/// The columns of a render: where their latents lie and what these weigh.
#[derive(Debug, Clone)]
pub struct Columns {
    count: usize,
    jets: bool,
    /// Of each plane in use.
    planes: Vec<PlaneColumns>,
}

#[derive(Debug, Clone)]
struct PlaneColumns {
    basis: Basis,
    /// Latents that a point takes.
    taps: usize,
    /// The latents that are combined, as columns of the plane.
    latents: Range<usize>,
    /// Copies of the first and of the last of them that stand beyond the plane.
    beyond: (usize, usize),
    runs: Vec<Run>,
    /// Where the runs of each block of columns begin, and where the last ones end.
    blocks: Vec<usize>,
    /// For each order of derivative and each tap, a row of `stride` weights.
    weights: Vec<f32>,
    stride: usize,
}

/// Bytes of a render's columns, and of a thread's working memory.
pub(crate) struct RowMemory {
    pub columns: u64,
    pub row: u64,
}

/// Working memory of one thread, reused from row to row.
#[derive(Debug, Clone)]
pub struct RowScratch {
    /// For each plane, each order of derivative to v and each row of points, the latents combined.
    combined: Vec<Vec<f32>>,
    /// Weights of the rows of latents around a row of points.
    weights: Vec<f64>,
    /// Rows of a block of points: sines, sums of the planes.
    block: Vec<f32>,
    out: Vec<f32>,
}

impl LatentsEvaluator {
    /// Prepares `latents` for evaluation without the `left_out` finest planes, whose sums are
    /// taken as 0.
    ///
    /// # Panics
    /// If that leaves no plane.
    pub fn new(latents: Latents, left_out: usize) -> Self {
        Self::with_simd(latents, left_out, Simd::new())
    }

    pub(crate) fn with_simd(latents: Latents, left_out: usize, simd: Simd) -> Self {
        assert!(left_out < latents.planes().len(), "a plane is left");
        let (first, last) = (latents.sines(), latents.output());
        let planes = latents.planes().len() - left_out;
        let sines = Affine {
            matrix: Matrix::new(first.outputs, planes, |o, k| {
                first.weights[o * first.inputs + left_out + k]
            }),
            biases: first.biases.clone(),
        };
        let output = Matrix::new(last.outputs, first.outputs + planes, |o, k| {
            let skipped = if k < first.outputs { 0 } else { left_out };
            last.weights[o * last.inputs + skipped + k]
        });
        Self { latents, finest: left_out, sines, output, simd }
    }

    /// The function.
    pub fn latents(&self) -> &Latents {
        &self.latents
    }

    /// How many of the finest planes are left out.
    pub fn left_out(&self) -> usize {
        self.finest
    }

    /// Prepares for rows of points at the native pixel positions `u`, at most 2^31 in any
    /// order; `jets` tells whether derivatives are wanted. Takes up to 24 bytes a point and level
    /// of splines, 56 for jets, and for waves 8 times the pixels of a cell, 24 times for jets.
    ///
    /// # Panics
    /// If there is no point.
    pub fn columns(&self, u: &[f64], jets: bool) -> Columns {
        let block = if jets { JET_BLOCK } else { BLOCK };
        let orders = if jets { 3 } else { 1 };
        let planes = self.planes().map(|plane| PlaneColumns::new(u, plane, orders, block));
        Columns { count: u.len(), jets, planes: planes.collect() }
    }

    /// What [`LatentsEvaluator::columns`] takes for `points` points of a picture of `size`, and a
    /// thread for its rows: `needed` are the latents of the planes in use.
    pub(crate) fn memory(
        topology: &Topology,
        size: Size,
        needed: &[(Basis, Region)],
        points: u32,
        jets: bool,
    ) -> RowMemory {
        let bytes = size_of::<f32>() as u64;
        let orders = if jets { 3 } else { 1 };
        let stride = u64::from(points) + RUN as u64;
        // Weights of the taps, and runs as short as a point.
        let plane = |(basis, _): &(Basis, Region)| {
            let taps = basis.taps(basis.length(size.width)) as u64;
            stride * (taps * orders * bytes + size_of::<Run>() as u64)
        };
        let columns = stride * size_of::<f64>() as u64 + needed.iter().map(plane).sum::<u64>();
        let together = rows_together(points as usize, jets) as u64;
        let width = |(_, region): &(Basis, Region)| together * (region.width as u64 + 4);
        let combined: u64 = needed.iter().map(width).sum();
        let rows = (topology.hidden()[0] + needed.len() + topology.channels().count()) as u64;
        RowMemory { columns, row: bytes * (orders * combined + rows * BLOCK as u64) }
    }

    /// Operations at a point, each a multiplication with an addition: neighbours in a row, and
    /// of each of these once those in its column, which the points of the row share.
    pub(crate) fn sums(bases: Bases, size: Size) -> u64 {
        let axis = |basis: Basis, native| basis.taps(basis.length(native)) as u64;
        bases.iter().map(|basis| axis(basis, size.width) + axis(basis, size.height)).sum()
    }

    /// Operations of so many rows for the columns of latents that lie between points far apart: those
    /// of more than two a point, which [`LatentsEvaluator::sums`] does not count.
    pub(crate) fn between(size: Size, needed: &[(Basis, Region)], points: u32, rows: u64) -> u64 {
        let columns = |(basis, region): &(Basis, Region)| {
            let beyond = (region.width as u64).saturating_sub(2 * u64::from(points));
            basis.taps(basis.length(size.height)) as u64 * beyond
        };
        rows.saturating_mul(needed.iter().map(columns).sum())
    }

    /// Working memory for one thread.
    pub fn scratch(&self, columns: &Columns) -> RowScratch {
        let orders = if columns.jets { 3 } else { 1 };
        let together = columns.rows_together();
        let combined = columns
            .planes
            .iter()
            .flat_map(|plane| std::iter::repeat_n(vec![0.0; together * plane.width()], orders));
        let outputs = self.latents.output().outputs;
        let rows = self.latents.sines().outputs + columns.planes.len();
        let taps = self.planes().map(|plane| plane.basis().taps(plane.height())).max();
        RowScratch {
            combined: combined.collect(),
            weights: vec![0.0; orders * taps.expect("a plane")],
            block: vec![0.0; rows * BLOCK + RUN],
            out: vec![0.0; outputs * BLOCK],
        }
    }

    /// Evaluates the points of some rows, at most [`Columns::rows_together`], at the native pixel
    /// positions `v`, block by block.
    ///
    /// `each` receives the points of a block, counted row by row, the length of its rows, at least
    /// as many numbers, and the rows: for each channel one of values, or for jets those of value,
    /// derivative to u, derivative to v, and Laplacian, per native pixel. The result at a
    /// point depends on that point alone, not on its place in a block.
    ///
    /// # Panics
    /// If these are too many rows, a plane in use does not hold their footprint, or `columns` and
    /// `scratch` are not of this evaluator.
    pub fn rows(
        &self,
        columns: &Columns,
        v: &[f64],
        scratch: &mut RowScratch,
        mut each: impl FnMut(Range<usize>, usize, &[f32]),
    ) {
        assert!(v.len() <= columns.rows_together(), "rows that go together");
        let RowScratch { combined, weights, block, out } = scratch;
        let orders = if columns.jets { 3 } else { 1 };
        let rows = combined.chunks_exact_mut(orders);
        for ((plane, columns), combined) in self.planes().zip(&columns.planes).zip(rows) {
            let taps = columns.basis.taps(plane.height());
            let weights = &mut weights[..orders * taps];
            for (row, &v) in v.iter().enumerate() {
                columns.basis.weights(plane.height(), v, weights);
                let first = columns.basis.first(plane.height(), v);
                self.combine(plane, columns, (first, weights), row, combined);
            }
        }
        let (size, parts) = if columns.jets { (JET_BLOCK, 4) } else { (BLOCK, 1) };
        let (first, last) = (self.latents.sines(), self.latents.output());
        for (index, start) in (0..columns.count).step_by(size).enumerate() {
            let end = (start + size).min(columns.count);
            // All rows where they go together, else the one.
            let end = start + (end - start) * v.len();
            let points = (end - start).next_multiple_of(LANES);
            let stride = parts * points;
            let (sines, sums) = block.split_at_mut(first.outputs * stride);
            for (plane, columns) in columns.planes.iter().enumerate() {
                let runs = columns.runs(index);
                let combined = &combined[plane * orders..][..orders];
                let rows = CombinedRows { columns, runs, combined, count: v.len() };
                rows.interpolate(self.simd, points, &mut sums[plane * stride..]);
            }
            let sums = &sums[..columns.planes.len() * stride];
            let out = &mut out[..last.outputs * stride];
            if columns.jets {
                self.sines.matrix.product(self.simd, sums, sines);
                siren_kernel::sine_of_jets(self.simd, &first.biases, points, sines);
            } else {
                self.sines.layer(self.simd, Activation::Sine, sums, sines);
            }
            let h = &block[..(first.outputs + columns.planes.len()) * stride];
            self.output.product(self.simd, h, out);
            for (rows, bias) in out.chunks_exact_mut(stride).zip(&last.biases) {
                rows[..points].iter_mut().for_each(|value| *value += bias);
            }
            each(start..end, points, out);
        }
    }

    /// The planes in use.
    fn planes(&self) -> impl Iterator<Item = &Plane> {
        self.latents.planes().iter().skip(self.finest)
    }

    /// Combines the rows of latents around row `row` of the points, from row `first` of the plane
    /// on, once for each order of their weights.
    fn combine(
        &self,
        plane: &Plane,
        columns: &PlaneColumns,
        (first, weights): (i64, &[f64]),
        row: usize,
        combined: &mut [Vec<f32>],
    ) {
        let (left, right) = columns.beyond;
        let from = columns.latents.start - plane.region().x;
        let latents = |tap: usize| {
            let row = plane.row(clamp(first + tap as i64, plane.height()));
            &row[from..from + columns.latents.len()]
        };
        let taps = weights.len() / combined.len();
        for (weights, rows) in weights.chunks_exact(taps).zip(combined) {
            let row = &mut rows[row * columns.width()..][..columns.width()];
            let end = row.len() - right;
            let out = &mut row[left..end];
            match columns.basis {
                Basis::Splines { .. } => {
                    let weights = std::array::from_fn(|tap| weights[tap] as f32);
                    let rows = std::array::from_fn(latents);
                    siren_kernel::spline::combine(self.simd, &weights, &rows, out);
                }
                Basis::Waves { .. } => {
                    out.fill(0.0);
                    for (tap, &weight) in weights.iter().enumerate() {
                        let latents = latents(tap);
                        // Of upper frequencies there is often none.
                        if latents.iter().any(|&latent| latent != 0) {
                            siren_kernel::spline::add(self.simd, weight as f32, latents, out);
                        }
                    }
                }
            }
            let (first, last) = (row[left], row[end - 1]);
            row[..left].fill(first);
            row[end..].fill(last);
        }
    }
}

/// How many rows of `points` points are evaluated together: so many that they fill a block.
fn rows_together(points: usize, jets: bool) -> usize {
    let block = if jets { JET_BLOCK } else { BLOCK };
    (block / points).max(1)
}

impl Columns {
    /// How many rows are evaluated together; one, unless rows are short.
    pub fn rows_together(&self) -> usize {
        rows_together(self.count, self.jets)
    }
}

impl PlaneColumns {
    fn new(u: &[f64], plane: &Plane, orders: usize, block: usize) -> Self {
        let (basis, length) = (plane.basis(), plane.width());
        let (taps, stride) = (basis.taps(length), u.len() + RUN);
        let mut weights = vec![0.0; taps * orders * stride];
        let mut of_point = vec![0.0; taps * orders];
        let mut firsts = Vec::with_capacity(u.len());
        for (column, &u) in u.iter().enumerate() {
            basis.weights(length, u, &mut of_point);
            firsts.push(basis.first(length, u));
            for (row, weight) in of_point.iter().enumerate() {
                weights[row * stride + column] = *weight as f32;
            }
        }
        let start = *firsts.iter().min().expect("a point");
        let last = firsts.iter().max().expect("a point") + taps as i64 - 1;
        let latents = clamp(start, length)..clamp(last, length) + 1;
        let left = latents.start as i64 - start;
        let right = last + 1 - latents.end as i64;
        let mut runs: Vec<Run> = Vec::new();
        let mut blocks = Vec::new();
        for (column, first) in firsts.iter().enumerate() {
            let tap = (first - start) as u32;
            let is_block = column.is_multiple_of(block);
            if is_block {
                blocks.push(runs.len());
            }
            let goes_on = |run: &Run| run.tap == tap && column - (run.point as usize) < RUN;
            if is_block || !runs.last().is_some_and(goes_on) {
                runs.push(Run { point: column as u32, tap });
            }
        }
        blocks.push(runs.len());
        let beyond = (left as usize, right as usize);
        Self { basis, taps, latents, beyond, runs, blocks, weights, stride }
    }

    fn count(&self) -> usize {
        self.stride - RUN
    }

    /// Latents of a row with the copies beyond the plane.
    fn width(&self) -> usize {
        self.beyond.0 + self.latents.len() + self.beyond.1
    }

    /// The runs of a block of columns.
    fn runs(&self, block: usize) -> &[Run] {
        &self.runs[self.blocks[block]..self.blocks[block + 1]]
    }
}

/// Rows of a plane's latents, combined once for each order of derivative, at the columns of a block.
#[derive(Clone, Copy)]
struct CombinedRows<'a> {
    columns: &'a PlaneColumns,
    runs: &'a [Run],
    /// For each order, as many rows as `count` says.
    combined: &'a [Vec<f32>],
    count: usize,
}

impl CombinedRows<'_> {
    /// The sums, of each row: `points` values, or as many of each part of a jet.
    fn interpolate(self, simd: Simd, points: usize, out: &mut [f32]) {
        // In this order: what is written too much of a row or part is the next one's.
        self.part(simd, [(0, 0)], out);
        if self.combined.len() > 1 {
            self.part(simd, [(1, 0)], &mut out[points..]);
            self.part(simd, [(0, 1)], &mut out[2 * points..]);
            self.part(simd, [(2, 0), (0, 2)], &mut out[3 * points..]);
        }
    }

    /// A part of the sums: the sum of those of some orders of derivative to u and v.
    fn part<const N: usize>(self, simd: Simd, orders: [(usize, usize); N], out: &mut [f32]) {
        let Self { columns, runs, combined, count } = self;
        let (width, stride) = (columns.width(), columns.stride);
        let order = columns.taps * stride;
        let mut terms = orders.map(|(dx, _)| Term {
            weights: &columns.weights[dx * order..][..order],
            stride,
            row: &[][..],
        });
        for row in 0..count {
            for (term, (_, dy)) in terms.iter_mut().zip(orders) {
                term.row = &combined[dy][row * width..][..width];
            }
            siren_kernel::spline::interpolate(
                simd,
                runs,
                &terms,
                &mut out[row * columns.count()..],
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{Crop, PixelGrid, Scale, Size};
    use crate::latents;
    use crate::latents::tests::bases;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use siren_kernel::instruction_sets;

    /// The numbers of a row of points, part by part, each of `u.len()` numbers.
    fn row(evaluator: &LatentsEvaluator, u: &[f64], v: f64, jets: bool) -> Vec<Vec<f32>> {
        let columns = evaluator.columns(u, jets);
        let mut scratch = evaluator.scratch(&columns);
        let mut parts = vec![];
        // The second time the scratch is not fresh.
        for v in [v + 0.7, v] {
            parts = vec![vec![]; evaluator.latents().channels().count() * if jets { 4 } else { 1 }];
            evaluator.rows(&columns, &[v], &mut scratch, |columns, length, rows| {
                assert_eq!(columns.start, parts[0].len());
                for (part, row) in parts.iter_mut().zip(rows.chunks_exact(length)) {
                    part.extend_from_slice(&row[..columns.len()]);
                }
            });
        }
        parts
    }

    /// Without a level is as if its latents were 0.
    fn without(latents: &Latents, left_out: usize) -> Latents {
        let mut planes = latents.planes().to_vec();
        planes[..left_out].iter_mut().for_each(|plane| plane.values_mut().fill(0));
        Latents::new(latents.size(), planes, latents.sines().clone(), latents.output().clone())
            .unwrap()
    }

    #[test]
    fn every_instruction_set_agrees_with_the_definition() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let crop = Some(Crop { x: 3.3, y: 40.0, width: 21.0, height: 9.0 });
        let shapes = [
            // Size, planes, sines, crop, scale, planes left out.
            ((97, 61), bases(0, 0, 0, 7), 32, None, Scale::Native, 0),
            ((97, 61), bases(0, 0, 0, 6), 13, None, Scale::Factor(0.37), 1),
            ((97, 61), bases(0, 0, 0, 5), 20, None, Scale::Factor(3.3), 0),
            ((97, 61), bases(0, 0, 1, 4), 7, crop, Scale::Factor(3.3), 2),
            ((300, 50), bases(0, 0, 0, 3), 1, None, Scale::Native, 0),
            ((1, 70), bases(0, 0, 0, 1), 5, None, Scale::Native, 0),
            ((1, 1), bases(0, 0, 0, 10), 65, None, Scale::Exact(Size { width: 9, height: 3 }), 0),
            ((97, 61), bases(1, 16, 2, 3), 13, None, Scale::Native, 0),
            ((97, 61), bases(2, 8, 1, 2), 9, crop, Scale::Factor(3.3), 0),
            ((97, 61), bases(1, 32, 2, 2), 9, None, Scale::Factor(0.37), 0),
            ((5, 70), bases(3, 8, 0, 2), 9, None, Scale::Native, 1),
        ];
        for (index, (size, bases, sines, crop, scale, left_out)) in shapes.into_iter().enumerate() {
            let size = Size { width: size.0, height: size.1 };
            let channels = 1 + index % 4;
            let latents = latents::tests::random(size, bases, sines, channels, &mut rng);
            let reference = without(&latents, left_out);
            let view = PixelGrid::of(size, crop, scale).unwrap();
            let u: Vec<f64> = (0..view.size.width).map(|column| view.u(column)).collect();
            let rows = [0, view.size.height / 3, view.size.height - 1];
            for simd in instruction_sets() {
                let evaluator = LatentsEvaluator::with_simd(latents.clone(), left_out, simd);
                for v in rows.map(|row| view.v(row)) {
                    let values = row(&evaluator, &u, v, false);
                    let jets = row(&evaluator, &u, v, true);
                    for (i, &u) in u.iter().enumerate() {
                        for (channel, jet) in reference.evaluate(u, v).iter().enumerate() {
                            let close = |found: f32, wanted: f64, scale: f64| {
                                let error = (f64::from(found) - wanted).abs() / scale;
                                assert!(error < 2e-5, "{simd:?} {index} {u} {v}: {error}");
                            };
                            close(values[channel][i], jet.value, 1.0);
                            close(jets[4 * channel][i], jet.value, 1.0);
                            let slope = 1.0 + jet.dx.hypot(jet.dy);
                            close(jets[4 * channel + 1][i], jet.dx, slope);
                            close(jets[4 * channel + 2][i], jet.dy, slope);
                            close(jets[4 * channel + 3][i], jet.laplacian, slope * slope);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_point_does_not_depend_on_its_place() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let size = Size { width: 90, height: 40 };
        let latents = latents::tests::random(size, bases(1, 8, 0, 5), 17, 3, &mut rng);
        // Beyond the picture too.
        let mut u: Vec<f64> = (0..700).map(|i| f64::from(i) * 0.15 - 7.0).collect();
        let v = 17.3;
        for simd in instruction_sets() {
            let evaluator = LatentsEvaluator::with_simd(latents.clone(), 0, simd);
            for jets in [false, true] {
                let ordered = row(&evaluator, &u, v, jets);
                u.reverse();
                let reversed = row(&evaluator, &u, v, jets);
                u.reverse();
                for (row, reversed) in ordered.iter().zip(&reversed) {
                    assert!(row.iter().eq(reversed.iter().rev()), "{simd:?}");
                }
                for at in [0, 3, 299, 699] {
                    let alone = row(&evaluator, &u[at..at + 1], v, jets);
                    assert!(ordered.iter().zip(&alone).all(|(row, alone)| row[at] == alone[0]));
                }
            }
        }
    }

    #[test]
    fn rows_that_go_together_are_what_each_is_alone() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let size = Size { width: 70, height: 300 };
        let latents = latents::tests::random(size, bases(1, 16, 0, 4), 9, 2, &mut rng);
        for simd in instruction_sets() {
            let evaluator = LatentsEvaluator::with_simd(latents.clone(), 0, simd);
            for (width, jets) in
                [1, 3, 8, 64, 70, 256, 300].map(|w| [(w, false), (w, true)]).concat()
            {
                let u: Vec<f64> = (0..width).map(|i| f64::from(i) * 0.9 + 0.5).collect();
                let columns = evaluator.columns(&u, jets);
                let v: Vec<f64> = (0..columns.rows_together()).map(|i| i as f64 + 0.5).collect();
                let mut scratch = evaluator.scratch(&columns);
                let mut together = vec![vec![]; if jets { 8 } else { 2 }];
                evaluator.rows(&columns, &v, &mut scratch, |points, length, rows| {
                    for (part, row) in together.iter_mut().zip(rows.chunks_exact(length)) {
                        part.extend_from_slice(&row[..points.len()]);
                    }
                });
                let mut alone = vec![vec![]; together.len()];
                for &v in &v {
                    for (part, row) in alone.iter_mut().zip(row(&evaluator, &u, v, jets)) {
                        part.extend(row);
                    }
                }
                assert!(together == alone, "{simd:?}: {width}, {jets}");
            }
        }
    }

    #[test]
    fn a_region_of_the_footprint_suffices() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let size = Size { width: 90, height: 40 };
        let whole = latents::tests::random(size, bases(2, 8, 1, 4), 17, 2, &mut rng);
        let u: Vec<f64> = (0..40).map(|_| rng.random_range(21.0..70.0)).collect();
        let (low, high) = u.iter().fold((90.0f64, 0.0f64), |(l, h), &u| (l.min(u), h.max(u)));
        let part = |(index, plane): (usize, &Plane)| {
            if index == 0 {
                return Plane::with_region(plane.basis(), size, Region::default());
            }
            let r = plane.basis().footprint(size, &(low..=high), &(8.0..=8.7));
            let mut part = Plane::with_region(plane.basis(), size, r);
            for (i, q) in part.values_mut().iter_mut().enumerate() {
                *q = plane.get_clamped((r.x + i % r.width) as i64, (r.y + i / r.width) as i64);
            }
            part
        };
        let planes = whole.planes().iter().enumerate().map(part).collect();
        let (sines, output) = (whole.sines().clone(), whole.output().clone());
        let partial = LatentsEvaluator::new(Latents::new(size, planes, sines, output).unwrap(), 1);
        let whole = LatentsEvaluator::new(whole, 1);
        let columns = partial.columns(&u, true);
        let mut scratch = partial.scratch(&columns);
        partial.rows(&columns, &[8.0], &mut scratch, |_, length, rows| {
            for (part, row_of_whole) in rows.chunks_exact(length).zip(row(&whole, &u, 8.0, true)) {
                assert_eq!(part[..u.len()], row_of_whole);
            }
        });
    }
}
