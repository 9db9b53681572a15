//! The mounts of a spec, in order, below a root that nobody trusts.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType};
use sys::MountAttr;

use crate::attach::{attach, change, copy_of, new_filesystem};
use crate::dev;
use crate::error::Failure;
use crate::host_mounts::HostTrees;
use crate::paths::{Links, Missing, ensure_in, kind_of};
use crate::plan::{Attributes, MountPlan, Plan, Source};

/// How the cgroups look that a container is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupView {
    /// One hierarchy.
    Unified,
    /// A directory for each hierarchy: its name, and the options that mount it.
    Legacy(Vec<LegacyView>),
}

/// One hierarchy of cgroup v1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyView {
    /// Directory below /sys/fs/cgroup.
    pub directory: String,
    /// Controllers, or `none` and `name=…`.
    pub options: Vec<(String, Option<String>)>,
    /// Other names of the directory, for controllers that share it.
    pub links: Vec<String>,
}

/// Places that must not be reached through a link: what is mounted there is trusted later.
const MUST_BE_THEMSELVES: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Carries the mounts of `plan` out below `root`.
///
/// `ready_for_cgroups` is called once, before the first view of the cgroups is mounted: by then the
/// process must be in its own.
pub(crate) fn mount_all(
    plan: &Plan,
    root: BorrowedFd<'_>,
    mut trees: HostTrees,
    view: &CgroupView,
    ready_for_cgroups: &mut dyn FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    // Views of the cgroups wait until the process is in its own cgroup, which takes longest; unless
    // something is to be mounted on top of one.
    let late = |m: &MountPlan| {
        let under = |other: &MountPlan| other != m && other.destination.starts_with(&m.destination);
        m.source == Source::Cgroup && !plan.mounts.iter().any(under)
    };
    let in_order = plan.mounts.iter().enumerate().filter(|(_, m)| !late(m));
    let at_last = plan.mounts.iter().enumerate().filter(|(_, m)| late(m));
    for (index, mount) in in_order.chain(at_last) {
        let place = format!("mount {}", mount.destination.display());
        let done = match &mount.source {
            Source::Bind { path, recursive } => {
                bind(root, mount, path, *recursive, trees.take(index))
            }
            Source::Filesystem { kind, source, data } => {
                filesystem(plan, root, mount, (kind, source, data))
            }
            Source::Cgroup => ready_for_cgroups().and_then(|()| cgroups(root, mount, view)),
        };
        done.map_err(|f| Failure { what: format!("{place}: {}", f.what), source: f.source })?;
    }
    Ok(())
}

fn links_at(destination: &Path) -> Links {
    if MUST_BE_THEMSELVES.iter().any(|fixed| destination == Path::new(fixed)) {
        Links::Refuse
    } else {
        Links::Inside
    }
}

fn bind(
    root: BorrowedFd<'_>,
    mount: &MountPlan,
    source: &Path,
    recursive: bool,
    from_host: Option<OwnedFd>,
) -> Result<(), Failure> {
    let tree = match from_host {
        Some(tree) => tree,
        None => copy_of(CWD, source, recursive)
            .map_err(Failure::at(format!("open {}", source.display())))?,
    };
    let tree = tree.as_fd();
    let missing =
        match kind_of(tree).map_err(Failure::at(format!("look at {}", source.display())))? {
            FileType::Directory => Missing::Directory,
            FileType::RegularFile
            | FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Missing::File,
        };
    change(tree, mount.attributes, false).map_err(Failure::at("set the mount's flags"))?;
    change(tree, mount.recursive, true)
        .map_err(Failure::at("set the flags of the mounts below"))?;
    let (propagation, below_too) = mount.propagation.unwrap_or((MountAttr::PRIVATE, true));
    let attr = MountAttr { propagation, recursive: below_too, ..Default::default() };
    sys::set_mount_attr(tree, &attr).map_err(Failure::at("set the mount's propagation"))?;
    let place = ensure_in(root, &mount.destination, missing, links_at(&mount.destination))?;
    attach(tree, place.as_fd()).map_err(Failure::at("attach it"))
}

fn filesystem(
    plan: &Plan,
    root: BorrowedFd<'_>,
    mount: &MountPlan,
    (kind, source, data): (&str, &str, &[(String, Option<String>)]),
) -> Result<(), Failure> {
    let fs = new_filesystem(kind, source, data, mount.attributes)?;
    change(fs.as_fd(), mount.recursive, true)
        .map_err(Failure::at("set the flags of the mounts below"))?;
    if kind == "tmpfs" && mount.destination == Path::new("/dev") {
        // Filled before it has a place, so that nothing in the image can be in the way.
        dev::populate(fs.as_fd(), &plan.devices)?;
    }
    let place =
        ensure_in(root, &mount.destination, Missing::Directory, links_at(&mount.destination))?;
    attach(fs.as_fd(), place.as_fd()).map_err(Failure::at("attach it"))
}

fn cgroups(root: BorrowedFd<'_>, mount: &MountPlan, view: &CgroupView) -> Result<(), Failure> {
    let place = ensure_in(root, &mount.destination, Missing::Directory, Links::Inside)?;
    let hierarchies = match view {
        CgroupView::Unified => {
            let fs = new_filesystem("cgroup2", "cgroup", &[], mount.attributes)?;
            return attach(fs.as_fd(), place.as_fd()).map_err(Failure::at("attach it"));
        }
        CgroupView::Legacy(hierarchies) => hierarchies,
    };
    let mode = [("mode".to_owned(), Some("755".to_owned()))];
    let writable =
        Attributes { set: mount.attributes.set & !MountAttr::READ_ONLY, ..mount.attributes };
    let top = new_filesystem("tmpfs", "cgroup", &mode, writable)?;
    for hierarchy in hierarchies {
        dev::make_dir(top.as_fd(), &hierarchy.directory)?;
        for link in &hierarchy.links {
            dev::make_link(top.as_fd(), link, &hierarchy.directory)?;
        }
    }
    attach(top.as_fd(), place.as_fd()).map_err(Failure::at("attach it"))?;
    for hierarchy in hierarchies {
        let fs = new_filesystem("cgroup", "cgroup", &hierarchy.options, mount.attributes)?;
        let place = ensure_in(
            top.as_fd(),
            Path::new(&hierarchy.directory),
            Missing::Directory,
            Links::Refuse,
        )?;
        attach(fs.as_fd(), place.as_fd())
            .map_err(Failure::at(format!("attach {}", hierarchy.directory)))?;
    }
    change(top.as_fd(), mount.attributes, false).map_err(Failure::at("set the mount's flags"))
}
