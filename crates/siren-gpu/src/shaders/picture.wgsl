// The picture from the latents: planes, sine layer and output layer of a pixel; its error and the
// way back; or its samples.

// In renders sums of the waves' latents follow, as waves.wgsl has them.
@group(0) @binding(3) var<storage, read> latents: array<f32>;
// Gradients of the splines, level by level.
@group(0) @binding(5) var<storage, read_write> by_level: array<f32>;

fn across(start: i32, columns: Taps) -> f32 {
    let at = vec4i(start) + columns.at;
    let four = vec4f(latents[at.x], latents[at.y], latents[at.z], latents[at.w]);
    return dot(columns.weights, four);
}

// The sum of a plane of waves, from those along columns.
fn waves(l: u32, x: u32, y: u32) -> f32 {
    let plane = parameters.of_levels[l];
    let row = y - parameters.first / parameters.width;
    var at = plane.start + row * plane.width + picture[2u * (l * parameters.width + x)];
    var weight = 2u * parameters.levels * (parameters.width + parameters.height) + x;
    var sum = 0.0;
    // A multiple of 4.
    for (var k = 0u; k < parameters.across; k += 4u) {
        sum = fma(bitcast<f32>(picture[weight]), latents[at], sum);
        sum = fma(bitcast<f32>(picture[weight + parameters.width]), latents[at + 1u], sum);
        sum = fma(bitcast<f32>(picture[weight + 2u * parameters.width]), latents[at + 2u], sum);
        sum = fma(bitcast<f32>(picture[weight + 3u * parameters.width]), latents[at + 3u], sum);
        weight += 4u * parameters.width;
        at += 4u;
    }
    return sum;
}

// The sum of a plane, or the 1 behind the last one.
fn plane(l: u32, x: u32, y: u32) -> f32 {
    if l >= parameters.levels {
        return select(0.0, 1.0, l == parameters.levels);
    }
    if l < parameters.waves {
        return waves(l, x, y);
    }
    let level = parameters.of_levels[l];
    let columns = column_taps(l, x);
    let rows = row_taps(l, y);
    let starts = vec4i(i32(level.start)) + rows.at * i32(level.width);
    let sums = vec4f(
        across(starts.x, columns),
        across(starts.y, columns),
        across(starts.z, columns),
        across(starts.w, columns),
    );
    return dot(rows.weights, sums);
}

// The outputs of a pixel; leaves rows of sines, of planes, and of cosines where the gradients of
// the sines' arguments will stand.
fn picture_at(x: u32, y: u32, keeping: bool) -> vec4f {
    let sines = parameters.layers[0];
    for (var b = 0u; b < sines.inputs; b++) {
        let l = 4u * b;
        let field =
            vec4f(plane(l, x, y), plane(l + 1u, x, y), plane(l + 2u, x, y), plane(l + 3u, x, y));
        set_row(sines.from_row + b, field);
    }
    for (var o = 0u; o < sines.outputs; o++) {
        let a = affine(sines, o);
        set_row(sines.to_row + o, sine(a));
        if keeping {
            set_row(sines.deltas + o, cosine(a));
        }
    }
    return affine(parameters.layers[1], 0u);
}

// Gradients of the outputs of a pixel; adds to the error. Colours count by the square of alpha.
fn compare(point: u32, output: vec4f) -> vec4f {
    let channels = parameters.channels;
    let samples = 2u * parameters.levels * (parameters.width + parameters.height);
    let at = samples + channels * point;
    var wanted = vec4f();
    wanted.x = bitcast<f32>(picture[at]);
    if channels > 1u {
        wanted.y = bitcast<f32>(picture[at + 1u]);
    }
    if channels > 2u {
        wanted.z = bitcast<f32>(picture[at + 2u]);
    }
    if channels > 3u {
        wanted.w = bitcast<f32>(picture[at + 3u]);
    }
    var weight = vec4f(parameters.scale);
    if channels == 2u {
        let alpha = 0.5 * (wanted.y + 1.0);
        weight.x *= alpha * alpha;
    } else if channels == 4u {
        let alpha = 0.5 * (wanted.w + 1.0);
        weight *= vec4f(vec3f(alpha * alpha), 1.0);
    }
    let there = vec4u(0u, 1u, 2u, 3u) < vec4u(channels);
    weight = select(vec4f(), weight, there);
    let shown = clamp(output, vec4f(-1.0), vec4f(1.0)) - wanted;
    error += dot(weight * shown, shown);
    seen += 1u;
    return 2.0 * weight * (output - wanted);
}

fn put(l: u32, point: u32, value: f32) {
    if l < parameters.levels {
        by_level[l * parameters.points + point] = value;
    }
}

@compute @workgroup_size(INVOCATIONS)
fn train_picture(
    @builtin(workgroup_id) workgroup_id: vec3u,
    @builtin(local_invocation_index) id: u32,
) {
    let workgroup = parameters.first + workgroup_id.x;
    begin(workgroup, id);
    let sines = parameters.layers[0];
    let output = parameters.layers[1];
    let tiles = tiles_of(workgroup);
    for (var t = tiles.x; t < tiles.y; t++) {
        let point = t * INVOCATIONS + id;
        let there = point < parameters.points;
        let pixel = select(0u, point, there);
        let out = picture_at(pixel % parameters.width, pixel / parameters.width, true);
        var delta = vec4f();
        if there {
            delta = compare(point, out);
        }
        set_row(output.deltas, delta);
        let picked = t % parameters.share == parameters.turn;
        if picked || parameters.by_latents != 0u {
            for (var o = 0u; o < sines.outputs; o++) {
                set_row(sines.deltas + o, row(sines.deltas + o) * back(output, o));
            }
        }
        if there && parameters.by_latents != 0u {
            for (var k = 0u; k < sines.inputs; k++) {
                // The outputs see sines and splines.
                let g = back(sines, k) + back(output, sines.outputs + k);
                put(4u * k, point, g.x);
                put(4u * k + 1u, point, g.y);
                put(4u * k + 2u, point, g.z);
                put(4u * k + 3u, point, g.w);
            }
        }
        if picked {
            storageBarrier();
            add_outer(sines, id);
            add_outer(output, id);
            storageBarrier();
        }
    }
    finish(id);
}

@compute @workgroup_size(INVOCATIONS)
fn render(
    @builtin(workgroup_id) workgroup_id: vec3u,
    @builtin(local_invocation_index) id: u32,
) {
    let workgroup = workgroup_id.x;
    rows = workgroup * parameters.rows * INVOCATIONS;
    own = rows + id;
    let tiles = (parameters.points + INVOCATIONS - 1u) / INVOCATIONS;
    for (var t = workgroup; t < tiles; t += parameters.workgroups) {
        let place = t * INVOCATIONS + id;
        let pixel = parameters.first + min(place, parameters.points - 1u);
        emit(place, picture_at(pixel % parameters.width, pixel / parameters.width, false));
    }
}
