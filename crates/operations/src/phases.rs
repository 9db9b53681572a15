//! What an operation is at, since when, and where its time went.

use std::borrow::Cow;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use model::{Class, Classified, Span, Timestamp};
use tokio::time::Instant;

/// Spans that one operation keeps; an operation has a dozen, one with more says no more about them.
const MAX_SPANS: usize = 256;
/// Bytes of a spot that are kept.
const LONGEST_SPOT: usize = 512;

/// A phase that did not end in its time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}not finished after {after:?}", before(phase, at))]
pub struct PhaseError {
    /// Which; empty where whoever passes this on has named it.
    pub phase: &'static str,
    /// What it was at, or whom it waited for, where that is known.
    pub at: String,
    /// How long it was allowed to take.
    pub after: Duration,
}

fn before(phase: &str, at: &str) -> String {
    [phase, at].iter().filter(|part| !part.is_empty()).map(|part| format!("{part}: ")).collect()
}

/// What a phase is at just now, for people: a path, a process. Clones are the same spot, so that work on another
/// thread says where it is.
#[derive(Debug, Clone, Default)]
pub struct Spot(Arc<Mutex<String>>);

impl Spot {
    /// One that says this from the beginning.
    #[must_use]
    pub fn of(text: impl Into<String>) -> Self {
        let spot = Self::default();
        spot.set(text);
        spot
    }

    /// It is at this now.
    pub fn set(&self, text: impl Into<String>) {
        let mut text = text.into();
        text.truncate(text.floor_char_boundary(LONGEST_SPOT));
        *self.text() = text;
    }

    /// What was said last; empty for nothing.
    #[must_use]
    pub fn said(&self) -> String {
        self.text().clone()
    }

    fn text(&self) -> MutexGuard<'_, String> {
        // Whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Classified for PhaseError {
    fn class(&self) -> Class {
        Class::DeadlineExceeded
    }
}

#[derive(Debug)]
struct Open {
    token: u64,
    name: &'static str,
    since: Instant,
    since_wall: Timestamp,
    bound: Option<Duration>,
    spot: Spot,
    /// Opened by `enter`: the next `enter` ends it.
    is_step: bool,
}

/// A phase that begins.
struct Opening {
    name: &'static str,
    bound: Option<Duration>,
    spot: Spot,
    is_step: bool,
}

#[derive(Debug, Default)]
struct State {
    last_token: u64,
    open: Vec<Open>,
    done: Vec<Span>,
    failed: Option<&'static str>,
}

#[derive(Debug)]
struct Shared {
    begun: Instant,
    state: Mutex<State>,
}

/// The phases of one operation. Clones are the same operation's.
#[derive(Debug, Clone)]
pub struct Phases(Arc<Shared>);

/// What an operation is at now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) phase: &'static str,
    pub(crate) at: String,
    pub(crate) since: Timestamp,
    pub(crate) bound: Option<Duration>,
}

impl Phases {
    /// The phases of an operation that begins now. [`crate::Operations::run`] hands one to its work; others
    /// may time themselves.
    #[must_use]
    pub fn begin() -> Self {
        Self(Arc::new(Shared { begun: Instant::now(), state: Mutex::default() }))
    }

    /// Marks the begin of a phase, which ends the one that was entered before. `bound` is how long it is
    /// expected to take at most; it is shown, not enforced.
    pub fn enter(&self, phase: &'static str, bound: Option<Duration>) {
        self.enter_at(phase, bound, &Spot::default());
    }

    /// The same, with what it is at.
    pub fn enter_at(&self, phase: &'static str, bound: Option<Duration>, spot: &Spot) {
        let now = Instant::now();
        let mut state = self.state();
        let (steps, rest) = std::mem::take(&mut state.open).into_iter().partition(|o| o.is_step);
        state.open = rest;
        let steps: Vec<Open> = steps;
        for step in steps {
            self.finish(&mut state, &step, now);
        }
        let is_step = true;
        state.push(Opening { name: phase, bound, spot: spot.clone(), is_step }, now);
    }

    /// Ends the phase that was entered last.
    pub fn leave(&self) {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(at) = state.open.iter().rposition(|o| o.is_step) {
            let step = state.open.remove(at);
            self.finish(&mut state, &step, now);
        }
    }

    /// Carries `future` out as the phase `phase`, for at most `deadline`; it is dropped then. Phases of this
    /// kind may overlap.
    ///
    /// # Errors
    /// [`PhaseError`] past the deadline.
    pub async fn within<T>(
        &self,
        phase: &'static str,
        deadline: Duration,
        future: impl Future<Output = T>,
    ) -> Result<T, PhaseError> {
        self.within_at(phase, deadline, &Spot::default(), future).await
    }

    /// The same, with what it is at: the error says it.
    ///
    /// # Errors
    /// [`PhaseError`] past the deadline.
    pub async fn within_at<T>(
        &self,
        phase: &'static str,
        deadline: Duration,
        spot: &Spot,
        future: impl Future<Output = T>,
    ) -> Result<T, PhaseError> {
        let open = OpenPhase { phases: self, token: self.open(phase, Some(deadline), spot) };
        let result = tokio::time::timeout(deadline, future).await;
        drop(open);
        result.map_err(|_| {
            self.failed(phase);
            PhaseError { phase, at: spot.said(), after: deadline }
        })
    }

    /// If the operation fails, it is because of this phase. The last word counts; without any it is the phase that
    /// was entered last and has not ended.
    pub fn failed(&self, phase: &'static str) {
        self.state().failed = Some(phase);
    }

    /// Takes over the spans of work that was done elsewhere in the phase `of`, which has just ended, under
    /// `prefix/`. They lie within that phase and reach to its end.
    pub fn adopt(&self, prefix: &str, of: &str, spans: &[Span]) {
        let took = spans.iter().map(|s| s.start_us.saturating_add(s.took_us)).max().unwrap_or(0);
        let mut state = self.state();
        let around = state.done.iter().rfind(|one| one.phase == of);
        let begun = match around {
            Some(one) => {
                let end = one.start_us.saturating_add(one.took_us);
                end.saturating_sub(took).max(one.start_us)
            }
            None => micros(self.0.begun.elapsed()).saturating_sub(took),
        };
        for span in spans {
            let phase = Cow::Owned(format!("{prefix}/{}", span.phase));
            let start_us = begun.saturating_add(span.start_us);
            state.keep(Span { phase, start_us, took_us: span.took_us });
        }
    }

    /// The phases that have ended, in the order of their begin.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = self.state().done.clone();
        spans.sort_by_key(|span| span.start_us);
        spans
    }

    /// Ends the operation: how long it took, where the time went, and which phase is to blame if it failed.
    pub(crate) fn end(&self) -> (Duration, Vec<Span>, Option<&'static str>) {
        let failed = {
            let state = self.state();
            state.failed.or_else(|| state.open.iter().rfind(|o| o.is_step).map(|o| o.name))
        };
        self.leave();
        (self.0.begun.elapsed(), self.spans(), failed)
    }

    /// The phase that was begun last and has not ended.
    pub(crate) fn current(&self) -> Option<Current> {
        let state = self.state();
        let last = state.open.last()?;
        let (phase, at) = (last.name, last.spot.said());
        Some(Current { phase, at, since: last.since_wall, bound: last.bound })
    }

    fn open(&self, name: &'static str, bound: Option<Duration>, spot: &Spot) -> u64 {
        let opening = Opening { name, bound, spot: spot.clone(), is_step: false };
        self.state().push(opening, Instant::now())
    }

    fn close(&self, token: u64) {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(at) = state.open.iter().position(|o| o.token == token) {
            let open = state.open.remove(at);
            self.finish(&mut state, &open, now);
        }
    }

    fn finish(&self, state: &mut State, open: &Open, now: Instant) {
        state.keep(Span {
            phase: Cow::Borrowed(open.name),
            start_us: micros(open.since.duration_since(self.0.begun)),
            took_us: micros(now.duration_since(open.since)),
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is under the lock is whole between any two statements.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, opening: Opening, since: Instant) -> u64 {
        self.last_token += 1;
        let token = self.last_token;
        let Opening { name, bound, spot, is_step } = opening;
        self.open.push(Open { token, name, since, since_wall: now(), bound, spot, is_step });
        token
    }

    fn keep(&mut self, span: Span) {
        if self.done.len() < MAX_SPANS {
            self.done.push(span);
        }
    }
}

/// Closes its phase also when the future around it is dropped.
struct OpenPhase<'a> {
    phases: &'a Phases,
    token: u64,
}

impl Drop for OpenPhase<'_> {
    fn drop(&mut self) {
        self.phases.close(self.token);
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

/// The time by the wall clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(phases: &Phases) -> Vec<String> {
        phases.spans().into_iter().map(|s| s.phase.into_owned()).collect()
    }

    #[tokio::test]
    async fn a_phase_that_is_entered_ends_the_one_before() {
        let phases = Phases::begin();
        phases.enter("first", None);
        assert_eq!(phases.current().unwrap().phase, "first");
        phases.enter("second", Some(Duration::from_secs(1)));
        assert_eq!(names(&phases), ["first"]);
        assert_eq!(phases.current().unwrap().bound, Some(Duration::from_secs(1)));
        phases.leave();
        assert_eq!(names(&phases), ["first", "second"]);
        assert_eq!(phases.current(), None);
    }

    #[tokio::test]
    async fn a_phase_past_its_deadline_is_an_error_that_names_it() {
        let phases = Phases::begin();
        let hung = phases.within("network", Duration::ZERO, std::future::pending::<()>()).await;
        let error = hung.unwrap_err();
        assert_eq!(error.phase, "network");
        assert_eq!(error.to_string(), "network: not finished after 0ns");
        assert_eq!(error.class(), Class::DeadlineExceeded);
        assert_eq!(phases.within("next", Duration::from_secs(60), async { 7 }).await, Ok(7));
        assert_eq!(names(&phases), ["network", "next"]);
    }

    #[tokio::test]
    async fn a_phase_says_what_it_is_at_while_it_runs_and_when_it_is_too_late() {
        let phases = Phases::begin();
        let spot = Spot::of("the beginning");
        let work = async {
            spot.set("/mnt/x");
            assert_eq!(phases.current().unwrap().at, "/mnt/x");
            std::future::pending::<()>().await;
        };
        let late = phases.within_at("host paths", Duration::from_millis(1), &spot, work).await;
        let mut late = late.unwrap_err();
        assert_eq!(late.to_string(), "host paths: /mnt/x: not finished after 1ms");
        late.phase = "";
        assert_eq!(late.to_string(), "/mnt/x: not finished after 1ms");
        phases.enter_at("monitor", None, &Spot::of("pid 7"));
        assert_eq!(phases.current().unwrap().at, "pid 7");
        phases.enter("next", None);
        assert_eq!(phases.current().unwrap().at, "");
        spot.set("ä".repeat(LONGEST_SPOT));
        assert_eq!(spot.said().len(), LONGEST_SPOT);
    }

    #[tokio::test]
    async fn spans_of_others_are_taken_over_under_a_prefix() {
        let phases = Phases::begin();
        phases.adopt("monitor", "none", &[Span { phase: "shm".into(), start_us: 0, took_us: 3 }]);
        assert_eq!(names(&phases), ["monitor/shm"]);
    }

    #[test]
    fn spans_of_others_lie_within_the_phase_in_which_they_were_made() {
        let span = |phase: &'static str, start_us, took_us| Span {
            phase: phase.into(),
            start_us,
            took_us,
        };
        let phases = Phases::begin();
        phases.state().keep(span("create", 1000, 9000));
        phases.state().keep(span("after", 10_000, 9000));
        phases.adopt("monitor", "create", &[span("mounts", 0, 2000), span("hooks", 2000, 4000)]);
        let found: Vec<_> = phases.spans().into_iter().map(|s| (s.start_us, s.took_us)).collect();
        assert_eq!(found, [(1000, 9000), (4000, 2000), (6000, 4000), (10_000, 9000)]);
        // Whatever the clocks say, nothing is before it.
        phases.adopt("monitor", "create", &[span("mounts", 0, 20_000)]);
        assert!(phases.spans().iter().any(|s| (s.start_us, s.took_us) == (1000, 20_000)));
    }

    #[tokio::test]
    async fn the_phase_that_is_to_blame_is_the_one_that_was_named_or_is_still_entered() {
        let phases = Phases::begin();
        phases.enter("resolve", None);
        assert_eq!(phases.end().2, Some("resolve"));
        let phases = Phases::begin();
        let hung = phases.within("create", Duration::ZERO, std::future::pending::<()>()).await;
        assert!(hung.is_err());
        phases.enter("undo", None);
        assert_eq!(phases.end().2, Some("create"));
    }

    #[tokio::test]
    async fn the_number_of_spans_is_bounded() {
        let phases = Phases::begin();
        for _ in 0..2 * MAX_SPANS {
            phases.enter("again", None);
        }
        assert_eq!(phases.spans().len(), MAX_SPANS);
    }
}
