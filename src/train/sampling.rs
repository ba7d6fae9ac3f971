//! Mini-batches: the pixels in random order, reshuffled after every pass.

use candle_core::{Device, Result, Tensor};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::geometry::{Grid, View};
use crate::raster::Raster;

/// Deals out the pixels of a raster.
pub(super) struct Sampler<'a> {
    raster: &'a Raster,
    /// x of every column and y of every row.
    x: Vec<f32>,
    y: Vec<f32>,
    order: Vec<u32>,
    next: usize,
    device: Device,
    rng: ChaCha8Rng,
}

/// The pixels of one step.
pub(super) struct Batch {
    /// Coordinates, `[2, points]`.
    pub inputs: Tensor,
    /// Samples in [-1, 1], `[channels, points]`.
    pub targets: Tensor,
}

impl<'a> Sampler<'a> {
    /// Batches of pixels of `raster` as tensors on `device`.
    pub fn new(raster: &'a Raster, device: &Device, rng: ChaCha8Rng) -> Self {
        let size = raster.size();
        let grid = Grid::new(size, &View::default()).expect("a raster's own size");
        let order: Vec<u32> = (0..size.pixels() as u32).collect();
        Self {
            raster,
            x: (0..size.width).map(|i| grid.x(i) as f32).collect(),
            y: (0..size.height).map(|j| grid.y(j) as f32).collect(),
            next: order.len(),
            order,
            device: device.clone(),
            rng,
        }
    }

    /// The next `points` pixels, or all where there are fewer. A batch may reach over into
    /// the next pass.
    pub fn next_batch(&mut self, points: usize) -> Result<Batch> {
        let points = points.clamp(1, self.order.len());
        let mut pixels = Vec::with_capacity(points);
        while pixels.len() < points {
            if self.next == self.order.len() {
                self.order.shuffle(&mut self.rng);
                self.next = 0;
            }
            let take = (points - pixels.len()).min(self.order.len() - self.next);
            pixels.extend_from_slice(&self.order[self.next..self.next + take]);
            self.next += take;
        }
        let width = self.x.len() as u32;
        let channels = self.raster.channels().count();
        let mut inputs = Vec::with_capacity(2 * points);
        inputs.extend(pixels.iter().map(|p| self.x[(p % width) as usize]));
        inputs.extend(pixels.iter().map(|p| self.y[(p / width) as usize]));
        let mut targets = Vec::with_capacity(channels * points);
        for channel in 0..channels {
            let target = |&p: &u32| 2.0 * self.raster.unit(p as usize * channels + channel) - 1.0;
            targets.extend(pixels.iter().map(target));
        }
        Ok(Batch {
            inputs: Tensor::from_vec(inputs, (2, points), &self.device)?,
            targets: Tensor::from_vec(targets, (channels, points), &self.device)?,
        })
    }
}
