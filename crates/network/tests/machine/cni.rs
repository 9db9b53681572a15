//! Networks by the plugins of containernetworking-plugins, in chains as nodes have them.

use std::path::Path;
use std::time::{Duration, SystemTime};

use model::{Class, Classified as _, Protocol};
use network::{CniConfig, Mode, NetworkConfig, Networks};

use crate::common::*;
use crate::plugins::{BIN, CONF, conf};
use crate::sudden::daemon;

const PLUGINS: &str = "/usr/lib/cni";

pub fn config() -> CniConfig {
    assert!(
        Path::new(PLUGINS).join("bridge").exists(),
        "this test needs the package containernetworking-plugins (cargo xtask setup installs it)"
    );
    CniConfig { conf_dir: CONF.into(), bin_dirs: vec![PLUGINS.into()], ..CniConfig::default() }
}

fn chain(subnet: &str) -> String {
    format!(
        r#"{{"cniVersion":"1.0.0","name":"podnet","plugins":[
            {{"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,"hairpinMode":true,
              "ipam":{{"type":"host-local","ranges":[[{{"subnet":"{subnet}"}}]],"routes":[{{"dst":"0.0.0.0/0"}}]}}}},
            {{"type":"portmap","capabilities":{{"portMappings":true}}}},
            {{"type":"firewall"}},
            {{"type":"bandwidth","capabilities":{{"bandwidth":true}}}}]}}"#
    )
}

async fn start(config: CniConfig) -> Networks {
    let networks = Networks::new(NetworkConfig::new(Mode::Cni(config))).unwrap();
    until(&networks, |status| status.ready).await;
    networks
}

fn leases() -> Vec<String> {
    let dir = std::fs::read_dir("/var/lib/cni/networks/podnet").into_iter().flatten().flatten();
    let names = dir.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect()
}

#[test]
fn a_chain_of_real_plugins_serves_and_gives_everything_back() {
    on_a_machine(|| async {
        conf("10-podnet.conflist", &chain("10.77.0.0/24"));
        let neighbour = neighbour(1500).await;
        let networks = start(config()).await;
        let mut rounds = Vec::new();
        for round in 1..=2 {
            let netns = networks.new_netns(&id(round)).await.unwrap();
            let mut attachment = pod(&id(round), &netns);
            attachment.port_mappings = vec![port(Protocol::Tcp, 8080, 80)];
            attachment.annotations.insert("kubernetes.io/ingress-bandwidth".into(), "100M".into());
            let attached = networks.attach(&attachment).await.unwrap();
            assert_eq!(attached.ips.len(), 1, "{attached:?}");
            assert_eq!(attached.interfaces.len(), 1, "{attached:?}");
            serve(netns.path(), "0.0.0.0:80");
            serve(neighbour.path(), &format!("0.0.0.0:{}", 80 + u16::from(round)));
            connect(&here(), &format!("{}:80", attached.ips[0])).unwrap();
            connect(neighbour.path(), "192.0.2.1:8080").unwrap();
            let seen =
                connect(netns.path(), &format!("192.0.2.2:{}", 80 + u16::from(round))).unwrap();
            assert_eq!(seen.to_string(), "192.0.2.1");
            networks.detach(&attachment, Some(&attached.result)).await.unwrap();
            networks.detach(&attachment, Some(&attached.result)).await.unwrap();
            networks.remove_netns(&id(round)).await.unwrap();
            assert!(leases().is_empty());
            let mut left = inventory();
            // Names of chains that portmap keeps carry the pod's hash; their number is what counts.
            let rules = left.remove("rules").unwrap();
            rounds.push((left, rules.len(), run("iptables-save", "")));
        }
        let ports = |saved: &str| saved.matches("8080").count();
        assert_eq!((rounds[0].0.clone(), 0), (rounds[1].0.clone(), ports(&rounds[1].2)));
        assert_eq!(rounds[0].1, rounds[1].1, "{}", rounds[1].2);
    });
}

#[test]
fn check_tells_when_a_pod_has_lost_its_interface_and_a_lost_namespace_is_no_error() {
    on_a_machine(|| async {
        // The bandwidth plugin of this version fails at CHECK for a pod without limits.
        let chain = chain("10.77.0.0/24").replace(
            r#",
            {"type":"bandwidth","capabilities":{"bandwidth":true}}"#,
            "",
        );
        conf("10-podnet.conflist", &chain);
        let networks = start(config()).await;
        let netns = networks.new_netns(&id(1)).await.unwrap();
        let attachment = pod(&id(1), &netns);
        networks.attach(&attachment).await.unwrap();
        is_whole(&networks, &attachment).await.unwrap();
        ip("-n isopod-010101010101 link delete eth0");
        let error = is_whole(&networks, &attachment).await.unwrap_err();
        assert!(error.contains("podnet eth0") && error.contains("CHECK"), "{error}");
        ip("netns delete isopod-010101010101");
        networks.detach(&attachment, None).await.unwrap();
        networks.remove_netns(&id(1)).await.unwrap();
        assert!(leases().is_empty());
    });
}

#[test]
fn a_host_port_of_portmap_that_is_taken_is_an_error_that_names_its_holder_and_leaves_nothing() {
    on_a_machine(|| async {
        conf("10-podnet.conflist", &chain("10.77.0.0/24"));
        let networks = start(config()).await;
        let first = networks.new_netns(&id(1)).await.unwrap();
        let mut holder = pod(&id(1), &first);
        holder.port_mappings = vec![port(Protocol::Tcp, 8080, 80)];
        networks.attach(&holder).await.unwrap();
        let _tcp = std::net::TcpListener::bind("127.0.0.1:9090").unwrap();
        let second = networks.new_netns(&id(2)).await.unwrap();
        let before = (inventory(), leases());
        let mut attachment = pod(&id(2), &second);
        for (wanted, who) in [(8080, id(1).to_string()), (9090, "a process".to_owned())] {
            let wanted = [port(Protocol::Udp, 8080, 80), port(Protocol::Tcp, wanted, 80)];
            attachment.port_mappings = wanted.to_vec();
            let error = networks.attach(&attachment).await.unwrap_err();
            assert!(error.to_string().contains(&who), "{error}");
            assert_eq!(error.class(), Class::FailedPrecondition, "{error}");
            assert_eq!((inventory(), leases()), before, "{error}");
        }
        // Of two that want the same port at once, one gets it.
        networks.detach(&holder, None).await.unwrap();
        attachment.port_mappings = vec![port(Protocol::Tcp, 8080, 80)];
        let both = tokio::join!(networks.attach(&holder), networks.attach(&attachment));
        assert!(both.0.is_ok() != both.1.is_ok(), "{both:?}");
        for one in [&holder, &attachment] {
            networks.detach(one, None).await.unwrap();
        }
    });
}

#[test]
fn exhausted_addresses_of_host_local_are_told_as_such_and_not_leaked() {
    on_a_machine(|| async {
        conf("10-podnet.conflist", &chain("10.77.0.0/30"));
        let networks = start(config()).await;
        let first = networks.new_netns(&id(1)).await.unwrap();
        networks.attach(&pod(&id(1), &first)).await.unwrap();
        let second = networks.new_netns(&id(2)).await.unwrap();
        let error = networks.attach(&pod(&id(2), &second)).await.unwrap_err();
        assert_eq!(error.class(), Class::ResourceExhausted, "{error}");
        networks.detach(&pod(&id(1), &first), None).await.unwrap();
        networks.attach(&pod(&id(2), &second)).await.unwrap();
        assert_eq!(leases().len(), 1);
    });
}

#[test]
fn leases_that_outlived_a_reboot_are_collected() {
    on_a_machine(|| async {
        conf("10-podnet.conflist", &chain("10.77.0.0/24"));
        let networks = start(config()).await;
        let dir = Path::new("/var/lib/cni/networks/podnet");
        std::fs::create_dir_all(dir).unwrap();
        let write = |ip: &str, owner: &str, written: SystemTime| {
            std::fs::write(dir.join(ip), format!("{owner}\r\neth0")).unwrap();
            let file = std::fs::File::options().write(true).open(dir.join(ip)).unwrap();
            file.set_modified(written).unwrap();
        };
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        write("10.77.0.9", id(9).as_str(), long_ago);
        write("10.77.0.10", "another-runtimes", SystemTime::now());
        let netns = networks.new_netns(&id(1)).await.unwrap();
        let attached = networks.attach(&pod(&id(1), &netns)).await.unwrap();
        let collected = networks.gc(&[id(1)]).await.unwrap();
        assert_eq!(collected.swept, [format!("lease of {}", id(9))]);
        let mut left = leases();
        left.sort_unstable();
        let mut expected = vec!["10.77.0.10".to_owned(), attached.ips[0].to_string()];
        expected.sort_unstable();
        assert_eq!(left, expected);
    });
}

/// Wraps each real plugin, to let it fail before or after its work where a file says so.
fn wrap_plugins() {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(BIN).unwrap();
    for kind in CHAIN {
        let script = format!(
            "#!/bin/sh
            fail() {{ [ -e /run/fail.$CNI_COMMAND.$1.{kind} ] && echo '{{\"code\":999,\"msg\":\"on purpose\"}}' && exit 1; }}
            fail before
            out=$({PLUGINS}/{kind}) || {{ echo \"$out\"; exit 1; }}
            fail after
            echo \"$out\""
        );
        let path = Path::new(BIN).join(kind);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

const CHAIN: [&str; 4] = ["bridge", "portmap", "firewall", "bandwidth"];

/// What is left of pods.
fn leftovers() -> (std::collections::BTreeMap<&'static str, Vec<String>>, Vec<String>) {
    (inventory(), leases())
}

#[test]
fn whatever_plugin_fails_before_or_after_its_work_nothing_is_left() {
    on_a_machine(|| async {
        wrap_plugins();
        conf("10-podnet.conflist", &chain("10.77.0.0/24"));
        let mut config = config();
        config.bin_dirs.insert(0, BIN.into());
        let networks = start(config).await;
        let mut clean = None;
        let mut number = 0;
        let mut points = vec![None];
        for verb in ["ADD", "DEL"] {
            for when in ["before", "after"] {
                points.extend(
                    CHAIN.map(|kind| Some((verb, format!("/run/fail.{verb}.{when}.{kind}")))),
                );
            }
        }
        for point in points {
            number += 1;
            let netns = networks.new_netns(&id(number)).await.unwrap();
            let mut attachment = pod(&id(number), &netns);
            attachment.port_mappings = vec![port(Protocol::Tcp, 8080, 80)];
            attachment.annotations.insert("kubernetes.io/egress-bandwidth".into(), "100M".into());
            if let Some((_, file)) = &point {
                std::fs::write(file, "").unwrap();
            }
            let attached = networks.attach(&attachment).await;
            let fails = matches!(point, Some(("ADD", _)));
            assert_eq!(attached.is_err(), fails, "{point:?}: {attached:?}");
            let detached = networks.detach(&attachment, None).await;
            let fails = matches!(point, Some(("DEL", _)));
            assert_eq!(detached.is_err(), fails, "{point:?}: {detached:?}");
            if let Some((_, file)) = &point {
                std::fs::remove_file(file).unwrap();
            }
            networks.detach(&attachment, None).await.unwrap();
            networks.remove_netns(&id(number)).await.unwrap();
            let now = leftovers();
            assert_eq!(*clean.get_or_insert_with(|| now.clone()), now, "{point:?}");
        }
    });
}

#[test]
fn a_daemon_that_is_killed_while_plugins_run_leaves_nothing_that_the_next_does_not_find() {
    on_a_machine(|| async {
        conf("10-podnet.conflist", &chain("10.77.0.0/24"));
        let first = start(config()).await;
        let netns = first.new_netns(&id(99)).await.unwrap();
        let mut attachment = pod(&id(99), &netns);
        attachment.port_mappings = vec![port(Protocol::Tcp, 8099, 80)];
        first.attach(&attachment).await.unwrap();
        first.detach(&attachment, None).await.unwrap();
        first.remove_netns(&id(99)).await.unwrap();
        let clean = leftovers();
        drop(first);
        for round in 0..8_u64 {
            let mut daemon = daemon("sudden::a_daemon_with_real_plugins");
            tokio::time::sleep(Duration::from_millis(60 + 37 * round)).await;
            daemon.kill().unwrap();
            daemon.wait().unwrap();
            let networks = start(config()).await;
            let collected = networks.gc(&[]).await.unwrap();
            assert!(collected.left.is_empty(), "{collected:?}");
            assert_eq!(leftovers(), clean, "round {round}: {collected:?}");
        }
    });
}
