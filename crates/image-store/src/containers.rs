//! Root file systems of containers, as data.

use std::path::PathBuf;
use std::time::Instant;

use model::{ContainerId, Digest, Rootfs};
use rustix::fs::{Gid, Mode, Uid, fchmod, fchown, fstat};

use crate::commit::record;
use crate::error::{ImageStoreError, at};
use crate::layout;
use crate::records::{self, ContainerRecord};
use crate::steps::Step;
use crate::store::{ImageStore, Inner};
use crate::trash::{self, Area};
use crate::types::Image;

pub(crate) const UPPER: &str = "upper";
const WORK: &str = "work";

impl ImageStore {
    /// Makes the writable directories of a container, which can take at most `bytes` together with its
    /// volumes. The image's data stays until [`ImageStore::release`]. Called again for the same image, it gives
    /// the same answer.
    ///
    /// # Errors
    /// [`ImageStoreError::NoLayer`]; [`ImageStoreError::NoQuota`]; what cannot be made.
    pub fn prepare(
        &self,
        image: &Image,
        container: &ContainerId,
        bytes: Option<u64>,
    ) -> Result<Rootfs, ImageStoreError> {
        let inner = &self.inner;
        let _turn = inner.busy_containers.take(container);
        let is_new = inner.use_for_root(image, container)?;
        if is_new && let Err(e) = inner.record_container(container) {
            inner.unuse_root(container);
            return Err(e);
        }
        let (upper, work) = inner.make_writable(image, container, bytes)?;
        Ok(Rootfs { lower: inner.lower(&image.layers), upper: Some((upper, work)) })
    }

    /// The image as a read-only root, for an image volume of `container`; its data stays until the
    /// container is released.
    ///
    /// # Errors
    /// [`ImageStoreError::NoLayer`]; what cannot be written.
    pub fn read_only_root(
        &self,
        image: &Image,
        container: &ContainerId,
    ) -> Result<Rootfs, ImageStoreError> {
        let inner = &self.inner;
        let _turn = inner.busy_containers.take(container);
        let added = inner.use_for_volume(image, container)?;
        if !added.is_empty()
            && let Err(e) = inner.record_container(container)
        {
            inner.unuse_volume(container, &added);
            return Err(e);
        }
        Ok(Rootfs { lower: inner.lower(&image.layers), upper: None })
    }

    /// Deletes what a container had here, and lets its image's data go. Succeeds for one that is gone.
    ///
    /// # Errors
    /// What cannot be moved out of the way; trees that cannot be deleted stay in the trash.
    pub fn release(&self, container: &ContainerId) -> Result<(), ImageStoreError> {
        let inner = &self.inner;
        let _turn = inner.busy_containers.take(container);
        let steps = &*inner.options.steps;
        let tree = trash::trash(
            &inner.layout,
            steps,
            Area::Containers,
            &inner.layout.containers_fd,
            container.as_str().as_ref(),
        )?;
        inner.quotas.forget(container);
        inner.step(Step::ForgetContainer, "forget a container in", inner.layout.root.clone())?;
        inner
            .container_records
            .remove(&records::container_key(container))
            .map_err(record("remove the record of container", container.as_str()))?;
        let idle = inner.tables().remove_container(container, Instant::now());
        let mut trees = Vec::new();
        for chain_id in &idle {
            trees.extend(inner.free_layer(chain_id)?);
        }
        inner.delete(Area::Containers, tree.as_slice());
        inner.delete(Area::Images, &trees);
        Ok(())
    }

    /// Whether writable directories can be kept to a size: their file system has project quotas.
    #[must_use]
    pub fn limits_writable(&self) -> bool {
        self.inner.quotas.known == sys::ProjectQuotas::Enforced
    }

    /// Whether what is written is counted as it is written: [`ImageStore::usage`] then asks the file system.
    #[must_use]
    pub fn counts_writable(&self) -> bool {
        self.inner.quotas.known != sys::ProjectQuotas::Absent
    }

    /// Every container that has something here, sorted, for the scan for orphans.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn containers(&self) -> Result<Vec<ContainerId>, ImageStoreError> {
        let inner = &self.inner;
        let names = layout::names(&inner.layout.containers_fd)
            .map_err(at("read", inner.layout.containers.clone()))?;
        let mut ids: Vec<_> =
            names.iter().filter_map(|n| ContainerId::parse(n.to_str()?).ok()).collect();
        ids.extend(inner.tables().container_ids().cloned());
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}

impl Inner {
    /// Lower directories, the topmost first.
    pub fn lower(&self, layers: &[Digest]) -> Vec<PathBuf> {
        if layers.is_empty() {
            return vec![self.layout.empty()];
        }
        layers.iter().rev().map(|c| self.layout.layer_fs(c)).collect()
    }

    /// Counts the use; `false` if the container has this root already.
    fn use_for_root(
        &self,
        image: &Image,
        container: &ContainerId,
    ) -> Result<bool, ImageStoreError> {
        let mut tables = self.tables();
        if tables.container(container).is_some_and(|c| c.root.as_ref() == Some(&image.layers)) {
            return Ok(false);
        }
        tables.use_layers(&image.layers).map_err(|chain_id| ImageStoreError::NoLayer {
            chain_id,
            needed_by: format!("container {container}"),
        })?;
        let before = tables.container_mut(container).root.replace(image.layers.clone());
        let _idle = tables.unuse_layers(&before.unwrap_or_default(), Instant::now());
        Ok(true)
    }

    fn unuse_root(&self, container: &ContainerId) {
        let mut tables = self.tables();
        let layers = tables.container_mut(container).root.take().unwrap_or_default();
        let _idle = tables.unuse_layers(&layers, Instant::now());
    }

    /// Counts the use of layers that no volume of the container uses yet, and returns them.
    fn use_for_volume(
        &self,
        image: &Image,
        container: &ContainerId,
    ) -> Result<Vec<Digest>, ImageStoreError> {
        let mut tables = self.tables();
        let known = tables.container(container).map(|c| c.volumes.clone()).unwrap_or_default();
        let added: Vec<_> = image.layers.iter().filter(|l| !known.contains(l)).cloned().collect();
        tables.use_layers(&added).map_err(|chain_id| ImageStoreError::NoLayer {
            chain_id,
            needed_by: format!("a volume of container {container}"),
        })?;
        tables.container_mut(container).volumes.extend(added.iter().cloned());
        Ok(added)
    }

    fn unuse_volume(&self, container: &ContainerId, added: &[Digest]) {
        let mut tables = self.tables();
        tables.container_mut(container).volumes.retain(|l| !added.contains(l));
        let _idle = tables.unuse_layers(added, Instant::now());
    }

    /// Writes down what the container uses, before anything of it exists.
    fn record_container(&self, container: &ContainerId) -> Result<(), ImageStoreError> {
        let entry = self.tables().container(container).cloned().unwrap_or_default();
        self.step(Step::RecordContainer, "record a container in", self.layout.root.clone())?;
        let uses = ContainerRecord {
            container: container.clone(),
            root: entry.root,
            volumes: entry.volumes,
        };
        self.container_records
            .put(&records::container_key(container), &uses)
            .map_err(record("record container", container.as_str()))
    }

    /// The upper and the work directory. The upper one looks like the image's root: overlayfs shows
    /// its owner and mode as those of the root.
    fn make_writable(
        &self,
        image: &Image,
        container: &ContainerId,
        bytes: Option<u64>,
    ) -> Result<(PathBuf, PathBuf), ImageStoreError> {
        let path = self.layout.containers.join(container.as_str());
        let (upper_path, work_path) = (path.join(UPPER), path.join(WORK));
        self.step(Step::PrepareContainer, "make", path.clone())?;
        let dir = layout::ensure_dir(&self.layout.containers_fd, container.as_str())
            .map_err(at("make", path))?;
        // What is made in it has its project: upper, work and volumes, as overlayfs needs them to have the same.
        self.quotas.assign(container, &dir, bytes)?;
        layout::ensure_dir(&dir, WORK).map_err(at("make", work_path.clone()))?;
        let upper = layout::ensure_dir(&dir, UPPER).map_err(at("make", upper_path.clone()))?;
        let (mode, uid, gid) = match image.layers.last() {
            None => (0o755, 0, 0),
            Some(top) => {
                let path = self.layout.layer_fs(top);
                let fd = layout::open_host_dir(&path).map_err(at("open", path.clone()))?;
                let stat = fstat(&fd).map_err(at("read the mode of", path))?;
                (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)
            }
        };
        fchown(&upper, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(at("set the owner of", upper_path.clone()))?;
        fchmod(&upper, Mode::from_raw_mode(mode))
            .map_err(at("set the mode of", upper_path.clone()))?;
        Ok((upper_path, work_path))
    }
}
