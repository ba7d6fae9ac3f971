// What the kernels of one SIREN share: bindings, pixels in, errors out.
//
// Rust puts constants in front: INVOCATIONS of a workgroup, PIXELS of a tile, SPLITS of a tile
// whose gradients are kept apart, BLOCKS of the widest layer, SHARED and TILE_LENGTH, WIDE,
// STAGED and STAGED_LENGTH; and sine.wgsl and emit.wgsl.
//
// Features come in blocks of four, a vec4f for each pixel. A layer's weights are blocks of 4x4,
// row by row, each of four vec4f: the weights of four outputs for one input. Biases follow.

struct Parameters {
    // Pixels of the dispatch, and the first one's place in the batch or the render.
    points: u32,
    first: u32,
    workgroups: u32,
    // Width and height of the picture in pixels.
    width: u32,
    height: u32,
    channels: u32,
    // Whether samples have 16 bits; whether the batch is all pixels in order.
    sixteen: u32,
    all: u32,
    layer_count: u32,
    // vec4f of a gradient, of it the last for the error; vec4f of scratch for a workgroup.
    gradient_length: u32,
    scratch_length: u32,
    // Zeros, for sine.wgsl.
    nothing: vec4u,
    layers: array<Layer, 65>,
}

struct Layer {
    // Blocks.
    inputs: u32,
    outputs: u32,
    // The first weight, in vec4f.
    weights: u32,
    // Blocks of the hidden layers before this one.
    kept: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> weights: array<vec4f>;
// x of each column, y of each row, samples: one word a pixel, or two of 16 bits.
@group(0) @binding(2) var<storage, read> picture: array<u32>;
// Number and weight of each pixel.
@group(0) @binding(3) var<storage, read> batch: array<vec2u>;
@group(0) @binding(4) var<storage, read_write> scratch: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> gradient: array<vec4f>;

const STRIDE = PIXELS + 1u;
const SLOT = BLOCKS * STRIDE;
// Behind the two slots stands a row of ones.
const ONES = 2u * SLOT;

var<workgroup> tile: array<vec4f, TILE_LENGTH>;
var<workgroup> staged: array<vec4f, STAGED_LENGTH>;
var<workgroup> sums: array<vec2f, INVOCATIONS>;
// Where the workgroup's scratch begins.
var<private> base: u32;
// The weight that `staged` begins with.
var<private> staged_from: u32;
var<private> error: f32;
var<private> seen: u32;

// Copies a layer's weights to workgroup memory; a barrier must follow.
fn stage(l: u32, id: u32) {
    if STAGED {
        let layer = parameters.layers[l];
        staged_from = layer.weights;
        for (var i = id; i < layer.outputs * (4u * layer.inputs + 1u); i += INVOCATIONS) {
            staged[i] = weights[layer.weights + i];
        }
    }
}

fn weight(index: u32) -> vec4f {
    if STAGED {
        return staged[index - staged_from];
    }
    return weights[index];
}

// sum + W h.
fn product(w: u32, h: vec4f, sum: vec4f) -> vec4f {
    var s = fma(weight(w), vec4f(h.x), sum);
    s = fma(weight(w + 1u), vec4f(h.y), s);
    s = fma(weight(w + 2u), vec4f(h.z), s);
    return fma(weight(w + 3u), vec4f(h.w), s);
}

// sum + W^T d.
fn transposed(w: u32, d: vec4f, sum: vec4f) -> vec4f {
    let a = weight(w);
    let b = weight(w + 1u);
    let c = weight(w + 2u);
    let e = weight(w + 3u);
    var s = fma(vec4f(a.x, b.x, c.x, e.x), vec4f(d.x), sum);
    s = fma(vec4f(a.y, b.y, c.y, e.y), vec4f(d.y), s);
    s = fma(vec4f(a.z, b.z, c.z, e.z), vec4f(d.z), s);
    return fma(vec4f(a.w, b.w, c.w, e.w), vec4f(d.w), s);
}

// The two slots of a tile's activations, in workgroup memory or before the kept ones in scratch.
fn activation(index: u32) -> vec4f {
    if SHARED {
        return tile[index];
    }
    return scratch[base + index];
}

fn set_activation(index: u32, value: vec4f) {
    if SHARED {
        tile[index] = value;
    } else {
        scratch[base + index] = value;
    }
}

fn barrier() {
    workgroupBarrier();
    if !SHARED {
        storageBarrier();
    }
}

fn begin(workgroup: u32, id: u32) {
    base = workgroup * parameters.scratch_length;
    for (var i = id; i < STRIDE; i += INVOCATIONS) {
        set_activation(ONES + i, vec4f(1.0, 0.0, 0.0, 0.0));
    }
}

// Where scratch keeps a block of a layer's affine outputs for the way back, for one pixel.
fn kept(block: u32, pixel: u32) -> u32 {
    let slots = select(ONES + STRIDE, 0u, SHARED);
    return base + slots + block * PIXELS + pixel;
}

fn kept_sine(block: u32, pixel: u32) -> vec4f {
    return sine(scratch[kept(block, pixel)]);
}

fn kept_cosine(block: u32, pixel: u32) -> vec4f {
    return cosine(scratch[kept(block, pixel)]);
}

// The number of a pixel by its place in the dispatch.
fn numbered(place: u32) -> u32 {
    let at = parameters.first + place;
    if parameters.all != 0u {
        return at;
    }
    return batch[at].x;
}

// x and y of a pixel.
fn centre(pixel: u32) -> vec4f {
    let x = bitcast<f32>(picture[pixel % parameters.width]);
    let y = bitcast<f32>(picture[parameters.width + pixel / parameters.width]);
    return vec4f(x, y, 0.0, 0.0);
}

// What goes into the first layer at a place in the dispatch; zeros beyond its end.
fn input(place: u32) -> vec4f {
    if place >= parameters.points {
        return vec4f();
    }
    return centre(numbered(place));
}

// Samples of a pixel in [-1, 1].
fn samples(pixel: u32) -> vec4f {
    let start = parameters.width + parameters.height;
    if parameters.sixteen != 0u {
        let a = picture[start + 2u * pixel];
        let b = picture[start + 2u * pixel + 1u];
        return 2.0 * (vec4f(vec4u(a & 65535u, a >> 16u, b & 65535u, b >> 16u)) / 65535.0) - 1.0;
    }
    let word = picture[start + pixel];
    let bytes = (vec4u(word) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u);
    return 2.0 * (vec4f(bytes) / 255.0) - 1.0;
}

// Weighted errors of the outputs at a place in the dispatch, zero beyond its end; adds to the sum of
// weight times squared error. Errors of colours count times the square of alpha.
fn compare(place: u32, output: vec4f) -> vec4f {
    if place >= parameters.points {
        return vec4f();
    }
    let wanted = samples(numbered(place));
    var weight = 1.0;
    if parameters.all == 0u {
        weight = bitcast<f32>(batch[parameters.first + place].y);
    }
    var each = vec4f(weight);
    if parameters.channels % 2u == 0u {
        let alpha = 0.5 * (select(wanted.w, wanted.y, parameters.channels == 2u) + 1.0);
        let colour = weight * alpha * alpha;
        each = vec4f(colour, select(colour, weight, parameters.channels == 2u), colour, weight);
    }
    let there = vec4u(0u, 1u, 2u, 3u) < vec4u(parameters.channels);
    let difference = select(vec4f(), output - wanted, there);
    let delta = each * difference;
    error += dot(delta, difference);
    seen += 1u;
    return delta;
}

// Whether a tile's gradient adds to those of others; the first of a workgroup does not.
fn adds(t: u32, workgroup: u32) -> bool {
    return t != workgroup || parameters.first != 0u;
}

// Adds a tile's gradient of layer `l` to the workgroup's: the products of the gradients of its
// affine outputs in one slot with its inputs in the other, summed over pixels. Each invocation
// owns whole blocks.
fn outer(l: u32, deltas: u32, inputs: u32, adding: bool, workgroup: u32, id: u32) {
    let layer = parameters.layers[l];
    let lanes = INVOCATIONS / SPLITS;
    let part = id / lanes;
    let blocks = layer.outputs * layer.inputs;
    let region = (workgroup * SPLITS + part) * parameters.gradient_length + layer.weights;
    let length = PIXELS / SPLITS;
    for (var item = id % lanes; item < blocks + layer.outputs; item += lanes) {
        // Biases stand behind the blocks; their inputs are ones.
        let bias = item >= blocks;
        let o = select(item / layer.inputs, item - blocks, bias);
        let row = inputs * SLOT + (item - o * layer.inputs) * STRIDE;
        let d = deltas * SLOT + o * STRIDE + part * length;
        let h = select(row, ONES, bias) + part * length;
        var a = vec4f();
        var b = vec4f();
        var c = vec4f();
        var e = vec4f();
        for (var i = 0u; i < length; i += 4u) {
            let d0 = activation(d + i);
            let h0 = activation(h + i);
            let d1 = activation(d + i + 1u);
            let h1 = activation(h + i + 1u);
            let d2 = activation(d + i + 2u);
            let h2 = activation(h + i + 2u);
            let d3 = activation(d + i + 3u);
            let h3 = activation(h + i + 3u);
            a = fma(d0, vec4f(h0.x), a);
            b = fma(d0, vec4f(h0.y), b);
            c = fma(d0, vec4f(h0.z), c);
            e = fma(d0, vec4f(h0.w), e);
            a = fma(d1, vec4f(h1.x), a);
            b = fma(d1, vec4f(h1.y), b);
            c = fma(d1, vec4f(h1.z), c);
            e = fma(d1, vec4f(h1.w), e);
            a = fma(d2, vec4f(h2.x), a);
            b = fma(d2, vec4f(h2.y), b);
            c = fma(d2, vec4f(h2.z), c);
            e = fma(d2, vec4f(h2.w), e);
            a = fma(d3, vec4f(h3.x), a);
            b = fma(d3, vec4f(h3.y), b);
            c = fma(d3, vec4f(h3.z), c);
            e = fma(d3, vec4f(h3.w), e);
        }
        let at = region + select(4u * item, 4u * blocks + o, bias);
        if adding {
            a += gradient[at];
        }
        gradient[at] = a;
        if bias {
            continue;
        }
        if adding {
            b += gradient[at + 1u];
            c += gradient[at + 2u];
            e += gradient[at + 3u];
        }
        gradient[at + 1u] = b;
        gradient[at + 2u] = c;
        gradient[at + 3u] = e;
    }
}

// Writes the sums of the errors and of the pixels of a workgroup behind its gradient, or adds them
// to those of the dispatches before.
fn finish(workgroup: u32, id: u32) {
    sums[id] = vec2f(error, f32(seen));
    workgroupBarrier();
    if id < SPLITS {
        var sum = vec2f();
        if id == 0u {
            for (var i = 0u; i < INVOCATIONS; i++) {
                sum += sums[i];
            }
        }
        let end = (workgroup * SPLITS + id + 1u) * parameters.gradient_length - 1u;
        var thousands = 0.0;
        if parameters.first != 0u {
            sum += gradient[end].xy;
            thousands = gradient[end].z;
        }
        // Two numbers, so that pixels are counted exactly.
        let more = floor(sum.y / 1024.0);
        gradient[end] = vec4f(sum.x, sum.y - 1024.0 * more, thousands + more, 0.0);
    }
}
