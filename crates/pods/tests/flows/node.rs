//! A node of a story's own: directories, an image, cgroups, and daemons that come and go.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use cgroups::{Cgroup, CgroupPath, Driver, Hierarchies};
use image_store::{ImageName, ImageStore, LayerJob, NewImage, Options};
use model::{
    ContainerConfig, ContainerId, ContainerMetadata, Digest, GroupsPolicy, ImageSpec, Namespaces,
    NetworkMode, Profile, RunAs, SandboxConfig, SandboxId, SandboxMetadata, Stdio,
};
use network::{Mode, NetworkConfig, Networks};
use oci_image::{Compression, Descriptor, Reference, chain_ids};
use operations::Operations;
use pods::{MonitorProgram, Pods, PodsConfig, Services};
use testkit::{Image, Layer};
use tokio::runtime::Runtime;

/// How long a story waits for what is bound to come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A node, swept when it is dropped.
pub struct Node {
    dir: tempfile::TempDir,
    images: ImageStore,
    cgroup: CgroupPath,
}

/// A daemon on a node, with a runtime of its own so that it can be cut off at any point.
pub struct Daemon {
    runtime: Runtime,
    pub pods: Pods,
}

impl Node {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("/isopod-flows-{}-{number}", std::process::id());
        let dir = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let images = ImageStore::open(&dir.path().join("images"), Options::default());
        let images = images.expect("an image store");
        add_image(&images);
        Self { dir, images, cgroup: CgroupPath::parse(&name).expect("a path") }
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A daemon that has recovered.
    pub fn daemon(&self) -> Daemon {
        let daemon = self.unrecovered();
        let recovered = daemon.run(daemon.pods.recover());
        assert!(recovered.problems.is_empty(), "{recovered:?}");
        daemon
    }

    pub fn unrecovered(&self) -> Daemon {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let _inside = runtime.enter();
        let mut config = PodsConfig::new(self.state_dir(), Driver::Cgroupfs);
        self.cgroup.as_str().clone_into(&mut config.cgroup_parent);
        config.deadlines.drain = Duration::from_millis(200);
        let mut network = NetworkConfig::new(Mode::None);
        network.netns_dir = self.dir.path().join("netns");
        network.state_dir = self.dir.path().join("network");
        let program = std::env::current_exe().expect("this program");
        let services = Services {
            operations: Operations::new(),
            images: self.images.clone(),
            networks: Networks::new(network).expect("networks"),
            monitor: Arc::new(MonitorProgram::from_file(&program).expect("a program")),
        };
        let pods = Pods::open(config, services).expect("pods");
        Daemon { runtime, pods }
    }

    /// Lets monitors wait at `step` until the answer is dropped.
    pub fn hold(&self, step: &str) -> Held {
        let file = self.state_dir().join(format!("hold-{step}"));
        std::fs::create_dir_all(self.state_dir()).expect("a directory");
        std::fs::write(&file, "").expect("a file");
        Held(file)
    }

    /// Whether a sandbox's intention is on record.
    pub fn has_begun(&self) -> Option<()> {
        (!names_in(&self.state_dir().join("records/sandboxes")).is_empty()).then_some(())
    }

    /// Removes a container's cgroup, which an OCI runtime makes only when the container is started.
    pub fn remove_cgroup(&self, sandbox: &SandboxId, container: &ContainerId) {
        let hierarchies = Hierarchies::detect().expect("cgroups");
        let path = self.cgroup.join(sandbox.as_str()).and_then(|pod| pod.join(container.as_str()));
        let cgroup = Cgroup::at(&hierarchies, &path.expect("a path"));
        assert!(cgroup.exists(), "it is where it was looked for");
        cgroup.remove().expect("it is empty");
    }

    /// Names of what is left of pods: directories, records, root file systems and cgroups.
    pub fn leftovers(&self) -> Vec<String> {
        let state = self.state_dir();
        let mut left = Vec::new();
        for place in ["pods", "records/sandboxes", "records/containers", "records/owed"] {
            left.extend(names_in(&state.join(place)).into_iter().map(|n| format!("{place}/{n}")));
        }
        let roots = self.images.containers().expect("a list");
        left.extend(roots.into_iter().map(|id| format!("root of {id}")));
        for mount in cgroup_mounts() {
            let below = names_in(&mount.join(self.cgroup.relative()));
            let directories = below.into_iter().filter(|n| !n.contains('.') && n.len() == 64);
            left.extend(directories.map(|n| format!("{}/{n}", mount.display())));
        }
        left
    }
}

fn cgroup_mounts() -> Vec<PathBuf> {
    let hierarchies = Hierarchies::detect().expect("cgroups");
    let legacy = hierarchies.v1().iter().map(|h| h.mount.clone());
    legacy.chain(hierarchies.v2().map(Path::to_owned)).collect()
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| n != ".bad").collect()
}

impl Drop for Node {
    fn drop(&mut self) {
        // Monitors that a failed story has left are found by their pods' directories.
        for pod in names_in(&self.state_dir().join("pods")) {
            let directory = self.state_dir().join("pods").join(pod);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let _ = runtime.expect("a runtime").block_on(async {
                let (monitor, ..) = monitor_client::find(&directory).await?;
                monitor.shut_down().await
            });
        }
        if let Ok(hierarchies) = Hierarchies::detect() {
            // A story that failed is told by its own words, not by this.
            let _ = Cgroup::at(&hierarchies, &self.cgroup).remove();
        }
    }
}

/// Monitors wait at a step while this lives.
pub struct Held(PathBuf);

impl Drop for Held {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).expect("the file");
    }
}

impl Daemon {
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            let result = tokio::time::timeout(PATIENCE, future).await;
            result.expect("it comes to an end")
        })
    }

    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.spawn(future)
    }

    /// Ends the daemon at whatever it is doing, as a kill would.
    pub fn crash(self) {
        drop(self.pods);
        self.runtime.shutdown_timeout(PATIENCE);
    }

    pub fn sandbox(&self, name: &str) -> SandboxId {
        self.run(self.pods.run_sandbox(sandbox(name))).expect("a sandbox")
    }

    /// A container that was created with this command.
    pub fn created(&self, sandbox: &SandboxId, name: &str, command: &[&str]) -> ContainerId {
        let config = container(name, command);
        self.run(self.pods.create_container(sandbox, config)).expect("a container")
    }

    /// A container that runs until it is killed.
    pub fn running(&self, sandbox: &SandboxId, name: &str) -> ContainerId {
        let id = self.created(sandbox, name, &["/run"]);
        self.run(self.pods.start_container(&id)).expect("a start");
        id
    }
}

pub fn sandbox(name: &str) -> SandboxConfig {
    SandboxConfig {
        metadata: SandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "stories".to_owned(),
            attempt: 0,
        },
        handler: model::HandlerName::default(),
        hostname: String::new(),
        log_directory: None,
        dns: None,
        port_mappings: Vec::new(),
        labels: [("story".to_owned(), name.to_owned())].into(),
        annotations: Default::default(),
        cgroup_parent: None,
        namespaces: Namespaces { network: NetworkMode::Node, ..Namespaces::default() },
        privileged: false,
        selinux: None,
        run_as: RunAs::default(),
        readonly_rootfs: false,
        supplemental_groups: Vec::new(),
        groups_policy: GroupsPolicy::default(),
        seccomp: Profile::default(),
        apparmor: Profile::default(),
        sysctls: Default::default(),
        overhead: Default::default(),
        resources: Default::default(),
    }
}

pub fn container(name: &str, command: &[&str]) -> ContainerConfig {
    let mut security = model::ContainerSecurity::default();
    security.namespaces.network = NetworkMode::Node;
    ContainerConfig {
        metadata: ContainerMetadata { name: name.to_owned(), attempt: 0 },
        image: ImageSpec { image: "example.com/story".to_owned(), ..ImageSpec::default() },
        command: command.iter().map(ToString::to_string).collect(),
        args: Vec::new(),
        working_dir: None,
        envs: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        cdi_devices: Vec::new(),
        labels: Default::default(),
        annotations: Default::default(),
        log_path: None,
        stdio: Stdio::default(),
        stop_signal: None,
        resources: Default::default(),
        security,
    }
}

/// An image with a user of its own and a volume.
fn add_image(images: &ImageStore) {
    let passwd = b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
    let layer = Layer::new().directory("etc", 0o755).file("etc/passwd", 0o644, passwd);
    let layer = layer.directory("data", 0o750).build(testkit::Compression::Plain);
    let image = Image::new(vec![layer.clone()])
        .set("User", "user".into())
        .set("Volumes", serde_json::json!({"/data": {}}));
    let digest = |text: &str| Digest::parse(text).expect("a digest");
    let diff_id = digest(&layer.diff_id);
    let descriptor = Descriptor {
        media_type: layer.media_type.clone(),
        digest: digest(&layer.digest),
        size: layer.bytes.len() as u64,
        urls: Vec::new(),
        annotations: Default::default(),
        platform: None,
        artifact_type: String::new(),
    };
    let layers = chain_ids(std::slice::from_ref(&diff_id));
    let chain_id = layers.first().expect("one").clone();
    let job = LayerJob { descriptor, diff_id, chain_id, parent: None };
    let read = AtomicU64::new(0);
    let held = images.unpack_layer(&job, Compression::None, layer.bytes.as_slice(), &read);
    let held = held.expect("a layer");
    let (config, manifest) = (image.config(), image.manifest());
    let new = NewImage {
        manifest_digest: digest(&manifest.digest),
        manifest: manifest.bytes,
        manifest_media_type: manifest.media_type,
        index_digest: None,
        config_digest: digest(&config.digest),
        size: config.bytes.len() as u64,
        config: config.bytes,
        layers,
    };
    let name = ImageName::of(&Reference::parse("example.com/story").expect("a name"));
    images.commit_image(new, &[name]).expect("an image");
    drop(held);
}
