//! What the node's configuration says about the store.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::names::Pattern;
use crate::steps::{NoFaults, Steps};

/// The usual project ids: far from those of the kubelet, and as many.
const PROJECTS: RangeInclusive<u32> = 16_777_216..=17_825_791;

/// How the store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the writable directories of containers are; below the store's own directory where `None`.
    pub containers: Option<PathBuf>,
    /// What one layer may hold.
    pub limits: Limits,
    /// Images that nobody may remove to gain space.
    pub pinned: Vec<Pattern>,
    /// Registries that a name without one is looked up in, in this order; docker.io where empty.
    pub unqualified: Vec<String>,
    /// How long a layer that no image has is kept for a pull that comes back.
    pub keep_unused: Duration,
    /// How long the beginning of a blob that broke off is kept for a pull that goes on; zero keeps none.
    pub keep_partial: Duration,
    /// The smallest blob of which a beginning is kept, in bytes: small ones come again as quickly.
    pub partial_from: u64,
    /// What all beginnings together may take, in bytes; past it the oldest go.
    pub partial_total: u64,
    /// Whether compressed blobs are kept beside what was unpacked from them.
    pub keep_blobs: bool,
    /// Project ids for containers, where the file system of their directories has project quotas. Whoever
    /// else makes projects there must have others: the kubelet's begin at 1048577.
    pub projects: RangeInclusive<u32>,
    /// The hook before each durable step; does nothing outside of tests.
    pub steps: Arc<dyn Steps>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            containers: None,
            limits: Limits::default(),
            pinned: Vec::new(),
            unqualified: Vec::new(),
            keep_unused: Duration::from_secs(3600),
            keep_partial: Duration::from_secs(24 * 3600),
            partial_from: 32 << 20,
            partial_total: 8 << 30,
            keep_blobs: false,
            projects: PROJECTS,
            steps: Arc::new(NoFaults),
        }
    }
}

/// What one layer may hold. An archive past a limit is refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the decompressed archive.
    pub bytes: u64,
    /// How many times its own size a blob may become by decompression; the first 64 MiB are free.
    pub ratio: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of one path, and of a link's target.
    pub path_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 256 << 30, ratio: 4096, entries: 5_000_000, path_bytes: 4096 }
    }
}
