//! A daemon that dies at any moment.

use std::process::{Child, Command};
use std::time::Duration;

use model::Protocol;
use network::{BridgeConfig, Mode, NetworkConfig, Networks};

use crate::common::*;
use crate::plugins::{GOOD, calls, cni, conf, list, plugin};

/// Starts this test program once more, as the daemon that is going to die.
pub fn daemon(test: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .spawn()
        .unwrap()
}

fn bridge() -> NetworkConfig {
    NetworkConfig::new(Mode::Bridge(BridgeConfig {
        name: "isotest0".into(),
        subnet_v4: Some("10.200.0.0/24".parse().unwrap()),
        subnet_v6: Some("fd00:200::/64".parse().unwrap()),
        mtu: None,
    }))
}

/// Pods come and go until the end.
async fn live(networks: Networks) {
    until(&networks, |status| status.ready).await;
    for number in (1..=20).cycle() {
        let netns = networks.new_netns(&id(number)).await.unwrap();
        let mut attachment = pod(&id(number), &netns);
        attachment.port_mappings = vec![port(Protocol::Tcp, 8000 + u16::from(number), 80)];
        attachment.annotations.insert("kubernetes.io/egress-bandwidth".into(), "20M".into());
        networks.attach(&attachment).await.unwrap();
        networks.detach(&attachment, None).await.unwrap();
        networks.remove_netns(&id(number)).await.unwrap();
    }
}

#[test]
#[ignore = "it is the daemon that another test kills"]
fn a_daemon_with_a_bridge() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { live(Networks::new(bridge()).unwrap()).await });
}

#[test]
#[ignore = "it is the daemon that another test kills"]
fn a_daemon_with_plugins() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        live(Networks::new(NetworkConfig::new(Mode::Cni(cni()))).unwrap()).await
    });
}

#[test]
#[ignore = "it is the daemon that another test kills"]
fn a_daemon_with_real_plugins() {
    let config = NetworkConfig::new(Mode::Cni(crate::cni::config()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { live(Networks::new(config).unwrap()).await });
}

#[test]
fn a_bridge_daemon_that_is_killed_at_any_moment_leaves_nothing_that_the_next_does_not_find() {
    on_a_machine(|| async {
        let networks = Networks::new(bridge()).unwrap();
        until(&networks, |status| status.ready).await;
        let clean = inventory();
        drop(networks);
        for round in 0..25 {
            let mut daemon = daemon("sudden::a_daemon_with_a_bridge");
            // No moment is the right one; these are spread over what a pod takes.
            tokio::time::sleep(Duration::from_micros(20_000 + 1_700 * round)).await;
            daemon.kill().unwrap();
            daemon.wait().unwrap();
            let networks = Networks::new(bridge()).unwrap();
            until(&networks, |status| status.ready).await;
            let collected = networks.gc(&[]).await.unwrap();
            assert!(collected.left.is_empty(), "{collected:?}");
            assert_eq!(inventory(), clean, "round {round}: {collected:?}");
        }
    });
}

#[test]
fn a_plugin_of_a_killed_daemon_is_ended_before_its_network_is_deleted() {
    on_a_machine(|| async {
        // It ignores everything but SIGKILL, and would undo DEL if it lived on.
        let add = format!(
            "trap '' TERM HUP INT PIPE
            sleep 1000 & echo $$ $! > /run/pids; touch /run/begun; wait; touch /run/late; {GOOD}"
        );
        let look = "for pid in $(cat /run/pids); do
            grep -q '^State:.*[RSD] ' /proc/$pid/status && echo $pid; done > /run/alive-at-del";
        plugin("slow", &add, look);
        conf("10-net.conflist", &list("net", "1.0.0", &["slow"]));
        let mut daemon = daemon("sudden::a_daemon_with_plugins");
        eventually("the plugin to run", || std::path::Path::new("/run/begun").exists()).await;
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        assert_eq!(calls(), ["ADD slow eth0"]);
        let networks = Networks::new(NetworkConfig::new(Mode::Cni(cni()))).unwrap();
        let collected = networks.gc(&[]).await.unwrap();
        assert_eq!(collected.freed, [id(1)], "{collected:?}");
        assert_eq!(calls(), ["ADD slow eth0", "DEL slow eth0"]);
        assert_eq!(std::fs::read_to_string("/run/alive-at-del").unwrap(), "");
        assert!(!std::path::Path::new("/run/late").exists());
        assert!(inventory()["namespaces"].is_empty());
    });
}
