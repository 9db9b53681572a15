//! Which host is tried next, and after which wait. No clock: waits are values.

use std::time::Duration;

use crate::error::Cause;

/// What happened at one host.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    /// How long the server wants to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        Self { cause, retry_after: None }
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Try the host of this index.
    Try(usize),
    /// Wait, then ask again.
    Wait(Duration),
    /// Nothing is left to try.
    GiveUp,
}

/// Bounds of the schedule.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Rounds over all hosts.
    pub(crate) rounds: u32,
    /// The first wait.
    pub(crate) backoff: Duration,
    /// The longest wait.
    pub(crate) max_backoff: Duration,
}

/// The course of one request over several hosts: mirrors first, the registry's own host last.
/// Each round goes over all hosts that may still answer; a wait, longer each time, lies between
/// rounds. What the registry's own host finally says ends it.
#[derive(Debug)]
pub(crate) struct Schedule {
    bounds: Bounds,
    last: Vec<Option<Cause>>,
    /// Which hosts have given something.
    gave: Vec<bool>,
    /// The index of the registry's own host.
    own: Option<usize>,
    next: usize,
    round: u32,
    asked: u32,
    wait: Duration,
}

impl Schedule {
    /// A schedule over `hosts` hosts.
    pub(crate) fn new(bounds: Bounds, hosts: usize, own: Option<usize>) -> Self {
        let (last, gave) = (vec![None; hosts], vec![false; hosts]);
        Self { bounds, last, gave, own, next: 0, round: 0, asked: 0, wait: Duration::ZERO }
    }

    /// The next step. `random` spreads the waits of many clients.
    pub(crate) fn step(&mut self, random: u32) -> Step {
        let finished = |c: &Option<Cause>| c.as_ref().is_some_and(|c| !c.is_transient());
        // A mirror that gave the beginning may have the end, whatever the own host says.
        let hopeful = self.last.iter().zip(&self.gave).any(|(c, gave)| *gave && !finished(c));
        let refused = self.own.is_some_and(|own| finished(&self.last[own])) && !hopeful;
        if refused || self.last.iter().all(finished) {
            return Step::GiveUp;
        }
        while self.next < self.last.len() {
            let index = self.next;
            self.next += 1;
            if !finished(&self.last[index]) {
                self.asked += 1;
                return Step::Try(index);
            }
        }
        self.round += 1;
        if self.round >= self.bounds.rounds {
            return Step::GiveUp;
        }
        self.next = 0;
        let wait = self.delay(random).max(std::mem::take(&mut self.wait));
        Step::Wait(wait.min(self.bounds.max_backoff))
    }

    /// The host of `index` failed.
    pub(crate) fn failed(&mut self, index: usize, failure: Failure) {
        self.wait = self.wait.max(failure.retry_after.unwrap_or_default());
        self.last[index] = Some(failure.cause);
    }

    /// The host of `index` has it.
    pub(crate) fn gave(&mut self, index: usize) {
        self.gave[index] = true;
    }

    /// Much came from the host of `index`: the tries are counted anew, beginning behind it.
    pub(crate) fn progressed(&mut self, index: usize) {
        self.round = 0;
        self.wait = Duration::ZERO;
        self.next = index + 1;
        for cause in &mut self.last {
            if cause.as_ref().is_some_and(Cause::is_transient) {
                *cause = None;
            }
        }
    }

    /// Between half and all of the doubled wait.
    fn delay(&self, random: u32) -> Duration {
        let doubled = self.bounds.backoff.saturating_mul(1 << (self.round - 1).min(16));
        let full = doubled.min(self.bounds.max_backoff);
        full / 2 + full.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
    }

    /// Tries so far.
    pub(crate) const fn asked(&self) -> u32 {
        self.asked
    }

    /// The host and cause that tell most: the own host's, else the last one's that failed.
    pub(crate) fn verdict(&self) -> Option<(usize, &Cause)> {
        let at = |i: usize| self.last[i].as_ref().map(|c| (i, c));
        self.own.and_then(at).or_else(|| (0..self.last.len()).rev().find_map(at))
    }

    /// What the other hosts said.
    pub(crate) fn others(&self) -> impl Iterator<Item = (usize, &Cause)> {
        let main = self.verdict().map(|(i, _)| i);
        let all = self.last.iter().enumerate();
        all.filter_map(move |(i, c)| c.as_ref().filter(|_| Some(i) != main).map(|c| (i, c)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { rounds: 3, backoff: Duration::from_secs(1), max_backoff: Duration::from_secs(8) };

    fn busy() -> Failure {
        Cause::Status { code: 503, message: String::new() }.into()
    }

    fn missing() -> Failure {
        Cause::NotFound(String::new()).into()
    }

    fn secs(s: u64) -> Step {
        Step::Wait(Duration::from_secs(s))
    }

    #[test]
    fn rounds_go_over_all_hosts_with_growing_waits_and_end() {
        let mut s = Schedule::new(BOUNDS, 2, Some(1));
        let mut steps = Vec::new();
        loop {
            let step = s.step(u32::MAX);
            steps.push(step);
            match step {
                Step::Try(i) => s.failed(i, busy()),
                Step::Wait(_) => {}
                Step::GiveUp => break,
            }
        }
        let t = Step::Try;
        assert_eq!(steps, [t(0), t(1), secs(1), t(0), t(1), secs(2), t(0), t(1), Step::GiveUp]);
        assert_eq!((s.asked(), s.others().count(), s.verdict().unwrap().0), (6, 1, 1));
    }

    #[test]
    fn a_mirror_that_lacks_it_is_left_out_and_the_own_host_decides() {
        let mut s = Schedule::new(BOUNDS, 2, Some(1));
        assert_eq!(s.step(0), Step::Try(0));
        s.failed(0, missing());
        assert_eq!(s.step(0), Step::Try(1));
        s.failed(1, busy());
        assert_eq!(s.step(0), Step::Wait(Duration::from_millis(500)));
        assert_eq!(s.step(0), Step::Try(1));
        s.failed(1, missing());
        assert_eq!(s.step(0), Step::GiveUp);
    }

    #[test]
    fn a_mirror_that_gave_the_beginning_is_asked_again_though_the_own_host_lacks_it() {
        let mut s = Schedule::new(BOUNDS, 2, Some(1));
        assert_eq!(s.step(0), Step::Try(0));
        s.gave(0);
        s.failed(0, busy());
        assert_eq!(s.step(0), Step::Try(1));
        s.failed(1, missing());
        assert!(matches!(s.step(0), Step::Wait(_)));
        assert_eq!(s.step(0), Step::Try(0));
        s.failed(0, missing());
        assert_eq!(s.step(0), Step::GiveUp);
    }

    #[test]
    fn retry_after_is_kept_to_up_to_the_longest_wait() {
        for (asked, want) in [(3, 3), (900, 8)] {
            let mut s = Schedule::new(BOUNDS, 1, Some(0));
            assert_eq!(s.step(0), Step::Try(0));
            let retry_after = Some(Duration::from_secs(asked));
            s.failed(0, Failure { retry_after, ..busy() });
            assert_eq!(s.step(0), secs(want));
        }
    }

    #[test]
    fn progress_gives_new_tries_and_goes_on_behind_the_host_that_broke() {
        let mut s = Schedule::new(BOUNDS, 2, Some(1));
        for _ in 0..20 {
            assert_eq!(s.step(0), Step::Try(0));
            s.progressed(0);
            s.failed(0, busy());
            assert_eq!(s.step(0), Step::Try(1));
            s.progressed(1);
            s.failed(1, busy());
            assert!(matches!(s.step(0), Step::Wait(_)));
        }
    }

    #[test]
    fn no_hosts_means_no_tries() {
        assert_eq!(Schedule::new(BOUNDS, 0, None).step(0), Step::GiveUp);
    }
}
