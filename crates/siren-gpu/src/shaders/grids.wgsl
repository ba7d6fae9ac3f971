// What the kernels of latents share: parameters, and small networks on tiles of points.
//
// A tile is as many points as a workgroup has invocations, one each. Features come in blocks of
// four, a vec4f for each point; what the layers take and give stands in rows of blocks, the last
// feature of a layer's inputs is 1 and its weight the bias. A layer's weights are blocks of 4x4,
// row by row, each of four vec4f: the weights of four outputs for one input.
//
// Rust puts constants in front: INVOCATIONS of a workgroup, FORMAT of a render, TILE and
// NEIGHBOURS of the entropy model.

struct Parameters {
    // Pixels of the picture, or of the render's part whose first has the number `first`. In
    // training, `first` is the first workgroup of a dispatch.
    points: u32,
    first: u32,
    workgroups: u32,
    // Of the picture in pixels.
    width: u32,
    height: u32,
    channels: u32,
    // Planes in use, the finest first.
    levels: u32,
    tiles: u32,
    // vec4f of a workgroup's gradient, of it the last for the error; rows of a tile.
    gradient_length: u32,
    rows: u32,
    // One of `share` tiles gives gradients of the weights.
    share: u32,
    turn: u32,
    // Whether gradients of the latents are wanted; seeds the noise.
    by_latents: u32,
    key: u32,
    // Of a squared error; of a bit.
    scale: f32,
    lambda: f32,
    // Zeros.
    nothing: vec4u,
    // 1 / temperature, and 1 over twice the tanh of half of that; 0 for hard rounding. Powers of
    // the noise's quantiles.
    rounding: vec4f,
    // Adam's.
    beta1: f32,
    beta2: f32,
    // Latents of all levels.
    latents: u32,
    // How many of the planes are waves, which are the first, and how many of their latents along
    // an axis a pixel takes. None in training.
    waves: u32,
    across: u32,
    down: u32,
    // How often the size of the picture that is trained on was halved.
    shift: u32,
    // Zero.
    padding: u32,
    layers: array<Layer, 3>,
    of_levels: array<Level, 14>,
}

struct Layer {
    // Blocks.
    inputs: u32,
    outputs: u32,
    // The first weight, in vec4f.
    weights: u32,
    // First rows of what goes in, of what comes out, and of the gradients of the affine outputs.
    from_row: u32,
    to_row: u32,
    deltas: u32,
    // Zeros.
    padding: vec2u,
}

struct Level {
    width: u32,
    height: u32,
    // Latents of finer levels; of waves that of the sums along columns.
    start: u32,
    // log2 of the pitch of a level's splines in pixels of the whole picture.
    number: u32,
    // Tiles of latents, and sums along rows, of finer levels in use.
    tiles: u32,
    columns: u32,
    // Adam's rate with the first moment's bias corrected; 1 over the root of the second's bias.
    rate: f32,
    second: f32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;

// Coarse latents along an axis that a latent looks at: the one that holds it and the nearer
// neighbour in the same tile.
fn parents(at: i32, length: i32) -> vec2i {
    let first = at / TILE * TILE / 2 / TILE * TILE;
    let last = min(first + TILE, length) - 1;
    let near = at / 2;
    let beside = select(near - 1, near + 1, at % 2 == 1);
    return vec2i(near, clamp(beside, first, last));
}
