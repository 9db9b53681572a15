//! What a container may take of the disk: each has a project of its own where the file system knows them.
//!
//! Always: an id is in nobody's hands before the directory that has it is on disk, and not free before the
//! last tree that has it is deleted; limits are set before anything can be written under them. What is on
//! disk says who has which: nothing of it is recorded.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::ContainerId;
use sys::ProjectQuotas;

use crate::error::{ImageStoreError, at};
use crate::layout::{self, CONTAINERS_TRASH, Layout};
use crate::projects::Projects;
use crate::types::{Finding, Usage};

/// How many ids are passed over, because something lies under them already, before that is an error.
const PASSED_OVER: usize = 1024;

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
    /// is counted where that is possible.
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
        let mine = self.state().of.get(container).copied().filter(|mine| *mine == current);
        let id = match mine {
            Some(id) => id,
            None => self.take()?,
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

    /// An id that nobody has, and that nothing is counted under.
    fn take(&self) -> Result<u32, ImageStoreError> {
        for _ in 0..PASSED_OVER {
            let (taken, range) = {
                let mut state = self.state();
                (state.projects.take(), state.projects.range().clone())
            };
            let none = || ImageStoreError::NoProject { first: *range.start(), last: *range.end() };
            let id = taken.ok_or_else(none)?;
            let used = sys::project_usage(self.on.as_fd(), id);
            if used.as_ref().is_ok_and(|used| used.inodes == 0 && used.bytes == 0) {
                return Ok(id);
            }
            // Somebody else's, or files that nobody could delete: it is passed over, and looked at again later.
            self.state().projects.gone(id);
            used.map_err(at("read a quota of", self.path.clone()))?;
        }
        let range = self.state().projects.range().clone();
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

    /// A tree with this project is gone.
    pub fn gone(&self, id: u32) {
        if !self.state().projects.gone(id) {
            return;
        }
        // Whoever gets the id next sets a limit anew.
        if let Err(error) = self.limit(id, None) {
            tracing::debug!(id, %error, "the limit of a project that nobody has stays");
        }
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
