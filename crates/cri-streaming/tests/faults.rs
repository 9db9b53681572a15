//! Clients that vanish at each step, send halves, floods and bombs. Each is survived, and nothing is left of any:
//! descriptors and tasks are counted before and after. One test alone in its process, for the counts.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cri_streaming::server::{
    Attach, Exec, Io, Limits, Port, PortForward, Runtime, Server, Streams,
};
use cri_streaming::spdy::{Compressor, Decoder, Frame};
use cri_streaming::websocket::{Head, Kind, encode_head};
use cri_streaming::{Outcome, Source};
use flate2::{Compress, Compression, FlushCompress};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const ALL: Streams = Streams { tty: false, stdin: true, stdout: true, stderr: true };
const QUICK: Duration = Duration::from_millis(300);
const SOON: Duration = Duration::from_secs(20);

/// Writes without end, until its client is gone.
struct Flood;

impl Runtime for Flood {
    async fn exec(&self, _: Exec, io: Io) -> Outcome {
        let flood = async {
            let out = io.stdout.unwrap().carry(Source::any(tokio::io::repeat(7)));
            let _ = out.all().await;
        };
        tokio::select! {
            () = flood => {}
            () = io.gone.cancelled() => {}
        }
        Outcome::Success
    }

    async fn attach(&self, _: Attach, io: Io) -> Outcome {
        io.gone.cancelled().await;
        Outcome::Success
    }

    async fn connect(&self, _: &str, _: u16) -> io::Result<Port> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

struct Place {
    server: Arc<Server<Flood>>,
    address: String,
}

impl Place {
    fn path(&self, what: &str) -> String {
        let exec = Exec { container: "c".into(), command: vec!["flood".into()], streams: ALL };
        let url = match what {
            "exec" => self.server.exec_url(exec),
            "attach" => self.server.attach_url(Attach { container: "c".into(), streams: ALL }),
            _ => self.server.port_forward_url(PortForward { sandbox: "s".into(), ports: vec![] }),
        };
        url.unwrap().split_once(&self.address).unwrap().1.to_owned()
    }

    async fn connected(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }

    /// A connection that was upgraded, and nothing more.
    async fn upgraded(&self, what: &str, headers: &str) -> TcpStream {
        let mut socket = self.connected().await;
        let path = self.path(what);
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n{headers}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        socket
    }

    async fn spdy(&self, what: &str) -> TcpStream {
        self.upgraded(what, "Upgrade: SPDY/3.1\r\n").await
    }

    async fn websocket(&self, what: &str) -> TcpStream {
        let headers = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n";
        self.upgraded(what, headers).await
    }
}

fn opening(compressor: &mut Compressor, stream: u32, kind: &str) -> Bytes {
    let id = (stream / 4).to_string();
    let headers = [("streamtype", kind), ("port", "1"), ("requestid", &id)];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let headers = compressor.block(&headers.to_vec()).unwrap();
    let mut out = BytesMut::new();
    Frame::SynStream { stream, fin: false, headers }.encode(&mut out);
    out.freeze()
}

/// Reads until the server ends the connection.
async fn ends(mut socket: TcpStream) {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(SOON, socket.read_to_end(&mut bytes)).await;
    // A reset ends it, too.
    let _ = read.expect("the server lets it go");
}

async fn vanishing(place: &Place) {
    drop(place.connected().await);
    let mut half = place.connected().await;
    half.write_all(b"POST /exec/abc HTTP/1.1\r\nHost").await.unwrap();
    drop(half);
    for what in ["exec", "attach", "portforward"] {
        drop(place.spdy(what).await);
        let mut compressor = Compressor::default();
        let mut socket = place.spdy(what).await;
        let error = opening(&mut compressor, 1, "error");
        socket.write_all(&error).await.unwrap();
        drop(socket);
        // Half a head, and half of a frame's bytes.
        for half in [&error[..5], &error[..error.len() - 3]] {
            let mut socket = place.spdy(what).await;
            socket.write_all(half).await.unwrap();
            drop(socket);
        }
    }
    for what in ["exec", "attach"] {
        drop(place.websocket(what).await);
        let mut frame = BytesMut::new();
        let head = Head { fin: true, kind: Kind::Binary, mask: Some([1, 2, 3, 4]), length: 100 };
        encode_head(&mut frame, &head);
        for half in [&frame[..1], &frame[..]] {
            let mut socket = place.websocket(what).await;
            socket.write_all(half).await.unwrap();
            drop(socket);
        }
    }
}

/// One that never reads stops the flood, which ends when it leaves.
async fn deaf(place: &Place) {
    let mut compressor = Compressor::default();
    let mut spdy = place.spdy("exec").await;
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
        spdy.write_all(&opening(&mut compressor, stream, kind)).await.unwrap();
    }
    let websocket = place.websocket("exec").await;
    for socket in [&spdy, &websocket] {
        socket.readable().await.unwrap();
    }
    drop((spdy, websocket));
}

/// Of 1500 streams that no other completes, all but the newest are reset, and the connection goes on.
async fn many_streams(place: &Place) {
    let mut compressor = Compressor::default();
    let (mut read, mut write) = place.spdy("portforward").await.into_split();
    let opens = async {
        for stream in 0..1500 {
            write.write_all(&opening(&mut compressor, 4 * stream + 1, "data")).await.unwrap();
        }
    };
    let mut decoder = Decoder::default();
    let mut reset = 0;
    let reads = async {
        while reset < 1000 {
            let mut chunk = BytesMut::new();
            assert!(read.read_buf(&mut chunk).await.unwrap() > 0, "it has ended");
            decoder.give(chunk.freeze());
            while let Some(frame) = decoder.take().unwrap() {
                reset += usize::from(matches!(frame, Frame::RstStream { .. }));
            }
        }
    };
    let both = async { tokio::join!(opens, reads) };
    tokio::time::timeout(SOON, both).await.expect("streams are reset");
}

async fn headers_and_bombs(place: &Place) {
    let mut socket = place.connected().await;
    let long = format!("GET /exec/abc HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    // The server need not read all of it.
    let _ = socket.write_all(long.as_bytes()).await;
    ends(socket).await;

    let mut long = BytesMut::new();
    let headers = Bytes::from(vec![7; 1 << 20]);
    Frame::SynStream { stream: 1, fin: false, headers }.encode(&mut long);
    let mut zlib = Compress::new(Compression::best(), true);
    let mut block = Vec::with_capacity(64 << 10);
    zlib.compress_vec(&vec![0; 8 << 20], &mut block, FlushCompress::Sync).unwrap();
    let mut bomb = BytesMut::new();
    Frame::SynStream { stream: 1, fin: false, headers: block.into() }.encode(&mut bomb);
    for bytes in [long, bomb] {
        let mut socket = place.spdy("portforward").await;
        let _ = socket.write_all(&bytes).await;
        ends(socket).await;
    }
}

async fn tokens(place: &Place) {
    let used = place.path("attach");
    let guessed = format!("/attach/{}", "A".repeat(43));
    let mut first = true;
    for path in [&used, &used, &guessed] {
        let mut socket = place.connected().await;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        socket.read_exact(&mut status).await.unwrap();
        let wanted: &[u8] = if first { b"HTTP/1.1 101" } else { b"HTTP/1.1 404" };
        assert_eq!(status, wanted, "{path}");
        first = false;
    }
}

fn counted() -> (usize, usize) {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    (descriptors, tokio::runtime::Handle::current().metrics().num_alive_tasks())
}

#[tokio::test]
async fn whatever_a_client_does_nothing_is_left_of_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let limits = Limits { stream_creation: QUICK, request: QUICK, ..Limits::default() };
    let server = Server::new(Arc::new(Flood), format!("http://{address}"), limits);
    let stop = CancellationToken::new();
    tokio::spawn(Arc::clone(&server).serve(listener, None, stop.clone()));
    let place = Place { server, address };
    // One of each before the count: what is made once is no leak.
    vanishing(&place).await;
    let settled = |wanted: Option<(usize, usize)>| async move {
        let mut last = counted();
        for _ in 0..400 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = counted();
            let is_there = wanted
                .map_or(now == last && now.1 <= 1, |wanted| now.0 <= wanted.0 && now.1 <= wanted.1);
            if is_there {
                return now;
            }
            last = now;
        }
        panic!("{last:?} descriptors and tasks are left, not {wanted:?}");
    };
    let before = settled(None).await;
    vanishing(&place).await;
    deaf(&place).await;
    many_streams(&place).await;
    headers_and_bombs(&place).await;
    tokens(&place).await;
    settled(Some(before)).await;
    stop.cancel();
}
