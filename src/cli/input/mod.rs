//! Reading inputs: names, bytes and `.siren` files are here, pictures in `picture`; a file a format
//! reads what there is beside the pixels.

mod bitmap;
mod jpeg;
mod picture;
mod png;
mod scan;
mod tiff;
pub(super) mod told;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sirenc::Decoder;
use sirenc::container::SIGNATURE;

use super::metadata;
#[cfg(feature = "encode")]
pub(super) use picture::picture;
pub(super) use picture::picture_from;

/// Bytes that an input may have, and memory that decoding a picture may take.
const MAX_INPUT_BYTES: u64 = 4 << 30;

/// An input in messages.
pub(super) fn name(path: &Path) -> String {
    if path == Path::new("-") { "stdin".into() } else { path.display().to_string() }
}

/// Whether an input is stdin or another stream, as of a shell's `<(...)`: it has no name that an
/// output's could follow from, even where a file is behind it.
pub(super) fn is_stream(path: &Path) -> bool {
    ["-", "/dev/stdin"].map(Path::new).contains(&path)
        || ["/dev/fd", "/proc"].iter().any(|directory| path.starts_with(directory))
        || fs::metadata(path).is_ok_and(|found| !found.is_file())
}

/// The bytes of a file, or of stdin for `-`; never none.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>> {
    read(path, |_| true)
}

/// The bytes of what should be a `.siren` file; no more than the first few of one that is none.
pub(super) fn siren_bytes(path: &Path) -> Result<Vec<u8>> {
    read(path, is_siren)
}

/// The bytes of a file or of stdin, if the first ones are those of a file to `go_on` with.
fn read(path: &Path, go_on: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
    let name = name(path);
    let cannot_read = || format!("cannot read {name}");
    let mut file: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin().lock()),
        _ if path.is_dir() => bail!("{name} is a directory"),
        _ => Box::new(fs::File::open(path).with_context(cannot_read)?),
    };
    let mut bytes = Vec::new();
    let mut first = file.by_ref().take(SIGNATURE.len() as u64);
    first.read_to_end(&mut bytes).with_context(cannot_read)?;
    if bytes.is_empty() {
        bail!("{name} is empty");
    }
    if go_on(&bytes) {
        file.take(MAX_INPUT_BYTES).read_to_end(&mut bytes).with_context(cannot_read)?;
        if bytes.len() as u64 > MAX_INPUT_BYTES {
            bail!("{name} has more than {MAX_INPUT_BYTES} bytes");
        }
    }
    Ok(bytes)
}

/// Opens a `.siren` file.
pub(super) fn siren(path: &Path) -> Result<Decoder> {
    siren_from(path, &siren_bytes(path)?)
}

/// Opens the bytes of a `.siren` file; `path` is for messages.
pub(super) fn siren_from(path: &Path, bytes: &[u8]) -> Result<Decoder> {
    Decoder::new(bytes).with_context(|| path.display().to_string())
}

/// Whether the bytes are meant to be a `.siren` file.
pub(super) fn is_siren(bytes: &[u8]) -> bool {
    bytes.starts_with(&SIGNATURE)
}

/// Inputs with every directory replaced by the files in it that `wanted` accepts, in
/// the order of their names; for what is not there, why.
pub(super) fn expand(
    inputs: &[PathBuf],
    wanted: impl Fn(&Path) -> bool,
) -> Vec<(PathBuf, Result<(), String>)> {
    let mut files = Vec::new();
    for input in inputs {
        if input.is_dir() {
            match files_in(input, &wanted) {
                Ok(found) => files.extend(found.into_iter().map(|file| (file, Ok(())))),
                Err(error) => files.push((input.clone(), Err(format!("{error:#}")))),
            }
            continue;
        }
        let hint = match inputs {
            _ if metadata::is_kind(input) => " (kinds of metadata follow `=`, as in --strip=exif)",
            [_, last] if last == input => " (an output is named with -o)",
            _ => "",
        };
        let found = match fs::metadata(input) {
            Err(error) if input != Path::new("-") => {
                Err(format!("cannot read {}{hint}: {error}", input.display()))
            }
            _ => Ok(()),
        };
        files.push((input.clone(), found));
    }
    files
}

fn files_in(directory: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot read {}", directory.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let is_hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        if path.is_file() && !is_hidden && wanted(&path) {
            found.push(path);
        }
    }
    if found.is_empty() {
        bail!("no suitable files in {}", directory.display());
    }
    found.sort();
    Ok(found)
}

/// Whether a name's extension is one of a picture format that can be read.
#[cfg(feature = "encode")]
pub(super) fn has_picture_extension(path: &Path) -> bool {
    image::ImageFormat::from_path(path).is_ok_and(|format| format.reading_enabled())
}

/// Whether a name's extension is `siren`.
pub(super) fn has_siren_extension(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("siren"))
}
