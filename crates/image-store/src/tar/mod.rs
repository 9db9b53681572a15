//! Tar archives as streams: V7, ustar, GNU and PAX, read without trust.
//!
//! Owns: the format (POSIX.1-2024 `pax`, "ustar Interchange Format" and "pax Interchange Format";
//! the GNU tar manual, "Basic Tar Format" and "Storing Sparse Files"). Always: no I/O but reading
//! the given stream forward; no allocation larger than a stated bound, whatever a header claims.
//! Callers: `unpack`, `archive` readers of other crates through [`Reader`].

mod header;
mod numbers;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use reader::{Entry, Kind, Reader, TarError};
pub use sparse::Segment;
pub use writer::Writer;

/// Everything in an archive comes in blocks of this size.
pub(crate) const BLOCK: usize = 512;

/// What is wrong with an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {entry:?}: {problem}")]
pub struct BadArchive {
    /// The entry's name, or its number where the name is not known yet.
    pub entry: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A name of an archive as a message shows it: cut after 300 characters.
pub(crate) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(300).collect()
}
