//! ExecSync.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use model::ContainerId;
use monitor_client::{ExecStreams, Monitor, MonitorError, RunningExec};
use operations::Phases;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinHandle;

use super::{monitor_of_running, name, there};
use crate::EXEC_OUTPUT_MAX;
use crate::error::{Cause, PodsError, chain};
use crate::pods::Pods;
use crate::status::ExecResult;
use crate::steps::{Failure, bounded, step};

const OPERATION: &str = "ExecSync";
const CHUNK: usize = 64 << 10;

/// Runs a process and gives its output back. It is killed past `timeout`, and when nobody waits any more.
pub(crate) async fn exec_sync(
    pods: &Pods,
    id: &ContainerId,
    command: Vec<String>,
    timeout: Duration,
) -> Result<ExecResult, PodsError> {
    let inner = &pods.inner;
    let record = there(inner, id).await?;
    let monitor = monitor_of_running(inner, &record, OPERATION)?;
    let deadlines = inner.config.deadlines;
    let failed = |failure: Failure| failure.of(OPERATION, &name(inner, &record));
    if command.first().is_none_or(String::is_empty) {
        let (object, problem) = (name(inner, &record), "there is no command".to_owned());
        return Err(PodsError::Invalid { operation: OPERATION, object, problem });
    }
    let (streams, stdout, stderr) =
        streams().map_err(|e| failed(Failure::new("streams", Cause::pipes(e))))?;
    let mut starting = Starting::new(monitor, id.clone(), command, streams);
    let phases = Phases::begin();
    let started = step(&phases, "exec", deadlines.start, starting.exec());
    // The time of the probe that asks includes the time that its process takes to begin.
    let started = match bounded_by(timeout, started).await {
        Some(started) => started.map_err(failed)?,
        None => return Err(expired(id, timeout)),
    };
    let mut exec = Kill(Some(started));
    let (mut stdout, mut stderr) = (Captured::new(stdout), Captured::new(stderr));
    let run = async {
        // Whoever fills a pipe must not wait for us while we wait for its end.
        let (out, err) = (stdout.take_all(), stderr.take_all());
        tokio::pin!(out, err);
        let (mut out_over, mut err_over) = (false, false);
        let ended = async {
            match exec.0.as_mut() {
                Some(exec) => exec.ended().await,
                None => Err(MonitorError::Gone),
            }
        };
        tokio::pin!(ended);
        let code = loop {
            tokio::select! {
                code = &mut ended => break code,
                () = &mut out, if !out_over => out_over = true,
                () = &mut err, if !err_over => err_over = true,
            }
        };
        // A grandchild may keep a pipe open; it does not keep the call.
        let rest = async {
            if !out_over {
                out.await;
            }
        };
        let rest = async {
            tokio::join!(rest, async {
                if !err_over {
                    err.await
                }
            })
        };
        let drained = tokio::time::timeout(deadlines.drain, rest).await;
        tracing::trace!(drained = drained.is_ok(), "the output of an exec");
        code
    };
    let code = bounded_by(timeout, run).await;
    let Some(code) = code else {
        exec.kill(deadlines.answer).await;
        return Err(expired(id, timeout));
    };
    exec.0 = None;
    let exit_code = code.map_err(|e| failed(Failure::new("wait", e)))?;
    let was_cut = stdout.was_cut || stderr.was_cut;
    Ok(ExecResult { stdout: stdout.bytes, stderr: stderr.bytes, exit_code, was_cut })
}

fn expired(id: &ContainerId, timeout: Duration) -> PodsError {
    PodsError::ExecTimeout { container: id.clone(), seconds: timeout.as_secs() }
}

/// What `future` gives, unless `timeout` passes; zero is no timeout.
async fn bounded_by<T>(timeout: Duration, future: impl Future<Output = T>) -> Option<T> {
    if timeout.is_zero() {
        return Some(future.await);
    }
    tokio::time::timeout(timeout, future).await.ok()
}

/// No input, and two pipes with our ends of them.
fn streams() -> io::Result<(ExecStreams, Receiver, Receiver)> {
    let stdin: OwnedFd = File::open("/dev/null")?.into();
    let ((our_out, stdout), (our_err, stderr)) =
        (pipe_with(PipeFlags::CLOEXEC)?, pipe_with(PipeFlags::CLOEXEC)?);
    let receiver = |fd: OwnedFd| {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Receiver::from_owned_fd(fd)
    };
    let streams = ExecStreams { stdin, stdout, stderr };
    Ok((streams, receiver(our_out)?, receiver(our_err)?))
}

/// Output up to [`EXEC_OUTPUT_MAX`]; what is beyond is read and thrown away, so that its writer ends.
struct Captured {
    pipe: Receiver,
    bytes: Vec<u8>,
    was_cut: bool,
}

impl Captured {
    const fn new(pipe: Receiver) -> Self {
        Self { pipe, bytes: Vec::new(), was_cut: false }
    }

    /// Until its last writer is gone. What was read stays when this is dropped.
    async fn take_all(&mut self) {
        let mut chunk = vec![0; CHUNK];
        loop {
            match self.pipe.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    let room = EXEC_OUTPUT_MAX - self.bytes.len();
                    self.bytes.extend_from_slice(&chunk[..count.min(room)]);
                    self.was_cut |= count > room;
                }
            }
        }
    }
}

/// A process that is being started. One that comes after nobody waits any more is killed.
struct Starting(Option<JoinHandle<Result<RunningExec, MonitorError>>>);

impl Starting {
    fn new(monitor: Monitor, id: ContainerId, command: Vec<String>, streams: ExecStreams) -> Self {
        Self(Some(tokio::spawn(async move { monitor.exec(id, command, streams).await })))
    }

    async fn exec(&mut self) -> Result<RunningExec, Cause> {
        let Some(task) = self.0.as_mut() else { return Err(MonitorError::Gone.into()) };
        let started = task.await;
        self.0 = None;
        match started {
            Ok(started) => Ok(started?),
            Err(error) => Err(Cause::panicked(&error)),
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(task) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                if let Ok(Ok(late)) = task.await {
                    // Its connection may be gone, and the process with it.
                    let _ = late.kill().await;
                }
            });
        }
    }
}

/// Kills its process when it is dropped before the process has ended.
struct Kill(Option<RunningExec>);

impl Kill {
    async fn kill(mut self, patience: Duration) {
        let Some(mut exec) = self.0.take() else { return };
        if let Err(cause) = bounded("kill", patience, exec.kill()).await {
            tracing::warn!(error = %chain(&cause), "an exec past its time");
            return;
        }
        // When it has ended, the seat that it had is free again.
        let _ = tokio::time::timeout(patience, exec.ended()).await;
    }
}

impl Drop for Kill {
    fn drop(&mut self) {
        if let Some(exec) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { exec.kill().await });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn output_is_cut_at_its_limit_and_its_writer_can_write_to_the_end() {
        let (streams, stdout, _stderr) = streams().unwrap();
        let writer = tokio::task::spawn_blocking(move || {
            let mut out = File::from(streams.stdout);
            let chunk = vec![b'x'; 1 << 20];
            for _ in 0..17 {
                out.write_all(&chunk).unwrap();
            }
        });
        let mut captured = Captured::new(stdout);
        captured.take_all().await;
        writer.await.unwrap();
        assert_eq!(captured.bytes.len(), EXEC_OUTPUT_MAX);
        assert!(captured.was_cut);
    }

    #[tokio::test]
    async fn what_was_read_stays_when_a_pipe_is_kept_open() {
        let (streams, stdout, _stderr) = streams().unwrap();
        let mut out = File::from(streams.stdout);
        out.write_all(b"said").unwrap();
        let mut captured = Captured::new(stdout);
        let all = captured.take_all();
        assert!(tokio::time::timeout(Duration::from_millis(50), all).await.is_err());
        assert_eq!(captured.bytes, b"said");
        assert!(!captured.was_cut);
        drop(out);
    }

    #[tokio::test]
    async fn a_timeout_of_zero_is_none() {
        let soon = async { tokio::task::yield_now().await };
        assert_eq!(bounded_by(Duration::ZERO, soon).await, Some(()));
        let never = std::future::pending::<()>();
        assert_eq!(bounded_by(Duration::from_millis(1), never).await, None);
    }
}
