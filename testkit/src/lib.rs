//! For tests and the demo: temporary daemons, registries and images.
//!
//! Owns: everything that a test needs around the thing that it tests.
//! Always: each is its own: a directory, a cgroup, a network namespace, ports that the kernel chose;
//! so tests run side by side. What a test makes is gone when its values are dropped, after a failure
//! too; a daemon that leaves something behind fails the test.
//! Callers: tests of all crates, `integration`, `demo`.
//!
//! What goes wrong in here panics: it is a test that fails.

pub mod archive;
mod bundle;
mod clean;
mod daemon;
mod faults;
mod host;
mod http;
mod image;
mod large;
mod layer;
mod pods;
mod poll;
mod registry;

pub use bundle::{Bundle, Runtime, crun, received};
pub use daemon::{Daemon, Network, Setup, channel, program, shipped_monitor};
pub use faults::Faults;
pub use host::{Mounted, isolate_network};
pub use image::{Image, Index, busybox};
pub use large::LargeLayer;
pub use layer::{Blob, Compression, Layer, digest};
pub use pods::{container, create_request, host_network, pod, sleeper};
pub use poll::{eventually, here, until};
pub use registry::{PASSWORD, Registry, Scheme, USER, certify};
