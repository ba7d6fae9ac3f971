//! Latents for a wanted size or PSNR: sizes of the networks, the trainings it takes, rounding,
//! and the last bytes that make the file fit. How latents are trained is `train`'s matter.

use super::file::{Blank, Kind, SETTINGS_FROM};
use super::options::{DEFAULT_QUALITY, Target};
use super::session::{Attempt, Session};
use super::size::{Job, least_for_quality, rising};
use super::verify::decoded_psnr;
use crate::error::EncodeError;
use crate::rate::RateModel;
use crate::train::latents::{self, Goal, Length, Networks, Shape, Start, Trained};
use crate::train::{DeviceChoice, Training};
use siren_image::coding::payload::{Hidden, Payload};
use siren_image::container::Container;
use siren_image::latents::{Bases, Plane};
use siren_image::network::Topology;
use siren_image::raster::{Raster, decibels};
use siren_image::{Samples, Size};

/// What is trained for files of at least so many bytes (docs/experiments.md).
struct Sizes {
    bytes: f64,
    /// Features of the sine layer.
    sines: usize,
    /// Features of the hidden layers of the entropy model of splines.
    splines: [usize; 2],
    /// Planes of waves, in the place of the two finest levels of splines, and features of the
    /// hidden layers of their entropy model.
    waves: Option<(usize, [usize; 2])>,
}

impl Sizes {
    const fn of_splines(bytes: f64, sines: usize, splines: [usize; 2]) -> Self {
        Self { bytes, sines, splines, waves: None }
    }

    const fn of_waves(
        bytes: f64,
        sines: usize,
        splines: [usize; 2],
        waves: (usize, [usize; 2]),
    ) -> Self {
        Self { bytes, sines, splines, waves: Some(waves) }
    }
}

/// For photographs: the more bytes, the more planes of waves, which can be of colours of their own.
const PHOTOGRAPHS: [Sizes; 5] = [
    Sizes::of_splines(0.0, 12, [8, 8]),
    Sizes::of_splines(1_500.0, 20, [12, 8]),
    Sizes::of_waves(4_000.0, 24, [12, 8], (1, [8, 8])),
    Sizes::of_waves(14_000.0, 32, [12, 8], (2, [8, 8])),
    Sizes::of_waves(28_000.0, 32, [16, 16], (3, [12, 8])),
];
/// For drawings and text, whose edges waves would ring around, and for narrow pictures.
const OTHERS: [Sizes; 5] = [
    Sizes::of_splines(0.0, 12, [8, 8]),
    Sizes::of_splines(1_500.0, 20, [12, 8]),
    Sizes::of_splines(4_000.0, 32, [16, 16]),
    Sizes::of_splines(20_000.0, 32, [24, 24]),
    Sizes::of_splines(50_000.0, 48, [32, 32]),
];
/// Pixels of a cell of waves along an axis.
const CELL: usize = 8;
/// The finest level of splines beside waves.
const FINEST_BESIDE_WAVES: usize = 2;
/// Waves are for pictures whose shorter side has so many pixels.
const SIDE_FOR_WAVES: u32 = 32;
/// From this effort on they are for files of so many bytes: in long runs splines alone have caught up
/// where less is wanted (docs/experiments.md).
const LONG_RUNS_FROM: u8 = 5;
const BYTES_IN_LONG_RUNS: f64 = 28_000.0;
/// A picture is a drawing where this share of its pixels are as their neighbour is.
const DRAWN: f64 = 0.75;
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
const STEPS_PER_HALVING: u32 = 110;
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
/// What latents gain over a SIREN of as many bytes, in dB, for the first lambda.
const GAIN: f64 = 1.5;

/// Encodes the picture as latents.
pub(super) fn encode(session: &mut Session) -> Result<Attempt, EncodeError> {
    let Job { raster, options } = session.job;
    let earlier = options.resume.as_ref().map(Earlier::new).transpose()?;
    let mut plan = LatentPlan::new(session.job, earlier.as_ref())?;
    let mut best = plan.train(session, 1, earlier)?;
    let may_correct = options.training.timeout.is_none()
        && options.resume.is_none()
        && raster.size().pixels() <= CORRECTED_PIXELS;
    if may_correct {
        best = correct(session, &mut plan, best)?;
    }
    match options.target {
        Target::Psnr(wanted) => approach(session, &plan, wanted, best),
        _ => Ok(best),
    }
}

/// Runs that aim lower, while the file is far larger than its limit before bytes are taken away.
fn correct(
    session: &mut Session,
    plan: &mut LatentPlan,
    first: Attempt,
) -> Result<Attempt, EncodeError> {
    let far = FAR_BEYOND * plan.limit.unwrap_or_default() as f64;
    let mut last = (first.surplus, first.lambda);
    let mut best = first;
    for run in 2..2 + CORRECTIONS {
        let (surplus, lambda) = last;
        if surplus as f64 <= far {
            break;
        }
        let bits = (plan.bits - SURPLUS * 8.0 * surplus as f64).max(LEAST_BITS);
        plan.lambda = lambda * plan.bits / bits;
        (plan.bits, plan.goal) = (bits, Goal::Bits(bits));
        let next = match plan.train(session, run, None) {
            Err(EncodeError::Cancelled) => break,
            next => next?,
        };
        last = (next.surplus, next.lambda);
        if next.psnr > best.psnr {
            best = next;
        }
    }
    Ok(best)
}

/// Runs that end nearer to a PSNR, for the smallest file of it.
fn approach(
    session: &mut Session,
    plan: &LatentPlan,
    wanted: f64,
    first: Attempt,
) -> Result<Attempt, EncodeError> {
    let stopped_early = |attempt: &Attempt| attempt.steps_done < attempt.steps_planned;
    let mut stopped = stopped_early(&first);
    let (mut last, mut lambda) = (first.psnr, first.lambda);
    let mut goal = wanted + ABOVE;
    let mut best = first;
    for run in 2..2 + ROUNDS {
        if stopped || (wanted..wanted + NEAR).contains(&last) {
            break;
        }
        // What the last run missed its goal by is what this one aims higher or lower.
        goal += wanted + ABOVE - last;
        let far = (last - wanted).abs() > FAR;
        let length = if far { plan.length } else { plan.length.share(ROUND_STEPS) };
        lambda *= 10f64.powf((last - wanted) / 10.0);
        let plan = LatentPlan { goal: Goal::Psnr(goal), lambda, length, ..plan.clone() };
        let earlier = if far { None } else { Some(Earlier::new(&Container::read(&best.bytes)?)?) };
        let next = match plan.train(session, run, earlier) {
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
    if best.psnr >= wanted || session.job.options.best_effort {
        return Ok(best);
    }
    Err(if stopped { EncodeError::Cancelled } else { session.unreached(&best) })
}

/// What is trained, for which size of file.
#[derive(Clone)]
struct LatentPlan<'a> {
    job: Job<'a>,
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

impl<'a> LatentPlan<'a> {
    /// `earlier` is the file to resume.
    fn new(job: Job<'a>, earlier: Option<&Earlier>) -> Result<Self, EncodeError> {
        let Job { raster, options } = job;
        let training = &options.training;
        let model = RateModel::new(raster);
        let (payload, limit) = payload_and_limit(job, &model);
        let shape = match earlier {
            Some(earlier) => earlier.networks.shape,
            None => shape(raster, payload, training.effort, training.device),
        };
        let bits = bits(job, shape, payload, limit)?;
        let (goal, psnr) = match options.target {
            Target::Psnr(psnr) => (Goal::Psnr(psnr + ABOVE), psnr),
            // A few coefficients may be all that a drawing has.
            _ => {
                let psnr = (model.psnr(payload, training.effort) + GAIN).min(MOST_PSNR);
                (Goal::Bits(bits), psnr)
            }
        };
        // Where the squared error falls with one over the bits, this is its slope.
        let lambda = 10f64.powf(-psnr / 10.0) * raster.size().pixels() as f64 / bits;
        Ok(Self { job, limit, shape, goal, bits, lambda, length: Length::new(training) })
    }

    /// A training run and its file.
    fn train(
        &self,
        session: &mut Session,
        run: u32,
        earlier: Option<Earlier>,
    ) -> Result<Attempt, EncodeError> {
        session.train(run, |device, saved, observe| {
            let start = self.start(earlier);
            self.finish(&mut latents::train(self.job.raster, start, device, saved, observe)?)
        })
    }

    /// What a run starts from: `earlier`, else trained or random networks.
    fn start(&self, earlier: Option<Earlier>) -> Start {
        let training = &self.job.options.training;
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

    fn fits(&self, file: &[u8]) -> bool {
        self.limit.is_none_or(|limit| file.len() as u64 <= limit)
    }

    /// Rounds what was trained so that the file keeps to its limit.
    fn finish(&self, trained: &mut Trained<'_>) -> Result<Attempt, EncodeError> {
        let Job { raster, options } = self.job;
        let (done, planned) = (trained.steps_done, trained.steps_planned);
        let training = Training {
            steps: Some(planned),
            stop_after: (done < planned).then_some(done),
            ..options.training.clone()
        };
        let blank = Blank::of_latents(self.job, &training, self.limit);
        let topology =
            Topology::uniform(raster.channels(), 1, self.shape.sines).expect("within the limits");
        let networks = trained.round_networks();
        let file =
            |trained: &Trained| blank.container(&topology, trained.payload(&networks)).write();
        let whole = file(trained);
        let surplus = self.limit.map_or(0, |limit| whole.len().saturating_sub(limit as usize));
        let mut bytes = if self.fits(&whole) { whole } else { self.thin_out(trained, &file)? };
        let mut psnr = decoded_psnr(raster, &bytes)?;
        if let Some(earlier) = &options.resume {
            let before = blank.container(&topology, earlier.weights.clone()).write();
            let before_psnr = decoded_psnr(raster, &before)?;
            if self.fits(&before) && before_psnr > psnr {
                (bytes, psnr) = (before, before_psnr);
            }
        }
        if done < planned && psnr <= flat_psnr(raster) {
            return Err(EncodeError::Cancelled);
        }
        Ok(Attempt {
            bytes,
            psnr,
            steps_done: done,
            steps_planned: planned,
            lambda: trained.lambda,
            surplus: if done < planned { 0 } else { surplus },
            ..Attempt::default()
        })
    }

    /// Takes away what costs the picture least, until the file keeps to its limit.
    fn thin_out<'r>(
        &self,
        trained: &mut Trained<'r>,
        file: &impl Fn(&Trained<'r>) -> Vec<u8>,
    ) -> Result<Vec<u8>, EncodeError> {
        let (mut low, mut high) = (0.0, 1.0);
        let mut smallest = 0;
        while high < MOST_THINNING {
            let before = trained.latents();
            trained.thin_out(high);
            let mut bytes = file(trained);
            if !self.fits(&bytes) {
                (low, high) = (high, THINNING * high);
                smallest = bytes.len() as u64;
                continue;
            }
            for _ in 0..(trained.steps_done / STEPS_PER_HALVING).min(MOST_HALVINGS) {
                let middle = 0.5 * (low + high);
                trained.set_latents(&before);
                trained.thin_out(middle);
                let next = file(trained);
                if self.fits(&next) {
                    (high, bytes) = (middle, next);
                } else {
                    low = middle;
                }
            }
            return Ok(bytes);
        }
        Err(EncodeError::TooFewBytes { wanted: self.limit.unwrap_or_default(), smallest })
    }
}

impl<'a> Blank<'a> {
    /// A file of latents but for its payload.
    fn of_latents(job: Job<'a>, training: &'a Training, bytes: Option<u64>) -> Self {
        Self { job, bytes, kind: Kind::Latents(training) }
    }
}

/// Bytes of the payload that the target is expected to take, and most bytes of the file.
fn payload_and_limit(job: Job, model: &RateModel) -> (f64, Option<u64>) {
    let Job { raster, options } = job;
    let training = options.training.clone().longest();
    let most = MOST_BPP * raster.size().pixels() as f64 / 8.0;
    let range = (64.0, most.max(128.0));
    match (options.target, &options.resume) {
        (Target::Bpp(_) | Target::Bytes(_), _) => {
            let limit = job.file_bytes(options.target).expect("a size is wanted");
            let smallest = Topology::uniform(raster.channels(), 1, 1).expect("within the limits");
            let room = Blank::of_latents(job, &training, Some(limit)).room(&smallest, limit);
            (room as f64, Some(limit))
        }
        (Target::Quality(quality), _) => (model.bytes_of_quality(quality, range), None),
        (Target::Psnr(psnr), _) => (model.bytes_of_psnr(psnr - GAIN, training.effort, range), None),
        (Target::Auto, Some(file)) => {
            // As large as the file, with settings.
            let blank = Blank::of_latents(job, &training, Some(SETTINGS_FROM));
            let limit = blank.size(&file.topology, file.weights.len());
            (file.weights.len() as f64, Some(limit))
        }
        (Target::Auto, None) => (model.bytes_of_quality(DEFAULT_QUALITY, range), None),
    }
}

/// Bits of the latents in a payload of so many bytes.
///
/// # Errors
/// [`EncodeError::TooFewBytes`] where the limit leaves next to none.
fn bits(job: Job, shape: Shape, payload: f64, limit: Option<u64>) -> Result<f64, EncodeError> {
    let Job { raster, options } = job;
    let overhead = shape.weight_count() as f64 * WEIGHT_BITS / 8.0
        + shape.streams(raster.size()) as f64 * STREAM_BYTES;
    let aim = if limit.is_some() { AIM } else { 1.0 };
    let bits = match options.target {
        Target::Psnr(_) => 8.0 * payload,
        _ => 8.0 * (aim * payload - overhead),
    };
    if let Some(wanted) = limit
        && bits < LEAST_BITS
    {
        let smallest = wanted + (2.0 - bits / 8.0) as u64;
        return Err(EncodeError::TooFewBytes { wanted, smallest });
    }
    Ok(bits.max(match options.target {
        Target::Quality(quality) => least_bits(raster, quality),
        Target::Auto if limit.is_none() => least_bits(raster, DEFAULT_QUALITY),
        _ => LEAST_BITS,
    }))
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

/// Fewest bits of the latents for a quality: of a small picture, the model expects all of fewer bytes
/// than the networks take.
fn least_bits(raster: &Raster, quality: f64) -> f64 {
    rising(LEAST_BITS, 8.0 * least_for_quality(raster, 100.0), quality)
}

/// Sizes for a payload of about so many bytes.
fn shape(raster: &Raster, payload: f64, effort: u8, device: DeviceChoice) -> Shape {
    let size = raster.size();
    let narrow = size.width.min(size.height) < SIDE_FOR_WAVES;
    let caught_up = effort >= LONG_RUNS_FROM && payload < BYTES_IN_LONG_RUNS;
    // A GPU that is asked for trains no waves yet.
    let splines = narrow || caught_up || is_drawing(raster) || device == DeviceChoice::Gpu;
    let sizes = if splines { &OTHERS } else { &PHOTOGRAPHS };
    let largest = sizes.len() - usize::from(effort < LARGEST_FROM && sizes[4].waves.is_none());
    let fits = |sizes: &&Sizes| payload >= sizes.bytes;
    let sizes = sizes[..largest].iter().rev().find(fits).unwrap_or(&sizes[0]);
    let coarsest = ((size.longer_side().ilog2() as usize).saturating_sub(1)).clamp(1, LEVELS);
    let (waves, hidden) = sizes.waves.unzip();
    let finest = if waves.is_some() { FINEST_BESIDE_WAVES.min(coarsest - 1) } else { 0 };
    let bases = Bases::new(waves.unwrap_or(0), CELL, finest, coarsest - finest);
    let bases = bases.expect("within the limits");
    let hidden = Hidden { splines: sizes.splines, waves: hidden };
    Shape { bases, sines: sizes.sines, hidden, channels: raster.channels().count() }
}

/// Whether the picture consists of areas of one colour.
fn is_drawing(raster: &Raster) -> bool {
    let (size, channels) = (raster.size(), raster.channels().count());
    let row = size.width as usize * channels;
    let same = match raster.samples() {
        Samples::U8(samples) => same_as_before(samples, row, channels),
        Samples::U16(samples) => same_as_before(samples, row, channels),
    };
    let pairs = u64::from(size.width - 1) * u64::from(size.height);
    same as f64 >= DRAWN * pairs as f64
}

/// Pixels that are as the one before them in their row.
fn same_as_before<T: PartialEq>(samples: &[T], row: usize, channels: usize) -> usize {
    let same = |row: &[T]| {
        let pairs = row.chunks_exact(channels).zip(row[channels..].chunks_exact(channels));
        pairs.filter(|(before, pixel)| before == pixel).count()
    };
    samples.chunks_exact(row).map(same).sum()
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
        let channels = file.topology.channels().count();
        let networks = Networks::of_file(payload.networks(), payload.bases(), channels);
        Ok(Self { networks, planes: payload.decode(0, None)? })
    }
}
