//! Waiting for what no event tells of.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// By how much longer a slow machine may take, such as one that is emulated: a whole number in the environment.
const PATIENCE: &str = "ISOPOD_TEST_PATIENCE";

/// `patience` on this machine: more where `ISOPOD_TEST_PATIENCE` says that it is slow.
#[must_use]
pub fn here(patience: Duration) -> Duration {
    let factor = std::env::var(PATIENCE).ok().and_then(|text| text.parse().ok());
    patience.saturating_mul(factor.unwrap_or(1).max(1))
}

/// Waits until `look` gives a value; panics with `what` after `patience`.
pub async fn until<T>(
    what: impl Display,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let patience = here(patience);
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not after {patience:?}: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits, without a runtime, until `look` gives a value; `None` after `patience`.
pub fn eventually<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let patience = here(patience);
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = look() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        #[expect(clippy::disallowed_methods, reason = "this is the bounded poll that tests use")]
        std::thread::sleep(PAUSE);
    }
}
