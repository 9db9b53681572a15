//! The daemon.

use std::path::Path;
use std::process::ExitCode;

/// Arguments of `isopod daemon`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Serves until it is told to stop.
pub fn run(_args: &Args, _socket: Option<&Path>) -> ExitCode {
    ExitCode::FAILURE
}
