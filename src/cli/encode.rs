//! `sirenc encode`: pictures to `.siren` files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use sirenc::Representation as Wanted;
use sirenc::container::{Representation, TrainingOmega, WeightCoding};
use sirenc::network::limits;
use sirenc::{
    Checkpoints, Control, EncodeError, Encoded, Encoder, LatentOptions, OptimizerChoice, Preset,
    Progress, Raster, SirenOptions,
};

use super::batch::{self, Done, Facts, Flags};
use super::devices::{self, DeviceName};
use super::metadata::Selection;
use super::output::{Destination, key};
use super::{Outcome, input, interrupt, number, positive, progress};

/// The usual omega_0, of all layers.
const OMEGA: f32 = 30.0;

#[derive(Args)]
pub(super) struct Options {
    /// Pictures; `-` is stdin; a directory stands for the pictures in it
    #[arg(required = true, value_name = "IN")]
    inputs: Vec<PathBuf>,
    /// Output file, or directory for several inputs; `-` is stdout [default: IN.siren]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Quality from 1 to 100: pictures with more detail get more bytes [default: 60, unless the
    /// network is given]
    #[arg(short, long, value_name = "1..100", group = "target", value_parser = parse_quality)]
    quality: Option<f64>,
    /// PSNR in dB to reach at least, in the fewest bytes; trains several times
    #[arg(long, value_name = "DB", group = "target", value_parser = positive)]
    psnr: Option<f64>,
    /// Keep the best result where --psnr is out of reach
    #[arg(long, requires = "psnr")]
    best_effort: bool,
    /// Size of the file in bits per pixel, at most
    #[arg(long, value_name = "BPP", group = "target", value_parser = positive)]
    bpp: Option<f64>,
    /// Size of the file in bytes, at most
    #[arg(long, value_name = "N", group = "target")]
    bytes: Option<u64>,
    /// How the picture is represented: as one SIREN, or as latents that feed one
    /// [default: by size; one SIREN with --preset, --hidden-layers, --coding f16 or --optimizer
    /// adam; with --resume that of the file]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["resume", "network"])]
    representation: Option<RepresentationName>,
    /// How weights are written: as 16-bit floating-point numbers, or as integers of about five
    /// bits that training accounts for [default: compact; with --preset f16; with --resume
    /// that of the file]
    #[arg(long, value_name = "NAME")]
    coding: Option<CodingName>,
    /// Topology and training of a published experiment
    #[arg(long, value_name = "NAME", group = "network")]
    preset: Option<PresetName>,
    /// Number of hidden layers
    #[arg(long, value_name = "N", requires = "hidden_features", group = "network",
        value_parser = number().range(1..=limits::MAX_HIDDEN_LAYERS as u64))]
    hidden_layers: Option<usize>,
    /// Features of each hidden layer: one number, or one for each layer
    #[arg(long, value_name = "N[,N...]", value_delimiter = ',', requires = "hidden_layers",
        value_parser = number().range(1..=limits::MAX_HIDDEN_FEATURES as u64))]
    hidden_features: Vec<usize>,
    /// omega_0 of the first layer, and of the others unless --omega0-hidden is given
    /// [default: 30]
    #[arg(long, value_name = "F")]
    omega0: Option<f32>,
    /// omega_0 of the hidden layers after the first
    #[arg(long, value_name = "F")]
    omega0_hidden: Option<f32>,
    /// How long to train: 1 is fastest, 9 gives the best picture
    #[arg(short, long, value_name = "1..9", default_value_t = 3,
        value_parser = clap::value_parser!(u8).range(1..=9))]
    effort: u8,
    /// Train the network of this file on, with its topology and omega_0; the result is never
    /// worse
    #[arg(long, value_name = "FILE", conflicts_with_all = ["network", "omega0", "omega0_hidden"])]
    resume: Option<PathBuf>,
    /// Keep the state of the training in this file, and go on from it where it exists; the result
    /// is that of a run without a break. Removed once that is written
    #[arg(long, value_name = "FILE", conflicts_with = "timeout")]
    checkpoint: Option<PathBuf>,
    /// Time from one checkpoint to the next
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse_seconds,
        requires = "checkpoint")]
    checkpoint_every: Duration,
    /// Length of training in steps [default: by effort]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// End training after so many of the steps, with the learning rate of the whole run: makes
    /// the file of an interrupted encode again
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    stop_after: Option<u32>,
    /// Pixels of each step [default: by effort]
    #[arg(long, value_name = "N", value_parser = number().range(1..))]
    batch: Option<usize>,
    /// The optimizer; Adam is there for comparison
    #[arg(long, value_name = "NAME", default_value = "soap")]
    optimizer: OptimizerName,
    /// Peak learning rate [default: by topology]
    #[arg(long, value_name = "F")]
    learning_rate: Option<f64>,
    /// Seed of initial weights and order of pixels [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Train each picture no longer than this, and where --psnr trains it a few times, each time
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    timeout: Option<Duration>,
    /// Where to train
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceName,
    /// Do not store encoder settings and seed
    #[arg(long)]
    no_settings: bool,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Clone, Copy, ValueEnum)]
enum PresetName {
    /// The SIREN paper's image experiment: 4 layers of 256
    Paper,
    /// COIN, 5 layers of 20
    #[value(name = "coin-0.07")]
    Coin007,
    /// COIN, 5 layers of 30
    #[value(name = "coin-0.15")]
    Coin015,
    /// COIN, 10 layers of 28
    #[value(name = "coin-0.3")]
    Coin03,
    /// COIN, 10 layers of 40
    #[value(name = "coin-0.6")]
    Coin06,
    /// COIN, 13 layers of 49
    #[value(name = "coin-1.2")]
    Coin12,
}

#[derive(Clone, Copy, ValueEnum)]
enum RepresentationName {
    /// One network for the whole picture: for the smallest files
    Siren,
    /// A pyramid of latents under a small network: for photographs
    #[value(name = "grid")]
    Latents,
}

#[derive(Clone, Copy, ValueEnum)]
enum CodingName {
    /// IEEE 754 binary16
    F16,
    /// Integers with step sizes, entropy-coded
    Compact,
}

#[derive(Clone, Copy, ValueEnum)]
enum OptimizerName {
    /// SOAP
    Soap,
    /// Adam
    Adam,
}

pub(super) fn run(options: &Options) -> Result<Outcome> {
    let (output, flags) = (options.output.as_deref(), &options.flags);
    if let Some(path) = output
        && input::has_picture_extension(path)
        && !path.is_dir()
    {
        bail!("{} has the name of a picture; name a .siren file", path.display());
    }
    let wanted = input::has_picture_extension;
    let jobs = batch::jobs(&options.inputs, wanted, output, "siren", flags)?;
    let encoder = encoder(options, jobs.len() > 1)?;
    batch::run(&jobs, flags, |input, destination, facts| {
        encode_one(input, destination, options, &encoder, facts)
    })
}

fn encode_one(
    input: &Path,
    destination: &Destination,
    options: &Options,
    encoder: &Encoder,
    facts: &mut Facts,
) -> Result<Done> {
    let checkpoint = match options.checkpoint.clone().map(Destination::Named) {
        Some(file) => Some(Checkpoint { saved: saved(&file, destination)?, file }),
        None => None,
    };
    let picture = input::picture(input)?;
    let raster = &picture.raster;
    facts.picture(raster.size(), raster.channels(), raster.depth());
    let mut metadata = picture.metadata;
    options.selection.apply(&mut metadata);
    options.check_latents().with_context(|| input.display().to_string())?;
    let encoder = encoder.clone().metadata(metadata);
    let encoded = match train(input, raster, encoder, options, checkpoint.as_ref()) {
        Ok(encoded) => encoded,
        Err(EncodeError::Cancelled) if interrupt::requested() => return Ok(Done::Interrupted),
        Err(error) => return Err(explained(error, input, options)),
    };
    facts.representation(encoded.representation);
    facts.psnr = Some(encoded.psnr);
    facts.steps = Some(encoded.steps_done);
    facts.stopped_early = Some(stopped_early(&encoded));
    options.flags.write(destination, facts, |file| Ok(file.write_all(&encoded.bytes)?))?;
    if let Some(failure) = &encoded.device_failure {
        devices::warn_of_failure(failure);
    }
    progress::message(&summary(input, destination, &encoded));
    if interrupt::requested() {
        return Ok(Done::WrittenEarly);
    }
    if let Some(path) = options.checkpoint.as_deref().filter(|path| path.exists()) {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(Done::Written)
}

/// Where the state of a training is kept, and what is there already.
struct Checkpoint {
    file: Destination,
    saved: Option<Vec<u8>>,
}

/// Encodes a picture under a bar; an interrupt ends the training.
fn train(
    input: &Path,
    raster: &Raster,
    encoder: Encoder,
    options: &Options,
    checkpoint: Option<&Checkpoint>,
) -> Result<Encoded, EncodeError> {
    // The first step tells how many there are.
    let bar = progress::bar(&input.display().to_string(), 0);
    let pixels = raster.size().pixels() as f64;
    let observe = |at: &Progress| {
        bar.set_length(at.steps.into());
        bar.set_position(at.step.into());
        let run = if at.run > 1 { format!("run {}, ", at.run) } else { String::new() };
        let bpp = at.bytes.map(|bytes| format!("{:.3} bpp, ", 8.0 * bytes / pixels));
        bar.set_message(format!("{run}{}{:.2} dB", bpp.unwrap_or_default(), at.psnr));
        if interrupt::requested() { Control::Stop } else { Control::Continue }
    };
    let _span = interrupt::TrainingSpan::begin();
    let encoding = encoder.on_progress(observe);
    let encoded = match checkpoint {
        None => encoding.encode(raster),
        Some(Checkpoint { file, saved }) => {
            let mut save = |bytes: &[u8]| {
                // Training is worth more than its checkpoint.
                if let Err(error) = file.write(None, |file| Ok(file.write_all(bytes)?)) {
                    bar.suspend(|| progress::message(&format!("warning: {error:#}")));
                }
            };
            let (from, every) = (saved.as_deref(), options.checkpoint_every);
            encoding.checkpoints(Checkpoints { from, every, save: &mut save }).encode(raster)
        }
    };
    bar.finish_and_clear();
    encoded
}

/// An error with the name of the file that it is about, and what may be done.
fn explained(error: EncodeError, input: &Path, options: &Options) -> Error {
    use EncodeError::{CheckpointDamaged, CheckpointMismatch};
    let of_checkpoint = matches!(error, CheckpointDamaged | CheckpointMismatch { .. });
    let path = options.checkpoint.as_deref().filter(|_| of_checkpoint);
    let error = match error {
        EncodeError::PsnrUnreached { .. } => {
            anyhow!("{error}, or keep the best with --best-effort")
        }
        error => error.into(),
    };
    error.context(path.unwrap_or(input).display().to_string())
}

/// The checkpoint, if there is one.
fn saved(checkpoint: &Destination, output: &Destination) -> Result<Option<Vec<u8>>> {
    checkpoint.check(false)?;
    if key(checkpoint) == key(output) {
        bail!("{} is the output; name another checkpoint", checkpoint.name());
    }
    let Some(path) = checkpoint.path() else { return Ok(None) };
    if path.exists() && !path.is_file() {
        bail!("{} is not a file", path.display());
    }
    let name = || path.display().to_string();
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.with_context(name)?,
    };
    // No more is read of what is none, as large as it may be.
    let (signature, mut bytes) = (Checkpoints::SIGNATURE, Vec::new());
    (&file).take(signature.len() as u64).read_to_end(&mut bytes).with_context(name)?;
    if bytes != signature {
        return Err(EncodeError::CheckpointDamaged).with_context(name);
    }
    (&file).read_to_end(&mut bytes).with_context(name)?;
    Ok(Some(bytes))
}

/// A picture of one colour takes no steps.
fn stopped_early(encoded: &Encoded) -> bool {
    (1..encoded.steps_planned).contains(&encoded.steps_done)
}

fn summary(input: &Path, destination: &Destination, encoded: &Encoded) -> String {
    let Encoded { bytes, psnr, bpp, topology, device, elapsed, .. } = encoded;
    let (done, planned) = (encoded.steps_done, encoded.steps_planned);
    let shape = match encoded.representation {
        Representation::Siren => topology.to_string(),
        Representation::Latents => "grids".to_owned(),
    };
    let mut text = format!(
        "{} -> {}: {shape}, {} bytes, {bpp:.3} bpp, {psnr:.2} dB, {done} steps in {:.1} s on {device}",
        input.display(),
        destination.name(),
        bytes.len(),
        elapsed.as_secs_f64(),
    );
    if stopped_early(encoded) {
        text.push_str(&format!(" (stopped early, of {planned}; best result kept)"));
    }
    if encoded.single_colour && done > 0 {
        text.push_str(" (nothing better than a single colour was found: try more effort or bytes)");
    }
    if encoded.recoveries > 0 {
        text.push_str(&format!(" (learning rate lowered {} times)", encoded.recoveries));
    }
    text
}

/// An encoder that has been told all options but those of one picture.
fn encoder(options: &Options, several: bool) -> Result<Encoder> {
    if several && options.checkpoint.is_some() {
        bail!("--checkpoint is of one picture: give one input");
    }
    let mut encoder = devices::accelerated(Encoder::new())
        .effort(options.effort)
        .device(options.device.library())
        .best_effort(options.best_effort)
        .omit_settings(options.no_settings);
    let mut resumed = None;
    if let Some(path) = &options.resume {
        if several {
            bail!("--resume trains one picture on: give one input");
        }
        let decoder = input::siren(path)?;
        resumed = Some(decoder.container().representation);
        encoder = encoder.resume(decoder.container().clone());
    }
    encoder = encoder.representation(options.representation(resumed)?);
    encoder = match (options.quality, options.psnr, options.bpp, options.bytes) {
        (Some(quality), ..) => encoder.quality(quality),
        (_, Some(psnr), ..) => encoder.psnr(psnr),
        (.., Some(bpp), _) => encoder.bpp(bpp),
        (.., Some(bytes)) => encoder.bytes(bytes),
        (None, None, None, None) => encoder,
    };
    if let Some(steps) = options.steps {
        encoder = encoder.steps(steps);
    }
    if let Some(steps) = options.stop_after {
        encoder = encoder.stop_after(steps);
    }
    if let Some(seed) = options.seed {
        encoder = encoder.seed(seed);
    }
    if let Some(timeout) = options.timeout {
        encoder = encoder.timeout(timeout);
    }
    Ok(encoder)
}

impl Options {
    /// How the picture is represented, where a file of this representation may be resumed.
    fn representation(&self, resumed: Option<Representation>) -> Result<Wanted> {
        let siren = self.siren()?;
        Ok(match (resumed, self.representation) {
            // What is said of one SIREN alone counts for nothing then.
            (Some(Representation::Latents), _) => Wanted::Auto,
            (Some(Representation::Siren), _) => siren.into(),
            (None, Some(RepresentationName::Siren)) => siren.into(),
            (None, Some(RepresentationName::Latents)) => LatentOptions::new().into(),
            (None, None) if self.only_siren().is_some() => siren.into(),
            (None, None) => Wanted::Auto,
        })
    }

    /// What is said of one SIREN.
    fn siren(&self) -> Result<SirenOptions> {
        let preset = self.preset.map(PresetName::library);
        let mut siren = preset.map_or_else(SirenOptions::new, SirenOptions::preset);
        if let Some(layers) = self.hidden_layers {
            siren = siren.hidden(match self.hidden_features.as_slice() {
                &[features] => vec![features; layers],
                features if features.len() == layers => features.to_vec(),
                features => bail!(
                    "--hidden-features lists {} numbers for {layers} hidden layers",
                    features.len()
                ),
            });
        }
        siren = match self.coding {
            Some(CodingName::F16) => siren.coding(WeightCoding::F16),
            Some(CodingName::Compact) => siren.coding(WeightCoding::Compact),
            None => siren,
        };
        if let Some(omega) = self.omega() {
            siren = siren.omega(omega);
        }
        if let Some(pixels) = self.batch {
            siren = siren.batch(pixels);
        }
        if let Some(rate) = self.learning_rate {
            siren = siren.learning_rate(rate);
        }
        Ok(siren.optimizer(match self.optimizer {
            OptimizerName::Soap => OptimizerChoice::Soap,
            OptimizerName::Adam => OptimizerChoice::Adam,
        }))
    }

    fn omega(&self) -> Option<TrainingOmega> {
        let given = self.omega0.is_some() || self.omega0_hidden.is_some();
        let first = self.omega0.unwrap_or(OMEGA);
        let hidden = self.omega0_hidden.unwrap_or(first);
        given.then_some(TrainingOmega { first, hidden })
    }

    /// What is said that only one SIREN has.
    fn only_siren(&self) -> Option<&'static str> {
        let usual = TrainingOmega { first: OMEGA, hidden: OMEGA };
        let options = [
            (self.preset.is_some() || self.hidden_layers.is_some(), "the hidden layers"),
            (matches!(self.coding, Some(CodingName::F16)), "the coding f16"),
            (self.omega().is_some_and(|omega| omega != usual), "omega_0"),
            (matches!(self.optimizer, OptimizerName::Adam), "the optimizer"),
            (self.batch.is_some(), "the batch"),
            (self.learning_rate.is_some(), "the learning rate"),
        ];
        options.into_iter().find_map(|(given, name)| given.then_some(name))
    }

    /// Refuses what latents do not have, where they are asked for by name.
    fn check_latents(&self) -> Result<(), EncodeError> {
        match (self.representation, self.only_siren()) {
            (Some(RepresentationName::Latents), Some(name)) => {
                let text = format!("latent grids take no choice of {name}");
                Err(EncodeError::Settings(text))
            }
            _ => Ok(()),
        }
    }
}

impl PresetName {
    fn library(self) -> Preset {
        match self {
            Self::Paper => Preset::Paper,
            Self::Coin007 => Preset::Coin007,
            Self::Coin015 => Preset::Coin015,
            Self::Coin03 => Preset::Coin03,
            Self::Coin06 => Preset::Coin06,
            Self::Coin12 => Preset::Coin12,
        }
    }
}

fn parse_quality(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|q| (1.0..=100.0).contains(q))
        .ok_or("give a number from 1 to 100".into())
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "give a number of seconds")?;
    if seconds > 0.0 {
        Duration::try_from_secs_f64(seconds).map_err(|_| "the time is too long".into())
    } else {
        Err("the time must be above 0".into())
    }
}
