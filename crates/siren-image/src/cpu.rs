//! The CPU as a [`Backend`]: a function at the points of a grid, on all cores, block by block, each
//! put down as samples while it is in the cache. Knows neither strips nor filters.

use std::ops::Range;
use std::sync::Arc;

use crate::backend::{self, Backend, Rows};
use crate::error::DeviceError;
use crate::eval::{BLOCK, Columns, Evaluator, LatentsEvaluator, Points};
use crate::geometry::PixelGrid;
use crate::network::Channels;
use crate::parallel;
use crate::view::Field;

/// A function and a grid of points. A clone is the same one, and several may work at once.
#[derive(Debug, Clone)]
pub(crate) struct Cpu {
    function: Evaluated,
    grid: PixelGrid,
    field: Field,
    /// The function's derivatives times this are per native pixel.
    per_pixel: f64,
}

#[derive(Debug, Clone)]
enum Evaluated {
    Siren(Arc<Evaluator>),
    Latents { evaluator: Arc<LatentsEvaluator>, columns: Arc<Columns> },
}

impl Cpu {
    /// Of a SIREN, for a picture whose longer side has so many native pixels.
    pub fn of_siren(evaluator: Arc<Evaluator>, longer: u32, grid: PixelGrid, field: Field) -> Self {
        let per_pixel = 2.0 / f64::from(longer);
        Self { function: Evaluated::Siren(evaluator), grid, field, per_pixel }
    }

    /// Of latents.
    pub fn of_latents(evaluator: Arc<LatentsEvaluator>, grid: PixelGrid, field: Field) -> Self {
        let u: Vec<f64> = (0..grid.size.width).map(|column| grid.u(column)).collect();
        let columns = evaluator.columns(&u, field != Field::Value).into();
        Self { function: Evaluated::Latents { evaluator, columns }, grid, field, per_pixel: 1.0 }
    }

    /// The function, as other devices take it.
    pub fn function(&self) -> backend::Function<'_> {
        match &self.function {
            Evaluated::Siren(evaluator) => backend::Function::Siren(evaluator.siren()),
            Evaluated::Latents { evaluator, .. } => backend::Function::Latents {
                latents: evaluator.latents(),
                left_out: evaluator.left_out(),
            },
        }
    }

    /// The points.
    pub fn grid(&self) -> &PixelGrid {
        &self.grid
    }

    /// What is wanted of the function.
    pub fn field(&self) -> Field {
        self.field
    }

    /// Channels of the result: those of the picture, without alpha for derivatives.
    pub fn channels(&self) -> Channels {
        let channels = match &self.function {
            Evaluated::Siren(evaluator) => evaluator.siren().topology().channels(),
            Evaluated::Latents { evaluator, .. } => evaluator.latents().channels(),
        };
        self.field.channels(channels)
    }

    /// As [`Backend::rows`], by as many callers at once as like; it cannot fail.
    pub fn evaluate(&self, rows: Range<u32>, out: Rows) {
        let top = rows.start;
        match out {
            Rows::Values(out) => self.fill(top, out, |unit| unit),
            Rows::Eight(out) => self.fill(top, out, eight),
            Rows::Sixteen(out) => self.fill(top, out, sixteen),
        }
    }

    /// Fills `samples` from row `top` on.
    fn fill<T: Send>(&self, top: u32, samples: &mut [T], quantize: impl Fn(f32) -> T + Sync) {
        match &self.function {
            Evaluated::Siren(evaluator) => self.fill_blocks(evaluator, top, samples, quantize),
            Evaluated::Latents { evaluator, columns } => {
                self.fill_rows(evaluator, columns, top, samples, quantize);
            }
        }
    }

    fn fill_blocks<T: Send>(
        &self,
        evaluator: &Evaluator,
        top: u32,
        samples: &mut [T],
        quantize: impl Fn(f32) -> T + Sync,
    ) {
        let channels = self.channels().count();
        let first = u64::from(top) * u64::from(self.grid.size.width);
        parallel::each_chunk(
            samples,
            BLOCK * channels,
            || {
                let rows = vec![0.0; 4 * evaluator.channels() * BLOCK];
                (evaluator.scratch(), Points::default(), rows)
            },
            |(scratch, points, out), block, samples| {
                let start = first + (block * BLOCK) as u64;
                for i in 0..samples.len() / channels {
                    (points.x[i], points.y[i]) = self.grid.centre(start + i as u64);
                }
                match self.field {
                    Field::Value => evaluator.values(points, scratch, out),
                    _ => evaluator.jets(points, scratch, out),
                }
                self.store(out, BLOCK, samples, &quantize);
            },
        );
    }

    fn fill_rows<T: Send>(
        &self,
        evaluator: &LatentsEvaluator,
        columns: &Columns,
        top: u32,
        samples: &mut [T],
        quantize: impl Fn(f32) -> T + Sync,
    ) {
        let channels = self.channels().count();
        let row = self.grid.size.width as usize * channels;
        let together = columns.rows_together();
        parallel::each_chunk(
            samples,
            together * row,
            || (evaluator.scratch(columns), Vec::with_capacity(together)),
            |(scratch, v), index, samples| {
                let first = top + (index * together) as u32;
                v.clear();
                v.extend((first..).take(samples.len() / row).map(|row| self.grid.v(row)));
                evaluator.rows(columns, v, scratch, |points, length, rows| {
                    let samples = &mut samples[points.start * channels..points.end * channels];
                    self.store(rows, length, samples, &quantize);
                });
            },
        );
    }

    /// The samples of a block of pixels, from rows of `length` values or parts of jets.
    fn store<T>(
        &self,
        rows: &[f32],
        length: usize,
        samples: &mut [T],
        quantize: impl Fn(f32) -> T,
    ) {
        let channels = self.channels().count();
        let part = |channel: usize, part: usize, i: usize| rows[(4 * channel + part) * length + i];
        match self.field {
            Field::Value => {
                for (channel, row) in rows.chunks_exact(length).enumerate().take(channels) {
                    let samples = samples[channel..].iter_mut().step_by(channels);
                    samples.zip(row).for_each(|(s, value)| *s = quantize(value * 0.5 + 0.5));
                }
            }
            Field::Gradient { gain } => {
                let gain = narrow(0.5 * self.per_pixel * gain);
                each(samples, channels, quantize, |channel, i| {
                    gain * part(channel, 1, i).hypot(part(channel, 2, i))
                });
            }
            Field::Laplacian { gain } => {
                let gain = narrow(0.5 * self.per_pixel * self.per_pixel * gain);
                each(samples, channels, quantize, |channel, i| 0.5 + gain * part(channel, 3, i));
            }
        }
    }
}

impl Backend for Cpu {
    fn name(&self) -> String {
        "cpu".into()
    }

    fn rows(&mut self, rows: Range<u32>, out: Rows) -> Result<(), DeviceError> {
        self.evaluate(rows, out);
        Ok(())
    }
}

/// A value as a sample of 8 bits: half is rounded up and, as Rust's casts do, what lies below or
/// above the range goes to its ends and NaN to 0.
pub(crate) fn eight(unit: f32) -> u8 {
    (unit * 255.0 + 0.5) as u8
}

/// The same of 16 bits.
pub(crate) fn sixteen(unit: f32) -> u16 {
    (unit * 65535.0 + 0.5) as u16
}

/// Fills the samples of pixels with what `unit` gives for a channel and a pixel.
fn each<T>(
    samples: &mut [T],
    channels: usize,
    quantize: impl Fn(f32) -> T,
    unit: impl Fn(usize, usize) -> f32,
) {
    for (i, pixel) in samples.chunks_exact_mut(channels).enumerate() {
        for (channel, sample) in pixel.iter_mut().enumerate() {
            *sample = quantize(unit(channel, i));
        }
    }
}

/// A finite number as the nearest finite one.
fn narrow(number: f64) -> f32 {
    number.clamp(f32::MIN.into(), f32::MAX.into()) as f32
}
