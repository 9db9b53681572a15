//! A pod's network: addresses, names, ports, kernel parameters.

use std::net::IpAddr;
use std::time::Duration;

use cri_api::v1::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::case::{Stop, Verdict, cases, ensure, same, until};
use crate::context::{Context, Pod};
use crate::shape::options;

cases! { "network":
    "has-an-address" Api Kubelet ["PodSandboxStatus", "PodSandboxStatus.network",
            "PodSandboxNetworkStatus.ip"] needs [PodNetwork]
        "A pod with a network of its own has an address." => address();
    "addresses-differ" Api Kubelet ["PodSandboxStatus", "PodSandboxNetworkStatus.ip"]
        needs [PodNetwork]
        "Two pods have two addresses." => differ();
    "more-addresses" Api Kubelet ["PodSandboxStatus", "PodSandboxNetworkStatus.additional_ips",
            "PodIP.ip"] needs [PodNetwork]
        "What further addresses there are can be read, and differ from the first." => more();
    "node-has-none" Api Kubelet ["PodSandboxStatus", "PodSandboxStatus.network"]
        "A pod in the node's network has no address of its own." => node_none();
    "address-is-inside" Linux Kubelet ["PodSandboxStatus", "PodSandboxNetworkStatus.ip"]
        needs [PodNetwork]
        "The address of the status is that of an interface inside." => inside();
    "loopback-is-up" Linux Kubelet ["RunPodSandbox"] needs [PodNetwork]
        "Loopback is up inside." => loopback();
    "containers-share" Linux Kubelet ["CreateContainer"] needs [PodNetwork]
        "Containers of a pod reach each other on loopback." => share();
    "reached-from-the-node" Linux Kubelet ["RunPodSandbox"] needs [PodNetwork]
        "The node reaches a pod at its address." => from_node();
    "pods-reach-pods" Linux Kubelet ["RunPodSandbox"] needs [PodNetwork]
        "A pod reaches another pod at its address." => pod_to_pod();
    "address-stays" Linux Kubelet ["PodSandboxStatus", "CreateContainer"] needs [PodNetwork]
        "The address stays the pod's when its containers come and go." => stays();
    "name-servers" Linux Api ["RunPodSandbox", "PodSandboxConfig.dns_config", "DNSConfig.servers",
            "DNSConfig.searches", "DNSConfig.options"]
        "Name servers, search domains and options stand in resolv.conf." => resolv();
    "node-name-servers" Linux Api ["RunPodSandbox", "PodSandboxConfig.dns_config"]
        "Without them, resolv.conf is the node's." => node_resolv();
    "host-name" Linux Api ["RunPodSandbox", "PodSandboxConfig.hostname"] needs [PodNetwork]
        "The host name is the one that was asked for." => hostname();
    "sysctl" Linux Api ["RunPodSandbox", "LinuxPodSandboxConfig.sysctls"] needs [PodNetwork]
        "A kernel parameter of the network is set inside." => sysctl("net.ipv4.ip_local_port_range", "2000\t3000");
    "sysctl-unsafe" Linux Api ["RunPodSandbox", "LinuxPodSandboxConfig.sysctls"] needs [PodNetwork]
        "So is one that Kubernetes calls unsafe." => sysctl("net.core.somaxconn", "333");
    "sysctl-ipc" Linux Api ["RunPodSandbox", "LinuxPodSandboxConfig.sysctls"] needs [PodNetwork]
        "So is one of the IPC namespace." => sysctl("kernel.shm_rmid_forced", "1");
    "host-port" Linux Kubelet ["RunPodSandbox", "PodSandboxConfig.port_mappings",
            "PortMapping.container_port", "PortMapping.host_port", "PortMapping.protocol"]
        needs [PodNetwork]
        "A host port leads to the pod's port." => host_port();
    "no-host-port" Api Api ["RunPodSandbox", "PortMapping.host_port"] needs [PodNetwork]
        "A mapping without a host port asks for nothing." => no_host_port();
    "ready-after-exit" Api Kubelet ["PodSandboxStatus"] needs [PodNetwork]
        "A pod whose containers have all gone is ready still, with its address." => after_exit();
}

async fn networked(c: &Context) -> Result<Pod, Stop> {
    c.pod_of(c.networked_config()).await
}

async fn ip(c: &Context, pod: &Pod) -> Result<String, Stop> {
    let network = c.pod_status(&pod.id).await?.network.unwrap_or_default();
    if network.ip.parse::<IpAddr>().is_err() {
        return Err(Stop::failed(format!("{:?} is no address", network.ip)));
    }
    Ok(network.ip)
}

async fn address(c: &Context) -> Verdict {
    ip(c, &networked(c).await?).await.map(|_| ())
}

async fn differ(c: &Context) -> Verdict {
    let (one, two) = (networked(c).await?, networked(c).await?);
    let found = [ip(c, &one).await?, ip(c, &two).await?];
    ensure!(found[0] != found[1], "both have {}", found[0]);
    Ok(())
}

async fn more(c: &Context) -> Verdict {
    let pod = networked(c).await?;
    let network = c.pod_status(&pod.id).await?.network.unwrap_or_default();
    for more in network.additional_ips {
        ensure!(more.ip.parse::<IpAddr>().is_ok(), "{:?} is no address", more.ip);
        ensure!(more.ip != network.ip, "{} is there twice", more.ip);
    }
    Ok(())
}

async fn node_none(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    same!("the address", c.pod_status(&pod.id).await?.network.unwrap_or_default().ip, "");
    Ok(())
}

async fn inside(c: &Context) -> Verdict {
    let pod = networked(c).await?;
    let ip = ip(c, &pod).await?;
    let text = c.output(&pod, &pod.fit(c.script("ip -o addr"))).await?;
    ensure!(text.contains(&format!(" {ip}/")), "{ip} is not in {text}");
    Ok(())
}

async fn loopback(c: &Context) -> Verdict {
    let pod = networked(c).await?;
    let text = c.output(&pod, &pod.fit(c.script("ip -o addr show lo"))).await?;
    ensure!(text.contains("127.0.0.1/8"), "it has {text}");
    Ok(())
}

/// Answers `words` to everybody who connects to port 8080.
async fn serve(c: &Context, pod: &Pod) -> Result<String, Stop> {
    let config = pod.fit(c.script("nc -ll -p 8080 -e /bin/echo words"));
    c.launch(pod, &config).await
}

async fn reads(c: &Context, pod: &Pod, address: &str) -> Verdict {
    let client = c.launch(pod, &pod.fit(c.waiter())).await?;
    let script = format!("nc -w 5 {address} 8080 < /dev/null");
    until!(format!("{address} answers"), {
        let done = c.exec_for(&client, &["sh", "-c", &script], 20).await?;
        (done.stdout.as_ref() == b"words\n").then_some(())
    });
    Ok(())
}

async fn share(c: &Context) -> Verdict {
    let pod = networked(c).await?;
    serve(c, &pod).await?;
    reads(c, &pod, "127.0.0.1").await
}

async fn asks(address: &str) -> std::io::Result<String> {
    let talk = async {
        let mut socket = TcpStream::connect(address).await?;
        socket.shutdown().await?;
        let mut text = String::new();
        socket.read_to_string(&mut text).await?;
        Ok(text)
    };
    let late = |_| Err(std::io::ErrorKind::TimedOut.into());
    tokio::time::timeout(Duration::from_secs(5), talk).await.unwrap_or_else(late)
}

async fn from_node(c: &Context) -> Verdict {
    let pod = networked(c).await?;
    serve(c, &pod).await?;
    let address = format!("{}:8080", ip(c, &pod).await?);
    until!(format!("{address} answers"), {
        asks(&address).await.is_ok_and(|text| text == "words\n").then_some(())
    });
    Ok(())
}

async fn pod_to_pod(c: &Context) -> Verdict {
    let (one, two) = (networked(c).await?, networked(c).await?);
    serve(c, &one).await?;
    let address = ip(c, &one).await?;
    reads(c, &two, &address).await
}

async fn stays(c: &Context) -> Verdict {
    let pod = networked(c).await?;
    let before = ip(c, &pod).await?;
    let ran = c.run(&pod, &pod.fit(c.script("true"))).await?;
    c.remove(&ran.id).await?;
    same!("the address", ip(c, &pod).await?, before);
    Ok(())
}

async fn resolv(c: &Context) -> Verdict {
    let mut config = c.pod_config();
    config.dns_config = Some(DnsConfig {
        servers: vec!["192.0.2.1".to_owned(), "192.0.2.2".to_owned()],
        searches: vec!["one.example".to_owned(), "two.example".to_owned()],
        options: vec!["ndots:5".to_owned(), "edns0".to_owned()],
    });
    let pod = c.pod_of(config).await?;
    let text = c.output(&pod, &c.script("cat /etc/resolv.conf")).await?;
    let wanted = [
        "nameserver 192.0.2.1",
        "nameserver 192.0.2.2",
        "search one.example two.example",
        "options ndots:5 edns0",
    ];
    for line in wanted {
        ensure!(text.lines().any(|found| found.trim() == line), "{line:?} is not in {text}");
    }
    Ok(())
}

async fn node_resolv(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let text = c.output(&pod, &c.script("cat /etc/resolv.conf")).await?;
    for line in std::fs::read_to_string("/etc/resolv.conf")?.lines() {
        let counts = line.starts_with("nameserver") || line.starts_with("search");
        ensure!(!counts || text.contains(line), "{line:?} is not in {text}");
    }
    Ok(())
}

async fn hostname(c: &Context) -> Verdict {
    let pod = networked(c).await?;
    same!("the name", c.output(&pod, &pod.fit(c.script("hostname"))).await?, "the-pod\n");
    Ok(())
}

async fn sysctl(c: &Context, name: &str, value: &str) -> Verdict {
    let mut config = c.networked_config();
    let linux = config.linux.get_or_insert_default();
    linux.sysctls.insert(name.to_owned(), value.replace('\t', " "));
    let pod = c.pod_of(config).await?;
    let script = format!("cat /proc/sys/{}", name.replace('.', "/"));
    same!("the value", c.output(&pod, &pod.fit(c.script(&script))).await?, format!("{value}\n"));
    Ok(())
}

async fn host_port(c: &Context) -> Verdict {
    let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
    let mut config = c.networked_config();
    config.port_mappings = vec![PortMapping {
        container_port: 8080,
        host_port: i32::from(port),
        ..Default::default()
    }];
    let pod = c.pod_of(config).await?;
    serve(c, &pod).await?;
    // From another pod, through the node's own address as that one sees it: its gateway.
    let other = networked(c).await?;
    let client = c.launch(&other, &other.fit(c.waiter())).await?;
    let script = format!(
        "nc -w 5 $(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p') {port} < /dev/null"
    );
    until!(format!("port {port} of the node answers"), {
        let done = c.exec_for(&client, &["sh", "-c", &script], 20).await?;
        (done.stdout.as_ref() == b"words\n").then_some(())
    });
    Ok(())
}

async fn no_host_port(c: &Context) -> Verdict {
    let mut config = c.networked_config();
    config.port_mappings = vec![PortMapping { container_port: 80, ..Default::default() }];
    let (one, two) = (c.pod_of(config.clone()).await?, {
        config.metadata.get_or_insert_default().attempt = 1;
        c.pod_of(config).await?
    });
    ensure!(one.id != two.id, "both are {}", one.id);
    Ok(())
}

async fn after_exit(c: &Context) -> Verdict {
    let mut config = c.networked_config();
    options(&mut config).pid = NamespaceMode::Container.into();
    let pod = c.pod_of(config).await?;
    let id = c.launch(&pod, &pod.fit(c.waiter())).await?;
    c.stop(&id, 0).await?;
    same!("the state", c.pod_status(&pod.id).await?.state(), PodSandboxState::SandboxReady);
    ip(c, &pod).await.map(|_| ())
}
