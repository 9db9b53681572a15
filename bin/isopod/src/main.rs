//! A container runtime for Kubernetes nodes: the daemon and the command line.
//!
//! Owns: what the program's arguments mean, and which part of it they go to.
//! Always: `daemon`, `config` and `doctor` work without a daemon that runs; every other verb is `cli`'s.

mod cli;
mod config;
mod daemon;
mod doctor;

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
    #[command(flatten)]
    Cli(cli::Verb),
}

fn main() -> ExitCode {
    let Isopod { globals, verb } = Isopod::parse();
    match verb {
        Verb::Daemon(args) => daemon::run(&args, globals.socket.as_deref()),
        Verb::Config(args) => config::command::run(&args),
        Verb::Doctor(args) => doctor::run(&args, globals.socket.as_deref(), globals.output),
        Verb::Cli(verb) => cli::run(verb, &globals),
    }
}
