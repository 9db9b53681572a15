//! Attach: a part in a container's own streams.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use model::ContainerId;
use monitor_client::api::TerminalSize;
use monitor_client::{AttachHandle, AttachStreams, Monitor};
use operations::Phases;
use tokio::net::unix::pipe;

use super::{monitor_of_running, name, there};
use crate::error::{Cause, PodsError};
use crate::pods::Pods;
use crate::steps::{Failure, step};
use crate::terminal::Terminal;

const OPERATION: &str = "Attach";

/// The end of a container's standard input that is written.
#[derive(Debug)]
pub enum AttachInput {
    /// A pipe.
    Pipe(pipe::Sender),
    /// Its terminal, which others hold too: nothing hangs up when this is dropped.
    Terminal(Terminal),
}

/// A part in a container's streams. When it is dropped, the container goes on; but a standard input that
/// was meant for one attach (`stdin_once`) ends.
#[derive(Debug)]
pub struct Attachment {
    /// To its standard input, where that was asked for and is there.
    pub stdin: Option<AttachInput>,
    /// Copies of its standard output, or of what its terminal shows, from now on.
    pub stdout: Option<pipe::Receiver>,
    /// Copies of its standard error; a terminal has none.
    pub stderr: Option<pipe::Receiver>,
    /// How it ends.
    pub handle: AttachHandle,
    /// What else can be asked of it.
    pub control: AttachControl,
}

/// What can be asked of a container by whoever is attached to it.
#[derive(Debug, Clone)]
pub struct AttachControl {
    monitor: Monitor,
    container: ContainerId,
    object: String,
    stdin_once: bool,
    patience: Duration,
}

pub(crate) async fn attach(
    pods: &Pods,
    id: &ContainerId,
    streams: AttachStreams,
    phases: &Phases,
) -> Result<Attachment, PodsError> {
    let inner = &pods.inner;
    let record = there(inner, id).await?;
    let monitor = monitor_of_running(inner, &record, OPERATION)?;
    let object = name(inner, &record);
    let patience = inner.config.deadlines.answer;
    let attached = monitor.attach(id.clone(), streams);
    let attached = step(phases, "attach", patience, attached).await;
    let attached = attached.map_err(|failure| failure.of(OPERATION, &object))?;
    let stdio = &record.config.stdio;
    let input = |fd: OwnedFd| -> io::Result<AttachInput> {
        if stdio.tty {
            return Terminal::new(fd).map(AttachInput::Terminal);
        }
        pipe::Sender::from_owned_fd(fd).map(AttachInput::Pipe)
    };
    let output = |fd: Option<OwnedFd>| fd.map(pipe::Receiver::from_owned_fd).transpose();
    let no_streams = |e: io::Error| Failure::new("streams", Cause::pipes(e)).of(OPERATION, &object);
    Ok(Attachment {
        stdin: attached.stdin.map(input).transpose().map_err(no_streams)?,
        stdout: output(attached.stdout).map_err(no_streams)?,
        stderr: output(attached.stderr).map_err(no_streams)?,
        handle: attached.handle,
        control: AttachControl {
            monitor,
            container: id.clone(),
            object: object.clone(),
            stdin_once: stdio.stdin_once,
            patience,
        },
    })
}

impl AttachControl {
    /// Changes the size of the container's terminal.
    ///
    /// # Errors
    /// [`PodsError`].
    pub async fn resize(&self, size: TerminalSize) -> Result<(), PodsError> {
        self.ask("resize", self.monitor.resize(self.container.clone(), size)).await
    }

    /// The client's standard input has ended. For a container with `stdin_once` that is the end of its own.
    ///
    /// # Errors
    /// [`PodsError`].
    pub async fn input_ended(&self) -> Result<(), PodsError> {
        if !self.stdin_once {
            return Ok(());
        }
        self.ask("stdin", self.monitor.close_stdin(self.container.clone())).await
    }

    async fn ask(
        &self,
        phase: &'static str,
        call: impl Future<Output = Result<(), monitor_client::MonitorError>>,
    ) -> Result<(), PodsError> {
        let asked = step(&Phases::begin(), phase, self.patience, call).await;
        asked.map_err(|failure| failure.of(OPERATION, &self.object))
    }
}
