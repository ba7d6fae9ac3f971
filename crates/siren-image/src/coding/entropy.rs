//! Integers to bytes and back by a range coder, with distributions in integer arithmetic
//! (spec section 6.3). Knows nothing of networks and latents; the range coder itself is
//! `constriction`'s.

use std::borrow::Borrow;
use std::num::NonZeroU16;
use std::sync::OnceLock;

use constriction::backends::{Cursor, ReadWords};
use constriction::stream::model::{DecoderModel, EncoderModel, EntropyModel};
use constriction::stream::queue::{RangeDecoder, RangeEncoder};
use constriction::stream::{Decode, Encode};

/// Probabilities are multiples of 2^-16, words of the stream have 16 bits.
const PRECISION: usize = 16;

/// Widths of the distributions: `Logistic::of` takes an index below this.
pub const WIDTHS: u8 = 64;
/// Integers must be smaller than this in magnitude.
pub const MAX_MAGNITUDE: i32 = 1 << 24;
/// Most low bits of [`Reader::natural`].
pub const MAX_ORDER: u8 = 20;

/// Largest magnitude that a logistic table has a symbol for.
const LARGEST: i32 = 63;
/// The symbols -63 to 63, and the escape.
const SYMBOLS: usize = 2 * LARGEST as usize + 2;
/// Index of width 1, in quarters of an octave.
const UNIT_WIDTH: i32 = 16;
/// From this width on (8) low bits are written as they are.
const WIDEST: i32 = 12;

/// What a stream says is not possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// A distribution of integers around 0: the logistic distribution of scale
/// 2^((index - 16) / 4), rounded to probabilities of 16 bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Logistic {
    shift: u32,
    /// Start of each symbol's slice of the 2^16 quantiles; the last symbol is the escape.
    starts: [u16; SYMBOLS],
}

impl Logistic {
    /// The one of an index, made when it is first asked for.
    ///
    /// # Panics
    /// If `index` is not below [`WIDTHS`].
    pub fn of(index: u8) -> &'static Self {
        static ALL: [OnceLock<Logistic>; WIDTHS as usize] =
            [const { OnceLock::new() }; WIDTHS as usize];
        ALL[usize::from(index)].get_or_init(|| Self::new(index))
    }

    fn new(index: u8) -> Self {
        let width = i32::from(index) - UNIT_WIDTH;
        let shift = if width < WIDEST { 0 } else { (width - WIDEST) / 4 + 1 };
        let scale = f64::from(width - 4 * shift) / 4.0;
        let scale = scale.exp2();
        let mut starts = [0; SYMBOLS];
        for (i, start) in starts.iter_mut().enumerate().skip(1) {
            let at = (i as f64 - f64::from(LARGEST) - 0.5) / scale;
            // Every symbol has a width of at least 1.
            let share = f64::from(65_536 - SYMBOLS as u32) / (1.0 + (-at).exp());
            *start = (share + 0.5).floor() as u16 + i as u16;
        }
        Self { shift: shift as u32, starts }
    }

    fn slice(&self, symbol: usize) -> Slice {
        let end = self.starts.get(symbol + 1).map_or(1 << 16, |&next| u32::from(next));
        Slice::new(u32::from(self.starts[symbol]), end)
    }

    /// Number of the symbol of `value`, where it has one, its high part and its low bits.
    fn split(&self, value: i32) -> (Option<usize>, i32, u32) {
        let raised = value + half(self.shift);
        let high = raised >> self.shift;
        let low = (raised - (high << self.shift)) as u32;
        let symbol = (high.abs() <= LARGEST).then(|| (high + LARGEST) as usize);
        (symbol, high, low)
    }

    /// Bits that `value` takes.
    pub fn bits(&self, value: i32) -> f64 {
        let (symbol, high, _) = self.split(value);
        let coded = self.slice(symbol.unwrap_or(SYMBOLS - 1)).bits() + f64::from(self.shift);
        match symbol {
            Some(_) => coded,
            None => coded + 1.0 + natural_bits(beyond(high), 0),
        }
    }
}

fn half(shift: u32) -> i32 {
    (1 << shift) >> 1
}

/// How far a high part lies beyond the table.
fn beyond(high: i32) -> u32 {
    high.unsigned_abs() - LARGEST as u32 - 1
}

/// Bits that [`Writer::natural`] takes.
pub fn natural_bits(value: u32, order: u8) -> f64 {
    let length = (value + (1 << order)).ilog2();
    f64::from(2 * length + 1 - u32::from(order))
}

/// A part of the 2^16 quantiles.
#[derive(Debug, Clone, Copy)]
struct Slice {
    start: u16,
    width: NonZeroU16,
}

impl Slice {
    fn new(start: u32, end: u32) -> Self {
        let width = NonZeroU16::new((end - start) as u16).expect("slices are not empty");
        Self { start: start as u16, width }
    }

    fn bits(self) -> f64 {
        16.0 - f64::from(self.width.get()).log2()
    }
}

impl EntropyModel<PRECISION> for Slice {
    type Symbol = ();
    type Probability = u16;
}

impl EncoderModel<PRECISION> for Slice {
    fn left_cumulative_and_probability(&self, _: impl Borrow<()>) -> Option<(u16, NonZeroU16)> {
        Some((self.start, self.width))
    }
}

impl EntropyModel<PRECISION> for &Logistic {
    type Symbol = usize;
    type Probability = u16;
}

impl DecoderModel<PRECISION> for &Logistic {
    fn quantile_function(&self, quantile: u16) -> (usize, u16, NonZeroU16) {
        let symbol = self.starts.partition_point(|&start| start <= quantile) - 1;
        let slice = self.slice(symbol);
        (symbol, slice.start, slice.width)
    }
}

/// Scales of [`Laplace`]: an index is below this.
pub const SCALES: u8 = 105;
/// Values that [`Writer::laplace`] takes are smaller than this in magnitude.
pub const MAX_LATENT: i32 = 1 << 15;

/// Index of scale 1, in eighths of an octave.
const UNIT_SCALE: i32 = 40;
/// `2^23 exp(-j / 64)`, rounded; from the last one on all are 0.
static EXPONENTIALS: [u32; 1153] = exponentials();
static LAPLACE_SCALES: [LaplaceScale; SCALES as usize] = laplace_scales();

/// What is the same for all Laplace distributions of one scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LaplaceScale {
    /// 2^16 over the scale, rounded.
    inverse: u32,
    /// The symbols reach so far from the rounded centre.
    reach: i32,
    /// What of the 2^16 quantiles is shared out by probability: every symbol and both escapes
    /// have one more.
    shared: u32,
}

/// Probability 1 of [`LaplaceScale`].
const ONE: u32 = 1 << 24;

impl LaplaceScale {
    /// The probability beyond a distance of `x` / 64 to one side.
    #[inline(always)]
    fn tail(&self, x: u32) -> u32 {
        let scaled = (u64::from(x) * u64::from(self.inverse)) >> 6;
        let (j, fraction) = ((scaled >> 10) as usize, scaled & 1023);
        let Some(&[here, next]) = EXPONENTIALS.get(j..j + 2) else { return 0 };
        ((u64::from(here) * (1024 - fraction) + u64::from(next) * fraction) >> 10) as u32
    }

    /// Where a slice starts, so many symbols after that of the middle, if `below` is the
    /// probability of the symbols before it.
    #[inline(always)]
    fn start(&self, symbols: i32, below: u32) -> u32 {
        let share = (u64::from(below) * u64::from(self.shared)) >> 24;
        share as u32 + (symbols + self.reach + 1) as u32
    }
}

const fn exponentials() -> [u32; 1153] {
    // exp(-1/64) by its series, then powers of it: the same on every machine.
    let (mut ratio, mut term, mut n) = (1.0, 1.0, 1);
    while n < 12 {
        term *= -1.0 / (64 * n) as f64;
        ratio += term;
        n += 1;
    }
    let mut table = [0; 1153];
    let (mut power, mut j) = ((1 << 23) as f64, 0);
    while j < table.len() {
        table[j] = (power + 0.5) as u32;
        power *= ratio;
        j += 1;
    }
    table
}

const fn laplace_scales() -> [LaplaceScale; SCALES as usize] {
    /// 2^(k/8).
    const ROOTS: [f64; 8] = [
        1.0,
        1.090_507_732_665_257_7,
        1.189_207_115_002_721,
        1.296_839_554_651_009_6,
        std::f64::consts::SQRT_2,
        1.542_210_825_407_940_7,
        1.681_792_830_507_429,
        1.834_008_086_409_342_4,
    ];
    let mut table = [LaplaceScale { inverse: 0, reach: 0, shared: 0 }; SCALES as usize];
    let mut index = 0;
    while index < SCALES as usize {
        let eighths = UNIT_SCALE - index as i32;
        let octave = (1u32 << (16 + eighths.div_euclid(8))) as f64;
        let inverse = (ROOTS[eighths.rem_euclid(8) as usize] * octave + 0.5) as u32;
        let reach = 2 + (11 << 16) / inverse as i32;
        let reach = if reach < 1023 { reach } else { 1023 };
        let shared = (1 << 16) - (2 * reach as u32 + 3);
        table[index] = LaplaceScale { inverse, reach, shared };
        index += 1;
    }
    table
}

/// A Laplace distribution of integers with any centre, in integer arithmetic.
///
/// It has symbols for the integers near the centre and an escape for either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Laplace {
    /// In 1/64.
    centre: i32,
    scale: &'static LaplaceScale,
    /// The integer nearest to the centre.
    middle: i32,
    /// Where the slices of the symbols from `middle - 1` on start, which most values need.
    near: [u32; 4],
}

impl Laplace {
    /// The distribution around `centre` / 64 of scale 2^((`scale` - 40) / 8): its density is
    /// proportional to exp(-distance / scale).
    ///
    /// # Panics
    /// If `scale` is not below [`SCALES`] or `centre` not below 2^16 in magnitude.
    #[inline]
    pub fn new(centre: i32, scale: u8) -> Self {
        assert!(centre.unsigned_abs() < 1 << 16);
        let scale = &LAPLACE_SCALES[usize::from(scale)];
        let middle = (centre + 32) >> 6;
        // The middle's slice starts so far below the centre.
        let below = (centre + 32 - 64 * middle) as u32;
        let near = [
            scale.start(-1, scale.tail(64 + below)),
            scale.start(0, scale.tail(below)),
            scale.start(1, ONE - scale.tail(64 - below)),
            scale.start(2, ONE - scale.tail(128 - below)),
        ];
        Self { centre, scale, middle, near }
    }

    /// Where the slice of symbol `k` starts, for `k` from `first()` to the upper escape.
    fn start(&self, k: i32) -> u32 {
        let x = 64 * k - 32 - self.centre;
        let tail = self.scale.tail(x.unsigned_abs());
        self.scale.start(k - self.middle, if x <= 0 { tail } else { ONE - tail })
    }

    /// The least symbol; the one before it stands for the lower escape.
    #[inline]
    fn first(&self) -> i32 {
        self.middle - self.scale.reach
    }

    /// The number after the greatest symbol: the upper escape.
    #[inline]
    fn end(&self) -> i32 {
        self.middle + self.scale.reach + 1
    }

    /// Low bits of what follows an escape.
    fn order(&self) -> u8 {
        self.scale.reach.ilog2() as u8
    }

    /// The symbol of `value`, the nearer escape if it has none.
    fn symbol(&self, value: i32) -> i32 {
        value.clamp(self.first() - 1, self.end())
    }

    fn slice(&self, symbol: i32) -> Slice {
        let start = if symbol < self.first() { 0 } else { self.start(symbol) };
        let end = if symbol < self.end() { self.start(symbol + 1) } else { 1 << 16 };
        Slice::new(start, end)
    }

    /// The symbol that holds `quantile`, found outward from the centre, with start and end.
    #[cold]
    fn far(&self, quantile: u32) -> (i32, u32, u32) {
        // The symbol lies in [low, high); both walk outward in doubling steps, then close in.
        let (mut low, mut start, mut high, mut end, mut step);
        if quantile < self.near[0] {
            (high, end, step) = (self.middle - 1, self.near[0], 1);
            loop {
                low = high - step;
                if low < self.first() {
                    (low, start) = (self.first() - 1, 0);
                    break;
                }
                start = self.start(low);
                if start <= quantile {
                    break;
                }
                (high, end, step) = (low, start, 2 * step);
            }
        } else {
            (low, start, step) = (self.middle + 2, self.near[3], 1);
            loop {
                high = low + step;
                if high > self.end() {
                    (high, end) = (self.end() + 1, 1 << 16);
                    break;
                }
                end = self.start(high);
                if quantile < end {
                    break;
                }
                (low, start, step) = (high, end, 2 * step);
            }
        }
        while high - low > 1 {
            let middle = (low + high) / 2;
            let at = self.start(middle);
            if at <= quantile { (low, start) = (middle, at) } else { (high, end) = (middle, at) }
        }
        (low, start, end)
    }

    /// Bits that `value` takes.
    pub fn bits(&self, value: i32) -> f64 {
        let symbol = self.symbol(value);
        let coded = self.slice(symbol).bits();
        if (self.first()..self.end()).contains(&symbol) {
            coded
        } else {
            coded + natural_bits(value.abs_diff(symbol), self.order())
        }
    }
}

impl EntropyModel<PRECISION> for &Laplace {
    type Symbol = i32;
    type Probability = u16;
}

impl DecoderModel<PRECISION> for &Laplace {
    #[inline]
    fn quantile_function(&self, quantile: u16) -> (i32, u16, NonZeroU16) {
        let quantile = u32::from(quantile);
        let near = &self.near;
        let (symbol, start, end) = if quantile < near[0] || quantile >= near[3] {
            self.far(quantile)
        } else {
            let at = usize::from(quantile >= near[1]) + usize::from(quantile >= near[2]);
            (self.middle - 1 + at as i32, near[at], near[at + 1])
        };
        let slice = Slice::new(start, end);
        (symbol, slice.start, slice.width)
    }
}

/// `n` bits, each as likely 0 as 1.
#[derive(Debug, Clone, Copy)]
struct Uniform(u32);

impl Uniform {
    fn slice(self, value: u16) -> Slice {
        let start = u32::from(value) << (16 - self.0);
        Slice::new(start, start + (1 << (16 - self.0)))
    }
}

impl EntropyModel<PRECISION> for Uniform {
    type Symbol = u16;
    type Probability = u16;
}

impl DecoderModel<PRECISION> for Uniform {
    fn quantile_function(&self, quantile: u16) -> (u16, u16, NonZeroU16) {
        let value = quantile >> (16 - self.0);
        let slice = self.slice(value);
        (value, slice.start, slice.width)
    }
}

/// Writes a stream.
#[derive(Debug, Default)]
pub struct Writer {
    coder: RangeEncoder<u16, u64>,
}

impl Writer {
    fn write(&mut self, slice: Slice) {
        self.coder.encode_symbol((), slice).expect("slices are not empty, memory never full");
    }

    /// The `count` low bits of `value`.
    pub fn bits(&mut self, mut count: u32, value: u32) {
        while count > 0 {
            let part = count.min(8);
            count -= part;
            self.write(Uniform(part).slice((value >> count & ((1 << part) - 1)) as u16));
        }
    }

    /// # Panics
    /// If `value` is not below [`MAX_MAGNITUDE`] in magnitude.
    pub fn integer(&mut self, value: i32, distribution: &Logistic) {
        assert!(value.abs() < MAX_MAGNITUDE);
        let (symbol, high, low) = distribution.split(value);
        self.write(distribution.slice(symbol.unwrap_or(SYMBOLS - 1)));
        if symbol.is_none() {
            self.bits(1, u32::from(high < 0));
            self.natural(beyond(high), 0);
        }
        self.bits(distribution.shift, low);
    }

    /// An Exp-Golomb code: `order` low bits serve values around 2^order best.
    pub fn natural(&mut self, value: u32, order: u8) {
        let raised = value + (1 << order);
        let length = raised.ilog2();
        for _ in u32::from(order)..length {
            self.bits(1, 1);
        }
        self.bits(1, 0);
        self.bits(length, raised);
    }

    /// # Panics
    /// If `value` is not below [`MAX_LATENT`] in magnitude.
    pub fn laplace(&mut self, value: i32, distribution: &Laplace) {
        assert!(value.abs() < MAX_LATENT);
        let symbol = distribution.symbol(value);
        self.write(distribution.slice(symbol));
        if symbol < distribution.first() || symbol == distribution.end() {
            self.natural(value.abs_diff(symbol), distribution.order());
        }
    }

    /// The stream; trailing zeros need not be kept.
    pub fn finish(self) -> Vec<u8> {
        let words = self.coder.into_compressed().expect("memory is never full");
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.truncate(bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1));
        bytes
    }
}

/// Reads a stream.
pub struct Reader {
    coder: RangeDecoder<u16, u64, Cursor<u16, Vec<u16>>>,
}

impl Reader {
    /// # Errors
    /// Where the last byte is 0: it would be left out.
    pub fn new(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.last() == Some(&0) {
            return Err(Malformed("a trailing zero"));
        }
        let word = |pair: &[u8]| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]);
        let words: Vec<u16> = bytes.chunks(2).map(word).collect();
        let Ok(coder) = RangeDecoder::from_compressed(words);
        Ok(Self { coder })
    }

    fn read<M>(&mut self, model: M) -> Result<M::Symbol, Malformed>
    where
        M: DecoderModel<PRECISION, Probability = u16>,
    {
        self.coder.decode_symbol(model).map_err(|_| Malformed("a quantile out of range"))
    }

    /// An integer of `count` bits.
    ///
    /// # Errors
    /// [`Malformed`] where the stream is none.
    pub fn bits(&mut self, mut count: u32) -> Result<u32, Malformed> {
        let mut value = 0;
        while count > 0 {
            let part = count.min(8);
            count -= part;
            value = value << part | u32::from(self.read(Uniform(part))?);
        }
        Ok(value)
    }

    /// # Errors
    /// [`Malformed`] where the value is not below [`MAX_MAGNITUDE`] in magnitude.
    pub fn integer(&mut self, distribution: &Logistic) -> Result<i32, Malformed> {
        let symbol = self.read(distribution)?;
        let high = if symbol + 1 < SYMBOLS {
            symbol as i32 - LARGEST
        } else {
            let negative = self.bits(1)? == 1;
            let magnitude = self.natural(0)? as i32 + LARGEST + 1;
            if negative { -magnitude } else { magnitude }
        };
        let shift = distribution.shift;
        let low = i64::from(self.bits(shift)?);
        let value = (i64::from(high) << shift) + low - i64::from(half(shift));
        if value.abs() >= MAX_MAGNITUDE.into() {
            return Err(Malformed("an integer out of range"));
        }
        Ok(value as i32)
    }

    /// # Errors
    /// [`Malformed`] where the value is not below [`MAX_MAGNITUDE`].
    pub fn natural(&mut self, order: u8) -> Result<u32, Malformed> {
        let mut length = u32::from(order);
        while self.bits(1)? == 1 {
            length += 1;
            if length >= MAX_MAGNITUDE.ilog2() {
                return Err(Malformed("an integer out of range"));
            }
        }
        Ok((1 << length | self.bits(length)?) - (1 << order))
    }

    /// # Errors
    /// [`Malformed`] where the value is not below [`MAX_LATENT`] in magnitude.
    #[inline]
    pub fn laplace(&mut self, distribution: &Laplace) -> Result<i32, Malformed> {
        let symbol = self.read(distribution)?;
        if (distribution.first()..distribution.end()).contains(&symbol) {
            return Ok(symbol);
        }
        self.escaped(symbol, distribution)
    }

    #[cold]
    fn escaped(&mut self, symbol: i32, distribution: &Laplace) -> Result<i32, Malformed> {
        let beyond = self.natural(distribution.order())? as i32;
        let value = if symbol < distribution.first() { symbol - beyond } else { symbol + beyond };
        if value.abs() >= MAX_LATENT {
            return Err(Malformed("a latent out of range"));
        }
        Ok(value)
    }

    /// # Errors
    /// Where bytes are left that no integer needed.
    pub fn finish(self) -> Result<(), Malformed> {
        let (mut words, ..) = self.coder.into_raw_parts();
        let Ok(next): Result<Option<u16>, _> =
            ReadWords::<u16, constriction::Queue>::read(&mut words);
        next.map_or(Ok(()), |_| Err(Malformed("bytes after the last integer")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_come_back(
            integers in prop::collection::vec((-70_000..70_000i32, 0..WIDTHS), 0..300),
            naturals in prop::collection::vec((0..1_000_000u32, 0..MAX_ORDER), 0..50),
        ) {
            let mut writer = Writer::default();
            for &(value, width) in &integers {
                writer.integer(value, Logistic::of(width));
            }
            for &(value, order) in &naturals {
                writer.natural(value, order);
            }
            let bytes = writer.finish();
            let ideal: f64 = integers.iter().map(|&(v, w)| Logistic::of(w).bits(v)).sum::<f64>()
                + naturals.iter().map(|&(v, o)| natural_bits(v, o)).sum::<f64>();
            prop_assert!((bytes.len() as f64) < ideal / 8.0 + 4.0);
            let mut reader = Reader::new(&bytes).unwrap();
            for &(value, width) in &integers {
                prop_assert_eq!(reader.integer(Logistic::of(width)), Ok(value));
            }
            for &(value, order) in &naturals {
                prop_assert_eq!(reader.natural(order), Ok(value));
            }
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn latents_come_back(
            latents in prop::collection::vec(
                (prop_oneof![-3000..3000i32, -32_767..=32_767i32], -65_535..=65_535i32, 0..SCALES),
                0..300,
            ),
            near in prop::collection::vec((-70..70i32, -500..500i32, 0..SCALES), 0..300),
        ) {
            let near = near.iter().map(|&(offset, c, s)| ((c >> 6) + offset, c, s));
            let latents: Vec<_> = near.chain(latents).collect();
            let mut writer = Writer::default();
            let mut ideal = 0.0;
            for &(value, centre, scale) in &latents {
                let distribution = Laplace::new(centre, scale);
                writer.laplace(value, &distribution);
                ideal += distribution.bits(value);
            }
            let bytes = writer.finish();
            prop_assert!((bytes.len() as f64) < ideal / 8.0 + 4.0);
            let mut reader = Reader::new(&bytes).unwrap();
            for &(value, centre, scale) in &latents {
                prop_assert_eq!(reader.laplace(&Laplace::new(centre, scale)), Ok(value));
            }
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn any_bytes_are_latents_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(mut reader) = Reader::new(&bytes) {
                for scale in (0..SCALES).cycle().take(300) {
                    let centre = 600 * i32::from(scale) - 31_000;
                    match reader.laplace(&Laplace::new(centre, scale)) {
                        Ok(value) => prop_assert!(value.abs() < MAX_LATENT),
                        Err(_) => break,
                    }
                }
            }
        }

        #[test]
        fn any_bytes_are_integers_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(mut reader) = Reader::new(&bytes) {
                for width in (0..WIDTHS).cycle().take(300) {
                    if reader.integer(Logistic::of(width)).is_err() || reader.natural(0).is_err() {
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn tables_are_those_of_the_specification() {
        let mut bytes = Vec::new();
        let mut nearest = 1.0f64;
        for index in 0..28 {
            let table = Logistic::of(index);
            assert_eq!(table.shift, 0);
            assert!(table.starts.windows(2).all(|pair| pair[0] < pair[1]));
            bytes.extend(table.starts.iter().flat_map(|start| start.to_le_bytes()));
            let scale = (f64::from(index) / 4.0 - 4.0).exp2();
            for k in -62..=64 {
                let share = 65_408.0 / (1.0 + (-(f64::from(k) - 0.5) / scale).exp());
                nearest = nearest.min((share.fract() - 0.5).abs());
            }
        }
        // No value is so near to a tie that binary64 could round it the other way.
        assert!(nearest > 1e-6, "{nearest}");
        assert_eq!(crc32fast::hash(&bytes), 0xdee3_84e4);
        assert_eq!(Logistic::of(63).shift, 9);
    }

    #[test]
    fn a_distribution_fits_what_it_is_for() {
        for index in [8, 16, 27, 28, 40, 63] {
            let table = Logistic::of(index);
            let scale = (f64::from(index) / 4.0 - 4.0).exp2();
            let density = |k: i32| {
                let cdf = |x: f64| 1.0 / (1.0 + (-x / scale).exp());
                cdf(f64::from(k) + 0.5) - cdf(f64::from(k) - 0.5)
            };
            let range = (20.0 * scale) as i32 + 1;
            let (mut ideal, mut coded) = (0.0, 0.0);
            for k in -range..=range {
                let p = density(k);
                if p > 0.0 {
                    ideal -= p * p.log2();
                    coded += p * table.bits(k);
                }
            }
            assert!(coded < 1.005 * ideal + 0.003, "{index}: {coded} bits, ideal {ideal}");
        }
    }

    #[test]
    fn laplace_tables_are_those_of_the_specification() {
        let mut nearest = 1.0f64;
        for (j, &found) in EXPONENTIALS.iter().enumerate() {
            let exact = 2f64.powi(23) * (-(j as f64) / 64.0).exp();
            assert_eq!(found, (exact + 0.5).floor() as u32);
            nearest = nearest.min((exact.fract() - 0.5).abs());
        }
        assert_eq!(EXPONENTIALS[1152], 0);
        for (index, scale) in LAPLACE_SCALES.iter().enumerate() {
            let exact = 2f64.powi(16) * ((40.0 - index as f64) / 8.0).exp2();
            assert_eq!(scale.inverse, (exact + 0.5).floor() as u32);
            nearest = nearest.min((exact.fract() - 0.5).abs());
        }
        // No entry is so near to a tie that binary64 could round it the other way.
        assert!(nearest > 1e-4, "{nearest}");
        let crc = |numbers: &[u32]| {
            let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            crc32fast::hash(&bytes)
        };
        let inverses: Vec<u32> = LAPLACE_SCALES.iter().map(|scale| scale.inverse).collect();
        assert_eq!(crc(&EXPONENTIALS), 0xb047_26f5);
        assert_eq!(crc(&inverses), 0x7929_e414);
    }

    #[test]
    fn every_quantile_has_its_symbol() {
        for (centre, scale) in [(0, 0), (31, 20), (-32, 40), (1000, 57), (-65_535, 80), (7, 104)] {
            let laplace = Laplace::new(centre, scale);
            let mut symbol = laplace.first() - 1;
            for quantile in 0..=u16::MAX {
                if symbol < laplace.end() && u32::from(quantile) >= laplace.start(symbol + 1) {
                    symbol += 1;
                }
                let slice = laplace.slice(symbol);
                let found = (&laplace).quantile_function(quantile);
                assert_eq!(found, (symbol, slice.start, slice.width), "{centre} {scale}");
            }
            assert_eq!(symbol, laplace.end());
        }
    }

    #[test]
    fn laplace_fits_what_it_is_for() {
        for scale in 0..SCALES {
            for centre in [0, 13, -32, 31, 320, -1000] {
                let laplace = Laplace::new(centre, scale);
                let spread = ((f64::from(scale) - 40.0) / 8.0).exp2();
                let probability = |k: i32| {
                    let tail = |x: f64| 0.5 * (-x / spread).exp();
                    let x = (f64::from(k) - f64::from(centre) / 64.0).abs();
                    if x < 0.5 {
                        1.0 - tail(0.5 - x) - tail(0.5 + x)
                    } else {
                        tail(x - 0.5) - tail(x + 0.5)
                    }
                };
                let range = (25.0 * spread) as i32 + 2;
                let (mut ideal, mut coded) = (0.0, 0.0);
                for k in (centre >> 6) - range..=(centre >> 6) + range {
                    let p = probability(k);
                    if p > 0.0 {
                        ideal -= p * p.log2();
                        coded += p * laplace.bits(k);
                    }
                }
                let bound = 1.015 * ideal + 0.003;
                assert!(coded < bound, "{centre} {scale}: {coded} bits, ideal {ideal}");
            }
        }
    }
}
