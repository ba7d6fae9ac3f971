//! `sirenc export`: the network for other programs.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::prelude::{BASE64_STANDARD, Engine};
use clap::{Args, ValueEnum};
use half::f16;
use safetensors::{Dtype, tensor::TensorView};
use sirenc::network::Layer;
use sirenc::{BitDepth, Channels, Decoder};

use super::output::destinations;
use super::{Outcome, input};

#[derive(Args)]
pub(super) struct Options {
    /// A .siren file; `-` is stdin
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Output file; `-` is stdout [default: IN with the format's extension]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// What to write [default: by the output's extension, else safetensors]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Overwrite a file that was not named with -o
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Weights and biases as f32 tensors, for PyTorch, JAX and the like
    Safetensors,
    /// A self-contained GLSL ES 3.00 fragment shader
    Glsl,
    /// A short Python script that needs numpy only
    Numpy,
}

impl Format {
    fn of_path(path: &Path) -> Option<Self> {
        Some(match path.extension()?.to_str()? {
            "safetensors" => Self::Safetensors,
            "glsl" | "frag" => Self::Glsl,
            "py" => Self::Numpy,
            _ => return None,
        })
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Glsl => "glsl",
            Self::Numpy => "py",
        }
    }
}

pub(super) fn run(options: &Options) -> Result<Outcome> {
    let by_name = options.output.as_deref().and_then(Format::of_path);
    let format = options.format.or(by_name);
    if format.is_none()
        && let Some(path) = options.output.as_deref().filter(|p| p.as_os_str() != "-")
    {
        bail!("{} has no extension of an export format; use --format", path.display());
    }
    let format = format.unwrap_or(Format::Safetensors);
    let inputs = [options.input.clone()];
    let output = options.output.as_deref();
    let destinations = destinations(&inputs, output, false, format.extension())?;
    let [destination] = destinations.as_slice() else { unreachable!("one input, one output") };
    destination.check(options.force)?;
    let decoder = input::siren(&options.input)?;
    let bytes = match format {
        Format::Safetensors => safetensors(&decoder)?,
        Format::Glsl => glsl(&decoder).into_bytes(),
        Format::Numpy => numpy(&decoder).into_bytes(),
    };
    destination.write(|file| Ok(file.write_all(&bytes)?))?;
    Ok(Outcome::Success)
}

/// `layers.N.weight` `[outputs, inputs]` and `layers.N.bias` `[outputs]`, omega_0 folded
/// in; the header's facts are in the metadata.
fn safetensors(decoder: &Decoder) -> Result<Vec<u8>> {
    let little_endian =
        |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut data = Vec::new();
    for (index, layer) in decoder.siren().layers().iter().enumerate() {
        let weight = (vec![layer.outputs, layer.inputs], little_endian(&layer.weights));
        let bias = (vec![layer.outputs], little_endian(&layer.biases));
        data.push((format!("layers.{index}.weight"), weight));
        data.push((format!("layers.{index}.bias"), bias));
    }
    let tensors = data
        .iter()
        .map(|(name, (shape, bytes))| {
            Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let size = decoder.size();
    let facts = HashMap::from([
        ("format".to_owned(), "siren".to_owned()),
        ("width".to_owned(), size.width.to_string()),
        ("height".to_owned(), size.height.to_string()),
        ("channels".to_owned(), decoder.channels().count().to_string()),
        ("bit_depth".to_owned(), decoder.depth().bits().to_string()),
    ]);
    safetensors::serialize(tensors, Some(facts)).context("safetensors")
}

/// Layers in blocks of 4x4, since GLSL has no larger matrices; sizes that are no multiple
/// of 4 are filled up with zeros.
fn glsl(decoder: &Decoder) -> String {
    let size = decoder.size();
    let longer = f64::from(size.longer_side());
    let aspect = (f64::from(size.width) / longer, f64::from(size.height) / longer);
    let mut text = format!(
        "#version 300 es
// A picture as a function: a SIREN of topology {topology}, written by sirenc.
// siren(p) takes p.x to the right and p.y downwards, the picture being
// |p.x| <= {x:?}, |p.y| <= {y:?}, and gives straight RGBA in [0, 1].
precision highp float;
uniform vec2 resolution; // of the viewport in pixels
out vec4 colour;

// sin with a range reduction of its own: the built-in one may be coarse.
vec4 s(vec4 a) {{
    vec4 k = floor(a * 0.31830987 + 0.5);
    vec4 r = (a - k * 3.140625) - k * 9.6765359e-4;
    vec4 q = r * r;
    vec4 p = ((2.6000546e-6 * q - 1.9806615e-4) * q + 8.333017e-3) * q - 0.16666657;
    return (r + r * q * p) * (1.0 - 2.0 * mod(k, 2.0));
}}

vec4 siren(vec2 p) {{
    vec4 h0_0 = vec4(p, 0.0, 0.0);
",
        topology = decoder.siren().topology(),
        x = aspect.0,
        y = aspect.1,
    );
    let layers = decoder.siren().layers();
    for (index, layer) in layers.iter().enumerate() {
        let hidden = index + 1 < layers.len();
        for block in 0..layer.outputs.div_ceil(4) {
            let (open, close) = if hidden { ("s(", ")") } else { ("", "") };
            let bias: Vec<String> =
                (0..4).map(|i| literal(layer.biases.get(4 * block + i).copied())).collect();
            let name = format!("h{}_{block}", index + 1);
            write!(text, "    vec4 {name} = {open}vec4({})", bias.join(",")).expect("a string");
            for source in 0..layer.inputs.div_ceil(4) {
                let matrix = block_of(layer, block, source).join(",");
                write!(text, "\n        + mat4({matrix}) * h{index}_{source}").expect("a string");
            }
            writeln!(text, "{close};").expect("a string");
        }
    }
    let swizzle = match decoder.channels() {
        Channels::Grey => "vec4(o.xxx, 1.0)",
        Channels::GreyAlpha => "o.xxxy",
        Channels::Rgb => "vec4(o.xyz, 1.0)",
        Channels::Rgba => "o",
    };
    let last = layers.len();
    write!(
        text,
        "    vec4 o = clamp(h{last}_0 * 0.5 + 0.5, 0.0, 1.0);
    return {swizzle};
}}

void main() {{
    vec2 p = 2.0 * gl_FragCoord.xy / resolution - 1.0;
    colour = siren(p * vec2({:?}, {:?}));
}}
",
        aspect.0, -aspect.1
    )
    .expect("a string");
    text
}

/// The 4x4 block of a layer's matrix, column by column as GLSL's mat4 wants it.
fn block_of(layer: &Layer, block: usize, source: usize) -> Vec<String> {
    let entry = |row: usize, column: usize| {
        let inside = row < layer.outputs && column < layer.inputs;
        literal(inside.then(|| layer.weights[row * layer.inputs + column]))
    };
    let columns = 4 * source..4 * source + 4;
    columns.flat_map(|c| (4 * block..4 * block + 4).map(move |r| entry(r, c))).collect()
}

/// A float literal that reads back as the same f32.
fn literal(value: Option<f32>) -> String {
    format!("{:?}", value.unwrap_or(0.0))
}

/// The whole decoder in numpy. Weights that f16 holds exactly are written as f16.
fn numpy(decoder: &Decoder) -> String {
    let weights = decoder.siren().weights();
    let exact = weights.iter().all(|&w| f16::from_f32(w).to_f32() == w);
    let (dtype, bytes): (_, Vec<u8>) = if exact {
        ("<f2", weights.iter().flat_map(|&w| f16::from_f32(w).to_le_bytes()).collect())
    } else {
        ("<f4", weights.iter().flat_map(|w| w.to_le_bytes()).collect())
    };
    let weights = BASE64_STANDARD.encode(bytes);
    let size = decoder.size();
    let (width, height) = (size.width, size.height);
    let layers = decoder.siren().layers();
    let mut sizes: Vec<usize> = layers.iter().map(|l| l.inputs).collect();
    sizes.push(decoder.channels().count());
    let (max, sample) = match decoder.depth() {
        BitDepth::Eight => (255, "u1"),
        BitDepth::Sixteen => (65535, ">u2"),
    };
    let header = match decoder.channels() {
        Channels::Grey => format!("P5 %d %d {max}\\n"),
        Channels::Rgb => format!("P6 %d %d {max}\\n"),
        Channels::GreyAlpha => pam(2, max, "GRAYSCALE_ALPHA"),
        Channels::Rgba => pam(4, max, "RGB_ALPHA"),
    };
    format!(
        r#"import base64, sys, numpy as np  # python3 THIS.py OUT.pnm [WIDTH]: written by sirenc
weights, sizes = "{weights}", {sizes:?}
p, w, h = np.frombuffer(base64.b64decode(weights), "{dtype}").astype("f8"), {width}, {height}
W = int(sys.argv[2]) if len(sys.argv) > 2 else w; H = max(1, int(W * h / w + 0.5))
x, y = ((2 * np.arange(n) + 1 - n) * m / (n * max(w, h)) for n, m in ((W, w), (H, h)))
a = np.stack([np.tile(x, H), np.repeat(y, W)])
for i, (m, n) in enumerate(zip(sizes, sizes[1:])):
    a = p[: n * m].reshape(n, m) @ (a if i == 0 else np.sin(a)) + p[n * m : n * m + n, None]; p = p[n * m + n :]
samples = (np.clip(a.T * 0.5 + 0.5, 0, 1) * {max} + 0.5).astype("{sample}")
open(sys.argv[1], "wb").write(b"{header}" % (W, H) + samples.tobytes())
"#
    )
}

fn pam(depth: u8, max: u32, kind: &str) -> String {
    format!(
        "P7\\nWIDTH %d\\nHEIGHT %d\\nDEPTH {depth}\\nMAXVAL {max}\\nTUPLTYPE {kind}\\nENDHDR\\n"
    )
}
