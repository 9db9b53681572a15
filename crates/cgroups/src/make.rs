//! Directories of cgroups, and what makes them fit for use.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::cgroup::{Dir, Kind};
use crate::error::CgroupError;
use crate::file::{read, read_if_there, write};
use crate::hierarchy::Controller;
use crate::path::CgroupPath;

/// Makes the directory and those above it up to the mount point; adds what it made to `made`.
pub(crate) fn make_with_parents(
    dir: &Dir,
    path: &CgroupPath,
    gives_on: bool,
    made: &mut Vec<PathBuf>,
) -> Result<(), CgroupError> {
    let is_cpuset = matches!(&dir.kind, Kind::Legacy(has) if has.contains(&Controller::Cpuset));
    // Mostly all above it is there, and has nothing to give: one call then.
    if !gives_on && !is_cpuset {
        match std::fs::create_dir(&dir.path) {
            Ok(()) => {
                made.push(dir.path.clone());
                return Ok(());
            }
            Err(source) if source.kind() == ErrorKind::AlreadyExists => return Ok(()),
            Err(_) => {}
        }
    }
    if is_cpuset {
        if is_fit_cpuset(&dir.path)? {
            return Ok(());
        }
        if made_below_a_cpuset(&dir.path)? {
            made.push(dir.path.clone());
            return Ok(());
        }
    }
    let depth = path.relative().components().count();
    let mut above: Vec<&Path> = dir.path.ancestors().take(depth + 1).collect();
    above.reverse();
    for pair in above.windows(2) {
        let [parent, here] = pair else { continue };
        if gives_on {
            give_on(parent)?;
        }
        match std::fs::create_dir(here) {
            Ok(()) => made.push((*here).to_owned()),
            Err(source) if source.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => return Err(CgroupError::Make { path: (*here).to_owned(), source }),
        }
        if is_cpuset {
            inherit_cpuset(parent, here)?;
        }
    }
    Ok(())
}

const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Whether a cpuset is there and takes processes.
fn is_fit_cpuset(here: &Path) -> Result<bool, CgroupError> {
    for file in CPUSET {
        if read_if_there(&here.join(file))?.unwrap_or_default().trim().is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes a cpuset whose parent is there and has what it is to inherit; whether it could.
fn made_below_a_cpuset(here: &Path) -> Result<bool, CgroupError> {
    let Some(parent) = here.parent() else { return Ok(false) };
    let mut values = Vec::new();
    for file in CPUSET {
        let value = read_if_there(&parent.join(file))?.unwrap_or_default();
        if value.trim().is_empty() {
            return Ok(false);
        }
        values.push(value);
    }
    if std::fs::create_dir(here).is_err() {
        return Ok(false);
    }
    for (file, value) in CPUSET.into_iter().zip(values) {
        if let Err(error) = write(&here.join(file), value.trim()) {
            // Nothing can be in it yet.
            let _ = std::fs::remove_dir(here);
            return Err(error);
        }
    }
    Ok(true)
}

/// A cpuset of v1 begins empty and takes no process before it has CPUs and memory nodes.
fn inherit_cpuset(parent: &Path, here: &Path) -> Result<(), CgroupError> {
    for file in CPUSET {
        if read(&here.join(file))?.trim().is_empty() {
            let value = read(&parent.join(file))?;
            write(&here.join(file), value.trim())?;
        }
    }
    Ok(())
}

/// Lets the children of a cgroup of v2 have what it has. What it cannot give on (because processes are in
/// it, or somebody else decides) its children do without; a limit that needs it says so.
fn give_on(dir: &Path) -> Result<(), CgroupError> {
    let list = |file: &str| -> Result<Vec<String>, CgroupError> {
        let text = read_if_there(&dir.join(file))?.unwrap_or_default();
        Ok(text.split_ascii_whitespace().map(str::to_owned).collect())
    };
    let given = list("cgroup.subtree_control")?;
    let missing: Vec<String> = list("cgroup.controllers")?
        .iter()
        .filter(|name| !given.contains(name))
        .map(|name| format!("+{name}"))
        .collect();
    let control = dir.join("cgroup.subtree_control");
    if !missing.is_empty() && write(&control, &missing.join(" ")).is_err() {
        for name in &missing {
            let _ = write(&control, name);
        }
    }
    Ok(())
}
