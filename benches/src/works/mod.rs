//! Kinds of work, one file each.
//!
//! Always: samples are taken in turn, endpoint by endpoint; nothing is left on an endpoint.

pub mod calls;
pub mod exec;
pub mod lists;
pub mod logs;
pub mod pull;
pub mod start;
pub mod throughput;

use std::future::Future;
use std::time::{Duration, Instant};

/// A node rests between pods; caches and clocks of the processor do, too.
const REST: Duration = Duration::from_millis(50);

/// How long a call takes, and its answer; one that fails ends the program.
async fn timed<T>(call: impl Future<Output = Result<T, tonic::Status>>) -> (T, Duration) {
    let began = Instant::now();
    let answer = call.await.unwrap_or_else(|e| panic!("a call failed: {e}"));
    (answer, began.elapsed())
}

/// Milliseconds.
fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Megabytes.
fn mb(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}
