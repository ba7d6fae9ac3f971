//! The command line: arguments, one file a subcommand, and what people read on a
//! terminal. The only place that prints.

mod batch;
mod colour;
mod command;
mod compare;
mod decode;
mod describe;
mod devices;
mod edit;
#[cfg(feature = "encode")]
mod encode;
mod export;
mod info;
mod input;
mod interrupt;
mod metadata;
mod output;
mod picture;
mod progress;
mod sample;
mod terminal;

use std::any::TypeId;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;

use anyhow::Context;
use clap::builder::RangedU64ValueParser;
use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

/// Some inputs of a batch failed, others were done.
const EXIT_PARTIAL: u8 = 3;
/// Interrupted before there was a result; as shells report SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

const EXIT_CODES: &str = "\
Exit codes: 0 success; 1 failure; 2 wrong usage; 3 some inputs of a batch failed; \
130 interrupted before there was a result, or before a batch was through.";

/// Stores a picture as a small neural network with sine activations, and renders it at
/// any size.
#[derive(Parser)]
#[command(name = "sirenc", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Most threads to use; there is never more than one a core [default: one a core]
    #[arg(long, global = true, value_name = "N", value_parser = number().range(1..))]
    threads: Option<usize>,
    /// Print errors only: no progress, no summaries, no warnings
    #[arg(long, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Train a network on each picture and write .siren files
    #[cfg(feature = "encode")]
    Encode(encode::Options),
    /// Render .siren files to pictures of any size
    Decode(decode::Options),
    /// Replace or take out metadata of .siren files; the picture stays as it is
    Edit(edit::Options),
    /// Show what .siren files hold
    Info(info::Options),
    /// Print the colour, gradient and Laplacian at one place
    Sample(sample::Options),
    /// Measure how alike two pictures are; either may be a .siren file
    Compare(compare::Options),
    /// Write the network as safetensors, GLSL or a numpy script
    Export(export::Options),
    /// List what can train and render on this machine
    Devices,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory
    Man {
        /// The directory, made if need be
        directory: PathBuf,
    },
}

/// How a command ended, other than by an error.
enum Outcome {
    Success,
    /// Some inputs of a batch failed; each has been reported.
    Partial,
    Interrupted,
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let parsed =
        command().try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = parsed.unwrap_or_else(|error| wrong_usage(&error));
    if arguments.quiet {
        progress::be_quiet();
    }
    interrupt::install();
    match dispatch(arguments) {
        Ok(Outcome::Success) => ExitCode::SUCCESS,
        Ok(Outcome::Partial) => ExitCode::from(EXIT_PARTIAL),
        Ok(Outcome::Interrupted) => ExitCode::from(EXIT_INTERRUPTED),
        Err(error) => {
            progress::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Says what is wrong with the arguments, or prints the help. clap's colours are control characters
/// themselves: without them, those that an argument has can be told.
fn wrong_usage(error: &clap::Error) -> ! {
    let is_harmless = |argument: OsString| {
        let argument = argument.to_string_lossy();
        terminal::harmless(&argument) == argument
    };
    if !error.use_stderr() || std::env::args_os().all(is_harmless) {
        error.exit();
    }
    error.to_string().lines().for_each(progress::line);
    std::process::exit(error.exit_code())
}

fn dispatch(arguments: Arguments) -> anyhow::Result<Outcome> {
    if let Some(threads) = arguments.threads {
        // More of them wait for one another.
        let cores = available_parallelism().map_or(1, usize::from);
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.min(cores))
            .build_global()
            .context("cannot start the threads")?;
    }
    match arguments.command {
        #[cfg(feature = "encode")]
        Command::Encode(options) => encode::run(&options),
        Command::Decode(options) => decode::run(&options),
        Command::Edit(options) => edit::run(&options),
        Command::Info(options) => info::run(&options),
        Command::Sample(options) => sample::run(&options),
        Command::Compare(options) => compare::run(&options),
        Command::Export(options) => export::run(&options),
        Command::Devices => devices::run(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "sirenc", &mut script);
            output::print(&script)
        }
        Command::Man { directory } => {
            std::fs::create_dir_all(&directory)
                .and_then(|()| clap_mangen::generate_to(Arguments::command(), &directory))
                .with_context(|| format!("{}", directory.display()))?;
            Ok(Outcome::Success)
        }
    }
}

/// The command line. An option of anything but a path takes what begins with `-` as its value and
/// says what is wrong with it, where clap would take `-3` for an option that it does not know.
fn command() -> clap::Command {
    let value = |argument: Arg| {
        let is_path = argument.get_value_parser().type_id() == TypeId::of::<PathBuf>();
        let takes_value = argument.get_action().takes_values() && !argument.is_positional();
        argument.allow_hyphen_values(takes_value && !is_path)
    };
    Arguments::command().mut_args(value).mut_subcommands(|command| command.mut_args(value))
}

/// A whole number.
fn number() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new()
}

/// A number above 0.
fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|&n: &f64| n > 0.0 && n.is_finite());
    number.ok_or("give a number above 0".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        command().debug_assert();
    }
}
