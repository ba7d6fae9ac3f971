//! Latents for other programs.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Result;
use base64::prelude::{BASE64_STANDARD, Engine};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use safetensors::Dtype;
use sirenc::Decoder;
use sirenc::latents::{Bases, Basis, Latents, Plane};
use sirenc::network::Layer;

use super::{GLSL_SINE, biases, products, rgba, serialize, tensors_of, write_pnm};

/// `waves.N` (N = 0 the first, the finest) and `splines.L` (L the level) `[height, width]`,
/// `sines` and `output` as `.weight` and `.bias` (columns of the output: sines, then planes, the
/// waves first), and the entropy models in integers: `entropy.splines.N.weight`, `.bias`, and
/// `.drop`, the low bits that are dropped, of layer N; `entropy.waves` likewise.
pub fn safetensors(decoder: &Decoder, function: &Latents) -> Result<Vec<u8>> {
    let mut tensors = Vec::new();
    for (index, plane) in function.planes().iter().enumerate() {
        let name = match plane.basis() {
            Basis::Splines { level } => format!("splines.{level}"),
            Basis::Waves { .. } => format!("waves.{index}"),
        };
        let bytes = plane.values().iter().flat_map(|q| q.to_le_bytes()).collect();
        tensors.push((name, Dtype::I16, vec![plane.height(), plane.width()], bytes));
    }
    tensors.extend(tensors_of("sines", function.sines()));
    tensors.extend(tensors_of("output", function.output()));
    let networks = decoder.payload().expect("latents have one").networks();
    let models = [("splines", Some(&networks.splines)), ("waves", networks.waves.as_ref())];
    for (kind, model) in models {
        for (index, layer) in model.into_iter().flat_map(|m| m.layers().iter().enumerate()) {
            let (weights, biases, drop) = (layer.weights(), layer.biases(), layer.drop() as i32);
            let outputs = biases.len();
            let mut push = |name: &str, shape: Vec<usize>, integers: &[i32]| {
                let bytes = integers.iter().flat_map(|q| q.to_le_bytes()).collect();
                tensors.push((format!("entropy.{kind}.{index}.{name}"), Dtype::I32, shape, bytes));
            };
            push("weight", vec![outputs, weights.len() / outputs], weights);
            push("bias", vec![outputs], biases);
            push("drop", vec![], &[drop]);
        }
    }
    serialize(decoder, &tensors)
}

/// The whole function in numpy. Latents that 8 bits hold are written so.
pub fn numpy(decoder: &Decoder, function: &Latents) -> Result<String> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let latents = || function.planes().iter().flat_map(|plane| plane.values());
    let narrow = latents().all(|&q| i8::try_from(q).is_ok());
    for plane in function.planes() {
        let bytes = plane.values().iter().flat_map(|q| q.to_le_bytes());
        // The low byte of an integer that 8 bits hold is that integer.
        let bytes: Vec<u8> = if narrow { bytes.step_by(2).collect() } else { bytes.collect() };
        encoder.write_all(&bytes)?;
    }
    let latents = BASE64_STANDARD.encode(encoder.finish()?);
    let (sines, output) = (function.sines(), function.output());
    let weights = [&sines.weights, &sines.biases, &output.weights, &output.biases];
    let weights = weights.into_iter().flatten().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let weights = BASE64_STANDARD.encode(weights);
    let (size, bases) = (function.size(), Bases::of(function.planes())?);
    let picture = (size.width, size.height, sines.outputs, output.outputs);
    let planes = (bases.waves(), bases.cell(), bases.finest(), bases.count());
    let dtype = if narrow { "i1" } else { "<i2" };
    let end = write_pnm(decoder.channels(), decoder.depth());
    Ok(format!(
        r#"import base64, sys, zlib, numpy as np  # python3 THIS.py OUT.pnm [WIDTH]: written by sirenc
weights, latents = "{weights}", "{latents}"
w, h, n, C = {picture:?}  # size, sines, channels
V, s, e, P = {planes:?}  # planes of waves, pixels of their cells, level of the finest splines, all planes
W = int(sys.argv[2]) if len(sys.argv) > 2 else w; H = max(1, int(W * h / w + 0.5))
p = np.split(np.frombuffer(base64.b64decode(weights), "<f4").astype("f8"), np.cumsum([n * P, n, C * (n + P)]))
q, F = np.frombuffer(zlib.decompress(base64.b64decode(latents)), "{dtype}"), np.zeros((P, H, W))
def waves(x, length):  # windowed cosines: s of each of two cells that overlap
    i = np.clip(np.floor(x / s - 0.5), 0, max(length // s - 2, 0)); t = np.clip(x / s - i - 0.5, 0, length > s)
    a = np.pi / 2 * t**3 * (10 - 15 * t + 6 * t * t)
    for c, window in (i, np.cos(a)), (i + 1, np.sin(a)):
        for k in range(s):
            yield s * c + k, window * np.cos(np.pi / s * (x - s * c + s) * (k + 0.5)) * (2 / s) ** 0.5
def splines(x, l):  # cubic B-splines: four latents
    k = np.floor(x / 2**l - 0.5); t = x / 2**l - 0.5 - k; r = 1 - t
    for i, tap in enumerate((r**3, (3 * t - 6) * t * t + 4, (3 * r - 6) * r * r + 4, t**3)):
        yield k + i - 1, tap / 6
for i in range(P):
    a, b = (-(-m // s) * s if i < V else -(-m >> e + i - V) for m in (w, h)); f = q[: a * b].reshape(b, a); q = q[a * b :]
    for native, N, length in ((w, W, a), (h, H, b)):  # along x, then along y
        x = (2 * np.arange(N) + 1) * native / (2 * N); taps = waves(x, length) if i < V else splines(x, e + i - V)
        f = sum(f[:, np.clip(at, 0, length - 1).astype(int)] * weight for at, weight in taps).T
    F[i] = f
W1, W2 = p[0].reshape(n, P), p[2].reshape(C, n + P)
a = np.stack([(W2 @ np.concatenate([np.sin(W1 @ f + p[1][:, None]), f]) + p[3][:, None]).T for f in F.swapaxes(0, 1)])
{end}"#
    ))
}

/// Where each plane lies in the texture: side by side from the left, as far as the texture is not
/// wider than the finest plane, and then below. Also the texture's width and height.
fn places(function: &Latents) -> (Vec<(usize, usize)>, (usize, usize)) {
    let planes = function.planes();
    let width = planes[0].width();
    let (mut x, mut y, mut bottom) = (0, 0, 0);
    let place = |plane: &Plane| {
        if x + plane.width() > width {
            (x, y) = (0, bottom);
        }
        let place = (x, y);
        x += plane.width();
        bottom = bottom.max(y + plane.height());
        place
    };
    let places = planes.iter().map(place).collect();
    (places, (width, bottom))
}

/// All latents as an RGB picture of 8 bits: q + 32768 is R + 256 G.
pub fn texture(function: &Latents) -> Result<Vec<u8>> {
    let (places, (width, height)) = places(function);
    let mut pixels = vec![0; 3 * width * height];
    for (plane, (left, top)) in function.planes().iter().zip(places) {
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
pub fn glsl(function: &Latents, texture: &str) -> Result<String> {
    let (size, bases) = (function.size(), Bases::of(function.planes())?);
    let (places, (width, height)) = places(function);
    let planes = bases.count();
    let places: Vec<String> = places
        .iter()
        .zip(function.planes())
        .map(|((x, y), plane)| format!("ivec4({x}, {y}, {}, {})", plane.width(), plane.height()))
        .collect();
    let texture: String = texture.chars().filter(|c| !c.is_control()).collect();
    let (has_waves, inputs) = (bases.waves() > 0, planes.next_multiple_of(4));
    let mut text = format!(
        "#version 300 es
// A picture as a function: {planes} planes of latents, {sines} sines, written by sirenc.
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
// Planes, finest first: those of waves, then splines of this level and the next ones.
const int planes = {planes}, waves = {waves}, finest = {finest};
// Of each its place in the texture, width and height.
const ivec4 places[planes] = ivec4[]({places});

// sin with a range reduction of its own: the built-in one may be coarse.
{GLSL_SINE}

float latent(ivec2 place) {{
    vec2 bytes = floor(texelFetch(latents, place, 0).rg * 255.0 + 0.5);
    return bytes.x + 256.0 * bytes.y - 32768.0;
}}

// Weights of four latents in a row, for a place t after the second.
vec4 taps(float t) {{
    float r = 1.0 - t;
    return vec4(r * r * r, (3.0 * t - 6.0) * t * t + 4.0, (3.0 * r - 6.0) * r * r + 4.0, t * t * t) / 6.0;
}}

// The cubic B-spline of a plane.
float spline(int plane, vec2 position) {{
    ivec4 place = places[plane];
    vec2 at = clamp(position / float(1 << (finest + plane - waves)) - 0.5, vec2(-1.0), vec2(place.zw));
    vec2 k = floor(at);
    vec4 x = taps(at.x - k.x), y = taps(at.y - k.y);
    float sum = 0.0;
    for (int j = 0; j < 4; j++) {{
        for (int i = 0; i < 4; i++) {{
            ivec2 tap = clamp(ivec2(k) + ivec2(i, j) - 1, ivec2(0), place.zw - 1);
            sum += x[i] * y[j] * latent(place.xy + tap);
        }}
    }}
    return sum;
}}
{waves_functions}
vec4 grids(vec2 position) {{
    float f[{inputs}];
    for (int plane = 0; plane < {inputs}; plane++) {{
        f[plane] = plane >= waves && plane < planes ? spline(plane, position) : 0.0;
    }}
{add_waves}",
        sines = function.sines().outputs,
        w = size.width,
        h = size.height,
        waves = bases.waves(),
        finest = bases.finest(),
        places = places.join(", "),
        waves_functions = if has_waves { waves(bases.cell(), inputs) } else { String::new() },
        add_waves = if has_waves { "    add_waves(position, f);\n" } else { "" },
    );
    let (sines, skip) = split(function.output(), function.sines().outputs);
    for block in 0..planes.div_ceil(4) {
        let inputs: Vec<String> = (4 * block..4 * block + 4).map(|i| format!("f[{i}]")).collect();
        writeln!(text, "    vec4 f{block} = vec4({});", inputs.join(", ")).expect("a string");
    }
    for block in 0..sines.inputs.div_ceil(4) {
        let (bias, sum) = (biases(function.sines(), block), products(function.sines(), block, "f"));
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
        rgba(function.channels()),
    )
    .expect("a string");
    Ok(text)
}

/// `add_waves(position, f)` in GLSL: puts the sums of all planes of waves, of cells of `cell` pixels,
/// into the first of `inputs` numbers.
fn waves(cell: usize, inputs: usize) -> String {
    format!(
        "
const int cell = {cell}; // pixels of a cell of waves

// The weights along an axis of the waves of two cells out of so many, and the first one's latent.
int cells(float x, int count, out float weights[2 * cell]) {{
    float pixels = float(cell);
    float first = clamp(floor(x / pixels - 0.5), 0.0, float(max(count - 2, 0)));
    // How far the second cell has taken over from the first.
    float t = clamp(x / pixels - first - 0.5, 0.0, float(min(count - 1, 1)));
    float angle = 1.57079633 * t * t * t * (10.0 - 15.0 * t + 6.0 * t * t);
    vec4 windows = s(vec4(1.57079633 - angle, angle, 0.0, 0.0)) * sqrt(2.0 / pixels);
    for (int i = 0; i < 2 * cell; i += 4) {{
        int second = i / cell;
        vec4 frequency = float(i - cell * second) + vec4(0.5, 1.5, 2.5, 3.5);
        float z = x - pixels * (first + float(second)) + pixels;
        vec4 wave = windows[second] * s(3.14159265 / pixels * z * frequency + 1.57079633);
        for (int k = 0; k < 4; k++) weights[i + k] = wave[k];
    }}
    return cell * int(first);
}}

// The sums of waves, all planes having the same cells.
void add_waves(vec2 position, inout float f[{inputs}]) {{
    float x[2 * cell], y[2 * cell];
    ivec2 last = places[0].zw - 1, at = last / cell + 1;
    at = ivec2(cells(position.x, at.x, x), cells(position.y, at.y, y));
    for (int j = 0; j < 2 * cell; j++) {{
        for (int i = 0; i < 2 * cell; i++) {{
            // Where there is one cell only, what lies beyond has no weight.
            ivec2 tap = min(at + ivec2(i, j), last);
            for (int plane = 0; plane < waves; plane++) {{
                f[plane] += x[i] * y[j] * latent(places[plane].xy + tap);
            }}
        }}
    }}
}}
"
    )
}

/// The columns of the sines and those of the planes; the biases go with the former.
fn split(output: &Layer, sines: usize) -> (Layer, Layer) {
    let columns = |first: usize, count: usize, biases: Vec<f32>| {
        let rows = output.weights.chunks_exact(output.inputs);
        let weights = rows.flat_map(|row| row[first..first + count].to_vec()).collect();
        Layer { inputs: count, outputs: output.outputs, weights, biases }
    };
    let (none, planes) = (vec![0.0; output.outputs], output.inputs - sines);
    (columns(0, sines, output.biases.clone()), columns(sines, planes, none))
}
