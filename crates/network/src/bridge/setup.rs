//! The bridge itself: link, addresses, kernel parameters, table.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::lock::BridgeLock;
use super::rules::{self, GROUP, OURS, Owner};
use super::{Ready, State, kernel};
use crate::config::BridgeConfig;
use crate::error::NetworkError;
use crate::netlink::{
    Link, Socket, add_address, addresses, default_route_links, delete_address, get_link,
    group_link, join_bridge, link_to, list_links, name_link, name_port, new_bridge, set_up,
};
use crate::ports;
use crate::record::{Joined, SandboxRecord};

/// The MTU where no default route tells one.
const USUAL_MTU: u32 = 1500;

type Records<'a> = &'a dyn Fn() -> Result<Vec<SandboxRecord>, NetworkError>;

/// Sees to it that everything is there. Where it is, that costs two netlink questions.
pub(super) fn ensure(
    config: &BridgeConfig,
    state: &mut State,
    records: Records<'_>,
) -> Result<(), NetworkError> {
    let mut route = Socket::route().map_err(kernel("open", "a route socket"))?;
    let mut netfilter = Socket::netfilter().map_err(kernel("open", "a netfilter socket"))?;
    let name = &config.name;
    if let Some(ready) = &state.ready {
        let link = get_link(&mut route, name).map_err(kernel("look up bridge", name))?;
        let table = rules::owner(&mut netfilter, name).map_err(kernel("look up table", name))?;
        if link.is_some_and(|link| link.index == ready.index && link.up) && table == Owner::Us {
            return Ok(());
        }
        tracing::warn!(bridge = name, "the bridge or its table was taken away; making it anew");
    }
    // The lock of an earlier time is kept until the new state is complete.
    let lock = match state.ready.take() {
        Some(ready) => ready._lock,
        None => BridgeLock::take(name)?,
    };
    let subnets: Vec<IpNet> = state.pools.iter().map(super::Pool::subnet).collect();
    if let Some(other) = overlap(&mut route, name, &subnets)? {
        return Err(NetworkError::Config { reason: other });
    }
    let mtu = match config.mtu {
        Some(mtu) => mtu,
        None => outside_mtu(&mut route).map_err(kernel("read", "the default route"))?,
    };
    let link = own_link(&mut route, name, mtu)?;
    parameters(name, &subnets)?;
    let gateways: Vec<IpNet> = state
        .pools
        .iter()
        .filter_map(|pool| IpNet::new(pool.gateway(), pool.subnet().prefix_len()).ok())
        .collect();
    own_addresses(&mut route, name, link.index, &gateways)?;
    own_ports(&mut route, link.index, records)?;
    own_table(&mut netfilter, name, &subnets, records)?;
    state.ready = Some(Ready { index: link.index, mtu, _lock: lock });
    Ok(())
}

/// A subnet that a link of the machine has already would make some of its addresses unreachable.
fn overlap(
    route: &mut Socket,
    bridge: &str,
    subnets: &[IpNet],
) -> Result<Option<String>, NetworkError> {
    let links = list_links(route).map_err(kernel("list", "links"))?;
    let all = addresses(route).map_err(kernel("list", "addresses"))?;
    for (index, address) in all {
        let name = links.iter().find(|link| link.index == index).map_or("?", |link| &link.name);
        let hit = subnets.iter().find(|s| s.contains(&address) || address.contains(*s));
        if let Some(subnet) = hit
            && name != bridge
        {
            return Ok(Some(format!(
                "subnet {subnet} of bridge {bridge} overlaps {address} of link {name}; choose another"
            )));
        }
    }
    Ok(None)
}

fn outside_mtu(route: &mut Socket) -> io::Result<u32> {
    let outside = default_route_links(route)?;
    let links = list_links(route)?;
    let mtus = links.iter().filter(|link| outside.contains(&link.index)).map(|link| link.mtu);
    Ok(mtus.min().unwrap_or(USUAL_MTU))
}

/// A hardware address of the bridge's own: without one it would change as ports come and go.
fn bridge_mac(name: &str) -> [u8; 6] {
    // FNV-1a, which is only to spread; the first byte says that the address is locally administered.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [a, b, c, d, e, ..] = hash.to_be_bytes();
    [0x0e, a, b, c, d, e]
}

fn own_link(route: &mut Socket, name: &str, mtu: u32) -> Result<Link, NetworkError> {
    let look = |route: &mut Socket| get_link(route, name).map_err(kernel("look up bridge", name));
    if look(route)?.is_none() {
        // One send: the kernel does both before anybody can end this process in between.
        let make = vec![new_bridge(name, bridge_mac(name), mtu), name_link(name, OURS)];
        route.all(make).map_err(|failed| kernel("make bridge", name)(failed.source))?;
    }
    let link =
        look(route)?.ok_or_else(|| kernel("find bridge", name)(io::ErrorKind::NotFound.into()))?;
    if link.kind != "bridge" || link.alias != OURS {
        let what = if link.kind.is_empty() { "a device" } else { link.kind.as_str() };
        return Err(NetworkError::Foreign {
            object: format!("link {name}"),
            reason: format!("it is {what} without our note on it (alias {:?})", link.alias),
        });
    }
    route
        .all(vec![group_link(name, GROUP), set_up(link.index)])
        .map_err(|failed| kernel("set up bridge", name)(failed.source))?;
    Ok(link)
}

fn own_addresses(
    route: &mut Socket,
    name: &str,
    index: u32,
    wanted: &[IpNet],
) -> Result<(), NetworkError> {
    let all = addresses(route).map_err(kernel("list addresses of", name))?;
    let have: Vec<IpNet> = all
        .into_iter()
        .filter(|(link, _)| *link == index)
        .map(|(_, address)| address)
        // The link-local address is the kernel's.
        .filter(|address| !matches!(address.addr(), IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect();
    for old in have.iter().filter(|address| !wanted.contains(address)) {
        route.one(delete_address(index, *old)).map_err(kernel("take an address from", name))?;
    }
    for new in wanted.iter().filter(|address| !have.contains(address)) {
        route.one(add_address(index, *new)).map_err(kernel("give an address to", name))?;
    }
    Ok(())
}

/// Links of sandboxes that lost their bridge, because somebody deleted it, are its ports again.
fn own_ports(route: &mut Socket, bridge: u32, records: Records<'_>) -> Result<(), NetworkError> {
    let links = list_links(route).map_err(kernel("list", "links"))?;
    for record in records()? {
        for joined in &record.joined {
            let Joined::Bridge(lease) = joined else { continue };
            let lost = links.iter().any(|link| {
                link.name == lease.link
                    && link.alias == record.sandbox.as_str()
                    && link.master != bridge
            });
            if lost {
                let again = vec![
                    join_bridge(&lease.link, bridge),
                    name_port(&lease.link, record.sandbox.as_str()),
                ];
                route.all(again).map_err(|failed| {
                    kernel("join the bridge again with", &lease.link)(failed.source)
                })?;
            }
        }
    }
    Ok(())
}

fn own_table(
    netfilter: &mut Socket,
    name: &str,
    subnets: &[IpNet],
    records: Records<'_>,
) -> Result<(), NetworkError> {
    let before = rules::owner(netfilter, name).map_err(kernel("look up table", name))?;
    if before == Owner::Other {
        return Err(NetworkError::Foreign {
            object: format!("nftables table inet {name}"),
            reason: "it has no note of ours on it".into(),
        });
    }
    let kept = rules::install(netfilter, name, subnets)
        .map_err(|failed| kernel("make table", name)(failed.source))?;
    if kept && before == Owner::Us {
        return Ok(());
    }
    for record in records()? {
        for joined in &record.joined {
            let Joined::Bridge(lease) = joined else { continue };
            if lease.ports.is_empty() {
                continue;
            }
            let opened = ports::open(netfilter, name, &record.sandbox, &lease.ips, &lease.ports);
            if let Err(error) = opened {
                tracing::warn!(sandbox = %record.sandbox, %error, "host ports could not be opened again");
            }
        }
    }
    Ok(())
}

/// Writes a kernel parameter if it has another value.
fn set(path: &str, value: &str) -> Result<(), NetworkError> {
    let path = format!("/proc/sys/net/{path}");
    let failed = kernel("set", &path);
    match std::fs::read_to_string(&path) {
        Ok(now) if now.trim() == value => Ok(()),
        Ok(_) => std::fs::write(&path, value).map_err(failed),
        Err(e) => Err(failed(e)),
    }
}

/// Lets host ports on 127.0.0.1 reach these addresses: the link to them may carry packets from there.
pub(crate) fn serve_loopback(ips: &[IpAddr]) -> Result<(), NetworkError> {
    let Some(ip) = ips.iter().find(|ip| ip.is_ipv4()) else { return Ok(()) };
    let mut route = Socket::route().map_err(kernel("open", "a route socket"))?;
    let object = ip.to_string();
    let link = link_to(&mut route, *ip).map_err(kernel("find the route to", &object))?;
    let links = list_links(&mut route).map_err(kernel("list", "links"))?;
    let Some(link) = links.iter().find(|found| Some(found.index) == link) else { return Ok(()) };
    set(&format!("ipv4/conf/{}/route_localnet", link.name), "1")
}

fn parameters(bridge: &str, subnets: &[IpNet]) -> Result<(), NetworkError> {
    if subnets.iter().any(|subnet| matches!(subnet, IpNet::V4(_))) {
        set("ipv4/ip_forward", "1")?;
        // Host ports on 127.0.0.1; the table drops what pods send to there.
        set(&format!("ipv4/conf/{bridge}/route_localnet"), "1")?;
    }
    if subnets.iter().any(|subnet| matches!(subnet, IpNet::V6(_))) {
        set(&format!("ipv6/conf/{bridge}/disable_ipv6"), "0")?;
        set(&format!("ipv6/conf/{bridge}/accept_ra"), "0")?;
        // While its link-local address were probed for, the bridge could not ask for the pods' addresses:
        // the first pods would not be reached from outside for two seconds.
        set(&format!("ipv6/conf/{bridge}/accept_dad"), "0")?;
        keep_advertised_routes()?;
        set("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// A machine that forwards ignores router advertisements, and would lose the default route that it has by
/// them, unless its interfaces say 2.
fn keep_advertised_routes() -> Result<(), NetworkError> {
    let all = "/proc/sys/net/ipv6/conf";
    let forwarding = std::fs::read_to_string(format!("{all}/all/forwarding")).unwrap_or_default();
    if forwarding.trim() == "1" {
        return Ok(());
    }
    for entry in std::fs::read_dir(all).map_err(kernel("list", all))?.flatten() {
        let path = entry.path().join("accept_ra");
        let accepts = std::fs::read_to_string(&path).is_ok_and(|text| text.trim() == "1");
        if accepts && entry.file_name() != "all" {
            std::fs::write(&path, "2").map_err(kernel("set", &path.display().to_string()))?;
        }
    }
    Ok(())
}

/// Whether this kernel has IPv6 at all.
pub(super) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}
