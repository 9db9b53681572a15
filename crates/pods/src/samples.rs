//! What was measured of each object, kept for a moment.
//!
//! Owns: the last sample of every object that somebody asked for, and enough of its past for a rate of CPU
//! time. Always: an object is read by one caller at a time; others that come meanwhile share what comes of it,
//! a failure too, so that all of them wait for one bound and no longer; no answer is older than the configured
//! age; what nobody has asked for in [`KEPT`] is forgotten.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cgroups::Detail;
use model::Timestamp;
use network::InterfaceStats;
use tokio::sync::watch;

use crate::config::StatsConfig;
use crate::status::Usage;

/// How long an object that nobody asks for is remembered, in nanoseconds.
const KEPT: i64 = 600_000_000_000;
/// The shortest time that a rate is taken over, in nanoseconds: the kernel counts CPU time in ticks.
const SHORTEST: i64 = 500_000_000;
/// Points of the past that a window has at most.
const POINTS: i64 = 8;

/// A sample of an object.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) usage: Usage,
    /// Of a sandbox with a network of its own.
    pub(crate) interfaces: Vec<InterfaceStats>,
}

/// What came of a read, for all who waited for it.
type Outcome<E> = Result<Arc<Sample>, Arc<E>>;

#[derive(Debug)]
struct Entry<E> {
    last: Option<Arc<Sample>>,
    past: Past,
    /// The read that is going on, or the last one. Its other end goes with whoever reads.
    read: Option<watch::Receiver<Option<Outcome<E>>>>,
    asked: i64,
}

impl<E> Default for Entry<E> {
    fn default() -> Self {
        Self { last: None, past: Past::default(), read: None, asked: 0 }
    }
}

/// The samples of all objects, by their ids; reads fail with `E`.
#[derive(Debug)]
pub(crate) struct Samples<E> {
    config: StatsConfig,
    entries: Mutex<BTreeMap<Of, Entry<E>>>,
}

/// A sample of what, and how much of it.
type Of = (String, Detail);

/// What a caller is to do.
enum Turn<E> {
    /// Nothing: this counts still.
    Take(Arc<Sample>),
    /// To wait for what somebody else reads.
    Wait(watch::Receiver<Option<Outcome<E>>>),
    /// To read, and to tell the others.
    Read(watch::Sender<Option<Outcome<E>>>),
}

impl<E> Samples<E> {
    pub(crate) fn new(config: StatsConfig) -> Self {
        Self { config, entries: Mutex::default() }
    }

    /// A sample of `id` with this `detail`, which is there since `born`: the last one where it is young
    /// enough, else what `read` gives, or the read of another caller that is going on.
    pub(crate) async fn get(
        &self,
        id: &str,
        detail: Detail,
        born: Timestamp,
        now: impl Fn() -> Timestamp,
        read: impl Future<Output = Result<Sample, E>>,
    ) -> Outcome<E> {
        let of = (id.to_owned(), detail);
        loop {
            match self.turn(&of, now()) {
                Turn::Take(sample) => return Ok(sample),
                Turn::Wait(mut others) => {
                    let told = others.wait_for(Option::is_some).await;
                    if let Ok(Some(outcome)) = told.map(|outcome| outcome.clone()) {
                        return outcome;
                    }
                    // Whoever read has given up; it is somebody else's turn.
                }
                Turn::Read(tell) => {
                    let outcome = match read.await {
                        Ok(sample) => Ok(self.keep(&of, born, sample)),
                        Err(error) => Err(Arc::new(error)),
                    };
                    tell.send_replace(Some(outcome.clone()));
                    return outcome;
                }
            }
        }
    }

    /// Takes a sample up.
    fn keep(&self, of: &Of, born: Timestamp, mut sample: Sample) -> Arc<Sample> {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(of) else { return Arc::new(sample) };
        let used = sample.usage.cgroup.as_ref().and_then(|stats| stats.cpu);
        let window = nanoseconds(self.config.cpu_window);
        sample.usage.cpu_rate =
            used.and_then(|cpu| entry.past.rate(sample.usage.at.0, cpu.usage_ns, born.0, window));
        let sample = Arc::new(sample);
        entry.last = Some(Arc::clone(&sample));
        sample
    }

    fn turn(&self, of: &Of, now: Timestamp) -> Turn<E> {
        let mut entries = self.lock();
        if !entries.contains_key(of) {
            entries.retain(|_, entry| now.0.saturating_sub(entry.asked) < KEPT);
        }
        let entry = entries.entry(of.clone()).or_default();
        entry.asked = now.0;
        let oldest = now.0.saturating_sub(nanoseconds(self.config.max_age));
        match &entry.last {
            Some(last) if last.usage.at.0 > oldest && last.usage.at.0 <= now.0 => {
                return Turn::Take(Arc::clone(last));
            }
            Some(_) | None => {}
        }
        // An error says that the other end has gone: that read is over, or was given up.
        if let Some(read) = entry.read.as_ref().filter(|read| read.has_changed().is_ok()) {
            return Turn::Wait(read.clone());
        }
        let (tell, hear) = watch::channel(None);
        entry.read = Some(hear);
        Turn::Read(tell)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Of, Entry<E>>> {
        // Whole between any two statements.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanoseconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// CPU time at moments of the past.
#[derive(Debug, Default)]
struct Past(VecDeque<(i64, u64)>);

impl Past {
    /// Nanoseconds of CPU time for each second, over the window that ends at `at`, or as much of it as is
    /// known; `used` is all of it at `at`, for an object that is there since `born`. `None` where too little
    /// is known.
    fn rate(&mut self, at: i64, used: u64, born: i64, window: i64) -> Option<u64> {
        let points = &mut self.0;
        // Less than before: the cgroup is a new one.
        if points.back().is_some_and(|&(last, before)| used < before || at < last) {
            points.clear();
        }
        // A young object has used nothing when it began.
        if points.is_empty() && (0..window).contains(&at.saturating_sub(born)) {
            points.push_back((born, 0));
        }
        while points.get(1).is_some_and(|&(second, _)| at.saturating_sub(second) >= window) {
            points.pop_front();
        }
        let rate = points.front().and_then(|&(first, before)| {
            let time = at.saturating_sub(first);
            let used = u128::from(used.saturating_sub(before)) * 1_000_000_000;
            (time >= SHORTEST).then(|| used / u128::from(time.unsigned_abs()))
        });
        if points.back().is_none_or(|&(last, _)| at.saturating_sub(last) >= window / POINTS) {
            points.push_back((at, used));
        }
        rate.map(|rate| u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
    use std::time::Duration;

    use cgroups::{CpuStats, Stats};
    use futures_util::future::poll_immediate;

    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const WINDOW: i64 = 10 * SECOND;

    #[test]
    fn a_rate_is_taken_over_the_window_however_often_it_is_asked_for() {
        let mut past = Past::default();
        let long_ago = -1000 * SECOND;
        assert_eq!(past.rate(0, 0, long_ago, WINDOW), None);
        // Half a core for ten seconds, then nothing; asked ten times a second.
        let mut rates = Vec::new();
        for tenth in 1..=200_i64 {
            let used = u64::try_from(tenth.min(100) * SECOND / 20).unwrap();
            rates.push(past.rate(tenth * SECOND / 10, used, long_ago, WINDOW));
        }
        assert_eq!(rates[3], None, "too short a time");
        assert_eq!(rates[9], Some(500_000_000));
        assert_eq!(rates[99], Some(500_000_000));
        let half = rates[149].unwrap();
        assert!((200_000_000..300_000_000).contains(&half), "half of the window: {half}");
        assert!(rates[199].unwrap() < 70_000_000, "{:?}", rates[199]);
        assert!(past.0.len() <= 12, "{}", past.0.len());
        assert_eq!(past.rate(21 * SECOND, 3, long_ago, WINDOW), None, "a new cgroup");
    }

    #[test]
    fn a_young_object_has_a_rate_at_once_and_a_silent_one_the_mean_since_it_was_seen() {
        let mut past = Past::default();
        assert_eq!(past.rate(2 * SECOND, 1_000_000_000, 0, WINDOW), Some(500_000_000));
        assert_eq!(past.rate(102 * SECOND, 11_000_000_000, 0, WINDOW), Some(100_000_000));
    }

    fn sample(at: i64, cpu: u64) -> Sample {
        let cpu = Some(CpuStats { usage_ns: cpu, ..CpuStats::default() });
        let cgroup = Some(Stats { cpu, ..Stats::default() });
        let more = crate::status::More::default();
        let usage = Usage { at: Timestamp(at), cgroup, writable: None, cpu_rate: None, more };
        Sample { usage, interfaces: Vec::new() }
    }

    #[tokio::test]
    async fn callers_share_a_sample_until_it_is_too_old() {
        let config =
            StatsConfig { max_age: Duration::from_secs(1), cpu_window: Duration::from_secs(10) };
        let samples = Samples::<()>::new(config);
        let (clock, reads) = (AtomicI64::new(5 * SECOND), AtomicU32::new(0));
        let now = || Timestamp(clock.load(Ordering::Relaxed));
        let ask = || {
            samples.get("a", Detail::Brief, Timestamp(0), now, async {
                reads.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok::<_, ()>(sample(now().0, 1_000_000_000))
            })
        };
        let (first, second) = tokio::join!(ask(), ask());
        assert!(Arc::ptr_eq(&first.unwrap(), &second.unwrap()));
        assert_eq!(reads.load(Ordering::Relaxed), 1, "two at once are read once");
        clock.fetch_add(SECOND / 2, Ordering::Relaxed);
        let third = ask().await.unwrap();
        assert_eq!(
            (third.usage.at, third.usage.cpu_rate),
            (Timestamp(5 * SECOND), Some(200_000_000))
        );
        clock.fetch_add(SECOND, Ordering::Relaxed);
        ask().await.unwrap();
        assert_eq!(reads.load(Ordering::Relaxed), 2);
        let all = async { Ok::<_, ()>(sample(now().0, 7)) };
        let whole = samples.get("a", Detail::Whole, Timestamp(0), now, all).await.unwrap();
        let used = whole.usage.cgroup.as_ref().and_then(|stats| stats.cpu);
        assert_eq!(used.map(|cpu| cpu.usage_ns), Some(7), "who wants all is not told in brief");
        clock.fetch_add(2 * KEPT, Ordering::Relaxed);
        samples
            .get("b", Detail::Brief, Timestamp(0), now, async { Ok::<_, ()>(sample(now().0, 1)) })
            .await
            .unwrap();
        assert_eq!(samples.lock().len(), 1, "what nobody asks for is forgotten");
    }

    #[tokio::test]
    async fn a_read_that_fails_is_told_to_all_who_waited_and_not_kept() {
        let samples = Samples::new(StatsConfig::default());
        let reads = AtomicU32::new(0);
        let ask = || {
            samples.get("a", Detail::Brief, Timestamp(0), || Timestamp(1), async {
                reads.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Err("no")
            })
        };
        let all = tokio::join!(ask(), ask(), ask());
        for failed in [all.0, all.1, all.2] {
            assert_eq!(*failed.unwrap_err(), "no");
        }
        assert_eq!(reads.load(Ordering::Relaxed), 1, "nobody waits for a second one that hangs");
        let read = samples
            .get("a", Detail::Brief, Timestamp(0), || Timestamp(1), async { Ok(sample(1, 1)) });
        assert!(read.await.is_ok());
    }

    #[tokio::test]
    async fn a_read_that_is_given_up_is_taken_over() {
        let samples = Samples::<()>::new(StatsConfig::default());
        let now = || Timestamp(1);
        let mut hung =
            Box::pin(samples.get("a", Detail::Brief, Timestamp(0), now, std::future::pending()));
        let mut second = Box::pin(
            samples.get("a", Detail::Brief, Timestamp(0), now, async { Ok(sample(1, 1)) }),
        );
        assert!(poll_immediate(&mut hung).await.is_none());
        assert!(poll_immediate(&mut second).await.is_none(), "it waits for the first");
        drop(hung);
        assert_eq!(second.await.unwrap().usage.at, Timestamp(1));
    }
}
