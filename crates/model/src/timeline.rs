//! Where the time of an operation went.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A phase with its beginning, counted from the beginning of the whole, and its length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Which phase.
    pub phase: Cow<'static, str>,
    /// Microseconds from the beginning of the whole to the beginning of the phase.
    pub start_us: u32,
    /// Microseconds that it took.
    pub took_us: u32,
}
