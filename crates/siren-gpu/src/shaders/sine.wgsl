// Sine and cosine: those of WGSL may be far off.
//
// The uniform `parameters` of the kernel must have `nothing`, a vec4u of zeros that are known at
// run time only.

// a = r + k pi, and the sign bit of (-1)^k.
struct Angle {
    r: vec4f,
    sign: vec4u,
}

fn reduce(a: vec4f) -> Angle {
    // Compilers cancel the sum and the difference unless something comes between.
    let odd = bitcast<vec4u>(a * 0.318309886 + 12582912.0) ^ parameters.nothing;
    let k = bitcast<vec4f>(odd) - 12582912.0;
    // Products with the first parts of pi are exact.
    let r = ((a - k * 3.140625) - k * 0.000967502593994140625) - k * 1.5099580252808664e-7;
    return Angle(clamp(r, vec4f(-1.58), vec4f(1.58)), odd << vec4u(31u));
}

// Odd and even minimax polynomials on [-pi/2, pi/2].
fn sine(a: vec4f) -> vec4f {
    let angle = reduce(a);
    let q = angle.r * angle.r;
    var p = fma(q, vec4f(2.6000546e-6), vec4f(-1.9806615e-4));
    p = fma(q, p, vec4f(8.333017e-3));
    p = fma(q, p, vec4f(-1.6666657e-1));
    p = fma(angle.r * q, p, angle.r);
    return bitcast<vec4f>(bitcast<vec4u>(p) ^ angle.sign);
}

fn cosine(a: vec4f) -> vec4f {
    let angle = reduce(a);
    let q = angle.r * angle.r;
    var p = fma(q, vec4f(-2.6077103e-7), vec4f(2.4761886e-5));
    p = fma(q, p, vec4f(-1.3888404e-3));
    p = fma(q, p, vec4f(4.166664e-2));
    p = fma(q, p, vec4f(-0.5));
    p = fma(q, p, vec4f(1.0));
    return bitcast<vec4f>(bitcast<vec4u>(p) ^ angle.sign);
}
