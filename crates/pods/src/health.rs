//! Whether pods can be made: what the node's `RuntimeReady` condition follows.
//!
//! Owns: the last self-check. Always: it does what a pod needs (a file in each store, a monitor that starts and
//! answers), in the background and within a bound; who asks for the condition waits for nothing; a check that
//! does not come back is a failure like any other, and a directory that hangs holds one thread at most.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::{Class, Classified as _};
use operations::PhaseError;
use rustix::fs::{Mode, OFlags};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::error::Cause;
use crate::pods::{Pods, file_failed};
use crate::steps::bounded;

/// How often files are tried while somebody asks for the condition, how often when nobody does, and how often when
/// the last check failed.
const EVERY: Duration = Duration::from_secs(10);
const UNASKED: Duration = Duration::from_secs(60);
/// How long somebody who asks waits for a new check.
const MOMENT: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_secs(2);
/// How often a monitor is started for it.
const MONITOR_EVERY: Duration = Duration::from_secs(120);
/// How long a check may take; past it the check has failed, though it may still hang.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
struct Last {
    failed: Option<(&'static str, String, Class)>,
    /// When that was.
    at: Option<Instant>,
    /// What was said last of why no pod can be made; `None` for that they can.
    told: Option<(&'static str, String)>,
    monitor: Option<Instant>,
}

/// The last self-check.
#[derive(Debug, Default)]
pub(crate) struct Health {
    last: Mutex<Last>,
    /// Somebody has asked for it.
    asked: Notify,
    /// There is a new one.
    checked: Notify,
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, Last> {
        // Whole between any two statements.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody is about to ask: where the last check was a while ago, a new one is waited for, if it does not take
    /// long.
    pub(crate) async fn renew(&self) {
        let checked = self.checked.notified();
        tokio::pin!(checked);
        // From now on, whoever is faster.
        checked.as_mut().enable();
        self.asked.notify_one();
        let is_old = self.lock().at.is_none_or(|at| at.elapsed() > EVERY + MOMENT);
        if is_old {
            let _ = tokio::time::timeout(MOMENT, checked).await;
        }
    }

    /// What was wrong at the last check: the phase and the cause.
    pub(crate) fn problem(&self) -> Option<(&'static str, Cause)> {
        let last = self.lock();
        let (phase, message, class) = last.failed.as_ref()?;
        Some((phase, Cause::other(*class, message.clone())))
    }
}

impl Health {
    /// The last check has found this.
    fn found(&self, failed: Option<(&'static str, String, Class)>) {
        let mut last = self.lock();
        last.failed = failed;
        last.at = Some(Instant::now());
        drop(last);
        self.checked.notify_waiters();
    }

    /// Says whether pods can be made, where that is otherwise than was said last. True where it was said.
    pub(crate) fn tell(&self, problem: Option<(&'static str, String)>) -> bool {
        let mut last = self.lock();
        if last.told == problem {
            return false;
        }
        match &problem {
            Some((phase, message)) => tracing::warn!(
                ready = false,
                reason = "RuntimeNotReady",
                phase,
                message,
                "runtime status: no pod can be made"
            ),
            None => {
                tracing::info!(
                    ready = true,
                    reason = "RuntimeReady",
                    "runtime status: pods can be made again"
                )
            }
        }
        last.told = problem;
        true
    }
}

/// Checks for as long as it is polled.
pub(crate) async fn keep_checking(pods: &Pods) {
    let health = &pods.inner.health;
    let mut tries = Tries::default();
    loop {
        let checked = check(pods, &mut tries).await;
        let (pause, failed) = match checked {
            Ok(()) => (EVERY, None),
            Err((phase, cause)) => {
                let cause = cause.within(phase);
                (AGAIN, Some((phase, model::with_causes(&cause), cause.class())))
            }
        };
        health.found(failed);
        // Says it where it has changed.
        let _ = crate::recover::ready(pods);
        tokio::time::sleep(pause).await;
        if pause == EVERY {
            let _ = tokio::time::timeout(UNASKED - EVERY, health.asked.notified()).await;
        }
    }
}

/// Tries of directories that have not come back. A blocked thread cannot be ended, so a second one of the same
/// directory is begun only when the first has returned.
#[derive(Debug, Default)]
struct Tries(BTreeMap<&'static str, JoinHandle<Result<(), Cause>>>);

impl Tries {
    /// What `work`, or the same work of an earlier time that has not come back yet, says within `patience`.
    async fn run(
        &mut self,
        phase: &'static str,
        patience: Duration,
        work: impl FnOnce() -> Result<(), Cause> + Send + 'static,
    ) -> Result<(), Cause> {
        let begun = self.0.remove(phase);
        let mut running = begun.unwrap_or_else(|| tokio::task::spawn_blocking(work));
        match tokio::time::timeout(patience, &mut running).await {
            Ok(Ok(tried)) => tried,
            Ok(Err(error)) => Err(Cause::panicked(&error)),
            Err(_) => {
                self.0.insert(phase, running);
                Err(PhaseError { phase, at: String::new(), after: patience }.into())
            }
        }
    }
}

async fn check(pods: &Pods, tries: &mut Tries) -> Result<(), (&'static str, Cause)> {
    let inner = &pods.inner;
    for (phase, directory) in [
        ("records", inner.config.state_dir.clone()),
        ("images", inner.services.images.root().to_owned()),
    ] {
        let tried = tries.run(phase, PATIENCE, move || try_file(&directory));
        tried.await.map_err(|cause| (phase, cause))?;
    }
    let is_due = inner.health.lock().monitor.is_none_or(|at| at.elapsed() >= MONITOR_EVERY);
    if is_due {
        let started = monitor_client::probe(std::sync::Arc::clone(&inner.services.monitor));
        let started = bounded("monitor", PATIENCE, started).await;
        started.map_err(|cause| ("monitor", cause))?;
        inner.health.lock().monitor = Some(Instant::now());
    }
    Ok(())
}

/// Writes a file without a name, which is gone with this call whatever becomes of the daemon.
fn try_file(directory: &Path) -> Result<(), Cause> {
    let failed = file_failed("write a file in", directory);
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let written = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)
        .and_then(|file| rustix::io::write(file, b"?"));
    match written {
        // A file system without such files is written to by whoever uses it, and tells then.
        Ok(_) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(failed(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn the_last_check_counts() {
        let health = Health::default();
        health.found(Some(("monitor", "no".to_owned(), Class::Unavailable)));
        let (phase, cause) = health.problem().unwrap();
        assert_eq!(
            (phase, cause.class(), cause.to_string().as_str()),
            ("monitor", Class::Unavailable, "no")
        );
        health.found(None);
        assert!(health.problem().is_none());
    }

    #[tokio::test]
    async fn who_asks_after_a_while_waits_for_a_new_check_and_for_no_more_than_a_moment() {
        let health = Health::default();
        let begun = Instant::now();
        health.renew().await;
        assert!(begun.elapsed() >= MOMENT, "nobody checks");
        let asked = async {
            health.asked.notified().await;
            health.found(Some(("records", "full".to_owned(), Class::ResourceExhausted)));
        };
        let begun = Instant::now();
        let ((), ()) = tokio::join!(health.renew(), asked);
        assert!(health.problem().is_some() && begun.elapsed() < MOMENT);
        // The last one is fresh, and nobody waits for another.
        let begun = Instant::now();
        health.renew().await;
        assert!(begun.elapsed() < MOMENT);
    }

    #[test]
    fn each_change_is_said_once() {
        let health = Health::default();
        let problem = |text: &str| Some(("monitor", text.to_owned()));
        let said: Vec<bool> = [None, problem("a"), problem("a"), problem("b"), None, None]
            .map(|now| health.tell(now))
            .into();
        assert_eq!(said, [false, true, false, true, true, false]);
    }

    #[tokio::test]
    async fn a_directory_that_hangs_is_tried_once_until_that_comes_back() {
        let begun = Arc::new(AtomicU32::new(0));
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let work = || {
            let (begun, gate) = (Arc::clone(&begun), Arc::clone(&gate));
            move || {
                begun.fetch_add(1, Ordering::SeqCst);
                let _ = gate.lock().unwrap().recv();
                Ok(())
            }
        };
        let mut tries = Tries::default();
        for _ in 0..3 {
            let hung = tries.run("records", Duration::from_millis(1), work()).await.unwrap_err();
            assert_eq!(hung.class(), Class::DeadlineExceeded, "{hung}");
        }
        // Another directory does not wait for it.
        let long = Duration::from_secs(60);
        tries.run("images", long, || Ok(())).await.unwrap();
        drop(go);
        tries.run("records", long, work()).await.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        tries.run("records", long, work()).await.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), 2);
        assert!(tries.0.is_empty());
    }

    #[test]
    fn a_store_that_cannot_be_written_is_told_and_nothing_is_left_in_one_that_can() {
        let directory = tempfile::tempdir().unwrap();
        try_file(directory.path()).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let missing = directory.path().join("missing");
        let error = try_file(&missing).unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
    }
}
