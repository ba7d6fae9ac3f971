//! From pixels to the bytes of a `.siren` file: choice of topology, training, weight
//! coding, container, and a last look at the result through the decoder.

use std::time::{Duration, Instant};

use crate::coding::{self, compact};
use crate::container::{Container, Metadata, Representation, WeightCoding};
use crate::decode::{Decoder, Limits, RenderOptions};
use crate::error::{DecodeError, EncodeError};
use crate::geometry::Size;
use crate::network::{Channels, Siren, Topology, limits};
use crate::quantize;
use crate::raster::{Raster, psnr};
use crate::train::{self, Control, OptimizerChoice, Progress, Trained, Training};

/// How large the file becomes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Target {
    /// By the size of the picture: 0.3 bits per pixel, but at least 500 bytes and at most
    /// 64 KiB, metadata not counted. Where the network is given ([`EncodeOptions::hidden`],
    /// [`EncodeOptions::resume`]), what it takes.
    #[default]
    Auto,
    /// At most so many bits per pixel, the whole file counted.
    Bpp(f64),
    /// At most so many bytes, the whole file counted.
    Bytes(u64),
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
    /// Features of each hidden layer, first to last, instead of those that suit the target.
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
    /// Leave out name, settings and seed of the encoder, and the training omega_0, as files of
    /// less than 1,024 bytes always do.
    pub omit_settings: bool,
}

/// A finished encode.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// The file.
    pub bytes: Vec<u8>,
    /// What the decoder makes of the file at native size, against the source, in dB.
    pub psnr: f64,
    /// Bits per pixel, the whole file counted.
    pub bpp: f64,
    /// The network's shape.
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
    /// The device that trained.
    pub device: &'static str,
    /// Time the encode took.
    pub elapsed: Duration,
}

/// Bits per pixel of [`Target::Auto`].
const AUTO_BPP: f64 = 0.3;
/// Fewest bytes of [`Target::Auto`]: a recognizable picture.
const AUTO_MIN_BYTES: u64 = 500;
/// Most bytes of [`Target::Auto`]: more take long to train.
const AUTO_MAX_BYTES: u64 = 64 << 10;
/// Smaller files carry no settings.
const SETTINGS_FROM: u64 = 1024;
/// Bits of a weight in the compact coding where the number of weights is free, and where it
/// is given.
const COMPACT_BITS: f64 = 5.7;
const COMPACT_BITS_GIVEN: f64 = 6.0;
/// Pixels are numbered in 32 bits, so a picture may have no more than this.
const MAX_PIXELS: u64 = 1 << 31;

/// Encodes `raster`.
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
    observe: impl FnMut(&Progress) -> Control,
) -> Result<Encoded, EncodeError> {
    let started = Instant::now();
    check(raster, options)?;
    let plan = Plan::new(raster, options)?;
    let Plan { topology, bytes, budget } = &plan;
    let resumed = match &options.resume {
        Some(file) => Some(coding::decode(file.coding, &file.topology, &file.weights)?),
        None => None,
    };
    let training = &options.training;
    let trained = train::train(raster, topology, resumed.as_ref(), *budget, training, observe)?;
    let done = Training {
        steps: Some(trained.steps_planned),
        stop_after: (0 < trained.steps_done && trained.steps_done < trained.steps_planned)
            .then_some(trained.steps_done),
        ..training.clone()
    };
    let file = Blank { raster, options, training: &done, bytes: *bytes };
    let weights = match *bytes {
        Some(bytes) => compact_weights(raster, &trained, file.room(topology, bytes)),
        None => coding::f16::encode(&trained.siren),
    };
    let mut bytes = file.container(topology, weights).write();
    let mut psnr = decoded_psnr(raster, &bytes)?;
    if let Some(before) = &options.resume
        && before.coding == options.coding
    {
        let before = file.container(topology, before.weights.clone()).write();
        let before_psnr = decoded_psnr(raster, &before)?;
        let fits = plan.bytes.is_none_or(|most| before.len() as u64 <= most);
        if fits && before_psnr > psnr {
            (bytes, psnr) = (before, before_psnr);
        }
    }
    Ok(Encoded {
        psnr,
        bpp: bytes.len() as f64 * 8.0 / raster.size().pixels() as f64,
        bytes,
        topology: topology.clone(),
        steps_done: trained.steps_done,
        steps_planned: trained.steps_planned,
        recoveries: trained.recoveries,
        single_colour: trained.single_colour,
        device: trained.device,
        elapsed: started.elapsed(),
    })
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

/// PSNR of what the decoder makes of a file at native size.
fn decoded_psnr(raster: &Raster, bytes: &[u8]) -> Result<f64, EncodeError> {
    let verification = |error: DecodeError| EncodeError::Verification(error.to_string());
    let decoder = Decoder::new(bytes).map_err(verification)?;
    let render = RenderOptions { limits: Limits::NONE, ..RenderOptions::default() };
    Ok(psnr(raster, &decoder.render(&render).map_err(verification)?))
}

fn check(raster: &Raster, options: &EncodeOptions) -> Result<(), EncodeError> {
    let size = raster.size();
    if size.pixels() > MAX_PIXELS {
        let Size { width, height } = size;
        return Err(EncodeError::Picture(format!("{width}x{height} is more than 2^31 pixels")));
    }
    let invalid = |text: &str| Err(EncodeError::Settings(text.into()));
    let training = &options.training;
    let positive = |value: f32| value > 0.0 && value <= 1000.0;
    if !positive(training.omega.first) || !positive(training.omega.hidden) {
        return invalid("omega_0 must lie above 0 and not above 1000");
    }
    if !(1..=9).contains(&training.effort) {
        return invalid("effort must lie from 1 to 9");
    }
    if training.steps() == 0 || training.batch() == 0 {
        return invalid("steps and batch must be at least 1");
    }
    if training.learning_rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1.0)) {
        return invalid("the learning rate must lie above 0 and not above 1");
    }
    if options.resume.as_ref().is_some_and(|r| r.topology.channels() != raster.channels()) {
        return invalid("the network to resume has other channels than the picture");
    }
    if let Target::Bpp(bpp) = options.target
        && !(bpp > 0.0 && bpp.is_finite())
    {
        return invalid("bpp must be above 0");
    }
    Ok(())
}

/// What is trained, for which size of file.
struct Plan {
    topology: Topology,
    /// Most bytes of the file, in the compact coding.
    bytes: Option<u64>,
    /// Most bytes of the weights in training, in the compact coding.
    budget: Option<usize>,
}

impl Plan {
    fn new(raster: &Raster, options: &EncodeOptions) -> Result<Self, EncodeError> {
        let channels = raster.channels();
        let settings = |error: DecodeError| EncodeError::Settings(error.to_string());
        // Settings as long as they can get: a run that is cut short names its steps.
        let longest =
            Training { stop_after: Some(options.training.steps()), ..options.training.clone() };
        let blank = |bytes| Blank { raster, options, training: &longest, bytes };
        let given = match (&options.resume, &options.hidden) {
            (Some(file), _) => Some(file.topology.clone()),
            (None, Some(hidden)) => {
                Some(Topology::new(channels, hidden.clone()).map_err(settings)?)
            }
            (None, None) => None,
        };
        let size = raster.size();
        let bytes_at = |bpp: f64| (bpp * size.pixels() as f64 / 8.0) as u64;
        let compact = options.coding == WeightCoding::Compact;
        let wanted = match (options.target, &given) {
            (Target::Bpp(bpp), _) => Some(bytes_at(bpp)),
            (Target::Bytes(bytes), _) => Some(bytes),
            (Target::Auto, None) => {
                let metadata = Metadata { settings: None, ..options.metadata.clone() };
                Some(bytes_at(AUTO_BPP).clamp(AUTO_MIN_BYTES, AUTO_MAX_BYTES) + metadata.size())
            }
            (Target::Auto, Some(topology)) if compact => {
                let same = options.resume.as_ref().filter(|file| file.coding == options.coding);
                let weights = same.map_or_else(
                    || (topology.weight_count() as f64 * COMPACT_BITS_GIVEN / 8.0) as usize,
                    |file| file.weights.len(),
                );
                Some(blank(Some(SETTINGS_FROM)).size(topology, weights))
            }
            (Target::Auto, Some(_)) => None,
        };
        let smallest = Topology::uniform(channels, 1, 1).map_err(settings)?;
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
            let mut layers = (1..=layers_for(weights)).rev();
            layers.find_map(|n| widest(channels, n, weights)).unwrap_or(smallest.clone())
        });
        let bytes = wanted.filter(|_| compact);
        let budget = bytes.map(|bytes| file.room(&topology, bytes));
        Ok(Self { topology, bytes, budget })
    }
}

/// Depth for a number of weights: the best of those tried at 400 to 29,491 bytes
/// (docs/experiments.md).
fn layers_for(weights: usize) -> usize {
    match weights {
        0..100 => 1,
        100..300 => 2,
        300..700 => 3,
        700..1000 => 4,
        1000..1700 => 5,
        1700..5800 => 7,
        _ => 10,
    }
}

/// The widest network of so many layers that has at most `weights` weights.
fn widest(channels: Channels, layers: usize, weights: usize) -> Option<Topology> {
    (1..=limits::MAX_HIDDEN_FEATURES)
        .map_while(|features| Topology::uniform(channels, layers, features).ok())
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
}

impl Blank<'_> {
    fn container(&self, topology: &Topology, weights: Vec<u8>) -> Container {
        let Self { raster, options, training, bytes } = *self;
        let omit = options.omit_settings || bytes.is_some_and(|bytes| bytes < SETTINGS_FROM);
        let mut metadata = options.metadata.clone();
        metadata.settings = (!omit).then(|| settings_text(training, options, bytes));
        Container {
            width: raster.size().width,
            height: raster.size().height,
            depth: raster.depth(),
            topology: topology.clone(),
            omega: (!omit).then_some(training.omega),
            representation: Representation::Siren,
            coding: options.coding,
            metadata,
            weights,
        }
    }

    /// Bytes of the file with so many bytes of weights.
    fn size(&self, topology: &Topology, weights: usize) -> u64 {
        self.container(topology, vec![0; weights]).write().len() as u64
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
fn settings_text(training: &Training, options: &EncodeOptions, bytes: Option<u64>) -> String {
    let of_effort = Training { effort: training.effort, ..Training::default() };
    let mut text = concat!("sirenc ", env!("CARGO_PKG_VERSION")).to_owned();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" --{name} {value}"));
        }
    };
    let differs = |a: u64, b: u64| (a != b).then(|| a.to_string());
    add("resume", options.resume.as_ref().map(|_| "FILE".into()));
    match options.coding {
        WeightCoding::F16 => add("coding", Some("f16".into())),
        WeightCoding::Compact => add("bytes", bytes.map(|bytes| bytes.to_string())),
    }
    add("effort", differs(training.effort.into(), Training::default().effort.into()));
    add("steps", differs(training.steps().into(), of_effort.steps().into()));
    add("stop-after", training.stop_after.map(|s| s.to_string()));
    add("batch", differs(training.batch() as u64, of_effort.batch() as u64));
    add("learning-rate", training.learning_rate.map(|rate| rate.to_string()));
    add("optimizer", (training.optimizer == OptimizerChoice::Adam).then(|| "adam".into()));
    add("seed", differs(training.seed, 0));
    text
}
