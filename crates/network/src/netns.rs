//! Pinned network namespaces.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use sys::Namespaces;

/// A pinned network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netns {
    path: PathBuf,
}

impl Netns {
    pub(crate) const fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file that it is pinned at.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A descriptor of the namespace, for setns(2).
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(&self) -> io::Result<OwnedFd> {
        Ok(File::open(&self.path)?.into())
    }
}

/// What `work` returns when it runs inside the namespace pinned at `path`, in a thread of its own.
/// A socket made there stays in that namespace wherever it is used.
///
/// # Errors
/// Why the namespace cannot be entered.
pub fn inside<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let namespace = File::open(path)?;
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("in-netns".into()).spawn_scoped(scope, || {
                sys::join_namespace(namespace.as_fd(), Namespaces::NETWORK)?;
                Ok(work())
            })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the work inside it panicked")))
    })
}
