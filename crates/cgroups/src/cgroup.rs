//! One cgroup in all hierarchies: make it, find it, put processes into it.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtime_spec::Resources;
use rustix::process::Pid;

use crate::entrance::Entrance;
use crate::error::CgroupError;
use crate::file::{read_if_there, subdirectories, write};
use crate::hierarchy::{Controller, Hierarchies};
use crate::make::make_with_parents;
use crate::oom::OomCounts;
use crate::path::CgroupPath;
use crate::stats::{Detail, Stats};
use crate::systemd::Unit;

/// What a hierarchy is to a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One of v1, with these controllers; none for a named one.
    Legacy(Vec<Controller>),
    /// That of v2.
    Unified,
}

/// A cgroup's directory in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dir {
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
    /// Whether it is this cgroup's own, and not that of the cgroup it is a child of.
    pub(crate) own: bool,
}

/// Where a controller's files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    Legacy(&'a Path),
    Unified(&'a Path),
}

/// A cgroup: one directory in each hierarchy. Dropping it removes nothing.
#[derive(Debug, Clone)]
pub struct Cgroup {
    path: CgroupPath,
    pub(crate) dirs: Vec<Dir>,
    /// The unit of systemd that it belongs to.
    unit: Option<Arc<Unit>>,
}

impl PartialEq for Cgroup {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, &self.dirs) == (&other.path, &other.dirs)
    }
}

impl Eq for Cgroup {}

impl Cgroup {
    /// The cgroup at `path`, made with its parents where it is not there. On v2 alone all controllers are
    /// given on to it as far as the kernel lets them; on v1 an empty cpuset gets its parent's.
    ///
    /// # Errors
    /// [`CgroupError::Make`] and [`CgroupError::Write`]; nothing that this call has made is left then.
    pub fn create(hierarchies: &Hierarchies, path: &CgroupPath) -> Result<Self, CgroupError> {
        let unit = Unit::of(path, hierarchies.mode(), false);
        let cgroup = Self { unit, ..Self::at(hierarchies, path) };
        cgroup.make()?;
        Ok(cgroup)
    }

    fn make(&self) -> Result<(), CgroupError> {
        // Beside hierarchies of v1, v2 is for killing and for pressure alone: with controllers given on, it
        // would take no process where there are cgroups below.
        let gives_on = self.dirs.iter().all(|dir| dir.kind == Kind::Unified);
        let mut made = Vec::new();
        for dir in &self.dirs {
            if let Err(error) = make_with_parents(dir, &self.path, gives_on, &mut made) {
                for path in made.iter().rev() {
                    // Nothing can be in it yet; somebody may have made something below it, then it is theirs.
                    let _ = std::fs::remove_dir(path);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// The cgroup at `path`, whether it is there or not: for one that somebody else makes, and for cleaning up.
    #[must_use]
    pub fn at(hierarchies: &Hierarchies, path: &CgroupPath) -> Self {
        let legacy = hierarchies.v1().iter().map(|hierarchy| Dir {
            path: hierarchy.mount.join(path.relative()),
            kind: Kind::Legacy(hierarchy.controllers()),
            own: true,
        });
        let unified = hierarchies.v2().map(|mount| Dir {
            path: mount.join(path.relative()),
            kind: Kind::Unified,
            own: true,
        });
        Self {
            path: path.clone(),
            dirs: legacy.chain(unified).collect(),
            unit: Unit::of(path, hierarchies.mode(), true),
        }
    }

    /// A cgroup in this one for a group of processes that is to be killed on its own, such as an exec's.
    /// Limits and statistics stay those of this one: it is a directory in the one hierarchy that is used
    /// for killing.
    ///
    /// # Errors
    /// [`CgroupError::Make`], [`CgroupError::BadPath`].
    pub fn child(&self, name: &str) -> Result<Self, CgroupError> {
        let path = self.path.join(name)?;
        let mut dirs = self.dirs.clone();
        for dir in &mut dirs {
            dir.own = false;
        }
        let at = self.best_dir(|_| true).ok_or(CgroupError::NoHierarchy)?;
        let dir = &mut dirs[at];
        dir.path.push(name);
        dir.own = true;
        match std::fs::create_dir(&dir.path) {
            Err(source) if source.kind() != ErrorKind::AlreadyExists => {
                Err(CgroupError::Make { path: dir.path.clone(), source })
            }
            Ok(()) | Err(_) => Ok(Self { path, dirs, unit: None }),
        }
    }

    /// Its path.
    #[must_use]
    pub const fn path(&self) -> &CgroupPath {
        &self.path
    }

    /// What tells the directory that processes are killed in from another one of its name, for as long as there is no
    /// cgroup below it (the number of its inode).
    #[must_use]
    pub fn identity(&self) -> Option<u64> {
        let dir = std::fs::metadata(&self.dirs[self.killing_dir()?].path).ok()?;
        // `.` and the name above: each directory below would be one more.
        (dir.nlink() == 2).then(|| dir.ino())
    }

    /// Whether it is there, in any hierarchy.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.dirs.iter().any(|dir| dir.own && dir.path.is_dir())
    }

    /// Sets the limits and device rules of `resources`; what is absent there stays as it is.
    ///
    /// # Errors
    /// [`CgroupError::BadLimit`] and [`CgroupError::Unsupported`] before anything is written,
    /// [`CgroupError::Limit`] for what the kernel refuses; the limits before that one are set then.
    pub fn apply(&self, resources: &Resources) -> Result<(), CgroupError> {
        crate::limits::check(resources)?;
        // systemd first: it writes the files too, as far as it knows them.
        if let Some(unit) = &self.unit {
            unit.limit(resources)?;
        }
        self.write(resources)
    }

    /// Whether [`Cgroup::join`] has to ask systemd for a unit around the first process, which may take as long
    /// as systemd does.
    #[must_use]
    pub fn awaits_unit(&self) -> bool {
        self.unit.as_ref().is_some_and(|unit| unit.awaits_process())
    }

    /// Whether it belongs to a unit of systemd, which removes it when it is empty.
    #[must_use]
    pub fn has_unit(&self) -> bool {
        self.unit.is_some()
    }

    /// The file in which v2 counts what memory lacked (`memory.events`), to be watched for changes; `None` on v1
    /// and where it is not there.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn memory_events(&self) -> std::io::Result<Option<File>> {
        let Some(Place::Unified(dir)) = self.place(Controller::Memory) else { return Ok(None) };
        match File::open(dir.join("memory.events")) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// To be told when a copy of this in another process has joined the first process: the unit is there now.
    pub fn unit_has_begun(&self) {
        if let Some(unit) = &self.unit {
            unit.has_begun();
        }
    }

    /// Moves the process `pid` (as this process sees it) with all its threads into this cgroup. Its
    /// children to come are born there.
    ///
    /// # Errors
    /// [`CgroupError::Write`].
    pub fn join(&self, pid: Pid) -> Result<(), CgroupError> {
        match self.unit.as_ref().filter(|unit| unit.awaits_process()) {
            Some(unit) => self.begin_unit(unit, pid),
            None => self.seat(pid),
        }
    }

    /// systemd makes the unit around its first process. It knows neither every hierarchy nor every limit, and
    /// sets those that it knows to its own idea of them: so all that was set before is set again.
    fn begin_unit(&self, unit: &Unit, pid: Pid) -> Result<(), CgroupError> {
        let limits = unit.start(pid)?;
        // In hierarchies of v1 whose controllers it sees no use for, it has cleared the path away.
        self.make()?;
        self.seat(pid)?;
        limits.iter().try_for_each(|resources| self.write(resources))
    }

    fn seat(&self, pid: Pid) -> Result<(), CgroupError> {
        let value = pid.as_raw_nonzero().to_string();
        self.dirs.iter().try_for_each(|dir| write(&dir.path.join("cgroup.procs"), &value))
    }

    fn write(&self, resources: &Resources) -> Result<(), CgroupError> {
        crate::limits::apply(self, resources)?;
        crate::devices::apply(self, &resources.devices)
    }

    /// The way in for a process that is about to be born, which costs less than to [`Cgroup::join`] it.
    /// `None` where systemd is to make a unit around the process: then it is to be joined.
    ///
    /// # Errors
    /// [`CgroupError::Read`] and [`CgroupError::Write`] for what cannot be opened.
    pub fn entrance(&self) -> Result<Option<Entrance>, CgroupError> {
        match self.unit.as_ref().is_some_and(|unit| unit.awaits_process()) {
            true => Ok(None),
            false => Entrance::open(self).map(Some),
        }
    }

    /// All processes in it and below it; threads and zombies are not listed, nor what this process's PID
    /// namespace does not show.
    ///
    /// # Errors
    /// [`CgroupError::Read`].
    pub fn procs(&self) -> Result<Vec<Pid>, CgroupError> {
        let mut found = Vec::new();
        if let Some(at) = self.killing_dir() {
            collect_procs(&self.dirs[at].path, &mut found)?;
        }
        Ok(found)
    }

    /// Gives all processes in it and below it this OOM score adjustment (proc_pid_oom_score_adj(5)); those to
    /// come inherit it. One that has ended meanwhile is no error.
    ///
    /// # Errors
    /// [`CgroupError::Read`], [`CgroupError::Write`].
    pub fn adjust_oom_score(&self, score: i32) -> Result<(), CgroupError> {
        crate::oom::adjust(self, score)
    }

    /// The same of all hierarchies, each process once: where v1 is mounted, one may be here in some of them only.
    ///
    /// # Errors
    /// [`CgroupError::Read`].
    pub fn occupants(&self) -> Result<Vec<Pid>, CgroupError> {
        let mut found = Vec::new();
        for dir in self.dirs.iter().filter(|dir| dir.own) {
            collect_procs(&dir.path, &mut found)?;
        }
        found.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
        found.dedup();
        Ok(found)
    }

    /// Where one more process goes beside the process `pid`, which is in it: the same cgroup, but that on v2 one
    /// that gives controllers on takes no process itself (cgroups(7)), and so the one below is taken in which
    /// `pid` is.
    #[must_use]
    pub fn beside(&self, pid: Pid) -> Self {
        let mut seat = self.clone();
        if let Some(below) = self.below(pid)
            && let Some(dir) = seat.dirs.iter_mut().find(|dir| dir.kind == Kind::Unified)
        {
            dir.path.push(below);
            dir.own = false;
        }
        seat
    }

    /// The path of `pid`'s cgroup of v2 below this one, if this one gives controllers on.
    fn below(&self, pid: Pid) -> Option<PathBuf> {
        let given_on = read_if_there(&self.unified()?.join("cgroup.subtree_control")).ok()??;
        if given_on.trim().is_empty() {
            return None;
        }
        let table = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero()));
        let table = table.ok()?;
        let found = table.lines().find_map(|line| line.strip_prefix("0::"))?;
        // It may have left, or its cgroup may be shown from somewhere else.
        let below = Path::new(found).strip_prefix(self.path.as_str()).ok()?;
        Some(below.to_owned())
    }

    /// Sends SIGKILL to all in it and below it, those too that are being born, and to those that stand still. On
    /// v2 the kernel does it (`cgroup.kill`), on v1 they are frozen, signalled and thawed. Does not wait for their
    /// ends; a cgroup that is gone is no error.
    ///
    /// # Errors
    /// [`CgroupError::StillAlive`] where v1's processes could not be frozen and went on forking.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        crate::kill::kill_all(self)
    }

    /// To be called after a SIGKILL for some of it: who stands still in v1's freezer does not end before it is let
    /// go, and so all are. Does nothing on v2, where a frozen process ends at once.
    pub fn let_killed_go(&self) {
        crate::kill::release(self);
    }

    /// Removes it and what is below it. What is busy is waited for, at most
    /// [`Cgroup::REMOVE_PATIENCE`]; kill first. One that is gone is no error.
    ///
    /// # Errors
    /// [`CgroupError::Remove`].
    pub fn remove(&self) -> Result<(), CgroupError> {
        if let Some(unit) = &self.unit {
            unit.stop()?;
        }
        crate::remove::remove(self)
    }

    /// Removes it if nothing is in it and nothing below it, without waiting; whether all of it has gone. What stays is
    /// for [`Cgroup::kill_all`] and [`Cgroup::remove`], and so is all of a unit of systemd.
    #[must_use]
    pub fn remove_if_empty(&self) -> bool {
        self.unit.is_none() && crate::remove::remove_if_empty(self)
    }

    /// How often the kernel killed for want of memory here and below, since the cgroup was made. Read it
    /// before [`Cgroup::remove`]. All zero where there is no memory controller.
    ///
    /// # Errors
    /// [`CgroupError::Read`].
    pub fn oom(&self) -> Result<OomCounts, CgroupError> {
        crate::oom::counts(self)
    }

    /// The number of processes killed of [`Cgroup::oom`].
    ///
    /// # Errors
    /// [`CgroupError::Read`].
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        Ok(self.oom()?.kills)
    }

    /// How often a process here was refused a child because the limit of processes, here or above, was reached.
    /// Zero where there is no controller of them.
    ///
    /// # Errors
    /// [`CgroupError::Read`].
    pub fn refused_forks(&self) -> Result<u64, CgroupError> {
        let dir = match self.place(Controller::Pids) {
            None => return Ok(0),
            Some(Place::Legacy(dir) | Place::Unified(dir)) => dir,
        };
        let events = read_if_there(&dir.join("pids.events"))?.unwrap_or_default();
        Ok(crate::oom::value_of(&events, "max"))
    }

    /// What it uses now, as much of it as `detail` says.
    ///
    /// # Errors
    /// [`CgroupError::Read`]; a controller that is not there is no error, its part is `None`.
    pub fn stats(&self, detail: Detail) -> Result<Stats, CgroupError> {
        crate::stats::read(self, detail)
    }

    /// Where the files of `controller` are: in v1 if it is mounted there, else in v2.
    pub(crate) fn place(&self, controller: Controller) -> Option<Place<'_>> {
        let holds = |dir: &&Dir| match &dir.kind {
            Kind::Legacy(controllers) => controllers.contains(&controller),
            Kind::Unified => false,
        };
        match self.dirs.iter().find(holds) {
            Some(dir) => Some(Place::Legacy(&dir.path)),
            None => self.unified().map(Place::Unified),
        }
    }

    pub(crate) fn unified(&self) -> Option<&Path> {
        let dir = self.dirs.iter().find(|dir| dir.kind == Kind::Unified)?;
        Some(&dir.path)
    }

    /// Which of its own directories is used to find and kill processes. Where it has one that is gone, those of
    /// the cgroup that it was a child of are not asked in its place.
    pub(crate) fn killing_dir(&self) -> Option<usize> {
        self.best_dir(|dir| dir.own)
    }

    /// The one that is best to find and kill processes in, of those that are there: what another runtime has made
    /// need not be in every hierarchy.
    fn best_dir(&self, may_be: impl Fn(&Dir) -> bool) -> Option<usize> {
        let freezer = |dir: &Dir| match &dir.kind {
            Kind::Legacy(controllers) => controllers.contains(&Controller::Freezer),
            Kind::Unified => false,
        };
        let position =
            |is: &dyn Fn(&Dir) -> bool| self.dirs.iter().position(|dir| may_be(dir) && is(dir));
        let unified = position(&|dir| dir.kind == Kind::Unified);
        let frozen = position(&freezer);
        let first = position(&|_| true);
        let best = [unified, frozen, first].into_iter().flatten();
        let is_there = |at: &usize| self.dirs[*at].path.is_dir();
        best.clone().find(is_there).or_else(|| best.clone().next())
    }
}

pub(crate) fn collect_procs(dir: &Path, found: &mut Vec<Pid>) -> Result<(), CgroupError> {
    // A threaded cgroup answers EOPNOTSUPP; its processes are listed by the domain above it.
    let listed = match read_if_there(&dir.join("cgroup.procs")) {
        Err(CgroupError::Read { source, .. })
            if source.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) =>
        {
            None
        }
        other => other?,
    };
    let pids = listed.iter().flat_map(|text| text.lines());
    found.extend(pids.filter_map(|line| line.parse().ok().and_then(Pid::from_raw)));
    subdirectories(dir)?.iter().try_for_each(|below| collect_procs(below, found))
}

#[cfg(test)]
pub(crate) mod testing {
    //! Cgroups of plain directories, for what is worked out from files.

    use super::*;

    const ALL: [Controller; 9] = [
        Controller::Cpu,
        Controller::Cpuacct,
        Controller::Cpuset,
        Controller::Memory,
        Controller::Devices,
        Controller::Freezer,
        Controller::Blkio,
        Controller::Pids,
        Controller::Hugetlb,
    ];

    fn fake(kind: Kind, files: &[(&str, &str)]) -> (tempfile::TempDir, Cgroup) {
        let dir = tempfile::tempdir().expect("a directory can be made");
        for (name, value) in files {
            std::fs::write(dir.path().join(name), value).expect("a file can be written");
        }
        let path = CgroupPath::parse("/fake").expect("the path is good");
        let dirs = vec![Dir { path: dir.path().to_owned(), kind, own: true }];
        (dir, Cgroup { path, dirs, unit: None })
    }

    /// All controllers of v1 in one directory.
    pub(crate) fn legacy(files: &[(&str, &str)]) -> (tempfile::TempDir, Cgroup) {
        fake(Kind::Legacy(ALL.to_vec()), files)
    }

    /// A cgroup of v2.
    pub(crate) fn unified(files: &[(&str, &str)]) -> (tempfile::TempDir, Cgroup) {
        fake(Kind::Unified, files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_that_were_refused_are_counted_by_the_kernel() {
        for (_dir, cgroup) in [
            testing::legacy(&[("pids.events", "max 3\n")]),
            testing::unified(&[("pids.events", "max 3\n")]),
        ] {
            assert_eq!(cgroup.refused_forks().unwrap(), 3);
        }
        assert_eq!(testing::unified(&[]).1.refused_forks().unwrap(), 0);
    }

    #[test]
    fn a_child_that_is_gone_has_not_the_processes_of_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str, kind| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("cgroup.procs"), "7\n").unwrap();
            Dir { path, kind, own: true }
        };
        let dirs = vec![
            place("unified", Kind::Unified),
            place("freezer", Kind::Legacy(vec![Controller::Freezer])),
        ];
        let path = CgroupPath::parse("/c").unwrap();
        let cgroup = Cgroup { path, dirs, unit: None };
        let child = cgroup.child("exec-1").unwrap();
        let own = dir.path().join("unified/exec-1");
        std::fs::write(own.join("cgroup.procs"), "8\n").unwrap();
        let of = |pid| vec![Pid::from_raw(pid).unwrap()];
        assert_eq!(child.procs().unwrap(), of(8));
        std::fs::remove_dir_all(&own).unwrap();
        assert_eq!(child.procs().unwrap(), []);
        std::fs::remove_dir_all(dir.path().join("unified")).unwrap();
        assert_eq!(cgroup.procs().unwrap(), of(7), "it is killed by the hierarchy that it is in");
    }
}
