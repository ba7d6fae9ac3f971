//! The rate of the latents under the entropy model, in real arithmetic, and its gradients: a
//! tile row after row, forward and back. The integer form that a decoder runs is
//! `coding::latents`; knows no pictures and no optimizer.

use crate::kernel::{Activation, LANES, Level, Matrix, add_outer};

use super::math;
use crate::coding::latents::{INPUTS, NEIGHBOURS, TILE, tiles};
use crate::grids::Region;

/// Columns and rows around a tile that its neighbours reach.
const MARGIN: usize = 3;

/// Sizes of the hidden layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub hidden: [usize; 2],
}

impl Shape {
    /// Inputs and outputs of each layer.
    pub fn layers(self) -> [(usize, usize); 3] {
        let [a, b] = self.hidden;
        [(INPUTS, a), (a, b), (b, 2)]
    }

    /// Numbers of each layer: rows of weights and a bias.
    pub fn lens(self) -> [usize; 3] {
        self.layers().map(|(inputs, outputs)| outputs * (inputs + 1))
    }
}

/// The weights as the kernels read them.
pub struct Packed {
    shape: Shape,
    forward: [Matrix; 3],
    backward: [Matrix; 3],
    biases: [Vec<f32>; 3],
}

impl Packed {
    /// `layers` hold rows of weights and a bias.
    pub fn new(shape: Shape, layers: [&[f32]; 3]) -> Self {
        let sizes = shape.layers();
        let at = |l: usize, o: usize, k: usize| layers[l][o * (sizes[l].0 + 1) + k];
        let build = |l: usize| Matrix::new(sizes[l].1, sizes[l].0, |o, k| at(l, o, k));
        let back = |l: usize| Matrix::new(sizes[l].0, sizes[l].1, |k, o| at(l, o, k));
        let biases = |l: usize| (0..sizes[l].1).map(|o| at(l, o, sizes[l].0)).collect();
        Self {
            shape,
            forward: [0, 1, 2].map(build),
            backward: [0, 1, 2].map(back),
            biases: [0, 1, 2].map(biases),
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
}

/// Most rows of a band.
const BAND: usize = 64;

/// The bands of a level, tile by tile.
pub fn bands(width: usize, height: usize) -> Vec<Band> {
    let bands = |tile: Region| {
        let band = move |first| Band { tile, first, rows: BAND.min(tile.height - first) };
        (0..tile.height).step_by(BAND).map(band)
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
#[derive(Default)]
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
        let Self { tile, first, rows } = *self;
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
pub struct Scratch {
    /// Inputs of each layer, below them ones.
    h: [Vec<f32>; 3],
    slope: [Vec<f32>; 2],
    out: Vec<f32>,
    delta: [Vec<f32>; 2],
    by_input: Vec<f32>,
    by_value: Vec<f32>,
    padded: Vec<f32>,
    by_padded: Vec<f32>,
    moved: Vec<f32>,
    change: Vec<f32>,
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

/// What is asked of a band besides gradients of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Bits,
    /// And gradients by the latents.
    Gradients,
    GradientsAndBends,
}

/// The entropy model on a level.
pub struct Entropy<'a> {
    pub level: Level,
    pub packed: &'a Packed,
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
        scratch: &mut Scratch,
    ) -> BandResult {
        let Self { level, packed, number, plane, coarser } = *self;
        let latents = wanted != Wanted::Bits;
        let mut bends = Vec::new();
        let [h1, h2] = packed.shape.hidden;
        let Band { tile, first: top, rows: height } = band;
        let width = tile.width;
        let points = width.next_multiple_of(LANES);
        let Scratch { h, slope, out, delta, by_input, by_value, padded, by_padded, moved, change } =
            scratch;
        for (h, rows) in h.iter_mut().zip([INPUTS, h1, h2]) {
            h.resize((rows + 1) * points, 0.0);
            h[rows * points..].fill(1.0);
        }
        h[0][(INPUTS - 1) * points..INPUTS * points].fill(number as f32);
        slope[0].resize(h1 * points, 0.0);
        slope[1].resize(h2 * points, 0.0);
        out.resize(2 * points, 0.0);
        by_value.resize(points, 0.0);
        delta[0].resize(h1 * points, 0.0);
        delta[1].resize(h2 * points, 0.0);
        by_input.resize(INPUTS * points, 0.0);

        let stride = points + 2 * MARGIN;
        padded.clear();
        padded.resize((height + MARGIN) * stride, 0.0);
        // Rows above the band that lie in the tile.
        let above = MARGIN.min(top);
        for j in MARGIN - above..MARGIN + height {
            let from = &plane.values[(tile.y + top + j - MARGIN) * plane.width + tile.x..][..width];
            padded[j * stride + MARGIN..][..width].copy_from_slice(from);
        }
        let coarse_tile = coarser.map(|coarser| {
            let (x, y) = (tile.x / 2 / TILE * TILE, tile.y / 2 / TILE * TILE);
            let (w, h) = (TILE.min(coarser.width - x), TILE.min(coarser.height - y));
            Region { x, y, width: w, height: h }
        });
        // The part of it that the band looks at.
        let coarse_region = coarse_tile.map(|t| {
            let (x, width) = reach((tile.x, width), (t.x, t.x + t.width));
            let (y, height) = reach((tile.y + top, height), (t.y, t.y + t.height));
            Region { x, y, width, height }
        });
        let columns: Vec<(usize, usize)> = match coarse_tile {
            Some(t) => (tile.x..tile.x + width).map(|x| parents(x, (t.x, t.x + t.width))).collect(),
            None => Vec::new(),
        };
        by_padded.clear();
        let mut by_coarse = Vec::new();
        if latents {
            by_padded.resize(padded.len(), 0.0);
            by_coarse.resize(coarse_region.map_or(0, |r| r.width * r.height), 0.0);
        }
        let y = tile.y + top;

        let mut bits = 0.0;
        for j in 0..height {
            for (k, (dx, dy)) in NEIGHBOURS.into_iter().enumerate() {
                let row = (j + MARGIN).wrapping_add_signed(dy) * stride;
                let at = (row + MARGIN).wrapping_add_signed(dx);
                h[0][k * points..][..width].copy_from_slice(&padded[at..at + width]);
            }
            let coarse_rows = coarse_tile.map(|t| parents(y + j, (t.y, t.y + t.height)));
            let coarse = &mut h[0][NEIGHBOURS.len() * points..(NEIGHBOURS.len() + 4) * points];
            match (coarser, coarse_rows) {
                (Some(coarser), Some((near, other))) => {
                    let pairs = coarse.chunks_exact_mut(2 * points).zip([near, other]);
                    for (pair, row) in pairs {
                        let from = &coarser.values[row * coarser.width..][..coarser.width];
                        let (first, second) = pair.split_at_mut(points);
                        for ((first, second), &(x, x2)) in
                            first.iter_mut().zip(second).zip(&columns)
                        {
                            (*first, *second) = (from[x], from[x2]);
                        }
                    }
                }
                _ => coarse.fill(0.0),
            }
            for l in 0..2 {
                let (inputs, outputs) = packed.shape.layers()[l];
                let (before, after) = h.split_at_mut(l + 1);
                let (from, to) = (&before[l][..inputs * points], &mut after[0][..outputs * points]);
                let relu = Activation::Relu;
                packed.forward[l].layer_with_slope(
                    level,
                    &packed.biases[l],
                    relu,
                    from,
                    to,
                    &mut slope[l],
                );
            }
            let from = &h[2][..h2 * points];
            packed.forward[2].layer(level, &packed.biases[2], Activation::Identity, from, out);
            let values = &padded[(j + MARGIN) * stride + MARGIN..][..points];
            let (centres, log_scales) = out.split_at_mut(points);
            if wanted == Wanted::GradientsAndBends {
                let toward_zero =
                    |value: &f32| value - value.signum().min(value.abs()).max(-value.abs());
                moved.clear();
                moved.extend(values.iter().map(toward_zero));
                change.resize(points, 0.0);
                math::bits(level, values, centres, log_scales, by_value);
                math::bits(level, moved, centres, log_scales, change);
                change.iter_mut().zip(by_value.iter()).for_each(|(to, bits)| *to -= bits);
            }
            bits += math::rate(level, width, values, centres, log_scales, by_value);
            if wanted == Wanted::GradientsAndBends {
                let moves = moved.iter().zip(values).map(|(moved, value)| moved - value);
                let bend = change.iter().zip(moves).zip(by_value.iter());
                bends.extend(bend.map(|((change, step), slope)| change - step * slope).take(width));
            }
            if !latents && sums.is_none() {
                continue;
            }
            packed.backward[2].product_times(level, out, &slope[1], &mut delta[1]);
            let (first, second) = delta.split_at_mut(1);
            packed.backward[1].product_times(level, &second[0], &slope[0], &mut first[0]);
            if let Some([g1, g2, g3]) = &mut sums {
                add_outer(level, out, 2, &h[2], h2 + 1, g3);
                add_outer(level, &second[0], h2, &h[1], h1 + 1, g2);
                add_outer(level, &first[0], h1, &h[0], INPUTS + 1, g1);
            }
            if !latents {
                continue;
            }
            packed.backward[0].product(level, &first[0], by_input);
            let at = (j + MARGIN) * stride + MARGIN;
            let add = |to: &mut [f32], from: &[f32]| {
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            };
            add(&mut by_padded[at..at + width], by_value);
            for (k, (dx, dy)) in NEIGHBOURS.into_iter().enumerate() {
                let row = (j + MARGIN).wrapping_add_signed(dy) * stride;
                let at = (row + MARGIN).wrapping_add_signed(dx);
                add(&mut by_padded[at..at + width], &by_input[k * points..]);
            }
            if let (Some(r), Some((near, other))) = (coarse_region, coarse_rows) {
                let pairs = by_input[NEIGHBOURS.len() * points..].chunks_exact(2 * points);
                for (pair, row) in pairs.zip([near, other]) {
                    let to = &mut by_coarse[(row - r.y) * r.width..][..r.width];
                    let (first, second) = pair.split_at(points);
                    for ((first, second), &(x, x2)) in first.iter().zip(second).zip(&columns) {
                        to[x - r.x] += first;
                        to[x2 - r.x] += second;
                    }
                }
            }
        }
        let mut gradients = Vec::new();
        if latents {
            let rows = by_padded.chunks_exact(stride).skip(MARGIN - above);
            let rows = rows.flat_map(|row| &row[MARGIN..MARGIN + width]).copied().collect();
            let region = Region { x: tile.x, y: y - above, width, height: above + height };
            gradients.push((region, rows));
            gradients.extend(coarse_region.map(|r| (r, by_coarse)));
        }
        BandResult { bits, gradients, bends }
    }
}
