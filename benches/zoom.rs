//! What a deep-zoom viewer asks for: 256x256 pixels at any place and scale of pictures of several
//! sizes, of a file that was just opened and once more. The time is to depend on the output alone, and
//! of the second request on its evaluation alone. See benches/README.md.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use common::{Random, container, latents_container, uniform};
use sirenc::{Channels, Crop, Decoder, Scale, Size, View};

const SIZES: [Size; 3] = [
    Size { width: 2048, height: 1536 },
    Size { width: 4096, height: 3072 },
    Size { width: 8192, height: 6144 },
];
/// Output pixels per native pixel.
const SCALES: [f64; 6] = [16.0, 4.0, 1.0, 0.25, 1.0 / 16.0, 1.0 / 32.0];
/// Sides of a request in pixels.
const SIDE: f64 = 256.0;
/// Requests of each scale, at random places.
const REQUESTS: usize = 12;

/// The median time of requests, and of asking for the same again, in milliseconds; `None` where the
/// picture is smaller than one.
fn requests(file: &[u8], size: Size, scale: f64) -> Option<[f64; 2]> {
    let Size { width, height } = size;
    let side = SIDE / scale;
    if side > f64::from(height) {
        return None;
    }
    let mut random = Random(3);
    let times: Vec<[f64; 2]> = (0..REQUESTS)
        .map(|_| {
            let mut place = |native: u32| (random.next() * (f64::from(native) - side)).floor();
            let crop = Crop { x: place(width), y: place(height), width: side, height: side };
            let scale = Scale::Exact(Size { width: SIDE as u32, height: SIDE as u32 });
            let view = View::native().crop(crop).scale(scale);
            let decoder = Decoder::new(file).unwrap();
            [(); 2].map(|()| {
                let start = Instant::now();
                decoder.render(&view).unwrap();
                1e3 * start.elapsed().as_secs_f64()
            })
        })
        .collect();
    Some([0, 1].map(|turn| {
        let mut times: Vec<f64> = times.iter().map(|times| times[turn]).collect();
        times.sort_by(f64::total_cmp);
        times[REQUESTS / 2]
    }))
}

fn main() {
    println!("256x256 pixels of a file just opened, and again: medians of {REQUESTS} places, ms\n");
    print!("{:26}", "output per native pixel");
    SCALES.iter().for_each(|scale| print!("{:>16}", format!("{scale}")));
    println!();
    for size in SIZES {
        let siren = container(size.width, size.height, uniform(Channels::Rgb, 10, 28), 1);
        let grids = latents_container(size, 7, uniform(Channels::Rgb, 1, 32), (16, 16), 1);
        for (name, file) in [("one SIREN", siren), ("latent grids", grids)] {
            let file = file.write();
            print!("{:26}", format!("{name}, {}x{}", size.width, size.height));
            for scale in SCALES {
                let cell = requests(&file, size, scale);
                let cell =
                    cell.map_or("-".into(), |[first, again]| format!("{first:.1} {again:.1}"));
                print!("{cell:>16}");
            }
            println!();
        }
    }
}
