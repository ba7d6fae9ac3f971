//! From pixels to the bytes of a `.siren` file: choice of topology, training, weight
//! coding, container, and a last look at the result through the decoder.

use std::time::{Duration, Instant};

use crate::coding;
use crate::container::{Container, Metadata, Representation, WeightCoding};
use crate::decode::{Decoder, Limits, RenderOptions};
use crate::error::{DecodeError, EncodeError};
use crate::geometry::Size;
use crate::network::{Channels, Siren, Topology, limits};
use crate::raster::{Raster, psnr};
use crate::train::{self, Control, OptimizerChoice, Progress, Training};

/// How the size of the network is chosen.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Target {
    /// By the size of the picture: 0.3 bits of weights per pixel, but at least 500 bytes and
    /// at most 64 KiB. Metadata comes on top.
    #[default]
    Auto,
    /// Features of each hidden layer, first to last.
    Hidden(Vec<usize>),
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
    /// The topology; bpp figures in the names are for 768x512 pixels.
    pub fn target(self) -> Target {
        let (layers, features) = match self {
            Self::Paper => (4, 256),
            Self::Coin007 => (5, 20),
            Self::Coin015 => (5, 30),
            Self::Coin03 => (10, 28),
            Self::Coin06 => (10, 40),
            Self::Coin12 => (13, 49),
        };
        Target::Hidden(vec![features; layers])
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
    /// Size of the network.
    pub target: Target,
    /// Training settings.
    pub training: Training,
    /// Train this network on instead of a new one; it sets the topology. The result is
    /// never worse than this.
    pub resume: Option<Siren>,
    /// Metadata to store. `settings` is filled in by the encoder.
    pub metadata: Metadata,
    /// Leave out name, settings and seed of the encoder, and the training omega_0.
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

/// Bits of weights per pixel of [`Target::Auto`].
const AUTO_BPP: f64 = 0.3;
/// Fewest bytes of weights of [`Target::Auto`]: a recognizable picture.
const AUTO_MIN_BYTES: u64 = 500;
/// Most bytes of weights of [`Target::Auto`]: more take long to train.
const AUTO_MAX_BYTES: u64 = 64 << 10;
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
    let topology = choose_topology(raster, options)?;
    let resume = options.resume.as_ref();
    let trained = train::train(raster, &topology, resume, &options.training, observe)?;
    let done = Training {
        steps: Some(trained.steps_planned),
        stop_after: (0 < trained.steps_done && trained.steps_done < trained.steps_planned)
            .then_some(trained.steps_done),
        ..options.training.clone()
    };
    let coded = |siren: &Siren| -> Result<(Vec<u8>, f64), EncodeError> {
        let bytes = container(siren, raster, options, &done).write();
        let psnr = decoded_psnr(raster, &bytes)?;
        Ok((bytes, psnr))
    };
    let (mut bytes, mut psnr) = coded(&trained.siren)?;
    if let Some(before) = resume {
        let (before, before_psnr) = coded(before)?;
        if before_psnr > psnr {
            (bytes, psnr) = (before, before_psnr);
        }
    }
    Ok(Encoded {
        psnr,
        bpp: bytes.len() as f64 * 8.0 / raster.size().pixels() as f64,
        bytes,
        topology,
        steps_done: trained.steps_done,
        steps_planned: trained.steps_planned,
        recoveries: trained.recoveries,
        single_colour: trained.single_colour,
        device: trained.device,
        elapsed: started.elapsed(),
    })
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
    if options.resume.as_ref().is_some_and(|r| r.topology().channels() != raster.channels()) {
        return invalid("the network to resume has other channels than the picture");
    }
    if let Target::Bpp(bpp) = options.target
        && !(bpp > 0.0 && bpp.is_finite())
    {
        return invalid("bpp must be above 0");
    }
    Ok(())
}

/// The topology that the target asks for.
fn choose_topology(raster: &Raster, options: &EncodeOptions) -> Result<Topology, EncodeError> {
    if let Some(siren) = &options.resume {
        return Ok(siren.topology().clone());
    }
    let channels = raster.channels();
    let settings = |error: DecodeError| EncodeError::Settings(error.to_string());
    let smallest = Topology::uniform(channels, 1, 1).map_err(settings)?;
    // A header of a larger network may take so many bytes more than that of the smallest.
    const LONGER_INTEGERS: u64 = 4;
    let blank = Siren::constant(smallest.clone(), &vec![0.0; channels.count()]);
    // Settings as long as they can get: a run that is cut short names its steps.
    let longest =
        Training { stop_after: Some(options.training.steps()), ..options.training.clone() };
    let smallest_file = container(&blank, raster, options, &longest).write().len() as u64;
    let other = smallest_file + LONGER_INTEGERS - 2 * smallest.weight_count() as u64;
    let bytes_at = |bpp: f64| (bpp * raster.size().pixels() as f64 / 8.0) as u64;
    let wanted = match &options.target {
        Target::Hidden(hidden) => {
            return Topology::new(channels, hidden.clone()).map_err(settings);
        }
        Target::Auto => other + bytes_at(AUTO_BPP).clamp(AUTO_MIN_BYTES, AUTO_MAX_BYTES),
        Target::Bpp(bpp) => bytes_at(*bpp),
        Target::Bytes(bytes) => *bytes,
    };
    if wanted < smallest_file {
        return Err(EncodeError::TooFewBytes { wanted, smallest: smallest_file });
    }
    if raster.is_flat() {
        return Ok(smallest);
    }
    let weights = usize::try_from(wanted.saturating_sub(other) / 2).unwrap_or(usize::MAX);
    let mut layers = (1..=layers_for(weights)).rev();
    Ok(layers.find_map(|n| widest(channels, n, weights)).unwrap_or(smallest))
}

/// Depth for a number of weights: COIN's ladder (Dupont et al. 2021, table 1), continued
/// downwards for placeholders.
fn layers_for(weights: usize) -> usize {
    match weights {
        0..150 => 1,
        150..500 => 2,
        500..1000 => 3,
        1000..5500 => 5,
        5500..22_000 => 10,
        _ => 13,
    }
}

/// The widest network of so many layers that has at most `weights` weights.
fn widest(channels: Channels, layers: usize, weights: usize) -> Option<Topology> {
    (1..=limits::MAX_HIDDEN_FEATURES)
        .map_while(|features| Topology::uniform(channels, layers, features).ok())
        .take_while(|topology| topology.weight_count() <= weights)
        .last()
}

/// The container of a network for `raster`.
fn container(
    siren: &Siren,
    raster: &Raster,
    options: &EncodeOptions,
    done: &Training,
) -> Container {
    let mut metadata = options.metadata.clone();
    metadata.settings =
        (!options.omit_settings).then(|| settings_text(done, options.resume.is_some()));
    Container {
        width: raster.size().width,
        height: raster.size().height,
        depth: raster.depth(),
        topology: siren.topology().clone(),
        omega: (!options.omit_settings).then_some(done.omega),
        representation: Representation::Siren,
        coding: WeightCoding::F16,
        metadata,
        weights: coding::encode(WeightCoding::F16, siren),
    }
}

/// The encoder and those of its settings that neither the header nor the defaults tell,
/// as options of `sirenc encode`.
fn settings_text(training: &Training, resumed: bool) -> String {
    let of_effort = Training { effort: training.effort, ..Training::default() };
    let mut text = concat!("sirenc ", env!("CARGO_PKG_VERSION")).to_owned();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" --{name} {value}"));
        }
    };
    let differs = |a: u64, b: u64| (a != b).then(|| a.to_string());
    add("resume", resumed.then(|| "FILE".into()));
    add("effort", differs(training.effort.into(), Training::default().effort.into()));
    add("steps", differs(training.steps().into(), of_effort.steps().into()));
    add("stop-after", training.stop_after.map(|s| s.to_string()));
    add("batch", differs(training.batch() as u64, of_effort.batch() as u64));
    add("learning-rate", training.learning_rate.map(|rate| rate.to_string()));
    add("optimizer", (training.optimizer == OptimizerChoice::Adam).then(|| "adam".into()));
    add("seed", differs(training.seed, 0));
    text
}
