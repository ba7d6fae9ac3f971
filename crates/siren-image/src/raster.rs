//! [`Raster`]: pixels in memory, what an encoder takes and a renderer gives.
//! Plain data; knows no files and no colour management.

use std::ops::Range;

use crate::container::BitDepth;
use crate::error::RasterError;
use crate::geometry::Size;
use crate::network::Channels;

/// Samples row by row, the channels of a pixel side by side.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Samples {
    /// 8 bits a sample.
    U8(Vec<u8>),
    /// 16 bits a sample.
    U16(Vec<u16>),
}

/// A rectangle of pixels with straight alpha.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raster {
    size: Size,
    channels: Channels,
    samples: Samples,
}

impl Raster {
    /// A raster of the given samples.
    ///
    /// # Errors
    /// [`RasterError::Empty`] if a side is 0, [`RasterError::SampleCount`] if the number of samples
    /// is not width x height x channels.
    pub fn new(size: Size, channels: Channels, samples: Samples) -> Result<Self, RasterError> {
        let found = match &samples {
            Samples::U8(s) => s.len() as u64,
            Samples::U16(s) => s.len() as u64,
        };
        let Size { width, height } = size;
        // More than can be counted is more than there can be.
        let wanted = size.pixels().saturating_mul(channels.count() as u64);
        if wanted == 0 {
            return Err(RasterError::Empty { width, height });
        }
        if wanted != found {
            return Err(RasterError::SampleCount { width, height, wanted, found });
        }
        Ok(Self { size, channels, samples })
    }

    /// Width and height.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Channels of each pixel.
    pub fn channels(&self) -> Channels {
        self.channels
    }

    /// Bits of each sample.
    pub fn depth(&self) -> BitDepth {
        match self.samples {
            Samples::U8(_) => BitDepth::Eight,
            Samples::U16(_) => BitDepth::Sixteen,
        }
    }

    /// The samples.
    pub fn samples(&self) -> &Samples {
        &self.samples
    }

    /// The samples, given away.
    pub fn into_samples(self) -> Samples {
        self.samples
    }

    /// A copy of some rows.
    pub fn rows(&self, rows: Range<u32>) -> Self {
        let length = self.size.width as usize * self.channels.count();
        let at = rows.start as usize * length..rows.end as usize * length;
        let samples = match &self.samples {
            Samples::U8(samples) => Samples::U8(samples[at].to_vec()),
            Samples::U16(samples) => Samples::U16(samples[at].to_vec()),
        };
        let size = Size { height: rows.end - rows.start, ..self.size };
        Self { size, channels: self.channels, samples }
    }

    /// Sample `index` (in row order, channels side by side) as a number in [0, 1].
    pub fn unit(&self, index: usize) -> f32 {
        match &self.samples {
            Samples::U8(s) => f32::from(s[index]) / 255.0,
            Samples::U16(s) => f32::from(s[index]) / 65535.0,
        }
    }

    /// Whether every pixel is the same.
    pub fn is_flat(&self) -> bool {
        fn flat<T: PartialEq>(samples: &[T], channels: usize) -> bool {
            let (first, _) = samples.split_at(channels);
            samples.chunks_exact(channels).all(|pixel| pixel == first)
        }
        match &self.samples {
            Samples::U8(samples) => flat(samples, self.channels.count()),
            Samples::U16(samples) => flat(samples, self.channels.count()),
        }
    }

    /// Number of samples.
    pub fn sample_count(&self) -> usize {
        self.size.pixels() as usize * self.channels.count()
    }
}

/// PSNR in dB between two rasters of the same size, channels and depth: peak is the
/// largest sample, the error is averaged over all channels, colours premultiplied by alpha where
/// there is one. Infinite if they are equal.
///
/// # Panics
/// If size, channels or depth differ.
pub fn psnr(a: &Raster, b: &Raster) -> f64 {
    decibels(squared_error(a, b) / a.sample_count() as f64)
}

/// The sum of squared errors between two rasters as [`psnr`] has them, of samples in [0, 1].
///
/// # Panics
/// As [`psnr`].
pub fn squared_error(a: &Raster, b: &Raster) -> f64 {
    let same = a.size() == b.size() && a.channels() == b.channels() && a.depth() == b.depth();
    assert!(same, "rasters must have the same shape");
    if a.channels().has_alpha() {
        return premultiplied_error(a, b);
    }
    let sum: f64 = match (a.samples(), b.samples()) {
        (Samples::U8(a), Samples::U8(b)) => {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a.abs_diff(b)).powi(2)).sum()
        }
        (Samples::U16(a), Samples::U16(b)) => {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a.abs_diff(b)).powi(2)).sum()
        }
        _ => unreachable!("equal depths"),
    };
    let peak = match a.depth() {
        BitDepth::Eight => 255.0,
        BitDepth::Sixteen => 65535.0,
    };
    sum / (peak * peak)
}

/// The sum of squared errors of premultiplied colours and of alpha, all in [0, 1].
fn premultiplied_error(a: &Raster, b: &Raster) -> f64 {
    let channels = a.channels().count();
    let mut sum = 0.0;
    for first in (0..a.sample_count()).step_by(channels) {
        let unit = |raster: &Raster, channel: usize| f64::from(raster.unit(first + channel));
        let [of_a, of_b] = [a, b].map(|raster| unit(raster, channels - 1));
        sum += (of_a - of_b).powi(2);
        for channel in 0..channels - 1 {
            sum += (unit(a, channel) * of_a - unit(b, channel) * of_b).powi(2);
        }
    }
    sum
}

/// Mean squared error in [0, 1] as PSNR in dB.
pub fn decibels(mean_square: f64) -> f64 {
    -10.0 * mean_square.log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raster_has_as_many_samples_as_pixels() {
        let raster = |width, height, count| {
            Raster::new(Size { width, height }, Channels::Rgb, Samples::U8(vec![0; count]))
        };
        assert!(raster(2, 3, 18).is_ok());
        assert_eq!(raster(2, 0, 0), Err(RasterError::Empty { width: 2, height: 0 }));
        for (width, height, found) in [(2, 3, 17), (2, 3, 19), (u32::MAX, u32::MAX, 0)] {
            let wanted = (u64::from(width) * u64::from(height)).saturating_mul(3);
            let error = RasterError::SampleCount { width, height, wanted, found: found as u64 };
            assert_eq!(raster(width, height, found), Err(error));
        }
    }
}
