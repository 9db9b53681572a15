//! Limits: from the runtime specification's fields to files.
//!
//! First everything is worked out and looked for, then it is written: a limit that this machine cannot have
//! is an error before the first one is set.

mod legacy;
mod unified;

pub(crate) use unified::{shares_to_weight, weight_to_shares};

use std::path::{Path, PathBuf};

use runtime_spec::{BlockIo, Resources};

use crate::cgroup::{Cgroup, Place};
use crate::error::CgroupError;
use crate::file::{read_if_there, write};
use crate::hierarchy::Controller;

/// A value for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    /// The field that it comes from.
    pub(crate) what: String,
    pub(crate) path: PathBuf,
    pub(crate) value: String,
}

/// What is to be written, in order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) writes: Vec<Write>,
}

impl Plan {
    /// Adds a value for `file` in `dir`, which must be there.
    pub(crate) fn set(
        &mut self,
        what: &str,
        controller: Controller,
        dir: &Path,
        file: &str,
        value: impl ToString,
    ) -> Result<(), CgroupError> {
        let path = dir.join(file);
        if !path.exists() {
            return Err(lacks(what, controller, dir));
        }
        self.writes.push(Write { what: what.to_owned(), path, value: value.to_string() });
        Ok(())
    }

    /// The same, where a file that is not there needs no value.
    pub(crate) fn set_if_there(
        &mut self,
        what: &str,
        dir: &Path,
        file: &str,
        value: impl ToString,
    ) {
        let path = dir.join(file);
        if path.exists() {
            self.writes.push(Write { what: what.to_owned(), path, value: value.to_string() });
        }
    }
}

pub(crate) fn lacks(what: &str, controller: Controller, dir: &Path) -> CgroupError {
    CgroupError::Unsupported {
        what: what.to_owned(),
        needs: format!("the {} controller in {}", controller.legacy_name(), dir.display()),
    }
}

impl Write {
    fn carry_out(&self) -> Result<(), CgroupError> {
        match write(&self.path, &self.value) {
            Err(CgroupError::Write { path, value, source }) => {
                Err(CgroupError::Limit { what: self.what.clone(), value, path, source })
            }
            done => done,
        }
    }
}

/// Numbers of which -1 means no limit, and less than that nothing.
///
/// # Errors
/// [`CgroupError::BadLimit`] for the first that means nothing.
pub(crate) fn check(resources: &Resources) -> Result<(), CgroupError> {
    let memory = resources.memory.clone().unwrap_or_default();
    let all = [
        ("memory.limit", memory.limit),
        ("memory.swap", memory.swap),
        ("memory.reservation", memory.reservation),
        ("cpu.quota", resources.cpu.as_ref().and_then(|cpu| cpu.quota)),
        ("pids.limit", resources.pids.map(|pids| pids.limit)),
    ];
    let bad = all.into_iter().find_map(|(what, value)| Some((what, value.filter(|n| *n < -1)?)));
    bad.map_or(Ok(()), |(what, value)| {
        let problem = format!("{value} is no limit; -1 is for none");
        Err(CgroupError::BadLimit { what: what.to_owned(), problem })
    })
}

pub(crate) fn apply(cgroup: &Cgroup, resources: &Resources) -> Result<(), CgroupError> {
    let plan = plan(cgroup, resources)?;
    let mut writes = plan.writes.iter().peekable();
    while let Some(one) = writes.next() {
        match one.carry_out() {
            // A period that does not fit to the quota there is may fit to the one to come.
            Err(CgroupError::Limit { source, .. })
                if one.path.ends_with(legacy::PERIOD)
                    && source.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error())
                    && writes.peek().is_some_and(|next| next.path.ends_with(legacy::QUOTA)) =>
            {
                if let Some(quota) = writes.next() {
                    quota.carry_out()?;
                }
                one.carry_out()?;
            }
            other => other?,
        }
    }
    Ok(())
}

pub(crate) fn plan(cgroup: &Cgroup, resources: &Resources) -> Result<Plan, CgroupError> {
    let mut plan = Plan::default();
    if let Some(cpu) = &resources.cpu {
        match cgroup.place(Controller::Cpu) {
            Some(Place::Legacy(dir)) => legacy::cpu(&mut plan, dir, cpu)?,
            Some(Place::Unified(dir)) => unified::cpu(&mut plan, dir, cpu)?,
            None => return Err(CgroupError::NoHierarchy),
        }
        // These files have the same names in both versions.
        for (file, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
            if !value.is_empty() {
                let dir = dir(cgroup, Controller::Cpuset)?;
                plan.set(&format!("cpu.{}", &file[7..]), Controller::Cpuset, dir, file, value)?;
            }
        }
    }
    if let Some(memory) = &resources.memory {
        match cgroup.place(Controller::Memory) {
            Some(Place::Legacy(dir)) => legacy::memory(&mut plan, dir, memory)?,
            Some(Place::Unified(dir)) => unified::memory(&mut plan, dir, memory)?,
            None => return Err(CgroupError::NoHierarchy),
        }
    }
    if let Some(pids) = resources.pids {
        let value = if pids.limit > 0 { pids.limit.to_string() } else { "max".to_owned() };
        let dir = dir(cgroup, Controller::Pids)?;
        plan.set("pids.limit", Controller::Pids, dir, "pids.max", value)?;
    }
    if let Some(io) = resources.block_io.as_ref().filter(|io| **io != BlockIo::default()) {
        match cgroup.place(Controller::Blkio) {
            Some(Place::Legacy(dir)) => legacy::block_io(&mut plan, dir, io)?,
            Some(Place::Unified(dir)) => unified::block_io(&mut plan, dir, io)?,
            None => return Err(CgroupError::NoHierarchy),
        }
    }
    for limit in &resources.hugepage_limits {
        hugepages(&mut plan, cgroup, limit)?;
    }
    unified::files(&mut plan, cgroup, &resources.unified)?;
    Ok(plan)
}

fn dir(cgroup: &Cgroup, controller: Controller) -> Result<&Path, CgroupError> {
    match cgroup.place(controller) {
        Some(Place::Legacy(dir) | Place::Unified(dir)) => Ok(dir),
        None => Err(CgroupError::NoHierarchy),
    }
}

fn hugepages(
    plan: &mut Plan,
    cgroup: &Cgroup,
    limit: &runtime_spec::HugepageLimit,
) -> Result<(), CgroupError> {
    let size = &limit.page_size;
    let what = format!("hugepageLimits.{size}");
    if size.is_empty() || !size.bytes().all(|b| b.is_ascii_alphanumeric()) {
        let problem = "is not a size of pages".to_owned();
        return Err(CgroupError::BadLimit { what, problem });
    }
    let (dir, word) = match cgroup.place(Controller::Hugetlb) {
        Some(Place::Legacy(dir)) => (dir, "limit_in_bytes"),
        Some(Place::Unified(dir)) => (dir, "max"),
        None => return Err(CgroupError::NoHierarchy),
    };
    let file = format!("hugetlb.{size}.{word}");
    // The kubelet says 0 for every size; that keeps nobody from running where none can be limited.
    if limit.limit == 0 && !dir.join(&file).exists() {
        return Ok(());
    }
    plan.set(&what, Controller::Hugetlb, dir, &file, limit.limit)?;
    // Reservations count apart, where the kernel knows them (5.7).
    plan.set_if_there(&what, dir, &format!("hugetlb.{size}.rsvd.{word}"), limit.limit);
    Ok(())
}

/// The number in a file; `None` for "max" and for a file that is not there.
pub(crate) fn current(dir: &Path, file: &str) -> Result<Option<u64>, CgroupError> {
    Ok(read_if_there(&dir.join(file))?.and_then(|text| text.trim().parse().ok()))
}

#[cfg(test)]
mod tests;
