//! Processes of the monitor's own that do what may take long: hooks, and conversations with systemd.
//!
//! Always: the loop never waits for one; each has its time and is killed past it, with all that it has started;
//! it ends with the monitor, and with the container that it is for: a process whose number one uses is waited for
//! only when that has ended, and so is all that is then done for a container that is gone. Callers: the verbs begin
//! them, `ended` is told of their ends.

use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use cgroups::Cgroup;
use launcher::{HookPlan, Point, RdtGroup};
use model::{Class, ContainerId};
use monitor_api::Refusal;
use rustix::process::Pid;
use sys::Child;

use crate::container::{Container, Stage};
use crate::dying::Then;
use crate::monitor::{Monitor, wait_for};
use crate::poller::Key;
use crate::verbs::set_up_failed;

/// How long a conversation with systemd may take; each of its answers has a bound of its own below this.
const SYSTEMD_PATIENCE: Duration = Duration::from_secs(60);
/// How long one that was killed may take to end.
const SLACK: Duration = Duration::from_secs(5);

/// A process under way.
#[derive(Debug)]
pub struct Errand {
    errand: launcher::Errand,
    purpose: Purpose,
    /// Whether nobody wants it any more, so that its failure is nobody's news.
    is_off: bool,
}

/// What an errand is for.
#[derive(Debug)]
pub enum Purpose {
    /// Seats a container's process in its cgroup.
    Seat { container: Key, pid: Pid },
    /// Runs the hooks that a container's process waits for.
    Prepare { container: Key, pid: Pid },
    /// Runs hooks whose failure changes nothing.
    Tell { container: ContainerId, point: &'static str },
}

impl Purpose {
    /// The container that is being set up, and the process of it whose number is used.
    const fn about(&self) -> Option<(Key, Pid)> {
        match self {
            Self::Seat { container, pid } | Self::Prepare { container, pid } => {
                Some((*container, *pid))
            }
            Self::Tell { .. } => None,
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Errands(Vec<Errand>);

impl Errands {
    /// When one has had its time.
    pub fn next(&self) -> Option<Instant> {
        self.0.iter().map(|errand| errand.errand.until).min()
    }

    /// Kills those that have had their time; their ends are dealt with as any other.
    pub fn stop_late(&mut self, now: Instant) {
        for Errand { errand, .. } in self.0.iter_mut().filter(|errand| errand.errand.until <= now) {
            errand.kill();
            errand.until = now + SLACK;
        }
    }

    /// Whether one that is under way uses this number of a process, which then must stay that process's.
    pub fn uses(&self, pid: Pid) -> bool {
        self.0.iter().any(|errand| errand.purpose.about().is_some_and(|(_, used)| used == pid))
    }

    /// Kills those that set `container` up, with all that they have started; whether there is any. Their ends are
    /// dealt with as any other.
    pub fn call_off(&mut self, container: Key) -> bool {
        self.call_off_if(|(key, _)| key == container)
    }

    /// The same for those that use this number.
    pub fn call_off_users_of(&mut self, pid: Pid) -> bool {
        self.call_off_if(|(_, used)| used == pid)
    }

    fn call_off_if(&mut self, is: impl Fn((Key, Pid)) -> bool) -> bool {
        let mut found = false;
        for errand in self.0.iter_mut().filter(|errand| errand.purpose.about().is_some_and(&is)) {
            found = true;
            if !std::mem::replace(&mut errand.is_off, true) {
                errand.errand.kill();
            }
        }
        found
    }

    /// Their processes.
    pub fn processes(&self) -> impl Iterator<Item = &Child> {
        self.0.iter().map(|errand| &errand.errand.process)
    }

    fn add(&mut self, errand: launcher::Errand, purpose: Purpose) {
        self.0.push(Errand { errand, purpose, is_off: false });
    }
}

impl Monitor {
    /// Has systemd make a container's scope around its process, and seats it there.
    pub fn send_to_seat(&mut self, container: Key, cgroup: &Cgroup, pid: Pid) -> io::Result<()> {
        let errand = launcher::Errand::send(&self.proof, SYSTEMD_PATIENCE, &[], || {
            cgroup.join(pid).map_err(|e| crate::cgroup::refused(&e).message)
        })?;
        self.errands.add(errand, Purpose::Seat { container, pid });
        Ok(())
    }

    /// Runs the hooks that the container's process waits for: those of the runtime where the monitor's host is,
    /// then those of the container in its namespaces.
    pub fn send_to_prepare(&mut self, key: Key) -> io::Result<()> {
        let gone = || io::Error::other("the container is gone");
        let container = self.containers.get(&key).ok_or_else(gone)?;
        let (Some(hooks), Some(process), Some(pod)) =
            (&container.hooks, &container.process, &self.pod)
        else {
            return Err(gone());
        };
        let errand = hooks.prepare(&self.proof, &pod.host, process.pid, process.pidfd.as_fd())?;
        self.errands.add(errand, Purpose::Prepare { container: key, pid: process.pid });
        Ok(())
    }

    /// Runs the hooks at `point` of a container's life, whose failure is only said in the log.
    pub fn send_to_tell(&mut self, container: ContainerId, hooks: &HookPlan, at: Point) {
        let sent = match &self.pod {
            Some(pod) => hooks.tell(&self.proof, &pod.host, at),
            None => Ok(None),
        };
        let point = at.name();
        match sent {
            Ok(Some(errand)) => self.errands.add(errand, Purpose::Tell { container, point }),
            Ok(None) => {}
            Err(error) => {
                eprintln!("isopod-monitor: container {container}: run the {point} hooks: {error}");
            }
        }
    }

    /// Takes a container back that could not be set up, once nothing is at work for it any more.
    pub fn take_back(&mut self, key: Key, container: Container) {
        if self.errands.call_off(key) {
            self.leaving.insert(key, container);
            return;
        }
        self.dying.kill(container.cgroup.cgroup(), Then::Remove);
        crate::volumes::unmount(&container.volumes);
        self.remove_record(&container.id);
        let (hooks, rdt) = (container.hooks.as_deref(), container.rdt.as_ref());
        self.say_goodbye(container.id.clone(), hooks, rdt);
    }

    /// Ends what a container that is gone has outside of it.
    pub fn say_goodbye(
        &mut self,
        container: ContainerId,
        hooks: Option<&HookPlan>,
        rdt: Option<&RdtGroup>,
    ) {
        if let Some(rdt) = rdt {
            rdt.remove();
        }
        if let Some(hooks) = hooks {
            self.send_to_tell(container, hooks, Point::Removed);
        }
    }

    /// Deals with the end of the child `pid`, if it is an errand.
    pub fn errand_ended(&mut self, pid: Pid) -> bool {
        let Some(at) = self.errands.processes().position(|process| process.pid == pid) else {
            return false;
        };
        let Errand { errand, purpose, is_off } = self.errands.0.swap_remove(at);
        let done = errand.outcome(wait_for(pid));
        let about = purpose.about();
        match purpose {
            // The end of the process that it was for is on the way, and is the answer.
            Purpose::Seat { .. } | Purpose::Prepare { .. } if is_off && done.is_err() => {}
            Purpose::Seat { container, .. } => self.seated(container, done),
            Purpose::Prepare { container, .. } => self.prepared(container, done),
            Purpose::Tell { container, point } => {
                if let Err(why) = done {
                    eprintln!("isopod-monitor: container {container}: {point}: {why}");
                }
            }
        }
        if let Some((key, _)) = about
            && let Some(container) = self.leaving.remove(&key)
        {
            self.take_back(key, container);
        }
        true
    }

    fn seated(&mut self, key: Key, done: Result<(), String>) {
        let Some(container) = self.containers.get(&key) else { return };
        let Stage::SettingUp { control, .. } = &container.stage else { return };
        match done {
            Ok(()) => {
                if let Some(cgroup) = container.cgroup.cgroup() {
                    cgroup.unit_has_begun();
                }
                // If the process is gone its end is on the way, and is the answer.
                let _ = control.joined();
                self.watch_memory(key);
            }
            Err(message) => set_up_failed(self, key, refusal("join-cgroup", message)),
        }
    }

    fn prepared(&mut self, key: Key, done: Result<(), String>) {
        let Some(container) = self.containers.get(&key) else { return };
        let Stage::SettingUp { control, .. } = &container.stage else { return };
        match done {
            Ok(()) => {
                let _ = control.hooks_run();
            }
            Err(message) => set_up_failed(self, key, refusal("hooks", message)),
        }
    }
}

fn refusal(phase: &str, message: String) -> Refusal {
    Refusal { class: Class::Internal, phase: phase.to_owned(), message }
}
