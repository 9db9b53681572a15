//! A record that the first version wrote is read by this one. The file is never written again.

use std::path::Path;

use crate::record::{Joined, SandboxRecord};

#[test]
fn a_lease_of_version_1_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/network-1");
    let record: SandboxRecord = store::read_record(&path).unwrap().unwrap();
    assert!(!record.abandoned);
    let [Joined::Bridge(lease)] = &record.joined[..] else { panic!("{record:?}") };
    assert_eq!((lease.bridge.as_str(), lease.ips.len()), ("isopod0", 2));
    assert!(!lease.link.is_empty());
}

#[test]
fn a_network_of_plugins_of_version_1_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/network-cni-1");
    let record: SandboxRecord = store::read_record(&path).unwrap().unwrap();
    let [Joined::Cni(cached)] = &record.joined[..] else { panic!("{record:?}") };
    assert_eq!((cached.network_name.as_str(), cached.if_name.as_str()), ("tests", "eth0"));
    assert!(cached.result.is_some());
}
