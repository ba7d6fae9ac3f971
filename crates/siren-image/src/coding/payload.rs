//! The payload of the representation by latents: table, networks, the latents tile by tile
//! (spec section 6.4). Tiles are coded in parallel; knows no pixels.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::compact::{self, QuantizedLayer, read_layer, sort_features, width_for, write_layer};
use super::entropy::{Logistic, Malformed, Reader, WIDTHS, Writer};
use super::latents::{self, Context, INPUTS, IntegerLayer, MAX_FEATURES, OUTPUTS, TILE, tiles};
use crate::container::{Cursor, write_varint};
use crate::error::DecodeError;
use crate::geometry::Size;
use crate::latents::{Plane, Region};
use crate::network::{Layer, Topology, check_range, limits};
use crate::parallel;
use siren_kernel::Simd;

/// Most levels of a picture.
pub const MAX_LEVELS: usize = limits::MAX_LEVELS;

/// Order of the number of dropped bits.
const DROP_ORDER: u8 = 3;
/// Order of the widths of the integers of the entropy model.
const WIDTH_ORDER: u8 = 5;

/// All networks of a file: that from latents to channels, and the one that predicts latents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networks {
    /// The sine layer: an input for each level, finest first.
    pub sines: QuantizedLayer,
    /// The output layer: of each channel the weights of the sines, then those of the levels.
    pub output: QuantizedLayer,
    /// The entropy model.
    pub context: Context,
}

impl Networks {
    /// The networks stream. Sines may come back in another order and with other signs, which
    /// does not change the function.
    ///
    /// # Panics
    /// If a step lies outside [`STEP_CODES`](compact::STEP_CODES).
    pub fn encode(&self) -> Vec<u8> {
        let (mut sines, mut output) = (self.sines.clone(), self.output.clone());
        sort_features(&mut sines, &mut output);
        let mut writer = Writer::default();
        let mut last = compact::FIRST;
        write_layer(&mut writer, &mut last, &sines, true);
        write_layer(&mut writer, &mut last, &output, false);
        for layer in self.context.layers() {
            writer.natural(layer.drop(), DROP_ORDER);
            for integers in [layer.weights(), layer.biases()] {
                let width = width_for(integers);
                writer.natural(width.into(), WIDTH_ORDER);
                let distribution = Logistic::of(width);
                integers.iter().for_each(|&q| writer.integer(q, distribution));
            }
        }
        writer.finish()
    }

    /// The sine layer and the output layer as the decoder sees them.
    pub fn layers(&self) -> (Layer, Layer) {
        (self.sines.layer(), self.output.layer())
    }

    /// Reads a networks stream. `topology` has one hidden layer, the sines; `levels` is the
    /// number of levels, `hidden` the hidden features of the entropy model.
    ///
    /// # Errors
    /// [`DecodeError::MalformedWeights`]; layer 0 is the sines, 1 the output, 2 to 4 the
    /// entropy model.
    pub fn decode(
        bytes: &[u8],
        topology: &Topology,
        levels: usize,
        hidden: (usize, usize),
    ) -> Result<Self, DecodeError> {
        let malformed =
            |layer| move |Malformed(rule)| DecodeError::MalformedWeights { layer, rule };
        let (sines, channels) = (topology.hidden()[0], topology.channels().count());
        let (h1, h2) = hidden;
        let mut reader = Reader::new(bytes).map_err(malformed(0))?;
        let mut last = compact::FIRST;
        let output_inputs = sines + levels;
        let sines =
            read_layer(&mut reader, &mut last, levels, sines, true).map_err(malformed(0))?;
        let output = read_layer(&mut reader, &mut last, output_inputs, channels, false);
        let output = output.map_err(malformed(1))?;
        let mut integers = |index, inputs, outputs| {
            read_integer_layer(&mut reader, inputs, outputs).map_err(malformed(index))
        };
        let layers = [integers(2, INPUTS, h1)?, integers(3, h1, h2)?, integers(4, h2, OUTPUTS)?];
        let context = Context::new(h1, h2, layers).map_err(malformed(2))?;
        reader.finish().map_err(malformed(4))?;
        Ok(Self { sines, output, context })
    }
}

fn read_integer_layer(
    reader: &mut Reader,
    inputs: usize,
    outputs: usize,
) -> Result<IntegerLayer, Malformed> {
    let integers = |reader: &mut Reader, count: usize| -> Result<Vec<i32>, Malformed> {
        let width = reader.natural(WIDTH_ORDER)?;
        if width >= WIDTHS.into() {
            return Err(Malformed("a parameter out of range"));
        }
        let distribution = Logistic::of(width as u8);
        (0..count).map(|_| reader.integer(distribution)).collect()
    };
    let drop = reader.natural(DROP_ORDER)?;
    let weights = integers(reader, inputs * outputs)?;
    IntegerLayer::new(drop, weights, integers(reader, outputs)?)
}

/// The payload of the levels `planes`, finest first.
///
/// # Panics
/// If there are not 1 to [`MAX_LEVELS`] planes, each half the size of the one before it,
/// rounded up, with an input of the sines for each, or a latent is -2^15.
pub fn encode(planes: &[Plane], networks: &Networks) -> Vec<u8> {
    assert!((1..=MAX_LEVELS).contains(&planes.len()));
    let half = |plane: &Plane| (plane.width().div_ceil(2), plane.height().div_ceil(2));
    let halves = |pair: &[Plane]| (pair[1].width(), pair[1].height()) == half(&pair[0]);
    assert!(planes.windows(2).all(halves), "each level is half the one before it");
    let QuantizedLayer { weights, biases, .. } = &networks.sines;
    assert_eq!(weights.len(), biases.len() * planes.len(), "an input for each level");
    let (h1, h2) = networks.context.hidden();
    let networks_stream = networks.encode();
    let groups = planes.iter().enumerate().rev().flat_map(|(level, plane)| {
        let tiles: Vec<Region> = tiles(plane.width(), plane.height()).collect();
        let groups = tiles.chunks(latents::tiles_together(plane.width()));
        groups.map(|tiles| (level, tiles.to_vec())).collect::<Vec<_>>()
    });
    let groups: Vec<_> = groups.collect();
    let streams = |group: &[(usize, Vec<Region>)]| {
        let (level, tiles) = &group[0];
        let (plane, coarser) = (&planes[*level], planes.get(level + 1));
        latents::encode(&networks.context, *level, plane, coarser, tiles)
    };
    let streams = parallel::map_chunks(&groups, 1, streams).into_iter();
    let streams: Vec<Vec<u8>> = streams.flatten().collect();
    let mut out = Vec::new();
    for number in [planes.len(), h1, h2, networks_stream.len()] {
        write_varint(number as u32, &mut out);
    }
    streams.iter().for_each(|stream| write_varint(stream.len() as u32, &mut out));
    out.extend(networks_stream);
    streams.iter().for_each(|stream| out.extend(stream));
    out
}

/// Bytes of the parts of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sizes {
    /// What stands before the networks.
    pub table: usize,
    /// The networks.
    pub networks: usize,
    /// The latents of each level, finest first; what is missing of a cut payload included.
    pub levels: Vec<usize>,
}

/// A parsed payload: the networks, and where the streams of the latents lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    bytes: Vec<u8>,
    networks: Networks,
    networks_stream: Range<usize>,
    /// Finest first.
    levels: Vec<LevelStreams>,
    /// How many of the levels are there, from the coarsest on.
    complete: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct LevelStreams {
    width: usize,
    height: usize,
    /// Place of the stream of each tile in the payload, beyond its end where it is cut.
    streams: Vec<Range<usize>>,
}

impl Payload {
    /// Reads a payload for a picture of `size` with `topology`, whose only hidden layer is
    /// the sines. Decodes the networks but no latents, and allocates no more than in
    /// proportion to `bytes`, whatever `size` is.
    ///
    /// # Errors
    /// [`DecodeError::OutOfRange`], [`DecodeError::MalformedChunk`] or
    /// [`DecodeError::MalformedWeights`].
    pub fn read(bytes: Vec<u8>, size: Size, topology: &Topology) -> Result<Self, DecodeError> {
        let payload = Self::read_prefix(bytes, size, topology)?;
        let end = payload.levels[0].streams.last().expect("at least one tile").end;
        if end != payload.bytes.len() {
            return Err(malformed("the lengths of its streams do not add up"));
        }
        Ok(payload)
    }

    /// Reads as much of a cut payload as is there: at least table and networks.
    ///
    /// # Errors
    /// As [`Payload::read`].
    pub fn read_prefix(
        bytes: Vec<u8>,
        size: Size,
        topology: &Topology,
    ) -> Result<Self, DecodeError> {
        check_range("hidden layers", topology.hidden().len() as u64, 1, 1)?;
        let mut cursor = Cursor::new(&bytes, 0, "the table");
        let mut number = |field| {
            let number = cursor.varint(field);
            number.map_err(|_| malformed("its table is cut or malformed"))
        };
        let mut count = |field, most: usize| {
            let count = number(field)?;
            check_range(field, count.into(), 1, most as u64)?;
            Ok::<_, DecodeError>(count as usize)
        };
        let level_count = count("levels", MAX_LEVELS)?;
        let field = "hidden features of the entropy model";
        let hidden = (count(field, MAX_FEATURES)?, count(field, MAX_FEATURES)?);
        let networks_length = number("length of the networks")?;

        let side = |side: u32, level: usize| (side as usize).div_ceil(1 << level);
        let side_tiles = |size, level| side(size, level).div_ceil(TILE) as u64;
        let level_tiles = |level| side_tiles(size.width, level) * side_tiles(size.height, level);
        // Every length takes a byte: nothing is allocated for what is not there.
        if (0..level_count).map(level_tiles).sum::<u64>() > bytes.len() as u64 {
            return Err(malformed("it has fewer bytes than tiles"));
        }
        let mut lengths = Vec::with_capacity(level_count);
        for level in (0..level_count).rev() {
            let of_level = (0..level_tiles(level)).map(|_| number("length of a tile"));
            lengths.push(of_level.collect::<Result<Vec<u32>, _>>()?);
        }

        let mut end = cursor.position();
        let mut next = |length: u32| {
            let start = end;
            end = end.saturating_add(length as usize);
            start..end
        };
        let networks_stream = next(networks_length);
        let stream = bytes.get(networks_stream.clone());
        let stream = stream.ok_or(malformed("its networks are cut"))?;
        let networks = Networks::decode(stream, topology, level_count, hidden)?;
        let mut levels = Vec::with_capacity(level_count);
        for (level, lengths) in (0..level_count).rev().zip(lengths) {
            let streams = lengths.into_iter().map(&mut next).collect();
            let (width, height) = (side(size.width, level), side(size.height, level));
            levels.push(LevelStreams { width, height, streams });
        }
        let there = |level: &LevelStreams| level.streams.iter().all(|s| s.end <= bytes.len());
        let complete = levels.iter().take_while(|&level| there(level)).count();
        levels.reverse();
        Ok(Self { bytes, networks, networks_stream, levels, complete })
    }

    /// The networks.
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// Number of levels.
    pub fn levels(&self) -> usize {
        self.levels.len()
    }

    /// Number of levels of which every byte is there, counted from the coarsest: all, unless
    /// the payload is cut.
    pub fn complete_levels(&self) -> usize {
        self.complete
    }

    /// Width and height of a level's grid, the finest being level 0.
    ///
    /// # Panics
    /// If there is no such level.
    pub fn plane_size(&self, level: usize) -> (usize, usize) {
        (self.levels[level].width, self.levels[level].height)
    }

    /// The stream of a tile, row by row; `None` where the payload is cut before its end.
    ///
    /// # Panics
    /// If there is no such tile.
    pub fn stream(&self, level: usize, tile: usize) -> Option<&[u8]> {
        self.bytes.get(self.levels[level].streams[tile].clone())
    }

    /// Bytes of the parts.
    pub fn sizes(&self) -> Sizes {
        let level = |level: &LevelStreams| level.streams.iter().map(|stream| stream.len()).sum();
        Sizes {
            table: self.networks_stream.start,
            networks: self.networks_stream.len(),
            levels: self.levels.iter().map(level).collect(),
        }
    }

    /// Latents that [`Payload::decode`] would decode or hold, whichever are more; each takes up to four
    /// bytes while it runs. Ask before it.
    ///
    /// # Panics
    /// As that does.
    pub fn latents(&self, first_level: usize, needed: Option<&[Region]>) -> u64 {
        let needs = self.needs(first_level, needed, &Tiles::default());
        needs.missing().max(needs.held())
    }

    /// Decodes the levels from `first_level` on, finest first: whole, or what `needed` asks
    /// for, a rectangle for each level of the file. A plane holds what is needed and what the
    /// decoding of that needs.
    ///
    /// # Errors
    /// [`DecodeError::MalformedLatents`], also where the payload is cut.
    ///
    /// # Panics
    /// If there is no such level or `needed` has not one rectangle for each.
    pub fn decode(
        &self,
        first_level: usize,
        needed: Option<&[Region]>,
    ) -> Result<Vec<Plane>, DecodeError> {
        let needs = self.needs(first_level, needed, &Tiles::default());
        Ok(self.planes(needs)?.0)
    }

    /// What [`Payload::decode`] takes where some tiles have been decoded before.
    ///
    /// # Panics
    /// As that does.
    pub(crate) fn needs(
        &self,
        first_level: usize,
        needed: Option<&[Region]>,
        decoded: &Tiles,
    ) -> Needs {
        assert!(first_level < self.levels());
        assert!(needed.is_none_or(|needed| needed.len() == self.levels()));
        let mut needs = Needs { first_level, levels: Vec::new(), tiles: Tiles::default() };
        // The tiles of a level that those to be decoded of the finer one depend on.
        let mut holders: Vec<usize> = Vec::new();
        for (level, grid) in self.levels.iter().enumerate().skip(first_level) {
            let whole = Region { x: 0, y: 0, width: grid.width, height: grid.height };
            let asked = needed.map_or(whole, |needed| needed[level]);
            let held = holders.iter().map(|&index| grid.tile(index));
            let region = held.fold(asked, |region, tile| region.union(&tile));
            let mut indices = grid.tiles_of(asked);
            indices.append(&mut holders);
            indices.sort_unstable();
            indices.dedup();
            indices.retain(|&index| !grid.streams[index].is_empty());
            let mut need = Need { region, tiles: Vec::new(), missing: Vec::new() };
            for index in indices {
                let tile = grid.tile(index);
                need.tiles.push((index, tile));
                match decoded.get(level, index) {
                    Some(latents) => needs.tiles.insert(level, index, latents.clone()),
                    None => {
                        need.missing.push((index, tile));
                        let columns = grid.width.div_ceil(2).div_ceil(TILE);
                        holders.push((tile.y / 2 / TILE) * columns + tile.x / 2 / TILE);
                    }
                }
            }
            needs.levels.push(need);
        }
        needs
    }

    /// Decodes what is missing and gives the planes, finest first, with all tiles that they are made
    /// of.
    ///
    /// # Errors
    /// As [`Payload::decode`].
    pub(crate) fn planes(&self, needs: Needs) -> Result<(Vec<Plane>, Tiles), DecodeError> {
        let Needs { first_level, levels, mut tiles } = needs;
        let mut planes: Vec<Plane> = Vec::new();
        for (level, need) in (first_level..self.levels()).zip(levels).rev() {
            let latents = self.decode_tiles(level, &need.missing, planes.last())?;
            for (&(index, _), latents) in need.missing.iter().zip(latents) {
                tiles.insert(level, index, latents.into());
            }
            let (width, height) = self.plane_size(level);
            let mut plane = Plane::with_region(width, height, need.region);
            for &(index, tile) in &need.tiles {
                plane.put(tile, tiles.get(level, index).expect("it is decoded"));
            }
            planes.push(plane);
        }
        planes.reverse();
        Ok((planes, tiles))
    }

    /// The latents of some tiles of a level.
    fn decode_tiles(
        &self,
        level: usize,
        tiles: &[(usize, Region)],
        coarser: Option<&Plane>,
    ) -> Result<Vec<Vec<i16>>, DecodeError> {
        let simd = Simd::new();
        let decode = |tiles: &[(usize, Region)]| {
            let stream = |(number, &(index, tile)): (usize, &(usize, Region))| {
                let bytes = self.stream(level, index);
                Ok((tile, bytes.ok_or((number, Malformed("bytes are missing")))?))
            };
            let streams: Result<Vec<_>, _> = tiles.iter().enumerate().map(stream).collect();
            let context = &self.networks.context;
            let latents = streams.and_then(|s| latents::decode(context, simd, level, &s, coarser));
            latents.map_err(|(number, Malformed(rule))| {
                let tile = tiles[number].0;
                DecodeError::MalformedLatents { level, tile, rule }
            })
        };
        let together = latents::tiles_together(self.levels[level].width);
        let decoded: Vec<Result<Vec<Vec<i16>>, _>> = parallel::map_chunks(tiles, together, decode);
        let decoded: Vec<Vec<Vec<i16>>> = decoded.into_iter().collect::<Result<_, _>>()?;
        Ok(decoded.into_iter().flatten().collect())
    }
}

impl LevelStreams {
    /// Tile `index`.
    fn tile(&self, index: usize) -> Region {
        let columns = self.width.div_ceil(TILE);
        let (x, y) = (index % columns * TILE, index / columns * TILE);
        Region { x, y, width: TILE.min(self.width - x), height: TILE.min(self.height - y) }
    }

    /// The tiles that share a latent with a region.
    fn tiles_of(&self, region: Region) -> Vec<usize> {
        if region.count() == 0 {
            return Vec::new();
        }
        let columns = self.width.div_ceil(TILE);
        let across = region.x / TILE..(region.x + region.width).div_ceil(TILE);
        let down = region.y / TILE..(region.y + region.height).div_ceil(TILE);
        down.flat_map(|row| across.clone().map(move |column| row * columns + column)).collect()
    }
}

/// What a part of the picture takes of the levels in use.
#[derive(Debug)]
pub(crate) struct Needs {
    first_level: usize,
    /// Finest first.
    levels: Vec<Need>,
    /// Those that were decoded before.
    tiles: Tiles,
}

/// What it takes of a level.
#[derive(Debug)]
struct Need {
    /// The latents that its plane holds.
    region: Region,
    /// The tiles that are not 0, with their numbers.
    tiles: Vec<(usize, Region)>,
    /// Those of them that are to be decoded.
    missing: Vec<(usize, Region)>,
}

impl Needs {
    /// Latents that are to be decoded.
    pub fn missing(&self) -> u64 {
        self.count(|need| need.missing.iter().map(|(_, tile)| tile.count()).sum())
    }

    /// Latents of the planes.
    pub fn held(&self) -> u64 {
        self.count(|need| need.region.count())
    }

    /// Latents of the tiles, those to be decoded and the others.
    pub fn in_tiles(&self) -> u64 {
        self.count(|need| need.tiles.iter().map(|(_, tile)| tile.count()).sum())
    }

    fn count(&self, of: impl Fn(&Need) -> u64) -> u64 {
        self.levels.iter().map(of).sum()
    }
}

/// Decoded tiles by level and number, for renders to come. Those that are 0 are not among them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tiles {
    tiles: BTreeMap<(usize, usize), Arc<Vec<i16>>>,
    latents: u64,
}

impl Tiles {
    fn get(&self, level: usize, index: usize) -> Option<&Arc<Vec<i16>>> {
        self.tiles.get(&(level, index))
    }

    fn insert(&mut self, level: usize, index: usize, latents: Arc<Vec<i16>>) {
        let count = latents.len() as u64;
        if self.tiles.insert((level, index), latents).is_none() {
            self.latents += count;
        }
    }

    /// Before `needs` is decoded, drops what it does not need, unless all together are no more than
    /// `most` latents.
    pub fn make_room(&mut self, needs: &Needs, most: u64) {
        if self.latents.saturating_add(needs.missing()) > most {
            *self = needs.tiles.clone();
        }
    }

    /// Keeps decoded tiles, and what is here as far as all together are no more than `most` latents.
    pub fn keep(&mut self, decoded: Tiles, most: u64) {
        for (&(level, index), latents) in &decoded.tiles {
            self.insert(level, index, latents.clone());
        }
        if self.latents > most {
            *self = decoded;
        }
    }
}

fn malformed(rule: &'static str) -> DecodeError {
    DecodeError::MalformedChunk { kind: "WGHT", rule }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::compact::Steps;
    use crate::network::Channels;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn random(count: usize, most: i32, rng: &mut ChaCha8Rng) -> Vec<i32> {
        (0..count).map(|_| rng.random_range(-most..=most)).collect()
    }

    fn networks(topology: &Topology, levels: usize, rng: &mut ChaCha8Rng) -> Networks {
        let (sines, channels) = (topology.hidden()[0], topology.channels().count());
        let mut layer = |inputs: usize, outputs: usize, steps| QuantizedLayer {
            steps,
            weights: random(inputs * outputs, 40, rng),
            biases: random(outputs, 900, rng),
        };
        let output = Steps { weights: -20, biases: -30 };
        let output = layer(sines + levels, channels, output);
        let sines = layer(levels, sines, Steps { weights: -12, biases: -24 });
        let mut layer = |inputs: usize, outputs: usize, drop| {
            let weights = random(inputs * outputs, 30, rng);
            IntegerLayer::new(drop, weights, random(outputs, 100, rng)).unwrap()
        };
        let layers = [layer(INPUTS, 6, 2), layer(6, 9, 7), layer(9, OUTPUTS, 9)];
        Networks { sines, output, context: Context::new(6, 9, layers).unwrap() }
    }

    fn planes(size: Size, levels: usize, rng: &mut ChaCha8Rng) -> Vec<Plane> {
        let (mut width, mut height) = (size.width as usize, size.height as usize);
        let mut planes = Vec::new();
        for _ in 0..levels {
            let mut plane = Plane::new(width, height);
            for (at, value) in plane.values_mut().iter_mut().enumerate() {
                // Some tiles are 0.
                if at % width < 256 || at / width >= 256 {
                    *value = rng.random_range(-3..=3) * rng.random_range(0..=2);
                }
            }
            planes.push(plane);
            (width, height) = (width.div_ceil(2), height.div_ceil(2));
        }
        planes
    }

    fn case(
        (width, height): (u32, u32),
        levels: usize,
        seed: u64,
    ) -> (Size, Topology, Networks, Vec<Plane>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let size = Size { width, height };
        let topology = Topology::new(Channels::Rgb, vec![17]).unwrap();
        let networks = networks(&topology, levels, &mut rng);
        let planes = planes(size, levels, &mut rng);
        (size, topology, networks, planes)
    }

    #[test]
    fn networks_come_back_with_sorted_sines() {
        let (_, topology, networks, _) = case((1, 1), 4, 1);
        let bytes = networks.encode();
        let back = Networks::decode(&bytes, &topology, 4, (6, 9)).unwrap();
        assert_eq!(back.encode(), bytes);
        assert_eq!(back.context, networks.context);
        let (mut sines, mut output) = (networks.sines.clone(), networks.output.clone());
        sort_features(&mut sines, &mut output);
        assert_eq!((&back.sines, &back.output), (&sines, &output));
        for (row, sorted) in networks.output.weights.chunks(21).zip(output.weights.chunks(21)) {
            assert_eq!(row[17..], sorted[17..], "the levels' columns stay");
        }
        // The same function: odd in each sine, whose sum does not know their order.
        let value = |sines: &QuantizedLayer, output: &QuantizedLayer, channel: usize| {
            let rows = sines.weights.chunks(4).zip(&sines.biases);
            let row = rows.map(|(row, bias)| row[0] + 2 * row[1] - 3 * row[2] + row[3] + bias);
            let terms = row.zip(&output.weights[channel * 21..]);
            terms.map(|(a, w)| i64::from(a).pow(3) * i64::from(*w)).sum::<i64>()
        };
        for channel in 0..3 {
            let before = value(&networks.sines, &networks.output, channel);
            assert_eq!(value(&sines, &output, channel), before);
        }
    }

    #[test]
    fn payloads_come_back() {
        for (size, levels) in [((1, 1), 1), ((1, 9), 10), ((300, 70), 3), ((770, 515), 4)] {
            let (size, topology, networks, planes) = case(size, levels, 2);
            let bytes = encode(&planes, &networks);
            let payload = Payload::read(bytes.clone(), size, &topology).unwrap();
            assert_eq!(payload.networks().encode(), networks.encode());
            assert_eq!((payload.levels(), payload.complete_levels()), (levels, levels));
            let Sizes { table, networks, levels: of_levels } = payload.sizes();
            assert_eq!(table + networks + of_levels.iter().sum::<usize>(), bytes.len());
            for first in 0..levels {
                assert!(payload.decode(first, None).unwrap() == planes[first..]);
                let (width, height) = payload.plane_size(first);
                assert_eq!((width, height), (planes[first].width(), planes[first].height()));
            }
        }
    }

    #[test]
    fn what_is_asked_for_is_decoded() {
        let (size, topology, networks, planes) = case((1030, 700), 3, 3);
        let payload = Payload::read(encode(&planes, &networks), size, &topology).unwrap();
        let nothing = Region { x: 0, y: 0, width: 0, height: 0 };
        for tile in [
            Region { x: 255, y: 300, width: 2, height: 1 },
            Region { x: 1029, y: 699, width: 1, height: 1 },
            Region { x: 511, y: 0, width: 300, height: 700 },
        ] {
            let found = payload.decode(0, Some(&[tile, nothing, nothing])).unwrap();
            let at = |plane: &Plane, x, y| plane.get_clamped(x as i64, y as i64);
            for y in tile.y..tile.y + tile.height {
                for x in tile.x..tile.x + tile.width {
                    assert!(at(&found[0], x, y) == at(&planes[0], x, y));
                }
            }
            assert!(found[0].region().count() < 1030 * 700, "not all of it is decoded");
        }
        let found = payload.decode(0, Some(&[nothing; 3])).unwrap();
        assert!(found[0].values().is_empty());
        let latents: u64 = planes.iter().map(|plane| plane.values().len() as u64).sum();
        assert_eq!(payload.latents(0, None), latents);
    }

    #[test]
    fn cut_payloads_keep_their_coarse_levels() {
        let (size, topology, networks, planes) = case((300, 270), 3, 4);
        let bytes = encode(&planes, &networks);
        let sizes = Payload::read(bytes.clone(), size, &topology).unwrap().sizes();
        let mut end = sizes.table + sizes.networks;
        assert!(Payload::read_prefix(bytes[..end - 1].to_vec(), size, &topology).is_err());
        for complete in 0..=3 {
            let payload = Payload::read_prefix(bytes[..end].to_vec(), size, &topology).unwrap();
            assert_eq!(payload.complete_levels(), complete);
            assert_eq!(payload.sizes(), sizes);
            for first in 0..3 {
                let found = payload.decode(first, None);
                if first < 3 - complete {
                    let rule = "bytes are missing";
                    assert!(
                        matches!(found, Err(DecodeError::MalformedLatents { rule: r, .. }) if r == rule)
                    );
                } else {
                    assert!(found.unwrap() == planes[first..]);
                }
            }
            if complete < 3 {
                assert!(Payload::read(bytes[..end].to_vec(), size, &topology).is_err());
                end += sizes.levels[2 - complete];
            }
        }
        let longer = [&bytes[..], &[1]].concat();
        assert!(Payload::read(longer, size, &topology).is_err());
    }

    /// Found by fuzzing: latents whose stream is all zeros, and too unlikely to be kept apart from
    /// zeros by a number as large as 2^-24.
    #[test]
    fn unlikely_latents_are_told_from_zeros() {
        let bytes = [
            10, 1, 1, 1, 7, 0, 0, 0, 0, 0, 0, 10, 0, 0, 192, 192, 202, 7, 232, 19, 162, 9, 0, 0, 0,
            0, 0, 0, 0, 63, 35, 31,
        ];
        let size = Size { width: 7, height: 1 };
        let topology = Topology::uniform(Channels::Grey, 1, 1).unwrap();
        let payload = Payload::read(bytes.to_vec(), size, &topology).unwrap();
        let planes = payload.decode(0, None).unwrap();
        assert_eq!(planes[2].values(), [-53, -53]);
        let written = encode(&planes, payload.networks());
        let read = Payload::read(written, size, &topology).unwrap();
        assert_eq!(read.decode(0, None), Ok(planes));
    }

    #[test]
    fn huge_sizes_need_as_many_bytes() {
        let (_, topology, networks, planes) = case((20, 20), 1, 5);
        let bytes = encode(&planes, &networks);
        let most = crate::network::limits::MAX_DIMENSION;
        for size in [Size { width: most, height: most }, Size { width: most, height: 1 }] {
            let found = Payload::read_prefix(bytes.clone(), size, &topology);
            assert_eq!(found, Err(malformed("it has fewer bytes than tiles")));
        }
        let mut levels = bytes.clone();
        levels[0] = 11;
        let found = Payload::read(levels, Size { width: 20, height: 20 }, &topology);
        let wanted = DecodeError::OutOfRange { field: "levels", value: 11, min: 1, max: 10 };
        assert_eq!(found, Err(wanted));
    }

    proptest! {
        #[test]
        fn damaged_payloads_are_latents_or_an_error(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in any::<prop::sample::Index>(),
            keep in any::<bool>(),
        ) {
            let (size, topology, networks, planes) = case((40, 30), 3, 6);
            let mut bytes = encode(&planes, &networks);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if keep {
                if let Ok(payload) = Payload::read(bytes, size, &topology) {
                    let _ = payload.decode(0, None);
                }
            } else {
                bytes.truncate(cut.index(bytes.len()));
                if let Ok(payload) = Payload::read_prefix(bytes, size, &topology) {
                    let _ = payload.decode(payload.levels() - 1, None);
                }
            }
        }
    }
}
