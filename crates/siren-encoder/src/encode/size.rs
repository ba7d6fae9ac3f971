//! How many bytes a target is worth for a picture, and which representation suits so many. A model
//! of the picture tells (`rate`); trains nothing.

use std::ops::Range;

use super::options::{self, DEFAULT_QUALITY, Options, Target};
use crate::rate::RateModel;
use siren_image::Raster;
use siren_image::container::{Metadata, Representation};

/// Fewest and most bytes of the weights for a quality: a recognizable picture, and what trains
/// in minutes.
pub(super) const QUALITY_BYTES: (f64, f64) = (350.0, 262_144.0);
/// The fewest are those of quality 1. Pictures of fewer samples than this for a byte have fewer,
/// down to the last.
const SAMPLES_PER_BYTE: f64 = 128.0;
const ICON_BYTES: f64 = 60.0;
/// The fewest of quality 100, or a byte for each sample where that is less.
const BEST_BYTES: f64 = 1000.0;
/// Fewest bytes of the weights for a PSNR.
pub(super) const PSNR_LEAST_BYTES: f64 = 60.0;
/// Bytes of a file that are of use: so many times those of the picture's samples, or for each
/// weight of a given network, and for what else there is.
const USEFUL: u64 = 2;
const USEFUL_PER_WEIGHT: u64 = 4;
const USEFUL_BESIDE: u64 = 4096;
/// The weights of a file have fewer in any case.
const MOST_BYTES: u64 = u32::MAX as u64;
/// Files of fewer bytes are one SIREN, and files of fewer or more bits per pixel, unless they have
/// so many bytes that one SIREN would train for minutes (docs/experiments.md).
const GRID_FROM_BYTES: f64 = 4000.0;
const GRID_BPP: Range<f64> = 0.14..3.5;
const SIREN_BYTES: f64 = 16_000.0;

/// A picture that is to be encoded, and how.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub raster: &'a Raster,
    pub options: &'a Options,
}

impl Job<'_> {
    /// Most bytes of the file, where `target` is a size; no more than are of use.
    pub fn file_bytes(&self, target: Target) -> Option<u64> {
        let bytes = match target {
            Target::Bpp(bpp) => (bpp * self.raster.size().pixels() as f64 / 8.0) as u64,
            Target::Bytes(bytes) => bytes,
            _ => return None,
        };
        Some(bytes.min(self.useful_bytes()))
    }

    /// Bytes of a file beyond which the picture has no use for more, metadata included.
    pub fn useful_bytes(&self) -> u64 {
        let Self { raster, options } = self;
        let Metadata { icc, exif, xmp, .. } = &options.metadata;
        let blocks = [icc, exif, xmp].into_iter().flatten();
        let metadata: u64 = blocks.map(|block| block.len() as u64).sum();
        let samples = (raster.sample_count() * raster.depth().bytes()) as u64;
        let given = options.given(raster).ok().flatten();
        let given = given.map_or(0, |topology| topology.weight_count() as u64);
        let resumed = options.resume.as_ref().map_or(0, |file| file.weights.len() as u64);
        let payload = (USEFUL * samples).max(USEFUL_PER_WEIGHT * given).max(resumed);
        (payload + metadata + USEFUL_BESIDE).min(MOST_BYTES)
    }

    /// How the picture will be represented.
    pub fn representation(&self) -> Representation {
        let Self { raster, options } = self;
        if let Some(file) = &options.resume {
            return file.representation;
        }
        match options.representation {
            options::Representation::Siren(_) => return Representation::Siren,
            options::Representation::Latents(_) => return Representation::Latents,
            options::Representation::Auto => {}
        }
        if options.device_wants_siren() || raster.is_flat() {
            return Representation::Siren;
        }
        let bytes = self.expected_bytes();
        let bpp = 8.0 * bytes / raster.size().pixels() as f64;
        let siren = bytes < GRID_FROM_BYTES || !GRID_BPP.contains(&bpp) && bytes < SIREN_BYTES;
        if siren { Representation::Siren } else { Representation::Latents }
    }

    /// Bytes of the file by the target, where nothing sets the representation.
    fn expected_bytes(&self) -> f64 {
        let (raster, target) = (self.raster, self.options.target);
        if let Some(bytes) = self.file_bytes(target) {
            return bytes as f64;
        }
        let model = RateModel::new(raster);
        let most = f64::MAX.sqrt();
        let of_quality =
            |quality| model.bytes_of_quality(quality, (least_for_quality(raster, quality), most));
        match target {
            Target::Psnr(psnr) => model.bytes_of_psnr(psnr, 3, (PSNR_LEAST_BYTES, most)),
            Target::Quality(quality) => of_quality(quality),
            _ => of_quality(DEFAULT_QUALITY),
        }
    }
}

/// Fewest bytes of the weights for a quality. They rise with it: of a small picture, the model
/// expects all of a few bytes.
pub(super) fn least_for_quality(raster: &Raster, quality: f64) -> f64 {
    let samples = raster.sample_count() as f64;
    let low = (samples / SAMPLES_PER_BYTE).clamp(ICON_BYTES, QUALITY_BYTES.0);
    rising(low, samples.min(BEST_BYTES), quality)
}

/// A size from that of quality 1 to that of quality 100, evenly on a logarithmic scale.
pub(super) fn rising(low: f64, high: f64, quality: f64) -> f64 {
    low * (high / low).max(1.0).powf((quality - 1.0) / 99.0)
}
