//! A daemon of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use cri_api::v1::image_service_client::ImageServiceClient;
use cri_api::v1::runtime_service_client::RuntimeServiceClient;
use cri_api::v1::{
    ListPodSandboxRequest, RemovePodSandboxRequest, StopPodSandboxRequest, VersionRequest,
};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::clean::{FAULTS, MARK, Traces, veths};
use crate::faults::Faults;
use crate::poll::{eventually, until};
use crate::registry::Registry;

/// How long a daemon may take until it serves, on a machine that does much else.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// How long it may take to end, and the kernel to tidy up after it.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// How long all pods of a test may take to go, one after the other.
const PODS_GO_WITHIN: Duration = Duration::from_secs(120);
/// Bytes of a stream that a client with a narrow channel takes up ahead.
const NARROW: u32 = 4096;
/// The last lines of the daemon's log that a failed test shows.
const LINES_SHOWN: usize = 80;

/// The network that pods get that do not ask for the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Loopback only.
    None,
    /// The built-in bridge; call [`crate::isolate_network`] first.
    Bridge,
    /// CNI plugins, with the configuration that [`Setup::cni`] was given.
    Cni,
}

/// How a daemon is to be.
#[derive(Debug)]
pub struct Setup {
    directory: TempDir,
    network: Network,
    root: Option<PathBuf>,
    memory: Option<TempDir>,
    extra: String,
    environment: Vec<(String, String)>,
    cgroups: Cgroups,
}

/// Who makes the cgroups of a daemon's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cgroups {
    /// The daemon.
    Own,
    /// systemd.
    Systemd,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// Loopback only, no registry.
    ///
    /// # Panics
    /// Where no temporary directory can be made.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("isopod-").tempdir();
        let directory = directory.expect("a temporary directory");
        Self {
            directory,
            network: Network::None,
            root: None,
            memory: None,
            extra: String::new(),
            environment: Vec::new(),
            cgroups: Cgroups::Own,
        }
    }

    /// The directory that the daemon will have everything in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// With this network.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// With CNI, and this configuration list. `@` in it stands for a directory of this daemon's own.
    #[must_use]
    pub fn cni(self, list: &str) -> Self {
        let directory = self.directory.path().join("cni");
        fs::create_dir_all(&directory).expect("a directory");
        let list = list.replace('@', &directory.join("data").to_string_lossy());
        fs::write(directory.join("10-test.conflist"), list).expect("a file");
        self.network(Network::Cni)
    }

    /// With this registry known to it.
    #[must_use]
    pub fn registry(self, registry: &Registry) -> Self {
        self.hosts_toml(&registry.host(), &registry.hosts_toml())
    }

    /// With this `hosts.toml` for a registry's host.
    #[must_use]
    pub fn hosts_toml(self, host: &str, text: &str) -> Self {
        let directory = self.directory.path().join("certs.d").join(host);
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join("hosts.toml"), text).expect("a file");
        self
    }

    /// Where the `hosts.toml` for a registry's host is.
    #[must_use]
    pub fn hosts_file(&self, host: &str) -> PathBuf {
        self.directory.path().join("certs.d").join(host).join("hosts.toml")
    }

    /// With its images in another directory.
    #[must_use]
    pub fn root(mut self, root: &Path) -> Self {
        self.root = Some(root.to_owned());
        self
    }

    /// With its records in memory, as `/run` is on a node.
    ///
    /// # Panics
    /// Where `/dev/shm` takes no directory.
    #[must_use]
    pub fn state_in_memory(mut self) -> Self {
        let directory = tempfile::Builder::new().prefix("isopod-").tempdir_in("/dev/shm");
        self.memory = Some(directory.expect("a directory in memory"));
        self
    }

    /// With more configuration, as TOML; it wins over what is there already.
    #[must_use]
    pub fn toml(mut self, text: &str) -> Self {
        self.extra.push_str(text);
        self.extra.push('\n');
        self
    }

    /// With this variable in its environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With systemd, which must be process 1, as who makes cgroups: its pods are in a slice of their own.
    #[must_use]
    pub fn systemd(mut self) -> Self {
        self.cgroups = Cgroups::Systemd;
        self
    }

    /// Starts it, and waits until it serves.
    ///
    /// # Panics
    /// Where it does not.
    pub async fn start(self) -> Daemon {
        let mut daemon = self.prepare();
        daemon.start().await;
        daemon
    }

    /// Writes its configuration, and starts nothing.
    ///
    /// # Panics
    /// Where files cannot be written.
    #[must_use]
    pub fn prepare(self) -> Daemon {
        let at = self.directory.path().to_owned();
        let mark = at.file_name().expect("a directory has a name").to_string_lossy().into_owned();
        let root = self.root.unwrap_or_else(|| at.join("root"));
        let mode = match self.network {
            Network::None => "none",
            Network::Bridge => "bridge",
            Network::Cni => "cni",
        };
        let d = at.display();
        let state = self.memory.as_ref().map_or(at.as_path(), TempDir::path).join("state");
        // A slice lies in the slice that its name begins with: `isopod-x.slice` in `isopod.slice`.
        let (driver, parent, cgroup) = match self.cgroups {
            Cgroups::Own => ("cgroupfs", format!("/{mark}"), mark.clone()),
            Cgroups::Systemd => {
                ("systemd", format!("{mark}.slice"), format!("isopod.slice/{mark}.slice"))
            }
        };
        let config = format!(
            "root = \"{}\"\nstate = \"{}\"\n\
             [log]\nlevel = \"debug\"\n\
             [cgroup]\ndriver = \"{driver}\"\nparent = \"{parent}\"\n\
             [images]\nregistries = \"{d}/certs.d\"\n\
             [network]\nmode = \"{mode}\"\nnetns_dir = \"{d}/netns\"\n\
             [network.cni]\nconfig_dir = \"{d}/cni\"\n",
            root.display(),
            state.display()
        );
        let config = config + &slow_machine();
        fs::write(at.join("config.toml"), config).expect("a file");
        fs::create_dir_all(at.join("config.d")).expect("a directory");
        fs::write(at.join("config.d/50-test.toml"), &self.extra).expect("a file");
        let traces =
            Traces { cgroup, mark, directory: at.clone(), state: state.clone(), links: veths() };
        let (program, environment) = (program(), self.environment);
        let directory = Some((self.directory, self.memory));
        Daemon { at, root, state, parent, traces, program, process: None, directory, environment }
    }
}

/// What a daemon is told where the machine is emulated: plugins of a network alone take as long there as taking up
/// a pod may take elsewhere.
fn slow_machine() -> String {
    let usual = Duration::from_secs(30);
    let recover = crate::here(usual);
    if recover == usual {
        return String::new();
    }
    format!("[deadlines]\nrecover = \"{}s\"\n", recover.as_secs())
}

/// A daemon that ends with this value, and everything of it.
#[derive(Debug)]
pub struct Daemon {
    at: PathBuf,
    root: PathBuf,
    state: PathBuf,
    /// The cgroup of all its pods, as its driver names it.
    parent: String,
    traces: Traces,
    program: PathBuf,
    process: Option<Child>,
    /// Until it is removed, last of all.
    directory: Option<(TempDir, Option<TempDir>)>,
    environment: Vec<(String, String)>,
}

impl Daemon {
    /// Its directory, with `root`, `state` and `daemon.log`; tests may put files of theirs there.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.at
    }

    /// Where its images and writable layers are.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where its records are.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.state.join("isopod.sock")
    }

    /// The cgroup that its pods are in, as `cgroup_parent` says it.
    #[must_use]
    pub fn cgroup(&self) -> String {
        self.parent.clone()
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.at.join("daemon.log")).unwrap_or_default()
    }

    /// The process id of the daemon that runs.
    ///
    /// # Panics
    /// Where none does.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("a daemon that runs").id()
    }

    /// Has it started from another file from now on.
    pub fn install(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// The file that it is started from.
    #[must_use]
    pub fn installed(&self) -> &Path {
        &self.program
    }

    /// The daemon's command, ready to be run by hand: for starts that are to fail.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("daemon").arg("--config").arg(self.at.join("config.toml"));
        command.env(MARK, &self.traces.mark).stdin(Stdio::null());
        command.env(FAULTS, self.at.join("faults"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Faults of it and of its monitors.
    #[must_use]
    pub fn faults(&self) -> Faults {
        Faults::new(self.at.join("faults"))
    }

    /// Waits until it has ended by itself, or was killed by a fault.
    ///
    /// # Panics
    /// Where it does not run, or does not end.
    pub fn wait_for_its_end(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("a daemon that runs");
        let over =
            eventually(ENDS_WITHIN, || process.try_wait().expect("a child can be waited for"));
        over.unwrap_or_else(|| panic!("the daemon does not end\n{}", self.log_end()))
    }

    /// Starts it where it does not run, and waits until it serves.
    ///
    /// # Panics
    /// Where it does not.
    pub async fn start(&mut self) {
        self.spawn();
        until("the daemon serves", STARTS_WITHIN, async || {
            let process = self.process.as_mut().expect("it was started");
            let over = process.try_wait().expect("a child can be waited for");
            assert!(over.is_none(), "the daemon ended: {over:?}\n{}", self.log());
            let request = VersionRequest { version: "v1".to_owned() };
            self.runtime().version(request).await.ok()
        })
        .await;
    }

    /// Starts it where it does not run, and waits for nothing.
    ///
    /// # Panics
    /// Where its program cannot be started.
    pub fn spawn(&mut self) {
        let log = self.at.join("daemon.log");
        let log = fs::OpenOptions::new().create(true).append(true).open(log).expect("a file");
        let mut command = self.command();
        command.stdout(log.try_clone().expect("a descriptor")).stderr(log);
        self.process = Some(command.spawn().expect("the daemon's program can be started"));
    }

    /// Kills it as kill -9 does; its pods go on.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("a daemon that runs");
        process.kill().expect("a child can be killed");
        process.wait().expect("a child can be waited for");
    }

    /// The process that holds a pod, if it is there.
    #[must_use]
    pub fn monitor(&self, pod_id: &str) -> Option<u32> {
        self.traces.monitor(pod_id)
    }

    /// What a machine does that goes down: every process ends, and what is in memory only is gone. To be
    /// started again.
    ///
    /// # Panics
    /// Where the daemon does not run, or its state cannot be removed.
    pub fn lose_all_but_the_disk(&mut self) {
        self.kill();
        self.traces.remove();
        for place in [self.state.clone(), self.at.join("netns")] {
            match fs::remove_dir_all(&place) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    panic!("{}: {e}", place.display())
                }
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Asks it to end, as systemd does, and waits until it has; its pods go on.
    ///
    /// # Panics
    /// Where it does not run, or does not end.
    pub fn terminate(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("a daemon that runs");
        crate::host::run(Command::new("kill").arg(process.id().to_string()));
        let over =
            eventually(ENDS_WITHIN, || process.try_wait().expect("a child can be waited for"));
        over.unwrap_or_else(|| {
            let _ = process.kill();
            panic!("the daemon does not end when it is told to\n{}", self.log_end());
        })
    }

    /// Has it read its configuration again, as systemd does.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn hang_up(&self) {
        crate::host::run(Command::new("kill").arg("-HUP").arg(self.pid().to_string()));
    }

    /// A command of the command line, on this daemon.
    #[must_use]
    pub fn cli(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(args).env("ISOPOD_ENDPOINT", self.socket()).stdin(Stdio::null());
        command.env("ISOPOD_RUN_DIR", self.at.join("run")).env(MARK, &self.traces.mark);
        command
    }

    /// CRI: sandboxes and containers.
    #[must_use]
    pub fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel()).max_decoding_message_size(64 << 20)
    }

    /// CRI: images.
    #[must_use]
    pub fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel()).max_decoding_message_size(64 << 20)
    }

    /// A connection to it; made when it is first used.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel_at(&self.socket())
    }

    /// A connection to another socket of it; made when it is first used.
    #[must_use]
    pub fn channel_at(&self, socket: &Path) -> Channel {
        channel(socket)
    }

    /// A connection whose client takes up as little ahead as HTTP/2 lets it.
    #[must_use]
    pub fn narrow_channel(&self) -> Channel {
        let endpoint = Endpoint::from_static("http://localhost");
        let endpoint = endpoint.initial_stream_window_size(NARROW);
        endpoint.connect_with_connector_lazy(connector(self.socket()))
    }

    /// Stops and removes all its pods.
    async fn remove_pods(&self) -> Result<(), tonic::Status> {
        let mut runtime = self.runtime();
        let list = runtime.list_pod_sandbox(ListPodSandboxRequest { filter: None }).await?;
        for pod in list.into_inner().items {
            let pod_sandbox_id = pod.id;
            let stop = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
            runtime.stop_pod_sandbox(stop).await?;
            runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await?;
        }
        Ok(())
    }

    /// The same, from where there may be a runtime already.
    fn remove_pods_here(&self) -> Result<(), String> {
        std::thread::scope(|scope| {
            let removing = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|e| e.to_string())?;
                let removed = runtime.block_on(async {
                    tokio::time::timeout(PODS_GO_WITHIN, self.remove_pods()).await
                });
                match removed {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(status)) => Err(format!("pods cannot be removed: {status}")),
                    Err(_) => Err(format!("pods are not removed within {PODS_GO_WITHIN:?}")),
                }
            });
            removing.join().unwrap_or_else(|_| Err("removing pods panicked".to_owned()))
        })
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Daemon {
    /// Ends it in good order, then looks for what is left. A test that has not failed yet fails by
    /// what it finds.
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        let mut wrong = Vec::new();
        if self.process.is_some() {
            wrong.extend(self.remove_pods_here().err());
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.terminate()));
            match ended {
                Ok(status) if status.success() => {}
                Ok(status) => wrong.push(format!("the daemon ended with {status}")),
                Err(_) => wrong.push("the daemon does not end".to_owned()),
            }
        }
        let nothing = || self.traces.list().is_empty().then_some(());
        if !failed && eventually(ENDS_WITHIN, nothing).is_none() {
            wrong.push(format!("left behind:\n  {}", self.traces.list().join("\n  ")));
        }
        if failed || !wrong.is_empty() {
            eprintln!("--- the daemon's log, its end:\n{}\n---", self.log_end());
        }
        self.traces.remove();
        drop(self.directory.take());
        assert!(failed || wrong.is_empty(), "{}", wrong.join("\n"));
        if !wrong.is_empty() {
            eprintln!("{}", wrong.join("\n"));
        }
    }
}

/// A connection to any runtime's socket; made when it is first used.
#[must_use]
pub fn channel(socket: &Path) -> Channel {
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector_lazy(connector(socket.to_owned()))
}

/// Connects to `socket`.
fn connector(
    socket: PathBuf,
) -> impl tower::Service<
    tonic::transport::Uri,
    Response = TokioIo<UnixStream>,
    Error = std::io::Error,
    Future: Send,
> + Send {
    tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    })
}

/// The monitor as it is shipped.
///
/// # Panics
/// Where it has not been built.
#[must_use]
pub fn shipped_monitor() -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    let mut places = own.ancestors().map(|directory| directory.join("monitor/isopod-monitor"));
    let found = places.find(|path| path.is_file());
    found
        .expect("target/monitor/isopod-monitor is missing: run `cargo xtask test`, which builds it")
}

/// The program under test: beside the tests' own, where `cargo xtask test` has built it.
///
/// # Panics
/// Where it is not there.
#[must_use]
pub fn program() -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    let places = own.ancestors().skip(1).take(2).map(|directory| directory.join("isopod"));
    let found = places.into_iter().find(|path| path.is_file());
    found.expect("target/…/isopod is missing: run `cargo xtask test`, which builds it")
}
