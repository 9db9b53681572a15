//! A directory of records.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use model::{Class, Classified};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};

use crate::format::{BadRecord, Record, decode, encode};
use crate::key::Key;

const NEW_PREFIX: &str = ".new-";
const BAD_DIR: &str = ".bad";

/// How long a record must last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Until the machine goes down: nothing is synced. For records on tmpfs.
    Boot,
    /// For good: the file is synced before it gets its name, the directory after.
    Disk,
}

/// A failure of the store, with what it was doing.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be made or opened.
    #[error("cannot open the record directory {}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A record cannot be written; the one before it is still there.
    #[error("cannot write the record {}", path.display())]
    Write {
        /// The record.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A record or the directory cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A record cannot be removed.
    #[error("cannot remove the record {}", path.display())]
    Remove {
        /// The record.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A record is there and is bad.
    #[error("the record {} is bad", path.display())]
    Bad {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        source: BadRecord,
    },
}

impl Classified for StoreError {
    fn class(&self) -> Class {
        match self {
            Self::Open { source, .. }
            | Self::Write { source, .. }
            | Self::Read { source, .. }
            | Self::Remove { source, .. } => Class::of_io(source),
            Self::Bad { .. } => Class::DataLoss,
        }
    }
}

/// A record that could not be read, and where it was put out of the way.
#[derive(Debug)]
pub struct Quarantined {
    /// The name of the record.
    pub name: String,
    /// Where the file is now.
    pub moved_to: PathBuf,
    /// What is wrong with it.
    pub reason: BadRecord,
}

/// What a store held when it was read as a whole.
#[derive(Debug)]
pub struct Loaded<R> {
    /// The good ones, sorted by key.
    pub records: Vec<(Key, R)>,
    /// The bad ones, which are out of the way now.
    pub quarantined: Vec<Quarantined>,
}

/// A directory of records.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    dir: OwnedFd,
    durability: Durability,
}

impl Store {
    /// Opens the store in the directory `path`, which is made (mode 0700) if it is missing. What
    /// writers that died have left behind is removed.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        let failed = |source: io::Error| StoreError::Open { path: path.to_owned(), source };
        make_private_dirs(path).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        let store = Self { path: path.to_owned(), dir, durability };
        for (name, kind) in store.entries().map_err(failed)? {
            if kind == FileType::RegularFile && name.starts_with(NEW_PREFIX) {
                rustix::fs::unlinkat(&store.dir, &name, AtFlags::empty())
                    .map_err(|e| failed(e.into()))?;
            }
        }
        Ok(store)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `record` under `key`; it replaces the one that is there as a whole or not at all.
    ///
    /// # Errors
    /// [`StoreError::Write`]; what was there before is there still.
    pub fn put<R: Record>(&self, key: &Key, record: &R) -> Result<(), StoreError> {
        let write = || -> io::Result<()> {
            fault::check!("store.", R::KIND, ".put.before")?;
            let bytes = encode(record)?;
            let temporary = format!("{NEW_PREFIX}{key}");
            let flags = OFlags::WRONLY
                | OFlags::CREATE
                | OFlags::TRUNC
                | OFlags::CLOEXEC
                | OFlags::NOFOLLOW;
            let fd = rustix::fs::openat(&self.dir, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
            let mut file = File::from(fd);
            let written = file.write_all(&bytes).and_then(|()| match self.durability {
                Durability::Disk => file.sync_data(),
                Durability::Boot => Ok(()),
            });
            let done = written
                .and_then(|()| fault::check!("store.", R::KIND, ".put.written"))
                .and_then(|()| {
                    Ok(rustix::fs::renameat(&self.dir, &temporary, &self.dir, key.as_str())?)
                })
                .and_then(|()| self.sync_dir());
            if done.is_err() {
                // The name may be gone already; what counts is the error of the write.
                let _ = rustix::fs::unlinkat(&self.dir, &temporary, AtFlags::empty());
            }
            fault::point!("store.", R::KIND, ".put.after");
            done
        };
        write().map_err(|source| StoreError::Write { path: self.path.join(key.as_str()), source })
    }

    /// The record of this key, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Read`], or [`StoreError::Bad`] for one that is damaged; it is left where it is.
    pub fn get<R: Record>(&self, key: &Key) -> Result<Option<R>, StoreError> {
        let path = || self.path.join(key.as_str());
        match self.read_bytes(key.as_str()) {
            Ok(bytes) => {
                decode(&bytes).map(Some).map_err(|source| StoreError::Bad { path: path(), source })
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Read { path: path(), source }),
        }
    }

    /// Removes the record of this key; it is no error if there is none.
    ///
    /// # Errors
    /// [`StoreError::Remove`].
    pub fn remove(&self, key: &Key) -> Result<(), StoreError> {
        let remove = || match rustix::fs::unlinkat(&self.dir, key.as_str(), AtFlags::empty()) {
            Ok(()) => self.sync_dir(),
            Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(e) => Err(e.into()),
        };
        let done = fault::check!("store.", self.name(), ".remove.before").and_then(|()| remove());
        fault::point!("store.", self.name(), ".remove.after");
        done.map_err(|source| StoreError::Remove { path: self.path.join(key.as_str()), source })
    }

    /// Reads everything. Bad records are moved into the directory `.bad` and reported.
    ///
    /// # Errors
    /// [`StoreError::Read`] when the directory itself, or a file in it, cannot be read.
    pub fn load_all<R: Record>(&self) -> Result<Loaded<R>, StoreError> {
        let mut names: Vec<String> = self
            .entries()
            .map_err(|source| StoreError::Read { path: self.path.clone(), source })?
            .into_iter()
            .filter(|(name, kind)| *kind == FileType::RegularFile && !name.starts_with('.'))
            .map(|(name, _)| name)
            .collect();
        names.sort_unstable();
        let mut loaded =
            Loaded { records: Vec::with_capacity(names.len()), quarantined: Vec::new() };
        for name in names {
            let read = |source| StoreError::Read { path: self.path.join(&name), source };
            let bytes = self.read_bytes(&name).map_err(read)?;
            match (Key::parse(&name), decode(&bytes)) {
                (Ok(key), Ok(record)) => loaded.records.push((key, record)),
                (_, Err(reason)) => {
                    let moved_to = self.quarantine(&name).map_err(read)?;
                    loaded.quarantined.push(Quarantined { name, moved_to, reason });
                }
                (Err(_), Ok(_)) => {
                    let moved_to = self.quarantine(&name).map_err(read)?;
                    loaded.quarantined.push(Quarantined {
                        name,
                        moved_to,
                        reason: BadRecord::Header,
                    });
                }
            }
        }
        Ok(loaded)
    }

    /// The last part of its path, which tells stores apart where a record's kind is not known.
    fn name(&self) -> std::borrow::Cow<'_, str> {
        self.path.file_name().unwrap_or_default().to_string_lossy()
    }

    fn quarantine(&self, name: &str) -> io::Result<PathBuf> {
        match rustix::fs::mkdirat(&self.dir, BAD_DIR, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        rustix::fs::renameat(&self.dir, name, &self.dir, format!("{BAD_DIR}/{name}"))?;
        self.sync_dir()?;
        Ok(self.path.join(BAD_DIR).join(name))
    }

    fn read_bytes(&self, name: &str) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut file = File::from(rustix::fs::openat(&self.dir, name, flags, Mode::empty())?);
        let mut bytes = Vec::with_capacity(4096);
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn entries(&self) -> io::Result<Vec<(String, FileType)>> {
        let mut all = Vec::new();
        for entry in Dir::read_from(&self.dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name != "." && name != ".." {
                all.push((name.to_owned(), entry.file_type()));
            }
        }
        Ok(all)
    }

    fn sync_dir(&self) -> io::Result<()> {
        match self.durability {
            Durability::Disk => Ok(rustix::fs::fsync(self.dir.as_fd())?),
            Durability::Boot => Ok(()),
        }
    }
}

/// The record in the file at `path`, if there is one: for a reader of a store that another process writes
/// to, which [`Store::open`] would disturb.
///
/// # Errors
/// [`StoreError::Read`], or [`StoreError::Bad`] for one that is damaged; it is left where it is.
pub fn read_record<R: Record>(path: &Path) -> Result<Option<R>, StoreError> {
    match std::fs::read(path) {
        Ok(bytes) => decode(&bytes)
            .map(Some)
            .map_err(|source| StoreError::Bad { path: path.to_owned(), source }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Read { path: path.to_owned(), source }),
    }
}

/// Makes `path` and its parents; the last one is the owner's alone.
fn make_private_dirs(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match rustix::fs::mkdirat(CWD, path, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Note(u32);

    impl Record for Note {
        const KIND: &'static str = "note";
        const VERSION: u32 = 1;
    }

    fn key(s: &str) -> Key {
        Key::parse(s).unwrap()
    }

    fn opened(dir: &Path) -> Store {
        Store::open(&dir.join("notes"), Durability::Disk).unwrap()
    }

    #[test]
    fn what_was_put_is_read_back_by_the_next_one_who_opens() {
        let dir = tempfile::tempdir().unwrap();
        let store = opened(dir.path());
        store.put(&key("a"), &Note(1)).unwrap();
        store.put(&key("a"), &Note(2)).unwrap();
        store.put(&key("b"), &Note(3)).unwrap();
        store.remove(&key("b")).unwrap();
        store.remove(&key("b")).unwrap();
        let again = opened(dir.path());
        assert_eq!(again.get::<Note>(&key("a")).unwrap(), Some(Note(2)));
        assert_eq!(again.get::<Note>(&key("b")).unwrap(), None);
        assert_eq!(again.load_all::<Note>().unwrap().records, [(key("a"), Note(2))]);
        let notes = dir.path().join("notes");
        assert_eq!(read_record::<Note>(&notes.join("a")).unwrap(), Some(Note(2)));
        assert_eq!(read_record::<Note>(&notes.join("b")).unwrap(), None);
    }

    #[test]
    fn a_bad_record_is_set_aside_and_the_others_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = opened(dir.path());
        store.put(&key("good"), &Note(1)).unwrap();
        std::fs::write(dir.path().join("notes/torn"), "isopod-record note 1 00").unwrap();
        assert!(matches!(store.get::<Note>(&key("torn")), Err(StoreError::Bad { .. })));
        let loaded = store.load_all::<Note>().unwrap();
        assert_eq!(loaded.records, [(key("good"), Note(1))]);
        assert_eq!(loaded.quarantined.len(), 1);
        assert!(loaded.quarantined[0].moved_to.exists());
        assert!(store.load_all::<Note>().unwrap().quarantined.is_empty());
    }

    #[test]
    fn what_a_dead_writer_left_is_swept_on_opening() {
        let dir = tempfile::tempdir().unwrap();
        drop(opened(dir.path()));
        let left = dir.path().join("notes/.new-a");
        std::fs::write(&left, "half").unwrap();
        let store = opened(dir.path());
        assert!(!left.exists());
        assert!(store.load_all::<Note>().unwrap().records.is_empty());
    }
}
