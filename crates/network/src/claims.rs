//! Host ports that plugins are to lead into sandboxes.
//!
//! Plugins do not compare them: portmap lets a second sandbox, and a process of the machine, have the same port and
//! lose its connections. So they are compared with the records, and with who listens, before any plugin is called.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use model::{PortMapping, SandboxId};
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

/// The host ports of all sandboxes, as their records have them, so that nobody has to read all of these for one.
#[derive(Debug, Default)]
pub(crate) struct Claims(BTreeMap<SandboxId, Vec<Claim>>);

impl Claims {
    /// What the sandbox has by this record and by no earlier one.
    pub(crate) fn note(&mut self, record: &SandboxRecord) {
        let has: Vec<Claim> = record.joined.iter().flat_map(claims).collect();
        if has.is_empty() {
            self.0.remove(&record.sandbox);
        } else {
            self.0.insert(record.sandbox.clone(), has);
        }
    }

    /// The sandbox has none any more.
    pub(crate) fn forget(&mut self, sandbox: &SandboxId) {
        self.0.remove(sandbox);
    }

    /// The first of `wanted` that a sandbox other than `but` has.
    fn taken(&self, wanted: &[PortMapping], but: &SandboxId) -> Option<NetworkError> {
        for (sandbox, has) in self.0.iter().filter(|(sandbox, _)| *sandbox != but) {
            let meets = |port: &&PortMapping| has.iter().any(|one| one.meets(&Claim::of(port)));
            if let Some(port) = wanted.iter().find(meets) {
                return Some(NetworkError::PortTaken {
                    port: port.host_port,
                    protocol: port.protocol,
                    holder: format!("sandbox {sandbox}"),
                });
            }
        }
        None
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
            records.claims().taken(&wanted, &record.sandbox).map_or(Ok(()), Err)?;
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
