//! The root file system: an overlay, mounted where nobody sees it yet.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use model::Rootfs;
use rustix::fs::{CWD, FileType};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    move_mount, open_tree,
};

use crate::attach::{copy_of, new_filesystem};
use crate::error::Failure;
use crate::paths::{Links, kind_of, open_in};
use crate::plan::Attributes;
use crate::users::Users;

/// The longest data that mount(2) takes, one page.
const MAX_MOUNT_DATA: usize = 4095;

/// Mounts `rootfs` detached: it has no place in any mount namespace until somebody gives it one.
///
/// `staging` is an empty directory, used for an instant with `users` and on kernels before 6.5. With
/// `users` the layers are seen through their ids, and what is written belongs to them. `label` is for
/// SELinux, empty without it.
pub(crate) fn mount_detached(
    rootfs: &Rootfs,
    staging: &Path,
    users: Option<Users<'_>>,
    label: &str,
) -> Result<OwnedFd, Failure> {
    if let ([only], None) = (rootfs.lower.as_slice(), &rootfs.upper) {
        // overlayfs wants two layers; one read-only layer is a bind mount.
        return layer(only, users);
    }
    let overlay = Overlay { upper: rootfs.upper.as_ref(), label };
    match users {
        None => overlay.mount(&rootfs.lower, staging),
        Some(users) => overlay.mount_for(&rootfs.lower, staging, users),
    }
}

/// A copy of what is mounted at `path` and below it, detached, from which nothing reaches what it is a copy of.
pub(crate) fn copy_detached(path: &Path) -> Result<OwnedFd, Failure> {
    let at = |what: &str| format!("{what} the root file system {}", path.display());
    let tree = copy_of(CWD, path, true).map_err(Failure::at(at("open")))?;
    let attr = sys::MountAttr {
        propagation: sys::MountAttr::PRIVATE,
        recursive: true,
        ..Default::default()
    };
    sys::set_mount_attr(tree.as_fd(), &attr).map_err(Failure::at(at("set apart")))?;
    Ok(tree)
}

/// A layer, read-only and detached, seen through the ids of `users`.
fn layer(path: &Path, users: Option<Users<'_>>) -> Result<OwnedFd, Failure> {
    let tree = copy_of(CWD, path, false)
        .map_err(Failure::at(format!("open the layer {}", path.display())))?;
    let attr = sys::MountAttr {
        set: sys::MountAttr::READ_ONLY,
        user_namespace: users.map(|u| u.namespace),
        ..Default::default()
    };
    sys::set_mount_attr(tree.as_fd(), &attr)
        .map_err(Failure::at(format!("show the layer {} read-only", path.display())))?;
    Ok(tree)
}

/// Mounts `rootfs` at the directory `place` of this mount namespace, for a runtime that wants a path.
///
/// # Errors
/// What failed, and why.
pub fn mount_rootfs_at(rootfs: &Rootfs, place: &Path) -> Result<(), Failure> {
    let tree = mount_detached(rootfs, place, None, "")?;
    place_at(tree.as_fd(), place)
}

/// Mounts the part `sub_path` of `rootfs` at `place` of this mount namespace, for containers to bind. Links
/// on the way to that part are followed inside of `rootfs` only. `place` is made if it is missing, as what
/// the part is: a directory or a file.
///
/// # Errors
/// What failed, and why.
pub fn mount_volume_at(
    rootfs: &Rootfs,
    sub_path: &Path,
    place: &Path,
    users: Option<Users<'_>>,
) -> Result<(), Failure> {
    make_place(place, FileType::Directory)?;
    // A path below a mount is resolved in this mount namespace, so the whole has its place for an instant.
    let tree = mount_detached(rootfs, place, users, "")?;
    if sub_path.as_os_str().is_empty() {
        return place_at(tree.as_fd(), place);
    }
    place_at(tree.as_fd(), place)?;
    let part = take_part(tree.as_fd(), sub_path);
    let unmounted = rustix::mount::unmount(place, UnmountFlags::DETACH);
    let (part, kind) = part?;
    unmounted.map_err(Failure::at(format!("clear {}", place.display())))?;
    if kind != FileType::Directory {
        std::fs::remove_dir(place).map_err(Failure::at(format!("clear {}", place.display())))?;
        make_place(place, kind)?;
    }
    place_at(part.as_fd(), place)
}

fn take_part(tree: BorrowedFd<'_>, sub_path: &Path) -> Result<(OwnedFd, FileType), Failure> {
    let what = || format!("find {} in the image", sub_path.display());
    let found = open_in(tree, sub_path, Links::Inside).map_err(Failure::at(what()))?;
    let found = found.ok_or_else(|| Failure { what: what(), source: Errno::NOENT.into() })?;
    let kind = kind_of(found.as_fd()).map_err(Failure::at(what()))?;
    let part = copy_of(found.as_fd(), "", false).map_err(Failure::at(what()))?;
    Ok((part, kind))
}

pub(crate) fn make_place(place: &Path, kind: FileType) -> Result<(), Failure> {
    let made = if kind == FileType::Directory {
        std::fs::create_dir_all(place)
    } else {
        std::fs::File::create_new(place).map(drop)
    };
    made.map_err(Failure::at(format!("make {}", place.display())))
}

pub(crate) fn place_at(tree: BorrowedFd<'_>, place: &Path) -> Result<(), Failure> {
    move_mount(tree, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(Failure::at(format!("mount it at {}", place.display())))
}

/// What an overlay has beside its lower layers.
#[derive(Clone, Copy)]
struct Overlay<'a> {
    upper: Option<&'a (PathBuf, PathBuf)>,
    label: &'a str,
}

impl Overlay<'_> {
    fn mount(self, lower: &[PathBuf], staging: &Path) -> Result<OwnedFd, Failure> {
        match self.mount_by_parts(lower) {
            // `lowerdir+` came with Linux 6.5.
            Err(failure) if failure.source.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                self.mount_by_page(lower, staging)
            }
            other => other,
        }
    }

    /// Over layers that show the ids of `users`. An overlay takes its layers by path, and only layers that
    /// have a place in this mount namespace; they have it on a shelf that is thrown away.
    fn mount_for(
        self,
        lower: &[PathBuf],
        staging: &Path,
        users: Users<'_>,
    ) -> Result<OwnedFd, Failure> {
        let shelf = new_filesystem("tmpfs", "layers", &[], Attributes::default())?;
        place_at(shelf.as_fd(), staging)?;
        let mount = || {
            let places = lower.iter().enumerate().map(|(i, path)| {
                let place = staging.join(i.to_string());
                make_place(&place, FileType::Directory)?;
                place_at(layer(path, Some(users))?.as_fd(), &place)?;
                Ok(place)
            });
            let places = places.collect::<Result<Vec<_>, Failure>>()?;
            if let Some((upper, _)) = self.upper {
                // Its owner is the owner of `/` inside.
                let (uid, gid) = users.root();
                std::os::unix::fs::lchown(upper, Some(uid), Some(gid))
                    .map_err(Failure::at(format!("give {} to the pod", upper.display())))?;
            }
            let inner = staging.join("overlay");
            make_place(&inner, FileType::Directory)?;
            self.mount(&places, &inner)
        };
        let mounted = mount();
        let cleared = rustix::mount::unmount(staging, UnmountFlags::DETACH);
        let mounted = mounted?;
        cleared.map_err(Failure::at("clear the staging place"))?;
        Ok(mounted)
    }

    fn mount_by_parts(self, lower: &[PathBuf]) -> Result<OwnedFd, Failure> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(Failure::at("open an overlay context"))?;
        let set = |key: &str, value: &Path| {
            fsconfig_set_string(context.as_fd(), key, value)
                .map_err(Failure::at(format!("set the overlay's {key} to {}", value.display())))
        };
        for layer in lower {
            set("lowerdir+", layer)?;
        }
        if !self.label.is_empty() {
            set("context", Path::new(self.label))?;
        }
        if let Some((upper, work)) = self.upper {
            set("upperdir", upper)?;
            set("workdir", work)?;
            // The upper directory dies with its container, so nothing in it has to reach the disk.
            fsconfig_set_flag(context.as_fd(), "volatile")
                .map_err(Failure::at("make the overlay volatile"))?;
        }
        fsconfig_create(context.as_fd()).map_err(Failure::at("mount the overlay"))?;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
            .map_err(Failure::at("mount the overlay"))
    }

    /// With the options in one page, as mount(2) has always taken them.
    fn mount_by_page(self, lower: &[PathBuf], staging: &Path) -> Result<OwnedFd, Failure> {
        let mut data = OsString::from("lowerdir=");
        for (i, layer) in lower.iter().enumerate() {
            if i > 0 {
                data.push(":");
            }
            data.push(layer);
        }
        if !self.label.is_empty() {
            data.push(",context=\"");
            data.push(self.label);
            data.push("\"");
        }
        if let Some((upper, work)) = self.upper {
            data.push(",upperdir=");
            data.push(upper);
            data.push(",workdir=");
            data.push(work);
            data.push(",volatile");
        }
        if data.len() > MAX_MOUNT_DATA {
            let why = format!("{} layers need Linux 6.5 or shorter paths", lower.len());
            return Err(Failure::new("mount the overlay", why));
        }
        let data = std::ffi::CString::new(data.as_bytes())
            .map_err(|e| Failure::new("mount the overlay", e.to_string()))?;
        rustix::mount::mount("overlay", staging, "overlay", MountFlags::empty(), data.as_c_str())
            .map_err(Failure::at("mount the overlay"))?;
        let tree = open_tree(
            CWD,
            staging,
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        );
        let unmounted = rustix::mount::unmount(staging, UnmountFlags::DETACH);
        let tree = tree.map_err(Failure::at("take the overlay from its staging place"))?;
        unmounted.map_err(Failure::at("clear the overlay's staging place"))?;
        Ok(tree)
    }
}
