//! The CPU time of chosen processes, in nanoseconds (schedstat of /proc, as the kernel's
//! Documentation/scheduler/sched-stats.rst has it).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

/// What threads have had of the processors, in nanoseconds, by process and thread.
#[derive(Debug, Default)]
pub struct CpuTime(BTreeMap<(u32, u32), u64>);

impl CpuTime {
    /// That of all threads of these processes until now; those that are gone are left out.
    pub fn of(pids: &BTreeSet<u32>) -> Self {
        let all = pids.iter().flat_map(|pid| {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
            let threads =
                threads.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
            threads.filter_map(|tid| Some(((*pid, tid), on_cpu(*pid, tid)?)))
        });
        Self(all.collect())
    }

    /// What these threads have had since `before`, a new one all that it has. Nothing where the first thread of
    /// `process` had none at either time: the process has ended, or the kernel keeps no such account (it is
    /// built without CONFIG_SCHED_INFO, or writes zeros).
    ///
    /// Not counted: what a thread that has ended had since `before`, a process that came and went, and what the
    /// kernel does for them in threads and interrupts of its own. A thread that runs at this moment may lack
    /// what it had since the last tick.
    pub fn since(&self, before: &Self, process: u32) -> Option<Duration> {
        let first = (process, process);
        let has_run = |at: &Self| at.0.get(&first).is_some_and(|time| *time > 0);
        let spent = |(thread, now): (_, &u64)| {
            now.saturating_sub(before.0.get(thread).copied().unwrap_or_default())
        };
        let all = self.0.iter().map(spent).sum();
        (has_run(before) && has_run(self)).then_some(Duration::from_nanos(all))
    }
}

fn on_cpu(pid: u32, tid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn had(threads: &[((u32, u32), u64)]) -> CpuTime {
        CpuTime(threads.iter().copied().collect())
    }

    #[test]
    fn threads_that_came_or_ended_do_not_spoil_the_sum() {
        let before = had(&[((7, 7), 100), ((7, 8), 5000), ((7, 9), 300), ((20, 20), 40)]);
        // 8 ended, 9 is another one by the same number, 10 and the process 30 are new.
        let after =
            had(&[((7, 7), 110), ((7, 9), 200), ((7, 10), 3), ((20, 20), 42), ((30, 30), 1000)]);
        assert_eq!(after.since(&before, 7), Some(Duration::from_nanos(10 + 3 + 2 + 1000)));
        assert_eq!(before.since(&before, 7), Some(Duration::ZERO));
    }

    #[test]
    fn there_is_no_figure_without_an_account() {
        let before = had(&[((7, 7), 100), ((20, 20), 40)]);
        let nothing = CpuTime::default();
        let zeros = had(&[((7, 7), 0), ((20, 20), 0)]);
        let without_the_daemon = had(&[((20, 20), 45)]);
        for after in [&nothing, &zeros, &without_the_daemon] {
            assert_eq!(after.since(&before, 7), None);
            assert_eq!(before.since(after, 7), None);
        }
        assert_eq!(zeros.since(&zeros, 7), None);
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        let own = std::process::id();
        let pids = BTreeSet::from([own, u32::MAX]);
        let (before, after) = (CpuTime::of(&pids), CpuTime::of(&pids));
        assert!(before.0.keys().all(|(pid, _)| *pid == own), "{before:?}");
        let text = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
        let keeps_account = !text.is_empty() && !text.starts_with("0 ");
        assert_eq!(after.since(&before, own).is_some(), keeps_account, "{text}");
    }
}
