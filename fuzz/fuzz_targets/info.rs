//! Any bytes as a `.siren` file: what `sirenc info` says of it, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sirenc_fuzz::open;

#[path = "../../src/cli/command.rs"]
mod command;
#[path = "../../src/cli/describe.rs"]
mod describe;
#[path = "../../src/cli/terminal.rs"]
mod terminal;

fuzz_target!(|bytes: &[u8]| {
    for decoder in open(bytes) {
        let description = describe::Description::new(&decoder, bytes.len(), "file".into());
        let description = description.expect("it has been opened");
        assert!(!description.text().chars().any(|c| c.is_control() && c != '\n'));
        assert!(description.json().is_object());
    }
});
