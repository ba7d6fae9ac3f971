// The layers of a tile's networks, forward and back.

@group(0) @binding(1) var<storage, read> weights: array<vec4f>;
// The gradients of all workgroups, then their rows.
@group(0) @binding(4) var<storage, read_write> work: array<vec4f>;

var<workgroup> sums: array<vec2f, INVOCATIONS>;
// Where the workgroup's gradient and its rows begin, and where the invocation's point stands in a
// row.
var<private> gradient: u32;
var<private> rows: u32;
var<private> own: u32;
var<private> error: f32;
var<private> seen: u32;

fn begin(workgroup: u32, id: u32) {
    gradient = workgroup * parameters.gradient_length;
    let behind = parameters.workgroups * parameters.gradient_length;
    rows = behind + workgroup * parameters.rows * INVOCATIONS;
    own = rows + id;
    for (var i = id; i < parameters.gradient_length; i += INVOCATIONS) {
        work[gradient + i] = vec4f();
    }
}

// The tiles of a workgroup: from the first on, before the second.
fn tiles_of(workgroup: u32) -> vec2u {
    let each = (parameters.tiles + parameters.workgroups - 1u) / parameters.workgroups;
    return min(vec2u(workgroup, workgroup + 1u) * each, vec2u(parameters.tiles));
}

fn row(number: u32) -> vec4f {
    return work[own + number * INVOCATIONS];
}

fn set_row(number: u32, value: vec4f) {
    work[own + number * INVOCATIONS] = value;
}

// Block `o` of a layer's affine outputs.
fn affine(layer: Layer, o: u32) -> vec4f {
    var sum = vec4f();
    var w = layer.weights + 4u * o * layer.inputs;
    for (var k = 0u; k < layer.inputs; k++) {
        let h = row(layer.from_row + k);
        sum = fma(weights[w], vec4f(h.x), sum);
        sum = fma(weights[w + 1u], vec4f(h.y), sum);
        sum = fma(weights[w + 2u], vec4f(h.z), sum);
        sum = fma(weights[w + 3u], vec4f(h.w), sum);
        w += 4u;
    }
    return sum;
}

// The gradient of block `k` of a layer's inputs.
fn back(layer: Layer, k: u32) -> vec4f {
    var sum = vec4f();
    var w = layer.weights + 4u * k;
    for (var o = 0u; o < layer.outputs; o++) {
        let d = row(layer.deltas + o);
        sum += vec4f(
            dot(weights[w], d),
            dot(weights[w + 1u], d),
            dot(weights[w + 2u], d),
            dot(weights[w + 3u], d),
        );
        w += 4u * layer.inputs;
    }
    return sum;
}

// Adds a tile's gradient of a layer's weights to the workgroup's. Each invocation owns whole
// blocks.
fn add_outer(layer: Layer, id: u32) {
    for (var item = id; item < layer.outputs * layer.inputs; item += INVOCATIONS) {
        let o = item / layer.inputs;
        let d = rows + (layer.deltas + o) * INVOCATIONS;
        let h = rows + (layer.from_row + item - o * layer.inputs) * INVOCATIONS;
        var a = vec4f();
        var b = vec4f();
        var c = vec4f();
        var e = vec4f();
        for (var i = 0u; i < INVOCATIONS; i += 2u) {
            let d0 = work[d + i];
            let h0 = work[h + i];
            let d1 = work[d + i + 1u];
            let h1 = work[h + i + 1u];
            a = fma(d0, vec4f(h0.x), a);
            b = fma(d0, vec4f(h0.y), b);
            c = fma(d0, vec4f(h0.z), c);
            e = fma(d0, vec4f(h0.w), e);
            a = fma(d1, vec4f(h1.x), a);
            b = fma(d1, vec4f(h1.y), b);
            c = fma(d1, vec4f(h1.z), c);
            e = fma(d1, vec4f(h1.w), e);
        }
        let at = gradient + layer.weights + 4u * item;
        work[at] += a;
        work[at + 1u] += b;
        work[at + 2u] += c;
        work[at + 3u] += e;
    }
}

// Writes the sums of the errors and of the points of a workgroup behind its gradient.
fn finish(id: u32) {
    sums[id] = vec2f(error, f32(seen));
    workgroupBarrier();
    if id == 0u {
        var sum = vec2f();
        for (var i = 0u; i < INVOCATIONS; i++) {
            sum += sums[i];
        }
        // Two numbers, so that points are counted exactly.
        let thousands = floor(sum.y / 1024.0);
        let end = gradient + parameters.gradient_length - 1u;
        work[end] = vec4f(sum.x, sum.y - 1024.0 * thousands, thousands, 0.0);
    }
}
