//! Where bytes come from that are carried to a peer.

use std::fmt;
use std::io;
use std::os::fd::AsFd as _;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::unix::pipe;

use super::held::{Held, enlarge};

/// What is read first; a source that fills it is busy.
const LEAST: usize = 4 << 10;
/// What is read at once of a busy source whose bytes have to be copied.
const COPIED: usize = 64 << 10;

enum From {
    Pipe(pipe::Receiver),
    Tcp(OwnedReadHalf),
    Any(Box<dyn AsyncRead + Send + Unpin>),
}

/// Bytes that are carried to a peer: those of a pipe and of a TCP connection without being copied, where the
/// peer is reached by plain TCP, too.
pub struct Source {
    from: From,
    pub(crate) held: Held,
    is_busy: bool,
    can_splice: bool,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Source {
    /// What comes out of a pipe. A busy one is enlarged.
    #[must_use]
    pub fn pipe(pipe: pipe::Receiver) -> Self {
        Self::new(From::Pipe(pipe), true)
    }

    /// What comes on a TCP connection.
    #[must_use]
    pub fn tcp(socket: OwnedReadHalf) -> Self {
        Self::new(From::Tcp(socket), true)
    }

    /// What comes from anything else.
    pub fn any(reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self::new(From::Any(Box::new(reader)), false)
    }

    fn new(from: From, can_splice: bool) -> Self {
        Self { from, held: Held::default(), is_busy: false, can_splice }
    }

    /// Takes what there is, and waits until there is something; how many bytes are held then, none at the end. A
    /// caller that does not wait for it loses nothing. `splices` tells whether pages can be handed on.
    pub(crate) async fn take(&mut self, splices: bool) -> io::Result<usize> {
        if self.held.len() > 0 {
            return Ok(self.held.len());
        }
        if self.is_busy
            && splices
            && self.can_splice
            && self.held.has_pipe()
            && let Some(count) = self.spliced().await?
        {
            self.is_busy = count >= LEAST;
            return Ok(count);
        }
        let count = self.read().await?;
        let size = self.held.bytes.len();
        if count == size && !self.is_busy {
            self.is_busy = true;
            if let From::Pipe(pipe) = &self.from {
                enlarge(pipe);
            }
        } else if count < LEAST {
            self.is_busy = false;
        }
        self.held.filled = count;
        Ok(count)
    }

    /// Takes pages; `None` where there are none to be had.
    async fn spliced(&mut self) -> io::Result<Option<usize>> {
        loop {
            let held = &mut self.held;
            let done = match &self.from {
                From::Pipe(pipe) => {
                    pipe.readable().await?;
                    pipe.try_io(|| held.splice_from(pipe.as_fd()))
                }
                From::Tcp(socket) => {
                    let socket = socket.as_ref();
                    socket.readable().await?;
                    let interest = tokio::io::Interest::READABLE;
                    socket.try_io(interest, || held.splice_from(socket.as_fd()))
                }
                From::Any(_) => return Ok(None),
            };
            match done {
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // What these descriptors are does not take part in it.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.can_splice = false;
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        let wanted = if self.is_busy { COPIED } else { LEAST };
        let bytes = &mut self.held.bytes;
        // Where it can be known that something has come, nothing is kept for it before.
        match &self.from {
            From::Pipe(pipe) => pipe.readable().await?,
            From::Tcp(socket) => socket.readable().await?,
            From::Any(_) => {}
        }
        if bytes.len() != wanted {
            *bytes = vec![0; wanted];
        }
        match &mut self.from {
            From::Pipe(pipe) => pipe.read(bytes).await,
            From::Tcp(socket) => socket.read(bytes).await,
            From::Any(reader) => reader.read(bytes).await,
        }
    }
}
