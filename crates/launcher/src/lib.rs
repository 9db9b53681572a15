//! From an OCI runtime spec to a running process, and from a running container to one more process in it.
//!
//! Owns: everything between a parsed `config.json` and execve. Always: nothing in the root file system
//! is trusted (each path in it is resolved with openat2 below a descriptor of its root); a process
//! reports what it could not do through its control socket before it ends; `create` and `exec` give a
//! process its identity by one and the same function. Callers: the monitor and `oci-cli`, which have one thread.

mod attach;
mod child;
mod control;
mod copy_up;
mod create;
mod dev;
mod errand;
mod error;
mod exec;
mod hooks;
mod host_mounts;
mod identity;
mod kernel;
mod labels;
mod masks;
mod mounts;
mod paths;
mod pivot;
mod plan;
mod points;
mod proc;
mod rdt;
mod rootfs;
mod stdio;
mod timeline;
mod tree;
mod users;

pub use control::{Control, Report};
pub use create::{Create, Launched, PidHome, ProcSource, RootSource, Seat, Tracers, create};
pub use errand::Errand;
pub use error::{Failure, LaunchError, Phase};
pub use exec::{Exec, NO_CPUS_LEFT, exec};
pub use hooks::HookState;
pub use host_mounts::{HostTree, place_host_trees};
pub use identity::Filter;
pub use kernel::write_sysctls;
pub use mounts::{CgroupView, LegacyView};
pub use plan::{BadSpec, HookPlan, Plan, ProcessPlan, capability_names};
pub use points::{Point, RuntimeNamespaces};
pub use rdt::{RESCTRL, RdtGroup};
pub use rootfs::{mount_rootfs_at, mount_volume_at};
pub use stdio::ChildStdio;
pub use timeline::Span;
pub use tree::kill_tree;
pub use users::{OwnedNamespaces, Users, join_user_namespace, new_user_namespace};
