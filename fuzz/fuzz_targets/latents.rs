//! Any bytes as the payload of latents: latents or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sirenc::coding::latents::Context;
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
    let planes = payload.bases().count();
    let parts = vec![part; planes];
    let networks = payload.networks();
    let models = [&networks.splines].into_iter().chain(&networks.waves);
    let of_latent = models.map(Context::operations).max().expect("a model");
    let little = |plane: usize, needed: Option<&[Region]>| {
        payload.latents(plane, needed) * of_latent < 1 << 14
    };
    if little(0, Some(&parts)) {
        let _ = payload.decode(0, Some(&parts));
    }
    let Some(first) = (0..planes).find(|&plane| little(plane, None)) else { return };
    let decoded = payload.decode(first, None);
    // What is whole and small is written again.
    if first == 0
        && payload.latents(0, None) < 1 << 8
        && Payload::read(rest.to_vec(), size, &topology).is_ok()
        && let Ok(planes) = decoded
    {
        let written = payload::encode(&planes, payload.networks());
        let read = Payload::read(written, size, &topology).expect("what was written is read");
        assert_eq!(read.decode(0, None), Ok(planes));
    }
});
