//! The kernel's netlink interfaces that this crate needs: rtnetlink(7), tc and nf_tables.
//!
//! Owns: the bytes of these messages. Always: messages are pure values; only [`Socket`] does I/O, and
//! never waits longer than its timeout. Callers: the rest of this crate.

mod address;
mod conntrack;
mod link;
mod message;
pub(crate) mod nft;
mod qdisc;
mod route;
mod socket;

pub(crate) use address::{add_address, addresses, delete_address};
pub(crate) use conntrack::forget_udp;
pub(crate) use link::{
    Link, Veth, delete_link, get_link, group_link, join_bridge, list_links, name_link, name_port,
    new_bridge, new_ifb, new_veth, set_up,
};
pub(crate) use message::Message;
pub(crate) use qdisc::{ingress, redirect_to, token_bucket};
pub(crate) use route::{default_route, default_route_links, link_to};
pub(crate) use socket::{Failed, Socket};

/// The address family byte of IPv4.
pub(crate) const AF_INET: u8 = 2;
/// The address family byte of IPv6.
pub(crate) const AF_INET6: u8 = 10;
