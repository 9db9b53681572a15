//! Who asked for an operation, and the trace that the asking is part of.
//!
//! Always: known without being passed on from function to function, because it belongs to the task that
//! answers the call; work that the daemon begins by itself has none.

use std::fmt;
use std::future::Future;

tokio::task_local! {
    static ORIGIN: Origin;
}

/// Who asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Origin {
    /// The process at the other end of the socket.
    pub pid: Option<i32>,
    /// Its user.
    pub uid: Option<u32>,
    /// The name of its program (comm in proc(5)) as it was when it connected.
    pub program: Option<String>,
    /// The pod that it asked for this for, as namespace/name, where the request said so.
    pub pod: Option<String>,
    /// The trace that the call belongs to, where the caller said so.
    #[serde(skip)]
    pub trace: Option<TraceContext>,
    /// What tracing systems say beside it (`tracestate`), handed on as it came.
    #[serde(skip)]
    pub trace_state: Option<String>,
    /// What was asked for, in a few words, where there is more to say than the object of the operation; bounded
    /// by whoever says it, and without secrets.
    #[serde(skip)]
    pub asked: String,
    /// The operation in whose work this is asked for.
    #[serde(skip)]
    pub within: Option<u64>,
}

/// For people, in at most 64 bytes: whoever runs a program may have called it anything.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(pid) = self.pid else { return f.write_str("the daemon itself") };
        let named = self.program.iter().flat_map(|name| name.chars());
        let program: String = named.filter(|c| c.is_ascii_graphic()).take(32).collect();
        let program = if program.is_empty() { "a process" } else { &program };
        write!(f, "{program} (pid {pid}, uid {})", self.uid.unwrap_or_default())
    }
}

impl Origin {
    /// That of the call that this task answers; empty where it answers none.
    #[must_use]
    pub fn current() -> Self {
        ORIGIN.try_with(Clone::clone).unwrap_or_default()
    }

    /// Whether the call that this task answers belongs to a trace, and that is recorded.
    pub(crate) fn is_recorded() -> Option<bool> {
        let trace = ORIGIN.try_with(|origin| origin.trace).ok().flatten();
        trace.map(|context| context.is_sampled)
    }
}

/// Carries `future` out for `origin`: operations that are begun in it are that one's.
pub async fn asked_by<F: Future>(origin: Origin, future: F) -> F::Output {
    ORIGIN.scope(origin, future).await
}

/// A caller's place in a trace (W3C Trace Context, level 1, header `traceparent`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace.
    pub trace: [u8; 16],
    /// The caller's span.
    pub span: [u8; 8],
    /// Whether the caller records it.
    pub is_sampled: bool,
}

/// A header that is no place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent: 00-TRACE-SPAN-FLAGS in lower-case hexadecimal digits is needed")]
pub struct BadTraceParent;

impl TraceContext {
    /// Reads the header. Versions after 00 may have more behind the flags.
    ///
    /// # Errors
    /// [`BadTraceParent`]; ids of zeros are not allowed.
    pub fn parse(header: &str) -> Result<Self, BadTraceParent> {
        let mut parts = header.split('-');
        let mut next = || parts.next().ok_or(BadTraceParent);
        let (version, trace, span, flags) = (next()?, next()?, next()?, next()?);
        let [version] = bytes::<1>(version)?;
        let is_longer = parts.next().is_some();
        if version == 0xff || (version == 0 && is_longer) {
            return Err(BadTraceParent);
        }
        let (trace, span, [flags]) = (bytes::<16>(trace)?, bytes::<8>(span)?, bytes::<1>(flags)?);
        if trace == [0; 16] || span == [0; 8] {
            return Err(BadTraceParent);
        }
        Ok(Self { trace, span, is_sampled: flags & 1 == 1 })
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", hex(&self.trace), hex(&self.span), u8::from(self.is_sampled))
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `N` bytes from twice as many lower-case digits.
fn bytes<const N: usize>(text: &str) -> Result<[u8; N], BadTraceParent> {
    let digits = text.as_bytes();
    let is_lower = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 2 * N || !digits.iter().all(is_lower) {
        return Err(BadTraceParent);
    }
    let mut all = [0; N];
    for (byte, pair) in all.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| BadTraceParent)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| BadTraceParent)?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_callers_place_in_a_trace_is_read_and_written() {
        let read = TraceContext::parse(GOOD).unwrap();
        assert!(read.is_sampled && read.trace[0] == 0x4b && read.span[7] == 0xb7);
        assert_eq!(read.to_string(), GOOD);
        let later = GOOD.replacen("00", "cc", 1) + "-what-comes";
        assert_eq!(TraceContext::parse(&later), Ok(read));
        for bad in [
            "",
            "00",
            &GOOD.to_uppercase(),
            &format!("{GOOD}-x"),
            &GOOD.replacen("00", "ff", 1),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(bad), Err(BadTraceParent), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn an_origin_is_that_of_the_task() {
        let origin = Origin { pid: Some(7), ..Origin::default() };
        assert_eq!(asked_by(origin.clone(), async { Origin::current() }).await, origin);
        assert_eq!(Origin::current(), Origin::default());
    }

    #[test]
    fn who_asked_is_a_short_text_whatever_the_program_is_called() {
        let by = |program: &str| {
            let program = Some(program.to_owned());
            Origin { pid: Some(812), uid: Some(0), program, ..Origin::default() }.to_string()
        };
        assert_eq!(by("kubelet"), "kubelet (pid 812, uid 0)");
        assert_eq!(by("a\u{1b}[2J\nb"), "a[2Jb (pid 812, uid 0)");
        assert_eq!(by("\n"), "a process (pid 812, uid 0)");
        assert!(by(&"x".repeat(5000)).len() <= 64);
        assert_eq!(Origin::default().to_string(), "the daemon itself");
    }
}
