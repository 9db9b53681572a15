//! ExecSync.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use model::{ContainerId, with_causes};
use monitor_client::{ExecStreams, MonitorError, RunningExec};
use operations::{OperationFailure, Phases};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::time::Instant;

use super::{monitor_of_running, name, there};
use crate::EXEC_OUTPUT_MAX;
use crate::error::{Cause, PodsError};
use crate::pods::{Inner, Pods};
use crate::records::ContainerRecord;
use crate::status::ExecResult;
use crate::steps::{Failure, bounded, step_at};

const OPERATION: &str = "ExecSync";
/// Read at once: of a pipe that says little, as most do, and of one that was full.
const LITTLE: usize = 4 << 10;
const CHUNK: usize = 64 << 10;
/// How long nobody looks into the pipes of a process that has begun. What a probe says fits into them, and it has
/// ended by then: its end is waited for, and not that of each of its pipes.
const QUICK: Duration = Duration::from_millis(3);

/// Runs a process and gives its output back. It is killed past `timeout`, and when nobody waits any more.
pub(crate) async fn exec_sync(
    pods: &Pods,
    id: &ContainerId,
    command: Vec<String>,
    timeout: Duration,
) -> Result<ExecResult, PodsError> {
    let inner = &pods.inner;
    let record = there(inner, id).await?;
    let note = inner.services.operations.note(OPERATION, || name(inner, &record));
    let done = exec_in(inner, &record, command, timeout, note.phases()).await;
    note.end(done.as_ref().err().map(OperationFailure::of));
    done
}

async fn exec_in(
    inner: &Inner,
    record: &ContainerRecord,
    command: Vec<String>,
    timeout: Duration,
    phases: &Phases,
) -> Result<ExecResult, PodsError> {
    let monitor = monitor_of_running(inner, record, OPERATION)?;
    let deadlines = inner.config.deadlines;
    let failed = |failure: Failure| failure.of(OPERATION, &name(inner, record));
    let expired =
        || PodsError::ExecTimeout { object: name(inner, record), seconds: timeout.as_secs() };
    if command.first().is_none_or(String::is_empty) {
        let (object, problem) = (name(inner, record), "there is no command".to_owned());
        return Err(PodsError::Invalid { operation: OPERATION, object, problem });
    }
    let (streams, mut stdout, mut stderr) =
        streams().map_err(|e| failed(Failure::new("streams", Cause::pipes(e))))?;
    // The time of the probe that asks includes the time that its process takes to begin; zero is no bound, and
    // neither is what lies beyond all clocks.
    let until = (!timeout.is_zero()).then(|| Instant::now().checked_add(timeout)).flatten();
    let spot = inner.monitor_spot(&record.sandbox);
    let exec = monitor.exec(record.id.clone(), command, streams);
    let started = step_at(phases, "exec", deadlines.start, &spot, exec);
    // Given up while it starts, it is killed by whoever starts it.
    let started = match bounded_by(until, started).await {
        Some(started) => started.map_err(failed)?,
        None => return Err(expired()),
    };
    phases.enter("run", None);
    let mut exec = Kill(Some(started));
    let code = run(until, deadlines.drain, exec.ended(), &mut stdout, &mut stderr).await;
    let Some(code) = code else {
        exec.kill(deadlines.answer).await;
        return Err(expired());
    };
    exec.0 = None;
    let exit_code = code.map_err(|e| failed(Failure::new("wait", e)))?;
    if let Some(error) = stdout.unread.or(stderr.unread) {
        return Err(failed(Failure::new("streams", Cause::pipes(error))));
    }
    let was_cut = stdout.was_cut || stderr.was_cut;
    Ok(ExecResult { stdout: stdout.bytes, stderr: stderr.bytes, exit_code, was_cut })
}

/// Reads both outputs until `ended` gives its answer, which it has to before `until`, and what is left of them for
/// at most `drain` longer: a grandchild that keeps a pipe open neither keeps the call nor costs it its answer.
/// For [`QUICK`] only `ended` is waited for.
async fn run<T>(
    until: Option<Instant>,
    drain: Duration,
    ended: impl Future<Output = T>,
    stdout: &mut Captured,
    stderr: &mut Captured,
) -> Option<T> {
    tokio::pin!(ended);
    let patience = Instant::now() + QUICK;
    let at_once =
        tokio::time::timeout_at(until.map_or(patience, |until| until.min(patience)), &mut ended);
    let at_once = at_once.await.ok();
    if at_once.is_some() && stdout.take_what_is_there() && stderr.take_what_is_there() {
        return at_once;
    }
    // Whoever fills a pipe must not wait for us while we wait for its end.
    let reading = async { tokio::join!(stdout.take_all(), stderr.take_all()) };
    tokio::pin!(reading);
    let mut all_read = false;
    let ended = async {
        loop {
            tokio::select! {
                biased;
                answer = &mut ended => return answer,
                _ = &mut reading, if !all_read => all_read = true,
            }
        }
    };
    let answer = match at_once {
        Some(answer) => answer,
        None => bounded_by(until, ended).await?,
    };
    if !all_read {
        let drained = tokio::time::timeout(drain, &mut reading).await;
        tracing::trace!(drained = drained.is_ok(), "the output of an exec");
    }
    Some(answer)
}

/// What `future` gives, unless `until` comes first.
async fn bounded_by<T>(until: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match until {
        Some(until) => tokio::time::timeout_at(until, future).await.ok(),
        None => Some(future.await),
    }
}

/// No input, and two pipes with our ends of them.
fn streams() -> io::Result<(ExecStreams, Captured, Captured)> {
    let stdin: OwnedFd = File::open("/dev/null")?.into();
    let ((our_out, stdout), (our_err, stderr)) =
        (pipe_with(PipeFlags::CLOEXEC)?, pipe_with(PipeFlags::CLOEXEC)?);
    let captured = |pipe: OwnedFd| -> io::Result<Captured> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Captured { pipe: Some(pipe), bytes: Vec::new(), was_cut: false, unread: None })
    };
    let streams = ExecStreams { stdin, stdout, stderr };
    Ok((streams, captured(our_out)?, captured(our_err)?))
}

/// Output up to [`EXEC_OUTPUT_MAX`]; what is beyond is read and thrown away, so that its writer ends.
struct Captured {
    /// Until its end was read, or somebody waits for it.
    pipe: Option<OwnedFd>,
    bytes: Vec<u8>,
    was_cut: bool,
    /// Why the rest could not be read.
    unread: Option<io::Error>,
}

impl Captured {
    /// What a pipe holds, without waiting. True where its end was reached.
    fn take_what_is_there(&mut self) -> bool {
        let mut chunk = [0; LITTLE];
        // Somebody may write as fast as it is read.
        for _ in 0..=CHUNK / LITTLE {
            let Some(pipe) = &self.pipe else { return true };
            match rustix::io::read(pipe, &mut chunk) {
                Ok(0) => self.pipe = None,
                Ok(count) => self.keep(&chunk[..count]),
                Err(_) => return false,
            }
        }
        self.pipe.is_none()
    }

    /// Until its last writer is gone. What was read stays when this is dropped.
    async fn take_all(&mut self) {
        let mut pipe = match self.pipe.take().map(Receiver::from_owned_fd) {
            Some(Ok(pipe)) => pipe,
            Some(Err(error)) => return self.unread = Some(error),
            None => return,
        };
        let mut chunk = Vec::with_capacity(LITTLE);
        loop {
            chunk.clear();
            match pipe.read_buf(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    self.keep(&chunk);
                    if count == chunk.capacity() {
                        chunk.reserve(CHUNK);
                    }
                }
            }
        }
    }

    fn keep(&mut self, said: &[u8]) {
        let room = EXEC_OUTPUT_MAX - self.bytes.len();
        self.bytes.extend_from_slice(&said[..said.len().min(room)]);
        self.was_cut |= said.len() > room;
    }
}

/// Kills its process when it is dropped before the process has ended.
struct Kill(Option<RunningExec>);

impl Kill {
    async fn ended(&mut self) -> Result<i32, MonitorError> {
        match self.0.as_mut() {
            Some(exec) => exec.ended().await,
            None => Err(MonitorError::Gone),
        }
    }

    async fn kill(mut self, patience: Duration) {
        let Some(mut exec) = self.0.take() else { return };
        if let Err(cause) = bounded("kill", patience, exec.kill()).await {
            tracing::warn!(error = %with_causes(&cause), "an exec past its time");
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
        let (streams, mut captured, _stderr) = streams().unwrap();
        let writer = tokio::task::spawn_blocking(move || {
            let mut out = File::from(streams.stdout);
            let chunk = vec![b'x'; 1 << 20];
            for _ in 0..17 {
                out.write_all(&chunk).unwrap();
            }
        });
        captured.take_all().await;
        writer.await.unwrap();
        assert_eq!(captured.bytes.len(), EXEC_OUTPUT_MAX);
        assert!(captured.was_cut);
    }

    #[test]
    fn what_is_there_is_taken_to_the_end_of_a_pipe_and_not_beyond_what_that_holds() {
        let (streams, mut captured, mut other) = streams().unwrap();
        let mut out = File::from(streams.stdout);
        out.write_all(b"said").unwrap();
        assert!(!captured.take_what_is_there(), "somebody may write still");
        out.write_all(&[b'x'; CHUNK]).unwrap();
        drop(out);
        assert!(captured.take_what_is_there());
        assert_eq!(captured.bytes.len(), CHUNK + 4);
        assert!(captured.take_what_is_there(), "and its end stays its end");
        drop(streams.stderr);
        assert!(other.take_what_is_there() && other.bytes.is_empty());
    }

    #[tokio::test]
    async fn a_process_that_ends_at_once_has_said_everything() {
        let (streams, mut stdout, mut stderr) = streams().unwrap();
        let ended = async {
            File::from(streams.stdout).write_all(b"out").unwrap();
            File::from(streams.stderr).write_all(b"err").unwrap();
            7
        };
        assert_eq!(run(None, QUICK, ended, &mut stdout, &mut stderr).await, Some(7));
        assert_eq!((&*stdout.bytes, &*stderr.bytes), (&b"out"[..], &b"err"[..]));
    }

    #[tokio::test]
    async fn what_was_read_stays_when_a_pipe_is_kept_open() {
        let (streams, mut captured, _stderr) = streams().unwrap();
        let mut out = File::from(streams.stdout);
        out.write_all(b"said").unwrap();
        let all = captured.take_all();
        assert!(tokio::time::timeout(Duration::from_millis(50), all).await.is_err());
        assert_eq!(captured.bytes, b"said");
        assert!(!captured.was_cut);
        drop(out);
    }

    #[tokio::test]
    async fn an_output_that_is_kept_open_does_not_count_against_the_time_of_the_process() {
        let (streams, mut stdout, mut stderr) = streams().unwrap();
        let mut out = File::from(streams.stdout.try_clone().unwrap());
        out.write_all(b"said").unwrap();
        // The time is over before the drain is.
        let until = Some(Instant::now() + Duration::from_millis(1));
        let drain = Duration::from_millis(50);
        let ended = std::future::ready(3);
        assert_eq!(run(until, drain, ended, &mut stdout, &mut stderr).await, Some(3));
        assert_eq!(stdout.bytes, b"said");
        let never = std::future::pending::<i32>();
        assert_eq!(run(until, drain, never, &mut stdout, &mut stderr).await, None);
        drop(streams);
    }
}
