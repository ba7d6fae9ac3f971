// The splines of the levels.

// For each plane in use the place of each pixel column, then the same of the rows, each two words:
// the first of the latents that it takes and, of splines, how far it is from the second of four.
// The weights of waves follow, of columns for each latent a row of theirs, of rows for each row one
// of its latents'. In training samples follow, the channels of a pixel side by side.
@group(0) @binding(2) var<storage, read> picture: array<u32>;

// Four latents along an axis and their weights; those beyond the grid are those at the border.
struct Taps {
    at: vec4i,
    weights: vec4f,
}

fn taps(place: u32, length: u32) -> Taps {
    let first = bitcast<i32>(picture[2u * place]);
    let t = bitcast<f32>(picture[2u * place + 1u]);
    let r = 1.0 - t;
    let weights = vec4f(
        r * r * r,
        fma(fma(3.0, t, -6.0) * t, t, 4.0),
        fma(fma(fma(-3.0, t, 3.0), t, 3.0), t, 1.0),
        t * t * t,
    );
    let at = clamp(vec4i(first) + vec4i(0, 1, 2, 3), vec4i(0), vec4i(i32(length) - 1));
    return Taps(at, weights / 6.0);
}

fn column_taps(l: u32, x: u32) -> Taps {
    return taps(l * parameters.width + x, parameters.of_levels[l].width);
}

fn row_taps(l: u32, y: u32) -> Taps {
    let columns = parameters.levels * parameters.width;
    return taps(columns + l * parameters.height + y, parameters.of_levels[l].height);
}

// Pixels along an axis that may have a weight for a latent: from the first on, before the second.
fn reach(latent: i32, l: u32, length: u32) -> vec2u {
    let pitch = parameters.of_levels[l].number - parameters.shift;
    let low = ((2 * latent - 3) << pitch) >> 1u;
    let high = (((2 * latent + 5) << pitch) + 1) >> 1u;
    return vec2u(vec2i(max(low, 0), min(high, i32(length))));
}

fn weight_of(latent: i32, taps: Taps) -> f32 {
    return dot(select(vec4f(), taps.weights, taps.at == vec4i(latent)), vec4f(1.0));
}
