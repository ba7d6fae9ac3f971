//! Progress bars and messages on stderr; bars are silent where stderr is no terminal.

use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `len` steps with a message and the time left.
pub(super) fn bar(name: &str, len: u64) -> ProgressBar {
    let bar = ProgressBar::new(len);
    let style = "{prefix} {bar:30} {pos}/{len} {msg} {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
    bar.set_prefix(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// One line for people on stderr. A closed stderr loses it, which is its owner's wish.
pub(super) fn message(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
