//! Classes of caches and memory bandwidth (Documentation/filesystems/resctrl.rst of the kernel).
//!
//! Owns: groups of resctrl that it has made for a single container. A group with a name of its own is a class
//! of the node: it is made where it is missing, and stays.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use runtime_spec::IntelRdt;
use rustix::process::Pid;

use crate::error::Failure;

/// Where resctrl is mounted.
pub const RESCTRL: &str = "/sys/fs/resctrl";

/// A group that processes are put into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RdtGroup {
    directory: PathBuf,
    /// Whether it ends with its container.
    is_own: bool,
}

impl RdtGroup {
    /// The group that `rdt` asks for, below `resctrl`, with its schemata set; one that names none is made for
    /// the container `id`.
    ///
    /// # Errors
    /// What failed, and why; a machine without resctrl, too.
    pub fn make(resctrl: &Path, rdt: &IntelRdt, id: &str) -> Result<Self, Failure> {
        let wanted = [&rdt.l3_cache_schema, &rdt.mem_bw_schema];
        let lines: Vec<&str> = wanted
            .into_iter()
            .flat_map(|text| text.lines())
            .chain(rdt.schemata.iter().map(String::as_str))
            .filter(|line| !line.is_empty())
            .collect();
        let name = if rdt.clos_id.is_empty() { id } else { &rdt.clos_id };
        if name.contains('/') || name.starts_with('.') {
            return Err(Failure::new("find the RDT class", format!("{name:?} is not a name")));
        }
        if !resctrl.join("schemata").exists() {
            let why = format!("this machine has no resctrl at {}", resctrl.display());
            return Err(Failure::new(format!("find the RDT class {name:?}"), why));
        }
        let directory = resctrl.join(name);
        let is_own = rdt.clos_id.is_empty();
        match fs::create_dir(&directory) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            // Nobody could say what a class without a schema is to be.
            Ok(()) if lines.is_empty() && !is_own => {
                let _ = fs::remove_dir(&directory);
                let why = format!("{} is not there, and it has no schema", directory.display());
                return Err(Failure::new(format!("find the RDT class {name:?}"), why));
            }
            other => other.map_err(Failure::at(format!("make the RDT class {name:?}")))?,
        }
        let group = Self { directory, is_own };
        for line in lines {
            // One line at a time, so that a failure names it.
            let set = fs::write(group.directory.join("schemata"), format!("{line}\n"));
            set.map_err(|e| {
                group.remove();
                Failure::at(format!("set {line:?} for the RDT class {name:?}"))(e)
            })?;
        }
        Ok(group)
    }

    /// Puts a process into it; its children to come are born there.
    ///
    /// # Errors
    /// What failed, and why.
    pub fn join(&self, pid: Pid) -> Result<(), Failure> {
        let tasks = self.directory.join("tasks");
        fs::write(&tasks, pid.as_raw_nonzero().to_string())
            .map_err(Failure::at(format!("put a process into {}", tasks.display())))
    }

    /// The file that a process which is about to be born enters it through, before anything is born of it.
    ///
    /// # Errors
    /// What failed, and why.
    pub fn door(&self) -> Result<OwnedFd, Failure> {
        let tasks = self.directory.join("tasks");
        let door = fs::File::options().write(true).open(&tasks);
        door.map(OwnedFd::from).map_err(Failure::at(format!("open {}", tasks.display())))
    }

    /// Removes it, if it was made for one container. One that cannot be removed only takes a place among those
    /// that the processor can tell apart.
    pub fn remove(&self) {
        if self.is_own {
            let _ = fs::remove_dir(&self.directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resctrl() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("schemata"), "L3:0=ff\n").unwrap();
        dir
    }

    fn rdt(class: &str, l3: &str) -> IntelRdt {
        IntelRdt {
            clos_id: class.to_owned(),
            l3_cache_schema: l3.to_owned(),
            ..IntelRdt::default()
        }
    }

    #[test]
    fn a_class_is_made_once_and_stays_and_a_containers_own_goes_with_it() {
        let dir = resctrl();
        let gold = RdtGroup::make(dir.path(), &rdt("gold", "L3:0=f0"), "c1").unwrap();
        gold.join(Pid::from_raw(42).unwrap()).unwrap();
        let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
        assert_eq!((read("gold/schemata"), read("gold/tasks")), ("L3:0=f0\n".into(), "42".into()));
        // The next container that names it finds it as it is, and leaves it there.
        let again = RdtGroup::make(dir.path(), &rdt("gold", ""), "c2").unwrap();
        assert_eq!((&again, read("gold/schemata")), (&gold, "L3:0=f0\n".to_owned()));
        let own = RdtGroup::make(dir.path(), &rdt("", "L3:0=1"), "c1").unwrap();
        assert_eq!(read("c1/schemata"), "L3:0=1\n");
        // The files of a group are the kernel's, and no reason to keep it.
        for file in ["gold/schemata", "gold/tasks", "c1/schemata"] {
            fs::remove_file(dir.path().join(file)).unwrap();
        }
        again.remove();
        own.remove();
        assert!(dir.path().join("gold").exists() && !dir.path().join("c1").exists());
    }

    #[test]
    fn a_class_that_is_not_there_and_a_machine_without_any_are_errors() {
        let dir = resctrl();
        let error = RdtGroup::make(dir.path(), &rdt("tin", ""), "c1").unwrap_err();
        assert!(error.source.to_string().contains("is not there"), "{error:?}");
        assert!(!dir.path().join("tin").exists());
        assert!(RdtGroup::make(dir.path(), &rdt("../x", "L3:0=1"), "c1").is_err());
        let none = tempfile::tempdir().unwrap();
        let error = RdtGroup::make(none.path(), &rdt("gold", "L3:0=1"), "c1").unwrap_err();
        assert!(error.source.to_string().contains("no resctrl"), "{error:?}");
    }
}
