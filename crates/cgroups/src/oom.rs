//! How often the kernel killed for want of memory.

use std::path::Path;

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::cgroup::{Cgroup, Place};
use crate::error::CgroupError;
use crate::file::{read_if_there, subdirectories};
use crate::hierarchy::Controller;
use crate::limits::current;

/// Out-of-memory events of a cgroup and of those below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OomCounts {
    /// Processes that were killed, for whatever reason memory was short.
    pub kills: u64,
    /// How often its own limit, or one below it, was what ran out. v1 does not count that (its count of
    /// failed charges stays 0 on newer kernels): there it is the number of cgroups in which, or below which,
    /// something was killed and whose usage has reached their limit at some time.
    pub limit_hits: u64,
}

pub(crate) fn counts(cgroup: &Cgroup) -> Result<OomCounts, CgroupError> {
    match cgroup.place(Controller::Memory) {
        None => Ok(OomCounts::default()),
        Some(Place::Unified(dir)) => unified(dir),
        Some(Place::Legacy(dir)) => legacy(dir),
    }
}

fn unified(dir: &Path) -> Result<OomCounts, CgroupError> {
    let events = read_if_there(&dir.join("memory.events"))?.unwrap_or_default();
    Ok(OomCounts::of_events(&events))
}

impl OomCounts {
    /// What `memory.events` of v2 says.
    #[must_use]
    pub fn of_events(text: &str) -> Self {
        Self { kills: value_of(text, "oom_kill"), limit_hits: value_of(text, "oom") }
    }
}

/// v1 counts in the cgroup of the process that was killed only.
fn legacy(dir: &Path) -> Result<OomCounts, CgroupError> {
    let control = read_if_there(&dir.join("memory.oom_control"))?.unwrap_or_default();
    let own = OomCounts { kills: value_of(&control, "oom_kill"), limit_hits: 0 };
    let mut sum = subdirectories(dir)?.iter().try_fold(own, |sum, below| {
        let more = legacy(below)?;
        Ok::<_, CgroupError>(OomCounts {
            kills: sum.kills.saturating_add(more.kills),
            limit_hits: sum.limit_hits.saturating_add(more.limit_hits),
        })
    })?;
    // Where swap has the same limit as memory, it may be the sum of both that reaches it first.
    if sum.kills > 0 && (reached(dir, "memory")? || reached(dir, "memory.memsw")?) {
        sum.limit_hits = sum.limit_hits.saturating_add(1);
    }
    Ok(sum)
}

fn reached(dir: &Path, which: &str) -> Result<bool, CgroupError> {
    let peak = current(dir, &format!("{which}.max_usage_in_bytes"))?;
    let limit = current(dir, &format!("{which}.limit_in_bytes"))?;
    Ok(peak.zip(limit).is_some_and(|(peak, limit)| peak >= limit))
}

/// How often is looked for processes that were born meanwhile, with the old score.
const ROUNDS: usize = 3;

/// A process is told by the descriptor of its directory in proc, which leads to no other one: it is opened
/// before the process is found in the cgroup for a second time.
pub(crate) fn adjust(cgroup: &Cgroup, score: i32) -> Result<(), CgroupError> {
    let mut done: Vec<Pid> = Vec::new();
    for _ in 0..ROUNDS {
        let new: Vec<Pid> = cgroup.procs()?.into_iter().filter(|pid| !done.contains(pid)).collect();
        if new.is_empty() {
            break;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened: Vec<_> = new
            .iter()
            .filter_map(|pid| {
                let path = format!("/proc/{}", pid.as_raw_nonzero());
                Some((*pid, open(path, flags, Mode::empty()).ok()?))
            })
            .collect();
        let still = cgroup.procs()?;
        for (pid, dir) in opened.iter().filter(|(pid, _)| still.contains(pid)) {
            let name = "oom_score_adj";
            let written = openat(dir, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                .and_then(|file| rustix::io::write(file, score.to_string().as_bytes()));
            match written {
                Ok(_) | Err(Errno::SRCH | Errno::NOENT) => {}
                Err(errno) => {
                    let path = Path::new("/proc").join(pid.as_raw_nonzero().to_string()).join(name);
                    let value = score.to_string();
                    return Err(CgroupError::Write { path, value, source: errno.into() });
                }
            }
        }
        done.extend(new);
    }
    Ok(())
}

/// The number behind `key` in a flat-keyed file.
pub(crate) fn value_of(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_below_count_too() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("below");
        std::fs::create_dir(&below).unwrap();
        for (at, kills, peak) in [(dir.path(), 1, "4000"), (&below, 2, "5000")] {
            let text = format!("oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n");
            std::fs::write(at.join("memory.oom_control"), text).unwrap();
            std::fs::write(at.join("memory.max_usage_in_bytes"), peak).unwrap();
            std::fs::write(at.join("memory.limit_in_bytes"), "5000\n").unwrap();
        }
        assert_eq!(legacy(dir.path()).unwrap(), OomCounts { kills: 3, limit_hits: 1 });
        // The limit that ran out is the upper one's, and the one that was killed was below.
        let write = |at: &Path, file: &str, text: &str| std::fs::write(at.join(file), text);
        write(dir.path(), "memory.oom_control", "oom_kill 0\n").unwrap();
        write(dir.path(), "memory.max_usage_in_bytes", "5000").unwrap();
        write(&below, "memory.limit_in_bytes", "9223372036854771712\n").unwrap();
        assert_eq!(legacy(dir.path()).unwrap(), OomCounts { kills: 2, limit_hits: 1 });
        write(&below, "memory.oom_control", "oom_kill 0\n").unwrap();
        assert_eq!(legacy(dir.path()).unwrap(), OomCounts::default(), "reclaim is no kill");
        std::fs::write(
            dir.path().join("memory.events"),
            "low 0\noom 4\noom_kill 7\noom_group_kill 0\n",
        )
        .unwrap();
        assert_eq!(unified(dir.path()).unwrap(), OomCounts { kills: 7, limit_hits: 4 });
    }
}
