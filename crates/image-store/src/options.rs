//! What the node's configuration says about the store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::names::Pattern;
use crate::steps::{NoFaults, Steps};

/// How the store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the writable directories of containers are; below the store's own directory where `None`.
    pub containers: Option<PathBuf>,
    /// What one layer may hold.
    pub limits: Limits,
    /// Images that nobody may remove to gain space.
    pub pinned: Vec<Pattern>,
    /// How long a layer that no image has is kept for a pull that comes back.
    pub keep_unused: Duration,
    /// The hook before each durable step; does nothing outside of tests.
    pub steps: Arc<dyn Steps>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            containers: None,
            limits: Limits::default(),
            pinned: Vec::new(),
            keep_unused: Duration::from_secs(3600),
            steps: Arc::new(NoFaults),
        }
    }
}

/// What one layer may hold. An archive past a limit is refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the decompressed archive.
    pub bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of one path, and of a link's target.
    pub path_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 256 << 30, entries: 5_000_000, path_bytes: 4096 }
    }
}
