//! `isopod daemon`: serves the CRI until it is told to stop.
//!
//! Owns: the process: its lock, socket, signals, log and threads; and the wiring of everything below.
//! Always: it serves before it recovers; whatever it starts, it has been able to lock; when it ends, pods
//! go on.
//! Callers: `main`.

mod audit;
mod connections;
mod front;
mod host;
mod kernel;
mod limits;
mod lines;
mod lock;
mod logging;
mod metrics;
pub mod monitor;
mod notify;
mod oci_features;
mod reload;
mod self_check;
mod serve;
mod signals;
mod socket;
mod streaming;
mod traces;
mod wiring;

#[cfg(test)]
mod malformed;
mod memory;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub use socket::group_id as socket_group;

use crate::config::{self, Config, Entries, Flags};

/// Arguments of `isopod daemon`. The socket is a flag of every verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file; its drop-ins are beside it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory for images
    #[arg(long, value_name = "DIR")]
    root: Option<String>,
    /// Directory for records of pods
    #[arg(long, value_name = "DIR")]
    state: Option<String>,
    /// How the log is written: text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// How much is logged: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// The monitor's program
    #[arg(long, env = "ISOPOD_MONITOR", value_name = "FILE")]
    monitor: Option<String>,
}

impl Args {
    fn flags(&self, socket: Option<&Path>) -> Flags {
        let socket = socket.map(|path| path.display().to_string());
        let given = [
            ("root", &self.root),
            ("state", &self.state),
            ("socket.path", &socket),
            ("log.format", &self.log_format),
            ("log.level", &self.log_level),
            ("monitor.program", &self.monitor),
        ];
        let values = given.into_iter().filter_map(|(key, value)| Some((key, value.clone()?)));
        Flags { values: values.collect() }
    }
}

/// Serves until it is told to stop.
pub fn run(args: &Args, socket: Option<&Path>) -> ExitCode {
    let flags = args.flags(socket);
    let (config, entries) = match config::load(args.config.as_deref(), &flags) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            eprintln!("isopod: the configuration has mistakes:\n{mistakes}");
            return ExitCode::FAILURE;
        }
    };
    let log = logging::begin(&config.log);
    let source = reload::Source { file: args.config.clone(), flags };
    match start(config, entries, source, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", cri_server::message(&*error));
            ExitCode::FAILURE
        }
    }
}

/// What only a process with one thread can do, then the runtime.
fn start(
    config: Config,
    entries: Entries,
    source: reload::Source,
    log: logging::Handle,
) -> Result<(), Box<dyn Error>> {
    sys::share_heaps(2);
    let activated = socket::activated()?;
    // Nothing that this process was started with may reach a pod.
    sys::close_on_exec_from(3)?;
    limits::raise_open_files();
    let lock = lock::take(&config.state)?;
    let listener = match activated {
        Some(listener) => listener,
        None => socket::bind(&config.socket)?,
    };
    let read_only = config.read_only.as_ref().map(socket::bind).transpose()?;
    let sockets = serve::Sockets { full: listener, read_only };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(limits::WORKERS)
        .max_blocking_threads(limits::BLOCKING)
        .thread_stack_size(limits::STACK)
        .thread_keep_alive(limits::IDLE_THREAD)
        .enable_all()
        .build()?;
    let result = runtime.block_on(serve::serve(config, entries, source, log, sockets));
    // Threads that wait for the kernel must not keep the process.
    runtime.shutdown_background();
    drop(lock);
    result
}
