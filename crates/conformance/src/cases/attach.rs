//! Attach.

use cri_api::v1::*;
use cri_streaming::Outcome;
use cri_streaming::server::Streams;
use tokio::io::AsyncWriteExt as _;
use tonic::Code;

use crate::case::{Stop, Verdict, cases, ensure, same, until};
use crate::context::{Context, refused};
use crate::stream::{ALL, OUTPUT, TERMINAL, Wire, all_of, outcome, see};

cases! { "attach":
    "stdin-spdy" Program Streaming ["Attach", "AttachRequest.stdin", "ContainerConfig.stdin",
            "AttachResponse.url"]
        "Over SPDY, what is sent reaches the container, and its answer comes back." =>
        echoes(Wire::Spdy);
    "stdin-websocket" Program Streaming ["Attach", "AttachRequest.stdin", "ContainerConfig.stdin"]
        "Over WebSocket, what is sent reaches the container, and its answer comes back." =>
        echoes(Wire::WebSocket);
    "detach-leaves-it" Program Kubelet ["Attach", "AttachRequest.stdout"]
        "A client that goes away leaves the container running." => detach();
    "again" Program Kubelet ["Attach", "ContainerConfig.stdin"]
        "After one client has gone, another one can attach and is heard." => again();
    "two-at-once" Program Kubelet ["Attach", "AttachRequest.stdout"]
        "Two clients at once both see what the container writes." => two();
    "stdin-once" Program Api ["Attach", "ContainerConfig.stdin_once"]
        "With stdin_once, the end of the first client's input is the container's." => stdin_once();
    "ends-with-it" Program Kubelet ["Attach"]
        "When the container ends, so does the stream." => ends();
    "is-logged" Program Kubelet ["Attach"]
        "What an attached client sees is in the log too." => logged();
    "terminal" Linux Streaming ["Attach", "AttachRequest.tty", "ContainerConfig.tty"]
        "A container with a terminal can be typed to." => terminal();
    "terminal-with-stderr" Api Api ["Attach", "AttachRequest.stderr", "AttachRequest.tty"]
        "A terminal has one output: tty with stderr is InvalidArgument." =>
        wrong(Streams { tty: true, stdin: true, stdout: true, stderr: true });
    "no-stream" Api Api ["Attach"]
        "One of the three streams must be asked for: else InvalidArgument." =>
        wrong(Streams { tty: false, stdin: false, stdout: false, stderr: false });
}

async fn cat(c: &Context) -> Result<String, Stop> {
    let pod = c.pod().await?;
    let mut config = c.script("cat");
    config.stdin = true;
    c.launch(&pod, &config).await
}

fn missing() -> Stop {
    Stop::failed("a stream is missing")
}

async fn echoes(c: &Context, wire: Wire) -> Verdict {
    let id = cat(c).await?;
    let mut session = c.attach(&id, ALL, wire).await?;
    let mut stdin = session.stdin.take().ok_or_else(missing)?;
    let mut stdout = session.stdout.take().ok_or_else(missing)?;
    for word in ["one\n", "two\n"] {
        stdin.write_all(word.as_bytes()).await?;
        stdin.flush().await?;
        see(&mut stdout, word).await?;
    }
    Ok(())
}

async fn detach(c: &Context) -> Verdict {
    let id = cat(c).await?;
    for wire in [Wire::Spdy, Wire::WebSocket] {
        drop(c.attach(&id, OUTPUT, wire).await?);
    }
    same!("the state", c.status(&id).await?.state(), ContainerState::ContainerRunning);
    Ok(())
}

async fn again(c: &Context) -> Verdict {
    let id = cat(c).await?;
    for wire in [Wire::Spdy, Wire::WebSocket, Wire::Spdy] {
        let mut session = c.attach(&id, ALL, wire).await?;
        let mut stdin = session.stdin.take().ok_or_else(missing)?;
        let mut stdout = session.stdout.take().ok_or_else(missing)?;
        stdin.write_all(b"words\n").await?;
        stdin.flush().await?;
        see(&mut stdout, "words\n").await?;
        drop((stdin, stdout, session));
    }
    Ok(())
}

async fn two(c: &Context) -> Verdict {
    let id = cat(c).await?;
    let mut reader = c.attach(&id, OUTPUT, Wire::WebSocket).await?;
    let mut writer = c.attach(&id, ALL, Wire::Spdy).await?;
    let mut theirs = reader.stdout.take().ok_or_else(missing)?;
    let mut ours = writer.stdout.take().ok_or_else(missing)?;
    let mut stdin = writer.stdin.take().ok_or_else(missing)?;
    // Who is attached sees what comes from then on: more is sent until both are.
    let sending = async {
        loop {
            stdin.write_all(b"word\n").await?;
            stdin.flush().await?;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let seeing = async {
        see(&mut ours, "word\n").await?;
        see(&mut theirs, "word\n").await
    };
    let sent: Result<(), Stop> = tokio::select! {
        sent = sending => sent,
        seen = seeing => seen.map(|_| ()),
    };
    sent
}

async fn stdin_once(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.script("cat; exit 4");
    (config.stdin, config.stdin_once) = (true, true);
    let id = c.launch(&pod, &config).await?;
    let mut session = c.attach(&id, ALL, Wire::Spdy).await?;
    let mut stdin = session.stdin.take().ok_or_else(missing)?;
    stdin.write_all(b"words\n").await?;
    stdin.shutdown().await?;
    same!("the output", all_of(session.stdout.take()).await?, "words\n");
    same!("the code", c.ended(&id).await?.exit_code, 4);
    Ok(())
}

async fn ends(c: &Context) -> Verdict {
    let id = cat(c).await?;
    let mut session = c.attach(&id, OUTPUT, Wire::Spdy).await?;
    let stdout = session.stdout.take();
    c.stop(&id, 0).await?;
    all_of(stdout).await?;
    same!("the outcome", outcome(session).await?, Outcome::Success);
    Ok(())
}

async fn logged(c: &Context) -> Verdict {
    let id = cat(c).await?;
    let mut session = c.attach(&id, ALL, Wire::Spdy).await?;
    let mut stdin = session.stdin.take().ok_or_else(missing)?;
    let mut stdout = session.stdout.take().ok_or_else(missing)?;
    stdin.write_all(b"words\n").await?;
    stdin.flush().await?;
    see(&mut stdout, "words\n").await?;
    until!("the line is in the log", (c.log(&id).await?.text() == "words\n").then_some(()));
    Ok(())
}

async fn terminal(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.script("while read line; do echo got $line; done");
    (config.stdin, config.tty) = (true, true);
    let id = c.launch(&pod, &config).await?;
    let mut session = c.attach(&id, TERMINAL, Wire::WebSocket).await?;
    let mut stdin = session.stdin.take().ok_or_else(missing)?;
    let mut stdout = session.stdout.take().ok_or_else(missing)?;
    stdin.write_all(b"words\n").await?;
    stdin.flush().await?;
    let seen = see(&mut stdout, "got words\r\n").await?;
    ensure!(seen.contains("words\r\n"), "it is {seen:?}");
    Ok(())
}

async fn wrong(c: &Context, streams: Streams) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    config.tty = streams.tty;
    let id = c.launch(&pod, &config).await?;
    refused(c.attach_url(&id, streams).await, &[Code::InvalidArgument]).map(|_| ())
}
