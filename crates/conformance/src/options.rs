//! What a run of the suite is told.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::case::{Case, Level};

/// What is being done; why it failed, where it did.
pub type Doing = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Restarts the runtime under test; returns when it can be called again, or why it cannot.
#[derive(Clone)]
pub struct Restart(
    /// What does it.
    pub Arc<dyn Fn() -> Doing + Send + Sync>,
);

impl fmt::Debug for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restart").finish_non_exhaustive()
    }
}

/// Which cases to run, against what, with what.
#[derive(Debug, Clone)]
pub struct Options {
    /// Patterns of names, with `*` for any characters; one that has neither `*` nor `/` is a group.
    /// Empty for all cases.
    pub patterns: Vec<String>,
    /// Patterns of cases that are left out.
    pub without: Vec<String>,
    /// The most that cases may take for granted.
    pub level: Level,
    /// How many cases run at the same time; at least one.
    pub jobs: usize,
    /// How long one case may take, its clean-up not counted; a minute is enough for a runtime that is not
    /// emulated.
    pub patience: Duration,
    /// The runtime handler of every pod; empty for the default.
    pub handler: String,
    /// `HOST:PORT` of a registry on plain HTTP that images are pushed to; the suite's own where absent.
    pub registry: Option<String>,
    /// Where the suite's own registry listens.
    pub serve_on: SocketAddr,
    /// A static busybox, which the images are made of.
    pub busybox: PathBuf,
    /// Where logs and volumes of the pods go; must be the same path for the runtime. The system's
    /// temporary directory where absent.
    pub directory: Option<PathBuf>,
    /// The cgroup (or slice) of every pod; empty for one of the runtime's choice.
    pub cgroup_parent: String,
    /// Whether pods get a network of their own here.
    pub pod_network: bool,
    /// How to restart the runtime.
    pub restart: Option<Restart>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            patterns: Vec::new(),
            without: Vec::new(),
            level: Level::Linux,
            jobs: 4,
            patience: Duration::from_secs(60),
            handler: String::new(),
            registry: None,
            serve_on: SocketAddr::from(([127, 0, 0, 1], 0)),
            busybox: PathBuf::from("/bin/busybox"),
            directory: None,
            cgroup_parent: String::new(),
            pod_network: true,
            restart: None,
        }
    }
}

impl Options {
    /// Whether a case is among those to run.
    #[must_use]
    pub fn select(&self, case: &Case) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| fits(pattern, case.name));
        case.level <= self.level
            && (self.patterns.is_empty() || any(&self.patterns))
            && !any(&self.without)
    }
}

/// Whether a name fits a pattern.
fn fits(pattern: &str, name: &str) -> bool {
    if !pattern.contains(['*', '/']) {
        return name.split('/').next() == Some(pattern);
    }
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_groups_names_and_stars() {
        let name = "container/exit-code";
        for pattern in ["container", name, "*", "cont*", "*code", "c*/e*-*", "*/*", "*exit*"] {
            assert!(fits(pattern, name), "{pattern}");
        }
        for pattern in ["cont", "exit-code", "container/exit", "*exit", "c*x*z*", "/", ""] {
            assert!(!fits(pattern, name), "{pattern}");
        }
    }
}
