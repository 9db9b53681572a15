//! The command line: every verb that talks to a daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Options of every verb.
#[derive(Debug, Args)]
pub struct Globals {
    /// The daemon's socket
    #[arg(long, global = true, env = "ISOPOD_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// A verb that talks to a daemon.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// The version of the daemon
    Version,
}

/// Does what `verb` says.
pub fn run(verb: Verb, globals: &Globals) -> ExitCode {
    match verb {
        Verb::Version => {
            let _ = &globals.socket;
            ExitCode::FAILURE
        }
    }
}
