//! One SIREN for a wanted size or PSNR: its topology, the trainings it takes, and its weights in
//! their coding. How a network is trained is `train`'s matter.

mod plan;

use std::time::{Duration, Instant};

use super::file::Blank;
use super::options::Target;
use super::session::{Attempt, Session};
use super::size::{Job, PSNR_LEAST_BYTES};
use super::verify::decoded_psnr;
use crate::error::EncodeError;
use crate::quantize;
use crate::rate::RateModel;
use crate::train::siren::Trained;
use crate::train::{self, Observe, SirenTraining, Training, TrainingDevice};
use plan::{SirenPlan, given_bytes};
use siren_image::Raster;
use siren_image::coding::{self, compact};
use siren_image::container::WeightCoding;
use siren_image::network::Siren;

/// A PSNR is out of reach where so many bits per pixel do not reach it, though at least 64 KiB
/// and at most 256 KiB are tried.
const REACH_BPP: f64 = 2.0;
const REACH_BYTES: (f64, f64) = (65_536.0, 262_144.0);
/// A search aims so many dB above the wanted PSNR, and ends so near above it.
const AIM: f64 = 0.04;
const NEAR: f64 = 0.12;
/// A search ends after so many runs, once it has a result.
const RUNS: u32 = 5;
/// Sizes of two runs differ by this factor at least.
const APART: f64 = 1.025;
/// Share of a time-out after which no other run begins.
const LAST_RUN: f64 = 0.6;
/// Where a network of less than so many weights ends depends on its start, and a run takes
/// seconds: without a time-out, the best of so many is kept.
const STARTS_BELOW: usize = 700;
const STARTS: u32 = 4;

/// Encodes the picture as one SIREN.
pub(super) fn encode(session: &mut Session) -> Result<Attempt, EncodeError> {
    let options = session.job.options;
    let training = options.siren_training();
    match options.target {
        Target::Psnr(wanted) => search(session, wanted, &training),
        target => attempt(session, target, &training, None),
    }
}

/// Trains a network for a target other than a PSNR: the best of several starts where it is so
/// small that it depends on them. The observer is told the number of the start, or `run`.
fn attempt(
    session: &mut Session,
    target: Target,
    training: &SirenTraining,
    run: Option<u32>,
) -> Result<Attempt, EncodeError> {
    let job = session.job;
    let plan = SirenPlan::new(job, target)?;
    let small = plan.topology.weight_count() < STARTS_BELOW;
    let given = job.options.hidden().is_some() || job.options.resume.is_some();
    let once = given || training.common.timeout.is_some() || job.raster.is_flat();
    let starts = if small && !once { STARTS } else { 1 };
    let mut best: Option<Attempt> = None;
    for start in 0..starts {
        let seed = training.common.seed.wrapping_add(start.into());
        let training = training.clone().with(|common| Training { seed, ..common });
        let this = session.train(run.unwrap_or(start + 1), |device, saved, observe| {
            let trained = plan.train(job, &training, device, saved, observe)?;
            plan.code(job, training, &trained)
        });
        let this = match this {
            Err(EncodeError::Cancelled) if best.is_some() => break,
            this => this?,
        };
        if best.as_ref().is_none_or(|best| this.psnr > best.psnr) {
            best = Some(this);
        }
        if session.stopped {
            break;
        }
    }
    best.ok_or(EncodeError::Cancelled)
}

impl SirenPlan {
    /// A training run.
    fn train(
        &self,
        job: Job,
        training: &SirenTraining,
        device: &mut TrainingDevice,
        saved: Option<&[u8]>,
        observe: &mut Observe,
    ) -> Result<Trained, EncodeError> {
        let resumed = job.options.resume.as_ref();
        let resumed: Option<Siren> = resumed
            .map(|file| coding::decode(file.coding, &file.topology, &file.weights))
            .transpose()?;
        let start = train::siren::Start {
            raster: job.raster,
            topology: &self.topology,
            initial: resumed.as_ref(),
            budget: self.budget,
            training,
        };
        train::siren::train(&start, device, saved, observe)
    }

    /// The file of a training run; that of the network it began with where this is better.
    fn code(
        &self,
        job: Job,
        training: SirenTraining,
        trained: &Trained,
    ) -> Result<Attempt, EncodeError> {
        let Job { raster, options } = job;
        let Self { topology, bytes: most, .. } = self;
        let &Trained { steps_done, steps_planned, .. } = trained;
        let cut_short = (1..steps_planned).contains(&steps_done);
        let stop_after = cut_short.then_some(steps_done);
        let steps = Some(steps_planned);
        let training = training.with(|common| Training { steps, stop_after, ..common });
        let file = Blank::of_siren(job, &training, *most);
        let weights = match options.coding() {
            WeightCoding::F16 => coding::f16::encode(&trained.siren),
            WeightCoding::Compact => {
                let room = most.map_or(usize::MAX, |most| file.room(topology, most));
                compact_weights(raster, trained, room)
            }
        };
        let mut bytes = file.container(topology, weights).write();
        let mut psnr = decoded_psnr(raster, &bytes)?;
        if let Some(before) = &options.resume
            && before.coding == options.coding()
        {
            let before = file.container(topology, before.weights.clone()).write();
            let before_psnr = decoded_psnr(raster, &before)?;
            let fits = most.is_none_or(|most| before.len() as u64 <= most);
            if fits && before_psnr > psnr {
                (bytes, psnr) = (before, before_psnr);
            }
        }
        Ok(Attempt {
            bytes,
            psnr,
            steps_done,
            steps_planned,
            recoveries: trained.recoveries,
            single_colour: trained.single_colour,
            ..Attempt::default()
        })
    }
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

/// Trains networks of several sizes for the smallest file of a PSNR. The first size is the
/// model's; what a run shows the model to be off by for this picture leads to the next.
fn search(
    session: &mut Session,
    wanted: f64,
    training: &SirenTraining,
) -> Result<Attempt, EncodeError> {
    let job = session.job;
    let mut search = Search::new(job, wanted, training)?;
    let mut bytes = search.first();
    for run in 1.. {
        let target = search.target(bytes);
        let this = match attempt(session, target, &search.training(), Some(run)) {
            Err(EncodeError::Cancelled) if search.has_any() => break,
            this => this?,
        };
        let psnr = this.psnr;
        search.keep(this, bytes);
        let fixed = target == Target::Auto || job.raster.is_flat();
        if session.stopped || fixed || search.is_over(run, psnr) {
            break;
        }
        match search.next(run, bytes, psnr) {
            Some(next) => bytes = next,
            None => break,
        }
    }
    let Search { found, failed, .. } = search;
    if let Some(found) = found {
        return Ok(found);
    }
    let best = failed.ok_or(EncodeError::Cancelled)?;
    match (job.options.best_effort, session.stopped) {
        (true, _) => Ok(best),
        (false, true) => Err(EncodeError::Cancelled),
        (false, false) => Err(session.unreached(&best)),
    }
}

/// A search for the smallest file of a PSNR, by the bytes of the weights.
struct Search<'a> {
    job: Job<'a>,
    training: &'a SirenTraining,
    started: Instant,
    model: RateModel,
    wanted: f64,
    /// Whether the size can be chosen.
    sized: bool,
    /// Fewest and most bytes.
    range: (f64, f64),
    /// Sizes known to be too small and to suffice.
    low: f64,
    high: f64,
    /// The latest that suffices, and the best that does not.
    found: Option<Attempt>,
    failed: Option<Attempt>,
}

impl<'a> Search<'a> {
    fn new(job: Job<'a>, wanted: f64, training: &'a SirenTraining) -> Result<Self, EncodeError> {
        let given = job.options.given(job.raster)?;
        let reach = REACH_BPP * job.raster.size().pixels() as f64 / 8.0;
        let range = match &given {
            Some(topology) => given_bytes(topology),
            None => {
                let useful = job.useful_bytes() as f64;
                (PSNR_LEAST_BYTES, reach.clamp(REACH_BYTES.0, REACH_BYTES.1).min(useful))
            }
        };
        Ok(Self {
            job,
            training,
            started: Instant::now(),
            model: RateModel::new(job.raster),
            wanted,
            sized: job.options.coding() == WeightCoding::Compact || given.is_none(),
            range,
            low: 0.0,
            high: f64::INFINITY,
            found: None,
            failed: None,
        })
    }

    fn effort(&self) -> u8 {
        self.training.common.effort
    }

    /// The size to begin with.
    fn first(&self) -> f64 {
        self.model.bytes_of_psnr(self.wanted + AIM, self.effort(), self.range)
    }

    fn target(&self, bytes: f64) -> Target {
        match self.sized {
            true => Target::Bytes(SirenPlan::file_bytes(self.job, bytes)),
            false => Target::Auto,
        }
    }

    /// How to train, in the time that is left.
    fn training(&self) -> SirenTraining {
        let left = |limit: Duration| limit.saturating_sub(self.started.elapsed());
        let timeout = self.training.common.timeout.map(left);
        self.training.clone().with(|common| Training { timeout, ..common })
    }

    fn has_any(&self) -> bool {
        self.found.is_some() || self.failed.is_some()
    }

    fn keep(&mut self, attempt: Attempt, bytes: f64) {
        if attempt.psnr >= self.wanted {
            self.high = bytes;
            self.found = Some(attempt);
        } else {
            self.low = bytes;
            if self.failed.as_ref().is_none_or(|best| attempt.psnr > best.psnr) {
                self.failed = Some(attempt);
            }
        }
    }

    /// Whether no other run follows one that came to `psnr`.
    fn is_over(&self, run: u32, psnr: f64) -> bool {
        let near = (self.wanted..self.wanted + NEAR).contains(&psnr) || run >= RUNS;
        let timeout = self.training.common.timeout;
        let late = timeout.is_some_and(|t| self.started.elapsed() > t.mul_f64(LAST_RUN));
        self.found.is_some() && near || late
    }

    /// The next size, if there is one worth a run.
    fn next(&self, run: u32, bytes: f64, psnr: f64) -> Option<f64> {
        let &Self { low, high, range, .. } = self;
        let off = psnr - self.model.psnr(bytes, self.effort());
        let next = self.model.bytes_of_psnr(self.wanted + AIM - off, self.effort(), range);
        // The longer nothing is found, the larger the strides.
        let stride = if self.found.is_some() { APART } else { APART.powi(run as i32) };
        let next = next.max(low * stride).min(high / APART).clamp(range.0, range.1);
        (next >= low * APART && next < high).then_some(next)
    }
}
