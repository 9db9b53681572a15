//! The heap.

/// Gives what the allocator holds and does not use back to the kernel (malloc_trim(3)).
pub fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}
