//! Reading and writing a cgroup's files.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use crate::error::CgroupError;

/// Reads a file of a cgroup; `None` if it is not there, because its controller or the kernel's feature is not.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<String>, CgroupError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(source) if is_absent(&source) => Ok(None),
        Err(source) => Err(CgroupError::Read { path: path.to_owned(), source }),
    }
}

pub(crate) fn read(path: &Path) -> Result<String, CgroupError> {
    std::fs::read_to_string(path)
        .map_err(|source| CgroupError::Read { path: path.to_owned(), source })
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

/// Sizes of huge pages that there are files `hugetlb.SIZE{ending}` for, sorted by name.
pub(crate) fn sizes(dir: &Path, ending: &str) -> Result<Vec<String>, CgroupError> {
    let failed = |source| CgroupError::Read { path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(source) if is_absent(&source) => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let size = name.to_str().and_then(|n| n.strip_prefix("hugetlb.")?.strip_suffix(ending));
        found.extend(size.filter(|size| !size.contains('.')).map(str::to_owned));
    }
    found.sort_unstable();
    Ok(found)
}
