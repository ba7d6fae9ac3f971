//! The `sirenc` binary. Everything it does is in `cli`.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::run()
}
