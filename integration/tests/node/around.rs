//! What most tests begin with.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use cri_api::v1::{ContainerConfig, ContainerStatus, Mount, PodSandboxConfig};
use testkit::{Compression, Daemon, Network, Registry, Scheme, Setup, busybox};

/// Output as text, for people.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command to its end with all of its input.
pub fn with_input(mut command: Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Whoever does not read it ends first.
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().unwrap()
    })
}

/// A daemon that has pulled busybox from a registry.
pub struct Around {
    pub daemon: Daemon,
    pub registry: Registry,
    /// The reference that the image was pulled by.
    pub image: String,
}

/// A directory that containers look into, to go on until it is open.
pub struct Gate(PathBuf);

impl Gate {
    /// A shell's condition that holds in a container while it is closed.
    pub const CLOSED: &str = "[ ! -e /gate/open ]";

    /// A closed one.
    pub fn new(daemon: &Daemon) -> Self {
        let path = daemon.directory().join("gate");
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Lets a container see it.
    pub fn mount(&self, container: &mut ContainerConfig) {
        container.mounts.push(Mount {
            host_path: self.0.to_string_lossy().into_owned(),
            container_path: "/gate".to_owned(),
            ..Default::default()
        });
    }

    /// Opens it.
    pub fn open(&self) {
        std::fs::write(self.0.join("open"), "").unwrap();
    }
}

/// The same with a pod in the host's network.
pub struct WithPod {
    pub around: Around,
    pub pod: PodSandboxConfig,
    pub pod_id: String,
}

/// A network namespace, a registry with busybox in it, and a daemon set up by `setup` that has it.
pub async fn around(setup: impl FnOnce(Setup) -> Setup) -> Around {
    testkit::isolate_network();
    let registry = Registry::start(Scheme::Http);
    registry.push(&busybox(Compression::Gzip), "test/busybox:1");
    let daemon = setup(Setup::new().registry(&registry)).start().await;
    let image = registry.reference("test/busybox:1");
    daemon.pull(&image).await.unwrap();
    Around { daemon, registry, image }
}

/// [`around`] without a network of the pods' own.
pub async fn plain() -> Around {
    around(|setup| setup.network(Network::None)).await
}

/// [`plain`] with a pod in the host's network.
pub async fn with_pod() -> WithPod {
    let around = plain().await;
    let pod = testkit::host_network(testkit::pod(&around.daemon, "pod"));
    let pod_id = around.daemon.run_pod(&pod, "").await.unwrap();
    WithPod { around, pod, pod_id }
}

impl WithPod {
    /// A container of busybox that runs a shell script.
    pub fn script(&self, name: &str, script: &str) -> ContainerConfig {
        testkit::container(name, &self.around.image, &["sh", "-c", script])
    }

    /// A container that ends with `code` when the gate is open.
    pub fn behind(&self, gate: &Gate, name: &str, code: i32) -> ContainerConfig {
        let script = format!("while {}; do sleep 0.01; done; exit {code}", Gate::CLOSED);
        let mut container = self.script(name, &script);
        gate.mount(&mut container);
        container
    }

    /// Runs a container to its end.
    pub async fn run(&self, container: &ContainerConfig) -> (ContainerStatus, String) {
        self.around.daemon.run_to_end(&self.pod_id, &self.pod, container).await
    }

    /// Runs a shell script to its end, and gives what it wrote.
    pub async fn output(&self, container: &ContainerConfig) -> String {
        let (status, logged) = self.run(container).await;
        assert_eq!(status.exit_code, 0, "{logged}\n{status:?}");
        logged
    }

    /// Creates and starts a container, and gives its id.
    pub async fn launch(&self, container: &ContainerConfig) -> String {
        self.around.daemon.launch(&self.pod_id, &self.pod, container).await.unwrap()
    }

    pub fn daemon(&self) -> &Daemon {
        &self.around.daemon
    }
}
