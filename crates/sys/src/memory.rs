//! The heap, and the stack.

use crate::thread::SingleThreaded;

/// What of the stack below the caller is given back, in bytes. The kernel maps nothing closer to a stack than 1 MiB
/// (`stack_guard_gap`), so these are pages of the stack or of nothing.
#[cfg(target_arch = "x86_64")]
const STACK: usize = 512 << 10;
/// Left below the stack pointer for the frame of the system call's wrapper and the red zone, in bytes.
#[cfg(target_arch = "x86_64")]
const MARGIN: usize = 2 << 10;

/// Gives what the allocator holds and does not use back to the kernel (malloc_trim(3)).
pub fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives the pages of the stack that deeper calls have touched, and that nobody uses now, back to the kernel. Does
/// nothing but on x86-64.
#[cfg(target_arch = "x86_64")]
pub fn return_unused_stack(_proof: &SingleThreaded) {
    let pointer: usize;
    // SAFETY: it reads a register, and nothing else.
    unsafe {
        std::arch::asm!("mov {}, rsp", out(reg) pointer, options(nomem, nostack, preserves_flags));
    }
    // SAFETY: sysconf only reads.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let Ok(page) = usize::try_from(page) else { return };
    let end = (pointer - MARGIN) & !(page - 1);
    // SAFETY: the only thread runs on the main stack. By the ABI nothing lives below the stack pointer but 128 bytes
    // (the red zone) and the frames of what is called from here, which is a wrapper of a system call and fits into the
    // margin: whatever the compiler put into which frame, the range is free stack. What is not mapped of it the
    // kernel skips. It is zero when it is used again, as new stack is.
    unsafe {
        libc::madvise(std::ptr::without_provenance_mut(end - STACK), STACK, libc::MADV_DONTNEED);
    }
}

/// Does nothing on this architecture.
#[cfg(not(target_arch = "x86_64"))]
pub fn return_unused_stack(_proof: &SingleThreaded) {}

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
