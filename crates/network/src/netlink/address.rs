//! Addresses of links (rtnetlink(7), linux/if_addr.h).

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use super::message::{Attributes, Message, flag};
use super::socket::Socket;
use super::{AF_INET, AF_INET6};

const NEW: u16 = 20;
const DELETE: u16 = 21;
const GET: u16 = 22;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const BROADCAST: u16 = 4;
const FLAGS: u16 = 8;
const NO_DAD: u32 = 0x02;
const ADDR_SIZE: usize = 8;

/// The bytes of an address.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The address that these bytes are.
pub(super) fn from_octets(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

pub(super) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn message(kind: u16, flags: u16, index: u32, address: IpNet) -> Message {
    let mut fixed = [0; ADDR_SIZE];
    fixed[0] = family(address.addr());
    fixed[1] = address.prefix_len();
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    let mut message = Message::new(kind, flags, &fixed);
    let bytes = octets(address.addr());
    message.bytes(LOCAL, &bytes).bytes(ADDRESS, &bytes);
    message
}

/// Gives the link an address. IPv6 serves at once: the pool, not a probe on the wire, sees to it that
/// nobody else has it.
pub(crate) fn add_address(index: u32, address: IpNet) -> Message {
    let mut message = message(NEW, flag::CREATE | flag::EXCL, index, address);
    match address {
        IpNet::V4(v4) if v4.prefix_len() < 31 => message.bytes(BROADCAST, &v4.broadcast().octets()),
        IpNet::V4(_) => &mut message,
        IpNet::V6(_) => message.u32(FLAGS, NO_DAD),
    };
    message
}

/// Takes an address from the link.
pub(crate) fn delete_address(index: u32, address: IpNet) -> Message {
    message(DELETE, 0, index, address)
}

/// All addresses of the namespace, with the numbers of their links.
pub(crate) fn addresses(socket: &mut Socket) -> io::Result<Vec<(u32, IpNet)>> {
    let answers = socket.ask(Message::new(GET, flag::DUMP, &[0; ADDR_SIZE]))?;
    let read = |payload: &[u8]| -> Option<(u32, IpNet)> {
        let link = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
        let attributes = Attributes::after(payload, ADDR_SIZE);
        let bytes = attributes.get(LOCAL).or_else(|| attributes.get(ADDRESS))?;
        Some((link, IpNet::new(from_octets(bytes)?, *payload.get(1)?).ok()?))
    };
    Ok(answers.iter().filter_map(|payload| read(payload)).collect())
}
