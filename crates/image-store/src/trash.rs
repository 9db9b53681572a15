//! Out of sight first, deleted later.

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
use crate::quotas::Quotas;
use crate::steps::{Step, Steps};

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

/// Trees that could not be deleted, and when that was.
#[derive(Debug, Default)]
pub(crate) struct Stuck(Mutex<HashMap<(Area, OsString), Instant>>);

impl Stuck {
    fn lock(&self) -> MutexGuard<'_, HashMap<(Area, OsString), Instant>> {
        // The map is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    match rustix::fs::renameat(from, name, area.trash(layout), &unique) {
        Ok(()) => Ok(Some(unique)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(at("move to the trash", fail())(e)),
    }
}

/// Deletes one tree of the trash; `false` if it cannot be deleted now, which is logged.
pub(crate) fn delete(
    layout: &Layout,
    steps: &dyn Steps,
    stuck: &Stuck,
    quotas: &Quotas,
    area: Area,
    name: &OsStr,
) -> bool {
    let Ok(text) = CString::new(name.as_bytes()) else { return false };
    let project = match area {
        Area::Images => None,
        Area::Containers => quotas.of_tree(area.trash(layout), name),
    };
    let done =
        steps.before(Step::Delete).and_then(|()| delete_tree(area.trash(layout).as_fd(), &text));
    match done {
        Ok(()) => {
            stuck.lock().remove(&(area, name.to_owned()));
            if let Some(project) = project {
                quotas.gone(project);
            }
            true
        }
        Err(error) => {
            tracing::warn!(?area, ?name, %error, "a tree in the trash cannot be deleted now");
            stuck.lock().insert((area, name.to_owned()), Instant::now());
            false
        }
    }
}

/// Deletes at most `budget` trees.
pub(crate) fn empty(
    layout: &Layout,
    steps: &dyn Steps,
    stuck: &Stuck,
    quotas: &Quotas,
    budget: usize,
) -> Result<Emptied, ImageStoreError> {
    let mut sum = Emptied::default();
    for area in [Area::Images, Area::Containers] {
        let names = layout::names(area.trash(layout))
            .map_err(at("read the trash of", layout.root.clone()))?;
        for name in names {
            let since = stuck.lock().get(&(area, name.clone())).copied();
            if since.is_some_and(|s| s.elapsed() < RETRY_AFTER) {
                sum.stuck += 1;
            } else if sum.deleted >= budget {
                sum.more = true;
            } else if delete(layout, steps, stuck, quotas, area, &name) {
                sum.deleted += 1;
            } else {
                sum.stuck += 1;
            }
        }
    }
    Ok(sum)
}
