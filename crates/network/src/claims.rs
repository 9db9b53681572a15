//! Host ports that plugins are to lead into sandboxes.
//!
//! Plugins do not compare them: portmap lets a second sandbox, and a process of the machine, have the same port and
//! lose its connections. So they are compared with the records, and with who listens, before any plugin is called.

use std::net::IpAddr;
use std::sync::Arc;

use model::PortMapping;
use serde_json::Value;

use crate::cni::Cni;
use crate::error::NetworkError;
use crate::networks::{Inner, blocking};
use crate::ports::{self, Place};
use crate::record::{Joined, SandboxRecord};

/// A port of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    protocol: String,
    port: u64,
    place: Place,
}

impl Claim {
    fn of(port: &PortMapping) -> Self {
        Self {
            protocol: port.protocol.name().to_owned(),
            port: port.host_port.into(),
            place: Place::of(port.host_ip),
        }
    }

    /// As it is recorded for plugins.
    fn recorded(value: &Value) -> Option<Self> {
        let address = value.get("hostIP").and_then(Value::as_str);
        Some(Self {
            protocol: value.get("protocol")?.as_str()?.to_owned(),
            port: value.get("hostPort")?.as_u64()?,
            place: Place::of(address.and_then(|text| text.parse::<IpAddr>().ok())),
        })
    }

    /// Whether no two sandboxes can have both.
    fn meets(&self, other: &Self) -> bool {
        let same = self.protocol == other.protocol && self.port == other.port;
        same && self.place.meets(other.place)
    }
}

/// What a sandbox has by this network.
fn claims(joined: &Joined) -> Vec<Claim> {
    match joined {
        Joined::Bridge(lease) => lease.ports.iter().map(Claim::of).collect(),
        Joined::Ports(opened) => opened.ports.iter().map(Claim::of).collect(),
        Joined::Cni(cached) if Cni::maps_ports(cached) => {
            let all = cached.capability_args.get("portMappings").and_then(Value::as_array);
            all.into_iter().flatten().filter_map(Claim::recorded).collect()
        }
        Joined::Cni(_) => Vec::new(),
    }
}

/// The first of `wanted` that a sandbox of these records has, other than the one of `record`.
fn taken(
    wanted: &[PortMapping],
    record: &SandboxRecord,
    all: &[SandboxRecord],
) -> Option<NetworkError> {
    let others = all.iter().filter(|other| other.sandbox != record.sandbox);
    for other in others {
        let has: Vec<Claim> = other.joined.iter().flat_map(claims).collect();
        let meets = |port: &&PortMapping| has.iter().any(|one| one.meets(&Claim::of(port)));
        if let Some(port) = wanted.iter().find(meets) {
            return Some(NetworkError::PortTaken {
                port: port.host_port,
                protocol: port.protocol,
                holder: format!("sandbox {}", other.sandbox),
            });
        }
    }
    None
}

impl Inner {
    /// Writes the record, unless one of the ports `wanted` is taken. One at a time, so that of two sandboxes that
    /// want the same port one gets it.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        record: &SandboxRecord,
        wanted: &[PortMapping],
    ) -> Result<(), NetworkError> {
        let _alone = self.claiming.lock().await;
        let (records, mut record, wanted) =
            (self.records.clone(), record.clone(), wanted.to_owned());
        blocking("claiming host ports", move || {
            ports::nobody_listens(&record.sandbox, &wanted)?;
            taken(&wanted, &record, &records.all()?).map_or(Ok(()), Err)?;
            records.put(&mut record)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_on_one_address_meets_the_same_one_and_that_on_all() {
        let claim = |protocol: &str, port, address: Option<&str>| Claim {
            protocol: protocol.to_owned(),
            port,
            place: Place::of(address.map(|text| text.parse().unwrap())),
        };
        let here = claim("tcp", 80, Some("192.0.2.1"));
        for (other, meets) in [
            (claim("tcp", 80, None), true),
            (claim("tcp", 80, Some("192.0.2.1")), true),
            (claim("tcp", 80, Some("192.0.2.2")), false),
            (claim("tcp", 80, Some("0.0.0.0")), true),
            (claim("tcp", 80, Some("::")), true),
            (claim("tcp", 80, Some("2001:db8::1")), false),
            (claim("tcp", 81, None), false),
            (claim("udp", 80, None), false),
        ] {
            assert_eq!((here.meets(&other), other.meets(&here)), (meets, meets), "{other:?}");
        }
        let there = claim("tcp", 80, Some("2001:db8::1"));
        assert!(!there.meets(&claim("tcp", 80, Some("0.0.0.0"))));
        assert!(there.meets(&claim("tcp", 80, Some("::"))));
        let value = serde_json::json!({"hostPort": 80, "containerPort": 8080, "protocol": "tcp",
            "hostIP": "192.0.2.1"});
        assert_eq!(Claim::recorded(&value), Some(here));
    }
}
