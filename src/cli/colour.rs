//! `decode --to-srgb`: samples from the colour space that a file names to sRGB, strip by strip.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use moxcms::{
    Chromaticity, CicpColorPrimaries, CicpProfile, ColorPrimaries, ColorProfile, DataColorSpace,
    Layout, MatrixCoefficients, ToneReprCurve, TransferCharacteristics, Transform8BitExecutor,
    Transform16BitExecutor, TransformOptions,
};
use sirenc::container::{Cicp, Metadata};
use sirenc::{BitDepth, Channels, Raster, Samples};

/// sRGB by the code points of H.273.
const SRGB: Cicp = Cicp { primaries: 1, transfer: 13, matrix: 0, full_range: 1 };

const WAY_OUT: &str = "leave out --to-srgb, or give the picture another colour space with \
                       `sirenc edit`";

/// A conversion to sRGB.
pub(super) struct ToSrgb {
    transform: Transform,
    /// Grey in a colour space for RGB goes through it as three equal samples.
    through_rgb: bool,
}

enum Transform {
    Eight(Arc<Transform8BitExecutor>),
    Sixteen(Arc<Transform16BitExecutor>),
}

impl ToSrgb {
    /// The conversion of samples with this metadata, which then says sRGB; `None` where they are
    /// sRGB already.
    pub fn new(
        metadata: &mut Metadata,
        channels: Channels,
        depth: BitDepth,
    ) -> Result<Option<Self>> {
        let Some(source) = source(metadata)? else { return Ok(None) };
        let already = metadata.cicp == Some(SRGB);
        let to_srgb = Self::of_profile(&source, channels, depth)?;
        let grey = channels.colour_count() == 1;
        metadata.icc = Some(encode(&if grey { grey_srgb() } else { srgb() })?);
        metadata.cicp = Some(SRGB);
        Ok((!already).then_some(to_srgb))
    }

    /// The conversion of a picture whose samples are light to this power, with the x and y of white,
    /// red, green and blue where they are not those of sRGB; `None` where that is sRGB, as nearly
    /// as files say it.
    pub fn of_gamma(
        gamma: f64,
        chromaticities: Option<[f64; 8]>,
        raster: &Raster,
    ) -> Result<Option<Self>> {
        /// PNG, third edition, sections 11.3.2.1 and 11.3.2.3.
        const SRGB_PLACES: [f64; 8] = [0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06];
        let is_near = |a: f64, b: f64| (a - b).abs() < 0.005;
        let is_place = |xy: &[f64]| xy[1] > 0.0 && xy[0] + xy[1] <= 1.0;
        let in_order = chromaticities.is_none_or(|places| places.chunks_exact(2).all(is_place));
        if !(0.05..=20.0).contains(&gamma) || !in_order {
            bail!("gamma or primaries of no picture");
        }
        let places = chromaticities.unwrap_or(SRGB_PLACES);
        let same_places = places.iter().zip(SRGB_PLACES).all(|(&a, b)| is_near(a, b));
        let is_srgb = is_near(gamma, 1.0 / 2.2);
        if is_srgb && same_places {
            return Ok(None);
        }
        let mut profile = match raster.channels().colour_count() {
            1 => ColorProfile::new_gray_with_gamma(1.0),
            _ => srgb(),
        };
        let curve = match is_srgb {
            true => srgb().red_trc,
            false => Some(ToneReprCurve::Parametric(vec![(1.0 / gamma) as f32])),
        };
        if profile.color_space == DataColorSpace::Gray {
            profile.gray_trc = curve;
        } else {
            let [white, red, green, blue] =
                [0, 2, 4, 6].map(|at| Chromaticity::new(places[at] as f32, places[at + 1] as f32));
            let primaries = ColorPrimaries { red, green, blue };
            if !same_places {
                profile.update_rgb_colorimetry(white.to_xyyb(), primaries);
            }
            (profile.red_trc, profile.green_trc, profile.blue_trc) =
                (curve.clone(), curve.clone(), curve);
        }
        Self::of_profile(&profile, raster.channels(), raster.depth()).map(Some)
    }

    /// The conversion from a profile's colours.
    fn of_profile(source: &ColorProfile, channels: Channels, depth: BitDepth) -> Result<Self> {
        let grey = channels.colour_count() == 1;
        let through_rgb = grey && source.color_space == DataColorSpace::Rgb;
        let (layout, target) = match (source.color_space, grey, channels.has_alpha()) {
            (DataColorSpace::Gray, true, false) => (Layout::Gray, grey_srgb()),
            (DataColorSpace::Gray, true, true) => (Layout::GrayAlpha, grey_srgb()),
            (DataColorSpace::Rgb, _, false) => (Layout::Rgb, srgb()),
            (DataColorSpace::Rgb, _, true) => (Layout::Rgba, srgb()),
            (space, ..) => {
                let kind = if grey { "grey" } else { "RGB" };
                bail!("its ICC profile is for {space:?}, the picture is {kind}; {WAY_OUT}")
            }
        };
        let options = TransformOptions { prefer_fixed_point: false, ..TransformOptions::default() };
        let cannot = |error| anyhow!("cannot convert from its colour space: {error}; {WAY_OUT}");
        let transform = match depth {
            BitDepth::Eight => Transform::Eight(
                source.create_transform_8bit(layout, &target, layout, options).map_err(cannot)?,
            ),
            BitDepth::Sixteen => Transform::Sixteen(
                source.create_transform_16bit(layout, &target, layout, options).map_err(cannot)?,
            ),
        };
        Ok(Self { transform, through_rgb })
    }

    /// Converts colour samples; alpha stays.
    pub fn convert(&self, raster: Raster) -> Result<Raster> {
        let (size, channels) = (raster.size(), raster.channels());
        let samples = match (&self.transform, raster.into_samples()) {
            (Transform::Eight(transform), Samples::U8(samples)) => {
                Samples::U8(self.samples(channels, samples, |a, b| transform.transform(a, b))?)
            }
            (Transform::Sixteen(transform), Samples::U16(samples)) => {
                Samples::U16(self.samples(channels, samples, |a, b| transform.transform(a, b))?)
            }
            _ => unreachable!("a render has one depth"),
        };
        Ok(Raster::new(size, channels, samples).expect("as many samples as before"))
    }

    fn samples<T: Copy + Default>(
        &self,
        channels: Channels,
        samples: Vec<T>,
        transform: impl Fn(&[T], &mut [T]) -> Result<(), moxcms::CmsError>,
    ) -> Result<Vec<T>> {
        let convert = |samples: &[T]| -> Result<Vec<T>> {
            let mut converted = vec![T::default(); samples.len()];
            transform(samples, &mut converted).context("cannot convert to sRGB")?;
            Ok(converted)
        };
        if !self.through_rgb {
            return convert(&samples);
        }
        let count = channels.count();
        let mut rgb = Vec::with_capacity(samples.len() / count * (count + 2));
        for pixel in samples.chunks_exact(count) {
            rgb.extend_from_slice(&[pixel[0]; 3]);
            rgb.extend_from_slice(&pixel[1..]);
        }
        let mut grey = Vec::with_capacity(samples.len());
        for pixel in convert(&rgb)?.chunks_exact(count + 2) {
            // Red and blue are equal to green but for rounding.
            grey.push(pixel[1]);
            grey.extend_from_slice(&pixel[3..]);
        }
        Ok(grey)
    }
}

/// The colour space that the metadata names; code points take precedence.
fn source(metadata: &Metadata) -> Result<Option<ColorProfile>> {
    let profile = match (metadata.cicp, &metadata.icc) {
        (Some(cicp), _) => of_cicp(cicp)?,
        (None, Some(icc)) => ColorProfile::new_from_slice(icc)
            .map_err(|error| anyhow!("its ICC profile cannot be used: {error}; {WAY_OUT}"))?,
        (None, None) => return Ok(None),
    };
    let transfer = profile.cicp.map(|cicp| cicp.transfer_characteristics);
    if let Some(TransferCharacteristics::Smpte2084 | TransferCharacteristics::Hlg) = transfer {
        bail!("PQ and HLG pictures are not converted to sRGB: they need tone mapping; {WAY_OUT}");
    }
    Ok(Some(profile))
}

fn of_cicp(cicp: Cicp) -> Result<ColorProfile> {
    let Cicp { primaries, transfer, matrix: _, full_range } = cicp;
    let cannot =
        || anyhow!("its cICP ({primaries}, {transfer}, 0, {full_range}) cannot be used; {WAY_OUT}");
    if full_range == 0 {
        return Err(cannot());
    }
    let profile = ColorProfile::new_from_cicp(CicpProfile {
        color_primaries: CicpColorPrimaries::try_from(primaries).map_err(|_| cannot())?,
        transfer_characteristics: TransferCharacteristics::try_from(transfer)
            .map_err(|_| cannot())?,
        matrix_coefficients: MatrixCoefficients::Identity,
        full_range: true,
    });
    // Unspecified and reserved code points leave it without curves.
    if profile.red_trc.is_none() {
        return Err(cannot());
    }
    Ok(profile)
}

fn srgb() -> ColorProfile {
    let mut profile = ColorProfile::new_srgb();
    // The cICP tag would be for video; the white point of a display profile is that of the
    // connection space (ISO 15076-1, section 9.2.36).
    profile.cicp = None;
    profile.media_white_point = Some(profile.white_point);
    profile
}

/// Grey with the transfer function of sRGB.
fn grey_srgb() -> ColorProfile {
    let rgb = srgb();
    let mut profile = ColorProfile::new_gray_with_gamma(2.2);
    profile.gray_trc = rgb.red_trc;
    profile.media_white_point = rgb.media_white_point;
    profile
}

/// A profile as bytes, the same each time.
fn encode(profile: &ColorProfile) -> Result<Vec<u8>> {
    let mut bytes = profile.encode().context("sRGB")?;
    // The date, which is that of the call: the first of January 2000.
    bytes[24..36].copy_from_slice(&[0x07, 0xd0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
    Ok(bytes)
}
