//! `sirenc edit`: other metadata for a `.siren` file. The picture stays as it is, byte for byte.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Args};
use sirenc::container::{Cicp, Metadata, replace_metadata};

use super::batch::{self, Done, Facts, Flags};
use super::input::told::MAX_METADATA_BYTES;
use super::metadata::{self, Kind};
use super::output::Destination;
use super::{Outcome, input, progress};

#[derive(Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true)))]
#[command(group(ArgGroup::new("to").required(true)))]
pub(super) struct Options {
    /// .siren files; `-` is stdin; a directory stands for the .siren files in it
    #[arg(required = true, value_name = "IN")]
    inputs: Vec<PathBuf>,
    /// Output file, or directory for several inputs; `-` is stdout
    #[arg(short, long, value_name = "OUT", group = "to")]
    output: Option<PathBuf>,
    /// Replace the inputs themselves
    #[arg(long, conflicts_with = "skip_existing", group = "to")]
    in_place: bool,
    /// Take out metadata: these kinds, or all of them
    #[arg(long, value_name = "KIND,...", num_args = 0..=1, require_equals = true,
        value_delimiter = ',', group = "change")]
    strip: Option<Vec<Kind>>,
    /// Store this ICC profile
    #[arg(long, value_name = "FILE", group = "change")]
    icc: Option<PathBuf>,
    /// Store this EXIF block, which begins with its TIFF header; the orientation is reset
    #[arg(long, value_name = "FILE", group = "change")]
    exif: Option<PathBuf>,
    /// Store this XMP packet; the orientation is reset
    #[arg(long, value_name = "FILE", group = "change")]
    xmp: Option<PathBuf>,
    /// Store these code points of ITU-T H.273: colour primaries, transfer characteristics, matrix
    /// (0) and full range (0 or 1)
    #[arg(long, value_name = "P,T,M,R", value_parser = parse_cicp, group = "change")]
    cicp: Option<Cicp>,
    #[command(flatten)]
    flags: Flags,
}

pub(super) fn run(options: &Options) -> Result<Outcome> {
    let added = added(options)?;
    let flags = &options.flags;
    let wanted = input::has_siren_extension;
    let output = options.output.as_deref();
    let jobs = match options.in_place {
        true => batch::jobs_in_place(&options.inputs, wanted, flags)?,
        false => batch::jobs(&options.inputs, wanted, output, "siren", flags)?,
    };
    batch::run(&jobs, flags, |input, destination, facts| {
        edit_one(input, destination, options, &added, facts)?;
        Ok(Done::Written)
    })
}

fn edit_one(
    input: &Path,
    destination: &Destination,
    options: &Options,
    added: &Metadata,
    facts: &mut Facts,
) -> Result<()> {
    let bytes = input::siren_bytes(input)?;
    let decoder = input::siren_from(input, &bytes)?;
    facts.picture(decoder.size(), decoder.channels(), decoder.depth());
    facts.representation(decoder.container().representation);
    if let Some(icc) = &added.icc
        && metadata::colours_of_profile(icc) != Some(decoder.channels().colour_count())
    {
        let (input, channels) = (input.display(), decoder.channels());
        bail!("{input}: the ICC profile is for other colours than the picture's, {channels}");
    }
    let mut metadata = decoder.metadata().clone();
    if let Some(kinds) = &options.strip {
        metadata::strip(&mut metadata, kinds);
    }
    let Metadata { icc, cicp, exif, xmp, settings: _ } = added.clone();
    metadata.icc = icc.or(metadata.icc);
    metadata.cicp = cicp.or(metadata.cicp);
    metadata.exif = exif.or(metadata.exif);
    metadata.xmp = xmp.or(metadata.xmp);
    if added.icc.is_some() && metadata.cicp.is_some() {
        let input = input.display();
        progress::message(&format!(
            "warning: {input}: its cICP takes precedence over the ICC profile; --strip=cicp takes it out"
        ));
    }
    let edited = replace_metadata(&bytes, &metadata)?;
    options.flags.write(destination, facts, |file| Ok(file.write_all(&edited)?))
}

/// What the options add.
fn added(options: &Options) -> Result<Metadata> {
    let read = |path: &Option<PathBuf>| -> Result<Option<(PathBuf, Vec<u8>)>> {
        let Some(path) = path else { return Ok(None) };
        let (name, mut bytes) = (path.display(), Vec::new());
        let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
        let read = file.take(MAX_METADATA_BYTES as u64 + 1).read_to_end(&mut bytes);
        if read.with_context(|| format!("cannot read {name}"))? > MAX_METADATA_BYTES {
            let most = MAX_METADATA_BYTES >> 20;
            bail!("{name} is too large for metadata: it has more than {most} MiB");
        }
        Ok(Some((path.clone(), bytes)))
    };
    let mut metadata = Metadata { cicp: options.cicp, ..Metadata::default() };
    if let Some((path, profile)) = read(&options.icc)? {
        // The signature of ISO 15076-1, section 7.2.9.
        if profile.get(36..40) != Some(b"acsp") {
            bail!("{} is not an ICC profile", path.display());
        }
        metadata.icc = Some(profile);
    }
    if let Some((path, exif)) = read(&options.exif)? {
        let exif = exif.strip_prefix(input::told::EXIF_OF_JPEG).unwrap_or(&exif);
        if !exif.starts_with(b"II*\0") && !exif.starts_with(b"MM\0*") {
            bail!("{} is not EXIF: it must begin with a TIFF header", path.display());
        }
        metadata.exif = Some(exif.to_vec());
    }
    if let Some((path, xmp)) = read(&options.xmp)? {
        if std::str::from_utf8(&xmp).is_err() {
            bail!("{} is not XMP: it must be UTF-8", path.display());
        }
        metadata.xmp = Some(xmp);
    }
    metadata::make_upright(&mut metadata);
    Ok(metadata)
}

fn parse_cicp(text: &str) -> Result<Cicp, String> {
    let numbers: Result<Vec<u8>, _> = text.split(',').map(|n| n.trim().parse::<u8>()).collect();
    match numbers.as_deref() {
        Ok(&[primaries, transfer, matrix @ 0, full_range @ (0 | 1)]) => {
            Ok(Cicp { primaries, transfer, matrix, full_range })
        }
        _ => Err("give P,T,0,1 (or P,T,0,0), as 12,13,0,1 for Display P3".into()),
    }
}
