//! Use cases of sandboxes and containers, one file per verb.
//!
//! Owns: the records of pods (on tmpfs), their directories, and the connections to their monitors; it
//! says what happens in which order, and others do it. Always: an intention is recorded before the kernel
//! is touched and the result after; what is made has its undo on the next line, and what cannot be undone
//! is owed and tried again; no lock is held while anything is waited for; a list never waits.
//! Callers: `cri-server`; the daemon opens it and lets it recover.

mod annotations;
mod apparmor;
mod cgroup;
mod clock;
mod config;
mod container;
mod devices;
mod error;
mod events;
mod filters;
#[cfg(test)]
mod golden;
mod health;
mod host;
mod leaks;
mod log_totals;
mod monitors;
mod networks;
mod owed;
mod pods;
mod processes;
mod readers;
mod reconnect;
mod records;
mod recover;
mod samples;
mod sandbox;
mod status;
mod steps;
mod table;
mod terminal;
mod undo;
mod undoing;
mod usage;

pub use cgroups::{
    CpuLimits, CpuStats, Detail, HugetlbStats, IoStats, MemoryStats, PidsStats, Pressure,
    PressureLine, Stats,
};
pub use config::{
    BlockIoClass, Classes, Deadlines, ExecCpus, Handler, Launch, LogLimits, PodsConfig, RdtClass,
    StatsConfig, WritableLimits,
};
pub use container::attach::{AttachControl, AttachInput, Attachment};
pub use container::exec::{Exec, ExecIo, ExecWanted};
pub use error::{Cause, PodsError};
pub use events::{Behind, EVENTS_AHEAD, EventKind, PodEvent, Subject, Subscription};
pub use image_store::{Measured, Usage as DiskUsage};
pub use monitor_client::api::{AttachEnd, LogTotals, TerminalSize};
pub use monitor_client::{AttachHandle, AttachStreams, MonitorProgram, RunningExec};
pub use network::{
    CniDirectory, CniNetwork, Collected, InterfaceStats, Leftover, ModeOverview, Overview,
    PluginCall, SubnetOverview,
};
pub use networks::{Found, NetworkCheck};
pub use pods::{Pods, Services};
pub use recover::Recovered;
pub use runtime_spec::Rlimit;
pub use status::{
    ContainerFilter, ContainerStateKind, ContainerStatus, Descriptors, ExecResult, FileSystem,
    Kept, LogLines, More, MountStatus, Processes, SandboxFilter, SandboxStatus, Usage,
};
pub use terminal::Terminal;

/// Bytes of each output stream that an exec gives back at most.
pub const EXEC_OUTPUT_MAX: usize = 16 << 20;
