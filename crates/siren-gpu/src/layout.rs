//! Where the kernels find the weights of a network: 4x4 blocks, padded with zeros.

use siren_image::network::Topology;

/// Features of a block.
const BLOCK: usize = 4;
/// Places for layers in the kernels' parameters.
pub(super) const MOST_LAYERS: usize = 65;

/// The blocks of all layers.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    layers: Vec<LayerBlocks>,
    /// `vec4f` of all weights.
    pub length: usize,
    /// Blocks of the widest layer, and of all hidden layers together.
    pub widest: usize,
    pub hidden: usize,
}

#[derive(Debug, Clone, Copy)]
struct LayerBlocks {
    inputs: usize,
    outputs: usize,
    input_blocks: usize,
    output_blocks: usize,
    /// The first weight, in `vec4f`.
    start: usize,
    /// Blocks of the hidden layers before this one.
    hidden_before: usize,
}

impl Layout {
    /// The layout of a topology; `even` pads all hidden layers to the widest.
    pub fn new(topology: &Topology, even: bool) -> Self {
        let blocks = |features: usize| features.div_ceil(BLOCK);
        let widest = topology.hidden().iter().map(|&n| blocks(n)).max().unwrap_or(1);
        let hidden = topology.hidden().len();
        let mut layers: Vec<LayerBlocks> = Vec::with_capacity(hidden + 1);
        let (mut start, mut before) = (0, 0);
        for (index, (inputs, outputs)) in topology.layers().enumerate() {
            let padded = |features| if even { widest } else { blocks(features) };
            let input_blocks = if index == 0 { 1 } else { padded(inputs) };
            let output_blocks = if index == hidden { 1 } else { padded(outputs) };
            // A layer's inputs are the hidden layer before it.
            let hidden_before = before;
            before += if index == 0 { 0 } else { input_blocks };
            layers.push(LayerBlocks {
                inputs,
                outputs,
                input_blocks,
                output_blocks,
                start,
                hidden_before,
            });
            start += output_blocks * (BLOCK * input_blocks + 1);
        }
        Self { layers, length: start, widest, hidden: before }
    }

    /// The table of the layers in the kernels' parameters.
    pub fn table(&self) -> Vec<u32> {
        let mut table: Vec<u32> = self
            .layers
            .iter()
            .flat_map(|l| [l.input_blocks, l.output_blocks, l.start, l.hidden_before])
            .map(|number| number as u32)
            .collect();
        table.resize(4 * MOST_LAYERS, 0);
        table
    }

    pub fn layer_count(&self) -> usize {
        self.layers.len()
    }

    /// `vec4f` of the layer with most weights.
    pub fn largest_layer(&self) -> usize {
        let lengths = self.layers.iter().map(|l| l.output_blocks * (BLOCK * l.input_blocks + 1));
        lengths.max().unwrap_or(0)
    }

    /// Floating-point operations for the values of a pixel: those of weights and sines.
    pub fn flops(&self) -> u64 {
        (8 * self.length + 100 * self.hidden) as u64
    }

    /// Calls `visit(layer, output, input, place)` for every weight; the input after the last one
    /// stands for the bias. `place` is that among the floats of the layout.
    pub fn each_weight(&self, mut visit: impl FnMut(usize, usize, usize, usize)) {
        for (index, layer) in self.layers.iter().enumerate() {
            let biases = layer.start + BLOCK * layer.output_blocks * layer.input_blocks;
            for o in 0..layer.outputs {
                let row = layer.start + BLOCK * (o / BLOCK) * layer.input_blocks;
                for k in 0..layer.inputs {
                    visit(index, o, k, BLOCK * (row + k) + o % BLOCK);
                }
                visit(index, o, layer.inputs, BLOCK * (biases + o / BLOCK) + o % BLOCK);
            }
        }
    }

    /// Iterations of loops that an invocation does for a tile, at most, in a training step.
    pub fn iterations(&self, invocations: usize, pixels: usize) -> usize {
        let rounds = |items: usize| items.div_ceil(invocations);
        let layer = |l: &LayerBlocks| {
            let (i, o) = (l.input_blocks, l.output_blocks);
            let groups = pixels / 4;
            let products = rounds(o * groups) * (i + 1) + rounds(i * groups) * (o + 6);
            let staged = 2 * rounds(o * (BLOCK * i + 1));
            products + staged + rounds(o * (i + 1)) * (pixels / 4 + 1) + 4
        };
        self.layers.iter().map(layer).sum::<usize>() + 8
    }
}
