//! A process that hands its place over to a new one, which is its sibling and not its child.

use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::process::Pid;

use crate::clone::PANICKED;
use crate::exec::exit_now;
use crate::thread::SingleThreaded;

/// The kernel's smallest page; a mapping is at least as long.
const LENGTH: usize = 4096;

/// A process id in memory that a process shares with the children that it makes afterwards: there the
/// kernel notes whom a child handed its place to.
#[derive(Debug)]
pub struct HandOver(NonNull<AtomicI32>);

impl HandOver {
    /// A new one, in which nobody is noted.
    ///
    /// # Errors
    /// When memory is short.
    pub fn new() -> io::Result<Self> {
        // SAFETY: a new anonymous mapping at a place of the kernel's choice touches no memory that is in use.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                LENGTH,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(page.cast()).map(Self).ok_or_else(|| io::Error::other("a mapping at 0"))
    }

    /// Who took over, if somebody did.
    #[must_use]
    pub fn heir(&self) -> Option<Pid> {
        // SAFETY: the mapping lives as long as this value, is aligned to a page and zero at first; the
        // kernel and other processes write it as a whole.
        Pid::from_raw(unsafe { self.0.as_ref() }.load(Ordering::Acquire))
    }
}

impl HandOver {
    /// Children that are made from now on do not have this memory, so that none of them can write what it
    /// is not to write. They must not use this value: they never return to where it lives.
    ///
    /// # Errors
    /// What madvise(2) says.
    pub fn keep_from_children(&self) -> io::Result<()> {
        // SAFETY: the mapping is whole and this value's own; the advice concerns what children inherit.
        let result = unsafe { libc::madvise(self.0.as_ptr().cast(), LENGTH, libc::MADV_DONTFORK) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it outlives a method.
        unsafe { libc::munmap(self.0.as_ptr().cast(), LENGTH) };
    }
}

/// In what memory a process works until it has become its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// In a copy of this process's.
    Copied,
    /// In this process's own, which waits meanwhile: nothing is copied. Who could trace the new process could
    /// change this one, too.
    Lent,
}

/// Makes a process that runs `body` and has the same parent as this one; its id is in `note` before it
/// takes its first step. It is born in the PID namespace that this process's children are for. With a copy of
/// the memory it does not share `note`; with lent memory this call returns once it is a program or has ended.
///
/// With a copy it uses clone(2), madvise(2) and nothing else, so that it works behind a system call filter.
///
/// # Errors
/// What the kernel says.
pub fn clone_sibling<F>(
    proof: &SingleThreaded,
    note: HandOver,
    memory: Memory,
    body: F,
) -> io::Result<()>
where
    F: FnOnce() -> Infallible,
{
    match memory {
        Memory::Copied => with_a_copy(proof, note, body),
        Memory::Lent => with_lent_memory(proof, note, body),
    }
}

/// What a sibling gets a note of.
const FLAGS: libc::c_int = libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID | libc::SIGCHLD;

fn with_a_copy<F>(_proof: &SingleThreaded, note: HandOver, body: F) -> io::Result<()>
where
    F: FnOnce() -> Infallible,
{
    note.keep_from_children()?;
    let page = note.0.as_ptr();
    // SAFETY: without CLONE_VM and with no stack given the child is a copy as after fork; `page` is valid
    // for the kernel's write in this process. The token proves that there is one thread, so no lock is held
    // by somebody who does not exist in the child. The child has no mapping behind `note`, which it owns by
    // name only: it never returns from here, so that `note` is neither used nor dropped there.
    let pid = unsafe { raw_clone(FLAGS as libc::c_ulong, page.cast()) };
    match pid {
        // A panic must not unwind into the frames that are above this one.
        0 => match catch_unwind(AssertUnwindSafe(body)) {
            Err(_) => exit_now(PANICKED),
        },
        ..0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// What a process in lent memory has for its stack, its lowest page kept shut.
const STACK: usize = 256 * 1024;

fn with_lent_memory<F>(_proof: &SingleThreaded, note: HandOver, body: F) -> io::Result<()>
where
    F: FnOnce() -> Infallible,
{
    let top = stack()?;
    let mut body = Some(body);
    let arg = std::ptr::from_mut(&mut body).cast::<libc::c_void>();
    let flags = FLAGS | libc::CLONE_VM | libc::CLONE_VFORK;
    // SAFETY: `top` is the aligned upper end of a stack that nobody else uses and that stays mapped. The child
    // has this process's memory, and by CLONE_VFORK this process does not run before the child has left it, by
    // execve or by its end: `body`, `note` and all else that the child may touch outlive it, and nobody else uses
    // them meanwhile, because the token proves that there is one thread. The child never returns from
    // `run_lent::<F>`, whose argument is the pointer to an `Option<F>` that it takes for.
    let pid = unsafe { libc::clone(run_lent::<F>, top, flags, arg, note.0.as_ptr()) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The upper end of a new stack. It is never unmapped: who needs it ends, or becomes another program.
fn stack() -> io::Result<*mut libc::c_void> {
    // SAFETY: a new anonymous mapping at a place of the kernel's choice touches no memory that is in use.
    let low = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            STACK,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    // SAFETY: the lowest page of the mapping that was just made, in which nothing is; MAP_FAILED is refused by the
    // kernel as an address.
    if low == libc::MAP_FAILED || unsafe { libc::mprotect(low, LENGTH, libc::PROT_NONE) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(low.wrapping_byte_add(STACK))
}

extern "C" fn run_lent<F>(body: *mut libc::c_void) -> libc::c_int
where
    F: FnOnce() -> Infallible,
{
    // SAFETY: `with_lent_memory` gives a pointer to its `Option<F>`, and waits.
    let body = unsafe { &mut *body.cast::<Option<F>>() }.take();
    // A panic must not unwind into what is not Rust's.
    let _ = catch_unwind(AssertUnwindSafe(|| body.map(|body| body())));
    exit_now(PANICKED)
}

/// clone(2) without a stack, in the order of arguments that most architectures have.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
unsafe fn raw_clone(flags: libc::c_ulong, parent_tid: *mut libc::pid_t) -> libc::c_long {
    let none = 0_usize;
    // SAFETY: the caller's, word for word.
    unsafe { libc::syscall(libc::SYS_clone, flags, none, parent_tid, none, none) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_noted_at_first() {
        assert_eq!(HandOver::new().unwrap().heir(), None);
    }
}
