//! Encode time to fixed PSNRs: the time of the lowest effort that reaches each of them.
//! See benches/README.md.

use std::path::Path;

use sirenc::{Encoder, Preset, Raster, Samples, SirenOptions, Size};

/// dB.
const TARGETS: [f64; 4] = [24.0, 26.0, 28.0, 29.0];

fn main() {
    let picture = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let picture = picture.unwrap_or_else(|| "samples/coffee.png".into());
    let raster = read(Path::new(&picture));
    println!("{picture}, --preset coin-0.3");
    let mut targets = TARGETS.iter().peekable();
    for effort in 1..=9 {
        if targets.peek().is_none() {
            return;
        }
        let coin = SirenOptions::preset(Preset::Coin03);
        let encoded = Encoder::new().representation(coin).effort(effort).encode(&raster).unwrap();
        let seconds = encoded.elapsed.as_secs_f64();
        println!("  effort {effort}: {:.2} dB in {seconds:.1} s", encoded.psnr);
        while let Some(target) = targets.next_if(|&&target| encoded.psnr >= target) {
            println!("{target} dB: {seconds:.1} s");
        }
    }
}

fn read(path: &Path) -> Raster {
    let image = image::open(path).unwrap().into_rgb8();
    let size = Size { width: image.width(), height: image.height() };
    Raster::new(size, sirenc::Channels::Rgb, Samples::U8(image.into_raw())).unwrap()
}
