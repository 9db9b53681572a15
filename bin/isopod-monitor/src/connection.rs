//! A daemon that is connected.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use monitor_api::{BadFrame, Decoder, FromMonitor, Refusal, Reply, ToMonitor, encode};
use rustix::io::Errno;

use crate::poller::{Key, Poller, Source};

/// Bytes that may wait for a daemon that does not read. One that lets more pile up is cut off; when it
/// connects again it asks for everything.
const MOST_WAITING: usize = 4 << 20;
const READ_SIZE: usize = 16 << 10;
/// Descriptors that may have come ahead of the message that they belong to.
const MOST_FDS: usize = 64;

/// A message that waits, or a part of it.
#[derive(Debug)]
struct Waiting {
    bytes: Vec<u8>,
    sent: usize,
    /// They go with the first byte.
    fds: Vec<OwnedFd>,
}

/// A connection and what is under way on it.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    key: Key,
    decoder: Decoder,
    fds: Vec<OwnedFd>,
    waiting: VecDeque<Waiting>,
}

/// What a connection had to say.
#[derive(Debug)]
pub enum Incoming {
    /// A request and its descriptors.
    Request(ToMonitor, Vec<OwnedFd>),
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
        Ok(Self {
            socket,
            key,
            decoder: Decoder::default(),
            fds: Vec::new(),
            waiting: VecDeque::new(),
        })
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
                match self.decoder.take::<ToMonitor>() {
                    Ok(Some(request)) => {
                        let fds = self.take_fds(request.fds)?;
                        incoming.push(Incoming::Request(request, fds));
                    }
                    Ok(None) => break,
                    Err(BadFrame::Unknown { id: Some(id), fds, why }) => {
                        drop(self.take_fds(fds)?);
                        incoming.push(Incoming::Unknown(id, why.to_string()));
                    }
                    Err(error) => return Err(Gone(error.to_string())),
                }
            }
            if self.fds.len() > MOST_FDS {
                return Err(Gone(format!("{} descriptors belong to no message", self.fds.len())));
            }
        }
    }

    /// The next `count` descriptors, which came before the last byte of the message that announces them.
    fn take_fds(&mut self, count: u32) -> Result<Vec<OwnedFd>, Gone> {
        match usize::try_from(count) {
            Ok(count) if self.fds.len() >= count => Ok(self.fds.drain(..count).collect()),
            Ok(_) | Err(_) => Err(Gone(format!("{count} descriptors were to come, and did not"))),
        }
    }

    pub fn reply(
        &mut self,
        poller: &Poller,
        id: u64,
        result: Result<Reply, Refusal>,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Gone> {
        let count = u32::try_from(fds.len()).unwrap_or(u32::MAX);
        self.send(poller, &FromMonitor::Reply { id, fds: count, result }, fds)
    }

    /// Sends a message, or as much of it as goes; the rest waits for room.
    pub fn send(
        &mut self,
        poller: &Poller,
        message: &FromMonitor,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Gone> {
        let bytes = encode(message).map_err(|e| Gone(e.to_string()))?;
        let had_waiting = !self.waiting.is_empty();
        self.waiting.push_back(Waiting { bytes, sent: 0, fds });
        if !had_waiting {
            self.flush(poller)?;
        }
        let waiting: usize = self.waiting.iter().map(|w| w.bytes.len() - w.sent).sum();
        if waiting > MOST_WAITING {
            return Err(Gone(format!("{waiting} bytes wait for it")));
        }
        Ok(())
    }

    /// Writes what waits.
    pub fn flush(&mut self, poller: &Poller) -> Result<(), Gone> {
        while let Some(first) = self.waiting.front_mut() {
            let fds: Vec<_> = first.fds.iter().map(AsFd::as_fd).collect();
            match sys::send(self.socket.as_fd(), &first.bytes[first.sent..], &fds) {
                Ok(count) => {
                    first.sent += count;
                    first.fds = Vec::new();
                    if first.sent == first.bytes.len() {
                        self.waiting.pop_front();
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.raw_os_error() == Some(Errno::INTR.raw_os_error()) => {}
                Err(e) => return Err(Gone(e.to_string())),
            }
        }
        let wanted = !self.waiting.is_empty();
        if !wanted {
            self.waiting = VecDeque::new();
        }
        poller
            .set_writable(&self.socket, Source::Connection(self.key), wanted)
            .map_err(|e| Gone(e.to_string()))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
