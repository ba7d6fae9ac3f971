//! Ctrl-C: the first one asks a training run to stop and keep its best network; a second
//! one, or one at any other time, ends the process and leaves no temporary file behind.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::EXIT_INTERRUPTED;

static TRAINING: AtomicBool = AtomicBool::new(false);
static REQUESTED: AtomicBool = AtomicBool::new(false);
static TEMPORARY: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Installs the handler for SIGINT, SIGTERM and SIGHUP (Ctrl-C and close on Windows).
pub(super) fn install() {
    let installed = ctrlc::set_handler(|| {
        let first = !REQUESTED.swap(true, Ordering::SeqCst);
        if first && TRAINING.load(Ordering::SeqCst) {
            return;
        }
        if let Ok(temporary) = TEMPORARY.lock()
            && let Some(path) = temporary.as_ref()
        {
            // The process ends either way.
            let _ = std::fs::remove_file(path);
        }
        std::process::exit(EXIT_INTERRUPTED.into());
    });
    if let Err(error) = installed {
        super::progress::message(&format!("warning: Ctrl-C will not keep results: {error}"));
    }
}

/// Whether an interrupt has been asked for.
#[cfg(feature = "encode")]
pub(super) fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// Marks a span in which the first interrupt only sets [`requested`].
#[cfg(feature = "encode")]
pub(super) struct TrainingSpan(());

#[cfg(feature = "encode")]
impl TrainingSpan {
    pub fn begin() -> Self {
        TRAINING.store(true, Ordering::SeqCst);
        Self(())
    }
}

#[cfg(feature = "encode")]
impl Drop for TrainingSpan {
    fn drop(&mut self) {
        TRAINING.store(false, Ordering::SeqCst);
    }
}

/// Names the temporary file that an interrupt must remove; `None` once it is renamed.
pub(super) fn set_temporary(path: Option<&Path>) {
    if let Ok(mut temporary) = TEMPORARY.lock() {
        *temporary = path.map(Path::to_owned);
    }
}
