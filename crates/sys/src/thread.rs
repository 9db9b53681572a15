//! The proof that this process has one thread.

use std::io;
use std::marker::PhantomData;

/// Proof that this process has had one thread when it was made, by code that makes no others.
///
/// Between clone and exec a child of such a process may allocate and may hold locks, because no
/// other thread can have held one at the moment of the clone. The token can be neither sent nor
/// shared.
#[derive(Debug)]
pub struct SingleThreaded {
    not_send: PhantomData<*const ()>,
}

impl SingleThreaded {
    /// Takes the proof from the kernel.
    ///
    /// # Errors
    /// When there is more than one thread, or `/proc` cannot be read.
    pub fn check() -> io::Result<Self> {
        let threads = std::fs::read_dir("/proc/self/task")?.count();
        if threads == 1 {
            Ok(Self { not_send: PhantomData })
        } else {
            Err(io::Error::other(format!("this process has {threads} threads, and must have one")))
        }
    }
}
