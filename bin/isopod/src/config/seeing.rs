//! The settings of statistics and of traces.

use std::path::PathBuf;
use std::time::Duration;

use super::rules::Reader;

/// How statistics are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatsSettings {
    /// The oldest measurement that is an answer.
    pub max_age: Duration,
    /// The time that CPU use is averaged over.
    pub cpu_window: Duration,
}

/// Where traces go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceEndpoint {
    /// `http://HOST:PORT`.
    Http(String),
    /// A unix socket.
    Unix(PathBuf),
}

/// How statistics are taken.
pub(super) fn stats(reader: &mut Reader<'_>) -> StatsSettings {
    let max_age = reader.entries.time(&["stats", "max_age"]);
    let key = ["stats", "cpu_window"];
    let cpu_window = reader.entries.time(&key);
    if cpu_window < Duration::from_secs(1) {
        let problem = "`stats.cpu_window` is under 1s: the kernel counts too coarsely for that";
        reader.mistake(&key, problem.to_owned());
    }
    StatsSettings { max_age, cpu_window }
}

/// Where traces go, if anywhere.
pub(super) fn traces(reader: &mut Reader<'_>) -> Option<TraceEndpoint> {
    let key = ["traces", "endpoint"];
    let text = reader.entries.text(&key);
    if text.is_empty() {
        return None;
    }
    if text.starts_with('/') {
        return Some(TraceEndpoint::Unix(PathBuf::from(text)));
    }
    let rest = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    let is_place = |rest: &str| {
        let port = rest.rsplit_once(':').and_then(|(host, port)| {
            (!host.is_empty()).then(|| port.parse::<u16>().ok()).flatten()
        });
        port.is_some() && !rest.contains(['/', '@', ' '])
    };
    match rest {
        Some(rest) if is_place(rest) => Some(TraceEndpoint::Http(format!("http://{rest}"))),
        Some(_) | None => {
            let problem = format!(
                "`traces.endpoint` is {text:?}: http://HOST:PORT or an absolute path is needed"
            );
            reader.mistake(&key, problem);
            None
        }
    }
}
