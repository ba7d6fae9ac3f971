//! From the bytes of a `.siren` file to pixels: container, coding, evaluator, render.
//! The whole decoder as a user of the library sees it; imports nothing of the encoder.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use crate::coding;
use crate::coding::payload::{Networks, Payload, Tiles};
use crate::container::{BitDepth, Container, Metadata, Representation};
use crate::error::DecodeError;
use crate::eval::{Evaluator, LatentsEvaluator};
use crate::geometry::{PixelGrid, Size, plane_point};
use crate::latents::{Basis, Latents, Plane, Region};
use crate::limits::{Limits, Spent};
use crate::network::{Channels, Jet, Siren};
use crate::raster::Raster;
use crate::reduce::{self, Reduction, Refined};
use crate::render::{Demand, Render};
use crate::view::{Field, Sampling, View};

/// A weight in its coding's integers, as read, in the network and laid out for the kernels.
const WEIGHT_BYTES: u64 = 16;
/// A latent in its tile or in its plane.
const LATENT_BYTES: u64 = 2;

/// An opened `.siren` file.
///
/// Tiles of latents are decoded when a render or a sample first needs them, and kept
/// for the next ones, as far as [`Limits::max_memory`] goes. A clone shares them.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use siren_image::{Crop, Decoder, View};
///
/// let bytes = std::fs::read("samples/coffee.siren")?;
/// let decoder = Decoder::new(&bytes)?;
/// let picture = decoder.render(&View::native())?;
/// assert_eq!(picture.size(), decoder.size());
/// let thumbnail = decoder.render(&View::fit(64))?;
/// assert_eq!(thumbnail.size().width, 64);
/// let region = Crop { x: 100.0, y: 50.0, width: 32.0, height: 32.0 };
/// let enlarged = decoder.render(&View::scaled(4.0).crop(region))?;
/// assert_eq!(enlarged.size().width, 128);
/// let colour = decoder.sample(1.2, 200.5)?;
/// assert_eq!(colour.len(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Decoder {
    container: Container,
    function: Content,
    limits: Limits,
}

#[derive(Debug, Clone)]
enum Content {
    Siren(Arc<Evaluator>),
    Latents {
        payload: Box<Payload>,
        /// What has been decoded of it. Not locked while something is decoded, which other threads of a
        /// pool take part in.
        tiles: Arc<Mutex<Tiles>>,
    },
}

impl Content {
    fn of_payload(payload: Payload) -> Self {
        Self::Latents { payload: payload.into(), tiles: Arc::default() }
    }
}

impl Decoder {
    /// Opens a file under the default [`Limits`]: parses and checks all of it, renders nothing.
    ///
    /// # Errors
    /// A [`DecodeError`] for every way in which the file breaks the format.
    pub fn new(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::with_limits(bytes, Limits::default())
    }

    /// Opens a file under limits that hold for the decoder from then on.
    ///
    /// # Errors
    /// As [`Decoder::new`], and [`DecodeError::LimitExceeded`].
    pub fn with_limits(bytes: &[u8], limits: Limits) -> Result<Self, DecodeError> {
        let container = Container::read(bytes)?;
        let weights = container.topology.weight_count() as u64;
        limits.check_weights(weights)?;
        limits.check(Spent::default().and(weights * WEIGHT_BYTES, 0))?;
        let Container { coding, topology, weights, .. } = &container;
        let function = match container.representation {
            Representation::Siren => {
                let siren = coding::decode(*coding, topology, weights)?;
                Content::Siren(Evaluator::new(siren).into())
            }
            Representation::Latents => {
                let size = Size { width: container.width, height: container.height };
                let payload = Payload::read(weights.clone(), size, topology)?;
                Content::of_payload(payload)
            }
        };
        Ok(Self { container, function, limits })
    }

    /// Opens a file of latents that may be cut short, from the planes that have arrived
    /// whole; any other file as [`Decoder::with_limits`].
    ///
    /// What has arrived of a cut file cannot be checked against its checksum.
    ///
    /// # Errors
    /// As [`Decoder::with_limits`], and [`DecodeError::Truncated`] where not even the coarsest plane
    /// has arrived.
    pub fn truncated(bytes: &[u8], limits: Limits) -> Result<Self, DecodeError> {
        let error = match Self::with_limits(bytes, limits) {
            Err(error @ DecodeError::Truncated { .. }) => error,
            other => return other,
        };
        let container = Container::read_cut(bytes)?;
        let size = Size { width: container.width, height: container.height };
        let weights = container.weights.clone();
        // Whatever is wrong with what is there comes from the cut.
        let payload = Payload::read_prefix(weights, size, &container.topology);
        match payload {
            Ok(payload) if payload.complete_planes() > 0 => {
                Ok(Self { container, function: Content::of_payload(payload), limits })
            }
            _ => Err(error),
        }
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Puts other limits in force. The network has been decoded already.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The native size, that of the source picture.
    pub fn size(&self) -> Size {
        Size { width: self.container.width, height: self.container.height }
    }

    /// The channels of the picture.
    pub fn channels(&self) -> Channels {
        self.container.topology.channels()
    }

    /// Bits per sample of the source picture.
    pub fn depth(&self) -> BitDepth {
        self.container.depth
    }

    /// ICC profile, cICP, EXIF, XMP and encoder settings.
    pub fn metadata(&self) -> &Metadata {
        &self.container.metadata
    }

    /// Everything the file says.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// The network, where one SIREN represents the picture.
    pub fn siren(&self) -> Option<&Siren> {
        match &self.function {
            Content::Siren(evaluator) => Some(evaluator.siren()),
            Content::Latents { .. } => None,
        }
    }

    /// The payload of latents, whose type is one of the modules behind `internals`.
    #[doc(hidden)]
    pub fn payload(&self) -> Option<&Payload> {
        match &self.function {
            Content::Siren(_) => None,
            Content::Latents { payload, .. } => Some(payload),
        }
    }

    /// The whole function of latents; `None` for a SIREN. Planes that have not arrived
    /// hold nothing.
    ///
    /// # Errors
    /// [`DecodeError::MalformedLatents`], and [`DecodeError::LimitExceeded`] for a picture of
    /// more latents than the limits allow.
    pub fn latents(&self) -> Result<Option<Latents>, DecodeError> {
        let Some(payload) = self.payload() else { return Ok(None) };
        let left_out = payload.bases().count() - payload.complete_planes();
        self.decode(payload, left_out, None, Spent::default()).map(Some)
    }

    /// The function with the latents of a part of the picture; those of the finest planes
    /// stay 0. The rest of the render has taken `spent` of the limits.
    fn decode(
        &self,
        payload: &Payload,
        left_out: usize,
        needed: Option<&[Region]>,
        spent: Spent,
    ) -> Result<Latents, DecodeError> {
        let Content::Latents { tiles, .. } = &self.function else {
            unreachable!("it has a payload")
        };
        let tiles = || tiles.lock().unwrap_or_else(PoisonError::into_inner);
        let (needs, most) = {
            let mut tiles = tiles();
            let needs = payload.needs(left_out, needed, &tiles);
            let held = needs.held().saturating_mul(LATENT_BYTES);
            let spent = spent.and(held, needs.operations(payload));
            let in_tiles = needs.in_tiles().saturating_mul(LATENT_BYTES);
            self.limits.check(spent.and(in_tiles, 0))?;
            let most = (self.limits.max_memory - spent.memory) / LATENT_BYTES;
            tiles.make_room(&needs, most);
            (needs, most)
        };
        let (planes, decoded) = payload.planes(needs)?;
        tiles().keep(decoded, most);
        let empty = |basis| Plane::with_region(basis, self.size(), Region::default());
        let empty = payload.bases().iter().take(left_out).map(empty);
        let planes = empty.chain(planes).collect();
        let (sines, output) = payload.networks().layers();
        Latents::new(self.size(), planes, sines, output)
    }

    /// What of each plane decides about native pixel positions.
    fn footprints(
        &self,
        payload: &Payload,
        u: RangeInclusive<f64>,
        v: RangeInclusive<f64>,
    ) -> Vec<Region> {
        payload.bases().iter().map(|basis| basis.footprint(self.size(), &u, &v)).collect()
    }

    /// Renders the picture in one piece.
    ///
    /// # Errors
    /// [`DecodeError::InvalidView`], [`DecodeError::InvalidGain`] or
    /// [`DecodeError::LimitExceeded`]; of latents also
    /// [`DecodeError::MalformedLatents`] and [`DecodeError::NonFiniteWeight`].
    pub fn render(&self, view: &View) -> Result<Raster, DecodeError> {
        Ok(self.prepare_for(view, true)?.raster())
    }

    /// Prepares a render whose rows can be asked for strip by strip. A SIREN needs no memory
    /// yet; of latents, those that the view needs are decoded.
    ///
    /// # Errors
    /// As [`Decoder::render`].
    pub fn prepare(&self, view: &View) -> Result<Render, DecodeError> {
        self.prepare_for(view, false)
    }

    /// Prepares a render that is wanted in one piece or strip by strip.
    fn prepare_for(&self, view: &View, whole: bool) -> Result<Render, DecodeError> {
        let grid = PixelGrid::new(self.size(), view)?;
        view.field.check()?;
        self.limits.check_size(grid.size)?;
        let depth = view.depth.unwrap_or(self.container.depth);
        let jets = view.field != Field::Value;
        let filtered = view.sampling == Sampling::Filtered && !jets;
        let refined = if filtered { Refined::new(&grid) } else { None };
        let lattice = refined.as_ref().map_or(grid, |refined| refined.grid);
        let demand = Demand::new(grid.size, refined.as_ref(), self.channels(), depth);
        let operations = demand.points.saturating_mul(self.operations(jets));
        let pixel = (self.channels().count() * depth.bytes()) as u64;
        let raster = if whole { grid.size.pixels().saturating_mul(pixel) } else { 0 };
        let spent = Spent::default().and(raster, 0).and(demand.memory, operations);
        let render = match &self.function {
            Content::Siren(evaluator) => {
                self.limits.check(spent.and(demand.of_threads(evaluator.scratch_bytes()), 0))?;
                Render::new(evaluator.clone(), self.size(), lattice, view.field, depth)
            }
            Content::Latents { payload, .. } => {
                let bases = payload.bases();
                let planes = view.planes.unwrap_or(usize::MAX).max(1);
                let there = planes.min(payload.complete_planes());
                let left_out = match refined {
                    Some(_) => reduce::planes_left_out(grid.reduction(), bases),
                    None => 0,
                };
                let left_out = left_out.max(bases.count() - there);
                let Size { width, height } = lattice.size;
                let u = lattice.u(0)..=lattice.u(width - 1);
                let v = lattice.v(0)..=lattice.v(height - 1);
                let needed = self.footprints(payload, u, v);
                let topology = &self.container.topology;
                let in_use = bases.iter().zip(needed.iter().copied()).skip(left_out);
                let in_use: Vec<(Basis, Region)> = in_use.collect();
                let memory = LatentsEvaluator::memory(topology, self.size(), &in_use, width, jets);
                let spent = spent.and(memory.columns, 0).and(demand.of_threads(memory.row), 0);
                let rows = u64::from(height) * if jets { 4 } else { 1 };
                let spent =
                    spent.and(0, LatentsEvaluator::between(self.size(), &in_use, width, rows));
                let latents = self.decode(payload, left_out, Some(&needed), spent)?;
                let evaluator = LatentsEvaluator::new(latents, left_out);
                Render::of_latents(evaluator, lattice, view.field, depth)
            }
        };
        Ok(render.reduced(refined.map(Reduction::new)))
    }

    /// Operations at a point, each a multiplication with an addition.
    fn operations(&self, jets: bool) -> u64 {
        let values = match &self.function {
            Content::Siren(evaluator) => evaluator.siren().topology().weight_count(),
            Content::Latents { payload, .. } => {
                let Networks { sines, output, .. } = payload.networks();
                let sums = LatentsEvaluator::sums(payload.bases(), self.size());
                sines.weights.len() + output.weights.len() + sums as usize
            }
        };
        values as u64 * if jets { 4 } else { 1 }
    }

    /// The colour at a native pixel position and its exact derivatives, one [`Jet`] per
    /// channel. The centre of the first pixel is (0.5, 0.5).
    ///
    /// Values are in [0, 1] where the picture's samples are (not clamped), derivatives
    /// per native pixel. Evaluated in f64.
    ///
    /// # Errors
    /// A [`DecodeError`] where the latents that the position needs are malformed; none for
    /// a SIREN.
    pub fn sample(&self, u: f64, v: f64) -> Result<Vec<Jet>, DecodeError> {
        let (mut jets, per_pixel) = match &self.function {
            Content::Siren(evaluator) => {
                let (x, y) = plane_point(self.size(), u, v);
                let per_pixel = 2.0 / f64::from(self.size().longer_side());
                (evaluator.siren().evaluate(x, y), per_pixel)
            }
            Content::Latents { payload, .. } => {
                let needed = self.footprints(payload, u..=u, v..=v);
                let left_out = payload.bases().count() - payload.complete_planes();
                let latents = self.decode(payload, left_out, Some(&needed), Spent::default())?;
                (latents.evaluate(u, v), 1.0)
            }
        };
        for jet in &mut jets {
            jet.value = jet.value * 0.5 + 0.5;
            jet.dx *= 0.5 * per_pixel;
            jet.dy *= 0.5 * per_pixel;
            jet.laplacian *= 0.5 * per_pixel * per_pixel;
        }
        Ok(jets)
    }
}
