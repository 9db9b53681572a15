//! Who is at the other end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use operations::{Origin, TraceContext};
use tonic::codegen::http;

/// How long a client that was asked whether it is there may take to say so.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// The longest `tracestate` that is handed on, in bytes (W3C Trace Context, 3.3.1.5, asks for 512 at least).
const LONGEST_STATE: usize = 1024;

/// The process at the other end of a connection (SO_PEERCRED, unix(7)), as it was when it connected; and
/// whether the connection is in use. Clones are of the same connection.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// Its process; none where it is in no process namespace of ours.
    pub pid: Option<i32>,
    /// Its user.
    pub uid: Option<u32>,
    /// The name of its program, for people; whoever runs it may have chosen any.
    pub program: Option<Arc<str>>,
    line: Arc<Line>,
}

/// What is known of a connection.
#[derive(Debug)]
struct Line {
    calls: AtomicUsize,
    begun: Instant,
    /// When something came over it last, in milliseconds after its beginning.
    heard: AtomicU64,
    /// Whether it has ended otherwise than by silence.
    is_over: AtomicBool,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            calls: AtomicUsize::new(0),
            begun: Instant::now(),
            heard: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }
    }
}

impl Line {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Peer {
    /// Of a new connection.
    #[must_use]
    pub fn new(pid: Option<i32>, uid: Option<u32>) -> Self {
        // comm in proc(5): at most 15 bytes.
        let program = pid.and_then(|pid| std::fs::read(format!("/proc/{pid}/comm")).ok());
        let program = program.map(|name| String::from_utf8_lossy(name.trim_ascii_end()).into());
        Self { pid, uid, program, line: Arc::default() }
    }

    /// Who asks for an operation by a call with these headers.
    pub(super) fn origin(&self, headers: &http::HeaderMap) -> Origin {
        let parent = headers.get("traceparent").and_then(|value| value.to_str().ok());
        // One that cannot be read is none (W3C Trace Context, 3.2.2.4).
        let trace = parent.and_then(|header| TraceContext::parse(header).ok());
        let program = self.program.as_deref().map(str::to_owned);
        let trace_state = trace.and_then(|_| state(headers));
        Origin { pid: self.pid, uid: self.uid, program, trace, trace_state, ..Origin::default() }
    }

    /// Something has come over the connection.
    pub fn heard(&self) {
        self.line.heard.store(self.line.now(), Ordering::Relaxed);
    }

    /// The connection ends, and not because the other end is silent.
    pub fn ended(&self) {
        self.line.is_over.store(true, Ordering::Relaxed);
    }

    /// For how long nothing has come over a connection that nobody has ended, where that is so long that it ends for
    /// it: nobody else is silent who is asked (`ANSWER_WITHIN`) and lives.
    #[must_use]
    pub fn silent(&self) -> Option<Duration> {
        if self.line.is_over.load(Ordering::Relaxed) {
            return None;
        }
        let heard = self.line.heard.load(Ordering::Relaxed);
        let silent = Duration::from_millis(self.line.now().saturating_sub(heard));
        // What it had sent before may come after the question.
        (silent >= ANSWER_WITHIN / 2).then_some(silent)
    }

    /// How many calls are open on the connection.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.line.calls.load(Ordering::Relaxed)
    }

    /// One more, until the value is dropped.
    #[must_use]
    pub fn busy(&self) -> Busy {
        self.line.calls.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(&self.line))
    }
}

/// An open call.
#[derive(Debug)]
pub struct Busy(Arc<Line>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What tracing systems say beside the place in a trace, as it came; nothing of one that is too long.
fn state(headers: &http::HeaderMap) -> Option<String> {
    let parts = headers.get_all("tracestate").iter().map(|value| value.to_str().ok());
    let whole = parts.collect::<Option<Vec<&str>>>()?.join(",");
    (!whole.is_empty() && whole.len() <= LONGEST_STATE).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_known_by_its_program_and_its_place_in_a_trace() {
        let own = Peer::new(i32::try_from(std::process::id()).ok(), Some(0));
        let mut headers = http::HeaderMap::new();
        assert_eq!(own.origin(&headers).trace, None);
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.insert("traceparent", http::HeaderValue::from_static(parent));
        let origin = own.origin(&headers);
        assert!(origin.program.is_some_and(|name| !name.is_empty() && !name.ends_with('\n')));
        assert_eq!(origin.trace.map(|trace| trace.to_string()).as_deref(), Some(parent));
        headers.append("tracestate", http::HeaderValue::from_static("x=y"));
        headers.append("tracestate", http::HeaderValue::from_static("z=1"));
        assert_eq!(own.origin(&headers).trace_state.as_deref(), Some("x=y,z=1"));
        headers.insert("traceparent", http::HeaderValue::from_static("00-x"));
        let without = own.origin(&headers);
        assert_eq!((without.trace, without.trace_state), (None, None));
    }

    #[test]
    fn a_peer_is_silent_that_lives_and_says_nothing() {
        let Some(begun) = Instant::now().checked_sub(ANSWER_WITHIN) else { return };
        let old = || Peer { line: Arc::new(Line { begun, ..Line::default() }), ..Peer::default() };
        let peer = old();
        assert!(peer.silent().is_some_and(|silent| silent >= ANSWER_WITHIN));
        peer.heard();
        assert_eq!(peer.silent(), None);
        let peer = Peer::default();
        assert_eq!(peer.silent(), None, "it has just begun");
        let gone = old();
        gone.ended();
        assert_eq!(gone.silent(), None);
    }
}
