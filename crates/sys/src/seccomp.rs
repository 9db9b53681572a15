//! Installing a system call filter.

use std::io;

/// The longest program that the kernel takes, in instructions (BPF_MAXINSNS).
const MAX_INSTRUCTIONS: usize = 4096;

/// Installs `program` (an array of `struct sock_filter`, 8 bytes each, native byte order) for this
/// thread with seccomp(2), SECCOMP_SET_MODE_FILTER, and these SECCOMP_FILTER_FLAG_* bits.
///
/// It needs CAP_SYS_ADMIN or no_new_privs.
///
/// # Errors
/// What the kernel says; InvalidInput for a program of no or of broken length.
pub fn install_filter(program: &[u8], flags: u32) -> io::Result<()> {
    let count = program.len() / 8;
    if !program.len().is_multiple_of(8) || count == 0 || count > MAX_INSTRUCTIONS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a seccomp program"));
    }
    // The bytes may lie at any address; the kernel copies from this aligned copy.
    let aligned: Vec<u64> = program
        .as_chunks::<8>()
        .0
        .iter()
        .map(|instruction| u64::from_ne_bytes(*instruction))
        .collect();
    let filter = libc::sock_fprog {
        len: u16::try_from(count).map_err(io::Error::other)?,
        filter: aligned.as_ptr().cast_mut().cast::<libc::sock_filter>(),
    };
    // SAFETY: `filter` describes `aligned`, which outlives the call and is only read; sock_filter is
    // 8 bytes with no invalid bit patterns, and the kernel checks the program before it takes it.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
