//! From pixels to the bytes of a `.siren` file: choice of topology, training, weight
//! coding, container, and a last look at the result through the decoder.

mod checkpoint;
mod grids;
mod simplify;

use std::ops::Range;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use crate::coding::{self, compact};
use crate::container::{
    Container, Metadata, Representation, TrainingOmega, WeightCoding, write_varint,
};
use crate::decode::Decoder;
use crate::error::{DecodeError, EncodeError};
use crate::geometry::Size;
use crate::limits::Limits;
use crate::network::{Channels, Siren, Topology, limits};
use crate::quantize;
use crate::raster::{Raster, decibels, squared_error};
use crate::rate::{COMPACT_BITS, Model};
use crate::train::grid::Length;
use crate::train::{
    self, Control, DeviceChoice, Observe, OptimizerChoice, Progress, Trained, Training,
    TrainingDevice,
};
use crate::view::View;
pub use checkpoint::Checkpoints;
use checkpoint::Trainings;

/// How large the file becomes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Target {
    /// [`DEFAULT_QUALITY`]; where the network is given ([`EncodeOptions::hidden`],
    /// [`EncodeOptions::resume`]), what it takes.
    #[default]
    Auto,
    /// From 1, about 400 bytes and of small pictures fewer, to 100: as many bytes as the picture
    /// deserves, told by a model without training. Twice the bytes at half the squared error are
    /// the same quality, so that pictures with much detail get larger files and still look softer;
    /// of small and of smooth pictures, a higher quality has more bytes anyway. Metadata is
    /// not counted. A given network has at least 3 and at most 12 bits per weight.
    Quality(f64),
    /// At least so many dB of PSNR, at most 200, in the fewest bytes that a few training runs find.
    Psnr(f64),
    /// At most so many bits per pixel, the whole file counted.
    Bpp(f64),
    /// At most so many bytes, the whole file counted. What is more than twice the samples of the
    /// picture, uncompressed, goes unused, so that time and memory follow the picture.
    Bytes(u64),
}

impl Target {
    /// Most bytes of the file, where the target is a size; no more than are of use.
    fn file_bytes(self, raster: &Raster, options: &EncodeOptions) -> Option<u64> {
        let bytes = match self {
            Self::Bpp(bpp) => (bpp * raster.size().pixels() as f64 / 8.0) as u64,
            Self::Bytes(bytes) => bytes,
            _ => return None,
        };
        Some(bytes.min(options.useful_bytes(raster)))
    }
}

/// Ready-made topologies from the literature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// The image fitting experiment of Sitzmann et al. 2020, section 4.1: three hidden
    /// layers of 256 after the first.
    Paper,
    /// COIN at 0.07 bpp (Dupont et al. 2021, table 1): 5x20.
    Coin007,
    /// COIN at 0.15 bpp: 5x30.
    Coin015,
    /// COIN at 0.3 bpp: 10x28.
    Coin03,
    /// COIN at 0.6 bpp: 10x40.
    Coin06,
    /// COIN at 1.2 bpp: 13x49.
    Coin12,
}

impl Preset {
    /// The features of each hidden layer; bpp figures in the names are for 768x512 pixels and
    /// weights as binary16.
    pub fn hidden(self) -> Vec<usize> {
        let (layers, features) = match self {
            Self::Paper => (4, 256),
            Self::Coin007 => (5, 20),
            Self::Coin015 => (5, 30),
            Self::Coin03 => (10, 28),
            Self::Coin06 => (10, 40),
            Self::Coin12 => (13, 49),
        };
        vec![features; layers]
    }

    /// The peak learning rate where another than the usual one for the topology serves
    /// better: a network with more weights than the picture has samples takes larger steps.
    pub fn learning_rate(self) -> Option<f64> {
        (self == Self::Paper).then_some(1.5e-3)
    }
}

/// Everything an encoder may be told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EncodeOptions {
    /// Size of the file.
    pub target: Target,
    /// How the picture is represented; without it, one SIREN for small files and small
    /// pictures, latent grids for others.
    pub representation: Option<Representation>,
    /// Features of each hidden layer, first to last, instead of those that suit the target: one
    /// SIREN.
    pub hidden: Option<Vec<usize>>,
    /// How the weights are written.
    pub coding: WeightCoding,
    /// Training settings.
    pub training: Training,
    /// Train the network of this file on instead of a new one; it sets the topology. In the
    /// same weight coding the result is never worse than this.
    pub resume: Option<Container>,
    /// Metadata to store. `settings` is filled in by the encoder.
    pub metadata: Metadata,
    /// Keep the best result where [`Target::Psnr`] is not reached.
    pub best_effort: bool,
    /// Leave out name, settings and seed of the encoder, and the training omega_0, as files of
    /// less than 1,024 bytes always do.
    pub omit_settings: bool,
}

/// A finished encode.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// The file.
    pub bytes: Vec<u8>,
    /// What the decoder makes of the file at native size, against the source, in dB; of the
    /// channels that are stored, colours premultiplied. From 2^23 pixels on it is measured on
    /// every second row or fewer.
    pub psnr: f64,
    /// Bits per pixel, the whole file counted.
    pub bpp: f64,
    /// How the picture is represented.
    pub representation: Representation,
    /// The network's shape; of latent grids, that of the network that they feed.
    pub topology: Topology,
    /// Training steps done.
    pub steps_done: u32,
    /// Training steps planned.
    pub steps_planned: u32,
    /// How often training was set back after diverging.
    pub recoveries: u32,
    /// Whether the file holds one colour: the picture has no other, or training found
    /// nothing better.
    pub single_colour: bool,
    /// The device that trained: `cpu`, `cuda`, `metal`, or `gpu` with the name of the card.
    pub device: String,
    /// Why a GPU failed, where the CPU went on.
    pub device_failure: Option<String>,
    /// Time the encode took.
    pub elapsed: Duration,
}

/// The quality of a file of no other target.
pub const DEFAULT_QUALITY: f64 = 60.0;

/// Fewest and most bytes of the weights for a quality: a recognizable picture, and what trains
/// in minutes.
const QUALITY_BYTES: (f64, f64) = (350.0, 262_144.0);
/// The fewest are those of quality 1. Pictures of fewer samples than this for a byte have fewer,
/// down to the last.
const SAMPLES_PER_BYTE: f64 = 128.0;
const ICON_BYTES: f64 = 60.0;
/// The fewest of quality 100, or a byte for each sample where that is less.
const BEST_BYTES: f64 = 1000.0;
/// Fewest bytes of the weights for a PSNR.
const PSNR_LEAST_BYTES: f64 = 60.0;
/// A PSNR is out of reach where so many bits per pixel do not reach it, though at least 64 KiB
/// and at most 256 KiB are tried.
const REACH_BPP: f64 = 2.0;
const REACH_BYTES: (f64, f64) = (65_536.0, 262_144.0);
/// The least error of the largest picture is a lower PSNR than this.
const MOST_PSNR: f64 = 200.0;
/// Bytes of a file that are of use: so many times those of the picture's samples, or for each
/// weight of a given network, and for what else there is.
const USEFUL: u64 = 2;
const USEFUL_PER_WEIGHT: u64 = 4;
const USEFUL_BESIDE: u64 = 4096;
/// The weights of a file have fewer in any case.
const MOST_BYTES: u64 = u32::MAX as u64;
/// Smaller ones leave the weights of the start without bounds.
const OMEGA: std::ops::RangeInclusive<f32> = 0.001..=1000.0;
/// A search aims so many dB above the wanted PSNR, and ends so near above it.
const AIM: f64 = 0.04;
const NEAR: f64 = 0.12;
/// A search ends after so many runs, once it has a result.
const RUNS: u32 = 5;
/// Sizes of two runs differ by this factor at least.
const APART: f64 = 1.025;
/// Share of a time-out after which no other run begins.
const LAST_RUN: f64 = 0.6;
/// Where a network of less than so many weights ends depends on its start, and a run takes
/// seconds: without a time-out, the best of so many is kept.
const STARTS_BELOW: usize = 700;
const STARTS: u32 = 4;
/// Runs of so many steps and more may have more than five layers.
const DEEP_FROM: u32 = 1000;
/// Networks of so many weights and more have layers of equal width.
const UNIFORM_FROM: usize = 5800;
/// Files of fewer bytes are one SIREN, and files of fewer or more bits per pixel, unless they have
/// so many bytes that one SIREN would train for minutes (docs/experiments.md).
const GRID_FROM_BYTES: f64 = 4000.0;
const GRID_BPP: std::ops::Range<f64> = 0.14..3.5;
const SIREN_BYTES: f64 = 16_000.0;
/// Smaller files carry no settings.
const SETTINGS_FROM: u64 = 1024;
/// Bits of a weight in the compact coding where the number of weights is given.
const COMPACT_BITS_GIVEN: f64 = 6.0;
/// Fewest and most bits of a weight of a given network.
const GIVEN_BITS: (f64, f64) = (3.0, 12.0);
/// The PSNR of larger pictures is measured on every second row, every third row and so on, so that
/// one SIREN of any picture is trained and measured in the time that its effort takes. Short rows
/// go together, about so many pixels of them.
const MEASURED_PIXELS: u64 = 1 << 22;
const TOGETHER: u32 = 1 << 12;
/// Pixels are numbered in 32 bits, so a picture may have no more than this.
const MAX_PIXELS: u64 = 1 << 31;

/// Encodes `raster`, without what nobody sees of it: alpha that is opaque everywhere, colours under
/// transparent pixels, and, where there is no ICC profile, the colours of a picture that is grey.
/// With alpha, errors are those of premultiplied colours.
///
/// `observe` is called after every training step and may end the training, which keeps
/// the best network so far. The file is decoded once more before it is returned.
///
/// # Errors
/// See [`EncodeError`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use sirenc::{Channels, Control, EncodeOptions, Raster, Samples, Size, Target};
///
/// let size = Size { width: 16, height: 8 };
/// let ramp = (0..16 * 8).map(|i| (i % 16) * 16).collect();
/// let raster = Raster::new(size, Channels::Grey, Samples::U8(ramp)).unwrap();
/// let mut options = EncodeOptions { target: Target::Bytes(200), ..Default::default() };
/// options.training.steps = Some(50);
/// let encoded = sirenc::encode(&raster, &options, |_| Control::Continue)?;
/// assert!(encoded.bytes.len() <= 200);
/// # Ok(())
/// # }
/// ```
pub fn encode(
    raster: &Raster,
    options: &EncodeOptions,
    mut observe: impl FnMut(&Progress) -> Control,
) -> Result<Encoded, EncodeError> {
    encode_any(raster, options, None, &mut observe)
}

/// Encodes `raster` as [`encode`] does, with checkpoints on the way. Going on from one of them
/// gives the file of a run without a break, byte for byte on the same kind of machine.
///
/// # Errors
/// [`EncodeError::CheckpointDamaged`] and [`EncodeError::CheckpointMismatch`] before any training;
/// [`EncodeError::Settings`] with a time-out, which makes the result depend on the clock, and with
/// [`OptimizerChoice::Adam`], whose state cannot be saved; others as of [`encode`].
pub fn encode_with_checkpoints(
    raster: &Raster,
    options: &EncodeOptions,
    checkpoints: Checkpoints,
    mut observe: impl FnMut(&Progress) -> Control,
) -> Result<Encoded, EncodeError> {
    encode_any(raster, options, Some(checkpoints), &mut observe)
}

fn encode_any(
    raster: &Raster,
    options: &EncodeOptions,
    checkpoints: Option<Checkpoints>,
    observe: &mut dyn FnMut(&Progress) -> Control,
) -> Result<Encoded, EncodeError> {
    let started = Instant::now();
    // A profile of colours does not go with grey.
    let simple = simplify::simplified(raster, options.metadata.icc.is_some());
    let resumed = options.resume.as_ref().map(|file| file.topology.channels());
    let simple = simple.filter(|simple| resumed.is_none_or(|c| c == simple.channels()));
    let raster = simple.as_ref().unwrap_or(raster);
    check(raster, options)?;
    let training = &options.training;
    if checkpoints.is_some() {
        let refused = |reason: &str| Err(EncodeError::Settings(reason.into()));
        if training.timeout.is_some() {
            return refused("checkpoints do not go with a time-out");
        }
        if training.optimizer == OptimizerChoice::Adam {
            return refused("checkpoints do not go with Adam");
        }
    }
    let representation = options.representation(raster);
    let mut device = TrainingDevice::new(training.device);
    let trainings = &mut Trainings::new(raster, options, checkpoints)?;
    let attempt = match (representation, options.target) {
        (Representation::Grid, _) => {
            grids::attempt(raster, options, &mut device, trainings, observe)?
        }
        (_, Target::Psnr(wanted)) => {
            search(raster, options, wanted, &mut device, trainings, observe)?
        }
        (_, target) => {
            attempt(raster, options, target, training.clone(), &mut device, trainings, observe)?
        }
    };
    Ok(Encoded {
        psnr: attempt.psnr,
        bpp: attempt.bytes.len() as f64 * 8.0 / raster.size().pixels() as f64,
        representation,
        topology: Container::read(&attempt.bytes)?.topology,
        bytes: attempt.bytes,
        steps_done: attempt.steps_done,
        steps_planned: attempt.steps_planned,
        recoveries: attempt.recoveries,
        single_colour: attempt.single_colour,
        device: device.name,
        device_failure: device.failure,
        elapsed: started.elapsed(),
    })
}

/// A finished file, and how its training went.
#[derive(Clone, Default)]
struct Attempt {
    bytes: Vec<u8>,
    psnr: f64,
    steps_done: u32,
    steps_planned: u32,
    recoveries: u32,
    single_colour: bool,
    /// The last lambda of latent grids.
    lambda: f64,
    /// Bytes that were taken away from latent grids to keep to the limit.
    surplus: usize,
}

/// Trains a network for a target other than a PSNR: the best of several starts where it is so
/// small that it depends on them.
fn attempt(
    raster: &Raster,
    options: &EncodeOptions,
    target: Target,
    training: Training,
    device: &mut TrainingDevice,
    trainings: &mut Trainings,
    observe: &mut dyn FnMut(&Progress) -> Control,
) -> Result<Attempt, EncodeError> {
    let plan = Plan::new(raster, options, target)?;
    let small = plan.topology.weight_count() < STARTS_BELOW;
    let given = options.hidden.is_some() || options.resume.is_some();
    let once = given || training.timeout.is_some() || raster.is_flat();
    let starts = if small && !once { STARTS } else { 1 };
    let mut best: Option<Attempt> = None;
    let mut stopped = false;
    for start in 0..starts {
        let seed = training.seed.wrapping_add(start.into());
        let training = Training { seed, ..training.clone() };
        let mut observe = |progress: &Progress| {
            let control = observe(&Progress { run: start + 1, ..*progress });
            stopped |= control == Control::Stop;
            control
        };
        let this = trainings.next(&mut observe, |saved, observe| {
            train_and_code(raster, options, &plan, training, device, saved, observe)
        });
        let this = match this {
            Err(EncodeError::Cancelled) if best.is_some() => break,
            this => this?,
        };
        if best.as_ref().is_none_or(|best| this.psnr > best.psnr) {
            best = Some(this);
        }
        if stopped {
            break;
        }
    }
    best.ok_or(EncodeError::Cancelled)
}

/// A training run and its file.
fn train_and_code(
    raster: &Raster,
    options: &EncodeOptions,
    plan: &Plan,
    training: Training,
    device: &mut TrainingDevice,
    saved: Option<&[u8]>,
    observe: &mut Observe,
) -> Result<Attempt, EncodeError> {
    let &Plan { ref topology, bytes: most, budget } = plan;
    let resumed = options.resume.as_ref();
    let resumed = resumed
        .map(|file| coding::decode(file.coding, &file.topology, &file.weights))
        .transpose()?;
    let start = (resumed.as_ref(), budget);
    let trained = train::train(device, raster, topology, start, &training, saved, observe)?;
    let training = Training {
        steps: Some(trained.steps_planned),
        stop_after: (0 < trained.steps_done && trained.steps_done < trained.steps_planned)
            .then_some(trained.steps_done),
        ..training
    };
    let representation = Representation::Siren;
    let file = Blank { raster, options, training: &training, bytes: most, representation };
    let weights = match options.coding {
        WeightCoding::F16 => coding::f16::encode(&trained.siren),
        WeightCoding::Compact => {
            let room = most.map_or(usize::MAX, |most| file.room(topology, most));
            compact_weights(raster, &trained, room)
        }
    };
    let mut bytes = file.container(topology, weights).write();
    let mut psnr = decoded_psnr(raster, &bytes)?;
    if let Some(before) = &options.resume
        && before.coding == options.coding
    {
        let before = file.container(topology, before.weights.clone()).write();
        let before_psnr = decoded_psnr(raster, &before)?;
        let fits = most.is_none_or(|most| before.len() as u64 <= most);
        if fits && before_psnr > psnr {
            (bytes, psnr) = (before, before_psnr);
        }
    }
    Ok(Attempt {
        bytes,
        psnr,
        steps_done: trained.steps_done,
        steps_planned: trained.steps_planned,
        recoveries: trained.recoveries,
        single_colour: trained.single_colour,
        lambda: 0.0,
        surplus: 0,
    })
}

/// Trains networks of several sizes for the smallest file of a PSNR. The first size is the
/// model's; what a run shows the model to be off by for this picture leads to the next.
fn search(
    raster: &Raster,
    options: &EncodeOptions,
    wanted: f64,
    device: &mut TrainingDevice,
    trainings: &mut Trainings,
    observe: &mut dyn FnMut(&Progress) -> Control,
) -> Result<Attempt, EncodeError> {
    let started = Instant::now();
    let model = Model::new(raster);
    let effort = options.training.effort;
    let compact = options.coding == WeightCoding::Compact;
    let given = options.given(raster)?;
    let reach = REACH_BPP * raster.size().pixels() as f64 / 8.0;
    let range = match &given {
        Some(topology) => given_bytes(topology),
        None => {
            let useful = options.useful_bytes(raster) as f64;
            (PSNR_LEAST_BYTES, reach.clamp(REACH_BYTES.0, REACH_BYTES.1).min(useful))
        }
    };
    let mut stopped = false;
    let mut found: Option<Attempt> = None;
    let mut failed: Option<Attempt> = None;
    // Sizes known to be too small and to suffice.
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut bytes = model.bytes_of_psnr(wanted + AIM, effort, range);
    for run in 1.. {
        let mut training = options.training.clone();
        training.timeout = training.timeout.map(|limit| limit.saturating_sub(started.elapsed()));
        let target = match compact || given.is_none() {
            true => Target::Bytes(Plan::file_bytes(raster, options, bytes)),
            false => Target::Auto,
        };
        let mut observe = |progress: &Progress| {
            let control = observe(&Progress { run, ..*progress });
            stopped |= control == Control::Stop;
            control
        };
        let this = match attempt(raster, options, target, training, device, trainings, &mut observe)
        {
            Err(EncodeError::Cancelled) if found.is_some() || failed.is_some() => break,
            this => this?,
        };
        let psnr = this.psnr;
        if psnr >= wanted {
            high = bytes;
            found = Some(this);
        } else {
            low = bytes;
            if failed.as_ref().is_none_or(|best| psnr > best.psnr) {
                failed = Some(this);
            }
        }
        let near = found.is_some() && (psnr >= wanted && psnr < wanted + NEAR || run >= RUNS);
        let late =
            options.training.timeout.is_some_and(|t| started.elapsed() > t.mul_f64(LAST_RUN));
        let fixed = target == Target::Auto || raster.is_flat();
        if stopped || near || late || fixed {
            break;
        }
        let off = psnr - model.psnr(bytes, effort);
        bytes = model.bytes_of_psnr(wanted + AIM - off, effort, range);
        // The longer nothing is found, the larger the strides.
        let stride = if found.is_some() { APART } else { APART.powi(run as i32) };
        bytes = bytes.max(low * stride).min(high / APART).clamp(range.0, range.1);
        if bytes < low * APART || bytes >= high {
            break;
        }
    }
    if let Some(found) = found {
        return Ok(found);
    }
    let best = failed.ok_or(EncodeError::Cancelled)?;
    match (options.best_effort, stopped) {
        (true, _) => Ok(best),
        (false, true) => Err(EncodeError::Cancelled),
        (false, false) => {
            let (best, bytes) = (best.psnr, best.bytes.len() as u64);
            Err(EncodeError::PsnrUnreached { wanted, best, bytes })
        }
    }
}

/// Fewest bytes of the weights for a quality. They rise with it: of a small picture, the model
/// expects all of a few bytes.
fn least_for_quality(raster: &Raster, quality: f64) -> f64 {
    let samples = raster.sample_count() as f64;
    let low = (samples / SAMPLES_PER_BYTE).clamp(ICON_BYTES, QUALITY_BYTES.0);
    rising(low, samples.min(BEST_BYTES), quality)
}

/// A size from that of quality 1 to that of quality 100, evenly on a logarithmic scale.
fn rising(low: f64, high: f64, quality: f64) -> f64 {
    low * (high / low).max(1.0).powf((quality - 1.0) / 99.0)
}

/// Fewest and most bytes of a given network's weights in the compact coding.
fn given_bytes(topology: &Topology) -> (f64, f64) {
    let weights = topology.weight_count() as f64;
    (weights * GIVEN_BITS.0 / 8.0, weights * GIVEN_BITS.1 / 8.0)
}

/// The weights of a trained network in the compact coding, in at most `room` bytes.
fn compact_weights(raster: &Raster, trained: &Trained, room: usize) -> Vec<u8> {
    let Trained { siren, sensitivities, .. } = trained;
    let constant = || compact::encode(&quantize::constant(siren, raster.depth()));
    if trained.single_colour {
        return constant();
    }
    let steps = trained.steps.clone();
    let steps = steps.unwrap_or_else(|| quantize::allocate(siren, sensitivities, room));
    let weights = compact::encode(&quantize::fit(siren, &steps, sensitivities, room));
    // The network's own parameters may already exceed it.
    if weights.len() <= room { weights } else { constant() }
}

/// PSNR of what the decoder makes of a file at native size, on some rows of a large picture.
fn decoded_psnr(raster: &Raster, bytes: &[u8]) -> Result<f64, EncodeError> {
    let verification = |error: DecodeError| EncodeError::Verification(error.to_string());
    let render = Decoder::with_limits(bytes, Limits::NONE)
        .and_then(|decoder| decoder.prepare(&View::native()))
        .map_err(verification)?;
    let Size { width, height } = raster.size();
    let rows = (TOGETHER / width).max(1);
    let strips = height.div_ceil(rows);
    let step = (raster.size().pixels() / MEASURED_PIXELS).clamp(1, strips.into()) as u32;
    let strip = |strip: u32| strip * rows..height.min((strip + 1) * rows);
    let strips: Vec<Range<u32>> = (step / 2..strips).step_by(step as usize).map(strip).collect();
    let error =
        |rows: &Range<u32>| squared_error(&raster.rows(rows.clone()), &render.rows(rows.clone()));
    // Summed in order, so that the result does not depend on the threads.
    let errors: Vec<f64> = strips.par_iter().map(error).collect();
    let rows: usize = strips.iter().map(ExactSizeIterator::len).sum();
    let samples = rows as f64 * f64::from(width) * raster.channels().count() as f64;
    Ok(decibels(errors.iter().sum::<f64>() / samples))
}

fn check(raster: &Raster, options: &EncodeOptions) -> Result<(), EncodeError> {
    let size = raster.size();
    if size.pixels() > MAX_PIXELS {
        let Size { width, height } = size;
        return Err(EncodeError::Picture(format!("{width}x{height} is more than 2^31 pixels")));
    }
    let invalid = |text: &str| Err(EncodeError::Settings(text.into()));
    let training = &options.training;
    let TrainingOmega { first, hidden } = training.omega;
    if !OMEGA.contains(&first) || !OMEGA.contains(&hidden) {
        return invalid("omega_0 must lie from 0.001 to 1000");
    }
    if !(1..=9).contains(&training.effort) {
        return invalid("effort must lie from 1 to 9");
    }
    if training.steps() == 0 || training.stop_after == Some(0) || training.batch == Some(0) {
        return invalid("steps, the step to stop after and batch must be at least 1");
    }
    if training.learning_rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1.0)) {
        return invalid("the learning rate must lie above 0 and not above 1");
    }
    if options.hidden.is_some()
        && options.coding == WeightCoding::F16
        && matches!(options.target, Target::Quality(_))
    {
        return invalid(
            "a network of given size has one size in the coding f16: leave the quality out, \
             or take the coding compact",
        );
    }
    if options.representation == Some(Representation::Grid)
        && let Some(setting) = options.only_siren()
    {
        return invalid(&format!("latent grids take no choice of {setting}"));
    }
    if options.resume.as_ref().is_some_and(|r| r.topology.channels() != raster.channels()) {
        return invalid("the network to resume has other channels than the picture");
    }
    if let Some(file) = &options.resume
        && file.representation == Representation::Grid
        && (file.width, file.height) != (size.width, size.height)
    {
        let Container { width, height, .. } = file;
        return invalid(&format!(
            "the latent grids to resume are of {width}x{height} pixels and go on with a picture of that size"
        ));
    }
    if let Target::Bpp(bpp) = options.target
        && !(bpp > 0.0 && bpp.is_finite())
    {
        return invalid("bpp must be above 0");
    }
    if let Target::Quality(quality) = options.target
        && !(1.0..=100.0).contains(&quality)
    {
        return invalid("quality must lie from 1 to 100");
    }
    if let Target::Psnr(psnr) = options.target
        && !(psnr > 0.0 && psnr <= MOST_PSNR)
    {
        return invalid("the PSNR must be above 0 and not above 200 dB");
    }
    Ok(())
}

/// What is trained, for which size of file.
struct Plan {
    topology: Topology,
    /// Most bytes of the file.
    bytes: Option<u64>,
    /// Most bytes of the weights in training, in the compact coding.
    budget: Option<usize>,
}

impl Plan {
    fn new(raster: &Raster, options: &EncodeOptions, target: Target) -> Result<Self, EncodeError> {
        let channels = raster.channels();
        let longest = longest(&options.training);
        let representation = Representation::Siren;
        let blank = |bytes| Blank { raster, options, training: &longest, bytes, representation };
        let given = options.given(raster)?;
        let compact = options.coding == WeightCoding::Compact;
        let target = match target {
            Target::Auto if given.is_none() => Target::Quality(DEFAULT_QUALITY),
            target => target,
        };
        let wanted = match (target, &given) {
            (Target::Bpp(_) | Target::Bytes(_), _) => target.file_bytes(raster, options),
            (_, Some(_)) if !compact => None,
            (Target::Quality(quality), given) => {
                let range = (least_for_quality(raster, quality), QUALITY_BYTES.1);
                let range = given.as_ref().map_or(range, given_bytes);
                let weights = Model::new(raster).bytes_of_quality(quality, range);
                Some(Self::file_bytes(raster, options, weights))
            }
            (_, Some(topology)) => {
                let same = options.resume.as_ref().filter(|file| file.coding == options.coding);
                let weights = same.map_or_else(
                    || (topology.weight_count() as f64 * COMPACT_BITS_GIVEN / 8.0) as usize,
                    |file| file.weights.len(),
                );
                Some(blank(Some(SETTINGS_FROM)).size(topology, weights))
            }
            (_, None) => None,
        };
        let smallest = smallest(channels);
        let file = blank(wanted);
        let smallest_weights = if compact {
            let flat = Siren::constant(smallest.clone(), &vec![0.5; channels.count()]);
            compact::encode(&quantize::constant(&flat, raster.depth())).len() + channels.count()
        } else {
            2 * smallest.weight_count()
        };
        let least = given.as_ref().filter(|_| !compact);
        let least = least.map_or_else(
            || file.size(&smallest, smallest_weights),
            |topology| file.size(topology, 2 * topology.weight_count()),
        );
        if let Some(wanted) = wanted
            && wanted < least
        {
            return Err(EncodeError::TooFewBytes { wanted, smallest: least });
        }
        let topology = given.unwrap_or_else(|| {
            if raster.is_flat() {
                return smallest.clone();
            }
            let bits = if compact { COMPACT_BITS } else { 16.0 };
            let room = wanted.map_or(0, |wanted| file.room(&smallest, wanted));
            let weights = (room as f64 * 8.0 / bits) as usize;
            let mut layers = (1..=layers_for(weights, longest.steps())).rev();
            layers.find_map(|n| widest(channels, n, weights)).unwrap_or(smallest.clone())
        });
        let budget = wanted.filter(|_| compact).map(|bytes| file.room(&topology, bytes));
        Ok(Self { topology, bytes: wanted, budget })
    }

    /// Bytes of the file for so many bytes of weights in the compact coding, or for a network
    /// as good in another.
    fn file_bytes(raster: &Raster, options: &EncodeOptions, weights: f64) -> u64 {
        let weights = match options.coding {
            WeightCoding::F16 => weights * 16.0 / COMPACT_BITS,
            WeightCoding::Compact => weights,
        };
        let smallest = smallest(raster.channels());
        let training = longest(&options.training);
        let bytes = Some(weights as u64);
        let representation = Representation::Siren;
        let blank = Blank { raster, options, training: &training, bytes, representation };
        blank.size(&smallest, weights as usize)
    }
}

impl EncodeOptions {
    /// How the picture will be represented.
    fn representation(&self, raster: &Raster) -> Representation {
        if let Some(file) = &self.resume {
            return file.representation;
        }
        if let Some(given) = self.representation {
            return given;
        }
        if self.only_siren().is_some() || raster.is_flat() {
            return Representation::Siren;
        }
        let bytes = self.target.file_bytes(raster, self).map_or_else(
            || {
                let model = Model::new(raster);
                let most = f64::MAX.sqrt();
                let of_quality = |quality: f64| {
                    model.bytes_of_quality(quality, (least_for_quality(raster, quality), most))
                };
                match self.target {
                    Target::Psnr(psnr) => model.bytes_of_psnr(psnr, 3, (PSNR_LEAST_BYTES, most)),
                    Target::Quality(quality) => of_quality(quality),
                    _ => of_quality(DEFAULT_QUALITY),
                }
            },
            |bytes| bytes as f64,
        );
        let bpp = 8.0 * bytes / raster.size().pixels() as f64;
        let siren = bytes < GRID_FROM_BYTES || !GRID_BPP.contains(&bpp) && bytes < SIREN_BYTES;
        if siren { Representation::Siren } else { Representation::Grid }
    }

    /// Bytes of a file beyond which the picture has no use for more, metadata included.
    fn useful_bytes(&self, raster: &Raster) -> u64 {
        let Metadata { icc, exif, xmp, .. } = &self.metadata;
        let blocks = [icc, exif, xmp].into_iter().flatten();
        let metadata: u64 = blocks.map(|block| block.len() as u64).sum();
        let samples = (raster.sample_count() * raster.depth().bytes()) as u64;
        let given = self.given(raster).ok().flatten();
        let given = given.map_or(0, |topology| topology.weight_count() as u64);
        let resumed = self.resume.as_ref().map_or(0, |file| file.weights.len() as u64);
        let payload = (USEFUL * samples).max(USEFUL_PER_WEIGHT * given).max(resumed);
        (payload + metadata + USEFUL_BESIDE).min(MOST_BYTES)
    }

    /// A setting that only one SIREN has.
    fn only_siren(&self) -> Option<&'static str> {
        let training = &self.training;
        let settings = [
            (self.hidden.is_some(), "the hidden layers"),
            (self.coding == WeightCoding::F16, "the coding f16"),
            (training.omega != Training::default().omega, "omega_0"),
            (training.optimizer != Training::default().optimizer, "the optimizer"),
            (training.batch.is_some(), "the batch"),
            (training.learning_rate.is_some(), "the learning rate"),
            (matches!(training.device, DeviceChoice::Cuda | DeviceChoice::Metal), "the device"),
        ];
        settings.into_iter().find_map(|(given, name)| given.then_some(name))
    }

    /// The topology, where it is given.
    fn given(&self, raster: &Raster) -> Result<Option<Topology>, EncodeError> {
        Ok(match (&self.resume, &self.hidden) {
            (Some(file), _) => Some(file.topology.clone()),
            (None, Some(hidden)) => {
                let topology = Topology::new(raster.channels(), hidden.clone());
                Some(topology.map_err(|error| EncodeError::Settings(error.to_string()))?)
            }
            (None, None) => None,
        })
    }
}

fn smallest(channels: Channels) -> Topology {
    Topology::uniform(channels, 1, 1).expect("one feature is within the limits")
}

/// Settings as long as they can get: a run that is cut short names its steps.
fn longest(training: &Training) -> Training {
    Training { stop_after: Some(training.steps()), ..training.clone() }
}

/// Depth for a number of weights: the best of those tried at 100 to 29,491 bytes
/// (docs/experiments.md). Deep networks take long to learn.
fn layers_for(weights: usize, steps: u32) -> usize {
    let most = if steps < DEEP_FROM { 5 } else { 10 };
    let layers = match weights {
        0..60 => 1,
        60..150 => 2,
        150..350 => 3,
        350..700 => 5,
        700..1200 => 6,
        1200..UNIFORM_FROM => 7,
        _ => 10,
    };
    layers.min(most)
}

/// The widest network of so many layers that has at most `weights` weights. The first layers of
/// a small network are wider than the others: a feature of the first has three weights, one
/// of a later layer as many as two layers have features (docs/experiments.md).
fn widest(channels: Channels, layers: usize, weights: usize) -> Option<Topology> {
    let (all, first) = if weights < UNIFORM_FROM { (0.8, 1.2) } else { (1.0, 0.0) };
    let features = |scale: f64, layer: usize| {
        let share = all + first / (layer as f64).powf(1.5);
        ((scale * share).round() as usize).max(1)
    };
    (1..=8 * limits::MAX_HIDDEN_FEATURES)
        .map(|eighths| eighths as f64 / 8.0)
        .map(|scale| (1..=layers).map(|layer| features(scale, layer)).collect())
        .map_while(|hidden| Topology::new(channels, hidden).ok())
        .take_while(|topology| topology.weight_count() <= weights)
        .last()
}

/// A file but for its weights.
#[derive(Clone, Copy)]
struct Blank<'a> {
    raster: &'a Raster,
    options: &'a EncodeOptions,
    training: &'a Training,
    /// Most bytes of the file, where they are set.
    bytes: Option<u64>,
    representation: Representation,
}

impl Blank<'_> {
    fn container(&self, topology: &Topology, weights: Vec<u8>) -> Container {
        let Self { raster, options, training, bytes, representation } = *self;
        let omit = options.omit_settings || bytes.is_some_and(|bytes| bytes < SETTINGS_FROM);
        let mut metadata = options.metadata.clone();
        let settings = || settings_text(training, options, bytes, representation);
        metadata.settings = (!omit).then(settings);
        Container {
            width: raster.size().width,
            height: raster.size().height,
            depth: raster.depth(),
            topology: topology.clone(),
            // Latent grids have no omega_0.
            omega: (!omit && representation == Representation::Siren).then_some(training.omega),
            representation,
            coding: options.coding,
            metadata,
            weights,
        }
    }

    /// Bytes of the file with so many bytes of weights.
    fn size(&self, topology: &Topology, weights: usize) -> u64 {
        let empty = self.container(topology, Vec::new()).write();
        // In which the length takes a byte.
        let mut length = Vec::new();
        write_varint(weights as u32, &mut length);
        (empty.len() - 1 + length.len() + weights) as u64
    }

    /// Most bytes of weights in a file of `bytes`.
    fn room(&self, topology: &Topology, bytes: u64) -> usize {
        let mut room = bytes.saturating_sub(self.size(topology, 0)) as usize;
        while room > 0 && self.size(topology, room) > bytes {
            room -= 1;
        }
        room
    }
}

/// The encoder and those of its settings that neither the header nor the defaults tell,
/// as options of `sirenc encode`.
fn settings_text(
    training: &Training,
    options: &EncodeOptions,
    bytes: Option<u64>,
    representation: Representation,
) -> String {
    let of_effort = Training { effort: training.effort, ..Training::default() };
    let steps = |training: &Training| match representation {
        Representation::Siren => training.steps(),
        Representation::Grid => Length::new(training).all(),
    };
    let mut text = concat!("sirenc ", env!("CARGO_PKG_VERSION")).to_owned();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" --{name}"));
            text.extend((!value.is_empty()).then(|| format!(" {value}")));
        }
    };
    let differs = |a: u64, b: u64| (a != b).then(|| a.to_string());
    add("representation", options.representation.map(|given| given.to_string()));
    add("resume", options.resume.as_ref().map(|_| "FILE".into()));
    match options.coding {
        WeightCoding::F16 => add("coding", Some("f16".into())),
        WeightCoding::Compact => {}
    }
    match (options.target, options.coding) {
        // Topology and bytes follow from the search.
        (Target::Psnr(psnr), _) => {
            if let Some(hidden) = &options.hidden {
                let features: Vec<String> = hidden.iter().map(usize::to_string).collect();
                add("hidden-layers", Some(hidden.len().to_string()));
                add("hidden-features", Some(features.join(",")));
            }
            add("psnr", Some(psnr.to_string()));
            add("best-effort", options.best_effort.then(String::new));
        }
        // Latent grids have no bytes to keep to then.
        (Target::Quality(quality), _) if representation == Representation::Grid => {
            add("quality", Some(quality.to_string()));
        }
        (_, WeightCoding::F16) => {}
        (_, WeightCoding::Compact) => add("bytes", bytes.map(|bytes| bytes.to_string())),
    }
    add("effort", differs(training.effort.into(), Training::default().effort.into()));
    add("steps", differs(steps(training).into(), steps(&of_effort).into()));
    add("stop-after", training.stop_after.map(|s| s.to_string()));
    add("batch", training.batch.map(|pixels| pixels.to_string()));
    add("learning-rate", training.learning_rate.map(|rate| rate.to_string()));
    add("optimizer", (training.optimizer == OptimizerChoice::Adam).then(|| "adam".into()));
    add("seed", differs(training.seed, 0));
    text
}
