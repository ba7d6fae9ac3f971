//! The network: its topology, its weights, and the definition of the function in f64.
//! Plain data and plain arithmetic; reads no bytes, starts no threads, knows no pixels.

use std::fmt;

use crate::error::DecodeError;

/// Limits of the format (spec section 9).
pub mod limits {
    /// Largest number of hidden layers.
    pub const MAX_HIDDEN_LAYERS: usize = 64;
    /// Largest number of features in one hidden layer.
    pub const MAX_HIDDEN_FEATURES: usize = 1024;
    /// Largest number of weights and biases together.
    pub const MAX_WEIGHTS: usize = 1 << 20;
    /// Largest number of levels of latents.
    pub const MAX_LEVELS: usize = 10;
    /// Largest number of planes of waves.
    pub const MAX_WAVES: usize = 4;
    /// Largest native width or height in pixels.
    pub const MAX_DIMENSION: u32 = (1 << 31) - 1;
}

/// The channels of a picture, colour first; alpha is straight (not premultiplied).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channels {
    /// One grey channel.
    Grey,
    /// Grey and alpha.
    GreyAlpha,
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue and alpha.
    Rgba,
}

impl Channels {
    /// Channels by their number, 1 to 4.
    pub fn from_count(count: usize) -> Option<Self> {
        Some(match count {
            1 => Self::Grey,
            2 => Self::GreyAlpha,
            3 => Self::Rgb,
            4 => Self::Rgba,
            _ => return None,
        })
    }

    /// Number of channels, 1 to 4.
    pub fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::GreyAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// Number of colour channels: 1 or 3.
    pub fn colour_count(self) -> usize {
        match self {
            Self::Grey | Self::GreyAlpha => 1,
            Self::Rgb | Self::Rgba => 3,
        }
    }

    /// Whether the last channel is alpha.
    pub fn has_alpha(self) -> bool {
        self.count() != self.colour_count()
    }

    /// The same colour channels without alpha.
    pub fn without_alpha(self) -> Self {
        if self.colour_count() == 1 { Self::Grey } else { Self::Rgb }
    }
}

impl fmt::Display for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grey => "grey",
            Self::GreyAlpha => "grey + alpha",
            Self::Rgb => "RGB",
            Self::Rgba => "RGBA",
        })
    }
}

/// The shape of a SIREN: two inputs, hidden sine layers, one linear output layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    channels: Channels,
    hidden: Vec<usize>,
}

impl Topology {
    /// A topology with the given features in each hidden layer, first to last.
    ///
    /// # Errors
    /// [`DecodeError::OutOfRange`] where the limits of the format are exceeded.
    pub fn new(channels: Channels, hidden: Vec<usize>) -> Result<Self, DecodeError> {
        check_range("hidden layers", hidden.len() as u64, 1, limits::MAX_HIDDEN_LAYERS as u64)?;
        for &features in &hidden {
            check_range("hidden features", features as u64, 1, limits::MAX_HIDDEN_FEATURES as u64)?;
        }
        let topology = Self { channels, hidden };
        check_range(
            "number of weights",
            topology.weight_count() as u64,
            1,
            limits::MAX_WEIGHTS as u64,
        )?;
        Ok(topology)
    }

    /// `layers` hidden layers of `features` features each.
    ///
    /// # Errors
    /// As [`Topology::new`].
    pub fn uniform(
        channels: Channels,
        layers: usize,
        features: usize,
    ) -> Result<Self, DecodeError> {
        check_range("hidden layers", layers as u64, 1, limits::MAX_HIDDEN_LAYERS as u64)?;
        Self::new(channels, vec![features; layers])
    }

    /// The output channels.
    pub fn channels(&self) -> Channels {
        self.channels
    }

    /// Features of each hidden layer, first to last.
    pub fn hidden(&self) -> &[usize] {
        &self.hidden
    }

    /// The hidden features if every hidden layer has the same number.
    pub fn uniform_features(&self) -> Option<usize> {
        let first = self.hidden[0];
        self.hidden.iter().all(|&n| n == first).then_some(first)
    }

    /// `(inputs, outputs)` of every layer, the linear output layer last.
    pub fn layers(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let inputs = std::iter::once(2).chain(self.hidden.iter().copied());
        let outputs = self.hidden.iter().copied().chain(std::iter::once(self.channels.count()));
        inputs.zip(outputs)
    }

    /// Number of weights and biases.
    pub fn weight_count(&self) -> usize {
        self.layers().map(|(inputs, outputs)| (inputs + 1) * outputs).sum()
    }
}

impl fmt::Display for Topology {
    /// `10x28` for ten hidden layers of 28 features, `[28, 28, 16]` where they differ.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.uniform_features() {
            Some(features) => write!(f, "{}x{features}", self.hidden.len()),
            None => write!(f, "{:?}", self.hidden),
        }
    }
}

/// Refuses a value outside the limits of the format.
pub(crate) fn check_range(
    field: &'static str,
    value: u64,
    min: u64,
    max: u64,
) -> Result<(), DecodeError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(DecodeError::OutOfRange { field, value, min, max })
}

/// One affine map `a = W h + b`.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Number of inputs.
    pub inputs: usize,
    /// Number of outputs.
    pub outputs: usize,
    /// `W`, row by row: `outputs` rows of `inputs` weights. omega_0 is folded in.
    pub weights: Vec<f32>,
    /// `b`, one bias per output. omega_0 is folded in.
    pub biases: Vec<f32>,
}

/// A picture as a function of the plane: `h_0 = (x, y)`, `h_{l+1} = sin(W_l h_l + b_l)`,
/// `out = W_L h_L + b_L` (Sitzmann et al. 2020, equation 4; spec section 5).
#[derive(Debug, Clone, PartialEq)]
pub struct Siren {
    topology: Topology,
    layers: Vec<Layer>,
}

impl Siren {
    /// A network from its weights in file order: for each layer `W` row by row, then `b`.
    ///
    /// # Errors
    /// [`DecodeError::WeightLength`] for a wrong number of weights (counted in units of
    /// weights), [`DecodeError::NonFiniteWeight`] for a NaN or an infinity.
    pub fn from_weights(topology: Topology, weights: &[f32]) -> Result<Self, DecodeError> {
        if weights.len() != topology.weight_count() {
            return Err(DecodeError::WeightLength {
                expected: topology.weight_count() as u64,
                found: weights.len() as u64,
            });
        }
        if let Some(index) = weights.iter().position(|w| !w.is_finite()) {
            return Err(DecodeError::NonFiniteWeight { index, value: weights[index] });
        }
        let mut rest = weights;
        let layers = topology
            .layers()
            .map(|(inputs, outputs)| {
                let (matrix, tail) = rest.split_at(inputs * outputs);
                let (biases, tail) = tail.split_at(outputs);
                rest = tail;
                Layer { inputs, outputs, weights: matrix.to_vec(), biases: biases.to_vec() }
            })
            .collect();
        Ok(Self { topology, layers })
    }

    /// A network that has one colour everywhere, `colour` in the range of its outputs [-1, 1].
    pub fn constant(topology: Topology, colour: &[f32]) -> Self {
        let mut weights = vec![0.0; topology.weight_count()];
        let tail = weights.len() - topology.channels().count();
        weights[tail..].copy_from_slice(colour);
        Self::from_weights(topology, &weights).expect("as many weights as the topology has")
    }

    /// The shape of the network.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The layers, first to last; the last one has no sine.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// All weights in file order, the inverse of [`Siren::from_weights`].
    pub fn weights(&self) -> Vec<f32> {
        self.layers.iter().flat_map(|l| l.weights.iter().chain(&l.biases)).copied().collect()
    }

    /// The function and its exact derivatives at one point of the plane, in f64: the
    /// reference that every fast path is held against. One [`Jet`] per output channel.
    ///
    /// Forward propagation of value, gradient and Laplacian: with `a = W h + b` and
    /// `h' = sin a`, `grad h' = cos(a) grad a` and
    /// `lap h' = cos(a) lap a - sin(a) |grad a|^2`.
    pub fn evaluate(&self, x: f64, y: f64) -> Vec<Jet> {
        let mut h = vec![
            Jet { value: x, dx: 1.0, dy: 0.0, laplacian: 0.0 },
            Jet { value: y, dx: 0.0, dy: 1.0, laplacian: 0.0 },
        ];
        let (output, hidden) = self.layers.split_last().expect("a network has layers");
        for layer in hidden {
            h = layer.apply(&h).into_iter().map(Jet::sin).collect();
        }
        output.apply(&h)
    }
}

impl Layer {
    /// `W h + b`.
    pub(crate) fn apply(&self, h: &[Jet]) -> Vec<Jet> {
        let rows = self.weights.chunks_exact(self.inputs);
        rows.zip(&self.biases)
            .map(|(row, &bias)| {
                let mut a = Jet { value: f64::from(bias), ..Jet::default() };
                for (&w, h) in row.iter().zip(h) {
                    let w = f64::from(w);
                    a.value += w * h.value;
                    a.dx += w * h.dx;
                    a.dy += w * h.dy;
                    a.laplacian += w * h.laplacian;
                }
                a
            })
            .collect()
    }
}

/// A value with its first derivatives and its Laplacian.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Jet {
    /// The value itself.
    pub value: f64,
    /// Derivative to x, to the right.
    pub dx: f64,
    /// Derivative to y, downwards.
    pub dy: f64,
    /// Second derivative to x plus second derivative to y.
    pub laplacian: f64,
}

impl Jet {
    /// Its sine.
    pub(crate) fn sin(self) -> Self {
        let (sin, cos) = self.value.sin_cos();
        Self {
            value: sin,
            dx: cos * self.dx,
            dy: cos * self.dy,
            laplacian: cos * self.laplacian - sin * (self.dx * self.dx + self.dy * self.dy),
        }
    }
}
