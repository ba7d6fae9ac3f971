//! Latents of splines to bytes and back: a small network in integers predicts each of them
//! from those before it (spec section 6.6). A few tiles at a time; starts no threads, knows
//! nothing of the picture.

use std::convert::Infallible;
use std::ops::Range;

use super::entropy::{Laplace, Malformed, Reader, SCALES, Writer};
use crate::latents::{Plane, Region};
use siren_kernel::{INTEGER_POINTS, IntegerNetwork, Simd};

/// Longest side of a tile in latents.
pub const TILE: usize = 256;
/// Inputs of the network.
pub const INPUTS: usize = 21;
/// Outputs of the network: centre and scale.
pub const OUTPUTS: usize = 2;
/// Most features of a hidden layer of the network.
pub const MAX_FEATURES: usize = 64;
/// Most bits that a layer of the network drops.
pub const MAX_DROP: u32 = 15;

/// Largest input of the network.
pub(super) const LARGEST_INPUT: i32 = 1023;
/// Largest output of a hidden layer.
const LARGEST_FEATURE: i32 = 4095;
/// What the biases of all layers but the first are multiplied by.
const BIAS_UNIT: i32 = 64;

/// Neighbours of a latent, column and row relative to it: the first inputs.
pub const NEIGHBOURS: [(isize, isize); 16] = [
    (-1, 0),
    (-2, 0),
    (-3, 0),
    (-2, -1),
    (-1, -1),
    (0, -1),
    (1, -1),
    (2, -1),
    (-2, -2),
    (-1, -2),
    (0, -2),
    (1, -2),
    (2, -2),
    (-1, -3),
    (0, -3),
    (1, -3),
];
/// Inputs from the coarser level, which follow; the last input is the level.
pub const COARSE: usize = 4;

/// Rows of a group, a lane of the network each.
const GROUP: usize = INTEGER_POINTS;
/// Each row of a group lags so many columns behind the one above it.
const LAG: usize = 3;
/// Rows above a group that its latents depend on.
const ABOVE: usize = 3;
/// Steps before the first that inputs reach back to.
const BEFORE: usize = 10;
/// Latents of a step in the window: the rows above the group and its own, padded.
const STRIDE: usize = 20;

/// How far before a latent in the window each neighbour stands: in the row `dy` away, some steps ago.
const BACK: [usize; NEIGHBOURS.len()] = {
    let mut back = [0; NEIGHBOURS.len()];
    let mut k = 0;
    while k < back.len() {
        let (dx, dy) = NEIGHBOURS[k];
        back[k] = ((-dx - LAG as isize * dy) * STRIDE as isize - dy) as usize;
        k += 1;
    }
    back
};

/// A layer of the network that predicts latents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntegerLayer {
    drop: u32,
    weights: Vec<i32>,
    biases: Vec<i32>,
}

impl IntegerLayer {
    /// A layer that divides its sums by 2^`drop`; `weights` row by row, a row for each bias.
    ///
    /// # Errors
    /// [`Malformed`] where `drop` exceeds [`MAX_DROP`] or the rows are not whole.
    pub fn new(drop: u32, weights: Vec<i32>, biases: Vec<i32>) -> Result<Self, Malformed> {
        if drop > MAX_DROP {
            return Err(Malformed("more bits dropped than allowed"));
        }
        if biases.is_empty() || weights.is_empty() || !weights.len().is_multiple_of(biases.len()) {
            return Err(Malformed("rows that are not whole"));
        }
        Ok(Self { drop, weights, biases })
    }

    /// Low bits of the sums that are dropped.
    pub fn drop(&self) -> u32 {
        self.drop
    }

    /// `W` row by row.
    pub fn weights(&self) -> &[i32] {
        &self.weights
    }

    /// `b`, one for each row.
    pub fn biases(&self) -> &[i32] {
        &self.biases
    }

    fn inputs(&self) -> usize {
        self.weights.len() / self.biases.len()
    }

    /// Whether no sum reaches 2^24 for inputs up to `largest`.
    fn is_exact(&self, largest: i32, bias_unit: i32) -> bool {
        let mut rows = self.weights.chunks_exact(self.inputs()).zip(&self.biases);
        rows.all(|(row, bias)| {
            let magnitude = |&value: &i32| u64::from(value.unsigned_abs());
            let products = largest as u64 * row.iter().map(magnitude).sum::<u64>();
            products + bias_unit as u64 * magnitude(bias) + (1 << self.drop) < 1 << 24
        })
    }
}

/// A network that predicts the distribution of a latent from its context: two hidden layers, and
/// as outputs a scale, before it a centre for latents of splines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    layers: [IntegerLayer; 3],
}

impl Context {
    /// A network with so many inputs, features of the hidden layers, 1 to [`MAX_FEATURES`] each,
    /// and outputs.
    ///
    /// # Errors
    /// [`Malformed`] where the layers have other shapes or sums could exceed 24 bits.
    pub fn new(
        [inputs, h1, h2, outputs]: [usize; 4],
        layers: [IntegerLayer; 3],
    ) -> Result<Self, Malformed> {
        let sizes = [(inputs, h1), (h1, h2), (h2, outputs)];
        for (index, (layer, (inputs, outputs))) in layers.iter().zip(sizes).enumerate() {
            if (layer.inputs(), layer.biases.len()) != (inputs, outputs) || outputs > MAX_FEATURES {
                return Err(Malformed("a layer of another shape"));
            }
            let (largest, unit) = Self::ranges(index);
            if !layer.is_exact(largest, unit) {
                return Err(Malformed("sums of more than 24 bits"));
            }
        }
        Ok(Self { layers })
    }

    /// The layers, first to last.
    pub fn layers(&self) -> &[IntegerLayer; 3] {
        &self.layers
    }

    /// Operations for a latent, each a multiplication with an addition.
    pub fn operations(&self) -> u64 {
        self.layers.iter().map(|layer| layer.weights.len() as u64).sum()
    }

    /// Features of the two hidden layers.
    pub fn hidden(&self) -> [usize; 2] {
        [self.layers[0].biases.len(), self.layers[1].biases.len()]
    }

    /// Largest input of a layer and the unit of its biases.
    fn ranges(index: usize) -> (i32, i32) {
        if index == 0 { (LARGEST_INPUT, 1) } else { (LARGEST_FEATURE, BIAS_UNIT) }
    }

    /// The network, its last inputs, the same for all latents, part of the biases.
    pub(super) fn network(&self, same: &[i32]) -> IntegerNetwork {
        let varying = self.layers[0].inputs() - same.len();
        let mut network = IntegerNetwork::new(varying);
        for (index, layer) in self.layers.iter().enumerate() {
            let (inputs, (_, unit)) = (layer.inputs(), Self::ranges(index));
            let rows = layer.weights.chunks_exact(inputs).zip(&layer.biases);
            let fixed = |row: &[i32]| match index {
                0 => row[varying..].iter().zip(same).map(|(w, x)| w * x).sum::<i32>(),
                _ => 0,
            };
            let biases: Vec<i32> = rows.map(|(row, bias)| unit * bias + fixed(row)).collect();
            network.push(layer.drop, &biases, |o, k| layer.weights[o * inputs + k]);
        }
        network
    }
}

/// The tiles of a plane, row by row.
pub fn tiles(width: usize, height: usize) -> impl Iterator<Item = Region> {
    (0..height).step_by(TILE).flat_map(move |y| {
        (0..width).step_by(TILE).map(move |x| Region {
            x,
            y,
            width: TILE.min(width - x),
            height: TILE.min(height - y),
        })
    })
}

/// How many tiles of a level of so many columns go through the network together: a narrow tile never
/// has latents for all of its lanes.
pub fn tiles_together(width: usize) -> usize {
    let lanes = width.div_ceil(LAG).min(GROUP);
    GROUP / lanes
}

/// The streams of some tiles of `plane`, a level whose next coarser one is `coarser`; empty where
/// all latents of a tile are 0.
///
/// # Panics
/// If a tile does not lie in the plane, a latent is -2^15, or these are more tiles than
/// [`tiles_together`].
pub fn encode(
    context: &Context,
    level: usize,
    plane: &Plane,
    coarser: Option<&Plane>,
    tiles: &[Region],
) -> Vec<Vec<u8>> {
    let is_zero = |tile| rows(plane, tile).flatten().all(|&latent| latent == 0);
    let writer = |&tile: &Region| (!is_zero(tile)).then(Writer::default);
    let writers: Vec<Option<Writer>> = tiles.iter().map(writer).collect();
    if writers.iter().all(Option::is_none) {
        return vec![Vec::new(); tiles.len()];
    }
    let mut coded: Vec<_> = tiles.iter().copied().zip(writers).collect();
    let code = |tile: &Region, writer: &mut Option<Writer>, (x, y), distribution: &Laplace| {
        let value = latent(plane, tile, x, y);
        if let Some(writer) = writer {
            writer.laplace(value.into(), distribution);
        }
        Ok::<_, Infallible>(value)
    };
    let Ok(()) = walk(context, Simd::new(), level, coarser, &mut coded, code);
    let stream = |(tile, writer): (Region, Option<Writer>)| match writer.map(Writer::finish) {
        None => Vec::new(),
        Some(bytes) if bytes.is_empty() => {
            let latents: Vec<i16> = rows(plane, tile).flatten().copied().collect();
            stand_in(|bytes| {
                let decoded = decode(context, Simd::new(), level, &[(tile, bytes)], coarser);
                decoded.is_ok_and(|decoded| decoded == [&latents[..]])
            })
        }
        Some(bytes) => bytes,
    };
    coded.into_iter().map(stream).collect()
}

/// A stream for a tile whose own has no bytes, which would mean zeros. A number that is little
/// enough leads to the `same` latents: the last bit that a decoder takes always does.
pub(super) fn stand_in(same: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut bytes = (2..).map(|zeros| [&vec![0; zeros][..], &[1]].concat());
    bytes.find(|bytes| same(bytes)).expect("at the latest the last bit that is taken")
}

/// The latent at a place of a tile.
fn latent(plane: &Plane, tile: &Region, x: usize, y: usize) -> i16 {
    plane.values()[(tile.y + y) * plane.width() + tile.x + x]
}

/// The part of each row of `plane` that lies in `tile`.
pub(super) fn rows(plane: &Plane, tile: Region) -> impl Iterator<Item = &[i16]> {
    let rows = plane.values().chunks_exact(plane.width()).skip(tile.y).take(tile.height);
    rows.map(move |row| &row[tile.x..tile.x + tile.width])
}

/// Bits that [`encode`] takes for a tile, but for the rounding to bytes.
///
/// # Panics
/// As [`encode`].
pub fn bits(
    context: &Context,
    level: usize,
    plane: &Plane,
    coarser: Option<&Plane>,
    tile: Region,
) -> f64 {
    let mut bits = 0.0;
    let code = |tile: &Region, _: &mut (), (x, y), distribution: &Laplace| {
        let value = latent(plane, tile, x, y);
        bits += distribution.bits(value.into());
        Ok::<_, Infallible>(value)
    };
    let Ok(()) = walk(context, Simd::new(), level, coarser, &mut [(tile, ())], code);
    bits
}

/// The latents of some tiles, row by row, from their streams. The result is the same at every SIMD
/// level.
///
/// # Errors
/// [`Malformed`] and the number of the tile whose stream is none of such a tile.
///
/// # Panics
/// If these are more tiles than [`tiles_together`].
pub fn decode(
    context: &Context,
    simd: Simd,
    level: usize,
    tiles: &[(Region, &[u8])],
    coarser: Option<&Plane>,
) -> Result<Vec<Vec<i16>>, (usize, Malformed)> {
    let mut all: Vec<Vec<i16>> =
        tiles.iter().map(|(tile, _)| vec![0; tile.width * tile.height]).collect();
    // What has no bytes is zeros already.
    let with_bytes = tiles.iter().zip(&mut all).enumerate();
    let with_bytes = with_bytes.filter(|(_, ((_, bytes), _))| !bytes.is_empty());
    let coded = with_bytes.map(|(number, (&(tile, bytes), latents))| {
        let reader = Reader::new(bytes).map_err(|error| (number, error))?;
        Ok((tile, Decoding { number, reader, latents }))
    });
    let mut coded = coded.collect::<Result<Vec<_>, _>>()?;
    let code = |tile: &Region, decoding: &mut Decoding, (x, y), distribution: &_| {
        let value = decoding.reader.laplace(distribution);
        let value = value.map_err(|error| (decoding.number, error))? as i16;
        decoding.latents[y * tile.width + x] = value;
        Ok(value)
    };
    walk(context, simd, level, coarser, &mut coded, code)?;
    for (_, Decoding { number, reader, .. }) in coded {
        reader.finish().map_err(|error| (number, error))?;
    }
    Ok(all)
}

/// A tile that is being decoded, which has this number.
struct Decoding<'a> {
    number: usize,
    reader: Reader,
    latents: &'a mut [i16],
}

/// Goes through the latents of some tiles in the order of their streams. `code` is given a tile and
/// what belongs to it, column and row in it and the distribution, and says what the latent is.
///
/// # Errors
/// Those of `code`.
#[inline(always)]
fn walk<T, E>(
    context: &Context,
    simd: Simd,
    level: usize,
    coarser: Option<&Plane>,
    tiles: &mut [(Region, T)],
    mut code: impl FnMut(&Region, &mut T, (usize, usize), &Laplace) -> Result<i16, E>,
) -> Result<(), E> {
    let mut network = context.network(&[level as i32]);
    let mut walks: Vec<Walk> = tiles.iter().map(|(tile, _)| Walk::new(*tile, coarser)).collect();
    loop {
        let inputs = network.inputs().as_chunks_mut::<GROUP>().0;
        let mut lanes = 0;
        for walk in &walks {
            walk.look(lanes, walks.len() == 1, inputs);
            lanes += walk.rows.len();
        }
        if lanes == 0 {
            return Ok(());
        }
        let (centres, scales) = network.evaluate(simd).split_at(GROUP);
        let mut lane = 0;
        for (walk, (tile, state)) in walks.iter_mut().zip(&mut *tiles) {
            let Walk { step, first, rows, .. } = walk;
            let own = lane..lane + rows.len();
            lane = own.end;
            let at = (*step + BEFORE) * STRIDE + ABOVE;
            let window = &mut walk.window[at + rows.start..at + rows.end];
            let outputs = centres[own.clone()].iter().zip(&scales[own]);
            for ((row, window), (&centre, &scale)) in rows.clone().zip(window).zip(outputs) {
                let place = (*step - LAG * row, *first + row);
                let distribution = distribution(centre as i32, scale as i32);
                *window = clamped(code(tile, state, place, &distribution)?);
            }
            walk.advance();
        }
    }
}

/// How far the latents of a tile are coded, and what the next ones see.
struct Walk {
    tile: Region,
    coarse: Option<Coarse>,
    /// For each step of a group its latents as inputs, those of the rows above before them.
    window: Vec<f32>,
    /// First row of the group.
    first: usize,
    step: usize,
    /// The rows of the group that have a latent at this step: those whose column lies in the tile.
    /// None where the tile is done.
    rows: Range<usize>,
}

impl Walk {
    fn new(tile: Region, coarser: Option<&Plane>) -> Self {
        let steps = BEFORE + tile.width + LAG * (GROUP - 1);
        Self {
            tile,
            coarse: coarser.map(|coarser| Coarse::new(coarser, tile)),
            window: vec![0.0; steps * STRIDE],
            first: 0,
            step: 0,
            rows: 0..1,
        }
    }

    /// The inputs of the step's latents, from lane `lane` on; a tile that is alone may fill others.
    #[inline(always)]
    fn look(&self, lane: usize, alone: bool, inputs: &mut [[f32; GROUP]]) {
        let first = (self.step + BEFORE) * STRIDE + ABOVE + self.rows.start;
        let inputs_back = inputs.iter_mut().zip(BACK);
        if alone {
            for (input, back) in inputs_back {
                input.copy_from_slice(&self.window[first - back..][..GROUP]);
            }
        } else {
            for (input, back) in inputs_back {
                let to = input[lane..].iter_mut().take(self.rows.len());
                to.zip(&self.window[first - back..]).for_each(|(to, from)| *to = *from);
            }
        }
        if let Some(coarse) = &self.coarse {
            let places = self.rows.clone().map(|row| (self.step - LAG * row, self.first + row));
            coarse.gather(places.zip(lane..), &mut inputs[NEIGHBOURS.len()..]);
        }
    }

    /// Goes to the next step that has latents, if the tile is not done.
    #[inline(always)]
    fn advance(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        loop {
            let rows = GROUP.min(self.tile.height - self.first);
            self.step += 1;
            if self.step == self.tile.width + LAG * (rows - 1) {
                (self.first, self.step) = (self.first + GROUP, 0);
                if self.first >= self.tile.height {
                    self.rows = 0..0;
                    return;
                }
                keep_last_rows(&mut self.window);
            }
            let rows = GROUP.min(self.tile.height - self.first);
            let past = (self.step + 1).saturating_sub(self.tile.width).div_ceil(LAG);
            self.rows = past..rows.min(self.step / LAG + 1);
            if !self.rows.is_empty() {
                return;
            }
        }
    }
}

/// The distribution that the outputs of the network stand for.
#[inline]
fn distribution(centre: i32, scale: i32) -> Laplace {
    Laplace::new(centre.clamp(-65_535, 65_535), scale_index(scale))
}

/// The scale that an output of a network stands for.
#[inline]
pub(super) fn scale_index(scale: i32) -> u8 {
    (((scale + 4) >> 3) + 40).clamp(0, i32::from(SCALES) - 1) as u8
}

/// A latent as an input of the network.
#[inline]
pub(super) fn clamped(latent: i16) -> f32 {
    latent.clamp(-LARGEST_INPUT as i16, LARGEST_INPUT as i16).into()
}

/// The last rows of the group before become the rows above the next one.
fn keep_last_rows(window: &mut [f32]) {
    // The rows above lead by as much as they lagged as part of their group.
    let ahead = LAG * GROUP * STRIDE;
    for at in (0..window.len()).step_by(STRIDE) {
        if at + ahead < window.len() {
            window.copy_within(at + ahead + GROUP..at + ahead + GROUP + ABOVE, at);
        } else {
            window[at..at + ABOVE].fill(0.0);
        }
    }
}

/// The part of the coarser level that a tile depends on, as inputs.
struct Coarse {
    /// Half the tile's rows and one more on either side, columns likewise; where these lie
    /// beyond the coarser tile its edge is repeated.
    values: Vec<f32>,
    width: usize,
}

impl Coarse {
    fn new(coarser: &Plane, tile: Region) -> Self {
        // Places of the coarser level that half a side and its margin take their values from.
        let places = |first: usize, count: usize, end: usize| {
            let (first, count) = (first / 2, count.div_ceil(2));
            let holder = first / TILE * TILE;
            let last = end.min(holder + TILE) - 1;
            let places = (first..first + count + 2).map(move |at| at.max(holder + 1) - 1);
            places.map(move |at| at.min(last))
        };
        let columns = places(tile.x, tile.width, coarser.width());
        let width = columns.len();
        let rows = places(tile.y, tile.height, coarser.height());
        let left = coarser.region().x;
        let row = |y: usize| coarser.row(y);
        let values = rows.flat_map(|y| columns.clone().map(move |x| clamped(row(y)[x - left])));
        let values = values.collect();
        Self { values, width }
    }

    /// The inputs of latents, by column and row in the tile and the lane that they are for.
    #[inline(always)]
    fn gather(
        &self,
        latents: impl Iterator<Item = ((usize, usize), usize)>,
        inputs: &mut [[f32; GROUP]],
    ) {
        let (near, other) = (|at: usize| at / 2 + 1, |at: usize| at / 2 + at % 2 * 2);
        let [a, b, c, d] = inputs else { unreachable!() };
        for ((x, y), lane) in latents {
            let near_row = &self.values[near(y) * self.width..][..self.width];
            let other_row = &self.values[other(y) * self.width..][..self.width];
            a[lane] = near_row[near(x)];
            b[lane] = near_row[other(x)];
            c[lane] = other_row[near(x)];
            d[lane] = other_row[other(x)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Size;
    use crate::latents::Basis;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use siren_kernel::instruction_sets;

    fn whole(width: usize, height: usize) -> Plane {
        let size = Size { width: width as u32, height: height as u32 };
        Plane::new(Basis::Splines { level: 0 }, size)
    }

    /// Values of a Laplace distribution, a few of them far out.
    fn random_plane(width: usize, height: usize, scale: f64, rng: &mut ChaCha8Rng) -> Plane {
        let mut plane = whole(width, height);
        for value in plane.values_mut() {
            let u: f64 = rng.random_range(-1.0..1.0);
            let magnitude = -scale * (1.0 - u.abs()).ln();
            *value = (magnitude.copysign(u).round().clamp(-32_767.0, 32_767.0)) as i16;
            if rng.random_bool(0.001) {
                *value = rng.random_range(-32_767..=32_767);
            }
        }
        plane
    }

    /// A network of random weights, their magnitudes up to the allowed ones over `divisor`.
    fn random_context(h1: usize, h2: usize, divisor: i32, rng: &mut ChaCha8Rng) -> Context {
        let mut layer = |index: usize, inputs: usize, outputs: usize, drop: u32| {
            let (largest, unit) = Context::ranges(index);
            let bias = (1 << 20) / unit / divisor;
            let most = (1 << 24) - (1 << drop) - (1 << 20) - 1;
            let most = most / (largest * inputs as i32) / divisor;
            let weights = (0..inputs * outputs).map(|_| rng.random_range(-most..=most)).collect();
            let biases = (0..outputs).map(|_| rng.random_range(-bias..=bias)).collect();
            IntegerLayer::new(drop, weights, biases).unwrap()
        };
        let drops = if divisor == 1 { [9, 11, 13] } else { [0, 5, 12] };
        let layers = [
            layer(0, INPUTS, h1, drops[0]),
            layer(1, h1, h2, drops[1]),
            layer(2, h2, OUTPUTS, drops[2]),
        ];
        Context::new([INPUTS, h1, h2, OUTPUTS], layers).unwrap()
    }

    /// Centre and scale index of the latent at (x, y) of the level, after the text of the
    /// specification.
    fn reference(
        context: &Context,
        level: usize,
        plane: &Plane,
        coarser: Option<&Plane>,
        tile: Region,
        (x, y): (usize, usize),
    ) -> (i32, u8) {
        let mut inputs = Vec::new();
        for (dx, dy) in NEIGHBOURS {
            let (x, y) = (x as isize + dx, y as isize + dy);
            let columns = tile.x as isize..(tile.x + tile.width) as isize;
            let inside = columns.contains(&x) && y >= tile.y as isize;
            let at = |(x, y)| i64::from(plane.values()[y as usize * plane.width() + x as usize]);
            inputs.push(if inside { at((x, y)) } else { 0 });
        }
        let mut coarse = [0; 4];
        if let Some(coarser) = coarser {
            let other = |at: usize, end: usize| {
                let near = at as isize / 2;
                let other = if at % 2 == 1 { near + 1 } else { near - 1 };
                let first = near / 256 * 256;
                other.clamp(first, (first + 256).min(end as isize) - 1) as usize
            };
            let (i, j) = (other(x, coarser.width()), other(y, coarser.height()));
            let at = |x, y| i64::from(coarser.values()[y * coarser.width() + x]);
            coarse = [at(x / 2, y / 2), at(i, y / 2), at(x / 2, j), at(i, j)];
        }
        inputs.extend(coarse);
        inputs.push(level as i64);
        let mut h: Vec<i64> = inputs.iter().map(|&x| x.clamp(-1023, 1023)).collect();
        for (index, layer) in context.layers.iter().enumerate() {
            let rows = layer.weights.chunks(h.len()).zip(&layer.biases);
            let rows = rows.map(|(row, &bias)| {
                let sum: i64 = row.iter().zip(&h).map(|(&w, &x)| i64::from(w) * x).sum();
                let a = sum + i64::from(bias) * if index == 0 { 1 } else { 64 };
                let rounded = (a + (1 << layer.drop) / 2).div_euclid(1 << layer.drop);
                if index < 2 { rounded.clamp(0, 4095) } else { rounded }
            });
            h = rows.collect();
        }
        let scale = ((h[1] + 4).div_euclid(8) + 40).clamp(0, 104);
        (h[0].clamp(-65_535, 65_535) as i32, scale as u8)
    }

    fn reference_stream(
        context: &Context,
        level: usize,
        plane: &Plane,
        coarser: Option<&Plane>,
        tile: Region,
    ) -> Vec<u8> {
        let mut writer = Writer::default();
        for group in (0..tile.height).step_by(16) {
            for t in 0..tile.width + 45 {
                for r in 0..16 {
                    if t >= 3 * r && t - 3 * r < tile.width && group + r < tile.height {
                        let (x, y) = (tile.x + t - 3 * r, tile.y + group + r);
                        let (c, i) = reference(context, level, plane, coarser, tile, (x, y));
                        let value = plane.values()[y * plane.width() + x];
                        writer.laplace(value.into(), &Laplace::new(c, i));
                    }
                }
            }
        }
        writer.finish()
    }

    #[test]
    fn a_stream_of_zeros_is_told_from_a_tile_of_zeros() {
        let zeros = |count: usize| vec![0; count];
        let layer = |inputs, outputs| {
            IntegerLayer::new(0, zeros(inputs * outputs), zeros(outputs)).unwrap()
        };
        let layers = [layer(INPUTS, 1), layer(1, 1), layer(1, OUTPUTS)];
        let context = Context::new([INPUTS, 1, 1, OUTPUTS], layers).unwrap();
        let mut plane = whole(1, 1);
        let tile = plane.region();
        // One of them is the first that the lower escape stands for: bits that are all 0.
        for value in -40..=40 {
            plane.values_mut()[0] = value;
            let bytes = &encode(&context, 0, &plane, None, &[tile])[0];
            assert_eq!(bytes.is_empty(), value == 0);
            let found = decode(&context, Simd::new(), 0, &[(tile, bytes)], None);
            assert_eq!(found, Ok(vec![vec![value]]));
        }
    }

    #[test]
    fn streams_are_those_of_the_specification_at_every_simd_level() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let cases = [
            (1, 1, 1, 1, 1, 9),
            (3, 2, 64, 1, 1, 4),
            (1, 40, 5, 64, 4, 0),
            (47, 33, 24, 24, 1, 0),
            (130, 90, 7, 13, 3, 3),
            (300, 259, 24, 24, 100, 1),
            (513, 20, 64, 64, 1, 2),
            // Tiles that go through the network together.
            (1, 600, 8, 8, 2, 0),
            (2, 270, 3, 2, 4, 1),
            (7, 1300, 12, 8, 2, 0),
            (24, 300, 5, 4, 3, 9),
        ];
        for (width, height, h1, h2, divisor, level) in cases {
            let context = random_context(h1, h2, divisor, &mut rng);
            let mut plane = random_plane(width, height, 2.0, &mut rng);
            plane.values_mut()[0] = -7;
            let coarser = random_plane(width.div_ceil(2), height.div_ceil(2), 3.0, &mut rng);
            let coarser = (level < 9).then_some(&coarser);
            let all: Vec<Region> = tiles(width, height).collect();
            for tiles in all.chunks(tiles_together(width)) {
                let streams = encode(&context, level, &plane, coarser, tiles);
                for (&tile, stream) in tiles.iter().zip(&streams) {
                    let wanted = reference_stream(&context, level, &plane, coarser, tile);
                    assert!(*stream == wanted, "{width}x{height}, {tile:?}");
                    let bits = bits(&context, level, &plane, coarser, tile);
                    assert!((stream.len() as f64 - bits / 8.0).abs() < 4.0 + 1e-3 * bits);
                }
                let coded: Vec<(Region, &[u8])> =
                    tiles.iter().copied().zip(streams.iter().map(Vec::as_slice)).collect();
                for simd in instruction_sets() {
                    let found = decode(&context, simd, level, &coded, coarser).unwrap();
                    for (tile, found) in tiles.iter().zip(found) {
                        assert!(found.chunks(tile.width).eq(rows(&plane, *tile)), "{simd:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn tiles_of_zeros_are_empty() {
        let context = random_context(4, 4, 1, &mut ChaCha8Rng::seed_from_u64(2));
        let tile = Region { x: 0, y: 0, width: 20, height: 30 };
        let streams = encode(&context, 0, &whole(20, 30), None, &[tile]);
        assert_eq!(streams, [Vec::<u8>::new()]);
        let found = decode(&context, Simd::new(), 0, &[(tile, &[])], None);
        assert_eq!(found, Ok(vec![vec![0; 600]]));
    }

    #[test]
    fn tiles_cover_a_level() {
        let of = |width, height| tiles(width, height).collect::<Vec<_>>();
        assert_eq!(of(256, 1), [Region { x: 0, y: 0, width: 256, height: 1 }]);
        let four = of(257, 300);
        assert_eq!(four[1], Region { x: 256, y: 0, width: 1, height: 256 });
        assert_eq!(four[2], Region { x: 0, y: 256, width: 256, height: 44 });
        assert_eq!(four.len(), 4);
    }

    #[test]
    fn networks_that_are_not_exact_are_refused() {
        let layer =
            |drop, weights: Vec<i32>, biases: Vec<i32>| IntegerLayer::new(drop, weights, biases);
        assert!(layer(16, vec![1], vec![1]).is_err());
        assert!(layer(0, vec![1, 2, 3], vec![1, 2]).is_err());
        let with = |first: i32, second: i32, bias: i32| {
            let mut weights = vec![0; INPUTS];
            weights[3] = first;
            let layers = [
                layer(1, weights, vec![0]).unwrap(),
                layer(11, vec![second], vec![bias]).unwrap(),
                layer(0, vec![1, 1], vec![0, 0]).unwrap(),
            ];
            Context::new([INPUTS, 1, 1, OUTPUTS], layers)
        };
        assert!(with(-16_400, -4096, 31).is_ok());
        assert!(with(16_401, 0, 0).is_err());
        assert!(with(i32::MIN, 0, 0).is_err());
        assert!(with(0, 4096, -32).is_err());
        assert!(with(0, 4097, 0).is_err());
        let layers = with(1, 1, 0).unwrap().layers.clone();
        assert!(Context::new([INPUTS, 2, 1, OUTPUTS], layers).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_latents_or_an_error(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..200),
        ) {
            let context = random_context(5, 3, 1, &mut ChaCha8Rng::seed_from_u64(3));
            let tile = Region { x: 0, y: 0, width: 37, height: 21 };
            if let Ok(latents) = decode(&context, Simd::new(), 2, &[(tile, &bytes)], None) {
                proptest::prop_assert!(latents[0].iter().all(|&q| q > i16::MIN));
            }
        }
    }
}
