//! Mini-batches: pixels spread evenly over the picture, more of them where the error is large.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::quality::Errors;
use super::stepper::{Batch, WeightedPixel};
use crate::error::EncodeError;
use crate::train::archive::Archive;
use siren_image::Size;

/// Share of the mean density that every tile gets on top of its own.
const EVERYWHERE: f32 = 0.3;
/// Most density of a tile, in means.
const MOST: f32 = 4.0;
/// Multiples of the golden ratio leave no large gap between their fractions, however many.
const GOLDEN: f64 = 0.618_033_988_749_894_8;

/// Deals out the pixels of a picture.
pub(super) struct Sampler {
    size: Size,
    focus: Focus,
    batches: u32,
    /// Tells where the first batch has its pixels.
    rng: ChaCha8Rng,
}

/// How densely pixels are taken from each part of the picture.
struct Focus {
    /// Width and height of a tile in pixels; the last of a row or column may be smaller.
    side: u32,
    /// Of the tiles, row by row, in any unit.
    densities: Vec<f32>,
    tiles: Vec<Tile>,
}

struct Tile {
    left: u32,
    top: u32,
    width: u32,
    pixels: u32,
    /// Mean density of the picture over that of the tile.
    weight: f64,
    /// Sum over all pixels up to its last of their densities in means.
    end: f64,
}

impl Focus {
    /// For a picture of this size.
    fn new(side: u32, densities: Vec<f32>, size: Size) -> Self {
        let across = size.width.div_ceil(side);
        let tiles = (0..).zip(&densities).map(|(index, &density)| {
            let (left, top) = (index % across * side, index / across * side);
            let (width, height) = (side.min(size.width - left), side.min(size.height - top));
            (Tile { left, top, width, pixels: width * height, weight: 0.0, end: 0.0 }, density)
        });
        let sums = tiles.clone().map(|(tile, density)| f64::from(tile.pixels) * f64::from(density));
        let mean = sums.sum::<f64>() / size.pixels() as f64;
        let mut end = 0.0;
        let tiles = tiles.map(|(tile, density)| {
            let weight = mean / f64::from(density);
            end += f64::from(tile.pixels) / weight;
            Tile { weight, end, ..tile }
        });
        Self { side, tiles: tiles.collect(), densities }
    }
}

/// The pixels of one step.
pub(super) enum Drawn {
    /// Each of them once, in order, of weight 1.
    All,
    /// These. The weight of each makes up for its density.
    Some(Vec<WeightedPixel>),
}

impl Drawn {
    /// As a stepper takes them.
    pub fn batch(&self) -> Batch<'_> {
        match self {
            Self::All => Batch::All,
            Self::Some(pixels) => Batch::Of(pixels),
        }
    }
}

impl Sampler {
    /// Batches of the pixels of a picture of this size.
    pub fn new(size: Size, rng: ChaCha8Rng) -> Self {
        let focus = Focus::new(size.longer_side(), vec![1.0], size);
        Self { size, focus, batches: 0, rng }
    }

    /// From now on takes pixels in proportion to the root mean square error around them.
    /// Their weights make up for it, so that the expected gradient stays that of the mean
    /// squared error, and its variance is near its least (importance sampling).
    pub fn focus(&mut self, errors: &Errors) {
        let roots: Vec<f32> = errors.tiles.iter().map(|error| error.sqrt()).collect();
        let mean = roots.iter().sum::<f32>() / roots.len() as f32;
        if !(mean > 0.0 && mean.is_finite()) {
            return;
        }
        let density = |root: &f32| (root / mean + EVERYWHERE).min(MOST);
        let densities = roots.iter().map(density).collect();
        self.focus = Focus::new(errors.tile as u32, densities, self.size);
    }

    /// Saves what the next batch hangs on, or restores it.
    pub fn archive(&mut self, archive: &mut Archive) -> Result<(), EncodeError> {
        archive.u32(&mut self.batches)?;
        let (mut side, mut densities) = (self.focus.side, self.focus.densities.clone());
        archive.u32(&mut side)?;
        if side == 0 {
            return Err(EncodeError::CheckpointDamaged);
        }
        let size = self.size;
        let tiles = u64::from(size.width.div_ceil(side)) * u64::from(size.height.div_ceil(side));
        densities.resize(tiles as usize, 0.0);
        archive.f32s(&mut densities)?;
        self.focus = Focus::new(side, densities, size);
        Ok(())
    }

    /// The next `points` pixels, or all where there are no more than these.
    ///
    /// The pixels stand tile by tile in a row, each as long as its density. The row is cut into
    /// `points` stretches of the same length, and a place of each tells a pixel (stratified
    /// sampling). It is random in the first batch and moves by the golden ratio from one to the
    /// next, so that few pixels come again before all have been there.
    pub fn next_pixels(&mut self, points: usize) -> Drawn {
        let all = self.size.pixels();
        if points as u64 >= all {
            return Drawn::All;
        }
        self.batches += 1;
        let turn = (f64::from(self.batches) * GOLDEN).fract();
        let mut starts = self.rng.clone();
        let stretch = all as f64 / points as f64;
        let width = self.size.width;
        let mut tiles = self.focus.tiles.iter().peekable();
        let mut tile = tiles.next().expect("a picture has tiles");
        let drawn = (0..points).map(|index| {
            let within = f64::from(starts.random::<f32>()) + turn;
            let within = if within < 1.0 { within } else { within - 1.0 };
            let place = (index as f64 + within) * stretch;
            while let Some(next) = tiles.next_if(|_| place >= tile.end) {
                tile = next;
            }
            let from_end = ((tile.end - place) * tile.weight) as u32;
            let pixel = tile.pixels - 1 - from_end.min(tile.pixels - 1);
            let (column, row) = (tile.left + pixel % tile.width, tile.top + pixel / tile.width);
            WeightedPixel { number: row * width + column, weight: tile.weight as f32 }
        });
        Drawn::Some(drawn.collect())
    }

    /// `points` pixels drawn evenly by `rng`, apart from the order of the batches.
    pub fn sample(&self, points: usize, rng: &mut impl Rng) -> Vec<u32> {
        let all = self.size.pixels() as u32;
        (0..points).map(|_| rng.random_range(0..all)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const SIZE: Size = Size { width: 37, height: 23 };

    fn sampler() -> Sampler {
        Sampler::new(SIZE, ChaCha8Rng::seed_from_u64(0))
    }

    /// Tiles of 8x8 pixels, the errors of which grow to the right.
    fn errors() -> Errors {
        let tiles = (0..5 * 3).map(|index| (index % 5) as f32).collect();
        Errors { relative: 0.5, tiles, tile: 8 }
    }

    fn drawn(sampler: &mut Sampler, points: usize) -> Vec<WeightedPixel> {
        let Drawn::Some(pixels) = sampler.next_pixels(points) else { panic!("not all pixels") };
        assert_eq!(pixels.len(), points);
        assert!(pixels.iter().all(|p| u64::from(p.number) < SIZE.pixels()));
        pixels
    }

    /// How often each pixel is drawn in so many batches, and the sum of its weights.
    fn counts(sampler: &mut Sampler, points: usize, batches: usize) -> Vec<(u32, f64)> {
        let mut counts = vec![(0, 0.0); SIZE.pixels() as usize];
        for pixel in (0..batches).flat_map(|_| drawn(sampler, points)) {
            let (count, weights) = &mut counts[pixel.number as usize];
            *count += 1;
            *weights += f64::from(pixel.weight);
        }
        counts
    }

    #[test]
    fn pixels_come_again_when_nearly_all_have_been_there() {
        // About as many as the picture has.
        let counts = counts(&mut sampler(), 50, 17);
        let missing = counts.iter().filter(|(count, _)| *count == 0).count();
        // Independent draws would leave out a share of 1/e.
        assert!(missing < counts.len() / 4, "{missing} of {}", counts.len());
        assert!(counts.iter().all(|(count, weights)| *weights == f64::from(*count)));
    }

    #[test]
    fn weights_make_up_for_densities() {
        let mut sampler = sampler();
        sampler.focus(&errors());
        let (points, batches) = (100, 2000);
        let counts = counts(&mut sampler, points, batches);
        let each = (points * batches) as f64 / counts.len() as f64;
        for (index, (count, weights)) in counts.iter().enumerate() {
            assert!((weights / each - 1.0).abs() < 0.1, "pixel {index}: {weights}, not {each}");
            // The errors at the right are the largest.
            let column = index as u32 % SIZE.width;
            assert!(column > 7 || f64::from(*count) < 0.5 * each, "pixel {index}: {count}");
            assert!(column < 32 || f64::from(*count) > 1.2 * each, "pixel {index}: {count}");
        }
    }

    #[test]
    fn a_batch_of_all_pixels_has_each_of_them_once() {
        let mut sampler = sampler();
        sampler.focus(&errors());
        let all = sampler.next_pixels(SIZE.pixels() as usize);
        assert!(matches!(all, Drawn::All));
    }

    #[test]
    fn a_restored_sampler_goes_on_with_the_same_pixels() {
        let mut first = sampler();
        drawn(&mut first, 60);
        first.focus(&errors());
        drawn(&mut first, 60);
        let mut bytes = Vec::new();
        first.archive(&mut Archive::Writing(&mut bytes)).unwrap();
        let mut second = sampler();
        second.archive(&mut Archive::Reading(&bytes)).unwrap();
        assert_eq!(drawn(&mut first, 60), drawn(&mut second, 60));

        bytes[4..8].fill(0);
        let damaged = sampler().archive(&mut Archive::Reading(&bytes));
        assert!(matches!(damaged, Err(EncodeError::CheckpointDamaged)));
    }
}
