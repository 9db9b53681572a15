//! Containers of an external OCI runtime: commands that run beside the loop, and what comes of them.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio as ProcessStdio;

use cri_log::Stream;
use model::{Class, ContainerId, Rootfs, State, Stdio, Timestamp};
use monitor_api::{Event, Exec as ExecRequest, FromMonitor, Refusal, Reply};
use oci_runtime::{Invocation, OciRuntime, failure_message, process_file};
use rustix::mount::{UnmountFlags, unmount};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::container::{Launcher, Process, ReplyTo, Stage, exit_of, start_error};
use crate::exec::{Exec, ExecStage};
use crate::monitor::{Monitor, wait_for};
use crate::poller::Key;
use crate::refusal::{failed, refuse, step_failed};
use crate::verbs::attach;

/// A container that an external runtime runs.
#[derive(Debug)]
pub struct ExternalContainer {
    pub runtime: OciRuntime,
    pub bundle: PathBuf,
    pub stdio: Stdio,
}

/// A command of a runtime that has not ended.
#[derive(Debug)]
pub struct Command {
    pid: Pid,
    log: PathBuf,
    pid_file: PathBuf,
    purpose: Purpose,
}

#[derive(Debug)]
enum Purpose {
    Start { container: Key, reply: ReplyTo, at: Timestamp },
    Exec { exec: Key, reply: ReplyTo },
    Delete { reply: ReplyTo },
}

/// Commands under way, and children that ended while one of them had not yet told whose they are.
#[derive(Debug, Default)]
pub struct Commands {
    running: Vec<Command>,
    unclaimed: Vec<(Pid, i32)>,
}

impl ExternalContainer {
    /// Mounts the root file system where the runtime looks for it, in this mount namespace alone.
    pub fn prepare(&self, rootfs: &Rootfs) -> Result<(), Refusal> {
        launcher::mount_rootfs_at(rootfs, &self.bundle.join("rootfs")).map_err(step_failed(launcher::Phase::Root))
    }
}

impl Monitor {
    fn spawn(&mut self, invocation: Invocation, purpose: Purpose) -> io::Result<()> {
        let Invocation { mut command, log, pid_file } = invocation;
        // The loop waits for it, as for every child.
        #[expect(clippy::zombie_processes, reason = "the loop waits for every child of this process")]
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        self.commands.running.push(Command { pid, log, pid_file, purpose });
        Ok(())
    }
}

/// Makes and starts the container's process; `command_ended` answers.
pub fn start(monitor: &mut Monitor, key: Key, reply: ReplyTo, at: Timestamp) -> Result<(), Refusal> {
    let Some(mut container) = monitor.containers.remove(&key) else {
        return Err(refuse(Class::Internal, "the container is gone"));
    };
    let id = container.id.clone();
    let mut start = || -> io::Result<()> {
        let Launcher::External(outside) = &container.launcher else {
            return Err(io::Error::other("it has no external runtime"));
        };
        let mut invocation = outside.runtime.run(&outside.bundle, id.as_str());
        let (our_stdout, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (our_stderr, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stdin, our_stdin) = if outside.stdio.stdin {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            (ProcessStdio::from(read), Some(write))
        } else {
            (ProcessStdio::null(), None)
        };
        invocation.command.stdin(stdin).stdout(stdout).stderr(stderr);
        container.stdin = our_stdin;
        attach(monitor, &mut container, key, Stream::Stdout, Some(our_stdout))?;
        attach(monitor, &mut container, key, Stream::Stderr, Some(our_stderr))?;
        monitor.spawn(invocation, Purpose::Start { container: key, reply, at })
    };
    let started = start();
    container.stage = if started.is_ok() { Stage::StartingOutside } else { Stage::Waiting { control: None } };
    monitor.containers.insert(key, container);
    started.map_err(failed("start the runtime's command"))
}

/// Runs one more process in the container; `command_ended` answers.
pub fn exec(
    monitor: &mut Monitor,
    reply: ReplyTo,
    request: &ExecRequest,
    container: Key,
    fds: Vec<OwnedFd>,
) -> Result<(), Refusal> {
    let key = monitor.poller.new_key();
    let Some(found) = monitor.containers.get(&container) else {
        return Err(refuse(Class::NotFound, "the container is gone"));
    };
    let Launcher::External(outside) = &found.launcher else {
        return Err(refuse(Class::Internal, "it has no external runtime"));
    };
    let name = format!("exec-{}", request.exec);
    let file = process_file(&outside.bundle, &name, &request.args).map_err(failed("write the process for the runtime"))?;
    let mut invocation = outside.runtime.exec(&outside.bundle, request.container.as_str(), &file, &name);
    let [stdin, stdout, stderr]: [OwnedFd; 3] =
        fds.try_into().map_err(|_| refuse(Class::InvalidArgument, "three descriptors must come with it"))?;
    invocation.command.stdin(stdin).stdout(stdout).stderr(stderr);
    let exec = Exec {
        number: request.exec,
        connection: reply.connection,
        stage: ExecStage::EnteringOutside,
        process: None,
        seat: found.cgroup.no_exec_seat(),
    };
    monitor.spawn(invocation, Purpose::Exec { exec: key, reply }).map_err(failed("start the runtime's command"))?;
    monitor.execs.insert(key, exec);
    Ok(())
}

/// Lets the runtime forget the container, and lets its root file system go; `command_ended` answers.
pub fn delete(monitor: &mut Monitor, outside: &ExternalContainer, id: &ContainerId, reply: ReplyTo) -> Result<(), Refusal> {
    let mut invocation = outside.runtime.delete(&outside.bundle, id.as_str());
    invocation.command.stdin(ProcessStdio::null()).stdout(ProcessStdio::null()).stderr(ProcessStdio::null());
    monitor.spawn(invocation, Purpose::Delete { reply }).map_err(failed("start the runtime's command"))?;
    // It fails if the runtime has not let it go yet; the end of the monitor frees it then.
    let _ = unmount(outside.bundle.join("rootfs"), UnmountFlags::DETACH);
    Ok(())
}

/// Deals with the end of the child `pid`, if it is a command or may be a process that one has made.
pub fn command_ended(monitor: &mut Monitor, pid: Pid) -> bool {
    let Some(at) = monitor.commands.running.iter().position(|c| c.pid == pid) else {
        if monitor.commands.running.is_empty() {
            return false;
        }
        let code = wait_for(pid);
        monitor.commands.unclaimed.push((pid, code));
        return true;
    };
    let command = monitor.commands.running.swap_remove(at);
    let code = wait_for(pid);
    let made = if code == 0 { new_process(&command.pid_file) } else { Err(failure_message(&command.log, code)) };
    match command.purpose {
        Purpose::Start { container, reply, at } => started(monitor, container, reply, at, made),
        Purpose::Exec { exec, reply } => entered(monitor, exec, reply, made),
        Purpose::Delete { reply } => {
            if code != 0 {
                eprintln!("isopod-monitor: the runtime's delete: {}", failure_message(&command.log, code));
            }
            monitor.reply(reply, Ok(Reply::Done));
        }
    }
    if monitor.commands.running.is_empty() {
        monitor.commands.unclaimed = Vec::new();
    }
    true
}

/// A process that a runtime has made: it lives, or has ended already.
struct Made {
    pid: Pid,
    pidfd: Option<OwnedFd>,
}

fn new_process(pid_file: &std::path::Path) -> Result<Made, String> {
    let pid = Invocation::new_pid(pid_file).map_err(|e| e.to_string())?;
    // It is a child of this process and nobody else waits for it, so the number is still its own.
    Ok(Made { pid, pidfd: pidfd_open(pid, PidfdFlags::empty()).ok() })
}

impl Monitor {
    /// How the process ended, if it did so before it was known whose it is.
    fn claim(&mut self, pid: Pid) -> Option<i32> {
        let at = self.commands.unclaimed.iter().position(|(p, _)| *p == pid)?;
        Some(self.commands.unclaimed.swap_remove(at).1)
    }
}

fn started(monitor: &mut Monitor, key: Key, reply: ReplyTo, at: Timestamp, made: Result<Made, String>) {
    let made = match made {
        Ok(made) => made,
        Err(message) => {
            monitor.exited(key, start_error(message.clone()));
            let refusal = Refusal { class: Class::Internal, phase: "runtime".to_owned(), message };
            return monitor.reply(reply, Err(refusal));
        }
    };
    let ended = monitor.claim(made.pid);
    if let Some(container) = monitor.containers.get_mut(&key) {
        container.state = State::Running { started_at: at };
        container.stage = Stage::Running;
        container.process = made.pidfd.filter(|_| ended.is_none()).map(|pidfd| Process { pid: made.pid, pidfd });
    }
    monitor.reply(reply, Ok(Reply::Started { at }));
    if let Some(code) = ended {
        let killed = monitor.containers.get(&key).is_some_and(|c| c.cgroup.memory_kills() > 0);
        monitor.exited(key, exit_of(code, killed));
    }
}

fn entered(monitor: &mut Monitor, key: Key, reply: ReplyTo, made: Result<Made, String>) {
    let made = match made {
        Ok(made) => made,
        Err(message) => {
            monitor.execs.remove(&key);
            let refusal = Refusal { class: Class::Internal, phase: "runtime".to_owned(), message };
            return monitor.reply(reply, Err(refusal));
        }
    };
    let ended = monitor.claim(made.pid);
    monitor.reply(reply, Ok(Reply::ExecStarted { pid: made.pid.as_raw_nonzero().get() }));
    if let Some(code) = ended {
        if let Some(exec) = monitor.execs.remove(&key) {
            let event = Event::ExecEnded { exec: exec.number, code };
            monitor.send(exec.connection, &FromMonitor::Event(event));
        }
    } else if let Some(exec) = monitor.execs.get_mut(&key) {
        exec.stage = ExecStage::Running;
        exec.process = made.pidfd.map(|pidfd| Process { pid: made.pid, pidfd });
    }
}

/// Whether a descriptor can be waited on; only to say so in one place.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_a_file_does_not_name_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        assert!(new_process(&dir.path().join("none")).is_err());
        let path = dir.path().join("pid");
        std::fs::write(&path, std::process::id().to_string()).unwrap();
        let made = new_process(&path).unwrap();
        assert!(made.pidfd.is_some_and(|fd| fd.as_fd().try_clone_to_owned().is_ok()));
    }
}
