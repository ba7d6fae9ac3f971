//! `sirenc info`: what `.siren` files hold.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;

use super::describe::Description;
use super::{Outcome, input, output, progress};

#[derive(Args)]
pub(super) struct Options {
    /// .siren files; `-` is stdin; a directory stands for the .siren files in it
    #[arg(required = true, value_name = "IN")]
    inputs: Vec<PathBuf>,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Result<Outcome> {
    let inputs = input::expand(&options.inputs, input::has_siren_extension);
    let (mut done, mut failed) = (0, 0);
    for (input, found) in &inputs {
        let shown = found.clone().map_err(|error| anyhow!(error));
        match shown.and_then(|()| show(input, options.json, inputs.len() > 1)) {
            Ok(text) => {
                let gap = if options.json || done == 0 { "" } else { "\n" };
                output::print(format!("{gap}{text}").as_bytes())?;
                done += 1;
            }
            Err(error) if inputs.len() == 1 => return Err(error),
            Err(error) => {
                progress::error(&error);
                failed += 1;
            }
        }
    }
    match (done, failed) {
        (_, 0) => Ok(Outcome::Success),
        (0, _) => bail!("none of them is a .siren file that can be read"),
        _ => Ok(Outcome::Partial),
    }
}

/// What a file holds; `one_of_several` are a line each as JSON.
fn show(path: &Path, json: bool, one_of_several: bool) -> Result<String> {
    let bytes = input::siren_bytes(path)?;
    let decoder = input::siren_from(path, &bytes)?;
    let input = path.display().to_string();
    let description = Description::new(&decoder, bytes.len(), input.clone()).context(input)?;
    Ok(match (json, one_of_several) {
        (false, _) => description.text(),
        (true, false) => format!("{:#}\n", description.json()),
        (true, true) => format!("{}\n", description.json()),
    })
}
