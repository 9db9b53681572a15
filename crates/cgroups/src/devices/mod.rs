//! Which devices may be used.
//!
//! cgroup v1's files define what rules mean: a cgroup allows all or nothing, and has a list of exceptions.
//! For v2 the same list is worked out here and becomes a BPF program.

mod program;
mod rules;

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;

use runtime_spec::DeviceCgroup;

use crate::cgroup::{Cgroup, Place};
use crate::error::CgroupError;
use crate::file::write_each;
use crate::hierarchy::Controller;
use rules::{Rule, Rules};

/// Makes `rules` those of the cgroup; none leave what is there.
pub(crate) fn apply(cgroup: &Cgroup, rules: &[DeviceCgroup]) -> Result<(), CgroupError> {
    if rules.is_empty() {
        return Ok(());
    }
    let read: Vec<Rule> =
        rules.iter().enumerate().map(|(i, r)| Rule::read(i, r)).collect::<Result<_, _>>()?;
    match cgroup.place(Controller::Devices) {
        // In their order, which has a meaning; each file is opened once for a run of them.
        Some(Place::Legacy(dir)) => read.chunk_by(|a, b| a.allow == b.allow).try_for_each(|run| {
            let allow = run.first().is_some_and(|rule| rule.allow);
            let file = if allow { "devices.allow" } else { "devices.deny" };
            write_each(&dir.join(file), run.iter().map(Rule::to_string))
        }),
        Some(Place::Unified(dir)) => attach(dir, &program::generate(&Rules::of(&read))),
        None => Err(CgroupError::NoHierarchy),
    }
}

fn attach(dir: &Path, program: &[u8]) -> Result<(), CgroupError> {
    File::open(dir)
        .and_then(|cgroup| sys::set_device_program(cgroup.as_fd(), program))
        .map_err(|source| CgroupError::Devices { path: dir.to_owned(), source })
}
