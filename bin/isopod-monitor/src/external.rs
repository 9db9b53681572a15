//! Containers of an external OCI runtime: commands that run beside the loop, and what comes of them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio as ProcessStdio;
use std::time::{Duration, Instant};

use cri_log::Stream;
use launcher::HostTree;
use model::{Class, ContainerId, Rootfs, State, Timestamp};
use monitor_api::{Event, Exec as ExecRequest, Refusal, Reply};
use oci_runtime::{Invocation, OciRuntime, failure_message, process_file};
use runtime_spec::{ConsoleSize, Mount, Namespace, NamespaceKind, Spec};
use rustix::mount::{UnmountFlags, unmount};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::cgroup::ExecSeat;
use crate::container::{Launcher, Process, ReplyTo, Stage, start_error};
use crate::exec::{Exec, ExecStage};
use crate::monitor::{Monitor, kill, wait_for};
use crate::pod::Pod;
use crate::poller::{Key, Source};
use crate::refusal::{failed, refuse, step_failed};
use crate::verbs::{end_container, read_stream, use_terminal};
use crate::volumes;

/// How long a command of a runtime may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A container that an external runtime runs.
#[derive(Debug)]
pub struct ExternalContainer {
    pub runtime: OciRuntime,
    pub bundle: PathBuf,
    /// The PID namespace that it is to be in, if it is not to have its own; the runtime opens it by this
    /// process's descriptor.
    pub pids: Option<File>,
}

/// A command of a runtime that has not ended.
#[derive(Debug)]
pub struct Command {
    process: Process,
    until: Instant,
    log: PathBuf,
    pid_file: PathBuf,
    purpose: Purpose,
    /// Where it hands a terminal over, and the terminal.
    console: Option<Console>,
}

/// The socket through which a runtime hands the controlling end of a terminal over (`--console-socket`).
#[derive(Debug)]
struct Console {
    key: Key,
    listener: UnixListener,
    path: PathBuf,
    /// The connection, once it is there.
    socket: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    /// The terminal's size, which not every runtime sets.
    size: Option<ConsoleSize>,
}

#[derive(Debug)]
enum Purpose {
    Start { container: Key, reply: ReplyTo, at: Timestamp },
    Exec { exec: Key, reply: ReplyTo, file: PathBuf },
    Delete { reply: ReplyTo },
}

/// Commands under way, and children that ended while one of them had not yet told whose they are.
#[derive(Debug, Default)]
pub struct Commands {
    running: Vec<Command>,
    unclaimed: Vec<(Pid, i32)>,
}

impl ExternalContainer {
    /// Mounts what the runtime is to find, in this mount namespace alone: the root file system, and the host's
    /// trees, each as it is there now. `places` is told of what is to be unmounted at the end. What the bundle
    /// says is made to fit.
    pub fn prepare(
        &self,
        rootfs: &Rootfs,
        spec: &Spec,
        pod: &Pod,
        places: &mut Vec<PathBuf>,
    ) -> Result<(), Refusal> {
        let mut spec = spec.clone();
        let directory = self.bundle.join("binds");
        std::fs::create_dir_all(&directory)
            .map_err(failed(format!("make {}", directory.display())))?;
        let mut trees = Vec::new();
        for mount in spec.mounts.iter_mut().filter(|mount| is_of_host(mount, &pod.directory)) {
            let place = directory.join(trees.len().to_string());
            let text = place.to_str().map(str::to_owned).ok_or_else(|| {
                refuse(Class::Internal, format!("{} is not UTF-8", place.display()))
            })?;
            trees.push(HostTree {
                source: std::mem::replace(&mut mount.source, text).into(),
                recursive: mount.options.iter().any(|option| option == "rbind"),
                shared: mount.options.iter().any(|o| matches!(o.as_str(), "shared" | "rshared")),
                place,
            });
        }
        places.extend(trees.iter().map(|tree| tree.place.clone()));
        launcher::place_host_trees(pod.host.mounts(), &trees)
            .map_err(step_failed(launcher::Phase::Mounts))
            .and_then(|()| self.rewrite(spec))
            .and_then(|()| {
                launcher::mount_rootfs_at(rootfs, &self.bundle.join("rootfs"))
                    .map_err(step_failed(launcher::Phase::Root))
            })
            .inspect_err(|_| volumes::unmount(places))
    }

    /// Writes the bundle anew. A runtime would leave the container in its own PID namespace: it is told which.
    fn rewrite(&self, mut spec: Spec) -> Result<(), Refusal> {
        if let Some(pids) = &self.pids {
            let namespaces = &mut spec.linux.get_or_insert_default().namespaces;
            namespaces.retain(|namespace| namespace.kind != NamespaceKind::Pid);
            let path = format!("/proc/{}/fd/{}", std::process::id(), pids.as_raw_fd());
            namespaces.push(Namespace { kind: NamespaceKind::Pid, path: Some(path.into()) });
        }
        let written = serde_json::to_vec(&spec)
            .map_err(io::Error::from)
            .and_then(|bytes| std::fs::write(self.bundle.join("config.json"), bytes));
        written.map_err(failed("write config.json for the runtime"))
    }
}

/// Whether a mount binds what is somewhere on the host: what is in the pod's directory has its place here alone.
fn is_of_host(mount: &Mount, directory: &Path) -> bool {
    let binds = mount.kind == "bind" || mount.options.iter().any(|o| o == "bind" || o == "rbind");
    binds && !Path::new(&mount.source).starts_with(directory)
}

/// Gives a process that a runtime is about to make the container's score: it is born with that of the command,
/// and not every runtime sets it.
fn set_oom_score(pid: Pid, score: Option<i32>) {
    let Some(score) = score else { return };
    let path = format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero());
    if let Err(error) = std::fs::write(&path, score.to_string()) {
        eprintln!("isopod-monitor: write {score} to {path}: {error}");
    }
}

impl Commands {
    /// When a command has had its time.
    pub fn next(&self) -> Option<Instant> {
        self.running.iter().map(|command| command.until).min()
    }

    /// Their processes.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.running.iter().map(|command| &command.process)
    }

    /// Kills commands that have had their time; their ends are dealt with as any other.
    pub fn stop_late(&mut self, now: Instant) {
        for command in self.running.iter_mut().filter(|command| command.until <= now) {
            kill(&command.process.pidfd);
            command.until = now + PATIENCE;
        }
    }
}

impl Monitor {
    fn spawn(
        &mut self,
        invocation: Invocation,
        console: Option<Console>,
        purpose: Purpose,
    ) -> io::Result<Pid> {
        let Invocation { mut command, log, pid_file } = invocation;
        // The loop waits for it, as for every child.
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        let process = Process { pid, pidfd: pidfd_open(pid, PidfdFlags::empty())? };
        let until = Instant::now() + PATIENCE;
        self.commands.running.push(Command { process, until, log, pid_file, purpose, console });
        Ok(pid)
    }

    /// A socket for a terminal, named in the command.
    fn console(
        &mut self,
        invocation: &mut Invocation,
        size: Option<ConsoleSize>,
    ) -> io::Result<Console> {
        let path = invocation.pid_file.with_extension("console");
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
        // A socket's path is short by the kernel's rule, a bundle's need not be.
        let parent = File::open(path.parent().unwrap_or(Path::new("/")))?;
        let name = path.file_name().unwrap_or_default();
        let short = format!("/proc/self/fd/{}", parent.as_raw_fd());
        let listener = UnixListener::bind(Path::new(&short).join(name))?;
        listener.set_nonblocking(true)?;
        let key = self.poller.new_key();
        self.poller.add(&listener, Source::Console(key))?;
        invocation.use_console(name);
        Ok(Console { key, listener, path, socket: None, terminal: None, size })
    }
}

/// Makes and starts the container's process; `command_ended` answers.
pub fn start(
    monitor: &mut Monitor,
    key: Key,
    reply: ReplyTo,
    at: Timestamp,
) -> Result<(), Refusal> {
    let Some(mut container) = monitor.containers.remove(&key) else {
        return Err(refuse(Class::Internal, "the container is gone"));
    };
    let id = container.id.clone();
    let mut start = || -> io::Result<()> {
        let Launcher::External(outside) = &container.launcher else {
            return Err(io::Error::other("it has no external runtime"));
        };
        let mut invocation = outside.runtime.run(&outside.bundle, id.as_str());
        let purpose = Purpose::Start { container: key, reply, at };
        if container.stdio.tty {
            let console = monitor.console(&mut invocation, None)?;
            let command = &mut invocation.command;
            command
                .stdin(ProcessStdio::null())
                .stdout(ProcessStdio::null())
                .stderr(ProcessStdio::null());
            return monitor.spawn(invocation, Some(console), purpose).map(drop);
        }
        let (our_stdout, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (our_stderr, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stdin, our_stdin) = if container.stdio.stdin {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            (ProcessStdio::from(read), Some(write))
        } else {
            (ProcessStdio::null(), None)
        };
        invocation.command.stdin(stdin).stdout(stdout).stderr(stderr);
        container.stdin = our_stdin;
        read_stream(monitor, &mut container, key, Stream::Stdout, Some(our_stdout))?;
        read_stream(monitor, &mut container, key, Stream::Stderr, Some(our_stderr))?;
        monitor.spawn(invocation, None, purpose).map(drop)
    };
    let started = start();
    container.stage =
        if started.is_ok() { Stage::StartingOutside } else { Stage::Waiting { control: None } };
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
    let name = format!("exec-{}", key.number());
    let size = request.terminal.map(|size| ConsoleSize { height: size.height, width: size.width });
    let (file, oom_score) = process_file(&outside.bundle, &name, &request.args, size)
        .map_err(failed("write the process for the runtime"))?;
    let mut invocation =
        outside.runtime.exec(&outside.bundle, request.container.as_str(), &file, &name);
    let console = match <[OwnedFd; 3]>::try_from(fds) {
        Ok([stdin, stdout, stderr]) => {
            invocation.command.stdin(stdin).stdout(stdout).stderr(stderr);
            None
        }
        Err(_) => {
            let command = &mut invocation.command;
            command
                .stdin(ProcessStdio::null())
                .stdout(ProcessStdio::null())
                .stderr(ProcessStdio::null());
            Some(
                monitor
                    .console(&mut invocation, size)
                    .map_err(failed("make a socket for the terminal"))?,
            )
        }
    };
    let exec = Exec {
        number: Some(request.exec),
        connection: reply.connection,
        container,
        stage: ExecStage::EnteringOutside,
        process: None,
        hand_over: None,
        seat: ExecSeat::elsewhere(),
        leaves_clean: false,
    };
    let command = monitor
        .spawn(invocation, console, Purpose::Exec { exec: key, reply, file })
        .map_err(failed("start the runtime's command"))?;
    set_oom_score(command, oom_score);
    monitor.execs.insert(key, exec);
    Ok(())
}

/// Somebody connects to a socket for a terminal, or sends the terminal.
pub fn console_came(monitor: &mut Monitor, key: Key) {
    let found = monitor
        .commands
        .running
        .iter_mut()
        .filter_map(|c| c.console.as_mut())
        .find(|c| c.key == key);
    let Some(console) = found else { return };
    if console.socket.is_none() {
        let Ok((socket, _)) = console.listener.accept() else { return };
        let socket = OwnedFd::from(socket);
        let watched = rustix::io::ioctl_fionbio(&socket, true)
            .map_err(io::Error::from)
            .and_then(|()| monitor.poller.add(&socket, Source::Console(key)));
        console.socket = watched.is_ok().then_some(socket);
    }
    console.take();
}

impl Console {
    /// Takes the terminal if it has come.
    fn take(&mut self) {
        let Some(socket) = &self.socket else { return };
        let (mut name, mut fds) = ([0; 4096], Vec::new());
        match sys::receive(socket.as_fd(), &mut name, &mut fds) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
            Ok(_) | Err(_) => self.terminal = fds.pop().or(self.terminal.take()),
        }
        if let (Some(terminal), Some(size)) = (&self.terminal, self.size) {
            let winsize =
                Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
            // Without it the program sees a terminal of unknown size, as it would have from the runtime.
            let _ = tcsetwinsize(terminal, winsize);
        }
        self.socket = None;
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // It is in the bundle, which goes as a whole.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Lets the runtime forget the container, and lets its root file system go; `command_ended` answers.
pub fn delete(
    monitor: &mut Monitor,
    outside: &ExternalContainer,
    id: &ContainerId,
    reply: ReplyTo,
) -> Result<(), Refusal> {
    let mut invocation = outside.runtime.delete(&outside.bundle, id.as_str());
    invocation
        .command
        .stdin(ProcessStdio::null())
        .stdout(ProcessStdio::null())
        .stderr(ProcessStdio::null());
    monitor
        .spawn(invocation, None, Purpose::Delete { reply })
        .map_err(failed("start the runtime's command"))?;
    // It fails if the runtime has not let it go yet; the end of the monitor frees it then.
    let _ = unmount(outside.bundle.join("rootfs"), UnmountFlags::DETACH);
    Ok(())
}

/// Deals with the end of the child `pid`, if it is a command or may be a process that one has made.
pub fn command_ended(monitor: &mut Monitor, pid: Pid) -> bool {
    let Some(at) = monitor.commands.running.iter().position(|c| c.process.pid == pid) else {
        if monitor.commands.running.is_empty() {
            return false;
        }
        let code = wait_for(pid);
        monitor.commands.unclaimed.push((pid, code));
        return true;
    };
    let mut command = monitor.commands.running.swap_remove(at);
    let code = wait_for(pid);
    let mut made = if code == 0 {
        new_process(&command.pid_file)
    } else {
        Err(failure_message(&command.log, code))
    };
    let terminal = command.console.as_mut().and_then(|console| {
        // It may have come and not been looked at yet.
        if console.socket.is_none() && console.terminal.is_none() {
            console.socket = console.listener.accept().ok().map(|(socket, _)| socket.into());
        }
        console.take();
        console.terminal.take()
    });
    if command.console.is_some() && terminal.is_none() && made.is_ok() {
        made = Err("it handed no terminal over".to_owned());
    }
    match &command.purpose {
        Purpose::Start { container, reply, at } => {
            started(monitor, *container, *reply, *at, made, terminal)
        }
        Purpose::Exec { exec, reply, file } => {
            // The files of one exec are of no use to the next.
            for path in [file, &command.pid_file, &command.log] {
                let _ = std::fs::remove_file(path);
            }
            entered(monitor, *exec, *reply, made, terminal);
        }
        Purpose::Delete { reply } => {
            if code != 0 {
                eprintln!(
                    "isopod-monitor: the runtime's delete: {}",
                    failure_message(&command.log, code)
                );
            }
            monitor.reply(*reply, Ok(Reply::Done));
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

fn new_process(pid_file: &Path) -> Result<Made, String> {
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

fn runtime_failed(message: String) -> Refusal {
    Refusal { class: Class::Internal, phase: "runtime".to_owned(), message }
}

fn started(
    monitor: &mut Monitor,
    key: Key,
    reply: ReplyTo,
    at: Timestamp,
    made: Result<Made, String>,
    terminal: Option<OwnedFd>,
) {
    let made = match made {
        Ok(made) => made,
        Err(message) => {
            monitor.exited(key, start_error(message.clone()));
            return monitor.reply(reply, Err(runtime_failed(message)));
        }
    };
    let ended = monitor.claim(made.pid);
    let Some(mut container) = monitor.containers.remove(&key) else { return };
    container.state = State::Running { started_at: at };
    container.stage = Stage::Running;
    container.process =
        made.pidfd.filter(|_| ended.is_none()).map(|pidfd| Process { pid: made.pid, pidfd });
    let watched =
        terminal.map_or(Ok(()), |terminal| use_terminal(monitor, &mut container, key, terminal));
    if let Err(error) = watched {
        eprintln!(
            "isopod-monitor: the terminal of container {} cannot be read: {error}",
            container.id
        );
    }
    monitor.containers.insert(key, container);
    monitor.watch_memory(key);
    monitor.reply(reply, Ok(Reply::Started { at }));
    if let Some(code) = ended {
        end_container(monitor, key, code);
    }
}

fn entered(
    monitor: &mut Monitor,
    key: Key,
    reply: ReplyTo,
    made: Result<Made, String>,
    terminal: Option<OwnedFd>,
) {
    let made = match made {
        Ok(made) => made,
        Err(message) => {
            monitor.execs.remove(&key);
            return monitor.reply(reply, Err(runtime_failed(message)));
        }
    };
    let ended = monitor.claim(made.pid);
    let started = Reply::ExecStarted { pid: made.pid.as_raw_nonzero().get() };
    monitor.reply_with(reply, Ok(started), terminal.into_iter().collect());
    if let Some(code) = ended {
        if let Some(Exec { number: Some(exec), connection, .. }) = monitor.execs.remove(&key) {
            monitor.tell(connection, Event::ExecEnded { exec, code });
        }
    } else if let Some(exec) = monitor.execs.get_mut(&key) {
        exec.stage = ExecStage::Running;
        exec.process = made.pidfd.map(|pidfd| Process { pid: made.pid, pidfd });
    }
}

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
