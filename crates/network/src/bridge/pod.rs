//! A sandbox's pair of links, its addresses and routes, its limits.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;

use ipnet::IpNet;
use model::SandboxId;

use super::{INSIDE, kernel, limiter_of};
use crate::attachment::Attachment;
use crate::error::NetworkError;
use crate::limits::Limits;
use crate::netlink::{
    Socket, Veth, add_address, addresses, default_route, delete_link, get_link, ingress, name_link,
    name_port, new_ifb, new_veth, redirect_to, set_up, token_bucket,
};
use crate::netns::in_namespace;
use crate::record::Lease;

/// A hardware address that follows from the address: whoever remembers the one of a sandbox before it
/// still sends to the right place.
fn mac_of(ips: &[IpAddr]) -> [u8; 6] {
    let [a, b, c, d] = match ips.first() {
        Some(IpAddr::V4(v4)) => v4.octets(),
        Some(IpAddr::V6(v6)) => {
            let [.., a, b, c, d] = v6.octets();
            [a, b, c, d]
        }
        None => [0; 4],
    };
    [0x0e, 0x15, a, b, c, d]
}

fn netns_error(
    operation: &'static str,
    attachment: &Attachment,
    source: io::Error,
) -> NetworkError {
    NetworkError::Netns { operation, path: attachment.netns.clone(), source }
}

/// Joins the sandbox to the bridge with this number and MTU. Answers the hardware address inside.
pub(super) fn connect(
    attachment: &Attachment,
    lease: &Lease,
    (bridge, mtu): (u32, u32),
    addresses: &[(IpNet, IpAddr)],
    limits: Limits,
) -> Result<String, NetworkError> {
    let netns = File::open(&attachment.netns).map_err(|e| netns_error("open", attachment, e))?;
    let mut route = Socket::route().map_err(kernel("open", "a route socket"))?;
    let veth = Veth {
        name: &lease.link,
        bridge,
        mtu,
        peer: INSIDE,
        peer_mac: mac_of(&lease.ips),
        netns: netns.as_fd(),
    };
    route
        .all(vec![new_veth(&veth), name_port(&lease.link, attachment.sandbox.as_str())])
        .map_err(|failed| kernel("make link", &lease.link)(failed.source))?;
    fault::check!("bridge.link.made").map_err(kernel("make link", &lease.link))?;
    let mut inside = in_namespace(netns.as_fd(), Socket::route)
        .and_then(|socket| socket)
        .map_err(|e| netns_error("enter", attachment, e))?;
    let link = get_link(&mut inside, INSIDE)
        .and_then(|link| link.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .map_err(kernel("find link inside", INSIDE))?;
    let mut requests: Vec<_> =
        addresses.iter().map(|(address, _)| add_address(link.index, *address)).collect();
    requests.push(set_up(link.index));
    requests.extend(addresses.iter().map(|(_, gateway)| default_route(*gateway, link.index)));
    inside
        .all(requests)
        .map_err(|failed| kernel("give addresses and routes to", &lease.link)(failed.source))?;
    limit(&mut route, &attachment.sandbox, lease, mtu, limits)?;
    Ok(link.mac_text())
}

/// Both limits are on the host's side, where nobody in the pod can take them away: what the pod receives
/// is what its link sends, what the pod sends is led through a link of its own.
fn limit(
    route: &mut Socket,
    sandbox: &SandboxId,
    lease: &Lease,
    mtu: u32,
    limits: Limits,
) -> Result<(), NetworkError> {
    if limits == Limits::default() {
        return Ok(());
    }
    let index = |route: &mut Socket, name: &str| {
        get_link(route, name)
            .and_then(|link| link.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map(|link| link.index)
            .map_err(kernel("find link", name))
    };
    let link = index(route, &lease.link)?;
    if let Some(bits) = limits.ingress {
        route.one(token_bucket(link, bits, mtu)).map_err(kernel("limit link", &lease.link))?;
    }
    if let Some(bits) = limits.egress {
        let limiter = limiter_of(sandbox);
        route
            .all(vec![new_ifb(&limiter, mtu), name_link(&limiter, sandbox.as_str())])
            .map_err(|failed| kernel("make link", &limiter)(failed.source))?;
        let target = index(route, &limiter)?;
        route
            .all(vec![token_bucket(target, bits, mtu), ingress(link), redirect_to(link, target)])
            .map_err(|failed| kernel("limit link", &lease.link)(failed.source))?;
    }
    Ok(())
}

/// Takes the sandbox's link away, if there is one and it is the sandbox's.
pub(super) fn disconnect(
    route: &mut Socket,
    sandbox: &SandboxId,
    link: &str,
) -> Result<(), NetworkError> {
    let failed = kernel("delete link", link);
    match get_link(route, link).map_err(kernel("look up link", link))? {
        Some(found) if found.alias == sandbox.as_str() => delete_link(route, link).map_err(failed),
        Some(found) => Err(NetworkError::Foreign {
            object: format!("link {link}"),
            reason: format!("its note is {:?}", found.alias),
        }),
        None => Ok(()),
    }
}

/// Whether the link is there on both sides, with its addresses.
pub(crate) fn check(attachment: &Attachment, lease: &Lease) -> Result<(), NetworkError> {
    let gone = |what: String| kernel("find", &what)(io::ErrorKind::NotFound.into());
    let mut route = Socket::route().map_err(kernel("open", "a route socket"))?;
    let found = get_link(&mut route, &lease.link).map_err(kernel("look up link", &lease.link))?;
    let bridge = get_link(&mut route, &lease.bridge).map_err(kernel("look up", &lease.bridge))?;
    let bridge = bridge.ok_or_else(|| gone(format!("bridge {}", lease.bridge)))?;
    let is_port = found.is_some_and(|link| link.up && link.master == bridge.index);
    if !is_port {
        return Err(gone(format!("link {} on bridge {}", lease.link, lease.bridge)));
    }
    let netns = File::open(&attachment.netns).map_err(|e| netns_error("open", attachment, e))?;
    let mut inside = in_namespace(netns.as_fd(), Socket::route)
        .and_then(|socket| socket)
        .map_err(|e| netns_error("enter", attachment, e))?;
    let link = get_link(&mut inside, INSIDE).map_err(kernel("look up link inside", INSIDE))?;
    let link = link.filter(|link| link.up).ok_or_else(|| gone(format!("link {INSIDE} inside")))?;
    let have = addresses(&mut inside).map_err(kernel("list addresses of", INSIDE))?;
    for ip in &lease.ips {
        if !have.iter().any(|(of, address)| *of == link.index && address.addr() == *ip) {
            return Err(gone(format!("address {ip} inside")));
        }
    }
    Ok(())
}
