//! A container up to the point where it waits for its start.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use cri_log::Stream;
use launcher::{ChildStdio, LaunchError, Launched, PidHome, Plan, Report};
use model::{Class, Span, State};
use monitor_api::{Create, Created, PidChoice, Refusal, Reply, Runtime};
use runtime_spec::Spec;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::cgroup::ContainerCgroup;
use crate::container::{Container, Identity, Launcher, Process, ReplyTo, Stage, StoredFilter, start_error};
use crate::external::ExternalContainer;
use crate::monitor::{Monitor, kill, wait_for};
use crate::output::Output;
use crate::poller::{Key, Source};
use crate::refusal::{failed, launch_failed, refuse};

/// Begins to set a container up; `None` when the answer comes with the child's report.
pub fn create(monitor: &mut Monitor, reply: ReplyTo, request: Create) -> Result<Option<Reply>, Refusal> {
    if monitor.pod.is_none() {
        return Err(refuse(Class::FailedPrecondition, "this monitor has no pod yet"));
    }
    if monitor.find(&request.container).is_ok() {
        return Err(refuse(Class::FailedPrecondition, format!("container {} is there already", request.container)));
    }
    let spec = read_spec(&request.bundle)?;
    let created = match request.runtime.clone() {
        Runtime::Own => own(monitor, reply, request, &spec).map(|()| None),
        Runtime::External { program, options, root } => {
            let outside = ExternalContainer { program, options, root, bundle: request.bundle.clone() };
            external(monitor, request, &spec, outside).map(Some)
        }
    };
    drop(spec);
    // A spec is the largest thing that a monitor ever reads, and it is done with it.
    sys::return_free_memory();
    created
}

fn read_spec(bundle: &Path) -> Result<Spec, Refusal> {
    let path = bundle.join("config.json");
    let bytes = std::fs::read(&path).map_err(failed(format!("read {}", path.display())))?;
    serde_json::from_slice(&bytes).map_err(|e| refuse(Class::InvalidArgument, format!("{}: {e}", path.display())))
}

fn own(monitor: &mut Monitor, reply: ReplyTo, request: Create, spec: &Spec) -> Result<(), Refusal> {
    let plan = Plan::read(spec).map_err(|bad| launch_failed(bad.into()))?;
    let filter = read_filter(monitor, &request.bundle)?;
    let (cgroup, mut spans) = ContainerCgroup::create(spec).map_err(launch_failed)?;
    let streams = Streams::open(&request);
    let launched = streams.and_then(|streams| {
        let launched = launch(monitor, &request, &plan, filter.as_ref(), &cgroup, &streams).map_err(launch_failed)?;
        Ok((streams, launched))
    });
    let (streams, launched) = match launched {
        Ok(both) => both,
        Err(refusal) => {
            cgroup.remove();
            return Err(refusal);
        }
    };
    let Launched { child, control, spans: own_spans } = launched;
    spans.extend(own_spans.into_iter().map(span));
    let key = monitor.poller.new_key();
    let (output, opened) = Output::new(request.log);
    let mut container = Container {
        id: request.container,
        stage: Stage::Waiting { control: None },
        state: State::Created,
        process: Some(Process { pid: child.pid, pidfd: child.pidfd }),
        launcher: Launcher::Own(Box::new(Identity { process: plan.process, filter })),
        cgroup,
        output,
        stdin: streams.our_stdin,
    };
    let watched = opened
        .and_then(|()| attach(monitor, &mut container, key, Stream::Stdout, streams.our_stdout))
        .and_then(|()| attach(monitor, &mut container, key, Stream::Stderr, streams.our_stderr))
        .and_then(|()| monitor.poller.add(&control, Source::Launch(key)));
    container.stage = Stage::SettingUp { reply, control, spans };
    monitor.containers.insert(key, container);
    watched.map_err(|e| {
        discard(monitor, key);
        failed("open the container's log and streams")(e)
    })
}

/// An external runtime makes the container's process when it is started; until then there is its root
/// file system and a cgroup by name.
fn external(
    monitor: &mut Monitor,
    request: Create,
    spec: &Spec,
    outside: ExternalContainer,
) -> Result<Reply, Refusal> {
    if request.pid != PidChoice::Spec && !matches!(request.pid, PidChoice::Pod) {
        let message = "a process namespace of another container needs the default runtime handler";
        return Err(refuse(Class::Unimplemented, message));
    }
    let mut spans = crate::pod::Spans::new();
    outside.prepare(&request.rootfs)?;
    spans.ended("root");
    let (output, opened) = Output::new(request.log);
    opened.map_err(failed("open the container's log"))?;
    let key = monitor.poller.new_key();
    let cgroup = ContainerCgroup::named(spec).map_err(launch_failed)?;
    let container = Container {
        id: request.container,
        stage: Stage::Waiting { control: None },
        state: State::Created,
        process: None,
        launcher: Launcher::External(Box::new(outside.with_stdio(request.stdio))),
        cgroup,
        output,
        stdin: None,
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
    if let Some(known) = monitor.filters.iter().find(|known| known.flags == flags && *known.program == *program) {
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
        let null = |write: bool| File::options().read(true).write(write).open("/dev/null").map(OwnedFd::from);
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from);
        let open = || -> io::Result<Self> {
            if request.stdio.tty {
                let (stdin, stdout, stderr) = (null(true)?, null(true)?, null(true)?);
                let (our_stdin, our_stdout, our_stderr) = (None, None, None);
                return Ok(Self { stdin, stdout, stderr, our_stdin, our_stdout, our_stderr, is_terminal: true });
            }
            let (stdin, our_stdin) = if request.stdio.stdin {
                let (read, write) = pipe()?;
                (read, Some(write))
            } else {
                (null(false)?, None)
            };
            let ((our_stdout, stdout), (our_stderr, stderr)) = (pipe()?, pipe()?);
            let (our_stdout, our_stderr) = (Some(our_stdout), Some(our_stderr));
            Ok(Self { stdin, stdout, stderr, our_stdin, our_stdout, our_stderr, is_terminal: false })
        };
        open().map_err(failed("open the standard streams"))
    }

    fn childs(&self) -> ChildStdio<'_> {
        if self.is_terminal {
            ChildStdio::Terminal
        } else {
            let (stdin, stdout, stderr) = (self.stdin.as_fd(), self.stdout.as_fd(), self.stderr.as_fd());
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
    let unavailable = |what: &str| LaunchError { phase: launcher::Phase::Clone, message: what.to_owned(), errno: None };
    let pod = monitor.pod.as_ref().ok_or_else(|| unavailable("this monitor has no pod yet"))?;
    let home = match &request.pid {
        PidChoice::Spec => None,
        PidChoice::Pod => Some(pod.init.as_ref().map(|init| init.pidfd.as_fd())),
        PidChoice::Target(target) => {
            let found = monitor.containers.values().find(|c| c.id == *target);
            Some(found.and_then(|c| c.process.as_ref()).map(|p| p.pidfd.as_fd()))
        }
    };
    let pid_home = match home {
        None => PidHome::Planned,
        Some(Some(process)) => PidHome::With(process),
        Some(None) => return Err(unavailable("the process whose PID namespace it was to share does not run")),
    };
    cgroup.seated(|seat| {
        let order = launcher::Create {
            plan,
            rootfs: &request.rootfs,
            place: &request.bundle.join("rootfs"),
            stdio: streams.childs(),
            filter: filter.map(StoredFilter::as_filter),
            host_mounts: pod.host_mounts.as_fd(),
            seat,
            cgroup_view: cgroup.view(),
            pid_home,
        };
        launcher::create(&monitor.proof, &order)
    })
}

/// Begins to read one of a container's streams.
pub fn attach(
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
    container.output.attach(stream, fd)
}

pub fn span(span: launcher::Span) -> Span {
    Span { phase: span.phase.as_str().into(), start_us: span.start_us, took_us: span.took_us }
}

/// A launched process has something to say.
pub fn launch_reported(monitor: &mut Monitor, key: Key) {
    let Some(container) = monitor.containers.get_mut(&key) else { return };
    match std::mem::replace(&mut container.stage, Stage::Running) {
        Stage::SettingUp { reply, control, spans } => set_up(monitor, key, reply, control, spans),
        Stage::Starting { reply, control, at } => match control.report() {
            Report::Executed => {
                container.state = State::Running { started_at: at };
                monitor.reply(reply, Ok(Reply::Started { at }));
            }
            Report::Failed(error) => {
                let exit = start_error(error.message.clone());
                monitor.exited(key, exit);
                monitor.reply(reply, Err(launch_failed(error)));
            }
            Report::Ready { .. } => container.stage = Stage::Starting { reply, control, at },
        },
        Stage::Waiting { control } => {
            // Nothing is asked of it, so this is its end; the process's own end tells the rest.
            if let Some(control) = &control {
                monitor.poller.remove(control);
            }
            container.stage = Stage::Waiting { control };
        }
        other @ (Stage::StartingOutside { .. } | Stage::Running | Stage::Ended) => container.stage = other,
    }
}

fn set_up(monitor: &mut Monitor, key: Key, reply: ReplyTo, control: launcher::Control, mut spans: Vec<Span>) {
    let Some(mut container) = monitor.containers.remove(&key) else { return };
    let refusal = match control.report() {
        Report::Ready { spans: childs, warnings, terminal } => {
            spans.extend(childs.into_iter().map(span));
            match attach(monitor, &mut container, key, Stream::Stdout, terminal) {
                Ok(()) => {
                    let pid = container.process.as_ref().map(|p| p.pid.as_raw_nonzero().get());
                    container.stage = Stage::Waiting { control: Some(control) };
                    monitor.containers.insert(key, container);
                    return monitor.reply(reply, Ok(Reply::Created(Created { pid, spans, warnings })));
                }
                Err(e) => failed("open the container's terminal")(e),
            }
        }
        Report::Failed(error) => launch_failed(error),
        Report::Executed => {
            let code = container.process.as_ref().map_or(255, |p| {
                kill(&p.pidfd);
                wait_blocking(p)
            });
            refuse(Class::Internal, format!("its process ended with {code} while it was being set up"))
        }
    };
    monitor.containers.insert(key, container);
    discard(monitor, key);
    monitor.reply(reply, Err(refusal));
}

/// Takes a container back that could not be set up.
fn discard(monitor: &mut Monitor, key: Key) {
    let Some(container) = monitor.containers.remove(&key) else { return };
    if let Some(process) = &container.process {
        kill(&process.pidfd);
        wait_blocking(process);
    }
    container.cgroup.kill_all();
    container.cgroup.remove();
}

/// Waits for a process that has been killed, which takes it microseconds.
fn wait_blocking(process: &Process) -> i32 {
    let mut ready = [rustix::event::PollFd::new(&process.pidfd, rustix::event::PollFlags::IN)];
    let _ = rustix::event::poll(&mut ready, None);
    wait_for(process.pid)
}
