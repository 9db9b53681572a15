//! The launcher's side of a launch: make the process, seat it in its cgroup, listen to it.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::time::Instant;

use cgroups::{Doors, Entrance};
use model::Rootfs;
use rustix::process::Pid;
use sys::{Child, CloneFlags, HandOver, Namespaces, SingleThreaded, clone_child};

use crate::child::{self, give_up};
use crate::control::{self, ChildControl, Control, pair};
use crate::error::{Failure, LaunchError, Phase};
use crate::identity::Filter;
use crate::mounts::CgroupView;
use crate::plan::{BadSpec, Plan};
use crate::stdio::ChildStdio;
use crate::timeline::{Span, Timeline};
use crate::users::{Users, end};

/// How a new process comes into its cgroup.
#[derive(Clone, Copy)]
pub enum Seat<'a> {
    /// It is born there (v2), and goes there itself before it does anything else (v1).
    Entered(&'a Entrance),
    /// It is moved there by this function, once it exists, and makes the kernel wait for that.
    Moved(&'a dyn Fn(Pid) -> io::Result<()>),
    /// It stays where the launcher is.
    Stay,
    /// Somebody else moves it there beside this, and [`Control::joined`] tells it.
    Later,
}

impl std::fmt::Debug for Seat<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Entered(_) => "Entered",
            Self::Moved(_) => "Moved",
            Self::Stay => "Stay",
            Self::Later => "Later",
        })
    }
}

/// In which PID namespace a process lives.
#[derive(Debug, Clone, Copy)]
pub enum PidHome<'a> {
    /// In a new one, or in the launcher's own, as the plan says.
    Planned,
    /// In that of another process. Whoever sets up has the host's privileges and must not be seen there, so
    /// it stays outside; it hands its place to a process that is born there when nothing is left to be
    /// taken from it.
    With {
        /// The process, alive.
        process: BorrowedFd<'a>,
        /// Where the proc file system of its PID namespace comes from.
        proc: ProcSource<'a>,
        /// Who is there.
        tracers: Tracers,
    },
}

/// Where the proc file system of a PID namespace comes from that this process is not in.
#[derive(Debug, Clone, Copy)]
pub enum ProcSource<'a> {
    /// It is mounted at this place of the launcher's mount namespace.
    At(&'a Path),
    /// A new one where the kernel can do that (Linux 6.18), else a copy of the one that the process has.
    OfProcess,
}

/// Whether anything in a PID namespace may have CAP_SYS_PTRACE, and so might take over what it sees there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracers {
    /// Nothing has it. A process that is not dumpable is safe.
    Impossible,
    /// Something may have it. A process that is seen must have no privilege that is not its own.
    Possible,
}

/// What becomes a container's root.
#[derive(Debug, Clone, Copy)]
pub enum RootSource<'a> {
    /// Layers, mounted for it.
    Layers(&'a Rootfs),
    /// A directory as it is, with what is mounted below it: whoever made it has settled who owns what.
    Directory(&'a Path),
}

/// A container to launch.
#[derive(Debug)]
pub struct Create<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// Its root file system.
    pub root: RootSource<'a>,
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
    /// The pod's user namespace.
    pub users: Option<Users<'a>>,
    /// Whether a program that is not there is a failure now, and not only when it is started.
    pub finds_program: bool,
    /// What is mounted below this directory is mounted in the launcher's mount namespace; all other paths
    /// are the host's.
    pub own_tree: &'a Path,
}

/// A process on its way: it reports through `control`.
#[derive(Debug)]
pub struct Launched {
    /// The process.
    pub child: Child,
    /// The socket to it.
    pub control: Control,
    /// Where it is noted whom the process hands its place to, if it will. Its own end means nothing then,
    /// once somebody is noted.
    pub hand_over: Option<HandOver>,
    /// Where the launcher's own time went.
    pub spans: Vec<Span>,
}

/// Starts the launch of a container. Its process sets itself up, then says [`crate::Report::Ready`]
/// and waits for [`Control::start`].
///
/// # Errors
/// What failed on this side; no process is left then. What fails on the other side is reported.
pub fn create(proof: &SingleThreaded, request: &Create<'_>) -> Result<Launched, LaunchError> {
    if request.plan.wants_users && request.users.is_none() {
        return Err(BadSpec::new("linux.namespaces[User]", "the pod has no user namespace").into());
    }
    let origin = Instant::now();
    let namespaces = request.plan.new_namespaces;
    // The view of the cgroups is cut out once the process is in its own, so not by clone.
    let at_birth = BORN_WITH
        .into_iter()
        .filter(|kind| namespaces.contains(*kind))
        .fold(Namespaces::NONE, Namespaces::with);
    let mut keep = vec![request.host_mounts];
    keep.extend(request.stdio.descriptors());
    keep.extend(request.users.map(|users| users.namespace));
    let (pid, hands_over) = match request.pid_home {
        PidHome::Planned => (namespaces.contains(Namespaces::PID), HandsOver::No),
        PidHome::With { process, .. } => {
            keep.push(process);
            (false, HandsOver::Yes)
        }
    };
    let at_birth = at_birth.with_if(pid, Namespaces::PID);
    let order = Order { origin, namespaces: at_birth, seat: request.seat, hands_over, keep: &keep };
    launch(proof, &order, |born| child::run(proof, request, born, origin))
}

/// The namespaces that a process is born with if it is to have its own; not those of PIDs and cgroups.
const BORN_WITH: [Namespaces; 4] =
    [Namespaces::MOUNT, Namespaces::NETWORK, Namespaces::IPC, Namespaces::UTS];

/// Whether the child comes into its cgroup by itself, or must wait for word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seated {
    ByItself,
    OnOrder,
}

/// Whether a process hands its place over, or becomes the program itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandsOver {
    No,
    Yes,
}

/// A process to make.
pub(crate) struct Order<'a> {
    pub(crate) origin: Instant,
    pub(crate) namespaces: Namespaces,
    pub(crate) seat: Seat<'a>,
    pub(crate) hands_over: HandsOver,
    /// All that the child has of our descriptors.
    pub(crate) keep: &'a [BorrowedFd<'a>],
}

/// What a child has of its own.
pub(crate) struct Born {
    pub(crate) control: ChildControl,
    /// What it opens to come into its cgroup.
    pub(crate) doors: Doors,
    pub(crate) seated: Seated,
    pub(crate) note: Option<HandOver>,
}

/// Clones, seats and returns; `body` is the child.
pub(crate) fn launch(
    proof: &SingleThreaded,
    order: &Order<'_>,
    body: impl FnOnce(Born) -> Infallible,
) -> Result<Launched, LaunchError> {
    let failed = |what: &'static str| move |e: io::Error| Failure::at(what)(e).during(Phase::Clone);
    let mut timeline = Timeline::new(order.origin);
    let ends = Cell::new(Some(pair().map_err(failed("make a control socket"))?));
    let note = Cell::new(match order.hands_over {
        HandsOver::Yes => Some(HandOver::new().map_err(failed("get memory for a hand-over"))?),
        HandsOver::No => None,
    });
    let (cgroup, seated) = match order.seat {
        Seat::Entered(way) => (way.birth(), Seated::ByItself),
        Seat::Moved(_) | Seat::Later => (None, Seated::OnOrder),
        Seat::Stay => (None, Seated::ByItself),
    };
    let flags = CloneFlags { namespaces: order.namespaces, cgroup };
    let what = if cgroup.is_some() { "make the process in its cgroup" } else { "make the process" };
    let child = clone_child(proof, flags, |in_child| match ends.take() {
        Some((_ours, control)) => {
            // Of its own copy: the next one may go the same way.
            let doors = match order.seat {
                Seat::Entered(way) => way.take_doors(),
                Seat::Moved(_) | Seat::Later | Seat::Stay => Some(Doors::default()),
            };
            let Some(doors) = doors else {
                let lost = Failure::new("move the process into its cgroup", "it has no way in");
                give_up(&control, lost.during(Phase::JoinCgroup));
            };
            let given = order.keep.iter().copied().chain([control.as_fd()]);
            let kept: Vec<_> = given.chain(doors.descriptors()).collect();
            match in_child.close_all_but(&kept) {
                Ok(()) => body(Born { control, doors, seated, note: note.take() }),
                Err(e) => give_up(&control, failed("close what is the parent's")(e)),
            }
        }
        None => sys::exit_now(1),
    });
    let child = child.map_err(|e| Failure::at_birth(what)(e).during(Phase::Clone))?;
    let (Some((control, _childs)), hand_over) = (ends.take(), note.take()) else {
        return Err(Failure::new("make the process", "its socket is gone").during(Phase::Clone));
    };
    timeline.ended(Phase::Clone);
    let kept_apart = hand_over.as_ref().map_or(Ok(()), HandOver::keep_from_children);
    if let Err(error) = kept_apart {
        end(&child);
        return Err(failed("keep the hand-over's memory apart")(error));
    }
    if let Seat::Moved(join) = order.seat {
        let joined = join(child.pid).and_then(|()| control.order(control::Order::Joined));
        if let Err(error) = joined {
            end(&child);
            return Err(
                Failure::at("move the process into its cgroup")(error).during(Phase::JoinCgroup)
            );
        }
        timeline.ended(Phase::JoinCgroup);
    }
    Ok(Launched { child, control, hand_over, spans: timeline.spans })
}
