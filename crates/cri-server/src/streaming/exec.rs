//! Exec.

use std::time::Duration;

use cri_streaming::server::{Input, Io, Output, Size, Streams};
use cri_streaming::{Outcome, Source};
use model::ContainerId;
use operations::Phases;
use pods::{ExecIo, ExecWanted, Pods, RunningExec, Terminal, TerminalSize};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{carry, failed, terminal_size};
use crate::code::message;

/// How long a process waits for its client to say how large its terminal is. Programs ask once, when they
/// begin.
const SIZE_COMES_WITHIN: Duration = Duration::from_millis(100);
/// The size where a client says none.
const USUAL: TerminalSize = TerminalSize { width: 80, height: 24 };

/// Runs a process to its end, or until its client is gone: then it gets what a lost terminal would give it,
/// and the monitor reaps it when it ends.
pub(super) async fn exec(
    pods: &Pods,
    id: &ContainerId,
    command: Vec<String>,
    streams: Streams,
    io: Io,
    phases: &Phases,
) -> Outcome {
    let Io { stdin, stdout, stderr, mut resize, gone } = io;
    let Streams { tty, stdin: wants_in, stdout: wants_out, stderr: wants_err } = streams;
    let wanted = if tty {
        let first = tokio::time::timeout(SIZE_COMES_WITHIN, resize.recv()).await;
        ExecWanted::Terminal(first.ok().flatten().map_or(USUAL, terminal_size))
    } else {
        ExecWanted::Pipes { stdin: wants_in, stdout: wants_out, stderr: wants_err }
    };
    let started = match pods.exec(id, command, wanted, phases).await {
        Ok(started) => started,
        Err(error) => return Outcome::Failed(failed("Exec", &error)),
    };
    phases.enter("run", None);
    let pods::Exec { io, mut process } = started;
    let has_terminal = matches!(io, ExecIo::Terminal(_));
    let over = CancellationToken::new();
    let work = async {
        let wait = async {
            let code = process.ended().await;
            over.cancel();
            code
        };
        match io {
            ExecIo::Terminal(terminal) => {
                let streams = with_terminal(terminal, stdin, stdout, resize, &over);
                tokio::join!(wait, streams).0
            }
            ExecIo::Pipes { stdin: to, stdout: out, stderr: err } => {
                let feed = async {
                    if let (Some(from), Some(mut to)) = (stdin, to) {
                        until_over(carry::input(from, &mut to), &over).await;
                    }
                };
                let (out, err) = (out.map(Source::pipe), err.map(Source::pipe));
                let (out, err) = (shown(out, stdout, &over), shown(err, stderr, &over));
                tokio::join!(wait, feed, out, err).0
            }
        }
    };
    let code = tokio::select! {
        code = work => Some(code),
        () = gone.cancelled() => None,
    };
    match code {
        Some(Ok(0)) => Outcome::Success,
        Some(Ok(code)) => Outcome::ExitCode(code),
        Some(Err(error)) => Outcome::Failed(message(&error)),
        None => {
            leave(&process, has_terminal).await;
            Outcome::Failed("the client has left".to_owned())
        }
    }
}

/// What is left of a client that is gone. Its streams are closed already, a terminal with them.
async fn leave(process: &RunningExec, has_terminal: bool) {
    if has_terminal {
        return;
    }
    if let Err(error) = process.hang_up().await {
        tracing::debug!(%error, pid = process.pid, "the process of a client that has left");
    }
}

async fn until_over(work: impl Future<Output = std::io::Result<()>>, over: &CancellationToken) {
    tokio::select! {
        // Whichever end has enough: the process goes on.
        _ = work => {}
        () = over.cancelled() => {}
    }
}

async fn shown(from: Option<Source>, to: Option<Output>, over: &CancellationToken) {
    let Some(mut to) = to else { return };
    let carried = match from {
        Some(from) => carry::output(from, to, over).await,
        None => to.shutdown().await,
    };
    if let Err(error) = carried {
        tracing::debug!(%error, "the output of an exec");
    }
}

async fn with_terminal(
    terminal: Terminal,
    stdin: Option<Input>,
    stdout: Option<Output>,
    resize: mpsc::Receiver<Size>,
    over: &CancellationToken,
) {
    let mut to = terminal.clone();
    let feed = async {
        if let Some(from) = stdin {
            until_over(carry::input(from, &mut to), over).await;
        }
    };
    let sizes = sizes(&terminal, resize, over);
    // Somebody has to read what is shown, or its writer waits for ever.
    let stdout = stdout.or_else(|| Some(Output::new(tokio::io::sink())));
    let out = shown(Some(Source::any(terminal.clone())), stdout, over);
    tokio::join!(feed, sizes, out);
}

async fn sizes(terminal: &Terminal, mut resize: mpsc::Receiver<Size>, over: &CancellationToken) {
    loop {
        let size = tokio::select! {
            Some(size) = resize.recv() => size,
            () = over.cancelled() => return,
            else => return,
        };
        if let Err(error) = terminal.resize(terminal_size(size)) {
            tracing::debug!(%error, "the size of a terminal");
        }
    }
}
