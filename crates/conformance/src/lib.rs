//! A black-box suite for any runtime that serves CRI v1.
//!
//! Owns: the rules (one [`Case`] each, in tables by topic), the images that they need and the registry
//! that serves them, and the reports.
//! Always: a case names its rule and where that comes from; it removes what it made, also when it fails;
//! cases share nothing but the runtime, so they run side by side; one is skipped only for a reason that the
//! runtime declares or the machine gives.
//! Callers: `isopod check`, and tests of runtimes: anybody's.
//!
//! Nothing in here knows any runtime: only messages of CRI v1 go over the socket, and streams to the URLs
//! that come back.

mod case;
mod cases;
mod compare;
mod context;
mod covered;
mod facts;
mod images;
mod logs;
mod options;
mod report;
mod rpc;
mod scope;
mod shape;
mod stream;
mod suite;

pub use case::{Basis, Case, Level, Need, OPTIONAL, Stop};
pub use cases::all;
pub use compare::compare;
pub use context::Context;
pub use covered::{Call, Item, items};
pub use options::{Doing, Options, Restart};
pub use report::{CaseResult, Form, Outcome, Report};
pub use suite::Suite;

/// The shell that cases of level [`Level::Program`] take for granted: commands in a row (`;`, line breaks
/// and `&&` between them) of `echo` (with `>&2`), `printf`, `seq`, `sleep`, `cat`, `true`, `false`, `exit`,
/// `kill -SIGNAL $$`, `trap 'exit N' SIGNAL`, `trap '' SIGNAL`, `read`, `pwd`, `env`, `wait`, and loops that
/// only wait. A runtime without real programs can know as much.
pub const SHELL: &str =
    "echo printf seq sleep cat true false exit kill trap read pwd env wait while";
