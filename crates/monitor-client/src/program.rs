//! The monitor's program, in a memory file that nobody can change.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The program that monitors are started from. It is sealed once and executed many times.
#[derive(Debug)]
pub struct MonitorProgram(OwnedFd);

/// The program cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The file cannot be read.
    #[error("cannot read the monitor's program {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a program for this system.
    #[error("the monitor's program is not an ELF file")]
    NotElf,
    /// The memory file cannot be made.
    #[error("cannot seal the monitor's program in memory")]
    Seal(#[source] io::Error),
}

impl MonitorProgram {
    /// Seals `program`, the bytes of an ELF file.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub fn from_bytes(program: &[u8]) -> Result<Self, ProgramError> {
        if !program.starts_with(b"\x7fELF") {
            return Err(ProgramError::NotElf);
        }
        sys::sealed_memfd("isopod-monitor", program).map(Self).map_err(ProgramError::Seal)
    }

    /// Seals the program in the file at `path`.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub fn from_file(path: &Path) -> Result<Self, ProgramError> {
        let bytes = std::fs::read(path)
            .map_err(|source| ProgramError::Read { path: path.to_owned(), source })?;
        Self::from_bytes(&bytes)
    }

    /// A path that executes it from this process.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// To be executed in place of this process (execveat(2)).
impl AsFd for MonitorProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_program_is_sealed() {
        assert!(matches!(MonitorProgram::from_bytes(b"#!/bin/sh"), Err(ProgramError::NotElf)));
        assert!(matches!(
            MonitorProgram::from_file(Path::new("/no/such")),
            Err(ProgramError::Read { .. })
        ));
        let program = MonitorProgram::from_file(Path::new("/bin/true")).unwrap();
        let status = std::process::Command::new(program.path()).status().unwrap();
        assert!(status.success());
    }
}
