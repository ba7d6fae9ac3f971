//! Mini-batches: the pixels in random order, reshuffled after every pass, more of them where
//! the error is large.

use candle_core::{Device, Result, Tensor};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::archive::Archive;
use super::quality::Errors;
use crate::error::EncodeError;
use crate::geometry::{Grid, View};
use crate::raster::Raster;

/// Share of the mean density that every tile gets on top of its own.
const EVERYWHERE: f32 = 0.3;
/// Most density of a tile, in means.
const MOST: f32 = 4.0;

/// Deals out the pixels of a raster.
pub(super) struct Sampler<'a> {
    raster: &'a Raster,
    /// x of every column and y of every row.
    x: Vec<f32>,
    y: Vec<f32>,
    order: Vec<u32>,
    /// How often they have been put into a new order.
    shuffles: u32,
    next: usize,
    focus: Focus,
    /// Fractions of pixels that have been passed over since the last one taken.
    due: f32,
    device: Device,
    rng: ChaCha8Rng,
}

/// How densely pixels are taken from each tile.
struct Focus {
    tile: usize,
    across: usize,
    /// Share of a tile's pixels that a pass takes, at most 1.
    densities: Vec<f32>,
    /// The mean of the densities over the pixels.
    mean: f32,
}

/// The pixels of one step, by number.
pub(super) enum Pixels {
    /// Each of them once, in order.
    All,
    /// So many, by the density of the focus.
    Some(Vec<u32>),
}

/// The pixels of one step as tensors.
pub(super) struct Batch {
    /// Coordinates, `[2, points]`.
    pub inputs: Tensor,
    /// Samples in [-1, 1] and below them the weight of each pixel, `[channels + 1, points]`.
    pub targets: Tensor,
}

impl<'a> Sampler<'a> {
    /// Batches of pixels of `raster` as tensors on `device`.
    pub fn new(raster: &'a Raster, device: &Device, rng: ChaCha8Rng) -> Self {
        let size = raster.size();
        let grid = Grid::new(size, &View::default()).expect("a raster's own size");
        let order: Vec<u32> = (0..size.pixels() as u32).collect();
        let everywhere =
            Focus { tile: size.longer_side() as usize, across: 1, densities: vec![1.0], mean: 1.0 };
        Self {
            raster,
            x: (0..size.width).map(|i| grid.x(i) as f32).collect(),
            y: (0..size.height).map(|j| grid.y(j) as f32).collect(),
            next: order.len(),
            order,
            shuffles: 0,
            focus: everywhere,
            due: 0.0,
            device: device.clone(),
            rng,
        }
    }

    /// From now on takes pixels in proportion to the root mean square error around them.
    /// Their weights make up for it, so that the expected gradient stays that of the mean
    /// squared error, and its variance is near its least (importance sampling).
    pub fn focus(&mut self, errors: &Errors) {
        let roots: Vec<f32> = errors.tiles.iter().map(|error| error.sqrt()).collect();
        let mean = roots.iter().sum::<f32>() / roots.len() as f32;
        if !(mean > 0.0 && mean.is_finite()) {
            return;
        }
        let densities: Vec<f32> =
            roots.iter().map(|root| (root + EVERYWHERE * mean).min(MOST * mean)).collect();
        let most = densities.iter().copied().fold(0.0, f32::max);
        let densities: Vec<f32> = densities.iter().map(|density| density / most).collect();
        let tile = errors.tile;
        let (across, _) = self.tiles(tile);
        let pixels = |index: usize| {
            let width = tile.min(self.x.len() - index % across * tile);
            let height = tile.min(self.y.len() - index / across * tile);
            (width * height) as f64
        };
        let tiles = densities.iter().enumerate();
        let sum: f64 = tiles.map(|(index, &density)| f64::from(density) * pixels(index)).sum();
        let mean = (sum / self.order.len() as f64) as f32;
        self.focus = Focus { tile, across, densities, mean };
    }

    /// Tiles across and down.
    fn tiles(&self, tile: usize) -> (usize, usize) {
        (self.x.len().div_ceil(tile), self.y.len().div_ceil(tile))
    }

    /// Saves what the next batch hangs on, or restores it in a sampler that has given none. The
    /// order follows from the number of shuffles and is not saved: it is as large as the picture.
    pub fn archive(&mut self, archive: &mut Archive) -> std::result::Result<(), EncodeError> {
        let mut shuffles = self.shuffles;
        archive.u32(&mut shuffles)?;
        archive.usize(&mut self.next)?;
        archive.f32(&mut self.due)?;
        let mut tile = self.focus.tile;
        archive.usize(&mut tile)?;
        if self.next > self.order.len() || tile == 0 {
            return Err(EncodeError::CheckpointDamaged);
        }
        let (across, down) = self.tiles(tile);
        self.focus.tile = tile;
        self.focus.across = across;
        self.focus.densities.resize(across * down, 0.0);
        archive.f32s(&mut self.focus.densities)?;
        archive.f32(&mut self.focus.mean)?;
        while self.shuffles < shuffles {
            self.shuffle();
        }
        Ok(())
    }

    fn shuffle(&mut self) {
        self.order.shuffle(&mut self.rng);
        self.shuffles += 1;
    }

    fn density(&self, pixel: u32) -> f32 {
        let width = self.x.len();
        let (column, row) = (pixel as usize % width, pixel as usize / width);
        let Focus { tile, across, densities, .. } = &self.focus;
        densities[row / tile * across + column / tile]
    }

    /// The weight of a pixel in a batch, which makes up for its density.
    pub fn weight(&self, pixel: u32) -> f32 {
        self.focus.mean / self.density(pixel)
    }

    /// The next `points` pixels. A batch may reach over into the next pass; one of all
    /// pixels has each of them once.
    pub fn next_pixels(&mut self, points: usize) -> Pixels {
        if points >= self.order.len() {
            return Pixels::All;
        }
        let mut pixels = Vec::with_capacity(points);
        while pixels.len() < points {
            if self.next == self.order.len() {
                self.shuffle();
                self.next = 0;
            }
            let pixel = self.order[self.next];
            self.next += 1;
            self.due += self.density(pixel);
            if self.due >= 1.0 {
                self.due -= 1.0;
                pixels.push(pixel);
            }
        }
        Pixels::Some(pixels)
    }

    /// Pixels as tensors.
    pub fn batch(&self, pixels: &Pixels) -> Result<Batch> {
        match pixels {
            Pixels::All => self.tensors(&self.order, true),
            Pixels::Some(pixels) => self.tensors(pixels, false),
        }
    }

    /// `points` pixels drawn evenly by `rng`, apart from the order of the batches.
    pub fn sample(&self, points: usize, rng: &mut impl Rng) -> Result<Batch> {
        let all = self.order.len() as u32;
        let pixels: Vec<u32> = (0..points).map(|_| rng.random_range(0..all)).collect();
        self.tensors(&pixels, true)
    }

    /// `pixels` as tensors; `evenly` tells that their density is the same everywhere.
    fn tensors(&self, pixels: &[u32], evenly: bool) -> Result<Batch> {
        let points = pixels.len();
        let width = self.x.len() as u32;
        let channels = self.raster.channels().count();
        let mut inputs = Vec::with_capacity(2 * points);
        inputs.extend(pixels.iter().map(|p| self.x[(p % width) as usize]));
        inputs.extend(pixels.iter().map(|p| self.y[(p / width) as usize]));
        let mut targets = Vec::with_capacity((channels + 1) * points);
        for channel in 0..channels {
            let target = |&p: &u32| 2.0 * self.raster.unit(p as usize * channels + channel) - 1.0;
            targets.extend(pixels.iter().map(target));
        }
        let weight = |&p: &u32| if evenly { 1.0 } else { self.weight(p) };
        targets.extend(pixels.iter().map(weight));
        Ok(Batch {
            inputs: Tensor::from_vec(inputs, (2, points), &self.device)?,
            targets: Tensor::from_vec(targets, (channels + 1, points), &self.device)?,
        })
    }
}
