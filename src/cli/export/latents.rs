//! Latents for other programs.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Result;
use base64::prelude::{BASE64_STANDARD, Engine};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use safetensors::Dtype;
use sirenc::Decoder;
use sirenc::latents::Latents;
use sirenc::network::Layer;

use super::{GLSL_SINE, biases, products, rgba, serialize, tensors_of, write_pnm};

/// `levels.N` `[height, width]` (finest first), `sines` and `output` as `.weight` and `.bias`
/// (columns of the output: sines, then levels), and the entropy model in integers:
/// `entropy.N.weight`, `.bias`, and `entropy.N.drop`, the low bits that are dropped.
pub fn safetensors(decoder: &Decoder, grids: &Latents) -> Result<Vec<u8>> {
    let mut tensors = Vec::new();
    for (level, plane) in grids.planes().iter().enumerate() {
        let bytes = plane.values().iter().flat_map(|q| q.to_le_bytes()).collect();
        let shape = vec![plane.height(), plane.width()];
        tensors.push((format!("levels.{level}"), Dtype::I16, shape, bytes));
    }
    tensors.extend(tensors_of("sines", grids.sines()));
    tensors.extend(tensors_of("output", grids.output()));
    let payload = decoder.payload().expect("grids have one");
    for (index, layer) in payload.networks().context.layers().iter().enumerate() {
        let (weights, biases, drop) = (layer.weights(), layer.biases(), layer.drop() as i32);
        let outputs = biases.len();
        let mut push = |name: &str, shape: Vec<usize>, integers: &[i32]| {
            let bytes = integers.iter().flat_map(|q| q.to_le_bytes()).collect();
            tensors.push((format!("entropy.{index}.{name}"), Dtype::I32, shape, bytes));
        };
        push("weight", vec![outputs, weights.len() / outputs], weights);
        push("bias", vec![outputs], biases);
        push("drop", vec![], &[drop]);
    }
    serialize(decoder, &tensors)
}

/// The whole function in numpy. Latents that 8 bits hold are written so.
pub fn numpy(decoder: &Decoder, grids: &Latents) -> Result<String> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let latents = || grids.planes().iter().flat_map(|plane| plane.values());
    let narrow = latents().all(|&q| i8::try_from(q).is_ok());
    for plane in grids.planes() {
        let bytes = plane.values().iter().flat_map(|q| q.to_le_bytes());
        // The low byte of an integer that 8 bits hold is that integer.
        let bytes: Vec<u8> = if narrow { bytes.step_by(2).collect() } else { bytes.collect() };
        encoder.write_all(&bytes)?;
    }
    let latents = BASE64_STANDARD.encode(encoder.finish()?);
    let (sines, output) = (grids.sines(), grids.output());
    let weights = [&sines.weights, &sines.biases, &output.weights, &output.biases];
    let weights = weights.into_iter().flatten().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let weights = BASE64_STANDARD.encode(weights);
    let size = grids.size();
    let shape = (size.width, size.height, grids.planes().len(), sines.outputs, output.outputs);
    let dtype = if narrow { "i1" } else { "<i2" };
    let end = write_pnm(decoder.channels(), decoder.depth());
    Ok(format!(
        r#"import base64, sys, zlib, numpy as np  # python3 THIS.py OUT.pnm [WIDTH]: written by sirenc
weights, latents = "{weights}", "{latents}"
w, h, L, n, C = {shape:?}  # size, levels, sines, channels
W = int(sys.argv[2]) if len(sys.argv) > 2 else w; H = max(1, int(W * h / w + 0.5))
p = np.split(np.frombuffer(base64.b64decode(weights), "<f4").astype("f8"), np.cumsum([n * L, n, C * (n + L)]))
q, F = np.frombuffer(zlib.decompress(base64.b64decode(latents)), "{dtype}"), np.zeros((L, H, W))
for l in range(L):
    a, b = -(-w >> l), -(-h >> l); f = q[: a * b].reshape(b, a); q = q[a * b :]
    for native, N, length in ((w, W, a), (h, H, b)):  # cubic B-splines along x, then along y
        s = (2 * np.arange(N) + 1) * native / (2 * N) / 2**l - 0.5; k = np.floor(s); t = s - k; r = 1 - t
        taps = r**3, (3 * t - 6) * t * t + 4, (3 * r - 6) * r * r + 4, t**3
        f = sum(f[:, np.clip(k + i - 1, 0, length - 1).astype(int)] * tap / 6 for i, tap in enumerate(taps)).T
    F[l] = f
W1, W2 = p[0].reshape(n, L), p[2].reshape(C, n + L)
a = np.stack([(W2 @ np.concatenate([np.sin(W1 @ f + p[1][:, None]), f]) + p[3][:, None]).T for f in F.swapaxes(0, 1)])
{end}"#
    ))
}

/// Where each level lies in the texture: the finest at the top left, the others below it side
/// by side. Also the texture's width and height.
fn places(grids: &Latents) -> (Vec<(usize, usize)>, (usize, usize)) {
    let finest = &grids.planes()[0];
    let (mut places, mut size) = (vec![(0, 0)], (finest.width(), finest.height()));
    let mut x = 0;
    for plane in &grids.planes()[1..] {
        places.push((x, finest.height()));
        x += plane.width();
        size = (size.0.max(x), size.1.max(finest.height() + plane.height()));
    }
    (places, size)
}

/// All latents as an RGB picture of 8 bits: q + 32768 is R + 256 G.
pub fn texture(grids: &Latents) -> Result<Vec<u8>> {
    let (places, (width, height)) = places(grids);
    let mut pixels = vec![0; 3 * width * height];
    for (plane, (left, top)) in grids.planes().iter().zip(places) {
        for (y, row) in plane.values().chunks_exact(plane.width()).enumerate() {
            let pixels = &mut pixels[3 * ((top + y) * width + left)..][..3 * plane.width()];
            for (pixel, q) in pixels.chunks_exact_mut(3).zip(row) {
                pixel[..2].copy_from_slice(&(i32::from(*q) + 32_768).to_le_bytes()[..2]);
            }
        }
    }
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, u32::try_from(width)?, u32::try_from(height)?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::High);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(out)
}

/// A shader that reads the latents from [`texture`], whose file name is given.
pub fn glsl(grids: &Latents, texture: &str) -> String {
    let size = grids.size();
    let (places, (width, height)) = places(grids);
    let levels = grids.planes().len();
    let places: Vec<String> = places
        .iter()
        .zip(grids.planes())
        .map(|((x, y), plane)| format!("ivec4({x}, {y}, {}, {})", plane.width(), plane.height()))
        .collect();
    let texture: String = texture.chars().filter(|c| !c.is_control()).collect();
    let mut text = format!(
        "#version 300 es
// A picture as a function: latents of {levels} levels, {sines} sines, written by sirenc.
// grids(position) takes a position in native pixels from the top left corner, of {w}x{h}, and
// gives straight RGBA in [0, 1].
//
// latents is the texture {texture}, of {width}x{height}. In WebGL 2:
//   gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
//   gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, image);
//   gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
//   gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
// not flipped, its first row the top one. A latent is R + 256 G - 32768, R and G in 0 to 255.
precision highp float;
precision highp int;
uniform highp sampler2D latents;
uniform vec2 resolution; // of the viewport in pixels
out vec4 colour;

const vec2 size = vec2({w}.0, {h}.0);
// Of each level, finest first: its place in the texture, width and height.
const int levels = {levels};
const ivec4 places[levels] = ivec4[]({places});

// sin with a range reduction of its own: the built-in one may be coarse.
{GLSL_SINE}

// Weights of four latents in a row, for a place t after the second.
vec4 taps(float t) {{
    float r = 1.0 - t;
    return vec4(r * r * r, (3.0 * t - 6.0) * t * t + 4.0, (3.0 * r - 6.0) * r * r + 4.0, t * t * t) / 6.0;
}}

// The cubic B-spline of a level.
float spline(int level, vec2 position) {{
    ivec4 place = places[level];
    vec2 at = clamp(position / float(1 << level) - 0.5, vec2(-1.0), vec2(place.zw));
    vec2 k = floor(at);
    vec4 x = taps(at.x - k.x), y = taps(at.y - k.y);
    float sum = 0.0;
    for (int j = 0; j < 4; j++) {{
        for (int i = 0; i < 4; i++) {{
            ivec2 tap = clamp(ivec2(k) + ivec2(i, j) - 1, ivec2(0), place.zw - 1);
            vec2 bytes = floor(texelFetch(latents, place.xy + tap, 0).rg * 255.0 + 0.5);
            sum += x[i] * y[j] * (bytes.x + 256.0 * bytes.y - 32768.0);
        }}
    }}
    return sum;
}}

vec4 grids(vec2 position) {{
    float f[{inputs}];
    for (int level = 0; level < {inputs}; level++) {{
        f[level] = level < levels ? spline(level, position) : 0.0;
    }}
",
        sines = grids.sines().outputs,
        w = size.width,
        h = size.height,
        inputs = levels.next_multiple_of(4),
        places = places.join(", "),
    );
    let (sines, skip) = split(grids.output(), grids.sines().outputs);
    for block in 0..levels.div_ceil(4) {
        let inputs: Vec<String> = (4 * block..4 * block + 4).map(|i| format!("f[{i}]")).collect();
        writeln!(text, "    vec4 f{block} = vec4({});", inputs.join(", ")).expect("a string");
    }
    for block in 0..sines.inputs.div_ceil(4) {
        let (bias, sum) = (biases(grids.sines(), block), products(grids.sines(), block, "f"));
        writeln!(text, "    vec4 h{block} = s({bias}{sum});").expect("a string");
    }
    write!(
        text,
        "    vec4 o = {}{}{};
    o = clamp(o * 0.5 + 0.5, 0.0, 1.0);
    return {};
}}

void main() {{
    vec2 position = vec2(gl_FragCoord.x, resolution.y - gl_FragCoord.y) * size / resolution;
    colour = grids(position);
}}
",
        biases(&sines, 0),
        products(&sines, 0, "h"),
        products(&skip, 0, "f"),
        rgba(grids.channels()),
    )
    .expect("a string");
    text
}

/// The columns of the sines and those of the levels; the biases go with the former.
fn split(output: &Layer, sines: usize) -> (Layer, Layer) {
    let columns = |first: usize, count: usize, biases: Vec<f32>| {
        let rows = output.weights.chunks_exact(output.inputs);
        let weights = rows.flat_map(|row| row[first..first + count].to_vec()).collect();
        Layer { inputs: count, outputs: output.outputs, weights, biases }
    };
    let (none, levels) = (vec![0.0; output.outputs], output.inputs - sines);
    (columns(0, sines, output.biases.clone()), columns(sines, levels, none))
}
