//! One SIREN for other programs.

use std::fmt::Write as _;

use anyhow::Result;
use base64::prelude::{BASE64_STANDARD, Engine};
use half::f16;
use sirenc::{Decoder, Siren};

use super::{GLSL_SINE, biases, products, rgba, serialize, tensors_of, write_pnm};

/// `layers.N.weight` and `layers.N.bias`, omega_0 folded in.
pub fn safetensors(decoder: &Decoder, siren: &Siren) -> Result<Vec<u8>> {
    let layers = siren.layers().iter().enumerate();
    let tensors = layers.flat_map(|(index, layer)| tensors_of(&format!("layers.{index}"), layer));
    serialize(decoder, &tensors.collect::<Vec<_>>())
}

pub fn glsl(decoder: &Decoder, siren: &Siren) -> String {
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
{GLSL_SINE}

vec4 siren(vec2 p) {{
    vec4 h0_0 = vec4(p, 0.0, 0.0);
",
        topology = siren.topology(),
        x = aspect.0,
        y = aspect.1,
    );
    let layers = siren.layers();
    for (index, layer) in layers.iter().enumerate() {
        let hidden = index + 1 < layers.len();
        for block in 0..layer.outputs.div_ceil(4) {
            let (open, close) = if hidden { ("s(", ")") } else { ("", "") };
            let (bias, sum) = (biases(layer, block), products(layer, block, &format!("h{index}_")));
            let name = format!("h{}_{block}", index + 1);
            writeln!(text, "    vec4 {name} = {open}{bias}{sum}{close};").expect("a string");
        }
    }
    write!(
        text,
        "    vec4 o = clamp(h{last}_0 * 0.5 + 0.5, 0.0, 1.0);
    return {rgba};
}}

void main() {{
    vec2 p = 2.0 * gl_FragCoord.xy / resolution - 1.0;
    colour = siren(p * vec2({:?}, {:?}));
}}
",
        aspect.0,
        -aspect.1,
        last = layers.len(),
        rgba = rgba(decoder.channels()),
    )
    .expect("a string");
    text
}

/// The whole decoder in numpy. Weights that f16 holds exactly are written as f16.
pub fn numpy(decoder: &Decoder, siren: &Siren) -> String {
    let weights = siren.weights();
    let exact = weights.iter().all(|&w| f16::from_f32(w).to_f32() == w);
    let (dtype, bytes): (_, Vec<u8>) = if exact {
        ("<f2", weights.iter().flat_map(|&w| f16::from_f32(w).to_le_bytes()).collect())
    } else {
        ("<f4", weights.iter().flat_map(|w| w.to_le_bytes()).collect())
    };
    let weights = BASE64_STANDARD.encode(bytes);
    let size = decoder.size();
    let (width, height) = (size.width, size.height);
    let mut sizes: Vec<usize> = siren.layers().iter().map(|l| l.inputs).collect();
    sizes.push(decoder.channels().count());
    let end = write_pnm(decoder.channels(), decoder.depth());
    format!(
        r#"import base64, sys, numpy as np  # python3 THIS.py OUT.pnm [WIDTH]: written by sirenc
weights, sizes = "{weights}", {sizes:?}
p, w, h = np.frombuffer(base64.b64decode(weights), "{dtype}").astype("f8"), {width}, {height}
W = int(sys.argv[2]) if len(sys.argv) > 2 else w; H = max(1, int(W * h / w + 0.5))
x, y = ((2 * np.arange(n) + 1 - n) * m / (n * max(w, h)) for n, m in ((W, w), (H, h)))
a = np.stack([np.tile(x, H), np.repeat(y, W)])
for i, (m, n) in enumerate(zip(sizes, sizes[1:])):
    a = p[: n * m].reshape(n, m) @ (a if i == 0 else np.sin(a)) + p[n * m : n * m + n, None]; p = p[n * m + n :]
a = a.T
{end}"#
    )
}
