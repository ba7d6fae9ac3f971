//! Sums of waves along a row of pixels, and the transpose of that: a window of sines to every
//! cell, each cell overlapped by half of its neighbours (spec section 5.2). As a matrix with as
//! many columns as rows it is orthogonal: a sine transform of each cell, and a rotation of each
//! pair of pixels that lie as far from a border between cells.

use std::f64::consts::PI;

use fearless_simd::{Level, dispatch, f32x8, prelude::*};

/// The waves of cells of 8, 16 or 32 pixels.
#[derive(Debug, Clone)]
pub struct Waves {
    cell: usize,
    /// For each frequency, a row of its values in the cell before the rotation.
    by_frequency: Vec<f32>,
    /// The same for each pixel.
    by_pixel: Vec<f32>,
    /// Window of the pixels from a border between cells on, and of those before it.
    rotation: Vec<[f32; 2]>,
}

impl Waves {
    /// # Panics
    /// If a cell has another number of pixels.
    pub fn new(cell: usize) -> Self {
        assert!(matches!(cell, 8 | 16 | 32), "cells of 8, 16 or 32 pixels");
        let size = cell as f64;
        let value = |pixel: usize, frequency: usize| {
            let phase = PI / size * (pixel as f64 + 0.5 + size) * (frequency as f64 + 0.5);
            ((2.0 / size).sqrt() * phase.cos()) as f32
        };
        let square = |at: &dyn Fn(usize, usize) -> f32| {
            (0..cell)
                .flat_map(|row| (0..cell).map(move |k| (row, k)))
                .map(|(r, k)| at(r, k))
                .collect()
        };
        let angle = |pixel: usize| {
            let t = 0.5 + (pixel as f64 + 0.5) / size;
            0.5 * PI * t.powi(3) * (10.0 - 15.0 * t + 6.0 * t * t)
        };
        let rotation = (0..cell / 2).map(angle).map(|a| [a.sin() as f32, a.cos() as f32]);
        Self {
            cell,
            by_frequency: square(&|frequency, pixel| value(pixel, frequency)),
            by_pixel: square(&value),
            rotation: rotation.collect(),
        }
    }

    /// Pixels of a cell, and as many frequencies.
    pub fn cell(&self) -> usize {
        self.cell
    }

    /// Pixels of a row from its latents: of each cell one for each frequency.
    ///
    /// # Panics
    /// If these are not whole cells, or not as many pixels.
    pub fn pixels(&self, simd: Level, latents: &[f32], pixels: &mut [f32]) {
        self.multiply(simd, &self.by_frequency, latents, pixels);
        self.rotate(pixels, 1.0);
    }

    /// The transpose, and inverse, of [`Waves::pixels`]; overwrites `pixels` too.
    ///
    /// # Panics
    /// As that does.
    pub fn latents(&self, simd: Level, pixels: &mut [f32], latents: &mut [f32]) {
        self.rotate(pixels, -1.0);
        self.multiply(simd, &self.by_pixel, pixels, latents);
    }

    /// The transpose of the matrix of the squares of [`Waves::pixels`].
    ///
    /// # Panics
    /// As that does.
    pub fn squares(&self, pixels: &[f32], latents: &mut [f32]) {
        assert_eq!(pixels.len(), latents.len(), "as many latents as pixels");
        let cell = self.cell;
        let count = pixels.len() / cell;
        for (index, latents) in latents.chunks_exact_mut(cell).enumerate() {
            let start = index * cell;
            for (frequency, latent) in latents.iter_mut().enumerate() {
                let own = &self.by_frequency[frequency * cell..][..cell];
                let mut sum = 0.0;
                for (n, [a, b]) in self.rotation.iter().enumerate() {
                    let (first, last) = (own[n] * own[n], own[cell - 1 - n] * own[cell - 1 - n]);
                    let mut add =
                        |is_border: bool, square: f32, inside: usize, outside: Option<usize>| {
                            if is_border {
                                sum += square * pixels[inside];
                            } else {
                                let outside = outside.map_or(0.0, |at| pixels[at]);
                                sum += square * (a * a * pixels[inside] + b * b * outside);
                            }
                        };
                    add(index == 0, first, start + n, start.checked_sub(n + 1));
                    let end = start + cell;
                    let beyond = (end + n < pixels.len()).then_some(end + n);
                    add(index + 1 == count, last, end - 1 - n, beyond);
                }
                *latent = sum;
            }
        }
    }

    /// `to = sum_k from[k] rows[k]` in every cell.
    fn multiply(&self, simd: Level, rows: &[f32], from: &[f32], to: &mut [f32]) {
        assert_eq!(from.len(), to.len(), "as many latents as pixels");
        assert!(to.len().is_multiple_of(self.cell), "whole cells");
        match self.cell {
            8 => dispatch!(simd, simd => multiply::<_, 1>(simd, rows, from, to)),
            16 => dispatch!(simd, simd => multiply::<_, 2>(simd, rows, from, to)),
            _ => dispatch!(simd, simd => multiply::<_, 4>(simd, rows, from, to)),
        }
    }

    /// Rotates the pixels on both sides of each border between cells, or back.
    fn rotate(&self, pixels: &mut [f32], sign: f32) {
        for border in (self.cell..pixels.len()).step_by(self.cell) {
            let (before, after) = pixels.split_at_mut(border);
            let pairs = before.iter_mut().rev().zip(after);
            for ((before, after), [a, b]) in pairs.zip(&self.rotation) {
                let b = sign * b;
                (*after, *before) = (a * *after + b * *before, a * *before - b * *after);
            }
        }
    }
}

/// Cells of `8 N` numbers.
#[inline(always)]
fn multiply<S: Simd, const N: usize>(simd: S, rows: &[f32], from: &[f32], to: &mut [f32]) {
    let cells = from.chunks_exact(8 * N).zip(to.chunks_exact_mut(8 * N));
    for (from, to) in cells {
        let mut sums = [f32x8::splat(simd, 0.0); N];
        for (factor, row) in from.iter().zip(rows.chunks_exact(8 * N)) {
            let factor = f32x8::splat(simd, *factor);
            for (sum, part) in sums.iter_mut().zip(row.chunks_exact(8)) {
                *sum = f32x8::from_slice(simd, part).mul_add(factor, *sum);
            }
        }
        for (sum, part) in sums.iter().zip(to.chunks_exact_mut(8)) {
            sum.store_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instruction_sets;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// The wave of a frequency of a cell at a pixel, of a row of `count` cells.
    fn wave(cell: usize, count: usize, index: usize, frequency: usize, pixel: usize) -> f64 {
        let (s, x) = (cell as f64, pixel as f64 + 0.5);
        let u = x - (index * cell) as f64 + 0.5 * s;
        let angle = |t: f64| 0.5 * PI * t.powi(3) * (10.0 - 15.0 * t + 6.0 * t * t);
        let window = match u / s {
            t if !(0.0..2.0).contains(&t) => 0.0,
            t if t < 1.0 => {
                if index == 0 {
                    f64::from(x > 0.0)
                } else {
                    angle(t).sin()
                }
            }
            t => {
                if index + 1 == count {
                    1.0
                } else {
                    angle(t - 1.0).cos()
                }
            }
        };
        window * (PI / s * (u + 0.5 * s) * (frequency as f64 + 0.5)).cos() * (2.0 / s).sqrt()
    }

    #[test]
    fn rows_are_sums_of_waves_and_the_transform_is_orthogonal() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (cell, count) in [(8, 1), (8, 5), (16, 3), (32, 2), (16, 1)] {
            let waves = Waves::new(cell);
            let length = cell * count;
            let latents: Vec<f32> = (0..length).map(|_| rng.random_range(-1.0..1.0)).collect();
            let at = |latent: usize, pixel| wave(cell, count, latent / cell, latent % cell, pixel);
            let wanted = |pixel: usize| -> f64 {
                latents.iter().enumerate().map(|(k, q)| f64::from(*q) * at(k, pixel)).sum()
            };
            for simd in instruction_sets() {
                let mut pixels = vec![0.0; length];
                waves.pixels(simd, &latents, &mut pixels);
                for (pixel, found) in pixels.iter().enumerate() {
                    assert!((f64::from(*found) - wanted(pixel)).abs() < 1e-5, "{cell} {pixel}");
                }
                let mut squares = vec![0.0; length];
                waves.squares(&pixels, &mut squares);
                for (latent, found) in squares.iter().enumerate() {
                    let terms = pixels.iter().enumerate();
                    let wanted: f64 =
                        terms.map(|(p, v)| at(latent, p).powi(2) * f64::from(*v)).sum();
                    assert!((f64::from(*found) - wanted).abs() < 1e-5, "{cell} {latent}");
                }
                let mut back = vec![0.0; length];
                waves.latents(simd, &mut pixels, &mut back);
                assert!(back.iter().zip(&latents).all(|(a, b)| (a - b).abs() < 1e-5));
            }
        }
    }
}
