//! Memory files that nobody can change.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::poll;
use rustix::fs::{MemfdFlags, SealFlags, Timespec};
use rustix::io::Errno;

/// A memory file (memfd_create(2)) that holds `content` and carries all seals: it can be executed
/// and read, and never again written, grown or shrunk, by anybody.
///
/// # Errors
/// What the kernel says, for example when memory is short.
pub fn sealed_memfd(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux 6.3 wants to be told that it will be executed; older kernels refuse the flag.
    let fd = rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC).or_else(|e| match e {
        Errno::INVAL => rustix::fs::memfd_create(name, flags),
        other => Err(other),
    })?;
    let mut file = File::from(fd);
    file.write_all(content)?;
    seal(&file)?;
    Ok(file.into())
}

/// How often a seal is asked for; the kernel itself waits some 75 ms each time.
const TRIES: u32 = 40;
/// Between two of them; there is no event to wait for.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 25_000_000 };

/// Adds all seals. While the kernel moves or ages one of the file's pages it holds the page, and cannot tell that
/// from somebody who is about to write to it: then it answers EBUSY, and is asked again.
fn seal(file: &File) -> io::Result<()> {
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    for _ in 0..TRIES {
        match rustix::fs::fcntl_add_seals(file.as_fd(), seals) {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY) => {
                poll(&mut [], Some(&PAUSE))?;
            }
            Err(other) => return Err(other.into()),
        }
    }
    Err(Errno::BUSY.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_can_be_neither_written_nor_resized() {
        let fd = sealed_memfd("sealed", b"content").unwrap();
        let mut file = File::from(fd);
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(100).is_err());
        let again = rustix::fs::fcntl_add_seals(file.as_fd(), SealFlags::empty());
        assert_eq!(again, Err(Errno::PERM));
    }
}
