//! The cgroup that a spec names, and the way of a process into it.

use std::io;
use std::os::fd::AsFd as _;

use cgroups::{Cgroup, CgroupError, CgroupPath, Driver, Entrance, Hierarchies};
use launcher::{CgroupView, LegacyView, Seat};
use runtime_spec::{DeviceCgroup, Resources, Spec};
use rustix::process::{Pid, Signal, pidfd_send_signal};
use sys::{CloneFlags, SingleThreaded, clone_child};

use crate::end;
use crate::error::OciError;

/// Where the cgroups of containers are whose spec names none. An id alone could be the name of somebody else's.
const OWN: &str = "/isopod-oci";

/// A container's cgroup.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) cgroup: Cgroup,
    /// Whether it was not there before. One that was stays.
    pub(crate) is_new: bool,
    /// What it has run out of so far.
    pub(crate) shortage: Shortage,
}

/// How often a cgroup's processes were killed or refused for want of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shortage {
    oom_kills: u64,
    refused_forks: u64,
}

impl Shortage {
    /// That of `cgroup` until now. What cannot be read is no shortage: it is for a message about something else.
    pub(crate) fn of(cgroup: &Cgroup) -> Self {
        Self {
            oom_kills: cgroup.oom_kills().unwrap_or(0),
            refused_forks: cgroup.refused_forks().unwrap_or(0),
        }
    }

    /// What has run out since `before`, for people.
    pub(crate) fn since(self, before: Self) -> Option<&'static str> {
        if self.oom_kills > before.oom_kills {
            Some("its cgroup is out of memory")
        } else if self.refused_forks > before.refused_forks {
            Some("its cgroup has as many processes as its pids limit allows")
        } else {
            None
        }
    }
}

impl Place {
    /// Takes it back, if it was made for a container that is not to be.
    pub(crate) fn undo(&self) {
        if self.is_new {
            // The error before is the one that is told.
            let _ = self.cgroup.kill_all();
            let _ = self.cgroup.remove();
        }
    }
}

/// The cgroup that `spec` names, or one by the container's id where it names none.
pub(crate) fn path_of(spec: &Spec, id: &str) -> Result<CgroupPath, OciError> {
    let text = spec.linux.as_ref().map_or("", |linux| linux.cgroups_path.as_str());
    let text = if text.is_empty() { format!("{OWN}/{id}") } else { text.to_owned() };
    Ok(Driver::read_cgroups_path(&text).map_err(CgroupError::from)?.1)
}

/// Makes it, with the limits of `spec`. One that has processes already is somebody else's: its limits are not
/// the container's to set, nor are its processes the container's to end.
pub(crate) fn create(
    hierarchies: &Hierarchies,
    path: &CgroupPath,
    spec: &Spec,
) -> Result<Place, OciError> {
    let found = Cgroup::at(hierarchies, path);
    let is_new = !found.exists();
    expect_empty(&found)?;
    let cgroup = Cgroup::create(hierarchies, path)?;
    let shortage = Shortage::of(&cgroup);
    let place = Place { cgroup, is_new, shortage };
    let resources = spec.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    let resources = resources.map(with_standard_devices);
    // Whoever has come into it since it was looked at has made it, too: nothing of it is ours to end.
    expect_empty(&place.cgroup)?;
    let limited = resources.as_ref().map_or(Ok(()), |resources| place.cgroup.apply(resources));
    limited.inspect_err(|_| place.undo())?;
    Ok(place)
}

/// Where a spec forbids devices, the standard ones are allowed nevertheless, as runc and crun do.
fn with_standard_devices(resources: &Resources) -> Resources {
    let mut resources = resources.clone();
    if !resources.devices.is_empty() {
        resources.devices.extend(DeviceCgroup::standard());
    }
    resources
}

fn expect_empty(cgroup: &Cgroup) -> Result<(), OciError> {
    match cgroup.occupants()?.len() {
        0 => Ok(()),
        there => Err(OciError::WrongState {
            what: format!("use the cgroup {}", cgroup.path()),
            problem: format!("it is not empty: there are {there} processes in it"),
        }),
    }
}

/// How a container is shown the hierarchies.
pub(crate) fn view(hierarchies: &Hierarchies) -> CgroupView {
    let legacy = |shown: cgroups::Shown| LegacyView {
        directory: shown.directory,
        options: shown.options,
        links: shown.links,
    };
    match hierarchies.shown() {
        None => CgroupView::Unified,
        Some(shown) => CgroupView::Legacy(shown.into_iter().map(legacy).collect()),
    }
}

/// Hands out the way into `cgroup`.
pub(crate) fn seated<T>(
    proof: &SingleThreaded,
    cgroup: Option<&Cgroup>,
    launch: impl FnOnce(Seat<'_>) -> T,
) -> T {
    let Some(cgroup) = cgroup else { return launch(Seat::Stay) };
    let join = |pid: Pid| cgroup.join(pid).map_err(into_io);
    match cgroup.entrance() {
        Ok(Some(way)) if lives_when_born(proof, &way) => launch(Seat::Entered(&way)),
        // What is wrong with it is said by the failure to join.
        Ok(_) | Err(_) => launch(Seat::Moved(&join)),
    }
}

/// Whether a process that is born in a cgroup lives there. Linux 6.14, and stable kernels since early 2025, kill it at
/// once if that cgroup was killed (`cgroup.kill`) more or less often than the caller's own: they take the caller's count
/// for that of the cgroup before the birth. Nothing else tells.
fn lives_when_born(proof: &SingleThreaded, way: &Entrance) -> bool {
    let Some(cgroup) = way.birth() else { return true };
    let flags = CloneFlags { cgroup: Some(cgroup), ..CloneFlags::default() };
    match clone_child(proof, flags, |_| sys::exit_now(0)) {
        Ok(child) => {
            end::wait_for(&child.pidfd);
            // In a cgroup that stands still it has not ended, and is not to stay.
            let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
            matches!(sys::wait_exit(child.pidfd.as_fd()), Ok(Some(0)))
        }
        // That is told when the container's process cannot be made either.
        Err(_) => true,
    }
}

fn into_io(error: CgroupError) -> io::Error {
    match error.errno() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_out_is_told_by_what_was_counted_since() {
        let at = |oom_kills, refused_forks| Shortage { oom_kills, refused_forks };
        assert_eq!(at(3, 4).since(at(3, 4)), None);
        assert!(at(4, 5).since(at(3, 4)).unwrap().contains("memory"));
        assert!(at(3, 5).since(at(3, 4)).unwrap().contains("pids"));
    }
}
