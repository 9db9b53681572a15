//! A runtime in a few lines: exec runs programs of this machine, port-forward reaches its loopback. It prints a
//! URL; `curl` cannot use it, `isopod` and every Kubernetes client can.
//!
//! Run it with `cargo run -p cri-streaming --example shell -- ls -l`.

use std::io;
use std::process::Stdio;
use std::sync::Arc;

use cri_streaming::server::{Attach, Exec, Io, Limits, Port, Streams};
use cri_streaming::{Outcome, Runtime, Server, Source};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

struct Shell;

impl Runtime for Shell {
    async fn exec(&self, request: Exec, io: Io) -> Outcome {
        let mut command = Command::new(&request.command[0]);
        command.args(&request.command[1..]).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Outcome::Failed(format!("{}: {error}", request.command[0])),
        };
        if let (Some(from), Some(to)) = (child.stdout.take(), io.stdout) {
            // A client that is gone is no reason to end badly. From a pipe's `Receiver` it would go without a copy.
            let _ = to.carry(Source::any(from)).all().await;
        }
        match child.wait().await {
            Ok(status) => Outcome::ExitCode(status.code().unwrap_or(255)),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    async fn attach(&self, request: Attach, _: Io) -> Outcome {
        Outcome::Failed(format!("there is no container {}", request.container))
    }

    async fn connect(&self, _sandbox: &str, port: u16) -> io::Result<Port> {
        Ok(TcpStream::connect(("127.0.0.1", port)).await?.into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let server = Server::new(Arc::new(Shell), url, Limits::default());
    let streams = Streams { tty: false, stdin: false, stdout: true, stderr: false };
    let command = std::env::args().skip(1).collect();
    let url = server.exec_url(Exec { container: "this machine".into(), command, streams })?;
    println!("for one client, within a minute: {url}");
    let stop = CancellationToken::new();
    tokio::spawn({
        let stop = stop.clone();
        async move {
            tokio::time::sleep(cri_streaming::LIFETIME).await;
            stop.cancel();
        }
    });
    server.serve(listener, None, stop).await;
    Ok(())
}
