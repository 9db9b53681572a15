//! Attach.

use cri_streaming::server::{Input, Io, Output, Size, Streams};
use cri_streaming::{Outcome, Source};
use model::ContainerId;
use operations::Phases;
use pods::{AttachControl, AttachEnd, AttachInput, AttachStreams, Attachment, Pods};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{carry, failed, terminal_size};
use crate::code::message;

/// Takes part in a container's streams until it ends or the client leaves, which the container does not
/// notice.
pub(super) async fn attach(
    pods: &Pods,
    id: &ContainerId,
    streams: Streams,
    io: Io,
    phases: &Phases,
) -> Outcome {
    let Io { stdin, stdout, stderr, resize, gone } = io;
    let wanted = AttachStreams {
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr && !streams.tty,
    };
    let attached = match pods.attach(id, wanted, phases).await {
        Ok(attached) => attached,
        Err(error) => return Outcome::Failed(failed("Attach", &error)),
    };
    phases.enter("run", None);
    let Attachment { stdin: to, stdout: out, stderr: err, mut handle, control } = attached;
    let over = CancellationToken::new();
    let work = async {
        let wait = async {
            let why = handle.ended().await;
            over.cancel();
            why
        };
        let feed = feed(stdin, to, &control, &over);
        let sizes = sizes(&control, resize, &over);
        let (out, err) = (copied(out, stdout, &over), copied(err, stderr, &over));
        tokio::join!(wait, feed, sizes, out, err).0
    };
    let why = tokio::select! {
        why = work => why,
        () = gone.cancelled() => Ok(AttachEnd::Closed),
    };
    match why {
        Ok(AttachEnd::Ended | AttachEnd::Closed) => Outcome::Success,
        Ok(AttachEnd::TooSlow) => Outcome::Failed(
            "cut off: the output was read too slowly; the container goes on, and its log is whole"
                .to_owned(),
        ),
        Err(error) => Outcome::Failed(message(&error)),
    }
}

async fn feed(
    from: Option<Input>,
    to: Option<AttachInput>,
    control: &AttachControl,
    over: &CancellationToken,
) {
    let (Some(from), Some(to)) = (from, to) else { return };
    let work = async {
        let fed = match to {
            AttachInput::Pipe(mut pipe) => carry::input(from, &mut pipe).await,
            AttachInput::Terminal(mut terminal) => carry::input(from, &mut terminal).await,
        };
        if let Err(error) = fed {
            tracing::debug!(%error, "the input of an attach");
        }
        // Ours is closed by now.
        if let Err(error) = control.input_ended().await {
            tracing::debug!(%error, "the end of a standard input that was meant for one attach");
        }
    };
    tokio::select! {
        () = work => {}
        () = over.cancelled() => {}
    }
}

async fn copied(from: Option<pipe::Receiver>, to: Option<Output>, over: &CancellationToken) {
    let Some(mut to) = to else { return };
    let carried = match from {
        Some(from) => carry::output(Source::pipe(from), to, over).await,
        None => to.shutdown().await,
    };
    if let Err(error) = carried {
        tracing::debug!(%error, "the output of an attach");
    }
}

async fn sizes(
    control: &AttachControl,
    mut resize: mpsc::Receiver<Size>,
    over: &CancellationToken,
) {
    loop {
        let size = tokio::select! {
            Some(size) = resize.recv() => size,
            () = over.cancelled() => return,
            else => return,
        };
        if let Err(error) = control.resize(terminal_size(size)).await {
            tracing::debug!(%error, "the size of a container's terminal");
        }
    }
}
