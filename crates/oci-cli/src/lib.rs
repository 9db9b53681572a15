//! The launcher behind the command line that OCI runtimes have: `create`, `start`, `state`, `kill`, `delete`
//! of the OCI runtime specification, and of runc's own verbs those that podman and containerd call.
//!
//! Owns: the verbs, the records below the root directory, and the process that keeps a created container's
//! control socket until somebody starts it. Always: one thread; a verb that fails leaves nothing of its own; one that
//! was killed leaves what `delete` removes; no hook outlives the verb that it belongs to;
//! a process is taken for a container's by its number and its start time together. Callers: the monitor's
//! program, which is what `isopod oci` becomes (docs/decisions/0013-oci-command-line.md).

mod args;
mod cgroup;
mod config;
mod end;
mod error;
mod hooks;
mod keeper;
mod launch;
mod namespaces;
mod record;
mod report;
mod verbs;

use std::process::ExitCode;

use error::OciError;
use sys::SingleThreaded;

/// How a verb ends that failed, and so no exit code of a container's program.
const FAILED: u8 = 1;

/// Does what the command line `args`, without the program's name, says.
#[must_use]
pub fn main(args: &[String]) -> ExitCode {
    let invocation = match args::read(args) {
        Ok(invocation) => invocation,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(FAILED);
        }
    };
    let done = SingleThreaded::check()
        .map_err(OciError::io("look at this process's threads"))
        .and_then(|proof| verbs::perform(&proof, &invocation));
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report::report(&invocation, &error);
            ExitCode::from(FAILED)
        }
    }
}
