//! The payload of the representation by latents: table, networks, the latents tile by tile
//! (spec section 6.4). Tiles are coded in parallel; knows no pixels.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::compact::{self, QuantizedLayer, read_layer, sort_features, width_for, write_layer};
use super::entropy::{Logistic, Malformed, Reader, WIDTHS, Writer};
use super::latents::{self, Context, IntegerLayer, MAX_FEATURES, TILE, tiles};
use super::waves;
use crate::container::{Cursor, write_varint};
use crate::error::DecodeError;
use crate::geometry::Size;
use crate::latents::{Bases, Basis, Plane, Region};
use crate::network::{Layer, Topology, check_range, limits};
use crate::parallel;
use siren_kernel::Simd;

/// What the number of planes of waves is multiplied by beside the finest level.
const WAVES_UNIT: u32 = 16;
/// Logarithms to base 2 of the pixels of a cell.
const CELLS: (usize, usize) = (3, 5);

/// Order of the number of dropped bits.
const DROP_ORDER: u8 = 3;
/// Order of the widths of the integers of the entropy model.
const WIDTH_ORDER: u8 = 5;

/// All networks of a file: that from latents to channels, and those that predict latents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networks {
    /// The sine layer: an input for each plane, finest first.
    pub sines: QuantizedLayer,
    /// The output layer: of each channel the weights of the sines, then those of the planes.
    pub output: QuantizedLayer,
    /// The entropy model of splines.
    pub splines: Context,
    /// The entropy model of waves, where there are any.
    pub waves: Option<Context>,
}

/// Inputs, features of the hidden layers and outputs of the entropy model of splines.
pub fn splines_shape([h1, h2]: [usize; 2]) -> [usize; 4] {
    [latents::INPUTS, h1, h2, latents::OUTPUTS]
}

/// Those of the entropy model of waves.
pub fn waves_shape([h1, h2]: [usize; 2]) -> [usize; 4] {
    [waves::INPUTS, h1, h2, waves::OUTPUTS]
}

/// Features of the hidden layers of the entropy models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hidden {
    /// Of that of splines.
    pub splines: [usize; 2],
    /// Of that of waves, where there are any.
    pub waves: Option<[usize; 2]>,
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
        let models = [&self.splines].into_iter().chain(&self.waves);
        for layer in models.flat_map(Context::layers) {
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

    /// Sizes of the entropy models.
    pub fn hidden(&self) -> Hidden {
        Hidden { splines: self.splines.hidden(), waves: self.waves.as_ref().map(Context::hidden) }
    }

    /// The entropy model of a plane.
    ///
    /// # Panics
    /// If it is one of waves, and there is none.
    pub fn context(&self, basis: Basis) -> &Context {
        match basis {
            Basis::Splines { .. } => &self.splines,
            Basis::Waves { .. } => self.waves.as_ref().expect("a model of waves"),
        }
    }

    /// Reads a networks stream. `topology` has one hidden layer, the sines; `planes` is the
    /// number of planes, `hidden` the hidden features of the entropy models.
    ///
    /// # Errors
    /// [`DecodeError::MalformedWeights`]; layer 0 is the sines, 1 the output, 2 to 4 the
    /// entropy model of splines, 5 to 7 that of waves.
    pub fn decode(
        bytes: &[u8],
        topology: &Topology,
        planes: usize,
        hidden: Hidden,
    ) -> Result<Self, DecodeError> {
        let malformed =
            |layer| move |Malformed(rule)| DecodeError::MalformedWeights { layer, rule };
        let (sines, channels) = (topology.hidden()[0], topology.channels().count());
        let mut reader = Reader::new(bytes).map_err(malformed(0))?;
        let mut last = compact::FIRST;
        let output_inputs = sines + planes;
        let sines =
            read_layer(&mut reader, &mut last, planes, sines, true).map_err(malformed(0))?;
        let output = read_layer(&mut reader, &mut last, output_inputs, channels, false);
        let output = output.map_err(malformed(1))?;
        let mut context = |first, shape: [usize; 4]| {
            let [inputs, h1, h2, outputs] = shape;
            let mut integers = |index, inputs, outputs| {
                read_integer_layer(&mut reader, inputs, outputs).map_err(malformed(first + index))
            };
            let layers =
                [integers(0, inputs, h1)?, integers(1, h1, h2)?, integers(2, h2, outputs)?];
            Context::new(shape, layers).map_err(malformed(first))
        };
        let splines = context(2, splines_shape(hidden.splines))?;
        let waves = hidden.waves.map(|hidden| context(5, waves_shape(hidden))).transpose()?;
        let end = if waves.is_some() { 7 } else { 4 };
        reader.finish().map_err(malformed(end))?;
        Ok(Self { sines, output, splines, waves })
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

/// The payload of `planes`, finest first.
///
/// # Panics
/// If the format does not allow such planes, they are not all of a picture of one size, with an
/// input of the sines for each and an entropy model, or a latent is -2^15.
pub fn encode(planes: &[Plane], networks: &Networks) -> Vec<u8> {
    let bases = Bases::of(planes).expect("planes of the format");
    let QuantizedLayer { weights, biases, .. } = &networks.sines;
    assert_eq!(weights.len(), biases.len() * planes.len(), "an input for each plane");
    assert_eq!(networks.waves.is_some(), bases.waves() > 0, "a model for each kind of plane");
    let networks_stream = networks.encode();
    let groups = planes.iter().enumerate().rev().flat_map(|(index, plane)| {
        let tiles: Vec<Region> = tiles(plane.width(), plane.height()).collect();
        let groups = tiles.chunks(tiles_together(plane.basis(), plane.width()));
        groups.map(|tiles| (index, tiles.to_vec())).collect::<Vec<_>>()
    });
    let groups: Vec<_> = groups.collect();
    let streams = |group: &[(usize, Vec<Region>)]| {
        let (index, tiles) = &group[0];
        let (plane, coarser) = (&planes[*index], planes.get(index + 1));
        let context = networks.context(plane.basis());
        match plane.basis() {
            Basis::Splines { level } => latents::encode(context, level, plane, coarser, tiles),
            Basis::Waves { cell } => {
                tiles.iter().map(|&tile| waves::encode(context, cell, plane, tile)).collect()
            }
        }
    };
    let streams = parallel::map_chunks(&groups, 1, streams).into_iter();
    let streams: Vec<Vec<u8>> = streams.flatten().collect();
    let mut numbers = vec![bases.levels() as u32];
    numbers.push(bases.finest() as u32 + WAVES_UNIT * bases.waves() as u32);
    if bases.waves() > 0 {
        numbers.push(bases.cell().ilog2());
    }
    let Hidden { splines, waves } = networks.hidden();
    numbers.extend([Some(splines), waves].into_iter().flatten().flatten().map(|h| h as u32));
    numbers.push(networks_stream.len() as u32);
    let mut out = Vec::new();
    numbers.into_iter().for_each(|number| write_varint(number, &mut out));
    streams.iter().for_each(|stream| write_varint(stream.len() as u32, &mut out));
    out.extend(networks_stream);
    streams.iter().for_each(|stream| out.extend(stream));
    out
}

/// How many tiles of a plane of so many columns are coded together.
fn tiles_together(basis: Basis, width: usize) -> usize {
    match basis {
        Basis::Splines { .. } => latents::tiles_together(width),
        Basis::Waves { .. } => 1,
    }
}

/// Bytes of the parts of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sizes {
    /// What stands before the networks.
    pub table: usize,
    /// The networks.
    pub networks: usize,
    /// The latents of each plane, finest first; what is missing of a cut payload included.
    pub planes: Vec<usize>,
}

/// A parsed payload: the networks, and where the streams of the latents lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    bytes: Vec<u8>,
    networks: Networks,
    networks_stream: Range<usize>,
    bases: Bases,
    /// Finest first.
    planes: Vec<PlaneStreams>,
    /// How many of the planes are there, from the coarsest on.
    complete: usize,
    size: Size,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PlaneStreams {
    basis: Basis,
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
        let end = payload.planes[0].streams.last().expect("at least one tile").end;
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
        let levels = count(&mut cursor, "levels", 1, limits::MAX_LEVELS)?;
        let field = "finest level and planes of waves";
        let most = WAVES_UNIT as usize * limits::MAX_WAVES + limits::MAX_LEVELS - 1;
        let code = count(&mut cursor, field, 0, most)?;
        let (finest, waves) = (code % WAVES_UNIT as usize, code / WAVES_UNIT as usize);
        let has_waves = waves > 0;
        let cell = match has_waves {
            true => 1 << count(&mut cursor, "logarithm of the cell", CELLS.0, CELLS.1)?,
            false => 0,
        };
        let bases = Bases::new(waves, cell, finest, levels)?;
        let field = "hidden features of the entropy model";
        let mut features = || -> Result<[usize; 2], DecodeError> {
            let mut next = || count(&mut cursor, field, 1, MAX_FEATURES);
            Ok([next()?, next()?])
        };
        let splines = features()?;
        let hidden = Hidden { splines, waves: has_waves.then(features).transpose()? };
        let networks_length = number(&mut cursor, "length of the networks")?;

        let plane = |basis: Basis| {
            let [width, height] = [size.width, size.height].map(|native| basis.length(native));
            PlaneStreams { basis, width, height, streams: Vec::new() }
        };
        let mut planes: Vec<PlaneStreams> = bases.iter().map(plane).collect();
        let tiles = |plane: &PlaneStreams| {
            plane.width.div_ceil(TILE) as u64 * plane.height.div_ceil(TILE) as u64
        };
        // Every length takes a byte: nothing is allocated for what is not there.
        if planes.iter().map(tiles).sum::<u64>() > bytes.len() as u64 {
            return Err(malformed("it has fewer bytes than tiles"));
        }
        let mut lengths = Vec::with_capacity(planes.len());
        for plane in planes.iter().rev() {
            let of_plane = (0..tiles(plane)).map(|_| number(&mut cursor, "length of a tile"));
            lengths.push(of_plane.collect::<Result<Vec<u32>, _>>()?);
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
        let networks = Networks::decode(stream, topology, bases.count(), hidden)?;
        for (plane, lengths) in planes.iter_mut().rev().zip(lengths) {
            plane.streams = lengths.into_iter().map(&mut next).collect();
        }
        let there = |plane: &PlaneStreams| plane.streams.iter().all(|s| s.end <= bytes.len());
        let complete = planes.iter().rev().take_while(|&plane| there(plane)).count();
        Ok(Self { bytes, networks, networks_stream, bases, planes, complete, size })
    }

    /// The networks.
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// What the planes are, finest first.
    pub fn bases(&self) -> Bases {
        self.bases
    }

    /// Number of planes of which every byte is there, counted from the coarsest: all, unless
    /// the payload is cut.
    pub fn complete_planes(&self) -> usize {
        self.complete
    }

    /// Width and height of a plane, the finest being plane 0.
    ///
    /// # Panics
    /// If there is no such plane.
    pub fn plane_size(&self, plane: usize) -> (usize, usize) {
        (self.planes[plane].width, self.planes[plane].height)
    }

    /// The stream of a tile, row by row; `None` where the payload is cut before its end.
    ///
    /// # Panics
    /// If there is no such tile.
    pub fn stream(&self, plane: usize, tile: usize) -> Option<&[u8]> {
        self.bytes.get(self.planes[plane].streams[tile].clone())
    }

    /// Bytes of the parts.
    pub fn sizes(&self) -> Sizes {
        let plane = |plane: &PlaneStreams| plane.streams.iter().map(|stream| stream.len()).sum();
        Sizes {
            table: self.networks_stream.start,
            networks: self.networks_stream.len(),
            planes: self.planes.iter().map(plane).collect(),
        }
    }

    /// Latents that [`Payload::decode`] would decode or hold, whichever are more; each takes up to four
    /// bytes while it runs. Ask before it.
    ///
    /// # Panics
    /// As that does.
    pub fn latents(&self, first: usize, needed: Option<&[Region]>) -> u64 {
        let needs = self.needs(first, needed, &Tiles::default());
        needs.missing().max(needs.held())
    }

    /// Decodes the planes from plane `first` on, finest first: whole, or what `needed` asks
    /// for, a rectangle for each plane of the file. A plane holds what is needed and what the
    /// decoding of that needs.
    ///
    /// # Errors
    /// [`DecodeError::MalformedLatents`], also where the payload is cut.
    ///
    /// # Panics
    /// If there is no such plane or `needed` has not one rectangle for each.
    pub fn decode(
        &self,
        first: usize,
        needed: Option<&[Region]>,
    ) -> Result<Vec<Plane>, DecodeError> {
        let needs = self.needs(first, needed, &Tiles::default());
        Ok(self.planes(needs)?.0)
    }

    /// What [`Payload::decode`] takes where some tiles have been decoded before.
    ///
    /// # Panics
    /// As that does.
    pub(crate) fn needs(&self, first: usize, needed: Option<&[Region]>, decoded: &Tiles) -> Needs {
        assert!(first < self.planes.len());
        assert!(needed.is_none_or(|needed| needed.len() == self.planes.len()));
        let mut needs = Needs { first, planes: Vec::new(), tiles: Tiles::default() };
        // The tiles of a level that those to be decoded of the finer one depend on.
        let mut holders: Vec<usize> = Vec::new();
        for (plane, grid) in self.planes.iter().enumerate().skip(first) {
            let whole = Region { x: 0, y: 0, width: grid.width, height: grid.height };
            let asked = needed.map_or(whole, |needed| needed[plane]);
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
                match decoded.get(plane, index) {
                    Some(latents) => needs.tiles.insert(plane, index, latents.clone()),
                    None => {
                        need.missing.push((index, tile));
                        if !matches!(grid.basis, Basis::Splines { .. }) {
                            continue;
                        }
                        let columns = grid.width.div_ceil(2).div_ceil(TILE);
                        holders.push((tile.y / 2 / TILE) * columns + tile.x / 2 / TILE);
                    }
                }
            }
            needs.planes.push(need);
        }
        needs
    }

    /// Decodes what is missing and gives the planes, finest first, with all tiles that they are made
    /// of.
    ///
    /// # Errors
    /// As [`Payload::decode`].
    pub(crate) fn planes(&self, needs: Needs) -> Result<(Vec<Plane>, Tiles), DecodeError> {
        let Needs { first, planes: needs, mut tiles } = needs;
        let mut planes: Vec<Plane> = Vec::new();
        for (number, need) in (first..self.planes.len()).zip(needs).rev() {
            let latents = self.decode_tiles(number, &need.missing, planes.last())?;
            for (&(index, _), latents) in need.missing.iter().zip(latents) {
                tiles.insert(number, index, latents.into());
            }
            let mut plane = Plane::with_region(self.bases.get(number), self.size, need.region);
            for &(index, tile) in &need.tiles {
                plane.put(tile, tiles.get(number, index).expect("it is decoded"));
            }
            planes.push(plane);
        }
        planes.reverse();
        Ok((planes, tiles))
    }

    /// The latents of some tiles of a plane.
    fn decode_tiles(
        &self,
        plane: usize,
        tiles: &[(usize, Region)],
        coarser: Option<&Plane>,
    ) -> Result<Vec<Vec<i16>>, DecodeError> {
        let (simd, basis) = (Simd::new(), self.bases.get(plane));
        let context = self.networks.context(basis);
        let decode = |tiles: &[(usize, Region)]| {
            let stream = |(number, &(index, tile)): (usize, &(usize, Region))| {
                let bytes = self.stream(plane, index);
                Ok((tile, bytes.ok_or((number, Malformed("bytes are missing")))?))
            };
            let streams: Result<Vec<_>, _> = tiles.iter().enumerate().map(stream).collect();
            let latents = streams.and_then(|streams| match basis {
                Basis::Splines { level } => {
                    latents::decode(context, simd, level, &streams, coarser)
                }
                Basis::Waves { cell } => {
                    let decode = |(number, &(tile, bytes)): (usize, &(Region, &[u8]))| {
                        let latents = waves::decode(context, simd, cell, tile, bytes);
                        latents.map_err(|error| (number, error))
                    };
                    streams.iter().enumerate().map(decode).collect()
                }
            });
            latents.map_err(|(number, Malformed(rule))| {
                let tile = tiles[number].0;
                DecodeError::MalformedLatents { plane, tile, rule }
            })
        };
        let together = tiles_together(basis, self.planes[plane].width);
        let decoded: Vec<Result<Vec<Vec<i16>>, _>> = parallel::map_chunks(tiles, together, decode);
        let decoded: Vec<Vec<Vec<i16>>> = decoded.into_iter().collect::<Result<_, _>>()?;
        Ok(decoded.into_iter().flatten().collect())
    }
}

/// A number of the table.
fn number(cursor: &mut Cursor, field: &'static str) -> Result<u32, DecodeError> {
    cursor.varint(field).map_err(|_| malformed("its table is cut or malformed"))
}

/// A number of the table in a range.
fn count(
    cursor: &mut Cursor,
    field: &'static str,
    least: usize,
    most: usize,
) -> Result<usize, DecodeError> {
    let count = number(cursor, field)?;
    check_range(field, count.into(), least as u64, most as u64)?;
    Ok(count as usize)
}

impl PlaneStreams {
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

/// What a part of the picture takes of the planes in use.
#[derive(Debug)]
pub(crate) struct Needs {
    /// The finest plane in use.
    first: usize,
    /// Finest first.
    planes: Vec<Need>,
    /// Those that were decoded before.
    tiles: Tiles,
}

/// What it takes of a plane.
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

    /// Operations of the entropy models for these, each a multiplication with an addition.
    pub fn operations(&self, payload: &Payload) -> u64 {
        let of_plane = |(plane, need): (usize, &Need)| {
            let latents: u64 = need.missing.iter().map(|(_, tile)| tile.count()).sum();
            let context = payload.networks.context(payload.bases.get(plane));
            latents.saturating_mul(context.operations())
        };
        let planes = (self.first..).zip(&self.planes);
        planes.map(of_plane).fold(0, u64::saturating_add)
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
        self.planes.iter().map(of).sum()
    }
}

/// Decoded tiles by plane and number, for renders to come. Those that are 0 are not among them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tiles {
    tiles: BTreeMap<(usize, usize), Arc<Vec<i16>>>,
    latents: u64,
}

impl Tiles {
    fn get(&self, plane: usize, index: usize) -> Option<&Arc<Vec<i16>>> {
        self.tiles.get(&(plane, index))
    }

    fn insert(&mut self, plane: usize, index: usize, latents: Arc<Vec<i16>>) {
        let count = latents.len() as u64;
        if self.tiles.insert((plane, index), latents).is_none() {
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
        for (&(plane, index), latents) in &decoded.tiles {
            self.insert(plane, index, latents.clone());
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
    use crate::latents::tests::bases;
    use crate::network::Channels;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn random(count: usize, most: i32, rng: &mut ChaCha8Rng) -> Vec<i32> {
        (0..count).map(|_| rng.random_range(-most..=most)).collect()
    }

    fn networks(topology: &Topology, bases: Bases, rng: &mut ChaCha8Rng) -> Networks {
        let (sines, channels) = (topology.hidden()[0], topology.channels().count());
        let planes = bases.count();
        let mut layer = |inputs: usize, outputs: usize, steps| QuantizedLayer {
            steps,
            weights: random(inputs * outputs, 40, rng),
            biases: random(outputs, 900, rng),
        };
        let output = Steps { weights: -20, biases: -30 };
        let output = layer(sines + planes, channels, output);
        let sines = layer(planes, sines, Steps { weights: -12, biases: -24 });
        let mut layer = |inputs: usize, outputs: usize, drop| {
            let weights = random(inputs * outputs, 30, rng);
            IntegerLayer::new(drop, weights, random(outputs, 100, rng)).unwrap()
        };
        let mut context = |shape: [usize; 4]| {
            let [inputs, h1, h2, outputs] = shape;
            let layers = [layer(inputs, h1, 2), layer(h1, h2, 7), layer(h2, outputs, 9)];
            Context::new(shape, layers).unwrap()
        };
        let splines = context(splines_shape([6, 9]));
        let waves = (bases.waves() > 0).then(|| context(waves_shape([5, 4])));
        Networks { sines, output, splines, waves }
    }

    fn planes(size: Size, bases: Bases, rng: &mut ChaCha8Rng) -> Vec<Plane> {
        let plane = |basis| {
            let mut plane = Plane::new(basis, size);
            let width = plane.width();
            for (at, value) in plane.values_mut().iter_mut().enumerate() {
                // Some tiles are 0.
                if at % width < 256 || at / width >= 256 {
                    *value = rng.random_range(-3..=3) * rng.random_range(0..=2);
                }
            }
            plane
        };
        bases.iter().map(plane).collect()
    }

    fn case(
        (width, height): (u32, u32),
        bases: Bases,
        seed: u64,
    ) -> (Size, Topology, Networks, Vec<Plane>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let size = Size { width, height };
        let topology = Topology::new(Channels::Rgb, vec![17]).unwrap();
        let networks = networks(&topology, bases, &mut rng);
        let planes = planes(size, bases, &mut rng);
        (size, topology, networks, planes)
    }

    #[test]
    fn networks_come_back_with_sorted_sines() {
        let (_, topology, networks, _) = case((1, 1), bases(2, 8, 3, 2), 1);
        let bytes = networks.encode();
        let back = Networks::decode(&bytes, &topology, 4, networks.hidden()).unwrap();
        assert_eq!(back.encode(), bytes);
        assert_eq!((&back.splines, &back.waves), (&networks.splines, &networks.waves));
        let (mut sines, mut output) = (networks.sines.clone(), networks.output.clone());
        sort_features(&mut sines, &mut output);
        assert_eq!((&back.sines, &back.output), (&sines, &output));
        for (row, sorted) in networks.output.weights.chunks(21).zip(output.weights.chunks(21)) {
            assert_eq!(row[17..], sorted[17..], "the planes' columns stay");
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
        for (size, bases) in [
            ((1, 1), bases(0, 0, 0, 1)),
            ((1, 9), bases(0, 0, 0, 10)),
            ((300, 70), bases(1, 16, 1, 2)),
            ((770, 515), bases(3, 8, 2, 2)),
        ] {
            let count = bases.count();
            let (size, topology, networks, planes) = case(size, bases, 2);
            let bytes = encode(&planes, &networks);
            let payload = Payload::read(bytes.clone(), size, &topology).unwrap();
            assert_eq!(payload.networks().encode(), networks.encode());
            assert_eq!((payload.bases(), payload.complete_planes()), (bases, count));
            let Sizes { table, networks, planes: of_planes } = payload.sizes();
            assert_eq!(table + networks + of_planes.iter().sum::<usize>(), bytes.len());
            for first in 0..count {
                assert!(payload.decode(first, None).unwrap() == planes[first..]);
                let (width, height) = payload.plane_size(first);
                assert_eq!((width, height), (planes[first].width(), planes[first].height()));
            }
        }
    }

    #[test]
    fn what_is_asked_for_is_decoded() {
        let (size, topology, networks, planes) = case((1030, 700), bases(1, 8, 1, 2), 3);
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
            assert!(found[0].region().count() < 1032 * 704, "not all of it is decoded");
        }
        let found = payload.decode(0, Some(&[nothing; 3])).unwrap();
        assert!(found[0].values().is_empty());
        let latents: u64 = planes.iter().map(|plane| plane.values().len() as u64).sum();
        assert_eq!(payload.latents(0, None), latents);
    }

    #[test]
    fn cut_payloads_keep_their_coarse_levels() {
        let (size, topology, networks, planes) = case((300, 270), bases(1, 32, 0, 2), 4);
        let bytes = encode(&planes, &networks);
        let sizes = Payload::read(bytes.clone(), size, &topology).unwrap().sizes();
        let mut end = sizes.table + sizes.networks;
        assert!(Payload::read_prefix(bytes[..end - 1].to_vec(), size, &topology).is_err());
        for complete in 0..=3 {
            let payload = Payload::read_prefix(bytes[..end].to_vec(), size, &topology).unwrap();
            assert_eq!(payload.complete_planes(), complete);
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
                end += sizes.planes[2 - complete];
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
            10, 0, 1, 1, 1, 7, 0, 0, 0, 0, 0, 0, 10, 0, 0, 192, 192, 202, 7, 232, 19, 162, 9, 0, 0,
            0, 0, 0, 0, 0, 63, 35, 31,
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
        let (_, topology, networks, planes) = case((20, 20), bases(0, 0, 0, 1), 5);
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
            let (size, topology, networks, planes) = case((40, 30), bases(1, 8, 2, 2), 6);
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
                    let _ = payload.decode(payload.bases().count() - 1, None);
                }
            }
        }
    }
}
