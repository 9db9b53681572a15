//! A CRI runtime in memory: no container is real, and every call is answered.
//!
//! For load tests of kubelets (thousands of pods on one machine, with latencies and failures by a script)
//! and for tests of the conformance suite (a switch for each of many faults).
//!
//! Owns: sandboxes, containers and images that are only records; programs that are played; logs, which are
//! real files, and streams, which are real connections.
//! Always: what is promised by CRI v1 and needs no kernel is held, until a [`Fault`] is switched on.
//! Callers: its own program, tests.

mod check;
mod fault;
mod figures;
mod images;
mod lists;
mod lives;
mod log;
mod play;
mod program;
mod pull;
mod reference;
mod runtime;
mod script;
mod streams;
mod world;

use std::io;
use std::path::Path;
use std::sync::Arc;

use cri_api::v1::image_service_server::ImageServiceServer;
use cri_api::v1::runtime_service_server::RuntimeServiceServer;
use cri_streaming::Server;
use cri_streaming::server::Limits;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

pub use fault::{Fault, Faults};
pub use script::{Rule, Script};

use images::Images;
use runtime::Service;
use streams::Streams;
use world::World;

/// The runtime; clones are the same one.
#[derive(Debug, Clone)]
pub struct MemoryRuntime {
    world: Arc<World>,
}

impl MemoryRuntime {
    /// A runtime that has nothing yet, and treats calls as `script` says.
    #[must_use]
    pub fn new(script: Script) -> Self {
        Self { world: Arc::new(World::new(script)) }
    }

    /// The switches of its faults.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.world.faults
    }

    /// Serves CRI on a socket, and streams on a port of loopback, until `stop`.
    ///
    /// # Errors
    /// Where it cannot listen.
    pub async fn serve(&self, socket: &Path, stop: CancellationToken) -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let streams =
            Server::new(Arc::new(Streams(Arc::clone(&self.world))), url, Limits::default());
        tokio::spawn(Arc::clone(&streams).serve(listener, None, stop.clone()));
        let service = Service { world: Arc::clone(&self.world), streams };
        let images = Images(Arc::clone(&self.world));
        let runtime = RuntimeServiceServer::new(service)
            .max_decoding_message_size(cri_api::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(usize::MAX);
        let incoming = UnixListenerStream::new(UnixListener::bind(socket)?);
        tonic::transport::Server::builder()
            .add_service(runtime)
            .add_service(ImageServiceServer::new(images))
            .serve_with_incoming_shutdown(incoming, stop.cancelled())
            .await
            .map_err(io::Error::other)
    }
}
