//! Latents: a picture as splines that go through one sine layer, the definition of that
//! function in f64, and the latents that a part of it needs (spec section 5.2).
//! Plain data and plain arithmetic; reads no bytes, starts no threads.

use std::ops::RangeInclusive;

use crate::error::DecodeError;
use crate::geometry::Size;
use crate::network::{Channels, Jet, Layer, check_range, limits};

/// The latents of one level, or a rectangle of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plane {
    width: usize,
    height: usize,
    region: Region,
    values: Vec<i16>,
}

/// A rectangle of latents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Region {
    /// First column.
    pub x: usize,
    /// First row.
    pub y: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Region {
    /// Number of latents.
    pub fn count(&self) -> u64 {
        self.width as u64 * self.height as u64
    }

    /// Whether the two share a latent.
    pub fn overlaps(&self, other: &Self) -> bool {
        let meet = |a: usize, a_count: usize, b: usize, b_count: usize| {
            a.max(b) < a.saturating_add(a_count).min(b.saturating_add(b_count))
        };
        meet(self.x, self.width, other.x, other.width)
            && meet(self.y, self.height, other.y, other.height)
    }

    /// The least rectangle that holds both; an empty one adds nothing.
    pub fn union(&self, other: &Self) -> Self {
        if self.count() == 0 {
            return *other;
        }
        if other.count() == 0 {
            return *self;
        }
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let right = (self.x + self.width).max(other.x + other.width);
        let bottom = (self.y + self.height).max(other.y + other.height);
        Self { x, y, width: right - x, height: bottom - y }
    }
}

impl Plane {
    /// A level's grid of so many latents, all zero.
    pub fn new(width: usize, height: usize) -> Self {
        Self::with_region(width, height, Region { x: 0, y: 0, width, height })
    }

    /// A level's grid of `width` x `height` latents, of which only those of a region
    /// are held, all zero.
    ///
    /// # Panics
    /// If the rectangle reaches beyond the grid.
    pub fn with_region(width: usize, height: usize, region: Region) -> Self {
        let inside = region.x + region.width <= width && region.y + region.height <= height;
        assert!(inside, "a region inside the grid");
        Self { width, height, region, values: vec![0; region.width * region.height] }
    }

    /// Latents from left to right in the level's whole grid.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Latents from top to bottom in the level's whole grid.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The rectangle that is held.
    pub fn region(&self) -> Region {
        self.region
    }

    /// The latents held, row by row.
    pub fn values(&self) -> &[i16] {
        &self.values
    }

    /// The latents held, row by row.
    pub fn values_mut(&mut self) -> &mut [i16] {
        &mut self.values
    }

    /// Puts the latents of a tile down, row by row, as far as the region holds them.
    pub(crate) fn put(&mut self, tile: Region, latents: &[i16]) {
        let Region { x, y, width, height } = self.region;
        let columns = tile.x.max(x)..(tile.x + tile.width).min(x + width);
        let rows = tile.y.max(y)..(tile.y + tile.height).min(y + height);
        if columns.is_empty() {
            return;
        }
        for row in rows {
            let from = &latents[(row - tile.y) * tile.width..][..tile.width];
            let to = &mut self.values[(row - y) * width..][..width];
            let (from_tile, from_region) = (columns.start - tile.x, columns.start - x);
            to[from_region..][..columns.len()].copy_from_slice(&from[from_tile..][..columns.len()]);
        }
    }

    /// The latent at a place of the level's grid, or at its border for a place beyond.
    ///
    /// # Panics
    /// If the region does not hold it.
    pub fn get_clamped(&self, x: i64, y: i64) -> i16 {
        let (x, y) = (clamp(x, self.width), clamp(y, self.height));
        self.row(y)[x - self.region.x]
    }

    /// The region's part of row `y` of the level's grid.
    pub(crate) fn row(&self, y: usize) -> &[i16] {
        let rows = self.region.y..self.region.y + self.region.height;
        assert!(rows.contains(&y), "row {y} is not in the region");
        let start = (y - self.region.y) * self.region.width;
        &self.values[start..start + self.region.width]
    }
}

/// The index nearest to `at` of `length` ones.
pub fn clamp(at: i64, length: usize) -> usize {
    at.clamp(0, length as i64 - 1) as usize
}

/// Latents of a level along an axis of `native` pixels.
pub fn level_length(native: u32, level: usize) -> usize {
    native.div_ceil(1 << level) as usize
}

/// The four latents along an axis that decide about a position, and their weights.
#[derive(Debug, Clone, Copy)]
pub struct Taps {
    /// First latent; those beyond the grid stand for the one at the border.
    pub first: i64,
    /// Weights of the value, the first and the second derivative per native pixel.
    pub weights: [[f64; 4]; 3],
}

impl Taps {
    /// At a native pixel position, for a level of `length` latents along the axis.
    pub fn at(level: usize, length: usize, position: f64) -> Self {
        let scale = 1.0 / f64::from(1u32 << level);
        let (place, t) = Self::place(level, length, position);
        let r = 1.0 - t;
        let value = [
            r * r * r / 6.0,
            ((3.0 * t - 6.0) * t * t + 4.0) / 6.0,
            (((3.0 - 3.0 * t) * t + 3.0) * t + 1.0) / 6.0,
            t * t * t / 6.0,
        ];
        let first = [-0.5 * r * r, (1.5 * t - 2.0) * t, (1.0 - 1.5 * t) * t + 0.5, 0.5 * t * t];
        let second = [r, 3.0 * t - 2.0, 1.0 - 3.0 * t, t];
        let weights = [
            value,
            first.map(|weight| weight * scale),
            second.map(|weight| weight * scale * scale),
        ];
        Self { first: place, weights }
    }

    /// The first of the four, and how far from the second the position is in units of the level.
    pub fn place(level: usize, length: usize, position: f64) -> (i64, f64) {
        let scale = 1.0 / f64::from(1u32 << level);
        // Beyond that the spline is constant: all four latents are the one at the border.
        let s = (position * scale - 0.5).clamp(-1.0, length as f64);
        let k = s.floor();
        (k as i64 - 1, s - k)
    }
}

/// The latents of a level that decide about all native pixel positions (u, v) of a
/// rectangle, for a picture of `native` size.
pub fn footprint(
    native: Size,
    level: usize,
    u: RangeInclusive<f64>,
    v: RangeInclusive<f64>,
) -> Region {
    let axis = |native, range: RangeInclusive<f64>| {
        let length = level_length(native, level);
        let first = clamp(Taps::at(level, length, *range.start()).first, length);
        let last = clamp(Taps::at(level, length, *range.end()).first + 3, length);
        (first, last + 1 - first)
    };
    let (x, width) = axis(native.width, u);
    let (y, height) = axis(native.height, v);
    Region { x, y, width, height }
}

/// A picture as a function of the native pixel position (u, v): with `F_l` the uniform cubic
/// B-spline of level l's latents, `out = W2 sin(W1 F + b1) + S F + b2`.
///
/// Level l has a latent for every 2^l x 2^l pixels, at the centre of that square. A plane that
/// holds nothing is that of a level left out: its spline is 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Latents {
    size: Size,
    planes: Vec<Plane>,
    sines: Layer,
    output: Layer,
}

impl Latents {
    /// The function of a picture of `size` native pixels, from the planes of its levels
    /// (finest first), `(W1, b1)`, and `((W2, S), b2)`, whose rows are those of W2 and S
    /// one after the other.
    ///
    /// # Errors
    /// [`DecodeError::OutOfRange`] for shapes that do not fit each other or exceed the
    /// limits of the format, [`DecodeError::NonFiniteWeight`] for a NaN or an infinity (the
    /// index counts `W1`, `b1`, then the output layer's).
    pub fn new(
        size: Size,
        planes: Vec<Plane>,
        sines: Layer,
        output: Layer,
    ) -> Result<Self, DecodeError> {
        let exactly = |field, found: usize, wanted: usize| {
            check_range(field, found as u64, wanted as u64, wanted as u64)
        };
        check_range("levels", planes.len() as u64, 1, limits::MAX_LEVELS as u64)?;
        for (level, plane) in planes.iter().enumerate() {
            exactly("width of a level", plane.width, level_length(size.width, level))?;
            exactly("height of a level", plane.height, level_length(size.height, level))?;
        }
        check_range("sines", sines.outputs as u64, 1, limits::MAX_HIDDEN_FEATURES as u64)?;
        check_range("channels", output.outputs as u64, 1, 4)?;
        exactly("inputs of the sine layer", sines.inputs, planes.len())?;
        exactly("inputs of the output layer", output.inputs, sines.outputs + planes.len())?;
        for layer in [&sines, &output] {
            exactly("weights of a layer", layer.weights.len(), layer.inputs * layer.outputs)?;
            exactly("biases of a layer", layer.biases.len(), layer.outputs)?;
        }
        let weights = [&sines.weights, &sines.biases, &output.weights, &output.biases];
        for (index, &value) in weights.into_iter().flatten().enumerate() {
            if !value.is_finite() {
                return Err(DecodeError::NonFiniteWeight { index, value });
            }
        }
        Ok(Self { size, planes, sines, output })
    }

    /// The native size.
    pub fn size(&self) -> Size {
        self.size
    }

    /// The output channels.
    pub fn channels(&self) -> Channels {
        Channels::from_count(self.output.outputs).expect("checked: one to four")
    }

    /// The levels, finest first.
    pub fn planes(&self) -> &[Plane] {
        &self.planes
    }

    /// `(W1, b1)`.
    pub fn sines(&self) -> &Layer {
        &self.sines
    }

    /// `((W2, S), b2)`: each row is a row of W2, then one of S.
    pub fn output(&self) -> &Layer {
        &self.output
    }

    /// The function and its exact derivatives per native pixel at a native pixel position,
    /// in f64: the reference that every fast path is held against. One [`Jet`] per channel,
    /// values in [-1, 1] where the picture's samples are.
    ///
    /// # Panics
    /// If a plane that holds something does not hold the position's [`footprint`].
    pub fn evaluate(&self, u: f64, v: f64) -> Vec<Jet> {
        let splines: Vec<Jet> = self
            .planes
            .iter()
            .enumerate()
            .map(|(level, plane)| {
                if plane.values.is_empty() {
                    return Jet::default();
                }
                let x = Taps::at(level, plane.width, u);
                let y = Taps::at(level, plane.height, v);
                let mut sum = Jet::default();
                for j in 0..4 {
                    for i in 0..4 {
                        let latent = plane.get_clamped(x.first + i as i64, y.first + j as i64);
                        let weight = |dx: usize, dy: usize| x.weights[dx][i] * y.weights[dy][j];
                        let latent = f64::from(latent);
                        sum.value += weight(0, 0) * latent;
                        sum.dx += weight(1, 0) * latent;
                        sum.dy += weight(0, 1) * latent;
                        sum.laplacian += (weight(2, 0) + weight(0, 2)) * latent;
                    }
                }
                sum
            })
            .collect();
        let mut h: Vec<Jet> = self.sines.apply(&splines).into_iter().map(Jet::sin).collect();
        h.extend(splines);
        self.output.apply(&h)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// A function of unit scale with all its planes whole.
    pub fn random(
        size: Size,
        levels: usize,
        sines: usize,
        channels: usize,
        rng: &mut impl Rng,
    ) -> Latents {
        let planes = (0..levels).map(|level| {
            let (width, height) =
                (level_length(size.width, level), level_length(size.height, level));
            let mut plane = Plane::new(width, height);
            plane.values_mut().iter_mut().for_each(|q| *q = rng.random_range(-60..=60));
            plane
        });
        let planes = planes.collect();
        let mut layer = |inputs: usize, outputs: usize, bounds: &dyn Fn(usize) -> f32| Layer {
            inputs,
            outputs,
            weights: (0..inputs * outputs)
                .map(|i| bounds(i % inputs) * rng.random_range(-1.0..1.0))
                .collect(),
            biases: (0..outputs).map(|_| rng.random_range(-1.0..1.0)).collect(),
        };
        let first = layer(levels, sines, &|_| 0.1);
        let mixed = 1.0 / (sines as f32).sqrt();
        let output = layer(sines + levels, channels, &|i| if i < sines { mixed } else { 5e-3 });
        Latents::new(size, planes, first, output).unwrap()
    }

    const SIZE: Size = Size { width: 21, height: 14 };

    fn example() -> Latents {
        random(SIZE, 5, 12, 4, &mut ChaCha8Rng::seed_from_u64(1))
    }

    #[test]
    fn derivatives_are_those_of_the_function() {
        let latents = example();
        let h = 1e-4;
        // Inside, at knots of several levels, at borders, corners and beyond.
        for (u, v) in [
            (7.3, 5.9),
            (0.5, 0.5),
            (4.0, 8.0),
            (8.5, 3.0),
            (0.01, 13.9),
            (20.9, 0.2),
            (21.0, 14.0),
            (-3.2, 6.1),
            (25.7, 19.0),
        ] {
            let at = |du: f64, dv: f64| latents.evaluate(u + du, v + dv);
            let (here, left, right) = (at(0.0, 0.0), at(-h, 0.0), at(h, 0.0));
            let (up, down) = (at(0.0, -h), at(0.0, h));
            for channel in 0..4 {
                let value = |jets: &[Jet]| jets[channel].value;
                let dx = (value(&right) - value(&left)) / (2.0 * h);
                let dy = (value(&down) - value(&up)) / (2.0 * h);
                let around = value(&left) + value(&right) + value(&up) + value(&down);
                let laplacian = (around - 4.0 * value(&here)) / (h * h);
                let jet = here[channel];
                let scale = 1.0 + jet.dx.hypot(jet.dy);
                assert!((jet.dx - dx).abs() < 1e-5 * scale, "{u} {v}: {} {dx}", jet.dx);
                assert!((jet.dy - dy).abs() < 1e-5 * scale, "{u} {v}: {} {dy}", jet.dy);
                // Third derivatives jump at knots.
                let error = (jet.laplacian - laplacian).abs() / scale.powi(2);
                assert!(error < 2e-3, "{u} {v}: {} {laplacian}", jet.laplacian);
            }
        }
    }

    #[test]
    fn splines_reproduce_lines_and_have_the_values_of_the_design() {
        // A B-spline of a line is that line, away from the border.
        let mut plane = Plane::new(20, 20);
        for (i, q) in plane.values_mut().iter_mut().enumerate() {
            *q = (3 * (i % 20) + 5 * (i / 20)) as i16;
        }
        let layer =
            |weights: Vec<f32>, inputs| Layer { inputs, outputs: 1, weights, biases: vec![0.25] };
        let size = Size { width: 20, height: 20 };
        let (sines, output) = (layer(vec![0.0], 1), layer(vec![0.0, 0.5], 2));
        let latents = Latents::new(size, vec![plane], sines, output).unwrap();
        let [jet] = latents.evaluate(7.75, 9.5)[..] else { panic!("one channel") };
        assert!((jet.value - (0.5 * (3.0 * 7.25 + 5.0 * 9.0) + 0.25)).abs() < 1e-12);
        assert!((jet.dx - 1.5).abs() < 1e-12 && (jet.dy - 2.5).abs() < 1e-12);
        assert!(jet.laplacian.abs() < 1e-12);
        let Taps { first, weights } = Taps::at(1, 10, 9.0);
        assert_eq!((first, weights[0]), (3, [1.0, 4.0, 1.0, 0.0].map(|w| w / 6.0)));
    }

    #[test]
    fn a_region_of_the_footprint_suffices() {
        let latents = example();
        for (u, v) in [(0.0..=21.0, 0.0..=14.0), (3.2..=9.1, 12.6..=13.5), (20.9..=20.9, 0.1..=0.1)]
        {
            let mut partial = latents.clone();
            for (level, plane) in partial.planes.iter_mut().enumerate() {
                let Region { x, y, width, height } = footprint(SIZE, level, u.clone(), v.clone());
                let (w, h) = (plane.width, plane.height);
                let mut part = Plane::with_region(w, h, Region { x, y, width, height });
                for (i, q) in part.values_mut().iter_mut().enumerate() {
                    *q = plane.get_clamped((x + i % width) as i64, (y + i / width) as i64);
                }
                *plane = part;
            }
            for (u, v) in [(*u.start(), *v.start()), (*u.end(), *v.end())] {
                assert_eq!(partial.evaluate(u, v), latents.evaluate(u, v));
            }
        }
        let region = footprint(SIZE, 1, 9.0..=9.0, 0.0..=0.0);
        assert_eq!(region, Region { x: 3, y: 0, width: 4, height: 2 });
    }

    #[test]
    fn shapes_and_weights_are_checked() {
        let refused = |change: &dyn Fn(&mut Latents)| {
            let mut latents = example();
            change(&mut latents);
            Latents::new(latents.size, latents.planes, latents.sines, latents.output).unwrap_err()
        };
        use DecodeError::{NonFiniteWeight, OutOfRange};
        let shapes: [&dyn Fn(&mut Latents); 6] = [
            &|g| g.planes.clear(),
            &|g| g.size.width += 1,
            &|g| drop(g.planes.pop()),
            &|g| g.sines.weights.truncate(3),
            &|g| g.output.outputs = 5,
            &|g| g.output.inputs -= 1,
        ];
        for shape in shapes {
            assert!(matches!(refused(shape), OutOfRange { .. }));
        }
        let error = refused(&|g| g.sines.biases[2] = f32::NAN);
        assert!(matches!(error, NonFiniteWeight { index: 62, .. }), "{error}");
    }
}
