//! Messages between the daemon and a pod's monitor.
//!
//! Owns: the protocol, its version and its framing (docs/formats/monitor.md). Always: no I/O; a field
//! that a later version adds has a default, a message that it adds is refused by name.
//! Callers: `monitor-client` on the daemon's side, `isopod-monitor` on the other.

mod frame;
mod message;
mod record;

pub use frame::{BadFrame, Decoder, MAX_FRAME, encode};
pub use message::{
    Attach, AttachEnd, ContainerReport, Create, Created, Event, Exec, FromMonitor, KillScope,
    LogLimits, LogTotals, PidChoice, Refusal, Reply, Request, Runtime, Setup, TerminalSize,
    ToMonitor, Users, Volume, Welcome,
};
pub use record::ExitRecord;

/// The version of the protocol that this build speaks. A daemon drives monitors of this version and of
/// the one before.
pub const PROTOCOL: u32 = 1;
/// The oldest version that this build understands.
pub const OLDEST_PROTOCOL: u32 = 1;
