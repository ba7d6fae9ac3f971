//! From pixels to the bytes of a `.siren` file: what nobody sees is left out (`simplify`), the
//! options are looked through (`options`), a representation is chosen by size (`size`), `siren` or
//! `latents` train what fits and put it into a file (`file`), which goes through the decoder once
//! more (`verify`). `session` is what they share, `checkpoint` what is saved on the way. Opens no
//! files.

mod checkpoint;
mod file;
mod latents;
mod options;
mod session;
mod simplify;
mod siren;
mod size;
mod verify;

use std::time::{Duration, Instant};

use crate::container::{Container, Representation};
use crate::error::EncodeError;
use crate::network::Topology;
use crate::raster::Raster;
use crate::train::{Control, OptimizerChoice, Progress, TrainingDevice};
pub use checkpoint::Checkpoints;
use checkpoint::Trainings;
pub use options::{DEFAULT_QUALITY, EncodeOptions, Preset, Target};
use session::{Observer, Session};
use size::Job;

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
    observer: &mut Observer,
) -> Result<Encoded, EncodeError> {
    let started = Instant::now();
    // A profile of colours does not go with grey.
    let simple = simplify::simplified(raster, options.metadata.icc.is_some());
    let resumed = options.resume.as_ref().map(|file| file.topology.channels());
    let simple = simple.filter(|simple| resumed.is_none_or(|c| c == simple.channels()));
    let raster = simple.as_ref().unwrap_or(raster);
    options.check(raster)?;
    if checkpoints.is_some() {
        check_for_checkpoints(options)?;
    }
    let job = Job { raster, options };
    let representation = job.representation();
    let mut session = Session {
        job,
        device: TrainingDevice::new(options.training.device),
        trainings: Trainings::new(job, checkpoints)?,
        observer,
        stopped: false,
    };
    let attempt = match representation {
        Representation::Siren => siren::encode(&mut session)?,
        Representation::Grid => latents::encode(&mut session)?,
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
        device: session.device.name,
        device_failure: session.device.failure,
        elapsed: started.elapsed(),
    })
}

/// Refuses what cannot be gone on with to the same file.
fn check_for_checkpoints(options: &EncodeOptions) -> Result<(), EncodeError> {
    let refused = |reason: &str| Err(EncodeError::Settings(reason.into()));
    if options.training.timeout.is_some() {
        return refused("checkpoints do not go with a time-out");
    }
    if options.training.optimizer == OptimizerChoice::Adam {
        return refused("checkpoints do not go with Adam");
    }
    Ok(())
}
