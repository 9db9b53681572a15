//! Overlay file systems and mappings of ids: tried, where trying leaves nothing.

use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use super::finding::Finding;
use super::host::Host;

pub fn look(host: &Host) -> Vec<Finding> {
    vec![mappings(host), propagation(host)]
}

/// Makes an overlay file system on the disk that images are on, and drops it: it is attached nowhere.
pub fn overlay(root: &Path) -> Finding {
    // Where the directory is not there yet, its parent is on the disk that it will be on.
    let place = root.ancestors().find(|one| one.is_dir()).unwrap_or(Path::new("/"));
    let name = format!(".isopod-doctor-{}", std::process::id());
    let directory = place.join(name);
    let tried = try_overlay(&directory);
    // What is left is empty, and named for what it is.
    let _ = std::fs::remove_dir_all(&directory);
    match tried {
        Ok(()) => Finding::good(
            "overlay",
            format!("root file systems can be made below {}", place.display()),
        ),
        Err(error) => {
            let said =
                format!("no root file system can be made below {}: {error}", place.display());
            Finding::bad("overlay", said, advice(&error))
        }
    }
}

/// What to do about what kept it from being made.
fn advice(error: &io::Error) -> &'static str {
    let kind = error.kind();
    if kind == ErrorKind::ReadOnlyFilesystem {
        "its file system is read-only: mount it read-write (the kernel's log says why, where it became so by itself), \
         or set root to another place"
    } else if kind == ErrorKind::PermissionDenied {
        "look as root, as whom the daemon runs"
    } else if kind == ErrorKind::StorageFull || kind == ErrorKind::QuotaExceeded {
        "make room: `isopod rmi` and `isopod image prune` remove images"
    } else {
        "images must be on ext4, or on xfs with ftype=1, or on another file system that can be the upper layer of \
         overlay; set root to such a place"
    }
}

fn try_overlay(directory: &Path) -> io::Result<()> {
    for name in ["lower", "upper", "work"] {
        std::fs::create_dir_all(directory.join(name))?;
    }
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, name) in [("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work")] {
        fsconfig_set_string(&context, key, directory.join(name))?;
    }
    fsconfig_create(&context)?;
    let made = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    drop(made);
    Ok(())
}

/// Overlay file systems take mappings of ids since Linux 5.19.
fn mappings(host: &Host) -> Finding {
    let release = host.text("/proc/sys/kernel/osrelease");
    let mut numbers = release.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (5, 19) {
        return Finding::good("idmap", "files of a pod can belong to users of its own");
    }
    let said = "the kernel cannot map the owners of an overlay file system";
    Finding::warning("idmap", said, "pods with hostUsers: false need Linux 5.19")
}

/// Volumes that share mounts with the host need a shared mount there (mount_namespaces(7)).
fn propagation(host: &Host) -> Finding {
    let mounts = host.text("/proc/self/mountinfo");
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/"));
    if root.is_some_and(|line| line.contains(" shared:")) {
        return Finding::good("propagation", "the root mount is shared");
    }
    let said = "the root mount is private: volumes with mountPropagation Bidirectional are refused";
    Finding::warning("propagation", said, "mount --make-rshared / (systemd does it at boot)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_fits_the_error() {
        let of = |errno: rustix::io::Errno| advice(&errno.into());
        assert!(of(rustix::io::Errno::ROFS).contains("read-only"));
        assert!(of(rustix::io::Errno::PERM).contains("as root"));
        assert!(of(rustix::io::Errno::NOSPC).contains("room"));
        assert!(of(rustix::io::Errno::INVAL).contains("ext4"));
    }

    #[test]
    fn what_was_tried_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let finding = overlay(&directory.path().join("not/there/yet"));
        assert_eq!(finding.about, "overlay");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "{finding:?}");
    }
}
