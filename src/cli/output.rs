//! Writing outputs: names, refusal to overwrite, and files that appear whole or not at
//! all.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Seek, Write};
use std::path::{self, Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Outcome, interrupt};

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

    /// Refuses a derived name that is taken, a directory that is not there, and a terminal.
    pub fn check(&self, force: bool) -> Result<()> {
        match self {
            Self::Derived(path) if !force && path.exists() => {
                bail!("{} exists; name it with -o or use --force", path.display())
            }
            Self::Stdout if io::stdout().is_terminal() => {
                bail!("binary data is not written to a terminal; use -o FILE or a pipe")
            }
            Self::Named(path) | Self::Derived(path) => match directory(path) {
                directory if directory.is_dir() => Ok(()),
                directory => bail!("there is no directory {}", directory.display()),
            },
            Self::Stdout => Ok(()),
        }
    }

    /// Has `produce` write to a temporary file, then puts it in its place in one step.
    pub fn write(&self, produce: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
        match self.path() {
            None => spool(produce, &mut io::stdout().lock()).context("cannot write to stdout"),
            Some(path) => write_file(path, produce)
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
            None if input == Path::new("-") => Ok(Destination::Stdout),
            _ => derived(input, directory, extension).map(Destination::Derived),
        };
        if let Some(key) = destination.as_ref().ok().and_then(key) {
            taken.entry(key).or_default().push(input);
        }
        destinations.push(destination.and_then(|d| not_the_input(input, d)));
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
    let stem = input.file_stem().filter(|_| input != Path::new("-"));
    let stem = stem.ok_or("stdin has no name to derive the output's from; use -o")?;
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

/// Prints to stdout in one piece.
pub(super) fn print(text: &[u8]) -> Result<Outcome> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).context("cannot write to stdout")?;
    Ok(Outcome::Success)
}

fn write_file(path: &Path, produce: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    // A rename would replace a link by a file, so follow it first.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if path.is_dir() {
        bail!("it is a directory");
    }
    if path.exists() && !path.is_file() {
        // A device or a pipe is written to, not replaced.
        return spool(produce, &mut OpenOptions::new().write(true).open(&path)?);
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".sirenc-").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary = interrupt::make_temporary(|| builder.tempfile_in(directory(&path)))?;
    let result = produce(temporary.as_file_mut()).and_then(|()| {
        temporary.as_file().sync_all()?;
        if let Ok(old) = fs::metadata(&path) {
            temporary.as_file().set_permissions(old.permissions())?;
        }
        temporary.persist(&path)?;
        Ok(())
    });
    interrupt::forget_temporary();
    result
}

/// The directory that a file is in.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Has `produce` write to an unnamed temporary file, then copies it.
fn spool(produce: impl FnOnce(&mut File) -> Result<()>, target: &mut impl Write) -> Result<()> {
    let mut temporary = tempfile::tempfile()?;
    produce(&mut temporary)?;
    temporary.rewind()?;
    io::copy(&mut temporary, target)?;
    target.flush()?;
    Ok(())
}
