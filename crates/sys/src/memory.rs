//! The heap, the stack, and what is mapped of the program.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

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

/// Lets go of what is mapped of this program's own code and constants; it is mapped again from the page cache as it is
/// used. The kernel maps sixteen pages around each one that is touched, so a program that has only begun has most of
/// itself mapped, for things that it does once.
///
/// A segment in which a page is this process's own is left alone: breakpoints that a debugger or a probe (uprobes) has
/// put into the code would be forgotten. One that cannot be looked at counts as that.
pub fn return_program() {
    let Ok(mut pages) = File::open("/proc/self/pagemap") else { return };
    let data = std::ptr::from_mut(&mut pages).cast();
    // SAFETY: the callback has the type that is asked for, and takes its last argument as the file that it is, which
    // outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(return_first), data) };
}

/// The first object is the program; a result other than 0 ends the iteration (dl_iterate_phdr(3)).
unsafe extern "C" fn return_first(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    pages: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: `return_program` hands over its own file, and uses it for nothing else meanwhile.
    let pages = unsafe { &*pages.cast::<File>() };
    // SAFETY: the C library gives a whole structure, whose headers are mapped as long as the program is.
    let headers = unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        headers.iter().map(|header| (info.dlpi_addr, header))
    };
    for (base, header) in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let (Ok(start), Ok(length)) =
            (usize::try_from(base + header.p_vaddr), usize::try_from(header.p_memsz))
        else {
            continue;
        };
        let begins = start & !(PAGE - 1);
        if has_own_page(pages, begins, start + length).unwrap_or(true) {
            continue;
        }
        // SAFETY: a segment that nobody may write, relocations included, so that each of its pages is the file's and
        // comes back as it was. Segments begin on pages of their own, so that the last one's rest is its own, too.
        unsafe {
            let place = std::ptr::without_provenance_mut(begins);
            libc::madvise(place, length + (start - begins), libc::MADV_DONTNEED);
        }
    }
    1
}

/// Whether a page of these addresses is this process's own and not the file's, by what `pages` tells of each
/// (`/proc/PID/pagemap`, proc_pid_pagemap(5)): one of its own may be in memory or in swap.
fn has_own_page(pages: &File, begin: usize, end: usize) -> io::Result<bool> {
    const THERE: u64 = 1 << 63 | 1 << 62;
    const OF_A_FILE: u64 = 1 << 61;
    // SAFETY: sysconf only reads.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let page = usize::try_from(page).map_err(io::Error::other)?;
    let mut words = [0; 4096];
    let (mut at, last) = (begin / page, end.div_ceil(page));
    while at < last {
        let some = (last - at).min(words.len() / 8);
        let told = &mut words[..some * 8];
        pages.read_exact_at(told, at as u64 * 8)?;
        let mut told = told.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word));
        if told.any(|page| page & THERE != 0 && page & OF_A_FILE == 0) {
            return Ok(true);
        }
        at += some;
    }
    Ok(false)
}

/// Segments of a program are aligned to this at the least, in bytes, whatever the kernel's pages are.
const PAGE: usize = 4096;

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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is mapped of this test's program, code and all, in KiB.
    fn mapped() -> u64 {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let program = std::env::current_exe().unwrap();
        let program = program.to_str().unwrap();
        let mut within = false;
        let mut sum = 0;
        for line in smaps.lines() {
            if let Some(rss) = line.strip_prefix("Rss:") {
                let kib: u64 = rss.trim().trim_end_matches(" kB").parse().unwrap();
                sum += if within { kib } else { 0 };
            } else if !line.split(' ').next().unwrap().ends_with(':') {
                within = line.ends_with(program) && line.contains(" r-xp ");
            }
        }
        sum
    }

    #[test]
    fn a_program_goes_on_after_it_was_let_go_of() {
        let constant = "what is in a segment of constants";
        let before = mapped();
        return_program();
        let after = mapped();
        assert!(0 < after && after < before, "{after} of {before} KiB");
        assert_eq!(constant.len(), 33);

        // As a debugger does; the byte is the one that is there.
        let memory = File::options().read(true).write(true).open("/proc/self/mem").unwrap();
        let place = return_free_memory as fn() as usize;
        let mut byte = [0];
        memory.read_exact_at(&mut byte, place as u64).unwrap();
        memory.write_all_at(&byte, place as u64).unwrap();
        let touched = mapped();
        return_program();
        assert!(mapped() >= touched, "{} of {touched} KiB", mapped());
    }
}
