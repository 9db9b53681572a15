//! The launcher's side of a launch: make the process, seat it in its cgroup, listen to it.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::time::Instant;

use model::Rootfs;
use rustix::process::Pid;
use sys::{Child, CloneFlags, Namespaces, SingleThreaded, clone_child};

use crate::child::{self, Outside, give_up};
use crate::control::{ChildControl, Control, Order, pair};
use crate::error::{Failure, LaunchError, Phase};
use crate::identity::Filter;
use crate::mounts::CgroupView;
use crate::plan::Plan;
use crate::stdio::ChildStdio;
use crate::timeline::{Span, Timeline};

/// How a new process comes into its cgroup.
#[derive(Clone, Copy)]
pub enum Seat<'a> {
    /// It is born there (v2).
    Born(BorrowedFd<'a>),
    /// It is moved there by this function, once it exists (v1).
    Moved(&'a dyn Fn(Pid) -> io::Result<()>),
    /// It stays where the launcher is.
    Stay,
}

impl std::fmt::Debug for Seat<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Born(_) => "Born",
            Self::Moved(_) => "Moved",
            Self::Stay => "Stay",
        })
    }
}

/// In which PID namespace a process lives.
#[derive(Debug, Clone, Copy)]
pub enum PidHome<'a> {
    /// In a new one, or in the launcher's own, as the plan says.
    Planned,
    /// In that of this process.
    With(BorrowedFd<'a>),
}

/// A container to launch.
#[derive(Debug)]
pub struct Create<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// Its root file system.
    pub rootfs: &'a Rootfs,
    /// An empty directory where the root gets its place inside the new mount namespace.
    pub place: &'a Path,
    /// Its standard streams.
    pub stdio: ChildStdio<'a>,
    /// Its system call filter.
    pub filter: Option<Filter<'a>>,
    /// The host's mount namespace.
    pub host_mounts: BorrowedFd<'a>,
    /// Its cgroup.
    pub seat: Seat<'a>,
    /// What it is shown of the cgroups.
    pub cgroup_view: &'a CgroupView,
    /// Its PID namespace.
    pub pid_home: PidHome<'a>,
}

/// A process on its way: it reports through `control`.
#[derive(Debug)]
pub struct Launched {
    /// The process.
    pub child: Child,
    /// The socket to it.
    pub control: Control,
    /// Where the launcher's own time went.
    pub spans: Vec<Span>,
}

/// Starts the launch of a container. Its process sets itself up, then says [`crate::Report::Ready`]
/// and waits for [`Control::start`].
///
/// # Errors
/// What failed on this side; no process is left then. What fails on the other side is reported.
pub fn create(proof: &SingleThreaded, request: &Create<'_>) -> Result<Launched, LaunchError> {
    let origin = Instant::now();
    let namespaces = request.plan.new_namespaces;
    // The view of the cgroups is cut out once the process is in its own, so not by clone.
    let at_birth = without(namespaces, Namespaces::CGROUP);
    let mut keep = vec![request.host_mounts];
    keep.extend(request.stdio.descriptors());
    launch(proof, origin, at_birth, request.seat, request.pid_home, &keep, |control, seated| {
        let outside = Outside { request, control, seated, origin };
        child::run(outside)
    })
}

fn without(set: Namespaces, left_out: Namespaces) -> Namespaces {
    [
        Namespaces::MOUNT,
        Namespaces::PID,
        Namespaces::NETWORK,
        Namespaces::IPC,
        Namespaces::UTS,
        Namespaces::CGROUP,
    ]
    .into_iter()
    .filter(|kind| set.contains(*kind) && *kind != left_out)
    .fold(Namespaces::NONE, Namespaces::with)
}

/// Whether the child is in its cgroup from the beginning, or must wait for word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seated {
    FromBirth,
    OnOrder,
}

/// Clones, seats and returns; `body` is the child, which has of our descriptors only those in `keep`.
pub(crate) fn launch(
    proof: &SingleThreaded,
    origin: Instant,
    namespaces: Namespaces,
    seat: Seat<'_>,
    pid_home: PidHome<'_>,
    keep: &[BorrowedFd<'_>],
    body: impl FnOnce(ChildControl, Seated) -> std::convert::Infallible,
) -> Result<Launched, LaunchError> {
    let mut timeline = Timeline::new(origin);
    let ends = Cell::new(Some(
        pair().map_err(|e| Failure::at("make a control socket")(e).during(Phase::Clone))?,
    ));
    let cgroup = if let Seat::Born(fd) = seat { Some(fd) } else { None };
    let seated = if let Seat::Moved(_) = seat { Seated::OnOrder } else { Seated::FromBirth };
    let flags = CloneFlags { namespaces, cgroup };
    let clone = || {
        clone_child(proof, flags, |in_child| match ends.take() {
            Some((_ours, childs)) => {
                let kept: Vec<_> = keep.iter().copied().chain([childs.as_fd()]).collect();
                match in_child.close_all_but(&kept) {
                    Ok(()) => body(childs, seated),
                    Err(e) => give_up(
                        &childs,
                        Failure::at("close what is the parent's")(e).during(Phase::Clone),
                    ),
                }
            }
            None => sys::exit_now(1),
        })
    };
    let child = in_pid_home(pid_home, clone).map_err(|f| f.during(Phase::Clone))?;
    let Some((control, _childs)) = ends.take() else {
        return Err(Failure::new("make the process", "its socket is gone").during(Phase::Clone));
    };
    timeline.ended(Phase::Clone);
    if let Seat::Moved(join) = seat {
        let joined = join(child.pid).and_then(|()| control.order(Order::Joined));
        if let Err(error) = joined {
            end(&child);
            return Err(
                Failure::at("move the process into its cgroup")(error).during(Phase::JoinCgroup)
            );
        }
        timeline.ended(Phase::JoinCgroup);
    }
    Ok(Launched { child, control, spans: timeline.spans })
}

fn in_pid_home(
    home: PidHome<'_>,
    clone: impl FnOnce() -> io::Result<Child>,
) -> Result<Child, Failure> {
    let PidHome::With(process) = home else {
        return clone().map_err(Failure::at("make the process"));
    };
    let own =
        std::fs::File::open("/proc/self/ns/pid").map_err(Failure::at("open this PID namespace"))?;
    sys::join_namespaces_of(process, Namespaces::PID)
        .map_err(Failure::at("enter the PID namespace"))?;
    let child = clone().map_err(Failure::at("make the process"));
    // From here on children are to be born at home again; if that cannot be, nothing else may be launched.
    let back = sys::join_namespace(own.as_fd(), Namespaces::PID)
        .map_err(Failure::at("leave the PID namespace"));
    match (child, back) {
        (Ok(child), Err(failure)) => {
            end(&child);
            Err(failure)
        }
        (Ok(child), Ok(())) => Ok(child),
        (Err(failure), _) => Err(failure),
    }
}

/// Kills a child that has not been told to anybody and waits for it; it is in its first microseconds.
fn end(child: &Child) {
    let _ = rustix::process::pidfd_send_signal(&child.pidfd, rustix::process::Signal::KILL);
    let options = rustix::process::WaitIdOptions::EXITED;
    let _ = rustix::process::waitid(rustix::process::WaitId::PidFd(child.pidfd.as_fd()), options);
}
