//! cgroup v1, v2 and both at once: create, limit, join, read, kill, remove (cgroups(7)).
//!
//! Owns: the directories below the hierarchies' mount points that it made, and what is written to their
//! files. Always: limits are worked out by pure functions and only then written; a failed write names the
//! file and the value; everything that waits is bounded; removing what is gone is no error; a path that is
//! that of a systemd unit is left to systemd to make, where systemd is there.
//! Callers: the monitor for containers and execs, `pods` for pods, `launcher` for what a container sees.

mod cgroup;
mod devices;
mod entrance;
mod error;
mod file;
mod freeze;
mod hierarchy;
mod kill;
mod limits;
mod make;
mod oom;
mod path;
mod remove;
mod stats;
mod systemd;

pub use cgroup::Cgroup;
pub use entrance::{Doors, Entrance};
pub use error::CgroupError;
pub use hierarchy::{Controller, Hierarchies, Legacy, Mode, Shown};
pub use oom::OomCounts;
pub use path::{BadPath, CgroupPath, Driver};
pub use stats::{
    CpuLimits, CpuStats, Detail, HugetlbStats, IoStats, MemoryStats, PidsStats, Pressure,
    PressureLine, Stats,
};
