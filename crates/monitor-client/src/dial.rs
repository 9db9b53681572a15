//! Connections into a pod's network namespace.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use monitor_api::{Reply, Request};
use tokio::net::{TcpSocket, TcpStream};

use crate::connection::{Monitor, nonsense};
use crate::error::MonitorError;

impl Monitor {
    /// Connects to `port` of the pod's loopback interface, IPv4 first, then IPv6, and waits at most
    /// `patience` for each.
    ///
    /// The monitor makes the sockets, which stay in the pod's network namespace wherever they are used.
    ///
    /// # Errors
    /// [`MonitorError::Dial`] with the failure of the last attempt.
    pub async fn dial(&self, port: u16, patience: Duration) -> Result<TcpStream, MonitorError> {
        let (Reply::Sockets, fds) = self.call_for_fds(Request::Sockets, &[]).await? else {
            return Err(nonsense("make sockets"));
        };
        let addresses: [SocketAddr; 2] =
            [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()];
        let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for (fd, address) in fds.into_iter().zip(addresses) {
            match tokio::time::timeout(patience, connect(fd, address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failed = error,
                Err(_) => failed = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(MonitorError::Dial { port, source: failed })
    }
}

async fn connect(fd: OwnedFd, address: SocketAddr) -> io::Result<TcpStream> {
    TcpSocket::from_std_stream(std::net::TcpStream::from(fd)).connect(address).await
}
