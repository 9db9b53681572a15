#![doc = include_str!("../README.md")]
//! Owns: the wire types of CRI v1, generated from `proto/`, and what goes with them over a wire.
//! Always: every name and number is what `tests/cri-v1.tsv` says; secrets do not show in `Debug`.
//! Callers: `cri-server`, the command line, the conformance suite, and runtimes by other people.

mod secret;

/// Package `runtime.v1`: the Container Runtime Interface as of Kubernetes 1.37.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated from proto/")]
#[allow(unused_qualifications, reason = "generated from proto/")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/runtime.v1.rs"));
}

/// The descriptors of [`v1`], an encoded `google.protobuf.FileDescriptorSet` without comments; for
/// gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri.bin"));

/// The longest message, in bytes, that the kubelet receives or sends: 16 MiB. gRPC's own default of
/// 4 MiB is too short for a list of many containers, on either side.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// The most that each of `ExecSyncResponse.stdout` and `stderr` may hold, in bytes.
pub const MAX_EXEC_OUTPUT_BYTES: usize = 16 << 20;

/// The version that `VersionResponse.runtime_api_version` gives.
pub const API_VERSION: &str = "v1";
