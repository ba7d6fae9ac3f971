// The first half of the sums of waves: for every row of points, the latents of each column.

// As spline.wgsl has it.
@group(0) @binding(2) var<storage, read> picture: array<u32>;
// The latents of the splines, then of each plane of waves the sums, row by row.
@group(0) @binding(3) var<storage, read_write> latents: array<f32>;
// The latents of the waves, plane by plane.
@group(0) @binding(5) var<storage, read> waves: array<f32>;

@compute @workgroup_size(INVOCATIONS)
fn sum_columns(
    @builtin(global_invocation_id) id: vec3u,
    @builtin(num_workgroups) workgroups: vec3u,
) {
    let rows = parameters.points / parameters.width;
    let top = parameters.first / parameters.width;
    let places = 2u * parameters.levels * parameters.width;
    let weights = places + 2u * parameters.levels * parameters.height
        + parameters.across * parameters.width;
    var start = 0u;
    for (var l = 0u; l < parameters.waves; l++) {
        let plane = parameters.of_levels[l];
        for (var i = id.x; i < rows * plane.width; i += INVOCATIONS * workgroups.x) {
            let y = top + i / plane.width;
            let first = picture[places + 2u * (l * parameters.height + y)];
            var at = start + first * plane.width + i % plane.width;
            var weight = weights + y * parameters.down;
            var sum = 0.0;
            // A multiple of 4.
            for (var k = 0u; k < parameters.down; k += 4u) {
                sum = fma(bitcast<f32>(picture[weight]), waves[at], sum);
                sum = fma(bitcast<f32>(picture[weight + 1u]), waves[at + plane.width], sum);
                sum = fma(bitcast<f32>(picture[weight + 2u]), waves[at + 2u * plane.width], sum);
                sum = fma(bitcast<f32>(picture[weight + 3u]), waves[at + 3u * plane.width], sum);
                weight += 4u;
                at += 4u * plane.width;
            }
            latents[plane.start + i] = sum;
        }
        start += plane.width * plane.height;
    }
}
