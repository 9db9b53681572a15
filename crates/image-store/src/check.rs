//! Whether layers are still what was unpacked.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use model::Digest;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

use crate::error::{ImageStoreError, at};
use crate::layout::{self, FS, SUMS};
use crate::store::ImageStore;
use crate::sums::{self, Sum};
use crate::trash::Area;

/// Problems of one layer that are told; the rest is only counted.
const TOLD: usize = 20;

/// What checking a layer found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerCheck {
    /// The layer.
    pub chain_id: Digest,
    /// Files that were compared.
    pub files: usize,
    /// Files that are not what was unpacked, in words; at most twenty.
    pub problems: Vec<String>,
    /// How many there are.
    pub bad: usize,
}

/// What came of giving up a damaged layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condemned {
    /// Images that had it; they are gone, and come back by a pull that fetches this layer alone.
    pub images: Vec<Digest>,
    /// Whether the layer stays for now, because a container uses it.
    pub is_in_use: bool,
}

impl ImageStore {
    /// Chain ids of all layers, sorted.
    #[must_use]
    pub fn layers(&self) -> Vec<Digest> {
        self.inner.tables().layer_ids()
    }

    /// Reads every file of a layer and compares it with the checksum that was taken when it was
    /// unpacked; `None` if there is no such layer. Reads the whole layer, and locks nothing meanwhile.
    ///
    /// # Errors
    /// The disk fails; a file that differs is no error.
    pub fn check_layer(&self, chain_id: &Digest) -> Result<Option<LayerCheck>, ImageStoreError> {
        let Some(_held) = self.hold_layer(chain_id) else { return Ok(None) };
        let layout = &self.inner.layout;
        let path = layout.root.join("layers").join(chain_id.hex());
        let mut check =
            LayerCheck { chain_id: chain_id.clone(), files: 0, problems: Vec::new(), bad: 0 };
        let dir = layout::open_dir(&layout.layers_fd, chain_id.hex())
            .and_then(|dir| layout::open_dir(&dir, FS));
        let root = match dir {
            Ok(root) => root,
            Err(Errno::NOENT) => {
                check.problem("its directory is gone");
                return Ok(Some(check));
            }
            Err(e) => return Err(at("open", path)(e)),
        };
        let list = match std::fs::read(path.join(SUMS)) {
            Ok(bytes) => sums::parse(&bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(at("read", path.join(SUMS))(e)),
        };
        match list {
            Some(list) => check.compare(&root, &list).map_err(at("read", path))?,
            None => check.problem("its list of checksums is damaged"),
        }
        Ok(Some(check))
    }

    /// Gives up a damaged layer: images that have it are removed with their names, other layers stay
    /// for the pull that comes.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn condemn_layer(&self, chain_id: &Digest) -> Result<Condemned, ImageStoreError> {
        let inner = &self.inner;
        let images = inner.tables().images_with(chain_id);
        for image in &images {
            inner.forget_image(image)?;
        }
        if let Some(tree) = inner.free_layer(chain_id)? {
            inner.delete(Area::Images, &[tree]);
        }
        Ok(Condemned { images, is_in_use: inner.tables().layer(chain_id).is_some() })
    }
}

impl LayerCheck {
    /// Whether everything is as it was unpacked.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.bad == 0
    }

    fn problem(&mut self, text: impl Into<String>) {
        self.bad += 1;
        if self.problems.len() < TOLD {
            self.problems.push(text.into());
        }
    }

    fn compare(&mut self, root: &OwnedFd, list: &BTreeMap<PathBuf, Sum>) -> io::Result<()> {
        for (path, sum) in list {
            self.files += 1;
            if let Some(problem) = difference(root, path, *sum)? {
                self.problem(format!("{}: {problem}", path.display()));
            }
        }
        Ok(())
    }
}

/// How a file differs from what was unpacked.
fn difference(root: &OwnedFd, path: &Path, sum: Sum) -> io::Result<Option<String>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let fd = match openat2(root, path, flags, Mode::empty(), how) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Some("it is gone".to_owned())),
        Err(Errno::LOOP | Errno::NXIO) => return Ok(Some("it is no file any more".to_owned())),
        Err(e) => return Err(e.into()),
    };
    let stat = fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(Some("it is no file any more".to_owned()));
    }
    if u64::try_from(stat.st_size) != Ok(sum.size) {
        return Ok(Some(format!("it has {} bytes instead of {}", stat.st_size, sum.size)));
    }
    let Some(expected) = sum.crc else { return Ok(None) };
    let mut file = std::fs::File::from(fd);
    let mut crc = crc32fast::Hasher::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => crc.update(&buffer[..n]),
            // A sector that cannot be read is what the check is for.
            Err(e) => return Ok(Some(format!("it cannot be read: {e}"))),
        }
    }
    Ok((crc.finalize() != expected).then(|| "its content has changed".to_owned()))
}
