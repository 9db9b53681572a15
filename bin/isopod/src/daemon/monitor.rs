//! Where the monitor's program comes from.

use std::path::{Path, PathBuf};

use monitor_client::{MonitorProgram, ProgramError};

/// The program inside this binary, in a release.
#[cfg(embedded_monitor)]
const EMBEDDED: Option<&[u8]> = Some(include_bytes!(env!("ISOPOD_MONITOR_ELF")));
#[cfg(not(embedded_monitor))]
const EMBEDDED: Option<&[u8]> = None;

/// There is no program.
#[derive(Debug, thiserror::Error)]
pub enum NoMonitor {
    /// Nobody says where it is.
    #[error(
        "this binary has no monitor inside, and there is none at {}; name one by --monitor",
        beside.display()
    )]
    Nowhere {
        /// Where it would be in a development build.
        beside: PathBuf,
    },
    /// It cannot be used.
    #[error("cannot use the monitor's program")]
    Program(#[from] ProgramError),
}

/// The program that `configured` names, else the one inside this binary, else the one beside it.
pub fn program(configured: Option<&Path>) -> Result<MonitorProgram, NoMonitor> {
    if let Some(path) = configured {
        return Ok(MonitorProgram::from_file(path)?);
    }
    if let Some(bytes) = EMBEDDED {
        return Ok(MonitorProgram::from_bytes(bytes)?);
    }
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.with_file_name("isopod-monitor");
    if beside.is_file() {
        return Ok(MonitorProgram::from_file(&beside)?);
    }
    Err(NoMonitor::Nowhere { beside })
}
