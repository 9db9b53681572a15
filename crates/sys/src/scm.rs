//! Messages with descriptors over unix sockets (unix(7), SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// How many descriptors one message carries at the most.
pub const MAX_PASSED_FDS: usize = 8;

const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_PASSED_FDS));

/// Sends some of `bytes` and all of `fds` with the first of them; returns how many bytes went.
///
/// # Errors
/// What sendmsg(2) says; more than [`MAX_PASSED_FDS`] descriptors are refused as InvalidInput.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if fds.len() > MAX_PASSED_FDS
        || (!fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)))
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many descriptors for one message",
        ));
    }
    let iov = [IoSlice::new(bytes)];
    Ok(rustix::net::sendmsg(socket, &iov, &mut control, SendFlags::NOSIGNAL)?)
}

/// Receives some bytes into `buffer` and appends the descriptors that come with them to `fds`;
/// 0 bytes mean that the other side is gone. The descriptors are close-on-exec.
///
/// # Errors
/// What recvmsg(2) says.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [IoSliceMut::new(buffer)];
    let message = rustix::net::recvmsg(socket, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for ancillary in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = ancillary {
            fds.extend(received);
        }
    }
    Ok(message.bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_descriptor_arrives_with_the_bytes_and_is_close_on_exec() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut left, right) = UnixStream::pair().unwrap();
        assert_eq!(send(a.as_fd(), b"hello", &[right.as_fd()]).unwrap(), 5);
        let (mut buffer, mut fds) = ([0; 16], Vec::new());
        assert_eq!(receive(b.as_fd(), &mut buffer, &mut fds).unwrap(), 5);
        assert_eq!(&buffer[..5], b"hello");
        let passed = fds.pop().unwrap();
        assert!(rustix::io::fcntl_getfd(&passed).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        UnixStream::from(passed).write_all(b"x").unwrap();
        drop(right);
        let mut got = String::new();
        left.read_to_string(&mut got).unwrap();
        assert_eq!(got, "x");
    }

    #[test]
    fn too_many_descriptors_are_refused() {
        let (a, _b) = UnixStream::pair().unwrap();
        let fds = [a.as_fd(); MAX_PASSED_FDS + 1];
        assert_eq!(send(a.as_fd(), b"x", &fds).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
