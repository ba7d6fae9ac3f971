//! Progress bars and messages on stderr; bars are silent where stderr is no terminal, and all but
//! errors where the user wants quiet.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::terminal::harmless;

static QUIET: AtomicBool = AtomicBool::new(false);

/// From now on, nothing but errors.
pub(super) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// A bar of `len` steps with a message and the time left.
pub(super) fn bar(name: &str, len: u64) -> ProgressBar {
    if QUIET.load(Ordering::Relaxed) {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(len);
    let style = "{prefix} {bar:30} {pos}/{len} {msg} {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
    bar.set_prefix(harmless(name));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// One line for people on stderr.
pub(super) fn message(text: &str) {
    if !QUIET.load(Ordering::Relaxed) {
        line(text);
    }
}

/// An error with its causes; a cause that the text before has already is not said again.
pub(super) fn chain(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.ends_with(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// An error, in one line.
pub(super) fn error(error: &anyhow::Error) {
    line(&format!("error: {}", chain(error)));
}

/// A line on stderr. A closed one loses it, which is its owner's wish.
pub(super) fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", harmless(text));
}
