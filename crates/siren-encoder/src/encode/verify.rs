//! A last look at a finished file through the decoder: how far it is from the picture.

use std::ops::Range;

use rayon::prelude::*;

use crate::error::EncodeError;
use siren_image::DecodeError;
use siren_image::Limits;
use siren_image::Size;
use siren_image::raster::{Raster, decibels, squared_error};
use siren_image::{Decoder, View};

/// The PSNR of larger pictures is measured on every second row, every third row and so on, so that
/// one SIREN of any picture is trained and measured in the time that its effort takes. Short rows
/// go together, about so many pixels of them.
const MEASURED_PIXELS: u64 = 1 << 22;
const TOGETHER: u32 = 1 << 12;

/// PSNR of what the decoder makes of a file at native size, on some rows of a large picture.
pub(super) fn decoded_psnr(raster: &Raster, bytes: &[u8]) -> Result<f64, EncodeError> {
    let verification = |error: DecodeError| EncodeError::Verification(error.to_string());
    let render = Decoder::with_limits(bytes, Limits::NONE)
        .and_then(|decoder| decoder.prepare(&View::native()))
        .map_err(verification)?;
    let Size { width, height } = raster.size();
    let rows = (TOGETHER / width).max(1);
    let strips = height.div_ceil(rows);
    let step = (raster.size().pixels() / MEASURED_PIXELS).clamp(1, strips.into()) as u32;
    let strip = |strip: u32| strip * rows..height.min((strip + 1) * rows);
    let strips: Vec<Range<u32>> = (step / 2..strips).step_by(step as usize).map(strip).collect();
    let error =
        |rows: &Range<u32>| squared_error(&raster.rows(rows.clone()), &render.rows(rows.clone()));
    // Summed in order, so that the result does not depend on the threads.
    let errors: Vec<f64> = strips.par_iter().map(error).collect();
    let rows: usize = strips.iter().map(ExactSizeIterator::len).sum();
    let samples = rows as f64 * f64::from(width) * raster.channels().count() as f64;
    Ok(decibels(errors.iter().sum::<f64>() / samples))
}
