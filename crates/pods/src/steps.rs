//! A phase of an operation: bounded, named, and away from the async threads where it blocks.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use operations::{PhaseError, Phases, Spot};
use tokio::sync::Semaphore;

use crate::error::{Cause, PodsError};

/// Blocking calls into file systems that may hang, at once. A hung one keeps its thread, so those that wait
/// behind it run into their deadline. They are a small part of the threads that the daemon has for
/// blocking work, so that all of them may hang for good and cgroups, records and images still have theirs.
const HUNG_MAX: usize = 16;
/// The phase in which what had been done is undone again. Each undo has a deadline of its own.
pub(crate) const UNDO: &str = "undo";

/// What a look at such a file system is at before it begins.
pub(crate) const TURN: &str = "its turn among the calls that may hang";

/// A failed phase of an operation that is not named here.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) phase: &'static str,
    pub(crate) cause: Box<Cause>,
}

impl Failure {
    pub(crate) fn new(phase: &'static str, cause: impl Into<Cause>) -> Self {
        Self { phase, cause: Box::new(cause.into().within(phase)) }
    }

    pub(crate) fn of(self, operation: &'static str, object: &str) -> PodsError {
        PodsError::Failed {
            operation,
            object: object.to_owned(),
            phase: self.phase,
            source: self.cause,
        }
    }
}

/// Carries `future` out as the phase `phase`, for at most `deadline`.
pub(crate) async fn step<T, E: Into<Cause>>(
    phases: &Phases,
    phase: &'static str,
    deadline: Duration,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    step_at(phases, phase, deadline, &Spot::default(), future).await
}

/// The same, with what it is at or whom it waits for.
pub(crate) async fn step_at<T, E: Into<Cause>>(
    phases: &Phases,
    phase: &'static str,
    deadline: Duration,
    spot: &Spot,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    at_fault(fault::check!("step.", phase, ".before"), phase)?;
    let done = match phases.within_at(phase, deadline, spot, future).await {
        Ok(result) => result.map_err(|e| Failure::new(phase, e)),
        Err(late) => Err(Failure::new(phase, late)),
    };
    if done.is_err() {
        phases.failed(phase);
    }
    at_fault(fault::check!("step.", phase, ".after"), phase)?;
    done
}

/// The failure that a test has armed here; none in a release.
fn at_fault(reached: io::Result<()>, phase: &'static str) -> Result<(), Failure> {
    reached.map_err(|source| {
        let (what, path) = ("pass the point of", PathBuf::from(phase));
        Failure::new(phase, Cause::File { what, path, source })
    })
}

/// The same for `work` that blocks. Past its deadline it goes on unheard.
pub(crate) async fn blocking_step<T: Send + 'static, E: Into<Cause> + Send + 'static>(
    phases: &Phases,
    phase: &'static str,
    deadline: Duration,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Failure> {
    step(phases, phase, deadline, unblocked(work)).await
}

/// Tells work that goes on unheard past its deadline that nobody waits for it any more, so that it takes back
/// itself what it makes too late for the undo. Dropped, it is given up.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Arc<AtomicBool>);

impl Waiting {
    /// To be asked by the work, after it has made something.
    pub(crate) fn is_given_up(&self) -> impl Fn() -> bool + Send + 'static {
        let given_up = Arc::clone(&self.0);
        move || given_up.load(Ordering::SeqCst)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Without an operation's phases: for undoing and recovering.
pub(crate) async fn bounded<T, E: Into<Cause>>(
    phase: &'static str,
    deadline: Duration,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, Cause> {
    bounded_at(phase, deadline, &Spot::default(), future).await
}

/// The same, with whom it waits for.
pub(crate) async fn bounded_at<T, E: Into<Cause>>(
    phase: &'static str,
    deadline: Duration,
    spot: &Spot,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, Cause> {
    match tokio::time::timeout(deadline, future).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(PhaseError { phase, at: spot.said(), after: deadline }.into()),
    }
}

/// Runs `work` where it may block.
pub(crate) async fn unblocked<T: Send + 'static, E: Into<Cause> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Cause> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => Err(Cause::panicked(&error)),
    }
}

/// Threads for what may hang for good.
#[derive(Debug, Clone)]
pub(crate) struct MayHang(Arc<Semaphore>);

impl MayHang {
    pub(crate) fn new() -> Self {
        Self::of(HUNG_MAX)
    }

    /// With as many threads.
    pub(crate) fn of(threads: usize) -> Self {
        Self(Arc::new(Semaphore::new(threads)))
    }

    /// Runs `work` once one of the threads is free; to be bounded by whoever waits.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Cause> + Send + 'static,
    ) -> Result<T, Cause> {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        unblocked(move || {
            // Given back when the work has ended, whether anybody still waits for it or not.
            let _permit = permit;
            work()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use model::{Class, Classified as _};

    use super::*;

    #[tokio::test]
    async fn what_hangs_is_given_up_and_does_not_take_the_threads_of_others() {
        let phases = Phases::begin();
        let may_hang = MayHang::new();
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let hung = may_hang.run(move || {
            let _ = gate.recv();
            Ok(())
        });
        let failure = step(&phases, "host path", Duration::from_millis(1), hung).await.unwrap_err();
        assert_eq!((failure.phase, failure.cause.class()), ("host path", Class::DeadlineExceeded));
        let fine = may_hang.run(|| Ok(5));
        assert_eq!(step(&phases, "next", Duration::from_secs(60), fine).await.unwrap(), 5);
        drop(go);
    }

    #[tokio::test]
    async fn work_past_its_deadline_knows_that_nobody_waits_for_it() {
        let phases = Phases::begin();
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let waiting = Waiting::default();
        let is_given_up = waiting.is_given_up();
        let work = move || {
            let _ = gate.recv();
            tell.send(is_given_up()).unwrap();
            Ok::<_, Cause>(())
        };
        assert!(blocking_step(&phases, "late", Duration::from_millis(1), work).await.is_err());
        drop(waiting);
        drop(go);
        assert!(told.recv().unwrap());
        assert!(!Waiting::default().0.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_failure_names_operation_object_phase_and_cause() {
        let phases = Phases::begin();
        let work = || Err::<(), _>(Cause::other(Class::NotFound, "gone"));
        let limit = Duration::from_secs(60);
        let failure = blocking_step(&phases, "image", limit, work).await.unwrap_err();
        let error = failure.of("CreateContainer", "default/pod/c");
        assert_eq!(error.class(), Class::NotFound);
        let text = model::with_causes(&error);
        assert_eq!(text, "CreateContainer default/pod/c: image: gone");
    }

    #[tokio::test]
    async fn a_phase_is_named_once_whoever_failed_in_it() {
        let phases = Phases::begin();
        let (short, spot) = (Duration::from_millis(1), Spot::of("the monitor (pid 7)"));
        let hung = std::future::pending::<Result<(), Cause>>();
        let failure = step_at(&phases, "create", short, &spot, hung).await.unwrap_err();
        let text = model::with_causes(&failure.of("CreateContainer", "d/p/c"));
        assert_eq!(
            text,
            "CreateContainer d/p/c: create: the monitor (pid 7): not finished after 1ms"
        );
        let refused = |phase: &str| {
            let (phase, message) = (phase.to_owned(), "no such program".to_owned());
            let refusal = monitor_client::api::Refusal { class: Class::NotFound, phase, message };
            let failure = Failure::new("exec", monitor_client::MonitorError::Refused(refusal));
            model::with_causes(&failure.of("Exec", "d/p/c"))
        };
        assert_eq!(refused("exec"), "Exec d/p/c: exec: no such program");
        assert_eq!(refused("identity"), "Exec d/p/c: exec: identity: no such program");
        let hung = std::future::pending::<Result<(), Cause>>();
        let late = bounded_at("kill", short, &spot, hung).await.unwrap_err();
        assert_eq!(late.to_string(), "kill: the monitor (pid 7): not finished after 1ms");
    }
}
