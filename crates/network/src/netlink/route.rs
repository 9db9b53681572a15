//! Routes (rtnetlink(7)).

use std::io;
use std::net::IpAddr;

use super::address::{family, octets};
use super::message::{Attributes, Message, flag};
use super::socket::Socket;

const NEW: u16 = 24;
const GET: u16 = 26;
const DESTINATION: u16 = 1;
const OIF: u16 = 4;
const GATEWAY: u16 = 5;
const MAIN: u8 = 254;
const PROTOCOL_BOOT: u8 = 3;
const SCOPE_UNIVERSE: u8 = 0;
const KIND_UNICAST: u8 = 1;
const ROUTE_SIZE: usize = 12;

/// The route to everywhere by this gateway on this link.
pub(crate) fn default_route(gateway: IpAddr, link: u32) -> Message {
    let mut fixed = [0; ROUTE_SIZE];
    fixed[0] = family(gateway);
    fixed[4] = MAIN;
    fixed[5] = PROTOCOL_BOOT;
    fixed[6] = SCOPE_UNIVERSE;
    fixed[7] = KIND_UNICAST;
    let mut message = Message::new(NEW, flag::CREATE | flag::EXCL, &fixed);
    message.bytes(GATEWAY, &octets(gateway)).u32(OIF, link);
    message
}

/// The number of the link by which packets to this address go out.
pub(crate) fn link_to(socket: &mut Socket, address: IpAddr) -> io::Result<Option<u32>> {
    let bytes = octets(address);
    let mut fixed = [0; ROUTE_SIZE];
    fixed[0] = family(address);
    fixed[1] = u8::try_from(bytes.len() * 8).unwrap_or(0);
    let mut request = Message::new(GET, 0, &fixed);
    request.bytes(DESTINATION, &bytes);
    let answers = socket.ask(request)?;
    Ok(answers.first().and_then(|payload| Attributes::after(payload, ROUTE_SIZE).u32(OIF)))
}

/// The numbers of the links that default routes of the main table go out by.
pub(crate) fn default_route_links(socket: &mut Socket) -> io::Result<Vec<u32>> {
    let answers = socket.ask(Message::new(GET, flag::DUMP, &[0; ROUTE_SIZE]))?;
    let link = |payload: &[u8]| -> Option<u32> {
        let to_everywhere = *payload.get(1)? == 0 && *payload.get(4)? == MAIN;
        let unicast = *payload.get(7)? == KIND_UNICAST;
        (to_everywhere && unicast).then(|| Attributes::after(payload, ROUTE_SIZE).u32(OIF))?
    };
    Ok(answers.iter().filter_map(|payload| link(payload)).collect())
}
