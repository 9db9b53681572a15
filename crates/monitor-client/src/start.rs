//! A new monitor, or one that is there.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use model::Span;
use monitor_api::{Reply, Request, Setup, Welcome};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

use crate::connection::{Monitor, MonitorEvents, nonsense};
use crate::error::MonitorError;
use crate::program::MonitorProgram;

/// A monitor's process, for as long as the machine is up: a process id alone is given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Process id.
    pub pid: i32,
    /// When it was started, in clock ticks since boot.
    pub start_time: u64,
}

/// The name of the socket in the pod's directory.
const SOCKET: &str = "monitor.sock";
/// What the monitor itself has to say, in the pod's directory.
const LOG: &str = "monitor.log";

/// A monitor that was started and has set its pod up.
#[derive(Debug)]
pub struct Started {
    /// The way to it.
    pub monitor: Monitor,
    /// What happens in it.
    pub events: MonitorEvents,
    /// Its process.
    pub identity: Identity,
    /// Where its time went.
    pub spans: Vec<Span>,
    /// The network namespace, where the monitor has made it.
    pub netns: Option<OwnedFd>,
}

/// A monitor's process that knows nothing yet; killed when it is dropped.
#[derive(Debug)]
struct Unready(Option<Child>);

impl Drop for Unready {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.start_kill();
            reap(child);
        }
    }
}

/// Starts a monitor and has it set its pod up. `netns` is the pod's network namespace, if it has one that
/// exists already. With `setup.own_network` and none here the monitor makes one, which is then in
/// [`Started::netns`]: the way for a pod with a user namespace, to which its network shall belong.
///
/// # Errors
/// [`MonitorError`]; no process is left then.
pub async fn start(
    program: Arc<MonitorProgram>,
    setup: Setup,
    netns: Option<OwnedFd>,
) -> Result<Started, MonitorError> {
    let failed = |what| move |source: io::Error| MonitorError::Start { what, source };
    let directory = setup.directory.clone();
    let name = setup.sandbox.short().to_owned();
    let spawned = tokio::task::spawn_blocking(move || spawn(&program, &directory, &name));
    let spawned = spawned.await.map_err(|e| failed("start the monitor")(io::Error::other(e)))?;
    let (socket, listener, identity, mut unready) = spawned.map_err(failed("start the monitor"))?;
    let (monitor, events) = Monitor::over(socket).map_err(failed("talk to the monitor"))?;
    let fds: Vec<BorrowedFd<'_>> =
        [listener.as_fd()].into_iter().chain(netns.as_ref().map(OwnedFd::as_fd)).collect();
    let (Reply::Ready { spans }, made) = monitor.call_for_fds(Request::Setup(setup), &fds).await?
    else {
        return Err(nonsense("setup"));
    };
    fault::point!("monitor-client.setup.after");
    let netns = made.into_iter().next();
    if let Some(child) = unready.0.take() {
        reap(child);
    }
    Ok(Started { monitor, events, identity, spans, netns })
}

/// Starts a monitor that gets no pod, and hears that it answers; it ends with its connection. Whether a pod could
/// have one.
///
/// # Errors
/// [`MonitorError`]; no process is left in either case.
pub async fn probe(program: Arc<MonitorProgram>) -> Result<(), MonitorError> {
    let failed = |what| move |source: io::Error| MonitorError::Start { what, source };
    let spawned = tokio::task::spawn_blocking(move || {
        let (ours, monitors) = UnixStream::pair()?;
        let mut command = Command::new(program.path());
        command.arg0("isopod-monitor").arg("self-check").env_clear();
        command.stdin(OwnedFd::from(monitors)).stdout(Stdio::null()).stderr(Stdio::null());
        Ok::<_, io::Error>((ours, Unready(Some(command.spawn()?))))
    });
    let spawned = spawned.await.map_err(|e| failed("start a monitor")(io::Error::other(e)))?;
    let (socket, mut unready) = spawned.map_err(failed("start a monitor"))?;
    let (monitor, events) = Monitor::over(socket).map_err(failed("talk to a monitor"))?;
    monitor.hello().await?;
    drop((monitor, events));
    if let Some(child) = unready.0.take() {
        reap(child);
    }
    Ok(())
}

/// Connects to the monitor of the pod in `directory`, which must be the process `expected`.
///
/// # Errors
/// [`MonitorError::Unreachable`] when nobody listens, [`MonitorError::Impostor`] when somebody else does.
pub async fn connect(
    directory: &Path,
    expected: Identity,
) -> Result<(Monitor, MonitorEvents, Welcome), MonitorError> {
    let (monitor, events) = connect_to(directory)?;
    // The peer's credentials are those of whoever made the listener, a daemon of old; so the monitor says
    // itself who it is, and the kernel says when that process began.
    let welcome = monitor.hello().await?;
    let is_expected =
        welcome.pid == expected.pid && identity_of(expected.pid).ok() == Some(expected);
    if !is_expected {
        let socket = directory.join(SOCKET);
        return Err(MonitorError::Impostor { socket, expected: expected.pid, found: welcome.pid });
    }
    Ok((monitor, events, welcome))
}

/// A connection to whoever listens in `directory`.
pub(crate) fn connect_to(directory: &Path) -> Result<(Monitor, MonitorEvents), MonitorError> {
    let unreachable = |source| MonitorError::Unreachable { socket: directory.join(SOCKET), source };
    let stream = through(directory, UnixStream::connect).map_err(unreachable)?;
    Monitor::over(stream).map_err(unreachable)
}

/// The process `pid` as it is now.
pub(crate) fn identity_of(pid: i32) -> io::Result<Identity> {
    let process = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
    Ok(Identity { pid, start_time: sys::start_time(process)? })
}

type Spawned = (UnixStream, UnixListener, Identity, Unready);

fn spawn(program: &MonitorProgram, directory: &Path, name: &str) -> io::Result<Spawned> {
    // One that an earlier attempt has left would be in the way.
    match std::fs::remove_file(directory.join(SOCKET)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let listener = through(directory, UnixListener::bind)?;
    let log = File::options().append(true).create(true).open(directory.join(LOG))?;
    let (ours, monitors) = UnixStream::pair()?;
    // No directory, environment or user is set here: then the standard library takes the fast way, which
    // does not copy this process's memory map.
    let mut command = Command::new(program.path());
    command.arg0("isopod-monitor").arg(name).env_clear();
    command.stdin(OwnedFd::from(monitors)).stdout(Stdio::null()).stderr(log);
    command.envs(fault::environment());
    fault::check!("monitor-client.spawn.before")?;
    let child = command.spawn()?;
    fault::point!("monitor-client.spawn.after");
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .ok_or_else(|| io::Error::other("it has ended"))?;
    let unready = Unready(Some(child));
    Ok((ours, listener, identity_of(pid)?, unready))
}

/// Waits for a monitor's end, so that it does not stay as a zombie.
fn reap(mut child: Child) {
    tokio::spawn(async move {
        match child.wait().await {
            Ok(status) => tracing::debug!(%status, "a monitor has ended"),
            Err(error) => tracing::warn!(%error, "waiting for a monitor"),
        }
    });
}

/// Uses the socket in `directory` by a path that is short whatever the directory's own is (unix(7) allows
/// 107 bytes).
fn through<T>(directory: &Path, action: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
    let dir = File::open(directory)?;
    action(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()).into())
}
