//! `isopod completions SHELL`.

use std::io;

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
    clap_complete::generate(args.shell, &mut command, "isopod", &mut io::stdout().lock());
}
