//! A process of the runtime's own that does what may take long: hooks, and conversations with systemd.
//!
//! Owns: how one is sent out, how it tells of its failure, how it ends. Always: it has no descriptor but those that it
//! is given, and no terminal; it ends with whoever sent it out; killed, it ends with all that it has started.
//! Callers: the monitor, which waits for none of them, and `oci-cli`, which does.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, Mode, memfd_create};
use rustix::process::{Signal, set_parent_process_death_signal};
use sys::{Child, CloneFlags, SingleThreaded, clone_child};

use crate::tree::kill_tree;

/// How long one that was killed may take to end.
const ENDING: Duration = Duration::from_secs(5);
/// The most that is told of a failure.
const TOLD_MAX: u64 = 4096;

/// One that is under way.
#[derive(Debug)]
pub struct Errand {
    /// Its process, which is the caller's to wait for.
    pub process: Child,
    /// When it has had its time.
    pub until: Instant,
    /// What it says of its failure.
    said: File,
}

impl Errand {
    /// Sends a process out that does `work` with the descriptors in `keep`.
    ///
    /// # Errors
    /// There is no memory, or no number, for one more process.
    pub fn send(
        proof: &SingleThreaded,
        patience: Duration,
        keep: &[BorrowedFd<'_>],
        work: impl FnOnce() -> Result<(), String>,
    ) -> io::Result<Self> {
        let said = File::from(memfd_create("errand", MemfdFlags::CLOEXEC)?);
        let kept: Vec<_> = keep.iter().copied().chain([said.as_fd()]).collect();
        let sender = rustix::process::getpid();
        let process = clone_child(proof, CloneFlags::default(), |in_child| {
            let begun = in_child.close_all_but(&kept).and_then(|()| begin(sender));
            let done = begun.map_err(|e| e.to_string()).and_then(|()| work());
            let Err(why) = done else { sys::exit_now(0) };
            // Who reads it finds nothing then, and says so.
            let _ = (&said).write_all(why.as_bytes());
            sys::exit_now(1)
        })?;
        Ok(Self { process, until: Instant::now() + patience, said })
    }

    /// Kills it with all that it has started; its end is still to be waited for.
    pub fn kill(&self) {
        // Its hooks lead groups of their own, and all of them are of its session.
        kill_tree(self.process.pid, &self.process.pidfd);
    }

    /// What has come of one that was waited for and ended with `code`.
    ///
    /// # Errors
    /// What it has said.
    pub fn outcome(self, code: i32) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        let mut text = Vec::new();
        let mut said = self.said;
        // The child has written where it and we are both. Nothing that could be read is as good as nothing said.
        let _ = said.rewind();
        let _ = said.take(TOLD_MAX).read_to_end(&mut text);
        if text.is_empty() {
            return Err(format!("its process ended with {code}"));
        }
        Err(String::from_utf8_lossy(&text).into_owned())
    }

    /// Waits for its end, until its time is over or the process `beside` has ended: it is killed then.
    ///
    /// # Errors
    /// What it has said, or that it was killed.
    pub fn wait(self, beside: Option<BorrowedFd<'_>>) -> Result<(), String> {
        let ended = PollFd::new(&self.process.pidfd, PollFlags::IN);
        let beside = beside.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let mut ends: Vec<_> = [ended].into_iter().chain(beside).collect();
        poll_until(&mut ends, self.until);
        let mut why = None;
        if ends[0].revents().is_empty() {
            let is_over = ends.iter().all(|end| end.revents().is_empty());
            why = Some(if is_over { "it has had its time" } else { "the process has ended" });
            self.kill();
            poll_until(&mut ends[..1], Instant::now() + ENDING);
        }
        drop(ends);
        let code = sys::wait_exit(self.process.pidfd.as_fd());
        match (why, code) {
            (Some(why), _) => Err(why.to_owned()),
            (None, Ok(code)) => self.outcome(code.unwrap_or(255)),
            (None, Err(error)) => Err(format!("wait for its process: {error}")),
        }
    }
}

/// Its first steps: it is nobody's terminal's, ends with its sender, and makes files as others do.
fn begin(sender: rustix::process::Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() != Some(sender) {
        // Its sender has ended before, and nobody will say so any more.
        sys::exit_now(1);
    }
    sys::reset_signals();
    rustix::process::setsid()?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(())
}

/// Waits until something happens, or until this time.
fn poll_until(ends: &mut [PollFd<'_>], until: Instant) {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(ends, Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => return,
        }
    }
}
