//! How well a network reproduces a raster: squared errors in the outputs' range [-1, 1].

use rayon::prelude::*;

use crate::eval::{BLOCK, Evaluator, Points};
use crate::geometry::{Grid, View};
use crate::network::Siren;
use crate::raster::Raster;

/// Most pixels of a quick measurement.
const QUICK_PIXELS: u64 = 1 << 16;
/// Fewest pixels of a quick measurement of a picture that has as many.
const QUICK_MIN_PIXELS: u64 = 1 << 13;
/// Multiplications that a quick measurement aims at.
const QUICK_WORK: u64 = 1 << 29;

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

/// Mean squared distance of the samples from one colour, both in [-1, 1].
pub(super) fn mean_square_distance(raster: &Raster, colour: &[f32]) -> f64 {
    let channels = colour.len();
    let distance = |index: usize| {
        let target = f64::from(2.0 * raster.unit(index) - 1.0);
        (target - f64::from(colour[index % channels])).powi(2)
    };
    let count = raster.sample_count();
    (0..count).map(distance).sum::<f64>() / count as f64
}

/// Mean squared error of `siren` on 8,192 to 65,536 pixels spread evenly over the raster,
/// outputs clamped as a decoder does; infinite where an output is not finite.
pub(super) fn quick_error(raster: &Raster, siren: &Siren) -> f64 {
    let size = raster.size();
    let grid = Grid::new(size, &View::default()).expect("a raster's own size is a view");
    let evaluator = Evaluator::new(siren.clone());
    let channels = raster.channels().count();
    let pixels = size.pixels();
    let weights = siren.topology().weight_count() as u64;
    let affordable = (QUICK_WORK / weights).clamp(QUICK_MIN_PIXELS, QUICK_PIXELS);
    let stride = pixels.div_ceil(affordable);
    let picked = pixels.div_ceil(stride);
    let blocks: Vec<u64> = (0..picked).step_by(BLOCK).collect();
    let sums: Vec<f64> = blocks
        .into_par_iter()
        .map_init(
            || (evaluator.scratch(), Points::default(), vec![0.0; channels * BLOCK]),
            |(scratch, points, out), first| {
                let len = (picked - first).min(BLOCK as u64);
                let pixel = |i: u64| (first + i) * stride;
                for i in 0..len {
                    (points.x[i as usize], points.y[i as usize]) = grid.centre(pixel(i));
                }
                evaluator.values(points, scratch, out);
                let mut sum = 0.0;
                for i in 0..len {
                    for channel in 0..channels {
                        let target =
                            2.0 * raster.unit(pixel(i) as usize * channels + channel) - 1.0;
                        let value = out[channel * BLOCK + i as usize];
                        let value =
                            if value.is_nan() { f32::INFINITY } else { value.clamp(-1.0, 1.0) };
                        sum += f64::from(value - target).powi(2);
                    }
                }
                sum
            },
        )
        .collect();
    // Summed in order, so that the result does not depend on the threads.
    sums.iter().sum::<f64>() / (picked * channels as u64) as f64
}
