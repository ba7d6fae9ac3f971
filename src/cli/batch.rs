//! Batches: from the inputs on the command line to one job a file, and the run over the jobs:
//! what fails, what is left out, what is reported, how it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use anyhow::{Result, anyhow, bail};
use clap::Args;
use serde_json::json;
use sirenc::container::Representation;
use sirenc::{BitDepth, Channels, Size};

use super::output::{Destination, Sink, destinations, print};
use super::{Outcome, input, progress};

/// What all commands that write a file for each input have in common.
#[derive(Args)]
pub(super) struct Flags {
    /// Overwrite files that were not named with -o
    #[arg(long)]
    force: bool,
    /// Leave out inputs whose output exists already
    #[arg(long, conflicts_with = "force")]
    skip_existing: bool,
    /// Go on with the next input when one fails
    #[arg(long)]
    keep_going: bool,
    /// Give outputs the modification time of their inputs
    #[arg(long)]
    preserve: bool,
    /// Print a record for each input on stdout, one JSON object a line
    #[arg(long)]
    json: bool,
}

/// An input and where its result goes, or why there will be none.
pub(super) struct Job {
    input: PathBuf,
    destination: Result<Destination, String>,
}

/// What became of one input.
#[cfg_attr(not(feature = "encode"), expect(dead_code))]
pub(super) enum Done {
    Written,
    /// Interrupted; there was a result and it was written.
    WrittenEarly,
    Interrupted,
}

/// What is known of a file; a record tells it.
#[derive(Default)]
pub(super) struct Facts {
    /// Of the input, where the output is to have it.
    modified: Option<SystemTime>,
    size: Option<Size>,
    channels: Option<Channels>,
    depth: Option<BitDepth>,
    representation: Option<Representation>,
    bytes: Option<u64>,
    /// In dB, of an encoded picture.
    pub psnr: Option<f64>,
    /// Of a training.
    pub steps: Option<u32>,
    /// Whether a training ended before its last step.
    pub stopped_early: Option<bool>,
}

impl Facts {
    /// The picture that is written.
    pub fn picture(&mut self, size: Size, channels: Channels, depth: BitDepth) {
        (self.size, self.channels, self.depth) = (Some(size), Some(channels), Some(depth));
    }

    /// How the `.siren` file represents it.
    pub fn representation(&mut self, representation: Representation) {
        self.representation = Some(representation);
    }
}

/// What is told of an input once it is done with.
struct Record<'a> {
    input: &'a Path,
    output: Option<&'a Path>,
    status: &'a str,
    error: Option<&'a str>,
    facts: Facts,
    seconds: Option<f64>,
}

impl<'a> Record<'a> {
    fn new(input: &'a Path, status: &'a str) -> Self {
        let facts = Facts::default();
        Self { input, output: None, status, error: None, facts, seconds: None }
    }
}

impl Flags {
    /// Before any work is done, refuses what [`Destination::check`] refuses and keeps what the input
    /// may no longer have at the end.
    fn check(&self, input: &Path, destination: &Destination, facts: &mut Facts) -> Result<()> {
        destination.check(self.force)?;
        if self.preserve {
            if input::is_stream(input) {
                bail!("{} has no time that --preserve could keep", input::name(input));
            }
            facts.modified = Some(fs::metadata(input)?.modified()?);
        }
        Ok(())
    }

    /// Writes a result.
    pub fn write(
        &self,
        destination: &Destination,
        facts: &mut Facts,
        produce: impl FnOnce(&mut dyn Sink) -> Result<()>,
    ) -> Result<()> {
        facts.bytes = Some(destination.write(facts.modified, produce)?);
        Ok(())
    }

    /// Ends the run before any work is done, unless it may go on without the inputs that cannot
    /// be done.
    fn refuse<'a>(&self, failed: impl Iterator<Item = (&'a Path, &'a String)>) -> Result<()> {
        if self.keep_going {
            return Ok(());
        }
        let mut first = None;
        for (input, error) in failed {
            self.record(&Record { error: Some(error), ..Record::new(input, "failed") })?;
            first = first.or(Some(error));
        }
        first.map_or(Ok(()), |error| Err(anyhow!(error.clone())))
    }

    /// Prints a record, if records are wanted.
    fn record(&self, record: &Record) -> Result<()> {
        if !self.json {
            return Ok(());
        }
        let Record { input, output, status, error, ref facts, seconds } = *record;
        let bits = |size: Size| Some(8.0 * facts.bytes? as f64 / size.pixels() as f64);
        let record = json!({
            "schema": 1,
            "input": input.display().to_string(),
            "output": output.map(|path| path.display().to_string()),
            "status": status,
            "error": error,
            "width": facts.size.map(|size| size.width),
            "height": facts.size.map(|size| size.height),
            "channels": facts.channels.map(Channels::count),
            "bit_depth": facts.depth.map(BitDepth::bits),
            "representation": facts.representation.map(|r| r.to_string()),
            "bytes": facts.bytes,
            "bpp": facts.size.and_then(bits),
            // JSON has no infinity: the PSNR of equal pictures is null.
            "psnr": facts.psnr.filter(|psnr| psnr.is_finite()),
            "steps": facts.steps,
            "stopped_early": facts.stopped_early,
            "seconds": seconds,
        });
        print(format!("{record}\n").as_bytes())?;
        Ok(())
    }
}

/// A job for each input, where every directory stands for the files in it that `wanted` accepts.
pub(super) fn jobs(
    inputs: &[PathBuf],
    wanted: impl Fn(&Path) -> bool,
    output: Option<&Path>,
    extension: &str,
    flags: &Flags,
) -> Result<Vec<Job>> {
    let several = inputs.len() > 1 || inputs.iter().any(|input| input.is_dir());
    jobs_to(inputs, wanted, flags, |found| destinations(found, output, several, extension))
}

/// The same, where every file is replaced.
pub(super) fn jobs_in_place(
    inputs: &[PathBuf],
    wanted: impl Fn(&Path) -> bool,
    flags: &Flags,
) -> Result<Vec<Job>> {
    let in_place = |input: &&Path| match input::is_stream(input) {
        true => Err(format!("{} cannot be edited in place; use -o", input::name(input))),
        false => Ok(Destination::Named(input.to_path_buf())),
    };
    jobs_to(inputs, wanted, flags, |found| Ok(found.iter().map(in_place).collect()))
}

fn jobs_to(
    inputs: &[PathBuf],
    wanted: impl Fn(&Path) -> bool,
    flags: &Flags,
    destinations: impl FnOnce(&[&Path]) -> Result<Vec<Result<Destination, String>>>,
) -> Result<Vec<Job>> {
    let files = input::expand(inputs, wanted);
    flags
        .refuse(files.iter().filter_map(|(path, found)| Some((&**path, found.as_ref().err()?))))?;
    let found: Vec<&Path> =
        files.iter().filter(|(_, found)| found.is_ok()).map(|(path, _)| &**path).collect();
    let destinations = destinations(&found)?;
    if destinations.iter().any(|d| matches!(d, Ok(Destination::Stdout))) {
        if flags.json {
            bail!("--json prints to stdout; name an output with -o");
        }
        if flags.preserve {
            bail!("stdout has no time to --preserve; name an output with -o");
        }
    }
    let mut destinations = destinations.into_iter();
    let jobs: Vec<Job> = files
        .into_iter()
        .map(|(input, found)| {
            let mut next = || destinations.next().expect("one for each that was found");
            Job { destination: found.and_then(|()| next()), input }
        })
        .collect();
    flags.refuse(jobs.iter().filter_map(|j| Some((&*j.input, j.destination.as_ref().err()?))))?;
    Ok(jobs)
}

/// Does one job after another.
pub(super) fn run(
    jobs: &[Job],
    flags: &Flags,
    mut each: impl FnMut(&Path, &Destination, &mut Facts) -> Result<Done>,
) -> Result<Outcome> {
    let (mut done, mut failed) = (0, 0);
    for Job { input, destination } in jobs {
        let started = Instant::now();
        let path = destination.as_ref().ok().and_then(Destination::path);
        if flags.skip_existing && path.is_some_and(Path::exists) {
            flags.record(&Record { output: path, ..Record::new(input, "skipped") })?;
            done += 1;
            continue;
        }
        let mut facts = Facts::default();
        let result = match destination {
            Ok(destination) => flags
                .check(input, destination, &mut facts)
                .and_then(|()| each(input, destination, &mut facts)),
            Err(error) => Err(anyhow!(error.clone())),
        };
        let (status, error) = match &result {
            Ok(Done::Written | Done::WrittenEarly) => ("written", None),
            Ok(Done::Interrupted) => ("interrupted", None),
            Err(error) => ("failed", Some(progress::chain(error))),
        };
        let (error, seconds) = (error.as_deref(), Some(started.elapsed().as_secs_f64()));
        flags.record(&Record { input, output: path, status, error, facts, seconds })?;
        match result {
            Ok(Done::Interrupted) => return Ok(Outcome::Interrupted),
            Ok(Done::WrittenEarly) if jobs.len() > 1 => return Ok(Outcome::Interrupted),
            Ok(Done::Written | Done::WrittenEarly) => done += 1,
            Err(error) if jobs.len() == 1 => return Err(error),
            Err(error) => {
                progress::error(&error);
                failed += 1;
                if !flags.keep_going {
                    break;
                }
            }
        }
    }
    match (done, failed) {
        (_, 0) => Ok(Outcome::Success),
        (0, _) if !flags.keep_going => bail!("stopped; --keep-going goes on with the next input"),
        (0, _) => bail!("nothing could be done"),
        _ => Ok(Outcome::Partial),
    }
}
