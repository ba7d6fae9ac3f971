//! Gradients of the fused step against finite differences of the same loss in plain f64.

use super::super::cpu::Latents;
use super::super::{Picture, Pixels, Shape};
use super::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use siren_image::coding::latents::NEIGHBOURS;
use siren_image::coding::payload::Hidden;
use siren_image::coding::waves::{STEPS, SUMS, frequencies};
use siren_image::latents::{Bases, Basis};

const LAMBDA: f64 = 3e-3;

/// Everything that the loss hangs on, in f64: latents plane by plane, then the groups of weights.
type Parameters = Vec<Vec<f64>>;

fn shape((waves, cell, finest, levels): (usize, usize, usize, usize), channels: usize) -> Shape {
    let bases = Bases::new(waves, cell, finest, levels).unwrap();
    let hidden = Hidden { splines: [7, 6], waves: (waves > 0).then_some([5, 4]) };
    Shape { bases, sines: 5, hidden, channels }
}

struct Reference {
    shape: Shape,
    sizes: Vec<(usize, usize)>,
    size: (usize, usize),
    /// Channel by channel.
    samples: Vec<f32>,
}

impl Reference {
    fn loss(&self, parameters: &Parameters) -> f64 {
        let (planes, weights) = parameters.split_at(self.shape.bases.count());
        self.error(planes, &weights[0], &weights[1]) + LAMBDA * self.bits(planes, &weights[2..])
    }

    fn error(&self, planes: &[Vec<f64>], sine: &[f64], output: &[f64]) -> f64 {
        let (channels, (width, height)) = (self.shape.channels, self.size);
        let mut sum = 0.0;
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let mut h: Vec<f64> = Vec::new();
            for ((basis, plane), &(w, rows)) in self.shape.bases.iter().zip(planes).zip(&self.sizes)
            {
                let axis = |length: usize, at: usize| {
                    let mut weights = vec![0.0; basis.taps(length)];
                    basis.weights(length, at as f64 + 0.5, &mut weights);
                    (basis.first(length, at as f64 + 0.5), weights)
                };
                let ((left, across), (top, down)) = (axis(w, x), axis(rows, y));
                let mut value = 0.0;
                for (j, of_row) in (top..).zip(&down) {
                    for (i, of_column) in (left..).zip(&across) {
                        let clamp = |at: i64, len: usize| at.clamp(0, len as i64 - 1) as usize;
                        value += of_row * of_column * plane[clamp(j, rows) * w + clamp(i, w)];
                    }
                }
                h.push(value);
            }
            let affine = |row: &[f64], h: &[f64]| {
                let sum: f64 = row.iter().zip(h).map(|(w, h)| w * h).sum();
                sum + row[h.len()]
            };
            let sines = sine.chunks_exact(h.len() + 1).map(|row| affine(row, &h).sin());
            let all: Vec<f64> = sines.chain(h.iter().copied()).collect();
            for (channel, row) in output.chunks_exact(all.len() + 1).enumerate() {
                let sample = |channel| f64::from(self.samples[(channel * height + y) * width + x]);
                let is_colour = channels % 2 == 1 || channel + 1 < channels;
                let alpha =
                    if channels % 2 == 0 { 0.5 * (sample(channels - 1) + 1.0) } else { 1.0 };
                let weight = if is_colour { alpha * alpha } else { 1.0 };
                let error = affine(row, &all) - sample(channel);
                sum += weight * error.powi(2) / (4 * channels) as f64;
            }
        }
        sum
    }

    fn bits(&self, planes: &[Vec<f64>], layers: &[Vec<f64>]) -> f64 {
        let mut bits = 0.0;
        for (p, (basis, plane)) in self.shape.bases.iter().zip(planes).enumerate() {
            bits += match basis {
                Basis::Splines { level } => {
                    let coarser = planes.get(p + 1).map(|plane| (plane, self.sizes[p + 1]));
                    Self::spline_bits(plane, self.sizes[p], level, coarser, &layers[..3])
                }
                Basis::Waves { cell } => Self::wave_bits(plane, self.sizes[p], cell, &layers[3..]),
            };
        }
        bits
    }

    fn network(mut input: Vec<f64>, layers: &[Vec<f64>]) -> Vec<f64> {
        for (index, layer) in layers.iter().enumerate() {
            let rows = layer.chunks_exact(input.len() + 1);
            let outputs = rows.map(|row| {
                let sum: f64 = row.iter().zip(&input).map(|(w, h)| w * h).sum();
                let sum = sum + row[input.len()];
                if index < 2 { sum.max(0.0) } else { sum }
            });
            input = outputs.collect();
        }
        input
    }

    fn bits_of(away: f64, log_scale: f64) -> f64 {
        let scale = log_scale.clamp(-5.0, 8.0).exp2();
        let cdf = |at: f64| {
            let tail = 0.5 * (-at.abs() / scale).exp();
            if at < 0.0 { tail } else { 1.0 - tail }
        };
        let p = cdf(away + 0.5) - cdf(away - 0.5);
        -(p + 1.0 / 65_536.0).log2()
    }

    fn spline_bits(
        plane: &[f64],
        (w, h): (usize, usize),
        level: usize,
        coarser: Option<(&Vec<f64>, (usize, usize))>,
        layers: &[Vec<f64>],
    ) -> f64 {
        let mut bits = 0.0;
        for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
            let mut input: Vec<f64> = Vec::new();
            for (dx, dy) in NEIGHBOURS {
                let (i, j) = (x as isize + dx, y as isize + dy);
                let inside = i >= 0 && j >= 0 && i < w as isize;
                input.push(if inside { plane[j as usize * w + i as usize] } else { 0.0 });
            }
            let near = |at: usize, len: usize| {
                let other = if at % 2 == 1 { at as isize / 2 + 1 } else { at as isize / 2 - 1 };
                (at / 2, other.clamp(0, len as isize - 1) as usize)
            };
            if let Some((coarse, (cw, ch))) = coarser {
                let ((i, i2), (j, j2)) = (near(x, cw), near(y, ch));
                let at = |i: usize, j: usize| coarse[j * cw + i];
                input.extend([at(i, j), at(i2, j), at(i, j2), at(i2, j2)]);
            } else {
                input.extend([0.0; 4]);
            }
            input.push(level as f64);
            let outputs = Self::network(input, layers);
            bits += Self::bits_of(plane[y * w + x] - outputs[0], outputs[1]);
        }
        bits
    }

    fn wave_bits(plane: &[f64], (w, h): (usize, usize), cell: usize, layers: &[Vec<f64>]) -> f64 {
        let mut bits = 0.0;
        let at = |cx: isize, cy: isize, kx: isize, ky: isize| {
            let (s, inside) =
                (cell as isize, |at: isize, end: usize| (0..end as isize).contains(&at));
            let held = inside(cx, w / cell) && inside(cy, h / cell);
            let held = held && inside(kx, cell) && inside(ky, cell);
            if held { plane[((s * cy + ky) * w as isize + s * cx + kx) as usize] } else { 0.0 }
        };
        for (x, y) in frequencies(cell) {
            for (j, i) in (0..h / cell).flat_map(|j| (0..w / cell).map(move |i| (j, i))) {
                let [i, j, kx, ky] = [i, j, x, y].map(|at| at as isize);
                let sums = SUMS.map(|sum| -> f64 {
                    let term = |&(dx, dy, hx, hy): &(isize, isize, isize, isize)| {
                        at(i + dx, j + dy, kx + hx, ky + hy).abs()
                    };
                    sum.iter().map(term).sum()
                });
                let mut input = sums.to_vec();
                input.extend([x, y].map(|k| (STEPS * k / cell) as f64));
                let outputs = Self::network(input, layers);
                bits += Self::bits_of(at(i, j, kx, ky), outputs[0]);
            }
        }
        bits
    }
}

#[test]
fn curvatures_are_second_differences_of_a_square() {
    for planes in [(0, 0, 0, 3), (1, 8, 1, 2)] {
        curvatures_of(Shape { sines: 4, ..shape(planes, 3) });
    }
}

fn curvatures_of(shape: Shape) {
    let size = (25, 19);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut networks = super::super::start::networks(shape, 1e-2, 3);
    // Without sines the error is a square of the latents; the model is exact then.
    for row in networks.output.chunks_exact_mut(8) {
        row[..4].fill(0.0);
        row[4..].iter_mut().for_each(|w| *w += rng.random_range(-0.2..0.2));
    }
    let mut model = LatentModel::new(size, networks, 0);
    let picture = planar(size, 3, vec![0.0; 3 * size.0 * size.1]);
    let stage = Stage { base: 0, shift: 0, picture: &picture };
    let weights = model.weights(0);
    let cpu = &mut model.cpu;
    let gradients = |cpu: &mut Cpu, wanted| -> Vec<Vec<f32>> {
        cpu.synthesis(&stage, &weights, wanted, Share::ALL);
        cpu.planes.iter().map(|plane| plane.gradient.clone()).collect()
    };
    let curvatures = gradients(cpu, Gradients::Curvatures);
    let before = gradients(cpu, Gradients::Latents);
    for p in 0..3 {
        let Latents { width, height, .. } = cpu.planes[p];
        let middle = height / 2 * width + width / 2;
        for at in [0, middle, width * height - 1] {
            cpu.planes[p].soft[at] += 1.0;
            let after = gradients(cpu, Gradients::Latents)[p][at];
            cpu.planes[p].soft[at] -= 1.0;
            let (found, wanted) = (curvatures[p][at], after - before[p][at]);
            // At a border a latent of splines stands for those beyond, and their weights are
            // squared apart.
            let is_exact = at == middle || p < shape.bases.waves();
            let exact = !is_exact || (found / wanted - 1.0).abs() < 1e-3;
            assert!(exact && found >= 0.0 && found < 1.001 * wanted, "{p}: {found}, {wanted}");
        }
    }
}

/// A picture of samples channel by channel.
fn planar(size: (usize, usize), channels: usize, samples: Vec<f32>) -> Picture<'static> {
    let (width, height) = size;
    Picture { width, height, channels, pixels: Pixels::Planar(samples), weight: 1.0 }
}

#[test]
fn gradients_are_those_of_a_plain_loss() {
    gradients_of(shape((0, 0, 0, 3), 3), (37, 29));
}

#[test]
fn gradients_with_waves_are_those_of_a_plain_loss() {
    gradients_of(shape((1, 8, 2, 2), 3), (37, 29));
    gradients_of(shape((2, 16, 0, 1), 1), (50, 20));
}

#[test]
fn gradients_with_alpha_are_those_of_a_plain_loss() {
    gradients_of(shape((1, 8, 1, 2), 4), (37, 29));
}

#[test]
fn gradients_of_a_narrow_picture_are_those_of_a_plain_loss() {
    gradients_of(shape((1, 8, 0, 2), 2), (3, 150));
}

/// Narrow pictures take the time of wide ones since the work is the same.
#[test]
fn a_narrow_picture_is_worked_on_as_its_transpose() {
    let shape = shape((0, 0, 0, 3), 3);
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let networks = super::super::start::networks(shape, 1e-2, 3);
    for width in 1..=70 {
        let size = (width, 300);
        let transposed = |values: &[f32], (width, height): (usize, usize)| -> Vec<f32> {
            (0..width).flat_map(|x| (0..height).map(move |y| values[y * width + x])).collect()
        };
        let samples: Vec<f32> = (0..3 * 300 * width).map(|_| rng.random_range(-1.0..1.0)).collect();
        let channels = samples.chunks_exact(300 * width);
        let turned = channels.flat_map(|samples| transposed(samples, size)).collect();
        let narrow = (planar(size, 3, samples), LatentModel::new(size, networks.clone(), 0));
        let wide =
            (planar((300, width), 3, turned), LatentModel::new((300, width), networks.clone(), 0));
        let [(narrow, mut narrow_model), (wide, mut wide_model)] = [narrow, wide];
        let planes = narrow_model.cpu.planes.iter_mut();
        for (grid, turned) in planes.zip(&mut wide_model.cpu.planes) {
            grid.soft.iter_mut().for_each(|q| *q = rng.random_range(-2.5..2.5));
            turned.soft = transposed(&grid.soft, (grid.width, grid.height));
        }
        // Errors and gradients of the weights.
        let results =
            [(&mut narrow_model, &narrow), (&mut wide_model, &wide)].map(|(model, picture)| {
                let (stage, weights) = (Stage { base: 0, shift: 0, picture }, model.weights(0));
                let wanted = Gradients::LatentsAndWeights;
                model.cpu.synthesis(&stage, &weights, wanted, Share::ALL)
            });
        assert_eq!(results[0], results[1], "{width}");
        for (grid, turned) in narrow_model.cpu.planes.iter().zip(&wide_model.cpu.planes) {
            assert_eq!(transposed(&grid.gradient, (grid.width, grid.height)), turned.gradient);
        }
    }
}

fn gradients_of(shape: Shape, size: (usize, usize)) {
    let (channels, count) = (shape.channels, shape.bases.count());
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut networks = super::super::start::networks(shape, 1e-2, 3);
    // A scale of its own for every group.
    networks.output.iter_mut().for_each(|w| *w += rng.random_range(-0.2..0.2));
    let mut model = LatentModel::new(size, networks, 0);
    let samples = 0..channels * size.0 * size.1;
    let samples: Vec<f32> = samples.map(|_| rng.random_range(-1.0..1.0)).collect();
    let picture = planar(size, channels, samples.clone());
    for grid in &mut model.cpu.planes {
        grid.soft.iter_mut().for_each(|q| *q = rng.random_range(-2.5..2.5));
    }
    let (stage, weights) = (Stage { base: 0, shift: 0, picture: &picture }, model.weights(0));
    // Latents that stay where they are.
    let update =
        LatentUpdate { lambda: LAMBDA, betas: (0.9, 0.99), rates: vec![(0.0, 1.0); count] };
    let (rounding, update) = (Rounding::Kept, Some(update));
    let step = Step { rounding, update, shares: [1, 1], number: 0, seed: 0 };
    model.cpu.planes.iter_mut().for_each(|plane| plane.slope.fill(1.0));
    let outcome = model.cpu.step(&stage, &weights, &step).unwrap();
    let Outcome { error, bits, gradients: by_weights } = outcome;

    let sizes = model.sizes().planes;
    let reference = Reference { shape, sizes, size, samples };
    let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    let mut parameters: Parameters = model.cpu.planes.iter().map(|p| wide(&p.soft)).collect();
    let mut gradients: Vec<Vec<f64>> = model.cpu.planes.iter().map(|p| wide(&p.gradient)).collect();
    let of_picture = [(&weights.sine, &by_weights.sine), (&weights.output, &by_weights.output)];
    let of_rates = weights.entropy.iter().flatten().zip(by_weights.entropy.iter().flatten());
    let of_picture = of_picture.map(|(values, gradient)| (1.0, values, gradient));
    let of_rates = of_rates.map(|(values, gradient)| (LAMBDA, values, gradient));
    for (factor, values, gradient) in of_picture.into_iter().chain(of_rates) {
        parameters.push(wide(values));
        gradients.push(wide(gradient).iter().map(|g| factor * g).collect());
    }
    let bits_wanted = reference.bits(&parameters[..count], &parameters[count + 2..]);
    assert!((bits / bits_wanted - 1.0).abs() < 1e-5, "{bits} bits, {bits_wanted}");
    assert!(error > 0.0);
    for group in 0..parameters.len() {
        let largest = gradients[group].iter().fold(0.0f64, |most, g| most.max(g.abs()));
        for _ in 0..25 {
            let at = rng.random_range(0..parameters[group].len());
            let mut at_offset = |offset: f64| {
                let before = parameters[group][at];
                parameters[group][at] += offset;
                let loss = reference.loss(&parameters);
                parameters[group][at] = before;
                loss
            };
            const H: f64 = 1e-6;
            let wanted = (at_offset(H) - at_offset(-H)) / (2.0 * H);
            let found = gradients[group][at];
            assert!((found - wanted).abs() < 1e-4 * largest, "{group}, {at}: {found}, {wanted}");
        }
    }
}
