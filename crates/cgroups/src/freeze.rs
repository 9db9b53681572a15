//! Standing still: all processes of a cgroup at once.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::cgroup::{Cgroup, Place};
use crate::error::CgroupError;
use crate::file::{read_if_there, write};
use crate::hierarchy::Controller;
use crate::remove::pause;

/// How long all may take to stand still; one in an uninterruptible sleep does not before it wakes.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The files of a hierarchy: what is written, and where it says how things are.
struct Files<'a> {
    dir: &'a Path,
    file: &'static str,
    frozen: &'static str,
    thawed: &'static str,
    state: &'static str,
    line: &'static str,
}

impl Cgroup {
    /// Has every process in it and below it stand still, and waits until they do.
    ///
    /// # Errors
    /// [`CgroupError::NotFrozen`] where one does not in time; all go on then. [`CgroupError::Write`],
    /// [`CgroupError::Read`], [`CgroupError::Unsupported`] without a freezer.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        let files = self.freezer()?;
        write(&files.dir.join(files.file), files.frozen)?;
        let until = Instant::now() + PATIENCE;
        while !files.say_frozen()? {
            if Instant::now() >= until {
                // They go on as before; what is told is that they did not stand still.
                let _ = write(&files.dir.join(files.file), files.thawed);
                return Err(CgroupError::NotFrozen { path: files.dir.to_owned() });
            }
            pause(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// [`CgroupError::Write`], [`CgroupError::Unsupported`] without a freezer.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        let files = self.freezer()?;
        write(&files.dir.join(files.file), files.thawed)
    }

    /// Whether they stand still.
    ///
    /// # Errors
    /// [`CgroupError::Read`], [`CgroupError::Unsupported`] without a freezer.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        self.freezer()?.say_frozen()
    }

    fn freezer(&self) -> Result<Files<'_>, CgroupError> {
        match self.place(Controller::Freezer) {
            Some(Place::Legacy(dir)) => Ok(Files {
                dir,
                file: "freezer.state",
                frozen: "FROZEN",
                thawed: "THAWED",
                state: "freezer.state",
                line: "FROZEN",
            }),
            Some(Place::Unified(dir)) => Ok(Files {
                dir,
                file: "cgroup.freeze",
                frozen: "1",
                thawed: "0",
                state: "cgroup.events",
                line: "frozen 1",
            }),
            None => Err(CgroupError::Unsupported {
                what: "standing still".to_owned(),
                needs: "the freezer".to_owned(),
            }),
        }
    }
}

impl Files<'_> {
    fn say_frozen(&self) -> Result<bool, CgroupError> {
        let text = read_if_there(&self.dir.join(self.state))?.unwrap_or_default();
        Ok(text.lines().any(|line| line.trim() == self.line))
    }
}
