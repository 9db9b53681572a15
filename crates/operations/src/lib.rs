//! Operations that belong to the daemon, not to their callers.
//!
//! Owns: the table of what runs now. Always: of one kind and key at most one operation runs, and whoever
//! asks for it meanwhile gets its answer; a caller that gives up cancels nothing; an operation that
//! panics answers its callers with an error. No I/O. Callers: `pods`, `images`; lists are read by
//! `cri-server`.

mod phases;
mod table;
mod watcher;

pub use phases::{PhaseError, Phases};
pub use table::{Lost, OperationInfo, Operations};
pub use watcher::{Ended, Watcher};
