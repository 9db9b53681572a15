//! How fast a program's output and a forwarded port are carried, beside what one core carries by plain copying.
//!
//! Run it with `cargo run --release -p cri-streaming --example speed`; behind `--` may come how many MiB each way
//! carries, which ways (`proxy,fw-ws`), and how often. The ways take turns.

#![expect(clippy::unwrap_used, reason = "what fails here fails the measurement")]

use std::io::{self, Read as _, Write as _};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use cri_streaming::client::{Forwarder, Transport, remote_command};
use cri_streaming::server::{Attach, Exec, Io, Limits, Port, PortForward, Streams};
use cri_streaming::{Outcome, Runtime, Server, Source};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const OUTPUT: Streams = Streams { tty: false, stdin: false, stdout: true, stderr: false };
const CHUNK: usize = 256 << 10;
const ROUNDS: usize = 3;
const WAYS: [&str; 6] = ["relay", "ws", "spdy", "proxy", "fw-ws", "fw-spdy"];

struct Programs;

impl Runtime for Programs {
    async fn exec(&self, request: Exec, io: Io) -> Outcome {
        let mut command = std::process::Command::new(&request.command[0]);
        command.args(&request.command[1..]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let from = std::os::fd::OwnedFd::from(child.stdout.take().unwrap());
        rustix::io::ioctl_fionbio(&from, true).unwrap();
        let from = Source::pipe(pipe::Receiver::from_owned_fd(from).unwrap());
        let carried = io.stdout.unwrap().carry(from).all().await;
        child.wait().unwrap();
        carried.map_or_else(|e| Outcome::Failed(e.to_string()), |()| Outcome::Success)
    }

    async fn attach(&self, _: Attach, _: Io) -> Outcome {
        Outcome::Failed("there is nothing to attach to".to_owned())
    }

    async fn connect(&self, _: &str, port: u16) -> io::Result<Port> {
        Ok(TcpStream::connect(("127.0.0.1", port)).await?.into())
    }
}

async fn drain(from: &mut (impl AsyncRead + Unpin)) -> u64 {
    let mut buffer = vec![0; CHUNK];
    let mut all = 0;
    loop {
        match from.read(&mut buffer).await.unwrap() {
            0 => return all,
            count => all += count as u64,
        }
    }
}

fn dd(mib: u64) -> Vec<String> {
    ["dd", "if=/dev/zero", "bs=1M", &format!("count={mib}")].map(str::to_owned).to_vec()
}

/// A program, its pipe, one thread that reads and writes, a socket, a reader.
async fn relay(mib: u64) -> u64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let command = dd(mib);
        let mut command = std::process::Command::new(&command[0])
            .args(&command[1..])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut from = command.stdout.take().unwrap();
        let mut to = std::net::TcpStream::connect(address).unwrap();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match from.read(&mut buffer).unwrap() {
                0 => break,
                count => to.write_all(&buffer[..count]).unwrap(),
            }
        }
        command.wait().unwrap();
    });
    drain(&mut listener.accept().await.unwrap().0).await
}

fn serve_bytes(mib: u64) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let chunk = vec![0; CHUNK];
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            for _ in 0..mib * 4 {
                socket.write_all(&chunk).unwrap();
            }
        }
    });
    port
}

/// Copies, and no more.
fn proxy(port: u16) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let own = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((mut here, _)) = listener.accept().await {
                let mut there = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ =
                    tokio::io::copy_bidirectional_with_sizes(&mut here, &mut there, CHUNK, CHUNK)
                        .await;
            }
        });
    });
    own
}

fn server() -> Arc<Server<Programs>> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::new(Arc::new(Programs), url, Limits::default());
    let serving = Arc::clone(&server);
    std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            serving.serve(listener, None, CancellationToken::new()).await;
        });
    });
    server
}

async fn exec(server: &Server<Programs>, mib: u64, transport: Transport) -> u64 {
    let exec = Exec { container: String::new(), command: dd(mib), streams: OUTPUT };
    let url = server.exec_url(exec).unwrap();
    let mut session = remote_command(&url, OUTPUT, transport, None).await.unwrap();
    drain(session.stdout.as_mut().unwrap()).await
}

async fn forward(server: &Server<Programs>, port: u16, transport: Transport) -> u64 {
    let request = PortForward { sandbox: String::new(), ports: vec![port] };
    let url = server.port_forward_url(request).unwrap();
    let forwarder = Forwarder::connect(&url, transport, None).await.unwrap();
    let mut forwarded = forwarder.open(port).await.unwrap();
    drain(&mut forwarded.reader).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mib = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(2048);
    let ways = arguments.next().unwrap_or_else(|| WAYS.join(","));
    let rounds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let server = server();
    let port = serve_bytes(mib);
    let by_proxy = proxy(port);
    let mut speeds: Vec<(&str, Vec<f64>)> = WAYS
        .into_iter()
        .filter(|way| ways.split(',').any(|w| w == *way))
        .map(|way| (way, vec![]))
        .collect();
    for _ in 0..rounds {
        for (way, speeds) in &mut speeds {
            let begun = Instant::now();
            let came = match *way {
                "relay" => relay(mib).await,
                "ws" => exec(&server, mib, Transport::WebSocket).await,
                "spdy" => exec(&server, mib, Transport::Spdy).await,
                "proxy" => {
                    let socket = TcpStream::connect(("127.0.0.1", by_proxy)).await;
                    drain(&mut socket.unwrap()).await
                }
                "fw-ws" => forward(&server, port, Transport::WebSocket).await,
                _ => forward(&server, port, Transport::Spdy).await,
            };
            assert_eq!(came, mib << 20, "{way}");
            speeds.push(came as f64 / 1e6 / begun.elapsed().as_secs_f64());
        }
    }
    for (way, speeds) in &mut speeds {
        speeds.sort_by(f64::total_cmp);
        let all: Vec<String> = speeds.iter().map(|speed| format!("{speed:.0}")).collect();
        println!("{way:8} {:6.0} MB/s, the middle of {}", speeds[speeds.len() / 2], all.join(" "));
    }
}
