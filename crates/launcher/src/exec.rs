//! One more process in a running container.
//!
//! Whoever enters the container's namespaces has the host's privileges while it does, so it stays out of
//! the container's PID namespace; the process that is born there has the container's privileges and no
//! others.

use std::convert::Infallible;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use cgroups::Doors;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_setaffinity};
use sys::{Memory, Namespaces, SingleThreaded};

use crate::child::{clean_slate, enter_cgroup, give_up, outside_uid};
use crate::control::{ChildControl, Order};
use crate::create::{self as launch, Born, HandsOver, Launched, Seat, Seated, Tracers};
use crate::error::{Failure, LaunchError, Phase};
use crate::identity::{self, Filter};
use crate::plan::ProcessPlan;
use crate::stdio::{ChildStdio, Console, use_streams, use_terminal};
use crate::users::Users;

/// A process to add to a container.
#[derive(Debug)]
pub struct Exec<'a> {
    /// The process, with the container's identity.
    pub process: &'a ProcessPlan,
    /// The container's first process, alive.
    pub container: BorrowedFd<'a>,
    /// Its standard streams.
    pub stdio: ChildStdio<'a>,
    /// The container's filter.
    pub filter: Option<Filter<'a>>,
    /// The container's cgroup, or one below it.
    pub seat: Seat<'a>,
    /// The pod's user namespace.
    pub users: Option<Users<'a>>,
    /// Who is in the container's PID namespace.
    pub tracers: Tracers,
    /// The file through which a process enters the container's class of caches and memory bandwidth
    /// ([`crate::RdtGroup::door`]).
    pub class: Option<BorrowedFd<'a>>,
}

/// The warning that a process has all CPUs of its container, which has none of those that execs are kept to.
pub const NO_CPUS_LEFT: &str =
    "the container has none of the CPUs that its execs are kept to, so they have all of its CPUs";

/// All that an exec enters at once; of the PID namespace only its child-to-be becomes a part, and users
/// come last.
const ENTERED: Namespaces = Namespaces::MOUNT
    .with(Namespaces::PID)
    .with(Namespaces::CGROUP)
    .with(Namespaces::UTS)
    .with(Namespaces::IPC)
    .with(Namespaces::NETWORK);

/// Starts a process inside the container. It becomes its program without waiting for an order; the end
/// of its control stream says that it has.
///
/// # Errors
/// What failed on this side; no process is left then. What fails on the other side is reported.
pub fn exec(proof: &SingleThreaded, request: &Exec<'_>) -> Result<Launched, LaunchError> {
    let mut keep = vec![request.container];
    keep.extend(request.stdio.descriptors());
    keep.extend(request.users.map(|users| users.namespace));
    keep.extend(request.class);
    let order = launch::Order {
        origin: Instant::now(),
        namespaces: Namespaces::NONE,
        seat: request.seat,
        hands_over: HandsOver::Yes,
        keep: &keep,
    };
    launch::launch(proof, &order, |born| run(proof, request, born))
}

fn run(proof: &SingleThreaded, request: &Exec<'_>, born: Born) -> Infallible {
    let Born { control, doors, seated, note } = born;
    let last = identity::Last { process: request.process, filter: request.filter, hooks: None };
    let result = enter(request, &control, doors, seated).and_then(|()| match note {
        Some(note) => {
            identity::hand_over(proof, note, last, request.tracers, Memory::Lent, &control)
        }
        None => Err(Failure::new("make the process", "it has no way in").during(Phase::Exec)),
    });
    match result {
        Err(error) => give_up(&control, error),
    }
}

fn enter(
    request: &Exec<'_>,
    control: &ChildControl,
    doors: Doors,
    seated: Seated,
) -> Result<(), LaunchError> {
    let mut warnings = Vec::new();
    let cpus = request.process.exec_cpus.as_deref();
    match keep_to(cpus.and_then(|cpus| cpus.initial.as_ref())) {
        // CPUs that the runtime's own cgroup has not: it is about to leave that.
        Err(Errno::INVAL) | Ok(()) => {}
        Err(e) => return Err(not_kept(e)),
    }
    enter_cgroup(doors).map_err(|f| f.during(Phase::JoinCgroup))?;
    // Whoever this process hands its place to is born in the same class.
    request.class.map_or(Ok(()), enter_class).map_err(|f| f.during(Phase::JoinCgroup))?;
    clean_slate(request.process, &mut warnings).map_err(|f| f.during(Phase::JoinNamespaces))?;
    if seated == Seated::OnOrder {
        control.wait_for(Order::Joined);
    }
    let mut no_cpus = false;
    match keep_to(cpus.and_then(|cpus| cpus.last.as_ref())) {
        Err(Errno::INVAL) if cpus.is_some_and(|cpus| cpus.or_all) => {
            warnings.push(NO_CPUS_LEFT.to_owned());
            no_cpus = true;
        }
        kept => kept.map_err(not_kept)?,
    }
    sys::join_namespaces_of(request.container, ENTERED).map_err(|e| {
        Failure::at("enter the container's namespaces")(e).during(Phase::JoinNamespaces)
    })?;
    let terminal = stdio(request).map_err(|f| f.during(Phase::Stdio))?;
    // The pod's, and not one that the container's process may have made and entered since.
    let entered = request.users.map(|users| identity::Entered::Belonging(users.namespace));
    sys::close_on_exec_from(3)
        .map_err(Failure::at("close what is not the program's"))
        .and_then(|()| identity::assume(request.process, request.filter, entered, &mut warnings))
        .map_err(|f| f.during(Phase::Identity))?;
    // The rest has been told of the container.
    if terminal.is_some() || no_cpus {
        control.ready(Vec::new(), warnings, terminal.as_ref().map(OwnedFd::as_fd));
    }
    Ok(())
}

/// Keeps this process, and whoever it hands its place to, to these CPUs.
fn keep_to(cpus: Option<&CpuSet>) -> rustix::io::Result<()> {
    cpus.map_or(Ok(()), |cpus| sched_setaffinity(None, cpus))
}

fn not_kept(error: Errno) -> LaunchError {
    Failure::at("keep it to the CPUs of execCPUAffinity")(error).during(Phase::Identity)
}

/// To resctrl, 0 is whoever writes it.
fn enter_class(tasks: BorrowedFd<'_>) -> Result<(), Failure> {
    let written = rustix::io::write(tasks, b"0");
    written.map(drop).map_err(Failure::at("enter the container's RDT class"))
}

fn stdio(request: &Exec<'_>) -> Result<Option<OwnedFd>, Failure> {
    let uid = outside_uid(request.process, request.users)?;
    match request.stdio {
        ChildStdio::Streams { stdin, stdout, stderr } => {
            use_streams([stdin, stdout, stderr], uid).map(|()| None)
        }
        ChildStdio::Terminal => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::open("/", flags, rustix::fs::Mode::empty())
                .map_err(Failure::at("open the root"))?;
            let size = request.process.terminal.unwrap_or_default();
            use_terminal(root.as_fd(), size, uid, Console::Keep).map(Some)
        }
    }
}
