//! A container's root file system, its volumes, and what its image says about users. Everything here blocks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use image_store::{Image, ImageStore, ImageStoreError};
use model::{
    Access, Class, Classified as _, ContainerConfig, ContainerId, Digest, Mount, MountSource,
    Propagation, Rootfs,
};
use monitor_client::api::Volume;
use specgen::{Identity, RequestedGroups, ResolvedMount};

use super::host_paths::resolved;
use model::with_causes;

use crate::error::Cause;

/// The longest passwd and group files that are read, in bytes.
const ACCOUNTS_MAX: u64 = 4 << 20;

/// The word that the kubelet shows for an image volume that cannot be mounted.
const IMAGE_VOLUME_FAILED: &str = "ImageVolumeMountFailed";

/// The image that a request names.
pub(super) fn find(images: &ImageStore, config: &ContainerConfig) -> Result<Image, Cause> {
    let spec = &config.image;
    for text in [&spec.image, &spec.image_ref] {
        if text.is_empty() {
            continue;
        }
        if let Some(image) = images.find(text)? {
            return Ok(image);
        }
    }
    Err(Cause::other(Class::NotFound, format!("image {:?} is not on this node", spec.image)))
}

/// A container's file systems, ready to be mounted.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) rootfs: Rootfs,
    /// Trees that the monitor mounts for image volumes.
    pub(super) volumes: Vec<Volume>,
    /// All mounts: the image's own volumes first, so that the request's can lie in them.
    pub(super) mounts: Vec<ResolvedMount>,
    /// For each mount of the request the image that is mounted, if it is one.
    pub(super) image_ids: Vec<Option<Digest>>,
    pub(super) identity: Identity,
}

/// What is to be prepared beside the image.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The mounts of the request that are paths of the host.
    pub(super) on_host: Vec<Option<ResolvedMount>>,
    /// Where image volumes are mounted.
    pub(super) places: PathBuf,
    /// The most that the container may write.
    pub(super) bytes: Option<u64>,
}

/// Prepares them.
pub(super) fn prepare(
    images: &ImageStore,
    image: &Image,
    id: &ContainerId,
    config: &ContainerConfig,
    wanted: Wanted,
) -> Result<Prepared, Cause> {
    let Wanted { on_host, places, bytes } = wanted;
    let rootfs = images.prepare(image, id, bytes)?;
    let identity = identity(images, image, config, &rootfs)?;
    let mut mounts = own_volumes(images, image, id, config)?;
    let mut volumes = Vec::new();
    let mut image_ids = Vec::new();
    for (mount, found) in config.mounts.iter().zip(on_host) {
        let (MountSource::Image { image, sub_path }, None) = (&mount.source, &found) else {
            mounts.extend(found);
            image_ids.push(None);
            continue;
        };
        let shown = format!("mount {}: image {:?}", mount.container_path.display(), image.image);
        let failed = |class, problem: &str| Cause::Other {
            class,
            reason: Some(IMAGE_VOLUME_FAILED),
            message: format!("{shown}{problem}"),
        };
        let volume = images.find(&image.image)?;
        let missing = || failed(Class::FailedPrecondition, " is not on this node");
        let volume = volume.ok_or_else(missing)?;
        let layers = images.read_only_root(&volume, id);
        let layers = layers.map_err(|e| failed(e.class(), &format!(": {}", with_causes(&e))))?;
        let place = places.join(volumes.len().to_string());
        let sub_path = sub_path.clone();
        volumes.push(Volume { place: place.clone(), rootfs: layers, sub_path, shown });
        let mount = Mount { access: Access::ReadOnly, ..mount.clone() };
        mounts.push(resolved(&mount, place));
        image_ids.push(Some(volume.id));
    }
    Ok(Prepared { rootfs, volumes, mounts, image_ids, identity })
}

/// Anonymous volumes of the image, but where the request mounts something of its own.
fn own_volumes(
    images: &ImageStore,
    image: &Image,
    id: &ContainerId,
    config: &ContainerConfig,
) -> Result<Vec<ResolvedMount>, Cause> {
    let mut mounts = Vec::new();
    for path in volumes_to_make(&image.config.volumes, &config.mounts) {
        let source = images.volume(id, &path).map_err(|e| named(e, config))?;
        mounts.push(ResolvedMount {
            destination: path,
            source,
            access: Access::ReadWrite,
            propagation: Propagation::Private,
            uid_mappings: Vec::new(),
            gid_mappings: Vec::new(),
            options: Vec::new(),
        });
    }
    Ok(mounts)
}

/// Says which image it is that has too much for its container.
fn named(error: ImageStoreError, config: &ContainerConfig) -> Cause {
    if let ImageStoreError::OverLimit { .. } = error {
        let message = format!("image {:?}: {error}", config.image.image);
        return Cause::other(Class::ResourceExhausted, message);
    }
    error.into()
}

/// The volumes of an image that are to be made, each once; the image is not trusted to name sane paths.
fn volumes_to_make(volumes: &[String], mounts: &[Mount]) -> Vec<PathBuf> {
    let is_sane = |path: &Path| {
        path.is_absolute()
            && path.parent().is_some()
            && !path.components().any(|c| c == std::path::Component::ParentDir)
    };
    let plain = |path: &Path| -> PathBuf { path.components().collect() };
    let asked: BTreeSet<PathBuf> = mounts.iter().map(|m| plain(&m.container_path)).collect();
    let all: BTreeSet<PathBuf> = volumes
        .iter()
        .map(|text| plain(Path::new(text)))
        .filter(|path| is_sane(path) && !asked.contains(path))
        .collect();
    all.into_iter().collect()
}

fn identity(
    images: &ImageStore,
    image: &Image,
    config: &ContainerConfig,
    rootfs: &Rootfs,
) -> Result<Identity, Cause> {
    let read = |path: &str| -> Result<Option<String>, Cause> {
        let bytes = images.read_file(rootfs, Path::new(path), ACCOUNTS_MAX)?;
        Ok(bytes.map(|b| String::from_utf8_lossy(&b).into_owned()))
    };
    let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
    let security = &config.security;
    let groups = RequestedGroups {
        supplemental: &security.supplemental_groups,
        policy: security.groups_policy,
    };
    let image_user = &image.config.user;
    let identity = specgen::resolve_user(
        &security.run_as,
        image_user,
        passwd.as_deref(),
        group.as_deref(),
        groups,
    )?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_images_volumes_are_made_once_where_they_are_sane_and_nobody_mounts_something() {
        let mount = |path: &str| Mount {
            container_path: path.into(),
            source: MountSource::HostPath("/x".into()),
            access: Access::default(),
            propagation: Propagation::default(),
            selinux_relabel: false,
            uid_mappings: Vec::new(),
            gid_mappings: Vec::new(),
            options: Vec::new(),
        };
        let volumes = ["/data", "/data/", "/asked", "relative", "/", "/a/../../etc", "/cache"]
            .map(str::to_owned);
        let made = volumes_to_make(&volumes, &[mount("/asked/")]);
        assert_eq!(made, ["/cache", "/data"].map(PathBuf::from));
    }
}
