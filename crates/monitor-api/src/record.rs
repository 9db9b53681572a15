//! The record of a container's end, which the monitor writes before it tells anybody.

use model::{ContainerId, Exit, Timestamp};
use serde::{Deserialize, Serialize};

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Which.
    pub container: ContainerId,
    /// When it was started; 0 if it never was.
    pub started_at: Timestamp,
    /// How it ended.
    pub exit: Exit,
}

impl ExitRecord {
    /// The directory of exit records below a pod's directory.
    pub const DIRECTORY: &'static str = "exits";
}

impl store::Record for ExitRecord {
    const KIND: &'static str = "exit";
    const VERSION: u32 = 1;
}
