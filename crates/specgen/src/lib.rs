//! From what the CRI, the image and the host say to an OCI runtime spec.
//!
//! Owns: every decision that turns a request into a process: who runs it, what it may do, what it sees.
//! Always pure: no I/O, no clock; what has to be looked up on the host (devices, link targets, the image's
//! passwd) comes in as data. A request that cannot be honoured is an error here, before anything exists.
//! Callers: `pods`.
//!
//! Namespaces that the pod shares are not in the spec: the monitor lives in them, and its children inherit
//! them. So the host name and the pod's kernel parameters are not there either.

mod capabilities;
mod command;
mod devices;
mod error;
mod files;
mod inputs;
mod labels;
mod mounts;
mod namespaces;
mod resources;
mod spec;
mod user;

pub use capabilities::{capabilities, default_capabilities};
pub use command::{command, stop_signal, working_dir};
pub use error::SpecError;
pub use files::{
    default_masked_paths, default_readonly_paths, hostname_file, hosts_file, resolv_conf,
};
pub use inputs::{
    DeviceKind, Features, HostDevice, HostFacts, Inputs, Launcher, PodFiles, ResolvedDevice,
    ResolvedMount,
};
pub use labels::selinux_labels;
pub use resources::resources;
pub use spec::{container_spec, default_rlimits, seccomp_profile};
pub use user::{Identity, RequestedGroups, resolve_user};
