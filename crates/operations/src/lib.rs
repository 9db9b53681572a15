//! Operations that belong to the daemon, not to their callers.
//!
//! Owns: the table of what runs now. Always: of one kind and key at most one operation runs, and whoever
//! asks for it meanwhile gets its answer; a caller that gives up cancels nothing; an operation that
//! panics answers its callers with an error; one that fails when nobody waits for it any more is logged; what has
//! ended is remembered within a bound. No I/O.
//! Callers: `pods`, `images`; lists are read by `cri-server`, which also says who asks.

mod history;
mod note;
mod origin;
mod phases;
mod table;
mod watcher;

pub use history::{CALLS_KEPT, FAILURES_KEPT, SUCCESSES_KEPT};
pub use note::Note;
pub use origin::{BadTraceParent, Origin, TraceContext, asked_by};
pub use phases::{PhaseError, Phases, Spot};
pub use table::{Lost, OperationInfo, Operations};
pub use watcher::{Ended, OperationFailure, Watcher};
