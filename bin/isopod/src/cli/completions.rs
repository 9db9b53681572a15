//! `isopod completions SHELL`.

use std::io::{self, Write as _};

use clap_complete::Shell;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell that is to complete
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script; a shell sources it.
pub fn run(args: &Args, mut command: clap::Command) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "isopod", &mut script);
    // A reader that has enough is no failure.
    let _ = io::stdout().lock().write_all(&script);
}
