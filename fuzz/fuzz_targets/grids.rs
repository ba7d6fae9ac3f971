//! Any bytes as the payload of latent grids: latents or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sirenc::coding::grids::Payload;
use sirenc::grids::Region;
use sirenc::{Channels, Size, Topology};

fuzz_target!(|bytes: &[u8]| {
    // The first bytes say what the header would.
    let [width, height, features, rest @ ..] = bytes else { return };
    let size = Size { width: 3 * u32::from(*width) + 1, height: 3 * u32::from(*height) + 1 };
    let channels = Channels::from_count(usize::from(features & 3) + 1).expect("one to four");
    let topology = Topology::new(channels, vec![usize::from(features >> 2) + 1]).expect("small");
    let _ = Payload::read(rest.to_vec(), size, &topology);
    let Ok(payload) = Payload::read_prefix(rest.to_vec(), size, &topology) else { return };
    let part = Region { x: 0, y: 0, width: 1, height: 1 };
    for level in 0..payload.levels() {
        let _ = payload.decode(level, None, 1 << 18);
        let _ = payload.decode(level, Some(&vec![part; payload.levels()]), 1 << 18);
    }
});
