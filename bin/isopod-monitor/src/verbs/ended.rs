//! A child of this monitor has ended.

use model::State;
use monitor_api::{Event, Reply};
use rustix::process::Pid;

use crate::container::{Container, Process, Stage, exit_of, start_error};
use crate::dying::Then;
use crate::exec::{Exec, ExecStage};
use crate::monitor::{Monitor, wait_for};
use crate::poller::Key;
use crate::refusal::refuse;
use crate::verbs::create::{ended_early, started};
use crate::verbs::{exec_reported, launch_reported};

/// Deals with the end of the child `pid`; false if it is nobody that this monitor knows.
pub fn child_ended(monitor: &mut Monitor, pid: Pid) -> bool {
    // Whoever has handed its place over is nobody any more, and its heir may be the one who has ended.
    monitor.containers.values_mut().for_each(Container::promote);
    monitor.execs.values_mut().for_each(Exec::promote);
    let is = |process: &Process| process.pid == pid;
    let of_container = monitor.containers.iter().find(|(_, c)| c.process.as_ref().is_some_and(is));
    if let Some(key) = of_container.map(|(key, _)| *key) {
        container_ended(monitor, key, pid);
        return true;
    }
    let of_exec = monitor.execs.iter().find(|(_, e)| e.process.as_ref().is_some_and(is));
    if let Some(key) = of_exec.map(|(key, _)| *key) {
        exec_ended(monitor, key, pid);
        return true;
    }
    monitor.errand_ended(pid) || crate::external::command_ended(monitor, pid)
}

fn container_ended(monitor: &mut Monitor, key: Key, pid: Pid) {
    // It is dead, and nothing is begun for it any more: no hooks, and no exec.
    if let Some(container) = monitor.containers.get_mut(&key) {
        container.process = None;
    }
    // What it said before its end comes first; whoever waits for its launch is answered by that.
    launch_reported(monitor, key);
    let code = wait_for(pid);
    let Some(container) = monitor.containers.get_mut(&key) else { return };
    match std::mem::replace(&mut container.stage, Stage::Running) {
        Stage::SettingUp { reply, .. } => {
            let refusal = ended_early(container, &format!(" with {code}"));
            monitor.exited(key, start_error(refusal.message.clone()));
            monitor.reply(reply, Err(refusal));
            return forget(monitor, key);
        }
        // Another copy of the control socket is not closed yet, but what has ended here was the program.
        Stage::Starting { reply, at, .. } if container.hand_over.is_none() => {
            started(monitor, key, reply, at)
        }
        // It never came to hand its place over.
        Stage::Starting { reply, .. } => {
            let message = format!("its process ended with {code} before it became its program");
            monitor.exited(key, start_error(message.clone()));
            return monitor.reply(reply, Err(refuse(model::Class::Internal, message)));
        }
        other
        @ (Stage::Waiting { .. } | Stage::StartingOutside | Stage::Running | Stage::Ended) => {
            container.stage = other;
        }
    }
    end_container(monitor, key, code);
}

/// The end of a container whose process has ended with `code`.
pub fn end_container(monitor: &mut Monitor, key: Key, code: i32) {
    let Some(container) = monitor.containers.get_mut(&key) else { return };
    if matches!(container.state, State::Exited { .. }) {
        return;
    }
    let never_started = matches!(container.stage, Stage::Waiting { .. });
    if let Some(seat) = container.cgroup.close_seats() {
        monitor.dying.kill(seat.cgroup(), Then::Remove);
    }
    let killed_for_memory = container.cgroup.was_out_of_memory();
    if !container.has_own_pids {
        // With a PID namespace of its own the kernel has killed the rest of it already.
        monitor.dying.kill(container.cgroup.cgroup(), Then::Keep);
    }
    let exit = if never_started && code != 137 {
        start_error(format!("its process ended with {code} before it was started"))
    } else {
        exit_of(code, killed_for_memory)
    };
    monitor.exited(key, exit);
}

/// A container that could not be set up leaves nothing behind.
fn forget(monitor: &mut Monitor, key: Key) {
    if let Some(container) = monitor.containers.remove(&key) {
        monitor.take_back(key, container);
    }
}

fn exec_ended(monitor: &mut Monitor, key: Key, pid: Pid) {
    exec_reported(monitor, key);
    let code = wait_for(pid);
    let Some(mut exec) = monitor.execs.remove(&key) else { return };
    answer_exec(monitor, &mut exec, pid, code);
    let container = monitor.containers.get(&exec.container);
    let runs = |c: &&Container| exec.leaves_clean && matches!(c.state, State::Running { .. });
    let seat = match container.filter(runs) {
        Some(container) => container.cgroup.keep_seat(exec.seat),
        None => Some(exec.seat),
    };
    // What it leaves behind ends after it, and nobody waits for that.
    if let Some(seat) = seat {
        monitor.dying.kill(seat.cgroup(), Then::Remove);
    }
}

/// Tells whoever began an exec of its end.
fn answer_exec(monitor: &mut Monitor, exec: &mut Exec, pid: Pid, code: i32) {
    match std::mem::replace(&mut exec.stage, ExecStage::Running) {
        // Another copy of the control socket is not closed yet, but what has ended here was the program.
        ExecStage::Entering { reply, terminal, .. } if exec.hand_over.is_none() => {
            let pid = pid.as_raw_nonzero().get();
            monitor.reply_with(
                reply,
                Ok(Reply::ExecStarted { pid }),
                terminal.into_iter().collect(),
            );
        }
        ExecStage::Entering { reply, .. } => {
            let message = format!("its process ended with {code} before it was in the container");
            return monitor.reply(reply, Err(refuse(model::Class::Internal, message)));
        }
        ExecStage::EnteringOutside | ExecStage::Running => {}
    }
    if let Some(number) = exec.number {
        monitor.tell(exec.connection, Event::ExecEnded { exec: number, code });
    }
}
