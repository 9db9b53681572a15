//! A netlink socket: requests and their answers.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::netlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

use super::message::{Attributes, HEADER, Message, flag};

/// The kernel answers while the request is being sent; only a fault makes this pass.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Dumps come in pieces of at most 32 KiB.
const BUFFER: usize = 32 * 1024;

const KIND_ERROR: u16 = 2;
const KIND_DONE: u16 = 3;
const FLAG_TLVS: u16 = 0x200;
const FLAG_MULTI: u16 = 0x2;
const ERROR_TEXT: u16 = 1;

/// A request of several that the kernel refused.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Which one, counted from 0; those before were done.
    pub(crate) index: usize,
    /// Why.
    pub(crate) source: io::Error,
}

/// A netlink socket. It speaks for the network namespace that it was made in, from any thread.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// A message of an answer.
struct Answer<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl Socket {
    fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let fd =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        set_socket_timeout(&fd, Timeout::Recv, Some(TIMEOUT))?;
        sys::netlink_errors_with_words(fd.as_fd())?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// A socket for links, addresses, routes and queueing disciplines.
    pub(crate) fn route() -> io::Result<Self> {
        // NETLINK_ROUTE is protocol 0.
        Self::open(None)
    }

    /// A socket for nf_tables.
    pub(crate) fn netfilter() -> io::Result<Self> {
        Self::open(Some(netlink::NETFILTER))
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = retry_on_intr(|| send(&self.fd, bytes, SendFlags::empty()))?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(io::Error::other("a netlink request was cut"))
        }
    }

    /// Sends the requests at once and waits for the answer of each.
    pub(crate) fn all(&mut self, requests: Vec<Message>) -> Result<(), Failed> {
        let count = requests.len();
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(256 * count);
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend_from_slice(&request.finish(self.sequence, true));
        }
        let broken = |source| Failed { index: 0, source };
        self.send(&bytes).map_err(broken)?;
        let mut left = count;
        let mut failed: Option<Failed> = None;
        while left > 0 {
            self.receive(|answer| {
                let index = answer.sequence.wrapping_sub(first) as usize;
                if answer.kind == KIND_ERROR && index < count {
                    left = left.saturating_sub(1);
                    if let Err(source) = verdict(&answer)
                        && failed.as_ref().is_none_or(|f| f.index > index)
                    {
                        failed = Some(Failed { index, source });
                    }
                }
            })
            .map_err(broken)?;
        }
        failed.map_or(Ok(()), Err)
    }

    /// Sends one request and waits for its answer.
    pub(crate) fn one(&mut self, request: Message) -> io::Result<()> {
        self.all(vec![request]).map_err(|failed| failed.source)
    }

    /// The payloads that the kernel answers to this request: one, or all of a dump.
    pub(crate) fn ask(&mut self, request: Message) -> io::Result<Vec<Vec<u8>>> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let bytes = request.finish(sequence, false);
        let dump = u16::from_ne_bytes([bytes[6], bytes[7]]) & flag::DUMP == flag::DUMP;
        self.send(&bytes)?;
        let mut payloads = Vec::new();
        let mut end: Option<io::Result<()>> = None;
        while end.is_none() {
            self.receive(|answer| {
                if answer.sequence != sequence || end.is_some() {
                    return;
                }
                match answer.kind {
                    KIND_ERROR => end = Some(verdict(&answer)),
                    KIND_DONE => end = Some(Ok(())),
                    _ => {
                        payloads.push(answer.payload.to_vec());
                        if !dump && answer.flags & FLAG_MULTI == 0 {
                            end = Some(Ok(()));
                        }
                    }
                }
            })?;
        }
        end.unwrap_or(Ok(())).map(|()| payloads)
    }

    /// Sends one batch of netfilter messages, which the kernel does as a whole or not at all. The
    /// index of a failure counts the messages between the batch's begin and end.
    pub(crate) fn batch(
        &mut self,
        begin: Message,
        middle: Vec<Message>,
        end: Message,
    ) -> Result<(), Failed> {
        let broken = |source| Failed { index: 0, source };
        let first = self.sequence.wrapping_add(2);
        let count = middle.len();
        let mut bytes = Vec::with_capacity(256 * (count + 2));
        let mut put = |message: Message, ack: bool, sequence: &mut u32| {
            *sequence = sequence.wrapping_add(1);
            bytes.extend_from_slice(&message.finish(*sequence, ack));
        };
        put(begin, false, &mut self.sequence);
        for message in middle {
            put(message, true, &mut self.sequence);
        }
        put(end, false, &mut self.sequence);
        self.send(&bytes).map_err(broken)?;
        let mut left = count;
        let mut failed: Option<Failed> = None;
        while left > 0 && failed.is_none() {
            self.receive(|answer| {
                if answer.kind != KIND_ERROR {
                    return;
                }
                let index = answer.sequence.wrapping_sub(first) as usize;
                // An answer to the begin message (index wraps) is a refusal of the whole batch.
                left = left.saturating_sub(1);
                if let Err(source) = verdict(&answer)
                    && failed.is_none()
                {
                    failed = Some(Failed { index: index.min(count), source });
                }
            })
            .map_err(broken)?;
        }
        failed.map_or(Ok(()), |failed| {
            self.drain();
            Err(failed)
        })
    }

    /// Takes what is left of an answer that ended early, so that the next one does not read it.
    fn drain(&mut self) {
        while recv(&self.fd, &mut self.buffer[..], RecvFlags::DONTWAIT).is_ok() {}
    }

    fn receive(&mut self, mut each: impl FnMut(Answer<'_>)) -> io::Result<()> {
        // With a timeout set, a signal (SIGCHLD of a plugin) interrupts even where handlers ask for restarts.
        let (_, length) = retry_on_intr(|| recv(&self.fd, &mut self.buffer[..], RecvFlags::TRUNC))?;
        let Some(mut rest) = self.buffer.get(..length) else {
            return Err(io::Error::other("a netlink answer is longer than 32 KiB"));
        };
        while let Some(header) = rest.first_chunk::<HEADER>() {
            let word = |at: usize| {
                u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
            };
            let length = word(0) as usize;
            let Some(payload) = rest.get(HEADER..length) else { break };
            each(Answer {
                kind: u16::from_ne_bytes([header[4], header[5]]),
                flags: u16::from_ne_bytes([header[6], header[7]]),
                sequence: word(8),
                payload,
            });
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

/// What an NLMSG_ERROR says: nothing wrong, or an error with the kernel's words.
fn verdict(answer: &Answer<'_>) -> io::Result<()> {
    let code = answer.payload.first_chunk().map_or(-5, |code| i32::from_ne_bytes(*code));
    if code == 0 {
        return Ok(());
    }
    let error = io::Error::from_raw_os_error(code.saturating_neg());
    // struct nlmsgerr: the code, then the header of the request (NETLINK_CAP_ACK).
    let words = (answer.flags & FLAG_TLVS != 0)
        .then(|| Attributes::after(answer.payload, 4 + HEADER).text(ERROR_TEXT))
        .flatten();
    Err(match words {
        Some(words) => Worded { words: words.to_owned(), number: error }.into(),
        None => error,
    })
}

/// An error number with the kernel's words.
#[derive(Debug, thiserror::Error)]
#[error("{number}: {words}")]
struct Worded {
    words: String,
    number: io::Error,
}

impl From<Worded> for io::Error {
    fn from(worded: Worded) -> Self {
        // The number must stay readable, callers decide by it.
        let kind = worded.number.kind();
        Self::new(kind, worded)
    }
}

/// The error number in an error of this module.
pub(crate) fn errno(error: &io::Error) -> Option<i32> {
    error.raw_os_error().or_else(|| {
        error.get_ref()?.downcast_ref::<Worded>().and_then(|worded| worded.number.raw_os_error())
    })
}
