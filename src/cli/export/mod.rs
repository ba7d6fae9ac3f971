//! `sirenc export`: the function for other programs. What both representations share is
//! here; each has a file of its own for the rest.

mod latents;
mod siren;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use safetensors::{Dtype, tensor::TensorView};
use sirenc::network::Layer;
use sirenc::{BitDepth, Channels, Decoder};

use super::output::{Destination, destinations};
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
    /// Weights, biases and latents as tensors, for PyTorch, JAX and the like
    Safetensors,
    /// A GLSL ES 3.00 fragment shader; that of latents needs the texture written beside it
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
    let output = options.output.as_deref();
    let destinations = destinations(&[&options.input], output, false, format.extension())?;
    let [Ok(destination)] = destinations.as_slice() else {
        let error = destinations.into_iter().find_map(Result::err);
        bail!(error.expect("one input, one output"));
    };
    destination.check(options.force)?;
    let decoder = input::siren(&options.input)?;
    let input = || options.input.display().to_string();
    let mut beside = None;
    let bytes = match (decoder.siren(), decoder.latents().with_context(input)?) {
        (Some(siren), _) => match format {
            Format::Safetensors => siren::safetensors(&decoder, siren)?,
            Format::Glsl => siren::glsl(&decoder, siren).into_bytes(),
            Format::Numpy => siren::numpy(&decoder, siren).into_bytes(),
        },
        (None, Some(function)) => match format {
            Format::Safetensors => latents::safetensors(&decoder, &function)?,
            Format::Numpy => latents::numpy(&decoder, &function)?.into_bytes(),
            Format::Glsl => {
                let path = texture(destination)?;
                path.check(options.force)?;
                let name = path.path().and_then(Path::file_name).unwrap_or_default();
                let shader = latents::glsl(&function, &name.to_string_lossy())?.into_bytes();
                beside = Some((path, latents::texture(&function)?));
                shader
            }
        },
        (None, None) => unreachable!("a file is one or the other"),
    };
    if let Some((texture, pixels)) = &beside {
        texture.write(None, |file| Ok(file.write_all(pixels)?))?;
    }
    let written = destination.write(None, |file| Ok(file.write_all(&bytes)?));
    if let (Err(_), Some(path)) = (&written, beside.as_ref().and_then(|(file, _)| file.path())) {
        // No texture without its shader; the failure to report is the shader's.
        let _ = std::fs::remove_file(path);
    }
    written.map(|_| Outcome::Success)
}

/// Where the texture of a shader goes: `NAME.latents.png` beside `NAME.glsl`.
fn texture(shader: &Destination) -> Result<Destination> {
    Ok(match shader {
        Destination::Stdout => bail!("the shader needs a texture beside it: name a file with -o"),
        Destination::Named(path) => Destination::Named(path.with_extension("latents.png")),
        Destination::Derived(path) => Destination::Derived(path.with_extension("latents.png")),
    })
}

/// A tensor's name, type, shape and bytes.
type Tensor = (String, Dtype, Vec<usize>, Vec<u8>);

/// `NAME.weight` `[outputs, inputs]` and `NAME.bias` `[outputs]`.
fn tensors_of(name: &str, layer: &Layer) -> [Tensor; 2] {
    let little_endian = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let (weights, biases) = (little_endian(&layer.weights), little_endian(&layer.biases));
    [
        (format!("{name}.weight"), Dtype::F32, vec![layer.outputs, layer.inputs], weights),
        (format!("{name}.bias"), Dtype::F32, vec![layer.outputs], biases),
    ]
}

/// A safetensors file; the header's facts are in the metadata, and the size of cells of waves.
fn serialize(decoder: &Decoder, tensors: &[Tensor]) -> Result<Vec<u8>> {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let size = decoder.size();
    let mut facts = HashMap::from([
        ("format".to_owned(), "siren".to_owned()),
        ("representation".to_owned(), decoder.container().representation.to_string()),
        ("width".to_owned(), size.width.to_string()),
        ("height".to_owned(), size.height.to_string()),
        ("channels".to_owned(), decoder.channels().count().to_string()),
        ("bit_depth".to_owned(), decoder.depth().bits().to_string()),
    ]);
    if let Some(cell) = decoder.payload().map(|payload| payload.bases().cell()).filter(|&c| c > 0) {
        facts.insert("cell".to_owned(), cell.to_string());
    }
    let file = safetensors::serialize(views, Some(facts)).context("safetensors")?;
    with_sorted_header(&file).context("safetensors has written no header")
}

/// A safetensors file, whose header has come in random order, with its keys sorted: the same
/// network gives the same bytes.
fn with_sorted_header(file: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = file.split_first_chunk()?;
    let (header, tensors) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
    let facts: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    let mut header = serde_json::to_vec(&facts).ok()?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Some([&(header.len() as u64).to_le_bytes(), &header[..], tensors].concat())
}

/// sin in GLSL, with a range reduction of its own: the built-in one may be coarse.
const GLSL_SINE: &str = "vec4 s(vec4 a) {
    vec4 k = floor(a * 0.31830987 + 0.5);
    vec4 r = (a - k * 3.140625) - k * 9.6765359e-4;
    vec4 q = r * r;
    vec4 p = ((2.6000546e-6 * q - 1.9806615e-4) * q + 8.333017e-3) * q - 0.16666657;
    return (r + r * q * p) * (1.0 - 2.0 * mod(k, 2.0));
}";

/// The biases of four outputs of a layer in GLSL.
fn biases(layer: &Layer, block: usize) -> String {
    let bias = |i| literal(layer.biases.get(4 * block + i).copied());
    format!("vec4({})", (0..4).map(bias).collect::<Vec<_>>().join(","))
}

/// The products of four outputs of a layer with its inputs `NAME0`, `NAME1`, ... in GLSL, as
/// summands: blocks of 4x4, since there are no larger matrices; sizes that are no multiple
/// of 4 are filled up with zeros.
fn products(layer: &Layer, block: usize, name: &str) -> String {
    let mut text = String::new();
    for source in 0..layer.inputs.div_ceil(4) {
        let matrix = block_of(layer, block, source).join(",");
        write!(text, "\n        + mat4({matrix}) * {name}{source}").expect("a string");
    }
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

/// Straight RGBA in GLSL from the channels in `o`.
fn rgba(channels: Channels) -> &'static str {
    match channels {
        Channels::Grey => "vec4(o.xxx, 1.0)",
        Channels::GreyAlpha => "o.xxxy",
        Channels::Rgb => "vec4(o.xyz, 1.0)",
        Channels::Rgba => "o",
    }
}

/// The end of a Python script: writes `a`, rows of W H pixels with values in [-1, 1], as a
/// PNM file.
fn write_pnm(channels: Channels, depth: BitDepth) -> String {
    let (max, sample) = match depth {
        BitDepth::Eight => (255, "u1"),
        BitDepth::Sixteen => (65535, ">u2"),
    };
    let header = match channels {
        Channels::Grey => format!("P5 %d %d {max}\\n"),
        Channels::Rgb => format!("P6 %d %d {max}\\n"),
        Channels::GreyAlpha => pam(2, max, "GRAYSCALE_ALPHA"),
        Channels::Rgba => pam(4, max, "RGB_ALPHA"),
    };
    format!(
        r#"samples = (np.clip(a * 0.5 + 0.5, 0, 1) * {max} + 0.5).astype("{sample}")
open(sys.argv[1], "wb").write(b"{header}" % (W, H) + samples.tobytes())
"#
    )
}

fn pam(depth: u8, max: u32, kind: &str) -> String {
    format!(
        "P7\\nWIDTH %d\\nHEIGHT %d\\nDEPTH {depth}\\nMAXVAL {max}\\nTUPLTYPE {kind}\\nENDHDR\\n"
    )
}
