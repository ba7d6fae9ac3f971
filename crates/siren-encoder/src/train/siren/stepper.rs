//! What a device computes for the training of one SIREN: the loss of a batch of pixels and its
//! gradient. The CPU (`fused`), candle (`reference`) and a GPU do. Knows no schedule and no optimizer.

use siren_image::DeviceError;
use siren_image::network::Topology;
use siren_image::{PixelGrid, View};
use siren_image::{Raster, Samples};

/// A pixel of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeightedPixel {
    /// Number in row order.
    pub number: u32,
    /// Weight of its squared error.
    pub weight: f32,
}

/// The pixels of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Batch<'a> {
    /// All of the picture, each of weight 1.
    All,
    /// These, at least one.
    Of(&'a [WeightedPixel]),
}

/// What a step gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The mean over pixels and channels of weight times squared error, in the outputs' range
    /// [-1, 1]; that of colours times the square of the pixel's alpha where there is one.
    pub loss: f64,
    /// Its gradient, in the order of the weights.
    pub gradient: Vec<f32>,
}

/// What is trained: a picture, and a network whose layers compute `sin(scale (W h + b))`, the last
/// one without the sine.
#[derive(Debug, Clone)]
pub struct Task<'a> {
    /// The picture, of the topology's channels.
    pub raster: &'a Raster,
    /// The network's shape.
    pub topology: &'a Topology,
    /// A factor for each layer.
    pub scales: Vec<f32>,
    /// Pixels of a batch.
    pub points: usize,
}

/// Computes the steps of a training.
pub trait Stepper: Send {
    /// The loss of a batch, and its gradient for `weights`: layer by layer `[W | b]`, `outputs` rows of
    /// `inputs + 1`.
    ///
    /// # Errors
    /// The device's; the CPU has none.
    fn step(&mut self, weights: &[f32], batch: Batch) -> Result<Step, DeviceError>;
}

/// A layer among the weights of all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerPlace {
    pub inputs: usize,
    pub outputs: usize,
    pub scale: f32,
    /// Place of the first weight among all.
    pub start: usize,
}

impl LayerPlace {
    /// The layers of a topology, with a factor for each.
    ///
    /// # Panics
    /// If `scales` has not one factor a layer.
    pub fn all(topology: &Topology, scales: &[f32]) -> Vec<Self> {
        assert_eq!(scales.len(), topology.layers().count(), "a factor for each layer");
        let mut start = 0;
        let layers = topology.layers().zip(scales);
        let layer = |((inputs, outputs), &scale)| {
            let layer = Self { inputs, outputs, scale, start };
            start = layer.range().end;
            layer
        };
        layers.map(layer).collect()
    }

    /// Places of the layer's weights and biases among all.
    pub fn range(self) -> std::ops::Range<usize> {
        self.start..self.start + (self.inputs + 1) * self.outputs
    }
}

/// The pixels of a raster as a network sees them.
#[derive(Debug, Clone)]
pub(crate) struct TrainingPixels<'a> {
    pub raster: &'a Raster,
    pub channels: usize,
    /// x of every column and y of every row.
    x: Vec<f32>,
    y: Vec<f32>,
}

impl<'a> TrainingPixels<'a> {
    pub fn new(raster: &'a Raster) -> Self {
        let size = raster.size();
        let grid = PixelGrid::new(size, &View::default()).expect("a raster's own size");
        Self {
            raster,
            channels: raster.channels().count(),
            x: (0..size.width).map(|i| grid.x(i) as f32).collect(),
            y: (0..size.height).map(|j| grid.y(j) as f32).collect(),
        }
    }

    /// Pixels of a batch.
    pub fn points(&self, batch: Batch) -> usize {
        match batch {
            Batch::All => self.raster.size().pixels() as usize,
            Batch::Of(pixels) => pixels.len(),
        }
    }

    /// A pixel of a batch.
    pub fn pixel(&self, batch: Batch, index: usize) -> WeightedPixel {
        match batch {
            Batch::All => WeightedPixel { number: index as u32, weight: 1.0 },
            Batch::Of(pixels) => pixels[index],
        }
    }

    /// x and y of a pixel.
    pub fn place(&self, number: u32) -> (f32, f32) {
        let width = self.x.len() as u32;
        (self.x[(number % width) as usize], self.y[(number / width) as usize])
    }

    /// The channels of pixels in [-1, 1], handed out as index among `numbers`, channel, sample.
    pub fn targets(
        &self,
        numbers: impl Iterator<Item = u32>,
        mut each: impl FnMut(usize, usize, f32),
    ) {
        fn signed<T: Copy>(
            samples: &[T],
            channels: usize,
            numbers: impl Iterator<Item = u32>,
            unit: impl Fn(T) -> f32,
            each: &mut impl FnMut(usize, usize, f32),
        ) {
            for (index, number) in numbers.enumerate() {
                let pixel = samples[number as usize * channels..][..channels].iter().enumerate();
                pixel.for_each(|(channel, &s)| each(index, channel, 2.0 * unit(s) - 1.0));
            }
        }
        let (channels, each) = (self.channels, &mut each);
        match self.raster.samples() {
            Samples::U8(s) => signed(s, channels, numbers, |s| f32::from(s) / 255.0, each),
            Samples::U16(s) => signed(s, channels, numbers, |s| f32::from(s) / 65535.0, each),
        }
    }
}
