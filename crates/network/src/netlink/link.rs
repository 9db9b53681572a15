//! Links (rtnetlink(7), linux/if_link.h, linux/veth.h).

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::message::{Attributes, Message, flag};
use super::socket::{Socket, errno};
use crate::status::InterfaceStats;

const NEW: u16 = 16;
const DELETE: u16 = 17;
const GET: u16 = 18;
const SET: u16 = 19;

const ADDRESS: u16 = 1;
const IFNAME: u16 = 3;
const MTU: u16 = 4;
const MASTER: u16 = 10;
const LINKINFO: u16 = 18;
const IFALIAS: u16 = 20;
const STATS64: u16 = 23;
const GROUP: u16 = 27;
const NET_NS_FD: u16 = 28;
const NUM_TX_QUEUES: u16 = 31;
const NUM_RX_QUEUES: u16 = 32;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const BRIDGE_PORT_HAIRPIN: u16 = 4;
const VETH_INFO_PEER: u16 = 1;

const UP: u32 = 0x1;
const LOOPBACK: u32 = 0x8;
const INFO_SIZE: usize = 16;
const ENODEV: i32 = 19;

/// struct ifinfomsg.
fn info(index: u32, flags: u32, change: u32) -> [u8; INFO_SIZE] {
    let mut fixed = [0; INFO_SIZE];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..16].copy_from_slice(&change.to_ne_bytes());
    fixed
}

/// A link as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Link {
    /// Its number in its namespace.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// Its kind; empty for hardware.
    pub(crate) kind: String,
    /// The note on it that tells whose it is.
    pub(crate) alias: String,
    /// The number of the bridge that it is a port of, or 0.
    pub(crate) master: u32,
    /// Its MTU.
    pub(crate) mtu: u32,
    /// Its hardware address.
    pub(crate) mac: Vec<u8>,
    /// Whether it is set up.
    pub(crate) up: bool,
    /// Whether it is a loopback.
    pub(crate) loopback: bool,
    /// What it has carried.
    pub(crate) stats: InterfaceStats,
}

impl Link {
    fn read(payload: &[u8]) -> Option<Self> {
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_ne_bytes(payload.get(at..at + 4)?.try_into().ok()?))
        };
        let (index, flags) = (word(4)?, word(8)?);
        let attributes = Attributes::after(payload, INFO_SIZE);
        let name = attributes.text(IFNAME)?.to_owned();
        let counters = attributes.get(STATS64).unwrap_or_default();
        let counter = |at: usize| {
            counters
                .get(8 * at..8 * at + 8)
                .and_then(|b| b.try_into().ok())
                .map_or(0, u64::from_ne_bytes)
        };
        Some(Self {
            index,
            kind: attributes.nested(LINKINFO).text(INFO_KIND).unwrap_or_default().to_owned(),
            alias: attributes.text(IFALIAS).unwrap_or_default().to_owned(),
            master: attributes.u32(MASTER).unwrap_or_default(),
            mtu: attributes.u32(MTU).unwrap_or_default(),
            mac: attributes.get(ADDRESS).unwrap_or_default().to_vec(),
            up: flags & UP != 0,
            loopback: flags & LOOPBACK != 0,
            // struct rtnl_link_stats64: packets, bytes, errors and drops, receiving before sending.
            stats: InterfaceStats {
                name: name.clone(),
                rx_packets: counter(0),
                tx_packets: counter(1),
                rx_bytes: counter(2),
                tx_bytes: counter(3),
                rx_errors: counter(4),
                tx_errors: counter(5),
                rx_dropped: counter(6),
                tx_dropped: counter(7),
            },
            name,
        })
    }

    /// The hardware address as people write it.
    pub(crate) fn mac_text(&self) -> String {
        self.mac.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
    }
}

/// The link of this name, if there is one.
pub(crate) fn get_link(socket: &mut Socket, name: &str) -> io::Result<Option<Link>> {
    let mut request = Message::new(GET, 0, &info(0, 0, 0));
    request.text(IFNAME, name);
    match socket.ask(request) {
        Ok(answers) => Ok(answers.first().and_then(|payload| Link::read(payload))),
        Err(error) if errno(&error) == Some(ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All links of the namespace.
pub(crate) fn list_links(socket: &mut Socket) -> io::Result<Vec<Link>> {
    let answers = socket.ask(Message::new(GET, flag::DUMP, &info(0, 0, 0)))?;
    Ok(answers.iter().filter_map(|payload| Link::read(payload)).collect())
}

/// Makes a bridge and sets it up.
pub(crate) fn new_bridge(name: &str, mac: [u8; 6], mtu: u32) -> Message {
    let mut message = Message::new(NEW, flag::CREATE | flag::EXCL, &info(0, UP, UP));
    message.text(IFNAME, name).bytes(ADDRESS, &mac).u32(MTU, mtu).nest(LINKINFO, |m| {
        m.text(INFO_KIND, "bridge");
    });
    message
}

/// Makes an intermediate functional block, to which what a pod sends is led to be limited.
pub(crate) fn new_ifb(name: &str, mtu: u32) -> Message {
    let mut message = Message::new(NEW, flag::CREATE | flag::EXCL, &info(0, UP, UP));
    message.text(IFNAME, name).u32(MTU, mtu).nest(LINKINFO, |m| {
        m.text(INFO_KIND, "ifb");
    });
    message
}

/// A pair of links that are joined: one here, a port of a bridge, the other in another namespace.
#[derive(Debug)]
pub(crate) struct Veth<'a> {
    /// The name here.
    pub(crate) name: &'a str,
    /// The bridge's number.
    pub(crate) bridge: u32,
    /// The MTU of both.
    pub(crate) mtu: u32,
    /// The name there.
    pub(crate) peer: &'a str,
    /// The hardware address there.
    pub(crate) peer_mac: [u8; 6],
    /// There.
    pub(crate) netns: BorrowedFd<'a>,
}

/// Makes the pair; the end here is set up, the other is not. Each has one queue each way, which is all that a pair
/// uses: without the numbers the kernel makes one for each processor, and waits for all of them while it takes the
/// others away again.
pub(crate) fn new_veth(veth: &Veth<'_>) -> Message {
    let mut message = Message::new(NEW, flag::CREATE | flag::EXCL, &info(0, UP, UP));
    message.text(IFNAME, veth.name).u32(MTU, veth.mtu).u32(MASTER, veth.bridge);
    message.u32(NUM_TX_QUEUES, 1).u32(NUM_RX_QUEUES, 1);
    message.nest(LINKINFO, |m| {
        m.text(INFO_KIND, "veth").nest(INFO_DATA, |m| {
            m.open(VETH_INFO_PEER, |m| {
                m.raw(&info(0, 0, 0))
                    .text(IFNAME, veth.peer)
                    .bytes(ADDRESS, &veth.peer_mac)
                    .u32(MTU, veth.mtu)
                    .u32(NUM_TX_QUEUES, 1)
                    .u32(NUM_RX_QUEUES, 1)
                    .bytes(NET_NS_FD, &veth.netns.as_raw_fd().to_ne_bytes());
            });
        });
    });
    message
}

/// Notes on the link of this name whose it is. A new link cannot be made with the note on it.
pub(crate) fn name_link(name: &str, owner: &str) -> Message {
    let mut message = Message::new(SET, 0, &info(0, 0, 0));
    message.text(IFNAME, name).bytes(IFALIAS, owner.as_bytes());
    message
}

/// Notes on the port of a bridge of this name whose it is, and lets frames leave by the port they came in
/// by: a pod that reaches itself by a host port, where the kernel passes bridged frames to the rules.
pub(crate) fn name_port(name: &str, owner: &str) -> Message {
    let mut message = Message::new(NEW, 0, &info(0, 0, 0));
    message.text(IFNAME, name).bytes(IFALIAS, owner.as_bytes()).nest(LINKINFO, |m| {
        m.text(INFO_SLAVE_KIND, "bridge").nest(INFO_SLAVE_DATA, |m| {
            m.bytes(BRIDGE_PORT_HAIRPIN, &[1]);
        });
    });
    message
}

/// Makes the link of this name a port of the bridge with this number.
pub(crate) fn join_bridge(name: &str, bridge: u32) -> Message {
    let mut message = Message::new(SET, 0, &info(0, 0, 0));
    message.text(IFNAME, name).u32(MASTER, bridge);
    message
}

/// Puts the link into a group, which rules can ask for.
pub(crate) fn group_link(name: &str, group: u32) -> Message {
    let mut message = Message::new(SET, 0, &info(0, 0, 0));
    message.text(IFNAME, name).u32(GROUP, group);
    message
}

/// Sets the link up.
pub(crate) fn set_up(index: u32) -> Message {
    Message::new(SET, 0, &info(index, UP, UP))
}

/// Deletes the link of this name. It is no error if there is none.
pub(crate) fn delete_link(socket: &mut Socket, name: &str) -> io::Result<()> {
    let mut message = Message::new(DELETE, 0, &info(0, 0, 0));
    message.text(IFNAME, name);
    match socket.one(message) {
        Err(error) if errno(&error) == Some(ENODEV) => Ok(()),
        other => other,
    }
}
