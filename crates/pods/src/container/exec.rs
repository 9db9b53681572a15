//! Exec: one more process in a container, its streams in the hands of whoever asked.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use model::ContainerId;
use monitor_client::api::TerminalSize;
use monitor_client::{ExecStreams, RunningExec};
use operations::Phases;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::unix::pipe;

use super::{monitor_of_running, name, there};
use crate::error::{Cause, PodsError};
use crate::pods::Pods;
use crate::steps::{Failure, step_at};
use crate::terminal::Terminal;

const OPERATION: &str = "Exec";

/// What a process is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecWanted {
    /// A terminal of this size for everything.
    Terminal(TerminalSize),
    /// Pipes for what is true; the rest is /dev/null.
    Pipes {
        /// Standard input.
        stdin: bool,
        /// Standard output.
        stdout: bool,
        /// Standard error.
        stderr: bool,
    },
}

/// The streams of a process.
#[derive(Debug)]
pub enum ExecIo {
    /// A terminal. When its last share is dropped, the process gets SIGHUP from the kernel.
    Terminal(Terminal),
    /// Our ends of its pipes.
    Pipes {
        /// To its standard input, which ends when this is dropped.
        stdin: Option<pipe::Sender>,
        /// From its standard output.
        stdout: Option<pipe::Receiver>,
        /// From its standard error.
        stderr: Option<pipe::Receiver>,
    },
}

/// A process that runs, and its streams. The monitor is out of the way of every byte.
#[derive(Debug)]
pub struct Exec {
    /// Its streams.
    pub io: ExecIo,
    /// The process itself. Dropped, it goes on until it ends by itself, or the daemon does.
    pub process: RunningExec,
}

pub(crate) async fn exec(
    pods: &Pods,
    id: &ContainerId,
    command: Vec<String>,
    wanted: ExecWanted,
    phases: &Phases,
) -> Result<Exec, PodsError> {
    let inner = &pods.inner;
    let record = there(inner, id).await?;
    let monitor = monitor_of_running(inner, &record, OPERATION)?;
    let failed = |failure: Failure| failure.of(OPERATION, &name(inner, &record));
    let no_streams = |e: io::Error| failed(Failure::new("streams", Cause::pipes(e)));
    let (deadline, spot) = (inner.config.deadlines.start, inner.monitor_spot(&record.sandbox));
    match wanted {
        ExecWanted::Terminal(size) => {
            let started = monitor.exec_with_terminal(id.clone(), command, size);
            let started = step_at(phases, "exec", deadline, &spot, started).await;
            let (process, terminal) = started.map_err(failed)?;
            let io = ExecIo::Terminal(Terminal::new(terminal).map_err(no_streams)?);
            Ok(Exec { io, process })
        }
        ExecWanted::Pipes { stdin, stdout, stderr } => {
            let (streams, io) = pipes(stdin, stdout, stderr).map_err(no_streams)?;
            let started = monitor.exec(id.clone(), command, streams);
            let started = step_at(phases, "exec", deadline, &spot, started).await;
            let process = started.map_err(failed)?;
            Ok(Exec { io, process })
        }
    }
}

/// Ends for the process, and ours.
fn pipes(stdin: bool, stdout: bool, stderr: bool) -> io::Result<(ExecStreams, ExecIo)> {
    let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
    let ours_not_blocking = |fd: &OwnedFd| rustix::io::ioctl_fionbio(fd, true);
    let (theirs_in, our_in) = if stdin {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        ours_not_blocking(&write)?;
        (read, Some(pipe::Sender::from_owned_fd(write)?))
    } else {
        (null()?, None)
    };
    let output = |wanted: bool| -> io::Result<(OwnedFd, Option<pipe::Receiver>)> {
        if !wanted {
            return Ok((null()?, None));
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        ours_not_blocking(&read)?;
        Ok((write, Some(pipe::Receiver::from_owned_fd(read)?)))
    };
    let (theirs_out, our_out) = output(stdout)?;
    let (theirs_err, our_err) = output(stderr)?;
    let streams = ExecStreams { stdin: theirs_in, stdout: theirs_out, stderr: theirs_err };
    Ok((streams, ExecIo::Pipes { stdin: our_in, stdout: our_out, stderr: our_err }))
}
