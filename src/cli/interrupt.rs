//! Ctrl-C and the other signals that end a process: the first Ctrl-C asks a training run to stop and
//! keep its best network; a second one, one at any other time, or another signal ends the process and
//! leaves no temporary file behind.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

use super::EXIT_INTERRUPTED;

static TRAINING: AtomicBool = AtomicBool::new(false);
static REQUESTED: AtomicBool = AtomicBool::new(false);
/// One file is written at a time: a checkpoint before the output, a texture before its shader.
static TEMPORARY: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Installs the handlers.
pub(super) fn install() {
    if let Err(error) = listen() {
        super::progress::message(&format!("warning: Ctrl-C will not keep results: {error}"));
    }
}

/// SIGINT, SIGTERM and SIGHUP ask for the end, the other signals are it.
#[cfg(unix)]
fn listen() -> io::Result<()> {
    use signal_hook::consts::{
        SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ,
    };
    // A handler that does nothing: a file that grows beyond `ulimit -f` is an error of its write.
    signal_hook::flag::register(SIGXFSZ, std::sync::Arc::default())?;
    let ignored = ignored();
    let others = [SIGHUP, SIGALRM, SIGQUIT, SIGUSR1, SIGUSR2, SIGXCPU];
    let others = others.into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = signal_hook::iterator::Signals::new(others.chain([SIGINT, SIGTERM]))?;
    let handle = move || {
        for signal in signals.forever() {
            if matches!(signal, SIGINT | SIGTERM | SIGHUP) {
                interrupted();
                continue;
            }
            let _no_other = remove_temporary();
            // Does not come back.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    };
    std::thread::Builder::new().spawn(handle).map(drop)
}

/// Ctrl-C and the console's close.
#[cfg(not(unix))]
fn listen() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(interrupted)
}

/// The signals that the parent process has had ignored, as nohup does, one bit each: they stay so.
/// There is no safe way to ask other systems than Linux.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn interrupted() {
    let first = !REQUESTED.swap(true, Ordering::SeqCst);
    if first && TRAINING.load(Ordering::SeqCst) {
        return;
    }
    let _no_other = remove_temporary();
    std::process::exit(EXIT_INTERRUPTED.into());
}

/// Removes the temporary file; while the guard is held, no other one is made.
fn remove_temporary() -> MutexGuard<'static, Option<PathBuf>> {
    let temporary = TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = temporary.as_ref() {
        // The process ends either way.
        let _ = std::fs::remove_file(path);
    }
    temporary
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
