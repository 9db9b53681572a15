//! One per pod: owns its namespaces, starts its containers, writes their logs, records their ends.
//!
//! A single thread and one poll loop. The daemon starts it from a sealed memory file with a control
//! socket as standard input; daemons that come later connect to the socket in the pod's directory
//! (docs/formats/monitor.md).
//!
//! By the name `isopod-oci` it is the launcher's own command line instead, which `isopod oci` becomes.
//!
//! It is shipped as one static file at fixed addresses (docs/decisions/0015), which `ISOPOD_MONITOR_ELF` names when
//! the daemon is built:
//! `cargo rustc -p isopod-monitor --profile monitor -- -C target-feature=+crt-static -C relocation-model=static`.

mod attach;
mod cgroup;
mod connection;
mod container;
mod dying;
mod errands;
mod exec;
mod external;
mod init;
mod log;
mod monitor;
mod output;
mod pod;
mod poller;
mod refusal;
mod verbs;
mod volumes;

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use monitor::Monitor;
use rustix::process::{DumpableBehavior, Pid};

/// By this name it is no monitor, but one verb of the launcher's own command line.
const OCI_NAME: &str = "isopod-oci";

fn main() -> ExitCode {
    let mut args = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    if args.next().is_some_and(|name| name == OCI_NAME) {
        return oci(&args.collect::<Vec<_>>());
    }
    match start() {
        Ok(mut monitor) => match monitor.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("isopod-monitor: the poll loop failed: {error}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprintln!("isopod-monitor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The program that enters containers: like a monitor, it is nobody's to look into.
fn oci(args: &[String]) -> ExitCode {
    match rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        Ok(()) => oci_cli::main(args),
        Err(error) => {
            eprintln!("isopod oci: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Leaves the daemon's session, takes the control socket off standard input, becomes the one who reaps.
fn start() -> std::io::Result<Monitor> {
    let proof = sys::SingleThreaded::check()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::set_child_subreaper(Some(Pid::INIT))?;
    // It fails for the leader of a group, which a daemon's child is not and a shell's may be.
    let _ = rustix::process::setsid();
    rustix::process::chdir("/")?;
    let control: OwnedFd = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    let signals = sys::child_signals()?;
    Monitor::new(proof, control, signals)
}
