//! The heap.

/// Gives what the allocator holds and does not use back to the kernel (malloc_trim(3)).
pub fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no preconditions.
    unsafe {
        libc::malloc_trim(0);
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
