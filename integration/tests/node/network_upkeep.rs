//! The networks of pods are looked after by the command line.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use cri_api::v1::{PortMapping, StopPodSandboxRequest};
use serde_json::Value;
use testkit::{Daemon, Network};

use crate::around::around;
use crate::network::CONFLIST;

fn cli(daemon: &Daemon, args: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = daemon.cli(args).output().unwrap();
    let said = [stdout, stderr].concat();
    (status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

fn json(daemon: &Daemon, args: &[&str]) -> Value {
    let (_, said) = cli(daemon, &[args, &["-o", "json"]].concat());
    serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"))
}

/// Runs ip(8), in this test's network namespace or in a pod's.
fn ip(inside: Option<(&Daemon, &str)>, args: &str) {
    let mut command = match inside {
        Some((daemon, pod_id)) => {
            let netns = daemon.directory().join(format!("netns/isopod-{}", &pod_id[..12]));
            let mut command = Command::new("nsenter");
            command.arg(format!("--net={}", netns.display())).arg("ip");
            command
        }
        None => Command::new("ip"),
    };
    let done = command.args(args.split(' ')).output().unwrap();
    assert!(done.status.success(), "{args}: {}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn the_bridge_is_shown_checked_and_cleared_by_the_command_line() {
    let around = around(|setup| setup.network(Network::Bridge)).await;
    let daemon = &around.daemon;
    let mut pod = testkit::pod(daemon, "one");
    pod.port_mappings =
        vec![PortMapping { container_port: 80, host_port: 18_082, ..Default::default() }];
    daemon.run_pod(&pod, "").await.unwrap();
    let two = daemon.run_pod(&testkit::pod(daemon, "two"), "").await.unwrap();
    let host = testkit::host_network(testkit::pod(daemon, "host"));
    daemon.run_pod(&host, "").await.unwrap();

    let status = json(daemon, &["network", "status"]);
    assert_eq!(status["mode"], "bridge");
    assert_eq!((&status["ready"], &status["reason"]), (&true.into(), &"NetworkReady".into()));
    assert_eq!((&status["bridge"], &status["sandboxes"]), (&"isopod0".into(), &2.into()));
    let subnet = &status["subnets"][0];
    assert_eq!(
        (&subnet["subnet"], &subnet["gateway"]),
        (&"10.88.0.0/16".into(), &"10.88.0.1".into())
    );
    assert_eq!((&subnet["used"], &subnet["free"]), (&2.into(), &65_531.into()));
    assert_eq!(status["leftovers"], Value::Array(Vec::new()));
    let (code, said) = cli(daemon, &["network", "status"]);
    assert!(code == 0 && said.contains("isopod0") && said.contains("65531"), "{said}");
    let (_, said) = cli(daemon, &["network", "status", "-o", "yaml"]);
    assert!(said.contains("mode: bridge"), "{said}");

    let (code, said) = cli(daemon, &["network", "check"]);
    assert!(code == 0 && said.matches("isopod0   eth0        ok").count() == 2, "{said}");
    let (code, said) = cli(daemon, &["network", "check", "host"]);
    assert!(code == 0 && said.contains("not checked: it is on the node's own network"), "{said}");
    let address = daemon.pod_status(&two).await.unwrap().network.unwrap().ip;
    ip(Some((daemon, &two)), &format!("address delete {address}/16 dev eth0"));
    let (code, said) = cli(daemon, &["network", "check"]);
    assert!(code == 1 && said.contains(&format!("address {address} inside")), "{said}");
    let found = json(daemon, &["network", "check", "tests/two"]);
    assert_eq!((found.as_array().unwrap().len(), &found[0]["sandbox"]), (1, &two.as_str().into()));
    assert_eq!(found[0]["found"], "NETWORK_BROKEN");
    assert_eq!(cli(daemon, &["network", "check", "one"]).0, 0, "the other one is whole");
    let rules = ["flush", "map", "inet", "isopod0", "ports4"];
    assert!(Command::new("nft").args(rules).status().unwrap().success());
    let (code, said) = cli(daemon, &["network", "check", "one"]);
    assert!(code == 1 && said.contains("host port 18082 in table isopod0"), "{said}");

    let nobody = "feed".repeat(16);
    ip(None, "link add isofeedfeedfeed type veth peer name isofeedpeer");
    ip(None, "link set isofeedfeedfeed master isopod0");
    ip(None, &format!("link set isofeedfeedfeed alias {nobody}"));
    let (code, said) = cli(daemon, &["network", "gc"]);
    assert!(code == 0 && said.contains("swept: link isofeedfeedfeed\n"), "{said}");
    assert!(said.ends_with("0 pods freed, 1 other things swept, 0 pods left\n"), "{said}");
    let again = json(daemon, &["network", "gc"]);
    assert_eq!(again["swept"], Value::Array(Vec::new()), "{again}");
    assert_eq!(json(daemon, &["network", "status"])["sandboxes"], 2, "pods keep what they have");
    let (_, said) = cli(daemon, &["operations", "--all"]);
    assert!(said.contains("CollectNetworks"), "{said}");
}

#[tokio::test]
async fn cni_networks_are_shown_checked_and_cleared_by_the_command_line() {
    let around = around(|setup| setup.cni(CONFLIST)).await;
    let daemon = &around.daemon;
    let id = daemon.run_pod(&testkit::pod(daemon, "pod"), "").await.unwrap();
    let status = json(daemon, &["network", "status"]);
    assert_eq!((&status["mode"], &status["sandboxes"]), (&"cni".into(), &1.into()));
    let network = &status["directories"][0]["networks"][0];
    assert_eq!(network["name"], "tests");
    let file = daemon.directory().join("cni/10-test.conflist");
    assert_eq!(network["file"], file.to_str().unwrap());
    assert_eq!(network["plugins"], serde_json::json!(["bridge", "portmap", "firewall"]));
    assert_eq!(network["missing"], Value::Array(Vec::new()));
    let (code, said) = cli(daemon, &["network", "status"]);
    assert!(code == 0 && said.contains("bridge, portmap, firewall"), "{said}");

    let (code, said) = cli(daemon, &["network", "check"]);
    assert!(code == 0 && said.contains("tests     eth0        ok"), "{said}");
    ip(Some((daemon, &id)), "link delete eth0");
    let (code, said) = cli(daemon, &["network", "check", "pod"]);
    assert!(code == 1 && said.contains("of network \"tests\" failed at CHECK"), "{said}");

    // From before the machine's last start; a young one may be another runtime's.
    let leases = daemon.directory().join("cni/data/tests");
    for (address, age) in [("10.77.0.98", Duration::ZERO), ("10.77.0.99", Duration::MAX)] {
        let lease = leases.join(address);
        std::fs::write(&lease, "somebody\r\neth0").unwrap();
        let at = if age.is_zero() { SystemTime::now() } else { SystemTime::UNIX_EPOCH };
        std::fs::File::options().write(true).open(&lease).unwrap().set_modified(at).unwrap();
    }
    let (code, said) = cli(daemon, &["network", "gc"]);
    assert!(code == 0 && said.contains("swept: lease of somebody\n"), "{said}");
    assert!(!leases.join("10.77.0.99").exists());
}

/// Says what it is told to by files beside it: CHECK fails once there is `gone`, DEL until there is `go`.
const PLUGIN: &str = r#"#!/bin/sh
refuse() { echo "{\"cniVersion\":\"1.0.0\",\"code\":100,\"msg\":\"$1\"}"; exit 1; }
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
ADD) echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.9.2/24"}]}' ;;
CHECK) [ ! -e "${0%/*}/gone" ] || refuse "the route is gone" ;;
DEL) [ -e "${0%/*}/go" ] || refuse "the switch is busy" ;;
esac
"#;

#[tokio::test]
async fn what_a_plugin_misses_and_what_it_does_not_give_back_is_told_with_its_words() {
    let mut plugins = PathBuf::new();
    let around = around(|setup| {
        plugins = setup.directory().join("plugins");
        std::fs::create_dir(&plugins).unwrap();
        std::fs::write(plugins.join("odd"), PLUGIN).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(plugins.join("odd"), mode).unwrap();
        let list = r#"{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"odd"}]}"#;
        let dirs = format!("network.cni.plugin_dirs = [{:?}]", plugins.display().to_string());
        setup.cni(list).toml(&dirs)
    })
    .await;
    let daemon = &around.daemon;
    let id = daemon.run_pod(&testkit::pod(daemon, "pod"), "").await.unwrap();
    assert_eq!(cli(daemon, &["network", "check"]).0, 0);
    std::fs::write(plugins.join("gone"), "").unwrap();
    let (code, said) = cli(daemon, &["network", "check"]);
    assert!(code == 1 && said.contains("the route is gone"), "{said}");

    let stop = || StopPodSandboxRequest { pod_sandbox_id: id.clone() };
    let refused = daemon.runtime().stop_pod_sandbox(stop()).await.unwrap_err();
    assert!(refused.message().contains("the switch is busy"), "{refused}");
    let left = &json(daemon, &["network", "status"])["leftovers"][0];
    assert_eq!(left["sandbox"], id.as_str());
    assert!(left["error"].as_str().unwrap().contains("the switch is busy"), "{left}");
    let (_, said) = cli(daemon, &["network", "status"]);
    assert!(said.contains("and tried again") && said.contains(&id[..12]), "{said}");
    std::fs::write(plugins.join("go"), "").unwrap();
    daemon.runtime().stop_pod_sandbox(stop()).await.unwrap();
    let status = json(daemon, &["network", "status"]);
    assert_eq!(status["leftovers"], Value::Array(Vec::new()), "{status}");
    assert_eq!(status["sandboxes"], 0);
    let (code, said) = cli(daemon, &["network", "check", "pod"]);
    assert!(code == 0 && said.contains("not checked: it has given its network back"), "{said}");
}
