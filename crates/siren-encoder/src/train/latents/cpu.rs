//! The latents in training on the CPU, and what is computed of them there: softly rounded, through the
//! networks and the entropy model and back, block by block and band by band on all cores, and Adam.
//! Knows no schedule and no optimizer of networks.

use rayon::prelude::*;

use super::context::{self, Band, BandResult, ContextScratch, Entropy, Plane, Wanted};
use super::stepper::{LatentUpdate, Outcome, Rounding, Sizes, Stage, Step, Stepper, Weights, mix};
use super::synthesis::{self, Axis, Block, BlockResult, Gradients, SoftPlane, Synthesis};
use super::waves::{self, Transform, TransformScratch, WaveBand, WaveEntropy};
use crate::error::EncodeError;
use crate::train::adam::Moments;
use crate::train::archive::Archive;
use crate::train::spare::Spare;
use siren_image::DeviceError;
use siren_image::coding::waves::Order;
use siren_image::latents::{Bases, Basis, Region};
use siren_kernel::Adam;
use siren_kernel::Simd;
use siren_kernel::training::SoftRounding;

/// Blocks whose results are held at a time.
const GROUP: usize = 64;

/// A part of a plane whose rate is computed at a time.
#[derive(Debug, Clone, Copy)]
enum Part {
    Splines(Band),
    Waves(WaveBand),
}

impl Part {
    /// The latents that it has bends of.
    fn region(self) -> Region {
        match self {
            Self::Splines(band) => band.region(),
            Self::Waves(band) => band.region(),
        }
    }
}

/// One plane's latents in training.
#[derive(Debug)]
pub struct Latents {
    pub basis: Basis,
    pub width: usize,
    pub height: usize,
    pub values: Vec<f32>,
    pub moments: Moments,
    /// The latents as the networks see them, and the derivatives of that.
    pub soft: Vec<f32>,
    pub slope: Vec<f32>,
    pub gradient: Vec<f32>,
    /// From latents to pixels, where these are waves, and what they are there.
    transform: Option<Transform>,
    pixels: Vec<f32>,
    bands: Vec<Part>,
    /// The last result of each band.
    rates: Vec<BandResult>,
}

impl Latents {
    fn new(simd: Simd, basis: Basis, width: usize, height: usize) -> Self {
        let zeros = || vec![0.0; width * height];
        let bands: Vec<Part> = match basis {
            Basis::Splines { .. } => {
                context::bands(width, height).into_iter().map(Part::Splines).collect()
            }
            Basis::Waves { cell } => {
                waves::bands(cell, width, height).into_iter().map(Part::Waves).collect()
            }
        };
        Self {
            basis,
            width,
            height,
            values: zeros(),
            moments: Moments::new(width * height),
            soft: zeros(),
            slope: zeros(),
            gradient: zeros(),
            transform: match basis {
                Basis::Splines { .. } => None,
                Basis::Waves { cell } => Some(Transform::new(simd, cell, width, height)),
            },
            pixels: Vec::new(),
            rates: bands.iter().map(|_| BandResult::default()).collect(),
            bands,
        }
    }

    fn plane(&self) -> Plane<'_> {
        Plane { width: self.width, height: self.height, values: &self.soft }
    }

    /// What the blocks of the picture see.
    fn seen(&self) -> SoftPlane<'_> {
        let values = match self.basis {
            Basis::Splines { .. } => &self.soft,
            Basis::Waves { .. } => &self.pixels,
        };
        SoftPlane { width: self.width, values }
    }

    /// What carries over from step to step: `soft` and `slope` follow from the latents, the
    /// gradient is made anew. `coarser` is the size of the next plane.
    pub(crate) fn archive(
        &mut self,
        archive: &mut Archive,
        coarser: (usize, usize),
    ) -> Result<(), EncodeError> {
        archive.f32s(&mut self.values)?;
        self.moments.archive(archive)?;
        let sizes = [(self.width, self.height), coarser];
        for BandResult { bits, gradients, .. } in &mut self.rates {
            archive.f64(bits)?;
            let mut count = gradients.len();
            archive.usize(&mut count)?;
            gradients.resize_with(count.min(sizes.len()), Default::default);
            for ((region, gradient), (columns, rows)) in gradients.iter_mut().zip(sizes) {
                let Region { x, y, width, height } = region;
                for number in [&mut *x, &mut *y, &mut *width, &mut *height] {
                    archive.usize(number)?;
                }
                if *width == 0 || *x + *width > columns || *y + *height > rows {
                    return Err(EncodeError::CheckpointDamaged);
                }
                gradient.resize(*width * *height, 0.0);
                archive.f32s(gradient)?;
            }
        }
        Ok(())
    }
}

/// A part of the work: one block or band of so many, in turn.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    pub one_of: usize,
    pub turn: usize,
}

impl Share {
    /// All of it.
    pub const ALL: Self = Self { one_of: 1, turn: 0 };

    /// That of a step.
    pub fn new(one_of: usize, step: u32) -> Self {
        Self { one_of, turn: step as usize }
    }

    /// Of so many parts.
    fn of(self, count: usize) -> Self {
        let one_of = self.one_of.min(count);
        Self { one_of, turn: self.turn % one_of }
    }

    /// Whether part `index` belongs to it.
    fn has(self, index: usize) -> bool {
        index % self.one_of == self.turn
    }
}

/// The latents, and the sizes of the networks.
pub struct Cpu {
    simd: Simd,
    shape: synthesis::SynthesisShape,
    bases: Bases,
    /// Of the entropy models of splines and of waves.
    contexts: Vec<context::ContextShape>,
    /// The finest first.
    pub planes: Vec<Latents>,
    /// Quantiles of the noise.
    noise: Vec<f32>,
    scratch: TransformScratch,
}

impl Stepper for Cpu {
    fn step(
        &mut self,
        stage: &Stage,
        weights: &Weights,
        step: &Step,
    ) -> Result<Outcome, DeviceError> {
        let base = stage.base;
        match step.rounding {
            Rounding::Kept => {}
            Rounding::Hard => self.harden(),
            Rounding::Soft { temperature, noise } => self.soften(base, (temperature, noise), step),
        }
        let [blocks, bands] = step.shares.map(|one_of| Share::new(one_of, step.number));
        let (gradients, wanted) = match step.update {
            Some(_) => (Gradients::LatentsAndWeights, Wanted::Gradients),
            None => (Gradients::Weights, Wanted::Bits),
        };
        let (error, [sine, output]) = self.synthesis(stage, weights, gradients, blocks);
        let (bits, entropy) = self.rate(base, &weights.entropy, (wanted, true), bands);
        if let Some(update) = &step.update {
            self.join_rates(base, update.lambda as f32);
            self.descend(base, update);
        }
        Ok(Outcome { error, bits, gradients: Weights { sine, output, entropy } })
    }

    fn latents(&self) -> Result<Vec<[f32; 3]>, DeviceError> {
        let numbers = self.planes.iter().flat_map(|plane| {
            let [first, second] = &plane.moments.means;
            let moments = first.iter().zip(second);
            plane
                .values
                .iter()
                .zip(moments)
                .map(|(&value, (&first, &second))| [value, first, second])
        });
        Ok(numbers.collect())
    }

    fn set_latents(&mut self, latents: &[[f32; 3]]) -> Result<(), DeviceError> {
        let mut latents = latents.iter();
        for Latents { values, moments: Moments { means: [first, second], .. }, .. } in
            &mut self.planes
        {
            let numbers = values.iter_mut().zip(first.iter_mut().zip(second)).zip(&mut latents);
            for ((value, (first, second)), latent) in numbers {
                [*value, *first, *second] = *latent;
            }
        }
        Ok(())
    }
}

impl Cpu {
    /// Latents of these sizes, all zero.
    pub fn new(sizes: &Sizes) -> Self {
        let &Sizes { bases, ref planes, sines, hidden, channels } = sizes;
        let (simd, planes) = (Simd::new(), bases.iter().zip(planes));
        Self {
            simd,
            shape: synthesis::SynthesisShape { planes: bases.count(), sines, channels },
            bases,
            contexts: context::ContextShape::all(hidden),
            planes: planes.map(|(basis, &(w, h))| Latents::new(simd, basis, w, h)).collect(),
            noise: Vec::new(),
            scratch: TransformScratch::default(),
        }
    }

    /// Rounds the latents softly, with noise.
    fn soften(&mut self, base: usize, (temperature, noise): (f64, f64), step: &Step) {
        /// Rows whose noise has a seed of its own.
        const ROWS: usize = 16;
        let (simd, &Step { seed, number, .. }) = (self.simd, step);
        let rounding = SoftRounding::new(temperature as f32);
        kumaraswamy(noise, &mut self.noise);
        let noise = &self.noise;
        let shift = 64 - noise.len().ilog2();
        for (p, plane) in self.planes.iter_mut().enumerate().skip(base) {
            let chunk = ROWS * plane.width;
            let rows = plane.values.par_chunks(chunk).zip(plane.soft.par_chunks_mut(chunk));
            let rows = rows.zip(plane.slope.par_chunks_mut(chunk)).enumerate();
            rows.for_each(|(index, ((values, soft), slope))| {
                let key = (u64::from(number) << 32) ^ ((p as u64) << 24) ^ index as u64;
                let mut state = mix(seed ^ mix(key));
                for soft in soft.iter_mut() {
                    // Knuth's linear congruential generator (MMIX).
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    *soft = noise[(state >> shift) as usize];
                }
                rounding.apply(simd, values, soft, slope);
            });
        }
    }

    /// Drops what only training needs.
    pub fn end_training(&mut self) {
        for plane in &mut self.planes {
            plane.moments = Moments::new(0);
            plane.slope = Vec::new();
        }
    }

    /// Rounds the latents for good.
    pub fn harden(&mut self) {
        for plane in &mut self.planes {
            for (soft, value) in plane.soft.iter_mut().zip(&plane.values) {
                *soft = value.round();
            }
            plane.rates.iter_mut().for_each(|rate| rate.gradients.clear());
        }
    }

    /// Moves rounded latents towards 0 by one where that lowers the squared error plus `lambda`
    /// times the bits, by the Gauss-Newton model of the error and the entropy model's own
    /// distribution.
    pub fn thin_out(&mut self, stage: &Stage, weights: &Weights, lambda: f64) {
        self.synthesis(stage, weights, Gradients::Curvatures, Share::ALL);
        let curvatures: Vec<Vec<f32>> = self.planes.iter().map(|p| p.gradient.clone()).collect();
        // Waves do not overlap.
        let turns = if self.bases.waves() > 0 { 2 } else { 4 };
        for turn in 0..turns {
            self.synthesis(stage, weights, Gradients::Latents, Share::ALL);
            self.rate(0, &weights.entropy, (Wanted::GradientsAndBends, false), Share::ALL);
            self.join_rates(0, lambda as f32);
            for (plane, curvatures) in self.planes.iter_mut().zip(&curvatures) {
                let Latents { width, soft, values, gradient, bands, rates, .. } = plane;
                for (band, rate) in bands.iter().zip(rates) {
                    let Region { x: left, y: top, width: columns, .. } = band.region();
                    for (i, bend) in rate.bends.iter().enumerate() {
                        let (x, y) = (left + i % columns, top + i / columns);
                        let at = y * *width + x;
                        // Neighbours do not move at a time.
                        let own = if turns == 2 { (x + y) % 2 } else { x % 2 + 2 * (y % 2) };
                        if own != turn || soft[at] == 0.0 {
                            continue;
                        }
                        let step = -soft[at].signum();
                        // Twice the half of it: latents that overlap move at a time.
                        let change = step * gradient[at] + curvatures[at];
                        if change + lambda as f32 * bend < 0.0 {
                            soft[at] += step;
                        }
                    }
                    rate.bends.clear();
                }
                values.copy_from_slice(soft);
            }
        }
    }

    /// The latents as rounded by [`Cpu::harden`], the finest plane first.
    pub fn rounded(&self) -> impl Iterator<Item = &[f32]> {
        self.planes.iter().map(|plane| plane.soft.as_slice())
    }

    /// Sets what [`Cpu::rounded`] gives.
    pub fn set_rounded(&mut self, latents: &[Vec<f32>]) {
        for (plane, latents) in self.planes.iter_mut().zip(latents) {
            plane.soft.copy_from_slice(latents);
            plane.values.copy_from_slice(latents);
        }
    }

    /// Gives the waves values from what the other planes leave of the picture: for each plane of
    /// them, the last first, a Gauss-Newton step of its sum at each pixel, and the transform of that.
    pub fn start_waves(&mut self, stage: &Stage, weights: &Weights) {
        /// Share of the mean curvature that is added to each.
        const DAMPING: f32 = 0.3;
        /// What damping takes of the step is given back so.
        const FACTOR: f32 = 1.5;
        /// Latents of less stay 0.
        const SHRINK: f32 = 0.2;
        /// Largest latent.
        const MOST: f32 = 300.0;
        self.harden();
        for p in (stage.base..self.bases.waves()).rev() {
            self.blocks(stage, weights, Gradients::Curvatures, Share::ALL);
            let mut field = std::mem::take(&mut self.planes[p].gradient);
            let pixels = stage.picture.width * stage.picture.height;
            let mean = field.iter().map(|&h| f64::from(h)).sum::<f64>() / pixels as f64;
            let damping = (DAMPING * mean as f32).max(f32::MIN_POSITIVE);
            self.blocks(stage, weights, Gradients::Latents, Share::ALL);
            let Latents { transform, gradient, values, soft, .. } = &mut self.planes[p];
            let gradient = field.iter_mut().zip(gradient);
            gradient.for_each(|(field, g)| *field = -*g / (*field + damping));
            let transform = transform.as_ref().expect("waves");
            transform.latents(&field, &mut self.scratch, values);
            for (value, soft) in values.iter_mut().zip(soft) {
                let step = FACTOR * *value;
                *value = step.signum() * (step.abs() - SHRINK).clamp(0.0, MOST);
                *soft = value.round();
            }
        }
    }

    /// Squared errors as in [`Outcome`], and gradients: those of latents stay with the planes, those
    /// of the sine layer and of the output layer are given. A share of the blocks gives the latter.
    pub fn synthesis(
        &mut self,
        stage: &Stage,
        weights: &Weights,
        gradients: Gradients,
        share: Share,
    ) -> (f64, [Vec<f32>; 2]) {
        let result = self.blocks(stage, weights, gradients, share);
        if gradients.latents() {
            let Self { planes, scratch, .. } = self;
            for Latents { transform, pixels, gradient, .. } in &mut planes[stage.base..] {
                let Some(transform) = transform else { continue };
                std::mem::swap(pixels, gradient);
                match gradients {
                    Gradients::Curvatures => transform.squares(pixels, scratch, gradient),
                    _ => transform.latents(pixels, scratch, gradient),
                }
            }
        }
        result
    }

    /// As [`Cpu::synthesis`], but the gradients of waves are by their sums at the pixels.
    fn blocks(
        &mut self,
        stage: &Stage,
        weights: &Weights,
        gradients: Gradients,
        share: Share,
    ) -> (f64, [Vec<f32>; 2]) {
        let &Stage { base, shift, picture } = stage;
        let simd = self.simd;
        for Latents { transform, soft, pixels, .. } in &mut self.planes[base..] {
            if let Some(transform) = transform {
                transform.pixels(soft, &mut self.scratch, pixels);
            }
        }
        let shape = synthesis::SynthesisShape { planes: self.planes.len() - base, ..self.shape };
        let Weights { sine, output, .. } = weights;
        let packed = synthesis::PackedSynthesis::new(shape, sine, output);
        let bases = || self.bases.iter().skip(base);
        let axes = [picture.width, picture.height].map(|len| Axis::new(len, bases(), shift));
        let synthesis = Synthesis::new(simd, picture, &axes, &packed);
        let blocks = synthesis.blocks();
        let share = share.of(blocks.len());
        let mut sums = BlockSums::new(&mut self.planes[base..], weights, gradients);
        let spare = Spare::default();
        // Results are merged in order, so that sums do not depend on the threads.
        for (group, blocks) in blocks.chunks(GROUP).enumerate() {
            let planes = &self.planes[base..];
            let latents: Vec<SoftPlane> = planes.iter().map(Latents::seen).collect();
            let result = |(index, &block): (usize, &Block)| {
                let picked = share.has(GROUP * group + index);
                let gradients = if picked { gradients } else { gradients.without_weights() };
                let wanted = picked || gradients != Gradients::None;
                wanted.then(|| {
                    spare.with(|scratch| synthesis.block(block, &latents, gradients, scratch))
                })
            };
            let results: Vec<_> = blocks.par_iter().enumerate().map(result).collect();
            results.into_iter().flatten().for_each(|result| sums.add(result, planes));
        }
        let BlockSums { error, measured, planes, sine, output } = sums;
        for (plane, gradient) in self.planes[base..].iter_mut().zip(planes) {
            plane.gradient = gradient;
        }
        (error * blocks.len() as f64 / f64::from(measured), [sine, output])
    }

    /// Bits as in [`Outcome`], and gradients: those of latents stay with the bands, those of the
    /// weights are given if they are wanted. A share of the bands gives new ones.
    pub fn rate(
        &mut self,
        base: usize,
        entropy: &[[Vec<f32>; 3]],
        (wanted, weights): (Wanted, bool),
        share: Share,
    ) -> (f64, Vec<[Vec<f32>; 3]>) {
        let latents = wanted != Wanted::Bits;
        // Where gradients are missing, all are made.
        let missing = |plane: &Latents| latents && plane.rates[0].gradients.is_empty();
        let share = if self.planes[base..].iter().any(missing) { Share::ALL } else { share };
        let count: usize = self.planes[base..].iter().map(|plane| plane.bands.len()).sum();
        let picked = self.bands(base, share.of(count));
        let models = self.contexts.iter().zip(entropy);
        let packed: Vec<_> = models.map(|(&c, m)| context::PackedContext::new(c, m)).collect();
        let zeros = |model: usize| self.contexts[model].lens().map(|len| vec![0.0f32; len]);
        let spare = Spare::default();
        let result = |&(p, band): &(usize, usize)| {
            let mut sums = weights.then(|| zeros(self.model(p)));
            let wanted = (wanted, sums.as_mut());
            let result = spare.with(|scratch| self.band(p, band, &packed, wanted, scratch));
            (result, sums)
        };
        let results: Vec<_> = picked.par_iter().map(result).collect();
        let fresh: f64 = results.iter().map(|(result, _)| result.bits).sum();
        let mut sums: Vec<_> = (0..self.contexts.len()).map(zeros).collect();
        for (&(p, band), (result, part)) in picked.iter().zip(results) {
            let model = self.model(p);
            for (sum, part) in sums[model].iter_mut().zip(part.iter().flatten()) {
                add(sum, part);
            }
            self.planes[p].rates[band] = result;
        }
        if !latents && !weights {
            return (fresh * count as f64 / picked.len() as f64, sums);
        }
        let rates = self.planes[base..].iter().flat_map(|plane| &plane.rates);
        (rates.map(|rate| rate.bits).sum(), sums)
    }

    /// Planes and bands of a share.
    fn bands(&self, base: usize, Share { one_of, turn }: Share) -> Vec<(usize, usize)> {
        let bands = |p: usize| (0..self.planes[p].bands.len()).map(move |band| (p, band));
        let bands = (base..self.planes.len()).flat_map(bands);
        bands.skip(turn).step_by(one_of).collect()
    }

    /// Which of the entropy models is a plane's.
    fn model(&self, p: usize) -> usize {
        usize::from(p < self.bases.waves())
    }

    /// The entropy model on a band of a plane.
    fn band(
        &self,
        p: usize,
        band: usize,
        packed: &[context::PackedContext],
        (wanted, sums): (Wanted, Option<&mut [Vec<f32>; 3]>),
        scratch: &mut ContextScratch,
    ) -> BandResult {
        let (simd, packed) = (self.simd, &packed[self.model(p)]);
        let latents = &self.planes[p];
        let plane = latents.plane();
        match (latents.bands[band], latents.basis) {
            (Part::Waves(band), Basis::Waves { cell }) => {
                let order = Order::of(cell);
                WaveEntropy { simd, packed, order, plane }.band(band, wanted, sums, scratch)
            }
            (Part::Splines(band), Basis::Splines { level: number }) => {
                let coarser = self.planes.get(p + 1).map(Latents::plane);
                Entropy { simd, packed, number, plane, coarser }.band(band, wanted, sums, scratch)
            }
            _ => unreachable!("bands are of their plane's kind"),
        }
    }

    /// Adds `lambda` times the gradients of the rates to those of the picture.
    fn join_rates(&mut self, base: usize, lambda: f32) {
        for p in base..self.planes.len() {
            let (finer, rest) = self.planes.split_at_mut(p);
            let plane = &mut rest[0];
            for rate in &plane.rates {
                rate.add_to(0, lambda, plane.width, &mut plane.gradient);
            }
            if p > base {
                for rate in &finer[p - 1].rates {
                    rate.add_to(1, lambda, plane.width, &mut plane.gradient);
                }
            }
        }
    }

    /// Updates the latents.
    fn descend(&mut self, base: usize, update: &LatentUpdate) {
        const CHUNK: usize = 8192;
        let simd = self.simd;
        let betas = [update.betas.0, update.betas.1].map(|beta| beta as f32);
        for (plane, &(rate, second)) in self.planes[base..].iter_mut().zip(&update.rates) {
            let adam = Adam::with_biases(betas, rate, second);
            let Moments { means: [first, second], .. } = &mut plane.moments;
            let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
            let values = plane.values.par_chunks_mut(CHUNK).zip(moments);
            let gradients = plane.gradient.par_chunks_mut(CHUNK).zip(plane.slope.par_chunks(CHUNK));
            values.zip(gradients).for_each(|((values, (first, second)), (gradient, slope))| {
                gradient.iter_mut().zip(slope).for_each(|(g, slope)| *g *= slope);
                adam.apply(simd, values, [first, second], gradient);
            });
        }
    }
}

/// What the blocks of a picture give together.
struct BlockSums {
    error: f64,
    /// Blocks that gave a result.
    measured: u32,
    /// Gradients of the latents, plane by plane.
    planes: Vec<Vec<f32>>,
    sine: Vec<f32>,
    output: Vec<f32>,
}

impl BlockSums {
    /// Sums of nothing, in the memory of the planes' gradients.
    fn new(planes: &mut [Latents], weights: &Weights, gradients: Gradients) -> Self {
        let zeros = |plane: &mut Latents| {
            let mut gradient = std::mem::take(&mut plane.gradient);
            if gradients.latents() {
                gradient.clear();
                gradient.resize(plane.width * plane.height, 0.0);
            }
            gradient
        };
        let planes = planes.iter_mut().map(zeros).collect();
        let [sine, output] = [&weights.sine, &weights.output].map(|layer| vec![0.0; layer.len()]);
        Self { error: 0.0, measured: 0, planes, sine, output }
    }

    fn add(&mut self, result: BlockResult, planes: &[Latents]) {
        self.error += result.error;
        self.measured += 1;
        if let Some((sine, output)) = result.sums {
            add(&mut self.sine, &sine);
            add(&mut self.output, &output);
        }
        for (footprint, (gradient, plane)) in
            result.footprints.iter().zip(self.planes.iter_mut().zip(planes))
        {
            footprint.add_to(plane.width, plane.height, gradient);
        }
    }
}

/// Quantiles of the noise.
const QUANTILES: usize = 2048;

/// Quantiles of Kumaraswamy's distribution of parameter `a` with its mode at the middle, less a
/// half (Kim et al. 2023, section 3.1).
fn kumaraswamy(a: f64, table: &mut Vec<f32>) {
    let b = (2f64.powf(a) * (a - 1.0) + 1.0) / a;
    let quantile = |i: usize| {
        let u = (i as f64 + 0.5) / QUANTILES as f64;
        ((1.0 - (1.0 - u).powf(1.0 / b)).powf(1.0 / a) - 0.5) as f32
    };
    table.clear();
    table.extend((0..QUANTILES).map(quantile));
}

fn add(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}
