//! One more process in a running container. Descriptors: its standard input, output and error.

use std::os::fd::AsFd as _;

use launcher::{ChildStdio, Report};
use model::{Class, State};
use monitor_api::{Exec as Request, Refusal, Reply};

use crate::container::{Launcher, Process, ReplyTo, StoredFilter};
use crate::exec::{Exec, ExecStage};
use crate::monitor::{Monitor, kill};
use crate::poller::{Key, Source};
use crate::refusal::{failed, launch_failed, refuse};

/// Begins to run a process; the answer comes when it has become its program, or could not.
pub fn exec(monitor: &mut Monitor, reply: ReplyTo, request: &Request) -> Result<(), Refusal> {
    // They came with this request, so they are taken whatever becomes of it.
    let fds = monitor.take_fds(reply.connection, 3)?;
    let container_key = monitor.find(&request.container)?;
    let Some(container) = monitor.containers.get(&container_key) else {
        return Err(refuse(Class::NotFound, format!("container {} is gone", request.container)));
    };
    let State::Running { .. } = container.state else {
        return Err(refuse(Class::FailedPrecondition, format!("container {} does not run", request.container)));
    };
    let Some(process) = &container.process else {
        return Err(refuse(Class::FailedPrecondition, format!("container {} has no process", request.container)));
    };
    let identity = match &container.launcher {
        Launcher::Own(identity) => identity,
        Launcher::External(_) => return crate::external::exec(monitor, reply, request, container_key, fds),
    };
    let plan = identity
        .process
        .with_command(&request.args)
        .map_err(|bad| refuse(Class::InvalidArgument, format!("{}: {}", bad.field, bad.problem)))?;
    let key = monitor.poller.new_key_after(&monitor.execs);
    let seat = container.cgroup.exec_seat(request.exec).map_err(launch_failed)?;
    let [stdin, stdout, stderr] = [fds[0].as_fd(), fds[1].as_fd(), fds[2].as_fd()];
    let launched = seat.seated(|seat| {
        let order = launcher::Exec {
            process: &plan,
            container: process.pidfd.as_fd(),
            stdio: ChildStdio::Streams { stdin, stdout, stderr },
            filter: identity.filter.as_ref().map(StoredFilter::as_filter),
            seat,
        };
        launcher::exec(&monitor.proof, &order)
    });
    let launched = match launched {
        Ok(launched) => launched,
        Err(error) => {
            seat.remove();
            return Err(launch_failed(error));
        }
    };
    let watched = monitor.poller.add(&launched.control, Source::ExecLaunch(key));
    let process = Process { pid: launched.child.pid, pidfd: launched.child.pidfd };
    if watched.is_err() {
        kill(&process.pidfd);
    }
    let exec = Exec {
        number: request.exec,
        connection: reply.connection,
        container: request.container.clone(),
        stage: ExecStage::Entering { reply, control: launched.control },
        process: Some(process),
        seat,
    };
    monitor.execs.insert(key, exec);
    watched.map_err(failed("watch the process"))
}

/// A process that enters a container has something to say.
pub fn exec_reported(monitor: &mut Monitor, key: Key) {
    let Some(exec) = monitor.execs.get_mut(&key) else { return };
    let (reply, control) = match std::mem::replace(&mut exec.stage, ExecStage::Running) {
        ExecStage::Entering { reply, control } => (reply, control),
        other @ (ExecStage::EnteringOutside { .. } | ExecStage::Running) => {
            exec.stage = other;
            return;
        }
    };
    let result = match control.report() {
        Report::Executed | Report::Ready { .. } => {
            let pid = exec.process.as_ref().map_or(0, |p| p.pid.as_raw_nonzero().get());
            Ok(Reply::ExecStarted { pid })
        }
        Report::Failed(error) => {
            // Its end is of no interest to anybody any more.
            exec.number = 0;
            Err(launch_failed(error))
        }
    };
    monitor.reply(reply, result);
}

/// Kills an exec's process and all that came of it.
pub fn kill_exec(monitor: &Monitor, key: Key) {
    if let Some(exec) = monitor.execs.get(&key) {
        exec.seat.kill_all();
        if let Some(process) = &exec.process {
            kill(&process.pidfd);
        }
    }
}

/// The same for an exec by its connection's number; one that has ended is no error.
pub fn kill_by_number(monitor: &Monitor, connection: Key, number: u64) {
    let found = monitor.execs.iter().find(|(_, e)| e.connection == connection && e.number == number);
    if let Some((key, _)) = found {
        kill_exec(monitor, *key);
    }
}
