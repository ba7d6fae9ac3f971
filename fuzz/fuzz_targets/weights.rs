//! Any bytes as weights in either coding: an error, or weights that are written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sirenc::coding::{compact, f16};
use sirenc::{Channels, Topology};

fuzz_target!(|bytes: &[u8]| {
    // The first bytes say what the header would.
    let [kind, features @ ..] = bytes else { return };
    let channels = Channels::from_count(usize::from(kind & 3) + 1).expect("one to four");
    let Some((features, payload)) = features.split_at_checked(usize::from(kind >> 3 & 15) + 1)
    else {
        return;
    };
    let hidden = features.iter().map(|&n| usize::from(n) + 1).collect();
    let topology = Topology::new(channels, hidden).expect("small");
    if topology.weight_count() > 1 << 9 {
        return;
    }
    if kind & 4 == 0 {
        if let Ok(siren) = f16::decode(&topology, payload) {
            assert_eq!(f16::encode(&siren), payload);
        }
    } else if let Ok(quantized) = compact::decode(&topology, payload)
        && topology.weight_count() < 1 << 6
    {
        let _ = compact::bits_by_layer(&quantized);
        let written = compact::encode(&quantized);
        let read = compact::decode(&topology, &written).expect("what was written is read");
        assert_eq!(compact::encode(&read), written);
    }
});
