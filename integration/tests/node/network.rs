//! Pods with addresses: by the built-in bridge and by CNI plugins.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use cri_api::v1::{PortMapping, RemovePodSandboxRequest, StatusRequest};
use testkit::{Daemon, Network};
use tonic::Code;

use crate::around::{Around, around, plain};

/// Debian's plugins, as a node is set up with them; `@` is the daemon's own directory.
pub const CONFLIST: &str = r#"{ "cniVersion": "1.0.0", "name": "tests", "plugins": [
  { "type": "bridge", "bridge": "cni-tests", "isGateway": true, "ipMasq": true,
    "ipam": { "type": "host-local", "dataDir": "@", "ranges": [[{ "subnet": "10.77.0.0/24" }]],
              "routes": [{ "dst": "0.0.0.0/0" }] } },
  { "type": "portmap", "capabilities": { "portMappings": true } },
  { "type": "firewall" } ] }"#;

async fn bridge() -> Around {
    around(|setup| setup.network(Network::Bridge)).await
}

async fn cni() -> Around {
    around(|setup| setup.cni(CONFLIST)).await
}

async fn address(daemon: &Daemon, pod_id: &str) -> IpAddr {
    let network = daemon.pod_status(pod_id).await.unwrap().network.unwrap();
    network.ip.parse().unwrap_or_else(|e| panic!("{:?}: {e}", network.ip))
}

/// Two pods have addresses that their containers see, reach each other, and give them back.
async fn pods_reach_each_other(around: Around) {
    let daemon = &around.daemon;
    let mut pods = Vec::new();
    for name in ["one", "two"] {
        let pod = testkit::pod(daemon, name);
        let id = daemon.run_pod(&pod, "").await.unwrap();
        let container = daemon.launch(&id, &pod, &testkit::sleeper("main", &around.image)).await;
        pods.push((id.clone(), container.unwrap(), address(daemon, &id).await));
    }
    let (_, first, first_ip) = &pods[0];
    let (_, second, second_ip) = &pods[1];
    assert_ne!(first_ip, second_ip);
    let seen = daemon.exec(first, &["ip", "addr", "show", "eth0"]).await.unwrap();
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(seen.contains(&first_ip.to_string()), "{first_ip} is not in {seen}");
    let ping = ["ping", "-c", "1", "-W", "5", &second_ip.to_string()];
    let done = daemon.exec(first, &ping).await.unwrap();
    assert_eq!(done.exit_code, 0, "{}", String::from_utf8_lossy(&done.stdout));
    let done = daemon.exec(second, &["ping", "-c", "1", "-W", "5", "127.0.0.1"]).await.unwrap();
    assert_eq!(done.exit_code, 0, "loopback is up");
}

/// A port of the host leads to the pod while it is there, and nowhere afterwards.
async fn a_port_of_the_host_leads_in(around: Around, gateway: IpAddr) {
    let daemon = &around.daemon;
    let mut pod = testkit::pod(daemon, "web");
    pod.port_mappings = vec![
        PortMapping { container_port: 80, host_port: 18_080, ..Default::default() },
        PortMapping { container_port: 81, ..Default::default() },
    ];
    let id = daemon.run_pod(&pod, "").await.unwrap();
    let script = "while :; do echo hello | nc -l -p 80; done";
    let container = testkit::container("main", &around.image, &["sh", "-c", script]);
    daemon.launch(&id, &pod, &container).await.unwrap();
    let target = SocketAddr::new(gateway, 18_080);
    let said = testkit::until("the port answers", Duration::from_secs(20), async || {
        let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(1)).ok()?;
        let mut text = String::new();
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"\n").ok()?;
        stream.read_to_string(&mut text).ok()?;
        (!text.is_empty()).then_some(text)
    });
    assert_eq!(said.await, "hello\n");
    let request = RemovePodSandboxRequest { pod_sandbox_id: id };
    daemon.runtime().remove_pod_sandbox(request).await.unwrap();
    let gone = TcpStream::connect_timeout(&target, Duration::from_secs(1));
    assert!(gone.is_err(), "the port still leads somewhere");
}

#[tokio::test]
async fn pods_on_the_bridge_reach_each_other() {
    pods_reach_each_other(bridge().await).await;
}

#[tokio::test]
async fn pods_on_cni_networks_reach_each_other() {
    pods_reach_each_other(cni().await).await;
}

#[tokio::test]
async fn ports_on_the_bridge_lead_in() {
    a_port_of_the_host_leads_in(bridge().await, [10, 88, 0, 1].into()).await;
}

#[tokio::test]
async fn ports_on_cni_networks_lead_in() {
    a_port_of_the_host_leads_in(cni().await, [10, 77, 0, 1].into()).await;
}

#[tokio::test]
async fn addresses_are_given_back() {
    let around = cni().await;
    let daemon = &around.daemon;
    let leases = || {
        let directory = daemon.directory().join("cni/data/tests");
        let names = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with("10.")).count()
    };
    let id = daemon.run_pod(&testkit::pod(daemon, "pod"), "").await.unwrap();
    assert_eq!(leases(), 1);
    let request = RemovePodSandboxRequest { pod_sandbox_id: id };
    daemon.runtime().remove_pod_sandbox(request).await.unwrap();
    assert_eq!(leases(), 0);
}

#[tokio::test]
async fn a_pod_in_the_hosts_network_has_no_address_and_the_hosts_links() {
    let around = plain().await;
    let pod = testkit::host_network(testkit::pod(&around.daemon, "pod"));
    let id = around.daemon.run_pod(&pod, "").await.unwrap();
    let status = around.daemon.pod_status(&id).await.unwrap();
    assert_eq!(status.network.unwrap_or_default().ip, "");
    let script = "readlink /proc/self/ns/net; hostname";
    let container = testkit::container("main", &around.image, &["sh", "-c", script]);
    let (_, said) = around.daemon.run_to_end(&id, &pod, &container).await;
    // The daemon's own, which is this thread's: /proc/self would be the whole test program's.
    let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(said, format!("{}\n{host}", own.display()));
}

#[tokio::test]
async fn without_a_configuration_the_network_is_not_ready_and_says_so() {
    let around = around(|setup| setup.network(Network::Cni)).await;
    let daemon = &around.daemon;
    let request = StatusRequest { verbose: false };
    let status = daemon.runtime().status(request).await.unwrap().into_inner().status.unwrap();
    let of = |kind: &str| status.conditions.iter().find(|c| c.r#type == kind).unwrap().clone();
    assert!(of("RuntimeReady").status);
    let network = of("NetworkReady");
    assert!(!network.status && !network.message.is_empty(), "{network:?}");
    let shown = daemon.cli(&["network", "status"]).output().unwrap();
    let said = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.code() == Some(1) && said.contains("NoNetworkConfiguration"), "{said}");

    let refused = daemon.run_pod(&testkit::pod(daemon, "pod"), "").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    // The host's network needs none.
    let pod = testkit::host_network(testkit::pod(daemon, "host"));
    daemon.run_pod(&pod, "").await.unwrap();

    // The directory is watched.
    let list = CONFLIST.replace('@', &daemon.directory().join("data").to_string_lossy());
    let directory = daemon.directory().join("cni");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("10-late.conflist"), list).unwrap();
    testkit::until("the network is ready", Duration::from_secs(20), async || {
        let answer = daemon.runtime().status(StatusRequest { verbose: false }).await.unwrap();
        answer.into_inner().status.unwrap().conditions.iter().all(|c| c.status).then_some(())
    })
    .await;

    // Each change is in the log once, with its reason.
    std::fs::remove_file(directory.join("10-late.conflist")).unwrap();
    testkit::until("the network is not ready", Duration::from_secs(20), async || {
        let answer = daemon.runtime().status(StatusRequest { verbose: false }).await.unwrap();
        let status = answer.into_inner().status.unwrap();
        status.conditions.iter().any(|c| !c.status).then_some(())
    })
    .await;
    let log = daemon.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("network status")).collect();
    let is_ready: Vec<bool> = said.iter().map(|line| line.contains("ready=true")).collect();
    assert_eq!(is_ready, [false, true, false], "{said:#?}");
    assert!(said[2].contains("WARN") && said[2].contains("NoNetworkConfiguration"), "{said:#?}");
}
