//! Trees that must be taken from the host's own mount namespace: those whose mounts go back to it.
//!
//! The monitor's mount namespace only receives from the host's, so a copy of a mount that is made there
//! could never send anything back. A copy made in the host's namespace is a peer of the original.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};
use sys::{MountAttr, Namespaces};

use crate::attach::copy_of;
use crate::error::Failure;
use crate::plan::{MountPlan, Plan, Source};

/// Trees by the index of the mount that they are for.
#[derive(Debug, Default)]
pub(crate) struct HostTrees(Vec<(usize, OwnedFd)>);

impl HostTrees {
    /// Opens what `plan` needs from the mount namespace `host`, and leaves this thread where it was.
    pub(crate) fn open(plan: &Plan, host: BorrowedFd<'_>) -> Result<Self, Failure> {
        let wanted =
            |mount: &&MountPlan| mount.propagation.is_some_and(|(p, _)| p == MountAttr::SHARED);
        if !plan.mounts.iter().any(|m| wanted(&m)) {
            return Ok(Self::default());
        }
        let own = std::fs::File::open("/proc/self/ns/mnt")
            .map_err(Failure::at("open this mount namespace"))?;
        sys::join_namespace(host, Namespaces::MOUNT)
            .map_err(Failure::at("enter the host's mount namespace"))?;
        let opened = plan
            .mounts
            .iter()
            .enumerate()
            .filter(|(_, m)| wanted(m))
            .filter_map(|(index, mount)| match &mount.source {
                Source::Bind { path, recursive } => {
                    Some(shared_tree(path, *recursive).map(|tree| (index, tree)))
                }
                Source::Filesystem { .. } | Source::Cgroup => None,
            })
            .collect::<Result<_, _>>();
        sys::join_namespace(own.as_fd(), Namespaces::MOUNT)
            .map_err(Failure::at("leave the host's mount namespace"))?;
        Ok(Self(opened?))
    }

    /// The tree for the mount of this index, if it is one that comes from the host.
    pub(crate) fn take(&mut self, index: usize) -> Option<OwnedFd> {
        let at = self.0.iter().position(|(i, _)| *i == index)?;
        Some(self.0.swap_remove(at).1)
    }
}

fn shared_tree(path: &Path, recursive: bool) -> Result<OwnedFd, Failure> {
    let what = || format!("share {} in both directions", path.display());
    let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)
        .map_err(Failure::at(what()))?;
    let table = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(Failure::at("read /proc/self/mountinfo"))?;
    if !is_shared(&table, stat.stx_mnt_id) {
        return Err(Failure::new(what(), "the mount that it is on is not shared on the host"));
    }
    copy_of(CWD, path, recursive).map_err(Failure::at(format!("open {}", path.display())))
}

/// Whether the mount `id` has a `shared:` tag in this mountinfo (proc_pid_mountinfo(5)).
fn is_shared(mountinfo: &str, id: u64) -> bool {
    mountinfo.lines().any(|line| {
        let mut fields = line.split(' ');
        let same = fields.next().and_then(|f| f.parse().ok()) == Some(id);
        same && fields.skip(5).take_while(|f| *f != "-").any(|f| f.starts_with("shared:"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_shared_tag_of_the_mount_itself_counts() {
        let table = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
                     27 1 254:0 / / rw shared:1 master:2 - ext4 /dev/vda rw\n\
                     30 27 0:9 / /x rw master:1 - tmpfs shared:5 rw\n";
        for (id, shared) in [(22, false), (27, true), (30, false), (99, false)] {
            assert_eq!(is_shared(table, id), shared, "{id}");
        }
    }
}
