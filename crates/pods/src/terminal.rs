//! The controlling end of a terminal, as byte streams.
//!
//! Owns: one descriptor, shared by whoever reads, writes and sizes it. Always: the last of them to be
//! dropped closes it, and the kernel hangs up (tty(4)); a terminal that nobody has open any more is at its
//! end, not an error. Callers: exec, and attach to a container that has a terminal.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use monitor_client::api::TerminalSize;
use monitor_client::resize_terminal;
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A share in a terminal. One of them may be read at a time, and one be written.
#[derive(Debug, Clone)]
pub struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    /// The terminal whose controlling end this is. It does not block from here on: a thread that waits for
    /// it would be one that the daemon is missing.
    #[expect(
        deprecated,
        reason = "the safe way in: an OwnedFd is one descriptor until it is dropped, which is what the \
                  unsafe way asks to be promised"
    )]
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self(Arc::new(AsyncFd::new(fd)?)))
    }

    /// Changes its size; whoever is in its foreground gets SIGWINCH.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn resize(&self, size: TerminalSize) -> io::Result<()> {
        resize_terminal(self.0.as_fd(), size)
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            let read = ready.try_io(|fd| Ok(rustix::io::read(fd, out.initialize_unfilled())?));
            match read {
                Ok(Ok(count)) => {
                    out.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // Its last process is gone.
                Ok(Err(e)) if e.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            match ready.try_io(|fd| Ok(rustix::io::write(fd, bytes)?)) {
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => return Poll::Ready(written),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// A terminal has no half that could be closed.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{OptionalActions, tcgetattr, tcgetwinsize, tcsetattr};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn pair() -> (Terminal, File) {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let controller = controller.unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap();
        let open = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let user = rustix::fs::open(&name, open, rustix::fs::Mode::empty()).unwrap();
        let mut raw = tcgetattr(&user).unwrap();
        raw.make_raw();
        tcsetattr(&user, OptionalActions::Now, &raw).unwrap();
        (Terminal::new(controller).unwrap(), File::from(user))
    }

    #[tokio::test]
    async fn bytes_go_both_ways_until_the_last_process_is_gone() {
        let (mut terminal, mut user) = pair();
        terminal.write_all(b"typed").await.unwrap();
        let mut typed = [0; 5];
        user.read_exact(&mut typed).unwrap();
        assert_eq!(&typed, b"typed");
        terminal.resize(TerminalSize { width: 100, height: 30 }).unwrap();
        let size = tcgetwinsize(&user).unwrap();
        assert_eq!((size.ws_col, size.ws_row), (100, 30));
        user.write_all(b"shown").unwrap();
        drop(user);
        let mut shown = Vec::new();
        terminal.read_to_end(&mut shown).await.unwrap();
        assert_eq!(shown, b"shown");
    }

    #[tokio::test]
    async fn the_last_share_that_is_dropped_hangs_up() {
        let (terminal, mut user) = pair();
        let other = terminal.clone();
        drop(terminal);
        user.write_all(b"x").unwrap();
        drop(other);
        assert!(user.write_all(b"x").is_err());
    }
}
