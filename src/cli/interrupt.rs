//! Ctrl-C: the first one asks a training run to stop and keep its best network; a second
//! one, or one at any other time, ends the process and leaves no temporary file behind.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tempfile::NamedTempFile;

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
        // Held until the end: no other one is made.
        let temporary = TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = temporary.as_ref() {
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

/// Makes the temporary file that an interrupt must remove; none comes in between.
pub(super) fn make_temporary(
    make: impl FnOnce() -> io::Result<NamedTempFile>,
) -> io::Result<NamedTempFile> {
    let mut temporary = TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner);
    let file = make()?;
    *temporary = Some(file.path().to_owned());
    Ok(file)
}

/// The temporary file is renamed or gone.
pub(super) fn forget_temporary() {
    *TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner) = None;
}
