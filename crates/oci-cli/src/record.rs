//! What is kept of a container between verbs, and what it is at.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use cgroups::{Cgroup, CgroupPath, Hierarchies};
use launcher::{HookPlan, HookState};
use model::IdMapping;
use runtime_spec::{Hooks, Process};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::error::OciError;

/// The record's file in the container's directory.
const FILE: &str = "state.json";
/// The compiled system call filter there: flags, then the program.
const FILTER: &str = "seccomp.bpf";
/// The socket of the process that has the order to start to give; gone once it was given.
const START: &str = "start.sock";
/// The empty directory where the root file system gets its place in the container's mount namespace.
const PLACE: &str = "rootfs";

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) oci_version: String,
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) created: String,
    #[serde(default)]
    pub(crate) annotations: std::collections::BTreeMap<String, String>,
    /// Its first process, and when that began in clock ticks since boot.
    pub(crate) pid: i32,
    pub(crate) start_time: u64,
    /// Its cgroup.
    pub(crate) cgroup: Option<CgroupPath>,
    /// Whether that was there before, and stays after it.
    #[serde(default)]
    pub(crate) keeps_cgroup: bool,
    /// What an exec takes over.
    pub(crate) process: Process,
    /// Its user namespace's mappings, if it has one.
    pub(crate) users: Option<Mappings>,
    /// What of its hooks is still to come: config.json may be another by then.
    #[serde(default)]
    pub(crate) hooks: Hooks,
    /// Whether whoever makes it has not finished.
    #[serde(default)]
    pub(crate) is_creating: bool,
}

/// The mappings of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mappings {
    pub(crate) uids: Vec<IdMapping>,
    pub(crate) gids: Vec<IdMapping>,
}

/// What a container is at ("State" of the runtime specification).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// The directory of one container below the root directory.
#[derive(Debug, Clone)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn of(root: &Path, id: &str) -> Self {
        Self(root.join(id))
    }

    /// Makes it, for a container that is not there yet.
    pub(crate) fn make(root: &Path, id: &str) -> Result<Self, OciError> {
        let directory = Self::of(root, id);
        std::fs::create_dir_all(root).map_err(OciError::io(format!("make {}", root.display())))?;
        // Whoever may look in here may start containers.
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(&directory.0) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                return Err(OciError::Exists(id.to_owned()));
            }
            made => {
                made.map_err(OciError::io(format!("make {}", directory.0.display())))?;
            }
        }
        let place = directory.place();
        std::fs::create_dir(&place)
            .map_err(OciError::io(format!("make {}", place.display())))
            .inspect_err(|_| drop(directory.remove()))?;
        Ok(directory)
    }

    /// The container below `root` that has the cgroup `path`, if one has it. One whose record cannot be read is not told
    /// here: whoever asks for that one is told.
    pub(crate) fn holder_of(root: &Path, path: &CgroupPath) -> Option<(String, Status)> {
        let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
        entries.into_iter().find_map(|entry| {
            let id = entry.file_name().to_string_lossy().into_owned();
            let directory = Self::of(root, &id);
            let record = directory.read(&id).ok()?;
            (record.cgroup.as_ref() == Some(path)).then(|| (id, record.status(&directory)))
        })
    }

    /// Removes it with all in it; one that is gone is no error. Says whether it was this call that removed the record,
    /// which of several at once only one does.
    pub(crate) fn remove(&self) -> Result<bool, OciError> {
        let had_record = std::fs::remove_file(self.0.join(FILE)).is_ok();
        match std::fs::remove_dir_all(&self.0) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(OciError::io(format!("remove {}", self.0.display()))(e))
            }
            Ok(()) | Err(_) => Ok(had_record),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn place(&self) -> PathBuf {
        self.0.join(PLACE)
    }

    /// The name of the socket in it.
    pub(crate) const fn start_name() -> &'static str {
        START
    }

    pub(crate) fn start(&self) -> PathBuf {
        self.0.join(START)
    }

    pub(crate) fn write_filter(&self, filter: &[u8]) -> Result<(), OciError> {
        let path = self.0.join(FILTER);
        std::fs::write(&path, filter).map_err(OciError::io(format!("write {}", path.display())))
    }

    /// The filter that was written, if one was.
    pub(crate) fn filter(&self) -> Result<Option<(u32, Vec<u8>)>, OciError> {
        let path = self.0.join(FILTER);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(OciError::io(format!("read {}", path.display()))(e)),
        };
        let (flags, program) = bytes.split_first_chunk::<4>().ok_or_else(|| OciError::Io {
            what: format!("read {}", path.display()),
            source: io::Error::other("it is not a filter"),
        })?;
        Ok(Some((u32::from_le_bytes(*flags), program.to_vec())))
    }

    /// Writes the record, whole or not at all.
    pub(crate) fn write(&self, record: &Record) -> Result<(), OciError> {
        let (path, new) = (self.0.join(FILE), self.0.join("state.json.new"));
        let failed = || OciError::io::<io::Error>(format!("write {}", path.display()));
        let bytes = serde_json::to_vec(record).map_err(OciError::json("state.json"))?;
        let write = || -> io::Result<()> {
            File::create(&new)?.write_all(&bytes)?;
            std::fs::rename(&new, &path)
        };
        write().map_err(failed())
    }

    /// The record.
    pub(crate) fn read(&self, id: &str) -> Result<Record, OciError> {
        let path = self.0.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(OciError::NoSuchContainer(id.to_owned()));
            }
            Err(e) => return Err(OciError::io(format!("read {}", path.display()))(e)),
        };
        serde_json::from_slice(&bytes).map_err(OciError::json(path.display().to_string()))
    }
}

impl Record {
    /// Its first process, if that is alive: the number alone may be somebody else's by now.
    pub(crate) fn process(&self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(self.pid)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let is_it = sys::start_time(pid).ok()? == self.start_time;
        (is_it && !is_zombie(pid)).then_some(pidfd)
    }

    /// What it is at.
    pub(crate) fn status(&self, directory: &Directory) -> Status {
        if self.process().is_none() {
            return Status::Stopped;
        }
        if self.is_creating {
            return Status::Creating;
        }
        if directory.start().exists() {
            return Status::Created;
        }
        let frozen = self.cgroup().ok().flatten().is_some_and(|c| c.is_frozen().unwrap_or(false));
        if frozen { Status::Paused } else { Status::Running }
    }

    /// Its hooks, with what they are told.
    pub(crate) fn hooks(&self) -> HookPlan {
        let state = HookState {
            id: self.id.clone(),
            bundle: self.bundle.clone(),
            annotations: self.annotations.clone(),
        };
        HookPlan { all: self.hooks.clone(), state }
    }

    /// Its cgroup.
    pub(crate) fn cgroup(&self) -> Result<Option<Cgroup>, OciError> {
        let Some(path) = &self.cgroup else { return Ok(None) };
        Ok(Some(Cgroup::at(&Hierarchies::detect()?, path)))
    }
}

fn is_zombie(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let Ok(stat) = stat else { return true };
    let state = stat.rfind(')').and_then(|end| stat[end + 1..].split_ascii_whitespace().next());
    matches!(state, None | Some("Z" | "X"))
}

/// The time, as RFC 3339 writes it.
pub(crate) fn now() -> String {
    let now = clock_gettime(ClockId::Realtime);
    cri_log::Time::new(now.tv_sec, u32::try_from(now.tv_nsec).unwrap_or(0)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(pid: i32, start_time: u64) -> Record {
        Record {
            oci_version: "1.0.2".to_owned(),
            id: "c".to_owned(),
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: now(),
            annotations: [("a".to_owned(), "b".to_owned())].into(),
            pid,
            start_time,
            cgroup: None,
            keeps_cgroup: false,
            process: Process::default(),
            users: None,
            hooks: Hooks::default(),
            is_creating: false,
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::make(root.path(), "c").unwrap();
        assert!(matches!(Directory::make(root.path(), "c"), Err(OciError::Exists(_))));
        assert!(matches!(directory.read("c"), Err(OciError::NoSuchContainer(_))));
        let written = record(1, 2);
        directory.write(&written).unwrap();
        assert_eq!(directory.read("c").unwrap(), written);
        assert!(directory.filter().unwrap().is_none());
        directory.write_filter(&[7, 0, 0, 0, 1, 2]).unwrap();
        assert_eq!(directory.filter().unwrap(), Some((7, vec![1, 2])));
        assert!(directory.remove().unwrap());
        assert!(!directory.remove().unwrap(), "another one has removed it");
    }

    #[test]
    fn the_container_that_has_a_cgroup_is_found_also_when_it_has_ended() {
        let root = tempfile::tempdir().unwrap();
        let path = |text: &str| CgroupPath::parse(text).unwrap();
        assert_eq!(Directory::holder_of(root.path(), &path("/a")), None);
        for (id, cgroup) in [("one", "/a"), ("other", "/a/b")] {
            let directory = Directory::make(root.path(), id).unwrap();
            directory.write(&Record { cgroup: Some(path(cgroup)), ..record(1, 0) }).unwrap();
        }
        let _half = Directory::make(root.path(), "half").unwrap();
        let found = Directory::holder_of(root.path(), &path("/a"));
        assert_eq!(found, Some(("one".to_owned(), Status::Stopped)));
        assert_eq!(Directory::holder_of(root.path(), &path("/b")), None);
    }

    #[test]
    fn a_process_of_another_time_is_not_the_containers() {
        let own = rustix::process::getpid();
        let begun = sys::start_time(own).unwrap();
        let pid = own.as_raw_nonzero().get();
        assert!(record(pid, begun).process().is_some());
        assert!(record(pid, begun + 1).process().is_none());
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::make(root.path(), "c").unwrap();
        assert_eq!(record(pid, begun).status(&directory), Status::Running);
        std::fs::write(directory.start(), "").unwrap();
        assert_eq!(record(pid, begun).status(&directory), Status::Created);
        assert_eq!(record(pid, begun + 1).status(&directory), Status::Stopped);
        let half = |begun| Record { is_creating: true, ..record(pid, begun) };
        assert_eq!(half(begun).status(&directory), Status::Creating);
        assert_eq!(half(begun + 1).status(&directory), Status::Stopped);
    }
}
