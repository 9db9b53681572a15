//! The connections of one socket.
//!
//! Owns: how many there are, and how long one may take to begin. Always: there is room for a new one: where
//! there is none left, the process that has the most connections loses its oldest one without a call, else
//! its oldest one; so whoever opens a thousand only hurts itself.

use std::collections::{BTreeMap, HashMap};
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use cri_server::Peer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::time::Sleep;
use tonic::transport::server::Connected;

/// After an accept that failed, for example for want of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Who opens too many does so quickly, and must not fill the log.
const SAY_AGAIN: Duration = Duration::from_secs(10);
/// What every HTTP/2 connection begins with (RFC 9113, 3.4).
const PREFACE_BYTES: usize = 24;

/// All of one socket.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    handshake: Duration,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    last: u64,
    all: BTreeMap<u64, Entry>,
    /// When it was said last that there are too many.
    said: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    peer: Peer,
    close: oneshot::Sender<()>,
}

impl Connections {
    /// At most `most`; each has `handshake` to begin.
    pub fn new(most: usize, handshake: Duration) -> Arc<Self> {
        Arc::new(Self { most, handshake, open: Mutex::default() })
    }

    /// Those of `listener`, for ever: an accept that fails is tried again.
    pub fn accept(
        self: Arc<Self>,
        listener: UnixListener,
    ) -> impl futures_util::Stream<Item = Result<Connection, io::Error>> {
        futures_util::stream::unfold((self, listener), |(connections, listener)| async {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        if let Some(connection) = connections.admit(stream) {
                            return Some((Ok(connection), (connections, listener)));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                }
            }
        })
    }

    /// Takes `stream` up; `None` where every process has but one connection and there is no room.
    fn admit(self: &Arc<Self>, stream: UnixStream) -> Option<Connection> {
        let credentials = stream.peer_cred().ok();
        let pid = credentials.as_ref().and_then(tokio::net::unix::UCred::pid);
        let peer = Peer::new(pid, credentials.map(|known| known.uid()));
        let (close, closed) = oneshot::channel();
        let mut open = self.open();
        if open.all.len() >= self.most {
            let all = open.all.iter().map(|(id, entry)| (*id, entry.peer.pid, entry.peer.calls()));
            let victim = victim(all);
            if open.said.is_none_or(|said| said.elapsed() > SAY_AGAIN) {
                open.said = Some(Instant::now());
                tracing::warn!(most = self.most, ?pid, "too many connections; some are closed");
            }
            let entry = open.all.remove(&victim?)?;
            // One that is just ending needs no word.
            let _ = entry.close.send(());
        }
        open.last += 1;
        let id = open.last;
        open.all.insert(id, Entry { peer: peer.clone(), close });
        drop(open);
        let place = Place { connections: Arc::clone(self), id };
        let begins = Box::pin(tokio::time::sleep(self.handshake));
        Some(Connection {
            stream,
            peer,
            closed,
            is_over: false,
            begins: Some(begins),
            got: 0,
            _place: place,
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Whole between any two statements.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which of these (number, process, open calls) has to go.
fn victim(all: impl Iterator<Item = (u64, Option<i32>, usize)>) -> Option<u64> {
    let mut by_process: HashMap<Option<i32>, Vec<(bool, u64)>> = HashMap::new();
    for (id, pid, calls) in all {
        by_process.entry(pid).or_default().push((calls > 0, id));
    }
    let most = by_process.into_values().max_by_key(Vec::len)?;
    // One that has a single connection, as all others then have, keeps it.
    (most.len() > 1).then(|| most.into_iter().min()).flatten().map(|(_, id)| id)
}

/// A connection's place; given back when it ends.
#[derive(Debug)]
struct Place {
    connections: Arc<Connections>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().all.remove(&self.id);
    }
}

/// A connection, as the server sees it.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    peer: Peer,
    closed: oneshot::Receiver<()>,
    is_over: bool,
    /// Runs until the beginning is there.
    begins: Option<Pin<Box<Sleep>>>,
    got: usize,
    _place: Place,
}

impl Connection {
    /// Why nothing more is read and written, if so.
    fn end(&mut self, context: &mut Context<'_>) -> Option<io::Error> {
        if !self.is_over {
            self.is_over = Pin::new(&mut self.closed).poll(context).is_ready();
        }
        if self.is_over {
            self.peer.ended();
            return Some(io::Error::new(io::ErrorKind::ConnectionAborted, "made room for others"));
        }
        let late =
            self.begins.as_mut().is_some_and(|sleep| sleep.as_mut().poll(context).is_ready());
        if late {
            self.is_over = true;
            self.peer.ended();
            return Some(io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 connection was begun"));
        }
        None
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(error) = self.end(context) {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let got = buffer.filled().len() - before;
        match &polled {
            Poll::Ready(Ok(())) if got > 0 => self.peer.heard(),
            // The other end has closed it, or is gone.
            Poll::Ready(_) => self.peer.ended(),
            Poll::Pending => {}
        }
        if self.begins.is_some() {
            self.got += got;
            if self.got >= PREFACE_BYTES {
                self.begins = None;
            }
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.end(context) {
            Some(error) => Poll::Ready(Err(error)),
            None => {
                let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
                if matches!(polled, Poll::Ready(Err(_))) {
                    self.peer.ended();
                }
                polled
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.end(context) {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut self.stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[test]
    fn the_process_with_the_most_loses_one_that_is_idle_else_its_oldest() {
        for (all, want) in [
            (&[(1, 7, 1), (2, 8, 0), (3, 8, 0)][..], Some(2)),
            (&[(1, 7, 0), (2, 8, 1), (3, 8, 0)], Some(3)),
            (&[(1, 7, 0), (2, 8, 2), (3, 8, 1)], Some(2)),
            (&[(1, 7, 0), (2, 8, 0)], None),
            (&[], None),
        ] {
            let given = all.iter().map(|(id, pid, calls)| (*id, Some(*pid), *calls));
            assert_eq!(victim(given), want, "{all:?}");
        }
    }

    fn pair(connections: &Arc<Connections>) -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (connections.admit(ours).unwrap(), theirs)
    }

    #[tokio::test]
    async fn past_the_bound_the_oldest_makes_room() {
        let connections = Connections::new(2, Duration::from_secs(600));
        let (mut first, _a) = pair(&connections);
        let (_second, _b) = pair(&connections);
        let (_third, _c) = pair(&connections);
        let ended = first.read_u8().await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(connections.open().all.len(), 2);
        drop((first, _second, _third));
        assert!(connections.open().all.is_empty());
    }

    #[tokio::test]
    async fn a_connection_that_never_begins_ends() {
        let connections = Connections::new(2, Duration::ZERO);
        let (mut silent, _theirs) = pair(&connections);
        let ended = silent.read_u8().await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn one_that_has_begun_may_be_silent() {
        use tokio::io::AsyncWriteExt as _;
        let connections = Connections::new(2, Duration::from_secs(600));
        let (mut begun, mut theirs) = pair(&connections);
        theirs.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut preface = [0; PREFACE_BYTES];
        begun.read_exact(&mut preface).await.unwrap();
        assert!(begun.begins.is_none());
    }
}
