//! Host ports as elements of nftables maps.
//!
//! Owns: the maps and the rules that read them, in a table of ours. Always: a port is one element, whose
//! key is the port and whose comment is the sandbox, so the kernel itself refuses a second owner and
//! tells who the first is; adding all ports of a sandbox is one transaction. Callers: `bridge`, and
//! `cni` for chains without the portmap plugin.

use std::io;
use std::net::IpAddr;

use model::{PortMapping, Protocol, SandboxId};

use crate::error::NetworkError;
use crate::listeners;
use crate::netlink::nft::{self, Chain, Element, Expression as E, Key, Map, Register, Verdict};
use crate::netlink::{AF_INET, AF_INET6, Message, Socket, forget_udp};

/// NFPROTO_IPV4 and NFPROTO_IPV6 have the numbers of the address families.
const V4: u8 = AF_INET;
const V6: u8 = AF_INET6;
/// RTN_LOCAL: an address of this machine.
const LOCAL: u32 = 2;
/// IPS_DST_NAT: the connection's destination was changed.
const DESTINATION_CHANGED: u32 = 1 << 5;

/// nft(8)'s numbers of types; six bits each in a concatenation.
const TYPE_V4: u32 = 7;
const TYPE_V6: u32 = 8;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;
const ANYWHERE: u32 = (TYPE_PROTOCOL << 6) | TYPE_PORT;

/// The maps: for each family, ports on one address of the host and ports on all, and the addresses that
/// have ports.
const MAPS: [Map; 6] = [
    Map { name: "ports4", key: (ANYWHERE, 8), value: Some(((TYPE_V4 << 6) | TYPE_PORT, 8)) },
    Map {
        name: "ports4_at",
        key: ((TYPE_V4 << 12) | ANYWHERE, 12),
        value: Some(((TYPE_V4 << 6) | TYPE_PORT, 8)),
    },
    Map { name: "ports6", key: (ANYWHERE, 8), value: Some(((TYPE_V6 << 6) | TYPE_PORT, 20)) },
    Map {
        name: "ports6_at",
        key: ((TYPE_V6 << 12) | ANYWHERE, 24),
        value: Some(((TYPE_V6 << 6) | TYPE_PORT, 20)),
    },
    Map { name: "owners4", key: (TYPE_V4, 4), value: None },
    Map { name: "owners6", key: (TYPE_V6, 16), value: None },
];

/// The chain that the two places where connections begin share.
const CHAIN: &str = "hostports";

pub(crate) fn word(value: u32) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

/// Only connections whose destination was changed.
pub(crate) fn redirected(register: Register) -> [E<'static>; 3] {
    [
        E::Load(Key::ConnectionStatus, register),
        E::Mask(register, word(DESTINATION_CHANGED)),
        E::IsNot(register, word(0)),
    ]
}

fn lookup(family: u8, address: Option<Key>, map: &'static str) -> Vec<E<'static>> {
    let words = if family == V4 { 1 } else { 4 };
    let mut rule = vec![E::Load(Key::Family, Register(0)), E::Is(Register(0), vec![family])];
    let mut next = 0;
    if let Some(address) = address {
        rule.push(E::Load(address, Register(0)));
        next = words;
    }
    rule.push(E::Load(Key::Transport, Register(next)));
    rule.push(E::Load(Key::DestinationPort, Register(next + 1)));
    rule.push(E::Lookup { map, key: Register(0), to: Some(Register(0)) });
    rule.push(E::Redirect { family, address: Register(0), port: Register(words) });
    rule
}

/// Makes the maps and chains in the table, or makes their rules anew; elements stay.
pub(crate) fn rules(table: &str) -> Vec<Message> {
    let mut all = vec![nft::add_chain(table, CHAIN, None)];
    for (name, kind, hook, priority) in
        [("prerouting", "nat", 0, -100), ("output", "nat", 3, -100), ("postrouting", "nat", 4, 100)]
    {
        all.push(nft::add_chain(table, name, Some(Chain { kind, hook, priority })));
    }
    for (id, map) in (1..).zip(&MAPS) {
        all.push(nft::add_map(table, map, id));
    }
    for chain in [CHAIN, "prerouting", "output", "postrouting"] {
        all.push(nft::flush_chain(table, chain));
    }
    let local = [
        E::Load(Key::DestinationKind, Register(0)),
        E::Is(Register(0), word(LOCAL)),
        E::Then(Verdict::Jump(CHAIN)),
    ];
    all.push(nft::add_rule(table, "prerouting", &local));
    all.push(nft::add_rule(table, "output", &local));
    // A packet from ::1 cannot leave the machine, whatever its destination is changed to.
    let own_loopback = [
        E::Load(Key::Family, Register(0)),
        E::Is(Register(0), vec![V6]),
        E::Load(Key::DestinationV6, Register(0)),
        E::Is(Register(0), std::net::Ipv6Addr::LOCALHOST.octets().to_vec()),
        E::Then(Verdict::Return),
    ];
    all.push(nft::add_rule(table, CHAIN, &own_loopback));
    for (family, address, map) in [
        (V4, Some(Key::DestinationV4), "ports4_at"),
        (V4, None, "ports4"),
        (V6, Some(Key::DestinationV6), "ports6_at"),
        (V6, None, "ports6"),
    ] {
        all.push(nft::add_rule(table, CHAIN, &lookup(family, address, map)));
    }
    all.extend(return_paths(table));
    all
}

/// Answers must come back through this machine: for a sandbox that reaches another one, or itself, by a
/// host port, and for this machine's own 127.0.0.1.
fn return_paths(table: &str) -> Vec<Message> {
    let mut all = Vec::new();
    for (family, source, destination, owners) in [
        (V4, Key::SourceV4, Key::DestinationV4, "owners4"),
        (V6, Key::SourceV6, Key::DestinationV6, "owners6"),
    ] {
        let mut rule = redirected(Register(0)).to_vec();
        rule.extend([E::Load(Key::Family, Register(0)), E::Is(Register(0), vec![family])]);
        for key in [source, destination] {
            rule.push(E::Load(key, Register(0)));
            rule.push(E::Lookup { map: owners, key: Register(0), to: None });
        }
        rule.push(E::Masquerade);
        all.push(nft::add_rule(table, "postrouting", &rule));
    }
    let mut rule = redirected(Register(0)).to_vec();
    rule.extend([
        E::Load(Key::Family, Register(0)),
        E::Is(Register(0), vec![V4]),
        E::Load(Key::SourceV4, Register(0)),
        E::Mask(Register(0), vec![255, 0, 0, 0]),
        E::Is(Register(0), vec![127, 0, 0, 0]),
        E::Masquerade,
    ]);
    all.push(nft::add_rule(table, "postrouting", &rule));
    all
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

const fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// Every part of a concatenation fills up words.
fn port_word(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// On which of the host's addresses a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On all: so says `::`, and nothing at all.
    Everywhere,
    /// On all of IPv4: `0.0.0.0`.
    EverywhereV4,
    /// On this one.
    At(IpAddr),
}

impl Place {
    /// What a mapping's address means.
    pub(crate) fn of(host_ip: Option<IpAddr>) -> Self {
        match host_ip {
            Some(IpAddr::V4(v4)) if v4.is_unspecified() => Self::EverywhereV4,
            Some(ip) if !ip.is_unspecified() => Self::At(ip),
            Some(_) | None => Self::Everywhere,
        }
    }

    /// Whether some address is of both.
    pub(crate) fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::At(a), Self::At(b)) => a == b,
            (Self::At(at), Self::EverywhereV4) | (Self::EverywhereV4, Self::At(at)) => at.is_ipv4(),
            (Self::Everywhere | Self::EverywhereV4, Self::Everywhere | Self::EverywhereV4)
            | (Self::Everywhere, Self::At(_))
            | (Self::At(_), Self::Everywhere) => true,
        }
    }
}

/// The elements that lead these ports to these addresses: the first one of each family.
fn elements(
    owner: &SandboxId,
    ips: &[IpAddr],
    ports: &[PortMapping],
) -> Vec<(&'static str, Element)> {
    let mut all = Vec::new();
    for (v4, any, at, owners) in
        [(true, "ports4", "ports4_at", "owners4"), (false, "ports6", "ports6_at", "owners6")]
    {
        let Some(ip) = ips.iter().find(|ip| ip.is_ipv4() == v4) else { continue };
        let mut some = false;
        for port in ports {
            let host = match Place::of(port.host_ip) {
                Place::Everywhere => None,
                Place::EverywhereV4 if v4 => None,
                Place::At(host) if host.is_ipv4() == v4 => Some(host),
                Place::EverywhereV4 | Place::At(_) => continue,
            };
            let mut key = host.map(octets).unwrap_or_default();
            key.extend([protocol_number(port.protocol), 0, 0, 0]);
            key.extend(port_word(port.host_port));
            let mut value = octets(*ip);
            value.extend(port_word(port.container_port));
            let map = if host.is_some() { at } else { any };
            let element = (map, Element { key, value, comment: owner.as_str().to_owned() });
            // The same mapping twice is one.
            if !all.contains(&element) {
                all.push(element);
            }
            some = true;
        }
        if some {
            let element =
                Element { key: octets(*ip), value: Vec::new(), comment: owner.as_str().to_owned() };
            all.push((owners, element));
        }
    }
    all
}

/// A host port that the elements lead to two places.
fn twice(elements: &[(&'static str, Element)]) -> Option<u16> {
    let same = |a: &(&str, Element), b: &(&str, Element)| a.0 == b.0 && a.1.key == b.1.key;
    let (_, second) = elements
        .iter()
        .enumerate()
        .find(|(at, element)| elements[..*at].iter().any(|before| same(before, element)))?;
    port_of(&second.1.key)
}

/// The port in the key of an element, which is its last word.
fn port_of(key: &[u8]) -> Option<u16> {
    let port = key.get(key.len().checked_sub(4)?..)?;
    Some(u16::from_be_bytes([port[0], port[1]]))
}

fn kernel(operation: &'static str, owner: &SandboxId, source: io::Error) -> NetworkError {
    NetworkError::Kernel {
        operation,
        object: format!("the host ports of {}", owner.short()),
        source,
    }
}

/// Leads the ports to the sandbox: all of them, or none.
pub(crate) fn open(
    socket: &mut Socket,
    table: &str,
    owner: &SandboxId,
    ips: &[IpAddr],
    ports: &[PortMapping],
) -> Result<(), NetworkError> {
    nobody_listens(owner, ports)?;
    let elements = elements(owner, ips, ports);
    if let Some(twice) = twice(&elements) {
        return Err(NetworkError::Request {
            reason: format!("host port {twice} is asked for twice"),
        });
    }
    let batch =
        elements.iter().map(|(map, element)| nft::add_element(table, map, element)).collect();
    let Err(failed) = socket.batch(nft::begin(), batch, nft::end()) else {
        forget(socket, ports);
        return Ok(());
    };
    if failed.source.kind() == io::ErrorKind::AlreadyExists
        && let Some((map, element)) = elements.get(failed.index)
        && let Some(port) = element.key.len().checked_sub(4).filter(|_| map.starts_with("ports"))
    {
        let holder = nft::list_elements(socket, table, map)
            .unwrap_or_default()
            .into_iter()
            .find(|other| other.key == element.key)
            .map_or_else(|| "another sandbox".into(), |other| format!("sandbox {}", other.comment));
        let number = u16::from_be_bytes([element.key[port], element.key[port + 1]]);
        let protocol =
            ports.iter().find(|p| p.host_port == number).map_or(Protocol::Tcp, |p| p.protocol);
        return Err(NetworkError::PortTaken { port: number, protocol, holder });
    }
    Err(kernel("open", owner, failed.source))
}

/// Lets clients of UDP ports notice where those lead now. They would notice in the end by themselves, so
/// that it fails is no reason to fail.
fn forget(socket: &mut Socket, ports: &[PortMapping]) {
    for port in ports.iter().filter(|port| port.protocol == Protocol::Udp) {
        for family in [V4, V6] {
            if let Err(error) = forget_udp(socket, family, port.host_port) {
                tracing::debug!(port = port.host_port, %error, "tracked UDP clients are not forgotten");
            }
        }
    }
}

/// Leads all ports of this owner nowhere. It is no error if there are none, or no table.
pub(crate) fn close(
    socket: &mut Socket,
    table: &str,
    owner: &str,
    ports: &[PortMapping],
) -> io::Result<()> {
    let mut gone = Vec::new();
    for map in &MAPS {
        let elements = match nft::list_elements(socket, table, map.name) {
            // Somebody flushed all rules.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        gone.extend(
            elements
                .into_iter()
                .filter(|element| element.comment == owner)
                .map(|element| nft::delete_element(table, map.name, &element.key)),
        );
    }
    if gone.is_empty() {
        return Ok(());
    }
    socket.batch(nft::begin(), gone, nft::end()).map_err(|failed| failed.source)?;
    forget(socket, ports);
    Ok(())
}

/// Those of these host ports that do not lead to this owner's addresses, as [`open`] had made them.
pub(crate) fn closed(
    socket: &mut Socket,
    table: &str,
    owner: &SandboxId,
    ips: &[IpAddr],
    ports: &[PortMapping],
) -> io::Result<Vec<u16>> {
    let wanted = elements(owner, ips, ports);
    let mut closed = Vec::new();
    for map in MAPS.iter().filter(|map| map.value.is_some()) {
        let there = match nft::list_elements(socket, table, map.name) {
            // Somebody flushed all rules.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let missing =
            wanted.iter().filter(|(name, element)| *name == map.name && !there.contains(element));
        closed.extend(missing.filter_map(|(_, element)| port_of(&element.key)));
    }
    closed.sort_unstable();
    closed.dedup();
    Ok(closed)
}

/// The sandboxes that have elements in the maps, so that those that nobody knows can be found.
pub(crate) fn owners(socket: &mut Socket, table: &str) -> io::Result<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    for map in &MAPS {
        all.extend(nft::list_elements(socket, table, map.name)?.into_iter().map(|e| e.comment));
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// An error where a process of this machine listens on one of the ports.
pub(crate) fn nobody_listens(owner: &SandboxId, ports: &[PortMapping]) -> Result<(), NetworkError> {
    for port in ports {
        if listeners::listens(port).map_err(|e| kernel("test", owner, e))? {
            return Err(NetworkError::PortTaken {
                port: port.host_port,
                protocol: port.protocol,
                holder: "a process of this machine".into(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(host_ip: Option<&str>) -> PortMapping {
        PortMapping {
            protocol: Protocol::Udp,
            container_port: 53,
            host_port: 0x1234,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        }
    }

    #[test]
    fn a_port_has_an_element_in_each_family_that_its_address_and_its_pod_have() {
        let owner = SandboxId::from_random([1; 32]);
        let v4: IpAddr = "10.0.0.2".parse().unwrap();
        let v6: IpAddr = "fd00::2".parse().unwrap();
        for (ips, host, expected) in [
            (&[v4, v6][..], None, &["ports4", "owners4", "ports6", "owners6"][..]),
            (&[v4, v6], Some("::"), &["ports4", "owners4", "ports6", "owners6"]),
            (&[v4, v6], Some("0.0.0.0"), &["ports4", "owners4"]),
            (&[v4, v6], Some("192.0.2.1"), &["ports4_at", "owners4"]),
            (&[v6, v4], Some("2001:db8::1"), &["ports6_at", "owners6"]),
            (&[v4], Some("2001:db8::1"), &[]),
            (&[], None, &[]),
        ] {
            let maps: Vec<_> =
                elements(&owner, ips, &[mapping(host)]).iter().map(|(map, _)| *map).collect();
            assert_eq!(maps, expected, "{ips:?} {host:?}");
        }
    }

    #[test]
    fn the_same_mapping_twice_is_one_and_a_port_to_two_places_is_found() {
        let owner = SandboxId::from_random([1; 32]);
        let ips = ["10.0.0.2".parse().unwrap()];
        let other = PortMapping { container_port: 54, ..mapping(None) };
        for (ports, count, found) in [
            (vec![mapping(None), mapping(None)], 2, None),
            (vec![mapping(None), mapping(Some("192.0.2.1"))], 3, None),
            (vec![mapping(None), other], 3, Some(0x1234)),
        ] {
            let all = elements(&owner, &ips, &ports);
            assert_eq!((all.len(), twice(&all)), (count, found), "{ports:?}");
        }
    }

    #[test]
    fn keys_and_values_are_padded_to_words() {
        let owner = SandboxId::from_random([1; 32]);
        let all = elements(&owner, &["10.0.0.2".parse().unwrap()], &[mapping(Some("192.0.2.1"))]);
        assert_eq!(all[0].1.key, [192, 0, 2, 1, 17, 0, 0, 0, 0x12, 0x34, 0, 0]);
        assert_eq!(all[0].1.value, [10, 0, 0, 2, 0, 53, 0, 0]);
    }
}
