//! The rate of the latents of splines under their entropy model, in real arithmetic, and its
//! gradients: a tile line after line, forward and back. The integer form that a decoder runs is
//! `coding::latents`; knows no pictures and no optimizer.

use std::ops::Range;

use siren_kernel::{Activation, Affine, LANES, Matrix, Simd, add_outer};

use super::lines::{self, Lines};
use siren_image::coding::latents::{COARSE, INPUTS, NEIGHBOURS, TILE, tiles};
use siren_image::coding::payload::{Hidden, splines_shape, waves_shape};
use siren_image::latents::Region;
use siren_kernel::training;

/// Columns and rows around a tile that its neighbours reach.
const MARGIN: usize = 3;

/// Sizes of an entropy model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextShape {
    pub inputs: usize,
    pub hidden: [usize; 2],
    pub outputs: usize,
}

impl ContextShape {
    /// Those of splines and, where there are any, of waves.
    pub fn all(hidden: Hidden) -> Vec<Self> {
        let shape =
            |[inputs, h1, h2, outputs]: [usize; 4]| Self { inputs, hidden: [h1, h2], outputs };
        let splines = shape(splines_shape(hidden.splines));
        let waves = hidden.waves.map(|hidden| shape(waves_shape(hidden)));
        [splines].into_iter().chain(waves).collect()
    }

    /// Inputs and outputs of each layer.
    pub fn layers(self) -> [(usize, usize); 3] {
        let [a, b] = self.hidden;
        [(self.inputs, a), (a, b), (b, self.outputs)]
    }

    /// Numbers of each layer: rows of weights and a bias.
    pub fn lens(self) -> [usize; 3] {
        self.layers().map(|(inputs, outputs)| outputs * (inputs + 1))
    }
}

/// The weights as the kernels read them.
pub struct PackedContext {
    shape: ContextShape,
    forward: [Affine; 3],
    backward: [Matrix; 3],
}

impl PackedContext {
    /// `layers` hold rows of weights and a bias.
    pub fn new(shape: ContextShape, layers: &[Vec<f32>; 3]) -> Self {
        let sizes = shape.layers();
        let at = |l: usize, o: usize, k: usize| layers[l][o * (sizes[l].0 + 1) + k];
        let build = |l: usize| Affine::new(sizes[l].1, sizes[l].0, |o, k| at(l, o, k));
        let back = |l: usize| Matrix::new(sizes[l].0, sizes[l].1, |k, o| at(l, o, k));
        Self { shape, forward: [0, 1, 2].map(build), backward: [0, 1, 2].map(back) }
    }

    /// The sizes.
    pub fn shape(&self) -> ContextShape {
        self.shape
    }

    /// From the inputs to the outputs.
    pub fn forward(&self, simd: Simd, scratch: &mut ContextScratch) {
        let ContextScratch { h, slope, out, .. } = scratch;
        let points = out.len() / self.shape.outputs;
        for l in 0..2 {
            let (inputs, outputs) = self.shape.layers()[l];
            let (before, after) = h.split_at_mut(l + 1);
            let (from, to) = (&before[l][..inputs * points], &mut after[0][..outputs * points]);
            self.forward[l].layer_with_slope(simd, Activation::Relu, from, to, &mut slope[l]);
        }
        let from = &h[2][..self.shape.hidden[1] * points];
        self.forward[2].layer(simd, Activation::Identity, from, out);
    }

    /// From the derivatives by the outputs to those by the weights and, if `by_inputs`, by the
    /// inputs.
    pub fn back(
        &self,
        simd: Simd,
        by_inputs: bool,
        sums: Option<&mut [Vec<f32>; 3]>,
        scratch: &mut ContextScratch,
    ) {
        let ContextShape { inputs, hidden: [h1, h2], outputs } = self.shape;
        let ContextScratch { h, slope, out, delta: [first, second], by_input, .. } = scratch;
        self.backward[2].product_times(simd, out, &slope[1], second);
        self.backward[1].product_times(simd, second, &slope[0], first);
        if let Some([g1, g2, g3]) = sums {
            add_outer(simd, out, outputs, &h[2], h2 + 1, g3);
            add_outer(simd, second, h2, &h[1], h1 + 1, g2);
            add_outer(simd, first, h1, &h[0], inputs + 1, g1);
        }
        if by_inputs {
            self.backward[0].product(simd, first, by_input);
        }
    }
}

/// Some rows of a tile: what is worked on at a time.
#[derive(Debug, Clone, Copy)]
pub struct Band {
    tile: Region,
    /// Rows from the tile's first.
    first: usize,
    rows: usize,
    lines: Lines,
}

/// Most rows of a band as wide as a tile; those of a narrow level are so many times as high.
const BAND: usize = 64;

/// The bands of a level, tile by tile.
pub fn bands(width: usize, height: usize) -> Vec<Band> {
    let most = TILE / width.clamp(BAND, TILE) * BAND;
    let bands = |tile: Region| {
        let band = move |first| {
            let rows = most.min(tile.height - first);
            Band { tile, first, rows, lines: Lines::of(tile.width, rows) }
        };
        (0..tile.height).step_by(most).map(band)
    };
    tiles(width, height).flat_map(bands).collect()
}

/// Latents of a level.
#[derive(Clone, Copy)]
pub struct Plane<'a> {
    pub width: usize,
    pub height: usize,
    pub values: &'a [f32],
}

/// What a band gives back.
#[derive(Debug, Default)]
pub struct BandResult {
    pub bits: f64,
    /// Gradients of the bits by the latents of this level and of the coarser one that the band
    /// looks at; none if not asked for.
    pub gradients: Vec<(Region, Vec<f32>)>,
    /// What each latent's own bits change by one step towards 0, less what their derivative
    /// says; empty if not asked for.
    pub bends: Vec<f32>,
}

impl Band {
    /// The latents of the band in their level.
    pub fn region(&self) -> Region {
        let Self { tile, first, rows, .. } = *self;
        Region { x: tile.x, y: tile.y + first, width: tile.width, height: rows }
    }
}

impl BandResult {
    /// Adds `factor` times gradient number `index` to that of a whole level.
    pub fn add_to(&self, index: usize, factor: f32, width: usize, plane: &mut [f32]) {
        let Some((tile, gradient)) = self.gradients.get(index) else { return };
        for (j, row) in gradient.chunks_exact(tile.width).enumerate() {
            let to = &mut plane[(tile.y + j) * width + tile.x..][..tile.width];
            to.iter_mut().zip(row).for_each(|(to, g)| *to += factor * g);
        }
    }
}

/// Working memory of a thread.
#[derive(Default)]
pub struct ContextScratch {
    /// Inputs of each layer, below them ones.
    h: [Vec<f32>; 3],
    slope: [Vec<f32>; 2],
    out: Vec<f32>,
    delta: [Vec<f32>; 2],
    by_input: Vec<f32>,
    by_value: Vec<f32>,
    padded: Vec<f32>,
    by_padded: Vec<f32>,
    centres: Vec<f32>,
    moved: Vec<f32>,
    change: Vec<f32>,
}

impl ContextScratch {
    /// Makes room for lines of `points` numbers.
    pub fn fit(&mut self, shape: ContextShape, points: usize) {
        let [h1, h2] = shape.hidden;
        for (h, rows) in self.h.iter_mut().zip([shape.inputs, h1, h2]) {
            h.resize((rows + 1) * points, 0.0);
            h[rows * points..].fill(1.0);
        }
        for (l, features) in [h1, h2].into_iter().enumerate() {
            self.slope[l].resize(features * points, 0.0);
            self.delta[l].resize(features * points, 0.0);
        }
        self.out.resize(shape.outputs * points, 0.0);
        self.by_value.resize(points, 0.0);
        self.by_input.resize(shape.inputs * points, 0.0);
    }

    /// Rows of the inputs.
    pub fn inputs(&mut self) -> &mut [f32] {
        let points = self.by_value.len();
        let ones = self.h[0].len() - points;
        &mut self.h[0][..ones]
    }

    /// Derivatives by them.
    pub fn by_input(&self) -> &[f32] {
        &self.by_input
    }

    /// Derivatives of the bits by the latents.
    pub fn by_value(&self) -> &[f32] {
        &self.by_value
    }

    /// Bits of latents whose distributions are about 0, the outputs being their scales, which become
    /// the derivatives by them; `bends` grow by those of the latents.
    pub fn rate_of_centred(
        &mut self,
        simd: Simd,
        values: &[f32],
        bends: Option<&mut Vec<f32>>,
    ) -> f64 {
        let Self { out, by_value, padded, centres, moved, change, .. } = self;
        padded.clear();
        padded.extend_from_slice(values);
        padded.resize(by_value.len(), 0.0);
        centres.clear();
        centres.resize(by_value.len(), 0.0);
        let line = Line { simd, length: values.len(), values: padded };
        line.rate(centres, out, by_value, bends.map(|bends| (bends, moved, change)))
    }
}

/// Latents whose bits are measured: `length` of them, and what fills up the registers.
struct Line<'a> {
    simd: Simd,
    length: usize,
    values: &'a [f32],
}

impl Line<'_> {
    /// Their bits. Centres and scales become the derivatives by them, and `by_value` those by the
    /// latents; of `bends`, with room for two lines, the first grow by those of the latents.
    fn rate(
        &self,
        centres: &mut [f32],
        log_scales: &mut [f32],
        by_value: &mut [f32],
        bends: Option<(&mut Vec<f32>, &mut Vec<f32>, &mut Vec<f32>)>,
    ) -> f64 {
        let Self { simd, length, values } = *self;
        let Some((bends, moved, change)) = bends else {
            return training::rate(simd, length, values, centres, log_scales, by_value);
        };
        let toward_zero = |value: &f32| value - value.signum().min(value.abs()).max(-value.abs());
        moved.clear();
        moved.extend(values.iter().map(toward_zero));
        change.resize(values.len(), 0.0);
        training::bits(simd, values, centres, log_scales, by_value);
        training::bits(simd, moved, centres, log_scales, change);
        change.iter_mut().zip(by_value.iter()).for_each(|(to, bits)| *to -= bits);
        let bits = training::rate(simd, length, values, centres, log_scales, by_value);
        let moves = moved.iter().zip(values).map(|(moved, value)| moved - value);
        let bend = change.iter().zip(moves).zip(by_value.iter());
        bends.extend(bend.map(|((change, step), slope)| change - step * slope).take(length));
        bits
    }
}

/// A band's lines with the latents of its tile before them, and margins of 0 all around.
struct Padding {
    band: Band,
    /// Rows above the band that lie in the tile.
    above: usize,
    /// Latents of a line, and with those that fill up the registers.
    length: usize,
    points: usize,
    /// Lines of the band.
    count: usize,
    /// From a line to the next.
    stride: usize,
    /// Where the tile's first latent is.
    first: usize,
    /// From a latent to its neighbours.
    neighbours: [isize; NEIGHBOURS.len()],
}

impl Padding {
    fn new(band: Band) -> Self {
        let lines = band.lines;
        let (length, count) = lines.turn((band.tile.width, band.rows));
        let points = length.next_multiple_of(LANES);
        let stride = points + 2 * MARGIN;
        let above = MARGIN.min(band.first);
        let (before, lines_before) = lines.turn((0, above));
        let first = (MARGIN - lines_before) * stride + MARGIN - before;
        let neighbours = NEIGHBOURS.map(|at| {
            let (along, across) = lines.turn(at);
            across * stride as isize + along
        });
        Self { band, above, length, points, count, stride, first, neighbours }
    }

    /// The latents of the band and those above it.
    fn region(&self) -> Region {
        let Region { x, y, width, height } = self.band.region();
        Region { x, y: y - self.above, width, height: self.above + height }
    }

    /// Where line `j` of the band begins.
    fn line(&self, j: usize) -> usize {
        (j + MARGIN) * self.stride + MARGIN
    }

    /// Reads the latents.
    fn fill(&self, plane: Plane, padded: &mut Vec<f32>) {
        padded.clear();
        padded.resize((self.count + 2 * MARGIN) * self.stride, 0.0);
        let lines = self.band.lines;
        let Region { x, y, width, height } = self.region();
        let (length, count) = lines.turn((width, height));
        let (step, line_step) = lines.steps(plane.width);
        let held = &plane.values[y * plane.width + x..];
        for j in 0..count {
            let to = &mut padded[self.first + j * self.stride..];
            lines::read(&held[j * line_step..], step, &mut to[..length]);
        }
    }

    /// The inputs of line `j` that are of the same level.
    fn gather(&self, j: usize, padded: &[f32], inputs: &mut [f32]) {
        let line = self.line(j);
        for (input, neighbour) in inputs.chunks_exact_mut(self.points).zip(self.neighbours) {
            let at = line.wrapping_add_signed(neighbour);
            input[..self.length].copy_from_slice(&padded[at..at + self.length]);
        }
    }

    /// Adds the gradients by the latents of line `j` and by their neighbours.
    fn scatter(&self, j: usize, scratch: &mut ContextScratch) {
        let ContextScratch { by_input, by_value, by_padded, .. } = scratch;
        let mut add = |at: usize, from: &[f32]| {
            let to = &mut by_padded[at..at + self.length];
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        };
        let line = self.line(j);
        add(line, by_value);
        for (input, neighbour) in by_input.chunks_exact(self.points).zip(self.neighbours) {
            add(line.wrapping_add_signed(neighbour), input);
        }
    }

    /// The gradient, row by row.
    fn gradient(&self, by_padded: &[f32]) -> (Region, Vec<f32>) {
        let region = self.region();
        let by_padded = &by_padded[self.first..];
        (region, rows(self.band.lines, by_padded, self.stride, region.width, region.height))
    }
}

/// Where the inputs that are of the coarser level lie, `points` numbers each.
fn coarse_inputs(points: usize) -> Range<usize> {
    let first = NEIGHBOURS.len() * points;
    first..first + COARSE * points
}

/// Coarse latents beside and above that a latent looks at: the one that holds it and the
/// nearer neighbour, clamped to `range`.
fn parents(at: usize, range: (usize, usize)) -> (usize, usize) {
    let near = at / 2;
    let other = if at % 2 == 1 { near + 1 } else { near.wrapping_sub(1) };
    let other = if other == usize::MAX { range.0 } else { other.clamp(range.0, range.1 - 1) };
    (near, other)
}

/// First and number of the coarse latents along an axis that some latents look at.
fn reach((first, count): (usize, usize), range: (usize, usize)) -> (usize, usize) {
    let start = (first / 2).saturating_sub(1).max(range.0);
    let end = ((first + count - 1) / 2 + 2).min(range.1);
    (start, end - start)
}

/// The rows of `width` x `height` numbers whose lines begin so many numbers apart.
fn rows(lines: Lines, numbers: &[f32], stride: usize, width: usize, height: usize) -> Vec<f32> {
    let (x_step, y_step) = lines.turn((1, stride));
    let mut rows = vec![0.0; width * height];
    for (y, row) in rows.chunks_exact_mut(width).enumerate() {
        lines::read(&numbers[y * y_step..], x_step, row);
    }
    rows
}

/// What a band sees of the coarser level.
struct Coarse {
    region: Region,
    /// The latents of the region, row by row.
    values: Vec<f32>,
    lines: Lines,
    /// What the places of the two parents of a latent are the sums of: for its place in a line, and
    /// for its line.
    along: Vec<[usize; 2]>,
    across: Vec<[usize; 2]>,
}

impl Coarse {
    fn new(coarser: Plane, band: Band) -> Self {
        let Region { x, y, width, height } = band.region();
        // The tile that holds the parents.
        let tile = |first: usize, end: usize| {
            let first = first / 2 / TILE * TILE;
            (first, end.min(first + TILE))
        };
        let (columns, rows) = (tile(x, coarser.width), tile(y, coarser.height));
        let (left, reached_columns) = reach((x, width), columns);
        let (top, reached_rows) = reach((y, height), rows);
        let region = Region { x: left, y: top, width: reached_columns, height: reached_rows };
        let held = coarser.values.chunks_exact(coarser.width).skip(top).take(region.height);
        let values = held.flat_map(|row| &row[left..left + region.width]).copied().collect();
        let places = |first: usize, count: usize, range, start: usize, step: usize| {
            let parents = (first..first + count).map(move |at| parents(at, range));
            parents.map(move |(near, other)| [near, other].map(|at| (at - start) * step)).collect()
        };
        let columns = places(x, width, columns, left, 1);
        let rows = places(y, height, rows, top, region.width);
        let (along, across) = band.lines.turn((columns, rows));
        Self { region, values, lines: band.lines, along, across }
    }

    /// Where the numbers of an input lie, `points` of each: the parent `along` a line of the two, in
    /// the line `across`.
    fn input(&self, points: usize, along: usize, across: usize) -> Range<usize> {
        let (x, y) = self.lines.turn((along, across));
        let first = (x + 2 * y) * points;
        first..first + points
    }

    /// The inputs of line `j`.
    fn gather(&self, j: usize, inputs: &mut [f32]) {
        let points = inputs.len() / COARSE;
        for (k, from) in self.across[j].into_iter().enumerate() {
            let from = &self.values[from..];
            let places = [0, 1].map(|m| self.input(points, m, k));
            let [near, other] = inputs.get_disjoint_mut(places).expect("two inputs");
            for ((near, other), at) in near.iter_mut().zip(other).zip(&self.along) {
                (*near, *other) = (from[at[0]], from[at[1]]);
            }
        }
    }

    /// Adds gradients of these to those of the region.
    fn scatter(&self, j: usize, inputs: &[f32], region: &mut [f32]) {
        let points = inputs.len() / COARSE;
        for (k, to) in self.across[j].into_iter().enumerate() {
            let to = &mut region[to..];
            let [near, other] = [0, 1].map(|m| &inputs[self.input(points, m, k)]);
            for ((near, other), at) in near.iter().zip(other).zip(&self.along) {
                to[at[0]] += near;
                to[at[1]] += other;
            }
        }
    }
}

/// What is asked of a band besides gradients of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Bits,
    /// And gradients by the latents.
    Gradients,
    GradientsAndBends,
}

/// The entropy model on a level of splines.
pub struct Entropy<'a> {
    pub simd: Simd,
    pub packed: &'a PackedContext,
    /// The level's number.
    pub number: usize,
    pub plane: Plane<'a>,
    pub coarser: Option<Plane<'a>>,
}

impl Entropy<'_> {
    /// The bits of a band and, if `wanted`, their gradients by the latents; `sums`, of the
    /// three layers, grow by those of the weights.
    pub fn band(
        &self,
        band: Band,
        wanted: Wanted,
        mut sums: Option<&mut [Vec<f32>; 3]>,
        scratch: &mut ContextScratch,
    ) -> BandResult {
        let latents = wanted != Wanted::Bits;
        let padding = Padding::new(band);
        let coarse = self.coarser.map(|coarser| Coarse::new(coarser, band));
        scratch.fit(self.packed.shape, padding.points);
        let number = (INPUTS - 1) * padding.points..INPUTS * padding.points;
        scratch.h[0][number].fill(self.number as f32);
        padding.fill(self.plane, &mut scratch.padded);
        scratch.by_padded.clear();
        let mut by_coarse = Vec::new();
        if latents {
            scratch.by_padded.resize(scratch.padded.len(), 0.0);
            by_coarse.resize(coarse.as_ref().map_or(0, |coarse| coarse.values.len()), 0.0);
        }
        let (mut bits, mut bends) = (0.0, Vec::new());
        for j in 0..padding.count {
            self.gather(j, &padding, coarse.as_ref(), scratch);
            self.packed.forward(self.simd, scratch);
            let bends = (wanted == Wanted::GradientsAndBends).then_some(&mut bends);
            bits += self.rate(padding.line(j), padding.length, bends, scratch);
            if latents || sums.is_some() {
                self.packed.back(self.simd, latents, sums.as_deref_mut(), scratch);
            }
            if latents {
                padding.scatter(j, scratch);
                if let Some(coarse) = &coarse {
                    coarse.scatter(
                        j,
                        &scratch.by_input[coarse_inputs(padding.points)],
                        &mut by_coarse,
                    );
                }
            }
        }
        let mut gradients = Vec::new();
        if latents {
            gradients.push(padding.gradient(&scratch.by_padded));
            gradients.extend(coarse.map(|coarse| (coarse.region, by_coarse)));
        }
        if !bends.is_empty() {
            let Region { width, height, .. } = band.region();
            bends = rows(band.lines, &bends, padding.length, width, height);
        }
        BandResult { bits, gradients, bends }
    }

    /// The inputs of line `j`.
    fn gather(
        &self,
        j: usize,
        padding: &Padding,
        coarse: Option<&Coarse>,
        scratch: &mut ContextScratch,
    ) {
        let (points, inputs) = (padding.points, &mut scratch.h[0]);
        padding.gather(j, &scratch.padded, inputs);
        let of_coarse = &mut inputs[coarse_inputs(points)];
        match coarse {
            Some(coarse) => coarse.gather(j, of_coarse),
            None => of_coarse.fill(0.0),
        }
    }

    /// Bits of the latents of a line that begins at `line`, `length` of them. Centres and scales
    /// become the derivatives by them; `bends` grow by the line's.
    fn rate(
        &self,
        line: usize,
        length: usize,
        bends: Option<&mut Vec<f32>>,
        scratch: &mut ContextScratch,
    ) -> f64 {
        let ContextScratch { out, by_value, padded, moved, change, .. } = scratch;
        let points = by_value.len();
        let line = Line { simd: self.simd, length, values: &padded[line..][..points] };
        let (centres, log_scales) = out.split_at_mut(points);
        line.rate(centres, log_scales, by_value, bends.map(|bends| (bends, moved, change)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn columns_give_what_rows_give() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let hidden = Hidden { splines: [7, 6], waves: None };
        let shape = ContextShape::all(hidden)[0];
        let layers = shape
            .lens()
            .map(|len| -> Vec<f32> { (0..len).map(|_| rng.random_range(-0.4..0.4)).collect() });
        let packed = PackedContext::new(shape, &layers);
        // Several bands, several tiles, and lines that are longer than their number.
        for (width, height) in [(1usize, 300), (2, 3), (5, 40), (66, 270), (80, 500), (300, 70)] {
            let mut latents = |width: usize, height: usize| -> Vec<f32> {
                (0..width * height).map(|_| rng.random_range(-2.5..2.5)).collect()
            };
            let coarse = (width.div_ceil(2), usize::div_ceil(height, 2));
            let (fine, coarser) = (latents(width, height), latents(coarse.0, coarse.1));
            let coarser = Plane { width: coarse.0, height: coarse.1, values: &coarser };
            for coarser in [None, Some(coarser)] {
                let plane = Plane { width, height, values: &fine };
                let simd = Simd::new();
                let entropy = Entropy { simd, packed: &packed, number: 1, plane, coarser };
                for band in bands(width, height) {
                    let [rows, columns] = [Lines::Rows, Lines::Columns].map(|lines| {
                        let mut sums = shape.lens().map(|len| vec![0.0; len]);
                        let (band, wanted) = (Band { lines, ..band }, Wanted::GradientsAndBends);
                        let scratch = &mut ContextScratch::default();
                        (entropy.band(band, wanted, Some(&mut sums), scratch), sums)
                    });
                    let close = |found: &[f32], wanted: &[f32]| {
                        assert_eq!(found.len(), wanted.len());
                        let most = wanted.iter().fold(0.0f32, |most, w| most.max(w.abs()));
                        for (found, wanted) in found.iter().zip(wanted) {
                            assert!((found - wanted).abs() <= 1e-5 * most, "{band:?}");
                        }
                    };
                    assert!((columns.0.bits / rows.0.bits - 1.0).abs() < 1e-6);
                    close(&columns.0.bends, &rows.0.bends);
                    for (found, wanted) in columns.0.gradients.iter().zip(&rows.0.gradients) {
                        assert_eq!(found.0, wanted.0);
                        close(&found.1, &wanted.1);
                    }
                    for (found, wanted) in columns.1.iter().zip(&rows.1) {
                        close(found, wanted);
                    }
                }
            }
        }
    }
}
