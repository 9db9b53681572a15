//! A container up to the point where it waits for its start.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use cri_log::Stream;
use launcher::{
    ChildStdio, LaunchError, Launched, PidHome, Plan, Point, ProcSource, RdtGroup, Report,
    RootSource,
};
use model::{Class, ContainerId, Span, State, Timestamp};
use monitor_api::{Create, Created, PidChoice, Refusal, Reply, Runtime};
use oci_runtime::OciRuntime;
use runtime_spec::{Namespace, Spec};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};

use crate::cgroup::ContainerCgroup;
use crate::container::{
    Container, Identity, Launcher, Process, ReplyTo, Stage, StoredFilter, Terminal, start_error,
};
use crate::dying::Then;
use crate::external::ExternalContainer;
use crate::monitor::{Monitor, kill};
use crate::output::Output;
use crate::poller::{Key, Source};
use crate::refusal::{failed, launch_failed, refuse, step_failed};
use crate::volumes;

/// Begins to set a container up; `None` when the answer comes with the child's report.
pub fn create(
    monitor: &mut Monitor,
    reply: ReplyTo,
    request: Create,
) -> Result<Option<Reply>, Refusal> {
    if monitor.stopping {
        return Err(refuse(Class::FailedPrecondition, "this monitor is about to end"));
    }
    let Some(pod) = &monitor.pod else {
        return Err(refuse(Class::FailedPrecondition, "this monitor has no pod yet"));
    };
    if monitor.find(&request.container).is_ok() {
        return Err(refuse(
            Class::FailedPrecondition,
            format!("container {} is there already", request.container),
        ));
    }
    if let PidChoice::Target(target) = &request.pid
        && monitor.running(target).is_none()
    {
        return Err(not_running(target));
    }
    let spec = read_spec(&request.bundle)?;
    let place = request.bundle.join("rootfs");
    std::fs::create_dir_all(&place).map_err(failed(format!("make {}", place.display())))?;
    let volumes = volumes::mount(pod, &request.volumes)?;
    let created = match request.runtime.clone() {
        Runtime::Own => own(monitor, reply, request, &spec, &volumes).map(|()| None),
        Runtime::External { program, options, root } => {
            let runtime = OciRuntime { program, options, root };
            external(monitor, request, &spec, runtime, &volumes).map(Some)
        }
    };
    if created.is_err() {
        volumes::unmount(&volumes);
    }
    drop(spec);
    // A spec is the largest thing that a monitor ever reads, and it is done with it.
    sys::return_free_memory();
    created
}

/// Nobody's process namespace can be shared of a container that does not run.
fn not_running(target: &ContainerId) -> Refusal {
    let message = format!(
        "container {target}, whose processes it is to see (target_id), does not run in this pod"
    );
    refuse(Class::FailedPrecondition, message)
}

/// What a process that has ended `how` while it set itself up did not live to say.
pub fn ended_early(container: &Container, how: &str) -> Refusal {
    if container.cgroup.was_out_of_memory() {
        let message = "the container's memory limit is too low: its process was killed at it while it was being set up";
        return refuse(Class::InvalidArgument, message);
    }
    refuse(Class::Internal, format!("its process ended{how} while it was being set up"))
}

fn read_spec(bundle: &Path) -> Result<Spec, Refusal> {
    let path = bundle.join("config.json");
    let bytes = std::fs::read(&path).map_err(failed(format!("read {}", path.display())))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| refuse(Class::InvalidArgument, format!("{}: {e}", path.display())))
}

fn own(
    monitor: &mut Monitor,
    reply: ReplyTo,
    request: Create,
    spec: &Spec,
    volumes: &[PathBuf],
) -> Result<(), Refusal> {
    let mut plan = Plan::read(spec).map_err(|bad| launch_failed(bad.into()))?;
    if let Some(hooks) = &mut plan.hooks {
        hooks.state.id = request.container.to_string();
        hooks.state.bundle.clone_from(&request.bundle);
    }
    let filter = read_filter(monitor, &request.bundle)?;
    let machine = monitor.pod.as_ref().map(|pod| Rc::clone(&pod.machine));
    let machine =
        machine.ok_or_else(|| refuse(Class::FailedPrecondition, "this monitor has no pod yet"))?;
    let (cgroup, mut spans) = ContainerCgroup::create(machine, spec)?;
    let make_group = |rdt: &_| {
        RdtGroup::make(Path::new(launcher::RESCTRL), rdt, request.container.as_str())
            .map_err(step_failed(launcher::Phase::Cgroup))
    };
    let launched = Streams::open(&request).and_then(|streams| {
        // There are few of them, so nothing that may fail stands between it and its undo.
        let rdt = plan.rdt.as_ref().map(make_group).transpose()?;
        let launched = launch(monitor, &request, &plan, filter.as_ref(), &cgroup, &streams);
        match launched {
            Ok(launched) => Ok((rdt, streams, launched)),
            Err(error) => {
                rdt.iter().for_each(RdtGroup::remove);
                Err(launch_failed(error))
            }
        }
    });
    let (rdt, streams, launched) = match launched {
        Ok(all) => all,
        Err(refusal) => {
            monitor.dying.kill(cgroup.cgroup(), Then::Remove);
            return Err(refusal);
        }
    };
    let Launched { child, control, hand_over, spans: own_spans } = launched;
    spans.extend(own_spans.into_iter().map(span));
    let key = monitor.poller.new_key();
    let has_own_pids =
        request.pid == PidChoice::Spec && plan.new_namespaces.contains(sys::Namespaces::PID);
    let (output, opened) = Output::new(request.log, request.log_limits);
    let mut container = Container {
        id: request.container,
        stage: Stage::Waiting { control: None },
        state: State::Created,
        process: Some(Process { pid: child.pid, pidfd: child.pidfd }),
        launcher: Launcher::Own(Box::new(Identity { process: plan.process, filter })),
        hooks: plan.hooks,
        rdt,
        cgroup,
        output,
        stdio: request.stdio,
        stdin: streams.our_stdin,
        terminal: None,
        hand_over,
        has_own_pids,
        volumes: volumes.to_vec(),
    };
    let watched = opened
        .and_then(|()| {
            read_stream(monitor, &mut container, key, Stream::Stdout, streams.our_stdout)
        })
        .and_then(|()| {
            read_stream(monitor, &mut container, key, Stream::Stderr, streams.our_stderr)
        })
        .and_then(|()| monitor.poller.add(&control, Source::Launch(key)));
    let joined = container.rdt.as_ref().zip(container.process.as_ref());
    let joined = joined.map_or(Ok(()), |(rdt, process)| rdt.join(process.pid));
    let seat = container.cgroup.awaits_unit().cloned().zip(container.process.as_ref());
    let seat = seat.map(|(cgroup, process)| (cgroup, process.pid));
    container.stage = Stage::SettingUp { reply, control, spans };
    monitor.containers.insert(key, container);
    let seated = seat.map_or(Ok(()), |(cgroup, pid)| monitor.send_to_seat(key, &cgroup, pid));
    watched
        .map_err(failed("open the container's log and streams"))
        .and_then(|()| joined.map_err(step_failed(launcher::Phase::Cgroup)))
        .and_then(|()| seated.map_err(failed("have the container's scope made")))
        .inspect_err(|_| discard(monitor, key))
}

/// An external runtime makes the container's process when it is started; until then there is its root
/// file system and a cgroup by name.
fn external(
    monitor: &mut Monitor,
    request: Create,
    spec: &Spec,
    runtime: OciRuntime,
    volumes: &[PathBuf],
) -> Result<Reply, Refusal> {
    let pod = monitor
        .pod
        .as_ref()
        .ok_or_else(|| refuse(Class::FailedPrecondition, "this monitor has no pod yet"))?;
    if pod.users.is_some() {
        let message = "a pod with a user namespace needs the default runtime handler";
        return Err(refuse(Class::Unimplemented, message));
    }
    let pids = match &request.pid {
        PidChoice::Spec => None,
        PidChoice::Pod => {
            let init = pod.init.as_ref().map(|init| init.pid);
            let init = init.ok_or_else(|| {
                refuse(Class::InvalidArgument, "the pod has no process namespace to share")
            });
            Some(init?)
        }
        PidChoice::Target(target) => {
            let process = monitor.running(target).map(|process| process.pid);
            Some(process.ok_or_else(|| not_running(target))?)
        }
    };
    // Whoever is a child of this process keeps its number until it is waited for, which is not now.
    let open = |pid: Pid| File::open(format!("/proc/{}/ns/pid", pid.as_raw_nonzero()));
    let pids = pids.map(open).transpose();
    let pids = pids.map_err(failed("open the process namespace to share"))?;
    let machine = Rc::clone(&pod.machine);
    let mut spans = crate::pod::Spans::new();
    let cgroup = ContainerCgroup::named(machine, spec)?;
    let (output, opened) = Output::new(request.log, request.log_limits);
    opened.map_err(failed("open the container's log"))?;
    let makes_pids = |n: &Namespace| n.kind == runtime_spec::NamespaceKind::Pid && n.path.is_none();
    let has_own_pids = pids.is_none()
        && spec.linux.as_ref().is_some_and(|linux| linux.namespaces.iter().any(makes_pids));
    let outside = ExternalContainer { runtime, bundle: request.bundle, pids };
    let mut places = volumes.to_vec();
    outside.prepare(&request.rootfs, spec, pod, &mut places)?;
    spans.ended("root");
    let key = monitor.poller.new_key();
    let container = Container {
        id: request.container,
        stage: Stage::Waiting { control: None },
        state: State::Created,
        process: None,
        launcher: Launcher::External(Box::new(outside)),
        cgroup,
        output,
        stdio: request.stdio,
        stdin: None,
        terminal: None,
        hand_over: None,
        has_own_pids,
        volumes: places,
        // Its runtime runs them, and puts it into its class.
        hooks: None,
        rdt: None,
    };
    monitor.containers.insert(key, container);
    Ok(Reply::Created(Created { pid: None, spans: spans.spans, warnings: Vec::new() }))
}

/// The filter in the bundle: four bytes of flags, little-endian, then the program.
fn read_filter(monitor: &mut Monitor, bundle: &Path) -> Result<Option<StoredFilter>, Refusal> {
    let path = bundle.join("seccomp.bpf");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(format!("read {}", path.display()))(e)),
    };
    let Some((flags, program)) = bytes.split_first_chunk::<4>() else {
        return Err(refuse(Class::InvalidArgument, format!("{} is not a filter", path.display())));
    };
    let flags = u32::from_le_bytes(*flags);
    // Filters that no container has any more are forgotten here.
    monitor.filters.retain(|known| Rc::strong_count(&known.program) > 1);
    if let Some(known) =
        monitor.filters.iter().find(|known| known.flags == flags && *known.program == *program)
    {
        return Ok(Some(known.clone()));
    }
    let filter = StoredFilter { program: program.into(), flags };
    monitor.filters.push(filter.clone());
    Ok(Some(filter))
}

/// The ends of a container's standard streams.
struct Streams {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    our_stdin: Option<OwnedFd>,
    our_stdout: Option<OwnedFd>,
    our_stderr: Option<OwnedFd>,
    is_terminal: bool,
}

impl Streams {
    fn open(request: &Create) -> Result<Self, Refusal> {
        let null = |write: bool| {
            File::options().read(true).write(write).open("/dev/null").map(OwnedFd::from)
        };
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from);
        let open = || -> io::Result<Self> {
            if request.stdio.tty {
                let (stdin, stdout, stderr) = (null(true)?, null(true)?, null(true)?);
                let (our_stdin, our_stdout, our_stderr) = (None, None, None);
                return Ok(Self {
                    stdin,
                    stdout,
                    stderr,
                    our_stdin,
                    our_stdout,
                    our_stderr,
                    is_terminal: true,
                });
            }
            let (stdin, our_stdin) = if request.stdio.stdin {
                let (read, write) = pipe()?;
                (read, Some(write))
            } else {
                (null(false)?, None)
            };
            let ((our_stdout, stdout), (our_stderr, stderr)) = (pipe()?, pipe()?);
            let (our_stdout, our_stderr) = (Some(our_stdout), Some(our_stderr));
            Ok(Self {
                stdin,
                stdout,
                stderr,
                our_stdin,
                our_stdout,
                our_stderr,
                is_terminal: false,
            })
        };
        open().map_err(failed("open the standard streams"))
    }

    fn childs(&self) -> ChildStdio<'_> {
        if self.is_terminal {
            ChildStdio::Terminal
        } else {
            let (stdin, stdout, stderr) =
                (self.stdin.as_fd(), self.stdout.as_fd(), self.stderr.as_fd());
            ChildStdio::Streams { stdin, stdout, stderr }
        }
    }
}

fn launch(
    monitor: &Monitor,
    request: &Create,
    plan: &Plan,
    filter: Option<&StoredFilter>,
    cgroup: &ContainerCgroup,
    streams: &Streams,
) -> Result<Launched, LaunchError> {
    let unavailable = |what: &str| LaunchError {
        phase: launcher::Phase::Clone,
        message: what.to_owned(),
        errno: None,
    };
    let pod = monitor.pod.as_ref().ok_or_else(|| unavailable("this monitor has no pod yet"))?;
    let proc = pod.proc();
    let tracers = monitor.tracers();
    let home = match &request.pid {
        PidChoice::Spec => None,
        PidChoice::Pod => {
            let init = pod.init.as_ref().map(|init| init.pidfd.as_fd());
            Some((init, ProcSource::At(&proc)))
        }
        PidChoice::Target(target) => {
            let process = monitor.running(target);
            Some((process.map(|p| p.pidfd.as_fd()), ProcSource::OfProcess))
        }
    };
    let pid_home = match home {
        None => PidHome::Planned,
        Some((Some(process), proc)) => PidHome::With { process, proc, tracers },
        Some((None, _)) => {
            return Err(unavailable("the process whose PID namespace it is to share has ended"));
        }
    };
    cgroup.seated(|seat| {
        let order = launcher::Create {
            plan,
            root: RootSource::Layers(&request.rootfs),
            place: &request.bundle.join("rootfs"),
            stdio: streams.childs(),
            filter: filter.map(StoredFilter::as_filter),
            host_mounts: pod.host.mounts(),
            seat,
            cgroup_view: cgroup.view(),
            pid_home,
            users: pod.users.as_ref().map(crate::pod::PodUsers::as_users),
            finds_program: false,
            own_tree: &pod.directory,
        };
        launcher::create(&monitor.proof, &order)
    })
}

/// Begins to read one of a container's streams.
pub fn read_stream(
    monitor: &Monitor,
    container: &mut Container,
    key: Key,
    stream: Stream,
    fd: Option<OwnedFd>,
) -> io::Result<()> {
    let Some(fd) = fd else { return Ok(()) };
    let source = match stream {
        Stream::Stdout => Source::Stdout(key),
        Stream::Stderr => Source::Stderr(key),
    };
    monitor.poller.add(&fd, source)?;
    container.output.read_from(stream, fd)
}

pub fn span(span: launcher::Span) -> Span {
    Span { phase: span.phase.as_str().into(), start_us: span.start_us, took_us: span.took_us }
}

/// A launched process has something to say.
pub fn launch_reported(monitor: &mut Monitor, key: Key) {
    let Some(container) = monitor.containers.get_mut(&key) else { return };
    match std::mem::replace(&mut container.stage, Stage::Running) {
        Stage::SettingUp { reply, control, spans } => match control.try_report() {
            Some(report) => set_up(monitor, key, reply, control, spans, report),
            None => container.stage = Stage::SettingUp { reply, control, spans },
        },
        Stage::Starting { reply, control, at } => match control.try_report() {
            Some(Report::Executed) => {
                let noted = container.hand_over.as_ref().is_none_or(|note| note.heir().is_some());
                if noted {
                    return started(monitor, key, reply, at);
                }
                // It has ended before it came to hand its place over, and its end is the answer.
                monitor.poller.remove(&control);
                container.stage = Stage::Starting { reply, control, at };
            }
            Some(Report::Failed(error)) => {
                let exit = start_error(error.message.clone());
                monitor.exited(key, exit);
                monitor.reply(reply, Err(launch_failed(error)));
            }
            Some(Report::Ready { .. } | Report::AtHooks) | None => {
                container.stage = Stage::Starting { reply, control, at }
            }
        },
        Stage::Waiting { control } => {
            // Nothing is asked of it, so this is its end; the process's own end tells the rest.
            if let Some(control) = &control {
                monitor.poller.remove(control);
            }
            container.stage = Stage::Waiting { control };
        }
        other @ (Stage::StartingOutside | Stage::Running | Stage::Ended) => container.stage = other,
    }
}

/// A container's process has become its program.
pub fn started(monitor: &mut Monitor, key: Key, reply: ReplyTo, at: Timestamp) {
    if let Some(container) = monitor.containers.get_mut(&key) {
        container.promote();
        container.hand_over = None;
        container.stage = Stage::Running;
        container.state = State::Running { started_at: at };
    }
    fault::point!("monitor.started");
    monitor.reply(reply, Ok(Reply::Started { at }));
    let Some(container) = monitor.containers.get_mut(&key) else { return };
    let pid = container.process.as_ref().map(|process| process.pid);
    let Some(hooks) = container.hooks.take() else { return };
    let id = container.id.clone();
    monitor.send_to_tell(id, &hooks, Point::Started(pid));
    // Put back for its end.
    if let Some(container) = monitor.containers.get_mut(&key) {
        container.hooks = Some(hooks);
    }
}

fn set_up(
    monitor: &mut Monitor,
    key: Key,
    reply: ReplyTo,
    control: launcher::Control,
    mut spans: Vec<Span>,
    report: Report,
) {
    fault::point!("monitor.set-up");
    let Some(mut container) = monitor.containers.remove(&key) else { return };
    let refusal = match report {
        Report::Ready { spans: childs, warnings, terminal } => {
            spans.extend(childs.into_iter().map(span));
            match terminal.map_or(Ok(()), |t| use_terminal(monitor, &mut container, key, t)) {
                Ok(()) => {
                    let pid = container.process.as_ref().map(|p| p.pid.as_raw_nonzero().get());
                    container.stage = Stage::Waiting { control: Some(control) };
                    monitor.containers.insert(key, container);
                    return monitor
                        .reply(reply, Ok(Reply::Created(Created { pid, spans, warnings })));
                }
                Err(e) => failed("open the container's terminal")(e),
            }
        }
        Report::AtHooks => {
            let is_dead = container.process.is_none();
            container.stage = Stage::SettingUp { reply, control, spans };
            monitor.containers.insert(key, container);
            if is_dead {
                // Its end is dealt with next, and is the answer.
                return;
            }
            if let Err(error) = monitor.send_to_prepare(key) {
                set_up_failed(monitor, key, failed("run the hooks")(error));
            }
            return;
        }
        Report::Failed(error) => launch_failed(error),
        Report::Executed => ended_early(&container, ""),
    };
    monitor.containers.insert(key, container);
    discard(monitor, key);
    monitor.reply(reply, Err(refusal));
}

/// Takes a container back that is being set up and cannot be, and tells why.
pub fn set_up_failed(monitor: &mut Monitor, key: Key, refusal: Refusal) {
    let Some(container) = monitor.containers.get(&key) else { return };
    let Stage::SettingUp { reply, .. } = &container.stage else { return };
    let reply = *reply;
    discard(monitor, key);
    monitor.reply(reply, Err(refusal));
}

/// Reads a container's terminal from now on, and keeps it for those who attach.
pub fn use_terminal(
    monitor: &Monitor,
    container: &mut Container,
    key: Key,
    terminal: OwnedFd,
) -> io::Result<()> {
    let inside = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    container.terminal = Some(Terminal {
        controller: terminal.try_clone()?,
        _inside: ioctl_tiocgptpeer(&terminal, inside).ok(),
    });
    read_stream(monitor, container, key, Stream::Stdout, Some(terminal))
}

/// Takes a container back that could not be set up. Its process is waited for by the loop, as any other.
fn discard(monitor: &mut Monitor, key: Key) {
    let Some(container) = monitor.containers.remove(&key) else { return };
    if let Some(process) = &container.process {
        kill(&process.pidfd);
    }
    monitor.take_back(key, container);
}
