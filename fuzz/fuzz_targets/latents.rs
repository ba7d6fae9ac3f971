//! Any bytes as the payload of latents: latents or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sirenc::coding::payload::{self, Payload};
use sirenc::latents::Region;
use sirenc::{Channels, Size, Topology};
use sirenc_fuzz::on_this_thread;

fuzz_target!(|bytes: &[u8]| {
    on_this_thread();
    // The first bytes say what the header would.
    let [width, height, features, rest @ ..] = bytes else { return };
    let size = Size { width: 3 * u32::from(*width) + 1, height: 3 * u32::from(*height) + 1 };
    let channels = Channels::from_count(usize::from(features & 3) + 1).expect("one to four");
    let topology = Topology::new(channels, vec![usize::from(features >> 2) + 1]).expect("small");
    let Ok(payload) = Payload::read_prefix(rest.to_vec(), size, &topology) else { return };
    let part = Region { x: 0, y: 0, width: 1, height: 1 };
    let parts = vec![part; payload.levels()];
    let context = payload.networks().context.hidden();
    let little = |level: usize, needed: Option<&[Region]>| {
        let work = payload.latents(level, needed) as usize * context.0 * (21 + context.1);
        work < 1 << 14
    };
    if little(0, Some(&parts)) {
        let _ = payload.decode(0, Some(&parts));
    }
    let Some(first) = (0..payload.levels()).find(|&level| little(level, None)) else { return };
    let decoded = payload.decode(first, None);
    // What is whole and small is written again.
    if first == 0
        && payload.latents(0, None) < 1 << 5
        && Payload::read(rest.to_vec(), size, &topology).is_ok()
        && let Ok(planes) = decoded
    {
        let written = payload::encode(&planes, payload.networks());
        let read = Payload::read(written, size, &topology).expect("what was written is read");
        assert_eq!(read.decode(0, None), Ok(planes));
    }
});
