//! The latents in training on the CPU, and what is computed of them there: softly rounded, through the
//! networks and the entropy model and back, block by block and band by band on all cores, and Adam.
//! Knows no schedule and no optimizer of networks.

use rayon::prelude::*;

use super::context::{self, Band, BandResult, Entropy, Plane, Wanted};
use super::stepper::{LatentUpdate, Outcome, Rounding, Sizes, Stage, Step, Stepper, Weights, mix};
use super::synthesis::{self, Axis, Block, BlockResult, Gradients, SoftLevel, Synthesis};
use crate::error::EncodeError;
use crate::train::adam::Moments;
use crate::train::archive::Archive;
use crate::train::spare::Spare;
use siren_image::DeviceError;
use siren_image::latents::Region;
use siren_kernel::Adam;
use siren_kernel::Simd;
use siren_kernel::training::SoftRounding;

/// Blocks whose results are held at a time.
const GROUP: usize = 64;

/// One level's latents in training.
#[derive(Debug)]
pub struct Level {
    pub width: usize,
    pub height: usize,
    pub values: Vec<f32>,
    pub moments: Moments,
    /// The latents as the networks see them, and the derivatives of that.
    pub soft: Vec<f32>,
    pub slope: Vec<f32>,
    pub gradient: Vec<f32>,
    bands: Vec<Band>,
    /// The last result of each band.
    rates: Vec<BandResult>,
}

impl Level {
    fn new(width: usize, height: usize) -> Self {
        let zeros = || vec![0.0; width * height];
        let bands = context::bands(width, height);
        Self {
            width,
            height,
            values: zeros(),
            moments: Moments::new(width * height),
            soft: zeros(),
            slope: zeros(),
            gradient: zeros(),
            rates: bands.iter().map(|_| BandResult::default()).collect(),
            bands,
        }
    }

    fn plane(&self) -> Plane<'_> {
        Plane { width: self.width, height: self.height, values: &self.soft }
    }

    /// What carries over from step to step: `soft` and `slope` follow from the latents, the
    /// gradient is made anew. `coarser` is the size of the next level.
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
#[derive(Debug)]
pub struct Cpu {
    simd: Simd,
    shape: synthesis::SynthesisShape,
    context: context::ContextShape,
    /// The finest first.
    pub levels: Vec<Level>,
    /// Quantiles of the noise.
    noise: Vec<f32>,
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
        let numbers = self.levels.iter().flat_map(|level| {
            let [first, second] = &level.moments.means;
            let moments = first.iter().zip(second);
            level
                .values
                .iter()
                .zip(moments)
                .map(|(&value, (&first, &second))| [value, first, second])
        });
        Ok(numbers.collect())
    }

    fn set_latents(&mut self, latents: &[[f32; 3]]) -> Result<(), DeviceError> {
        let mut latents = latents.iter();
        for Level { values, moments: Moments { means: [first, second], .. }, .. } in
            &mut self.levels
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
        let &Sizes { ref levels, sines, hidden, channels } = sizes;
        Self {
            simd: Simd::new(),
            shape: synthesis::SynthesisShape { levels: levels.len(), sines, channels },
            context: context::ContextShape { hidden },
            levels: levels.iter().map(|&(width, height)| Level::new(width, height)).collect(),
            noise: Vec::new(),
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
        for (l, level) in self.levels.iter_mut().enumerate().skip(base) {
            let chunk = ROWS * level.width;
            let rows = level.values.par_chunks(chunk).zip(level.soft.par_chunks_mut(chunk));
            let rows = rows.zip(level.slope.par_chunks_mut(chunk)).enumerate();
            rows.for_each(|(index, ((values, soft), slope))| {
                let key = (u64::from(number) << 32) ^ ((l as u64) << 24) ^ index as u64;
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
        for level in &mut self.levels {
            level.moments = Moments::new(0);
            level.slope = Vec::new();
        }
    }

    /// Rounds the latents for good.
    pub fn harden(&mut self) {
        for level in &mut self.levels {
            for (soft, value) in level.soft.iter_mut().zip(&level.values) {
                *soft = value.round();
            }
            level.rates.iter_mut().for_each(|rate| rate.gradients.clear());
        }
    }

    /// Moves rounded latents towards 0 by one where that lowers the squared error plus `lambda`
    /// times the bits, by the Gauss-Newton model of the error and the entropy model's own
    /// distribution.
    pub fn thin_out(&mut self, stage: &Stage, weights: &Weights, lambda: f64) {
        self.synthesis(stage, weights, Gradients::Curvatures, Share::ALL);
        let curvatures: Vec<Vec<f32>> = self.levels.iter().map(|g| g.gradient.clone()).collect();
        for turn in 0..4 {
            self.synthesis(stage, weights, Gradients::Latents, Share::ALL);
            self.rate(0, &weights.entropy, (Wanted::GradientsAndBends, false), Share::ALL);
            self.join_rates(0, lambda as f32);
            for (level, curvatures) in self.levels.iter_mut().zip(&curvatures) {
                let Level { width, soft, values, gradient, bands, rates, .. } = level;
                for (band, rate) in bands.iter().zip(rates) {
                    let Region { x: left, y: top, width: columns, .. } = band.region();
                    for (i, bend) in rate.bends.iter().enumerate() {
                        let (x, y) = (left + i % columns, top + i / columns);
                        let at = y * *width + x;
                        // Neighbours do not move at a time.
                        if (x % 2) + 2 * (y % 2) != turn || soft[at] == 0.0 {
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

    /// The latents as rounded by [`Cpu::harden`], the finest level first.
    pub fn rounded(&self) -> impl Iterator<Item = &[f32]> {
        self.levels.iter().map(|level| level.soft.as_slice())
    }

    /// Sets what [`Cpu::rounded`] gives.
    pub fn set_rounded(&mut self, latents: &[Vec<f32>]) {
        for (level, latents) in self.levels.iter_mut().zip(latents) {
            level.soft.copy_from_slice(latents);
            level.values.copy_from_slice(latents);
        }
    }

    /// Squared errors as in [`Outcome`], and gradients: those of latents stay with the levels, those
    /// of the sine layer and of the output layer are given. A share of the blocks gives the latter.
    pub fn synthesis(
        &mut self,
        stage: &Stage,
        weights: &Weights,
        gradients: Gradients,
        share: Share,
    ) -> (f64, [Vec<f32>; 2]) {
        let &Stage { base, picture } = stage;
        let shape = synthesis::SynthesisShape { levels: self.levels.len() - base, ..self.shape };
        let Weights { sine, output, .. } = weights;
        let packed = synthesis::PackedSynthesis::new(shape, sine, output);
        let axes = [picture.width, picture.height].map(|len| Axis::new(len, shape.levels));
        let synthesis = Synthesis::new(self.simd, picture, &axes, &packed);
        let blocks = synthesis.blocks();
        let share = share.of(blocks.len());
        let mut sums = BlockSums::new(&mut self.levels[base..], weights, gradients);
        let spare = Spare::default();
        // Results are merged in order, so that sums do not depend on the threads.
        for (group, blocks) in blocks.chunks(GROUP).enumerate() {
            let levels = &self.levels[base..];
            let latents = levels.iter().map(|g| SoftLevel { width: g.width, values: &g.soft });
            let latents: Vec<SoftLevel> = latents.collect();
            let result = |(index, &block): (usize, &Block)| {
                let picked = share.has(GROUP * group + index);
                let gradients = if picked { gradients } else { gradients.without_weights() };
                let wanted = picked || gradients != Gradients::None;
                wanted.then(|| {
                    spare.with(|scratch| synthesis.block(block, &latents, gradients, scratch))
                })
            };
            let results: Vec<_> = blocks.par_iter().enumerate().map(result).collect();
            results.into_iter().flatten().for_each(|result| sums.add(result, levels));
        }
        let BlockSums { error, measured, planes, sine, output } = sums;
        for (level, plane) in self.levels[base..].iter_mut().zip(planes) {
            level.gradient = plane;
        }
        (error * blocks.len() as f64 / f64::from(measured), [sine, output])
    }

    /// Bits as in [`Outcome`], and gradients: those of latents stay with the bands, those of the
    /// weights are given if they are wanted. A share of the bands gives new ones.
    pub fn rate(
        &mut self,
        base: usize,
        entropy: &[Vec<f32>; 3],
        (wanted, weights): (Wanted, bool),
        share: Share,
    ) -> (f64, [Vec<f32>; 3]) {
        let latents = wanted != Wanted::Bits;
        // Where gradients are missing, all are made.
        let missing = |level: &Level| latents && level.rates[0].gradients.is_empty();
        let share = if self.levels[base..].iter().any(missing) { Share::ALL } else { share };
        let count: usize = self.levels[base..].iter().map(|level| level.bands.len()).sum();
        let picked = self.bands(base, share.of(count));
        let packed =
            context::PackedContext::new(self.context, entropy.each_ref().map(Vec::as_slice));
        let lens = self.context.lens();
        let spare = Spare::default();
        let result = |&(l, band): &(usize, usize)| {
            let mut sums = weights.then(|| lens.map(|len| vec![0.0f32; len]));
            let (level, entropy) = (&self.levels[l], self.entropy(l, &packed));
            let result = spare
                .with(|scratch| entropy.band(level.bands[band], wanted, sums.as_mut(), scratch));
            (result, sums)
        };
        let results: Vec<_> = picked.par_iter().map(result).collect();
        let fresh: f64 = results.iter().map(|(result, _)| result.bits).sum();
        let mut sums = lens.map(|len| vec![0.0f32; len]);
        for (&(l, band), (result, part)) in picked.iter().zip(results) {
            for (sum, part) in sums.iter_mut().zip(part.iter().flatten()) {
                add(sum, part);
            }
            self.levels[l].rates[band] = result;
        }
        if !latents && !weights {
            return (fresh * count as f64 / picked.len() as f64, sums);
        }
        let rates = self.levels[base..].iter().flat_map(|level| &level.rates);
        (rates.map(|rate| rate.bits).sum(), sums)
    }

    /// Levels and bands of a share.
    fn bands(&self, base: usize, Share { one_of, turn }: Share) -> Vec<(usize, usize)> {
        let bands = |l: usize| (0..self.levels[l].bands.len()).map(move |band| (l, band));
        let bands = (base..self.levels.len()).flat_map(bands);
        bands.skip(turn).step_by(one_of).collect()
    }

    /// The entropy model on a level.
    fn entropy<'a>(&'a self, l: usize, packed: &'a context::PackedContext) -> Entropy<'a> {
        Entropy {
            simd: self.simd,
            packed,
            number: l,
            plane: self.levels[l].plane(),
            coarser: self.levels.get(l + 1).map(Level::plane),
        }
    }

    /// Adds `lambda` times the gradients of the rates to those of the picture.
    fn join_rates(&mut self, base: usize, lambda: f32) {
        for l in base..self.levels.len() {
            let (finer, rest) = self.levels.split_at_mut(l);
            let level = &mut rest[0];
            for rate in &level.rates {
                rate.add_to(0, lambda, level.width, &mut level.gradient);
            }
            if l > base {
                for rate in &finer[l - 1].rates {
                    rate.add_to(1, lambda, level.width, &mut level.gradient);
                }
            }
        }
    }

    /// Updates the latents.
    fn descend(&mut self, base: usize, update: &LatentUpdate) {
        const CHUNK: usize = 8192;
        let simd = self.simd;
        let betas = [update.betas.0, update.betas.1].map(|beta| beta as f32);
        for (level, &(rate, second)) in self.levels[base..].iter_mut().zip(&update.rates) {
            let adam = Adam::with_biases(betas, rate, second);
            let Moments { means: [first, second], .. } = &mut level.moments;
            let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
            let values = level.values.par_chunks_mut(CHUNK).zip(moments);
            let gradients = level.gradient.par_chunks_mut(CHUNK).zip(level.slope.par_chunks(CHUNK));
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
    /// Gradients of the latents, level by level.
    planes: Vec<Vec<f32>>,
    sine: Vec<f32>,
    output: Vec<f32>,
}

impl BlockSums {
    /// Sums of nothing, in the memory of the levels' gradients.
    fn new(levels: &mut [Level], weights: &Weights, gradients: Gradients) -> Self {
        let mut planes: Vec<Vec<f32>> =
            levels.iter_mut().map(|level| std::mem::take(&mut level.gradient)).collect();
        if gradients.latents() {
            planes.iter_mut().for_each(|plane| plane.fill(0.0));
        }
        let [sine, output] = [&weights.sine, &weights.output].map(|layer| vec![0.0; layer.len()]);
        Self { error: 0.0, measured: 0, planes, sine, output }
    }

    fn add(&mut self, result: BlockResult, levels: &[Level]) {
        self.error += result.error;
        self.measured += 1;
        if let Some((sine, output)) = result.sums {
            add(&mut self.sine, &sine);
            add(&mut self.output, &output);
        }
        for (footprint, (plane, level)) in
            result.footprints.iter().zip(self.planes.iter_mut().zip(levels))
        {
            footprint.add_to(level.width, level.height, plane);
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
