//! What is to end and has not yet: cgroups whose processes are killed again and again until they are gone.
//!
//! Always: bounded. What survives [`PATIENCE`] is said in the monitor's log and left to whoever removes the
//! pod's cgroup.

use std::time::{Duration, Instant};

use cgroups::Cgroup;

/// How long processes may take to end after their first SIGKILL.
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// What becomes of a cgroup when it is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It stays.
    Keep,
    /// It is removed.
    Remove,
}

#[derive(Debug)]
struct Doomed {
    cgroup: Cgroup,
    then: Then,
    until: Instant,
    next: Instant,
    pause: Duration,
}

/// The cgroups that are to end.
#[derive(Debug, Default)]
pub struct Dying(Vec<Doomed>);

impl Dying {
    /// Kills everything in `cgroup`, now and until it is empty.
    pub fn kill(&mut self, cgroup: Option<&Cgroup>, then: Then) {
        let Some(cgroup) = cgroup else { return };
        let now = Instant::now();
        let known = self.0.iter().position(|d| d.cgroup.path() == cgroup.path());
        let mut doomed = match known.map(|at| self.0.swap_remove(at)) {
            Some(known) if then == Then::Remove => Doomed { then, ..known },
            Some(known) => known,
            None => Doomed {
                cgroup: cgroup.clone(),
                then,
                until: now + PATIENCE,
                next: now + FIRST_PAUSE,
                pause: FIRST_PAUSE,
            },
        };
        if !doomed.is_over(now) {
            self.0.push(doomed);
        }
    }

    /// When to look again.
    pub fn next(&self) -> Option<Instant> {
        self.0.iter().map(|doomed| doomed.next).min()
    }

    /// Looks at those whose time has come.
    pub fn look(&mut self, now: Instant) {
        self.0.retain_mut(|doomed| doomed.next > now || !doomed.is_over(now));
    }
}

impl Doomed {
    /// Kills once more; whether nothing is left to be done.
    fn is_over(&mut self, now: Instant) -> bool {
        if self.then == Then::Remove && self.cgroup.remove_if_empty() {
            return true;
        }
        let killed = self.cgroup.kill_all();
        let left = match self.cgroup.procs() {
            Ok(left) if left.is_empty() => return self.finish(),
            Ok(left) => left.len(),
            Err(error) => {
                eprintln!("isopod-monitor: {error}");
                return true;
            }
        };
        if now >= self.until {
            let why = killed.err().map(|e| format!(": {e}")).unwrap_or_default();
            eprintln!(
                "isopod-monitor: {left} processes outlive SIGKILL in {}{why}",
                self.cgroup.path()
            );
            return true;
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.next = now + self.pause;
        false
    }

    fn finish(&self) -> bool {
        // Empty, so that it waits for nothing but the last steps of processes that have ended.
        if self.then == Then::Remove
            && let Err(error) = self.cgroup.remove()
        {
            eprintln!("isopod-monitor: {error}");
        }
        true
    }
}
