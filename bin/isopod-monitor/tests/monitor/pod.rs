//! A monitor with a pod of the test's own, and containers of busybox in it. Everything goes with it, also
//! when the test fails.

use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cgroups::{Cgroup, CgroupPath, Hierarchies};
use model::{ContainerId, Exit, Rootfs, SandboxId, Stdio};
use monitor_client::api::{Create, LogLimits, PidChoice, Runtime, Setup};
use monitor_client::{ExecStreams, Monitor, MonitorEvent, MonitorEvents, MonitorProgram, Started};
use serde_json::{Value, json};

/// What everything that has to happen is given to happen in, on a slow machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// A pod, its monitor and the way to it.
pub struct Pod {
    pub dir: tempfile::TempDir,
    pub started: Started,
    pub cgroup: CgroupPath,
    lower: PathBuf,
}

/// A container to be.
pub struct Container {
    pub create: Create,
    pub spec: Value,
    pub id: ContainerId,
}

/// Waits for `future`, but not forever.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// A number that no other test has.
pub fn unique() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

/// The program of the monitor: as this build made it, or the one that ISOPOD_MONITOR names, such as the
/// static one that is shipped.
pub fn program() -> Arc<MonitorProgram> {
    let given = std::env::var_os("ISOPOD_MONITOR").map(PathBuf::from);
    let path = given.unwrap_or_else(|| env!("CARGO_BIN_EXE_isopod-monitor").into());
    Arc::new(MonitorProgram::from_file(&path).unwrap())
}

impl Pod {
    /// A pod with a host name, an IPC namespace and a network namespace of its own.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, changed.
    pub async fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let number = unique();
        let lower = dir.path().join("lower");
        make_busybox(&lower);
        let sandbox = format!("{:032x}{:032x}", std::process::id(), number);
        let mut setup = Setup {
            sandbox: SandboxId::parse(&sandbox).unwrap(),
            own_network: true,
            hostname: Some("the-pod".into()),
            own_ipc: true,
            shared_pid: false,
            sysctls: [("kernel.shm_rmid_forced".to_owned(), "1".to_owned())].into(),
            directory: dir.path().to_owned(),
            shm_size: 1 << 20,
            users: None,
        };
        change(&mut setup);
        let cgroup = format!("/isopod-test-{}-{number}", std::process::id());
        let cgroup = CgroupPath::parse(&cgroup).unwrap();
        let started = within(monitor_client::start(program(), setup, None)).await.unwrap();
        Self { dir, started, cgroup, lower }
    }

    pub fn monitor(&self) -> &Monitor {
        &self.started.monitor
    }

    /// A container that runs `script`.
    pub fn container(&self, name: &str, script: &str) -> Container {
        let bundle = self.dir.path().join(name);
        std::fs::create_dir(&bundle).unwrap();
        for sub in ["upper", "work"] {
            std::fs::create_dir(bundle.join(sub)).unwrap();
        }
        let id = ContainerId::parse(&format!("{:0>64x}", unique())).unwrap();
        let spec = json!({
            "ociVersion": runtime_spec::VERSION,
            "process": {
                "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["sh", "-c", script],
                "env": ["PATH=/bin"], "capabilities": {
                    "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES}
            },
            "root": {"path": "rootfs"},
            "mounts": mounts(self.dir.path()),
            "linux": {
                "cgroupsPath": self.cgroup.join(name).unwrap().as_str(),
                "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "cgroup"}],
                "maskedPaths": ["/proc/kcore", "/proc/keys"],
                "readonlyPaths": ["/proc/sys"]
            }
        });
        let create = Create {
            container: id.clone(),
            rootfs: Rootfs {
                lower: vec![self.lower.clone()],
                upper: Some((bundle.join("upper"), bundle.join("work"))),
            },
            log: Some(bundle.join("log")),
            bundle,
            stdio: Stdio::default(),
            runtime: Runtime::Own,
            pid: PidChoice::Spec,
            volumes: Vec::new(),
            log_limits: LogLimits::default(),
        };
        Container { create, spec, id }
    }

    /// Sets `container` up and starts it.
    pub async fn run(&self, container: Container) -> ContainerId {
        let id = container.create_in(self).await.unwrap();
        within(self.monitor().start(id.clone())).await.unwrap();
        id
    }

    /// Waits for the end of `id`.
    pub async fn end_of(&mut self, id: &ContainerId) -> Exit {
        end_of(&mut self.started.events, id).await
    }

    /// What `args` print in `id`, standard error too, and the exit code.
    pub async fn exec(&self, id: &ContainerId, args: &[&str]) -> (String, i32) {
        let args = args.iter().map(|a| (*a).to_owned()).collect();
        let (streams, output) = streams();
        let exec = self.monitor().exec(id.clone(), args, streams);
        let mut exec = within(exec).await.unwrap();
        let output = within(read_all(output)).await;
        (output, within(exec.ended()).await.unwrap())
    }
}

impl Container {
    /// Writes the bundle and has the container set up.
    pub async fn create_in(self, pod: &Pod) -> Result<ContainerId, monitor_client::MonitorError> {
        let config = serde_json::to_vec(&self.spec).unwrap();
        std::fs::write(self.create.bundle.join("config.json"), config).unwrap();
        within(pod.monitor().create(self.create)).await.map(|_| self.id)
    }

    pub fn log(&self) -> PathBuf {
        self.create.log.clone().unwrap()
    }

    /// Adds capabilities.
    pub fn add_capabilities(&mut self, names: &[&str]) {
        for set in ["bounding", "effective", "permitted"] {
            let list = self.spec["process"]["capabilities"][set].as_array_mut().unwrap();
            list.extend(names.iter().map(|name| json!(name)));
        }
    }

    /// Adds a mount.
    pub fn add_mount(&mut self, mount: Value) {
        self.spec["mounts"].as_array_mut().unwrap().push(mount);
    }

    /// Its processes are those of the pod.
    pub fn share_pids(&mut self) {
        self.create.pid = PidChoice::Pod;
        self.spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "cgroup"}]);
    }
}

/// Waits for the end of `id`.
pub async fn end_of(events: &mut MonitorEvents, id: &ContainerId) -> Exit {
    loop {
        match within(events.recv()).await.expect("the monitor is gone") {
            MonitorEvent::Exited { container, exit } if container == *id => return exit,
            MonitorEvent::Exited { .. } => {}
            MonitorEvent::Gone => panic!("the monitor is gone"),
        }
    }
}

/// No input, and one pipe for both outputs.
pub fn streams() -> (ExecStreams, OwnedFd) {
    let (read, write) = std::io::pipe().unwrap();
    let stdin = std::fs::File::open("/dev/null").unwrap().into();
    let stdout = OwnedFd::from(write);
    let stderr = stdout.try_clone().unwrap();
    (ExecStreams { stdin, stdout, stderr }, read.into())
}

/// Reads to the end, or to the hang-up of a terminal.
pub async fn read_all(fd: OwnedFd) -> String {
    let read = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        while read_some(&fd, &mut all) {}
        String::from_utf8_lossy(&all).into_owned()
    });
    read.await.unwrap()
}

/// Reads until `until` has come.
pub async fn read_until(fd: &OwnedFd, until: &str) -> String {
    let (fd, until) = (fd.try_clone().unwrap(), until.to_owned());
    let read = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        while !String::from_utf8_lossy(&all).contains(&until) {
            assert!(
                read_some(&fd, &mut all),
                "{until:?} is not in {}",
                String::from_utf8_lossy(&all)
            );
        }
        String::from_utf8_lossy(&all).into_owned()
    });
    within(read).await.unwrap()
}

fn read_some(fd: &OwnedFd, all: &mut Vec<u8>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut ready = [PollFd::new(fd, PollFlags::IN)];
    let patience = Timespec { tv_sec: 60, tv_nsec: 0 };
    assert_eq!(poll(&mut ready, Some(&patience)).unwrap(), 1, "nothing comes");
    let mut buffer = [0; 4096];
    match rustix::io::read(fd, &mut buffer) {
        Ok(count) => {
            all.extend_from_slice(&buffer[..count]);
            count > 0
        }
        Err(rustix::io::Errno::AGAIN) => true,
        Err(_) => false,
    }
}

/// Waits until `path` holds `text`, and returns all of it.
pub async fn file_with(path: &Path, text: &str) -> String {
    let look = async {
        loop {
            let content = std::fs::read_to_string(path).unwrap_or_default();
            if content.contains(text) {
                return content;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, look).await;
    found.unwrap_or_else(|_| {
        panic!("{text:?} is not in {}", std::fs::read_to_string(path).unwrap_or_default())
    })
}

/// The lines of a log without their heads.
pub fn lines(log: &str) -> Vec<&str> {
    log.lines().map(|line| line.splitn(4, ' ').last().unwrap()).collect()
}

impl Drop for Pod {
    fn drop(&mut self) {
        // By its pid and start time, so that nobody else is hit whose number it has become.
        let identity = self.started.identity;
        let pid = rustix::process::Pid::from_raw(identity.pid).unwrap();
        if sys::start_time(pid).is_ok_and(|at| at == identity.start_time) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let hierarchies = Hierarchies::detect().unwrap();
        let cgroup = Cgroup::at(&hierarchies, &self.cgroup);
        let killed = cgroup.kill_all();
        let removed = cgroup.remove();
        if !std::thread::panicking() {
            killed.unwrap();
            removed.unwrap();
        }
    }
}

const CAPABILITIES: [&str; 7] = [
    "CAP_CHOWN",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETUID",
    "CAP_SETGID",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
];

fn mounts(pod: &Path) -> Value {
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev/shm", "type": "bind", "source": pod.join("shm"), "options": ["rbind", "nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]}
    ])
}

pub fn make_busybox(root: &Path) {
    for sub in ["bin", "etc", "tmp", "root"] {
        std::fs::create_dir_all(root.join(sub)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox"))
        .expect("these tests need /bin/busybox of the package busybox-static");
    for applet in [
        "sh", "cat", "id", "ls", "mount", "stat", "sleep", "readlink", "env", "touch", "grep",
        "nc", "kill", "wc", "ps", "stty", "tty", "hostname", "head", "dd", "mkdir", "chown",
        "true", "false", "tr", "awk", "seq",
    ] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
}
