//! Why sine: the comparison of Sitzmann et al. 2020 (section 3.1 and figure 1) in miniature.
//!
//! The same network, data, optimizer, schedule and seed with three activations: sine with
//! the initialization of SIREN, ReLU and tanh. Writes `why-sine.svg` (PSNR against
//! training step) and `why-sine.png` (columns: the original, sine, ReLU, tanh; rows: the
//! picture, the magnitude of its gradient, its Laplacian) and prints the PSNR of each:
//!
//! `cargo run --release --example why_sine -- samples/camera.png docs [--steps N]`

use std::error::Error;
use std::f64::consts::PI;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Result as Tensors, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use image::{GrayImage, Luma};
use plotters::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Hidden layers of every network.
const LAYERS: usize = 4;
/// Features of every hidden layer.
const FEATURES: usize = 128;
/// Pixels in each step's batch.
const BATCH: usize = 8192;
/// Points that go through the layers together.
const SHARD: usize = 2048;
/// Peak learning rate: for each activation the best of 1e-4, 3e-4 and 1e-3. PSNR in dB after
/// 400 steps of 2,048 pixels on `samples/camera.png`: sine 24.7, 27.5, 29.9; ReLU 16.0,
/// 17.5, 19.0; tanh 14.4, 15.7, 16.5. (At 3e-3: sine 23.0, ReLU 20.4, tanh 17.6.)
const LEARNING_RATE: f64 = 1e-3;
/// Steps of a run without `--steps`.
const STEPS: usize = 1500;
/// How often in a run the PSNR of the whole picture is measured.
const CHECKS: usize = 30;
/// Seed of the initial weights and of the batches.
const SEED: u64 = 0;
/// White pixels between the cells of the contact sheet.
const GAP: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let (input, output, steps) = arguments()?;
    let picture = Picture::open(&input)?;
    let mut columns = vec![picture.column()];
    let mut curves = Vec::new();
    for activation in Activation::ALL {
        let (network, curve) = train(activation, &picture, steps)?;
        let column = network.column(&picture)?;
        println!("{:4} {:.2} dB", activation.label().0, picture.psnr(&column[0]));
        columns.push(column);
        curves.push((activation, curve));
    }
    std::fs::create_dir_all(&output)?;
    write_chart(&output.join("why-sine.svg"), &curves, steps)?;
    write_sheet(&output.join("why-sine.png"), &columns, &picture)
}

/// The input picture, the output directory and the number of steps.
fn arguments() -> Result<(PathBuf, PathBuf, usize), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [input, output] => Ok((input.into(), output.into(), STEPS)),
        [input, output, "--steps", n] => Ok((input.into(), output.into(), n.parse()?)),
        _ => Err("usage: why_sine PICTURE DIRECTORY [--steps N]".into()),
    }
}

/// The activation of the hidden layers.
#[derive(Clone, Copy, PartialEq)]
enum Activation {
    Sine,
    Relu,
    Tanh,
}

impl Activation {
    const ALL: [Self; 3] = [Self::Sine, Self::Relu, Self::Tanh];

    /// Name and colour of the curve (Okabe and Ito's palette).
    fn label(self) -> (&'static str, RGBColor) {
        match self {
            Self::Sine => ("sine", RGBColor(0, 114, 178)),
            Self::Relu => ("ReLU", RGBColor(213, 94, 0)),
            Self::Tanh => ("tanh", RGBColor(0, 158, 115)),
        }
    }

    /// omega_0, the factor of every pre-activation.
    fn omega(self) -> f64 {
        if self == Self::Sine { 30.0 } else { 1.0 }
    }

    /// Bound of the uniform initial weights of a layer with `n` inputs: for sine that of
    /// Sitzmann et al. 2020, section 3.2 and supplement 1.5; for the others PyTorch's
    /// default for a linear layer (Kaiming uniform with a = sqrt 5).
    fn weight_bound(self, first: bool, n: f64) -> f64 {
        match self {
            Self::Sine if first => 1.0 / n,
            Self::Sine => (6.0 / n).sqrt() / self.omega(),
            Self::Relu | Self::Tanh => 1.0 / n.sqrt(),
        }
    }

    /// `f(a)`.
    fn apply(self, a: &Tensor) -> Tensors<Tensor> {
        match self {
            Self::Sine => a.sin(),
            Self::Relu => a.relu(),
            Self::Tanh => a.tanh(),
        }
    }

    /// `f'(a)` and `f''(a)`.
    fn derivatives(self, a: &Tensor) -> Tensors<(Tensor, Tensor)> {
        Ok(match self {
            Self::Sine => (a.cos()?, a.sin()?.neg()?),
            Self::Relu => (a.gt(0.0)?.to_dtype(DType::F32)?, a.zeros_like()?),
            Self::Tanh => {
                let t = a.tanh()?;
                let slope = t.sqr()?.affine(-1.0, 1.0)?;
                let second = (t * &slope)?.affine(-2.0, 0.0)?;
                (slope, second)
            }
        })
    }
}

/// A grey picture, 0 black to 1 white.
struct Picture {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

/// A column of the sheet: picture, gradient magnitude and Laplacian, per native pixel.
type Column = Vec<Vec<f32>>;

impl Picture {
    fn open(path: &Path) -> Result<Self, Box<dyn Error>> {
        let grey = image::open(path)?.to_luma8();
        let (width, height) = (grey.width() as usize, grey.height() as usize);
        let values = grey.iter().map(|&v| f32::from(v) / 255.0).collect();
        Ok(Self { width, height, values })
    }

    /// Size of a native pixel in the plane of the networks.
    fn pixel_size(&self) -> f32 {
        2.0 / self.width.max(self.height) as f32
    }

    /// `[2, points]`: the centres of some pixels, `x = (2i + 1 - w) / max(w, h)`.
    fn coordinates(&self, pixels: &[usize]) -> Tensors<Tensor> {
        let half = self.pixel_size() / 2.0;
        let centre = |i: usize, length: usize| (2.0 * i as f32 + 1.0 - length as f32) * half;
        let x = pixels.iter().map(|p| centre(p % self.width, self.width));
        let y = pixels.iter().map(|p| centre(p / self.width, self.height));
        Tensor::from_vec(x.chain(y).collect::<Vec<f32>>(), (2, pixels.len()), &Device::Cpu)
    }

    /// The rows of `f` at all pixels.
    fn evaluate(&self, f: impl Fn(&Tensor) -> Tensors<Tensor> + Sync) -> Tensors<Vec<Vec<f32>>> {
        let all: Vec<usize> = (0..self.values.len()).collect();
        // Detached, or every shard would keep its activations for a backward pass.
        let shards =
            all.par_chunks(SHARD).map(|pixels| Ok(f(&self.coordinates(pixels)?)?.detach()));
        Tensor::cat(&shards.collect::<Tensors<Vec<_>>>()?, 1)?.to_vec2()
    }

    /// PSNR in dB of another picture of this size, clamped to black and white.
    fn psnr(&self, other: &[f32]) -> f64 {
        let pairs = self.values.iter().zip(other);
        let sum: f64 = pairs.map(|(a, b)| f64::from(a - b.clamp(0.0, 1.0)).powi(2)).sum();
        -10.0 * (sum / self.values.len() as f64).log10()
    }

    /// The picture itself with central differences and the five-point Laplacian; the
    /// edge pixels are repeated outside.
    fn column(&self) -> Column {
        let (w, h, value) = (self.width, self.height, &self.values);
        let differences = (0..value.len()).map(|p| {
            let (left, right) = (p - (p % w).min(1), p + (w - 1 - p % w).min(1));
            let (up, down) = (p - w * (p / w).min(1), p + w * (h - 1 - p / w).min(1));
            let (left, right, up, down) = (value[left], value[right], value[up], value[down]);
            let gradient = ((right - left) / 2.0).hypot((down - up) / 2.0);
            (gradient, left + right + up + down - 4.0 * value[p])
        });
        let (gradient, laplacian) = differences.unzip();
        vec![value.clone(), gradient, laplacian]
    }
}

/// `h_{l+1} = f(omega_0 (W_l h_l + b_l))`, the last layer without `f` and omega_0.
struct Network {
    activation: Activation,
    layers: Vec<Layer>,
}

struct Layer {
    weights: Var,
    biases: Var,
    omega: f64,
}

/// Value, d/dx, d/dy and Laplacian, each `[features, points]`.
type Jet = [Tensor; 4];

impl Network {
    fn initialize(activation: Activation, rng: &mut impl Rng) -> Tensors<Self> {
        let mut layers = Vec::new();
        for index in 0..=LAYERS {
            let inputs = if index == 0 { 2 } else { FEATURES };
            let outputs = if index == LAYERS { 1 } else { FEATURES };
            let mut uniform = |rows: usize, columns: usize, bound: f64| {
                let values = (0..rows * columns).map(|_| rng.random_range(-bound..=bound) as f32);
                Var::from_vec(values.collect::<Vec<f32>>(), (rows, columns), &Device::Cpu)
            };
            let bound = activation.weight_bound(index == 0, inputs as f64);
            layers.push(Layer {
                weights: uniform(outputs, inputs, bound)?,
                biases: uniform(outputs, 1, 1.0 / (inputs as f64).sqrt())?,
                omega: if index == LAYERS { 1.0 } else { activation.omega() },
            });
        }
        Ok(Self { activation, layers })
    }

    fn variables(&self) -> Vec<Var> {
        self.layers.iter().flat_map(|l| [l.weights.clone(), l.biases.clone()]).collect()
    }

    /// `[2, points]` to `[1, points]`.
    fn forward(&self, points: &Tensor) -> Tensors<Tensor> {
        let mut h = points.clone();
        for layer in &self.layers[..LAYERS] {
            h = self.activation.apply(&layer.affine(&h)?)?;
        }
        self.layers[LAYERS].affine(&h)
    }

    /// As [`Network::forward`], with exact derivatives: with `a = W h + b` and
    /// `h' = f(a)`, `grad h' = f'(a) grad a` and
    /// `lap h' = f'(a) lap a + f''(a) |grad a|^2`.
    fn forward_jet(&self, points: &Tensor) -> Tensors<Jet> {
        let none = points.zeros_like()?;
        let one = points.narrow(0, 0, 1)?.ones_like()?;
        let dx = one.pad_with_zeros(0, 0, 1)?;
        let mut h: Jet = [points.clone(), dx, one.pad_with_zeros(0, 1, 0)?, none];
        for layer in &self.layers[..LAYERS] {
            let [a, dx, dy, laplacian] = layer.affine_jet(&h)?;
            let (first, second) = self.activation.derivatives(&a)?;
            let bend = (second * (dx.sqr()? + dy.sqr()?)?)?;
            let laplacian = ((&first * laplacian)? + bend)?;
            h = [self.activation.apply(&a)?, (&first * dx)?, (&first * dy)?, laplacian];
        }
        self.layers[LAYERS].affine_jet(&h)
    }

    /// The picture as the network has it, 0 black to 1 white, and its derivatives.
    fn column(&self, picture: &Picture) -> Tensors<Column> {
        let pixel = f64::from(picture.pixel_size());
        picture.evaluate(|points| {
            let [value, dx, dy, laplacian] = self.forward_jet(points)?;
            let gradient = (dx.sqr()? + dy.sqr()?)?.sqrt()?;
            // Half: from [-1, 1] to [0, 1].
            let value = value.affine(0.5, 0.5)?;
            let gradient = gradient.affine(0.5 * pixel, 0.0)?;
            Tensor::cat(&[value, gradient, laplacian.affine(0.5 * pixel * pixel, 0.0)?], 0)
        })
    }
}

impl Layer {
    fn affine(&self, h: &Tensor) -> Tensors<Tensor> {
        self.product(h)?.broadcast_add(&self.biases.affine(self.omega, 0.0)?)
    }

    fn affine_jet(&self, [value, dx, dy, laplacian]: &Jet) -> Tensors<Jet> {
        Ok([self.affine(value)?, self.product(dx)?, self.product(dy)?, self.product(laplacian)?])
    }

    fn product(&self, h: &Tensor) -> Tensors<Tensor> {
        self.weights.affine(self.omega, 0.0)?.matmul(h)
    }
}

/// Trains a network; gives it with its `(step, PSNR)` curve.
fn train(
    activation: Activation,
    picture: &Picture,
    steps: usize,
) -> Tensors<(Network, Vec<(f64, f64)>)> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let network = Network::initialize(activation, &mut rng)?;
    let parameters = ParamsAdamW { weight_decay: 0.0, ..Default::default() };
    let mut optimizer = AdamW::new(network.variables(), parameters)?;
    let mut curve = Vec::new();
    for step in 0..=steps {
        if step % steps.div_ceil(CHECKS) == 0 || step == steps {
            let rows = picture.evaluate(|points| network.forward(points)?.affine(0.5, 0.5))?;
            curve.push((step as f64, picture.psnr(&rows[0])));
        }
        if step == steps {
            break;
        }
        let cosine = 0.5 + 0.5 * (PI * (step as f64 / steps as f64)).cos();
        optimizer.set_learning_rate(LEARNING_RATE * cosine);
        let all = 0..picture.values.len();
        let batch: Vec<usize> = (0..BATCH).map(|_| rng.random_range(all.clone())).collect();
        let mut parts = batch
            .par_chunks(SHARD)
            .map(|pixels| {
                let values = network.forward(&picture.coordinates(pixels)?)?;
                let targets: Vec<f32> = pixels.iter().map(|&p| picture.values[p]).collect();
                // From [0, 1] to [-1, 1].
                let targets = Tensor::new(targets, &Device::Cpu)?.affine(2.0, -1.0)?;
                let error = values.broadcast_sub(&targets)?.sqr()?.sum_all()?;
                error.affine(1.0 / BATCH as f64, 0.0)?.backward()
            })
            .collect::<Tensors<Vec<_>>>()?;
        let (gradients, others) = parts.split_first_mut().expect("a batch has points");
        for variable in &network.variables() {
            for other in &*others {
                if let (Some(sum), Some(part)) = (gradients.get(variable), other.get(variable)) {
                    let sum = (sum + part)?;
                    gradients.insert(variable, sum);
                }
            }
        }
        optimizer.step(gradients)?;
    }
    Ok((network, curve))
}

/// PSNR against training step, one curve for each activation.
fn write_chart(
    path: &Path,
    curves: &[(Activation, Vec<(f64, f64)>)],
    steps: usize,
) -> Result<(), Box<dyn Error>> {
    let best = curves.iter().flat_map(|(_, curve)| curve).map(|point| point.1).fold(0.0, f64::max);
    let top = 5.0 * (best / 5.0 + 0.5).ceil();
    let root = SVGBackend::new(path, (720, 440)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .x_label_area_size(50)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..steps as f64, 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc("training step")
        .y_desc("PSNR (dB)")
        .label_style(("sans-serif", 16))
        .axis_desc_style(("sans-serif", 18))
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(221, 221, 221))
        .draw()?;
    for (activation, curve) in curves {
        let (name, colour) = activation.label();
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(curve.iter().copied(), style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .margin(16)
        .background_style(WHITE)
        .border_style(RGBColor(170, 170, 170))
        .label_font(("sans-serif", 18))
        .draw()?;
    Ok(root.present()?)
}

/// The contact sheet: a column for each of `columns`, rows picture, gradient magnitude and
/// Laplacian. White (or black) is what 1 % of the first column, the original, exceeds.
fn write_sheet(path: &Path, columns: &[Column], picture: &Picture) -> Result<(), Box<dyn Error>> {
    let (width, height) = (picture.width + GAP, picture.height + GAP);
    let size = (columns.len() * width - GAP, 3 * height - GAP);
    let mut sheet = GrayImage::from_pixel(size.0 as u32, size.1 as u32, Luma([255]));
    let strong = |values: &[f32]| {
        let mut magnitudes: Vec<f32> = values.iter().map(|v| v.abs()).collect();
        magnitudes.sort_by(f32::total_cmp);
        magnitudes[(magnitudes.len() - 1) * 99 / 100].max(f32::MIN_POSITIVE)
    };
    let (gradient, laplacian) = (strong(&columns[0][1]), strong(&columns[0][2]));
    let tones = [(1.0, 0.0), (1.0 / gradient, 0.0), (0.5 / laplacian, 0.5)];
    for (column, rows) in columns.iter().enumerate() {
        for (row, (values, (gain, offset))) in rows.iter().zip(tones).enumerate() {
            for (p, value) in values.iter().enumerate() {
                let x = column * width + p % picture.width;
                let y = row * height + p / picture.width;
                let grey = ((offset + gain * value) * 255.0).round() as u8;
                sheet.put_pixel(x as u32, y as u32, Luma([grey]));
            }
        }
    }
    Ok(sheet.save(path)?)
}
