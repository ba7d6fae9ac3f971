//! What the targets share.

use std::sync::Once;

use sirenc::{Decoder, Limits, View};

/// What a target allows, so that an execution takes a fraction of a millisecond.
pub const LIMITS: Limits = Limits::NONE
    .max_pixels(1 << 9)
    .max_dimension(1 << 9)
    .max_weights(1 << 10)
    .max_memory(1 << 22)
    .max_operations(1 << 16);

/// Lets the decoder work on the thread that the fuzzer is on, which takes no hand-over.
pub fn on_this_thread() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let builder = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
        builder.build_global().expect("the first pool");
    });
}

/// Opens bytes as they are and with their checksums put right, whole and as a cut file.
pub fn open(bytes: &[u8]) -> impl Iterator<Item = Decoder> {
    let opened =
        |bytes: &[u8]| [Decoder::with_limits(bytes, LIMITS), Decoder::truncated(bytes, LIMITS)];
    [opened(bytes), opened(&repaired(bytes))].into_iter().flatten().flatten()
}

/// A thumbnail.
pub fn small() -> View {
    View::fit(4)
}

/// The bytes with their checksums put right, as far as header and chunks can be told apart: no
/// fuzzer finds a CRC-32.
pub fn repaired(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    repair(&mut bytes);
    bytes
}

/// `None` where the bytes end.
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
