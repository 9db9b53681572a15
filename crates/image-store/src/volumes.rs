//! Files and directories out of root file systems.

use std::ffi::CString;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use model::{ContainerId, Digest, Rootfs};

use crate::copy::copy_merged;
use crate::delete::delete_tree;
use crate::error::{ImageStoreError, at};
use crate::layout;
use crate::merged::{MergedDir, Node, open_file};
use crate::store::{ImageStore, Inner};

const VOLUMES: &str = "volumes";

impl ImageStore {
    /// A container's directory for the anonymous volume at `path` of its image, made with the
    /// content, the mode and the owner that the image has there. Called again, it is the same one.
    ///
    /// # Errors
    /// [`ImageStoreError::NoContainer`] before `prepare`; [`ImageStoreError::OverLimit`] where the container
    /// has more than it may with the content; what cannot be made. Nothing of the volume is there then.
    pub fn volume(&self, container: &ContainerId, path: &Path) -> Result<PathBuf, ImageStoreError> {
        use std::os::unix::ffi::OsStrExt as _;
        let inner = &self.inner;
        let _turn = inner.busy_containers.take(container);
        let root = inner.tables().container(container).and_then(|c| c.root.clone());
        let layers = root.ok_or_else(|| ImageStoreError::NoContainer { id: container.clone() })?;
        let own = inner.layout.containers.join(container.as_str());
        // A path may be longer than a name, and holds slashes.
        let digest = oci_image::sha256(path.as_os_str().as_bytes());
        let place = own.join(VOLUMES).join(digest.hex());
        let fail = |e: rustix::io::Errno| at("make", place.clone())(e);
        let dir =
            layout::open_dir(&inner.layout.containers_fd, container.as_str()).map_err(fail)?;
        let volumes = layout::ensure_dir(&dir, VOLUMES).map_err(fail)?;
        if layout::open_dir(&volumes, digest.hex()).is_ok() {
            return Ok(place);
        }
        // Filled under another name: a volume that is there is whole.
        let unfinished = format!("new-{}", inner.layout.unique());
        if let Err(e) = inner.fill(container, &layers, path, &volumes, &unfinished, &place) {
            undo(&volumes, &unfinished);
            return Err(e);
        }
        rustix::fs::renameat(&volumes, &unfinished, &volumes, digest.hex()).map_err(fail)?;
        Ok(place)
    }

    /// A file of a root file system as the container will see it; links lead only inside the root.
    /// `None` if there is no such regular file.
    ///
    /// # Errors
    /// [`ImageStoreError::TooLong`] past `max` bytes; what cannot be read.
    pub fn read_file(
        &self,
        root: &Rootfs,
        path: &Path,
        max: u64,
    ) -> Result<Option<Vec<u8>>, ImageStoreError> {
        let upper = root.upper.iter().map(|(upper, _)| upper);
        let roots: Vec<_> = upper.chain(&root.lower).cloned().collect();
        let merged = MergedDir::open(&roots).map_err(|(path, e)| at("open", path)(e))?;
        let fail = || at("read from a root file system", path);
        let Some(Node::Other { parent, name, .. }) = merged.resolve(path).map_err(|e| fail()(e))?
        else {
            return Ok(None);
        };
        let Some(file) = open_file(&parent, &name).map_err(|e| fail()(e))? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(max.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(at("read from a root file system", path))?;
        if bytes.len() as u64 > max {
            return Err(ImageStoreError::TooLong { path: path.to_owned(), max });
        }
        Ok(Some(bytes))
    }
}

impl Inner {
    /// Makes the directory `name` in `volumes` with what the image of `layers` has at `path`.
    fn fill(
        &self,
        container: &ContainerId,
        layers: &[Digest],
        path: &Path,
        volumes: &OwnedFd,
        name: &str,
        place: &Path,
    ) -> Result<(), ImageStoreError> {
        let fail = |e: rustix::io::Errno| at("make", place)(e);
        let fd = layout::ensure_dir(volumes, name).map_err(fail)?;
        rustix::fs::fchmod(&fd, rustix::fs::Mode::from_raw_mode(0o755)).map_err(fail)?;
        let merged =
            MergedDir::open(&self.lower(layers)).map_err(|(path, e)| at("open", path)(e))?;
        match merged.resolve(path) {
            Ok(Some(Node::Directory(source))) => {
                let copied = copy_merged(&source, &fd);
                copied.map_err(|e| {
                    self.quotas.is_limit(container, &e).unwrap_or_else(|| at("fill", place)(e))
                })?;
            }
            Ok(Some(Node::Other { .. }) | None) => {}
            Err(e) => return Err(at("read the image's content of", path)(e)),
        }
        self.quotas.check(container)
    }
}

/// Takes an unfinished volume away; what cannot be deleted goes with its container.
fn undo(volumes: &OwnedFd, name: &str) {
    let deleted = CString::new(name).map_err(std::io::Error::from);
    if let Err(error) = deleted.and_then(|name| delete_tree(volumes.as_fd(), &name)) {
        tracing::warn!(name, %error, "an unfinished volume cannot be deleted now");
    }
}
