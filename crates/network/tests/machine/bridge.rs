//! The built-in network on a machine of its own.

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::time::Duration;

use crate::common::*;
use model::{Class, Classified as _, PortMapping, Protocol};
use network::{
    Attachment, BridgeConfig, Mode, ModeOverview, NetworkConfig, NetworkError, Networks, Reason,
    inside,
};

fn config() -> BridgeConfig {
    BridgeConfig {
        name: "isotest0".into(),
        subnet_v4: Some("10.200.0.0/24".parse().unwrap()),
        subnet_v6: Some("fd00:200::/64".parse().unwrap()),
        mtu: None,
    }
}

async fn start(bridge: BridgeConfig) -> Networks {
    let networks = Networks::new(NetworkConfig::new(Mode::Bridge(bridge))).unwrap();
    until(&networks, |status| status.ready).await;
    networks
}

async fn join(
    networks: &Networks,
    number: u8,
    ports: Vec<PortMapping>,
) -> (Attachment, Vec<IpAddr>) {
    let netns = networks.new_netns(&id(number)).await.unwrap();
    let mut attachment = pod(&id(number), &netns);
    attachment.port_mappings = ports;
    let attached = networks.attach(&attachment).await.unwrap();
    assert_eq!(attached.ips.len(), 2, "{attached:?}");
    assert_eq!(attached.interfaces[0].name, "eth0");
    (attachment, attached.ips)
}

async fn leave(networks: &Networks, attachment: &Attachment) {
    networks.detach(attachment, None).await.unwrap();
    networks.remove_netns(&attachment.sandbox).await.unwrap();
}

#[test]
fn pods_reach_each_other_and_the_outside_and_leave_nothing() {
    on_a_machine(|| async {
        let neighbour = neighbour(1400).await;
        let networks = start(config()).await;
        let before = inventory();
        let (first, first_ips) = join(&networks, 1, vec![]).await;
        let (second, _) = join(&networks, 2, vec![]).await;
        serve(&first.netns, "[::]:80");
        for ip in &first_ips {
            let to = std::net::SocketAddr::new(*ip, 80).to_string();
            let from = connect(&second.netns, &to).unwrap();
            assert!(to.starts_with("10.") == from.is_ipv4() || from.is_ipv6(), "{from}");
        }
        serve(neighbour.path(), "[::]:80");
        // The outside sees this machine's addresses.
        for (to, machine) in
            [("192.0.2.2:80", "::ffff:192.0.2.1"), ("[2001:db8::2]:80", "2001:db8::1")]
        {
            assert_eq!(connect(&first.netns, to).unwrap().to_string(), machine);
        }
        let mtu = inside(&first.netns, || std::fs::read_to_string("/proc/thread-self/net/dev"));
        assert!(mtu.unwrap().unwrap().contains("eth0"));
        assert!(ip("-n isopod-010101010101 link show eth0").contains("mtu 1400"));
        is_whole(&networks, &first).await.unwrap();
        let stats = networks.interface_stats(&networks.netns(&id(1))).await.unwrap();
        assert!(stats[0].name == "eth0" && stats[0].rx_bytes > 0, "{stats:?}");
        for attachment in [&first, &second] {
            leave(&networks, attachment).await;
            leave(&networks, attachment).await;
        }
        assert_eq!(inventory(), before);
    });
}

#[test]
fn host_ports_lead_into_the_pod_from_everywhere() {
    on_a_machine(|| async {
        let neighbour = neighbour(1500).await;
        let networks = start(config()).await;
        let before = inventory();
        let at = PortMapping {
            host_ip: Some("192.0.2.1".parse().unwrap()),
            ..port(Protocol::Tcp, 8081, 80)
        };
        let ports = vec![
            port(Protocol::Tcp, 8080, 80),
            at,
            port(Protocol::Udp, 5353, 53),
            port(Protocol::Sctp, 9, 9),
        ];
        let (server, _) = join(&networks, 1, ports).await;
        let (other, _) = join(&networks, 2, vec![]).await;
        serve(&server.netns, "[::]:80");
        echo_udp(&server.netns, "0.0.0.0:53");
        let outside = connect(neighbour.path(), "192.0.2.1:8080").unwrap();
        assert_eq!(outside.to_string(), "::ffff:192.0.2.2", "the client's address is kept");
        connect(neighbour.path(), "[2001:db8::1]:8080").unwrap();
        connect(neighbour.path(), "192.0.2.1:8081").unwrap();
        assert!(
            connect(neighbour.path(), "[2001:db8::1]:8081").is_err(),
            "only where it was asked for"
        );
        ask_udp(neighbour.path(), "192.0.2.1:5353").unwrap();
        for from in [&here(), &server.netns, &other.netns] {
            connect(from, "192.0.2.1:8080").unwrap_or_else(|e| panic!("{from:?}: {e}"));
            connect(from, "[2001:db8::1]:8080").unwrap_or_else(|e| panic!("{from:?}: {e}"));
        }
        connect(&here(), "127.0.0.1:8080").unwrap();
        leave(&networks, &server).await;
        assert!(connect(neighbour.path(), "192.0.2.1:8080").is_err());
        leave(&networks, &other).await;
        assert_eq!(inventory(), before);
    });
}

#[test]
fn a_udp_client_that_keeps_sending_reaches_the_pod_that_has_the_port_now() {
    on_a_machine(|| async {
        let neighbour = neighbour(1500).await;
        let networks = start(config()).await;
        let client = inside(neighbour.path(), || UdpSocket::bind("0.0.0.0:4000")).unwrap().unwrap();
        client.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let ask = || -> std::io::Result<usize> {
            client.send_to(b"ping", "192.0.2.1:5353")?;
            client.recv(&mut [0; 8])
        };
        client.send_to(b"nobody is there", "192.0.2.1:5353").unwrap();
        for number in [1, 2] {
            let (server, _) = join(&networks, number, vec![port(Protocol::Udp, 5353, 53)]).await;
            echo_udp(&server.netns, "0.0.0.0:53");
            assert_eq!(ask().unwrap(), 4, "pod {number}");
            leave(&networks, &server).await;
        }
    });
}

#[test]
fn pods_of_one_family_have_one_address() {
    on_a_machine(|| async {
        let neighbour = neighbour(1500).await;
        serve(neighbour.path(), "[::]:80");
        for (v4, outside) in [(true, "192.0.2.2:80"), (false, "[2001:db8::2]:80")] {
            let whole = config();
            let networks = start(BridgeConfig {
                subnet_v4: whole.subnet_v4.filter(|_| v4),
                subnet_v6: whole.subnet_v6.filter(|_| !v4),
                ..whole
            })
            .await;
            let netns = networks.new_netns(&id(1)).await.unwrap();
            let mut attachment = pod(&id(1), &netns);
            attachment.port_mappings = vec![port(Protocol::Tcp, 8080, 80)];
            let attached = networks.attach(&attachment).await.unwrap();
            assert_eq!(attached.ips.iter().map(IpAddr::is_ipv4).collect::<Vec<_>>(), [v4]);
            connect(netns.path(), outside).unwrap();
            serve(netns.path(), "[::]:80");
            let machine = if v4 { "192.0.2.1:8080" } else { "[2001:db8::1]:8080" };
            connect(neighbour.path(), machine).unwrap();
            leave(&networks, &attachment).await;
        }
    });
}

#[test]
fn a_bridge_without_subnets_takes_the_ranges_that_the_kubelet_tells() {
    on_a_machine(|| async {
        let bare = BridgeConfig { subnet_v4: None, subnet_v6: None, ..config() };
        let networks = Networks::new(NetworkConfig::new(Mode::Bridge(bare))).unwrap();
        let netns = networks.new_netns(&id(1)).await.unwrap();
        assert!(networks.attach(&pod(&id(1), &netns)).await.is_err());
        assert!(!networks.status().ready);
        networks.set_pod_cidrs(vec!["10.44.3.0/24".parse().unwrap()]).await.unwrap();
        until(&networks, |status| status.ready).await;
        let attached = networks.attach(&pod(&id(1), &netns)).await.unwrap();
        assert_eq!(attached.ips[0].to_string(), "10.44.3.2");
    });
}

#[test]
fn a_taken_host_port_is_an_error_that_names_its_holder_and_leaves_nothing() {
    on_a_machine(|| async {
        let networks = start(config()).await;
        let (first, _) = join(&networks, 1, vec![port(Protocol::Tcp, 8080, 80)]).await;
        let _tcp = TcpListener::bind("127.0.0.1:9090").unwrap();
        let _udp = UdpSocket::bind("[::]:9091").unwrap();
        let netns = networks.new_netns(&id(2)).await.unwrap();
        let before = inventory();
        for (wanted, holder) in [
            (port(Protocol::Tcp, 8080, 81), id(1).as_str()),
            (port(Protocol::Tcp, 9090, 80), "process"),
            (port(Protocol::Udp, 9091, 80), "process"),
        ] {
            let mut second = pod(&id(2), &netns);
            second.port_mappings = vec![port(Protocol::Tcp, 7000, 1), wanted];
            let error = networks.attach(&second).await.unwrap_err();
            assert!(matches!(&error, NetworkError::PortTaken { .. }), "{error}");
            assert!(error.to_string().contains(holder), "{error}");
            assert_eq!(error.class(), Class::FailedPrecondition);
            assert_eq!(inventory(), before, "{error}");
        }
        leave(&networks, &first).await;
        let mut second = pod(&id(2), &netns);
        second.port_mappings = vec![port(Protocol::Tcp, 8080, 81)];
        networks.attach(&second).await.unwrap();
    });
}

#[test]
fn an_exhausted_pool_says_so_and_serves_again_after_a_pod_has_left() {
    on_a_machine(|| async {
        let small = BridgeConfig { subnet_v4: Some("10.200.0.0/30".parse().unwrap()), ..config() };
        let networks = start(small).await;
        let (first, _) = join(&networks, 1, vec![]).await;
        let netns = networks.new_netns(&id(2)).await.unwrap();
        let before = inventory();
        let error = networks.attach(&pod(&id(2), &netns)).await.unwrap_err();
        assert_eq!(error.class(), Class::ResourceExhausted, "{error}");
        assert!(error.to_string().contains("10.200.0.0/30"), "{error}");
        assert_eq!(inventory(), before);
        leave(&networks, &first).await;
        networks.attach(&pod(&id(2), &netns)).await.unwrap();
    });
}

#[test]
fn a_new_daemon_goes_on_with_the_records_of_the_old_one() {
    on_a_machine(|| async {
        let networks = start(config()).await;
        let clean = inventory();
        let (kept, kept_ips) = join(&networks, 1, vec![port(Protocol::Tcp, 8080, 80)]).await;
        let (lost, _) = join(&networks, 2, vec![port(Protocol::Tcp, 8081, 80)]).await;
        serve(&kept.netns, "0.0.0.0:80");
        drop(networks);
        // Between the two somebody flushes all rules.
        run("nft", "flush ruleset");
        let networks = start(config()).await;
        connect(&here(), "192.0.2.99:1").unwrap_err();
        connect(&here(), "127.0.0.1:8080").unwrap();
        let collected = networks.gc(std::slice::from_ref(&kept.sandbox)).await.unwrap();
        assert_eq!(collected.freed, std::slice::from_ref(&lost.sandbox), "{collected:?}");
        assert!(collected.left.is_empty(), "{collected:?}");
        assert!(!lost.netns.exists());
        // Addresses in use are not given again.
        let (third, third_ips) = join(&networks, 3, vec![]).await;
        assert!(third_ips.iter().all(|ip| !kept_ips.contains(ip)), "{third_ips:?}");
        leave(&networks, &third).await;
        leave(&networks, &kept).await;
        assert_eq!(inventory(), clean);
    });
}

#[test]
fn a_lost_record_is_made_up_for_by_the_result_and_by_the_notes_on_what_was_made() {
    on_a_machine(|| async {
        let networks = start(config()).await;
        let clean = inventory();
        let mut results = Vec::new();
        for number in [1, 2] {
            let netns = networks.new_netns(&id(number)).await.unwrap();
            let mut attachment = pod(&id(number), &netns);
            attachment.port_mappings = vec![port(Protocol::Tcp, 8080 + u16::from(number), 80)];
            results.push((networks.attach(&attachment).await.unwrap().result, attachment));
        }
        for number in [1, 2] {
            std::fs::remove_file(format!("/run/isopod/network/sandboxes/{}", id(number))).unwrap();
        }
        networks.detach(&results[0].1, Some(&results[0].0)).await.unwrap();
        networks.remove_netns(&id(1)).await.unwrap();
        assert!(ip("-brief link").contains("iso020202020202"));
        let collected = networks.gc(&[]).await.unwrap();
        assert_eq!(collected.swept.len(), 2, "{collected:?}");
        networks.remove_netns(&id(2)).await.unwrap();
        assert_eq!(inventory(), clean);
    });
}

#[test]
fn a_check_names_what_a_pod_has_lost_and_the_overview_counts() {
    on_a_machine(|| async {
        let networks = start(config()).await;
        let (pod, ips) = join(&networks, 1, vec![port(Protocol::Tcp, 8080, 80)]).await;
        let overview = networks.overview().await.unwrap();
        assert_eq!((overview.sandboxes, overview.status.ready), (1, true));
        let ModeOverview::Bridge(bridge) = overview.mode else { panic!("{:?}", overview.mode) };
        let v4 = &bridge.subnets[0];
        assert_eq!((v4.gateway.to_string().as_str(), v4.used, v4.free), ("10.200.0.1", 1, 252));
        assert!(overview.leftovers.is_empty() && overview.running.is_empty());

        is_whole(&networks, &pod).await.unwrap();
        let lost = async |what: &str| {
            let error = is_whole(&networks, &pod).await.unwrap_err();
            assert!(error.starts_with("isotest0 eth0: ") && error.contains(what), "{error}");
        };
        run("nft", "flush map inet isotest0 ports4");
        lost("host port 8080 in table isotest0").await;
        ip(&format!("-n isopod-010101010101 address delete {}/24 dev eth0", ips[0]));
        lost(&format!("address {} inside", ips[0])).await;
        ip("-n isopod-010101010101 link delete eth0");
        lost("link iso010101010101 on bridge isotest0").await;
        std::fs::remove_file(format!("/run/isopod/network/sandboxes/{}", id(1))).unwrap();
        let error = is_whole(&networks, &pod).await.unwrap_err();
        assert!(
            error.contains("the network record of sandbox") && error.contains("lost"),
            "{error}"
        );
        ip("netns delete isopod-010101010101");
        let checked = networks.check(&pod, None).await.unwrap();
        let last = format!("{:?}", checked.last().unwrap().verdict);
        assert!(last.contains("isopod-010101010101"), "{last}");
    });
}

#[test]
fn a_bridge_that_somebody_deletes_comes_back_with_its_ports() {
    on_a_machine(|| async {
        let networks = start(config()).await;
        let (first, first_ips) = join(&networks, 1, vec![port(Protocol::Tcp, 8080, 80)]).await;
        serve(&first.netns, "0.0.0.0:80");
        ip("link delete isotest0");
        // The next pod mends it, or the next look of the daemon.
        let (second, _) = join(&networks, 2, vec![]).await;
        connect(&second.netns, &format!("{}:80", first_ips[0])).unwrap();
        connect(&here(), "127.0.0.1:8080").unwrap();
    });
}

#[test]
fn what_is_not_ours_is_not_touched() {
    on_a_machine(|| async {
        ip("link add isotest0 type bridge");
        let networks = Networks::new(NetworkConfig::new(Mode::Bridge(config()))).unwrap();
        until(&networks, |status| status.message.contains("not ours")).await;
        assert_eq!(networks.status().reason, Reason::BridgeFailed);
        let netns = networks.new_netns(&id(1)).await.unwrap();
        let error = networks.attach(&pod(&id(1), &netns)).await.unwrap_err();
        assert!(matches!(error, NetworkError::Foreign { .. }), "{error}");
        ip("link delete isotest0");
        run("nft", "add table inet isotest0");
        until(&networks, |status| status.message.contains("table inet isotest0")).await;
        run("nft", "delete table inet isotest0");
        until(&networks, |status| status.ready).await;
    });
}

#[test]
fn a_subnet_that_a_link_has_already_is_refused() {
    on_a_machine(|| async {
        neighbour(1500).await;
        let bad = BridgeConfig { subnet_v4: Some("192.0.0.0/16".parse().unwrap()), ..config() };
        let networks = Networks::new(NetworkConfig::new(Mode::Bridge(bad))).unwrap();
        until(&networks, |status| status.message.contains("overlaps")).await;
        assert!(networks.status().message.contains("up0"), "{:?}", networks.status());
    });
}

#[test]
fn two_daemons_do_not_share_a_bridge() {
    on_a_machine(|| async {
        let first = start(config()).await;
        let mut second = NetworkConfig::new(Mode::Bridge(config()));
        second.state_dir = "/run/other".into();
        let second = Networks::new(second).unwrap();
        until(&second, |status| status.message.contains("another daemon")).await;
        drop(first);
        until(&second, |status| status.ready).await;
    });
}

#[test]
fn pods_of_another_network_come_in_only_by_host_ports() {
    on_a_machine(|| async {
        let first = start(config()).await;
        let mut other = NetworkConfig::new(Mode::Bridge(BridgeConfig {
            name: "isotest1".into(),
            subnet_v4: Some("10.201.0.0/24".parse().unwrap()),
            subnet_v6: Some("fd00:201::/64".parse().unwrap()),
            mtu: None,
        }));
        other.state_dir = "/run/other".into();
        let other = Networks::new(other).unwrap();
        until(&other, |status| status.ready).await;
        ip("address add 192.0.2.1/24 dev lo");
        let (server, server_ips) = join(&first, 1, vec![port(Protocol::Tcp, 8080, 80)]).await;
        let (client, _) = join(&other, 2, vec![]).await;
        serve(&server.netns, "0.0.0.0:80");
        connect(&here(), &format!("{}:80", server_ips[0])).unwrap();
        assert!(connect(&client.netns, &format!("{}:80", server_ips[0])).is_err());
        connect(&client.netns, "192.0.2.1:8080").unwrap();
    });
}

#[test]
fn bandwidth_annotations_limit_both_directions() {
    on_a_machine(|| async {
        let networks = start(config()).await;
        let clean = inventory();
        let netns = networks.new_netns(&id(1)).await.unwrap();
        let mut attachment = pod(&id(1), &netns);
        attachment.annotations.insert("kubernetes.io/ingress-bandwidth".into(), "10M".into());
        attachment.annotations.insert("kubernetes.io/egress-bandwidth".into(), "20M".into());
        networks.attach(&attachment).await.unwrap();
        let shown = run("tc", "qdisc show");
        let line = |dev: &str, rate: &str| {
            shown.lines().any(|l| l.contains(&format!("dev {dev} ")) && l.contains(rate))
        };
        assert!(line("iso010101010101", "rate 10Mbit"), "{shown}");
        assert!(line("isl010101010101", "rate 20Mbit"), "{shown}");
        let filter = run("tc", "filter show dev iso010101010101 ingress");
        assert!(filter.contains("Redirect to device isl010101010101"), "{filter}");
        leave(&networks, &attachment).await;
        assert_eq!(inventory(), clean);
        let netns = networks.new_netns(&id(2)).await.unwrap();
        let mut bad = pod(&id(2), &netns);
        bad.annotations.insert("kubernetes.io/ingress-bandwidth".into(), "lots".into());
        let error = networks.attach(&bad).await.unwrap_err();
        assert_eq!(error.class(), Class::InvalidArgument, "{error}");
    });
}

#[test]
fn a_hundred_pods_join_at_once_and_one_alone_in_no_time() {
    on_a_machine(|| async {
        let networks = start(config()).await;
        let mut alone = Vec::new();
        for number in 1..=10 {
            let netns = networks.new_netns(&id(number)).await.unwrap();
            let attachment = pod(&id(number), &netns);
            let begun = std::time::Instant::now();
            networks.attach(&attachment).await.unwrap();
            alone.push(begun.elapsed());
            leave(&networks, &attachment).await;
        }
        alone.sort_unstable();
        eprintln!("a pod joins the bridge: {:?} to {:?}", alone[0], alone[9]);
        let clean = inventory();
        let begun = std::time::Instant::now();
        let mut running = tokio::task::JoinSet::new();
        for number in 1..=100 {
            let networks = networks.clone();
            running.spawn(async move { join(&networks, number, vec![]).await });
        }
        let joined = running.join_all().await;
        eprintln!("a hundred pods at once: {:?}", begun.elapsed());
        let mut ips: Vec<_> = joined.iter().flat_map(|(_, ips)| ips).collect();
        ips.sort_unstable();
        ips.dedup();
        assert_eq!(ips.len(), 200);
        for (attachment, _) in &joined {
            leave(&networks, attachment).await;
        }
        assert_eq!(inventory(), clean);
    });
}
