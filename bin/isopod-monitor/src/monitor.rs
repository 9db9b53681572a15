//! The poll loop, and who is told what.
//!
//! Owns: every descriptor of the monitor and everything that it knows. Always: one event is handled at a
//! time and nothing waits but the loop; an exit is recorded before it is told. Callers: `main`.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Instant;

use cri_log::Stream;
use launcher::Tracers;
use model::{ContainerId, Exit, State};
use monitor_api::{AttachEnd, Event, ExitRecord, FromMonitor, LogTotals, Refusal, Reply};
use rustix::event::Timespec;
use rustix::net::SocketFlags;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use sys::SingleThreaded;

use crate::attach::Attaches;
use crate::connection::{Connection, Gone, Incoming};
use crate::container::{Container, Process, ReplyTo, StoredFilter};
use crate::dying::Dying;
use crate::errands::Errands;
use crate::exec::Exec;
use crate::external::Commands;
use crate::output::Scratch;
use crate::pod::Pod;
use crate::poller::{Key, Poller, Source};
use crate::refusal::refuse;
use crate::verbs;

/// Daemons that may be connected at once: the one that is, one that takes over, and tools. Another is turned
/// away.
const MOST_CONNECTIONS: usize = 32;

/// A pod's monitor.
#[derive(Debug)]
pub struct Monitor {
    pub proof: SingleThreaded,
    pub poller: Poller,
    pub pod: Option<Pod>,
    pub containers: BTreeMap<Key, Container>,
    pub execs: BTreeMap<Key, Exec>,
    pub attaches: Attaches,
    /// Commands of external runtimes.
    pub commands: Commands,
    /// Cgroups that are to end.
    pub dying: Dying,
    /// Processes that do what may take long.
    pub errands: Errands,
    /// Containers that could not be set up, until nothing is at work for them any more. Nobody finds them.
    pub leaving: BTreeMap<Key, Container>,
    /// Filters in use, so that equal ones are kept once.
    pub filters: Vec<StoredFilter>,
    pub stopping: bool,
    /// What containers have logged that are gone.
    pub logged: LogTotals,
    connections: BTreeMap<Key, Connection>,
    listener: Option<OwnedFd>,
    signals: OwnedFd,
    scratch: Scratch,
}

/// Both together.
pub fn add(a: LogTotals, b: &LogTotals) -> LogTotals {
    LogTotals {
        lines: a.lines + b.lines,
        bytes: a.bytes + b.bytes,
        lost: a.lost + b.lost,
        dropped: a.dropped + b.dropped,
    }
}

impl Monitor {
    pub fn new(proof: SingleThreaded, control: OwnedFd, signals: OwnedFd) -> io::Result<Self> {
        let mut poller = Poller::new()?;
        poller.add(&signals, Source::Signals)?;
        let key = poller.new_key();
        let connection = Connection::new(control, key, &poller)?;
        Ok(Self {
            proof,
            poller,
            pod: None,
            containers: BTreeMap::new(),
            execs: BTreeMap::new(),
            attaches: Attaches::default(),
            commands: Commands::default(),
            dying: Dying::default(),
            errands: Errands::default(),
            leaving: BTreeMap::new(),
            filters: Vec::new(),
            stopping: false,
            logged: LogTotals::default(),
            connections: BTreeMap::from([(key, connection)]),
            listener: None,
            signals,
            scratch: Scratch::new(),
        })
    }

    /// What all containers have logged that there ever were.
    pub fn log_totals(&self) -> LogTotals {
        let logs = self.containers.values().map(|container| &container.output.log.totals);
        logs.fold(self.logged, add)
    }

    /// Works until the pod is over. A monitor without a pod ends with its last connection.
    pub fn run(&mut self) -> io::Result<()> {
        while !self.is_over() {
            let (sources, count) = self.poller.wait(self.time_left())?;
            let (mut has_launched, had_pod) = (false, self.pod.is_some());
            for source in sources.into_iter().take(count).flatten() {
                has_launched |= matches!(source, Source::Launch(_));
                self.handle(source);
            }
            if self.pod.is_some() && !had_pod {
                Pod::let_others_go();
            }
            self.on_time(Instant::now());
            self.end_what_is_left();
            if has_launched {
                // A launch needs more than all the rest of a monitor's life, and a node has many monitors.
                sys::return_free_memory();
                sys::return_unused_stack(&self.proof);
                sys::return_program();
            }
        }
        Ok(())
    }

    /// How long nothing has to be done, if there is something to be done at a time.
    fn time_left(&self) -> Option<Timespec> {
        let next = [self.dying.next(), self.commands.next(), self.errands.next()];
        let next = next.into_iter().flatten().min()?;
        let left = next.saturating_duration_since(Instant::now());
        // Rounded up, so that the loop does not turn in vain just before.
        let nanos = i64::from(left.subsec_micros()) * 1000 + 1000;
        Some(Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: nanos.min(999_999_999),
        })
    }

    fn on_time(&mut self, now: Instant) {
        self.dying.look(now);
        self.commands.stop_late(now);
        self.errands.stop_late(now);
    }

    /// With its monitor a container is gone for whoever was to be told, though nobody has removed it.
    fn end_what_is_left(&mut self) {
        if !self.stopping || !self.all_have_ended() {
            return;
        }
        let left = self.containers.iter().filter(|(_, c)| c.hooks.is_some() || c.rdt.is_some());
        let left: Vec<Key> = left.map(|(key, _)| *key).collect();
        for key in left {
            let Some(container) = self.containers.get_mut(&key) else { continue };
            let (id, hooks, rdt) =
                (container.id.clone(), container.hooks.take(), container.rdt.take());
            self.say_goodbye(id, hooks.as_deref(), rdt.as_ref());
        }
    }

    fn all_have_ended(&self) -> bool {
        self.containers.values().all(|c| matches!(c.state, State::Exited { .. }))
    }

    fn is_over(&self) -> bool {
        let unused = self.pod.is_none() && self.connections.is_empty();
        let ended = self.all_have_ended();
        unused
            || (self.stopping
                && ended
                && self.dying.next().is_none()
                && self.commands.next().is_none()
                && self.errands.next().is_none())
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Listener => self.accept(),
            Source::Signals => self.reap(),
            Source::Connection(key) => self.serve(key),
            Source::Stdout(key) => self.pump(key, Stream::Stdout),
            Source::Stderr(key) => self.pump(key, Stream::Stderr),
            Source::Launch(key) => verbs::launch_reported(self, key),
            Source::ExecLaunch(key) => verbs::exec_reported(self, key),
            Source::Attach(key) => crate::attach::end(self, key, Some(AttachEnd::Closed)),
            Source::Console(key) => crate::external::console_came(self, key),
            Source::Memory(key) => self.memory_is_short(key),
        }
    }

    /// Listens for daemons to come on `listener`.
    pub fn listen(&mut self, listener: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        self.poller.add(&listener, Source::Listener)?;
        self.listener = Some(listener);
        Ok(())
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        while let Ok(socket) = rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
            let is_ours = rustix::net::sockopt::socket_peercred(&socket)
                .is_ok_and(|peer| peer.uid == rustix::process::geteuid());
            if !is_ours || self.connections.len() >= MOST_CONNECTIONS {
                continue;
            }
            let key = self.poller.new_key();
            if let Ok(connection) = Connection::new(socket, key, &self.poller) {
                self.connections.insert(key, connection);
            }
        }
    }

    fn serve(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        let incoming = connection.flush(&self.poller).and_then(|()| connection.read());
        let incoming = match incoming {
            Ok(incoming) => incoming,
            Err(gone) => return self.disconnect(key, &gone),
        };
        for message in incoming {
            match message {
                Incoming::Request(message, fds) => {
                    let reply = ReplyTo { connection: key, id: message.id };
                    verbs::dispatch(self, reply, message.request, fds);
                }
                Incoming::Unknown(id, why) => {
                    let message = format!("this monitor does not know the request: {why}");
                    let reply = ReplyTo { connection: key, id };
                    self.reply(reply, Err(refuse(model::Class::Unimplemented, message)));
                }
            }
        }
    }

    pub fn reply(&mut self, to: ReplyTo, result: Result<Reply, Refusal>) {
        self.reply_with(to, result, Vec::new());
    }

    /// Answers with descriptors.
    pub fn reply_with(&mut self, to: ReplyTo, result: Result<Reply, Refusal>, fds: Vec<OwnedFd>) {
        let Some(connection) = self.connections.get_mut(&to.connection) else { return };
        if let Err(gone) = connection.reply(&self.poller, to.id, result, fds) {
            self.disconnect(to.connection, &gone);
        }
    }

    /// Tells a daemon, if it is there, that something happened.
    pub fn tell(&mut self, key: Key, event: Event) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        if let Err(gone) = connection.send(&self.poller, &FromMonitor::Event(event), Vec::new()) {
            self.disconnect(key, &gone);
        }
    }

    /// Execs and attaches belong to the connection that asked for them: nobody else would take their output.
    fn disconnect(&mut self, key: Key, gone: &Gone) {
        if self.connections.remove(&key).is_none() {
            return;
        }
        let orphans: Vec<Key> =
            self.execs.iter().filter(|(_, e)| e.connection == key).map(|(k, _)| *k).collect();
        if !orphans.is_empty() {
            eprintln!(
                "isopod-monitor: {} execs end with their connection: {}",
                orphans.len(),
                gone.0
            );
        }
        for exec in orphans {
            verbs::kill_exec(self, exec);
        }
        for attach in self.attaches.of_connection(key) {
            crate::attach::end(self, attach, None);
        }
    }

    fn pump(&mut self, key: Key, stream: Stream) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        container.output.pump(stream, &mut self.scratch);
        self.let_readers_go(key);
    }

    /// The kernel has counted something about a container's memory.
    fn memory_is_short(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        container.cgroup.read_events(&self.poller);
    }

    /// Begins to watch the memory of a container whose cgroup goes when its last process does, so that the
    /// kernel's counts are known by then. On v1 there is nothing to watch.
    pub fn watch_memory(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        if let Err(error) = container.cgroup.watch_events(&self.poller, Source::Memory(key)) {
            eprintln!("isopod-monitor: container {}: watch its memory: {error}", container.id);
        }
    }

    /// Tells readers that the output would not wait for.
    fn let_readers_go(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        for (attach, why) in container.output.take_let_go() {
            crate::attach::end(self, attach, Some(why));
        }
    }

    /// Writes the record of a container's end, then tells it to every daemon.
    pub fn exited(&mut self, key: Key, exit: Exit) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        fault::point!("monitor.exit.before");
        container.output.drain(&mut self.scratch);
        container.stdin = None;
        container.terminal = None;
        container.hand_over = None;
        let id = container.id.clone();
        let started_at = container.started_at();
        container.state = State::Exited { started_at, exit: exit.clone() };
        container.stage = crate::container::Stage::Ended;
        if let Some(pod) = &self.pod {
            let record = ExitRecord { container: id.clone(), started_at, exit: exit.clone() };
            let written = store::Key::parse(id.as_str()).map(|key| pod.exits.put(&key, &record));
            if let Ok(Err(error)) = written {
                // The state is in memory still, and a daemon that asks is told.
                eprintln!("isopod-monitor: {error}");
            }
        }
        self.let_readers_go(key);
        for attach in self.attaches.of_container(key) {
            crate::attach::end(self, attach, Some(AttachEnd::Ended));
        }
        let daemons: Vec<Key> = self.connections.keys().copied().collect();
        for daemon in daemons {
            self.tell(daemon, Event::Exited { container: id.clone(), exit: exit.clone() });
        }
        fault::point!("monitor.exit.told");
    }

    /// Waits for every child that has ended: processes of containers and execs, commands, and orphans that
    /// came to this monitor because it is their nearest subreaper.
    fn reap(&mut self) {
        let mut signals = [0; 1024];
        let _ = rustix::io::read(&self.signals, &mut signals);
        while let Some(pid) = self.next_ended() {
            if !verbs::child_ended(self, pid) {
                let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            }
        }
    }

    /// Some child that has ended, but for one whose number is in use: while it is not waited for nobody else gets
    /// the number.
    fn next_ended(&mut self) -> Option<Pid> {
        let pid = sys::wait_any_exited().ok().flatten()?;
        if !self.errands.call_off_users_of(pid) {
            return Some(pid);
        }
        // The kernel names the same one until it is waited for. Orphans wait with it.
        let of_containers = self.containers.values().filter_map(|c| c.process.as_ref());
        let of_execs = self.execs.values().filter_map(|exec| exec.process.as_ref());
        let all = of_containers.chain(of_execs).chain(self.commands.processes());
        let of_errands = self.errands.processes().map(|child| (child.pid, &child.pidfd));
        let mut all = all.map(|child| (child.pid, &child.pidfd)).chain(of_errands);
        all.find(|(pid, pidfd)| !self.errands.uses(*pid) && has_ended(pidfd)).map(|(pid, _)| pid)
    }

    /// Forgets the record of a container's end.
    pub fn remove_record(&self, id: &ContainerId) {
        if let (Some(pod), Ok(key)) = (&self.pod, store::Key::parse(id.as_str()))
            && let Err(error) = pod.exits.remove(&key)
        {
            // The daemon removes the pod's directory with all that is left in it.
            eprintln!("isopod-monitor: {error}");
        }
    }

    /// Whether something in this pod may trace what it sees.
    pub fn tracers(&self) -> Tracers {
        if self.containers.values().any(Container::may_trace) {
            Tracers::Possible
        } else {
            Tracers::Impossible
        }
    }

    /// The container of this id.
    pub fn find(&self, id: &ContainerId) -> Result<Key, Refusal> {
        let found = self.containers.iter().find(|(_, c)| c.id == *id).map(|(key, _)| *key);
        found.ok_or_else(|| {
            refuse(model::Class::NotFound, format!("container {id} is not in this pod's monitor"))
        })
    }

    /// The first process of the container `id`, if that runs.
    pub fn running(&self, id: &ContainerId) -> Option<&Process> {
        let is_it = |c: &&Container| c.id == *id && matches!(c.state, State::Running { .. });
        self.containers.values().find(is_it)?.process.as_ref()
    }
}

pub fn has_ended(child: &OwnedFd) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::PidFd(child.as_fd()), options).is_ok_and(|status| status.is_some())
}

/// Waits for a child that is known to have ended, and says how.
pub fn wait_for(pid: Pid) -> i32 {
    let status = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    let code = status
        .ok()
        .flatten()
        .and_then(|s| s.terminating_signal().map(|n| 128 + n).or_else(|| s.exit_status()));
    code.unwrap_or(255)
}

/// Kills a process; one that has ended already is as good.
pub fn kill(pidfd: &OwnedFd) {
    let _ = pidfd_send_signal(pidfd.as_fd(), Signal::KILL);
}
