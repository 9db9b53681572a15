//! The launcher's work through an external OCI runtime's command line (runc, crun and their kin).
//!
//! Owns: the command lines of the OCI runtime command line interface, and what failures look like.
//! Always: no process is started here and nothing waits; the caller runs a command and tells how it ended.
//! Callers: the monitor.

mod command;
mod failure;

pub use command::{Invocation, OciRuntime, process_file};
pub use failure::failure_message;
