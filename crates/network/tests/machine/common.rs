//! A machine of its own for each test: network and mount namespaces in which everything may be done, and
//! that the kernel takes away with the threads in them, however the test ends.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use model::{HandlerName, PortMapping, Protocol, SandboxId};
use network::{Attachment, Netns, NetworkStatus, Networks, Verdict, inside};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use sys::Namespaces;

/// Long enough for a loaded machine, and never waited for where things work.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the test on a machine of its own.
pub fn on_a_machine<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        sys::unshare(Namespaces::NETWORK.with(Namespaces::MOUNT))
            .expect("this test needs root, for namespaces of its own");
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        // What plugins and iptables keep of the machine's network.
        for dir in ["/run", "/var/lib"] {
            mount("tmpfs", dir, "tmpfs", MountFlags::empty(), None).unwrap();
        }
        ip("link set lo up");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
        runtime.shutdown_timeout(PATIENCE);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs ip(8) (package iproute2).
pub fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

/// Runs a program that must succeed.
pub fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(arguments.split_ascii_whitespace())
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}; cargo xtask setup installs what tests need"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {complaint}");
    text
}

/// A sandbox's id.
pub fn id(number: u8) -> SandboxId {
    SandboxId::from_random([number; 32])
}

/// What a pod without wishes asks for.
pub fn pod(sandbox: &SandboxId, netns: &Netns) -> Attachment {
    Attachment {
        sandbox: sandbox.clone(),
        netns: netns.path().to_owned(),
        name: format!("pod-{}", sandbox.short()),
        namespace: "default".into(),
        uid: "uid".into(),
        handler: HandlerName::default(),
        port_mappings: Vec::new(),
        dns: None,
        annotations: BTreeMap::new(),
        cgroup_parent: None,
    }
}

/// A host port on all addresses.
pub fn port(protocol: Protocol, host_port: u16, container_port: u16) -> PortMapping {
    PortMapping { protocol, container_port, host_port, host_ip: None }
}

/// Waits until the status is as wanted, and tells how long that took.
pub async fn until(networks: &Networks, wanted: impl Fn(&NetworkStatus) -> bool) -> Duration {
    let start = Instant::now();
    while !wanted(&networks.status()) {
        assert!(start.elapsed() < PATIENCE, "the status stays {:?}", networks.status());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Starts a server inside a namespace that tells each client where it seems to come from.
pub fn serve(netns: &Path, address: &str) {
    let listener = inside(netns, || TcpListener::bind(address)).unwrap().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut client, from)) = listener.accept() {
            let _ = write!(client, "{}", from.ip());
        }
    });
}

/// Connects from inside a namespace and reads what the server tells.
pub fn connect(netns: &Path, to: &str) -> std::io::Result<IpAddr> {
    let to: SocketAddr = to.parse().unwrap();
    let mut stream = inside(netns, || TcpStream::connect_timeout(&to, Duration::from_secs(3)))??;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    text.parse().map_err(std::io::Error::other)
}

/// A UDP server inside a namespace that sends back what it gets.
pub fn echo_udp(netns: &Path, address: &str) {
    let socket = inside(netns, || UdpSocket::bind(address)).unwrap().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
}

/// Asks such a server.
pub fn ask_udp(netns: &Path, to: &str) -> std::io::Result<()> {
    let socket = inside(netns, || UdpSocket::bind("0.0.0.0:0"))??;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    socket.send_to(b"ping", to)?;
    let mut buffer = [0; 16];
    let length = socket.recv(&mut buffer)?;
    if &buffer[..length] == b"ping" { Ok(()) } else { Err(std::io::Error::other("another answer")) }
}

/// This machine's own namespace, for `connect`.
pub fn here() -> PathBuf {
    "/proc/thread-self/ns/net".into()
}

/// A neighbour of this machine, 192.0.2.2 and 2001:db8::2, reached by the default route. This machine is
/// 192.0.2.1 and 2001:db8::1.
pub async fn neighbour(mtu: u32) -> Netns {
    let mut config = network::NetworkConfig::new(network::Mode::None);
    config.state_dir = "/run/neighbour".into();
    let networks = Networks::new(config).unwrap();
    let netns = networks.new_netns(&id(250)).await.unwrap();
    let name = netns.path().file_name().unwrap().to_str().unwrap();
    ip(&format!("link add up0 mtu {mtu} type veth peer name eth0 netns {name} mtu {mtu}"));
    ip("address add 192.0.2.1/24 dev up0");
    ip("address add 2001:db8::1/64 dev up0 nodad");
    ip("link set up0 up");
    ip(&format!("-n {name} address add 192.0.2.2/24 dev eth0"));
    ip(&format!("-n {name} address add 2001:db8::2/64 dev eth0 nodad"));
    ip(&format!("-n {name} link set eth0 up"));
    ip("route add default via 192.0.2.2");
    ip("-6 route add default via 2001:db8::2");
    netns
}

/// Everything that a test could have left on its machine.
pub fn inventory() -> BTreeMap<&'static str, Vec<String>> {
    let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let files = |dir: &str| {
        let mut all: Vec<String> = std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        all.sort_unstable();
        all
    };
    let links = lines(ip("-brief link"))
        .into_iter()
        .filter_map(|line| line.split_ascii_whitespace().next().map(str::to_owned))
        .collect();
    // Pins of this machine only: the mount table began as a copy of another one, in which others work.
    let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let pins = mounts.lines().filter(|l| l.contains(" /run/netns/") && l.contains(" - nsfs "));
    // What rules have counted is nobody's leftover.
    let rules = lines(run("nft", "--stateless list ruleset"));
    BTreeMap::from([
        ("links", links),
        ("namespaces", files("/run/netns")),
        ("pins", pins.map(str::to_owned).collect()),
        ("records", files("/run/isopod/network/sandboxes")),
        ("rules", rules),
    ])
}

/// Whether all networks of the sandbox are as they were left; else what is not.
pub async fn is_whole(networks: &Networks, attachment: &Attachment) -> Result<(), String> {
    let checked = networks.check(attachment, None).await.unwrap();
    assert!(!checked.is_empty());
    let broken = checked.into_iter().find_map(|one| match one.verdict {
        Verdict::Whole => None,
        Verdict::Unchecked(why) => Some(format!("{} {}: {why}", one.network, one.interface)),
        Verdict::Broken(error) => Some(format!("{} {}: {error}", one.network, one.interface)),
    });
    broken.map_or(Ok(()), Err)
}
