//! Who hears of operations that have ended.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use model::{Class, Classified, Span, Timestamp, with_causes};

use crate::origin::Origin;

/// The longest message of a failure that is kept, in bytes.
const LONGEST_MESSAGE: usize = 2048;

/// An operation that has ended.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    /// Its number, unique in this daemon's life.
    pub id: u64,
    /// What kind.
    pub kind: &'static str,
    /// On what, for people.
    pub object: String,
    /// Who asked first.
    pub origin: Origin,
    /// The operations that it was a part of: whose work has asked for it.
    pub within: Vec<u64>,
    /// How many callers joined the first.
    pub joined: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took in all.
    pub took: Duration,
    /// Why it did not do what it was asked for; `None` where it did.
    pub failure: Option<OperationFailure>,
    /// The phase that is to blame, where it failed and that is known.
    pub failed_in: Option<&'static str>,
    /// Its phases.
    pub spans: Vec<Span>,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationFailure {
    /// What kind of failure.
    pub class: Class,
    /// The error and its causes, each said once, cut at a bound.
    pub message: String,
}

impl OperationFailure {
    /// What `error` and its causes say.
    pub fn of<E: Error + Classified>(error: &E) -> Self {
        let mut message = with_causes(error);
        message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
        Self { class: error.class(), message }
    }
}

/// Hears of every operation that ends, but for one that panics. Must not block.
pub trait Watcher: fmt::Debug + Send + Sync {
    /// One has ended.
    fn ended(&self, ended: &Ended);

    /// Whether it wants to hear of calls that are no operations as well ([`crate::Operations::note`]).
    fn wants_calls(&self) -> bool {
        false
    }

    /// One of those has ended.
    fn call_ended(&self, _ended: &Ended) {}
}
