//! The nftables table of a bridge.

use std::io;

use ipnet::IpNet;

use crate::netlink::nft::{self, Chain, Expression as E, Key, Register, Verdict};
use crate::netlink::{AF_INET, AF_INET6, Failed, Message, Socket};
use crate::ports::{self, redirected, word};

/// The note on tables and links that says that they are ours.
pub(crate) const OURS: &str = "isopod";
/// The group that all our bridges are in, so that each table can tell another network of ours.
pub(crate) const GROUP: u32 = 0x1507;

/// Before connection tracking, where destinations are as they were sent.
const GUARD: Chain = Chain { kind: "filter", hook: 0, priority: -300 };
const FORWARD: Chain = Chain { kind: "filter", hook: 2, priority: 0 };

fn link_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

/// The bits of an address that a prefix fixes.
fn mask(subnet: IpNet) -> Vec<u8> {
    match subnet {
        IpNet::V4(v4) => v4.netmask().octets().to_vec(),
        IpNet::V6(v6) => v6.netmask().octets().to_vec(),
    }
}

fn network(subnet: IpNet) -> Vec<u8> {
    match subnet {
        IpNet::V4(v4) => v4.network().octets().to_vec(),
        IpNet::V6(v6) => v6.network().octets().to_vec(),
    }
}

/// What pods send to the outside goes out with the address of this machine.
fn masquerade(bridge: &str, subnet: IpNet) -> Vec<E<'static>> {
    let (family, source, destination) = match subnet {
        IpNet::V4(_) => (AF_INET, Key::SourceV4, Key::DestinationV4),
        IpNet::V6(_) => (AF_INET6, Key::SourceV6, Key::DestinationV6),
    };
    vec![
        E::Load(Key::Family, Register(0)),
        E::Is(Register(0), vec![family]),
        E::Load(source, Register(0)),
        E::Mask(Register(0), mask(subnet)),
        E::Is(Register(0), network(subnet)),
        E::Load(destination, Register(0)),
        E::Mask(Register(0), mask(subnet)),
        E::IsNot(Register(0), network(subnet)),
        E::Load(Key::OutName, Register(0)),
        E::IsNot(Register(0), link_name(bridge)),
        E::Masquerade,
    ]
}

/// Pods of another network of ours do not come in, but by host ports.
fn isolation(bridge: &str) -> Vec<E<'static>> {
    let mut rule = vec![
        E::Load(Key::OutName, Register(0)),
        E::Is(Register(0), link_name(bridge)),
        E::Load(Key::InName, Register(0)),
        E::IsNot(Register(0), link_name(bridge)),
        E::Load(Key::InGroup, Register(0)),
        E::Is(Register(0), word(GROUP)),
    ];
    let [load, keep, _] = redirected(Register(0));
    rule.extend([load, keep, E::Is(Register(0), word(0)), E::Then(Verdict::Drop)]);
    rule
}

/// The links to pods let packets for 127.0.0.0/8 through, for host ports on 127.0.0.1; those that pods send
/// end here: what comes in by the link of this name, or by any other.
fn loopback_guard(
    link: &str,
    compare: impl FnOnce(Register, Vec<u8>) -> E<'static>,
) -> Vec<E<'static>> {
    vec![
        E::Load(Key::InName, Register(0)),
        compare(Register(0), link_name(link)),
        E::Load(Key::Family, Register(0)),
        E::Is(Register(0), vec![AF_INET]),
        E::Load(Key::DestinationV4, Register(0)),
        E::Mask(Register(0), vec![255, 0, 0, 0]),
        E::Is(Register(0), vec![127, 0, 0, 0]),
        E::Then(Verdict::Drop),
    ]
}

fn ruleset(table: &str, subnets: &[IpNet]) -> Vec<Message> {
    let mut all = vec![nft::add_table(table, OURS)];
    all.extend(ports::rules(table));
    for (name, base) in [("guard", GUARD), ("forward", FORWARD)] {
        all.push(nft::add_chain(table, name, Some(base)));
        all.push(nft::flush_chain(table, name));
    }
    all.push(nft::add_rule(table, "guard", &loopback_guard(table, E::Is)));
    all.push(nft::add_rule(table, "forward", &isolation(table)));
    for subnet in subnets {
        all.push(nft::add_rule(table, "postrouting", &masquerade(table, *subnet)));
    }
    all
}

/// Whose the table of this name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// There is none.
    Nobody,
    /// It is ours.
    Us,
    /// It is somebody else's.
    Other,
}

/// Whose the table of this name is.
pub(crate) fn owner(socket: &mut Socket, table: &str) -> io::Result<Owner> {
    let tables = nft::list_tables(socket)?;
    Ok(match tables.iter().find(|found| found.name == table) {
        None => Owner::Nobody,
        Some(found) if found.comment == OURS => Owner::Us,
        Some(_) => Owner::Other,
    })
}

/// Makes the table, or makes its rules anew, in one transaction; host ports stay. Whether they did:
/// a table that an older version made otherwise is made anew as a whole.
pub(crate) fn install(socket: &mut Socket, table: &str, subnets: &[IpNet]) -> Result<bool, Failed> {
    commit(socket, table, || ruleset(table, subnets))
}

/// The same for a table that has host ports only.
pub(crate) fn install_ports(socket: &mut Socket, table: &str) -> Result<bool, Failed> {
    commit(socket, table, || {
        let mut all = vec![nft::add_table(table, OURS)];
        all.extend(ports::rules(table));
        all.push(nft::add_chain(table, "guard", Some(GUARD)));
        all.push(nft::flush_chain(table, "guard"));
        all.push(nft::add_rule(table, "guard", &loopback_guard("lo", E::IsNot)));
        all
    })
}

fn commit(
    socket: &mut Socket,
    table: &str,
    rules: impl Fn() -> Vec<Message>,
) -> Result<bool, Failed> {
    let first = socket.batch(nft::begin(), rules(), nft::end());
    let Err(failed) = first else { return Ok(true) };
    if owner(socket, table).is_ok_and(|owner| owner == Owner::Us) {
        let mut anew = vec![nft::delete_table(table)];
        anew.extend(rules());
        return socket.batch(nft::begin(), anew, nft::end()).map(|()| false);
    }
    Err(failed)
}
