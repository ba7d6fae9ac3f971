//! `sirenc compare`: PSNR, SSIMULACRA2 and MS-SSIM between two pictures.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use blazediff_ssim::{MsSsimOptions, Plane, Rgba8, SsimOptions, ms_ssim};
use clap::Args;
use serde_json::json;
use sirenc::{Channels, Decoder, Raster, Samples, Size, View, psnr};
use ssimulacra2::{ColorPrimaries, Rgb, TransferCharacteristic, compute_frame_ssimulacra2};

use super::{Outcome, input, output};

#[derive(Args)]
pub(super) struct Options {
    /// The original: a picture or a .siren file, which is rendered at its native size
    #[arg(value_name = "A")]
    a: PathBuf,
    /// The copy: a picture or a .siren file
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
}

/// SSIMULACRA2 needs at least this many pixels a side.
const SSIMULACRA2_MIN_SIDE: u32 = 8;

pub(super) fn run(options: &Options) -> Result<Outcome> {
    let a = load(&options.a)?;
    let b = load(&options.b)?;
    if a.size() != b.size() {
        let (a, b) = (a.size(), b.size());
        bail!("the pictures differ in size: {}x{} and {}x{}", a.width, a.height, b.width, b.height);
    }
    let psnr = psnr_of(&a, &b);
    let ssimulacra2 = ssimulacra2(&a, &b)?;
    let ms_ssim = ms_ssim_of(&a, &b);
    let text = if options.json {
        // JSON has no infinity: equal pictures have a PSNR of null.
        let psnr = psnr.is_finite().then_some(psnr);
        let facts = json!({
            "schema": 1,
            "psnr": psnr,
            "identical": psnr.is_none(),
            "ssimulacra2": ssimulacra2,
            "ms_ssim": ms_ssim,
        });
        format!("{facts:#}\n")
    } else {
        let psnr = if psnr.is_finite() { format!("{psnr:.3} dB") } else { "identical".into() };
        let or_too_small = |value: Option<f64>, digits: usize| {
            value.map_or("picture too small".into(), |v| format!("{v:.digits$}"))
        };
        format!(
            "PSNR        {psnr}\nSSIMULACRA2 {}\nMS-SSIM     {}\n",
            or_too_small(ssimulacra2, 3),
            or_too_small(ms_ssim, 5)
        )
    };
    output::print(text.as_bytes())
}

fn load(path: &Path) -> Result<Raster> {
    let bytes = input::bytes(path)?;
    let context = || path.display().to_string();
    if input::is_siren(&bytes) {
        let decoder = Decoder::new(&bytes).with_context(context)?;
        return decoder.render(&View::native()).with_context(context);
    }
    Ok(input::picture_from(path, &bytes)?.raster)
}

/// PSNR of the channels that both need: alpha counts where one of them is not opaque.
fn psnr_of(a: &Raster, b: &Raster) -> f64 {
    if !a.channels().has_alpha() && a.channels() == b.channels() && a.depth() == b.depth() {
        return psnr(a, b);
    }
    let (size, a, b) = (a.size(), to_rgba16(a), to_rgba16(b));
    let opaque = |samples: &[u16]| samples.chunks_exact(4).all(|p| p[3] == u16::MAX);
    let channels = if opaque(&a) && opaque(&b) { Channels::Rgb } else { Channels::Rgba };
    let raster = |samples: &[u16]| {
        let pixels = samples.chunks_exact(4);
        let samples = pixels.flat_map(|p| p[..channels.count()].iter().copied()).collect();
        Raster::new(size, channels, Samples::U16(samples)).expect("as many pixels as before")
    };
    psnr(&raster(&a), &raster(&b))
}

/// The samples in the one layout that holds all others.
fn to_rgba16(raster: &Raster) -> Vec<u16> {
    let channels = raster.channels();
    let samples: Vec<u16> = match raster.samples() {
        Samples::U8(samples) => samples.iter().map(|&s| u16::from(s) * 257).collect(),
        Samples::U16(samples) => samples.clone(),
    };
    let pixels = samples.chunks_exact(channels.count());
    pixels
        .flat_map(|p| match *p {
            [grey] => [grey, grey, grey, u16::MAX],
            [grey, alpha] => [grey, grey, grey, alpha],
            [r, g, b] => [r, g, b, u16::MAX],
            [r, g, b, alpha] => [r, g, b, alpha],
            _ => unreachable!("one to four channels"),
        })
        .collect()
}

/// RGB in [0, 1] over a background of one grey.
fn over(raster: &Raster, background: f32) -> Vec<[f32; 3]> {
    let unit = |sample: u16| f32::from(sample) / 65535.0;
    to_rgba16(raster)
        .chunks_exact(4)
        .map(|p| {
            let alpha = unit(p[3]);
            [p[0], p[1], p[2]].map(|s| unit(s) * alpha + background * (1.0 - alpha))
        })
        .collect()
}

/// SSIMULACRA2 of the pictures as sRGB; with alpha, the worse of the scores over black
/// and over white. `None` below 8 pixels a side.
fn ssimulacra2(a: &Raster, b: &Raster) -> Result<Option<f64>> {
    let Size { width, height } = a.size();
    if width.min(height) < SSIMULACRA2_MIN_SIDE {
        return Ok(None);
    }
    let has_alpha = a.channels().has_alpha() || b.channels().has_alpha();
    let backgrounds: &[f32] = if has_alpha { &[0.0, 1.0] } else { &[0.0] };
    let mut worst = f64::INFINITY;
    for &background in backgrounds {
        let frame = |raster| {
            let (srgb, bt709) = (TransferCharacteristic::SRGB, ColorPrimaries::BT709);
            let (width, height) = (width as usize, height as usize);
            Rgb::new(over(raster, background), width, height, srgb, bt709)
        };
        let score = compute_frame_ssimulacra2(frame(a)?, frame(b)?).context("SSIMULACRA2")?;
        worst = worst.min(score);
    }
    Ok(Some(worst))
}

/// MS-SSIM of the luma (Wang, Simoncelli and Bovik 2003); `None` below 176 pixels a side.
fn ms_ssim_of(a: &Raster, b: &Raster) -> Option<f64> {
    let plane = |raster: &Raster| {
        let Size { width, height } = raster.size();
        let byte = |unit: f32| (unit * 255.0 + 0.5) as u8;
        let rgba: Vec<u8> = over(raster, 0.0)
            .iter()
            .flat_map(|p| [byte(p[0]), byte(p[1]), byte(p[2]), u8::MAX])
            .collect();
        Plane::from_rgba8(Rgba8::new(&rgba, width as usize, height as usize))
    };
    let (a, b) = (plane(a).ok()?, plane(b).ok()?);
    let outcome = ms_ssim(&a, &b, &SsimOptions::default(), &MsSsimOptions::default());
    outcome.ok().map(|outcome| outcome.score)
}
