//! Networks by plugins that are scripts, for everything that real ones do rarely.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use model::{Class, Classified as _, Dns, Protocol};
use network::{CniConfig, Mode, NetworkConfig, NetworkError, Networks, Reason};

use crate::common::*;

pub const CONF: &str = "/run/cni/net.d";
pub const BIN: &str = "/run/cni/bin";

/// Answers an address in the way of the specification.
pub const GOOD: &str = r#"echo '{"cniVersion":"1.0.0","interfaces":[{"name":"'$CNI_IFNAME'","mac":"aa:bb:cc:dd:ee:ff","sandbox":"'$CNI_NETNS'"}],"ips":[{"address":"10.9.0.2/24","interface":0}]}'"#;

/// Makes the plugin `kind`: it notes each call in /run/calls, its configuration in
/// /run/in.KIND.COMMAND, its environment in /run/env.KIND.COMMAND, and at ADD does what `add` says.
pub fn plugin(kind: &str, add: &str, rest: &str) {
    std::fs::create_dir_all(BIN).unwrap();
    let script = format!(
        "#!/bin/sh\n\
         [ $CNI_COMMAND = VERSION ] && {{ echo '{{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}}'; exit 0; }}\n\
         echo \"$CNI_COMMAND {kind} $CNI_IFNAME\" >> /run/calls\n\
         cat > /run/in.{kind}.$CNI_COMMAND\n\
         env > /run/env.{kind}.$CNI_COMMAND\n\
         if [ $CNI_COMMAND = ADD ]; then\n{add}\nelse\n{rest}\ntrue\nfi\n"
    );
    let (path, new) = (Path::new(BIN).join(kind), Path::new(BIN).join(format!(".{kind}.new")));
    std::fs::write(&new, script).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(new, path).unwrap();
}

pub fn conf(file: &str, text: &str) {
    std::fs::create_dir_all(CONF).unwrap();
    std::fs::write(Path::new(CONF).join(file), text).unwrap();
}

/// A configuration list of these plugins.
pub fn list(name: &str, version: &str, plugins: &[&str]) -> String {
    let plugins: Vec<String> = plugins
        .iter()
        .map(|kind| {
            format!(
                r#"{{"type":"{kind}","capabilities":{{"portMappings":true,"bandwidth":true,"dns":true,"ipRanges":true}}}}"#
            )
        })
        .collect();
    format!(r#"{{"cniVersion":"{version}","name":"{name}","plugins":[{}]}}"#, plugins.join(","))
}

pub fn cni() -> CniConfig {
    CniConfig {
        conf_dir: CONF.into(),
        bin_dirs: vec![BIN.into(), "/run/cni/other".into()],
        plugin_timeout: Duration::from_secs(20),
        ..CniConfig::default()
    }
}

pub fn start(config: CniConfig) -> Networks {
    Networks::new(NetworkConfig::new(Mode::Cni(config))).unwrap()
}

/// The calls of plugins so far, but for STATUS, which comes when it comes.
pub fn calls() -> Vec<String> {
    let text = std::fs::read_to_string("/run/calls").unwrap_or_default();
    text.lines().filter(|line| !line.starts_with("STATUS")).map(str::to_owned).collect()
}

/// Whether the process with this number runs, and is not only waiting to be waited for.
pub fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

fn json(path: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn environment(path: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn plugins_are_told_what_kubernetes_tells_them_and_del_is_told_what_add_answered() {
    on_a_machine(|| async {
        plugin("first", GOOD, "");
        plugin(
            "second",
            r#"echo '{"ips":[{"address":"10.9.0.2/24"},{"address":"fd00::9/64"}]}'"#,
            "",
        );
        conf("10-net.conflist", &list("net", "1.0.0", &["first", "second"]));
        let networks = start(cni());
        until(&networks, |status| status.ready).await;
        networks.set_pod_cidrs(vec!["10.9.0.0/24".parse().unwrap()]).await.unwrap();
        let netns = networks.new_netns(&id(1)).await.unwrap();
        let mut attachment = pod(&id(1), &netns);
        attachment.port_mappings = vec![port(Protocol::Udp, 5353, 53)];
        attachment.dns = Some(Dns { servers: vec!["192.0.2.53".into()], ..Dns::default() });
        attachment.annotations.insert("kubernetes.io/ingress-bandwidth".into(), "1M".into());
        let attached = networks.attach(&attachment).await.unwrap();
        assert_eq!(
            attached.ips,
            ["10.9.0.2".parse::<std::net::IpAddr>().unwrap(), "fd00::9".parse().unwrap()]
        );
        let env = environment("/run/env.first.ADD");
        assert_eq!(env["CNI_CONTAINERID"], id(1).as_str());
        assert_eq!(env["CNI_NETNS"], netns.path().to_str().unwrap());
        assert_eq!(
            (env["CNI_IFNAME"].as_str(), env["CNI_PATH"].as_str()),
            ("eth0", "/run/cni/bin:/run/cni/other")
        );
        let expected = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID=uid",
            attachment.name,
            id(1)
        );
        assert_eq!(env["CNI_ARGS"], expected);
        let told = json("/run/in.first.ADD");
        assert_eq!(
            (told["name"].as_str(), told["cniVersion"].as_str()),
            (Some("net"), Some("1.0.0"))
        );
        let wanted = serde_json::json!({
            "portMappings": [{"hostPort": 5353, "containerPort": 53, "protocol": "udp"}],
            "bandwidth": {"ingressRate": 1_000_000, "ingressBurst": u32::MAX},
            "dns": {"servers": ["192.0.2.53"], "searches": [], "options": []},
            "ipRanges": [[{"subnet": "10.9.0.0/24"}]],
        });
        assert_eq!(told["runtimeConfig"], wanted);
        assert!(told.get("prevResult").is_none());
        assert_eq!(json("/run/in.second.ADD")["prevResult"]["ips"][0]["address"], "10.9.0.2/24");
        is_whole(&networks, &attachment).await.unwrap();
        // The configuration changes meanwhile, DEL goes by the old one.
        conf("10-net.conflist", &list("other", "1.0.0", &["first"]));
        networks.detach(&attachment, None).await.unwrap();
        assert_eq!(json("/run/in.first.DEL")["prevResult"]["ips"][1]["address"], "fd00::9/64");
        assert_eq!(json("/run/in.first.DEL")["name"], "net");
        networks.detach(&attachment, None).await.unwrap();
        let expected = [
            "ADD first eth0",
            "ADD second eth0",
            "CHECK first eth0",
            "CHECK second eth0",
            "DEL second eth0",
            "DEL first eth0",
        ];
        assert_eq!(calls(), expected);
        networks.remove_netns(&id(1)).await.unwrap();
    });
}

#[test]
fn what_a_plugin_does_wrong_is_told_and_undone() {
    on_a_machine(|| async {
        conf("10-net.conflist", &list("net", "1.0.0", &["good", "bad"]));
        plugin("good", GOOD, "");
        plugin("bad", GOOD, "");
        let networks = start(CniConfig { plugin_timeout: Duration::from_secs(2), ..cni() });
        until(&networks, |status| status.ready).await;
        let netns = networks.new_netns(&id(1)).await.unwrap();
        let attachment = pod(&id(1), &netns);
        let before = inventory();
        let huge = "head -c 1000000 /dev/zero | tr '\\0' x";
        let later = r#"echo '{"cniVersion":"1.0.0","code":11,"msg":"try later","details":"full moon"}'; exit 1"#;
        let full = r#"echo '{"code":100,"msg":"failed to allocate: no IP addresses available in range set"}'; exit 1"#;
        let hang = "sleep 1000 & echo $! > /run/child; wait";
        for (add, words, class) in [
            ("echo oops", "no JSON", Class::Internal),
            ("true", "no result", Class::Internal),
            ("echo '[]'", "no result", Class::Internal),
            (huge, "more than 512 KiB", Class::Internal),
            ("echo sorry >&2; exit 3", "exit code 3 and printed no error: sorry", Class::Internal),
            ("kill -9 $$", "signal 9", Class::Internal),
            ("echo '{\"ips\":[]}'", "without an address", Class::Internal),
            ("echo '{\"ips\":[{\"address\":\"x\"}]}'", "no address with a prefix", Class::Internal),
            (later, "try later (code 11): full moon", Class::Unavailable),
            (full, "no IP addresses", Class::ResourceExhausted),
            (hang, "killed at ADD after 2 s", Class::DeadlineExceeded),
        ] {
            plugin("bad", add, "");
            let error = networks.attach(&attachment).await.unwrap_err();
            let text = error.to_string();
            assert!(text.contains(words), "{add}: {text}");
            assert!(text.contains("\"bad\"") && text.contains("\"net\""), "{text}");
            assert_eq!(error.class(), class, "{text}");
            assert_eq!(calls().last().unwrap(), "DEL good eth0", "{add}");
            assert_eq!(inventory(), before, "{add}");
        }
        // The child of the one that hung is gone too, or about to be.
        let child = std::fs::read_to_string("/run/child").unwrap();
        eventually("the child to end", || !is_alive(&child)).await;
        std::fs::set_permissions(format!("{BIN}/bad"), std::fs::Permissions::from_mode(0o644))
            .unwrap();
        let error = networks.attach(&attachment).await.unwrap_err();
        assert!(error.to_string().contains("cannot be started"), "{error}");
    });
}

#[test]
fn a_child_that_keeps_the_pipe_does_not_keep_the_call() {
    on_a_machine(|| async {
        plugin("one", &format!("sleep 30 & {GOOD}"), "");
        conf("10-net.conflist", &list("net", "1.0.0", &["one"]));
        let networks = start(cni());
        until(&networks, |status| status.ready).await;
        let netns = networks.new_netns(&id(1)).await.unwrap();
        networks.attach(&pod(&id(1), &netns)).await.unwrap();
    });
}

#[test]
fn del_is_repeated_until_it_succeeds_also_by_the_next_daemon() {
    on_a_machine(|| async {
        let refuse = "[ -e /run/healed ] || { echo '{\"code\":999,\"msg\":\"not now\"}'; exit 1; }";
        plugin("one", GOOD, refuse);
        conf("10-net.conflist", &list("net", "1.0.0", &["one"]));
        let networks = start(cni());
        until(&networks, |status| status.ready).await;
        let before = inventory();
        for number in [1, 2] {
            let netns = networks.new_netns(&id(number)).await.unwrap();
            let attachment = pod(&id(number), &netns);
            networks.attach(&attachment).await.unwrap();
            let error = networks.detach(&attachment, None).await.unwrap_err();
            assert!(matches!(error, NetworkError::Plugin { code: 999, .. }), "{error}");
            networks.remove_netns(&id(number)).await.unwrap();
        }
        let records = || std::fs::read_dir("/run/isopod/network/sandboxes").unwrap().count();
        assert_eq!(records(), 2);
        drop(networks);
        std::fs::write("/run/healed", "").unwrap();
        let _networks = start(cni());
        eventually("records to be settled", || records() == 0).await;
        assert_eq!(inventory(), before);
    });
}

#[test]
fn a_late_configuration_makes_the_network_ready_within_a_second() {
    on_a_machine(|| async {
        plugin("one", GOOD, "");
        // A handler whose directory never comes must not keep the others from being watched.
        let handler = model::HandlerName::parse("other").unwrap();
        let networks = start(CniConfig {
            handler_conf_dirs: BTreeMap::from([(handler.clone(), "/run/cni/other.d".into())]),
            ..cni()
        });
        assert_eq!(networks.status().reason, Reason::NoConfiguration);
        let netns = networks.new_netns(&id(1)).await.unwrap();
        let error = networks.attach(&pod(&id(1), &netns)).await.unwrap_err();
        assert_eq!(error.class(), Class::Unavailable, "{error}");
        // First no directory, then an empty one, then changes in it.
        conf("10-net.conflist", &list("net", "1.0.0", &["one"]));
        let first = until(&networks, |status| status.ready).await;
        conf("10-net.conflist", "{\n\n \"name\": 3}");
        let invalid =
            until(&networks, |status| status.reason == Reason::InvalidConfiguration).await;
        assert!(
            networks.status().message.contains("10-net.conflist, line 3"),
            "{:?}",
            networks.status()
        );
        conf("10-net.conflist", &list("net", "1.0.0", &["one", "two"]));
        let missing = until(&networks, |status| status.reason == Reason::PluginMissing).await;
        assert!(
            networks.status().message.contains("\"two\" is not in /run/cni/bin, /run/cni/other")
        );
        plugin("two", GOOD, "");
        let installed = until(&networks, |status| status.ready).await;
        std::fs::remove_file(Path::new(CONF).join("10-net.conflist")).unwrap();
        let removed = until(&networks, |status| status.reason == Reason::NoConfiguration).await;
        conf("10-net.conflist", &list("net", "1.0.0", &["one"]));
        until(&networks, |status| status.ready).await;
        let mut other = pod(&id(1), &netns);
        other.handler = handler;
        assert!(
            networks.attach(&other).await.unwrap_err().to_string().contains("/run/cni/other.d")
        );
        std::fs::create_dir("/run/cni/other.d").unwrap();
        std::fs::write(
            "/run/cni/other.d/1.conf",
            r#"{"cniVersion":"1.0.0","name":"o","type":"two"}"#,
        )
        .unwrap();
        let start = std::time::Instant::now();
        while let Err(error) = networks.attach(&other).await {
            assert!(start.elapsed() < PATIENCE, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for (what, took) in [
            ("first", first),
            ("invalid", invalid),
            ("missing", missing),
            ("installed", installed),
            ("removed", removed),
        ] {
            eprintln!("{what}: {took:?}");
        }
    });
}

#[test]
fn status_and_versions_of_plugins_have_the_last_word() {
    on_a_machine(|| async {
        let refuse = "[ $CNI_COMMAND != STATUS ] || [ -e /run/up ] || { echo '{\"code\":50,\"msg\":\"agent is starting\"}'; exit 1; }";
        plugin("one", GOOD, refuse);
        conf("10-net.conflist", &list("net", "1.1.0", &["one"]));
        let networks = start(cni());
        assert!(!networks.status().ready, "nobody has asked the plugin yet");
        until(&networks, |status| status.message.contains("agent is starting")).await;
        assert_eq!(networks.status().reason, Reason::PluginNotReady);
        std::fs::write("/run/up", "").unwrap();
        until(&networks, |status| status.ready).await;
        conf("10-net.conflist", &list("net", "0.2.0", &["one"]));
        until(&networks, |status| status.message.contains("speaks 0.3.1, 0.4.0, 1.0.0, 1.1.0"))
            .await;
    });
}

#[test]
fn several_networks_are_joined_at_once_and_left_in_reverse() {
    on_a_machine(|| async {
        // Each waits for the other, so one after the other would not end.
        let meet = |me: &str, other: &str| {
            format!(
                "touch /run/at.{me}; while [ ! -e /run/at.{other} ]; do sleep 0.01; done; {GOOD}"
            )
        };
        plugin("one", &meet("one", "two"), "");
        plugin("two", &meet("two", "one"), "");
        conf("10-a.conflist", &list("a", "1.0.0", &["one"]));
        conf("20-b.conflist", &list("b", "1.0.0", &["two"]));
        conf("30-c.conflist", "not even JSON");
        let networks = start(CniConfig { max_networks: 2, ..cni() });
        until(&networks, |status| status.ready).await;
        assert_eq!(networks.status().message, "CNI: a, b");
        let netns = networks.new_netns(&id(1)).await.unwrap();
        let attached = networks.attach(&pod(&id(1), &netns)).await.unwrap();
        let names: Vec<_> = attached.interfaces.iter().map(|i| i.name.as_str()).collect();
        assert_eq!((names, attached.ips.len()), (vec!["eth0", "eth1"], 1));
        networks.detach(&pod(&id(1), &netns), None).await.unwrap();
        assert_eq!(calls()[2..], ["DEL two eth1", "DEL one eth0"]);
    });
}

#[test]
fn plugins_are_not_called_more_at_once_than_configured_and_none_starves() {
    on_a_machine(|| async {
        let count = "echo x >> /run/now.$$; ls /run/now.* | wc -l >> /run/most; sleep 0.02; rm /run/now.$$; ";
        plugin("one", &format!("{count}{GOOD}"), "");
        conf("10-net.conflist", &list("net", "1.0.0", &["one"]));
        let networks = start(CniConfig { plugins_at_once: 3, ..cni() });
        until(&networks, |status| status.ready).await;
        let mut running = tokio::task::JoinSet::new();
        for number in 1..=30 {
            let networks = networks.clone();
            running.spawn(async move {
                let netns = networks.new_netns(&id(number)).await.unwrap();
                networks.attach(&pod(&id(number), &netns)).await.unwrap();
            });
        }
        assert_eq!(running.join_all().await.len(), 30);
        let most = std::fs::read_to_string("/run/most").unwrap();
        let most = most.lines().filter_map(|line| line.trim().parse::<u32>().ok()).max();
        assert!(most.is_some_and(|most| (2..=3).contains(&most)), "{most:?} at once");
    });
}

#[test]
fn gc_tells_plugins_which_attachments_are_in_use() {
    on_a_machine(|| async {
        plugin("one", &GOOD.replace("1.0.0", "1.1.0"), "");
        conf("10-net.conflist", &list("net", "1.1.0", &["one"]));
        let networks = start(cni());
        until(&networks, |status| status.ready).await;
        for number in [1, 2] {
            let netns = networks.new_netns(&id(number)).await.unwrap();
            networks.attach(&pod(&id(number), &netns)).await.unwrap();
        }
        // Those that have just come are not taken for leftovers by whoever made them.
        assert_eq!(networks.gc(&[id(2)]).await.unwrap().freed, []);
        let networks = start(cni());
        let collected = networks.gc(&[id(2)]).await.unwrap();
        assert_eq!(collected.freed, [id(1)]);
        let told = json("/run/in.one.GC");
        let valid = serde_json::json!([{"containerID": id(2).as_str(), "ifname": "eth0"}]);
        assert_eq!(told["cni.dev/valid-attachments"], valid);
        let calls = calls();
        assert_eq!(calls[calls.len() - 2..], ["DEL one eth0", "GC one "]);
    });
}

#[test]
fn host_ports_work_without_the_portmap_plugin() {
    on_a_machine(|| async {
        // A network that routes to the pod, and knows nothing of ports.
        let add = r#"
            ip link add v$$ type veth peer name eth0 netns $(basename $CNI_NETNS) >&2
            ip link set v$$ up; ip address add 10.9.0.1/24 dev v$$
            ip -n $(basename $CNI_NETNS) address add 10.9.0.2/24 dev eth0
            ip -n $(basename $CNI_NETNS) link set eth0 up
            ip -n $(basename $CNI_NETNS) route add default via 10.9.0.1
            echo '{"ips":[{"address":"10.9.0.2/24"}]}'"#;
        plugin("routes", add, "");
        conf("10-net.conf", r#"{"cniVersion":"1.0.0","name":"net","type":"routes"}"#);
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let neighbour = neighbour(1500).await;
        let networks = start(cni());
        until(&networks, |status| status.ready).await;
        let netns = networks.new_netns(&id(1)).await.unwrap();
        let mut attachment = pod(&id(1), &netns);
        attachment.port_mappings = vec![port(Protocol::Tcp, 8080, 80)];
        networks.attach(&attachment).await.unwrap();
        serve(netns.path(), "0.0.0.0:80");
        connect(neighbour.path(), "192.0.2.1:8080").unwrap();
        connect(netns.path(), "192.0.2.1:8080").unwrap();
        connect(&here(), "127.0.0.1:8080").unwrap();
        assert_eq!(networks.status().message, "CNI: net; host ports by nftables");
        networks.detach(&attachment, None).await.unwrap();
        assert!(!run("nft", "list ruleset").contains("8080"));
    });
}
