//! Valid headers around hostile values: metadata, weights and views of any kind.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sirenc::container::{Cicp, Container, Metadata, Representation, TrainingOmega, WeightCoding};
use sirenc::{
    BitDepth, Channels, Crop, DecodeError, Decoder, Field, PixelGrid, Sampling, Scale, Size,
    Topology, View,
};
use sirenc_fuzz::{LIMITS, on_this_thread};

#[derive(Arbitrary, Debug)]
struct File<'a> {
    width: u32,
    height: u32,
    deep: bool,
    channels: u8,
    hidden: Vec<u8>,
    omega: Option<(f32, f32)>,
    kind: u8,
    icc: Option<&'a [u8]>,
    cicp: Option<(u8, u8)>,
    exif: Option<&'a [u8]>,
    settings: Option<&'a str>,
    crop: Option<[f64; 4]>,
    scale: Size4,
    field: u8,
    gain: f64,
    point: bool,
    depth: Option<bool>,
    planes: Option<u8>,
    weights: &'a [u8],
}

#[derive(Arbitrary, Debug)]
enum Size4 {
    Native,
    Factor(f64),
    Longer(u32),
    Exact(u16, u16),
}

fn depth(deep: bool) -> BitDepth {
    if deep { BitDepth::Sixteen } else { BitDepth::Eight }
}

fuzz_target!(|file: File| {
    on_this_thread();
    let side = |side: u32| (side & 0x7fff_ffff).max(1);
    let channels = Channels::from_count(usize::from(file.channels & 3) + 1).expect("one to four");
    let mut hidden: Vec<usize> = file.hidden.iter().map(|&n| usize::from(n) + 1).collect();
    let (representation, coding) = match file.kind % 3 {
        0 => (Representation::Siren, WeightCoding::F16),
        1 => (Representation::Siren, WeightCoding::Compact),
        _ => (Representation::Latents, WeightCoding::Compact),
    };
    if representation == Representation::Latents {
        hidden.truncate(1);
    }
    let Ok(topology) = Topology::new(channels, hidden) else { return };
    let container = Container {
        width: side(file.width),
        height: side(file.height),
        depth: depth(file.deep),
        topology,
        omega: file.omega.map(|(first, hidden)| TrainingOmega { first, hidden }),
        representation,
        coding,
        metadata: Metadata {
            icc: file.icc.map(<[u8]>::to_vec),
            cicp: file.cicp.map(|(primaries, transfer)| Cicp {
                primaries,
                transfer,
                matrix: 0,
                full_range: 1,
            }),
            exif: file.exif.map(<[u8]>::to_vec),
            xmp: None,
            settings: file.settings.map(str::to_owned),
        },
        weights: file.weights.to_vec(),
    };
    let Ok(decoder) = Decoder::with_limits(&container.write(), LIMITS) else { return };
    let [x, y, width, height] = file.crop.unwrap_or_default();
    let scale = match file.scale {
        Size4::Native => Scale::Native,
        Size4::Factor(factor) => Scale::Factor(factor),
        Size4::Longer(side) => Scale::LongerSide(side),
        Size4::Exact(width, height) => {
            Scale::Exact(Size { width: width.into(), height: height.into() })
        }
    };
    let field = match file.field % 3 {
        0 => Field::Value,
        1 => Field::Gradient { gain: file.gain },
        _ => Field::Laplacian { gain: file.gain },
    };
    let view = View::native()
        .crop(file.crop.map(|_| Crop { x, y, width, height }))
        .scale(scale)
        .field(field)
        .sampling(if file.point { Sampling::Point } else { Sampling::Filtered })
        .depth(file.depth.map(depth))
        .planes(file.planes.map(usize::from));
    let grid = PixelGrid::new(decoder.size(), &view);
    match decoder.prepare(&view) {
        Ok(render) => {
            let size = grid.expect("it is prepared").size;
            assert_eq!(render.size(), size);
            let rows: u32 = render.strips().map(|strip| strip.size().height).sum();
            assert_eq!(rows, size.height);
        }
        Err(DecodeError::InvalidView(_)) => assert!(grid.is_err()),
        Err(_) => {}
    }
});
