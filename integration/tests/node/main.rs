//! The daemon over its socket, on images from a real registry, in real namespaces.
//!
//! Each test has a daemon, a registry and a network namespace of its own, so all run side by side.
//! A daemon that leaves a process, a mount, a cgroup or a link behind fails its test.

#[cfg(test)]
mod around;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod cdi;
#[cfg(test)]
mod classes;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod containers;
#[cfg(test)]
mod events;
#[cfg(test)]
mod exec;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fields;
#[cfg(test)]
mod guest;
#[cfg(test)]
mod handlers;
#[cfg(test)]
mod image_sources;
#[cfg(test)]
mod image_upkeep;
#[cfg(test)]
mod images;
#[cfg(test)]
mod kubelet;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod lines;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod model;
#[cfg(test)]
mod mounts;
#[cfg(test)]
mod network;
#[cfg(test)]
mod network_at_once;
#[cfg(test)]
mod network_left;
#[cfg(test)]
mod network_upkeep;
#[cfg(test)]
mod oci;
#[cfg(test)]
mod oci_beside_others;
#[cfg(test)]
mod oci_hooks;
#[cfg(test)]
mod oci_podman;
#[cfg(test)]
mod own_metrics;
#[cfg(test)]
mod pod_metrics;
#[cfg(test)]
mod pull_progress;
#[cfg(test)]
mod pulls;
#[cfg(test)]
mod read_only;
#[cfg(test)]
mod reboot;
#[cfg(test)]
mod records;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod run_verb;
#[cfg(test)]
mod sandboxes;
#[cfg(test)]
mod security;
#[cfg(test)]
mod seeing;
#[cfg(test)]
mod silent;
#[cfg(test)]
mod streaming;
#[cfg(test)]
mod streaming_cli;
#[cfg(test)]
mod streaming_node;
#[cfg(test)]
mod streaming_tls;
#[cfg(test)]
mod streaming_tmux;
#[cfg(test)]
mod upgrade;
