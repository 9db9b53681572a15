//! What things take.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::Ordering;

use model::ContainerId;
use rustix::fs::{fstat, fstatvfs, major, minor};
use rustix::io::Errno;

use crate::containers::UPPER;
use crate::error::{ImageStoreError, at};
use crate::layout;
use crate::measure::measure;
use crate::store::ImageStore;
use crate::types::{FsInfo, FsUsage, Measured, Space, Usage};

impl ImageStore {
    /// What a container's writable directories, volumes included, take: now, where its file system counts
    /// that, else when they were last measured. Nothing is walked.
    #[must_use]
    pub fn usage(&self, container: &ContainerId) -> Option<Measured> {
        self.inner.asked.store(true, Ordering::Relaxed);
        if let Some(usage) = self.inner.quotas.usage(container) {
            let measured = Measured { usage, at: layout::now() };
            self.inner.tables().measured(container, measured);
            return Some(measured);
        }
        self.last_usage(container)
    }

    /// The last answer of [`ImageStore::usage`] or [`ImageStore::measure`]. Nothing is asked, so that it never
    /// takes long.
    #[must_use]
    pub fn last_usage(&self, container: &ContainerId) -> Option<Measured> {
        self.inner.tables().container(container).and_then(|c| c.measured)
    }

    /// Whether anybody has asked what containers take ([`ImageStore::usage`], [`ImageStore::fs_info`]) since this
    /// was called last.
    #[must_use]
    pub fn was_asked(&self) -> bool {
        self.inner.asked.swap(false, Ordering::Relaxed)
    }

    /// The containers that can be measured: all, or those that never were.
    #[must_use]
    pub fn measurable(&self, only_new: bool) -> Vec<ContainerId> {
        self.inner.tables().measurable(only_new)
    }

    /// Measures a container's writable directories, volumes included, and remembers the answer.
    /// Walks the tree where nobody counts; nothing is locked meanwhile.
    ///
    /// # Errors
    /// [`ImageStoreError::NoContainer`]; what cannot be read.
    pub fn measure(&self, container: &ContainerId) -> Result<Measured, ImageStoreError> {
        let inner = &self.inner;
        let path = inner.layout.containers.join(container.as_str());
        let dir = match layout::open_dir(&inner.layout.containers_fd, container.as_str()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => {
                return Err(ImageStoreError::NoContainer { id: container.clone() });
            }
            Err(e) => return Err(at("open", path)(e)),
        };
        if let Some(usage) = inner.quotas.usage(container) {
            let measured = Measured { usage, at: layout::now() };
            inner.tables().measured(container, measured);
            return Ok(measured);
        }
        let mut usage = Usage::default();
        for part in [UPPER, "volumes"] {
            match layout::open_dir(&dir, part) {
                Ok(fd) => usage += measure(&fd).map_err(at("measure", path.join(part)))?,
                Err(Errno::NOENT) => {}
                Err(e) => return Err(at("open", path.join(part))(e)),
            }
        }
        let measured = Measured { usage, at: layout::now() };
        inner.tables().measured(container, measured);
        Ok(measured)
    }

    /// The file system of a container's writable directory. Where that is kept to a size, the file system
    /// says that size.
    ///
    /// # Errors
    /// [`ImageStoreError::NoContainer`]; a file system that does not answer.
    pub fn space(&self, container: &ContainerId) -> Result<Space, ImageStoreError> {
        let layout = &self.inner.layout;
        let own = Path::new(container.as_str());
        let open = |name: &Path| layout::open_dir(&layout.containers_fd, name);
        // A root that is only read has no such part.
        let opened = match open(&own.join(UPPER)) {
            Err(Errno::NOENT) => open(own),
            other => other,
        };
        let path = layout.containers.join(own);
        let dir = match opened {
            Ok(dir) => dir,
            Err(Errno::NOENT) => {
                return Err(ImageStoreError::NoContainer { id: container.clone() });
            }
            Err(e) => return Err(at("open", path)(e)),
        };
        let device = fstat(&dir).map_err(at("look at", path.clone()))?.st_dev;
        let fs = fs_usage(&dir, &path, Usage::default())?;
        let device = (major(device), minor(device));
        Ok(Space { device, capacity: fs.capacity, available: fs.available })
    }

    /// Space taken by images and containers, and what their file systems have left.
    ///
    /// # Errors
    /// A file system that does not answer.
    pub fn fs_info(&self) -> Result<FsInfo, ImageStoreError> {
        let inner = &self.inner;
        inner.asked.store(true, Ordering::Relaxed);
        let (mut layers, containers) = {
            let tables = inner.tables();
            (tables.layers_usage(), tables.containers_usage())
        };
        layers += inner.partial_usage();
        let layout = &inner.layout;
        let device =
            |fd: &OwnedFd, path: &Path| fstat(fd).map(|s| s.st_dev).map_err(at("look at", path));
        Ok(FsInfo {
            images: fs_usage(&layout.root_fd, &layout.root, layers)?,
            containers: fs_usage(&layout.containers_fd, &layout.containers, containers)?,
            is_shared: device(&layout.root_fd, &layout.root)?
                == device(&layout.containers_fd, &layout.containers)?,
        })
    }
}

fn fs_usage(fd: &OwnedFd, path: &Path, used: Usage) -> Result<FsUsage, ImageStoreError> {
    let fs = fstatvfs(fd).map_err(at("ask the file system of", path))?;
    let bytes = |blocks: u64| blocks.saturating_mul(fs.f_frsize);
    Ok(FsUsage {
        mountpoint: path.to_owned(),
        used,
        capacity: Usage { bytes: bytes(fs.f_blocks), inodes: fs.f_files },
        available: Usage { bytes: bytes(fs.f_bavail), inodes: fs.f_favail },
        at: layout::now(),
    })
}
