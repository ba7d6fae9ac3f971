//! Waves in training: planes of latents to planes of pixels and back, row by row on all cores, and
//! the rate of a tile's latents under their entropy model with its gradients, frequency by
//! frequency. The integer form that a decoder runs is `coding::waves`; knows no optimizer.

use std::ops::Range;

use rayon::prelude::*;

use super::context::{BandResult, ContextScratch, PackedContext, Plane, Wanted};
use siren_image::coding::latents::tiles;
use siren_image::coding::waves::{Order, STEPS, SUMS};
use siren_image::latents::Region;
use siren_kernel::{LANES, Simd, Waves};

/// A plane of latents as one of pixels, of whole cells.
#[derive(Debug)]
pub struct Transform {
    simd: Simd,
    waves: Waves,
    width: usize,
    height: usize,
}

/// Working memory, reused from step to step.
#[derive(Debug, Default)]
pub struct TransformScratch {
    rows: Vec<f32>,
    turned: Vec<f32>,
}

impl Transform {
    /// Of `width` x `height` latents in cells of `cell` pixels.
    pub fn new(simd: Simd, cell: usize, width: usize, height: usize) -> Self {
        Self { simd, waves: Waves::new(cell), width, height }
    }

    /// The sums of all waves at the pixels.
    pub fn pixels(&self, latents: &[f32], scratch: &mut TransformScratch, pixels: &mut Vec<f32>) {
        let apply = |from: &[f32], to: &mut [f32]| self.waves.pixels(self.simd, from, to);
        self.both(latents, scratch, pixels, apply);
    }

    /// The transpose of [`Transform::pixels`], which is its inverse.
    pub fn latents(&self, pixels: &[f32], scratch: &mut TransformScratch, latents: &mut Vec<f32>) {
        let apply = |from: &[f32], to: &mut [f32]| {
            let mut row = from.to_vec();
            self.waves.latents(self.simd, &mut row, to);
        };
        self.both(pixels, scratch, latents, apply);
    }

    /// The transpose of the squares of [`Transform::pixels`].
    pub fn squares(&self, pixels: &[f32], scratch: &mut TransformScratch, latents: &mut Vec<f32>) {
        self.both(pixels, scratch, latents, |from, to| self.waves.squares(from, to));
    }

    /// Applies something to all rows and then to all columns.
    fn both(
        &self,
        from: &[f32],
        scratch: &mut TransformScratch,
        to: &mut Vec<f32>,
        apply: impl Fn(&[f32], &mut [f32]) + Sync,
    ) {
        let TransformScratch { rows, turned } = scratch;
        let lines = |from: &[f32], length: usize, to: &mut Vec<f32>| {
            to.resize(from.len(), 0.0);
            let lines = to.par_chunks_exact_mut(length).zip(from.par_chunks_exact(length));
            lines.for_each(|(to, from)| apply(from, to));
        };
        lines(from, self.width, rows);
        turn(rows, self.width, turned);
        lines(turned, self.height, rows);
        turn(rows, self.height, to);
    }
}

/// The transpose of rows of `width` numbers.
fn turn(from: &[f32], width: usize, to: &mut Vec<f32>) {
    /// Columns that are read together.
    const TOGETHER: usize = 8;
    let height = from.len() / width;
    to.resize(from.len(), 0.0);
    to.par_chunks_mut(TOGETHER * height).enumerate().for_each(|(index, to)| {
        let first = index * TOGETHER;
        for (y, row) in from.chunks_exact(width).enumerate() {
            for (to, value) in to[y..].iter_mut().step_by(height).zip(&row[first..]) {
                *to = *value;
            }
        }
    });
}

/// Some frequencies of a tile: what is worked on at a time.
#[derive(Debug, Clone, Copy)]
pub struct WaveBand {
    tile: Region,
    /// The first, and the one after the last, in the order in which they are coded.
    first: usize,
    end: usize,
}

/// From so many tiles on, a tile is one band.
const MANY: usize = 4;
/// Of fewer tiles, a tile is so many.
const PARTS: usize = 4;
/// Most points of a line: so many cells of a frequency.
const LINE: usize = 256;
/// Columns and rows of cells around a tile that its sums reach: before and after.
const MARGIN: (usize, usize) = (2, 1);

/// The bands of a plane, tile by tile.
pub fn bands(cell: usize, width: usize, height: usize) -> Vec<WaveBand> {
    let all: Vec<Region> = tiles(width, height).collect();
    let parts = if all.len() < MANY { PARTS } else { 1 };
    let count = cell * cell;
    let bands = |tile: Region| {
        (0..parts).map(move |part| WaveBand {
            tile,
            first: part * count / parts,
            end: (part + 1) * count / parts,
        })
    };
    all.into_iter().flat_map(bands).collect()
}

impl WaveBand {
    /// The tile.
    pub fn region(&self) -> Region {
        self.tile
    }
}

/// The entropy model on a plane of waves.
pub struct WaveEntropy<'a> {
    pub simd: Simd,
    pub packed: &'a PackedContext,
    pub order: &'a Order,
    pub plane: Plane<'a>,
}

/// A tile by frequency.
struct Tile {
    columns: usize,
    rows: usize,
    /// From a row of cells to the next, and from a frequency to the next, with margins.
    stride: usize,
    plane: usize,
}

impl Tile {
    fn new(cell: usize, tile: Region) -> Self {
        let (columns, rows) = (tile.width / cell, tile.height / cell);
        let stride = columns + MARGIN.0 + MARGIN.1;
        Self { columns, rows, stride, plane: stride * (rows + MARGIN.0 + MARGIN.1) }
    }

    /// Where a cell of a frequency is.
    fn place(&self, frequency: usize, column: usize, row: usize) -> usize {
        frequency * self.plane + (row + MARGIN.0) * self.stride + column + MARGIN.0
    }
}

impl WaveEntropy<'_> {
    /// The bits of a band and, if `wanted`, their gradients by the latents; `sums`, of the
    /// three layers, grow by those of the weights. What is not the band's own of the bends is NaN.
    pub fn band(
        &self,
        band: WaveBand,
        wanted: Wanted,
        mut sums: Option<&mut [Vec<f32>; 3]>,
        scratch: &mut ContextScratch,
    ) -> BandResult {
        let latents = wanted != Wanted::Bits;
        let WaveBand { tile: region, first, end } = band;
        let tile = Tile::new(self.order.cell, region);
        // Place of a latent among the band's own.
        let own = |frequency: usize, column: usize, row: usize| {
            (frequency - first) * tile.columns * tile.rows + row * tile.columns + column
        };
        // Values of the latents, and of their magnitudes with margins, and gradients of both.
        let mut values = vec![0.0; own(end, 0, 0)];
        let mut magnitudes = vec![0.0; end * tile.plane];
        self.each(region, |frequency, column, row, value| {
            if frequency < end {
                magnitudes[tile.place(frequency, column, row)] = value.abs();
                if frequency >= first {
                    values[own(frequency, column, row)] = value;
                }
            }
        });
        let (mut by_value, mut by_magnitude, mut bends) = (Vec::new(), Vec::new(), Vec::new());
        if latents {
            by_value.resize(values.len(), 0.0);
            by_magnitude.resize(magnitudes.len(), 0.0);
        }
        let mut bits = 0.0;
        let lines = (LINE / tile.columns).max(1);
        for frequency in first..end {
            for row in (0..tile.rows).step_by(lines) {
                let rows = row..(row + lines).min(tile.rows);
                let length = rows.len() * tile.columns;
                scratch.fit(self.packed.shape(), length.next_multiple_of(LANES));
                self.gather(&tile, frequency, rows.clone(), &magnitudes, scratch.inputs());
                self.packed.forward(self.simd, scratch);
                let at = own(frequency, 0, row);
                let values = &values[at..at + length];
                let bends = (wanted == Wanted::GradientsAndBends).then_some(&mut bends);
                bits += scratch.rate_of_centred(self.simd, values, bends);
                if latents || sums.is_some() {
                    self.packed.back(self.simd, latents, sums.as_deref_mut(), scratch);
                }
                if latents {
                    by_value[at..at + length].copy_from_slice(&scratch.by_value()[..length]);
                    self.scatter(&tile, frequency, rows, scratch.by_input(), &mut by_magnitude);
                }
            }
        }
        let mut result = BandResult { bits, ..BandResult::default() };
        if latents {
            let mut gradient = vec![0.0; region.width * region.height];
            let mut at = 0;
            self.each(region, |frequency, column, row, value| {
                if frequency < end {
                    let by_magnitude = by_magnitude[tile.place(frequency, column, row)];
                    gradient[at] = if value < 0.0 { -by_magnitude } else { by_magnitude };
                    if frequency >= first {
                        gradient[at] += by_value[own(frequency, column, row)];
                    }
                }
                at += 1;
            });
            result.gradients.push((region, gradient));
        }
        if !bends.is_empty() {
            self.each(region, |frequency, column, row, _| {
                let is_own = (first..end).contains(&frequency);
                result.bends.push(if is_own {
                    bends[own(frequency, column, row)]
                } else {
                    f32::NAN
                });
            });
        }
        result
    }

    /// Goes through the latents of a tile row by row: place in the order of their frequency, column
    /// and row of their cell, and value.
    fn each(&self, tile: Region, mut each: impl FnMut(usize, usize, usize, f32)) {
        let cell = self.order.cell;
        for y in 0..tile.height {
            let row = &self.plane.values[(tile.y + y) * self.plane.width + tile.x..][..tile.width];
            let places = &self.order.places[y % cell * cell..][..cell];
            for (column, values) in row.chunks_exact(cell).enumerate() {
                for (place, value) in places.iter().zip(values) {
                    each(*place, column, y / cell, *value);
                }
            }
        }
    }

    /// The inputs of some rows of cells.
    fn gather(
        &self,
        tile: &Tile,
        frequency: usize,
        rows: Range<usize>,
        magnitudes: &[f32],
        inputs: &mut [f32],
    ) {
        let points = inputs.len() / (SUMS.len() + 2);
        let (sums, frequencies) = inputs.split_at_mut(SUMS.len() * points);
        sums.fill(0.0);
        self.each_row(tile, frequency, rows, |sum, to, from| {
            let to = &mut sums[sum * points + to..][..tile.columns];
            let from = &magnitudes[from..][..tile.columns];
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        });
        let (x, y) = self.order.frequencies[frequency];
        for (row, k) in frequencies.chunks_exact_mut(points).zip([x, y]) {
            row.fill((STEPS * k / self.order.cell) as f32);
        }
    }

    /// The transpose of [`Self::gather`].
    fn scatter(
        &self,
        tile: &Tile,
        frequency: usize,
        rows: Range<usize>,
        by_input: &[f32],
        by_magnitude: &mut [f32],
    ) {
        let points = by_input.len() / (SUMS.len() + 2);
        self.each_row(tile, frequency, rows, |sum, from, to| {
            let from = &by_input[sum * points + from..][..tile.columns];
            let to = &mut by_magnitude[to..][..tile.columns];
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        });
    }

    /// Goes through what the sums of some rows of cells are of, row by row: number of the sum, where
    /// the row lies in it, and where its magnitudes begin.
    fn each_row(
        &self,
        tile: &Tile,
        frequency: usize,
        rows: Range<usize>,
        mut each: impl FnMut(usize, usize, usize),
    ) {
        for &(sum, dx, dy, other) in &self.order.terms[frequency] {
            let ahead = dy * tile.stride as isize + dx;
            for (index, row) in rows.clone().enumerate() {
                let place = tile.place(other, 0, row).wrapping_add_signed(ahead);
                each(sum, index * tile.columns, place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_go_there_and_back() {
        let (width, height) = (48, 24);
        let transform = Transform::new(Simd::new(), 8, width, height);
        let latents: Vec<f32> = (0..width * height).map(|i| ((7 * i) % 23) as f32 - 11.0).collect();
        let (mut scratch, mut pixels, mut back) = Default::default();
        transform.pixels(&latents, &mut scratch, &mut pixels);
        transform.latents(&pixels, &mut scratch, &mut back);
        assert!(back.iter().zip(&latents).all(|(a, b)| (a - b).abs() < 1e-4));
        // One latent's squares sum to 1.
        transform.squares(&vec![1.0; width * height], &mut scratch, &mut back);
        assert!(back.iter().all(|sum| (sum - 1.0).abs() < 1e-4));
    }
}
