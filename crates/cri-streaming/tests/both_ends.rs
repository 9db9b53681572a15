//! Server and client over real sockets: every transport, every kind of stream.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cri_streaming::client::{
    ClientError, ClientTls, Forwarded, Forwarder, Session, Transport, remote_command,
};
use cri_streaming::server::{
    Attach, Exec, Io, Limits, Output, Port, PortForward, Refused, Runtime, Server, Size, Streams,
    Tls,
};
use cri_streaming::{Outcome, Source};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, duplex};
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const ALL: Streams = Streams { tty: false, stdin: true, stdout: true, stderr: true };
const OUTPUT: Streams = Streams { tty: false, stdin: false, stdout: true, stderr: false };
const TERMINAL: Streams = Streams { tty: true, stdin: true, stdout: true, stderr: false };
const BOTH: [Transport; 2] = [Transport::WebSocket, Transport::Spdy];

/// A port that is one of TCP.
const TCP: u16 = 6000;
/// Lengths of what is written at once: so little that it is copied, so much that pages are handed on.
const PIECES: [usize; 8] = [1, 100, 4096, 3_000_000, 5, 4097, 1_000_001, 7];

fn pattern(pieces: impl IntoIterator<Item = usize>) -> Vec<Vec<u8>> {
    let mut next = 0_usize;
    let mut piece = |length| {
        next += length;
        (next - length..next).map(|n| (n % 251) as u8).collect()
    };
    pieces.into_iter().map(&mut piece).collect()
}

/// Writes into a pipe whose other end is carried to the client; how many pieces went into it.
async fn carried(to: Output, pieces: &[Vec<u8>]) -> i32 {
    let (mut write, read) = pipe::pipe().unwrap();
    let writing = async move {
        for piece in pieces {
            write.write_all(piece).await.unwrap();
        }
        i32::try_from(pieces.len()).unwrap()
    };
    let (written, done) = tokio::join!(writing, to.carry(Source::pipe(read)).all());
    done.unwrap();
    written
}

/// Does what its command says.
#[derive(Debug, Default)]
struct Echo {
    gone: AtomicUsize,
}

impl Runtime for Echo {
    async fn exec(&self, request: Exec, io: Io) -> Outcome {
        let Io { stdin, stdout, stderr, mut resize, gone } = io;
        match request.command[0].as_str() {
            "cat" => {
                let (mut stdin, mut stdout) = (stdin.unwrap(), stdout.unwrap());
                copy(&mut stdin, &mut stdout).await.unwrap();
                stderr.unwrap().write_all(b"done").await.unwrap();
                Outcome::ExitCode(3)
            }
            "size" => {
                let size = resize.recv().await.unwrap();
                let text = format!("{}x{}", size.width, size.height);
                stdout.unwrap().write_all(text.as_bytes()).await.unwrap();
                Outcome::Success
            }
            "pipe" => {
                let written = carried(stdout.unwrap(), &pattern(PIECES)).await;
                Outcome::ExitCode(written)
            }
            "wait" => {
                gone.cancelled().await;
                self.gone.fetch_add(1, Ordering::SeqCst);
                Outcome::ExitCode(129)
            }
            other => Outcome::Failed(format!("{other}: not found")),
        }
    }

    async fn attach(&self, request: Attach, io: Io) -> Outcome {
        io.stdout.unwrap().write_all(request.container.as_bytes()).await.unwrap();
        Outcome::Success
    }

    async fn connect(&self, _sandbox: &str, port: u16) -> io::Result<Port> {
        if port == 1 {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused"));
        }
        if port == TCP {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            tokio::spawn(async move {
                let (mut socket, _) = listener.accept().await.unwrap();
                let (mut read, mut write) = socket.split();
                copy(&mut read, &mut write).await.unwrap();
            });
            return Ok(TcpStream::connect(address).await?.into());
        }
        let (near, far) = duplex(1 << 16);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(far);
            copy(&mut read, &mut write).await.unwrap();
            write.write_all(format!("port {port}").as_bytes()).await.unwrap();
        });
        Ok(Port::new(near))
    }
}

struct Place {
    server: Arc<Server<Echo>>,
    runtime: Arc<Echo>,
    stop: CancellationToken,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn place(limits: Limits, tls: Option<Tls>) -> Place {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let host = if tls.is_some() { "localhost" } else { "127.0.0.1" };
    let url = format!("{scheme}://{host}:{}", listener.local_addr().unwrap().port());
    let runtime = Arc::new(Echo::default());
    let server = Server::new(Arc::clone(&runtime), url, limits);
    let stop = CancellationToken::new();
    tokio::spawn(Arc::clone(&server).serve(listener, tls, stop.clone()));
    Place { server, runtime, stop }
}

fn exec(command: &str, streams: Streams) -> Exec {
    Exec { container: "c".into(), command: vec![command.into()], streams }
}

async fn session(place: &Place, command: &str, streams: Streams, transport: Transport) -> Session {
    let url = place.server.exec_url(exec(command, streams)).unwrap();
    remote_command(&url, streams, transport, None).await.unwrap()
}

#[tokio::test]
async fn every_byte_goes_through_and_the_exit_code_comes_back() {
    let place = place(Limits::default(), None).await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    for transport in BOTH {
        let mut session = session(&place, "cat", ALL, transport).await;
        let mut stdin = session.stdin.take().unwrap();
        let bytes = sent.clone();
        let writing = tokio::spawn(async move {
            stdin.write_all(&bytes).await.unwrap();
            stdin.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        session.stdout.take().unwrap().read_to_end(&mut got).await.unwrap();
        let mut errors = String::new();
        session.stderr.take().unwrap().read_to_string(&mut errors).await.unwrap();
        writing.await.unwrap();
        assert!(
            got == sent,
            "{transport:?}: {} of {} bytes came back whole",
            got.len(),
            sent.len()
        );
        assert_eq!(errors, "done");
        assert_eq!(session.outcome.await.unwrap(), Outcome::ExitCode(3), "{transport:?}");
    }
}

#[tokio::test]
async fn pages_of_a_pipe_and_of_a_port_are_handed_on_in_their_order() {
    let place = place(Limits::default(), None).await;
    let sent = pattern(PIECES).concat();
    for transport in BOTH {
        let mut session = session(&place, "pipe", OUTPUT, transport).await;
        let mut got = Vec::new();
        session.stdout.take().unwrap().read_to_end(&mut got).await.unwrap();
        assert!(got == sent, "{transport:?}: {} of {} bytes", got.len(), sent.len());
        assert_eq!(session.outcome.await.unwrap(), Outcome::ExitCode(8));

        let request = PortForward { sandbox: "s".into(), ports: vec![] };
        let url = place.server.port_forward_url(request).unwrap();
        let forwarder = Forwarder::connect(&url, transport, None).await.unwrap();
        let Forwarded { mut reader, mut writer, failure } = forwarder.open(TCP).await.unwrap();
        let writing = async {
            for piece in pattern(PIECES) {
                writer.write_all(&piece).await.unwrap();
            }
            writer.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let ((), read) = tokio::join!(writing, reader.read_to_end(&mut got));
        read.unwrap();
        assert!(got == sent, "{transport:?}: {} of {} bytes", got.len(), sent.len());
        failure.told().await.unwrap();
    }
}

#[tokio::test]
async fn a_terminal_is_told_its_size_and_a_failure_its_reason() {
    let place = place(Limits::default(), None).await;
    for transport in BOTH {
        let mut session = session(&place, "size", TERMINAL, transport).await;
        session.resizer.as_mut().unwrap().resize(Size { width: 120, height: 40 }).await.unwrap();
        let mut got = String::new();
        session.stdout.take().unwrap().read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "120x40");
        assert_eq!(session.outcome.await.unwrap(), Outcome::Success);
        let failed = self::session(&place, "nothing", ALL, transport).await;
        let Outcome::Failed(why) = failed.outcome.await.unwrap() else { panic!("it did not fail") };
        assert!(why.contains("nothing: not found"), "{why}");
    }
}

#[tokio::test]
async fn attach_is_served_and_a_url_serves_once() {
    let place = place(Limits::default(), None).await;
    for transport in BOTH {
        let url =
            place.server.attach_url(Attach { container: "abc".into(), streams: ALL }).unwrap();
        let mut session = remote_command(&url, ALL, transport, None).await.unwrap();
        let mut got = String::new();
        session.stdout.take().unwrap().read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "abc");
        let again = remote_command(&url, ALL, transport, None).await;
        assert!(matches!(again, Err(ClientError::Refused { status, .. }) if status == 404));
        let url =
            place.server.attach_url(Attach { container: "abc".into(), streams: ALL }).unwrap();
        let wrong = remote_command(&url.replace("attach", "exec"), ALL, transport, None).await;
        assert!(matches!(wrong, Err(ClientError::Refused { status, .. }) if status == 404));
    }
}

#[tokio::test]
async fn a_runtime_learns_that_its_client_is_gone() {
    let place = place(Limits::default(), None).await;
    for (count, transport) in BOTH.into_iter().enumerate() {
        drop(session(&place, "wait", ALL, transport).await);
        let told = async {
            while place.runtime.gone.load(Ordering::SeqCst) <= count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), told).await.expect("it was told");
    }
}

#[tokio::test]
async fn ports_are_forwarded_many_at_once_and_half_closed_as_tcp_does() {
    let place = place(Limits::default(), None).await;
    for transport in BOTH {
        let url = place
            .server
            .port_forward_url(PortForward { sandbox: "s".into(), ports: vec![80] })
            .unwrap();
        let forwarder = Forwarder::connect(&url, transport, None).await.unwrap();
        let mut all = tokio::task::JoinSet::new();
        for n in 0..50_u16 {
            let forwarder = forwarder.clone();
            all.spawn(async move {
                let (mut near, mut far) = duplex(4096);
                let sent = vec![n as u8; 100_000];
                let check = async {
                    let (mut read, mut write) = tokio::io::split(&mut near);
                    let writing = async {
                        write.write_all(&sent).await.unwrap();
                        write.shutdown().await.unwrap();
                    };
                    let mut got = Vec::new();
                    let (_, read) = tokio::join!(writing, read.read_to_end(&mut got));
                    read.unwrap();
                    assert_eq!(got.len(), sent.len() + format!("port {}", n + 2).len());
                    assert!(got.ends_with(format!("port {}", n + 2).as_bytes()));
                };
                let (forwarded, ()) = tokio::join!(forwarder.forward(&mut far, n + 2), async {
                    check.await;
                });
                forwarded.unwrap();
            });
        }
        while let Some(done) = all.join_next().await {
            done.unwrap();
        }
        let (_near, mut far) = duplex(4096);
        let refused = forwarder.forward(&mut far, 1).await.unwrap_err();
        assert!(refused.to_string().contains("connection refused"), "{refused}");
    }
}

#[tokio::test]
async fn requests_that_contradict_themselves_get_no_url() {
    let place = place(Limits::default(), None).await;
    for streams in [
        Streams { tty: true, stdin: true, stdout: true, stderr: true },
        Streams { tty: false, stdin: false, stdout: false, stderr: false },
    ] {
        assert!(matches!(place.server.exec_url(exec("cat", streams)), Err(Refused::Invalid(_))));
    }
    let empty = Exec { container: "c".into(), command: vec![], streams: ALL };
    assert!(matches!(place.server.exec_url(empty), Err(Refused::Invalid(_))));
}

#[tokio::test]
async fn a_slow_reader_stops_the_writer() {
    // What is written before anybody reads is bounded by the buffers on the way.
    let place = place(Limits::default(), None).await;
    for transport in BOTH {
        let mut session = session(&place, "cat", ALL, transport).await;
        let mut stdin = session.stdin.take().unwrap();
        let mut written = 0_usize;
        let chunk = vec![1; 64 << 10];
        loop {
            match tokio::time::timeout(Duration::from_millis(300), stdin.write(&chunk)).await {
                Ok(count) => written += count.unwrap(),
                Err(_) => break,
            }
            assert!(written < 64 << 20, "{transport:?}: nothing stops the writer");
        }
        let mut stdout = session.stdout.take().unwrap();
        let mut got = 0;
        let mut buffer = vec![0; 64 << 10];
        while got < written {
            got += stdout.read(&mut buffer).await.unwrap();
        }
        assert_eq!(got, written, "{transport:?}");
    }
}

#[tokio::test]
async fn https_is_served_with_the_certificate_of_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let place = place(Limits::default(), Some(Tls::from_files(&certificate, &key).unwrap())).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(roots)
    .with_no_client_auth();
    let tls = ClientTls(Arc::new(config));
    for transport in BOTH {
        let url =
            place.server.attach_url(Attach { container: "abc".into(), streams: ALL }).unwrap();
        assert!(remote_command(&url, ALL, transport, None).await.is_err());
        let mut session = remote_command(&url, ALL, transport, Some(&tls)).await.unwrap();
        let mut got = String::new();
        session.stdout.take().unwrap().read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "abc");
    }
}

#[tokio::test]
async fn a_client_that_opens_no_streams_or_sends_no_request_is_left() {
    let quick = Duration::from_millis(200);
    let place =
        place(Limits { stream_creation: quick, request: quick, ..Limits::default() }, None).await;
    let url = place.server.exec_url(exec("cat", ALL)).unwrap();
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
    );
    for sent in [request.as_bytes(), b"GET / HT"] {
        let mut socket = TcpStream::connect(host).await.unwrap();
        socket.write_all(sent).await.unwrap();
        let mut got = Vec::new();
        let ended =
            tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut got)).await;
        ended.expect("the server lets it go").unwrap();
    }
}
