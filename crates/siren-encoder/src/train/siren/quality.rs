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
    let size = raster.size();
    let grid = PixelGrid::new(size, &View::default()).expect("a raster's own size is a view");
    let evaluator = Evaluator::new(siren.clone());
    let channels = raster.channels().count();
    let stride = (size.pixels() as f64 / pixels as f64).sqrt().ceil().max(1.0) as usize;
    let (width, height) = (size.width as usize, size.height as usize);
    let (columns, rows) = (width.div_ceil(stride), height.div_ceil(stride));
    let across = columns.div_ceil(TILE);
    let strips: Vec<usize> = (0..rows).step_by(TILE).collect();
    // The tiles of each strip of tiles.
    let strips: Vec<Vec<Tile>> = strips
        .into_par_iter()
        .map_init(
            || (evaluator.scratch(), Points::default(), vec![0.0; channels * BLOCK]),
            |(scratch, points, out), top| {
                let mut tiles = vec![Tile::default(); across];
                let picked: Vec<(usize, usize)> = (top..rows.min(top + TILE))
                    .flat_map(|row| (0..columns).map(move |column| (column, row)))
                    .collect();
                for picked in picked.chunks(BLOCK) {
                    let pixel = |&(column, row): &(usize, usize)| (row * width + column) * stride;
                    for (i, at) in picked.iter().enumerate() {
                        (points.x[i], points.y[i]) = grid.centre(pixel(at) as u64);
                    }
                    evaluator.values(points, scratch, out);
                    for (i, at) in picked.iter().enumerate() {
                        let tile = &mut tiles[at.0 / TILE];
                        let first = pixel(at) * channels;
                        let alpha = raster
                            .channels()
                            .has_alpha()
                            .then(|| f64::from(raster.unit(first + channels - 1)).powi(2));
                        for channel in 0..channels {
                            let weight = alpha.filter(|_| channel + 1 < channels).unwrap_or(1.0);
                            let sample = raster.unit(first + channel);
                            let target = 2.0 * sample - 1.0;
                            let value = out[channel * BLOCK + i];
                            let value =
                                if value.is_nan() { f32::INFINITY } else { value.clamp(-1.0, 1.0) };
                            tile.error += weight * f64::from(value - target).powi(2);
                            tile.flat += weight * f64::from(flat[channel] - target).powi(2);
                            tile.count += 1.0;
                        }
                    }
                }
                tiles
            },
        )
        .collect();
    // Summed in order, so that the result does not depend on the threads.
    let tiles = || strips.iter().flatten();
    let sum = |part: fn(&Tile) -> f64| tiles().map(part).sum::<f64>();
    Errors {
        relative: sum(|tile| tile.error) / sum(|tile| tile.flat),
        tiles: tiles().map(|tile| (tile.error / tile.count) as f32).collect(),
        tile: TILE * stride,
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
