//! Training of latents of splines: soft rounding, the picture's error, the latents' bits, the gradients
//! of both, and Adam on the latents. The optimizers of the networks stay on the CPU.

use wgpu::BufferUsages as U;

use super::{EVALUATIONS, compile_sum, counted_error, sum_workgroups};
use crate::latents::{
    BLOCK, BlockLayer, INVOCATIONS, LevelTable, Network, PICTURE, Parameters, places, source,
};
use crate::native::block_on;
use crate::pipeline::{bind, compile, pass};
use crate::{Gpu, GpuError, MOST_BYTES, bytes_of, floats};
use siren_encoder::train::latents::{
    self as training, Outcome, Rounding, Sizes, Step, Stepper, Weights,
};
use siren_image::DeviceError;
use siren_image::coding::latents::INPUTS;
use siren_image::latents::Basis;

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
    /// The finest plane in use, and how often the picture was halved.
    base: usize,
    shift: usize,
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

impl Bound {
    /// For a kernel with an invocation for each item, or several where these are too many.
    fn of_items(
        gpu: &Gpu,
        kernel: &wgpu::ComputePipeline,
        items: usize,
        buffers: &[(u32, &wgpu::Buffer)],
    ) -> Self {
        let most = gpu.device.limits().max_compute_workgroups_per_dimension as usize;
        let group = bind(gpu, &kernel.get_bind_group_layout(0), buffers);
        Self { group, workgroups: items.div_ceil(INVOCATIONS).min(most) as u32 }
    }
}

/// Levels in use, and how many tiles of latents and sums along rows of pixels they have.
struct Tables {
    levels: Vec<LevelTable>,
    tiles: usize,
    columns: usize,
}

/// A network's kernel and how many workgroups share its tiles.
struct Plan<'a> {
    kernel: &'a wgpu::ComputePipeline,
    network: Network,
    tiles: usize,
    workgroups: u32,
}

impl<'a> Plan<'a> {
    fn new(gpu: &Gpu, kernel: &'a wgpu::ComputePipeline, network: Network, tiles: usize) -> Self {
        let most = MOST_BYTES.min(gpu.device.limits().max_storage_buffer_binding_size);
        let most = (most / network.work_bytes()).clamp(1, WORKGROUPS);
        let workgroups = gpu.workgroups(tiles as u64, most, network.iterations());
        Self { kernel, network, tiles, workgroups }
    }

    /// Bytes of all workgroups' gradients and rows.
    fn work_bytes(&self) -> u64 {
        u64::from(self.workgroups) * self.network.work_bytes()
    }
}

impl LatentTrainer {
    /// Room for latents, all zero.
    ///
    /// # Errors
    /// [`GpuError::TooLarge`] and [`GpuError::Failed`].
    pub fn new(gpu: &Gpu, sizes: Sizes) -> Result<Self, GpuError> {
        let mut starts = vec![0];
        for (width, height) in &sizes.planes {
            starts.push(starts[starts.len() - 1] + width * height);
        }
        let count = starts[sizes.planes.len()] as u64;
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
        let Self { gpu, sizes, kernels, soft, state, by_input, .. } = self;
        let &training::Picture { width, height, weight, .. } = stage.picture;
        let (pixels, last) = (width * height, self.starts[sizes.planes.len()]);
        let used = last - self.starts[stage.base];
        let Tables { levels, tiles, columns } = self.tables(stage.base, height);
        let count = levels.len();
        let samples = gpu.buffer_of("the picture", &picture_words(stage, &levels), U::STORAGE)?;
        let by_level = 4 * (count * pixels) as u64;
        let by_level = gpu.buffer("the splines' gradients", by_level, U::STORAGE)?;
        let by_column = gpu.buffer("their sums", 4 * columns as u64, U::STORAGE)?;

        let network = Network::of_picture(count, sizes.sines, sizes.channels);
        let picture = Plan::new(gpu, &kernels.picture, network, pixels.div_ceil(INVOCATIONS));
        let rates = Plan::new(gpu, &kernels.rates, Network::of_rates(sizes.hidden.splines), tiles);
        let of_work = picture.work_bytes().max(rates.work_bytes());
        let work = gpu.buffer("the workgroups' rows", of_work, U::STORAGE)?;
        let common = Parameters {
            size: (width, height),
            channels: sizes.channels,
            points: pixels,
            latents: last,
            shift: stage.shift,
            scale: 0.25 * weight / sizes.channels as f32,
            levels,
            ..Parameters::default()
        };
        let picture = self.part(picture, &common, &work, &[(2, &samples), (5, &by_level)])?;
        let rates = self.part(rates, &common, &work, &[(7, by_input)])?;

        let bound = |kernel, items, more: &[(u32, &wgpu::Buffer)]| {
            Bound::of_items(gpu, kernel, items, &[&[(0, &picture.uniform)], more].concat())
        };
        let sums = picture.sums.size() + rates.sums.size();
        let stage = StageBuffers {
            base: stage.base,
            shift: stage.shift,
            soften: bound(&kernels.soften, used, &[(3, soft), (9, state)]),
            columns: bound(
                &kernels.columns,
                columns,
                &[(2, &samples), (5, &by_level), (8, &by_column)],
            ),
            descend: bound(
                &kernels.descend,
                used,
                &[(2, &samples), (7, by_input), (8, &by_column), (9, state)],
            ),
            readable: gpu.buffer("the gradients", sums, U::MAP_READ | U::COPY_DST)?,
            picture,
            rates,
        };
        gpu.check()?;
        Ok(stage)
    }

    /// The levels from plane `base` on, for a picture of so many rows.
    fn tables(&self, base: usize, rows: usize) -> Tables {
        let (mut levels, mut tiles, mut columns) = (Vec::new(), 0, 0);
        let planes = self.sizes.planes.iter().zip(&self.starts).enumerate().skip(base);
        for (index, (&(width, height), &start)) in planes {
            let (number, rate) = (self.sizes.bases.finest() + index, Default::default());
            levels.push(LevelTable { width, height, start, number, tiles, columns, rate });
            tiles += (width * height).div_ceil(INVOCATIONS);
            columns += width * rows;
        }
        Tables { levels, tiles, columns }
    }

    /// The buffers of a network, of which `more` are those that are its own.
    fn part(
        &self,
        plan: Plan,
        common: &Parameters,
        work: &wgpu::Buffer,
        more: &[(u32, &wgpu::Buffer)],
    ) -> Result<Part, GpuError> {
        let Self { gpu, kernels, soft, .. } = self;
        let Plan { kernel, network, tiles, workgroups } = plan;
        let gradient_length = network.gradient_length();
        let parameters = Parameters { workgroups, tiles, gradient_length, ..common.clone() };
        let uniform = gpu.buffer_of("the parameters", &parameters.words(&network), U::UNIFORM)?;
        let of_weights = 16 * network.length() as u64;
        let weights = gpu.buffer("the weights", of_weights, U::STORAGE | U::COPY_DST)?;
        let of_gradient = 16 * gradient_length as u64;
        let sums = gpu.buffer("the gradient", of_gradient, U::STORAGE | U::COPY_SRC)?;
        let counts = [gradient_length as u32, workgroups, 0, 0];
        let counts = gpu.buffer_of("the counts", &counts, U::UNIFORM)?;
        let buffers = [&[(0, &uniform), (1, &weights), (3, soft), (4, work)], more].concat();
        let bound = bind(gpu, &kernel.get_bind_group_layout(0), &buffers);
        let summed = [(0, &counts), (1, work), (2, &sums)];
        let sum = Bound {
            group: bind(gpu, &kernels.sum.get_bind_group_layout(0), &summed),
            workgroups: sum_workgroups(gradient_length as u32),
        };
        Ok(Part { network, parameters, uniform, weights, sums, bound, sum })
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
        let wanted = (on.base, on.shift);
        if self.stage.as_ref().is_none_or(|stage| (stage.base, stage.shift) != wanted) {
            self.begin(on)?;
        }
        let Self { gpu, kernels, stage, .. } = self;
        let StageBuffers { picture, rates, soften, columns, descend, readable, .. } =
            stage.as_mut().expect("a stage has begun");
        let Weights { sine, output, entropy } = weights;
        picture.write(gpu, step, step.shares[0], &[sine, output]);
        rates.write(gpu, step, step.shares[1], &entropy[0].each_ref().map(Vec::as_slice));

        let mut recorder = Recorder::new(gpu);
        if step.rounding != Rounding::Kept {
            recorder.pass(&kernels.soften, soften);
        }
        recorder.part(&kernels.picture, &kernels.sum, picture);
        recorder.part(&kernels.rates, &kernels.sum, rates);
        if step.update.is_some() {
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
        outcome((picture, of_picture), (rates, of_rates))
    }
}

/// What the sums over the workgroups say.
fn outcome(picture: (&Part, &[f32]), rates: (&Part, &[f32])) -> Result<Outcome, GpuError> {
    let (picture, sums) = picture;
    let (rows, error) = picture.unpacked(sums, picture.parameters.points)?;
    let Ok([sine, output]) = <[Vec<f32>; 2]>::try_from(rows) else { unreachable!("two layers") };
    let (rates, sums) = rates;
    let latents = rates.parameters.levels.iter().map(|level| level.width * level.height);
    let (rows, bits) = rates.unpacked(sums, latents.sum())?;
    let Ok(entropy) = <[Vec<f32>; 3]>::try_from(rows) else { unreachable!("three layers") };
    Ok(Outcome { error, bits, gradients: Weights { sine, output, entropy: vec![entropy] } })
}

/// The places of a stage's pixels in the levels, column by column and row by row, and the samples.
fn picture_words(stage: &training::Stage, levels: &[LevelTable]) -> Vec<u32> {
    let &training::Picture { width, height, .. } = stage.picture;
    let centres = |length: usize| (0..length).map(|i| i as f64 + 0.5);
    let mut words: Vec<u32> = Vec::new();
    // In pixels of the stage.
    let basis = |level: &LevelTable| Basis::Splines { level: level.number - stage.shift };
    for level in levels {
        words.extend(places(basis(level), level.width, 0, centres(width)));
    }
    for level in levels {
        words.extend(places(basis(level), level.height, 0, centres(height)));
    }
    words.extend(stage.interleaved().into_iter().map(f32::to_bits));
    words
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
    /// Writes what a step of one in `share` tiles is given: the parameters and the layers' weights.
    fn write(&mut self, gpu: &Gpu, step: &Step, share: usize, layers: &[&[f32]]) {
        let parameters = &mut self.parameters;
        parameters.share = share.min(parameters.tiles).max(1);
        parameters.turn = step.number as usize % parameters.share;
        parameters.by_latents = step.update.is_some();
        parameters.set(step);
        let words = parameters.words(&self.network);
        gpu.queue.write_buffer(&self.uniform, 0, &bytes_of(&words));
        gpu.queue.write_buffer(&self.weights, 0, &bytes_of(&self.network.packed(layers)));
    }

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

    /// Bytes of a workgroup's gradient and rows.
    fn work_bytes(&self) -> u64 {
        16 * (self.gradient_length() + self.rows * INVOCATIONS) as u64
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
        pass(&mut self.encoder, [(kernel, &bound.group, bound.workgroups)], None);
    }

    /// A network's kernel and the sum of its workgroups' gradients.
    fn part(&mut self, kernel: &wgpu::ComputePipeline, sum: &wgpu::ComputePipeline, part: &Part) {
        let Parameters { workgroups, tiles, .. } = part.parameters;
        let points = tiles.div_ceil(workgroups as usize) * INVOCATIONS;
        let flops = EVALUATIONS * part.network.flops() * points as u64;
        let most = (self.gpu.most_flops / flops).clamp(1, workgroups.into()) as u32;
        let mut first = 0;
        while workgroups - first > most {
            pass(&mut self.encoder, [(kernel, &part.bound, most)], None);
            first += most;
            self.submit();
            self.set_first(part, first);
        }
        pass(&mut self.encoder, [(kernel, &part.bound, workgroups - first)], None);
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
    use siren_encoder::train::Device;
    use siren_encoder::train::latents::{Cpu, LatentUpdate, Picture, Pixels, Stage};
    use siren_image::coding::payload::Hidden;
    use siren_image::latents::Bases;

    const LAMBDA: f64 = 3e-3;

    /// Levels of splines from `finest` on.
    fn sizes(
        (finest, levels): (usize, usize),
        sines: usize,
        splines: [usize; 2],
        channels: usize,
    ) -> Sizes {
        let bases = Bases::new(0, 0, finest, levels).unwrap();
        let hidden = Hidden { splines, waves: None };
        Sizes { bases, planes: Vec::new(), sines, hidden, channels }
    }

    /// Weights for the levels from `base` on.
    fn random_weights(sizes: &Sizes, base: usize, rng: &mut impl Rng) -> Weights {
        let Sizes { sines, hidden: Hidden { splines: [h1, h2], .. }, channels, .. } = *sizes;
        let levels = sizes.bases.count() - base;
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
            entropy: vec![entropy],
        }
    }

    /// All gradients, by groups: weights, latents level by level.
    fn groups(outcome: &Outcome, latents: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        let Weights { sine, output, entropy } = outcome.gradients.clone();
        [sine, output].into_iter().chain(entropy.into_iter().flatten()).chain(latents).collect()
    }

    #[test]
    fn a_gpu_gives_what_the_cpu_gives() {
        let Some(gpu) = Gpu::for_tests() else { return };
        let cases = [
            // Sizes, of the picture too, and how often it is halved.
            (sizes((0, 3), 5, [7, 6], 3), (37, 29), 0),
            (sizes((0, 1), 1, [1, 1], 1), (9, 3), 0),
            // More than a tile of the entropy model.
            (sizes((0, 4), 12, [8, 8], 4), (521, 22), 0),
            (sizes((0, 7), 32, [16, 16], 2), (130, 514), 1),
            (sizes((0, 10), 48, [32, 24], 3), (130, 71), 2),
            // Splines that are coarser than the pixels.
            (sizes((2, 3), 5, [7, 6], 3), (57, 83), 1),
            (sizes((1, 3), 5, [7, 6], 1), (57, 83), 2),
        ];
        for (case, (mut sizes, (width, height), shift)) in cases.into_iter().enumerate() {
            let mut rng = ChaCha8Rng::seed_from_u64(case as u64);
            let part = |len: usize, l: usize| len.div_ceil(1 << l);
            let finest = sizes.bases.finest();
            let levels = finest..finest + sizes.bases.count();
            sizes.planes = levels.map(|l| (part(width, l), part(height, l))).collect();
            let base = usize::saturating_sub(shift, finest);
            let weights = random_weights(&sizes, base, &mut rng);
            let (width, height) = (part(width, shift), part(height, shift));
            let count = sizes.channels * width * height;
            let samples = (0..count).map(|_| rng.random_range(-1.0..1.0)).collect();
            let (channels, pixels) = (sizes.channels, Pixels::Planar(samples));
            let picture = Picture { width, height, channels, pixels, weight: 1.7 };
            let stage = Stage { base, shift, picture: &picture };
            let mut random = |_| rng.random_range(-2.5..2.5);
            let areas = sizes.planes.iter().map(|(width, height)| width * height);
            let rounded: Vec<Vec<f32>> =
                areas.map(|area| (0..area).map(&mut random).collect()).collect();
            // Latents that stay where they are.
            let rates = vec![(0.0, 1.0); sizes.planes.len() - base];
            let update = LatentUpdate { lambda: LAMBDA, betas: (0.9, 0.99), rates };
            let (rounding, update) = (Rounding::Kept, Some(update));
            let step = Step { rounding, update, shares: [1, 1], number: 0, seed: 0 };

            let mut cpu = Cpu::new(&sizes);
            cpu.set_rounded(&rounded);
            cpu.planes.iter_mut().for_each(|plane| plane.slope.fill(1.0));
            let outcome = cpu.step(&stage, &weights, &step).unwrap();
            let used = cpu.planes.iter().skip(base);
            let wanted = groups(&outcome, used.map(|plane| plane.gradient.clone()).collect());

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

    #[test]
    fn waves_are_left_to_the_cpu() {
        let Some(mut gpu) = Gpu::for_tests() else { return };
        let bases = Bases::new(1, 8, 2, 3).unwrap();
        let hidden = Hidden { splines: [7, 6], waves: Some([5, 4]) };
        let planes = bases.iter().map(|basis| (basis.length(37), basis.length(29))).collect();
        let sizes = Sizes { bases, planes, sines: 5, hidden, channels: 3 };
        let refused = gpu.latents(&sizes).err().unwrap().to_string();
        assert_eq!(refused, "trainings of waves are not computed on a GPU yet");
    }
}
