//! The mounts of a spec, in order, below a root that nobody trusts.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType};
use rustix::io::Errno;
use sys::{MountAttr, Namespaces, SingleThreaded};

use crate::attach::{attach, change, copy_of, new_filesystem};
use crate::copy_up::copy_up;
use crate::dev;
use crate::error::Failure;
use crate::host_mounts::HostTrees;
use crate::paths::{Links, Missing, Owner, ensure_in, kind_of};
use crate::plan::{Attributes, MountIds, MountPlan, Plan, Source};
use crate::users::{Users, for_mount};

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

/// What every mount of a container is made with.
pub(crate) struct Site<'a> {
    pub(crate) proof: &'a SingleThreaded,
    pub(crate) plan: &'a Plan,
    pub(crate) root: BorrowedFd<'a>,
    pub(crate) users: Option<Users<'a>>,
    pub(crate) view: &'a CgroupView,
    /// The proc file system of a PID namespace that this process is not in, but the container will be.
    pub(crate) proc: Option<OwnedFd>,
}

/// Where the host has its cgroups.
const HOST_CGROUPS: &str = "/sys/fs/cgroup";

/// File systems that can be labelled as a whole.
const LABELLED: [&str; 3] = ["tmpfs", "devpts", "mqueue"];

impl Site<'_> {
    /// Carries the mounts of the plan out below the root.
    ///
    /// `ready_for_cgroups` is called once, before the first view of the cgroups is mounted: by then the
    /// process must be in its own.
    pub(crate) fn mount_all(
        &self,
        mut trees: HostTrees,
        ready_for_cgroups: &mut dyn FnMut() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mounts = &self.plan.mounts;
        // Views of the cgroups wait until the process is in its own cgroup, which takes longest; unless
        // something is to be mounted on top of one.
        let late = |m: &MountPlan| {
            let under =
                |other: &MountPlan| other != m && other.destination.starts_with(&m.destination);
            m.source == Source::Cgroup && !mounts.iter().any(under)
        };
        let in_order = mounts.iter().enumerate().filter(|(_, m)| !late(m));
        let at_last = mounts.iter().enumerate().filter(|(_, m)| late(m));
        for (index, mount) in in_order.chain(at_last) {
            let place = format!("mount {}", mount.destination.display());
            let done = match &mount.source {
                Source::Bind { path, recursive } => {
                    self.bind(mount, path, *recursive, trees.take(index))
                }
                Source::Filesystem { kind, source, data, copies_up } => {
                    self.filesystem(mount, kind, source, data, *copies_up)
                }
                Source::Cgroup => ready_for_cgroups().and_then(|()| self.cgroups(mount)),
            };
            done.map_err(|f| Failure { what: format!("{place}: {}", f.what), source: f.source })?;
        }
        Ok(())
    }

    /// The place of `mount`, made if it is missing.
    fn place(&self, mount: &MountPlan, missing: Missing) -> Result<OwnedFd, Failure> {
        let links = links_at(&mount.destination);
        ensure_in(self.root, &mount.destination, missing, links, self.owner())
    }

    fn owner(&self) -> Owner {
        self.users.map(Users::root)
    }

    fn bind(
        &self,
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
        if let Some(ids) = &mount.ids {
            self.show_ids(tree, ids)?;
        }
        change(tree, mount.attributes, false).map_err(Failure::at("set the mount's flags"))?;
        change(tree, mount.recursive, true)
            .map_err(Failure::at("set the flags of the mounts below"))?;
        let (propagation, below_too) = mount.propagation.unwrap_or((MountAttr::PRIVATE, true));
        let attr = MountAttr { propagation, recursive: below_too, ..Default::default() };
        sys::set_mount_attr(tree, &attr).map_err(Failure::at("set the mount's propagation"))?;
        let place = self.place(mount, missing)?;
        fits(missing, place.as_fd(), &source.display().to_string())?;
        attach(tree, place.as_fd()).map_err(Failure::at("attach it"))
    }

    fn show_ids(&self, tree: BorrowedFd<'_>, ids: &MountIds) -> Result<(), Failure> {
        const WHAT: &str = "show it with the ids of uidMappings and gidMappings";
        let made;
        let namespace = match self.users {
            Some(users)
                if ids.uids.is_empty() || (users.uids == ids.uids && users.gids == ids.gids) =>
            {
                users.namespace
            }
            None if ids.uids.is_empty() => {
                let why = "the pod has no user namespace whose ids it could be";
                return Err(Failure::new(WHAT, why));
            }
            Some(_) | None => {
                let namespace = for_mount(self.proof, &ids.uids, &ids.gids);
                made = namespace.map_err(|f| Failure {
                    what: format!("{WHAT}: {}", f.what),
                    source: f.source,
                })?;
                made.as_fd()
            }
        };
        let attr = MountAttr {
            user_namespace: Some(namespace),
            recursive: ids.recursive,
            ..Default::default()
        };
        match sys::set_mount_attr(tree, &attr) {
            // Of a tree that has no place yet, that is all that is wrong with it.
            Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Err(Failure {
                what: format!("{WHAT}: its file system has no idmapped mounts"),
                source: Errno::OPNOTSUPP.into(),
            }),
            done => done.map_err(Failure::at(WHAT)),
        }
    }

    fn filesystem(
        &self,
        mount: &MountPlan,
        kind: &str,
        source: &str,
        data: &[(String, Option<String>)],
        copies_up: bool,
    ) -> Result<(), Failure> {
        let is_dev = kind == "tmpfs" && mount.destination == Path::new("/dev");
        // What is filled here can be read-only only after that.
        let later = (copies_up || is_dev) && mount.attributes.set & MountAttr::READ_ONLY != 0;
        let at_first = if later { writable(mount.attributes) } else { mount.attributes };
        let fs = match &self.proc {
            Some(proc) if kind == "proc" => {
                if let Some((name, _)) = data.first() {
                    let why = format!("{name} cannot be set where the processes are shared");
                    return Err(Failure::new("mount proc", why));
                }
                let copy = match copy_of(proc.as_fd(), "", false) {
                    // Before Linux 6.15 what has no place yet is not copied; it is this container's own copy already.
                    Err(Errno::INVAL) => proc.try_clone(),
                    copied => copied.map_err(Into::into),
                };
                let copy = copy.map_err(Failure::at("copy the mount of the shared processes"))?;
                change(copy.as_fd(), mount.attributes, false)
                    .map_err(Failure::at("set the mount's flags"))?;
                copy
            }
            Some(_) | None => new_filesystem(kind, source, &self.data(kind, data)?, at_first)?,
        };
        if is_dev {
            // Filled before it has a place, so that nothing in the image can be in the way.
            dev::populate(fs.as_fd(), &self.plan.devices, self.users)?;
        }
        let place = self.place(mount, Missing::Directory)?;
        fits(Missing::Directory, place.as_fd(), kind)?;
        if copies_up {
            copy_up(place.as_fd(), fs.as_fd(), data.iter().any(|(name, _)| name == "mode"))?;
        }
        if later {
            change(fs.as_fd(), mount.attributes, false)
                .map_err(Failure::at("set the mount's flags"))?;
        }
        change(fs.as_fd(), mount.recursive, true)
            .map_err(Failure::at("set the flags of the mounts below"))?;
        attach(fs.as_fd(), place.as_fd()).map_err(Failure::at("attach it"))
    }

    /// The parameters of a file system that is made here for users who are others outside.
    fn data(
        &self,
        kind: &str,
        data: &[(String, Option<String>)],
    ) -> Result<Vec<(String, Option<String>)>, Failure> {
        let mut data = data.to_vec();
        if let Some(users) = self.users.filter(|_| matches!(kind, "tmpfs" | "devpts")) {
            for name in ["uid", "gid"] {
                let given = data.iter_mut().find(|(n, _)| n == name);
                let inside = match &given {
                    Some((_, Some(text))) => text.parse().map_err(|_| {
                        Failure::new(format!("read {name}={text}"), "it is not a number")
                    })?,
                    Some((_, None)) | None => 0,
                };
                let outside = if name == "uid" { users.uid(inside)? } else { users.gid(inside)? };
                match given {
                    Some((_, value)) => *value = Some(outside.to_string()),
                    None if kind == "tmpfs" => {
                        data.push((name.to_owned(), Some(outside.to_string())));
                    }
                    None => {}
                }
            }
        }
        if !self.plan.mount_label.is_empty() && LABELLED.contains(&kind) {
            data.push(("context".to_owned(), Some(self.plan.mount_label.clone())));
        }
        Ok(data)
    }

    fn cgroups(&self, mount: &MountPlan) -> Result<(), Failure> {
        let place = self.place(mount, Missing::Directory)?;
        if !self.plan.new_namespaces.contains(Namespaces::CGROUP) {
            // A new mount from the host's own view would set the options of the host's: a copy cannot.
            let copy = copy_of(CWD, HOST_CGROUPS, true)
                .map_err(Failure::at("copy the host's view of the cgroups"))?;
            change(copy.as_fd(), mount.attributes, true)
                .map_err(Failure::at("set the mount's flags"))?;
            let attr = MountAttr {
                propagation: MountAttr::PRIVATE,
                recursive: true,
                ..Default::default()
            };
            sys::set_mount_attr(copy.as_fd(), &attr)
                .map_err(Failure::at("set the mount's propagation"))?;
            return attach(copy.as_fd(), place.as_fd()).map_err(Failure::at("attach it"));
        }
        match self.view {
            CgroupView::Unified => {
                let fs = new_filesystem("cgroup2", "cgroup", &[], mount.attributes)?;
                attach(fs.as_fd(), place.as_fd()).map_err(Failure::at("attach it"))
            }
            CgroupView::Legacy(hierarchies) => legacy(place.as_fd(), mount, hierarchies),
        }
    }
}

/// A directory is mounted on a directory, and anything else on what is none.
fn fits(mounted: Missing, place: BorrowedFd<'_>, name: &str) -> Result<(), Failure> {
    let at = kind_of(place).map_err(Failure::at("look at its place"))?;
    let (problem, errno) = match (mounted, at == FileType::Directory) {
        (Missing::Directory, true) | (Missing::File, false) => return Ok(()),
        (Missing::Directory, false) => ("is a directory, and its place is none", Errno::NOTDIR),
        (Missing::File, true) => ("is a file, and its place is a directory", Errno::ISDIR),
    };
    Err(Failure { what: format!("{name} {problem}"), source: errno.into() })
}

fn links_at(destination: &Path) -> Links {
    if MUST_BE_THEMSELVES.iter().any(|fixed| destination == Path::new(fixed)) {
        Links::Refuse
    } else {
        Links::Inside
    }
}

/// The same, but for being read-only.
fn writable(attributes: Attributes) -> Attributes {
    Attributes { set: attributes.set & !MountAttr::READ_ONLY, ..attributes }
}

fn legacy(
    place: BorrowedFd<'_>,
    mount: &MountPlan,
    hierarchies: &[LegacyView],
) -> Result<(), Failure> {
    let mode = [("mode".to_owned(), Some("755".to_owned()))];
    let top = new_filesystem("tmpfs", "cgroup", &mode, writable(mount.attributes))?;
    for hierarchy in hierarchies {
        dev::make_dir(top.as_fd(), &hierarchy.directory)?;
        for link in &hierarchy.links {
            dev::make_link(top.as_fd(), link, &hierarchy.directory)?;
        }
    }
    attach(top.as_fd(), place).map_err(Failure::at("attach it"))?;
    for hierarchy in hierarchies {
        let fs = new_filesystem("cgroup", "cgroup", &hierarchy.options, mount.attributes)?;
        let directory = Path::new(&hierarchy.directory);
        let place = ensure_in(top.as_fd(), directory, Missing::Directory, Links::Refuse, None)?;
        attach(fs.as_fd(), place.as_fd())
            .map_err(Failure::at(format!("attach {}", hierarchy.directory)))?;
    }
    change(top.as_fd(), mount.attributes, false).map_err(Failure::at("set the mount's flags"))
}
