//! Exec with streams, over both protocols.

use cri_api::v1::*;
use cri_streaming::Outcome;
use cri_streaming::server::{Size, Streams};
use tokio::io::AsyncWriteExt as _;
use tonic::Code;

use crate::case::{Stop, Verdict, cases, ensure, same, until};
use crate::context::{Context, refused};
use crate::stream::{ALL, OUTPUT, TERMINAL, Wire, all_of, outcome, see};

cases! { "exec":
    "output-spdy" Program Streaming ["Exec", "ExecRequest.stdout", "ExecResponse.url"]
        "Over SPDY, the output of a command comes to its end." => output(Wire::Spdy);
    "output-websocket" Program Streaming ["Exec", "ExecRequest.stdout", "ExecResponse.url"]
        "Over WebSocket, the output of a command comes to its end." => output(Wire::WebSocket);
    "streams-apart-spdy" Program Streaming ["Exec", "ExecRequest.stderr"]
        "Over SPDY, both outputs come apart." => apart(Wire::Spdy);
    "streams-apart-websocket" Program Streaming ["Exec", "ExecRequest.stderr"]
        "Over WebSocket, both outputs come apart." => apart(Wire::WebSocket);
    "stdin-spdy" Program Streaming ["Exec", "ExecRequest.stdin"]
        "Over SPDY, what is sent is read, and its end is the input's end." => input(Wire::Spdy);
    "stdin-websocket" Program Streaming ["Exec", "ExecRequest.stdin"]
        "Over WebSocket, what is sent is read, and its end is the input's end." =>
        input(Wire::WebSocket);
    "exit-code-spdy" Program Streaming ["Exec"]
        "Over SPDY, the exit code comes on the error stream." => code(Wire::Spdy, 7);
    "exit-code-websocket" Program Streaming ["Exec"]
        "Over WebSocket, the exit code comes on the error channel." => code(Wire::WebSocket, 7);
    "exit-255-spdy" Program Streaming ["Exec"]
        "Over SPDY, the largest exit code comes." => code(Wire::Spdy, 255);
    "exit-255-websocket" Program Streaming ["Exec"]
        "Over WebSocket, the largest exit code comes." => code(Wire::WebSocket, 255);
    "success-spdy" Program Streaming ["Exec"]
        "Over SPDY, a command that ends well is a success." => code(Wire::Spdy, 0);
    "success-websocket" Program Streaming ["Exec"]
        "Over WebSocket, a command that ends well is a success." => code(Wire::WebSocket, 0);
    "megabyte-spdy" Linux Streaming ["Exec"]
        "Over SPDY, a mebibyte goes in and comes back." => megabyte(Wire::Spdy);
    "megabyte-websocket" Linux Streaming ["Exec"]
        "Over WebSocket, a mebibyte goes in and comes back." => megabyte(Wire::WebSocket);
    "terminal-spdy" Linux Streaming ["Exec", "ExecRequest.tty"]
        "Over SPDY, with tty the command has a terminal." => terminal(Wire::Spdy);
    "terminal-websocket" Linux Streaming ["Exec", "ExecRequest.tty"]
        "Over WebSocket, with tty the command has a terminal." => terminal(Wire::WebSocket);
    "resize-spdy" Linux Streaming ["Exec", "ExecRequest.tty"]
        "Over SPDY, a new size of the client's terminal is the command's." => resize(Wire::Spdy);
    "resize-websocket" Linux Streaming ["Exec", "ExecRequest.tty"]
        "Over WebSocket, a new size of the client's terminal is the command's." =>
        resize(Wire::WebSocket);
    "interrupt-spdy" Linux Streaming ["Exec", "ExecRequest.tty"]
        "Over SPDY, Control-C in a terminal interrupts the command." => interrupt(Wire::Spdy);
    "interrupt-websocket" Linux Streaming ["Exec", "ExecRequest.tty"]
        "Over WebSocket, Control-C in a terminal interrupts the command." =>
        interrupt(Wire::WebSocket);
    "missing-program-spdy" Program Streaming ["Exec"]
        "Over SPDY, a program that is not there is told as a failure." => missing(Wire::Spdy);
    "missing-program-websocket" Program Streaming ["Exec"]
        "Over WebSocket, a program that is not there is told as a failure." =>
        missing(Wire::WebSocket);
    "many-at-once" Program Kubelet ["Exec"]
        "Ten commands at once each get their own output." => many();
    "lost-client" Linux Kubelet ["Exec"]
        "A terminal whose client is gone is hung up: its command does not stay." => lost();
    "container-goes-on" Program Kubelet ["Exec"]
        "A command that fails does not touch the container." => goes_on();
    "terminal-with-stderr" Api Api ["Exec", "ExecRequest.tty", "ExecRequest.stderr"]
        "A terminal has one output: tty with stderr is InvalidArgument." =>
        wrong(Streams { tty: true, stdin: true, stdout: true, stderr: true });
    "no-stream" Api Api ["Exec", "ExecRequest.stdin"]
        "One of the three streams must be asked for: else InvalidArgument." =>
        wrong(Streams { tty: false, stdin: false, stdout: false, stderr: false });
    "empty-command" Api Codes ["Exec", "ExecRequest.cmd"]
        "An empty command is InvalidArgument." => empty();
}

async fn waiter(c: &Context) -> Result<String, Stop> {
    let pod = c.pod().await?;
    c.launch(&pod, &c.waiter()).await
}

async fn output(c: &Context, wire: Wire) -> Verdict {
    let id = waiter(c).await?;
    let mut session = c.stream(&id, "echo one; echo two", OUTPUT, wire).await?;
    same!("the output", all_of(session.stdout.take()).await?, "one\ntwo\n");
    same!("the outcome", outcome(session).await?, Outcome::Success);
    Ok(())
}

async fn apart(c: &Context, wire: Wire) -> Verdict {
    let id = waiter(c).await?;
    let mut session = c.stream(&id, "echo out; echo err >&2", ALL, wire).await?;
    drop(session.stdin.take());
    let (out, err) = tokio::join!(all_of(session.stdout.take()), all_of(session.stderr.take()));
    same!("standard output", out?, "out\n");
    same!("standard error", err?, "err\n");
    Ok(())
}

async fn input(c: &Context, wire: Wire) -> Verdict {
    let id = waiter(c).await?;
    let mut session = c.stream(&id, "cat; echo end", ALL, wire).await?;
    let mut stdin = session.stdin.take().ok_or_else(|| Stop::failed("there is no stdin"))?;
    stdin.write_all(b"words\n").await?;
    stdin.shutdown().await?;
    if wire == Wire::WebSocket && !speaks_v5(c, &id).await? {
        return Err(Stop::Skipped(
            "the server speaks no v5 over WebSocket, which ends inputs".to_owned(),
        ));
    }
    same!("the output", all_of(session.stdout.take()).await?, "words\nend\n");
    same!("the outcome", outcome(session).await?, Outcome::Success);
    Ok(())
}

/// Only version 5 can end a standard input over WebSocket.
async fn speaks_v5(c: &Context, id: &str) -> Result<bool, Stop> {
    let url = c.exec_url(id, "true", OUTPUT).await?;
    let headers = crate::stream::websocket_headers("v5.channel.k8s.io");
    let answer = crate::stream::knock(&url, "GET", &headers).await?;
    Ok(answer.header("sec-websocket-protocol") == Some("v5.channel.k8s.io"))
}

async fn code(c: &Context, wire: Wire, code: i32) -> Verdict {
    let id = waiter(c).await?;
    let mut session = c.stream(&id, &format!("exit {code}"), OUTPUT, wire).await?;
    all_of(session.stdout.take()).await?;
    let wanted = if code == 0 { Outcome::Success } else { Outcome::ExitCode(code) };
    same!("the outcome", outcome(session).await?, wanted);
    Ok(())
}

async fn megabyte(c: &Context, wire: Wire) -> Verdict {
    let id = waiter(c).await?;
    let mut session = c.stream(&id, "head -c 1048576", ALL, wire).await?;
    let mut stdin = session.stdin.take().ok_or_else(|| Stop::failed("there is no stdin"))?;
    let sent = "0123456789abcdef".repeat(1 << 16);
    let write = async { stdin.write_all(sent.as_bytes()).await };
    let (written, got) = tokio::join!(write, all_of(session.stdout.take()));
    written?;
    let got = got?;
    ensure!(got == sent, "{} bytes come back, not {}", got.len(), sent.len());
    Ok(())
}

async fn terminal(c: &Context, wire: Wire) -> Verdict {
    let id = waiter(c).await?;
    let mut session = c.stream(&id, "test -t 0 && test -t 1 && echo yes", TERMINAL, wire).await?;
    let text = all_of(session.stdout.take()).await?;
    same!("the output", text, "yes\r\n");
    Ok(())
}

async fn resize(c: &Context, wire: Wire) -> Verdict {
    let id = waiter(c).await?;
    let script = "while read x && [ $x = look ]; do stty size; done";
    let mut session = c.stream(&id, script, TERMINAL, wire).await?;
    let lost = || Stop::failed("a stream is missing");
    let mut stdin = session.stdin.take().ok_or_else(lost)?;
    let mut stdout = session.stdout.take().ok_or_else(lost)?;
    let resizer = session.resizer.as_mut().ok_or_else(lost)?;
    for (width, height) in [(101, 41), (102, 42)] {
        resizer.resize(Size { width, height }).await?;
        let wanted = format!("{height} {width}");
        // A size and what is typed go on streams of their own: nothing says which is there first.
        until!(format!("the size is {wanted}"), {
            stdin.write_all(b"look\n").await?;
            stdin.flush().await?;
            // The terminal's echo, and the answer.
            let seen = see(&mut stdout, "\n").await?;
            let seen = if seen.contains("look") && !seen.contains(' ') {
                see(&mut stdout, "\n").await?
            } else {
                seen
            };
            seen.contains(&wanted).then_some(())
        });
    }
    Ok(())
}

async fn interrupt(c: &Context, wire: Wire) -> Verdict {
    let id = waiter(c).await?;
    let script = "trap 'echo heard; exit 3' INT; echo up; while :; do sleep 1000 & wait $!; done";
    let mut session = c.stream(&id, script, TERMINAL, wire).await?;
    let lost = || Stop::failed("a stream is missing");
    let mut stdout = session.stdout.take().ok_or_else(lost)?;
    see(&mut stdout, "up").await?;
    let mut stdin = session.stdin.take().ok_or_else(lost)?;
    stdin.write_all(b"\x03").await?;
    stdin.flush().await?;
    see(&mut stdout, "heard").await?;
    same!("the outcome", outcome(session).await?, Outcome::ExitCode(3));
    Ok(())
}

async fn missing(c: &Context, wire: Wire) -> Verdict {
    let id = waiter(c).await?;
    let cmd = vec!["/no/such/program".to_owned()];
    let request = ExecRequest { container_id: id, cmd, stdout: true, ..Default::default() };
    // Told at once, or on the stream.
    let Ok(answer) = c.rpc.exec(request).await else { return Ok(()) };
    let session =
        cri_streaming::client::remote_command(&answer.url, OUTPUT, wire.transport(), None).await?;
    let outcome = outcome(session).await?;
    ensure!(outcome != Outcome::Success, "it is a success");
    Ok(())
}

async fn many(c: &Context) -> Verdict {
    let id = waiter(c).await?;
    let calls = (0..10).map(|number| {
        let id = &id;
        async move {
            let wire = if number % 2 == 0 { Wire::Spdy } else { Wire::WebSocket };
            let mut session = c.stream(id, &format!("echo {number}"), OUTPUT, wire).await?;
            same!("the output", all_of(session.stdout.take()).await?, format!("{number}\n"));
            same!("the outcome", outcome(session).await?, Outcome::Success);
            Ok(())
        }
    });
    futures_util::future::join_all(calls).await.into_iter().collect()
}

async fn lost(c: &Context) -> Verdict {
    let id = waiter(c).await?;
    let mut session = c.stream(&id, "echo up; sleep 4321", TERMINAL, Wire::Spdy).await?;
    let mut stdout = session.stdout.take().ok_or_else(|| Stop::failed("there is no stdout"))?;
    see(&mut stdout, "up").await?;
    drop((session, stdout));
    until!("the command is gone", {
        let list = c.exec(&id, &["ps"]).await?;
        (!list.contains("sleep 4321")).then_some(())
    });
    Ok(())
}

async fn goes_on(c: &Context) -> Verdict {
    let id = waiter(c).await?;
    let before = c.status(&id).await?;
    let session = c.stream(&id, "exit 1", OUTPUT, Wire::Spdy).await?;
    outcome(session).await?;
    same!("the status", c.status(&id).await?, before);
    Ok(())
}

async fn wrong(c: &Context, streams: Streams) -> Verdict {
    let id = waiter(c).await?;
    refused(c.exec_url(&id, "true", streams).await, &[Code::InvalidArgument]).map(|_| ())
}

async fn empty(c: &Context) -> Verdict {
    let id = waiter(c).await?;
    let request = ExecRequest { container_id: id, stdout: true, ..Default::default() };
    refused(c.rpc.exec(request).await, &[Code::InvalidArgument]).map(|_| ())
}
