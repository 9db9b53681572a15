//! A child of this monitor has ended.

use model::State;
use monitor_api::{Event, FromMonitor, Reply};
use rustix::process::Pid;

use crate::container::{Launcher, Stage, exit_of, start_error};
use crate::exec::ExecStage;
use crate::monitor::{Monitor, wait_for};
use crate::poller::Key;
use crate::refusal::refuse;
use crate::verbs::{exec_reported, launch_reported};

/// Deals with the end of the child `pid`; false if it is nobody that this monitor knows.
pub fn child_ended(monitor: &mut Monitor, pid: Pid) -> bool {
    let is = |process: &crate::container::Process| process.pid == pid;
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
    crate::external::command_ended(monitor, pid)
}

fn container_ended(monitor: &mut Monitor, key: Key, pid: Pid) {
    // What it said before its end comes first; whoever waits for its launch is answered by that.
    let is_launching = |stage: &Stage| matches!(stage, Stage::SettingUp { .. } | Stage::Starting { .. });
    if monitor.containers.get(&key).is_some_and(|c| is_launching(&c.stage)) {
        launch_reported(monitor, key);
    }
    let Some(container) = monitor.containers.get_mut(&key) else { return };
    let code = wait_for(pid);
    container.process = None;
    if matches!(container.state, State::Exited { .. }) {
        return;
    }
    let never_started = matches!(container.stage, Stage::Waiting { .. });
    let killed_for_memory = container.cgroup.memory_kills() > 0;
    if !container.has_own_pids() {
        // With a PID namespace of its own the kernel has killed the rest of it already.
        container.cgroup.kill_all();
    }
    let exit = if never_started && code != 137 {
        start_error(format!("its process ended with {code} before it was started"))
    } else {
        exit_of(code, killed_for_memory)
    };
    monitor.exited(key, exit);
}

fn exec_ended(monitor: &mut Monitor, key: Key, pid: Pid) {
    exec_reported(monitor, key);
    let code = wait_for(pid);
    let Some(exec) = monitor.execs.remove(&key) else { return };
    exec.seat.remove();
    if exec.number != 0 {
        let event = Event::ExecEnded { exec: exec.number, code };
        monitor.send(exec.connection, &FromMonitor::Event(event));
    }
}
