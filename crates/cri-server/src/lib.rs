//! The gRPC front: conversions, and the one map from errors to codes.
//!
//! Owns: both services of CRI v1 and the command line's own one, one file for each group of calls;
//! nothing behind this crate knows protobuf. Always: a request is parsed as a whole before anything is
//! touched, a handler parses, calls once and converts; the work itself belongs to `pods` and `images`, so a caller that disconnects
//! cancels nothing; no message and no log has a secret.
//! Callers: the daemon, which serves [`Cri`] on a socket.

mod admin;
mod asked;
mod audit;
mod code;
mod front;
mod host;
mod image;
mod lists;
mod metrics;
mod parse;
mod render;
mod runtime;
mod short_ids;
mod stream;
mod streaming;

use std::sync::Arc;

use images::Images;
use operations::Operations;
use pods::Pods;

pub use audit::{Audit, AuditRecord};
pub use code::{MAX_MESSAGE, code, message, status};
pub use cri_api::MAX_MESSAGE_BYTES;
pub use front::{ANSWER_WITHIN, Access, Busy, Front, Fronted, Full, Observer, Peer, Place, Places};
pub use host::{
    AttachStreams, CgroupDriver, Condition, ExecStreams, HandlerFeatures, Host, HostAnswer,
    MetricsText, PluginRun, PortStreams, Reloaded, Streaming,
};
pub use lists::RuntimeServer;
pub use parse::{BadField, read_request};
pub use streaming::{Carrier, streams};

/// What the services answer from.
#[derive(Debug, Clone)]
pub struct Services {
    /// Sandboxes and containers.
    pub pods: Pods,
    /// Images.
    pub images: Images,
    /// What the daemon does now.
    pub operations: Operations,
    /// The node around them.
    pub host: Arc<dyn Host>,
    /// Where streams go; without it Exec, Attach and PortForward are not implemented.
    pub streaming: Option<Arc<dyn Streaming>>,
    /// Who writes down what was done inside of pods by callers from outside.
    pub audit: Option<Arc<dyn Audit>>,
}

/// Both services of CRI v1. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cri {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    services: Services,
}

impl Cri {
    /// Services that answer from `services`.
    #[must_use]
    pub fn new(services: Services) -> Self {
        Self { inner: Arc::new(Inner { services }) }
    }

    /// The runtime service, with the limits that the kubelet counts on.
    #[must_use]
    pub fn runtime_service(&self) -> RuntimeServer {
        RuntimeServer::new(self.clone())
    }

    /// The image service, with the same limits.
    #[must_use]
    pub fn image_service(&self) -> cri_api::v1::image_service_server::ImageServiceServer<Self> {
        cri_api::v1::image_service_server::ImageServiceServer::new(self.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

/// The answer of a call that this build does not have.
fn unimplemented<T>(call: &str) -> Result<T, tonic::Status> {
    Err(tonic::Status::unimplemented(format!("{call} is not implemented")))
}

/// Nanoseconds since 1970.
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
