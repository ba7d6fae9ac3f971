//! Mini-batches: the pixels in random order, reshuffled after every pass.

use std::ops::Range;

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::geometry::{Grid, View};
use crate::raster::Raster;

/// Deals out the pixels of a raster.
pub(super) struct Sampler<'a> {
    raster: &'a Raster,
    grid: Grid,
    order: Vec<u32>,
    next: usize,
    batch: usize,
    rng: ChaCha8Rng,
}

/// The pixels of one step.
pub(super) struct Batch<'a> {
    raster: &'a Raster,
    grid: Grid,
    pixels: Vec<u32>,
}

impl<'a> Sampler<'a> {
    /// Batches of `batch` pixels, or of the whole raster where it has fewer.
    pub fn new(raster: &'a Raster, batch: usize, rng: ChaCha8Rng) -> Self {
        let grid = Grid::new(raster.size(), &View::default()).expect("a raster's own size");
        let pixels = raster.size().pixels() as u32;
        let order: Vec<u32> = (0..pixels).collect();
        let next = order.len();
        let batch = batch.clamp(1, order.len());
        Self { raster, grid, order, next, batch, rng }
    }

    /// The next pixels; a batch may reach over into the next pass.
    pub fn next_batch(&mut self) -> Batch<'a> {
        let mut pixels = Vec::with_capacity(self.batch);
        while pixels.len() < self.batch {
            if self.next == self.order.len() {
                self.order.shuffle(&mut self.rng);
                self.next = 0;
            }
            let take = (self.batch - pixels.len()).min(self.order.len() - self.next);
            pixels.extend_from_slice(&self.order[self.next..self.next + take]);
            self.next += take;
        }
        Batch { raster: self.raster, grid: self.grid, pixels }
    }
}

impl Batch<'_> {
    /// Number of pixels.
    pub fn points(&self) -> usize {
        self.pixels.len()
    }

    /// Coordinates `[2, points]` and targets in [-1, 1] `[channels, points]` of some of
    /// the pixels.
    pub fn columns(&self, part: Range<usize>) -> (Vec<f32>, Vec<f32>) {
        let pixels = &self.pixels[part];
        let channels = self.raster.channels().count();
        let mut inputs = Vec::with_capacity(2 * pixels.len());
        inputs.extend(pixels.iter().map(|&p| self.grid.centre(p.into()).0));
        inputs.extend(pixels.iter().map(|&p| self.grid.centre(p.into()).1));
        let mut targets = Vec::with_capacity(channels * pixels.len());
        for channel in 0..channels {
            let target = |&p: &u32| 2.0 * self.raster.unit(p as usize * channels + channel) - 1.0;
            targets.extend(pixels.iter().map(target));
        }
        (inputs, targets)
    }
}
