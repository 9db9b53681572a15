//! One daemon per bridge.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::error::NetworkError;

/// The same for all daemons of the machine, whatever their own directories are.
const DIR: &str = "/run/isopod/locks";

/// The right to serve a bridge. It ends with the process, however that ends.
#[derive(Debug)]
pub(crate) struct BridgeLock {
    _file: File,
}

impl BridgeLock {
    /// Takes the right, or says who has it.
    pub(crate) fn take(bridge: &str) -> Result<Self, NetworkError> {
        let path = path(bridge).map_err(|source| NetworkError::Kernel {
            operation: "find the lock of",
            object: format!("bridge {bridge}"),
            source,
        })?;
        let failed = |source: io::Error| NetworkError::Kernel {
            operation: "lock",
            object: format!("bridge {bridge} ({})", path.display()),
            source,
        };
        std::fs::create_dir_all(DIR).map_err(failed)?;
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| failed(e.into()))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file.into() }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(NetworkError::Foreign {
                object: format!("bridge {bridge}"),
                reason: format!("another daemon serves it (it holds {})", path.display()),
            }),
            Err(e) => Err(failed(e.into())),
        }
    }
}

/// Bridges of the same name in different network namespaces are different bridges.
fn path(bridge: &str) -> io::Result<PathBuf> {
    let namespace = std::fs::metadata("/proc/thread-self/ns/net")?.ino();
    Ok(Path::new(DIR).join(format!("bridge-{namespace}-{bridge}")))
}
