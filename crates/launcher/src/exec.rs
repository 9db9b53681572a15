//! One more process in a running container.

use std::convert::Infallible;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;

use sys::{Namespaces, SingleThreaded};

use crate::child::{adjust_oom_score, clean_slate, give_up};
use crate::control::{ChildControl, Order};
use crate::create::{Launched, PidHome, Seat, Seated, launch};
use crate::error::{Failure, LaunchError, Phase};
use crate::identity::{self, Filter};
use crate::plan::ProcessPlan;
use crate::stdio::{ChildStdio, use_streams, use_terminal};

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
}

/// All that an exec enters itself; the PID namespace is the parent's to choose, users come later.
const ENTERED: Namespaces = Namespaces::MOUNT
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
    let home = PidHome::With(request.container);
    let mut keep = vec![request.container];
    keep.extend(request.stdio.descriptors());
    launch(proof, Instant::now(), Namespaces::NONE, request.seat, home, &keep, |control, seated| {
        run(request, &control, seated)
    })
}

fn run(request: &Exec<'_>, control: &ChildControl, seated: Seated) -> Infallible {
    let result = enter(request, control, seated).and_then(|()| {
        identity::become_program(request.process, request.filter).map_err(|f| f.during(Phase::Exec))
    });
    match result {
        Err(error) => give_up(control, error),
    }
}

fn enter(request: &Exec<'_>, control: &ChildControl, seated: Seated) -> Result<(), LaunchError> {
    let mut warnings = Vec::new();
    clean_slate()
        .and_then(|()| adjust_oom_score(request.process, &mut warnings))
        .map_err(|f| f.during(Phase::JoinNamespaces))?;
    if seated == Seated::OnOrder {
        control.wait_for(Order::Joined);
    }
    sys::join_namespaces_of(request.container, ENTERED).map_err(|e| {
        Failure::at("enter the container's namespaces")(e).during(Phase::JoinNamespaces)
    })?;
    let terminal = stdio(request).map_err(|f| f.during(Phase::Stdio))?;
    sys::close_on_exec_from(3)
        .map_err(Failure::at("close what is not the program's"))
        .and_then(|()| identity::assume(request.process, request.filter, &mut warnings))
        .map_err(|f| f.during(Phase::Identity))?;
    if terminal.is_some() {
        control.ready(Vec::new(), warnings, terminal.as_ref().map(std::os::fd::OwnedFd::as_fd));
    }
    Ok(())
}

fn stdio(request: &Exec<'_>) -> Result<Option<std::os::fd::OwnedFd>, Failure> {
    match request.stdio {
        ChildStdio::Streams { stdin, stdout, stderr } => {
            use_streams([stdin, stdout, stderr], request.process.uid).map(|()| None)
        }
        ChildStdio::Terminal => {
            let flags = rustix::fs::OFlags::PATH
                | rustix::fs::OFlags::DIRECTORY
                | rustix::fs::OFlags::CLOEXEC;
            let root = rustix::fs::open("/", flags, rustix::fs::Mode::empty())
                .map_err(Failure::at("open the root"))?;
            use_terminal(
                root.as_fd(),
                request.process.terminal.unwrap_or_default(),
                request.process.uid,
            )
            .map(Some)
        }
    }
}
