//! Exec and port-forward: what they carry, how long a keystroke takes, and what a session that waits costs.

use std::process::Stdio;
use std::time::{Duration, Instant};

use cri_api::v1::{ExecRequest, PortForwardRequest};
use cri_streaming::client::{Forwarder, Session, Transport, remote_command};
use cri_streaming::server::Streams;
use testkit::{Daemon, Network};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::memory::field;
use crate::samples::{Samples, line};

const OUTPUT: Streams = Streams { tty: false, stdin: false, stdout: true, stderr: false };
const ECHO: Streams = Streams { tty: false, stdin: true, stdout: true, stderr: false };
const TERMINAL: Streams = Streams { tty: true, stdin: true, stdout: true, stderr: false };
/// Bytes that each way carries.
const BYTES: u64 = 2 << 30;
const CHUNK: usize = 256 << 10;
/// What a pipe holds (pipe(7)).
const PIPE: usize = 64 << 10;
const KEYS: usize = 500;
const SESSIONS: u64 = 500;
const ROUNDS: usize = 3;

/// Measures all of it.
pub async fn measure() {
    let (daemon, _registry, image) = crate::daemon(Network::None).await;
    let pod = testkit::host_network(testkit::pod(&daemon, "streams"));
    let sandbox = daemon.run_pod(&pod, "").await.expect("a pod");
    let container = testkit::sleeper("main", &image);
    let id = daemon.launch(&sandbox, &pod, &container).await.expect("a container");

    let (mut copy, mut relayed) = (Vec::new(), Vec::new());
    let mut carried = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        copy.push(plain_copy().await);
        relayed.push(relay().await);
        for (speeds, transport) in carried.iter_mut().zip([Transport::WebSocket, Transport::Spdy]) {
            speeds.push(output(&daemon, &id, transport).await);
        }
    }
    let (copy, relayed) = (middle(&mut copy), middle(&mut relayed));
    line("a plain copy between two sockets", &format!("{copy:8.0} MB/s   n {ROUNDS:4}"), None);
    let figure = format!("{relayed:8.0} MB/s   n {ROUNDS:4}");
    line("a program's pipe copied to a socket by one core", &figure, None);
    for (mut speeds, (name, promised)) in
        carried.into_iter().zip([("WebSocket", 1000.0), ("SPDY", 600.0)])
    {
        let speed = middle(&mut speeds);
        let promised = f64::min(promised, relayed);
        let verdict = if speed >= promised { "kept" } else { "BROKEN" };
        line(
            &format!("stdout of an exec over {name}"),
            &format!("{speed:8.0} MB/s   n {ROUNDS:4}"),
            Some(format!("promised {promised:.0} MB/s: {verdict}")),
        );
    }

    for (name, streams) in [("at a terminal", TERMINAL), ("through pipes", ECHO)] {
        keys(&daemon, &id, streams).await.print(&format!("echo of a key, {name}"), Some(1.0));
    }
    forward(&daemon, &sandbox).await;
    sessions(&daemon, &id).await;
}

fn middle(speeds: &mut [f64]) -> f64 {
    speeds.sort_by(f64::total_cmp);
    speeds[speeds.len() / 2]
}

/// Megabytes in a second.
fn speed(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}

async fn exec(
    daemon: &Daemon,
    id: &str,
    command: &[&str],
    streams: Streams,
    transport: Transport,
) -> Session {
    let Streams { tty, stdin, stdout, stderr } = streams;
    let cmd = command.iter().map(|word| (*word).to_owned()).collect();
    let container_id = id.to_owned();
    let request = ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
    let url = daemon.runtime().exec(request).await.expect("an exec").into_inner().url;
    remote_command(&url, streams, transport, None).await.expect("its streams")
}

/// Reads to the end; how many bytes there were.
async fn drain(from: &mut (impl AsyncRead + Unpin)) -> u64 {
    let mut buffer = vec![0; CHUNK];
    let mut all = 0;
    loop {
        let count = from.read(&mut buffer).await.expect("bytes");
        if count == 0 {
            return all;
        }
        all += count as u64;
    }
}

/// A program that writes all of it.
fn source() -> [String; 4] {
    ["dd", "if=/dev/zero", "bs=1M", &format!("count={}", BYTES >> 20)].map(str::to_owned)
}

/// What a plain socket copy by one core reaches on the way that an exec's output has: a program, its pipe, one
/// thread that reads and writes as much as a pipe holds, a socket, a reader.
async fn relay() -> f64 {
    use std::io::{Read as _, Write as _};
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let begun = Instant::now();
    let relays = std::thread::spawn(move || {
        // The image's program is the machine's busybox.
        let mut command = std::process::Command::new("busybox");
        command.args(source()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut program = command.spawn().expect("busybox");
        let mut from = program.stdout.take().expect("a pipe");
        let mut to = std::net::TcpStream::connect(address).expect("a connection");
        let mut buffer = vec![0; PIPE];
        while let count @ 1.. = from.read(&mut buffer).expect("bytes") {
            to.write_all(&buffer[..count]).expect("room");
        }
        program.wait().expect("it ends")
    });
    let (mut socket, _) = listener.accept().await.expect("a connection");
    let came = drain(&mut socket).await;
    let took = begun.elapsed();
    relays.join().expect("it copies all");
    assert_eq!(came, BYTES, "all of it comes");
    speed(came, took)
}

async fn output(daemon: &Daemon, id: &str, transport: Transport) -> f64 {
    let command = source();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let begun = Instant::now();
    let mut session = exec(daemon, id, &command, OUTPUT, transport).await;
    let came = drain(session.stdout.as_mut().expect("a stream")).await;
    let took = begun.elapsed();
    assert_eq!(came, BYTES, "all of it comes");
    speed(came, took)
}

/// What one thread carries from one socket to another.
async fn plain_copy() -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let sends = std::thread::spawn(move || {
        use std::io::Write as _;
        let mut socket = std::net::TcpStream::connect(address).expect("a connection");
        let chunk = vec![0; CHUNK];
        for _ in 0..BYTES / CHUNK as u64 {
            socket.write_all(&chunk).expect("room");
        }
    });
    let (mut socket, _) = listener.accept().await.expect("a connection");
    let begun = Instant::now();
    let came = drain(&mut socket).await;
    let took = begun.elapsed();
    sends.join().expect("it sends all");
    speed(came, took)
}

async fn keys(daemon: &Daemon, id: &str, streams: Streams) -> Samples {
    let mut session = exec(daemon, id, &["cat"], streams, Transport::WebSocket).await;
    let mut stdin = session.stdin.take().expect("a stream");
    let mut stdout = session.stdout.take().expect("a stream");
    let mut samples = Samples::default();
    let mut key = [0];
    for _ in 0..KEYS {
        let begun = Instant::now();
        stdin.write_all(b"x").await.expect("room");
        stdin.flush().await.expect("room");
        stdout.read_exact(&mut key).await.expect("an echo");
        samples.add(begun.elapsed());
    }
    samples
}

/// Serves as many bytes as are promised to each connection.
async fn serve(listener: TcpListener) {
    while let Ok((mut socket, _)) = listener.accept().await {
        let chunk = vec![0; CHUNK];
        for _ in 0..BYTES / CHUNK as u64 {
            if socket.write_all(&chunk).await.is_err() {
                break;
            }
        }
    }
}

/// A server at a port of its own, on a thread of its own.
fn server() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            serve(TcpListener::from_std(listener).expect("a socket")).await;
        });
    });
    port
}

/// A proxy that copies, and no more.
fn proxy(port: u16) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let own = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let listener = TcpListener::from_std(listener).expect("a socket");
            while let Ok((mut here, _)) = listener.accept().await {
                let mut there = TcpStream::connect(("127.0.0.1", port)).await.expect("a server");
                let _ =
                    tokio::io::copy_bidirectional_with_sizes(&mut here, &mut there, CHUNK, CHUNK)
                        .await;
            }
        });
    });
    own
}

async fn forward(daemon: &Daemon, sandbox: &str) {
    let port = server();
    let by_proxy = proxy(port);
    let (mut plain, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let mut socket = TcpStream::connect(("127.0.0.1", by_proxy)).await.expect("a proxy");
        let came = drain(&mut socket).await;
        plain.push(speed(came, begun.elapsed()));

        let request =
            PortForwardRequest { pod_sandbox_id: sandbox.to_owned(), port: vec![port.into()] };
        let answer = daemon.runtime().port_forward(request).await.expect("a port-forward");
        let url = answer.into_inner().url;
        let forwarder = Forwarder::connect(&url, Transport::WebSocket, None).await;
        let forwarder = forwarder.expect("a connection");
        let begun = Instant::now();
        let mut forwarded = forwarder.open(port).await.expect("the port");
        let came = drain(&mut forwarded.reader).await;
        assert_eq!(came, BYTES, "all of it comes");
        ours.push(speed(came, begun.elapsed()));
    }
    let (plain, ours) = (middle(&mut plain), middle(&mut ours));
    line("a plain TCP proxy", &format!("{plain:8.0} MB/s   n {ROUNDS:4}"), None);
    let verdict = if ours >= plain * 0.8 { "kept" } else { "BROKEN" };
    line(
        "port-forward over WebSocket",
        &format!("{ours:8.0} MB/s   n {ROUNDS:4}"),
        Some(format!("promised {:.0} MB/s: {verdict}", plain * 0.8)),
    );
}

async fn sessions(daemon: &Daemon, id: &str) {
    let resident = || field(&format!("/proc/{}/status", daemon.pid()), "RssAnon:") as f64 / 1000.0;
    let before = resident();
    let mut open = Vec::new();
    for _ in 0..SESSIONS {
        open.push(exec(daemon, id, &["cat"], ECHO, Transport::WebSocket).await);
    }
    let more = (resident() - before) * 1.024;
    let verdict = if more < 20.0 { "kept" } else { "BROKEN" };
    line(
        &format!("memory of {SESSIONS} sessions that wait"),
        &format!("{more:8.1} MB"),
        Some(format!("promised 20 MB: {verdict}")),
    );
    drop(open);
}
