//! The cgroup that a spec names, and the way of a process into it.

use std::io;

use cgroups::{Cgroup, CgroupError, CgroupPath, Driver, Hierarchies};
use launcher::{CgroupView, LegacyView, Seat};
use runtime_spec::Spec;
use rustix::process::Pid;

use crate::error::OciError;

/// The cgroup that `spec` names, or one by the container's id where it names none.
pub(crate) fn path_of(spec: &Spec, id: &str) -> Result<CgroupPath, OciError> {
    let text = spec.linux.as_ref().map_or("", |linux| linux.cgroups_path.as_str());
    let text = if text.is_empty() { format!("/{id}") } else { text.to_owned() };
    Ok(Driver::read_cgroups_path(&text).map_err(CgroupError::from)?.1)
}

/// Makes it, with the limits of `spec`.
pub(crate) fn create(
    hierarchies: &Hierarchies,
    path: &CgroupPath,
    spec: &Spec,
) -> Result<Cgroup, OciError> {
    let cgroup = Cgroup::create(hierarchies, path)?;
    let resources = spec.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    if let Some(Err(error)) = resources.map(|resources| cgroup.apply(resources)) {
        // Nothing is in it yet; what cannot be removed is told by the error before it.
        let _ = cgroup.remove();
        return Err(error.into());
    }
    Ok(cgroup)
}

/// How a container is shown the hierarchies.
pub(crate) fn view(hierarchies: &Hierarchies) -> CgroupView {
    let legacy = |shown: cgroups::Shown| LegacyView {
        directory: shown.directory,
        options: shown.options,
        links: shown.links,
    };
    match hierarchies.shown() {
        None => CgroupView::Unified,
        Some(shown) => CgroupView::Legacy(shown.into_iter().map(legacy).collect()),
    }
}

/// Hands out the way into `cgroup`.
pub(crate) fn seated<T>(cgroup: Option<&Cgroup>, launch: impl FnOnce(Seat<'_>) -> T) -> T {
    let Some(cgroup) = cgroup else { return launch(Seat::Stay) };
    let join = |pid: Pid| cgroup.join(pid).map_err(into_io);
    match cgroup.entrance() {
        Ok(Some(way)) => launch(Seat::Entered(&way)),
        // What is wrong with it is said by the failure to join.
        Ok(None) | Err(_) => launch(Seat::Moved(&join)),
    }
}

fn into_io(error: CgroupError) -> io::Error {
    match error.errno() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error.to_string()),
    }
}
