//! Start a monitor, find it again, talk to it.
//!
//! Owns: the sealed program that monitors are started from, and connections to monitors. Always: a call
//! that its caller gives up is answered into the void and harms nobody; when a connection ends, every call
//! on it is told, and so is whoever takes its events. Callers: `pods`.

mod attach;
mod connection;
mod dial;
mod error;
mod exec;
mod identity;
mod program;
mod start;

pub use attach::{AttachHandle, AttachStreams, Attached};
pub use connection::{Monitor, MonitorEvent, MonitorEvents};
pub use error::MonitorError;
pub use exec::{ExecStreams, RunningExec, resize_terminal};
pub use identity::find;
pub use monitor_api as api;
pub use program::{MonitorProgram, ProgramError};
pub use start::{Identity, Started, connect, probe, start};
