//! What a container may take of the disk: each has a project of its own where the file system knows them.
//!
//! Always: an id is in nobody's hands before the directory that has it is on disk, and not free before the
//! last tree that has it is deleted and its limit is taken away; limits are set before anything can be written
//! under them. What is on disk says who has which: nothing of it is recorded. A directory that somebody else
//! has put into a project stays there, with the limit that this may have, unless one of our own is wanted. The
//! trash is in no project, so that trees of all of them can be moved there.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::ContainerId;
use sys::{ProjectQuotas, ProjectUsage};

use crate::error::{ImageStoreError, at};
use crate::layout::{self, CONTAINERS_TRASH, Layout};
use crate::projects::Projects;
use crate::types::{Finding, Usage};

/// The projects of a store's containers.
#[derive(Debug)]
pub(crate) struct Quotas {
    /// What the file system of the containers knows.
    pub known: ProjectQuotas,
    /// A directory on that file system.
    on: OwnedFd,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    projects: Projects,
    of: HashMap<ContainerId, u32>,
}

impl Quotas {
    /// Reads from the disk who has which project.
    pub fn open(
        layout: &Layout,
        range: std::ops::RangeInclusive<u32>,
        findings: &mut Vec<Finding>,
    ) -> Result<Self, ImageStoreError> {
        let path = layout.containers.clone();
        let on = layout.containers_fd.try_clone().map_err(at("open", path.clone()))?;
        let known = sys::project_quotas(on.as_fd()).unwrap_or_else(|e| {
            findings.push(Finding {
                object: path.display().to_string(),
                problem: format!("its file system does not tell its quotas: {e}"),
            });
            ProjectQuotas::Absent
        });
        // Its own and not its parents': where those are in a project, what is in others could not come here.
        if let Err(e) = sys::leave_project(layout.containers_trash_fd.as_fd()) {
            findings.push(Finding {
                object: path.join(CONTAINERS_TRASH).display().to_string(),
                problem: format!("cannot be taken out of its project: {e}"),
            });
        }
        let mut state = State { projects: Projects::new(range), of: HashMap::new() };
        if known != ProjectQuotas::Absent {
            state.read(layout, findings)?;
        }
        Ok(Self { known, on, path, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each call leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the directory of a container, with all that is made in it, under a limit of `bytes`; without one it
    /// is counted where that is possible, and where it is in no project of somebody else's.
    pub fn assign(
        &self,
        container: &ContainerId,
        dir: &OwnedFd,
        bytes: Option<u64>,
    ) -> Result<(), ImageStoreError> {
        match (self.known, bytes) {
            (ProjectQuotas::Absent, None) => Ok(()),
            (ProjectQuotas::Absent | ProjectQuotas::Counted, Some(bytes)) => {
                Err(ImageStoreError::NoQuota { path: self.path.clone(), bytes })
            }
            (ProjectQuotas::Enforced, Some(_)) => self.put(container, dir, bytes),
            (ProjectQuotas::Counted | ProjectQuotas::Enforced, None) => {
                // Then it is measured by walking.
                self.put(container, dir, None).unwrap_or_else(|e| {
                    let error: &dyn std::error::Error = &e;
                    tracing::warn!(%container, error, "the writable layer has no project of its own");
                });
                Ok(())
            }
        }
    }

    fn put(
        &self,
        container: &ContainerId,
        dir: &OwnedFd,
        bytes: Option<u64>,
    ) -> Result<(), ImageStoreError> {
        let place = || self.path.join(container.as_str());
        let current = sys::project_of(dir.as_fd()).map_err(at("read the project of", place()))?;
        if bytes.is_none() && self.state().projects.is_anothers(current) {
            // A limit for all containers together may be there, which leaving it would pass.
            return Ok(());
        }
        let mine = self.state().of.get(container).copied().filter(|mine| *mine == current);
        let id = match mine {
            Some(id) => id,
            None => self.take(|id| sys::project_usage(self.on.as_fd(), id))?,
        };
        let set = self.limit(id, bytes).and_then(|()| {
            sys::set_project(dir.as_fd(), id).map_err(at("set the project of", place()))
        });
        match set {
            Ok(()) => {
                self.state().of.insert(container.clone(), id);
                Ok(())
            }
            Err(e) => {
                if mine.is_none() {
                    self.state().projects.gone(id);
                }
                Err(e)
            }
        }
    }

    /// An id that nobody has, and that nothing is counted under. The whole range is looked at before that is an
    /// error, an id at a time: others get theirs meanwhile, and the next search begins where this one ends.
    fn take(
        &self,
        usage: impl Fn(u32) -> io::Result<ProjectUsage>,
    ) -> Result<u32, ImageStoreError> {
        let range = self.state().projects.range().clone();
        for _ in range.clone() {
            let Some(id) = self.state().projects.take() else { break };
            let used = usage(id);
            if used.as_ref().is_ok_and(|used| used.inodes == 0 && used.bytes == 0) {
                return Ok(id);
            }
            // Somebody else's, or files that nobody could delete: it is passed over, and looked at again later.
            self.state().projects.gone(id);
            used.map_err(at("read a quota of", self.path.clone()))?;
        }
        Err(ImageStoreError::NoProject { first: *range.start(), last: *range.end() })
    }

    fn limit(&self, id: u32, bytes: Option<u64>) -> Result<(), ImageStoreError> {
        if self.known != ProjectQuotas::Enforced {
            return Ok(());
        }
        sys::set_project_limit(self.on.as_fd(), id, bytes)
            .map_err(at("set a quota of", self.path.clone()))
    }

    /// What a container takes now, where that is counted for it.
    pub fn usage(&self, container: &ContainerId) -> Option<Usage> {
        let id = self.state().of.get(container).copied()?;
        let used = sys::project_usage(self.on.as_fd(), id).ok()?;
        Some(Usage { bytes: used.bytes, inodes: used.inodes })
    }

    /// Fails where a container has more than its limit: the daemon's own privileges can pass it.
    pub fn check(&self, container: &ContainerId) -> Result<(), ImageStoreError> {
        match self.limited(container)? {
            Some((limit, used)) if used > limit => Err(ImageStoreError::OverLimit { limit, used }),
            Some(_) | None => Ok(()),
        }
    }

    /// The failure of a write for a container, if it is its limit's: the file system may say that there is no
    /// room, though it has some.
    pub fn is_limit(&self, container: &ContainerId, error: &io::Error) -> Option<ImageStoreError> {
        let room = || rustix::fs::fstatvfs(&self.on);
        let has_room = || room().is_ok_and(|fs| fs.f_bavail > 0 && fs.f_favail > 0);
        let may_be = error.kind() == io::ErrorKind::QuotaExceeded
            || (error.kind() == io::ErrorKind::StorageFull && has_room());
        let limited = may_be.then(|| self.limited(container).ok()).flatten().flatten();
        limited.map(|(limit, used)| ImageStoreError::OverLimit { limit, used })
    }

    /// The limit of a container and what it has, in bytes, if it has a limit.
    fn limited(&self, container: &ContainerId) -> Result<Option<(u64, u64)>, ImageStoreError> {
        let id = self.state().of.get(container).copied();
        let (Some(id), ProjectQuotas::Enforced) = (id, self.known) else { return Ok(None) };
        let used = sys::project_usage(self.on.as_fd(), id)
            .map_err(at("read a quota of", self.path.clone()))?;
        Ok(used.limit.map(|limit| (limit, used.bytes)))
    }

    /// The container's directory is out of sight; what lies in it still has its project.
    pub fn forget(&self, container: &ContainerId) {
        self.state().of.remove(container);
    }

    /// The project of a tree that is about to be deleted, if it is one of ours.
    pub fn of_tree(&self, parent: &OwnedFd, name: &OsStr) -> Option<u32> {
        if self.known == ProjectQuotas::Absent {
            return None;
        }
        let id = sys::project_of(layout::open_dir(parent, name).ok()?.as_fd()).ok()?;
        self.state().projects.has(id).then_some(id)
    }

    /// A tree with this project is gone; to be told once of each.
    pub fn gone(&self, id: u32) {
        // Before anybody else can have the id, and a limit with it.
        let is_last = self.state().projects.is_last(id);
        if is_last && let Err(error) = self.limit(id, None) {
            // Whoever gets the id next sets a limit anew.
            tracing::debug!(id, %error, "the limit of a project that nobody has stays");
        }
        self.state().projects.gone(id);
    }
}

impl State {
    fn read(
        &mut self,
        layout: &Layout,
        findings: &mut Vec<Finding>,
    ) -> Result<(), ImageStoreError> {
        let trash = (&layout.containers_trash_fd, layout.containers.join(CONTAINERS_TRASH));
        for (fd, path) in [(&layout.containers_fd, layout.containers.clone()), trash] {
            for name in layout::names(fd).map_err(at("read", path.clone()))? {
                let Ok(dir) = layout::open_dir(fd, &name) else { continue };
                let id = project(&path, &name, &dir)?;
                if !self.projects.has(id) {
                    continue;
                }
                if !self.projects.found(id) {
                    let problem = format!("shares project {id}, and so its quota, with another");
                    findings.push(Finding { object: name.display().to_string(), problem });
                }
                if let Some(container) = name.to_str().and_then(|n| ContainerId::parse(n).ok()) {
                    self.of.insert(container, id);
                }
            }
        }
        Ok(())
    }
}

fn project(parent: &Path, name: &OsStr, dir: &OwnedFd) -> Result<u32, ImageStoreError> {
    sys::project_of(dir.as_fd()).map_err(at("read the project of", parent.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_ids_others_use_the_next_one_that_is_free_is_found() {
        let state = State { projects: Projects::new(1..=5000), of: HashMap::new() };
        let quotas = Quotas {
            known: ProjectQuotas::Counted,
            on: layout::open_host_dir(Path::new("/")).unwrap(),
            path: PathBuf::from("/"),
            state: Mutex::new(state),
        };
        let theirs = |last: u32| {
            move |id| Ok(ProjectUsage { inodes: u64::from(id <= last), ..ProjectUsage::default() })
        };
        assert_eq!(quotas.take(theirs(3000)).unwrap(), 3001);
        assert_eq!(quotas.take(theirs(3000)).unwrap(), 3002, "it goes on from there");
        let none = quotas.take(theirs(5000)).unwrap_err();
        assert!(matches!(none, ImageStoreError::NoProject { first: 1, last: 5000 }), "{none}");
        assert!(quotas.take(theirs(0)).is_ok(), "none is lost by a search in vain");
    }
}
