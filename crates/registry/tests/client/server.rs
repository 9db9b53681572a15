//! An HTTP/1.1 server whose every byte is a test's choice, and what the tests share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::Digest;
use oci_image::{Descriptor, Reference, sha256, types};
use registry::{BlobStream, Limits, Registry, RegistryConfig, RegistryError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: HashMap<String, String>,
    pub body: String,
    /// How many requests for this path came before it.
    pub nth: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    /// The first byte that a `Range: bytes=N-` asks for.
    pub fn from(&self) -> usize {
        let range = self.header("range").and_then(|r| r.strip_prefix("bytes="));
        range.map_or(0, |r| r.split_once('-').unwrap().0.parse().unwrap())
    }

    /// The last byte that a `Range: bytes=N-M` asks for.
    pub fn to(&self) -> Option<usize> {
        let (_, to) = self.header("range")?.split_once('-')?;
        to.parse().ok()
    }
}

/// What the server does.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// What Content-Length says, if not the truth; `Some(None)` for no such header.
    length: Option<Option<u64>>,
    end: End,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Complete,
    /// So many bytes of the body, then the connection is closed.
    Cut(usize),
    /// So many bytes of the body, then silence.
    Hang(usize),
}

impl Reply {
    pub fn new(status: u16, body: &[u8]) -> Self {
        Self { status, headers: Vec::new(), body: body.to_vec(), length: None, end: End::Complete }
    }

    pub fn ok(body: &[u8]) -> Self {
        Self::new(200, body)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn length(self, length: u64) -> Self {
        Self { length: Some(Some(length)), ..self }
    }

    /// The body is chunked already.
    pub fn chunked(self) -> Self {
        Self { length: Some(None), ..self.header("Transfer-Encoding", "chunked") }
    }

    pub fn cut(self, at: usize) -> Self {
        Self { end: End::Cut(at), ..self }
    }

    pub fn hang(self, at: usize) -> Self {
        Self { end: End::Hang(at), ..self }
    }

    /// `content` as a manifest.
    pub fn manifest(content: &[u8]) -> Self {
        let digest = sha256(content).to_string();
        Self::ok(content)
            .header("Content-Type", types::OCI_MANIFEST)
            .header("Docker-Content-Digest", &digest)
    }

    /// What `request` asks for of `content`, ranges included.
    pub fn part(request: &Request, content: &[u8]) -> Self {
        if request.header("range").is_none() {
            return Self::ok(content);
        }
        let (from, to) = (request.from(), request.to().unwrap_or(content.len() - 1));
        let range = format!("bytes {from}-{to}/{}", content.len());
        Self::new(206, &content[from..=to]).header("Content-Range", &range)
    }
}

type Handler = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// A running server; it ends when it is dropped.
pub struct Server {
    pub port: u16,
    log: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::run(handler, None).await
    }

    pub async fn start_tls(
        acceptor: TlsAcceptor,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::run(handler, Some(acceptor)).await
    }

    async fn run(
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
        acceptor: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (handler, kept): (Handler, _) = (Arc::new(handler), Arc::clone(&log));
        let task = tokio::spawn(async move {
            // Connections end with the server, because the set is dropped with this task.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, log, acceptor) = (handler.clone(), kept.clone(), acceptor.clone());
                connections.spawn(async move {
                    match acceptor {
                        None => serve(stream, &handler, &log).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, &handler, &log).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, log, task }
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// `METHOD path` of each request.
    pub fn lines(&self) -> Vec<String> {
        self.requests().iter().map(|r| format!("{} {}", r.method, r.path())).collect()
    }

    pub fn reference(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.host())).unwrap()
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    handler: &Handler,
    log: &Mutex<Vec<Request>>,
) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        let request = {
            let mut log = log.lock().unwrap();
            let nth = log.iter().filter(|r| r.path() == request.path()).count();
            let request = Request { nth, ..request };
            log.push(request.clone());
            request
        };
        let reply = handler(&request);
        if !write_reply(&mut stream, &request, &reply).await {
            return;
        }
    }
}

async fn read_request<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
) -> Option<Request> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if buffer.first() == Some(&0x16) {
            // A TLS greeting at a plain server: answered as servers do.
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nspeak HTTP\n").await;
            let _ = stream.shutdown().await;
            return None;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: HashMap<_, _> = lines
        .filter_map(|l| l.split_once(": "))
        .map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |l| l.parse().unwrap());
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(buffer.drain(..length).collect()).unwrap();
    Some(Request { method, target, headers, body, nth: 0 })
}

/// Whether the connection stays open.
async fn write_reply<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: &Request,
    reply: &Reply,
) -> bool {
    let mut head = format!("HTTP/1.1 {} Reply\r\n", reply.status);
    if let Some(length) = reply.length.unwrap_or(Some(reply.body.len() as u64)) {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let body: &[u8] = if request.method == "HEAD" { &[] } else { &reply.body };
    let sent = match reply.end {
        End::Complete => body,
        End::Cut(n) | End::Hang(n) => &body[..n.min(body.len())],
    };
    if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(sent).await.is_err() {
        return false;
    }
    let _ = stream.flush().await;
    match reply.end {
        End::Complete => true,
        End::Cut(_) => {
            let _ = stream.shutdown().await;
            false
        }
        End::Hang(_) => {
            // Until the client gives up.
            let mut rest = [0; 64];
            while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
            false
        }
    }
}

/// A host that refuses connections. The port is taken as long as the socket lives, so that no other
/// test's server gets it.
pub fn refusing() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let host = socket.local_addr().unwrap().to_string();
    (socket, host)
}

/// Limits under which a failing test fails soon.
pub fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(10),
        answer: Duration::from_secs(10),
        stall: Duration::from_secs(10),
        min_rate: 0,
        tries: 3,
        backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(20),
        downloads_per_host: 8,
        ranges_per_blob: 3,
        range_size: 8 << 20,
        // No connection is: what a test sees does not depend on the machine's speed.
        fast_enough: u64::MAX,
        ranges_ahead: 6,
        requests_per_host: 8,
    }
}

pub fn client() -> Registry {
    client_with(limits())
}

pub fn client_with(limits: Limits) -> Registry {
    Registry::new(RegistryConfig { limits, ..RegistryConfig::default() })
}

/// `n` bytes that are not all the same.
pub fn content(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 31 + i / 251) as u8).collect()
}

pub fn descriptor(content: &[u8]) -> Descriptor {
    Descriptor::new(types::OCI_LAYER_GZIP, sha256(content), content.len() as u64)
}

pub fn manifest() -> Vec<u8> {
    let config = Descriptor::new(types::OCI_CONFIG, sha256(b"{}"), 2);
    let config = serde_json::to_string(&config).unwrap();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[]}}"#,
        types::OCI_MANIFEST
    )
    .into_bytes()
}

pub fn digest_of(bytes: &[u8]) -> Digest {
    sha256(bytes)
}

/// Everything that is left of a stream.
pub async fn drain(stream: &mut BlobStream) -> Result<Vec<u8>, RegistryError> {
    let mut all = Vec::new();
    while let Some(bytes) = stream.next().await {
        let bytes = bytes?;
        assert!(!bytes.is_empty());
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

/// The whole blob.
pub async fn fetch(
    client: &Registry,
    reference: &Reference,
    content: &[u8],
) -> Result<Vec<u8>, RegistryError> {
    let mut stream = client.blob(reference, &descriptor(content), 0, None).await?;
    drain(&mut stream).await
}
