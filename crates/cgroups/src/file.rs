//! Reading and writing a cgroup's files.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags, open, openat};

use crate::error::CgroupError;

/// What is read at once: more than most of these files have.
const CHUNK: usize = 4096;

/// A cgroup's directory from which several files are read: its path is looked up once.
#[derive(Debug)]
pub(crate) struct Folder<'a> {
    path: &'a Path,
    /// Nothing where it is gone.
    fd: Option<OwnedFd>,
}

impl<'a> Folder<'a> {
    pub(crate) fn open(path: &'a Path) -> Result<Self, CgroupError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { path, fd: Some(fd) }),
            Err(errno) if is_absent(&errno.into()) => Ok(Self { path, fd: None }),
            Err(errno) => Err(CgroupError::Read { path: path.to_owned(), source: errno.into() }),
        }
    }

    /// Reads one of its files, as [`read_if_there`] does.
    pub(crate) fn read_if_there(&self, name: &str) -> Result<Option<String>, CgroupError> {
        let Some(fd) = &self.fd else { return Ok(None) };
        let opened = openat(fd, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        match opened.map_err(io::Error::from).and_then(|file| text_of(&file)) {
            Ok(text) => Ok(Some(text)),
            Err(source) if is_absent(&source) => Ok(None),
            Err(source) => Err(CgroupError::Read { path: self.path.join(name), source }),
        }
    }
}

/// The text of a file that is made when it is read and says no size, in as few calls as can be.
fn text(path: &Path) -> io::Result<String> {
    text_of(&File::open(path)?)
}

fn text_of(file: impl AsFd) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(CHUNK);
    loop {
        if bytes.len() == bytes.capacity() {
            bytes.reserve(CHUNK);
        }
        match rustix::io::read(&file, spare_capacity(&mut bytes)) {
            Ok(0) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    String::from_utf8(bytes).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))
}

/// Reads a file of a cgroup; `None` if it is not there, because its controller or the kernel's feature is not.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<String>, CgroupError> {
    match text(path) {
        Ok(text) => Ok(Some(text)),
        Err(source) if is_absent(&source) => Ok(None),
        Err(source) => Err(CgroupError::Read { path: path.to_owned(), source }),
    }
}

pub(crate) fn read(path: &Path) -> Result<String, CgroupError> {
    text(path).map_err(|source| CgroupError::Read { path: path.to_owned(), source })
}

/// Writes `value` in one write(2), which is what the kernel takes as one order. Never makes a file.
pub(crate) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    write_each(path, std::iter::once(value))
}

/// The same for several values, one order each.
pub(crate) fn write_each<T: AsRef<str>>(
    path: &Path,
    values: impl IntoIterator<Item = T>,
) -> Result<(), CgroupError> {
    let mut open: Option<File> = None;
    for value in values {
        let value = value.as_ref();
        let mut written = || -> io::Result<()> {
            let file = match &mut open {
                Some(file) => file,
                None => open.insert(File::options().write(true).open(path)?),
            };
            file.write_all(value.as_bytes())
        };
        written().map_err(|source| CgroupError::Write {
            path: path.to_owned(),
            value: value.to_owned(),
            source,
        })?;
    }
    Ok(())
}

/// ENODEV is what a file answers whose cgroup was removed while it was open.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

/// The directories in `dir`; none if it is gone.
pub(crate) fn subdirectories(dir: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let failed = |source| CgroupError::Read { path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(source) if is_absent(&source) => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(source) if is_absent(&source) => break,
            Err(source) => return Err(failed(source)),
        };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Sizes of huge pages that this machine has, as the names of cgroups' files have them (2MB), sorted.
pub(crate) fn huge_page_sizes() -> &'static [String] {
    static SIZES: OnceLock<Vec<String>> = OnceLock::new();
    SIZES.get_or_init(|| {
        let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten();
        let size = |name: &str| size_name(name.strip_prefix("hugepages-")?.strip_suffix("kB")?);
        let mut found: Vec<String> =
            entries.filter_map(|entry| size(entry.ok()?.file_name().to_str()?)).collect();
        found.sort_unstable();
        found
    })
}

/// The kernel's name of a size in KiB: in the largest unit that gives a whole number of at least one.
fn size_name(kib: &str) -> Option<String> {
    let kib: u64 = kib.parse().ok()?;
    Some(match kib {
        0..1024 => format!("{kib}KB"),
        1024..1_048_576 => format!("{}MB", kib / 1024),
        1_048_576.. => format!("{}GB", kib / 1_048_576),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_of_huge_pages_has_the_kernels_name() {
        for (kib, name) in
            [("64", "64KB"), ("2048", "2MB"), ("524288", "512MB"), ("1048576", "1GB")]
        {
            assert_eq!(size_name(kib).unwrap(), name);
        }
        assert_eq!(size_name("x"), None);
    }

    #[test]
    fn a_folder_that_is_gone_has_no_files_and_a_file_is_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let long = "0123456789".repeat(2000);
        std::fs::write(dir.path().join("long"), &long).unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(folder.read_if_there("long").unwrap().unwrap(), long);
        assert_eq!(folder.read_if_there("none").unwrap(), None);
        let gone = dir.path().join("gone");
        assert_eq!(Folder::open(&gone).unwrap().read_if_there("long").unwrap(), None);
    }
}
