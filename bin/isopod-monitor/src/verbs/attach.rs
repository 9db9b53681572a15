//! Taking part in a container's standard streams, and what belongs to it.

use std::os::fd::{AsFd as _, OwnedFd};

use model::{Class, ContainerId, State};
use monitor_api::{Attach as Request, Refusal, Reply, TerminalSize};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::attach::Attach;
use crate::container::ReplyTo;
use crate::monitor::Monitor;
use crate::poller::{Key, Source};
use crate::refusal::{failed, refuse};

/// How far a reader may fall behind, in bytes: the longest pipe of an unprivileged user (pipe(7)).
const BEHIND: usize = 1 << 20;

/// Takes part; the descriptors go with the answer.
pub fn attach(
    monitor: &mut Monitor,
    reply: ReplyTo,
    request: &Request,
) -> Result<(Reply, Vec<OwnedFd>), Refusal> {
    let container_key = monitor.find(&request.container)?;
    let key = monitor.poller.new_key();
    let Some(container) = monitor.containers.get_mut(&container_key) else {
        return Err(refuse(Class::NotFound, format!("container {} is gone", request.container)));
    };
    if let State::Exited { .. } = container.state {
        return Err(refuse(
            Class::FailedPrecondition,
            format!("container {} has ended", request.container),
        ));
    }
    let dup =
        |fd: &OwnedFd| fd.try_clone().map_err(failed("duplicate the container's standard input"));
    let stdin = match (&container.terminal, &container.stdin) {
        // A terminal can be written also where the container was to have no input.
        _ if !request.stdin || !container.stdio.stdin => None,
        (Some(terminal), _) => Some(dup(&terminal.controller)?),
        (None, stdin) => stdin.as_ref().map(dup).transpose()?,
    };
    let pipes = |wanted: bool| {
        let open = || -> std::io::Result<(OwnedFd, OwnedFd)> {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            // Where it may not be so long, a reader is cut off sooner.
            let _ = fcntl_setpipe_size(&write, BEHIND);
            monitor.poller.add_for_close(&write, Source::Attach(key))?;
            Ok((read, write))
        };
        wanted
            .then(open)
            .transpose()
            .map(Option::unzip)
            .map_err(failed("open a pipe for copies of the output"))
    };
    let (stdout, our_stdout) = pipes(request.stdout)?;
    let (stderr, our_stderr) = pipes(request.stderr && container.terminal.is_none())?;
    container.output.add_reader(key, our_stdout, our_stderr);
    let attach = Attach {
        number: request.attach,
        connection: reply.connection,
        container: container_key,
        stdin: stdin.is_some(),
    };
    monitor.attaches.add(key, attach);
    let answer = Reply::Attached {
        stdin: stdin.is_some(),
        stdout: stdout.is_some(),
        stderr: stderr.is_some(),
    };
    Ok((answer, [stdin, stdout, stderr].into_iter().flatten().collect()))
}

/// Ends an attach; one that has ended is no error.
pub fn detach(monitor: &mut Monitor, connection: Key, number: u64) -> Reply {
    if let Some(key) = monitor.attaches.by_number(connection, number) {
        crate::attach::end(monitor, key, None);
    }
    Reply::Done
}

/// Closes the monitor's end of a container's standard input.
pub fn close_stdin(monitor: &mut Monitor, id: &ContainerId) -> Result<Reply, Refusal> {
    let key = monitor.find(id)?;
    if let Some(container) = monitor.containers.get_mut(&key) {
        container.stdin = None;
    }
    Ok(Reply::Done)
}

/// Changes the size of a container's terminal.
pub fn resize(monitor: &Monitor, id: &ContainerId, size: TerminalSize) -> Result<Reply, Refusal> {
    let key = monitor.find(id)?;
    let terminal = monitor.containers.get(&key).and_then(|c| c.terminal.as_ref());
    let Some(terminal) = terminal else {
        return Err(refuse(
            Class::FailedPrecondition,
            format!("container {id} has no terminal now"),
        ));
    };
    let winsize = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal.controller.as_fd(), winsize)
        .map_err(failed("set the terminal's size"))?;
    Ok(Reply::Done)
}

/// Sockets in the pod's network namespace, in which this process is. Whoever asks connects them, so that
/// nothing here waits for a network.
pub fn sockets(monitor: &Monitor) -> Result<(Reply, Vec<OwnedFd>), Refusal> {
    if monitor.pod.is_none() {
        return Err(refuse(Class::FailedPrecondition, "this monitor has no pod yet"));
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let make = |family| socket_with(family, SocketType::STREAM, flags, None);
    let v4 = make(AddressFamily::INET).map_err(failed("make a socket in the pod's network"))?;
    // A kernel without IPv6 is no failure.
    let v6 = make(AddressFamily::INET6).ok();
    Ok((Reply::Sockets, [Some(v4), v6].into_iter().flatten().collect()))
}
