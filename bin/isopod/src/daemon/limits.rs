//! What the daemon allows itself.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Threads that run tasks. They never block, so more would only be more memory.
pub const WORKERS: usize = 2;
/// Threads that may block: disk and kernel calls. They are made when they are needed and end when they are
/// not; the number is high because a file system that hangs keeps each thread that looked at it.
pub const BLOCKING: usize = 512;
/// Stack of each thread. The deepest path, a pull's, needs less than a quarter of it.
pub const STACK: usize = 1 << 20;
/// How long a thread that may block stays without work.
pub const IDLE_THREAD: Duration = Duration::from_secs(5);

/// Open files that the daemon wants at least: a few for each of hundreds of pods.
const OPEN_FILES: u64 = 65_536;

/// Raises the limit of open files as far as it may. Less is no reason not to start.
pub fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = Rlimit { current: Some(wanted), maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
