// The latents in training: soft rounding, their gradients, and Adam's update.

@group(0) @binding(3) var<storage, read_write> latents: array<f32>;
// Gradients of the splines, level by level.
@group(0) @binding(5) var<storage, read> by_level: array<f32>;
// Gradients of a latent's bits by what its context held, input by input, then by itself.
@group(0) @binding(7) var<storage, read> by_input: array<f32>;
// Gradients of the splines summed along rows of pixels for each column of latents.
@group(0) @binding(8) var<storage, read_write> by_column: array<f32>;
// A latent, the means of its gradients and of their squares, and the derivative of its rounding.
@group(0) @binding(9) var<storage, read_write> state: array<vec4f>;

// Spreads bits (Jarzynski and Olano 2020, PCG).
fn pcg(x: u32) -> u32 {
    let state = x * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}

// The quantile of Kumaraswamy's distribution, less a half.
fn noise(latent: u32) -> f32 {
    // 23 bits and a half stand exactly.
    let u = (f32(pcg(latent ^ pcg(parameters.key)) >> 9u) + 0.5) / 8388608.0;
    let inner = 1.0 - pow(1.0 - u, parameters.rounding.w);
    return pow(max(inner, 1e-7), parameters.rounding.z) - 0.5;
}

// The rounded number and its derivative.
fn soft(x: f32) -> vec2f {
    let inverse = parameters.rounding.x;
    let scale = parameters.rounding.y;
    let low = floor(x);
    let away = (x - low - 0.5) * inverse;
    let t = 1.0 - 2.0 / (exp2(2.8853900817779268 * away) + 1.0);
    return vec2f(fma(t, scale, low + 0.5), (1.0 - t * t) * scale * inverse);
}

@compute @workgroup_size(INVOCATIONS)
fn soften(
    @builtin(global_invocation_id) id: vec3u,
    @builtin(num_workgroups) workgroups: vec3u,
) {
    let start = parameters.of_levels[0].start;
    for (var i = start + id.x; i < parameters.latents; i += INVOCATIONS * workgroups.x) {
        let value = state[i].x;
        if parameters.rounding.x == 0.0 {
            // Half away from 0.
            latents[i] = sign(value) * floor(abs(value) + 0.5);
            continue;
        }
        let once = soft(value);
        let twice = soft(once.x + noise(i));
        latents[i] = twice.x;
        state[i].w = once.y * twice.y;
    }
}

@compute @workgroup_size(INVOCATIONS)
fn columns(
    @builtin(global_invocation_id) id: vec3u,
    @builtin(num_workgroups) workgroups: vec3u,
) {
    let last = parameters.of_levels[parameters.levels - 1u];
    let count = last.columns + last.width * parameters.height;
    for (var i = id.x; i < count; i += INVOCATIONS * workgroups.x) {
        var l = 0u;
        while l + 1u < parameters.levels && i >= parameters.of_levels[l + 1u].columns {
            l++;
        }
        let level = parameters.of_levels[l];
        let item = i - level.columns;
        let column = i32(item % level.width);
        let y = item / level.width;
        let start = l * parameters.points + y * parameters.width;
        let pixels = reach(column, l, parameters.width);
        var sum = 0.0;
        for (var x = pixels.x; x < pixels.y; x++) {
            sum += weight_of(column, column_taps(l, x)) * by_level[start + x];
        }
        by_column[i] = sum;
    }
}

fn of_picture(level: Level, l: u32, x: i32, y: i32) -> f32 {
    let pixels = reach(y, l, parameters.height);
    var sum = 0.0;
    for (var j = pixels.x; j < pixels.y; j++) {
        sum += weight_of(y, row_taps(l, j)) * by_column[level.columns + j * level.width + u32(x)];
    }
    return sum;
}

// What the latent whose neighbour this one is has for it as its input k.
fn as_neighbour(level: Level, x: i32, y: i32, offset: vec2i, k: u32) -> f32 {
    let i = x - offset.x;
    let j = y - offset.y;
    let outside = i < 0 || i >= i32(level.width) || j >= i32(level.height);
    if outside || i / TILE != x / TILE || j / TILE != y / TILE {
        return 0.0;
    }
    return by_input[k * parameters.latents + level.start + u32(j) * level.width + u32(i)];
}

// What the latents of the finer level around have for this one.
fn as_parent(l: u32, x: i32, y: i32) -> f32 {
    if l == 0u {
        return 0.0;
    }
    let level = parameters.of_levels[l];
    let finer = parameters.of_levels[l - 1u];
    let last = vec2i(i32(finer.width), i32(finer.height)) - 1;
    var sum = 0.0;
    for (var j = max(2 * y - 1, 0); j <= min(2 * y + 2, last.y); j++) {
        let rows = parents(j, i32(level.height));
        for (var i = max(2 * x - 1, 0); i <= min(2 * x + 2, last.x); i++) {
            let columns = parents(i, i32(level.width));
            let at = finer.start + u32(j) * finer.width + u32(i);
            for (var k = 0u; k < 4u; k++) {
                let column = select(columns.x, columns.y, (k & 1u) != 0u);
                let row = select(rows.x, rows.y, (k & 2u) != 0u);
                if column == x && row == y {
                    sum += by_input[(16u + k) * parameters.latents + at];
                }
            }
        }
    }
    return sum;
}

fn of_rates(level: Level, l: u32, x: i32, y: i32) -> f32 {
    let own = level.start + u32(y) * level.width + u32(x);
    return by_input[20u * parameters.latents + own] + as_parent(l, x, y)
        + as_neighbour(level, x, y, NEIGHBOURS[0], 0u)
        + as_neighbour(level, x, y, NEIGHBOURS[1], 1u)
        + as_neighbour(level, x, y, NEIGHBOURS[2], 2u)
        + as_neighbour(level, x, y, NEIGHBOURS[3], 3u)
        + as_neighbour(level, x, y, NEIGHBOURS[4], 4u)
        + as_neighbour(level, x, y, NEIGHBOURS[5], 5u)
        + as_neighbour(level, x, y, NEIGHBOURS[6], 6u)
        + as_neighbour(level, x, y, NEIGHBOURS[7], 7u)
        + as_neighbour(level, x, y, NEIGHBOURS[8], 8u)
        + as_neighbour(level, x, y, NEIGHBOURS[9], 9u)
        + as_neighbour(level, x, y, NEIGHBOURS[10], 10u)
        + as_neighbour(level, x, y, NEIGHBOURS[11], 11u)
        + as_neighbour(level, x, y, NEIGHBOURS[12], 12u)
        + as_neighbour(level, x, y, NEIGHBOURS[13], 13u)
        + as_neighbour(level, x, y, NEIGHBOURS[14], 14u)
        + as_neighbour(level, x, y, NEIGHBOURS[15], 15u);
}

@compute @workgroup_size(INVOCATIONS)
fn descend(
    @builtin(global_invocation_id) id: vec3u,
    @builtin(num_workgroups) workgroups: vec3u,
) {
    var l = 0u;
    let start = parameters.of_levels[0].start;
    for (var i = start + id.x; i < parameters.latents; i += INVOCATIONS * workgroups.x) {
        while l + 1u < parameters.levels && i >= parameters.of_levels[l + 1u].start {
            l++;
        }
        let level = parameters.of_levels[l];
        let x = i32((i - level.start) % level.width);
        let y = i32((i - level.start) / level.width);
        let before = state[i];
        let rates = parameters.lambda * of_rates(level, l, x, y);
        let g = (of_picture(level, l, x, y) + rates) * before.w;
        let m = mix(g, before.y, parameters.beta1);
        let v = mix(g * g, before.z, parameters.beta2);
        let value = before.x - level.rate * m / (sqrt(v) * level.second + 1e-9);
        state[i] = vec4f(value, m, v, g);
    }
}
