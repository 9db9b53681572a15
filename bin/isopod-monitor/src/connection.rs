//! A daemon that is connected.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use monitor_api::{BadFrame, Decoder, FromMonitor, Refusal, Reply, ToMonitor, encode};
use rustix::io::Errno;

use crate::poller::{Key, Poller, Source};

/// Bytes that may wait for a daemon that does not read. One that lets more pile up is cut off; when it
/// connects again it asks for everything.
const MOST_WAITING: usize = 4 << 20;
const READ_SIZE: usize = 16 << 10;

/// A connection and what is under way on it.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    key: Key,
    decoder: Decoder,
    fds: Vec<OwnedFd>,
    waiting: Vec<u8>,
}

/// What a connection had to say.
#[derive(Debug)]
pub enum Incoming {
    /// A request.
    Request(ToMonitor),
    /// A request that this version does not know, by its number.
    Unknown(u64, String),
}

/// The connection is of no use any more.
#[derive(Debug)]
pub struct Gone(pub String);

impl Connection {
    pub fn new(socket: OwnedFd, key: Key, poller: &Poller) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        poller.add(&socket, Source::Connection(key))?;
        Ok(Self { socket, key, decoder: Decoder::default(), fds: Vec::new(), waiting: Vec::new() })
    }

    /// Reads what there is.
    pub fn read(&mut self) -> Result<Vec<Incoming>, Gone> {
        let mut buffer = [0; READ_SIZE];
        let mut incoming = Vec::new();
        loop {
            match sys::receive(self.socket.as_fd(), &mut buffer, &mut self.fds) {
                Ok(0) => return Err(Gone("the daemon has closed it".to_owned())),
                Ok(count) => self.decoder.push(&buffer[..count]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(incoming),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Gone(e.to_string())),
            }
            loop {
                match self.decoder.take() {
                    Ok(Some(request)) => incoming.push(Incoming::Request(request)),
                    Ok(None) => break,
                    Err(BadFrame::Unknown { id: Some(id), why }) => {
                        incoming.push(Incoming::Unknown(id, why.to_string()));
                    }
                    Err(error) => return Err(Gone(error.to_string())),
                }
            }
        }
    }

    /// The next `count` descriptors that came, if so many have come.
    pub fn take_fds(&mut self, count: usize) -> Option<Vec<OwnedFd>> {
        (self.fds.len() >= count).then(|| self.fds.drain(..count).collect())
    }

    pub fn reply(&mut self, poller: &Poller, id: u64, result: Result<Reply, Refusal>) -> Result<(), Gone> {
        self.send(poller, &FromMonitor::Reply { id, result })
    }

    /// Sends a message, or as much of it as goes; the rest waits for room.
    pub fn send(&mut self, poller: &Poller, message: &FromMonitor) -> Result<(), Gone> {
        let bytes = encode(message).map_err(|e| Gone(e.to_string()))?;
        let had_waiting = !self.waiting.is_empty();
        self.waiting.extend_from_slice(&bytes);
        if !had_waiting {
            self.flush(poller)?;
        }
        if self.waiting.len() > MOST_WAITING {
            return Err(Gone(format!("{} bytes wait for it", self.waiting.len())));
        }
        Ok(())
    }

    /// Writes what waits.
    pub fn flush(&mut self, poller: &Poller) -> Result<(), Gone> {
        let mut sent = 0;
        while sent < self.waiting.len() {
            match sys::send(self.socket.as_fd(), &self.waiting[sent..], &[]) {
                Ok(count) => sent += count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.raw_os_error() == Some(Errno::INTR.raw_os_error()) => {}
                Err(e) => return Err(Gone(e.to_string())),
            }
        }
        self.waiting.drain(..sent);
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
        let wanted = !self.waiting.is_empty();
        poller.set_writable(&self.socket, Source::Connection(self.key), wanted).map_err(|e| Gone(e.to_string()))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
