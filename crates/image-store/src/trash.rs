//! Out of sight first, deleted later.
//!
//! Always: a tree is deleted by one at a time, whoever that is.

use std::collections::HashMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::delete::delete_tree;
use crate::error::{ImageStoreError, at};
use crate::layout::{self, Layout};
use crate::steps::{Step, Steps};
use crate::store::Inner;

/// How long a tree that could not be deleted is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(600);

/// Which trash: a rename works only inside one file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Area {
    /// Layers and staging.
    Images,
    /// Containers.
    Containers,
}

impl Area {
    fn trash(self, layout: &Layout) -> &OwnedFd {
        match self {
            Self::Images => &layout.trash_fd,
            Self::Containers => &layout.containers_trash_fd,
        }
    }
}

/// What is known of trees in the trash. Of those that are not here nothing is: anybody may delete them.
#[derive(Debug, Default)]
pub(crate) struct Trees(Mutex<HashMap<(Area, OsString), Tree>>);

#[derive(Debug, Clone, Copy)]
enum Tree {
    /// Somebody deletes it now.
    Busy,
    /// It could not be deleted, at this time.
    Stuck(Instant),
}

impl Trees {
    fn lock(&self) -> MutexGuard<'_, HashMap<(Area, OsString), Tree>> {
        // The map is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, area: Area, name: &OsStr) -> Option<Tree> {
        self.lock().get(&(area, name.to_owned())).copied()
    }

    /// The right to delete a tree; `None` while somebody has it.
    fn claim(&self, area: Area, name: &OsStr) -> Option<Claim<'_>> {
        let tree = (area, name.to_owned());
        match self.lock().insert(tree.clone(), Tree::Busy) {
            Some(Tree::Busy) => None,
            Some(Tree::Stuck(_)) | None => Some(Claim { trees: self, tree, stuck: None }),
        }
    }

    /// Forgets which trees of `area` could not be deleted, but for `names`.
    fn only(&self, area: Area, names: &[OsString]) {
        self.lock().retain(|(of, name), tree| {
            *of != area || matches!(tree, Tree::Busy) || names.binary_search(name).is_ok()
        });
    }
}

/// The right to delete a tree, which ends with this value.
struct Claim<'a> {
    trees: &'a Trees,
    tree: (Area, OsString),
    stuck: Option<Instant>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut trees = self.trees.lock();
        match self.stuck {
            Some(at) => trees.insert(self.tree.clone(), Tree::Stuck(at)),
            None => trees.remove(&self.tree),
        };
    }
}

/// What became of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is gone.
    Deleted,
    /// It cannot be deleted now, which is logged.
    Stuck,
    /// Somebody else deletes it.
    Others,
}

/// What emptying the trash did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Emptied {
    pub deleted: usize,
    pub stuck: usize,
    pub more: bool,
}

/// Moves `name` out of `from` into the trash; `None` if it is gone already.
pub(crate) fn trash(
    layout: &Layout,
    steps: &dyn Steps,
    area: Area,
    from: &OwnedFd,
    name: &OsStr,
) -> Result<Option<String>, ImageStoreError> {
    let fail = || layout.root.join(name);
    steps.before(Step::Trash).map_err(at("move to the trash", fail()))?;
    let unique = layout.unique();
    let there = || rustix::fs::renameat(from, name, area.trash(layout), &unique);
    let moved = match there() {
        // The trash was put into a project after it was opened: it takes nothing of others' then.
        Err(Errno::XDEV) => {
            let out = sys::leave_project(area.trash(layout).as_fd());
            out.map_err(at("take the trash out of its project for", fail()))?;
            there()
        }
        other => other,
    };
    match moved {
        Ok(()) => Ok(Some(unique)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(at("move to the trash", fail())(e)),
    }
}

impl Inner {
    /// Deletes trees of the trash, but those that somebody else deletes now; those that cannot be deleted are
    /// logged, and tried again later.
    pub fn delete(&self, area: Area, trees: &[String]) {
        for tree in trees {
            self.delete_one(area, tree.as_ref());
        }
    }

    fn delete_one(&self, area: Area, name: &OsStr) -> Fate {
        let Ok(text) = CString::new(name.as_bytes()) else { return Fate::Stuck };
        let Some(mut claim) = self.trees.claim(area, name) else { return Fate::Others };
        let trash = area.trash(&self.layout);
        // Read by whoever has the claim, so that each tree gives its project back once.
        let project = match area {
            Area::Images => None,
            Area::Containers => self.quotas.of_tree(trash, name),
        };
        let begun = self.options.steps.before(Step::Delete);
        match begun.and_then(|()| delete_tree(trash.as_fd(), &text)) {
            Ok(()) => {
                if let Some(project) = project {
                    self.quotas.gone(project);
                }
                Fate::Deleted
            }
            Err(error) => {
                tracing::warn!(?area, ?name, %error, "a tree in the trash cannot be deleted now");
                claim.stuck = Some(Instant::now());
                Fate::Stuck
            }
        }
    }

    /// Deletes at most `budget` trees.
    pub fn empty_trash(&self, budget: usize) -> Result<Emptied, ImageStoreError> {
        let mut sum = Emptied::default();
        for area in [Area::Images, Area::Containers] {
            let names = layout::names(area.trash(&self.layout))
                .map_err(at("read the trash of", self.layout.root.clone()))?;
            self.trees.only(area, &names);
            for name in names {
                match self.trees.get(area, &name) {
                    Some(Tree::Busy) => continue,
                    Some(Tree::Stuck(since)) if since.elapsed() < RETRY_AFTER => {
                        sum.stuck += 1;
                        continue;
                    }
                    Some(Tree::Stuck(_)) | None => {}
                }
                if sum.deleted >= budget {
                    sum.more = true;
                    continue;
                }
                match self.delete_one(area, &name) {
                    Fate::Deleted => sum.deleted += 1,
                    Fate::Stuck => sum.stuck += 1,
                    Fate::Others => {}
                }
            }
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_a_tree_and_what_is_stuck_is_forgotten_with_it() {
        let trees = Trees::default();
        let (a, b) = (OsStr::new("a"), OsStr::new("b"));
        let mut claim = trees.claim(Area::Images, a).unwrap();
        assert!(trees.claim(Area::Images, a).is_none());
        assert!(
            trees.claim(Area::Containers, a).is_some() && trees.claim(Area::Images, b).is_some()
        );
        // Nobody takes it away from whoever has it.
        trees.only(Area::Images, &[]);
        assert!(trees.claim(Area::Images, a).is_none());
        claim.stuck = Some(Instant::now());
        drop(claim);
        trees.only(Area::Images, &[a.to_owned(), b.to_owned()]);
        assert!(matches!(trees.get(Area::Images, a), Some(Tree::Stuck(_))));
        trees.only(Area::Containers, &[]);
        assert!(trees.get(Area::Images, a).is_some(), "it is in another trash");
        trees.only(Area::Images, &[b.to_owned()]);
        assert!(trees.lock().is_empty());
    }
}
