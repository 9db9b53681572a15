//! What Isopod's command line needs of the daemon and the Container Runtime Interface cannot say.
//!
//! Owns: package `isopod.admin.v1`, generated from `proto/`, and the limits of its streams.
//! Always: served on the same socket as the CRI, to the same callers; no request holds a path, so the
//! daemon never opens a file that a caller named.
//! Callers: the daemon (server half) and the command line (client half).

/// Package `isopod.admin.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated from proto/")]
#[allow(unused_qualifications, reason = "generated from proto/")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/isopod.admin.v1.rs"));
}

/// The longest piece of an archive in one message, in bytes, in either direction.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;
