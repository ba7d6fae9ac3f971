//! Every size, crop and scale: an output of the stated shape, or a typed error, never a panic.

mod common;

use std::sync::LazyLock;

use common::{container, latents_container, planes_container, uniform, waves};
use proptest::prelude::*;
use sirenc::container::Container;
use sirenc::{
    BitDepth, Channels, Crop, DecodeError, Decoder, Field, Limits, Sampling, Scale, Size, View,
};

static FILES: LazyLock<[Container; 6]> = LazyLock::new(|| {
    let size = Size { width: 70, height: 45 };
    [
        container(70, 45, uniform(Channels::Rgba, 2, 5), 1),
        container(1, 300, uniform(Channels::Grey, 1, 3), 2),
        latents_container(size, 5, uniform(Channels::GreyAlpha, 1, 4), (3, 3), 3),
        latents_container(
            Size { width: 1, height: 1 },
            10,
            uniform(Channels::Rgb, 1, 4),
            (3, 3),
            4,
        ),
        planes_container(size, waves(1, 8, 2, 3), uniform(Channels::Grey, 1, 4), (3, 3), 5),
        planes_container(size, waves(3, 32, 0, 1), uniform(Channels::Rgba, 1, 3), (3, 3), 6),
    ]
});

const LIMITS: Limits = Limits::NONE
    .max_pixels(1 << 14)
    .max_dimension(1 << 13)
    .max_memory(1 << 24)
    .max_operations(1 << 24);

/// Numbers that people give, the edges of what they may, and any bits.
fn number(most: f64) -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 0.0..most,
        2 => (0.0..most).prop_map(f64::round),
        1 => prop::sample::select(vec![0.0, -0.0, most, 1e-300, f64::MIN_POSITIVE, 0.5, 1e300]),
        1 => any::<f64>(),
    ]
}

fn side() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0u32..200, 1 => 0u32..20_000, 1 => any::<u32>()]
}

fn crop() -> impl Strategy<Value = Option<Crop>> {
    let numbers = (number(70.0), number(45.0), number(70.0), number(45.0));
    prop::option::of(numbers.prop_map(|(x, y, width, height)| Crop { x, y, width, height }))
}

fn scale() -> impl Strategy<Value = Scale> {
    prop_oneof![
        Just(Scale::Native),
        number(4.0).prop_map(Scale::Factor),
        side().prop_map(Scale::LongerSide),
        (side(), side()).prop_map(|(width, height)| Scale::Exact(Size { width, height })),
    ]
}

fn gain() -> impl Strategy<Value = f64> {
    let edges = [f64::NAN, f64::INFINITY, -f64::INFINITY, f64::MAX, f64::MIN, -0.0];
    prop_oneof![4 => -9.0..9.0, 1 => any::<f64>(), 1 => prop::sample::select(edges.to_vec())]
}

fn field() -> impl Strategy<Value = Field> {
    prop_oneof![
        4 => Just(Field::Value),
        1 => gain().prop_map(|gain| Field::Gradient { gain }),
        1 => gain().prop_map(|gain| Field::Laplacian { gain }),
    ]
}

/// Whether a field shows something.
fn has_gain(field: Field) -> bool {
    match field {
        Field::Value => true,
        Field::Gradient { gain } => gain.is_finite() && gain >= 0.0,
        Field::Laplacian { gain } => gain.is_finite(),
        _ => unreachable!("there is no other field"),
    }
}

/// The size that the documentation of [`Scale`] states; `None` for a view that is none.
fn stated(native: Size, view: &View) -> Option<(f64, f64)> {
    let (w, h) = (f64::from(native.width), f64::from(native.height));
    let Crop { x, y, width, height } =
        view.crop.unwrap_or(Crop { x: 0.0, y: 0.0, width: w, height: h });
    let inside = x >= 0.0 && y >= 0.0 && width > 0.0 && height > 0.0;
    if !(inside && x + width <= w && y + height <= h) {
        return None;
    }
    let whole = |pixels: f64| pixels.round().max(1.0);
    let size = match view.scale {
        Scale::Native => (whole(width), whole(height)),
        Scale::Factor(factor) => {
            if !(factor > 0.0 && factor.is_finite()) {
                return None;
            }
            let along = |length: f64, native: f64| whole(length * whole(native * factor) / native);
            (along(width, w), along(height, h))
        }
        Scale::LongerSide(side) => {
            let ratio = f64::from(side) / width.max(height);
            (whole(width * ratio), whole(height * ratio))
        }
        Scale::Exact(size) => (size.width.into(), size.height.into()),
        _ => unreachable!("there is no other scale"),
    };
    let zero = matches!(view.scale, Scale::LongerSide(0)) || size.0 == 0.0 || size.1 == 0.0;
    // What is beyond 31 bits at any step of this is an error too.
    (!zero).then_some(size)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn every_view_has_its_shape(
        file in 0usize..6,
        claimed in prop::option::weighted(0.3, (1u32..=0x7fff_ffff, 1u32..=0x7fff_ffff)),
        crop in crop(), scale in scale(), field in field(), point in any::<bool>(),
        deep in prop::option::of(any::<bool>()), planes in prop::option::of(0usize..12),
        whole in any::<bool>(),
    ) {
        let mut container = FILES[file].clone();
        if let Some((width, height)) = claimed {
            (container.width, container.height) = (width, height);
        }
        let decoder = match Decoder::with_limits(&container.write(), LIMITS) {
            Ok(decoder) => decoder,
            // Another size has other tiles.
            Err(error) => {
                prop_assert!(claimed.is_some() && file > 1, "{}", error);
                return Ok(());
            }
        };
        let view = View::native().crop(crop).scale(scale);
        let depth = deep.map(|deep| if deep { BitDepth::Sixteen } else { BitDepth::Eight });
        let sampling = if point { Sampling::Point } else { Sampling::Filtered };
        let options = view.field(field).sampling(sampling).depth(depth).planes(planes);
        let stated = stated(decoder.size(), &view);
        let rendered = if whole {
            decoder.render(&options).map(|raster| vec![raster])
        } else {
            decoder.prepare(&options).map(|render| render.strips().collect())
        };
        match rendered {
            Ok(strips) => {
                prop_assert!(has_gain(field));
                let wanted = if field == Field::Value {
                    decoder.channels()
                } else {
                    decoder.channels().without_alpha()
                };
                let mut rows = 0;
                for strip in &strips {
                    prop_assert_eq!(strip.channels(), wanted);
                    prop_assert_eq!(strip.depth(), depth.unwrap_or(decoder.depth()));
                    prop_assert_eq!(f64::from(strip.size().width), stated.unwrap().0);
                    rows += strip.size().height;
                }
                prop_assert_eq!(f64::from(rows), stated.unwrap().1);
            }
            Err(DecodeError::InvalidView(_)) => {
                let huge = 2f64.powi(31);
                let native = decoder.size();
                let factor = if let Scale::Factor(factor) = scale { factor } else { 1.0 };
                let whole = f64::from(native.longer_side()) * factor;
                let too_large = stated.is_some_and(|(w, h)| w >= huge || h >= huge)
                    || matches!(scale, Scale::LongerSide(side) if side >= 1 << 31)
                    || whole >= huge - 1.0;
                let tiny = crop.is_some_and(|crop| crop.width.min(crop.height) < 1e-80);
                prop_assert!(stated.is_none() || too_large || tiny, "{:?}", stated);
            }
            Err(DecodeError::InvalidGain(_)) => prop_assert!(!has_gain(field)),
            Err(DecodeError::LimitExceeded { .. }) => {
                let (width, height) = stated.unwrap();
                let point_and_small = point && field == Field::Value && width * height < 5e3;
                prop_assert!(file > 1 || !point_and_small || width.max(height) > 8192.0);
            }
            Err(DecodeError::MalformedLatents { .. }) => prop_assert!(claimed.is_some()),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn every_place_can_be_sampled(file in 0usize..6, u in number(80.0), v in number(80.0)) {
        let decoder = Decoder::new(&FILES[file].write()).unwrap();
        prop_assert_eq!(decoder.sample(u, v).unwrap().len(), decoder.channels().count());
    }
}
