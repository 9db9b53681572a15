//! The poll loop, and who is told what.
//!
//! Owns: every descriptor of the monitor and everything that it knows. Always: one event is handled at a
//! time and nothing waits but the loop; an exit is recorded before it is told. Callers: `main`.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use cri_log::Stream;
use model::{ContainerId, Exit, State};
use monitor_api::{Event, ExitRecord, FromMonitor, Refusal, Reply};
use rustix::net::SocketFlags;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use sys::SingleThreaded;

use crate::connection::{Connection, Gone, Incoming};
use crate::container::{Container, ReplyTo, StoredFilter};
use crate::exec::Exec;
use crate::output::{Pumped, Scratch};
use crate::pod::Pod;
use crate::poller::{Key, Poller, Source};
use crate::refusal::refuse;
use crate::verbs;

/// A pod's monitor.
#[derive(Debug)]
pub struct Monitor {
    pub proof: SingleThreaded,
    pub poller: Poller,
    pub pod: Option<Pod>,
    pub containers: BTreeMap<Key, Container>,
    pub execs: BTreeMap<Key, Exec>,
    /// Filters in use, so that equal ones are kept once.
    pub filters: Vec<StoredFilter>,
    pub stopping: bool,
    connections: BTreeMap<Key, Connection>,
    listener: Option<OwnedFd>,
    signals: OwnedFd,
    scratch: Scratch,
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
            filters: Vec::new(),
            stopping: false,
            connections: BTreeMap::from([(key, connection)]),
            listener: None,
            signals,
            scratch: Scratch::new(),
        })
    }

    /// Works until the pod is over. A monitor without a pod ends with its last connection.
    pub fn run(&mut self) -> io::Result<()> {
        while !self.is_over() {
            let (sources, count) = self.poller.wait(None)?;
            for source in sources.into_iter().take(count).flatten() {
                self.handle(source);
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let unused = self.pod.is_none() && self.connections.is_empty();
        unused || (self.stopping && self.containers.values().all(|c| matches!(c.state, State::Exited { .. })))
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
            if !is_ours {
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
                Incoming::Request(message) => {
                    let reply = ReplyTo { connection: key, id: message.id };
                    verbs::dispatch(self, reply, message.request);
                }
                Incoming::Unknown(id, why) => {
                    let message = format!("this monitor does not know the request: {why}");
                    let reply = ReplyTo { connection: key, id };
                    self.reply(reply, Err(refuse(model::Class::Unimplemented, message)));
                }
            }
        }
    }

    /// The next `count` descriptors that the connection has sent.
    pub fn take_fds(&mut self, connection: Key, count: usize) -> Result<Vec<OwnedFd>, Refusal> {
        let fds = self.connections.get_mut(&connection).and_then(|c| c.take_fds(count));
        fds.ok_or_else(|| refuse(model::Class::InvalidArgument, format!("{count} descriptors must come with it")))
    }

    pub fn reply(&mut self, to: ReplyTo, result: Result<Reply, Refusal>) {
        self.send(to.connection, &FromMonitor::Reply { id: to.id, result });
    }

    pub fn send(&mut self, key: Key, message: &FromMonitor) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        if let Err(gone) = connection.send(&self.poller, message) {
            self.disconnect(key, &gone);
        }
    }

    /// Execs belong to the connection that asked for them: nobody else would take their output.
    fn disconnect(&mut self, key: Key, gone: &Gone) {
        if self.connections.remove(&key).is_none() {
            return;
        }
        let orphans: Vec<Key> = self.execs.iter().filter(|(_, e)| e.connection == key).map(|(k, _)| *k).collect();
        if !orphans.is_empty() {
            eprintln!("isopod-monitor: {} execs end with their connection: {}", orphans.len(), gone.0);
        }
        for exec in orphans {
            verbs::kill_exec(self, exec);
        }
    }

    fn pump(&mut self, key: Key, stream: Stream) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        if container.output.pump(stream, &mut self.scratch) == Pumped::End && container.output.is_over() {
            // The last stream is closed, and with it gone from the poller.
        }
    }

    /// Writes the record of a container's end, then tells it to every daemon.
    pub fn exited(&mut self, key: Key, exit: Exit) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        container.output.drain(&mut self.scratch);
        let id = container.id.clone();
        let started_at = container.started_at();
        container.state = State::Exited { started_at, exit: exit.clone() };
        container.stage = crate::container::Stage::Ended;
        container.stdin = None;
        if let Some(pod) = &self.pod {
            let record = ExitRecord { container: id.clone(), started_at, exit: exit.clone() };
            let written = store::Key::parse(id.as_str()).map(|key| pod.exits.put(&key, &record));
            if let Ok(Err(error)) = written {
                // The state is in memory still, and a daemon that asks is told.
                eprintln!("isopod-monitor: {error}");
            }
        }
        let daemons: Vec<Key> = self.connections.keys().copied().collect();
        for daemon in daemons {
            let event = Event::Exited { container: id.clone(), exit: exit.clone() };
            self.send(daemon, &FromMonitor::Event(event));
        }
    }

    /// Waits for every child that has ended: processes of containers and execs, commands, and orphans that
    /// came to this monitor because it is their nearest subreaper.
    fn reap(&mut self) {
        let mut signals = [0; 1024];
        let _ = rustix::io::read(&self.signals, &mut signals);
        while let Ok(Some(pid)) = sys::wait_any_exited() {
            if !verbs::child_ended(self, pid) {
                let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            }
        }
    }

    /// The container of this id.
    pub fn find(&self, id: &ContainerId) -> Result<Key, Refusal> {
        let found = self.containers.iter().find(|(_, c)| c.id == *id).map(|(key, _)| *key);
        found.ok_or_else(|| refuse(model::Class::NotFound, format!("container {id} is not in this pod's monitor")))
    }
}

/// Waits for a child that is known to have ended, and says how.
pub fn wait_for(pid: Pid) -> i32 {
    let status = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    let code = status.ok().flatten().and_then(|s| s.terminating_signal().map(|n| 128 + n).or_else(|| s.exit_status()));
    code.unwrap_or(255)
}

/// Kills a process; one that has ended already is as good.
pub fn kill(pidfd: &OwnedFd) {
    let _ = pidfd_send_signal(pidfd.as_fd(), Signal::KILL);
}
