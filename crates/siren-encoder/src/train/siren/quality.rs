//! How well a network reproduces a raster: squared errors in the outputs' range [-1, 1], those of
//! colours times the square of alpha.

use rayon::prelude::*;

use siren_image::Raster;
use siren_image::eval::{BLOCK, Evaluator, Points};
use siren_image::network::Siren;
use siren_image::{PixelGrid, View};

/// Picked pixels along the side of a tile: 16 pixels tell its error well enough.
const TILE: usize = 4;

/// The mean of each channel, in [-1, 1].
pub(super) fn mean_colour(raster: &Raster) -> Vec<f32> {
    let channels = raster.channels().count();
    let mut sums = vec![0.0f64; channels];
    for index in 0..raster.sample_count() {
        sums[index % channels] += f64::from(raster.unit(index));
    }
    let pixels = raster.size().pixels() as f64;
    sums.iter().map(|sum| (2.0 * sum / pixels - 1.0) as f32).collect()
}

/// Errors of a network over a raster.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Errors {
    /// Mean squared error, outputs clamped as a decoder does, over that of one colour on
    /// the same pixels. Below 1 the network is the better picture.
    pub relative: f64,
    /// Mean squared error of each tile, row by row.
    pub tiles: Vec<f32>,
    /// Width and height of a tile in pixels.
    pub tile: usize,
}

/// Measures `siren` on about `pixels` pixels in a regular grid over the raster, against the
/// colour `flat`.
pub(super) fn measure(raster: &Raster, siren: &Siren, flat: &[f32], pixels: u64) -> Errors {
    let evaluator = Evaluator::new(siren.clone());
    let picked = Picked::new(raster, pixels);
    let tops: Vec<usize> = (0..picked.rows).step_by(TILE).collect();
    let memory = || {
        let out = vec![0.0; evaluator.channels() * BLOCK];
        (evaluator.scratch(), Points::default(), out)
    };
    // The tiles of each strip of tiles.
    let strips: Vec<Vec<Tile>> = tops
        .into_par_iter()
        .map_init(memory, |(scratch, points, out), top| {
            let mut tiles = vec![Tile::default(); picked.columns.div_ceil(TILE)];
            for places in picked.strip(top).chunks(BLOCK) {
                picked.load(places, points);
                evaluator.values(points, scratch, out);
                for (i, &place) in places.iter().enumerate() {
                    let values = out.iter().skip(i).step_by(BLOCK);
                    picked.compare(place, values, flat, &mut tiles[place.0 / TILE]);
                }
            }
            tiles
        })
        .collect();
    // Summed in order, so that the result does not depend on the threads.
    let tiles = || strips.iter().flatten();
    let sum = |part: fn(&Tile) -> f64| tiles().map(part).sum::<f64>();
    Errors {
        relative: sum(|tile| tile.error) / sum(|tile| tile.flat),
        tiles: tiles().map(|tile| (tile.error / tile.count) as f32).collect(),
        tile: TILE * picked.stride,
    }
}

/// The pixels that a network is measured on: every `stride`th of each axis.
struct Picked<'a> {
    raster: &'a Raster,
    grid: PixelGrid,
    stride: usize,
    columns: usize,
    rows: usize,
}

impl<'a> Picked<'a> {
    fn new(raster: &'a Raster, pixels: u64) -> Self {
        let size = raster.size();
        let grid = PixelGrid::new(size, &View::default()).expect("a raster's own size is a view");
        let stride = (size.pixels() as f64 / pixels as f64).sqrt().ceil().max(1.0) as usize;
        let [columns, rows] = [size.width, size.height].map(|len| (len as usize).div_ceil(stride));
        Self { raster, grid, stride, columns, rows }
    }

    /// Places of a strip of tiles, column and row.
    fn strip(&self, top: usize) -> Vec<(usize, usize)> {
        let rows = top..self.rows.min(top + TILE);
        rows.flat_map(|row| (0..self.columns).map(move |column| (column, row))).collect()
    }

    /// The number of the pixel at a place.
    fn pixel(&self, (column, row): (usize, usize)) -> usize {
        (row * self.raster.size().width as usize + column) * self.stride
    }

    fn load(&self, places: &[(usize, usize)], points: &mut Points) {
        for (i, &place) in places.iter().enumerate() {
            (points.x[i], points.y[i]) = self.grid.centre(self.pixel(place) as u64);
        }
    }

    /// Adds the errors of a pixel's values, channel by channel.
    fn compare<'v>(
        &self,
        place: (usize, usize),
        values: impl Iterator<Item = &'v f32>,
        flat: &[f32],
        tile: &mut Tile,
    ) {
        let raster = self.raster;
        let channels = raster.channels().count();
        let first = self.pixel(place) * channels;
        let has_alpha = raster.channels().has_alpha();
        let alpha = has_alpha.then(|| f64::from(raster.unit(first + channels - 1)).powi(2));
        for (channel, (&value, flat)) in values.zip(flat).enumerate() {
            let weight = alpha.filter(|_| channel + 1 < channels).unwrap_or(1.0);
            let target = 2.0 * raster.unit(first + channel) - 1.0;
            let value = if value.is_nan() { f32::INFINITY } else { value.clamp(-1.0, 1.0) };
            tile.error += weight * f64::from(value - target).powi(2);
            tile.flat += weight * f64::from(flat - target).powi(2);
            tile.count += 1.0;
        }
    }
}

/// Sums over the picked samples of a tile: squared errors of the network and of one colour,
/// and their number.
#[derive(Debug, Clone, Copy, Default)]
struct Tile {
    error: f64,
    flat: f64,
    count: f64,
}
