//! Any bytes as a container: an error, or what is written to the same bytes again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sirenc::container::Container;
use sirenc_fuzz::repaired;

fuzz_target!(|bytes: &[u8]| {
    let _ = Container::read(bytes);
    let Ok(container) = Container::read(&repaired(bytes)) else { return };
    assert_eq!(Container::read(&container.write()), Ok(container));
});
