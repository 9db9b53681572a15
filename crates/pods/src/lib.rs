//! Use cases of sandboxes and containers, one file per verb.
//!
//! Owns: the records of pods (on tmpfs), their directories, and the connections to their monitors; it
//! says what happens in which order, and others do it. Always: an intention is recorded before the kernel
//! is touched and the result after; what is made has its undo on the next line, and what cannot be undone
//! is owed and tried again; no lock is held while anything is waited for; a list never waits.
//! Callers: `cri-server`; the daemon opens it and lets it recover.

mod config;
mod error;
mod events;
mod pods;
mod status;

pub use config::{Deadlines, Handler, Launch, LogLimits, PodsConfig};
pub use error::{Cause, PodsError};
pub use events::{Behind, EVENTS_AHEAD, EventKind, PodEvent, Subject, Subscription};
pub use pods::{Pods, Recovered, Services};
pub use status::{
    ContainerFilter, ContainerStateKind, ContainerStatus, ExecResult, MountStatus, SandboxFilter,
    SandboxStatus, Usage,
};

/// Bytes of each output stream that an exec gives back at most.
pub const EXEC_OUTPUT_MAX: usize = 16 << 20;
