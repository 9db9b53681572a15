//! Who hears of operations that have ended.

use std::fmt;
use std::time::Duration;

use model::Span;

/// An operation that has ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// What kind.
    pub kind: &'static str,
    /// How long it took in all.
    pub took: Duration,
    /// Whether it did what it was asked for.
    pub succeeded: bool,
    /// Its phases.
    pub spans: Vec<Span>,
}

/// Hears of every operation that ends, but for one that panics. Must not block.
pub trait Watcher: fmt::Debug + Send + Sync {
    /// One has ended.
    fn ended(&self, ended: &Ended);
}
