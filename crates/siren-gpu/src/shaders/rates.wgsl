// The bits of latents under the entropy model, and the way back.

@group(0) @binding(3) var<storage, read> latents: array<f32>;
// Gradients of a latent's bits by what its context held, input by input, then by itself.
@group(0) @binding(7) var<storage, read_write> by_input: array<f32>;

const LOG2_E = 1.4426950408889634;
const LN_2 = 0.6931471805599453;

// The bits of a latent, and their derivatives by it and by the log2 of the scale.
fn rate(value: f32, centre: f32, raw: f32) -> vec3f {
    let log_scale = clamp(raw, -5.0, 8.0);
    let inverse = exp2(-log_scale);
    let x = value - centre;
    let near = abs(x) - 0.5;
    let far = abs(x) + 0.5;
    let a = exp2(max(-abs(near) * inverse * LOG2_E, -126.0));
    let b = exp2(max(-far * inverse * LOG2_E, -126.0));
    // The least probability that any latent keeps.
    let p = select(0.5 * (a - b), 1.0 - 0.5 * (a + b), near < 0.0) + 1.0 / 65536.0;
    let by_p = -LOG2_E / p;
    let by_distance = by_p * (b - a) * 0.5 * inverse;
    // The derivative to the scale, times scale and ln 2, is that to its log2.
    let spread = select(0.0, (a * near - b * far) * 0.5 * inverse * LN_2, raw == log_scale);
    return vec3f(-log2(p), select(by_distance, -by_distance, x < 0.0), by_p * spread);
}

// A latent before this one in its tile, or 0.
fn neighbour(level: Level, x: i32, y: i32, offset: vec2i) -> f32 {
    let i = x + offset.x;
    let j = y + offset.y;
    if i < 0 || j < 0 || i >= i32(level.width) || i / TILE != x / TILE || j / TILE != y / TILE {
        return 0.0;
    }
    return latents[i32(level.start) + j * i32(level.width) + i];
}

// A block of them.
fn neighbours(level: Level, x: i32, y: i32, a: vec2i, b: vec2i, c: vec2i, d: vec2i) -> vec4f {
    return vec4f(
        neighbour(level, x, y, a),
        neighbour(level, x, y, b),
        neighbour(level, x, y, c),
        neighbour(level, x, y, d),
    );
}

// The four latents of the coarser level around a latent.
fn coarser(l: u32, x: i32, y: i32) -> vec4f {
    if l + 1u >= parameters.levels {
        return vec4f();
    }
    let level = parameters.of_levels[l + 1u];
    let columns = parents(x, i32(level.width));
    let rows = parents(y, i32(level.height));
    let near = i32(level.start) + rows.x * i32(level.width);
    let other = i32(level.start) + rows.y * i32(level.width);
    return vec4f(
        latents[near + columns.x],
        latents[near + columns.y],
        latents[other + columns.x],
        latents[other + columns.y],
    );
}

fn put(k: u32, latent: u32, value: f32) {
    by_input[k * parameters.latents + latent] = value;
}

// What goes through a hidden layer.
fn hidden(layer: Layer) {
    for (var o = 0u; o < layer.outputs; o++) {
        set_row(layer.to_row + o, max(affine(layer, o), vec4f()));
    }
}

// Gradients of a hidden layer's affine outputs from those of the next one's.
fn hidden_back(layer: Layer, next: Layer) {
    for (var o = 0u; o < layer.outputs; o++) {
        let positive = row(layer.to_row + o) > vec4f();
        set_row(layer.deltas + o, select(vec4f(), back(next, o), positive));
    }
}

@compute @workgroup_size(INVOCATIONS)
fn train_rates(
    @builtin(workgroup_id) workgroup_id: vec3u,
    @builtin(local_invocation_index) id: u32,
) {
    let workgroup = parameters.first + workgroup_id.x;
    begin(workgroup, id);
    let first = parameters.layers[0];
    let second = parameters.layers[1];
    let third = parameters.layers[2];
    let tiles = tiles_of(workgroup);
    for (var t = tiles.x; t < tiles.y; t++) {
        var l = 0u;
        while l + 1u < parameters.levels && t >= parameters.of_levels[l + 1u].tiles {
            l++;
        }
        let level = parameters.of_levels[l];
        let point = (t - level.tiles) * INVOCATIONS + id;
        let there = point < level.width * level.height;
        let place = select(0u, point, there);
        let x = i32(place % level.width);
        let y = i32(place / level.width);
        let latent = level.start + place;
        set_row(
            0u,
            neighbours(level, x, y, NEIGHBOURS[0], NEIGHBOURS[1], NEIGHBOURS[2], NEIGHBOURS[3]),
        );
        set_row(
            1u,
            neighbours(level, x, y, NEIGHBOURS[4], NEIGHBOURS[5], NEIGHBOURS[6], NEIGHBOURS[7]),
        );
        set_row(
            2u,
            neighbours(level, x, y, NEIGHBOURS[8], NEIGHBOURS[9], NEIGHBOURS[10], NEIGHBOURS[11]),
        );
        set_row(
            3u,
            neighbours(level, x, y, NEIGHBOURS[12], NEIGHBOURS[13], NEIGHBOURS[14], NEIGHBOURS[15]),
        );
        set_row(4u, coarser(l, x, y));
        set_row(5u, vec4f(f32(level.number), 1.0, 0.0, 0.0));
        hidden(first);
        hidden(second);
        let distribution = affine(third, 0u);
        let bits = rate(latents[latent], distribution.x, distribution.y);
        var delta = vec4f();
        if there {
            error += bits.x;
            seen += 1u;
            delta = vec4f(-bits.y, bits.z, 0.0, 0.0);
        }
        set_row(third.deltas, delta);
        let picked = t % parameters.share == parameters.turn;
        if picked || parameters.by_latents != 0u {
            hidden_back(second, third);
            hidden_back(first, second);
        }
        if there && parameters.by_latents != 0u {
            for (var k = 0u; k < 5u; k++) {
                let g = back(first, k);
                put(4u * k, latent, g.x);
                put(4u * k + 1u, latent, g.y);
                put(4u * k + 2u, latent, g.z);
                put(4u * k + 3u, latent, g.w);
            }
            put(20u, latent, bits.y);
        }
        if picked {
            storageBarrier();
            add_outer(first, id);
            add_outer(second, id);
            add_outer(third, id);
            storageBarrier();
        }
    }
    finish(id);
}
