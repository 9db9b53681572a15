//! Exec, attach and port-forward, played.

use std::io;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use cri_log::Stream;
use cri_streaming::server::{Attach, Exec, Input, Io, Output, Port};
use cri_streaming::{Outcome, Runtime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{broadcast, mpsc};

use crate::fault::Fault;
use crate::play::running;
use crate::program::{Program, Sink, is_known};
use crate::world::{INPUT_AHEAD, World};

/// Longest piece of input that is taken at once.
const CHUNK: usize = 32 << 10;

/// What the streaming server carries requests out with.
#[derive(Debug)]
pub(crate) struct Streams(pub Arc<World>);

/// Hands input on until it ends, or nobody takes it.
async fn feed(mut input: Input, to: mpsc::Sender<Bytes>, is_lost: bool) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(count @ 1..) = input.read(&mut buffer).await {
        if !is_lost && to.send(Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
            return;
        }
    }
}

/// Writes what comes, each stream to its own output.
async fn write(
    mut from: mpsc::UnboundedReceiver<(Stream, Bytes)>,
    mut stdout: Option<Output>,
    mut stderr: Option<Output>,
) {
    while let Some((stream, bytes)) = from.recv().await {
        let to = match stream {
            Stream::Stdout => &mut stdout,
            Stream::Stderr => &mut stderr,
        };
        if let Some(to) = to {
            // A client that is gone is no reason to end badly.
            let _ = to.write_all(&bytes).await;
            let _ = to.flush().await;
        }
    }
}

impl Runtime for Streams {
    async fn exec(&self, request: Exec, io: Io) -> Outcome {
        let world = &self.0;
        let (running, environment) = match running(world, &request.container) {
            Ok(parts) => parts,
            Err(status) => return Outcome::Failed(status.message().to_owned()),
        };
        if !request.command.first().is_some_and(|name| is_known(name)) {
            return Outcome::Failed(format!("{:?}: no such program", request.command));
        }
        // A program says no more than its script has: what waits here is as bounded as that.
        let (says, said) = mpsc::unbounded_channel();
        let sink: Sink = Box::new(move |stream, bytes| {
            let _ = says.send((stream, Bytes::copy_from_slice(bytes)));
        });
        let (input, reads) = mpsc::channel(INPUT_AHEAD);
        let has_input = io.stdin.is_some();
        let feeding = io
            .stdin
            .map(|stdin| tokio::spawn(feed(stdin, input, world.has(Fault::StreamInputLost))));
        let (_signals, hears) = mpsc::unbounded_channel();
        let mut program =
            Program::new(request.command, environment, has_input.then_some(reads), hears, sink);
        let writing = tokio::spawn(write(said, io.stdout, io.stderr));
        let mut over = running.over.subscribe();
        let code = tokio::select! {
            code = program.run() => code,
            _ = over.wait_for(|over| *over) => 137,
            () = io.gone.cancelled() => 129,
        };
        drop(program);
        // It ends with the program's last word.
        let _ = writing.await;
        if let Some(feeding) = feeding {
            feeding.abort();
        }
        if code == 0 || world.has(Fault::StreamCodeLost) {
            Outcome::Success
        } else {
            Outcome::ExitCode(code)
        }
    }

    async fn attach(&self, request: Attach, io: Io) -> Outcome {
        let running = match running(&self.0, &request.container) {
            Ok((running, _)) => running,
            Err(status) => return Outcome::Failed(status.message().to_owned()),
        };
        let is_once = {
            let tables = self.0.lock();
            tables.containers.get(&request.container).is_some_and(|one| one.config.stdin_once)
        };
        let mut output = running.output.subscribe();
        let (says, said) = mpsc::unbounded_channel();
        let writing = tokio::spawn(write(said, io.stdout, io.stderr));
        let feeding = io.stdin.map(|stdin| {
            let running = Arc::clone(&running);
            let is_lost = self.0.has(Fault::StreamInputLost);
            tokio::spawn(async move {
                let to = running.input.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(to) = to {
                    feed(stdin, to, is_lost).await;
                }
                if is_once {
                    running.input.lock().unwrap_or_else(PoisonError::into_inner).take();
                }
            })
        });
        let mut over = running.over.subscribe();
        let outcome = loop {
            tokio::select! {
                biased;
                chunk = output.recv() => match chunk {
                    Ok(chunk) => drop(says.send(chunk)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        break Outcome::Failed("the client reads too slowly".to_owned());
                    }
                    Err(broadcast::error::RecvError::Closed) => break Outcome::Success,
                },
                _ = over.wait_for(|over| *over) => break Outcome::Success,
                () = io.gone.cancelled() => break Outcome::Success,
            }
        };
        drop(says);
        // It ends with what was said before.
        let _ = writing.await;
        if let Some(feeding) = feeding {
            feeding.abort();
        }
        outcome
    }

    async fn connect(&self, _sandbox: &str, port: u16) -> io::Result<Port> {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(socket) => Ok(socket.into()),
            Err(_) => Ok(TcpStream::connect(("::1", port)).await?.into()),
        }
    }
}
