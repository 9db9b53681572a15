//! Taking part in a container's standard streams.

use std::os::fd::OwnedFd;

use model::ContainerId;
use monitor_api::{Attach, AttachEnd, Reply, Request};
use tokio::sync::oneshot;

use crate::connection::{Monitor, nonsense};
use crate::error::MonitorError;

/// Which of a container's streams to take part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttachStreams {
    /// Write its standard input.
    pub stdin: bool,
    /// Read copies of its standard output.
    pub stdout: bool,
    /// Read copies of its standard error.
    pub stderr: bool,
}

/// A part in a container's streams: those that were asked for and are there. They do not block.
#[derive(Debug)]
pub struct Attached {
    /// The end of the container's standard input that is written: a pipe, or the controlling end of its
    /// terminal. The container sees no end of it while the monitor keeps its own
    /// ([`Monitor::close_stdin`]).
    pub stdin: Option<OwnedFd>,
    /// Copies of its standard output.
    pub stdout: Option<OwnedFd>,
    /// Copies of its standard error; a terminal has none.
    pub stderr: Option<OwnedFd>,
    /// The attach itself.
    pub handle: AttachHandle,
}

/// An attach that has not ended. It ends when this is dropped, and the container goes on.
#[derive(Debug)]
pub struct AttachHandle {
    monitor: Monitor,
    number: u64,
    ended: oneshot::Receiver<AttachEnd>,
    is_over: bool,
}

impl Monitor {
    /// Takes part in the streams of `container`.
    ///
    /// # Errors
    /// [`MonitorError`].
    pub async fn attach(
        &self,
        container: ContainerId,
        streams: AttachStreams,
    ) -> Result<Attached, MonitorError> {
        let number = self.new_id();
        let ended = self.expect_attach(number);
        // From here on it is ended also if this call is given up in the middle.
        let handle = AttachHandle { monitor: self.clone(), number, ended, is_over: false };
        let AttachStreams { stdin, stdout, stderr } = streams;
        let request = Request::Attach(Attach { container, attach: number, stdin, stdout, stderr });
        let (reply, fds) = self.call_for_fds(request, &[]).await?;
        let Reply::Attached { stdin, stdout, stderr } = reply else {
            return Err(nonsense("attach"));
        };
        let mut fds = fds.into_iter();
        let [stdin, stdout, stderr] =
            [stdin, stdout, stderr].map(|is_there| if is_there { fds.next() } else { None });
        Ok(Attached { stdin, stdout, stderr, handle })
    }
}

impl AttachHandle {
    /// Waits for its end, if nobody ends it here.
    ///
    /// # Errors
    /// [`MonitorError::Gone`] when the monitor has ended before it.
    pub async fn ended(&mut self) -> Result<AttachEnd, MonitorError> {
        let why = (&mut self.ended).await.map_err(|_| MonitorError::Gone);
        self.is_over = true;
        why
    }

    /// Ends it.
    ///
    /// # Errors
    /// [`MonitorError`].
    pub async fn detach(mut self) -> Result<(), MonitorError> {
        self.is_over = true;
        self.monitor.forget_attach(self.number);
        self.monitor.done(Request::Detach { attach: self.number }).await
    }
}

impl Drop for AttachHandle {
    fn drop(&mut self) {
        self.monitor.forget_attach(self.number);
        if self.is_over {
            return;
        }
        // Without a runtime the connection is at its end, and the attach with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (monitor, attach) = (self.monitor.clone(), self.number);
            runtime.spawn(async move { monitor.done(Request::Detach { attach }).await });
        }
    }
}
