//! Any bytes as a `.siren` file: a thumbnail and a sample, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sirenc_fuzz::{on_this_thread, open, small};

fuzz_target!(|bytes: &[u8]| {
    on_this_thread();
    for decoder in open(bytes) {
        let _ = decoder.render(&small());
        let _ = decoder.sample(0.5, 1e9);
    }
});
