//! Latents: a picture as splines and waves that go through one sine layer, the definition of
//! that function in f64, and the latents that a part of it needs (spec section 5.2).
//! Plain data and plain arithmetic; reads no bytes, starts no threads.

use std::f64::consts::PI;
use std::fmt;
use std::ops::RangeInclusive;

use crate::error::DecodeError;
use crate::geometry::Size;
use crate::network::{Channels, Jet, Layer, check_range, limits};

/// What the latents of a plane are coefficients of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Basis {
    /// Uniform cubic B-splines, a latent for every 2^level x 2^level pixels.
    Splines {
        /// 0 is as fine as the pixels.
        level: usize,
    },
    /// Windowed cosines on overlapping cells, as many frequencies along an axis as a cell has
    /// pixels: the latent in column `cell * i + k` is frequency k of cell i.
    Waves {
        /// Pixels of a cell along an axis: 8, 16 or 32.
        cell: usize,
    },
}

/// The latents of one plane, or a rectangle of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plane {
    basis: Basis,
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

impl Basis {
    /// Latents along an axis of `native` pixels.
    pub fn length(self, native: u32) -> usize {
        let native = native as usize;
        match self {
            Self::Splines { level } => native.div_ceil(1 << level),
            Self::Waves { cell } => native.next_multiple_of(cell),
        }
    }

    /// Latents along an axis that decide about a position, where there are `length` of them.
    pub fn taps(self, length: usize) -> usize {
        match self {
            Self::Splines { .. } => 4,
            Self::Waves { cell } => length.min(2 * cell),
        }
    }

    /// The first of these at a native pixel position: of splines it may lie beyond the plane,
    /// and then stands for the latent at the border.
    pub fn first(self, length: usize, position: f64) -> i64 {
        match self {
            Self::Splines { level } => place(level, length, position).0,
            Self::Waves { cell } => {
                let last = (length / cell).saturating_sub(2) as f64;
                let before = (position / cell as f64 - 0.5).floor();
                (before.clamp(0.0, last) as usize * cell) as i64
            }
        }
    }

    /// Weights of these latents: rows of [`Basis::taps`] numbers, of the value and, as far as
    /// `weights` has room, of its first and second derivative per native pixel.
    ///
    /// # Panics
    /// If `weights` is not one row to three.
    pub fn weights(self, length: usize, position: f64, weights: &mut [f64]) {
        let taps = self.taps(length);
        assert!(weights.len().is_multiple_of(taps) && weights.len() / taps <= 3, "rows of weights");
        let mut set = |tap: usize, [value, first, second]: [f64; 3]| {
            let orders = [value, first, second];
            for (to, order) in weights.iter_mut().skip(tap).step_by(taps).zip(orders) {
                *to = order;
            }
        };
        match self {
            Self::Splines { level } => {
                let (_, t) = place(level, length, position);
                spline(level, t).into_iter().enumerate().for_each(|(tap, w)| set(tap, w));
            }
            Self::Waves { cell } => {
                let first = self.first(length, position) as usize / cell;
                for tap in 0..taps {
                    let (index, frequency) = (first + tap / cell, tap % cell);
                    let window = window(cell, length / cell, index, position);
                    set(tap, wave(cell, index, frequency, position, window));
                }
            }
        }
    }

    /// Along an axis of `native` pixels the first latent, and how many from it on, that decide
    /// about all positions of a range.
    fn reach(self, native: u32, positions: &RangeInclusive<f64>) -> (usize, usize) {
        let length = self.length(native);
        let first = self.first(length, *positions.start());
        let last = self.first(length, *positions.end()) + self.taps(length) as i64 - 1;
        let (first, last) = (clamp(first, length), clamp(last, length));
        (first, last + 1 - first)
    }

    /// The latents that decide about all native pixel positions (u, v) of a rectangle, for a
    /// picture of `native` size.
    pub fn footprint(
        self,
        native: Size,
        u: &RangeInclusive<f64>,
        v: &RangeInclusive<f64>,
    ) -> Region {
        let (x, width) = self.reach(native.width, u);
        let (y, height) = self.reach(native.height, v);
        Region { x, y, width, height }
    }
}

/// The planes of a picture, finest first: those of waves, all of cells of one size, then splines
/// of consecutive levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bases {
    waves: usize,
    cell: usize,
    finest: usize,
    levels: usize,
}

impl Bases {
    /// So many planes of waves with cells of `cell` pixels, and so many levels of splines from
    /// level `finest` on.
    ///
    /// # Errors
    /// [`DecodeError::OutOfRange`] for more than the format allows, or another cell than one of 8,
    /// 16 or 32 pixels where there are waves.
    pub fn new(
        waves: usize,
        cell: usize,
        finest: usize,
        levels: usize,
    ) -> Result<Self, DecodeError> {
        check_range("planes of waves", waves as u64, 0, limits::MAX_WAVES as u64)?;
        check_range("levels", levels as u64, 1, limits::MAX_LEVELS as u64)?;
        let coarsest = (finest + levels - 1) as u64;
        check_range("coarsest level", coarsest, 0, limits::MAX_LEVELS as u64 - 1)?;
        let cell = if waves > 0 { cell } else { 0 };
        if waves > 0 && !matches!(cell, 8 | 16 | 32) {
            return Err(DecodeError::OutOfRange {
                field: "cell",
                value: cell as u64,
                min: 8,
                max: 32,
            });
        }
        Ok(Self { waves, cell, finest, levels })
    }

    /// Those of some planes.
    ///
    /// # Errors
    /// As [`Bases::new`], also where they are in another order.
    pub fn of(planes: &[Plane]) -> Result<Self, DecodeError> {
        let is_wave = |plane: &&Plane| matches!(plane.basis, Basis::Waves { .. });
        let waves = planes.iter().take_while(is_wave).count();
        let cell = match planes.first().map(Plane::basis) {
            Some(Basis::Waves { cell }) => cell,
            _ => 0,
        };
        let finest = match planes.get(waves).map(Plane::basis) {
            Some(Basis::Splines { level }) => level,
            _ => 0,
        };
        let bases = Self::new(waves, cell, finest, planes.len() - waves)?;
        match bases.iter().zip(planes).position(|(basis, plane)| basis != plane.basis) {
            None => Ok(bases),
            Some(index) => {
                let (field, value) = ("plane out of order", index as u64);
                Err(DecodeError::OutOfRange { field, value, min: 0, max: 0 })
            }
        }
    }

    /// Number of planes.
    pub fn count(self) -> usize {
        self.waves + self.levels
    }

    /// Planes of waves, which are the first.
    pub fn waves(self) -> usize {
        self.waves
    }

    /// Pixels of a cell along an axis, 0 where there are no waves.
    pub fn cell(self) -> usize {
        self.cell
    }

    /// The finest level of splines.
    pub fn finest(self) -> usize {
        self.finest
    }

    /// Levels of splines.
    pub fn levels(self) -> usize {
        self.levels
    }

    /// That of plane `index`.
    pub fn get(self, index: usize) -> Basis {
        match index.checked_sub(self.waves) {
            None => Basis::Waves { cell: self.cell },
            Some(index) => Basis::Splines { level: self.finest + index },
        }
    }

    /// All of them.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Basis> + ExactSizeIterator {
        (0..self.count()).map(move |index| self.get(index))
    }
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Splines { level } => write!(f, "level {level}"),
            Self::Waves { cell } => write!(f, "waves of {cell}"),
        }
    }
}

/// The first of a spline's four latents, and how far from the second the position is in units of
/// the level.
pub fn place(level: usize, length: usize, position: f64) -> (i64, f64) {
    let scale = 1.0 / f64::from(1u32 << level);
    // Beyond that the spline is constant: all four latents are the one at the border.
    let s = (position * scale - 0.5).clamp(-1.0, length as f64);
    let k = s.floor();
    (k as i64 - 1, s - k)
}

/// Of four latents each: what the value, the first and the second derivative take of it.
fn spline(level: usize, t: f64) -> [[f64; 3]; 4] {
    let scale = 1.0 / f64::from(1u32 << level);
    let r = 1.0 - t;
    let value = [
        r * r * r / 6.0,
        ((3.0 * t - 6.0) * t * t + 4.0) / 6.0,
        (((3.0 - 3.0 * t) * t + 3.0) * t + 1.0) / 6.0,
        t * t * t / 6.0,
    ];
    let first = [-0.5 * r * r, (1.5 * t - 2.0) * t, (1.0 - 1.5 * t) * t + 0.5, 0.5 * t * t];
    let second = [r, 3.0 * t - 2.0, 1.0 - 3.0 * t, t];
    std::array::from_fn(|k| [value[k], first[k] * scale, second[k] * scale * scale])
}

/// The window of cell `index` of `count`, and its derivatives. It rises and falls where cells
/// overlap, so that its squares sum to 1, and goes on at 1 at the borders of the picture.
fn window(cell: usize, count: usize, index: usize, position: f64) -> [f64; 3] {
    let size = cell as f64;
    let t = position / size - index as f64 + 0.5;
    let rises = t < 1.0;
    if (rises && index == 0) || (!rises && index + 1 == count) {
        return [1.0, 0.0, 0.0];
    }
    if !(0.0..=2.0).contains(&t) {
        return [0.0; 3];
    }
    let t = if rises { t } else { 2.0 - t };
    let step = t * t * t * (10.0 - 15.0 * t + 6.0 * t * t);
    let first = 30.0 * t * t * (1.0 - t) * (1.0 - t) / size;
    let second = 60.0 * t * (1.0 - t) * (1.0 - 2.0 * t) / (size * size);
    let (sine, cosine) = (0.5 * PI * step).sin_cos();
    let (first, second) = (0.5 * PI * first, 0.5 * PI * second);
    let slope = first * cosine;
    [sine, if rises { slope } else { -slope }, second * cosine - first * first * sine]
}

/// A wave, and its derivatives.
fn wave(cell: usize, index: usize, frequency: usize, position: f64, window: [f64; 3]) -> [f64; 3] {
    let size = cell as f64;
    let pitch = PI / size * (frequency as f64 + 0.5);
    let (sine, cosine) = (pitch * (position - (size * index as f64) + size)).sin_cos();
    let norm = (2.0 / size).sqrt();
    let [c, d, dd] = [cosine, -pitch * sine, -pitch * pitch * cosine].map(|value| norm * value);
    let [w, dw, ddw] = window;
    [w * c, dw * c + w * d, ddw * c + 2.0 * dw * d + w * dd]
}

impl Plane {
    /// The plane of a picture of `size` native pixels, all its latents zero.
    pub fn new(basis: Basis, size: Size) -> Self {
        let (width, height) = (basis.length(size.width), basis.length(size.height));
        Self::with_region(basis, size, Region { x: 0, y: 0, width, height })
    }

    /// The plane of a picture of `size` native pixels of which only the latents of a region are
    /// held, all zero.
    ///
    /// # Panics
    /// If the rectangle reaches beyond the plane.
    pub fn with_region(basis: Basis, size: Size, region: Region) -> Self {
        let (width, height) = (basis.length(size.width), basis.length(size.height));
        let inside = region.x + region.width <= width && region.y + region.height <= height;
        assert!(inside, "a region inside the plane");
        let values = vec![0; region.width * region.height];
        Self { basis, width, height, region, values }
    }

    /// What the latents are coefficients of.
    pub fn basis(&self) -> Basis {
        self.basis
    }

    /// Latents from left to right in the whole plane.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Latents from top to bottom in the whole plane.
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

    /// The latent at a place of the plane, or at its border for a place beyond.
    ///
    /// # Panics
    /// If the region does not hold it.
    pub fn get_clamped(&self, x: i64, y: i64) -> i16 {
        let (x, y) = (clamp(x, self.width), clamp(y, self.height));
        self.row(y)[x - self.region.x]
    }

    /// The region's part of row `y` of the plane.
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

/// A picture as a function of the native pixel position (u, v): with F the sums that the planes
/// are the coefficients of, `out = W2 sin(W1 F + b1) + S F + b2`.
///
/// A plane that holds nothing is one left out: its sum is 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Latents {
    size: Size,
    planes: Vec<Plane>,
    sines: Layer,
    output: Layer,
}

impl Latents {
    /// The function of a picture of `size` native pixels, from its planes (finest first: any
    /// waves, then splines of consecutive levels), `(W1, b1)`, and `((W2, S), b2)`, whose rows are those of W2 and S
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
        Bases::of(&planes)?;
        for plane in &planes {
            exactly("width of a plane", plane.width, plane.basis.length(size.width))?;
            exactly("height of a plane", plane.height, plane.basis.length(size.height))?;
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

    /// The planes, finest first.
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
    /// If a plane that holds something does not hold what [`Basis::footprint`] tells for the position.
    pub fn evaluate(&self, u: f64, v: f64) -> Vec<Jet> {
        let sums: Vec<Jet> = self.planes.iter().map(|plane| plane.sum(u, v)).collect();
        let mut h: Vec<Jet> = self.sines.apply(&sums).into_iter().map(Jet::sin).collect();
        h.extend(sums);
        self.output.apply(&h)
    }
}

impl Plane {
    /// What the latents are the coefficients of, at a native pixel position; 0 where none is held.
    fn sum(&self, u: f64, v: f64) -> Jet {
        let mut sum = Jet::default();
        if self.values.is_empty() {
            return sum;
        }
        let axis = |length: usize, position: f64| {
            let taps = self.basis.taps(length);
            let mut weights = vec![0.0; 3 * taps];
            self.basis.weights(length, position, &mut weights);
            (self.basis.first(length, position), taps, weights)
        };
        let (left, columns, across) = axis(self.width, u);
        let (top, rows, down) = axis(self.height, v);
        for j in 0..rows {
            for i in 0..columns {
                let weight = |dx: usize, dy: usize| across[dx * columns + i] * down[dy * rows + j];
                let latent = f64::from(self.get_clamped(left + i as i64, top + j as i64));
                sum.value += weight(0, 0) * latent;
                sum.dx += weight(1, 0) * latent;
                sum.dy += weight(0, 1) * latent;
                sum.laplacian += (weight(2, 0) + weight(0, 2)) * latent;
            }
        }
        sum
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
        bases: Bases,
        sines: usize,
        channels: usize,
        rng: &mut impl Rng,
    ) -> Latents {
        let levels = bases.count();
        let planes = bases.iter().map(|basis| {
            let mut plane = Plane::new(basis, size);
            let most = if matches!(basis, Basis::Waves { .. }) { 9 } else { 60 };
            plane.values_mut().iter_mut().for_each(|q| *q = rng.random_range(-most..=most));
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
        random(SIZE, bases(0, 0, 0, 5), 12, 4, &mut ChaCha8Rng::seed_from_u64(1))
    }

    fn with_waves() -> [Latents; 3] {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        [bases(1, 8, 2, 3), bases(2, 16, 0, 1), bases(1, 32, 1, 2)]
            .map(|bases| random(SIZE, bases, 9, 4, &mut rng))
    }

    pub fn bases(waves: usize, cell: usize, finest: usize, levels: usize) -> Bases {
        Bases::new(waves, cell, finest, levels).unwrap()
    }

    #[test]
    fn derivatives_are_those_of_the_function() {
        derivatives_are_right(&example());
        with_waves().iter().for_each(derivatives_are_right);
    }

    fn derivatives_are_right(latents: &Latents) {
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
        let size = Size { width: 20, height: 20 };
        let mut plane = Plane::new(Basis::Splines { level: 0 }, size);
        for (i, q) in plane.values_mut().iter_mut().enumerate() {
            *q = (3 * (i % 20) + 5 * (i / 20)) as i16;
        }
        let layer =
            |weights: Vec<f32>, inputs| Layer { inputs, outputs: 1, weights, biases: vec![0.25] };
        let (sines, output) = (layer(vec![0.0], 1), layer(vec![0.0, 0.5], 2));
        let latents = Latents::new(size, vec![plane], sines, output).unwrap();
        let [jet] = latents.evaluate(7.75, 9.5)[..] else { panic!("one channel") };
        assert!((jet.value - (0.5 * (3.0 * 7.25 + 5.0 * 9.0) + 0.25)).abs() < 1e-12);
        assert!((jet.dx - 1.5).abs() < 1e-12 && (jet.dy - 2.5).abs() < 1e-12);
        assert!(jet.laplacian.abs() < 1e-12);
        let mut weights = [0.0; 4];
        let basis = Basis::Splines { level: 1 };
        basis.weights(10, 9.0, &mut weights);
        assert_eq!((basis.first(10, 9.0), weights), (3, [1.0, 4.0, 1.0, 0.0].map(|w| w / 6.0)));
    }

    #[test]
    fn waves_at_pixels_are_those_of_the_kernel() {
        for (cell, count) in [(8, 5), (16, 1), (16, 2), (32, 3)] {
            let (basis, length) = (Basis::Waves { cell }, cell * count);
            let taps = basis.taps(length);
            let latents: Vec<f32> = (0..length).map(|k| ((7 * k) % 11) as f32 - 5.0).collect();
            let mut pixels = vec![0.0; length];
            siren_kernel::Waves::new(cell).pixels(siren_kernel::Simd::new(), &latents, &mut pixels);
            let mut weights = vec![0.0; taps];
            for (pixel, wanted) in pixels.iter().enumerate() {
                let position = pixel as f64 + 0.5;
                basis.weights(length, position, &mut weights);
                let first = basis.first(length, position) as usize;
                let terms = weights.iter().zip(&latents[first..]);
                let found: f64 = terms.map(|(w, q)| w * f64::from(*q)).sum();
                assert!((found - f64::from(*wanted)).abs() < 1e-4, "{cell} {pixel}");
            }
        }
    }

    #[test]
    fn planes_have_an_order() {
        for (waves, cell, finest, levels) in
            [(5, 8, 0, 1), (1, 4, 0, 1), (1, 24, 0, 1), (0, 0, 0, 11), (0, 0, 4, 7), (1, 8, 0, 0)]
        {
            assert!(Bases::new(waves, cell, finest, levels).is_err());
        }
        let plane = |basis| Plane::new(basis, SIZE);
        let (eight, two) = (Basis::Waves { cell: 8 }, Basis::Splines { level: 2 });
        let planes = [eight, two, Basis::Splines { level: 3 }].map(plane);
        assert_eq!(Bases::of(&planes), Ok(bases(1, 8, 2, 2)));
        for wrong in [[two, eight, two], [eight, Basis::Waves { cell: 16 }, two], [eight, two, two]]
        {
            assert!(Bases::of(&wrong.map(plane)).is_err());
        }
    }

    #[test]
    fn a_region_of_the_footprint_suffices() {
        a_footprint_suffices(&example());
        with_waves().iter().for_each(a_footprint_suffices);
        let basis = Basis::Splines { level: 1 };
        let region = basis.footprint(SIZE, &(9.0..=9.0), &(0.0..=0.0));
        assert_eq!(region, Region { x: 3, y: 0, width: 4, height: 2 });
    }

    fn a_footprint_suffices(latents: &Latents) {
        for (u, v) in [(0.0..=21.0, 0.0..=14.0), (3.2..=9.1, 12.6..=13.5), (20.9..=20.9, 0.1..=0.1)]
        {
            let mut partial = latents.clone();
            for plane in &mut partial.planes {
                let region = plane.basis.footprint(SIZE, &u, &v);
                let Region { x, y, width, .. } = region;
                let mut part = Plane::with_region(plane.basis, SIZE, region);
                for (i, q) in part.values_mut().iter_mut().enumerate() {
                    *q = plane.get_clamped((x + i % width) as i64, (y + i / width) as i64);
                }
                *plane = part;
            }
            for (u, v) in [(*u.start(), *v.start()), (*u.end(), *v.end())] {
                assert_eq!(partial.evaluate(u, v), latents.evaluate(u, v));
            }
        }
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
