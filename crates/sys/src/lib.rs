//! The only unsafe code of Isopod: what the standard library and rustix do not offer safely.
//!
//! Owns: raw system calls and the arguments why each is sound. Always: every descriptor made here is
//! close-on-exec; no policy. Callers: the crates that talk to the kernel.
#![allow(unsafe_code, reason = "this is where it lives; every block argues its safety")]

mod bpf;
mod clone;
mod exec;
mod fds;
mod keyring;
mod memory;
mod mount;
mod namespace;
mod net;
mod netlink;
mod process;
mod quota;
mod scm;
mod seal;
mod seccomp;
mod sibling;
mod signal;
mod thread;

pub use bpf::set_device_program;
pub use clone::{Child, CloneFlags, InChild, clone_child};
pub use exec::{exec, exec_fd, exit_now};
pub use fds::{close_on_exec_from, inherited};
pub use keyring::new_session_keyring;
pub use memory::{return_free_memory, return_program, return_unused_stack, share_heaps};
pub use mount::{MountAttr, set_mount_attr};
pub use namespace::{Namespaces, join_namespace, join_namespaces_of, unshare};
pub use net::bring_loopback_up;
pub use netlink::netlink_errors_with_words;
pub use process::{end_with_parent, send_signal, start_time, wait_any_exited, wait_exit};
pub use quota::{
    ProjectQuotas, ProjectUsage, leave_project, project_of, project_quotas, project_usage,
    set_project, set_project_limit, stop_project_here,
};
pub use scm::{MAX_PASSED_FDS, receive, send};
pub use seal::sealed_memfd;
pub use seccomp::install_filter;
pub use sibling::{HandOver, Memory, clone_sibling};
pub use signal::{child_signals, reset_signals};
pub use thread::SingleThreaded;
