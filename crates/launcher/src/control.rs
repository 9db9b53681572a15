//! The socket between a launcher and the process that it launches.
//!
//! Owns: the few messages of a launch. Always: one datagram per message, so nothing is ever read by
//! halves; the child's end is close-on-exec, so that the end of the stream says "executed".

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::{Deserialize, Serialize};

use crate::error::{Failure, LaunchError, Phase};
use crate::timeline::Span;

/// Longest message, in bytes.
const LONGEST: usize = 32 * 1024;

/// What the child tells.
#[derive(Debug)]
pub enum Report {
    /// It stands ready in its namespaces and waits for the order to start.
    Ready {
        /// Where its time went.
        spans: Vec<Span>,
        /// What could not be done and was not essential.
        warnings: Vec<String>,
        /// The terminal's controlling end, if it was to have a terminal.
        terminal: Option<OwnedFd>,
    },
    /// Its namespaces and mounts are there, and it waits for the hooks that run before it stands in its root.
    AtHooks,
    /// It has become the program, or has ended before it could say more.
    Executed,
    /// It could not go on, and ends.
    Failed(LaunchError),
}

#[derive(Serialize, Deserialize)]
enum Message {
    Ready { spans: Vec<Span>, warnings: Vec<String> },
    AtHooks,
    Failed(LaunchError),
}

/// Orders to the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Order {
    /// You are in your cgroup now.
    Joined = b'J',
    /// The hooks have run.
    HooksRun = b'H',
    /// Become the program.
    Start = b'S',
}

/// The launcher's end.
#[derive(Debug)]
pub struct Control(OwnedFd);

/// The child's end.
#[derive(Debug)]
pub(crate) struct ChildControl(OwnedFd);

/// A pair of ends.
pub(crate) fn pair() -> io::Result<(Control, ChildControl)> {
    let (ours, childs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((Control(ours), ChildControl(childs)))
}

impl Control {
    /// Reads the next report; call it when the descriptor is readable, it waits otherwise.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut buffer = vec![0; LONGEST];
        let mut fds = Vec::new();
        let broken = |e: io::Error| {
            Report::Failed(Failure::at("read the child's report")(e).during(Phase::Exec))
        };
        let mut received = sys::receive(self.0.as_fd(), &mut buffer, &mut fds);
        if received.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset) {
            // It has ended without reading its last order. That is said once, and before what it told.
            received = sys::receive(self.0.as_fd(), &mut buffer, &mut fds);
        }
        let length = match received {
            Ok(0) => return Report::Executed,
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Report::Executed,
            Ok(length) => length,
            Err(e) => return broken(e),
        };
        match serde_json::from_slice(&buffer[..length]) {
            Ok(Message::Ready { spans, warnings }) => {
                Report::Ready { spans, warnings, terminal: fds.pop() }
            }
            Ok(Message::AtHooks) => Report::AtHooks,
            Ok(Message::Failed(error)) => Report::Failed(error),
            Err(e) => broken(e.into()),
        }
    }

    /// The next report if there is one now.
    #[must_use]
    pub fn try_report(&self) -> Option<Report> {
        let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(1) => Some(self.report()),
            Ok(_) | Err(_) => None,
        }
    }

    /// Tells the waiting child to become the program.
    ///
    /// # Errors
    /// A child that is gone: its end tells why.
    pub fn start(&self) -> io::Result<()> {
        self.order(Order::Start)
    }

    /// Tells the child that it is in its cgroup, where [`crate::Seat::Later`] was said.
    ///
    /// # Errors
    /// A child that is gone: its end tells why.
    pub fn joined(&self) -> io::Result<()> {
        self.order(Order::Joined)
    }

    /// Tells the child that waits [`Report::AtHooks`] that they have run.
    ///
    /// # Errors
    /// A child that is gone: its end tells why.
    pub fn hooks_run(&self) -> io::Result<()> {
        self.order(Order::HooksRun)
    }

    pub(crate) fn order(&self, order: Order) -> io::Result<()> {
        sys::send(self.0.as_fd(), &[order as u8], &[]).map(drop)
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for ChildControl {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl ChildControl {
    /// Waits for `order`. A parent that is gone ends this process: nobody wants it any more.
    pub(crate) fn wait_for(&self, order: Order) {
        let mut byte = [0];
        loop {
            match sys::receive(self.0.as_fd(), &mut byte, &mut Vec::new()) {
                Ok(1) if byte[0] == order as u8 => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => sys::exit_now(ABANDONED),
            }
        }
    }

    pub(crate) fn ready(
        &self,
        spans: Vec<Span>,
        warnings: Vec<String>,
        terminal: Option<BorrowedFd<'_>>,
    ) {
        let fds: Vec<_> = terminal.into_iter().collect();
        self.tell(&Message::Ready { spans, warnings }, &fds);
    }

    pub(crate) fn at_hooks(&self) {
        self.tell(&Message::AtHooks, &[]);
    }

    pub(crate) fn failed(&self, error: LaunchError) {
        self.tell(&Message::Failed(error), &[]);
    }

    fn tell(&self, message: &Message, fds: &[BorrowedFd<'_>]) {
        // What cannot be told cannot be helped either; the parent sees the end of the stream.
        if let Ok(bytes) = serde_json::to_vec(message) {
            let _ = sys::send(self.0.as_fd(), &bytes, fds);
        }
    }
}

/// How a child ends that nobody waits for any more.
const ABANDONED: i32 = 125;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_arrives_as_it_was_told() {
        let (ours, childs) = pair().unwrap();
        let spans = vec![Span { phase: Phase::Root, start_us: 1, took_us: 2 }];
        childs.ready(spans.clone(), vec!["w".into()], Some(childs.0.as_fd()));
        let Report::Ready { spans: got, warnings, terminal } = ours.report() else {
            panic!("not ready")
        };
        assert_eq!((got, warnings.len(), terminal.is_some()), (spans, 1, true));
        drop(terminal);
        let error = Failure::new("mount /x", "no").during(Phase::Mounts);
        childs.failed(error.clone());
        assert!(matches!(ours.report(), Report::Failed(e) if e == error));
        drop(childs);
        assert!(matches!(ours.report(), Report::Executed));
        assert!(ours.start().is_err());
    }

    #[test]
    fn a_failure_is_told_also_by_a_child_that_has_not_read_its_orders() {
        let (ours, childs) = pair().unwrap();
        ours.order(Order::Joined).unwrap();
        childs.failed(Failure::new("mount /x", "no").during(Phase::Mounts));
        drop(childs);
        assert!(matches!(ours.try_report(), Some(Report::Failed(_))));
        assert!(matches!(ours.try_report(), Some(Report::Executed)));
    }

    #[test]
    fn the_longest_failure_still_fits_a_message() {
        let (ours, childs) = pair().unwrap();
        let error = Failure::new("\u{1}".repeat(100_000), "why").during(Phase::Exec);
        childs.failed(error);
        let Report::Failed(got) = ours.report() else { panic!("not failed") };
        assert_eq!(got.phase, Phase::Exec);
        assert_eq!(got.message.len(), 4096);
    }
}
