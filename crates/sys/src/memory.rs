//! The heap, and the stack.

use crate::thread::SingleThreaded;

/// What of the stack below the caller is given back, in bytes. The kernel maps nothing closer to a stack than 1 MiB
/// (`stack_guard_gap`), so these are pages of the stack or of nothing.
const STACK: usize = 512 << 10;
/// Left for the frames of the call itself, in bytes.
const MARGIN: usize = 1 << 10;

/// Gives what the allocator holds and does not use back to the kernel (malloc_trim(3)).
pub fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives the pages of the stack that deeper calls have touched, and that nobody uses now, back to the kernel.
pub fn return_unused_stack(_proof: &SingleThreaded) {
    let here = 0_u8;
    // SAFETY: sysconf only reads.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let Ok(page) = usize::try_from(page) else { return };
    let end = (std::ptr::from_ref(&here).addr() - MARGIN) & !(page - 1);
    let start = end - STACK;
    // SAFETY: the only thread runs on the main stack, and all frames that live are above `end`: the range is
    // free stack, and what is not mapped of it the kernel skips. Nobody reads what is below the stack pointer.
    unsafe {
        libc::madvise(std::ptr::without_provenance_mut(start), STACK, libc::MADV_DONTNEED);
    }
}

/// Lets all threads share `arenas` heaps (mallopt(3), M_ARENA_MAX). Otherwise glibc gives each thread one
/// of its own, and what was freed in one is not used by the others.
pub fn share_heaps(arenas: u8) {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt sets numbers of the allocator under its own lock.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, libc::c_int::from(arenas));
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = arenas;
}
