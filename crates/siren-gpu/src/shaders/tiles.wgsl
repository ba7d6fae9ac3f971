// Tiles of pixels go through the layers together; an invocation computes four outputs of a layer
// for four pixels, or, if WIDE, for eight, GROUPS pixels apart. For layers of any width.

// Four pixels' sums, with a block of weights.
fn products(w: mat4x4f, at: u32, sums: mat4x4f) -> mat4x4f {
    return mat4x4f(
        block_product(w, activation(at), sums[0]),
        block_product(w, activation(at + GROUPS), sums[1]),
        block_product(w, activation(at + 2u * GROUPS), sums[2]),
        block_product(w, activation(at + 3u * GROUPS), sums[3]),
    );
}

fn block_product(w: mat4x4f, h: vec4f, sum: vec4f) -> vec4f {
    var s = fma(w[0], vec4f(h.x), sum);
    s = fma(w[1], vec4f(h.y), s);
    s = fma(w[2], vec4f(h.z), s);
    return fma(w[3], vec4f(h.w), s);
}

fn block(w: u32) -> mat4x4f {
    return mat4x4f(weight(w), weight(w + 1u), weight(w + 2u), weight(w + 3u));
}

fn load(workgroup_tile: u32, slot: u32, id: u32) {
    for (var i = id; i < PIXELS; i += INVOCATIONS) {
        set_activation(slot * SLOT + i, input(workgroup_tile * PIXELS + i));
    }
}

fn activate(l: u32, o: u32, pixel: u32, slot: u32, a: vec4f, keeping: bool) {
    var h = a;
    if l + 1u < parameters.layer_count {
        h = sine(a);
        if keeping {
            scratch[kept(parameters.layers[l + 1u].kept + o, pixel)] = a;
        }
    }
    set_activation(slot * SLOT + o * STRIDE + pixel, h);
}

fn forward(l: u32, slot: u32, id: u32, keeping: bool) {
    let layer = parameters.layers[l];
    let biases = layer.weights + 4u * layer.outputs * layer.inputs;
    for (var item = id; item < layer.outputs * GROUPS; item += INVOCATIONS) {
        let o = item / GROUPS;
        let pixel = item % GROUPS;
        let bias = weight(biases + o);
        var low = mat4x4f(bias, bias, bias, bias);
        var high = low;
        var w = layer.weights + 4u * o * layer.inputs;
        var h = slot * SLOT + pixel;
        for (var k = 0u; k < layer.inputs; k++) {
            let m = block(w);
            low = products(m, h, low);
            if WIDE {
                high = products(m, h + 4u * GROUPS, high);
            }
            w += 4u;
            h += STRIDE;
        }
        activate(l, o, pixel, 1u - slot, low[0], keeping);
        activate(l, o, pixel + GROUPS, 1u - slot, low[1], keeping);
        activate(l, o, pixel + 2u * GROUPS, 1u - slot, low[2], keeping);
        activate(l, o, pixel + 3u * GROUPS, 1u - slot, low[3], keeping);
        if WIDE {
            activate(l, o, pixel + 4u * GROUPS, 1u - slot, high[0], keeping);
            activate(l, o, pixel + 5u * GROUPS, 1u - slot, high[1], keeping);
            activate(l, o, pixel + 6u * GROUPS, 1u - slot, high[2], keeping);
            activate(l, o, pixel + 7u * GROUPS, 1u - slot, high[3], keeping);
        }
    }
}

// Takes the inputs in slot 0 through all layers; returns the outputs' slot.
fn through(id: u32, keeping: bool) -> u32 {
    var slot = 0u;
    for (var l = 0u; l < parameters.layer_count; l++) {
        if STAGED {
            stage(l, id);
            barrier();
        }
        forward(l, slot, id, keeping);
        barrier();
        slot = 1u - slot;
    }
    return slot;
}

// Inputs of layer l > 0 as they were on the way forward.
fn restore(l: u32, slot: u32, id: u32) {
    let layer = parameters.layers[l];
    for (var item = id; item < layer.inputs * GROUPS; item += INVOCATIONS) {
        let k = item / GROUPS;
        // The pixels that this invocation has kept.
        for (var pixel = item % GROUPS; pixel < PIXELS; pixel += GROUPS) {
            set_activation(slot * SLOT + k * STRIDE + pixel, kept_sine(layer.kept + k, pixel));
        }
    }
}

fn carry(layer: Layer, k: u32, pixel: u32, slot: u32, d: vec4f) {
    set_activation(slot * SLOT + k * STRIDE + pixel, d * kept_cosine(layer.kept + k, pixel));
}

// Gradients of layer l's affine outputs to those of the layer before it.
fn backward(l: u32, slot: u32, id: u32) {
    let layer = parameters.layers[l];
    for (var item = id; item < layer.inputs * GROUPS; item += INVOCATIONS) {
        let k = item / GROUPS;
        let pixel = item % GROUPS;
        var low = mat4x4f();
        var high = mat4x4f();
        var w = layer.weights + 4u * k;
        var d = slot * SLOT + pixel;
        for (var o = 0u; o < layer.outputs; o++) {
            let m = transpose(block(w));
            low = products(m, d, low);
            if WIDE {
                high = products(m, d + 4u * GROUPS, high);
            }
            w += 4u * layer.inputs;
            d += STRIDE;
        }
        carry(layer, k, pixel, 1u - slot, low[0]);
        carry(layer, k, pixel + GROUPS, 1u - slot, low[1]);
        carry(layer, k, pixel + 2u * GROUPS, 1u - slot, low[2]);
        carry(layer, k, pixel + 3u * GROUPS, 1u - slot, low[3]);
        if WIDE {
            carry(layer, k, pixel + 4u * GROUPS, 1u - slot, high[0]);
            carry(layer, k, pixel + 5u * GROUPS, 1u - slot, high[1]);
            carry(layer, k, pixel + 6u * GROUPS, 1u - slot, high[2]);
            carry(layer, k, pixel + 7u * GROUPS, 1u - slot, high[3]);
        }
    }
}

@compute @workgroup_size(INVOCATIONS)
fn train(
    @builtin(workgroup_id) workgroup_id: vec3u,
    @builtin(local_invocation_index) id: u32,
) {
    let workgroup = workgroup_id.x;
    begin(workgroup, id);
    let tiles = (parameters.points + PIXELS - 1u) / PIXELS;
    for (var t = workgroup; t < tiles; t += parameters.workgroups) {
        load(t, 0u, id);
        barrier();
        var slot = through(id, true);
        for (var i = id; i < PIXELS; i += INVOCATIONS) {
            set_activation(slot * SLOT + i, compare(t * PIXELS + i, activation(slot * SLOT + i)));
        }
        for (var l = parameters.layer_count - 1u; l > 0u; l--) {
            restore(l, 1u - slot, id);
            stage(l, id);
            barrier();
            outer(l, slot, 1u - slot, adds(t, workgroup), workgroup, id);
            barrier();
            backward(l, slot, id);
            barrier();
            slot = 1u - slot;
        }
        load(t, 1u - slot, id);
        barrier();
        outer(0u, slot, 1u - slot, adds(t, workgroup), workgroup, id);
        barrier();
    }
    finish(workgroup, id);
}

@compute @workgroup_size(INVOCATIONS)
fn render(
    @builtin(workgroup_id) workgroup_id: vec3u,
    @builtin(local_invocation_index) id: u32,
) {
    let workgroup = workgroup_id.x;
    begin(workgroup, id);
    let tiles = (parameters.points + PIXELS - 1u) / PIXELS;
    for (var t = workgroup; t < tiles; t += parameters.workgroups) {
        for (var i = id; i < PIXELS; i += INVOCATIONS) {
            set_activation(i, centre(parameters.first + t * PIXELS + i));
        }
        barrier();
        let slot = through(id, false);
        for (var i = id; i < PIXELS; i += INVOCATIONS) {
            emit(t * PIXELS + i, activation(slot * SLOT + i));
        }
        barrier();
    }
}
