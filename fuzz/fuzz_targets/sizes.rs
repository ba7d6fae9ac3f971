//! Good files whose headers claim other sizes, rendered in views of any kind: pixels of the
//! size that was asked for, or an error.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sirenc::container::Container;
use sirenc::{Crop, Decoder, PixelGrid, Scale, Size, View};
use sirenc_fuzz::{LIMITS, on_this_thread};

/// Small ones of each representation.
const FILES: [&[u8]; 3] = [
    include_bytes!("../../spec/conformance/grey-alpha.siren"),
    include_bytes!("../../spec/conformance/grid-one-level.siren"),
    include_bytes!("../../spec/conformance/grid-waves.siren"),
];

#[derive(Arbitrary, Debug)]
struct Case {
    file: u8,
    /// The size that the header claims, or the file's own.
    claimed: Option<(u32, u32)>,
    /// Fractions of the picture in 1/255.
    crop: Option<[u8; 4]>,
    scale: Option<(bool, u32, u16)>,
    sample: (f64, f64),
}

fuzz_target!(|case: Case| {
    on_this_thread();
    let mut container =
        Container::read(FILES[usize::from(case.file) % FILES.len()]).expect("a good file");
    if let Some((width, height)) = case.claimed {
        (container.width, container.height) =
            ((width & 0x7fff_ffff).max(1), (height & 0x7fff_ffff).max(1));
    }
    let Ok(decoder) = Decoder::with_limits(&container.write(), LIMITS) else { return };
    let part = |share: u8, of: u32| f64::from(share) / 255.0 * f64::from(of);
    let crop = case.crop.map(|[x, y, width, height]| Crop {
        x: part(x, container.width),
        y: part(y, container.height),
        width: part(width, container.width),
        height: part(height, container.height),
    });
    let scale = match case.scale {
        None => Scale::Native,
        Some((true, side, _)) => Scale::LongerSide(side),
        Some((false, width, height)) => {
            Scale::Exact(Size { width: width >> 16, height: height.into() })
        }
    };
    let view = View::native().crop(crop).scale(scale);
    if let Ok(raster) = decoder.render(&view) {
        assert_eq!(raster.size(), PixelGrid::new(decoder.size(), &view).expect("rendered").size);
    }
    let _ = decoder.sample(case.sample.0, case.sample.1);
});
