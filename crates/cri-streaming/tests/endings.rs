//! Forwarded connections that end before their time: by a reset, by a port or a socket that breaks. The others on
//! the client's connection go on, and nobody waits for ever.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cri_streaming::Outcome;
use cri_streaming::client::{Forwarder, Transport};
use cri_streaming::server::{Attach, Exec, Io, Limits, Port, PortForward, Runtime, Server};
use cri_streaming::spdy::{self, Compressor, Frame};
use cri_streaming::websocket::{self as ws, Head, Kind, Part, Side, encode_head};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf, duplex};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);
/// A port that sends without end.
const FLOOD: u16 = 1000;
/// A port that takes nothing, and breaks once it has sent [`ANSWER`] bytes.
const REFUSES: u16 = 1001;
/// A port that sends back what comes.
const ECHO: u16 = 1002;
/// More than sockets hold.
const ANSWER: usize = 16 << 20;

#[derive(Debug, Default)]
struct Ports {
    /// Bytes that ports have sent.
    sent: AtomicUsize,
    /// Writes that [`REFUSES`] has refused.
    refused: AtomicUsize,
    /// Connections to [`ECHO`].
    echoes: AtomicUsize,
    /// Floods whose client was let go.
    ended: AtomicUsize,
}

struct Refusing {
    left: usize,
    ports: Arc<Ports>,
}

impl AsyncRead for Refusing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let now = self.left.min(out.remaining());
        if now == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        out.put_slice(&vec![7; now]);
        self.left -= now;
        self.ports.sent.fetch_add(now, Ordering::SeqCst);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Refusing {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        self.ports.refused.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Shared(Arc<Ports>);

impl Runtime for Shared {
    async fn exec(&self, _: Exec, _: Io) -> Outcome {
        Outcome::Success
    }

    async fn attach(&self, _: Attach, _: Io) -> Outcome {
        Outcome::Success
    }

    async fn connect(&self, _: &str, port: u16) -> io::Result<Port> {
        let ports = Arc::clone(&self.0);
        match port {
            FLOOD => {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                let address = listener.local_addr()?;
                tokio::spawn(async move {
                    let (mut socket, _) = listener.accept().await.unwrap();
                    while let Ok(count) = socket.write(&[7; 64 << 10]).await {
                        ports.sent.fetch_add(count, Ordering::SeqCst);
                    }
                    ports.ended.fetch_add(1, Ordering::SeqCst);
                });
                Ok(TcpStream::connect(address).await?.into())
            }
            REFUSES => Ok(Port::new(Refusing { left: ANSWER, ports })),
            _ => {
                let (near, far) = duplex(1 << 16);
                tokio::spawn(async move {
                    let (mut read, mut write) = tokio::io::split(far);
                    tokio::io::copy(&mut read, &mut write).await.unwrap();
                });
                ports.echoes.fetch_add(1, Ordering::SeqCst);
                Ok(Port::new(near))
            }
        }
    }
}

struct Place {
    server: Arc<Server<Shared>>,
    ports: Arc<Ports>,
    address: String,
    stop: CancellationToken,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn place() -> Place {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ports = Arc::new(Ports::default());
    let runtime = Arc::new(Shared(Arc::clone(&ports)));
    let server = Server::new(runtime, format!("http://{address}"), Limits::default());
    let stop = CancellationToken::new();
    tokio::spawn(Arc::clone(&server).serve(listener, None, stop.clone()));
    Place { server, ports, address, stop }
}

impl Place {
    /// A port-forward's connection, as a client has it that reads only when it is told to, and does not count.
    async fn forward(&self, ports: &[u16], upgrade: &str) -> TcpStream {
        let request = PortForward { sandbox: "s".into(), ports: ports.to_vec() };
        let url = self.server.port_forward_url(request).unwrap();
        let path = url.split_once(&self.address).unwrap().1;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        let mut socket = socket.connect(self.address.parse().unwrap()).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n{upgrade}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        socket
    }

    /// Waits until nothing goes from the ports any more: the connection holds as much as it can.
    async fn full(&self) {
        let mut last = 0;
        soon("the ports are stopped", || {
            let now = self.ports.sent.load(Ordering::SeqCst);
            now > 0 && std::mem::replace(&mut last, now) == now
        })
        .await;
    }
}

async fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..400 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not so: {what}");
}

const SPDY: &str = "Upgrade: SPDY/3.1\r\n";
const TUNNEL: &str = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io\r\n";
const CHANNELS: &str = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n";

fn masked(bytes: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    // A key of zeros changes nothing.
    let mask = Some([0; 4]);
    encode_head(&mut out, &Head { fin: true, kind: Kind::Binary, mask, length: bytes.len() });
    out.extend_from_slice(bytes);
    out
}

/// Reads what has come; the server has not ended the connection.
async fn more(socket: &mut TcpStream) -> BytesMut {
    let mut chunk = BytesMut::with_capacity(64 << 10);
    let read = tokio::time::timeout(SOON, socket.read_buf(&mut chunk)).await;
    let count = read.expect("something comes").unwrap();
    assert!(count > 0, "the whole connection has ended");
    chunk
}

/// A client of SPDY, maybe in a tunnel.
struct Client {
    socket: TcpStream,
    is_tunnel: bool,
    compressor: Compressor,
    messages: ws::Decoder,
    frames: spdy::Decoder,
}

impl Client {
    async fn new(place: &Place, upgrade: &str) -> Self {
        let socket = place.forward(&[], upgrade).await;
        Self {
            socket,
            is_tunnel: upgrade == TUNNEL,
            compressor: Compressor::default(),
            messages: ws::Decoder::new(Side::Server),
            frames: spdy::Decoder::default(),
        }
    }

    async fn send(&mut self, frame: Frame) {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        let out = if self.is_tunnel { masked(&out) } else { out };
        self.socket.write_all(&out).await.unwrap();
    }

    /// Opens the streams of a connection to `port`; the number of that of data.
    async fn open(&mut self, id: u32, port: u16) -> u32 {
        for (stream, kind) in [(4 * id + 1, "error"), (4 * id + 3, "data")] {
            let (id, port) = (id.to_string(), port.to_string());
            let headers = [("streamtype", kind), ("port", &port), ("requestid", &id)];
            let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let headers = self.compressor.block(&headers.to_vec()).unwrap();
            self.send(Frame::SynStream { stream, fin: false, headers }).await;
        }
        4 * id + 3
    }

    /// The next bytes of a stream, with its number; `None` where it was reset.
    async fn next(&mut self) -> (u32, Option<Bytes>) {
        loop {
            if let Some(frame) = self.frames.take().unwrap() {
                if let Frame::Data { stream, bytes, .. } = frame {
                    return (stream, Some(bytes));
                }
                if let Frame::RstStream { stream, .. } = frame {
                    return (stream, None);
                }
                continue;
            }
            if !self.is_tunnel {
                self.frames.give(more(&mut self.socket).await.freeze());
                continue;
            }
            match self.messages.part().unwrap() {
                Some(Part::Message { bytes, .. }) => self.frames.give(bytes),
                Some(Part::Control(..)) => {}
                None => self.messages.give(more(&mut self.socket).await),
            }
        }
    }

    /// Sends words through another connection.
    async fn open_another(&mut self, place: &Place, id: u32) {
        let before = place.ports.echoes.load(Ordering::SeqCst);
        let stream = self.open(id, ECHO).await;
        self.send(Frame::Data { stream, fin: true, bytes: Bytes::from_static(b"words") }).await;
        // What was sent before has been seen by then.
        soon("another is connected", || place.ports.echoes.load(Ordering::SeqCst) > before).await;
    }
}

#[tokio::test]
async fn a_download_that_is_reset_in_the_middle_of_a_frame_takes_no_other_along() {
    for upgrade in [SPDY, TUNNEL] {
        let place = place().await;
        let mut client = Client::new(&place, upgrade).await;
        let flood = client.open(0, FLOOD).await;
        place.full().await;
        client.send(Frame::RstStream { stream: flood, status: 5 }).await;
        client.open_another(&place, 1).await;
        let mut got = Vec::new();
        while got != b"words" {
            match client.next().await {
                (7, Some(bytes)) => got.extend_from_slice(&bytes),
                (stream, _) => assert_eq!(stream, flood, "{upgrade}"),
            }
        }
        soon("the flood has ended", || place.ports.ended.load(Ordering::SeqCst) == 1).await;
    }
}

#[tokio::test]
async fn a_port_that_refuses_an_upload_loses_nothing_that_it_has_said_and_no_other() {
    for upgrade in [SPDY, TUNNEL] {
        let place = place().await;
        let mut client = Client::new(&place, upgrade).await;
        let refuses = client.open(0, REFUSES).await;
        place.full().await;
        let bytes = Bytes::from_static(b"upload");
        client.send(Frame::Data { stream: refuses, fin: false, bytes }).await;
        soon("it is refused", || place.ports.refused.load(Ordering::SeqCst) == 1).await;
        client.open_another(&place, 1).await;
        let (mut answer, mut words, mut is_reset) = (0, Vec::new(), false);
        while words != b"words" || !is_reset {
            match client.next().await {
                (7, bytes) => words.extend_from_slice(&bytes.unwrap()),
                (stream, Some(bytes)) if stream == refuses => answer += bytes.len(),
                (stream, _) => is_reset |= stream == refuses,
            }
        }
        assert_eq!(answer, ANSWER, "{upgrade}");
    }
}

#[tokio::test]
async fn a_channel_whose_port_refuses_an_upload_takes_no_other_along() {
    let place = place().await;
    let mut socket = place.forward(&[REFUSES, ECHO], CHANNELS).await;
    place.full().await;
    socket.write_all(&masked(b"\0upload")).await.unwrap();
    soon("it is refused", || place.ports.refused.load(Ordering::SeqCst) == 1).await;
    socket.write_all(&masked(b"\x02words")).await.unwrap();
    let mut decoder = ws::Decoder::new(Side::Server);
    let (mut channel, mut answer, mut words) = (None, 0, Vec::new());
    // Each channel begins with the number of its port.
    while answer < 2 + ANSWER || words.len() < 2 + 5 {
        let Some(part) = decoder.part().unwrap() else {
            decoder.give(more(&mut socket).await);
            continue;
        };
        let Part::Message { ends, mut bytes, .. } = part else { continue };
        let from = channel.unwrap_or_else(|| bytes.split_to(1)[0]);
        channel = (!ends).then_some(from);
        match from {
            0 => answer += bytes.len(),
            2 => words.extend_from_slice(&bytes),
            _ => {}
        }
    }
    assert_eq!((answer, &words[2..]), (2 + ANSWER, &b"words"[..]));
}

#[tokio::test]
async fn a_socket_that_breaks_lets_its_port_go() {
    for transport in [Transport::Spdy, Transport::WebSocket] {
        let place = place().await;
        let request = PortForward { sandbox: "s".into(), ports: vec![] };
        let url = place.server.port_forward_url(request).unwrap();
        let forwarder = Forwarder::connect(&url, transport, None).await.unwrap();
        let (near, mut far) = duplex(64);
        drop(near);
        let forwarded = tokio::time::timeout(SOON, forwarder.forward(&mut far, FLOOD)).await;
        forwarded.expect("it returns").unwrap_err();
        soon("the flood has ended", || place.ports.ended.load(Ordering::SeqCst) == 1).await;
    }
}
