//! One more process in a container.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use model::ContainerId;
use monitor_api::{Exec, Reply, Request, TerminalSize};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::sync::oneshot;

use crate::connection::{Monitor, nonsense};
use crate::error::MonitorError;

/// The standard streams of a process to be.
#[derive(Debug)]
pub struct ExecStreams {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

/// A process that runs in a container. When it is dropped before its end, the process is left to itself
/// until the connection ends.
#[derive(Debug)]
pub struct RunningExec {
    monitor: Monitor,
    number: u64,
    ended: oneshot::Receiver<i32>,
    /// The process, as the host sees it.
    pub pid: i32,
}

impl Monitor {
    /// Runs `args` in `container` with these standard streams, which are closed here once it has them.
    ///
    /// # Errors
    /// [`MonitorError`]; no process is left then.
    pub async fn exec(
        &self,
        container: ContainerId,
        args: Vec<String>,
        streams: ExecStreams,
    ) -> Result<RunningExec, MonitorError> {
        let fds = [streams.stdin.as_fd(), streams.stdout.as_fd(), streams.stderr.as_fd()];
        self.begin_exec(container, args, None, &fds).await.map(|(exec, _)| exec)
    }

    /// Runs `args` in `container` with a terminal of this size, and returns the terminal's controlling
    /// end, which does not block. Whoever closes the last copy of it hangs up.
    ///
    /// # Errors
    /// [`MonitorError`]; no process is left then.
    pub async fn exec_with_terminal(
        &self,
        container: ContainerId,
        args: Vec<String>,
        size: TerminalSize,
    ) -> Result<(RunningExec, OwnedFd), MonitorError> {
        let (exec, fds) = self.begin_exec(container, args, Some(size), &[]).await?;
        let terminal = fds.into_iter().next().ok_or_else(|| nonsense("exec"))?;
        Ok((exec, terminal))
    }

    async fn begin_exec(
        &self,
        container: ContainerId,
        args: Vec<String>,
        terminal: Option<TerminalSize>,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(RunningExec, Vec<OwnedFd>), MonitorError> {
        let number = self.new_id();
        let ended = self.expect_exec(number);
        let request = Request::Exec(Exec { container, exec: number, args, terminal });
        let result = self.call_for_fds(request, fds).await;
        if result.is_err() {
            self.forget_exec(number);
        }
        let (Reply::ExecStarted { pid }, fds) = result? else {
            return Err(nonsense("exec"));
        };
        Ok((RunningExec { monitor: self.clone(), number, ended, pid }, fds))
    }
}

/// Changes the size of the terminal whose controlling end this is.
///
/// # Errors
/// A descriptor that is no terminal.
pub fn resize_terminal(terminal: BorrowedFd<'_>, size: TerminalSize) -> io::Result<()> {
    let winsize = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, winsize)?)
}

impl RunningExec {
    /// Waits for its end: its exit code, 128 + n for signal n.
    ///
    /// # Errors
    /// [`MonitorError::Gone`] when the monitor has ended before it.
    pub async fn ended(&mut self) -> Result<i32, MonitorError> {
        (&mut self.ended).await.map_err(|_| MonitorError::Gone)
    }

    /// Kills the process and all that came of it.
    ///
    /// # Errors
    /// [`MonitorError`].
    pub async fn kill(&self) -> Result<(), MonitorError> {
        self.monitor.done(Request::KillExec { exec: self.number }).await
    }

    /// Gives the process what a lost terminal would give it: SIGHUP.
    ///
    /// # Errors
    /// [`MonitorError`].
    pub async fn hang_up(&self) -> Result<(), MonitorError> {
        self.monitor.done(Request::HangUp { exec: self.number }).await
    }
}
