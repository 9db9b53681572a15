//! Connection tracking (linux/netfilter/nfnetlink_conntrack.h).

use std::io;

use super::message::{Attributes, Message, flag};
use super::socket::{Socket, errno};

const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;
/// struct nfgenmsg.
const GENERIC_SIZE: usize = 4;
const TUPLE_ORIGINAL: u16 = 1;
const FILTER: u16 = 25;
const FILTER_ORIGINAL_FLAGS: u16 = 1;
const FILTER_REPLY_FLAGS: u16 = 2;
/// Compare the protocol (bit 3) and the destination port (bit 5).
const BY_PROTOCOL_AND_PORT: u32 = (1 << 3) | (1 << 5);
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const DESTINATION_PORT: u16 = 3;
const UDP: u8 = 17;
const ENOENT: i32 = 2;

/// Forgets the UDP "connections" to this port of this machine. A client that keeps sending would otherwise
/// keep going where it went before the port led elsewhere.
pub(crate) fn forget_udp(socket: &mut Socket, family: u8, port: u16) -> io::Result<()> {
    let mut request = Message::new(GET, flag::DUMP, &[family, 0, 0, 0]);
    request.nest(TUPLE_ORIGINAL, |m| {
        m.nest(TUPLE_PROTOCOL, |m| {
            m.bytes(PROTOCOL_NUMBER, &[UDP]).bytes(DESTINATION_PORT, &port.to_be_bytes());
        });
    });
    // Kernels before 5.8 do not know the filter and answer everything, so the answers are looked at.
    request.nest(FILTER, |m| {
        m.u32(FILTER_ORIGINAL_FLAGS, BY_PROTOCOL_AND_PORT).u32(FILTER_REPLY_FLAGS, 0);
    });
    for payload in socket.ask(request)? {
        let attributes = Attributes::after(&payload, GENERIC_SIZE);
        let protocol = attributes.nested(TUPLE_ORIGINAL).nested(TUPLE_PROTOCOL);
        let is_it = protocol.get(PROTOCOL_NUMBER) == Some(&[UDP])
            && protocol.get(DESTINATION_PORT) == Some(&port.to_be_bytes());
        let (true, Some(tuple)) = (is_it, attributes.get(TUPLE_ORIGINAL)) else { continue };
        let mut delete = Message::new(DELETE, 0, &[family, 0, 0, 0]);
        delete.nest(TUPLE_ORIGINAL, |m| {
            m.raw(tuple);
        });
        match socket.one(delete) {
            Err(error) if errno(&error) == Some(ENOENT) => {}
            other => other?,
        }
    }
    Ok(())
}
