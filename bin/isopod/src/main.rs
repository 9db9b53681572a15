//! A container runtime for Kubernetes nodes: the daemon and the command line.
//!
//! Owns: what the program's arguments mean, and which part of it they go to.
//! Always: `daemon`, `config` and `doctor` work without a daemon that runs; every other verb is `cli`'s.

mod cli;
mod config;
mod daemon;
mod doctor;
mod oci;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "isopod", version, about, max_term_width = 100)]
struct Isopod {
    #[command(flatten)]
    globals: cli::Globals,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve the Container Runtime Interface on a unix socket
    Daemon(daemon::Args),
    /// Check, show and explain the configuration
    Config(config::command::Args),
    /// Look whether this machine can run pods, and say what to do where it cannot
    Doctor(doctor::Args),
    /// Be an OCI runtime for podman, containerd and others: create, start, state, kill, delete and more
    #[command(disable_help_flag = true)]
    Oci {
        /// As the OCI runtime specification and runc have them; `isopod oci help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        args: Vec<std::ffi::OsString>,
    },
    #[command(flatten)]
    Cli(cli::Verb),
}

fn main() -> ExitCode {
    // Before anything else is read: its options are not ours.
    if let Some(args) = oci::arguments() {
        return oci::become_it(&args);
    }
    let Isopod { globals, verb } = Isopod::parse();
    match verb {
        Verb::Daemon(args) => daemon::run(&args, globals.socket.as_deref()),
        Verb::Oci { args } => oci::become_it(&args),
        Verb::Config(args) => config::command::run(&args),
        Verb::Doctor(args) => doctor::run(&args, &globals),
        Verb::Cli(verb) => cli::run(verb, &globals),
    }
}
