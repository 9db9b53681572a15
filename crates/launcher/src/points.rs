//! The points of a container's life at which hooks run, where they run, and what they are told ("Lifecycle" of the
//! runtime specification); `startContainer` is the container's own process's.
//!
//! Always: hooks of the runtime run in the namespaces that the runtime came from; nothing with the host's privileges is
//! ever seen in the container's PID namespace. Callers: whoever launches.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::process::Pid;
use sys::{Namespaces, SingleThreaded};

use crate::errand::Errand;
use crate::hooks::{run_all_hooks, run_hooks, time_of};
use crate::plan::HookPlan;

/// Beyond the hooks' own times.
const SLACK: Duration = Duration::from_secs(5);
/// All namespaces of a container that hooks run in, but for that of its processes: nothing in there may see a
/// process with the host's privileges.
const OF_CONTAINER: Namespaces =
    Namespaces::MOUNT.with(Namespaces::NETWORK).with(Namespaces::IPC).with(Namespaces::UTS);

/// The namespaces that the runtime came from and may have left ("Runtime namespace" of the specification's glossary),
/// but for those that it never leaves.
#[derive(Debug)]
pub struct RuntimeNamespaces {
    mounts: OwnedFd,
    others: [(OwnedFd, Namespaces); 3],
}

impl RuntimeNamespaces {
    /// Those of this process.
    ///
    /// # Errors
    /// /proc is not there, or no descriptor is left.
    pub fn of_this() -> io::Result<Self> {
        let open = |name| File::open(format!("/proc/self/ns/{name}")).map(OwnedFd::from);
        let others = [
            (open("net")?, Namespaces::NETWORK),
            (open("ipc")?, Namespaces::IPC),
            (open("uts")?, Namespaces::UTS),
        ];
        Ok(Self { mounts: open("mnt")?, others })
    }

    /// The mount namespace, where paths of the host are looked up.
    #[must_use]
    pub fn mounts(&self) -> BorrowedFd<'_> {
        self.mounts.as_fd()
    }

    /// All of its descriptors.
    #[must_use]
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.others.iter().map(|(fd, _)| fd.as_fd()).chain([self.mounts()]).collect()
    }

    /// Has this process enter them all.
    ///
    /// # Errors
    /// What setns(2) says.
    pub fn enter(&self) -> io::Result<()> {
        let others = self.others.iter().map(|(fd, kind)| (fd.as_fd(), *kind));
        let mut all = others.chain([(self.mounts(), Namespaces::MOUNT)]);
        all.try_for_each(|(fd, kind)| sys::join_namespace(fd, kind))
    }
}

/// Points of a container's life that nobody waits at: a failure there changes nothing.
#[derive(Debug, Clone, Copy)]
pub enum Point {
    /// Its process has become its program, and has not ended since, or has.
    Started(Option<Pid>),
    /// It is gone.
    Removed,
}

impl Point {
    /// The name of its hooks' list.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started(_) => "poststart",
            Self::Removed => "poststop",
        }
    }
}

impl HookPlan {
    /// Has the hooks run that the process `pid`, which `process` means, waits for: those of the runtime, then those of
    /// the container in its namespaces.
    ///
    /// # Errors
    /// No process could be sent out. What fails there is said by its end.
    pub fn prepare(
        &self,
        proof: &SingleThreaded,
        runtime: &RuntimeNamespaces,
        pid: Pid,
        process: BorrowedFd<'_>,
    ) -> io::Result<Errand> {
        let Self { all, state } = self;
        let lists = [&all.prestart, &all.create_runtime, &all.create_container];
        let patience = time_of(lists.into_iter().flatten()).saturating_add(SLACK);
        let mut keep = runtime.descriptors();
        keep.push(process);
        Errand::send(proof, patience, &keep, || {
            let told = |number| state.json("creating", Some(number));
            runtime.enter().map_err(|e| format!("enter the host's namespaces: {e}"))?;
            let json = told(pid);
            run_hooks("prestart", &all.prestart, &json)
                .and_then(|()| run_hooks("createRuntime", &all.create_runtime, &json))
                .map_err(|failure| failure.to_string())?;
            if all.create_container.is_empty() {
                return Ok(());
            }
            let number = number_inside(pid)
                .and_then(|number| sys::join_namespaces_of(process, OF_CONTAINER).map(|()| number))
                .map_err(|e| format!("enter the container's namespaces: {e}"))?;
            run_hooks("createContainer", &all.create_container, &told(number))
                .map_err(|failure| failure.to_string())
        })
    }

    /// How long the hooks may take that run before the program in the container's own process.
    #[must_use]
    pub fn time_to_start(&self) -> Duration {
        time_of(&self.all.start_container)
    }

    /// Has the hooks run that are told of a container's life; `None` if there are none. All of them run, also those after
    /// one that fails.
    ///
    /// # Errors
    /// No process could be sent out. What fails there is said by its end.
    pub fn tell(
        &self,
        proof: &SingleThreaded,
        runtime: &RuntimeNamespaces,
        at: Point,
    ) -> io::Result<Option<Errand>> {
        let (list, status, pid) = match at {
            Point::Started(Some(pid)) => (&self.all.poststart, "running", Some(pid)),
            Point::Started(None) => (&self.all.poststart, "stopped", None),
            Point::Removed => (&self.all.poststop, "stopped", None),
        };
        if list.is_empty() {
            return Ok(None);
        }
        let patience = time_of(list).saturating_add(SLACK);
        let errand = Errand::send(proof, patience, &runtime.descriptors(), || {
            runtime.enter().map_err(|e| format!("enter the host's namespaces: {e}"))?;
            run_all_hooks(at.name(), list, &self.state.json(status, pid))
        });
        errand.map(Some)
    }
}

/// The number that a process has in its own PID namespace (`NSpid` of proc_pid_status(5)).
fn number_inside(pid: Pid) -> io::Result<Pid> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    innermost(&status).ok_or_else(|| io::Error::other("/proc does not tell its number there"))
}

fn innermost(status: &str) -> Option<Pid> {
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_ascii_whitespace().last()?.parse().ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_is_the_one_inside() {
        let one = |status| innermost(status).map(|pid| pid.as_raw_nonzero().get());
        assert_eq!(one("Name:\tNSpid: 5\nNSpid:\t4242\t17\t1\nNSsid:\t3\n"), Some(1));
        assert_eq!(one("NSpid:\t4242\n"), Some(4242));
        assert_eq!(one("Name:\tx\n"), None);
        assert_eq!(one("NSpid:\n"), None);
    }
}
