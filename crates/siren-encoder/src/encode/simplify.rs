//! What of a picture is not stored: alpha that is opaque everywhere, colours that are grey
//! everywhere, colours under transparent pixels. Pixels in, pixels out; trains nothing.

use siren_image::network::Channels;
use siren_image::{Raster, Samples};

/// The picture without what nobody sees; `None` if it has nothing of that. Colours that are grey
/// stay three channels with `keep_colour`.
pub fn simplified(raster: &Raster, keep_colour: bool) -> Option<Raster> {
    let channels = raster.channels();
    let (channels, samples) = match raster.samples() {
        Samples::U8(samples) => {
            let (channels, samples) = simplify(samples, channels, keep_colour)?;
            (channels, Samples::U8(samples))
        }
        Samples::U16(samples) => {
            let (channels, samples) = simplify(samples, channels, keep_colour)?;
            (channels, Samples::U16(samples))
        }
    };
    Some(Raster::new(raster.size(), channels, samples).expect("as many pixels as before"))
}

/// Samples of 8 or 16 bits.
trait Sample: Copy + PartialEq + Into<u64> + TryFrom<u64> {
    const MOST: Self;
}

impl Sample for u8 {
    const MOST: Self = u8::MAX;
}

impl Sample for u16 {
    const MOST: Self = u16::MAX;
}

fn simplify<T: Sample>(
    samples: &[T],
    channels: Channels,
    keep_colour: bool,
) -> Option<(Channels, Vec<T>)> {
    let colours = channels.without_alpha().count();
    let has_alpha = channels.has_alpha();
    let pixels = || samples.chunks_exact(channels.count());
    let alpha = |pixel: &[T]| if has_alpha { pixel[colours] } else { T::MOST };
    let hidden = |pixel: &[T]| alpha(pixel).into() == 0;
    let drop_alpha = has_alpha && pixels().all(|pixel| alpha(pixel) == T::MOST);
    let is_grey = |pixel: &[T]| pixel[0] == pixel[1] && pixel[1] == pixel[2];
    let drop_colour =
        colours == 3 && !keep_colour && pixels().all(|pixel| hidden(pixel) || is_grey(pixel));
    let fill = mean_colour(pixels(), alpha, colours);
    let differs = |pixel: &[T]| hidden(pixel) && pixel[..colours] != fill[..];
    if !drop_alpha && !drop_colour && !pixels().any(differs) {
        return None;
    }
    let kept = if drop_colour { 1 } else { colours };
    let count = kept + usize::from(has_alpha && !drop_alpha);
    let mut out = Vec::with_capacity(samples.len() / channels.count() * count);
    for pixel in pixels() {
        let colour = if hidden(pixel) { &fill } else { pixel };
        out.extend_from_slice(&colour[..kept]);
        if count > kept {
            out.push(alpha(pixel));
        }
    }
    Some((Channels::from_count(count).expect("one to four"), out))
}

/// The mean colour of what can be seen.
fn mean_colour<'a, T: Sample + 'a>(
    pixels: impl Iterator<Item = &'a [T]>,
    alpha: impl Fn(&[T]) -> T,
    colours: usize,
) -> Vec<T> {
    let (mut sums, mut weight) = (vec![0u64; colours], 0u64);
    for pixel in pixels {
        let alpha = alpha(pixel).into();
        weight += alpha;
        sums.iter_mut().zip(pixel).for_each(|(sum, &sample)| *sum += alpha * sample.into());
    }
    let mean = |sum| T::try_from(sum / weight.max(1)).unwrap_or(T::MOST);
    sums.into_iter().map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use siren_image::Size;

    fn raster(width: u32, channels: Channels, samples: &[u8]) -> Raster {
        let size = Size { width, height: 1 };
        Raster::new(size, channels, Samples::U8(samples.to_vec())).unwrap()
    }

    #[test]
    fn what_is_seen_stays() {
        let colour = raster(2, Channels::Rgb, &[1, 1, 1, 2, 2, 3]);
        assert_eq!(simplified(&colour, false), None);
        assert_eq!(simplified(&raster(2, Channels::Grey, &[5, 6]), false), None);
        let alpha = raster(2, Channels::Rgba, &[1, 2, 3, 255, 9, 9, 8, 254]);
        assert_eq!(simplified(&alpha, false), None);
    }

    #[test]
    fn what_is_not_seen_goes() {
        let grey = raster(2, Channels::Rgb, &[7, 7, 7, 9, 9, 9]);
        assert_eq!(simplified(&grey, false), Some(raster(2, Channels::Grey, &[7, 9])));
        assert_eq!(simplified(&grey, true), None);
        let opaque = raster(2, Channels::GreyAlpha, &[7, 255, 9, 255]);
        assert_eq!(simplified(&opaque, false), Some(raster(2, Channels::Grey, &[7, 9])));
        // The coloured pixel cannot be seen.
        let hidden = raster(3, Channels::Rgba, &[4, 4, 4, 255, 1, 2, 3, 0, 8, 8, 8, 255]);
        let grey = raster(3, Channels::GreyAlpha, &[4, 255, 6, 0, 8, 255]);
        assert_eq!(simplified(&hidden, false), Some(grey));
        let filled = raster(3, Channels::Rgba, &[4, 4, 4, 255, 6, 6, 6, 0, 8, 8, 8, 255]);
        assert_eq!(simplified(&hidden, true), Some(filled.clone()));
        assert_eq!(simplified(&filled, true), None);
    }

    #[test]
    fn sixteen_bits_do_not_overflow() {
        let size = Size { width: 300, height: 300 };
        let samples = [65535u16, 65535, 65535, 0].repeat(300 * 300 - 1);
        let samples = [samples, vec![65535; 4]].concat();
        let white = Raster::new(size, Channels::Rgba, Samples::U16(samples)).unwrap();
        let simple = simplified(&white, false).unwrap();
        assert_eq!(simple.channels(), Channels::GreyAlpha);
        let Samples::U16(samples) = simple.into_samples() else { panic!("16 bits") };
        assert!(samples.chunks_exact(2).all(|pixel| pixel[0] == 65535));
    }
}
