//! The child's side of a launch: from the first instruction after clone to execve.
//!
//! Owns: the order of the steps. Always: the process is not dumpable from its first step on; while it has
//! privileges that the container has not, nothing that could trace it sees it; whatever fails is told
//! through the control socket, and the process ends.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use cgroups::Doors;
use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, set_dumpable_behavior, umask};
use sys::{Memory, MountAttr, Namespaces, SingleThreaded};

use crate::attach::change;
use crate::control::{ChildControl, Order};
use crate::create::{Born, Create, PidHome, RootSource, Seated};
use crate::error::{Failure, LaunchError, Phase};
use crate::host_mounts::HostTrees;
use crate::plan::{Attributes, Plan, ProcessPlan};
use crate::stdio::{ChildStdio, Console, use_streams, use_terminal};
use crate::timeline::Timeline;
use crate::users::Users;
use crate::{identity, kernel, labels, masks, mounts, paths, pivot, proc, rootfs};

/// How a child ends that could not become its program.
const NOT_LAUNCHED: i32 = 1;

/// Tells `error` and ends.
pub(crate) fn give_up(control: &ChildControl, error: LaunchError) -> ! {
    control.failed(error);
    sys::exit_now(NOT_LAUNCHED)
}

/// Sets the container up, waits for the order and becomes the program.
pub(crate) fn run(
    proof: &SingleThreaded,
    request: &Create<'_>,
    born: Born,
    origin: Instant,
) -> Infallible {
    let Born { control, doors, seated, note } = born;
    let mut setup = Setup {
        proof,
        request,
        control: &control,
        seated,
        timeline: Timeline::new(origin),
        warnings: Vec::new(),
    };
    setup.timeline.skip();
    let terminal = match setup.all(doors) {
        Ok(terminal) => terminal,
        Err(error) => give_up(&control, error),
    };
    let Setup { timeline, warnings, .. } = setup;
    control.ready(timeline.spans, warnings, terminal.as_ref().map(OwnedFd::as_fd));
    drop(terminal);
    control.wait_for(Order::Start);
    let hooks = request.plan.hooks.as_deref().filter(|h| !h.all.start_container.is_empty());
    let last = identity::Last { process: &request.plan.process, filter: request.filter, hooks };
    let result = match (request.pid_home, note) {
        (PidHome::With { tracers, .. }, Some(note)) => {
            // Between the order to make it and the one to start it somebody may have come who can trace it.
            identity::hand_over(proof, note, last, tracers, Memory::Copied, &control)
        }
        (PidHome::With { .. } | PidHome::Planned, _) => last.become_program(),
    };
    match result {
        Err(error) => give_up(&control, error),
    }
}

/// First of all: what the process makes and uses from now on is its cgroup's.
pub(crate) fn enter_cgroup(doors: Doors) -> Result<(), Failure> {
    doors.enter().map_err(Failure::at("move the process into its cgroup"))
}

/// What every launched process does next.
pub(crate) fn clean_slate(
    process: &ProcessPlan,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(Failure::at("become undumpable"))?;
    sys::reset_signals();
    umask(Mode::empty());
    // Keys of the runtime's session are not the container's. Without one of its own it has the one of its
    // user, which is not worse.
    match sys::new_session_keyring() {
        Err(e) if e.kind() != std::io::ErrorKind::Unsupported => {
            warnings.push(format!("it has no session keyring of its own: {e}"));
        }
        Ok(()) | Err(_) => {}
    }
    labels::set_for_exec(process)?;
    adjust_oom_score(process, warnings)
}

/// Writes the score through the host's own proc, before anything of the container's is mounted.
fn adjust_oom_score(process: &ProcessPlan, warnings: &mut Vec<String>) -> Result<(), Failure> {
    let Some(score) = process.oom_score_adj else { return Ok(()) };
    let what = "set oom_score_adj";
    let mut file =
        File::options().write(true).open("/proc/self/oom_score_adj").map_err(Failure::at(what))?;
    match file.write_all(score.to_string().as_bytes()) {
        Ok(()) => Ok(()),
        // Lowering it takes CAP_SYS_RESOURCE, which the host may keep back from the runtime.
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            warnings.push(format!(
                "oom_score_adj {score} was refused: {e}; it stays what the runtime has"
            ));
            Ok(())
        }
        Err(e) => Err(Failure::at(what)(e)),
    }
}

struct Setup<'a> {
    proof: &'a SingleThreaded,
    request: &'a Create<'a>,
    control: &'a ChildControl,
    seated: Seated,
    timeline: Timeline,
    warnings: Vec<String>,
}

impl Setup<'_> {
    fn all(&mut self, doors: Doors) -> Result<Option<OwnedFd>, LaunchError> {
        let Create { plan, users, .. } = *self.request;
        if !doors.is_empty() {
            self.step(Phase::JoinCgroup, |_| enter_cgroup(doors))?;
        }
        self.step(Phase::JoinNamespaces, |s| clean_slate(&plan.process, &mut s.warnings))?;
        let mut trees = self.step(Phase::Mounts, |s| {
            HostTrees::open(plan, s.request.host_mounts, s.request.own_tree)
        })?;
        let proc = self.step(Phase::JoinNamespaces, |s| {
            for (kind, namespace) in trees.namespaces.drain(..) {
                join(kind, namespace.as_fd())?;
            }
            match s.request.pid_home {
                PidHome::Planned => Ok(None),
                PidHome::With { process, proc, .. } => proc::of_home(process, proc).map(Some),
            }
        })?;
        let root = self.step(Phase::Root, |s| {
            let place = s.request.place;
            let root = match s.request.root {
                RootSource::Layers(layers) => {
                    rootfs::mount_detached(layers, place, users, &plan.mount_label)?
                }
                RootSource::Directory(path) => rootfs::copy_detached(path)?,
            };
            pivot::place_root(root.as_fd(), place)?;
            Ok(root)
        })?;
        let root = root.as_fd();
        self.step(Phase::Mounts, |s| s.mount(root, trees, proc))?;
        self.step(Phase::Paths, |_| prepare_paths(plan, root, users))?;
        let terminal = self.step(Phase::Stdio, |s| s.stdio(root))?;
        self.step(Phase::Kernel, |_| set_kernel(plan, users))?;
        if plan.hooks.as_ref().is_some_and(|hooks| hooks.before_pivot()) {
            // Hooks of the container run in these namespaces and are found by paths of the host, which end here.
            self.control.at_hooks();
            self.control.wait_for(Order::HooksRun);
            self.timeline.ended(Phase::Hooks);
        }
        self.step(Phase::Pivot, |_| {
            if plan.readonly_root {
                let read_only = Attributes { set: MountAttr::READ_ONLY, clear: 0 };
                change(root, read_only, false).map_err(Failure::at("make the root read-only"))?;
            }
            pivot::pivot_into(root)
        })?;
        self.step(Phase::Identity, |s| {
            sys::close_on_exec_from(3).map_err(Failure::at("close what is not the program's"))?;
            let entered = users.map(|u| identity::Entered::Owning(u.namespace));
            identity::assume(&plan.process, s.request.filter, entered, &mut s.warnings)
        })?;
        if self.request.finds_program {
            self.step(Phase::Exec, |_| identity::find(&plan.process))?;
        }
        Ok(terminal)
    }

    fn step<T>(
        &mut self,
        phase: Phase,
        action: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, LaunchError> {
        let done = action(self).map_err(|failure| failure.during(phase));
        self.timeline.ended(phase);
        done
    }

    fn mount(
        &mut self,
        root: BorrowedFd<'_>,
        trees: HostTrees,
        proc: Option<OwnedFd>,
    ) -> Result<(), Failure> {
        let Create { plan, users, cgroup_view, .. } = *self.request;
        let mut in_cgroup = false;
        let mut enter_cgroup = || {
            if in_cgroup {
                return Ok(());
            }
            in_cgroup = true;
            if self.seated == Seated::OnOrder {
                self.control.wait_for(Order::Joined);
            }
            if plan.new_namespaces.contains(Namespaces::CGROUP) {
                sys::unshare(Namespaces::CGROUP).map_err(Failure::at("make a cgroup namespace"))?;
            }
            Ok(())
        };
        let site = mounts::Site { proof: self.proof, plan, root, users, view: cgroup_view, proc };
        site.mount_all(trees, &mut enter_cgroup)?;
        enter_cgroup()
    }

    fn stdio(&self, root: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Failure> {
        let process = &self.request.plan.process;
        let uid = outside_uid(process, self.request.users)?;
        match self.request.stdio {
            ChildStdio::Streams { stdin, stdout, stderr } => {
                use_streams([stdin, stdout, stderr], uid).map(|()| None)
            }
            ChildStdio::Terminal => {
                let console = Console::Attach(self.request.users.map(Users::root));
                use_terminal(root, process.terminal.unwrap_or_default(), uid, console).map(Some)
            }
        }
    }
}

/// The process's user as the host knows it.
pub(crate) fn outside_uid(process: &ProcessPlan, users: Option<Users<'_>>) -> Result<u32, Failure> {
    users.map_or(Ok(process.uid), |users| users.uid(process.uid))
}

fn join(kind: Namespaces, namespace: BorrowedFd<'_>) -> Result<(), Failure> {
    // A PID namespace is entered with a process that is in it: a number alone may be another's by now.
    if kind == Namespaces::PID {
        return Err(Failure::new("enter a PID namespace", "it cannot be entered by path here"));
    }
    sys::join_namespace(namespace, kind).map_err(Failure::at("enter a namespace of the spec"))
}

fn prepare_paths(
    plan: &Plan,
    root: BorrowedFd<'_>,
    users: Option<Users<'_>>,
) -> Result<(), Failure> {
    let (cwd, owner) = (&plan.process.cwd, users.map(Users::root));
    paths::ensure_in(root, cwd, paths::Missing::Directory, paths::Links::Inside, owner).map_err(
        |f| Failure {
            what: format!("make the working directory {}: {}", cwd.display(), f.what),
            ..f
        },
    )?;
    masks::protect(root, &plan.readonly_paths)?;
    masks::hide(root, &plan.masked_paths)
}

fn set_kernel(plan: &Plan, users: Option<Users<'_>>) -> Result<(), Failure> {
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes()).map_err(Failure::at("set the host name"))?;
    }
    if plan.new_namespaces.contains(Namespaces::NETWORK) {
        sys::bring_loopback_up().map_err(Failure::at("bring the loopback interface up"))?;
    }
    kernel::write_sysctls(plan.sysctls.iter().map(|(name, value)| (name, value)), users)
}
