//! Who a process is and what it may do: one function for the container's own process and for every exec.
//!
//! Owns: limits, user, groups, capabilities, working directory, the filter, execve. Always: in an order
//! in which each step is still allowed. What is of the image (its hooks, its program) runs behind the filter and
//! without a privilege that is not the container's.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{Access, AtFlags, CWD, FileType, Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, chdir, getcwd, getrlimit, set_dumpable_behavior, setrlimit, umask,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets as KernelSets, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use sys::{HandOver, Memory, Namespaces, SingleThreaded};

use crate::child::give_up;
use crate::control::ChildControl;
use crate::create::Tracers;
use crate::error::{Failure, LaunchError, Phase};
use crate::hooks::run_hooks;
use crate::plan::{
    CAPABILITY_COUNT, CapabilitySets, HookPlan, ProcessPlan, RlimitPlan, RlimitValues,
};
use crate::stdio::begin_session;

/// A compiled system call filter.
#[derive(Debug, Clone, Copy)]
pub struct Filter<'a> {
    /// An array of `struct sock_filter`.
    pub program: &'a [u8],
    /// SECCOMP_FILTER_FLAG_* bits.
    pub flags: u32,
}

const SYS_ADMIN: u64 = 1 << 21;
const DEFAULT_UMASK: u32 = 0o022;
/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A user namespace to enter.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Entered<'a> {
    /// This one, and a mount namespace that belongs to it: what is mounted so far is locked there.
    Owning(BorrowedFd<'a>),
    /// This one; the mount namespace belongs to it already.
    Belonging(BorrowedFd<'a>),
}

/// Gives this process the identity of `plan`. What it had to do without is added to `warnings`.
pub(crate) fn assume(
    plan: &ProcessPlan,
    filter: Option<Filter<'_>>,
    entered: Option<Entered<'_>>,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    // Raising a limit takes the host's privilege, so before any user namespace.
    plan.rlimits.iter().try_for_each(|rlimit| limit(rlimit, warnings))?;
    if let Some(entered) = entered {
        enter_users(entered).map_err(Failure::at("enter the pod's user namespace"))?;
    }
    let wanted = plan.capabilities.map(|sets| obtainable(sets, warnings)).transpose()?;
    if let Some(sets) = wanted {
        drop_from_bounding(sets.bounding)?;
    }
    set_keep_capabilities(true)
        .map_err(Failure::at("keep the capabilities over the change of user"))?;
    let groups: Vec<Gid> = plan.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    set_thread_groups(&groups)
        .map_err(Failure::at(format!("set the supplementary groups {:?}", plan.groups)))?;
    let (uid, gid) = (Uid::from_raw(plan.uid), Gid::from_raw(plan.gid));
    set_thread_res_gid(Some(gid), Some(gid), Some(gid))
        .map_err(Failure::at(format!("become group {}", plan.gid)))?;
    // As root, before the user changes, a directory is reachable that the user may not be able to enter.
    let entered = chdir(&plan.cwd);
    set_thread_res_uid(Some(uid), Some(uid), Some(uid))
        .map_err(Failure::at(format!("become user {}", plan.uid)))?;
    // The change of user may have made the process dumpable again.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Failure::at("stay undumpable"))?;
    if let Some(sets) = wanted {
        let extra = if filter.is_some() && plan.needs_admin_for_filter() { SYS_ADMIN } else { 0 };
        set_sets(sets, extra)?;
    }
    if entered.is_err() {
        chdir(&plan.cwd)
            .map_err(Failure::at(format!("enter the working directory {}", plan.cwd.display())))?;
    }
    stand_inside()?;
    umask(Mode::from_raw_mode(plan.umask.unwrap_or(DEFAULT_UMASK)));
    if plan.no_new_privileges {
        set_no_new_privs(true).map_err(Failure::at("give up new privileges"))?;
    }
    Ok(())
}

/// To lower a limit takes no privilege, so what is asked for is set as far as the host lets it be.
fn limit(rlimit: &RlimitPlan, warnings: &mut Vec<String>) -> Result<(), Failure> {
    let failed = || Failure::at::<Errno>(format!("set the limit {:?}", rlimit.resource));
    match setrlimit(rlimit.resource, rlimit.limit.to_kernel()) {
        Ok(()) => Ok(()),
        // Above the runtime's own, and the host keeps CAP_SYS_RESOURCE back from it.
        Err(Errno::PERM) => {
            let most = getrlimit(rlimit.resource).maximum.unwrap_or(u64::MAX);
            let RlimitValues { soft, hard } = rlimit.limit;
            let lowered = RlimitValues { soft: soft.min(most), hard: hard.min(most) };
            warnings.push(format!(
                "the limit {:?} of {soft} and {hard} was refused: it is at most {most} here",
                rlimit.resource
            ));
            setrlimit(rlimit.resource, lowered.to_kernel()).map_err(failed())
        }
        Err(e) => Err(failed()(e)),
    }
}

fn enter_users(entered: Entered<'_>) -> io::Result<()> {
    match entered {
        Entered::Owning(namespace) => {
            sys::join_namespace(namespace, Namespaces::USER)?;
            sys::unshare(Namespaces::MOUNT)?;
        }
        Entered::Belonging(namespace) => sys::join_namespace(namespace, Namespaces::USER)?,
    }
    // The host's root has no id inside, and what it is about to look at may be for a known user only.
    let root = (Uid::ROOT, Gid::ROOT);
    if set_thread_res_gid(Some(root.1), Some(root.1), Some(root.1)).is_ok() {
        let _ = set_thread_res_uid(Some(root.0), Some(root.0), Some(root.0));
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

impl ProcessPlan {
    /// Whether a filter can only be installed with a privilege that the container has not: with
    /// no_new_privs none is needed (seccomp(2)).
    fn needs_admin_for_filter(&self) -> bool {
        let has_it = self.capabilities.is_none_or(|s| s.effective & s.permitted & SYS_ADMIN != 0);
        !self.no_new_privileges && !has_it
    }
}

/// The last steps to a program: nothing of the host's privileges is left, but for the one to install a
/// filter where that is needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Last<'a> {
    pub(crate) process: &'a ProcessPlan,
    pub(crate) filter: Option<Filter<'a>>,
    /// Hooks that run in the container just before, with its identity.
    pub(crate) hooks: Option<&'a HookPlan>,
}

impl Last<'_> {
    /// Becomes the program behind the filter. Returns only what went wrong.
    pub(crate) fn become_program(self) -> Result<Infallible, LaunchError> {
        let found = || {
            begin_session(self.process)?;
            let program = self.find()?;
            install(self.filter)?;
            if self.hooks.is_some() {
                // Without any, execve takes the privilege away that the filter needed.
                self.drop_privilege_for_filter()?;
            }
            Ok(program)
        };
        let program = found().map_err(of_exec)?;
        self.run_hooks()?;
        self.execute(&program)
    }

    /// Leaves the container's own sets. The filter is there, and must allow capset(2).
    fn drop_privilege_for_filter(self) -> Result<(), Failure> {
        match self.process.capabilities {
            Some(sets) if self.filter.is_some() && self.process.needs_admin_for_filter() => {
                set_kernel_sets(sets, 0)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// They are programs of the image, which see this process: it has nothing but what is the container's by now.
    fn run_hooks(self) -> Result<(), LaunchError> {
        let Some(hooks) = self.hooks else { return Ok(()) };
        let state = hooks.state.json("created", Some(rustix::process::getpid()));
        run_hooks("startContainer", &hooks.all.start_container, &state)
            .map_err(|failure| failure.during(Phase::Hooks))
    }

    fn find(self) -> Result<CString, Failure> {
        find(self.process)
    }

    fn execute(self, program: &CStr) -> Result<Infallible, LaunchError> {
        let error = sys::exec(program, &self.process.args, &self.process.env);
        let what = format!("execute {}", program.to_string_lossy());
        Err(of_exec(Failure { what, source: error }))
    }
}

fn of_exec(failure: Failure) -> LaunchError {
    failure.during(Phase::Exec)
}

/// Hands the place of this process to a new one, which is born in the PID namespace that this one's
/// children are for and becomes the program. Returns only what went wrong before that; what goes wrong
/// there is told through `control`. It works in a copy of the memory, or in `memory` where nothing could trace it.
pub(crate) fn hand_over(
    proof: &SingleThreaded,
    note: HandOver,
    last: Last<'_>,
    tracers: Tracers,
    memory: Memory,
    control: &ChildControl,
) -> Result<Infallible, LaunchError> {
    let must_be_first = tracers == Tracers::Possible
        && last.filter.is_some()
        && last.process.needs_admin_for_filter();
    let made = if must_be_first {
        // The privilege to install the filter must not be seen there, so the filter comes before the birth.
        // It must allow capset(2), clone(2), madvise(2), the session and what hooks take (memfd_create(2),
        // pidfd_open(2), poll(2)), as every profile for containers without no_new_privs does.
        let program = last.find().map_err(of_exec)?;
        install(last.filter).and_then(|()| last.drop_privilege_for_filter()).map_err(of_exec)?;
        sys::clone_sibling(proof, note, Memory::Copied, || {
            let begun = begin_session(last.process).map_err(of_exec);
            let unfiltered = Last { filter: None, ..last };
            let done = begun.and_then(|()| last.run_hooks());
            match done.and_then(|()| unfiltered.execute(&program)) {
                Err(error) => give_up(control, error),
            }
        })
    } else {
        // Who could trace the new process must not reach into this one, which is outside; and hooks take their time.
        let memory = match tracers {
            Tracers::Impossible if last.hooks.is_none() => memory,
            Tracers::Impossible | Tracers::Possible => Memory::Copied,
        };
        sys::clone_sibling(proof, note, memory, || match last.become_program() {
            Err(error) => give_up(control, error),
        })
    };
    made.map_err(|e| of_exec(Failure::at_birth("make the process in its PID namespace")(e)))?;
    sys::exit_now(0)
}

fn install(filter: Option<Filter<'_>>) -> Result<(), Failure> {
    filter.map_or(Ok(()), |filter| {
        sys::install_filter(filter.program, filter.flags)
            .map_err(Failure::at("install the system call filter"))
    })
}

/// The part of `sets` that this process can give away. A host that keeps a capability back from the
/// runtime keeps it back from its containers, and this is said.
fn obtainable(sets: CapabilitySets, warnings: &mut Vec<String>) -> Result<CapabilitySets, Failure> {
    let own = capabilities(None).map_err(Failure::at("read the capabilities"))?.permitted.bits();
    let missing = (sets.effective | sets.permitted | sets.inheritable | sets.ambient) & !own;
    if missing != 0 {
        let names = CapabilitySet::from_bits_retain(missing);
        warnings.push(format!(
            "the runtime itself is without capabilities that were asked for: {names:?}"
        ));
    }
    Ok(CapabilitySets {
        bounding: sets.bounding,
        effective: sets.effective & own,
        inheritable: sets.inheritable & own,
        permitted: sets.permitted & own,
        ambient: sets.ambient & own,
    })
}

fn drop_from_bounding(keep: u64) -> Result<(), Failure> {
    for number in 0..u64::BITS {
        if keep & (1 << number) != 0 {
            continue;
        }
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            // The kernel's last capability was the one before.
            Err(Errno::INVAL) if number > 0 => break,
            Err(e) => {
                return Err(
                    Failure::at(format!("drop capability {number} from the bounding set"))(e),
                );
            }
        }
    }
    Ok(())
}

fn set_sets(sets: CapabilitySets, extra: u64) -> Result<(), Failure> {
    // Without no_new_privs a filter needs CAP_SYS_ADMIN. It is held until execve, which takes it away:
    // it works out the new sets from the bounding, inheritable and ambient ones alone.
    set_kernel_sets(sets, extra)?;
    clear_ambient_capability_set().map_err(Failure::at("clear the ambient capabilities"))?;
    for number in (0..CAPABILITY_COUNT).filter(|n| sets.ambient & (1 << n) != 0) {
        configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << number), true)
            .map_err(Failure::at(format!("raise the ambient capability {number}")))?;
    }
    Ok(())
}

fn set_kernel_sets(sets: CapabilitySets, extra: u64) -> Result<(), Failure> {
    // What this process does not have it cannot give; what that was has been said before.
    let own = capabilities(None).map_err(Failure::at("read the capabilities"))?.permitted.bits();
    let kernel = KernelSets {
        effective: CapabilitySet::from_bits_retain((sets.effective | extra) & own),
        permitted: CapabilitySet::from_bits_retain((sets.permitted | extra) & own),
        inheritable: CapabilitySet::from_bits_retain(sets.inheritable & own),
    };
    set_capabilities(None, kernel).map_err(Failure::at("set the capabilities"))
}

/// A working directory that was reached through a leaked descriptor lies outside, and getcwd says so.
fn stand_inside() -> Result<(), Failure> {
    let cwd =
        getcwd(Vec::new()).map_err(Failure::at("find the working directory inside the root"))?;
    if cwd.to_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err(Failure::new("enter the working directory", "it is outside of the root file system"))
    }
}

/// The file that the process is to become.
pub(crate) fn find(process: &ProcessPlan) -> Result<CString, Failure> {
    let name = process.args.first().map_or(c"", CString::as_c_str);
    find_program(name, &process.env)
}

/// The file that `name` means: itself if it has a slash, else the first of that name in PATH that may be executed.
fn find_program(name: &CStr, env: &[CString]) -> Result<CString, Failure> {
    let shown = name.to_string_lossy();
    if name.to_bytes().contains(&b'/') {
        return match executable(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(e) => Err(Failure { what: format!("find the program {shown}"), source: e }),
        };
    }
    let path = env
        .iter()
        .find_map(|v| v.to_bytes().strip_prefix(b"PATH="))
        .unwrap_or(DEFAULT_PATH.as_bytes());
    let mut denied = None;
    for dir in path.split(|b| *b == b':') {
        let dir = if dir.is_empty() { b"." } else { dir };
        let candidate = [dir, b"/", name.to_bytes()].concat();
        let Ok(candidate) = CString::new(candidate) else { continue };
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => denied = Some((candidate, e)),
            Err(_) => {}
        }
    }
    Err(match denied {
        Some((candidate, source)) => {
            Failure { what: format!("execute {}", candidate.to_string_lossy()), source }
        }
        None => Failure {
            what: format!("find the program {shown:?} in PATH"),
            source: Errno::NOENT.into(),
        },
    })
}

fn executable(path: &CStr) -> io::Result<()> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::empty())?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR.into());
    }
    Ok(rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?)
}
