//! The picture from the latents, its squared error, and the gradients of both: splines, sine
//! layer and output layer of one block of pixels after another, line by line, forward and back
//! while the block is in cache. Knows no entropy model and no optimizer.

use siren_kernel::{Activation, Affine, LANES, Matrix, Simd, add_outer};

use super::lines::{self, LONGEST, Lines};
use siren_image::latents::Basis;
use siren_image::{Raster, Samples};
use siren_kernel::training;

/// Pixels of a line of a block, and lines.
const BLOCK: (usize, usize) = (LONGEST, 32);

/// The pixels that are trained on.
#[derive(Debug, Clone)]
pub struct Picture<'a> {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Samples of a pixel.
    pub channels: usize,
    /// The samples.
    pub pixels: Pixels<'a>,
    /// How many pixels of the whole picture one of these stands for.
    pub weight: f32,
}

/// Where the pixels are.
#[derive(Debug, Clone)]
pub enum Pixels<'a> {
    /// As they came.
    Raster(&'a Raster),
    /// Channel by channel, row by row, in [-1, 1].
    Planar(Vec<f32>),
}

impl<'a> Picture<'a> {
    /// All of a raster.
    pub fn new(raster: &'a Raster) -> Self {
        let (size, channels) = (raster.size(), raster.channels().count());
        let (width, height) = (size.width as usize, size.height as usize);
        Self { width, height, channels, pixels: Pixels::Raster(raster), weight: 1.0 }
    }

    /// Samples of a channel, of every `step`th pixel from `start` on, in [-1, 1].
    pub fn samples(&self, channel: usize, start: usize, step: usize, out: &mut [f32]) {
        fn signed<T: Copy>(samples: &[T], step: usize, out: &mut [f32], unit: impl Fn(T) -> f32) {
            for (out, sample) in out.iter_mut().zip(samples.iter().step_by(step)) {
                *out = 2.0 * unit(*sample) - 1.0;
            }
        }
        let (first, next) = (start * self.channels + channel, step * self.channels);
        match &self.pixels {
            Pixels::Planar(samples) => {
                let samples = &samples[channel * self.width * self.height + start..];
                lines::read(samples, step, out);
            }
            Pixels::Raster(raster) => match raster.samples() {
                Samples::U8(s) => signed(&s[first..], next, out, |s| f32::from(s) / 255.0),
                Samples::U16(s) => signed(&s[first..], next, out, |s| f32::from(s) / 65535.0),
            },
        }
    }

    /// Whether the last channel is alpha.
    pub fn has_alpha(&self) -> bool {
        self.channels.is_multiple_of(2)
    }

    /// The mean of each channel.
    pub fn mean(&self) -> Vec<f32> {
        let mut row = vec![0.0; self.width];
        let mut mean = |channel: usize| {
            let mut sum = 0.0;
            for y in 0..self.height {
                self.samples(channel, y * self.width, 1, &mut row);
                sum += row.iter().map(|&sample| f64::from(sample)).sum::<f64>();
            }
            (sum / (self.width * self.height) as f64) as f32
        };
        (0..self.channels).map(&mut mean).collect()
    }

    /// The picture at half the size: means of four pixels, of fewer at the far borders; those of
    /// colours weighted by alpha.
    pub fn halved(&self) -> Picture<'static> {
        let (width, height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let mut samples = vec![0.0; self.channels * width * height];
        let row = || vec![0.0; self.width];
        let (mut rows, mut alphas) = ([row(), row()], [row(), row()]);
        for y in 0..height {
            let read = |channel: usize, rows: &mut [Vec<f32>; 2]| {
                for (k, row) in rows.iter_mut().enumerate() {
                    let y = (2 * y + k).min(self.height - 1);
                    self.samples(channel, y * self.width, 1, row);
                }
            };
            if self.has_alpha() {
                read(self.channels - 1, &mut alphas);
            }
            for channel in 0..self.channels {
                read(channel, &mut rows);
                let weighted = self.has_alpha() && channel + 1 < self.channels;
                let out = &mut samples[(channel * height + y) * width..][..width];
                for (x, out) in out.iter_mut().enumerate() {
                    let columns = [2 * x, (2 * x + 1).min(self.width - 1)];
                    let places = || (0..2).flat_map(|k| columns.map(|column| (k, column)));
                    let sum: f32 = places().map(|(k, column)| rows[k][column]).sum();
                    *out = 0.25 * sum;
                    if weighted {
                        let weight = |(k, column): (usize, usize)| 0.5 * (alphas[k][column] + 1.0);
                        let weights: f32 = places().map(weight).sum();
                        let sum: f32 = places().map(|at| weight(at) * rows[at.0][at.1]).sum();
                        *out = if weights > 0.0 { sum / weights } else { *out };
                    }
                }
            }
        }
        let (channels, pixels) = (self.channels, Pixels::Planar(samples));
        Picture { width, height, channels, pixels, weight: 4.0 * self.weight }
    }
}

/// Sizes of the function: planes in use, sines, channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SynthesisShape {
    pub planes: usize,
    pub sines: usize,
    pub channels: usize,
}

impl SynthesisShape {
    /// Numbers of the sine layer: `sines` rows of `planes` weights and a bias.
    pub fn sine_len(self) -> usize {
        self.sines * (self.planes + 1)
    }

    /// Numbers of the output layer: `channels` rows of weights of the sines, of the planes,
    /// and a bias.
    pub fn output_len(self) -> usize {
        self.channels * (self.sines + self.planes + 1)
    }
}

/// The weights as the kernels read them.
pub struct PackedSynthesis {
    shape: SynthesisShape,
    sine: Affine,
    output: Affine,
    /// From the gradients of the outputs back to the sines.
    back_to_sines: Matrix,
    /// From the gradients of sines and outputs back to the planes.
    back_to_planes: Matrix,
}

impl PackedSynthesis {
    pub fn new(shape: SynthesisShape, sine: &[f32], output: &[f32]) -> Self {
        let SynthesisShape { planes, sines, channels } = shape;
        let w1 = |o: usize, k: usize| sine[o * (planes + 1) + k];
        let w2 = |o: usize, k: usize| output[o * (sines + planes + 1) + k];
        let back = |k: usize, o: usize| if o < sines { w1(o, k) } else { w2(o - sines, sines + k) };
        Self {
            shape,
            sine: Affine::new(sines, planes, w1),
            output: Affine::new(channels, sines + planes, w2),
            back_to_sines: Matrix::new(sines, channels, |k, o| w2(o, k)),
            back_to_planes: Matrix::new(planes, sines + channels, back),
        }
    }
}

/// Taps of the planes along one axis of the pixels.
pub struct Axis {
    /// Pixels.
    len: usize,
    planes: Vec<AxisPlane>,
}

/// Those of a plane. Waves are pixels by then, each its own only tap.
struct AxisPlane {
    /// Latents along the axis.
    len: usize,
    /// log2 of the pitch in pixels; none of pixels.
    shift: Option<usize>,
    /// Weights of the four taps of each phase.
    phases: Vec<[f32; 4]>,
}

impl AxisPlane {
    /// First tap of pixel `x`, which may be outside the plane, and its phase.
    fn tap(&self, x: usize) -> (isize, usize) {
        let Some(shift) = self.shift else { return (x as isize, 0) };
        let pitch = 1isize << shift;
        let first = (2 * x as isize + 1 - pitch).div_euclid(2 * pitch) - 1;
        (first, x & (pitch as usize - 1))
    }

    /// Number of taps.
    fn taps(&self) -> usize {
        self.shift.map_or(1, |_| 4)
    }
}

impl Axis {
    /// Of `len` pixels, 2^shift of the picture's own a pixel.
    pub fn new(len: usize, bases: impl Iterator<Item = Basis>, shift: usize) -> Self {
        let plane = |basis| match basis {
            Basis::Waves { cell } => {
                AxisPlane { len: len.next_multiple_of(cell), shift: None, phases: Vec::new() }
            }
            Basis::Splines { level } => {
                let level = level - shift;
                let basis = Basis::Splines { level };
                let weights = |x: usize| {
                    let mut weights = [0.0; 4];
                    basis.weights(2, x as f64 + 0.5, &mut weights);
                    weights.map(|w| w as f32)
                };
                let phases = (0..1 << level).map(weights).collect();
                AxisPlane { len: len.div_ceil(1 << level), shift: Some(level), phases }
            }
        };
        Self { len, planes: bases.map(plane).collect() }
    }
}

/// Pixels that go forward and back together.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// The first pixel: its place in its line, and the line.
    place: usize,
    line: usize,
    /// Pixels of a line, and with those that fill up the registers.
    length: usize,
    points: usize,
    /// Lines.
    count: usize,
}

/// Latents of a plane, or the pixels that waves are, row by row.
#[derive(Clone, Copy)]
pub struct SoftPlane<'a> {
    pub width: usize,
    pub values: &'a [f32],
}

/// A rectangle of latents that a block reaches, and the gradient on it: `count` lines of `length`
/// from place `along` of line `across` on.
pub struct Footprint {
    lines: Lines,
    along: isize,
    across: isize,
    length: usize,
    count: usize,
    /// Where the stretched lines begin.
    start: usize,
    gradient: Vec<f32>,
}

impl Footprint {
    /// Adds the gradient to that of a whole plane of `width` x `height` latents; what lies
    /// outside counts for the border.
    pub fn add_to(&self, width: usize, height: usize, plane: &mut [f32]) {
        let clamp = |at: isize, len: usize| at.clamp(0, len as isize - 1) as usize;
        let (step, line_step) = self.lines.steps(width);
        let (length, count) = self.lines.turn((width, height));
        for (j, line) in self.gradient.chunks_exact(self.length).enumerate() {
            let to = &mut plane[clamp(self.across + j as isize, count) * line_step..];
            for (i, g) in line.iter().enumerate() {
                to[clamp(self.along + i as isize, length) * step] += g;
            }
        }
    }
}

/// What a block gives back.
pub struct BlockResult {
    /// Squared errors in [0, 1] of the clamped outputs, averaged over the channels, summed over
    /// the pixels, times their weight.
    pub error: f64,
    /// Gradients of the latents, plane by plane; empty if none was asked for.
    pub footprints: Vec<Footprint>,
    /// Gradients of the sine layer and of the output layer, if they were asked for.
    pub sums: Option<(Vec<f32>, Vec<f32>)>,
}

/// Working memory of a thread.
#[derive(Default)]
pub struct SynthesisScratch {
    /// Sines, below them the planes' sums, below them ones.
    h: Vec<f32>,
    slope: Vec<f32>,
    /// Gradients of the sines' arguments, below them those of the outputs.
    delta: Vec<f32>,
    by_plane: Vec<f32>,
    /// Lines of latents stretched to the block's pixels, plane by plane, and their gradients.
    stretched: Vec<f32>,
    by_stretched: Vec<f32>,
    /// A line of latents, or the squares of their derivatives.
    local: Vec<f32>,
    /// A line's samples, channel by channel, and what the square root of the weight of its colours
    /// is: their alpha, or 1.
    targets: Vec<f32>,
    visible: Vec<f32>,
}

impl SynthesisScratch {
    /// Makes room for lines of `points` numbers.
    fn fit(&mut self, shape: SynthesisShape, points: usize) {
        let SynthesisShape { planes, sines, channels } = shape;
        self.h.resize((sines + planes + 1) * points, 0.0);
        self.h[(sines + planes) * points..].fill(1.0);
        self.slope.resize(sines * points, 0.0);
        self.delta.resize((sines + channels) * points, 0.0);
        self.by_plane.resize(planes * points, 0.0);
    }
}

/// What is asked of a block besides its error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gradients {
    None,
    Latents,
    Weights,
    LatentsAndWeights,
    /// Instead of gradients by the latents the diagonal of the Gauss-Newton matrix.
    Curvatures,
}

impl Gradients {
    pub fn latents(self) -> bool {
        matches!(self, Self::Latents | Self::LatentsAndWeights | Self::Curvatures)
    }

    pub fn weights(self) -> bool {
        matches!(self, Self::Weights | Self::LatentsAndWeights)
    }

    /// A latent's derivatives go with its weights, their squares with the squares.
    fn power(self) -> fn(f32) -> f32 {
        if self == Self::Curvatures { |weight| weight * weight } else { |weight| weight }
    }

    pub fn without_weights(self) -> Self {
        match self {
            Self::LatentsAndWeights => Self::Latents,
            Self::Weights => Self::None,
            other => other,
        }
    }
}

/// The function on the pixel lattice of a picture.
pub struct Synthesis<'a> {
    simd: Simd,
    picture: &'a Picture<'a>,
    lines: Lines,
    /// Along a line, and from line to line.
    along: &'a Axis,
    across: &'a Axis,
    packed: &'a PackedSynthesis,
}

impl<'a> Synthesis<'a> {
    /// Of columns and rows, `axes`.
    pub fn new(
        simd: Simd,
        picture: &'a Picture<'a>,
        [x, y]: &'a [Axis; 2],
        packed: &'a PackedSynthesis,
    ) -> Self {
        let lines = Lines::of(picture.width, picture.height);
        let (along, across) = lines.turn((x, y));
        Self { simd, picture, lines, along, across, packed }
    }

    /// The blocks that the picture consists of.
    pub fn blocks(&self) -> Vec<Block> {
        let lines = (0..self.across.len).step_by(BLOCK.1);
        let places = || (0..self.along.len).step_by(BLOCK.0);
        let block = |place: usize, line: usize| {
            let length = BLOCK.0.min(self.along.len - place);
            let count = BLOCK.1.min(self.across.len - line);
            Block { place, line, length, points: length.next_multiple_of(LANES), count }
        };
        lines.flat_map(|line| places().map(move |place| block(place, line))).collect()
    }

    /// Forward and back through a block.
    pub fn block(
        &self,
        block: Block,
        latents: &[SoftPlane],
        gradients: Gradients,
        scratch: &mut SynthesisScratch,
    ) -> BlockResult {
        let shape = self.packed.shape;
        scratch.fit(shape, block.points);
        let mut footprints = self.stretch(block, latents, scratch);
        if gradients.latents() {
            scratch.by_stretched.clear();
            scratch.by_stretched.resize(scratch.stretched.len(), 0.0);
        }
        let mut sums = gradients
            .weights()
            .then(|| (vec![0.0; shape.sine_len()], vec![0.0; shape.output_len()]));
        let mut error = 0.0;
        for line in block.line..block.line + block.count {
            self.combine(line, block, &footprints, scratch);
            self.forward(scratch);
            self.read(line, block, scratch);
            error += self.compare(scratch);
            if gradients != Gradients::None {
                self.back(gradients, scratch);
            }
            if let Some((sine, output)) = &mut sums {
                self.add_weights(sine, output, scratch);
            }
            if gradients.latents() {
                self.spread(line, block, &footprints, gradients, scratch);
            }
        }
        if gradients.latents() {
            self.gather(block, &mut footprints, gradients, scratch);
        } else {
            footprints.clear();
        }
        BlockResult { error, footprints, sums }
    }

    /// Stretches the lines of latents that a block reaches to its pixels.
    fn stretch(
        &self,
        block: Block,
        latents: &[SoftPlane],
        scratch: &mut SynthesisScratch,
    ) -> Vec<Footprint> {
        let Block { place, line, length, points, count } = block;
        let SynthesisScratch { stretched, local, .. } = scratch;
        stretched.clear();
        let planes = latents.iter().zip(self.along.planes.iter().zip(&self.across.planes));
        let footprint = |(latents, (axis, across_axis)): (&SoftPlane, (&AxisPlane, &AxisPlane))| {
            let (along, across) = (axis.tap(place).0, across_axis.tap(line).0);
            let taps = (axis.tap(place + length - 1).0 - along) as usize + axis.taps();
            let lines =
                (across_axis.tap(line + count - 1).0 - across) as usize + across_axis.taps();
            let (step, line_step) = self.lines.steps(latents.width);
            let start = stretched.len();
            stretched.resize(start + lines * points, 0.0);
            for (j, out) in stretched[start..].chunks_exact_mut(points).enumerate() {
                let line = (across + j as isize).clamp(0, across_axis.len as isize - 1) as usize;
                let line = &latents.values[line * line_step..];
                local.clear();
                local
                    .extend((0..taps as isize).map(|i| {
                        line[(along + i).clamp(0, axis.len as isize - 1) as usize * step]
                    }));
                stretch(axis, place, local, &mut out[..length]);
            }
            Footprint {
                lines: self.lines,
                along,
                across,
                length: taps,
                count: lines,
                start,
                gradient: Vec::new(),
            }
        };
        planes.map(footprint).collect()
    }

    /// Combines stretched lines to the planes' sums at a line of pixels.
    fn combine(
        &self,
        line: usize,
        block: Block,
        footprints: &[Footprint],
        scratch: &mut SynthesisScratch,
    ) {
        let points = block.points;
        let SynthesisScratch { h, stretched, .. } = scratch;
        let planes = h[self.packed.shape.sines * points..].chunks_exact_mut(points);
        for (plane, (footprint, out)) in footprints.iter().zip(planes).enumerate() {
            let (first, weights) = self.taps(plane, line, footprint.across);
            let at = footprint.start + first * points;
            let Some(weights) = weights else {
                out.copy_from_slice(&stretched[at..at + points]);
                continue;
            };
            let rows = std::array::from_fn(|k| &stretched[at + k * points..][..points]);
            training::combine(self.simd, rows, weights, out);
        }
    }

    /// From the planes to the outputs.
    fn forward(&self, scratch: &mut SynthesisScratch) {
        let (simd, packed) = (self.simd, self.packed);
        let SynthesisScratch { h, slope, delta, .. } = scratch;
        let sines = slope.len();
        let inputs = h.len() - sines / packed.shape.sines;
        let (sine_rows, plane_rows) = h[..inputs].split_at_mut(sines);
        packed.sine.layer_with_slope(simd, Activation::Sine, plane_rows, sine_rows, slope);
        let out = &mut delta[sines..];
        packed.output.layer(simd, Activation::Identity, &h[..inputs], out);
    }

    /// From the gradients of the outputs to those of the sines and, if wanted, of the planes.
    fn back(&self, gradients: Gradients, scratch: &mut SynthesisScratch) {
        if gradients == Gradients::Curvatures {
            return self.curvatures(scratch);
        }
        let SynthesisScratch { slope, delta, by_plane, .. } = scratch;
        let (by_sines, by_outputs) = delta.split_at_mut(slope.len());
        self.packed.back_to_sines.product_times(self.simd, by_outputs, slope, by_sines);
        if gradients.latents() {
            self.packed.back_to_planes.product(self.simd, delta, by_plane);
        }
    }

    /// Twice the sum of the squared derivatives of a line's outputs, in the units of the error, by
    /// each plane.
    fn curvatures(&self, scratch: &mut SynthesisScratch) {
        let SynthesisScratch { slope, delta, by_plane, local: squares, visible, .. } = scratch;
        let SynthesisShape { sines, channels, .. } = self.packed.shape;
        let points = slope.len() / sines;
        squares.clear();
        squares.resize(by_plane.len(), 0.0);
        for channel in 0..channels {
            let (by_sines, by_outputs) = delta.split_at_mut(sines * points);
            by_outputs.fill(0.0);
            let output = &mut by_outputs[channel * points..][..visible.len()];
            match self.is_colour(channel) {
                true => output.copy_from_slice(visible),
                false => output.fill(1.0),
            }
            self.packed.back_to_sines.product_times(self.simd, by_outputs, slope, by_sines);
            self.packed.back_to_planes.product(self.simd, delta, by_plane);
            squares.iter_mut().zip(by_plane.iter()).for_each(|(sum, d)| *sum += d * d);
        }
        let scale = 0.5 / channels as f32;
        by_plane.iter_mut().zip(squares.iter()).for_each(|(to, sum)| *to = scale * sum);
    }

    /// Adds a line's gradients of the weights.
    fn add_weights(&self, sine: &mut [f32], output: &mut [f32], scratch: &SynthesisScratch) {
        let SynthesisShape { planes, sines, channels } = self.packed.shape;
        let SynthesisScratch { h, slope, delta, .. } = scratch;
        let (by_sines, by_outputs) = delta.split_at(slope.len());
        add_outer(self.simd, by_outputs, channels, h, sines + planes + 1, output);
        add_outer(self.simd, by_sines, sines, &h[slope.len()..], planes + 1, sine);
    }

    /// The transpose of [`Self::combine`].
    fn spread(
        &self,
        line: usize,
        block: Block,
        footprints: &[Footprint],
        gradients: Gradients,
        scratch: &mut SynthesisScratch,
    ) {
        let (points, power) = (block.points, gradients.power());
        let SynthesisScratch { by_plane, by_stretched, .. } = scratch;
        let planes = by_plane.chunks_exact(points);
        for (plane, (footprint, from)) in footprints.iter().zip(planes).enumerate() {
            let (first, weights) = self.taps(plane, line, footprint.across);
            let at = footprint.start + first * points;
            let Some(weights) = weights else {
                by_stretched[at..at + points].copy_from_slice(from);
                continue;
            };
            for (k, &weight) in weights.iter().enumerate() {
                let to = &mut by_stretched[at + k * points..][..points];
                training::add_scaled(self.simd, power(weight), from, to);
            }
        }
    }

    /// The transpose of [`Self::stretch`].
    fn gather(
        &self,
        block: Block,
        footprints: &mut [Footprint],
        gradients: Gradients,
        scratch: &SynthesisScratch,
    ) {
        let Block { place, length, points, .. } = block;
        for (axis, footprint) in self.along.planes.iter().zip(footprints) {
            let lines = scratch.by_stretched[footprint.start..].chunks_exact(points);
            footprint.gradient = vec![0.0; footprint.length * footprint.count];
            let gradient = footprint.gradient.chunks_exact_mut(footprint.length);
            for (line, gradient) in lines.zip(gradient) {
                gather(axis, place, &line[..length], gradient, gradients.power());
            }
        }
    }

    /// First of the four lines of a plane for a line of pixels, counted from `from`, and weights;
    /// none where it is one line of pixels.
    fn taps(&self, plane: usize, line: usize, from: isize) -> (usize, Option<&[f32; 4]>) {
        let axis = &self.across.planes[plane];
        let (first, phase) = axis.tap(line);
        ((first - from) as usize, axis.phases.get(phase))
    }

    /// Whether a channel is one of colour.
    fn is_colour(&self, channel: usize) -> bool {
        !(self.picture.has_alpha() && channel + 1 == self.picture.channels)
    }

    /// Reads the samples of a block's line, and how visible its colours are.
    fn read(&self, line: usize, block: Block, scratch: &mut SynthesisScratch) {
        let SynthesisScratch { targets, visible, .. } = scratch;
        let Block { place, length, .. } = block;
        let (step, line_step) = self.lines.steps(self.picture.width);
        let start = line * line_step + place * step;
        targets.resize(self.picture.channels * length, 0.0);
        for (channel, targets) in targets.chunks_exact_mut(length).enumerate() {
            self.picture.samples(channel, start, step, targets);
        }
        visible.clear();
        visible.resize(length, 1.0);
        if self.picture.has_alpha() {
            let alpha = &targets[targets.len() - length..];
            visible.iter_mut().zip(alpha).for_each(|(to, alpha)| *to = 0.5 * (alpha + 1.0));
        }
    }

    /// Squared errors of a line of outputs, which become their gradients; those of colours count by
    /// the square of their alpha.
    fn compare(&self, scratch: &mut SynthesisScratch) -> f64 {
        let SynthesisScratch { slope, delta, targets, visible, .. } = scratch;
        let Picture { channels, weight, .. } = *self.picture;
        let out = &mut delta[slope.len()..];
        let points = out.len() / channels;
        // Of [-1, 1] against [0, 1], averaged over the channels.
        let scale = 0.25 * weight / channels as f32;
        let mut error = 0.0;
        let targets = targets.chunks_exact(visible.len());
        for (channel, (out, targets)) in out.chunks_exact_mut(points).zip(targets).enumerate() {
            let (out, beyond) = out.split_at_mut(visible.len());
            beyond.fill(0.0);
            let sum = if self.picture.has_alpha() && self.is_colour(channel) {
                training::compare_weighted(targets, visible, out, 2.0 * scale)
            } else {
                training::compare(self.simd, targets, out, 2.0 * scale)
            };
            error += f64::from(scale * sum);
        }
        error
    }
}

/// A line of latents at the pixels from `start` on.
fn stretch(axis: &AxisPlane, start: usize, latents: &[f32], out: &mut [f32]) {
    let Some(shift) = axis.shift else { return out.copy_from_slice(latents) };
    if shift == 0 {
        let [a, b, c, _] = axis.phases[0];
        for (out, taps) in out.iter_mut().zip(latents.windows(3)) {
            *out = a * taps[0] + b * taps[1] + c * taps[2];
        }
        return;
    }
    let from = axis.tap(start).0;
    let mut at = 0;
    while at < out.len() {
        let (first, phase) = axis.tap(start + at);
        let first = (first - from) as usize;
        let taps: [f32; 4] = std::array::from_fn(|k| latents[first + k]);
        // Pixels that share their taps.
        let run = run(shift, phase).min(out.len() - at);
        let weights = &axis.phases[phase..phase + run];
        for (out, w) in out[at..at + run].iter_mut().zip(weights) {
            *out = w[0] * taps[0] + w[1] * taps[1] + w[2] * taps[2] + w[3] * taps[3];
        }
        at += run;
    }
}

/// The transpose of [`stretch`], `power` applied to its weights.
fn gather(
    axis: &AxisPlane,
    start: usize,
    pixels: &[f32],
    gradient: &mut [f32],
    power: fn(f32) -> f32,
) {
    let Some(shift) = axis.shift else { return gradient.copy_from_slice(pixels) };
    if shift == 0 {
        let [a, b, c, _] = axis.phases[0];
        let count = pixels.len();
        for (k, w) in [a, b, c].into_iter().enumerate() {
            let w = power(w);
            for (g, p) in gradient[k..k + count].iter_mut().zip(pixels) {
                *g += w * p;
            }
        }
        return;
    }
    let from = axis.tap(start).0;
    let mut at = 0;
    while at < pixels.len() {
        let (first, phase) = axis.tap(start + at);
        let first = (first - from) as usize;
        let run = run(shift, phase).min(pixels.len() - at);
        let weights = &axis.phases[phase..phase + run];
        let mut sums = [0.0f32; 4];
        for (p, w) in pixels[at..at + run].iter().zip(weights) {
            for k in 0..4 {
                sums[k] += power(w[k]) * p;
            }
        }
        for k in 0..4 {
            gradient[first + k] += sums[k];
        }
        at += run;
    }
}

/// How many pixels from `phase` on have the same taps: they change in the middle of a period.
fn run(shift: usize, phase: usize) -> usize {
    let half = 1 << (shift - 1);
    if phase < half { half - phase } else { 2 * half - phase }
}
