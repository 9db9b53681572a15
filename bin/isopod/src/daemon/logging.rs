//! The daemon's own log, on standard error.

use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, reload};

use super::lines::Lines;
use crate::config::{LogFormat, LogSettings};

/// Our own crates that log. Others are heard from level warn on: they print packets at debug.
const OURS: [&str; 13] = [
    "cgroups",
    "cri_server",
    "image_store",
    "images",
    "isopod",
    "model",
    "monitor_client",
    "network",
    "operations",
    "pods",
    "registry",
    "specgen",
    "store",
];

/// Changes how much is logged, and has the last lines.
#[derive(Debug, Clone)]
pub struct Handle {
    level: reload::Handle<Targets, Registry>,
    last: Lines,
}

impl Handle {
    /// From now on `level` counts.
    pub fn set_level(&self, level: &str) {
        if let Err(error) = self.level.reload(targets(level)) {
            tracing::warn!(%error, "the log level stays as it is");
        }
    }

    /// The last lines.
    pub fn last(&self) -> &Lines {
        &self.last
    }
}

/// Begins to log. To be called once.
pub fn begin(settings: &LogSettings) -> Handle {
    let (filter, level) = reload::Layer::new(targets(&settings.level));
    let last = Lines::default();
    let kept = fmt::layer().with_ansi(false).with_target(false).with_writer(last.clone());
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match settings.format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    // A second subscriber in one process is only tried by tests.
    let _ = tracing_subscriber::registry().with(filter).with(lines).with(kept).try_init();
    Handle { level, last }
}

fn targets(level: &str) -> Targets {
    let level: LevelFilter = level.parse().unwrap_or(LevelFilter::INFO);
    let others = level.min(LevelFilter::WARN);
    Targets::new().with_default(others).with_targets(OURS.map(|name| (name, level)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_for_our_own_crates() {
        let filter = targets("debug");
        assert!(filter.would_enable("pods::sandbox", &tracing::Level::DEBUG));
        assert!(!filter.would_enable("h2::codec", &tracing::Level::DEBUG));
        assert!(filter.would_enable("h2", &tracing::Level::WARN));
        assert!(!targets("error").would_enable("h2", &tracing::Level::WARN));
    }
}
