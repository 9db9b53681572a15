//! Collection: GC where plugins have it, and what old plugins kept over a reboot.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::conf::Network;
use super::version::Version;
use super::{Cni, Subject};
use crate::error::NetworkError;
use crate::record::Cached;

/// Where host-local keeps its leases unless it is told otherwise.
const HOST_LOCAL_DIR: &str = "/var/lib/cni/networks";

/// A lease that nobody has any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leftover {
    /// Whose it was.
    pub(crate) container: String,
    /// Of which interface.
    pub(crate) if_name: String,
}

impl Cni {
    fn all_networks(&self) -> Vec<Network> {
        let mut all: Vec<Network> = Vec::new();
        for dir in self.dirs() {
            let Ok(networks) = self.networks(&dir) else { continue };
            for network in networks.iter() {
                if !all.iter().any(|other| other.name == network.name) {
                    all.push(network.clone());
                }
            }
        }
        all
    }

    /// Lets plugins give back what belongs to none of these attachments (container, network, interface).
    /// Answers what was given back, and what failed.
    pub(crate) async fn collect(
        &self,
        valid: &[(String, String, String)],
    ) -> (Vec<Leftover>, Vec<NetworkError>) {
        let (mut freed, mut failed) = (Vec::new(), Vec::new());
        for network in self.all_networks() {
            let known: Vec<_> = valid.iter().filter(|(_, name, _)| *name == network.name).collect();
            if network.version >= Version::V1_1 && !network.disable_gc {
                let list: Value = known
                    .iter()
                    .map(|(container, _, if_name)| json!({"containerID": container, "ifname": if_name}))
                    .collect();
                if let Err(error) = self.call_gc(&network, &list).await {
                    failed.push(error);
                }
                continue;
            }
            let Some(dir) = lease_dir(&network) else { continue };
            let found = tokio::task::spawn_blocking(move || leases_before_boot(&dir));
            for leftover in found.await.unwrap_or_default() {
                if known.iter().any(|(container, ..)| *container == leftover.container) {
                    continue;
                }
                match self.delete_leftover(&network, &leftover).await {
                    Ok(()) => freed.push(leftover),
                    Err(error) => failed.push(error),
                }
            }
        }
        (freed, failed)
    }

    async fn delete_leftover(
        &self,
        network: &Network,
        leftover: &Leftover,
    ) -> Result<(), NetworkError> {
        let cached = Cached {
            kind: Cached::KIND.to_owned(),
            network_name: network.name.clone(),
            if_name: leftover.if_name.clone(),
            config: network.to_value(),
            cni_args: vec![("IgnoreUnknown".into(), "1".into())],
            capability_args: Map::new(),
            result: None,
            partial: None,
        };
        self.delete(Subject { container: &leftover.container, netns: None }, &cached).await
    }
}

/// Where host-local keeps the leases of this network, if that is its address plugin.
fn lease_dir(network: &Network) -> Option<PathBuf> {
    let ipam = network.plugins.iter().find_map(|plugin| plugin.raw.get("ipam"))?;
    if ipam.get("type")?.as_str()? != "host-local" {
        return None;
    }
    let base = ipam.get("dataDir").and_then(Value::as_str).filter(|dir| !dir.is_empty());
    Some(Path::new(base.unwrap_or(HOST_LOCAL_DIR)).join(&network.name))
}

/// The leases from before the machine went down last. Namespaces do not outlive that, so nobody has them
/// any more, whichever runtime they were made for. Younger leases are left alone: those without a record
/// of ours can be another runtime's.
fn leases_before_boot(dir: &Path) -> Vec<Leftover> {
    let Some(boot) = std::fs::read_to_string("/proc/stat").ok().and_then(|stat| boot_time(&stat))
    else {
        return Vec::new();
    };
    leases_before(dir, boot)
}

fn boot_time(stat: &str) -> Option<SystemTime> {
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

fn leases_before(dir: &Path, boot: SystemTime) -> Vec<Leftover> {
    let mut all: Vec<Leftover> = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        // A lease is a file whose name is the address.
        let is_lease =
            entry.file_name().to_str().is_some_and(|name| name.parse::<IpAddr>().is_ok());
        let old = entry.metadata().and_then(|m| m.modified()).is_ok_and(|written| written < boot);
        if !is_lease || !old {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
        if let Some(leftover) = read_lease(&text)
            && !all.contains(&leftover)
        {
            all.push(leftover);
        }
    }
    all
}

/// A lease: the container's id, and the interface on a line of its own (since host-local 0.7).
fn read_lease(text: &str) -> Option<Leftover> {
    let mut lines = text.lines().map(str::trim);
    let container = lines.next()?;
    let fine =
        container.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if container.is_empty() || container.len() > 200 || !fine {
        return None;
    }
    let if_name =
        lines.next().filter(|name| !name.is_empty() && name.len() <= 15).unwrap_or("eth0");
    Some(Leftover { container: container.to_owned(), if_name: if_name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_tells_its_container_and_interface() {
        let lease = |text| read_lease(text).map(|l| (l.container, l.if_name));
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(lease("abc\r\neth1"), pair("abc", "eth1"));
        assert_eq!(lease("abc"), pair("abc", "eth0"));
        assert_eq!(lease(""), None);
        assert_eq!(lease("a b"), None);
    }

    #[test]
    fn only_leases_from_before_the_boot_are_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["10.0.0.2", "10.0.0.3", "last_reserved_ip.0", "lock"] {
            std::fs::write(dir.path().join(name), format!("id-{name}\r\neth0")).unwrap();
        }
        let past = SystemTime::now() - Duration::from_secs(3600);
        let file = std::fs::File::options().write(true).open(dir.path().join("10.0.0.3")).unwrap();
        file.set_modified(past).unwrap();
        let boot = SystemTime::now() - Duration::from_secs(60);
        let found = leases_before(dir.path(), boot);
        assert_eq!(found, [Leftover { container: "id-10.0.0.3".into(), if_name: "eth0".into() }]);
        assert!(leases_before(&dir.path().join("none"), boot).is_empty());
    }

    #[test]
    fn the_boot_time_is_read_from_proc_stat() {
        let at = boot_time("cpu 1 2\nbtime 1700000000\nprocesses 3\n").unwrap();
        assert_eq!(at, UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        assert_eq!(boot_time("cpu 1 2\n"), None);
    }
}
