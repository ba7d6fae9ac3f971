//! Integers to bytes and back by a range coder, with distributions in integer arithmetic
//! (spec section 6.3). Knows nothing of networks; the range coder itself is `constriction`'s.

use std::borrow::Borrow;
use std::num::NonZeroU16;

use constriction::backends::{Cursor, ReadWords};
use constriction::stream::model::{DecoderModel, EncoderModel, EntropyModel};
use constriction::stream::queue::{RangeDecoder, RangeEncoder};
use constriction::stream::{Decode, Encode};

/// Probabilities are multiples of 2^-16, words of the stream have 16 bits.
const PRECISION: usize = 16;

/// Widths of the distributions: `Logistic::new` takes an index below this.
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
    /// # Panics
    /// If `index` is not below [`WIDTHS`].
    pub fn new(index: u8) -> Self {
        assert!(index < WIDTHS);
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

    fn bits(&mut self, mut count: u32, value: u32) {
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

    fn bits(&mut self, mut count: u32) -> Result<u32, Malformed> {
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
    /// Where bytes are left that no integer needed.
    pub fn finish(self) -> Result<(), Malformed> {
        let (mut words, ..) = self.coder.into_raw_parts();
        let Ok(next): Result<Option<u16>, _> =
            ReadWords::<u16, constriction::Queue>::read(&mut words);
        next.map_or(Ok(()), |_| Err(Malformed("bytes after the last weight")))
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
                writer.integer(value, &Logistic::new(width));
            }
            for &(value, order) in &naturals {
                writer.natural(value, order);
            }
            let bytes = writer.finish();
            let ideal: f64 = integers.iter().map(|&(v, w)| Logistic::new(w).bits(v)).sum::<f64>()
                + naturals.iter().map(|&(v, o)| natural_bits(v, o)).sum::<f64>();
            prop_assert!((bytes.len() as f64) < ideal / 8.0 + 4.0);
            let mut reader = Reader::new(&bytes).unwrap();
            for &(value, width) in &integers {
                prop_assert_eq!(reader.integer(&Logistic::new(width)), Ok(value));
            }
            for &(value, order) in &naturals {
                prop_assert_eq!(reader.natural(order), Ok(value));
            }
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn any_bytes_are_integers_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(mut reader) = Reader::new(&bytes) {
                for width in (0..WIDTHS).cycle().take(300) {
                    if reader.integer(&Logistic::new(width)).is_err() || reader.natural(0).is_err() {
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
            let table = Logistic::new(index);
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
        assert_eq!(Logistic::new(63).shift, 9);
    }

    #[test]
    fn a_distribution_fits_what_it_is_for() {
        for index in [8, 16, 27, 28, 40, 63] {
            let table = Logistic::new(index);
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
}
