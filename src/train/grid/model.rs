//! The parameters in training and one step of them: forward, back, update. Knows no schedule
//! and no rate control.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::Shape;
use super::context::{self, Band, BandResult, Plane, Wanted};
use super::math::{Adam, SoftRounding};
use super::synthesis::{self, Axis, Gradients, Latents, Picture, Synthesis};
use crate::error::EncodeError;
#[cfg(feature = "gpu")]
use crate::gpu::{
    Gpu, GpuError, GridPicture, GridResult, GridShape, GridStep, GridTrainer, GridWeights,
    LatentUpdate, Rounding,
};
use crate::grids::Region;
use crate::kernel::Level;
use crate::train::archive::Archive;
use crate::train::soap::{self, SoapParams};

/// One level's latents in training.
pub struct Grid {
    pub width: usize,
    pub height: usize,
    pub values: Vec<f32>,
    moments: Moments,
    /// The latents as the networks see them, and the derivatives of that.
    soft: Vec<f32>,
    slope: Vec<f32>,
    gradient: Vec<f32>,
    bands: Vec<Band>,
    /// The last result of each band.
    rates: Vec<BandResult>,
}

impl Grid {
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

    /// Adam of the next update of level `l`.
    fn adam(&mut self, l: usize, update: Update) -> Adam {
        let Update { latents, beta2, warm_up, .. } = update;
        let steps = &mut self.moments.steps;
        *steps += 1;
        let warm = (f64::from(*steps) / warm_up).min(1.0);
        let rate = warm * latents * LATENT_SCALE * f64::from(1u32 << l);
        Adam::new(rate, (BETAS.0, beta2), *steps)
    }

    /// What carries over from step to step: `soft` and `slope` follow from the latents, the
    /// gradient is made anew. `coarser` is the size of the next level.
    fn archive(
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

/// A group of weights in training by the optimizer `O`.
pub struct Weights<O> {
    pub values: Vec<f32>,
    gradient: Vec<f32>,
    optimizer: O,
}

impl<O> Weights<O> {
    fn new(values: Vec<f32>, optimizer: O) -> Self {
        Self { gradient: vec![0.0; values.len()], values, optimizer }
    }
}

impl Weights<soap::Matrix> {
    /// Rows of `columns` weights, trained by SOAP.
    pub fn matrix(values: Vec<f32>, columns: usize) -> Self {
        let optimizer = soap::Matrix::new(values.len(), columns, &SOAP);
        Self::new(values, optimizer)
    }
}

impl Weights<Moments> {
    /// Trained by Adam.
    pub fn plain(values: Vec<f32>) -> Self {
        let optimizer = Moments::new(values.len());
        Self::new(values, optimizer)
    }
}

/// What Adam keeps.
pub struct Moments {
    /// Means of the gradients and of their squares.
    means: [Vec<f32>; 2],
    /// Updates so far.
    steps: u32,
}

impl Moments {
    fn new(len: usize) -> Self {
        Self { means: [vec![0.0; len], vec![0.0; len]], steps: 0 }
    }

    fn archive(&mut self, archive: &mut Archive) -> Result<(), EncodeError> {
        archive.u32(&mut self.steps)?;
        self.means.iter_mut().try_for_each(|means| archive.f32s(means))
    }
}

/// Rows of weights, each with its bias at the end.
#[derive(Debug, Clone, PartialEq)]
pub struct Networks {
    pub shape: synthesis::Shape,
    pub context: context::Shape,
    pub sine: Vec<f32>,
    pub output: Vec<f32>,
    pub entropy: [Vec<f32>; 3],
}

impl Networks {
    /// The sizes.
    pub fn shape(&self) -> Shape {
        let synthesis::Shape { levels, sines, channels } = self.shape;
        Shape { levels, sines, hidden: self.context.hidden, channels }
    }

    /// Chooses the biases of the outputs so that latents of zero give `colour`, in [-1, 1].
    pub fn set_colour(&mut self, colour: &[f32]) {
        let synthesis::Shape { levels, sines, .. } = self.shape;
        let rows = self.output.chunks_exact_mut(sines + levels + 1);
        for (row, colour) in rows.zip(colour) {
            let biases = self.sine.chunks_exact(levels + 1).map(|row| row[levels].sin());
            let sum: f32 = row.iter().zip(biases).map(|(w, sine)| w * sine).sum();
            row[sines + levels] = colour - sum;
        }
    }
}

/// What a pass over the picture shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measured {
    /// Squared errors in [0, 1] of the clamped outputs, averaged over the channels, summed over
    /// the pixels.
    pub error: f64,
    /// Bits of the latents.
    pub bits: f64,
}

/// The picture at 1 / 2^base of its size, for the levels from `base` on.
pub struct Stage<'a> {
    pub base: usize,
    pub picture: &'a Picture<'a>,
    /// Columns and rows.
    pub axes: [Axis; 2],
}

impl<'a> Stage<'a> {
    pub fn new(base: usize, picture: &'a Picture<'a>, levels: usize) -> Self {
        let axis = |len| Axis::new(len, levels - base);
        Self { base, picture, axes: [axis(picture.width), axis(picture.height)] }
    }
}

/// How much of the work each step leaves out.
#[derive(Debug, Clone, Copy)]
pub struct Thrift {
    /// One of so many blocks gives gradients of the networks of the picture.
    pub weights: usize,
    /// One of so many bands gives new rates and gradients; the others keep their last.
    pub bands: usize,
}

pub struct Model {
    level: Level,
    pub shape: synthesis::Shape,
    pub context: context::Shape,
    /// The finest first.
    pub grids: Vec<Grid>,
    sine: Weights<soap::Matrix>,
    output: Weights<soap::Matrix>,
    entropy: [Weights<Moments>; 3],
    seed: u64,
    steps: u32,
    /// Quantiles of the noise.
    noise: Vec<f32>,
    /// What makes the steps in the CPU's place, and has the latents then.
    #[cfg(feature = "gpu")]
    on_gpu: Option<GridTrainer>,
}

/// How the networks see latents: temperature of the soft rounding, parameter of the noise.
#[derive(Debug, Clone, Copy)]
pub struct Softness {
    pub temperature: f64,
    pub noise: f64,
}

/// Adam's parameters in an update: learning rates of the latents and of the networks.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    pub latents: f64,
    pub networks: f64,
    /// Of second moments of the latents.
    pub beta2: f64,
    /// The rate of latents that have not moved before rises over so many steps.
    pub warm_up: f64,
}

/// Of first moments, and of second moments of the entropy model.
const BETAS: (f64, f64) = (0.9, 0.999);
/// What trains the synthesis, at this share of the rate of the entropy model.
const SOAP: SoapParams = SoapParams { beta2: 0.97, eps: 1e-12, ..SoapParams::DEFAULT };
const SOAP_SHARE: f64 = 0.7;
/// Blocks whose results are held at a time.
const GROUP: usize = 64;

impl Model {
    pub fn new((width, height): (usize, usize), networks: Networks, seed: u64) -> Self {
        let Networks { shape, context, sine, output, entropy } = networks;
        let grid = |l: usize| Grid::new(width.div_ceil(1 << l), height.div_ceil(1 << l));
        Self {
            level: Level::new(),
            shape,
            context,
            grids: (0..shape.levels).map(grid).collect(),
            sine: Weights::matrix(sine, shape.levels + 1),
            output: Weights::matrix(output, shape.sines + shape.levels + 1),
            entropy: entropy.map(Weights::plain),
            seed,
            steps: 0,
            noise: Vec::new(),
            #[cfg(feature = "gpu")]
            on_gpu: None,
        }
    }

    pub fn networks(&self) -> Networks {
        let [a, b, c] = &self.entropy;
        Networks {
            shape: self.shape,
            context: self.context,
            sine: self.sine.values.clone(),
            output: self.output.values.clone(),
            entropy: [a, b, c].map(|layer| layer.values.clone()),
        }
    }

    pub fn set_networks(&mut self, networks: &Networks) {
        self.sine.values.clone_from(&networks.sine);
        self.output.values.clone_from(&networks.output);
        for (layer, values) in self.entropy.iter_mut().zip(&networks.entropy) {
            layer.values.clone_from(values);
        }
    }

    /// Saves or restores what the next step hangs on.
    pub fn archive(&mut self, archive: &mut Archive) -> Result<(), EncodeError> {
        #[cfg(feature = "gpu")]
        if let Archive::Writing(_) = archive {
            self.fetch()?;
        }
        archive.u32(&mut self.steps)?;
        for Weights { values, optimizer, .. } in [&mut self.sine, &mut self.output] {
            archive.f32s(values)?;
            optimizer.archive(archive)?;
        }
        for Weights { values, optimizer, .. } in &mut self.entropy {
            archive.f32s(values)?;
            optimizer.archive(archive)?;
        }
        let mut coarser = (0, 0);
        for grid in self.grids.iter_mut().rev() {
            grid.archive(archive, coarser)?;
            coarser = (grid.width, grid.height);
        }
        #[cfg(feature = "gpu")]
        if let Archive::Reading(_) = archive {
            self.hand_over();
        }
        Ok(())
    }

    /// One step of everything on the levels from `base` on, seen through soft rounding.
    ///
    /// # Errors
    /// [`EncodeError::Device`] where a GPU failed, and with it what it had.
    pub fn step(
        &mut self,
        stage: &Stage,
        softness: Softness,
        lambda: f64,
        update: Update,
        thrift: Thrift,
    ) -> Result<Measured, EncodeError> {
        let base = stage.base;
        #[cfg(feature = "gpu")]
        if self.on_gpu.is_some() {
            let Softness { temperature, noise } = softness;
            let rounding = Rounding::Soft { temperature, noise };
            let rates = (base..self.grids.len()).map(|l| {
                let adam = self.grids[l].adam(l, update);
                (adam.rate, adam.second)
            });
            let of_latents =
                LatentUpdate { lambda, betas: (BETAS.0, update.beta2), rates: rates.collect() };
            let measured = self.step_on_gpu(stage, rounding, Some(of_latents), thrift)?;
            self.learn(update.networks);
            self.steps += 1;
            return Ok(measured);
        }
        self.soften(base, softness);
        let error = self.synthesis(stage, Gradients::LatentsAndWeights, thrift.weights);
        let bits = self.rate(base, Wanted::Gradients, true, thrift.bands);
        self.join_rates(base, lambda as f32);
        self.descend(base, update);
        self.learn(update.networks);
        self.steps += 1;
        Ok(Measured { error, bits })
    }

    /// One step of the networks alone, on latents rounded before by [`Model::harden`].
    ///
    /// # Errors
    /// As [`Model::step`].
    pub fn step_networks(
        &mut self,
        stage: &Stage,
        rate: f64,
        thrift: Thrift,
    ) -> Result<Measured, EncodeError> {
        #[cfg(feature = "gpu")]
        if self.on_gpu.is_some() {
            let measured = self.step_on_gpu(stage, Rounding::Hard, None, thrift)?;
            self.learn(rate);
            self.steps += 1;
            return Ok(measured);
        }
        let error = self.synthesis(stage, Gradients::Weights, thrift.weights);
        let bits = self.rate(0, Wanted::Bits, true, thrift.bands);
        self.learn(rate);
        self.steps += 1;
        Ok(Measured { error, bits })
    }

    /// Squared errors as in [`Measured`] with latents rounded before by [`Model::harden`], from
    /// one of `share` blocks.
    pub fn errors(&mut self, stage: &Stage, share: usize) -> f64 {
        self.synthesis(stage, Gradients::None, share)
    }

    /// Bits of latents rounded before by [`Model::harden`], from one of `share` bands.
    pub fn bits(&mut self, share: usize) -> f64 {
        self.rate(0, Wanted::Bits, false, share)
    }

    /// Rounds the latents softly, with noise.
    fn soften(&mut self, base: usize, softness: Softness) {
        /// Rows whose noise has a seed of its own.
        const ROWS: usize = 16;
        let (level, seed, step) = (self.level, self.seed, self.steps);
        let rounding = SoftRounding::new(softness.temperature as f32);
        kumaraswamy(softness.noise, &mut self.noise);
        let noise = &self.noise;
        let shift = 64 - noise.len().ilog2();
        for (l, grid) in self.grids.iter_mut().enumerate().skip(base) {
            let chunk = ROWS * grid.width;
            let rows = grid.values.par_chunks(chunk).zip(grid.soft.par_chunks_mut(chunk));
            let rows = rows.zip(grid.slope.par_chunks_mut(chunk)).enumerate();
            rows.for_each(|(index, ((values, soft), slope))| {
                let key = (u64::from(step) << 32) ^ ((l as u64) << 24) ^ index as u64;
                let mut state = mix(seed ^ mix(key));
                for soft in soft.iter_mut() {
                    // Knuth's linear congruential generator (MMIX).
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    *soft = noise[(state >> shift) as usize];
                }
                rounding.apply(level, values, soft, slope);
            });
        }
    }

    /// Drops what only training needs.
    pub fn end_training(&mut self) {
        for grid in &mut self.grids {
            grid.moments = Moments::new(0);
            grid.slope = Vec::new();
        }
    }

    /// Rounds the latents for good.
    pub fn harden(&mut self) {
        for grid in &mut self.grids {
            for (soft, value) in grid.soft.iter_mut().zip(&grid.values) {
                *soft = value.round();
            }
            grid.rates.iter_mut().for_each(|rate| rate.gradients.clear());
        }
    }

    /// Moves rounded latents towards 0 by one where that lowers the squared error plus `lambda`
    /// times the bits, by the Gauss-Newton model of the error and the entropy model's own
    /// distribution.
    pub fn thin_out(&mut self, stage: &Stage, lambda: f64) {
        self.synthesis(stage, Gradients::Curvatures, 1);
        let curvatures: Vec<Vec<f32>> = self.grids.iter().map(|g| g.gradient.clone()).collect();
        for turn in 0..4 {
            self.synthesis(stage, Gradients::Latents, 1);
            self.rate(0, Wanted::GradientsAndBends, false, 1);
            self.join_rates(0, lambda as f32);
            for (grid, curvatures) in self.grids.iter_mut().zip(&curvatures) {
                let Grid { width, soft, values, gradient, bands, rates, .. } = grid;
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

    /// The latents as rounded by [`Model::harden`], the finest level first.
    pub fn rounded(&self) -> impl Iterator<Item = &[f32]> {
        self.grids.iter().map(|grid| grid.soft.as_slice())
    }

    /// Sets what [`Model::rounded`] gives.
    pub fn set_rounded(&mut self, latents: &[Vec<f32>]) {
        for (grid, latents) in self.grids.iter_mut().zip(latents) {
            grid.soft.copy_from_slice(latents);
            grid.values.copy_from_slice(latents);
        }
    }

    /// Squared errors as in [`Measured`], and gradients; one of `sub` blocks gives those of the
    /// weights.
    fn synthesis(&mut self, stage: &Stage, gradients: Gradients, sub: usize) -> f64 {
        let Stage { base, picture, ref axes } = *stage;
        let shape = synthesis::Shape { levels: self.shape.levels - base, ..self.shape };
        let (full, wide) = (self.shape.levels + 1, self.shape.sines + self.shape.levels + 1);
        let sine = without_columns(&self.sine.values, full, 0, base);
        let output = without_columns(&self.output.values, wide, shape.sines, base);
        let packed = synthesis::Packed::new(shape, &sine, &output);
        let synthesis = Synthesis::new(self.level, picture, axes, &packed);
        let grids = &mut self.grids[base..];
        let mut planes: Vec<Vec<f32>> =
            grids.iter_mut().map(|grid| std::mem::take(&mut grid.gradient)).collect();
        if gradients.latents() {
            planes.iter_mut().for_each(|plane| plane.fill(0.0));
        }
        let latents = grids.iter().map(|g| Latents { width: g.width, values: &g.soft });
        let latents: Vec<Latents> = latents.collect();
        let blocks = synthesis.blocks();
        let sub = sub.min(blocks.len());
        let turn = self.steps as usize % sub;
        let spare = Mutex::new(Vec::new());
        let spare = || spare.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut error, mut measured) = (0.0, 0);
        let (mut by_sine, mut by_output) = (vec![0.0; sine.len()], vec![0.0; output.len()]);
        // Results are merged in order, so that sums do not depend on the threads.
        for (group, blocks) in blocks.chunks(GROUP).enumerate() {
            let results: Vec<_> = blocks
                .par_iter()
                .enumerate()
                .map(|(index, &corner)| {
                    let picked = (GROUP * group + index) % sub == turn;
                    let gradients = if picked { gradients } else { gradients.without_weights() };
                    if !picked && gradients == Gradients::None {
                        return None;
                    }
                    let idle = spare().pop();
                    let mut scratch: synthesis::Scratch = idle.unwrap_or_default();
                    let mut sums = gradients
                        .weights()
                        .then(|| (vec![0.0; by_sine.len()], vec![0.0; by_output.len()]));
                    let result =
                        synthesis.block(corner, &latents, gradients, &mut sums, &mut scratch);
                    spare().push(scratch);
                    Some((result, sums))
                })
                .collect();
            for (result, sums) in results.into_iter().flatten() {
                error += result.error;
                measured += 1;
                if let Some((sine, output)) = sums {
                    add(&mut by_sine, &sine);
                    add(&mut by_output, &output);
                }
                for (footprint, (plane, grid)) in
                    result.footprints.iter().zip(planes.iter_mut().zip(grids.iter()))
                {
                    footprint.add_to(grid.width, grid.height, plane);
                }
            }
        }
        for (grid, plane) in grids.iter_mut().zip(planes) {
            grid.gradient = plane;
        }
        self.sine.gradient = with_columns(&by_sine, full, 0, base);
        self.output.gradient = with_columns(&by_output, wide, shape.sines, base);
        error * blocks.len() as f64 / f64::from(measured)
    }

    /// Bits as in [`Measured`], and gradients; one of `lazy` bands gives new ones.
    fn rate(&mut self, base: usize, wanted: Wanted, weights: bool, lazy: usize) -> f64 {
        let latents = wanted != Wanted::Bits;
        let layers = [0, 1, 2].map(|l| self.entropy[l].values.as_slice());
        let packed = context::Packed::new(self.context, layers);
        // Where gradients are missing, all are made.
        let missing = |l: usize| latents && self.grids[l].rates[0].gradients.is_empty();
        let lazy = if (base..self.grids.len()).any(missing) { 1 } else { lazy };
        let turn = self.steps as usize % lazy;
        let count: usize = self.grids[base..].iter().map(|grid| grid.bands.len()).sum();
        let (lazy, turn) = (lazy.min(count), turn % lazy.min(count));
        let bands = |l: usize| (0..self.grids[l].bands.len()).map(move |band| (l, band));
        let bands = (base..self.grids.len()).flat_map(bands);
        let picked: Vec<(usize, usize)> = bands.skip(turn).step_by(lazy).collect();
        let spare = Mutex::new(Vec::new());
        let spare = || spare.lock().unwrap_or_else(PoisonError::into_inner);
        let lens = self.context.lens();
        let grids = &self.grids;
        let results: Vec<_> = picked
            .par_iter()
            .map(|&(l, band)| {
                let idle = spare().pop();
                let mut scratch: context::Scratch = idle.unwrap_or_default();
                let mut sums = weights.then(|| lens.map(|len| vec![0.0f32; len]));
                let grid = &grids[l];
                let entropy = context::Entropy {
                    level: self.level,
                    packed: &packed,
                    number: l,
                    plane: grid.plane(),
                    coarser: grids.get(l + 1).map(Grid::plane),
                };
                let result = entropy.band(grid.bands[band], wanted, sums.as_mut(), &mut scratch);
                spare().push(scratch);
                (result, sums)
            })
            .collect();
        let fresh: f64 = results.iter().map(|(result, _)| result.bits).sum();
        let mut sums = lens.map(|len| vec![0.0f32; len]);
        for (&(l, band), (result, part)) in picked.iter().zip(results) {
            for (sum, part) in sums.iter_mut().zip(part.iter().flatten()) {
                add(sum, part);
            }
            self.grids[l].rates[band] = result;
        }
        for (weights, sum) in self.entropy.iter_mut().zip(sums) {
            weights.gradient = sum;
        }
        if !latents && !weights {
            return fresh * count as f64 / picked.len() as f64;
        }
        self.grids[base..].iter().flat_map(|grid| &grid.rates).map(|rate| rate.bits).sum()
    }

    /// Adds `lambda` times the gradients of the rates to those of the picture.
    fn join_rates(&mut self, base: usize, lambda: f32) {
        for l in base..self.grids.len() {
            let (finer, rest) = self.grids.split_at_mut(l);
            let grid = &mut rest[0];
            for rate in &grid.rates {
                rate.add_to(0, lambda, grid.width, &mut grid.gradient);
            }
            if l > base {
                for rate in &finer[l - 1].rates {
                    rate.add_to(1, lambda, grid.width, &mut grid.gradient);
                }
            }
        }
    }

    /// Updates the latents.
    fn descend(&mut self, base: usize, update: Update) {
        const CHUNK: usize = 8192;
        let level = self.level;
        for (l, grid) in self.grids.iter_mut().enumerate().skip(base) {
            let adam = grid.adam(l, update);
            let Moments { means: [first, second], .. } = &mut grid.moments;
            let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
            let values = grid.values.par_chunks_mut(CHUNK).zip(moments);
            let gradients = grid.gradient.par_chunks_mut(CHUNK).zip(grid.slope.par_chunks(CHUNK));
            values.zip(gradients).for_each(|((values, (first, second)), (gradient, slope))| {
                gradient.iter_mut().zip(slope).for_each(|(g, slope)| *g *= slope);
                adam.apply(level, values, [first, second], gradient);
            });
        }
    }

    fn learn(&mut self, rate: f64) {
        let level = self.level;
        let soap = SoapParams { lr: SOAP_SHARE * rate, ..SOAP };
        for Weights { values, gradient, optimizer } in [&mut self.sine, &mut self.output] {
            optimizer.step(values, gradient, &soap);
        }
        for Weights { values, gradient, optimizer } in &mut self.entropy {
            let Moments { means: [first, second], steps } = optimizer;
            *steps += 1;
            let adam = Adam::new(rate, (BETAS.0, BETAS.1), *steps);
            adam.apply(level, values, [first, second], gradient);
        }
    }
}

#[cfg(feature = "gpu")]
impl Model {
    /// Has a GPU make the steps from now on.
    ///
    /// # Errors
    /// As [`GridTrainer::new`].
    pub fn move_to(&mut self, gpu: &Gpu) -> Result<(), GpuError> {
        let shape = GridShape {
            levels: self.grids.iter().map(|grid| (grid.width, grid.height)).collect(),
            sines: self.shape.sines,
            hidden: self.context.hidden,
            channels: self.shape.channels,
        };
        self.on_gpu = Some(GridTrainer::new(gpu, shape)?);
        self.hand_over();
        Ok(())
    }

    /// Whether a GPU makes the steps.
    pub fn is_on_gpu(&self) -> bool {
        self.on_gpu.is_some()
    }

    /// Gives the GPU up, and with it what it had.
    pub fn leave_gpu(&mut self) {
        self.on_gpu = None;
    }

    /// The latents from the GPU, if it has them.
    pub fn fetch(&mut self) -> Result<(), EncodeError> {
        let Some(trainer) = &self.on_gpu else { return Ok(()) };
        let mut latents = trainer.latents().map_err(failed)?.into_iter();
        for grid in &mut self.grids {
            let Grid { values, moments: Moments { means: [first, second], .. }, .. } = grid;
            let moments = first.iter_mut().zip(second);
            for ((value, (first, second)), latent) in
                values.iter_mut().zip(moments).zip(&mut latents)
            {
                [*value, *first, *second] = latent;
            }
        }
        Ok(())
    }

    /// The latents to the GPU, if there is one.
    fn hand_over(&mut self) {
        let Some(trainer) = &mut self.on_gpu else { return };
        let latents = self.grids.iter().flat_map(|grid| {
            let [first, second] = &grid.moments.means;
            let moments = first.iter().zip(second);
            grid.values
                .iter()
                .zip(moments)
                .map(|(value, (first, second))| [*value, *first, *second])
        });
        trainer.set_latents(latents);
    }

    /// What a step gives, and the gradients of the networks.
    fn step_on_gpu(
        &mut self,
        stage: &Stage,
        rounding: Rounding,
        update: Option<LatentUpdate>,
        thrift: Thrift,
    ) -> Result<Measured, EncodeError> {
        let base = stage.base;
        let (full, wide) = (self.shape.levels + 1, self.shape.sines + self.shape.levels + 1);
        let weights = GridWeights {
            sine: without_columns(&self.sine.values, full, 0, base),
            output: without_columns(&self.output.values, wide, self.shape.sines, base),
            entropy: [0, 1, 2].map(|l| self.entropy[l].values.clone()),
        };
        let step = GridStep {
            rounding,
            update,
            shares: [thrift.weights, thrift.bands],
            number: self.steps,
            seed: mix(self.seed ^ mix(self.steps.into())),
        };
        let trainer = self.on_gpu.as_mut().expect("there is one");
        if trainer.base() != Some(base) {
            trainer.begin(&picture(stage)).map_err(failed)?;
        }
        let GridResult { error, bits, gradients } =
            trainer.step(&weights, &step).map_err(failed)?;
        self.sine.gradient = with_columns(&gradients.sine, full, 0, base);
        self.output.gradient = with_columns(&gradients.output, wide, self.shape.sines, base);
        for (weights, gradient) in self.entropy.iter_mut().zip(gradients.entropy) {
            weights.gradient = gradient;
        }
        Ok(Measured { error, bits })
    }
}

/// The picture of a stage as a GPU takes it.
#[cfg(feature = "gpu")]
fn picture(stage: &Stage) -> GridPicture {
    let &Picture { width, height, channels, weight, .. } = stage.picture;
    let mut samples = vec![0.0; width * height * channels];
    let mut row = vec![0.0; width];
    for (y, samples) in samples.chunks_exact_mut(width * channels).enumerate() {
        for channel in 0..channels {
            stage.picture.samples(channel, y * width, 1, &mut row);
            let to = samples[channel..].iter_mut().step_by(channels);
            to.zip(&row).for_each(|(to, sample)| *to = *sample);
        }
    }
    GridPicture { base: stage.base, width, height, samples, weight }
}

#[cfg(feature = "gpu")]
fn failed(error: GpuError) -> EncodeError {
    EncodeError::Device { device: "gpu", reason: error.to_string() }
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

/// Latents of level l are so many times 2^l of what Adam's rate is for.
const LATENT_SCALE: f64 = 4.0;

/// Rows of `len` numbers without the `count` from `first` on.
fn without_columns(rows: &[f32], len: usize, first: usize, count: usize) -> Vec<f32> {
    let rows = rows.chunks_exact(len);
    rows.flat_map(|row| row[..first].iter().chain(&row[first + count..])).copied().collect()
}

/// The inverse of [`without_columns`], with zeros for what is missing.
fn with_columns(rows: &[f32], len: usize, first: usize, count: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows.len() / (len - count) * len);
    for row in rows.chunks_exact(len - count) {
        out.extend_from_slice(&row[..first]);
        out.extend(std::iter::repeat_n(0.0, count));
        out.extend_from_slice(&row[first..]);
    }
    out
}

fn add(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

/// Spreads bits (splitmix64).
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests;
