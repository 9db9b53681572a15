//! The way into a cgroup for a process that is about to be born.
//!
//! Owns: which directory it is born in, and which doors it opens itself. Always: nothing here takes the
//! kernel's lock on all thread groups. A process that is moved by its number makes the kernel wait for
//! an RCU grace period, 15 ms and more after idle; a single thread that moves itself (a 0 written to
//! `tasks`, v1) does not, nor does a clone into a directory of v2.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use crate::cgroup::{Cgroup, Dir, Kind};
use crate::error::CgroupError;

/// The way into a cgroup, for one process after the other.
#[derive(Debug)]
pub struct Entrance {
    birth: Option<OwnedFd>,
    doors: RefCell<Option<Doors>>,
}

/// Files of v1 that the new process writes to, before it has a second thread.
#[derive(Debug, Default)]
pub struct Doors(Vec<File>);

impl Entrance {
    /// Opens what leads into `cgroup`.
    pub(crate) fn open(cgroup: &Cgroup) -> Result<Self, CgroupError> {
        let mut birth = None;
        let mut doors = Vec::new();
        for Dir { path, kind, .. } in &cgroup.dirs {
            match kind {
                Kind::Unified => {
                    let read = |source| CgroupError::Read { path: path.clone(), source };
                    birth = Some(File::open(path).map_err(read)?.into());
                }
                Kind::Legacy(_) => {
                    let path = path.join("tasks");
                    let door = File::options().write(true).open(&path);
                    doors.push(door.map_err(|source| CgroupError::Write {
                        path,
                        value: "0".to_owned(),
                        source,
                    })?);
                }
            }
        }
        Ok(Self { birth, doors: RefCell::new(Some(Doors(doors))) })
    }

    /// The directory for CLONE_INTO_CGROUP, where v2 is mounted.
    #[must_use]
    pub fn birth(&self) -> Option<BorrowedFd<'_>> {
        self.birth.as_ref().map(OwnedFd::as_fd)
    }

    /// What the process goes through by itself. It takes this from its own copy of the entrance, which is of no use
    /// then: `None` where it was taken before.
    #[must_use]
    pub fn take_doors(&self) -> Option<Doors> {
        self.doors.take()
    }
}

impl Doors {
    /// Their descriptors, which the process must have kept.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(File::as_fd)
    }

    /// Whether there is none: the process is in its cgroup from birth.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Moves the calling thread, the only one of its process, through all of them, and closes them.
    ///
    /// # Errors
    /// What the kernel answers: ENOSPC for a cpuset without CPUs, ENODEV for a cgroup that is gone.
    pub fn enter(self) -> io::Result<()> {
        self.0.into_iter().try_for_each(|door| door.write_all_at(b"0", 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CgroupPath, Hierarchies};

    #[test]
    fn a_process_that_enters_by_itself_is_where_a_moved_one_is() {
        let hierarchies = Hierarchies::detect().unwrap();
        let name = format!("/isopod-test-{}-entrance", std::process::id());
        let cgroup = Cgroup::create(&hierarchies, &CgroupPath::parse(&name).unwrap()).unwrap();
        let entrance = cgroup.entrance().unwrap().unwrap();
        assert_eq!(entrance.birth().is_some(), cgroup.unified().is_some());
        let doors = entrance.take_doors().unwrap();
        let legacy = hierarchies.v1().len();
        assert_eq!(doors.descriptors().count(), legacy);
        // This test's own thread, for a moment: only `tasks` moves one thread of many.
        let seen = std::thread::spawn(move || {
            doors.enter().unwrap();
            std::fs::read_to_string("/proc/thread-self/cgroup").unwrap()
        });
        let seen = seen.join().unwrap();
        assert_eq!(seen.lines().filter(|line| line.ends_with(&name)).count(), legacy, "{seen}");
        assert!(entrance.take_doors().is_none(), "they are taken once");
        cgroup.remove().unwrap();
    }
}
