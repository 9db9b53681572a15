//! Whether a process of this machine listens on a port: rules of ours would take its connections away.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use model::{PortMapping, Protocol};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};

/// Whether somebody listens there.
///
/// # Errors
/// Sockets that cannot be made.
pub(crate) fn listens(port: &PortMapping) -> io::Result<bool> {
    let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let addresses = port.host_ip.map_or_else(|| any.to_vec(), |ip| vec![ip]);
    for address in addresses {
        match try_to_bind(port, address) {
            // An outgoing connection may have the number too, which hinders nobody: the table tells them apart.
            Err(Errno::ADDRINUSE) if in_table(port, address)? => return Ok(true),
            // No such protocol or family here, so nobody listens; or an address that is not here yet.
            Ok(())
            | Err(
                Errno::ADDRINUSE
                | Errno::AFNOSUPPORT
                | Errno::PROTONOSUPPORT
                | Errno::SOCKTNOSUPPORT
                | Errno::ADDRNOTAVAIL,
            ) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(false)
}

/// The quick question, which costs the same however many sockets there are.
fn try_to_bind(port: &PortMapping, address: IpAddr) -> rustix::io::Result<()> {
    let (kind, protocol) = match port.protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if port.protocol != Protocol::Udp {
        // Connections that have ended do not count.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(address, port.host_port))
}

/// Whether the kernel's table of sockets has one that waits for anybody there.
fn in_table(port: &PortMapping, address: IpAddr) -> io::Result<bool> {
    let names = match port.protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        // Its table is of another form; that the port is bound is enough.
        Protocol::Sctp => return Ok(true),
    };
    for name in names {
        match std::fs::read_to_string(format!("/proc/thread-self/net/{name}")) {
            Ok(table) if waits(&table, port.protocol, address, port.host_port) => return Ok(true),
            Ok(_) => {}
            // A kernel without this family.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

/// Whether a line of this table, as proc_pid_net(5) describes it, waits for anybody at this address and port.
fn waits(table: &str, protocol: Protocol, address: IpAddr, port: u16) -> bool {
    // TCP_LISTEN; and TCP_CLOSE, which a UDP socket has that is connected to nobody.
    let state = if protocol == Protocol::Tcp { "0A" } else { "07" };
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, is_state) = (fields.next(), fields.nth(1) == Some(state));
        let local = local.and_then(socket_of).filter(|_| is_state);
        local.is_some_and(|(at, number)| {
            number == port && (at.is_unspecified() || address.is_unspecified() || at == address)
        })
    })
}

/// An address and a port as that table writes them: words in the order of this machine, then the number.
fn socket_of(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok();
    let octets = |at: usize| word(at).map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => IpAddr::from(octets(0)?),
        32 => {
            let mut all = [0; 16];
            for at in 0..4 {
                all[at * 4..at * 4 + 4].copy_from_slice(&octets(at)?);
            }
            let v6 = Ipv6Addr::from(all);
            v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
        }
        _ => return None,
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn mapping(protocol: Protocol, address: SocketAddr) -> PortMapping {
        PortMapping {
            protocol,
            container_port: 80,
            host_port: address.port(),
            host_ip: Some(address.ip()),
        }
    }

    #[test]
    fn who_listens_is_found_and_who_has_connected_from_the_port_is_not() {
        for place in ["127.0.0.1:0", "[::1]:0"] {
            let server = TcpListener::bind(place).unwrap();
            let at = server.local_addr().unwrap();
            assert!(listens(&mapping(Protocol::Tcp, at)).unwrap(), "{at}");
            let everywhere = PortMapping { host_ip: None, ..mapping(Protocol::Tcp, at) };
            assert!(listens(&everywhere).unwrap(), "{at}");
            let client = TcpStream::connect(at).unwrap();
            let from = client.local_addr().unwrap();
            assert!(!listens(&mapping(Protocol::Tcp, from)).unwrap(), "{from}");
            let socket = UdpSocket::bind(place).unwrap();
            let at = socket.local_addr().unwrap();
            assert!(listens(&mapping(Protocol::Udp, at)).unwrap(), "{at}");
            socket.connect(at).unwrap();
            assert!(!listens(&mapping(Protocol::Udp, at)).unwrap(), "{at} speaks with one only");
        }
    }

    #[test]
    fn garbage_in_the_table_is_nobody() {
        let address = IpAddr::from([127, 0, 0, 1]);
        for line in ["", "x", "0: 0100007F:0050 0:0", "0: 0100:0050 0:0 0A", "0: zz:zz 0:0 0A"] {
            let table = format!("head\n{line}\n");
            assert!(!waits(&table, Protocol::Tcp, address, 80), "{line:?}");
        }
        let native = u32::from_ne_bytes([127, 0, 0, 1]);
        let table = format!("head\n 0: {native:08X}:0050 00000000:0000 0A 0 0\n");
        assert!(waits(&table, Protocol::Tcp, address, 80));
    }
}
