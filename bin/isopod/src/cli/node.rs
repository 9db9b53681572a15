//! The way to the runtime: one connection to its socket, and the services on it.

use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use admin_api::v1::admin_client::AdminClient;
use cri_api::v1::image_service_client::ImageServiceClient;
use cri_api::v1::runtime_service_client::RuntimeServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::failure::Failure;
use super::patience::{Patience, Patient};

/// Longest answer that is taken, in bytes: a node with thousands of dead containers sends more than
/// gRPC's own 4 MiB.
const LONGEST_ANSWER: usize = 256 << 20;

/// A connection whose calls may belong to a trace, and wait no longer than somebody has patience.
pub type Wire = InterceptedService<Patient<Channel>, Trace>;

/// The trace that all calls of this program belong to, if any (W3C Trace Context).
#[derive(Debug, Clone, Default)]
pub struct Trace(Option<Ids>);

#[derive(Debug, Clone)]
struct Ids {
    trace: String,
    header: MetadataValue<Ascii>,
}

impl Trace {
    /// A new one.
    pub fn begin() -> Result<Self, Failure> {
        let mut random = [0_u8; 24];
        getrandom::fill(&mut random).map_err(|error| Failure::caused("begin a trace", &error))?;
        let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let (trace, span) = hex.split_at(32);
        let header = format!("00-{trace}-{span}-01").parse();
        let header = header.map_err(|_| Failure::new("begin a trace", "it has no header"))?;
        Ok(Self(Some(Ids { trace: trace.to_owned(), header })))
    }

    /// Its id, as 32 hexadecimal digits.
    pub fn id(&self) -> Option<&str> {
        self.0.as_ref().map(|ids| ids.trace.as_str())
    }
}

impl Interceptor for Trace {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(ids) = &self.0 {
            request.metadata_mut().insert("traceparent", ids.header.clone());
        }
        Ok(request)
    }
}

/// A runtime that answers.
#[derive(Debug, Clone)]
pub struct Node {
    channel: Channel,
    socket: PathBuf,
    trace: Trace,
    patience: Patience,
    given_up: Arc<AtomicBool>,
}

impl Node {
    /// Connects to the socket.
    pub async fn connect(socket: &Path, trace: Trace, patience: Patience) -> Result<Self, Failure> {
        // Tried once by hand first: what this says is clearer than what a channel says.
        let first = UnixStream::connect(socket).await;
        if let Err(error) = first {
            return Err(unreachable(socket, &error));
        }
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = endpoint.connect_with_connector(connector).await.map_err(|error| {
            Failure::new(format!("talk to {}", socket.display()), model::with_causes(&error))
        })?;
        let given_up = Arc::new(AtomicBool::new(false));
        Ok(Self { channel, socket: socket.to_owned(), trace, patience, given_up })
    }

    /// The same for what goes on for as long as somebody wants it: no answer is given up.
    pub fn endless(&self) -> Self {
        Self { patience: Patience::default(), ..self.clone() }
    }

    /// The connection itself. Clones share it.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// CRI: sandboxes and containers.
    pub fn runtime(&self) -> RuntimeServiceClient<Wire> {
        RuntimeServiceClient::new(self.wire()).max_decoding_message_size(LONGEST_ANSWER)
    }

    /// CRI: images.
    pub fn images(&self) -> ImageServiceClient<Wire> {
        ImageServiceClient::new(self.wire()).max_decoding_message_size(LONGEST_ANSWER)
    }

    /// Isopod's own service; another runtime answers Unimplemented.
    pub fn admin(&self) -> AdminClient<Wire> {
        AdminClient::new(self.wire()).max_decoding_message_size(LONGEST_ANSWER)
    }

    fn wire(&self) -> Wire {
        let given_up = Arc::clone(&self.given_up);
        let channel = Patient::new(self.channel.clone(), self.patience, given_up);
        InterceptedService::new(channel, self.trace.clone())
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

/// Why nobody answers at a socket, and what to do.
fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let doing = format!("reach a runtime at {}", socket.display());
    let kind = error.kind();
    let advice = if kind == ErrorKind::NotFound {
        "no daemon has made this socket; start one with `isopod daemon`, or name another runtime's \
         socket with --endpoint"
    } else if kind == ErrorKind::ConnectionRefused {
        "the socket is there and nobody listens: the daemon has ended; start it again"
    } else if kind == ErrorKind::PermissionDenied {
        "only root and the socket's group may talk to it; try again with sudo"
    } else if kind == ErrorKind::WouldBlock {
        "so many connections wait there that no more are taken: the daemon hangs; restart it, pods go on \
         meanwhile"
    } else {
        return Failure::caused(doing, error);
    };
    let is_file = std::fs::metadata(socket).is_ok_and(|file| !file.file_type().is_socket());
    let advice = if is_file { "this is not a socket" } else { advice };
    Failure::caused(doing, error).advise(advice)
}
