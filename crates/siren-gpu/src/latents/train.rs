//! Training of latents: soft rounding, the picture's error, the latents' bits, the gradients
//! of both, and Adam on the latents. The optimizers of the networks stay on the CPU.

use wgpu::BufferUsages as U;

use super::super::native::block_on;
use super::super::pipeline::{
    EVALUATIONS, bind, compile, compile_sum, counted_error, pass, sum_workgroups,
};
use super::super::{Gpu, GpuError, MOST_BYTES, bytes_of, floats};
use super::{
    BLOCK, BlockLayer, INVOCATIONS, LevelTable, Network, PICTURE, Parameters, places, source,
};
use siren_encoder::train::latents::{
    self as training, Outcome, Rounding, Sizes, Step, Stepper, Weights,
};
use siren_image::DeviceError;
use siren_image::coding::latents::INPUTS;

/// Workgroups that share the tiles, at most.
const WORKGROUPS: u64 = 1584;
/// Numbers of a latent's state.
const STATE: usize = 4;

/// Latents and networks in training on a GPU.
#[derive(Debug)]
pub(crate) struct LatentTrainer {
    gpu: Gpu,
    sizes: Sizes,
    /// Latents of finer levels, and of all at the end.
    starts: Vec<usize>,
    kernels: Kernels,
    soft: wgpu::Buffer,
    state: wgpu::Buffer,
    by_input: wgpu::Buffer,
    stage: Option<StageBuffers>,
}

#[derive(Debug)]
struct Kernels {
    soften: wgpu::ComputePipeline,
    picture: wgpu::ComputePipeline,
    rates: wgpu::ComputePipeline,
    columns: wgpu::ComputePipeline,
    descend: wgpu::ComputePipeline,
    sum: wgpu::ComputePipeline,
}

/// What hangs on the size of the picture.
#[derive(Debug)]
struct StageBuffers {
    base: usize,
    picture: Part,
    rates: Part,
    soften: Bound,
    columns: Bound,
    descend: Bound,
    readable: wgpu::Buffer,
}

/// A network's kernel with what it is given.
#[derive(Debug)]
struct Part {
    network: Network,
    parameters: Parameters,
    uniform: wgpu::Buffer,
    weights: wgpu::Buffer,
    sums: wgpu::Buffer,
    bound: wgpu::BindGroup,
    sum: Bound,
}

/// Buffers of a kernel and its workgroups.
#[derive(Debug)]
struct Bound {
    group: wgpu::BindGroup,
    workgroups: u32,
}

impl LatentTrainer {
    /// Room for latents, all zero.
    ///
    /// # Errors
    /// [`GpuError::TooLarge`] and [`GpuError::Failed`].
    pub fn new(gpu: &Gpu, sizes: Sizes) -> Result<Self, GpuError> {
        let mut starts = vec![0];
        for (width, height) in &sizes.levels {
            starts.push(starts[starts.len() - 1] + width * height);
        }
        let count = starts[sizes.levels.len()] as u64;
        let kernel = |parts: &[&str], entry| compile(gpu, source(parts, 0), entry, None);
        let spline = include_str!("../shaders/spline.wgsl");
        let latents = [spline, include_str!("../shaders/latents.wgsl")];
        let rates = [include_str!("../shaders/rows.wgsl"), include_str!("../shaders/rates.wgsl")];
        let kernels = Kernels {
            soften: kernel(&latents, "soften")?,
            picture: kernel(&PICTURE, "train_picture")?,
            rates: kernel(&rates, "train_rates")?,
            columns: kernel(&latents, "columns")?,
            descend: kernel(&latents, "descend")?,
            sum: compile_sum(gpu)?,
        };
        let copied = U::STORAGE | U::COPY_DST | U::COPY_SRC;
        let of_inputs = 4 * count * INPUTS as u64;
        Ok(Self {
            gpu: gpu.clone(),
            starts,
            kernels,
            soft: gpu.buffer("the latents", 4 * count, copied)?,
            state: gpu.buffer("the latents' state", 4 * STATE as u64 * count, copied)?,
            by_input: gpu.buffer("the gradients of the rates", of_inputs, U::STORAGE)?,
            sizes,
            stage: None,
        })
    }

    /// Goes on with the picture of a stage.
    fn begin(&mut self, stage: &training::Stage) -> Result<(), GpuError> {
        // The old stage's buffers make room first.
        self.stage = None;
        self.stage = Some(self.stage(stage)?);
        Ok(())
    }

    fn stage(&self, stage: &training::Stage) -> Result<StageBuffers, GpuError> {
        let Self { gpu, sizes, kernels, .. } = self;
        let base = stage.base;
        let &training::Picture { width, height, weight, .. } = stage.picture;
        let pixels = width * height;
        let count = sizes.levels.len() - base;
        let (mut tiles, mut columns) = (0, 0);
        let mut levels = Vec::with_capacity(count);
        let mut words: Vec<u32> = Vec::new();
        for (number, &(w, h)) in sizes.levels.iter().enumerate().skip(base) {
            let start = self.starts[number];
            levels.push(LevelTable {
                width: w,
                height: h,
                start,
                number,
                tiles,
                columns,
                ..LevelTable::default()
            });
            tiles += (w * h).div_ceil(INVOCATIONS);
            columns += w * height;
        }
        let centres = |length: usize| (0..length).map(|i| i as f64 + 0.5);
        for (l, level) in levels.iter().enumerate() {
            words.extend(places(l, level.width, 0, centres(width)));
        }
        for (l, level) in levels.iter().enumerate() {
            words.extend(places(l, level.height, 0, centres(height)));
        }
        words.extend(stage.interleaved().into_iter().map(f32::to_bits));
        let samples = gpu.buffer_of("the picture", &words, U::STORAGE)?;
        let by_level =
            gpu.buffer("the splines' gradients", 4 * (count * pixels) as u64, U::STORAGE)?;
        let by_column = gpu.buffer("their sums", 4 * columns as u64, U::STORAGE)?;

        let networks = [
            Network::of_picture(count, sizes.sines, sizes.channels),
            Network::of_rates(sizes.hidden),
        ];
        let tiles = [pixels.div_ceil(INVOCATIONS), tiles];
        let of_workgroup = |network: &Network| {
            16 * (network.gradient_length() + network.rows * INVOCATIONS) as u64
        };
        let most = MOST_BYTES.min(gpu.device.limits().max_storage_buffer_binding_size);
        let workgroups = [0, 1].map(|i| {
            let network = &networks[i];
            let most = (most / of_workgroup(network)).clamp(1, WORKGROUPS);
            gpu.workgroups(tiles[i] as u64, most, network.iterations())
        });
        let bytes = [0, 1].map(|i| u64::from(workgroups[i]) * of_workgroup(&networks[i]));
        let work = gpu.buffer("the workgroups' rows", bytes[0].max(bytes[1]), U::STORAGE)?;

        let last = self.starts[sizes.levels.len()];
        let common = Parameters {
            size: (width, height),
            channels: sizes.channels,
            points: pixels,
            latents: last,
            scale: 0.25 * weight / sizes.channels as f32,
            levels,
            ..Parameters::default()
        };
        let part = |i: usize, kernel: &wgpu::ComputePipeline, more: &[(u32, &wgpu::Buffer)]| {
            let network = networks[i].clone();
            let parameters = Parameters {
                workgroups: workgroups[i],
                tiles: tiles[i],
                gradient_length: network.gradient_length(),
                ..common.clone()
            };
            let uniform = parameters.words(&network);
            let uniform = gpu.buffer_of("the parameters", &uniform, U::UNIFORM)?;
            let of_weights = 16 * network.length() as u64;
            let weights = gpu.buffer("the weights", of_weights, U::STORAGE | U::COPY_DST)?;
            let of_gradient = 16 * network.gradient_length() as u64;
            let sums = gpu.buffer("the gradient", of_gradient, U::STORAGE | U::COPY_SRC)?;
            let counts = [network.gradient_length() as u32, workgroups[i], 0, 0];
            let of_counts = gpu.buffer_of("the counts", &counts, U::UNIFORM)?;
            let buffers =
                [&[(0, &uniform), (1, &weights), (3, &self.soft), (4, &work)], more].concat();
            let bound = bind(gpu, &kernel.get_bind_group_layout(0), &buffers);
            let summed = [(0, &of_counts), (1, &work), (2, &sums)];
            let sum = Bound {
                group: bind(gpu, &kernels.sum.get_bind_group_layout(0), &summed),
                workgroups: sum_workgroups(network.gradient_length() as u32),
            };
            Ok(Part { network, parameters, uniform, weights, sums, bound, sum })
        };
        let of_picture = part(0, &kernels.picture, &[(2, &samples), (5, &by_level)])?;
        let of_rates = part(1, &kernels.rates, &[(7, &self.by_input)])?;
        let limit = gpu.device.limits().max_compute_workgroups_per_dimension as usize;
        let bound =
            |kernel: &wgpu::ComputePipeline, items: usize, more: &[(u32, &wgpu::Buffer)]| {
                let buffers = [&[(0, &of_picture.uniform)], more].concat();
                let group = bind(gpu, &kernel.get_bind_group_layout(0), &buffers);
                Bound { group, workgroups: items.div_ceil(INVOCATIONS).min(limit) as u32 }
            };
        let used = last - self.starts[base];
        let stage = StageBuffers {
            base,
            soften: bound(&kernels.soften, used, &[(3, &self.soft), (9, &self.state)]),
            columns: bound(
                &kernels.columns,
                columns,
                &[(2, &samples), (5, &by_level), (8, &by_column)],
            ),
            descend: bound(
                &kernels.descend,
                used,
                &[(2, &samples), (7, &self.by_input), (8, &by_column), (9, &self.state)],
            ),
            readable: gpu.buffer(
                "the gradients",
                of_picture.sums.size() + of_rates.sums.size(),
                U::MAP_READ | U::COPY_DST,
            )?,
            picture: of_picture,
            rates: of_rates,
        };
        gpu.check()?;
        Ok(stage)
    }

    fn state<T>(&self, pick: impl Fn([f32; STATE]) -> T) -> Result<Vec<T>, GpuError> {
        let gpu = &self.gpu;
        let bytes = self.state.size();
        let readable = gpu.buffer("the latents", bytes, U::MAP_READ | U::COPY_DST)?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&self.state, 0, &readable, 0, bytes);
        let submission = gpu.queue.submit([encoder.finish()]);
        block_on(gpu.read(&readable, bytes, Some(submission), |bytes| {
            let numbers: Vec<f32> = floats(bytes).collect();
            numbers.as_chunks().0.iter().map(|state| pick(*state)).collect()
        }))
    }

    /// Sets the latents of all levels as the networks see them, for steps that keep them.
    #[cfg(test)]
    pub fn set_rounded(&mut self, latents: &[f32]) {
        let words: Vec<u32> = latents.iter().map(|latent| latent.to_bits()).collect();
        self.gpu.queue.write_buffer(&self.soft, 0, &bytes_of(&words));
        let words = latents.iter().flat_map(|_| [0.0, 0.0, 0.0, 1f32]).map(f32::to_bits);
        let words: Vec<u32> = words.collect();
        self.gpu.queue.write_buffer(&self.state, 0, &bytes_of(&words));
    }

    /// The last gradient of the latents of all levels.
    #[cfg(test)]
    pub fn gradients(&self) -> Result<Vec<f32>, GpuError> {
        self.state(|[.., gradient]| gradient)
    }

    fn compute(
        &mut self,
        on: &training::Stage,
        weights: &Weights,
        step: &Step,
    ) -> Result<Outcome, GpuError> {
        if self.stage.as_ref().is_none_or(|stage| stage.base != on.base) {
            self.begin(on)?;
        }
        let Self { gpu, kernels, stage, .. } = self;
        let StageBuffers { picture, rates, soften, columns, descend, readable, .. } =
            stage.as_mut().expect("a stage has begun");
        let by_latents = step.update.is_some();
        for (part, share) in [&mut *picture, &mut *rates].into_iter().zip(step.shares) {
            let parameters = &mut part.parameters;
            parameters.share = share.min(parameters.tiles).max(1);
            parameters.turn = step.number as usize % parameters.share;
            parameters.by_latents = by_latents;
            parameters.set(step);
            let words = parameters.words(&part.network);
            gpu.queue.write_buffer(&part.uniform, 0, &bytes_of(&words));
        }
        let Weights { sine, output, entropy } = weights;
        let of_picture = picture.network.packed(&[sine, output]);
        gpu.queue.write_buffer(&picture.weights, 0, &bytes_of(&of_picture));
        let of_rates = rates.network.packed(&entropy.each_ref().map(Vec::as_slice));
        gpu.queue.write_buffer(&rates.weights, 0, &bytes_of(&of_rates));

        let mut recorder = Recorder::new(gpu);
        if step.rounding != Rounding::Kept {
            recorder.pass(&kernels.soften, soften);
        }
        recorder.part(&kernels.picture, &kernels.sum, picture);
        recorder.part(&kernels.rates, &kernels.sum, rates);
        if by_latents {
            recorder.pass(&kernels.columns, columns);
            recorder.pass(&kernels.descend, descend);
        }
        let mut encoder = recorder.encoder;
        let (first, second) = (picture.sums.size(), rates.sums.size());
        encoder.copy_buffer_to_buffer(&picture.sums, 0, readable, 0, first);
        encoder.copy_buffer_to_buffer(&rates.sums, 0, readable, first, second);
        let submission = gpu.queue.submit([encoder.finish()]);
        let bytes = first + second;
        let sums = gpu.read(readable, bytes, Some(submission), |bytes| floats(bytes).collect());
        let sums: Vec<f32> = block_on(sums)?;
        let (of_picture, of_rates) = sums.split_at(first as usize / 4);
        let (rows, error) = picture.unpacked(of_picture, picture.parameters.points)?;
        let Ok([sine, output]) = <[Vec<f32>; 2]>::try_from(rows) else {
            unreachable!("two layers")
        };
        let latents = picture.parameters.levels.iter().map(|level| level.width * level.height);
        let (rows, bits) = rates.unpacked(of_rates, latents.sum())?;
        let Ok(entropy) = <[Vec<f32>; 3]>::try_from(rows) else { unreachable!("three layers") };
        Ok(Outcome { error, bits, gradients: Weights { sine, output, entropy } })
    }
}

impl Stepper for LatentTrainer {
    fn step(
        &mut self,
        stage: &training::Stage,
        weights: &Weights,
        step: &Step,
    ) -> Result<Outcome, DeviceError> {
        Ok(self.compute(stage, weights, step)?)
    }

    fn latents(&self) -> Result<Vec<[f32; 3]>, DeviceError> {
        Ok(self.state(|[value, first, second, _]| [value, first, second])?)
    }

    fn set_latents(&mut self, latents: &[[f32; 3]]) -> Result<(), DeviceError> {
        let words = latents.iter().flat_map(|&[value, first, second]| [value, first, second, 0.0]);
        let words: Vec<u32> = words.map(f32::to_bits).collect();
        self.gpu.queue.write_buffer(&self.state, 0, &bytes_of(&words));
        Ok(())
    }
}

impl Parameters {
    fn set(&mut self, step: &Step) {
        let seed = step.key();
        self.key = seed as u32 ^ (seed >> 32) as u32 ^ step.number.rotate_left(16);
        self.rounding = match step.rounding {
            Rounding::Kept | Rounding::Hard => [0.0; 4],
            Rounding::Soft { temperature, noise } => {
                let inverse = 1.0 / temperature;
                let b = (2f64.powf(noise) * (noise - 1.0) + 1.0) / noise;
                [inverse, 0.5 / (0.5 * inverse).tanh(), 1.0 / noise, 1.0 / b].map(|n| n as f32)
            }
        };
        if let Some(update) = &step.update {
            self.lambda = update.lambda as f32;
            self.betas = [update.betas.0, update.betas.1].map(|beta| beta as f32);
            for (level, rate) in self.levels.iter_mut().zip(&update.rates) {
                level.rate = *rate;
            }
        }
    }
}

impl Part {
    /// The rows of the gradient and the sum of the errors.
    fn unpacked(&self, sums: &[f32], wanted: usize) -> Result<(Vec<Vec<f32>>, f64), GpuError> {
        let (gradient, end) = sums.split_at(BLOCK * self.network.length());
        Ok((self.network.unpacked(gradient), counted_error(end, wanted)?))
    }
}

impl Network {
    /// The entropy model: rows of inputs and of both hidden layers, then of the gradients of all
    /// layers' affine outputs.
    fn of_rates(hidden: [usize; 2]) -> Self {
        let [input, a, b] = [INPUTS, hidden[0], hidden[1]].map(|n| (n + 1).div_ceil(BLOCK));
        let deltas = input + a + b;
        let layer = |(outputs, inputs), start, rows, blocks| BlockLayer {
            outputs,
            inputs: inputs + 1,
            second: usize::MAX,
            start,
            rows,
            blocks,
        };
        let [h1, h2] = hidden;
        let first = layer((h1, INPUTS), 0, [0, input, deltas], [input, a]);
        let start = first.length();
        let second = layer((h2, h1), start, [input, input + a, deltas + a], [a, b]);
        let start = start + second.length();
        let third = layer((2, h2), start, [input + a, 0, deltas + a + b], [b, 1]);
        Self { layers: vec![first, second, third], rows: deltas + a + b + 1, ones: true }
    }

    /// `vec4f` of a gradient; the last holds the error.
    fn gradient_length(&self) -> usize {
        self.length() + 1
    }

    /// The rows of each layer's gradient.
    fn unpacked(&self, gradient: &[f32]) -> Vec<Vec<f32>> {
        let rows = |layer: &BlockLayer| {
            let row = |o| (0..layer.inputs).map(move |k| gradient[layer.place(o, k)]);
            (0..layer.outputs).flat_map(row).collect()
        };
        self.layers.iter().map(rows).collect()
    }
}

/// Passes, in as many submissions as keep them short.
struct Recorder<'a> {
    gpu: &'a Gpu,
    encoder: wgpu::CommandEncoder,
}

impl<'a> Recorder<'a> {
    fn new(gpu: &'a Gpu) -> Self {
        Self { gpu, encoder: gpu.device.create_command_encoder(&Default::default()) }
    }

    fn pass(&mut self, kernel: &wgpu::ComputePipeline, bound: &Bound) {
        pass(&mut self.encoder, kernel, &bound.group, bound.workgroups, None);
    }

    /// A network's kernel and the sum of its workgroups' gradients.
    fn part(&mut self, kernel: &wgpu::ComputePipeline, sum: &wgpu::ComputePipeline, part: &Part) {
        let Parameters { workgroups, tiles, .. } = part.parameters;
        let points = tiles.div_ceil(workgroups as usize) * INVOCATIONS;
        let flops = EVALUATIONS * part.network.flops() * points as u64;
        let most = (self.gpu.most_flops / flops).clamp(1, workgroups.into()) as u32;
        let mut first = 0;
        while workgroups - first > most {
            pass(&mut self.encoder, kernel, &part.bound, most, None);
            first += most;
            self.submit();
            self.set_first(part, first);
        }
        pass(&mut self.encoder, kernel, &part.bound, workgroups - first, None);
        self.pass(sum, &part.sum);
        if first > 0 {
            self.submit();
            self.set_first(part, 0);
        }
    }

    /// Sets the first workgroup of the passes that follow.
    fn set_first(&self, part: &Part, first: u32) {
        self.gpu.queue.write_buffer(&part.uniform, 4, &first.to_le_bytes());
    }

    fn submit(&mut self) {
        let next = self.gpu.device.create_command_encoder(&Default::default());
        self.gpu.queue.submit([std::mem::replace(&mut self.encoder, next).finish()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use siren_encoder::train::latents::{Cpu, LatentUpdate, Picture, Pixels, Stage};

    const LAMBDA: f64 = 3e-3;

    fn sizes(levels: usize, sines: usize, hidden: [usize; 2], channels: usize) -> Sizes {
        Sizes { levels: vec![(0, 0); levels], sines, hidden, channels }
    }

    /// Weights for the levels from `base` on.
    fn random_weights(sizes: &Sizes, base: usize, rng: &mut impl Rng) -> Weights {
        let Sizes { sines, hidden: [h1, h2], channels, .. } = *sizes;
        let levels = sizes.levels.len() - base;
        let mut rows = |outputs: usize, inputs: usize, bound: f32, bias: f32| -> Vec<f32> {
            let mut row = Vec::new();
            for _ in 0..outputs {
                row.extend((0..inputs).map(|_| rng.random_range(-bound..bound)));
                row.push(rng.random_range(-bias..bias));
            }
            row
        };
        let mut entropy = |outputs: usize, inputs: usize| {
            let bound = (1.0 / inputs as f32).sqrt();
            rows(outputs, inputs, bound, bound)
        };
        let entropy = [entropy(h1, INPUTS), entropy(h2, h1), entropy(2, h2)];
        Weights {
            sine: rows(sines, levels, 0.14, 1.5),
            output: rows(channels, sines + levels, 0.2, 0.2),
            entropy,
        }
    }

    /// All gradients, by groups: weights, latents level by level.
    fn groups(outcome: &Outcome, latents: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        let Weights { sine, output, entropy } = outcome.gradients.clone();
        [sine, output].into_iter().chain(entropy).chain(latents).collect()
    }

    #[test]
    fn a_gpu_gives_what_the_cpu_gives() {
        let Some(gpu) = Gpu::for_tests() else { return };
        let cases = [
            (sizes(3, 5, [7, 6], 3), (37, 29), 0),
            (sizes(1, 1, [1, 1], 1), (9, 3), 0),
            // More than a tile of the entropy model.
            (sizes(4, 12, [8, 8], 4), (521, 22), 0),
            (sizes(7, 32, [16, 16], 2), (130, 514), 1),
            (sizes(10, 48, [32, 24], 3), (130, 71), 2),
        ];
        for (case, (mut sizes, (width, height), base)) in cases.into_iter().enumerate() {
            let mut rng = ChaCha8Rng::seed_from_u64(case as u64);
            let part = |len: usize, l: usize| len.div_ceil(1 << l);
            for (l, level) in sizes.levels.iter_mut().enumerate() {
                *level = (part(width, l), part(height, l));
            }
            let weights = random_weights(&sizes, base, &mut rng);
            let (width, height) = (part(width, base), part(height, base));
            let count = sizes.channels * width * height;
            let samples = (0..count).map(|_| rng.random_range(-1.0..1.0)).collect();
            let (channels, pixels) = (sizes.channels, Pixels::Planar(samples));
            let picture = Picture { width, height, channels, pixels, weight: 1.7 };
            let stage = Stage { base, picture: &picture };
            let mut random = |_| rng.random_range(-2.5..2.5);
            let areas = sizes.levels.iter().map(|(width, height)| width * height);
            let rounded: Vec<Vec<f32>> =
                areas.map(|area| (0..area).map(&mut random).collect()).collect();
            // Latents that stay where they are.
            let rates = vec![(0.0, 1.0); sizes.levels.len() - base];
            let update = LatentUpdate { lambda: LAMBDA, betas: (0.9, 0.99), rates };
            let (rounding, update) = (Rounding::Kept, Some(update));
            let step = Step { rounding, update, shares: [1, 1], number: 0, seed: 0 };

            let mut cpu = Cpu::new(&sizes);
            cpu.set_rounded(&rounded);
            cpu.levels.iter_mut().for_each(|level| level.slope.fill(1.0));
            let outcome = cpu.step(&stage, &weights, &step).unwrap();
            let used = cpu.levels.iter().skip(base);
            let wanted = groups(&outcome, used.map(|level| level.gradient.clone()).collect());

            let run = |gpu: &Gpu| {
                let mut trainer = LatentTrainer::new(gpu, sizes.clone()).unwrap();
                trainer.set_rounded(&rounded.concat());
                let outcome = trainer.step(&stage, &weights, &step).unwrap();
                let mut all = trainer.gradients().unwrap().into_iter();
                let levels = rounded.iter().map(|level| all.by_ref().take(level.len()).collect());
                let levels: Vec<Vec<f32>> = levels.collect();
                let found = groups(&outcome, levels[base..].to_vec());
                (outcome, found)
            };
            let (on_gpu, found) = run(&gpu);
            let Outcome { error, bits, .. } = outcome;
            assert!((on_gpu.error / error - 1.0).abs() < 1e-4, "{} {error}", on_gpu.error);
            assert!((on_gpu.bits / bits - 1.0).abs() < 1e-4, "{} {bits}", on_gpu.bits);
            assert_eq!(found.len(), wanted.len());
            for (group, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                assert_eq!(found.len(), wanted.len());
                let (mut difference, mut norm) = (0.0, 0.0);
                for (found, wanted) in found.iter().zip(wanted) {
                    difference += f64::from(found - wanted).powi(2);
                    norm += f64::from(*wanted).powi(2);
                }
                let error = (difference / norm.max(1e-30)).sqrt();
                assert!(error < 2e-4, "case {case}, group {group}: {error}");
            }
            assert_eq!(run(&gpu).1, found, "bit by bit the same from run to run");
            // A dispatch for each workgroup.
            let many = gpu.clone().with_most_flops(1);
            assert_eq!(run(&many).1, found, "the same by many dispatches");
        }
    }
}
