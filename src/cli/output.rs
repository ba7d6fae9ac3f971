//! Writing outputs: names, refusal to overwrite, and files that appear whole or not at
//! all.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Seek, SeekFrom, Write};
use std::path::{self, Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use tempfile::{PersistError, SpooledTempFile};

use super::{Outcome, input, interrupt};

/// What a result is written to.
pub(super) trait Sink: Write + Seek {}

impl<T: Write + Seek> Sink for T {}

/// Where results go.
pub(super) enum Destination {
    /// stdout.
    Stdout,
    /// A file that the user named: overwritten.
    Named(PathBuf),
    /// A file whose name follows from the input's: overwritten with `--force` only.
    Derived(PathBuf),
}

impl Destination {
    /// The file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Stdout => None,
            Self::Named(path) | Self::Derived(path) => Some(path),
        }
    }

    /// For messages.
    pub fn name(&self) -> String {
        self.path().map_or("stdout".into(), |path| path.display().to_string())
    }

    /// Refuses, before any work is done, a derived name that is taken, what cannot be written, and a
    /// terminal.
    pub fn check(&self, force: bool) -> Result<()> {
        match self {
            // A link that leads nowhere is something too.
            Self::Derived(path) if !force && path.symlink_metadata().is_ok() => {
                bail!("{} exists; name it with -o or use --force", path.display())
            }
            Self::Stdout if io::stdout().is_terminal() => {
                bail!("binary data is not written to a terminal; use -o FILE or a pipe")
            }
            Self::Stdout => stdout().map(drop),
            Self::Named(path) | Self::Derived(path) => {
                check_file(path).with_context(|| format!("cannot write {}", path.display()))
            }
        }
    }

    /// Has `produce` write to a temporary file, then puts it in its place in one step, with this
    /// modification time; returns the number of bytes.
    pub fn write(
        &self,
        modified: Option<SystemTime>,
        produce: impl FnOnce(&mut dyn Sink) -> Result<()>,
    ) -> Result<u64> {
        match self.path() {
            None => spool(produce, stdout).context("cannot write to stdout"),
            Some(path) => write_file(path, modified, produce)
                .with_context(|| format!("cannot write {}", path.display())),
        }
    }
}

/// Whether a path is a directory, or is to be one.
pub(super) fn names_directory(path: &Path) -> bool {
    path.is_dir() || path.to_string_lossy().ends_with(std::path::MAIN_SEPARATOR)
}

/// One destination for each input, or why there is none. `-o` may name a file for one input, a
/// directory for any number, or stdout.
pub(super) fn destinations(
    inputs: &[&Path],
    output: Option<&Path>,
    several: bool,
    extension: &str,
) -> Result<Vec<Result<Destination, String>>> {
    let directory = output.filter(|o| several || names_directory(o));
    if let Some(directory) = directory {
        if directory == Path::new("-") {
            bail!("several outputs do not fit on stdout; -o must name a directory");
        }
        if !names_directory(directory) && directory.extension().is_some_and(|e| e == extension) {
            bail!("{} would be a directory; -o names one for several inputs", directory.display());
        }
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make directory {}", directory.display()))?;
    }
    let mut taken: HashMap<PathBuf, Vec<&Path>> = HashMap::new();
    let mut destinations = Vec::new();
    for &input in inputs {
        let destination = match output {
            Some(path) if directory.is_none() && path == Path::new("-") => Ok(Destination::Stdout),
            Some(path) if directory.is_none() => Ok(Destination::Named(path.to_owned())),
            None if input::is_stream(input) => Ok(Destination::Stdout),
            _ => derived(input, directory, extension).map(Destination::Derived),
        };
        if let Some(key) = destination.as_ref().ok().and_then(key) {
            taken.entry(key).or_default().push(input);
        }
        destinations.push(destination.and_then(|d| not_the_input(input, d)));
    }
    let on_stdout = destinations.iter().filter(|d| matches!(d, Ok(Destination::Stdout)));
    if on_stdout.count() > 1 {
        bail!("several outputs do not fit on stdout; give each its own -o");
    }
    for destination in &mut destinations {
        let Ok(file) = destination else { continue };
        let same = key(file).and_then(|key| taken.get(&key)).filter(|inputs| inputs.len() > 1);
        if let Some(inputs) = same {
            let names: Vec<String> = inputs.iter().map(|i| i.display().to_string()).collect();
            let (names, file) = (names.join(" and "), file.name());
            *destination =
                Err(format!("{names} would be written to one file, {file}; give each its own -o"));
        }
    }
    Ok(destinations)
}

/// What two destinations of one file have in common.
pub(super) fn key(destination: &Destination) -> Option<PathBuf> {
    path::absolute(destination.path()?).ok()
}

/// The output's name by that of the input.
fn derived(input: &Path, directory: Option<&Path>, extension: &str) -> Result<PathBuf, String> {
    let stem = input.file_stem().filter(|_| !input::is_stream(input));
    let stem = stem.ok_or_else(|| {
        let input = input::name(input);
        format!("{input} has no name to derive the output's from; name a file with -o")
    })?;
    let mut name = stem.to_owned();
    name.push(".");
    name.push(extension);
    Ok(match directory {
        Some(directory) => directory.join(name),
        None => input.with_file_name(name),
    })
}

fn not_the_input(input: &Path, destination: Destination) -> Result<Destination, String> {
    match (fs::canonicalize(input), destination.path().map(fs::canonicalize)) {
        (Ok(a), Some(Ok(b))) if a == b && a.is_file() => {
            Err(format!("{} is the input; name another output with -o", input.display()))
        }
        _ => Ok(destination),
    }
}

/// Prints to stdout in one piece. A reader that has gone has seen enough, which is no failure.
pub(super) fn print(text: &[u8]) -> Result<Outcome> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to stdout")
        }
        _ => Ok(Outcome::Success),
    }
}

/// stdout for other things than text.
#[cfg(unix)]
fn stdout() -> Result<impl Write> {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;
    let mut stdout = fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
    // Where stdout is closed, Rust opens the null device in its place, to read and to write; that of
    // `> /dev/null` cannot be read.
    let null = fs::metadata("/dev/null").map(|null| null.rdev());
    if null.is_ok_and(|null| stdout.metadata().is_ok_and(|stdout| stdout.rdev() == null))
        && stdout.read(&mut [0]).is_ok()
    {
        bail!("stdout is closed; name an output with -o");
    }
    Ok(stdout)
}

#[cfg(not(unix))]
fn stdout() -> Result<impl Write> {
    Ok(io::stdout().lock())
}

/// The file that is to be replaced; none for a device or a pipe, which is written to.
fn file_behind(path: &Path) -> Result<Option<PathBuf>> {
    if names_directory(path) {
        bail!("it is a directory");
    }
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Ok(None),
        // A rename would replace a link by a file, so it is followed.
        Ok(_) => Ok(Some(fs::canonicalize(path)?)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            let mut path = path.to_owned();
            while let Ok(target) = fs::read_link(&path) {
                path = directory(&path).join(target);
            }
            Ok(Some(path))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether a file can be made or replaced. What is there is not changed, a pipe or a device not
/// opened: that would wait for its reader.
fn check_file(path: &Path) -> Result<()> {
    let Some(path) = file_behind(path)? else { return Ok(()) };
    let directory = directory(&path);
    if !directory.is_dir() {
        bail!("there is no directory {}", directory.display());
    }
    if path.exists() {
        // Its protection is respected, although a rename would not need to.
        OpenOptions::new().append(true).open(&path)?;
    }
    // Without a name.
    tempfile::tempfile_in(directory)?;
    Ok(())
}

fn write_file(
    path: &Path,
    modified: Option<SystemTime>,
    produce: impl FnOnce(&mut dyn Sink) -> Result<()>,
) -> Result<u64> {
    let Some(path) = file_behind(path)? else {
        return spool(produce, || Ok(OpenOptions::new().write(true).open(path)?));
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".sirenc-").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary = interrupt::make_temporary(|| builder.tempfile_in(directory(&path)))?;
    let result = produce(temporary.as_file_mut()).and_then(|()| {
        let file = temporary.as_file();
        if let Some(modified) = modified {
            file.set_modified(modified)?;
        }
        file.sync_all()?;
        if let Ok(old) = fs::metadata(&path) {
            file.set_permissions(old.permissions())?;
        }
        let bytes = file.metadata()?.len();
        if let Err(PersistError { error, mut file }) = temporary.persist(&path) {
            // A mount point, as containers have, and another's file in a directory like /tmp can be
            // written to, but not replaced.
            if !matches!(error.kind(), ErrorKind::ResourceBusy | ErrorKind::PermissionDenied) {
                return Err(error.into());
            }
            let target = OpenOptions::new().write(true).truncate(true).open(&path);
            let mut target = target.map_err(|_| error)?;
            file.rewind()?;
            io::copy(&mut file, &mut target)?;
            if let Some(modified) = modified {
                target.set_modified(modified)?;
            }
            target.sync_all()?;
        }
        Ok(bytes)
    });
    interrupt::forget_temporary();
    result
}

/// The directory that a file is in.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Has `produce` write all of it, then copies it to what cannot be taken back.
fn spool<W: Write>(
    produce: impl FnOnce(&mut dyn Sink) -> Result<()>,
    target: impl FnOnce() -> Result<W>,
) -> Result<u64> {
    let mut target = target()?;
    let mut spool = SpooledTempFile::new(usize::MAX);
    // Where no temporary file can be made, memory must do.
    let _ = spool.roll();
    produce(&mut spool).map_err(|error| {
        let of_file = spool.is_rolled() && error.chain().any(|cause| cause.is::<io::Error>());
        let place = std::env::temp_dir();
        let place = format!("temporary directory {}", place.display());
        if of_file { error.context(place) } else { error }
    })?;
    let bytes = spool.seek(SeekFrom::End(0))?;
    spool.rewind()?;
    match io::copy(&mut spool, &mut target).and_then(|_| target.flush()) {
        // A reader that has seen enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(bytes),
    }
}
