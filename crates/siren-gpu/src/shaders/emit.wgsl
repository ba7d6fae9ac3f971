// The pixels of a render.
//
// Rust puts FORMAT in front: 8 or 16 bits of a sample, or 0 for values as they are. `points` of
// the uniform `parameters` is the number of pixels.

@group(0) @binding(6) var<storage, read_write> values: array<u32>;

// Writes a pixel; nothing beyond the last one.
fn emit(place: u32, value: vec4f) {
    if place >= parameters.points {
        return;
    }
    if FORMAT == 0u {
        values[4u * place] = bitcast<u32>(value.x);
        values[4u * place + 1u] = bitcast<u32>(value.y);
        values[4u * place + 2u] = bitcast<u32>(value.z);
        values[4u * place + 3u] = bitcast<u32>(value.w);
        return;
    }
    let unit = value * 0.5 + 0.5;
    // NaN is 0.
    let clamped = select(vec4f(), min(unit, vec4f(1.0)), unit > vec4f());
    if FORMAT == 8u {
        let q = vec4u(clamped * 255.0 + 0.5);
        values[place] = q.x | (q.y << 8u) | (q.z << 16u) | (q.w << 24u);
    } else {
        let q = vec4u(clamped * 65535.0 + 0.5);
        values[2u * place] = q.x | (q.y << 16u);
        values[2u * place + 1u] = q.z | (q.w << 16u);
    }
}
