//! A monitor that is played: it speaks the protocol and runs nothing.
//!
//! What a container does is told by its program:
//! `/run` runs until a signal, `/stubborn` until SIGKILL, `/exit N` ends before its start is answered,
//! `/missing` cannot be started, `/refused` cannot be created. An exec of `say OUT ERR` says and ends, `fail` ends
//! with 3, `hang` never ends, `leave` ends and leaves its output open.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use model::{Class, ContainerId, Exit, ExitReason, SandboxId, State, Timestamp};
use monitor_api::{
    ContainerReport, Create, Created, Decoder, Event, Exec, ExitRecord, FromMonitor, KillScope,
    Refusal, Reply, Request, ToMonitor, Welcome, encode,
};
use store::{Durability, Key, Store};

/// The code of a process that SIGKILL has ended.
const KILLED: i32 = 137;

struct Container {
    state: State,
    program: String,
    argument: String,
}

#[derive(Default)]
struct World {
    sandbox: Option<(SandboxId, PathBuf)>,
    containers: BTreeMap<ContainerId, Container>,
    writers: BTreeMap<u64, UnixStream>,
    /// Execs that hang, by connection and number, with what they hold open.
    hanging: BTreeMap<(u64, u64), Vec<OwnedFd>>,
    /// Output that is left open for good.
    left_open: Vec<OwnedFd>,
    is_over: bool,
}

#[derive(Clone, Default)]
struct Shared(Arc<(Mutex<World>, Condvar)>);

/// Plays until the pod is over, or until nobody is connected who could set one up.
pub fn run() -> ExitCode {
    let shared = Shared::default();
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).expect("a socket");
    shared.serve(0, control.into());
    let mut world = shared.lock();
    while !world.is_over {
        world = shared.0.1.wait(world).unwrap_or_else(PoisonError::into_inner);
    }
    ExitCode::SUCCESS
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

fn refuse(class: Class, message: &str) -> Refusal {
    Refusal { class, phase: "fake".to_owned(), message: message.to_owned() }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, number: u64, socket: UnixStream) {
        let writer = socket.try_clone().expect("a copy");
        self.lock().writers.insert(number, writer);
        let shared = self.clone();
        thread::spawn(move || shared.read(number, &socket));
    }

    fn read(&self, number: u64, socket: &UnixStream) {
        let (mut decoder, mut fds) = (Decoder::default(), Vec::new());
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = sys::receive(socket.as_fd(), &mut buffer, &mut fds) {
            decoder.push(&buffer[..count]);
            while let Some(message) = decoder.take::<ToMonitor>().expect("a message") {
                let with: Vec<OwnedFd> = fds.drain(..message.fds as usize).collect();
                // A request that waits does not hold up the others.
                let shared = self.clone();
                thread::spawn(move || shared.handle(number, message, with));
            }
        }
        let mut world = self.lock();
        world.writers.remove(&number);
        world.hanging.retain(|(connection, _), _| *connection != number);
        if world.sandbox.is_none() && world.writers.is_empty() {
            world.is_over = true;
            self.0.1.notify_all();
        }
    }

    fn handle(&self, number: u64, message: ToMonitor, fds: Vec<OwnedFd>) {
        let id = message.id;
        let is_shutdown = matches!(message.request, Request::Shutdown);
        if let Some(result) = self.answer(number, id, message.request, fds) {
            self.lock().reply(number, id, result);
        }
        if is_shutdown {
            self.lock().is_over = true;
            self.0.1.notify_all();
        }
    }

    fn answer(
        &self,
        number: u64,
        id: u64,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Option<Result<Reply, Refusal>> {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "what no story needs is not played, also when the protocol grows"
        )]
        let result = match request {
            Request::Hello { .. } => Ok(self.lock().welcome()),
            Request::Setup(setup) => {
                hold(&setup.directory, "setup");
                let listener = fds.into_iter().next().expect("a listener");
                self.lock().sandbox = Some((setup.sandbox, setup.directory));
                self.listen(listener.into());
                Ok(Reply::Ready { spans: Vec::new() })
            }
            Request::Create(create) => self.create(&create),
            Request::Start { container } => self.lock().start(number, id, &container)?,
            Request::Kill { container, signal, scope } => {
                self.lock().kill(&container, signal, scope)
            }
            Request::Exec(exec) => self.lock().exec(number, id, &exec, fds)?,
            Request::KillExec { exec } => {
                let mut world = self.lock();
                if world.hanging.remove(&(number, exec)).is_some() {
                    world.tell(number, Event::ExecEnded { exec, code: KILLED });
                }
                Ok(Reply::Done)
            }
            Request::Remove { container } => self.lock().remove(&container),
            Request::Shutdown => {
                let mut world = self.lock();
                let all: Vec<ContainerId> = world.containers.keys().cloned().collect();
                all.iter().for_each(|id| world.exited(id, KILLED, ExitReason::Error));
                Ok(Reply::Done)
            }
            Request::ReopenLog { .. } => {
                let mut world = self.lock();
                let (_, directory) = world.sandbox.clone().expect("a pod");
                if std::fs::remove_file(directory.join("hang-up")).is_ok() {
                    world.hang_up();
                }
                Ok(Reply::Done)
            }
            _ => Err(refuse(Class::Unimplemented, "it is only played")),
        };
        Some(result)
    }

    fn listen(&self, listener: UnixListener) {
        let shared = self.clone();
        thread::spawn(move || {
            for (number, socket) in (1..).zip(listener.incoming().flatten()) {
                shared.serve(number, socket);
            }
        });
    }

    fn create(&self, create: &Create) -> Result<Reply, Refusal> {
        let spec = std::fs::read(create.bundle.join("config.json")).expect("a spec");
        let spec: serde_json::Value = serde_json::from_slice(&spec).expect("a spec");
        let word = |n: usize| spec["process"]["args"][n].as_str().unwrap_or("").to_owned();
        let container = Container { state: State::Created, program: word(0), argument: word(1) };
        if container.program == "/refused" {
            return Err(refuse(Class::InvalidArgument, "it is not to be created"));
        }
        let directory = self.lock().sandbox.clone().expect("a pod").1;
        hold(&directory, "create");
        self.lock().containers.insert(create.container.clone(), container);
        let pid = Some(rustix::process::getpid().as_raw_nonzero().get());
        Ok(Reply::Created(Created { pid, spans: Vec::new(), warnings: Vec::new() }))
    }
}

/// Waits while the test holds `step` up: for as long as there is a file of that name.
fn hold(pod_dir: &Path, step: &str) {
    let state_dir = pod_dir.ancestors().nth(2).expect("the state directory");
    let file = state_dir.join(format!("hold-{step}"));
    let let_go = || (!file.exists()).then_some(());
    if testkit::eventually(Duration::from_secs(60), let_go).is_none() {
        std::process::abort();
    }
}

impl World {
    fn write(&mut self, number: u64, message: &FromMonitor) {
        if let Some(writer) = self.writers.get_mut(&number) {
            // A daemon that is gone hears nothing.
            let _ = writer.write_all(&encode(message).expect("a message"));
        }
    }

    fn reply(&mut self, number: u64, id: u64, result: Result<Reply, Refusal>) {
        self.write(number, &FromMonitor::Reply { id, fds: 0, result });
    }

    /// Closes all connections.
    fn hang_up(&mut self) {
        for writer in self.writers.values() {
            // One that is closed already is as good.
            let _ = writer.shutdown(std::net::Shutdown::Both);
        }
    }

    fn tell(&mut self, number: u64, event: Event) {
        self.write(number, &FromMonitor::Event(event));
    }

    fn welcome(&self) -> Reply {
        let report = |(id, c): (&ContainerId, &Container)| ContainerReport {
            container: id.clone(),
            state: c.state.clone(),
            pid: None,
            log_lines_lost: 0,
            log_lines_dropped: 0,
        };
        Reply::Welcome(Welcome {
            protocol: monitor_api::PROTOCOL,
            version: "played".to_owned(),
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            sandbox: self.sandbox.as_ref().map(|(id, _)| id.clone()),
            containers: self.containers.iter().map(report).collect(),
            log_totals: None,
        })
    }

    fn start(
        &mut self,
        number: u64,
        id: u64,
        container: &ContainerId,
    ) -> Option<Result<Reply, Refusal>> {
        let Some(found) = self.containers.get_mut(container) else {
            return Some(Err(refuse(Class::NotFound, "there is no such container")));
        };
        let at = now();
        match found.program.as_str() {
            "/missing" => {
                self.exited(container, 128, ExitReason::StartError);
                Some(Err(refuse(Class::InvalidArgument, "/missing is not there")))
            }
            "/exit" => {
                let code = found.argument.parse().expect("a code");
                found.state = State::Running { started_at: at };
                // The end is told before the start: whoever hears both must put them in order.
                self.exited(container, code, ExitReason::Error);
                self.reply(number, id, Ok(Reply::Started { at }));
                None
            }
            _ => {
                found.state = State::Running { started_at: at };
                Some(Ok(Reply::Started { at }))
            }
        }
    }

    fn kill(
        &mut self,
        container: &ContainerId,
        signal: i32,
        scope: KillScope,
    ) -> Result<Reply, Refusal> {
        let Some(found) = self.containers.get(container) else {
            return Err(refuse(Class::NotFound, "there is no such container"));
        };
        let heeds = match scope {
            KillScope::All => true,
            KillScope::First => found.program != "/stubborn",
        };
        if heeds {
            self.exited(container, 128 + signal, ExitReason::Error);
        }
        Ok(Reply::Done)
    }

    fn exited(&mut self, container: &ContainerId, code: i32, reason: ExitReason) {
        let Some(found) = self.containers.get_mut(container) else { return };
        let started_at = match &found.state {
            State::Created => Timestamp(0),
            State::Running { started_at } => *started_at,
            State::Exited { .. } => return,
        };
        let exit = Exit { code, finished_at: now(), reason, message: String::new() };
        found.state = State::Exited { started_at, exit: exit.clone() };
        let (_, directory) = self.sandbox.clone().expect("a pod");
        let exits = Store::open(&directory.join(ExitRecord::DIRECTORY), Durability::Boot);
        let record = ExitRecord { container: container.clone(), started_at, exit: exit.clone() };
        let key = Key::parse(container.as_str()).expect("a key");
        exits.expect("a store").put(&key, &record).expect("a record");
        for number in self.writers.keys().copied().collect::<Vec<_>>() {
            self.tell(number, Event::Exited { container: container.clone(), exit: exit.clone() });
        }
    }

    fn exec(
        &mut self,
        number: u64,
        id: u64,
        exec: &Exec,
        fds: Vec<OwnedFd>,
    ) -> Option<Result<Reply, Refusal>> {
        let word = |n: usize| exec.args.get(n).map_or("", String::as_str);
        self.reply(number, id, Ok(Reply::ExecStarted { pid: 1 }));
        let code = match word(0) {
            "hang" => {
                self.hanging.insert((number, exec.exec), fds);
                return None;
            }
            "say" => {
                for (at, fd) in fds.into_iter().enumerate().skip(1) {
                    File::from(fd).write_all(word(at).as_bytes()).expect("a reader");
                }
                0
            }
            "leave" => {
                self.left_open.extend(fds);
                0
            }
            _ => 3,
        };
        self.tell(number, Event::ExecEnded { exec: exec.exec, code });
        None
    }

    fn remove(&mut self, container: &ContainerId) -> Result<Reply, Refusal> {
        match self.containers.get(container).map(|c| &c.state) {
            Some(State::Created | State::Running { .. }) => {
                Err(refuse(Class::FailedPrecondition, "it has not ended"))
            }
            Some(State::Exited { .. }) | None => {
                self.containers.remove(container);
                Ok(Reply::Done)
            }
        }
    }
}
