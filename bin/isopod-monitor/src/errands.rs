//! Processes of the monitor's own that do what may take long: hooks, and conversations with systemd.
//!
//! Always: the loop never waits for one; each has its time and is killed past it, with all that it has started;
//! it ends with the monitor, and with the container that it is for: a process whose number one uses is waited for
//! only when that has ended, and so is all that is then done for a container that is gone. Callers: the verbs begin
//! them, `ended` is told of their ends.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use cgroups::Cgroup;
use launcher::{HookPlan, LONGEST_HOOK, RdtGroup, run_hooks};
use model::{Class, ContainerId};
use monitor_api::Refusal;
use runtime_spec::Hook;
use rustix::fs::{MemfdFlags, Mode, memfd_create};
use rustix::process::{Pid, Signal, set_parent_process_death_signal};
use sys::{CloneFlags, Namespaces, clone_child};

use crate::container::{Container, Process, Stage};
use crate::dying::Then;
use crate::monitor::{Monitor, wait_for};
use crate::poller::Key;
use crate::verbs::set_up_failed;

/// How long a conversation with systemd may take; each of its answers has a bound of its own below this.
const SYSTEMD_PATIENCE: Duration = Duration::from_secs(60);
/// Beyond the hooks' own times.
const SLACK: Duration = Duration::from_secs(5);
/// The most that is told of a failure.
const TOLD_MAX: u64 = 4096;
/// All namespaces of a container that hooks run in, but for that of its processes: nothing in there may see a
/// process with the host's privileges.
const OF_CONTAINER: Namespaces =
    Namespaces::MOUNT.with(Namespaces::NETWORK).with(Namespaces::IPC).with(Namespaces::UTS);

/// A process under way.
#[derive(Debug)]
pub struct Errand {
    process: Process,
    until: Instant,
    /// What it says of its failure.
    said: File,
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
        self.0.iter().map(|errand| errand.until).min()
    }

    /// Kills those that have had their time; their ends are dealt with as any other.
    pub fn stop_late(&mut self, now: Instant) {
        for errand in self.0.iter_mut().filter(|errand| errand.until <= now) {
            // Its hooks lead groups of their own, and all of them are of its session.
            crate::tree::kill(&errand.process);
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
                crate::tree::kill(&errand.process);
            }
        }
        found
    }

    /// Their processes.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.0.iter().map(|errand| &errand.process)
    }
}

impl Monitor {
    /// Sends a process out that does `work` with the descriptors in `keep`.
    fn send(
        &mut self,
        patience: Duration,
        purpose: Purpose,
        keep: &[BorrowedFd<'_>],
        work: impl FnOnce() -> Result<(), String>,
    ) -> io::Result<()> {
        let said = File::from(memfd_create("errand", MemfdFlags::CLOEXEC)?);
        let kept: Vec<_> = keep.iter().copied().chain([said.as_fd()]).collect();
        let child = clone_child(&self.proof, CloneFlags::default(), |in_child| {
            let begun = in_child.close_all_but(&kept).and_then(|()| begin());
            let done = begun.map_err(|e| e.to_string()).and_then(|()| work());
            let Err(why) = done else { sys::exit_now(0) };
            // Who reads it finds nothing then, and says so.
            let _ = (&said).write_all(why.as_bytes());
            sys::exit_now(1)
        })?;
        let process = Process { pid: child.pid, pidfd: child.pidfd };
        let until = Instant::now() + patience;
        self.errands.0.push(Errand { process, until, said, purpose, is_off: false });
        Ok(())
    }

    /// Has systemd make a container's scope around its process, and seats it there.
    pub fn send_to_seat(&mut self, container: Key, cgroup: &Cgroup, pid: Pid) -> io::Result<()> {
        let cgroup = cgroup.clone();
        self.send(SYSTEMD_PATIENCE, Purpose::Seat { container, pid }, &[], move || {
            cgroup.join(pid).map_err(|e| crate::cgroup::refused(&e).message)
        })
    }

    /// Runs the hooks that the container's process waits for: those of the runtime where the monitor's host is,
    /// then those of the container in its namespaces.
    pub fn send_to_prepare(&mut self, key: Key) -> io::Result<()> {
        let gone = || io::Error::other("the container is gone");
        let container = self.containers.get(&key).ok_or_else(gone)?;
        let (Some(hooks), Some(process)) = (&container.hooks, &container.process) else {
            return Err(gone());
        };
        let HookPlan { all, state } = (**hooks).clone();
        let lists = [&all.prestart, &all.create_runtime, &all.create_container];
        let patience = time_of(lists.into_iter().flatten());
        let (inside, pid) = (process.pidfd.try_clone()?, process.pid);
        let host = self.host_namespaces()?;
        let keep: Vec<_> = host.iter().map(|(fd, _)| fd.as_fd()).chain([inside.as_fd()]).collect();
        self.send(patience, Purpose::Prepare { container: key, pid }, &keep, || {
            let json = state.json("creating", Some(pid));
            enter_host(&host)
                .and_then(|()| run_hooks("prestart", &all.prestart, &json))
                .and_then(|()| run_hooks("createRuntime", &all.create_runtime, &json))
                .and_then(|()| match all.create_container.is_empty() {
                    true => Ok(()),
                    false => sys::join_namespaces_of(inside.as_fd(), OF_CONTAINER),
                })
                .and_then(|()| run_hooks("createContainer", &all.create_container, &json))
                .map_err(|e| e.to_string())
        })
    }

    /// Runs the hooks at `point` of a container's life, whose failure is only said in the log.
    pub fn send_to_tell(&mut self, container: ContainerId, hooks: &HookPlan, at: Point) {
        let (point, list, status, pid) = match at {
            Point::Started(Some(pid)) => ("poststart", &hooks.all.poststart, "running", Some(pid)),
            Point::Started(None) => ("poststart", &hooks.all.poststart, "stopped", None),
            Point::Removed => ("poststop", &hooks.all.poststop, "stopped", None),
        };
        if list.is_empty() {
            return;
        }
        let json = hooks.state.json(status, pid);
        let sent = self.host_namespaces().and_then(|host| {
            let keep: Vec<_> = host.iter().map(|(fd, _)| fd.as_fd()).collect();
            let purpose = Purpose::Tell { container: container.clone(), point };
            self.send(time_of(list), purpose, &keep, || {
                let done = enter_host(&host).and_then(|()| run_hooks(point, list, &json));
                done.map_err(|e| e.to_string())
            })
        });
        if let Err(error) = sent {
            eprintln!("isopod-monitor: container {container}: run the {point} hooks: {error}");
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

    fn host_namespaces(&self) -> io::Result<Vec<(OwnedFd, Namespaces)>> {
        let pod = self.pod.as_ref().ok_or_else(|| io::Error::other("there is no pod yet"))?;
        let mut all = Vec::new();
        for (fd, kind) in pod.host.iter().map(|(fd, kind)| (fd, *kind)) {
            all.push((fd.try_clone()?, kind));
        }
        all.push((pod.host_mounts.try_clone()?, Namespaces::MOUNT));
        Ok(all)
    }

    /// Deals with the end of the child `pid`, if it is an errand.
    pub fn errand_ended(&mut self, pid: Pid) -> bool {
        let Some(at) = self.errands.0.iter().position(|e| e.process.pid == pid) else {
            return false;
        };
        let Errand { said, purpose, is_off, .. } = self.errands.0.swap_remove(at);
        let done = match wait_for(pid) {
            0 => Ok(()),
            code => Err(failure(said, code)),
        };
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

/// Points of a container's life that nobody waits at.
#[derive(Debug, Clone, Copy)]
pub enum Point {
    /// Its process has become its program, and has not ended since, or has.
    Started(Option<Pid>),
    /// It is gone.
    Removed,
}

fn refusal(phase: &str, message: String) -> Refusal {
    Refusal { class: Class::Internal, phase: phase.to_owned(), message }
}

/// The first steps of an errand: it is nobody's terminal's, ends with the monitor, and makes files as others do.
fn begin() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    sys::reset_signals();
    rustix::process::setsid()?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(())
}

fn enter_host(namespaces: &[(OwnedFd, Namespaces)]) -> io::Result<()> {
    namespaces.iter().try_for_each(|(fd, kind)| sys::join_namespace(fd.as_fd(), *kind))
}

/// How long hooks may take together.
fn time_of<'a>(hooks: impl IntoIterator<Item = &'a Hook>) -> Duration {
    let one = |hook: &Hook| match hook.timeout {
        Some(seconds) => Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
        None => LONGEST_HOOK,
    };
    hooks.into_iter().map(one).fold(SLACK, Duration::saturating_add)
}

fn failure(mut said: File, code: i32) -> String {
    let mut text = Vec::new();
    // The child has written where it and we are both. Nothing that could be read is as good as nothing said.
    let _ = said.rewind();
    let _ = said.take(TOLD_MAX).read_to_end(&mut text);
    if text.is_empty() {
        return format!("its process ended with {code}");
    }
    String::from_utf8_lossy(&text).into_owned()
}
