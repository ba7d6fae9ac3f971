//! Which network is trained, for which size of file. Trains nothing.

use super::super::file::{Blank, Kind, SETTINGS_FROM};
use super::super::options::{DEFAULT_QUALITY, Target};
use super::super::size::{Job, QUALITY_BYTES, least_for_quality};
use crate::error::EncodeError;
use crate::quantize;
use crate::rate::{COMPACT_BITS, RateModel};
use crate::train::{SirenTraining, Training};
use siren_image::coding::compact;
use siren_image::container::WeightCoding;
use siren_image::network::{Channels, Siren, Topology, limits};

/// Runs of so many steps and more may have more than five layers.
const DEEP_FROM: u32 = 1000;
/// Networks of so many weights and more have layers of equal width.
const UNIFORM_FROM: usize = 5800;
/// Bits of a weight in the compact coding where the number of weights is given.
const COMPACT_BITS_GIVEN: f64 = 6.0;
/// Fewest and most bits of a weight of a given network.
const GIVEN_BITS: (f64, f64) = (3.0, 12.0);

/// What is trained, for which size of file.
pub(super) struct SirenPlan {
    pub topology: Topology,
    /// Most bytes of the file.
    pub bytes: Option<u64>,
    /// Most bytes of the weights in training, in the compact coding.
    pub budget: Option<usize>,
}

impl<'a> Blank<'a> {
    /// A file of one SIREN but for its weights.
    pub(super) fn of_siren(job: Job<'a>, training: &'a SirenTraining, bytes: Option<u64>) -> Self {
        Self { job, bytes, kind: Kind::Siren(training) }
    }
}

impl SirenPlan {
    /// # Errors
    /// [`EncodeError::TooFewBytes`] for less than the smallest file, or that of the given network.
    pub fn new(job: Job, target: Target) -> Result<Self, EncodeError> {
        let given = job.options.given(job.raster)?;
        let is_compact = job.options.coding() == WeightCoding::Compact;
        let training = job.options.siren_training().with(Training::longest);
        let bytes = wanted_bytes(job, target, given.as_ref(), &training);
        let file = Blank::of_siren(job, &training, bytes);
        let smallest = least_bytes(&file, given.as_ref().filter(|_| !is_compact));
        if let Some(wanted) = bytes
            && wanted < smallest
        {
            return Err(EncodeError::TooFewBytes { wanted, smallest });
        }
        let topology = given.unwrap_or_else(|| suited(&file, training.common.steps()));
        let budget = bytes.filter(|_| is_compact).map(|bytes| file.room(&topology, bytes));
        Ok(Self { topology, bytes, budget })
    }

    /// Bytes of the file for so many bytes of weights in the compact coding, or for a network
    /// as good in another.
    pub fn file_bytes(job: Job, weights: f64) -> u64 {
        let weights = match job.options.coding() {
            WeightCoding::F16 => weights * 16.0 / COMPACT_BITS,
            WeightCoding::Compact => weights,
        };
        let training = job.options.siren_training().with(Training::longest);
        let file = Blank::of_siren(job, &training, Some(weights as u64));
        file.size(&smallest(job.raster.channels()), weights as usize)
    }
}

/// Most bytes of the file, where the target tells or the network that is given.
fn wanted_bytes(
    job: Job,
    target: Target,
    given: Option<&Topology>,
    training: &SirenTraining,
) -> Option<u64> {
    let coding = job.options.coding();
    let target = match target {
        Target::Auto if given.is_none() => Target::Quality(DEFAULT_QUALITY),
        target => target,
    };
    match (target, given) {
        (Target::Bpp(_) | Target::Bytes(_), _) => job.file_bytes(target),
        (_, Some(_)) if coding == WeightCoding::F16 => None,
        (Target::Quality(quality), given) => {
            let range = (least_for_quality(job.raster, quality), QUALITY_BYTES.1);
            let range = given.map_or(range, given_bytes);
            let weights = RateModel::new(job.raster).bytes_of_quality(quality, range);
            Some(SirenPlan::file_bytes(job, weights))
        }
        (_, Some(topology)) => {
            let same = job.options.resume.as_ref().filter(|file| file.coding == coding);
            let weights = same.map_or_else(
                || (topology.weight_count() as f64 * COMPACT_BITS_GIVEN / 8.0) as usize,
                |file| file.weights.len(),
            );
            Some(Blank::of_siren(job, training, Some(SETTINGS_FROM)).size(topology, weights))
        }
        (_, None) => None,
    }
}

/// Bytes of the smallest file, or of that of a given network in the coding f16.
fn least_bytes(file: &Blank, given: Option<&Topology>) -> u64 {
    if let Some(topology) = given {
        return file.size(topology, 2 * topology.weight_count());
    }
    let Job { raster, options } = file.job;
    let smallest = smallest(raster.channels());
    let weights = match options.coding() {
        WeightCoding::F16 => 2 * smallest.weight_count(),
        WeightCoding::Compact => {
            let channels = raster.channels().count();
            let flat = Siren::constant(smallest.clone(), &vec![0.5; channels]);
            compact::encode(&quantize::constant(&flat, raster.depth())).len() + channels
        }
    };
    file.size(&smallest, weights)
}

/// The topology that suits the size of a file, for a training of so many steps.
fn suited(file: &Blank, steps: u32) -> Topology {
    let Job { raster, options } = file.job;
    let smallest = smallest(raster.channels());
    if raster.is_flat() {
        return smallest;
    }
    let bits = match options.coding() {
        WeightCoding::F16 => 16.0,
        WeightCoding::Compact => COMPACT_BITS,
    };
    let room = file.bytes.map_or(0, |bytes| file.room(&smallest, bytes));
    let weights = (room as f64 * 8.0 / bits) as usize;
    let mut layers = (1..=layers_for(weights, steps)).rev();
    layers.find_map(|layers| widest(raster.channels(), layers, weights)).unwrap_or(smallest)
}

/// Fewest and most bytes of a given network's weights in the compact coding.
pub(super) fn given_bytes(topology: &Topology) -> (f64, f64) {
    let weights = topology.weight_count() as f64;
    (weights * GIVEN_BITS.0 / 8.0, weights * GIVEN_BITS.1 / 8.0)
}

fn smallest(channels: Channels) -> Topology {
    Topology::uniform(channels, 1, 1).expect("one feature is within the limits")
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
