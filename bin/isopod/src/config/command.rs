//! `isopod config`: check, show and explain the configuration.

use std::process::ExitCode;

/// Arguments of `isopod config`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Does what `args` say.
pub fn run(_args: &Args) -> ExitCode {
    ExitCode::FAILURE
}
