//! The child's side of a launch: from the first instruction after clone to execve.
//!
//! Owns: the order of the steps. Always: the process is not dumpable from its first step on; whatever
//! fails is told through the control socket, and the process ends.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, set_dumpable_behavior, setsid, umask};
use sys::{MountAttr, Namespaces};

use crate::attach::change;
use crate::control::{ChildControl, Order};
use crate::create::{Create, Seated};
use crate::error::{Failure, LaunchError, Phase};
use crate::host_mounts::HostTrees;
use crate::plan::{Attributes, Plan, ProcessPlan};
use crate::stdio::{ChildStdio, use_streams, use_terminal};
use crate::timeline::Timeline;
use crate::{identity, kernel, masks, mounts, paths, pivot, rootfs};

/// How a child ends that could not become its program.
const NOT_LAUNCHED: i32 = 1;

/// What the child knows from before it was made.
pub(crate) struct Outside<'a> {
    pub(crate) request: &'a Create<'a>,
    pub(crate) control: ChildControl,
    pub(crate) seated: Seated,
    pub(crate) origin: Instant,
}

/// Tells `error` and ends.
pub(crate) fn give_up(control: &ChildControl, error: LaunchError) -> ! {
    control.failed(error);
    sys::exit_now(NOT_LAUNCHED)
}

/// Sets the container up, waits for the order and becomes the program.
pub(crate) fn run(outside: Outside<'_>) -> Infallible {
    let Outside { request, control, seated, origin } = outside;
    let mut setup = Setup {
        request,
        control: &control,
        seated,
        timeline: Timeline::new(origin),
        warnings: Vec::new(),
    };
    setup.timeline.skip();
    let terminal = match setup.all() {
        Ok(terminal) => terminal,
        Err(error) => give_up(&control, error),
    };
    let Setup { timeline, warnings, .. } = setup;
    control.ready(timeline.spans, warnings, terminal.as_ref().map(OwnedFd::as_fd));
    drop(terminal);
    control.wait_for(Order::Start);
    match identity::become_program(&request.plan.process, request.filter) {
        Err(failure) => give_up(&control, failure.during(Phase::Exec)),
    }
}

/// What every launched process does first.
pub(crate) fn clean_slate() -> Result<(), Failure> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(Failure::at("become undumpable"))?;
    sys::reset_signals();
    umask(Mode::empty());
    setsid().map(drop).map_err(Failure::at("begin a session"))
}

/// Writes the score through the host's own proc, before anything of the container's is mounted.
pub(crate) fn adjust_oom_score(
    process: &ProcessPlan,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
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
    request: &'a Create<'a>,
    control: &'a ChildControl,
    seated: Seated,
    timeline: Timeline,
    warnings: Vec<String>,
}

impl Setup<'_> {
    fn all(&mut self) -> Result<Option<OwnedFd>, LaunchError> {
        let plan = self.request.plan;
        self.step(Phase::JoinNamespaces, |s| {
            clean_slate()?;
            adjust_oom_score(&plan.process, &mut s.warnings)?;
            plan.joined.iter().try_for_each(join)
        })?;
        let trees = self.step(Phase::Mounts, |s| HostTrees::open(plan, s.request.host_mounts))?;
        let root = self.step(Phase::Root, |s| {
            let root = rootfs::mount_detached(s.request.rootfs, s.request.place)?;
            pivot::place_root(root.as_fd(), s.request.place)?;
            Ok(root)
        })?;
        let root = root.as_fd();
        self.step(Phase::Mounts, |s| s.mount(root, trees))?;
        self.step(Phase::Paths, |_| prepare_paths(plan, root))?;
        let terminal = self.step(Phase::Stdio, |s| s.stdio(root))?;
        self.step(Phase::Kernel, |_| set_kernel(plan))?;
        self.step(Phase::Pivot, |_| {
            if plan.readonly_root {
                let read_only = Attributes { set: MountAttr::READ_ONLY, clear: 0 };
                change(root, read_only, false).map_err(Failure::at("make the root read-only"))?;
            }
            pivot::pivot_into(root)
        })?;
        self.step(Phase::Identity, |s| {
            sys::close_on_exec_from(3).map_err(Failure::at("close what is not the program's"))?;
            identity::assume(&plan.process, s.request.filter, &mut s.warnings)
        })?;
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

    fn mount(&mut self, root: BorrowedFd<'_>, trees: HostTrees) -> Result<(), Failure> {
        let plan = self.request.plan;
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
        mounts::mount_all(plan, root, trees, self.request.cgroup_view, &mut enter_cgroup)?;
        enter_cgroup()
    }

    fn stdio(&self, root: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Failure> {
        let process = &self.request.plan.process;
        match self.request.stdio {
            ChildStdio::Streams { stdin, stdout, stderr } => {
                use_streams([stdin, stdout, stderr], process.uid).map(|()| None)
            }
            ChildStdio::Terminal => {
                use_terminal(root, process.terminal.unwrap_or_default(), process.uid).map(Some)
            }
        }
    }
}

fn join((kind, path): &(Namespaces, std::path::PathBuf)) -> Result<(), Failure> {
    let what = || format!("enter the namespace {}", path.display());
    // A PID namespace is entered by the parent: it is for children.
    if *kind == Namespaces::PID {
        return Err(Failure::new(what(), "a PID namespace cannot be entered by path here"));
    }
    let file = File::open(path).map_err(Failure::at(what()))?;
    sys::join_namespace(file.as_fd(), *kind).map_err(Failure::at(what()))
}

fn prepare_paths(plan: &Plan, root: BorrowedFd<'_>) -> Result<(), Failure> {
    let cwd = &plan.process.cwd;
    paths::ensure_in(root, cwd, paths::Missing::Directory, paths::Links::Inside).map_err(|f| {
        Failure { what: format!("make the working directory {}: {}", cwd.display(), f.what), ..f }
    })?;
    masks::protect(root, &plan.readonly_paths)?;
    masks::hide(root, &plan.masked_paths)
}

fn set_kernel(plan: &Plan) -> Result<(), Failure> {
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes()).map_err(Failure::at("set the host name"))?;
    }
    kernel::write_sysctls(plan.sysctls.iter().map(|(name, value)| (name, value)))
}
