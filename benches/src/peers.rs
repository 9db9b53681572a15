//! Isopod beside containerd with runc and with crun, on daemons of one's own.
//!
//! Owns: three daemons, a registry, and all that is in their directory. Always: each has a root, a state
//! directory, a socket and a cgroup of its own; nothing of a daemon that the machine runs is touched; they end
//! with this program.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cri_api::v1::VersionRequest;
use testkit::{Compression, Daemon, Image, Layer, Network, Registry, Scheme, Setup, busybox};

use crate::cri::endpoint::{Endpoint, Restart};
use crate::cri::{self, Wanted};

const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// Layers of the image that is pulled, and bytes of each before compression.
const LAYERS: usize = 8;
const LAYER: usize = 48 << 20;

/// Measures all of them. `programs` is where containerd and its shim are.
pub async fn measure(programs: &Path, mut wanted: Wanted) {
    let registry = Registry::start(Scheme::Http);
    registry.push(&busybox(Compression::Gzip), "bench/busybox:1");
    let pause = ["/bin/busybox", "sleep", "2147483647"].map(serde_json::Value::from).to_vec();
    let pause = busybox(Compression::Gzip).set("Cmd", serde_json::Value::Array(pause));
    registry.push(&pause, "bench/pause:1");
    if wanted.works.iter().any(|work| work == "pull") {
        eprintln!("making an image of {LAYERS} layers");
        registry.push(&large(), "bench/large:1");
        wanted.pull = registry.reference("bench/large:1");
    }
    let image = registry.reference("bench/busybox:1");
    let mut endpoints = vec![own(&registry, &image).await];
    for runtime in ["runc", "crun"] {
        endpoints.push(containerd(programs, runtime, &registry, &image).await);
    }
    cri::measure(&mut endpoints, &wanted, "Isopod beside containerd").await;
    for endpoint in &endpoints {
        endpoint.clear().await;
    }
    drop(endpoints);
    drop(registry);
}

/// Half of it can be compressed.
fn large() -> Image {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut layer = |number: usize| {
        let mut layer = Layer::new();
        for file in 0..48 {
            let mut content = Vec::with_capacity(LAYER / 48);
            while content.len() < LAYER / 48 {
                content.extend_from_slice(&next().to_le_bytes());
                content.extend_from_slice(b"the same");
            }
            layer = layer.file(&format!("data-{number}-{file}"), 0o644, &content);
        }
        layer.build(Compression::Gzip)
    };
    Image::new((0..LAYERS).map(&mut layer).collect())
}

/// Isopod, with its built-in network.
async fn own(registry: &Registry, image: &str) -> Endpoint {
    let daemon = Setup::new()
        .registry(registry)
        .network(Network::Bridge)
        .state_in_memory()
        .toml("[log]\nlevel = \"warn\"")
        .start()
        .await;
    let endpoint = Endpoint {
        name: "isopod".to_owned(),
        socket: daemon.socket(),
        channel: testkit::channel(&daemon.socket()),
        handler: String::new(),
        image: image.to_owned(),
        cgroup: daemon.cgroup(),
        logs: daemon.directory().join("logs"),
        restart: Some(Box::new(Own(daemon))),
    };
    endpoint.pull(image).await;
    endpoint
}

#[derive(Debug)]
struct Own(Daemon);

impl Restart for Own {
    fn kill(&mut self) {
        self.0.kill();
    }

    fn start(&mut self) {
        self.0.spawn();
    }
}

/// A containerd.
#[derive(Debug)]
struct Peer {
    directory: tempfile::TempDir,
    /// What a node has below /run: in memory.
    _state: tempfile::TempDir,
    programs: PathBuf,
    process: Option<Child>,
    cgroup: String,
}

/// A containerd of its own that runs `runtime`, with `image` pulled.
pub async fn containerd(
    programs: &Path,
    runtime: &str,
    registry: &Registry,
    image: &str,
) -> Endpoint {
    let directory = tempfile::Builder::new().prefix("isopod-peer-").tempdir();
    let directory = directory.expect("a temporary directory");
    let state = tempfile::Builder::new().prefix("isopod-peer-").tempdir_in("/dev/shm");
    let state = state.expect("a directory in memory");
    let at = directory.path().to_owned();
    let pause = registry.reference("bench/pause:1");
    let program = match runtime {
        "crun" => testkit::crun(&at).display().to_string(),
        other => other.to_owned(),
    };
    fs::write(at.join("config.toml"), config(&at, state.path(), &program, &pause)).expect("a file");
    fs::create_dir(at.join("cni")).expect("a directory");
    let subnet = if runtime == "runc" { "10.91.0.0/16" } else { "10.92.0.0/16" };
    fs::write(at.join("cni/10-bench.conflist"), network(&at, runtime, subnet)).expect("a file");
    let mark = at.file_name().expect("a name").to_string_lossy().into_owned();
    let cgroup = format!("/{mark}");
    let programs = programs.to_owned();
    let mut peer =
        Peer { directory, _state: state, programs, process: None, cgroup: cgroup.clone() };
    peer.start();
    let endpoint = Endpoint {
        name: format!("containerd+{runtime}"),
        socket: at.join("containerd.sock"),
        channel: testkit::channel(&at.join("containerd.sock")),
        handler: String::new(),
        image: image.to_owned(),
        cgroup,
        logs: at.join("logs"),
        restart: Some(Box::new(peer)),
    };
    testkit::until("containerd serves", STARTS_WITHIN, async || {
        let request = VersionRequest { version: "v1".to_owned() };
        endpoint.runtime().version(request).await.ok()
    })
    .await;
    endpoint.pull(image).await;
    endpoint
}

fn config(at: &Path, state: &Path, runtime: &str, pause: &str) -> String {
    let (d, state) = (at.display(), state.display());
    format!(
        "version = 2\nroot = \"{d}/root\"\nstate = \"{state}\"\n\
         [grpc]\naddress = \"{d}/containerd.sock\"\n\
         [debug]\nlevel = \"warn\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{pause}\"\n\
         restrict_oom_score_adj = true\nstream_server_address = \"127.0.0.1\"\nstream_server_port = \"0\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"\nconf_dir = \"{d}/cni\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"overlayfs\"\n\
         default_runtime_name = \"bench\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.bench]\n\
         runtime_type = \"io.containerd.runc.v2\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.bench.options]\n\
         BinaryName = \"{runtime}\"\nSystemdCgroup = false\n"
    )
}

/// The chain that most nodes have.
fn network(at: &Path, runtime: &str, subnet: &str) -> String {
    format!(
        r#"{{"cniVersion":"1.0.0","name":"bench-{runtime}","plugins":[
{{"type":"bridge","bridge":"bench-{runtime}","isGateway":true,"ipMasq":true,
 "ipam":{{"type":"host-local","dataDir":"{}/leases","ranges":[[{{"subnet":"{subnet}"}}]],"routes":[{{"dst":"0.0.0.0/0"}}]}}}},
{{"type":"portmap","capabilities":{{"portMappings":true}}}}]}}"#,
        at.display()
    )
}

impl Restart for Peer {
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("a child can be killed");
            process.wait().expect("a child can be waited for");
        }
    }

    fn start(&mut self) {
        let at = self.directory.path();
        let log = fs::OpenOptions::new().create(true).append(true).open(at.join("daemon.log"));
        let log = log.expect("a file");
        let path =
            format!("{}:{}", self.programs.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new(self.programs.join("containerd"));
        command.arg("--config").arg(at.join("config.toml")).env("PATH", path);
        // Signals of the terminal are for this program alone.
        command.process_group(0).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a descriptor")).stderr(log);
        self.process = Some(command.spawn().expect("containerd can be started"));
    }
}

impl Drop for Peer {
    /// What a killed containerd has left mounted is below its directory; shims go with their pods.
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = Command::new("kill").arg(process.id().to_string()).status();
            let _ = process.wait();
        }
        let at = self.directory.path().display().to_string();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below: Vec<&str> = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|point| point.starts_with(&at))
            .collect();
        for point in below.iter().rev() {
            let _ = Command::new("umount").args(["--lazy", point]).status();
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(hierarchy.path().join(self.cgroup.trim_start_matches('/')));
        }
        let _ = fs::remove_dir(format!("/sys/fs/cgroup{}", self.cgroup));
    }
}
