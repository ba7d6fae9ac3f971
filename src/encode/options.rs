//! What an encoder may be told, and what of it makes no sense. Plain data: looks at no pixel, trains
//! nothing, writes nothing.

use crate::container::{Container, Metadata, Representation, TrainingOmega, WeightCoding};
use crate::error::EncodeError;
use crate::geometry::Size;
use crate::network::Topology;
use crate::raster::Raster;
use crate::train::{DeviceChoice, Training};

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

impl EncodeOptions {
    /// Refuses what makes no sense, or not for this picture.
    pub(super) fn check(&self, raster: &Raster) -> Result<(), EncodeError> {
        let Size { width, height } = raster.size();
        if raster.size().pixels() > MAX_PIXELS {
            return Err(EncodeError::Picture(format!("{width}x{height} is more than 2^31 pixels")));
        }
        self.check_training()?;
        self.check_target()?;
        if self.representation == Some(Representation::Grid)
            && let Some(setting) = self.only_siren()
        {
            return Err(invalid(format!("latent grids take no choice of {setting}")));
        }
        self.check_resumed(raster)
    }

    fn check_training(&self) -> Result<(), EncodeError> {
        let training = &self.training;
        let TrainingOmega { first, hidden } = training.omega;
        if !OMEGA.contains(&first) || !OMEGA.contains(&hidden) {
            return Err(invalid("omega_0 must lie from 0.001 to 1000"));
        }
        if !(1..=9).contains(&training.effort) {
            return Err(invalid("effort must lie from 1 to 9"));
        }
        if training.steps() == 0 || training.stop_after == Some(0) || training.batch == Some(0) {
            return Err(invalid("steps, the step to stop after and batch must be at least 1"));
        }
        if training.learning_rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1.0)) {
            return Err(invalid("the learning rate must lie above 0 and not above 1"));
        }
        Ok(())
    }

    fn check_target(&self) -> Result<(), EncodeError> {
        match self.target {
            Target::Quality(_) if self.hidden.is_some() && self.coding == WeightCoding::F16 => {
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

    fn check_resumed(&self, raster: &Raster) -> Result<(), EncodeError> {
        let Some(file) = &self.resume else { return Ok(()) };
        if file.topology.channels() != raster.channels() {
            return Err(invalid("the network to resume has other channels than the picture"));
        }
        let &Container { width, height, representation, .. } = file;
        if representation == Representation::Grid && raster.size() != (Size { width, height }) {
            return Err(invalid(format!(
                "the latent grids to resume are of {width}x{height} pixels and go on with a picture of that size"
            )));
        }
        Ok(())
    }

    /// A setting that only one SIREN has.
    pub(super) fn only_siren(&self) -> Option<&'static str> {
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
    pub(super) fn given(&self, raster: &Raster) -> Result<Option<Topology>, EncodeError> {
        Ok(match (&self.resume, &self.hidden) {
            (Some(file), _) => Some(file.topology.clone()),
            (None, Some(hidden)) => {
                let topology = Topology::new(raster.channels(), hidden.clone());
                Some(topology.map_err(|error| invalid(error.to_string()))?)
            }
            (None, None) => None,
        })
    }
}

fn invalid(text: impl Into<String>) -> EncodeError {
    EncodeError::Settings(text.into())
}
