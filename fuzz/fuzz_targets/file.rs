//! Any bytes as a `.siren` file: a thumbnail or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sirenc::{Decoder, Limits, RenderOptions, Scale, View};

fuzz_target!(|bytes: &[u8]| {
    let view = View { crop: None, scale: Scale::LongerSide(16) };
    let limits = Limits { max_pixels: 1 << 16, max_dimension: 1 << 16, max_latents: 1 << 17 };
    let options = RenderOptions { view, limits, ..Default::default() };
    let mut repaired = bytes.to_vec();
    repair(&mut repaired);
    for bytes in [bytes, &repaired] {
        for decoder in [Decoder::new(bytes), Decoder::truncated(bytes)].into_iter().flatten() {
            let _ = decoder.render(&options);
        }
    }
});

/// Puts the checksums right, as far as header and chunks can be told apart: no fuzzer finds a
/// CRC-32. `None` where the bytes end.
fn repair(bytes: &mut [u8]) -> Option<()> {
    // Signature, version, representation, weight coding, format bits.
    let format = *bytes.get(11)?;
    let mut at = 12;
    number(bytes, &mut at)?;
    number(bytes, &mut at)?;
    let layers = *bytes.get(at)?;
    at += 1;
    for _ in 0..if format & 0x20 == 0 { 1 } else { layers } {
        number(bytes, &mut at)?;
    }
    if format & 0x10 != 0 {
        at += 4;
    }
    let mut start = 0;
    loop {
        let crc = crc32fast::hash(bytes.get(start..at)?);
        bytes.get_mut(at..at + 4)?.copy_from_slice(&crc.to_le_bytes());
        start = at + 4;
        at = start + 4;
        let length = number(bytes, &mut at)?;
        at += length;
    }
}

/// A varint.
fn number(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(value)
}
