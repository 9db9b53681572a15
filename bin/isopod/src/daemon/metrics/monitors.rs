//! What monitors hold, as the kernel says it (smaps_rollup in proc(5)).
//!
//! Always: looked at no more often than once in [`FRESH`], because the kernel walks their pages for it.

use std::time::{Duration, Instant};

use pods::{Pods, SandboxFilter};
use tokio::sync::Mutex;

/// How long what was seen counts.
const FRESH: Duration = Duration::from_secs(15);

/// What all monitors hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// How many there are.
    pub(super) monitors: usize,
    /// All together, in bytes.
    pub(super) all: i64,
    /// The one that has the most, in bytes.
    pub(super) most: i64,
}

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Monitors(Mutex<Option<(Instant, Memory)>>);

impl Monitors {
    /// What they hold.
    pub(super) async fn memory(&self, pods: &Pods) -> Memory {
        let mut last = self.0.lock().await;
        if let Some((at, memory)) = *last
            && at.elapsed() < FRESH
        {
            return memory;
        }
        let all = pods.list_sandboxes(&SandboxFilter::default());
        let pids: Vec<i32> = all.iter().filter_map(|one| one.monitor_pid).collect();
        let look = move || sum(pids.into_iter().map(|pid| format!("/proc/{pid}/smaps_rollup")));
        let memory = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        *last = Some((Instant::now(), memory));
        memory
    }
}

/// Of these files; one that is gone is not counted.
fn sum(files: impl Iterator<Item = String>) -> Memory {
    let mut memory = Memory::default();
    for text in files.filter_map(|file| std::fs::read_to_string(file).ok()) {
        let Some(bytes) = pss(&text) else { continue };
        memory.monitors += 1;
        memory.all = memory.all.saturating_add(bytes);
        memory.most = memory.most.max(bytes);
    }
    memory
}

fn pss(text: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.split_whitespace().next()?.parse::<i64>().ok()?.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_memory_are_added_and_the_gone_are_left_out() {
        let own = "/proc/self/smaps_rollup".to_owned();
        let memory = sum([own.clone(), "/proc/0/smaps_rollup".to_owned(), own].into_iter());
        assert_eq!(memory.monitors, 2);
        assert!(memory.most > 100_000 && memory.all > memory.most, "{memory:?}");
        assert_eq!(pss("Rss:  9 kB\nPss:   3 kB\n"), Some(3072));
    }
}
