//! `sirenc decode`: `.siren` files to pictures.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use sirenc::{
    BitDepth, Crop, DecodeError, Decoder, Field, Limit, Limits, Metadata, Sampling, Scale, Size,
    View,
};

use super::batch::{self, Done, Facts, Flags};
use super::colour::ToSrgb;
use super::devices::{DeviceName, RenderDevice};
use super::metadata::{self, Selection};
use super::output::{Destination, names_directory};
use super::picture::{self, Format, Source};
use super::{Outcome, input, positive, progress};

#[derive(Args)]
pub(super) struct Options {
    /// .siren files; `-` is stdin; a directory stands for the .siren files in it
    #[arg(required = true, value_name = "IN")]
    inputs: Vec<PathBuf>,
    /// Output file, or directory for several inputs; `-` is stdout [default: IN.png]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Longer side of the output in pixels, or exactly WxH [default: native size]
    #[arg(long, value_name = "PIXELS|WxH", value_parser = parse_size, conflicts_with = "scale")]
    size: Option<Scale>,
    /// Output pixels per native pixel
    #[arg(long, value_name = "FACTOR", value_parser = positive)]
    scale: Option<f64>,
    /// Part of the picture in native pixels; fractions are allowed
    #[arg(long, value_name = "X,Y,W,H", value_parser = parse_crop)]
    crop: Option<Crop>,
    /// Render the exact gradient (its length, for each colour channel) or the exact Laplacian
    /// (grey is zero)
    #[arg(long, value_name = "KIND")]
    derivative: Option<Derivative>,
    /// Amplification of the derivative; of the Laplacian, a negative one swaps dark and bright
    /// [default: 4 for the gradient, 2 for the Laplacian]
    #[arg(long, value_name = "FACTOR", requires = "derivative", value_parser = parse_gain)]
    gain: Option<f64>,
    /// Below native size: filter what the output is too small to show, or take the function at
    /// the centre of each pixel
    #[arg(long, value_name = "KIND", default_value = "filtered")]
    sampling: SamplingName,
    /// Render the K coarsest planes of latents only: a preview
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u8).range(1..))]
    planes: Option<u8>,
    /// Render what has arrived of a file of latents that is cut short
    #[arg(long)]
    allow_truncated: bool,
    /// Where to render; `cpu` gives the same picture whatever card the machine has
    #[arg(long, value_name = "DEVICE", default_value = "cpu",
        value_parser = DeviceName::of_renders())]
    device: DeviceName,
    /// Bits per sample, 8 or 16 [default: the source picture's, as far as the format can]
    #[arg(long, value_name = "BITS", value_parser = parse_depth)]
    depth: Option<BitDepth>,
    /// Output format [default: by the output's extension, else PNG]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// JPEG quality, 1 to 100
    #[arg(long, value_name = "Q", default_value_t = 90, value_parser = clap::value_parser!(u8).range(1..=100))]
    jpeg_quality: u8,
    /// Most pixels to render, however long it takes [default: 268,435,456, in some minutes]
    #[arg(long, value_name = "N")]
    max_pixels: Option<u64>,
    /// Most memory for a render, in bytes or as 512K, 512M or 4G [default: 2G]
    #[arg(long, value_name = "BYTES", value_parser = parse_memory)]
    max_memory: Option<u64>,
    /// Convert the colours to sRGB, from what the file's cICP or ICC profile says
    #[arg(long, conflicts_with = "derivative")]
    to_srgb: bool,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Clone, Copy, ValueEnum)]
enum SamplingName {
    /// A finer lattice, reduced by Lanczos's filter
    Filtered,
    /// The raw function; derivatives are always sampled like that
    Point,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Derivative {
    Gradient,
    Laplacian,
}

pub(super) fn run(options: &Options) -> Result<Outcome> {
    let batch = options.inputs.iter().any(|i| i.is_dir());
    let named = options.output.as_deref().filter(|o| !batch && !names_directory(o));
    let format = match (options.format, named.and_then(Format::of_path)) {
        (Some(format), _) => format,
        (None, Some(format)) => format,
        (None, None) => match named {
            Some(path) if options.inputs.len() == 1 && path.as_os_str() != "-" => bail!(
                "{} has no extension of a format that can be written (PNG, JPEG, WebP, TIFF, PNM, PAM); \
                 use --format",
                path.display()
            ),
            _ => Format::Png,
        },
    };
    if options.depth == Some(BitDepth::Sixteen) && format.max_depth() == BitDepth::Eight {
        bail!("{} holds 8 bits only; leave out --depth 16", format.extension().to_uppercase());
    }
    let output = options.output.as_deref();
    let wanted = input::has_siren_extension;
    let jobs = batch::jobs(&options.inputs, wanted, output, format.extension(), &options.flags)?;
    let device = RenderDevice::open(options.device)?;
    batch::run(&jobs, &options.flags, |input, destination, facts| {
        decode_one(input, destination, (options, &device), format, facts)?;
        Ok(Done::Written)
    })
}

fn decode_one(
    input: &Path,
    destination: &Destination,
    (options, device): (&Options, &RenderDevice),
    format: Format,
    facts: &mut Facts,
) -> Result<()> {
    let decoder = open(input, options)?;
    if options.planes.is_some() && decoder.payload().is_none() {
        bail!("{} is one SIREN and has no planes; leave out --planes", input.display());
    }
    let name = || input.display().to_string();
    let view = view(options, format, decoder.depth());
    let prepared = decoder.prepare(&view).map_err(|error| match error {
        DecodeError::InvalidView(_) => {
            let Size { width, height } = decoder.size();
            anyhow!(error).context(format!("of {width}x{height} pixels"))
        }
        other => explained(other, options),
    });
    let render = device.take(prepared.with_context(name)?).with_context(name)?;
    facts.picture(render.size(), render.channels(), render.depth());
    facts.representation(decoder.container().representation);
    if let Some(path) = destination.path() {
        format.check_name(path, render.channels())?;
    }
    let mut metadata = decoder.metadata().clone();
    // There is no other render to come that would take what it keeps.
    drop(decoder);
    metadata::make_upright(&mut metadata);
    let to_srgb = match options.to_srgb {
        true => ToSrgb::new(&mut metadata, render.channels(), render.depth()).with_context(name)?,
        false => None,
    };
    options.selection.apply(&mut metadata);
    for warning in fit(&mut metadata, options, format) {
        progress::message(&format!("warning: {}: {warning}", input.display()));
    }
    let bar = progress::bar(&name(), render.size().height.into());
    let source = Source { render, to_srgb };
    let result = options.flags.write(destination, facts, |file| {
        picture::write(&source, &metadata, format, options.jpeg_quality, &bar, file)
    });
    bar.finish_and_clear();
    result.with_context(name)?;
    device.report(input, &source.render);
    Ok(())
}

/// Leaves out what a format does not hold or what is not true of a render; gives a warning for each.
fn fit(metadata: &mut Metadata, options: &Options, format: Format) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |text: &str| warnings.push(text.to_owned());
    if format == Format::Webp
        && metadata.icc.as_deref().is_some_and(|icc| metadata::colours_of_profile(icc) == Some(1))
    {
        warn("WebP is RGB; its grey ICC profile is left out");
        metadata.icc = None;
    }
    if let Some(packet) = metadata.xmp.take() {
        metadata.xmp = metadata::xmp::to_utf8(&packet);
        if metadata.xmp.is_none() {
            warn("its XMP is no text and left out");
        }
    }
    // A thumbnail shows the whole picture.
    if (options.crop.is_some() || options.derivative.is_some())
        && metadata.exif.as_mut().is_some_and(metadata::exif::remove_thumbnail)
    {
        warn("its EXIF thumbnail shows something else and is left out");
    }
    let shouted = format.extension().to_uppercase();
    if let Some(lost) = format.loses_colour_space(metadata).filter(|_| !options.to_srgb) {
        warn(&format!("{shouted} holds no {lost}; write PNG, or convert with --to-srgb"));
    }
    for lost in format.leave_out(metadata) {
        warn(&format!(
            "its {lost} does not fit into {shouted} and is left out; write PNG to keep it"
        ));
    }
    warnings
}

/// Opens a file; says so where it is cut short and may be.
fn open(path: &Path, options: &Options) -> Result<Decoder> {
    let (bytes, limits) = (input::siren_bytes(path)?, limits(options));
    let opened = match options.allow_truncated {
        true => Decoder::truncated(&bytes, limits),
        false => Decoder::with_limits(&bytes, limits),
    };
    let decoder = opened
        .map_err(|error| explained(error, options))
        .with_context(|| path.display().to_string())?;
    if let Some(payload) = decoder.payload()
        && payload.complete_planes() < payload.bases().count()
    {
        let (there, all) = (payload.complete_planes(), payload.bases().count());
        let path = path.display();
        progress::message(&format!("{path} is cut short: {there} of {all} planes have arrived"));
    }
    Ok(decoder)
}

/// Adds what to do about it.
fn explained(error: DecodeError, options: &Options) -> anyhow::Error {
    let advice = match &error {
        DecodeError::Truncated { .. } if !options.allow_truncated => {
            "--allow-truncated renders what has arrived of latent grids"
        }
        DecodeError::LimitExceeded { what: Limit::Memory, .. } => {
            "too large a render: --max-memory BYTES allows it"
        }
        DecodeError::LimitExceeded { .. } => "too large a render: --max-pixels N allows it",
        _ => return error.into(),
    };
    anyhow!(error).context(advice)
}

fn view(options: &Options, format: Format, source: BitDepth) -> View {
    let scale = match (options.size, options.scale) {
        (Some(size), _) => size,
        (None, Some(factor)) => Scale::Factor(factor),
        (None, None) => Scale::Native,
    };
    let field = match options.derivative {
        None => Field::Value,
        Some(Derivative::Gradient) => Field::Gradient { gain: options.gain.unwrap_or(4.0) },
        Some(Derivative::Laplacian) => Field::Laplacian { gain: options.gain.unwrap_or(2.0) },
    };
    let sampling = match options.sampling {
        SamplingName::Filtered => Sampling::Filtered,
        SamplingName::Point => Sampling::Point,
    };
    let depth = options.depth.unwrap_or(match format.max_depth() {
        BitDepth::Eight => BitDepth::Eight,
        BitDepth::Sixteen => source,
    });
    let view = View::native().crop(options.crop).scale(scale).field(field).sampling(sampling);
    view.depth(depth).planes(options.planes.map(usize::from))
}

fn limits(options: &Options) -> Limits {
    let default = Limits::default();
    let max_memory = options.max_memory.unwrap_or(default.max_memory);
    // Sides are for --size to choose; time and disk go by the number of pixels.
    let limits = match (options.max_pixels, options.size) {
        (Some(max_pixels), _) => Limits::NONE.max_pixels(max_pixels),
        (None, Some(_)) => default.max_dimension(u32::MAX),
        (None, None) => default,
    };
    limits.max_memory(max_memory)
}

fn parse_size(text: &str) -> Result<Scale, String> {
    let number = |text: &str| {
        text.parse::<u32>().ok().filter(|&n| n > 0).ok_or("give pixels (2048) or WxH (640x480)")
    };
    Ok(match text.split_once(['x', 'X']) {
        Some((width, height)) => {
            Scale::Exact(Size { width: number(width)?, height: number(height)? })
        }
        None => Scale::LongerSide(number(text)?),
    })
}

fn parse_gain(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|gain: &f64| gain.is_finite()).ok_or("give a finite number".into())
}

fn parse_crop(text: &str) -> Result<Crop, String> {
    let numbers: Result<Vec<f64>, _> = text.split(',').map(|n| n.trim().parse()).collect();
    match numbers.as_deref() {
        Ok(&[x, y, width, height]) => Ok(Crop { x, y, width, height }),
        _ => Err("give four numbers: X,Y,W,H".into()),
    }
}

fn parse_memory(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((number, "K" | "k")) => (number, 10),
        Some((number, "M" | "m")) => (number, 20),
        Some((number, "G" | "g")) => (number, 30),
        _ => (text, 0),
    };
    let number = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << unit));
    number.ok_or("give bytes, or a number with K, M or G".into())
}

fn parse_depth(text: &str) -> Result<BitDepth, String> {
    match text {
        "8" => Ok(BitDepth::Eight),
        "16" => Ok(BitDepth::Sixteen),
        _ => Err("8 or 16".into()),
    }
}
