//! What an encoder may be told, and what of it makes no sense. Plain data: looks at no pixel, trains
//! nothing, writes nothing. What only one representation has is a type, which the other does not
//! take.

use crate::error::EncodeError;
use crate::train::{self, DeviceChoice, OptimizerChoice, SirenTraining, Training};
use siren_image::Raster;
use siren_image::Size;
use siren_image::container::{self, Container, Metadata, TrainingOmega, WeightCoding};
use siren_image::network::Topology;

/// The quality of a file of no other target.
pub const DEFAULT_QUALITY: f64 = 60.0;

/// The least error of the largest picture is a lower PSNR than this.
const MOST_PSNR: f64 = 200.0;
/// Smaller ones leave the weights of the start without bounds.
const OMEGA: std::ops::RangeInclusive<f32> = 0.001..=1000.0;
/// Pixels are numbered in 32 bits, so a picture may have no more than this.
const MAX_PIXELS: u64 = 1 << 31;

/// How large the file becomes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Target {
    /// [`DEFAULT_QUALITY`]; where the network is given ([`SirenOptions::hidden`],
    /// [`Encoder::resume`](super::Encoder::resume)), what it takes.
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

/// Ready-made topologies from the literature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
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

/// How a picture is to be represented, with what only this representation can be told.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum Representation {
    /// One SIREN for small files and small pictures, latents for others; of a file that is
    /// resumed, its own.
    #[default]
    Auto,
    /// One SIREN.
    Siren(SirenOptions),
    /// Latents.
    Latents(LatentOptions),
}

impl From<SirenOptions> for Representation {
    fn from(options: SirenOptions) -> Self {
        Self::Siren(options)
    }
}

impl From<LatentOptions> for Representation {
    fn from(options: LatentOptions) -> Self {
        Self::Latents(options)
    }
}

/// What can be told of one SIREN.
///
/// ```
/// use siren_encoder::{Encoder, Preset, SirenOptions};
/// use siren_image::container::WeightCoding;
///
/// let of_three_layers = SirenOptions::new().hidden([32, 24, 24]).coding(WeightCoding::Compact);
/// let encoder = Encoder::new().bytes(2_000).representation(of_three_layers);
/// let coin = Encoder::new().representation(SirenOptions::preset(Preset::Coin03));
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[must_use]
pub struct SirenOptions {
    hidden: Option<Vec<usize>>,
    coding: Option<WeightCoding>,
    omega: Option<TrainingOmega>,
    optimizer: OptimizerChoice,
    batch: Option<usize>,
    learning_rate: Option<f64>,
}

impl SirenOptions {
    /// A network that suits the target, in the compact coding.
    pub fn new() -> Self {
        Self::default()
    }

    /// Topology and training of a published experiment, in the coding f16.
    pub fn preset(preset: Preset) -> Self {
        let learning_rate = preset.learning_rate();
        Self { learning_rate, ..Self::new().hidden(preset.hidden()).coding(WeightCoding::F16) }
    }

    /// Features of each hidden layer, first to last, instead of those that suit the target.
    pub fn hidden(self, features: impl Into<Vec<usize>>) -> Self {
        Self { hidden: Some(features.into()), ..self }
    }

    /// How the weights are written; without it compact, or as the file to resume has it.
    pub fn coding(self, coding: WeightCoding) -> Self {
        Self { coding: Some(coding), ..self }
    }

    /// omega_0 of the first and of the other hidden layers, 0.001 to 1000; without it 30 for both
    /// (Sitzmann et al. 2020, section 3.2), or as the file to resume has it.
    pub fn omega(self, omega: TrainingOmega) -> Self {
        Self { omega: Some(omega), ..self }
    }

    /// The optimizer.
    pub fn optimizer(self, optimizer: OptimizerChoice) -> Self {
        Self { optimizer, ..self }
    }

    /// Pixels in each step's batch, instead of the effort's, of which a network of fewer weights
    /// takes as many as its weights, or 2,048; a picture with fewer is one batch.
    pub fn batch(self, pixels: usize) -> Self {
        Self { batch: Some(pixels), ..self }
    }

    /// Peak learning rate, above 0 and at most 1, instead of the one for the topology and the
    /// picture: deep and wide networks take smaller steps, and so do those that are small for a
    /// hard picture.
    pub fn learning_rate(self, rate: f64) -> Self {
        Self { learning_rate: Some(rate), ..self }
    }

    /// Whether settings or header tell of something here that only a SIREN has.
    pub(super) fn implies_siren(&self) -> bool {
        let omega = self.omega.is_some_and(|omega| omega != train::OMEGA);
        let numbers = self.batch.is_some() || self.learning_rate.is_some();
        let f16 = self.coding == Some(WeightCoding::F16);
        self.hidden.is_some() || f16 || omega || numbers || self.optimizer != Default::default()
    }

    fn check(&self) -> Result<(), EncodeError> {
        let TrainingOmega { first, hidden } = self.omega.unwrap_or(train::OMEGA);
        if !OMEGA.contains(&first) || !OMEGA.contains(&hidden) {
            return Err(invalid("omega_0 must lie from 0.001 to 1000"));
        }
        if self.batch == Some(0) {
            return Err(invalid("the batch must be at least 1"));
        }
        if self.learning_rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1.0)) {
            return Err(invalid("the learning rate must lie above 0 and not above 1"));
        }
        Ok(())
    }
}

/// What can be told of latents: nothing so far.
#[derive(Debug, Clone, PartialEq, Default)]
#[must_use]
pub struct LatentOptions {
    _private: (),
}

impl LatentOptions {
    /// Latents and networks that suit the target.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Everything that an encoder has been told.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    pub target: Target,
    pub representation: Representation,
    pub training: Training,
    /// The file to train on.
    pub resume: Option<Container>,
    /// Without `settings`, which the encoder fills in.
    pub metadata: Metadata,
    pub best_effort: bool,
    pub omit_settings: bool,
}

impl Options {
    /// The options of one SIREN, where it has any.
    pub fn siren(&self) -> Option<&SirenOptions> {
        match &self.representation {
            Representation::Siren(siren) => Some(siren),
            Representation::Auto | Representation::Latents(_) => None,
        }
    }

    /// The coding of a SIREN's weights.
    pub fn coding(&self) -> WeightCoding {
        let resumed = self.resume.as_ref().map(|file| file.coding);
        self.siren().and_then(|siren| siren.coding).or(resumed).unwrap_or_default()
    }

    /// The hidden layers of a SIREN, where they are given.
    pub fn hidden(&self) -> Option<&[usize]> {
        self.siren().and_then(|siren| siren.hidden.as_deref())
    }

    /// How a SIREN is trained.
    pub fn siren_training(&self) -> SirenTraining {
        let default = SirenOptions::new();
        let siren = self.siren().unwrap_or(&default);
        let resumed = self.resume.as_ref().and_then(|file| file.omega);
        SirenTraining {
            common: self.training.clone(),
            omega: siren.omega.or(resumed).unwrap_or(train::OMEGA),
            optimizer: siren.optimizer,
            batch: siren.batch,
            learning_rate: siren.learning_rate,
        }
    }

    /// The topology, where it is given.
    pub fn given(&self, raster: &Raster) -> Result<Option<Topology>, EncodeError> {
        Ok(match (&self.resume, self.hidden()) {
            (Some(file), _) => Some(file.topology.clone()),
            (None, Some(hidden)) => {
                let topology = Topology::new(raster.channels(), hidden.to_vec());
                Some(topology.map_err(|error| invalid(error.to_string()))?)
            }
            (None, None) => None,
        })
    }

    /// Whether the device trains nothing but SIRENs, by candle.
    pub fn device_wants_siren(&self) -> bool {
        matches!(self.training.device, DeviceChoice::Cuda | DeviceChoice::Metal)
    }

    /// Refuses what makes no sense, or not for this picture.
    pub fn check(&self, raster: &Raster) -> Result<(), EncodeError> {
        let Size { width, height } = raster.size();
        if raster.size().pixels() > MAX_PIXELS {
            return Err(EncodeError::Picture(format!("{width}x{height} is more than 2^31 pixels")));
        }
        let training = &self.training;
        if !(1..=9).contains(&training.effort) {
            return Err(invalid("effort must lie from 1 to 9"));
        }
        if training.steps == Some(0) || training.stop_after == Some(0) {
            return Err(invalid("steps and the step to stop after must be at least 1"));
        }
        match &self.representation {
            Representation::Auto => {}
            Representation::Siren(siren) => siren.check()?,
            Representation::Latents(_) if self.device_wants_siren() => {
                return Err(invalid("latent grids take no choice of the device"));
            }
            Representation::Latents(_) => {}
        }
        self.check_target()?;
        self.resume.as_ref().map_or(Ok(()), |file| self.check_resumed(file, raster))
    }

    fn check_target(&self) -> Result<(), EncodeError> {
        match self.target {
            Target::Quality(_) if self.hidden().is_some() && self.coding() == WeightCoding::F16 => {
                Err(invalid(
                    "a network of given size has one size in the coding f16: leave the quality out, \
                     or take the coding compact",
                ))
            }
            Target::Bpp(bpp) if !(bpp > 0.0 && bpp.is_finite()) => {
                Err(invalid("bpp must be above 0"))
            }
            Target::Quality(quality) if !(1.0..=100.0).contains(&quality) => {
                Err(invalid("quality must lie from 1 to 100"))
            }
            Target::Psnr(psnr) if !(psnr > 0.0 && psnr <= MOST_PSNR) => {
                Err(invalid("the PSNR must be above 0 and not above 200 dB"))
            }
            _ => Ok(()),
        }
    }

    fn check_resumed(&self, file: &Container, raster: &Raster) -> Result<(), EncodeError> {
        use container::Representation::{Latents, Siren};
        if file.topology.channels() != raster.channels() {
            return Err(invalid("the network to resume has other channels than the picture"));
        }
        match (&self.representation, file.representation) {
            (Representation::Siren(_), Latents) => {
                return Err(invalid("the file to resume holds latent grids and not one SIREN"));
            }
            (Representation::Latents(_), Siren) => {
                return Err(invalid("the file to resume holds one SIREN and not latent grids"));
            }
            _ => {}
        }
        let &Container { width, height, .. } = file;
        if file.representation == Latents && raster.size() != (Size { width, height }) {
            return Err(invalid(format!(
                "the latent grids to resume are of {width}x{height} pixels and go on with a picture of that size"
            )));
        }
        Ok(())
    }

    /// Refuses what checkpoints cannot go on with to the same file.
    pub fn check_for_checkpoints(&self) -> Result<(), EncodeError> {
        if self.training.timeout.is_some() {
            return Err(invalid("checkpoints do not go with a time-out"));
        }
        Ok(())
    }
}

fn invalid(text: impl Into<String>) -> EncodeError {
    EncodeError::Settings(text.into())
}
