//! The client half of the OCI distribution specification 1.1: manifests and blobs from registries.
//!
//! Owns: connections to registries, their mirrors and their credentials for as long as a process
//! lives; the reading of `hosts.toml` directories in containerd's form.
//! Always: what a registry sends is untrusted and bounded; content that has a digest is checked
//! against it and against its size; a credential goes only to hosts that this node's configuration
//! names for its registry, to the token server that such a host names, and only when asked for; it
//! is in no error, log line or Debug text; a stall ends, a broken download goes on where it stopped;
//! every wait has a bound. Nothing is written to disk; credential helpers are the only programs that
//! are run.
//! Callers: `images`.

mod ahead;
mod auth;
mod auth_file;
mod blob;
mod challenge;
mod config;
mod course;
mod credentials;
mod endpoint;
mod error;
mod hosts_dir;
mod hosts_file;
mod manifests;
mod push;
mod range;
mod reader;
mod referrers;
mod registry;
mod request;
mod schedule;
mod source;
mod tls;
mod transport;
mod window;

pub use blob::BlobStream;
pub use config::{Limits, RegistryConfig};
pub use credentials::{AuthParts, BadCredentials, Credentials, NodeCredentials, server_matches};
pub use error::{Cause, Phase, RegistryError};
pub use hosts_file::check_hosts_file;
pub use reader::BlobReader;
pub use referrers::{MAX_REFERRERS, referrers_tag};
pub use registry::{Head, Registry, Resolved};
pub use tls::client_tls;
