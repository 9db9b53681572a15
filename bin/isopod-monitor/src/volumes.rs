//! Trees that containers have as volumes, mounted in the monitor's own mount namespace: of images, and for external
//! runtimes of the host.

use std::path::{Component, Path, PathBuf};

use model::Class;
use monitor_api::{Refusal, Volume};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount as unmount_at};

use crate::pod::{Pod, PodUsers};
use crate::refusal::{refuse, step_failed};

/// Mounts them all or none; returns where.
pub fn mount(pod: &Pod, volumes: &[Volume]) -> Result<Vec<PathBuf>, Refusal> {
    let mut mounted = Vec::new();
    for volume in volumes {
        let result = check(&volume.place, &pod.directory).and_then(|()| {
            let users = pod.users.as_ref().map(PodUsers::as_users);
            let mounted =
                launcher::mount_volume_at(&volume.rootfs, &volume.sub_path, &volume.place, users);
            mounted.map_err(|mut failure| {
                if !volume.shown.is_empty() {
                    failure.what = format!("{}: {}", volume.shown, failure.what);
                }
                step_failed(launcher::Phase::Mounts)(failure)
            })
        });
        if let Err(refusal) = result {
            unmount(&mounted);
            return Err(refusal);
        }
        mounted.push(volume.place.clone());
    }
    Ok(mounted)
}

/// Unmounts them and removes their places.
pub fn unmount(places: &[PathBuf]) {
    for place in places {
        // What the host has below a tree that it shares would go with it.
        let apart = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        if mount_change(place, apart).is_err() {
            continue;
        }
        // What is still in use by a container is let go with that container; the directory goes with the pod's.
        if unmount_at(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {
            let _ = std::fs::remove_dir(place).or_else(|_| std::fs::remove_file(place));
        }
    }
}

fn check(place: &Path, directory: &Path) -> Result<(), Refusal> {
    let is_clean =
        place.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if is_clean && place.starts_with(directory) && place != directory {
        return Ok(());
    }
    Err(refuse(
        Class::InvalidArgument,
        format!("{} is not below the pod's directory", place.display()),
    ))
}
