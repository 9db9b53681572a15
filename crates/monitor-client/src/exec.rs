//! One more process in a container.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use model::ContainerId;
use monitor_api::{Exec, Reply, Request, TerminalSize};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::sync::oneshot;

use crate::connection::{Monitor, nonsense};
use crate::error::MonitorError;

/// How long the end of a process that was given up while it was started is waited for, before it is killed once
/// more. In all it is as long as a command of an external runtime may take.
const KILL_PAUSES: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(15),
    Duration::from_secs(30),
    Duration::from_secs(40),
    Duration::from_secs(40),
];

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
        // From here on it is killed also if this call is given up in the middle.
        let mut starting = Starting { monitor: self.clone(), number, ended: None };
        starting.ended = Some(self.expect_exec(number));
        let request = Request::Exec(Exec { container, exec: number, args, terminal });
        let (reply, fds) = match self.call_for_fds(request, fds).await {
            Ok(answer) => answer,
            Err(error) => {
                starting.ended = None;
                self.forget_exec(number);
                return Err(error);
            }
        };
        let (Reply::ExecStarted { pid }, Some(ended)) = (reply, starting.ended.take()) else {
            return Err(nonsense("exec"));
        };
        Ok((RunningExec { monitor: self.clone(), number, ended, pid }, fds))
    }
}

/// A process that is being started. When this is dropped with `ended` still in it, nobody waits for the process
/// any more, and it is killed.
#[derive(Debug)]
struct Starting {
    monitor: Monitor,
    number: u64,
    ended: Option<oneshot::Receiver<i32>>,
}

impl Drop for Starting {
    fn drop(&mut self) {
        let Some(ended) = self.ended.take() else { return };
        // Without a runtime the connection is at its end, and the process with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(kill_until_ended(self.monitor.clone(), self.number, ended));
        }
    }
}

/// Kills a process that may not be there yet: an external runtime takes its time to make it.
async fn kill_until_ended(monitor: Monitor, number: u64, mut ended: oneshot::Receiver<i32>) {
    for pause in KILL_PAUSES {
        let killed = monitor.done(Request::KillExec { exec: number }).await;
        let is_over = matches!(killed, Err(MonitorError::Gone));
        if is_over || tokio::time::timeout(pause, &mut ended).await.is_ok() {
            break;
        }
    }
    monitor.forget_exec(number);
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

#[cfg(test)]
mod tests {
    use monitor_api::{Decoder, ToMonitor};
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn an_exec_that_is_given_up_while_it_starts_is_killed() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (monitor, _events) = Monitor::over(ours).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut theirs = tokio::net::UnixStream::from_std(theirs).unwrap();
        let container = ContainerId::from_random([1; 32]);
        let size = TerminalSize { width: 80, height: 24 };
        let call = monitor.exec_with_terminal(container, vec!["/bin/sh".to_owned()], size);
        let short = Duration::from_millis(20);
        assert!(tokio::time::timeout(short, call).await.is_err(), "nobody answers");
        let mut decoder = Decoder::default();
        let mut numbers = Vec::new();
        while numbers.len() < 2 {
            let mut buffer = [0; 4096];
            let count = theirs.read(&mut buffer).await.unwrap();
            decoder.push(&buffer[..count]);
            while let Some(message) = decoder.take::<ToMonitor>().unwrap() {
                if let Request::Exec(exec) = &message.request {
                    numbers.push(("exec", exec.exec));
                } else if let Request::KillExec { exec } = message.request {
                    numbers.push(("kill", exec));
                } else {
                    panic!("{:?} was not expected", message.request);
                }
            }
        }
        assert_eq!(numbers, [("exec", numbers[0].1), ("kill", numbers[0].1)]);
    }
}
