//! One more process in a running container. Descriptors: its standard input, output and error; none for one
//! with a terminal.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Once;

use launcher::{ChildStdio, RdtGroup, Report};
use model::{Class, State};
use monitor_api::{Exec as Request, Refusal, Reply};
use runtime_spec::ConsoleSize;
use rustix::process::{Signal, kill_process_group, pidfd_send_signal};

use crate::container::{Launcher, Process, ReplyTo, StoredFilter};
use crate::dying::Then;
use crate::exec::{Exec, ExecStage};
use crate::monitor::{Monitor, kill};
use crate::pod::PodUsers;
use crate::poller::{Key, Source};
use crate::refusal::{failed, launch_failed, refuse};

/// Whether [`launcher::NO_CPUS_LEFT`] has been told, which is once in a pod's life.
static TOLD: Once = Once::new();

/// Begins to run a process; the answer comes when it has become its program, or could not.
pub fn exec(
    monitor: &mut Monitor,
    reply: ReplyTo,
    request: &Request,
    fds: Vec<OwnedFd>,
) -> Result<(), Refusal> {
    let wanted = if request.terminal.is_some() { 0 } else { 3 };
    if fds.len() != wanted {
        let message = format!("{} descriptors came with it, and {wanted} were to come", fds.len());
        return Err(refuse(Class::InvalidArgument, message));
    }
    let container_key = monitor.find(&request.container)?;
    let key = monitor.poller.new_key();
    let Some(container) = monitor.containers.get(&container_key) else {
        return Err(refuse(Class::NotFound, format!("container {} is gone", request.container)));
    };
    let State::Running { .. } = container.state else {
        return Err(refuse(
            Class::FailedPrecondition,
            format!("container {} does not run", request.container),
        ));
    };
    let Some(process) = &container.process else {
        return Err(refuse(
            Class::FailedPrecondition,
            format!("container {} has no process", request.container),
        ));
    };
    let identity = match &container.launcher {
        Launcher::Own(identity) => identity,
        Launcher::External(_) => {
            return crate::external::exec(monitor, reply, request, container_key, fds);
        }
    };
    let size = request.terminal.map(|size| ConsoleSize { height: size.height, width: size.width });
    let mut plan = identity
        .process
        .with_command(&request.args, size)
        .map_err(|bad| refuse(Class::InvalidArgument, format!("{}: {}", bad.field, bad.problem)))?;
    // An update may have changed it since the container was made.
    if let Some(cpus) = &mut plan.exec_cpus {
        cpus.or_all = true;
    }
    plan.oom_score_adj = current_oom_score(process).or(plan.oom_score_adj);
    let door = container.rdt.as_ref().map(RdtGroup::door).transpose();
    // It runs with the class of all others then.
    let class = door.unwrap_or_else(|error| {
        eprintln!("isopod-monitor: {}: {}", error.what, error.source);
        None
    });
    let stdio = match fds.as_slice() {
        [stdin, stdout, stderr] => ChildStdio::Streams {
            stdin: stdin.as_fd(),
            stdout: stdout.as_fd(),
            stderr: stderr.as_fd(),
        },
        _ => ChildStdio::Terminal,
    };
    let users = monitor.pod.as_ref().and_then(|pod| pod.users.as_ref()).map(PodUsers::as_users);
    let mut seat = container.cgroup.exec_seat(key.number());
    let launched = seat.seated(|seat| {
        let order = launcher::Exec {
            process: &plan,
            container: process.pidfd.as_fd(),
            stdio,
            filter: identity.filter.as_ref().map(StoredFilter::as_filter),
            seat,
            users,
            tracers: monitor.tracers(),
            class: class.as_ref().map(OwnedFd::as_fd),
        };
        launcher::exec(&monitor.proof, &order)
    });
    let launched = match launched {
        Ok(launched) => launched,
        Err(error) => {
            monitor.dying.kill(seat.cgroup(), Then::Remove);
            return Err(launch_failed(error));
        }
    };
    let watched = monitor.poller.add(&launched.control, Source::ExecLaunch(key));
    let process = Process { pid: launched.child.pid, pidfd: launched.child.pidfd };
    let stage = match &watched {
        Ok(()) => ExecStage::Entering { reply, control: launched.control, terminal: None },
        Err(_) => {
            kill(&process.pidfd);
            ExecStage::Running
        }
    };
    let exec = Exec {
        number: watched.is_ok().then_some(request.exec),
        connection: reply.connection,
        stage,
        container: container_key,
        process: Some(process),
        hand_over: launched.hand_over,
        seat,
        leaves_clean: false,
    };
    monitor.execs.insert(key, exec);
    watched.map_err(failed("watch the process"))
}

/// The OOM score adjustment of a container's first process, which nobody has waited for.
fn current_oom_score(first: &Process) -> Option<i32> {
    let path = format!("/proc/{}/oom_score_adj", first.pid.as_raw_nonzero());
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A process that enters a container has something to say.
pub fn exec_reported(monitor: &mut Monitor, key: Key) {
    loop {
        let Some(exec) = monitor.execs.get_mut(&key) else { return };
        let ExecStage::Entering { reply, control, terminal } = &mut exec.stage else { return };
        let reply = *reply;
        match control.try_report() {
            None => return,
            Some(Report::Ready { terminal: came, warnings, .. }) => {
                *terminal = came;
                if warnings.iter().any(|warning| warning == launcher::NO_CPUS_LEFT) {
                    // Probes come again and again.
                    TOLD.call_once(|| {
                        eprintln!("isopod-monitor: exec: {}", launcher::NO_CPUS_LEFT)
                    });
                }
            }
            // Nobody's hooks run for an exec.
            Some(Report::AtHooks) => {}
            Some(Report::Executed) => {
                let noted = exec.hand_over.as_ref().is_none_or(|note| note.heir().is_some());
                if !noted {
                    // It has ended on its way in, and its end is the answer.
                    return monitor.poller.remove(control);
                }
                let terminal = terminal.take();
                exec.leaves_clean = true;
                exec.promote();
                exec.hand_over = None;
                exec.stage = ExecStage::Running;
                let pid = exec.process.as_ref().map_or(0, |p| p.pid.as_raw_nonzero().get());
                return monitor.reply_with(
                    reply,
                    Ok(Reply::ExecStarted { pid }),
                    terminal.into_iter().collect(),
                );
            }
            Some(Report::Failed(error)) => {
                exec.stage = ExecStage::Running;
                // Its end is of no interest to anybody any more.
                exec.number = None;
                return monitor.reply(reply, Err(launch_failed(error)));
            }
        }
    }
}

/// Kills an exec's process and all that came of it.
pub fn kill_exec(monitor: &mut Monitor, key: Key) {
    let Some(exec) = monitor.execs.get_mut(&key) else { return };
    // Since Linux 6.14 whoever is born in a cgroup that was killed (`cgroup.kill`) is killed, too.
    exec.leaves_clean = false;
    exec.promote();
    if let Some(process) = &exec.process {
        match exec.seat.cgroup() {
            Some(_) => kill(&process.pidfd),
            // Its runtime has put it among the container's other processes.
            None => launcher::kill_tree(process.pid, &process.pidfd),
        }
    }
    monitor.dying.kill(exec.seat.cgroup(), Then::Keep);
}

/// The same for an exec by its connection's number; one that has ended is no error.
pub fn kill_by_number(monitor: &mut Monitor, connection: Key, number: u64) {
    if let Some(key) = by_number(monitor, connection, number) {
        kill_exec(monitor, key);
    }
}

/// Tells an exec's process that whoever ran it has left. It has begun a session, so its process group has
/// its number, which nobody else gets before it is waited for.
pub fn hang_up(monitor: &mut Monitor, connection: Key, number: u64) {
    let Some(key) = by_number(monitor, connection, number) else { return };
    let Some(exec) = monitor.execs.get_mut(&key) else { return };
    exec.promote();
    let Some(process) = &exec.process else { return };
    if kill_process_group(process.pid, Signal::HUP).is_err() {
        // An external runtime's process may be in a group that is not its own.
        let _ = pidfd_send_signal(process.pidfd.as_fd(), Signal::HUP);
    }
}

fn by_number(monitor: &Monitor, connection: Key, number: u64) -> Option<Key> {
    let found =
        monitor.execs.iter().find(|(_, e)| e.connection == connection && e.number == Some(number));
    found.map(|(key, _)| *key)
}
