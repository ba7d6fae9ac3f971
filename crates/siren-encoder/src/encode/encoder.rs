//! What a program holds: an [`Encoder`] that is told how to encode, an [`Encoding`] that is watched
//! while it does, and the way from the picture through the other rooms to the finished file.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::checkpoint::{Checkpoints, Trainings};
use super::options::{Options, Representation, Target};
use super::session::{Observer, Session};
use super::size::Job;
use super::{Encoded, latents, simplify, siren};
use crate::error::EncodeError;
use crate::train::{Accelerator, Control, DeviceChoice, Progress, TrainingDevice};
use siren_image::Raster;
use siren_image::container::{self, Container, Metadata};

/// Encodes pictures as it has been told to; knows defaults for all of it.
///
/// What it is told stays, so that one encoder serves for many pictures.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use siren_encoder::Encoder;
/// use siren_image::{Channels, Raster, Samples, Size};
///
/// let size = Size { width: 16, height: 8 };
/// let ramp = (0..16 * 8).map(|i| (i % 16) * 16).collect();
/// let raster = Raster::new(size, Channels::Grey, Samples::U8(ramp)).unwrap();
/// let encoded = Encoder::new().bytes(200).steps(50).encode(&raster)?;
/// assert!(encoded.bytes.len() <= 200);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "an encoder does nothing before `encode`"]
pub struct Encoder {
    options: Options,
    accelerator: Option<Arc<dyn Accelerator>>,
}

impl Encoder {
    /// An encoder of quality 60 ([`DEFAULT_QUALITY`](super::DEFAULT_QUALITY)) and effort 3.
    pub fn new() -> Self {
        Self::default()
    }

    /// How large the file becomes; the latest of this, [`quality`](Self::quality),
    /// [`psnr`](Self::psnr), [`bpp`](Self::bpp) and [`bytes`](Self::bytes) holds.
    pub fn target(mut self, target: Target) -> Self {
        self.options.target = target;
        self
    }

    /// As many bytes as the picture deserves at a quality from 1 to 100: [`Target::Quality`].
    pub fn quality(self, quality: f64) -> Self {
        self.target(Target::Quality(quality))
    }

    /// At least so many dB of PSNR, in few bytes: [`Target::Psnr`].
    pub fn psnr(self, decibels: f64) -> Self {
        self.target(Target::Psnr(decibels))
    }

    /// At most so many bits per pixel: [`Target::Bpp`].
    pub fn bpp(self, bits: f64) -> Self {
        self.target(Target::Bpp(bits))
    }

    /// At most so many bytes: [`Target::Bytes`].
    pub fn bytes(self, bytes: u64) -> Self {
        self.target(Target::Bytes(bytes))
    }

    /// Whether to keep the best result where [`Target::Psnr`] is not reached.
    pub fn best_effort(mut self, best_effort: bool) -> Self {
        self.options.best_effort = best_effort;
        self
    }

    /// How the picture is represented: takes [`SirenOptions`](super::SirenOptions) and
    /// [`LatentOptions`](super::LatentOptions) too.
    pub fn representation(mut self, representation: impl Into<Representation>) -> Self {
        self.options.representation = representation.into();
        self
    }

    /// Trains the network of this file on instead of a new one; it sets the topology. In the
    /// same weight coding the result is never worse than this.
    pub fn resume(mut self, file: Container) -> Self {
        self.options.resume = Some(file);
        self
    }

    /// How long to train, 1 (about a second) to 9 (all that is known); 3 by default.
    pub fn effort(mut self, effort: u8) -> Self {
        self.options.training.effort = effort;
        self
    }

    /// Length of the training in steps, at least 1, instead of the effort's.
    pub fn steps(mut self, steps: u32) -> Self {
        self.options.training.steps = Some(steps);
        self
    }

    /// Stops after so many of the steps, at least 1, with the learning rate of the whole run.
    pub fn stop_after(mut self, steps: u32) -> Self {
        self.options.training.stop_after = Some(steps);
        self
    }

    /// Seed of the initial weights and of the order of the pixels; 0 by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.training.seed = seed;
        self
    }

    /// Trains no longer than this; the training is shortened to end in time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.training.timeout = Some(timeout);
        self
    }

    /// Where to train. [`DeviceChoice::Cuda`] and [`DeviceChoice::Metal`] train nothing but SIRENs.
    pub fn device(mut self, device: DeviceChoice) -> Self {
        self.options.training.device = device;
        self
    }

    /// What opens a GPU for [`DeviceChoice::Auto`] and [`DeviceChoice::Gpu`]; without one, the first is
    /// the CPU or candle's device and the second an error. The crate `siren-gpu` has one.
    pub fn accelerator(mut self, accelerator: Arc<dyn Accelerator>) -> Self {
        self.accelerator = Some(accelerator);
        self
    }

    /// Metadata to store. Its `settings` are filled in by the encoder.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.options.metadata = metadata;
        self
    }

    /// The metadata to store, to change a part of it.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.options.metadata
    }

    /// Whether to leave out name, settings and seed of the encoder, and the training omega_0, as
    /// files of less than 1,024 bytes always do.
    pub fn omit_settings(mut self, omit: bool) -> Self {
        self.options.omit_settings = omit;
        self
    }

    /// Has `observe` called after every training step; it may end the training, which keeps the
    /// best result so far.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::atomic::{AtomicBool, Ordering};
    ///
    /// use siren_encoder::{Control, EncodeError, Encoder};
    /// use siren_image::{Channels, Raster, Samples, Size};
    ///
    /// // Another thread sets it, when somebody presses a button.
    /// let cancelled = AtomicBool::new(false);
    /// # let size = Size { width: 32, height: 8 };
    /// # let ramp = (0..32 * 8).map(|i| (i % 32) as u8 * 8).collect();
    /// # let raster = Raster::new(size, Channels::Grey, Samples::U8(ramp)).unwrap();
    /// let encoding = Encoder::new().bytes(200).steps(90).on_progress(|at| {
    ///     println!("run {}: {} of {} steps, {:.2} dB", at.run, at.step, at.steps, at.psnr);
    ///     # cancelled.store(at.step == 60, Ordering::Relaxed);
    ///     if cancelled.load(Ordering::Relaxed) { Control::Stop } else { Control::Continue }
    /// });
    /// match encoding.encode(&raster) {
    ///     Ok(encoded) if encoded.steps_done < encoded.steps_planned => println!("the best so far"),
    ///     Ok(_) => println!("done"),
    ///     Err(EncodeError::Cancelled) => println!("nothing worth keeping yet"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_progress<'a>(self, observe: impl FnMut(&Progress) -> Control + 'a) -> Encoding<'a> {
        Encoding::new(self).on_progress(observe)
    }

    /// Saves checkpoints on the way, or goes on from one. Going on gives the file of a run without
    /// a break, byte for byte on the same kind of machine.
    pub fn checkpoints(self, checkpoints: Checkpoints<'_>) -> Encoding<'_> {
        Encoding::new(self).checkpoints(checkpoints)
    }

    /// Encodes `raster`, without what nobody sees of it: alpha that is opaque everywhere, colours
    /// under transparent pixels, and, where there is no ICC profile, the colours of a picture that
    /// is grey. With alpha, errors are those of premultiplied colours.
    ///
    /// The file is decoded once more before it is returned.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn encode(&self, raster: &Raster) -> Result<Encoded, EncodeError> {
        encode(self, raster, None, &mut |_| Control::Continue)
    }
}

/// An encode that is watched on its way: what [`Encoder::on_progress`] and [`Encoder::checkpoints`]
/// begin.
#[must_use = "nothing is encoded before `encode`"]
pub struct Encoding<'a> {
    encoder: Encoder,
    observer: Box<Observer<'a>>,
    checkpoints: Option<Checkpoints<'a>>,
}

impl<'a> Encoding<'a> {
    fn new(encoder: Encoder) -> Self {
        Self { encoder, observer: Box::new(|_| Control::Continue), checkpoints: None }
    }

    /// As [`Encoder::on_progress`].
    pub fn on_progress(self, observe: impl FnMut(&Progress) -> Control + 'a) -> Self {
        Self { observer: Box::new(observe), ..self }
    }

    /// As [`Encoder::checkpoints`].
    pub fn checkpoints(self, checkpoints: Checkpoints<'a>) -> Self {
        Self { checkpoints: Some(checkpoints), ..self }
    }

    /// Encodes `raster` as [`Encoder::encode`] does.
    ///
    /// # Errors
    /// [`EncodeError::Cancelled`] where the observer stopped before there was anything worth
    /// keeping. With checkpoints, [`EncodeError::CheckpointDamaged`] and
    /// [`EncodeError::CheckpointMismatch`] before any training; [`EncodeError::Settings`] with a
    /// time-out, which makes the result depend on the clock. Others as of [`Encoder::encode`].
    pub fn encode(self, raster: &Raster) -> Result<Encoded, EncodeError> {
        let Self { encoder, mut observer, checkpoints } = self;
        encode(&encoder, raster, checkpoints, &mut *observer)
    }
}

impl Debug for Encoding<'_> {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.debug_struct("Encoding").field("encoder", &self.encoder).finish_non_exhaustive()
    }
}

/// From the picture to the finished file.
fn encode(
    encoder: &Encoder,
    raster: &Raster,
    checkpoints: Option<Checkpoints>,
    observer: &mut Observer,
) -> Result<Encoded, EncodeError> {
    let started = Instant::now();
    let Encoder { options, accelerator } = encoder;
    // A profile of colours does not go with grey.
    let simple = simplify::simplified(raster, options.metadata.icc.is_some());
    let resumed = options.resume.as_ref().map(|file| file.topology.channels());
    let simple = simple.filter(|simple| resumed.is_none_or(|c| c == simple.channels()));
    let raster = simple.as_ref().unwrap_or(raster);
    options.check(raster)?;
    if checkpoints.is_some() {
        options.check_for_checkpoints()?;
    }
    let job = Job { raster, options };
    let representation = job.representation();
    let mut session = Session {
        job,
        device: TrainingDevice::new(options.training.device, accelerator.clone()),
        trainings: Trainings::new(job, checkpoints)?,
        observer,
        stopped: false,
    };
    let attempt = match representation {
        container::Representation::Siren => siren::encode(&mut session)?,
        container::Representation::Latents => latents::encode(&mut session)?,
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
        device: session.device.name(),
        device_failure: session.device.failure(),
        elapsed: started.elapsed(),
    })
}
