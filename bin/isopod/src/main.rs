//! A container runtime for Kubernetes nodes: the daemon and the command line.

fn main() {}
