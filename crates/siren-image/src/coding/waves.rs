//! Latents of waves to bytes and back, ordered by frequency: a small network in integers
//! predicts the scale of each from the magnitudes before it (spec section 6.8). One tile at a
//! time; starts no threads, knows nothing of the picture.

use std::convert::Infallible;
use std::sync::{LazyLock, OnceLock};

use super::entropy::{Laplace, Malformed, Reader, SCALES, Writer};
use super::latents::{Context, LARGEST_INPUT, clamped, rows, scale_index, stand_in};
use crate::latents::{Plane, Region};
use siren_kernel::{INTEGER_POINTS, IntegerNetwork, Simd};

/// What a sum of magnitudes is of: cells to the right and down, frequencies higher along a row
/// and along a column.
pub type Term = (isize, isize, isize, isize);

/// The inputs of the network that are sums of magnitudes.
pub const SUMS: [&[Term]; 15] = [
    &[(-1, 0, 0, 0)],
    &[(0, -1, 0, 0)],
    &[(-1, -1, 0, 0), (1, -1, 0, 0)],
    &[(-2, 0, 0, 0), (0, -2, 0, 0)],
    &[(0, 0, -1, 0)],
    &[(0, 0, 0, -1)],
    &[(0, 0, -1, -1)],
    &[(0, 0, -2, 0), (0, 0, 0, -2)],
    &[(0, 0, 1, -1), (0, 0, 2, -2)],
    &[(1, 0, -1, 0), (1, 0, 0, -1)],
    &[(0, 1, -1, 0), (0, 1, 0, -1)],
    &[(-1, 0, -1, 0), (-1, 0, 0, -1)],
    &[(0, -1, -1, 0), (0, -1, 0, -1)],
    &[(-1, 0, 1, -1), (0, -1, 1, -1), (1, 0, 1, -1), (0, 1, 1, -1)],
    &[(0, 0, -3, 0), (0, 0, 0, -3), (0, 0, -2, -1), (0, 0, -1, -2)],
];
/// Inputs of the network: the sums, and both frequencies in [`STEPS`] steps.
pub const INPUTS: usize = SUMS.len() + 2;
/// Outputs of the network: the scale.
pub const OUTPUTS: usize = 1;
/// Steps in which the network sees the frequencies of a cell of any size.
pub const STEPS: usize = 8;

/// A frequency is so many steps behind the one before it, so that of this one all neighbours
/// that a sum reaches have been coded.
const LAG: usize = 3;
/// A row of cells is so many steps behind the one above it.
const ROW_LAG: usize = 2;
/// Steps that sums reach back, and ahead, in a frequency; and cells above, and below.
const REACH: (usize, usize) = (4, 2);
const ROWS: (usize, usize) = (2, 1);

/// Latents that go through the network together.
const GROUP: usize = INTEGER_POINTS;

/// Frequencies along a row and along a column in the order in which they are coded: by their
/// sum, and then by that along a column.
pub fn frequencies(cell: usize) -> Vec<(usize, usize)> {
    let mut all: Vec<_> = (0..cell).flat_map(|y| (0..cell).map(move |x| (x, y))).collect();
    all.sort_by_key(|&(x, y)| (x + y, y));
    all
}

/// The frequencies of a cell in the order in which they are coded, and what the sums of each are of.
#[derive(Debug)]
pub struct Order {
    /// Pixels of the cell along an axis.
    pub cell: usize,
    /// As [`frequencies`] gives them.
    pub frequencies: Vec<(usize, usize)>,
    /// The place in the order of each frequency of a cell, row by row.
    pub places: Vec<usize>,
    /// For each frequency the terms of its sums that there are: number of the sum, cells to the right
    /// and down, and the other frequency's place in the order.
    pub terms: Vec<Vec<(usize, isize, isize, usize)>>,
}

impl Order {
    /// That of cells of 8, 16 or 32 pixels.
    ///
    /// # Panics
    /// If a cell has another number of pixels.
    pub fn of(cell: usize) -> &'static Self {
        static ORDERS: [OnceLock<Order>; 3] = [const { OnceLock::new() }; 3];
        let index = [8, 16, 32].iter().position(|&size| size == cell);
        ORDERS[index.expect("cells of 8, 16 or 32 pixels")].get_or_init(|| Self::new(cell))
    }

    fn new(cell: usize) -> Self {
        let frequencies = frequencies(cell);
        let mut places = vec![0; frequencies.len()];
        frequencies.iter().enumerate().for_each(|(index, (x, y))| places[y * cell + x] = index);
        let inside = |at: usize, by: isize| at.checked_add_signed(by).filter(|&at| at < cell);
        let terms = frequencies.iter().map(|&(x, y)| {
            let all = SUMS.iter().enumerate().flat_map(|(k, sum)| sum.iter().map(move |t| (k, t)));
            let terms = all.filter_map(|(sum, &(dx, dy, higher_x, higher_y))| {
                let (x, y) = (inside(x, higher_x)?, inside(y, higher_y)?);
                Some((sum, dx, dy, places[y * cell + x]))
            });
            terms.collect()
        });
        let terms = terms.collect();
        Self { cell, frequencies, places, terms }
    }

    /// The last frequency that is not 0 in all cells of a tile of so many columns.
    fn last(&self, latents: &[i16], width: usize) -> Option<usize> {
        let coded = latents.iter().enumerate().filter(|(_, latent)| **latent != 0);
        let index =
            |at: usize| self.places[at / width % self.cell * self.cell + at % width % self.cell];
        coded.map(|(at, _)| index(at)).max()
    }
}

/// The stream of a tile of `plane`; empty where all its latents are 0.
///
/// # Panics
/// If the tile does not lie in the plane, is not one of whole cells, or a latent is -2^15.
pub fn encode(context: &Context, cell: usize, plane: &Plane, tile: Region) -> Vec<u8> {
    let latents: Vec<i16> = rows(plane, tile).flatten().copied().collect();
    let order = Order::of(cell);
    let Some(last) = order.last(&latents, tile.width) else { return Vec::new() };
    let mut writer = Writer::default();
    writer.bits(2 * cell.ilog2(), last as u32);
    let code = |at: usize, distribution: &Laplace| {
        writer.laplace(latents[at].into(), distribution);
        Ok::<_, Infallible>(latents[at])
    };
    let Ok(()) = walk(context, Simd::new(), tile, order, last, code);
    let bytes = writer.finish();
    if !bytes.is_empty() {
        return bytes;
    }
    stand_in(|bytes| decode(context, Simd::new(), cell, tile, bytes).as_ref() == Ok(&latents))
}

/// Bits that [`encode`] takes for a tile, but for the rounding to bytes.
///
/// # Panics
/// As [`encode`].
pub fn bits(context: &Context, cell: usize, plane: &Plane, tile: Region) -> f64 {
    let latents: Vec<i16> = rows(plane, tile).flatten().copied().collect();
    let order = Order::of(cell);
    let Some(last) = order.last(&latents, tile.width) else { return 0.0 };
    let mut bits = f64::from(2 * cell.ilog2());
    let code = |at: usize, distribution: &Laplace| {
        bits += distribution.bits(latents[at].into());
        Ok::<_, Infallible>(latents[at])
    };
    let Ok(()) = walk(context, Simd::new(), tile, order, last, code);
    bits
}

/// The latents of a tile, row by row, from its stream. The result is the same at every SIMD level.
///
/// # Errors
/// [`Malformed`] where the stream is none of such a tile.
///
/// # Panics
/// If the tile is not one of whole cells.
pub fn decode(
    context: &Context,
    simd: Simd,
    cell: usize,
    tile: Region,
    bytes: &[u8],
) -> Result<Vec<i16>, Malformed> {
    let mut latents = vec![0; tile.width * tile.height];
    if bytes.is_empty() {
        return Ok(latents);
    }
    let mut reader = Reader::new(bytes)?;
    let order = Order::of(cell);
    let last = reader.bits(2 * cell.ilog2())? as usize;
    let code = |at: usize, distribution: &Laplace| {
        let value = reader.laplace(distribution)? as i16;
        latents[at] = value;
        Ok(value)
    };
    walk(context, simd, tile, order, last, code)?;
    reader.finish()?;
    Ok(latents)
}

/// The distributions by their scale.
static DISTRIBUTIONS: LazyLock<Vec<Laplace>> =
    LazyLock::new(|| (0..SCALES).map(|scale| Laplace::new(0, scale)).collect());

/// Goes through the latents of a tile up to frequency `last` in the order of their stream. `code`
/// is given the place of a latent in the tile and its distribution, and says what it is.
///
/// # Errors
/// Those of `code`.
#[inline(always)]
fn walk<E>(
    context: &Context,
    simd: Simd,
    tile: Region,
    order: &Order,
    last: usize,
    mut code: impl FnMut(usize, &Laplace) -> Result<i16, E>,
) -> Result<(), E> {
    let mut window = Window::new(tile, order, last);
    let mut network = context.network(&[]);
    let (columns, rows) = (window.columns, window.rows);
    // Steps of a frequency.
    let steps = columns + ROW_LAG * (rows - 1);
    let mut runs: Vec<Run> = Vec::with_capacity(GROUP);
    for step in 0..steps + LAG * last {
        let first = (step + 1).saturating_sub(steps).div_ceil(LAG);
        let mut lanes = 0;
        for frequency in first..=(step / LAG).min(last) {
            let at = step - LAG * frequency;
            let mut row = (at + 1).saturating_sub(columns).div_ceil(ROW_LAG);
            let end = (at / ROW_LAG + 1).min(rows);
            while row < end {
                let count = (end - row).min(GROUP - lanes);
                runs.push(Run { frequency, at, row, count, lane: lanes });
                (row, lanes) = (row + count, lanes + count);
                if lanes == GROUP {
                    window.code(&mut network, simd, &runs, &mut code)?;
                    runs.clear();
                    lanes = 0;
                }
            }
        }
        if lanes > 0 {
            window.code(&mut network, simd, &runs, &mut code)?;
            runs.clear();
        }
    }
    Ok(())
}

/// Latents of a frequency that are coded in a step, from a row of cells down: lanes of the network.
struct Run {
    frequency: usize,
    /// The step since the frequency began.
    at: usize,
    row: usize,
    count: usize,
    lane: usize,
}

/// The magnitudes that have been coded: for each frequency and each of its steps those of the
/// rows of cells, with margins of 0.
struct Window<'a> {
    order: &'a Order,
    columns: usize,
    rows: usize,
    stride: usize,
    plane: usize,
    magnitudes: Vec<f32>,
    /// For each frequency the terms of its sums: number of the sum, and how far before a latent.
    terms: Vec<Vec<(usize, usize)>>,
}

impl<'a> Window<'a> {
    fn new(tile: Region, order: &'a Order, last: usize) -> Self {
        let (columns, rows) = (tile.width / order.cell, tile.height / order.cell);
        let stride = rows + ROWS.0 + ROWS.1;
        let plane = (columns + ROW_LAG * (rows - 1) + REACH.0 + REACH.1) * stride;
        let terms = order.terms[..=last].iter().enumerate().map(|(frequency, terms)| {
            let back = |&(sum, dx, dy, other): &(usize, isize, isize, usize)| {
                let ahead = (dx + ROW_LAG as isize * dy) * stride as isize + dy;
                (sum, (((frequency - other) * plane) as isize - ahead) as usize)
            };
            terms.iter().map(back).collect()
        });
        Self {
            order,
            columns,
            rows,
            stride,
            plane,
            magnitudes: vec![0.0; (last + 1) * plane + REACH.1 * stride + GROUP],
            terms: terms.collect(),
        }
    }

    /// Where the magnitude of the first latent of a run is.
    fn place(&self, run: &Run) -> usize {
        run.frequency * self.plane + (run.at + REACH.0) * self.stride + run.row + ROWS.0
    }

    /// Codes the latents of some runs.
    #[inline(always)]
    fn code<E>(
        &mut self,
        network: &mut IntegerNetwork,
        simd: Simd,
        runs: &[Run],
        code: &mut impl FnMut(usize, &Laplace) -> Result<i16, E>,
    ) -> Result<(), E> {
        let inputs = network.inputs().as_chunks_mut::<GROUP>().0;
        for run in runs {
            let place = self.place(run);
            let mut sums = [[0.0; GROUP]; SUMS.len()];
            for &(sum, back) in &self.terms[run.frequency] {
                let from = &self.magnitudes[place - back..][..GROUP];
                sums[sum].iter_mut().zip(from).for_each(|(sum, magnitude)| *sum += magnitude);
            }
            let lanes = run.lane..run.lane + run.count;
            for (input, sums) in inputs.iter_mut().zip(&sums) {
                let limited = sums.iter().map(|sum| sum.min(LARGEST_INPUT as f32));
                input[lanes.clone()].iter_mut().zip(limited).for_each(|(to, sum)| *to = sum);
            }
            let (x, y) = self.order.frequencies[run.frequency];
            inputs[SUMS.len()][lanes.clone()].fill((STEPS * x / self.order.cell) as f32);
            inputs[SUMS.len() + 1][lanes].fill((STEPS * y / self.order.cell) as f32);
        }
        let scales = network.evaluate(simd);
        for run in runs {
            let place = self.place(run);
            let (x, y) = self.order.frequencies[run.frequency];
            let width = self.columns * self.order.cell;
            for (i, scale) in scales[run.lane..][..run.count].iter().enumerate() {
                let row = run.row + i;
                let column = run.at - ROW_LAG * row;
                let at = (row * self.order.cell + y) * width + column * self.order.cell + x;
                let value = code(at, &DISTRIBUTIONS[usize::from(scale_index(*scale as i32))])?;
                self.magnitudes[place + i] = clamped(value).abs();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::latents::{IntegerLayer, tiles};
    use crate::geometry::Size;
    use crate::latents::Basis;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use siren_kernel::instruction_sets;

    fn random_plane(cell: usize, width: u32, height: u32, rng: &mut ChaCha8Rng) -> Plane {
        let mut plane = Plane::new(Basis::Waves { cell }, Size { width, height });
        for value in plane.values_mut() {
            let u: f64 = rng.random_range(-1.0..1.0);
            *value = (-1.5 * (1.0 - u.abs()).ln()).copysign(u).round() as i16;
            if rng.random_bool(0.001) {
                *value = rng.random_range(-32_767..=32_767);
            }
        }
        plane
    }

    fn random_context(h1: usize, h2: usize, rng: &mut ChaCha8Rng) -> Context {
        let mut layer = |inputs: usize, outputs: usize, drop: u32| {
            let weights = (0..inputs * outputs).map(|_| rng.random_range(-60..=60)).collect();
            let biases = (0..outputs).map(|_| rng.random_range(-900..=900)).collect();
            IntegerLayer::new(drop, weights, biases).unwrap()
        };
        let layers = [layer(INPUTS, h1, 2), layer(h1, h2, 7), layer(h2, OUTPUTS, 9)];
        Context::new([INPUTS, h1, h2, OUTPUTS], layers).unwrap()
    }

    /// The stream after the text of the specification.
    fn reference(context: &Context, cell: usize, plane: &Plane, tile: Region) -> Vec<u8> {
        let magnitude = |cx: isize, cy: isize, kx: isize, ky: isize| {
            let s = cell as isize;
            let inside = (0..(tile.width / cell) as isize).contains(&cx)
                && (0..(tile.height / cell) as isize).contains(&cy)
                && (0..s).contains(&kx)
                && (0..s).contains(&ky);
            if !inside {
                return 0;
            }
            let (x, y) = (tile.x as isize + s * cx + kx, tile.y as isize + s * cy + ky);
            i64::from(plane.get_clamped(x as i64, y as i64)).abs().min(1023)
        };
        let order = frequencies(cell);
        let mut coded = Vec::new();
        for (f, &(kx, ky)) in order.iter().enumerate() {
            for cy in 0..tile.height / cell {
                for cx in 0..tile.width / cell {
                    coded.push((cx + 2 * cy + 3 * f, f, cy, cx, kx, ky));
                }
            }
        }
        coded.sort_unstable();
        let value = |&(_, _, cy, cx, kx, ky): &(usize, usize, usize, usize, usize, usize)| {
            plane.get_clamped((tile.x + cx * cell + kx) as i64, (tile.y + cy * cell + ky) as i64)
        };
        let last = coded.iter().filter(|at| value(at) != 0).map(|at| at.1).max().unwrap();
        let mut writer = Writer::default();
        writer.bits(2 * cell.trailing_zeros(), last as u32);
        for at in coded.iter().filter(|at| at.1 <= last) {
            let &(_, _, cy, cx, kx, ky) = at;
            let [cx, cy, x, y] = [cx, cy, kx, ky].map(|i| i as isize);
            let sum = |terms: &&[Term]| -> i64 {
                let term = |(dx, dy, hx, hy): &Term| magnitude(cx + dx, cy + dy, x + hx, y + hy);
                terms.iter().map(term).sum::<i64>().min(1023)
            };
            let mut h: Vec<i64> = SUMS.iter().map(sum).collect();
            h.extend([kx, ky].map(|k| (8 * k / cell) as i64));
            for (index, layer) in context.layers().iter().enumerate() {
                let rows = layer.weights().chunks(h.len()).zip(layer.biases());
                let rows = rows.map(|(row, &bias)| {
                    let sum: i64 = row.iter().zip(&h).map(|(&w, &x)| i64::from(w) * x).sum();
                    let a = sum + i64::from(bias) * if index == 0 { 1 } else { 64 };
                    let rounded = (a + (1 << layer.drop()) / 2).div_euclid(1 << layer.drop());
                    if index < 2 { rounded.clamp(0, 4095) } else { rounded }
                });
                h = rows.collect();
            }
            let scale = ((h[0] + 4).div_euclid(8) + 40).clamp(0, 104);
            writer.laplace(value(at).into(), &Laplace::new(0, scale as u8));
        }
        writer.finish()
    }

    #[test]
    fn streams_are_those_of_the_specification_at_every_simd_level() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (cell, width, height, h1, h2) in [
            (8, 1, 1, 3, 2),
            (8, 300, 40, 8, 8),
            (8, 7, 270, 5, 9),
            (16, 100, 60, 12, 8),
            (16, 17, 16, 1, 1),
            (32, 64, 33, 4, 4),
        ] {
            let context = random_context(h1, h2, &mut rng);
            let mut plane = random_plane(cell, width, height, &mut rng);
            plane.values_mut()[0] = -7;
            for tile in tiles(plane.width(), plane.height()) {
                let stream = encode(&context, cell, &plane, tile);
                assert!(stream == reference(&context, cell, &plane, tile), "{cell} {tile:?}");
                let bits = bits(&context, cell, &plane, tile);
                assert!((stream.len() as f64 - bits / 8.0).abs() < 4.0 + 1e-3 * bits);
                for simd in instruction_sets() {
                    let found = decode(&context, simd, cell, tile, &stream).unwrap();
                    assert!(found.chunks(tile.width).eq(rows(&plane, tile)), "{simd:?}");
                }
            }
        }
    }

    #[test]
    fn a_stream_of_zeros_is_told_from_a_tile_of_zeros() {
        let layer = |inputs, outputs| {
            IntegerLayer::new(0, vec![0; inputs * outputs], vec![0; outputs]).unwrap()
        };
        let layers = [layer(INPUTS, 1), layer(1, 1), layer(1, OUTPUTS)];
        let context = Context::new([INPUTS, 1, 1, OUTPUTS], layers).unwrap();
        let size = Size { width: 1, height: 1 };
        let mut plane = Plane::new(Basis::Waves { cell: 8 }, size);
        for value in -40..=40 {
            plane.values_mut()[0] = value;
            let bytes = encode(&context, 8, &plane, plane.region());
            assert_eq!(bytes.is_empty(), value == 0);
            let found = decode(&context, Simd::new(), 8, plane.region(), &bytes);
            assert_eq!(found.as_deref(), Ok(plane.values()));
        }
    }

    #[test]
    fn sums_are_of_what_comes_before() {
        for cell in [8, 16, 32] {
            let order = frequencies(cell);
            for (f, &(x, y)) in order.iter().enumerate() {
                for &(dx, dy, hx, hy) in SUMS.iter().copied().flatten() {
                    let other = (x as isize + hx, y as isize + hy);
                    let is_other = |at: &(usize, usize)| (at.0 as isize, at.1 as isize) == other;
                    let Some(other) = order.iter().position(is_other) else { continue };
                    let steps = dx + 2 * dy + 3 * (other as isize - f as isize);
                    assert!(steps < 0, "{cell}: {x} {y} {dx} {dy} {hx} {hy}");
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_latents_or_an_error(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..200),
        ) {
            let context = random_context(5, 3, &mut ChaCha8Rng::seed_from_u64(3));
            let tile = Region { x: 0, y: 0, width: 40, height: 24 };
            if let Ok(latents) = decode(&context, Simd::new(), 8, tile, &bytes) {
                proptest::prop_assert!(latents.iter().all(|&q| q > i16::MIN));
            }
        }
    }
}
