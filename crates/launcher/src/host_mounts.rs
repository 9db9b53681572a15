//! Trees and namespaces by their paths on the host.
//!
//! The monitor's mount namespace is a copy of the host's of when the pod began. What the host mounts later
//! reaches it only where the host's mounts are shared, and what is mounted in it never goes back. So paths
//! of the host are opened in the host's own mount namespace.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags};
use sys::{MountAttr, Namespaces};

use crate::attach::copy_of;
use crate::error::Failure;
use crate::paths::kind_of;
use crate::plan::{MountPlan, Plan, Source};
use crate::rootfs::{make_place, place_at};

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
        inside(host, || open_all(plan, of_host))
    }

    /// The tree for the mount of this index, if it is one that comes from the host.
    pub(crate) fn take(&mut self, index: usize) -> Option<OwnedFd> {
        let at = self.trees.iter().position(|(i, _)| *i == index)?;
        Some(self.trees.swap_remove(at).1)
    }
}

/// Does `what` in the mount namespace `host`, and leaves this thread where it was.
fn inside<T>(
    host: BorrowedFd<'_>,
    what: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let own = File::open("/proc/self/ns/mnt").map_err(Failure::at("open this mount namespace"))?;
    sys::join_namespace(host, Namespaces::MOUNT)
        .map_err(Failure::at("enter the host's mount namespace"))?;
    let done = what();
    sys::join_namespace(own.as_fd(), Namespaces::MOUNT)
        .map_err(Failure::at("leave the host's mount namespace"))?;
    done
}

/// A tree of the host that is to have a place in this mount namespace.
#[derive(Debug)]
pub struct HostTree {
    /// Where it is on the host.
    pub source: PathBuf,
    /// With what is mounted below it.
    pub recursive: bool,
    /// What is mounted below it later is to be seen by the host: the mount that it is on must be shared there.
    pub shared: bool,
    /// Where it is to be: a new directory or file.
    pub place: PathBuf,
}

/// Gives trees of the mount namespace `host` places in this one, for a runtime that wants paths.
///
/// Each learns of what the host mounts and unmounts below it later. The host learns of what is mounted and unmounted
/// here only from those that are `shared`: one of them must be set apart before it is unmounted, or all that is
/// mounted below it on the host goes with it.
///
/// # Errors
/// What failed, and why; what has its place by then keeps it.
pub fn place_host_trees(host: BorrowedFd<'_>, wanted: &[HostTree]) -> Result<(), Failure> {
    if wanted.is_empty() {
        return Ok(());
    }
    let open = |tree: &HostTree| open_tree(&tree.source, tree.recursive, tree.shared);
    let opened = inside(host, || wanted.iter().map(open).collect::<Result<Vec<_>, _>>())?;
    for (tree, opened) in wanted.iter().zip(opened) {
        if !tree.shared {
            let listening = MountAttr {
                propagation: MountAttr::SLAVE,
                recursive: true,
                ..MountAttr::default()
            };
            sys::set_mount_attr(opened.as_fd(), &listening)
                .map_err(Failure::at(format!("set {} apart", tree.source.display())))?;
        }
        let kind = kind_of(opened.as_fd())
            .map_err(Failure::at(format!("look at {}", tree.source.display())))?;
        make_place(&tree.place, kind)?;
        place_at(opened.as_fd(), &tree.place)?;
    }
    Ok(())
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
        let tree = open_tree(path, *recursive, is_shared);
        let at = |f: Failure| Failure {
            what: format!("mount {}: {}", mount.destination.display(), f.what),
            ..f
        };
        opened.trees.push((index, tree.map_err(at)?));
    }
    Ok(opened)
}

fn open_tree(path: &Path, recursive: bool, shared: bool) -> Result<OwnedFd, Failure> {
    if shared {
        check_shared(path)?;
    }
    copy_of(CWD, path, recursive).map_err(Failure::at(format!("open {}", path.display())))
}

fn check_shared(path: &Path) -> Result<(), Failure> {
    let what = || format!("share {} in both directions", path.display());
    let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)
        .map_err(Failure::at(what()))?;
    let table = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(Failure::at("read /proc/self/mountinfo"))?;
    if !is_shared(&table, stat.stx_mnt_id) {
        return Err(Failure::new(what(), "the mount that it is on is not shared on the host"));
    }
    Ok(())
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
