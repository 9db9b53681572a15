//! The built-in network: a bridge, a pair of links for each sandbox, addresses, rules.
//!
//! Owns: the bridge, its address pools, its nftables table, the links that are its ports.
//! Always: what is ours carries a note (the bridge and the table `isopod`, a port the sandbox's id), and
//! what does not is never touched; one daemon has a bridge at a time; all of it is made by netlink.
//! All calls block for the time of some netlink messages. Callers: `networks`.

mod lock;
mod pod;
mod pool;
pub(crate) mod rules;
mod setup;

use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use model::SandboxId;

use crate::attachment::{Attached, Attachment, Interface};
use crate::config::BridgeConfig;
use crate::error::NetworkError;
use crate::limits::Limits;
use crate::netlink::{Socket, delete_link, list_links};
use crate::overview::{BridgeOverview, SubnetOverview};
use crate::ports;
use crate::record::{Joined, Lease, SandboxRecord};
use lock::BridgeLock;
use pool::Pool;

pub(crate) use pod::check;
pub(crate) use setup::serve_loopback;

/// A link's name has at most 15 characters (IFNAMSIZ with its zero).
pub(crate) const MOST_NAME: usize = 15;
/// The interface inside.
pub(crate) const INSIDE: &str = "eth0";

/// The built-in network.
#[derive(Debug)]
pub(crate) struct Bridge {
    config: BridgeConfig,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pools: Vec<Pool>,
    /// `None` until the bridge has been set up by this daemon.
    ready: Option<Ready>,
}

/// A bridge that is set up.
#[derive(Debug)]
struct Ready {
    index: u32,
    mtu: u32,
    /// Held as long as this daemon serves the bridge.
    _lock: BridgeLock,
}

pub(crate) fn kernel(
    operation: &'static str,
    object: &str,
) -> impl FnOnce(io::Error) -> NetworkError {
    move |source| NetworkError::Kernel { operation, object: object.to_owned(), source }
}

/// The name of a sandbox's link on the host.
fn link_of(sandbox: &SandboxId) -> String {
    format!("iso{}", sandbox.short())
}

/// The name of the link that limits what the sandbox sends.
pub(crate) fn limiter_of(sandbox: &SandboxId) -> String {
    format!("isl{}", sandbox.short())
}

impl Bridge {
    /// The network that `config` describes, with the addresses in use that `records` tell. The bridge is
    /// made when it is needed.
    pub(crate) fn new(
        config: BridgeConfig,
        records: &[SandboxRecord],
    ) -> Result<Self, NetworkError> {
        let bad = |reason: String| NetworkError::Config { reason };
        let name = &config.name;
        let chars = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !chars || name.is_empty() || name.len() > MOST_NAME || name == "lo" {
            return Err(bad(format!(
                "{name:?} cannot name a bridge (letters, digits, '-', '_', at most 15)"
            )));
        }
        let subnets = [config.subnet_v4.map(IpNet::V4), config.subnet_v6.map(IpNet::V6)];
        let mut pools = Vec::new();
        for subnet in subnets.into_iter().flatten() {
            if subnet.addr().is_ipv6() && !setup::has_ipv6() {
                tracing::warn!(%subnet, "this kernel has no IPv6; pods get none");
                continue;
            }
            let pool = Pool::new(subnet);
            pools.push(
                pool.ok_or_else(|| bad(format!("subnet {subnet} has no room for a sandbox")))?,
            );
        }
        for joined in records.iter().flat_map(|record| &record.joined) {
            let Joined::Bridge(lease) = joined else { continue };
            for ip in &lease.ips {
                for pool in &mut pools {
                    pool.claim(*ip);
                }
            }
        }
        Ok(Self { config, state: Mutex::new(State { pools, ready: None }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one step, so a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bridge's name.
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// The subnets that sandboxes get addresses of.
    pub(crate) fn subnets(&self) -> Vec<IpNet> {
        self.state().pools.iter().map(Pool::subnet).collect()
    }

    /// What it is, and how many of its addresses are in use.
    pub(crate) fn shown(&self) -> BridgeOverview {
        let subnet = |pool: &Pool| SubnetOverview {
            subnet: pool.subnet(),
            gateway: pool.gateway(),
            used: pool.used() as u64,
            free: pool.free(),
        };
        let subnets = self.state().pools.iter().map(subnet).collect();
        BridgeOverview { name: self.config.name.clone(), subnets }
    }

    /// Takes these subnets where the configuration names none, once. Whether they are in use now.
    pub(crate) fn adopt(&self, cidrs: &[IpNet]) -> bool {
        let mut state = self.state();
        if state.pools.is_empty() {
            state.pools = cidrs.iter().filter_map(|cidr| Pool::new(*cidr)).collect();
            state.ready = None;
        }
        cidrs.iter().all(|cidr| state.pools.iter().any(|pool| pool.subnet() == cidr.trunc()))
    }

    /// Sees to it that the bridge and its table are there and as they should be. `records` are asked for
    /// when the table had to be made anew, to open the host ports again.
    pub(crate) fn ensure(
        &self,
        records: impl Fn() -> Result<Vec<SandboxRecord>, NetworkError>,
    ) -> Result<(), NetworkError> {
        let mut state = self.state();
        setup::ensure(&self.config, &mut state, &records)
    }

    /// Takes addresses for the sandbox: what is to be recorded before `attach`.
    pub(crate) fn reserve(&self, attachment: &Attachment) -> Result<Lease, NetworkError> {
        let limits = read_limits(attachment)?;
        let mut state = self.state();
        if state.pools.is_empty() {
            return Err(NetworkError::NotReady {
                message: "no subnet is configured or told yet".into(),
            });
        }
        let mut ips: Vec<IpAddr> = Vec::new();
        let mut full = None;
        for pool in &mut state.pools {
            match pool.take() {
                Some(ip) => ips.push(ip),
                None => full = Some((pool.subnet().to_string(), pool.used())),
            }
        }
        if let Some((pool, used)) = full {
            ips.iter().for_each(|ip| state.pools.iter_mut().for_each(|pool| pool.give_back(*ip)));
            return Err(NetworkError::Exhausted { network: self.config.name.clone(), pool, used });
        }
        Ok(Lease {
            bridge: self.config.name.clone(),
            ips,
            link: link_of(&attachment.sandbox),
            ports: attachment.port_mappings.clone(),
            limited: limits.egress.is_some(),
        })
    }

    /// Makes what `lease` says. On a failure some of it may be there; `release` takes it away.
    pub(crate) fn attach(
        &self,
        attachment: &Attachment,
        lease: &Lease,
    ) -> Result<Attached, NetworkError> {
        let limits = read_limits(attachment)?;
        let (place, gateways) = {
            let state = self.state();
            let ready = state.ready.as_ref().ok_or_else(|| NetworkError::NotReady {
                message: format!("bridge {} is not set up", self.config.name),
            })?;
            let of = |ip: &IpAddr| {
                let pool = state.pools.iter().find(|pool| pool.subnet().contains(ip))?;
                Some((IpNet::new(*ip, pool.subnet().prefix_len()).ok()?, pool.gateway()))
            };
            ((ready.index, ready.mtu), lease.ips.iter().filter_map(of).collect::<Vec<_>>())
        };
        if !lease.ports.is_empty() {
            let mut netfilter =
                Socket::netfilter().map_err(kernel("open", "a netfilter socket"))?;
            ports::open(
                &mut netfilter,
                self.name(),
                &attachment.sandbox,
                &lease.ips,
                &lease.ports,
            )?;
        }
        let mac = pod::connect(attachment, lease, place, &gateways, limits)?;
        let result = serde_json::to_value(Joined::Bridge(lease.clone()))
            .map_err(|e| NetworkError::Config { reason: e.to_string() })?;
        Ok(Attached {
            ips: lease.ips.clone(),
            interfaces: vec![Interface { name: INSIDE.into(), mac, ips: lease.ips.clone() }],
            result: serde_json::Value::Array(vec![result]),
        })
    }

    /// The addresses of the lease are free again.
    pub(crate) fn give_back(&self, lease: &Lease) {
        let mut state = self.state();
        for ip in &lease.ips {
            state.pools.iter_mut().for_each(|pool| pool.give_back(*ip));
        }
    }

    /// Takes away ports of the bridge and host ports whose sandbox has no record.
    pub(crate) fn sweep(
        &self,
        known: impl FnOnce() -> Result<Vec<SandboxId>, NetworkError>,
    ) -> Result<Vec<String>, NetworkError> {
        let Some(index) = self.state().ready.as_ref().map(|ready| ready.index) else {
            return Ok(Vec::new());
        };
        let mut swept = Vec::new();
        let mut route = Socket::route().map_err(kernel("open", "a route socket"))?;
        let mut netfilter = Socket::netfilter().map_err(kernel("open", "a netfilter socket"))?;
        let links = list_links(&mut route).map_err(kernel("list", "links"))?;
        let owners =
            ports::owners(&mut netfilter, self.name()).map_err(kernel("list", "host ports"))?;
        // Asked last: whoever has a link or a port by now had a record before.
        let known = known()?;
        let unknown = |id: &str| !known.iter().any(|known| known.as_str() == id);
        for link in links {
            if link.master == index
                && let Ok(sandbox) = SandboxId::parse(&link.alias)
                && unknown(sandbox.as_str())
            {
                delete_link(&mut route, &link.name).map_err(kernel("delete link", &link.name))?;
                let limiter = limiter_of(&sandbox);
                delete_link(&mut route, &limiter).map_err(kernel("delete link", &limiter))?;
                swept.push(format!("link {}", link.name));
            }
        }
        for owner in owners.into_iter().filter(|owner| unknown(owner)) {
            ports::close(&mut netfilter, self.name(), &owner, &[])
                .map_err(kernel("close", "host ports"))?;
            swept.push(format!("host ports of {owner}"));
        }
        Ok(swept)
    }
}

/// Takes away what the lease names. What is not there is no error. The addresses stay taken until
/// `give_back`, which comes after the record is gone.
pub(crate) fn release(sandbox: &SandboxId, lease: &Lease) -> Result<(), NetworkError> {
    let mut route = Socket::route().map_err(kernel("open", "a route socket"))?;
    if lease.limited {
        let limiter = limiter_of(sandbox);
        delete_link(&mut route, &limiter).map_err(kernel("delete link", &limiter))?;
    }
    pod::disconnect(&mut route, sandbox, &lease.link)?;
    if !lease.ports.is_empty() {
        let mut netfilter = Socket::netfilter().map_err(kernel("open", "a netfilter socket"))?;
        ports::close(&mut netfilter, &lease.bridge, sandbox.as_str(), &lease.ports)
            .map_err(kernel("close", &format!("the host ports of {}", sandbox.short())))?;
    }
    Ok(())
}

fn read_limits(attachment: &Attachment) -> Result<Limits, NetworkError> {
    Limits::read(&attachment.annotations)
        .map_err(|bad| NetworkError::Request { reason: bad.to_string() })
}
