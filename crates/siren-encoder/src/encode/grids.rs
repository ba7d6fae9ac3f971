//! Latent grids for a wanted size or PSNR: sizes of the networks, training, rounding, and the
//! last bytes that make the file fit.

use super::checkpoint::Trainings;
use super::{Attempt, Blank, EncodeOptions, Target, decoded_psnr};
use crate::error::EncodeError;
use crate::rate::Model;
use crate::train::latents::{self, Goal, Length, Networks, Shape, Start, Trained};
use crate::train::{Control, Progress, Training, TrainingDevice};
use siren_image::Size;
use siren_image::coding::grids::Payload;
use siren_image::container::{Container, Representation};
use siren_image::grids::Plane;
use siren_image::network::Topology;
use siren_image::raster::{Raster, decibels};

/// Sizes of the networks: features of the sine layer and of the two layers of the entropy
/// model, for files of at least so many bytes (docs/experiments.md).
const SIZES: [(f64, usize, [usize; 2]); 5] = [
    (0.0, 12, [8, 8]),
    (1_500.0, 20, [12, 8]),
    (4_000.0, 32, [16, 16]),
    (20_000.0, 32, [24, 24]),
    (50_000.0, 48, [32, 32]),
];
/// The largest networks take a third more time a step, which short runs have no use for: they are
/// of this effort and more.
const LARGEST_FROM: u8 = 4;
/// Bits of a weight.
const WEIGHT_BITS: f64 = 7.0;
/// Bytes of a stream that are neither latents nor weights: its length and its end.
const STREAM_BYTES: f64 = 3.0;
/// Most levels; small pictures have fewer, so that the coarsest is a few latents wide.
const LEVELS: usize = 7;
/// Fewest bits of the latents that are aimed at.
const LEAST_BITS: f64 = 64.0;
/// Share of the bits left after all else that latents are trained for where a limit is set.
const AIM: f64 = 0.985;
/// What exceeds the limit is taken away in rounds, each with so many times the lambda of the
/// one before it; the last, of so many times the first, leave nothing.
const THINNING: f64 = 1.5;
const MOST_THINNING: f64 = 1e7;
/// The lambda of the round after which it fits is then found by halving: once for so many steps
/// of the run, and at most so often.
const STEPS_PER_HALVING: u32 = 80;
const MOST_HALVINGS: u32 = 5;
/// A run whose file was larger than its limit by more than this share of it is followed by another
/// that aims lower by so many times the surplus, at most so often, for pictures of at most so many
/// pixels: of small ones the networks are a large part, whose bytes are guessed, and taking away
/// costs decibels.
const FAR_BEYOND: f64 = 0.01;
const SURPLUS: f64 = 0.7;
const CORRECTIONS: u32 = 2;
const CORRECTED_PIXELS: u64 = 1 << 17;
/// A run for a PSNR aims so many dB above it, and goes on so often where it does not end
/// between it and so much above.
const ABOVE: f64 = 0.05;
const NEAR: f64 = 0.15;
const ROUNDS: u32 = 3;
/// Each such run goes on for this share of the first one's steps; one that is so many dB off
/// begins anew.
const ROUND_STEPS: f64 = 0.25;
const FAR: f64 = 0.7;
/// No PSNR lies more than this many bits per pixel away.
const MOST_BPP: f64 = 16.0;
/// The first lambda is for no more than this PSNR in dB.
const MOST_PSNR: f64 = 50.0;
/// What grids gain over a SIREN of as many bytes, in dB, for the first lambda.
const GAIN: f64 = 1.5;

/// Encodes `raster` as latent grids.
pub(super) fn attempt(
    raster: &Raster,
    options: &EncodeOptions,
    device: &mut TrainingDevice,
    trainings: &mut Trainings,
    observe: &mut dyn FnMut(&Progress) -> Control,
) -> Result<Attempt, EncodeError> {
    let earlier = options.resume.as_ref().map(Earlier::new).transpose()?;
    let mut plan = Plan::new(raster, options, earlier.as_ref())?;
    let mut best = plan.train(earlier, device, trainings, observe)?;
    let may_correct = options.training.timeout.is_none()
        && options.resume.is_none()
        && raster.size().pixels() <= CORRECTED_PIXELS;
    let mut last = (best.surplus, best.lambda);
    for run in 2..2 + CORRECTIONS {
        let (surplus, lambda) = last;
        let far = FAR_BEYOND * plan.limit.unwrap_or_default() as f64;
        if !may_correct || surplus as f64 <= far {
            break;
        }
        let bits = (plan.bits - SURPLUS * 8.0 * surplus as f64).max(LEAST_BITS);
        plan.lambda = lambda * plan.bits / bits;
        (plan.bits, plan.goal) = (bits, Goal::Bits(bits));
        let mut observe = |progress: &Progress| observe(&Progress { run, ..*progress });
        let next = match plan.train(None, device, trainings, &mut observe) {
            Err(EncodeError::Cancelled) => break,
            next => next?,
        };
        last = (next.surplus, next.lambda);
        if next.psnr > best.psnr {
            best = next;
        }
    }
    let Target::Psnr(wanted) = options.target else { return Ok(best) };
    let stopped_early = |attempt: &Attempt| attempt.steps_done < attempt.steps_planned;
    let mut stopped = stopped_early(&best);
    let (mut last, mut lambda) = (best.psnr, best.lambda);
    let mut goal = wanted + ABOVE;
    for run in 2..2 + ROUNDS {
        if stopped || (wanted..wanted + NEAR).contains(&last) {
            break;
        }
        // What the last run missed its goal by is what this one aims higher or lower.
        goal += wanted + ABOVE - last;
        let far = (last - wanted).abs() > FAR;
        let length = if far { plan.length } else { plan.length.share(ROUND_STEPS) };
        lambda *= 10f64.powf((last - wanted) / 10.0);
        let plan = Plan { goal: Goal::Psnr(goal), lambda, length, ..plan.clone() };
        let mut observe = |progress: &Progress| observe(&Progress { run, ..*progress });
        let earlier = if far { None } else { Some(Earlier::new(&Container::read(&best.bytes)?)?) };
        let next = match plan.train(earlier, device, trainings, &mut observe) {
            Err(EncodeError::Cancelled) => break,
            next => next?,
        };
        stopped = stopped_early(&next);
        (last, lambda) = (next.psnr, next.lambda);
        let better = match (best.psnr >= wanted, next.psnr >= wanted) {
            (true, true) => next.bytes.len() < best.bytes.len(),
            (true, false) => false,
            _ => next.psnr > best.psnr,
        };
        if better {
            best = next;
        }
    }
    if best.psnr < wanted && !options.best_effort {
        if stopped {
            return Err(EncodeError::Cancelled);
        }
        let (best, bytes) = (best.psnr, best.bytes.len() as u64);
        return Err(EncodeError::PsnrUnreached { wanted, best, bytes });
    }
    Ok(best)
}

/// What is trained, for which size of file.
#[derive(Clone)]
struct Plan<'a> {
    raster: &'a Raster,
    options: &'a EncodeOptions,
    /// Most bytes of the file.
    limit: Option<u64>,
    /// Sizes of the networks and levels.
    shape: Shape,
    goal: Goal,
    /// Bits of the latents, as far as they are known.
    bits: f64,
    lambda: f64,
    length: Length,
}

impl<'a> Plan<'a> {
    /// `earlier` is the file to resume.
    fn new(
        raster: &'a Raster,
        options: &'a EncodeOptions,
        earlier: Option<&Earlier>,
    ) -> Result<Self, EncodeError> {
        let pixels = raster.size().pixels() as f64;
        let training = &options.training;
        let model = Model::new(raster);
        let range = (64.0, (MOST_BPP * pixels / 8.0).max(128.0));
        let (payload, limit) = match options.target {
            Target::Bpp(_) | Target::Bytes(_) => {
                let limit = options.target.file_bytes(raster, options).expect("a size is wanted");
                (room(raster, options, limit) as f64, Some(limit))
            }
            Target::Quality(quality) => (model.bytes_of_quality(quality, range), None),
            Target::Psnr(psnr) => (model.bytes_of_psnr(psnr - GAIN, training.effort, range), None),
            Target::Auto => match &options.resume {
                Some(file) => {
                    // As large as the file, with settings.
                    let longest = super::longest(training);
                    let limit = blank(raster, options, &longest, Some(super::SETTINGS_FROM))
                        .size(&file.topology, file.weights.len());
                    (file.weights.len() as f64, Some(limit))
                }
                None => (model.bytes_of_quality(super::DEFAULT_QUALITY, range), None),
            },
        };
        let shape = match earlier {
            Some(earlier) => earlier.networks.shape(),
            None => shape(raster, payload, training.effort),
        };
        let overhead = shape.weight_count() as f64 * WEIGHT_BITS / 8.0
            + shape.streams(raster.size()) as f64 * STREAM_BYTES;
        let aim = if limit.is_some() { AIM } else { 1.0 };
        let bits = match options.target {
            Target::Psnr(_) => 8.0 * payload,
            _ => 8.0 * (aim * payload - overhead),
        };
        if let Some(limit) = limit
            && bits < LEAST_BITS
        {
            let smallest = limit + (2.0 - bits / 8.0) as u64;
            return Err(EncodeError::TooFewBytes { wanted: limit, smallest });
        }
        let least = match options.target {
            Target::Quality(quality) => least_bits(raster, quality),
            Target::Auto if limit.is_none() => least_bits(raster, super::DEFAULT_QUALITY),
            _ => LEAST_BITS,
        };
        let bits = bits.max(least);
        let goal = match options.target {
            Target::Psnr(psnr) => Goal::Psnr(psnr + ABOVE),
            _ => Goal::Bits(bits),
        };
        let psnr = match options.target {
            Target::Psnr(psnr) => psnr,
            // A few coefficients may be all that a drawing has.
            _ => (model.psnr(payload, training.effort) + GAIN).min(MOST_PSNR),
        };
        // Where the squared error falls with one over the bits, this is its slope.
        let lambda = 10f64.powf(-psnr / 10.0) * pixels / bits;
        Ok(Self {
            raster,
            options,
            limit,
            shape,
            goal,
            bits,
            lambda,
            length: Length::new(training),
        })
    }

    /// A training run and its file.
    fn train(
        &self,
        earlier: Option<Earlier>,
        device: &mut TrainingDevice,
        trainings: &mut Trainings,
        observe: &mut dyn FnMut(&Progress) -> Control,
    ) -> Result<Attempt, EncodeError> {
        trainings.next(observe, |saved, observe| {
            self.finish(&mut latents::train(
                self.raster,
                self.start(earlier),
                device,
                saved,
                observe,
            )?)
        })
    }

    /// What a run starts from: `earlier`, else trained or random networks.
    fn start(&self, earlier: Option<Earlier>) -> Start {
        let training = &self.options.training;
        let (networks, planes) = match earlier {
            Some(Earlier { networks, planes }) => (networks, Some(planes)),
            None => (latents::networks(self.shape, self.lambda, training.seed), None),
        };
        Start {
            networks,
            planes,
            goal: self.goal,
            bits: self.bits,
            lambda: self.lambda,
            length: self.length,
            stop_after: training.stop_after,
            timeout: training.timeout,
            seed: training.seed,
        }
    }

    /// Rounds what was trained so that the file keeps to its limit.
    fn finish(&self, trained: &mut Trained<'_>) -> Result<Attempt, EncodeError> {
        let (done, planned) = (trained.steps_done, trained.steps_planned);
        let training = Training {
            steps: Some(planned),
            stop_after: (done < planned).then_some(done),
            ..self.options.training.clone()
        };
        let blank = blank(self.raster, self.options, &training, self.limit);
        let topology = Topology::uniform(self.raster.channels(), 1, self.shape.sines)
            .expect("within the limits");
        let networks = trained.round_networks();
        let file =
            |trained: &Trained| blank.container(&topology, trained.payload(&networks)).write();
        let fits = |file: &[u8]| self.limit.is_none_or(|limit| file.len() as u64 <= limit);
        let mut bytes = file(trained);
        let surplus = self.limit.map_or(0, |limit| bytes.len().saturating_sub(limit as usize));
        let (mut low, mut high) = (0.0, 1.0);
        while !fits(&bytes) && high < MOST_THINNING {
            let before = trained.latents();
            trained.thin_out(high);
            bytes = file(trained);
            if !fits(&bytes) {
                (low, high) = (high, THINNING * high);
                continue;
            }
            for _ in 0..(done / STEPS_PER_HALVING).min(MOST_HALVINGS) {
                let middle = 0.5 * (low + high);
                trained.set_latents(&before);
                trained.thin_out(middle);
                let next = file(trained);
                if fits(&next) {
                    (high, bytes) = (middle, next);
                } else {
                    low = middle;
                }
            }
        }
        if !fits(&bytes) {
            let limit = self.limit.unwrap_or_default();
            return Err(EncodeError::TooFewBytes { wanted: limit, smallest: bytes.len() as u64 });
        }
        let mut psnr = decoded_psnr(self.raster, &bytes)?;
        if let Some(file) = &self.options.resume {
            let before = blank.container(&topology, file.weights.clone()).write();
            let before_psnr = decoded_psnr(self.raster, &before)?;
            if fits(&before) && before_psnr > psnr {
                (bytes, psnr) = (before, before_psnr);
            }
        }
        if done < planned && psnr <= flat_psnr(self.raster) {
            return Err(EncodeError::Cancelled);
        }
        Ok(Attempt {
            bytes,
            psnr,
            steps_done: done,
            steps_planned: planned,
            recoveries: 0,
            single_colour: false,
            lambda: trained.lambda,
            surplus: if done < planned { 0 } else { surplus },
        })
    }
}

/// A file but for its payload.
fn blank<'a>(
    raster: &'a Raster,
    options: &'a EncodeOptions,
    training: &'a Training,
    bytes: Option<u64>,
) -> Blank<'a> {
    Blank { raster, options, training, bytes, representation: Representation::Grid }
}

/// PSNR in dB of the picture's mean colour.
fn flat_psnr(raster: &Raster) -> f64 {
    let channels = raster.channels().count();
    let (mut sums, mut squares) = (vec![0.0; channels], 0.0);
    for index in 0..raster.sample_count() {
        let sample = f64::from(raster.unit(index));
        sums[index % channels] += sample;
        squares += sample * sample;
    }
    let pixels = raster.size().pixels() as f64;
    let of_means: f64 = sums.iter().map(|sum| sum * sum / pixels).sum();
    decibels((squares - of_means) / raster.sample_count() as f64)
}

/// Most bytes of the payload in a file of `limit` bytes.
fn room(raster: &Raster, options: &EncodeOptions, limit: u64) -> usize {
    let longest = super::longest(&options.training);
    let blank = blank(raster, options, &longest, Some(limit));
    blank.room(&Topology::uniform(raster.channels(), 1, 1).expect("within the limits"), limit)
}

/// Fewest bits of the latents for a quality: of a small picture, the model expects all of fewer bytes
/// than the networks take.
fn least_bits(raster: &Raster, quality: f64) -> f64 {
    super::rising(LEAST_BITS, 8.0 * super::least_for_quality(raster, 100.0), quality)
}

/// Sizes for a payload of about so many bytes.
fn shape(raster: &Raster, payload: f64, effort: u8) -> Shape {
    let sizes = if effort < LARGEST_FROM { &SIZES[..SIZES.len() - 1] } else { &SIZES[..] };
    let &(_, sines, hidden) =
        sizes.iter().rev().find(|(least, ..)| payload >= *least).unwrap_or(&SIZES[0]);
    let longer = raster.size().longer_side();
    let levels = ((longer.ilog2() as usize).saturating_sub(1)).clamp(1, LEVELS);
    Shape { levels, sines, hidden, channels: raster.channels().count() }
}

/// A file to train on.
struct Earlier {
    networks: Networks,
    planes: Vec<Plane>,
}

impl Earlier {
    fn new(file: &Container) -> Result<Self, EncodeError> {
        let size = Size { width: file.width, height: file.height };
        let payload = Payload::read(file.weights.clone(), size, &file.topology)?;
        let networks = Networks::of_file(payload.networks(), file.topology.channels().count());
        Ok(Self { networks, planes: payload.decode(0, None)? })
    }
}
