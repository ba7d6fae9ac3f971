//! How large a file must be for a wanted quality, told from the picture alone: a model of
//! PSNR against bytes that was measured on trained networks. Trains nothing.
//!
//! A trained network of so many bytes is about as good as the so many largest coefficients of
//! the picture's Haar transform, whatever the picture: pictures differ in how fast their
//! coefficients fall, and that tells how hard they are (docs/experiments.md).

use siren_image::network::Topology;
use siren_image::raster::{Raster, decibels};

/// Bits of a weight in the compact coding where the number of weights is free.
pub(crate) const COMPACT_BITS: f64 = 5.7;

/// Bytes of a file's weights in the compact coding, and the number of Haar coefficients of an
/// RGB picture that give the same PSNR, at effort 3: the mean over twelve Kodak pictures.
const TERMS: [(f64, f64); 9] = [
    (170.0, 215.0),
    (370.0, 630.0),
    (665.0, 1_200.0),
    (1_050.0, 1_860.0),
    (2_430.0, 4_200.0),
    (4_915.0, 7_950.0),
    (7_373.0, 10_800.0),
    (14_746.0, 17_800.0),
    (29_491.0, 27_000.0),
];
/// Terms at efforts 1 to 9 over those at effort 3.
const EFFORTS: [f64; 9] = [0.35, 0.68, 1.0, 1.06, 1.09, 1.12, 1.15, 1.16, 1.19];

/// The level of quality 1 and of quality 100, see [`RateModel::level`].
const LEVELS: (f64, f64) = (0.0, 11.0);

/// Squared Haar coefficients come in bins of a quarter of an octave, from 2^-48 to 2^48.
const BINS: usize = 4 * 96;

/// The model of one picture.
pub(crate) struct RateModel {
    /// Coefficients and the sum of their squares, the largest first.
    bins: Vec<(f64, f64)>,
    /// Samples of the picture.
    samples: f64,
    pixels: f64,
}

impl RateModel {
    pub fn new(raster: &Raster) -> Self {
        let mut bins = vec![(0.0, 0.0); BINS];
        for plane in planes(raster) {
            for_each_detail(plane, raster.size().width as usize, |detail| {
                let square = f64::from(detail).powi(2);
                if square > 0.0 {
                    let bin = (4.0 * (square.log2() + 48.0)) as usize;
                    let (count, sum) = &mut bins[BINS - 1 - bin.min(BINS - 1)];
                    *count += 1.0;
                    *sum += square;
                }
            });
        }
        bins.retain(|(count, _)| *count > 0.0);
        Self { bins, samples: raster.sample_count() as f64, pixels: raster.size().pixels() as f64 }
    }

    /// PSNR in dB of the picture's mean colour and its `terms` largest coefficients.
    fn psnr_of_terms(&self, terms: f64) -> f64 {
        let mut left = terms;
        let mut error = 0.0;
        for (count, sum) in &self.bins {
            let taken = left.clamp(0.0, *count);
            left -= taken;
            error += sum * (1.0 - taken / count);
        }
        decibels(error / self.samples)
    }

    /// PSNR in dB that a file with `bytes` of weights reaches.
    pub fn psnr(&self, bytes: f64, effort: u8) -> f64 {
        self.psnr_of_terms(terms(bytes) * EFFORTS[usize::from(effort.clamp(1, 9)) - 1])
    }

    /// PSNR in dB that a network reaches in the compact coding at its usual size.
    pub fn psnr_of_weights(&self, topology: &Topology, effort: u8) -> f64 {
        self.psnr(topology.weight_count() as f64 * COMPACT_BITS / 8.0, effort)
    }

    /// The quality of a file with `bytes` of weights on a scale of octaves, which a step of the
    /// same height takes everywhere: of the bits per pixel, plus half the octaves of the mean
    /// squared error. Files of the same level have the same ratio of error to bytes: where errors
    /// fall with a power of the bytes, a further byte does as much for the one as for the other.
    fn level(&self, bytes: f64) -> f64 {
        (8.0 * bytes / self.pixels).log2() + self.psnr(bytes, 3) / OCTAVE
    }

    /// Bytes of weights for a quality from 1 to 100, between `least` and `most`.
    pub fn bytes_of_quality(&self, quality: f64, (least, most): (f64, f64)) -> f64 {
        let level = LEVELS.0 + (LEVELS.1 - LEVELS.0) * (quality - 1.0) / 99.0;
        solve((least, most), |bytes| self.level(bytes) >= level)
    }

    /// Bytes of weights that reach a PSNR in dB, between `least` and `most`.
    pub fn bytes_of_psnr(&self, psnr: f64, effort: u8, (least, most): (f64, f64)) -> f64 {
        solve((least, most), |bytes| self.psnr(bytes, effort) >= psnr)
    }
}

/// Decibels of twice the mean squared error.
const OCTAVE: f64 = 3.0103;

/// The least value in a range for which `enough` holds; the end if it holds nowhere.
fn solve((mut low, mut high): (f64, f64), enough: impl Fn(f64) -> bool) -> f64 {
    if enough(low) {
        return low;
    }
    for _ in 0..40 {
        let middle = (low * high).sqrt();
        if enough(middle) { high = middle } else { low = middle }
    }
    high
}

/// [`TERMS`], straight between and beyond its points on logarithmic scales.
fn terms(bytes: f64) -> f64 {
    let after = TERMS.iter().position(|(b, _)| *b > bytes).unwrap_or(TERMS.len());
    let after = after.clamp(1, TERMS.len() - 1);
    let ((b0, t0), (b1, t1)) = (TERMS[after - 1], TERMS[after]);
    t0 * (bytes / b0).powf((t1 / t0).ln() / (b1 / b0).ln())
}

/// The channels as planes; red, green and blue as grey and two differences, without a change of
/// squared errors.
fn planes(raster: &Raster) -> Vec<Vec<f32>> {
    let channels = raster.channels().count();
    let pixels = raster.sample_count() / channels;
    let plane = |channel: usize| (0..pixels).map(|i| raster.unit(i * channels + channel)).collect();
    let mut planes: Vec<Vec<f32>> = (0..channels).map(plane).collect();
    if let [red, green, blue, ..] = planes.as_mut_slice() {
        for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
            let (r, g, b) = (*red, *green, *blue);
            *red = (r + g + b) / 3f32.sqrt();
            *green = (r - b) / 2f32.sqrt();
            *blue = (r - 2.0 * g + b) / 6f32.sqrt();
        }
    }
    planes
}

/// Calls `each` with the details of the orthonormal two-dimensional Haar transform of a plane;
/// the last row or column of an odd size stands twice.
fn for_each_detail(mut plane: Vec<f32>, mut width: usize, mut each: impl FnMut(f32)) {
    let mut height = plane.len() / width;
    while width > 1 || height > 1 {
        let (across, down) = (width.div_ceil(2), height.div_ceil(2));
        let mut coarse = Vec::with_capacity(across * down);
        for row in 0..down {
            for column in 0..across {
                let at = |dx: usize, dy: usize| {
                    let x = (2 * column + dx).min(width - 1);
                    plane[(2 * row + dy).min(height - 1) * width + x]
                };
                let (a, b, c, d) = (at(0, 0), at(1, 0), at(0, 1), at(1, 1));
                coarse.push(0.5 * (a + b + c + d));
                each(0.5 * (a - b + c - d));
                each(0.5 * (a + b - c - d));
                each(0.5 * (a - b - c + d));
            }
        }
        (plane, width, height) = (coarse, across, down);
    }
}
