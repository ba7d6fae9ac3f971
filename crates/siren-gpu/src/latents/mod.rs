//! Latents on a GPU: how the kernels see planes and networks.

mod render;

use super::pipeline::{EMIT, SINE};
use siren_image::coding::latents::{NEIGHBOURS, TILE};
use siren_image::latents::{self, Basis};
use siren_image::network::limits;

/// Invocations of a workgroup, and points of a tile.
pub const INVOCATIONS: usize = 64;
/// Features of a block.
pub const BLOCK: usize = 4;
/// Places for planes and for layers in the kernels' parameters.
pub const MOST_PLANES: usize = limits::MAX_WAVES + limits::MAX_LEVELS;
pub const MOST_LAYERS: usize = 3;

/// A layer's weights in blocks.
#[derive(Debug, Clone, Copy)]
pub struct BlockLayer {
    /// Rows and numbers of a row, the bias among them.
    pub outputs: usize,
    pub inputs: usize,
    /// Inputs from this one on begin with a block of their own.
    pub second: usize,
    /// The first block's first `vec4f`.
    pub start: usize,
    /// First rows of what goes in, of what comes out, and of gradients.
    pub rows: [usize; 3],
    /// Blocks of inputs and of outputs.
    pub blocks: [usize; 2],
}

impl BlockLayer {
    /// `vec4f` of its weights.
    pub fn length(&self) -> usize {
        BLOCK * self.blocks[0] * self.blocks[1]
    }

    /// Where a weight stands among the floats.
    pub fn place(&self, o: usize, k: usize) -> usize {
        let k =
            if k < self.second { k } else { k + self.second.next_multiple_of(BLOCK) - self.second };
        let block = o / BLOCK * self.blocks[0] + k / BLOCK;
        BLOCK * (self.start + BLOCK * block + k % BLOCK) + o % BLOCK
    }

    pub fn words(&self) -> [u32; 8] {
        let [inputs, outputs] = self.blocks;
        let [from, to, deltas] = self.rows;
        [inputs, outputs, self.start, from, to, deltas, 0, 0].map(|number| number as u32)
    }
}

/// The networks of a kernel.
#[derive(Debug, Clone)]
pub struct Network {
    pub layers: Vec<BlockLayer>,
    /// Rows of a tile.
    pub rows: usize,
    /// Hidden layers give a 1, for the biases of the next, as a further output.
    pub ones: bool,
}

impl Network {
    /// Sine layer and output layer: rows of sines, of planes, and of the gradients of both
    /// layers' affine outputs.
    pub fn of_picture(planes: usize, sines: usize, channels: usize) -> Self {
        let (field, wide) = ((planes + 1).div_ceil(BLOCK), sines.div_ceil(BLOCK));
        let deltas = wide + field;
        let first = BlockLayer {
            outputs: sines,
            inputs: planes + 1,
            second: usize::MAX,
            start: 0,
            rows: [wide, 0, deltas],
            blocks: [field, wide],
        };
        let output = BlockLayer {
            outputs: channels,
            inputs: sines + planes + 1,
            second: sines,
            start: first.length(),
            rows: [0, 0, deltas + wide],
            blocks: [wide + field, 1],
        };
        Self { layers: vec![first, output], rows: deltas + wide + 1, ones: false }
    }

    /// `vec4f` of the weights.
    pub fn length(&self) -> usize {
        self.layers.iter().map(BlockLayer::length).sum()
    }

    /// Weights as the kernels read them, from the rows of each layer.
    pub fn packed(&self, rows: &[&[f32]]) -> Vec<u32> {
        let mut packed = vec![0; BLOCK * self.length()];
        let last = self.layers.len() - 1;
        for (index, (layer, rows)) in self.layers.iter().zip(rows).enumerate() {
            for (o, row) in rows.chunks_exact(layer.inputs).enumerate() {
                for (k, weight) in row.iter().enumerate() {
                    packed[layer.place(o, k)] = weight.to_bits();
                }
            }
            if self.ones && index < last {
                packed[layer.place(layer.outputs, layer.inputs - 1)] = 1f32.to_bits();
            }
        }
        packed
    }

    /// Floating-point operations for the outputs of a point: those of weights, and of sines and
    /// splines.
    pub fn flops(&self) -> u64 {
        (8 * self.length() + 100 * self.rows) as u64
    }

    /// Iterations of loops that an invocation does for a tile, at most.
    pub fn iterations(&self) -> usize {
        let blocks = self.length() / BLOCK;
        3 * blocks + blocks.div_ceil(INVOCATIONS) * (INVOCATIONS / 2 + 1) + 4 * self.rows + 40
    }
}

/// What the kernels' parameters hold.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    pub points: usize,
    pub workgroups: u32,
    pub size: (usize, usize),
    pub channels: usize,
    pub tiles: usize,
    pub gradient_length: usize,
    pub share: usize,
    pub turn: usize,
    pub by_latents: bool,
    pub key: u32,
    pub scale: f32,
    pub lambda: f32,
    pub rounding: [f32; 4],
    pub betas: [f32; 2],
    pub latents: usize,
    pub waves: Waves,
    /// How often the size of the picture that is trained on was halved.
    pub shift: usize,
    pub levels: Vec<LevelTable>,
}

/// How many of the planes in use are waves, and how many of their latents along an axis a pixel
/// takes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Waves {
    pub planes: usize,
    pub across: usize,
    pub down: usize,
}

/// A plane in use.
#[derive(Debug, Clone, Copy, Default)]
pub struct LevelTable {
    pub width: usize,
    pub height: usize,
    /// Latents before its first; of waves that of the sums along columns.
    pub start: usize,
    /// Of splines, the level.
    pub number: usize,
    pub tiles: usize,
    pub columns: usize,
    pub rate: (f32, f32),
}

impl Parameters {
    /// The words; the first two are the number of points and the first one.
    pub fn words(&self, network: &Network) -> Vec<u32> {
        let numbers = [self.points, 0, self.workgroups as usize, self.size.0, self.size.1];
        let mut words: Vec<u32> = numbers.map(|number| number as u32).into();
        let Self { channels, tiles, gradient_length, share, turn, .. } = *self;
        let numbers =
            [channels, self.levels.len(), tiles, gradient_length, network.rows, share, turn];
        words.extend(numbers.map(|number| number as u32));
        words.extend([self.by_latents.into(), self.key]);
        words.extend([self.scale, self.lambda].map(f32::to_bits));
        words.extend([0; 4]);
        words.extend(self.rounding.map(f32::to_bits));
        words.extend(self.betas.map(f32::to_bits));
        let Waves { planes, across, down } = self.waves;
        let numbers = [self.latents, planes, across, down, self.shift, 0];
        words.extend(numbers.map(|number| number as u32));
        let mut layers: Vec<u32> = network.layers.iter().flat_map(BlockLayer::words).collect();
        layers.resize(8 * MOST_LAYERS, 0);
        words.extend(layers);
        let mut levels: Vec<u32> = Vec::new();
        for level in &self.levels {
            let LevelTable { width, height, start, number, tiles, columns, rate } = *level;
            let numbers = [width, height, start, number, tiles, columns];
            levels.extend(numbers.map(|number| number as u32));
            levels.extend([rate.0, rate.1].map(f32::to_bits));
        }
        levels.resize(8 * MOST_PLANES, 0);
        words.extend(levels);
        words
    }
}

/// The places of points along an axis in a plane held from latent `first` on: of splines the first
/// latent and the distance from the second, of waves the first latent and a zero.
pub fn places(
    basis: Basis,
    length: usize,
    first: usize,
    positions: impl Iterator<Item = f64>,
) -> impl Iterator<Item = u32> {
    positions.flat_map(move |position| {
        let (place, t) = match basis {
            Basis::Splines { level } => latents::place(level, length, position),
            Basis::Waves { .. } => (basis.first(length, position), 0.0),
        };
        [(place - first as i64) as i32 as u32, (t as f32).to_bits()]
    })
}

/// The source of a kernel, with the constants in front.
pub fn source(parts: &[&str], format: u32) -> String {
    let neighbours = NEIGHBOURS.map(|(x, y)| format!("vec2i({x}, {y})")).join(", ");
    let constants = format!(
        "const INVOCATIONS = {INVOCATIONS}u;\n\
         const FORMAT = {format}u;\n\
         const TILE = {TILE};\n\
         const NEIGHBOURS = array<vec2i, {count}>({neighbours});\n",
        count = NEIGHBOURS.len(),
    );
    [&[constants.as_str(), include_str!("../shaders/grids.wgsl")], parts].concat().concat()
}

/// The kernel of the picture, for its two entry points.
pub const PICTURE: [&str; 5] = [
    SINE,
    EMIT,
    include_str!("../shaders/rows.wgsl"),
    include_str!("../shaders/spline.wgsl"),
    include_str!("../shaders/picture.wgsl"),
];

/// The kernel of the sums along columns of waves.
pub const SUM_COLUMNS: [&str; 1] = [include_str!("../shaders/waves.wgsl")];
