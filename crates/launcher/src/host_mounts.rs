//! Trees and namespaces by their paths on the host.
//!
//! The monitor's mount namespace is a copy of the host's of when the pod began. What the host mounts later
//! reaches it only where the host's mounts are shared, and what is mounted in it never goes back. So paths
//! of the host are opened in the host's own mount namespace.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};
use sys::{MountAttr, Namespaces};

use crate::attach::copy_of;
use crate::error::Failure;
use crate::plan::{MountPlan, Plan, Source};

/// What a plan names by paths of the host.
#[derive(Debug, Default)]
pub(crate) struct HostTrees {
    /// Trees by the index of the mount that they are for.
    trees: Vec<(usize, OwnedFd)>,
    /// Namespaces to join.
    pub(crate) namespaces: Vec<(Namespaces, OwnedFd)>,
}

impl HostTrees {
    /// Opens what `plan` needs from the mount namespace `host`, and leaves this thread where it was. What
    /// is below `own_tree` is mounted in this namespace, and nowhere else.
    pub(crate) fn open(
        plan: &Plan,
        host: BorrowedFd<'_>,
        own_tree: &Path,
    ) -> Result<Self, Failure> {
        let of_host = |mount: &MountPlan| match &mount.source {
            Source::Bind { path, .. } => !path.starts_with(own_tree),
            Source::Filesystem { .. } | Source::Cgroup => false,
        };
        if plan.joined.is_empty() && !plan.mounts.iter().any(of_host) {
            return Ok(Self::default());
        }
        let own =
            File::open("/proc/self/ns/mnt").map_err(Failure::at("open this mount namespace"))?;
        sys::join_namespace(host, Namespaces::MOUNT)
            .map_err(Failure::at("enter the host's mount namespace"))?;
        let opened = open_all(plan, of_host);
        sys::join_namespace(own.as_fd(), Namespaces::MOUNT)
            .map_err(Failure::at("leave the host's mount namespace"))?;
        opened
    }

    /// The tree for the mount of this index, if it is one that comes from the host.
    pub(crate) fn take(&mut self, index: usize) -> Option<OwnedFd> {
        let at = self.trees.iter().position(|(i, _)| *i == index)?;
        Some(self.trees.swap_remove(at).1)
    }
}

fn open_all(plan: &Plan, of_host: impl Fn(&MountPlan) -> bool) -> Result<HostTrees, Failure> {
    let mut opened = HostTrees::default();
    for (kind, path) in &plan.joined {
        let what = || format!("open the namespace {}", path.display());
        opened.namespaces.push((*kind, File::open(path).map_err(Failure::at(what()))?.into()));
    }
    for (index, mount) in plan.mounts.iter().enumerate().filter(|(_, m)| of_host(m)) {
        let Source::Bind { path, recursive } = &mount.source else { continue };
        let is_shared = mount.propagation.is_some_and(|(p, _)| p == MountAttr::SHARED);
        let tree = if is_shared {
            shared_tree(path, *recursive)
        } else {
            copy_of(CWD, path, *recursive).map_err(Failure::at(format!("open {}", path.display())))
        };
        let at = |f: Failure| Failure {
            what: format!("mount {}: {}", mount.destination.display(), f.what),
            ..f
        };
        opened.trees.push((index, tree.map_err(at)?));
    }
    Ok(opened)
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
