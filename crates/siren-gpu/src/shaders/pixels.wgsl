// Each invocation takes one pixel through the network with all features of a layer in registers.
// For hidden layers of one width of up to 8 blocks.

struct Features {
    b0: vec4f,
    b1: vec4f,
    b2: vec4f,
    b3: vec4f,
    b4: vec4f,
    b5: vec4f,
    b6: vec4f,
    b7: vec4f,
}

// sum + W h for the four outputs whose weights begin at `w`.
fn row(w: u32, h: Features, sum: vec4f) -> vec4f {
    var s = product(w, h.b0, sum);
    if BLOCKS > 1u {
        s = product(w + 4u, h.b1, s);
    }
    if BLOCKS > 2u {
        s = product(w + 8u, h.b2, s);
    }
    if BLOCKS > 3u {
        s = product(w + 12u, h.b3, s);
    }
    if BLOCKS > 4u {
        s = product(w + 16u, h.b4, s);
    }
    if BLOCKS > 5u {
        s = product(w + 20u, h.b5, s);
    }
    if BLOCKS > 6u {
        s = product(w + 24u, h.b6, s);
    }
    if BLOCKS > 7u {
        s = product(w + 28u, h.b7, s);
    }
    return s;
}

// W^T d for the four inputs whose weights begin at `w`.
fn column(w: u32, d: Features) -> vec4f {
    var s = transposed(w, d.b0, vec4f());
    if BLOCKS > 1u {
        s = transposed(w + 4u * BLOCKS, d.b1, s);
    }
    if BLOCKS > 2u {
        s = transposed(w + 8u * BLOCKS, d.b2, s);
    }
    if BLOCKS > 3u {
        s = transposed(w + 12u * BLOCKS, d.b3, s);
    }
    if BLOCKS > 4u {
        s = transposed(w + 16u * BLOCKS, d.b4, s);
    }
    if BLOCKS > 5u {
        s = transposed(w + 20u * BLOCKS, d.b5, s);
    }
    if BLOCKS > 6u {
        s = transposed(w + 24u * BLOCKS, d.b6, s);
    }
    if BLOCKS > 7u {
        s = transposed(w + 28u * BLOCKS, d.b7, s);
    }
    return s;
}

fn first(at: vec4f) -> Features {
    let w = parameters.layers[0].weights;
    let biases = w + 4u * BLOCKS;
    var a: Features;
    a.b0 = product(w, at, weight(biases));
    if BLOCKS > 1u {
        a.b1 = product(w + 4u, at, weight(biases + 1u));
    }
    if BLOCKS > 2u {
        a.b2 = product(w + 8u, at, weight(biases + 2u));
    }
    if BLOCKS > 3u {
        a.b3 = product(w + 12u, at, weight(biases + 3u));
    }
    if BLOCKS > 4u {
        a.b4 = product(w + 16u, at, weight(biases + 4u));
    }
    if BLOCKS > 5u {
        a.b5 = product(w + 20u, at, weight(biases + 5u));
    }
    if BLOCKS > 6u {
        a.b6 = product(w + 24u, at, weight(biases + 6u));
    }
    if BLOCKS > 7u {
        a.b7 = product(w + 28u, at, weight(biases + 7u));
    }
    return a;
}

fn hidden(l: u32, h: Features) -> Features {
    let w = parameters.layers[l].weights;
    let biases = w + 4u * BLOCKS * BLOCKS;
    var a: Features;
    a.b0 = row(w, h, weight(biases));
    if BLOCKS > 1u {
        a.b1 = row(w + 4u * BLOCKS, h, weight(biases + 1u));
    }
    if BLOCKS > 2u {
        a.b2 = row(w + 8u * BLOCKS, h, weight(biases + 2u));
    }
    if BLOCKS > 3u {
        a.b3 = row(w + 12u * BLOCKS, h, weight(biases + 3u));
    }
    if BLOCKS > 4u {
        a.b4 = row(w + 16u * BLOCKS, h, weight(biases + 4u));
    }
    if BLOCKS > 5u {
        a.b5 = row(w + 20u * BLOCKS, h, weight(biases + 5u));
    }
    if BLOCKS > 6u {
        a.b6 = row(w + 24u * BLOCKS, h, weight(biases + 6u));
    }
    if BLOCKS > 7u {
        a.b7 = row(w + 28u * BLOCKS, h, weight(biases + 7u));
    }
    return a;
}

fn last(h: Features) -> vec4f {
    let w = parameters.layers[parameters.layer_count - 1u].weights;
    return row(w, h, weight(w + 4u * BLOCKS));
}

fn sines(a: Features) -> Features {
    var h: Features;
    h.b0 = sine(a.b0);
    if BLOCKS > 1u {
        h.b1 = sine(a.b1);
    }
    if BLOCKS > 2u {
        h.b2 = sine(a.b2);
    }
    if BLOCKS > 3u {
        h.b3 = sine(a.b3);
    }
    if BLOCKS > 4u {
        h.b4 = sine(a.b4);
    }
    if BLOCKS > 5u {
        h.b5 = sine(a.b5);
    }
    if BLOCKS > 6u {
        h.b6 = sine(a.b6);
    }
    if BLOCKS > 7u {
        h.b7 = sine(a.b7);
    }
    return h;
}

// Sines of the affine outputs of layer l, which are kept.
fn sines_kept(l: u32, a: Features, id: u32) -> Features {
    let block = parameters.layers[l + 1u].kept;
    scratch[kept(block, id)] = a.b0;
    if BLOCKS > 1u {
        scratch[kept(block + 1u, id)] = a.b1;
    }
    if BLOCKS > 2u {
        scratch[kept(block + 2u, id)] = a.b2;
    }
    if BLOCKS > 3u {
        scratch[kept(block + 3u, id)] = a.b3;
    }
    if BLOCKS > 4u {
        scratch[kept(block + 4u, id)] = a.b4;
    }
    if BLOCKS > 5u {
        scratch[kept(block + 5u, id)] = a.b5;
    }
    if BLOCKS > 6u {
        scratch[kept(block + 6u, id)] = a.b6;
    }
    if BLOCKS > 7u {
        scratch[kept(block + 7u, id)] = a.b7;
    }
    return sines(a);
}

fn show(slot: u32, f: Features, id: u32) {
    let at = slot * SLOT + id;
    tile[at] = f.b0;
    if BLOCKS > 1u {
        tile[at + 1u * STRIDE] = f.b1;
    }
    if BLOCKS > 2u {
        tile[at + 2u * STRIDE] = f.b2;
    }
    if BLOCKS > 3u {
        tile[at + 3u * STRIDE] = f.b3;
    }
    if BLOCKS > 4u {
        tile[at + 4u * STRIDE] = f.b4;
    }
    if BLOCKS > 5u {
        tile[at + 5u * STRIDE] = f.b5;
    }
    if BLOCKS > 6u {
        tile[at + 6u * STRIDE] = f.b6;
    }
    if BLOCKS > 7u {
        tile[at + 7u * STRIDE] = f.b7;
    }
}

// The inputs of layer l > 0, for `outer`.
fn show_inputs(l: u32, id: u32) {
    let block = parameters.layers[l].kept;
    let at = SLOT + id;
    tile[at] = kept_sine(block, id);
    if BLOCKS > 1u {
        tile[at + 1u * STRIDE] = kept_sine(block + 1u, id);
    }
    if BLOCKS > 2u {
        tile[at + 2u * STRIDE] = kept_sine(block + 2u, id);
    }
    if BLOCKS > 3u {
        tile[at + 3u * STRIDE] = kept_sine(block + 3u, id);
    }
    if BLOCKS > 4u {
        tile[at + 4u * STRIDE] = kept_sine(block + 4u, id);
    }
    if BLOCKS > 5u {
        tile[at + 5u * STRIDE] = kept_sine(block + 5u, id);
    }
    if BLOCKS > 6u {
        tile[at + 6u * STRIDE] = kept_sine(block + 6u, id);
    }
    if BLOCKS > 7u {
        tile[at + 7u * STRIDE] = kept_sine(block + 7u, id);
    }
}

// The gradients of the affine outputs of the layer before l.
fn carried(l: u32, d: Features, id: u32) -> Features {
    let w = parameters.layers[l].weights;
    let block = parameters.layers[l].kept;
    var p: Features;
    p.b0 = column(w, d) * kept_cosine(block, id);
    if BLOCKS > 1u {
        p.b1 = column(w + 4u, d) * kept_cosine(block + 1u, id);
    }
    if BLOCKS > 2u {
        p.b2 = column(w + 8u, d) * kept_cosine(block + 2u, id);
    }
    if BLOCKS > 3u {
        p.b3 = column(w + 12u, d) * kept_cosine(block + 3u, id);
    }
    if BLOCKS > 4u {
        p.b4 = column(w + 16u, d) * kept_cosine(block + 4u, id);
    }
    if BLOCKS > 5u {
        p.b5 = column(w + 20u, d) * kept_cosine(block + 5u, id);
    }
    if BLOCKS > 6u {
        p.b6 = column(w + 24u, d) * kept_cosine(block + 6u, id);
    }
    if BLOCKS > 7u {
        p.b7 = column(w + 28u, d) * kept_cosine(block + 7u, id);
    }
    return p;
}

// The same of the output layer, whose outputs are one block.
fn carried_last(d: vec4f, id: u32) -> Features {
    let l = parameters.layer_count - 1u;
    let w = parameters.layers[l].weights;
    let block = parameters.layers[l].kept;
    var p: Features;
    p.b0 = transposed(w, d, vec4f()) * kept_cosine(block, id);
    if BLOCKS > 1u {
        p.b1 = transposed(w + 4u, d, vec4f()) * kept_cosine(block + 1u, id);
    }
    if BLOCKS > 2u {
        p.b2 = transposed(w + 8u, d, vec4f()) * kept_cosine(block + 2u, id);
    }
    if BLOCKS > 3u {
        p.b3 = transposed(w + 12u, d, vec4f()) * kept_cosine(block + 3u, id);
    }
    if BLOCKS > 4u {
        p.b4 = transposed(w + 16u, d, vec4f()) * kept_cosine(block + 4u, id);
    }
    if BLOCKS > 5u {
        p.b5 = transposed(w + 20u, d, vec4f()) * kept_cosine(block + 5u, id);
    }
    if BLOCKS > 6u {
        p.b6 = transposed(w + 24u, d, vec4f()) * kept_cosine(block + 6u, id);
    }
    if BLOCKS > 7u {
        p.b7 = transposed(w + 28u, d, vec4f()) * kept_cosine(block + 7u, id);
    }
    return p;
}

// The next layer's weights, once those of the last are no longer read.
fn advance(l: u32, id: u32) {
    if STAGED {
        workgroupBarrier();
        stage(l, id);
        workgroupBarrier();
    }
}

@compute @workgroup_size(INVOCATIONS)
fn train(
    @builtin(workgroup_id) workgroup_id: vec3u,
    @builtin(local_invocation_index) id: u32,
) {
    let workgroup = workgroup_id.x;
    begin(workgroup, id);
    let output = parameters.layer_count - 1u;
    let tiles = (parameters.points + PIXELS - 1u) / PIXELS;
    for (var t = workgroup; t < tiles; t += parameters.workgroups) {
        let place = t * PIXELS + id;
        advance(0u, id);
        var h = sines_kept(0u, first(input(place)), id);
        for (var l = 1u; l < output; l++) {
            advance(l, id);
            h = sines_kept(l, hidden(l, h), id);
        }
        advance(output, id);
        let delta = compare(place, last(h));
        tile[id] = delta;
        show(1u, h, id);
        workgroupBarrier();
        outer(output, 0u, 1u, adds(t, workgroup), workgroup, id);
        var d = carried_last(delta, id);
        workgroupBarrier();
        for (var l = output - 1u; l > 0u; l--) {
            show(0u, d, id);
            show_inputs(l, id);
            stage(l, id);
            workgroupBarrier();
            outer(l, 0u, 1u, adds(t, workgroup), workgroup, id);
            d = carried(l, d, id);
            workgroupBarrier();
        }
        show(0u, d, id);
        tile[SLOT + id] = input(place);
        workgroupBarrier();
        outer(0u, 0u, 1u, adds(t, workgroup), workgroup, id);
        workgroupBarrier();
    }
    finish(workgroup, id);
}

@compute @workgroup_size(INVOCATIONS)
fn render(
    @builtin(workgroup_id) workgroup_id: vec3u,
    @builtin(local_invocation_index) id: u32,
) {
    let output = parameters.layer_count - 1u;
    let tiles = (parameters.points + PIXELS - 1u) / PIXELS;
    for (var t = workgroup_id.x; t < tiles; t += parameters.workgroups) {
        let place = t * PIXELS + id;
        advance(0u, id);
        var h = sines(first(centre(parameters.first + place)));
        for (var l = 1u; l < output; l++) {
            advance(l, id);
            h = sines(hidden(l, h));
        }
        advance(output, id);
        emit(place, last(h));
    }
}
