//! Narrow pictures beside their transposes: encode and decode of latents should take the same
//! time, in rows of 8 pixels as in rows of 4,096. See benches/README.md.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use common::{latents_encoder, picture_of_bytes};
use sirenc::{Channels, Decoder, Raster, Target, View};

/// Short sides, and the pixels of each picture.
const SIDES: [u32; 5] = [2, 8, 20, 64, 181];
const PIXELS: u32 = 1 << 15;
const STEPS: u32 = 60;
/// Runs of each, of which the shortest counts.
const RUNS: usize = 5;

/// Seconds of an encode and of a decode.
fn seconds(raster: &Raster) -> (f64, f64) {
    let encoder = latents_encoder(Target::Bpp(0.6), STEPS);
    let mut least = (f64::INFINITY, f64::INFINITY);
    for _ in 0..RUNS {
        let start = Instant::now();
        let file = encoder.encode(raster).unwrap().bytes;
        let encoded = start.elapsed().as_secs_f64();
        let start = Instant::now();
        Decoder::new(&file).unwrap().render(&View::native()).unwrap();
        least = (least.0.min(encoded), least.1.min(start.elapsed().as_secs_f64()));
    }
    least
}

fn main() {
    println!("time of a picture over that of its transpose, the wider one, {PIXELS} pixels\n");
    println!("{:>10} {:>8} {:>8}", "size", "encode", "decode");
    for side in SIDES {
        let other = PIXELS / side;
        let narrow = seconds(&picture_of_bytes(side, other, Channels::Rgb));
        let wide = seconds(&picture_of_bytes(other, side, Channels::Rgb));
        let size = format!("{side}x{other}");
        println!("{size:>10} {:>8.2} {:>8.2}", narrow.0 / wide.0, narrow.1 / wide.1);
    }
}
