//! Bundles for OCI runtimes: a root file system of busybox and a config.json, run by ours or by another's.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::image::APPLETS;

/// crun of Debian 12 refuses a machine that has controllers in both versions of cgroups; it is shown the
/// first alone. What is unmounted for that is unmounted there alone, and all else stays in touch with where it came from.
const CRUN: &str = "#!/bin/sh\n\
    if [ -d /sys/fs/cgroup/unified ]; then\n\
    exec unshare --mount --propagation unchanged sh -c 'mount --make-private /sys/fs/cgroup && umount /sys/fs/cgroup/unified; exec crun \"$@\"' crun \"$@\"\n\
    fi\nexec crun \"$@\"\n";

/// A program in `directory` that is crun on this machine.
#[must_use]
pub fn crun(directory: &Path) -> PathBuf {
    let crun = directory.join("crun.sh");
    fs::write(&crun, CRUN).expect("a file");
    fs::set_permissions(&crun, fs::Permissions::from_mode(0o755)).expect("a mode");
    crun
}

/// An OCI runtime's command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// `isopod oci`.
    Own,
    /// runc.
    Runc,
    /// crun.
    Crun,
}

impl Runtime {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Own, Self::Runc, Self::Crun];

    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "isopod oci",
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }
}

/// A bundle of a test's own; what was made from it is deleted with it.
#[derive(Debug)]
pub struct Bundle {
    directory: TempDir,
    /// The config.json, to be changed before something is made of it.
    pub config: Value,
    /// The name of its cgroup.
    cgroup: String,
}

impl Default for Bundle {
    fn default() -> Self {
        Self::new()
    }
}

impl Bundle {
    /// One that has all namespaces of its own and the limits and paths of an ordinary container.
    ///
    /// # Panics
    /// Where files cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("isopod-oci-").tempdir();
        let directory = directory.expect("a temporary directory");
        let root = directory.path().join("rootfs");
        for name in ["bin", "etc", "home", "tmp"] {
            fs::create_dir_all(root.join(name)).expect("a directory");
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("a mode");
        fs::copy("/bin/busybox", root.join("bin/busybox"))
            .expect("/bin/busybox, of busybox-static");
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).expect("a link");
        }
        let _ = crun(directory.path());
        let name = directory.path().file_name().expect("a directory has a name");
        let cgroup = format!("/{}", name.to_string_lossy());
        Self { config: config(&cgroup), directory, cgroup }
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Its root file system.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    /// The path of its cgroup.
    #[must_use]
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// With a shell script as its program.
    pub fn script(&mut self, script: &str) -> &mut Self {
        self.config["process"]["args"] = json!(["sh", "-c", script]);
        self
    }

    /// A command of a runtime on containers of this bundle, in the bundle's directory, its config written.
    ///
    /// # Panics
    /// Where the config cannot be written.
    #[must_use]
    pub fn command(&self, runtime: Runtime, args: &[&str]) -> Command {
        let config = self.path().join("config.json");
        fs::write(config, self.config.to_string()).expect("a file");
        let mut command = match runtime {
            Runtime::Own => {
                let mut own = Command::new(crate::daemon::program());
                own.arg("oci");
                own
            }
            Runtime::Runc => Command::new("runc"),
            Runtime::Crun => Command::new(self.path().join("crun.sh")),
        };
        let root = self.path().join(runtime.name().replace(' ', "-"));
        command.arg("--root").arg(root).args(args).current_dir(self.path());
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command of a runtime to its end.
    ///
    /// # Panics
    /// Where it cannot be run.
    #[must_use]
    pub fn output(&self, runtime: Runtime, args: &[&str]) -> Output {
        let mut command = self.command(runtime, args);
        command.output().unwrap_or_else(|e| panic!("{}: {e}", runtime.name()))
    }

    /// The same for one that must succeed; gives what it printed.
    ///
    /// # Panics
    /// Where it fails.
    #[must_use]
    pub fn done(&self, runtime: Runtime, args: &[&str]) -> String {
        let done = self.output(runtime, args);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{} {args:?}: {}: {said}", runtime.name(), done.status);
        String::from_utf8_lossy(&done.stdout).into_owned()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        for runtime in Runtime::ALL {
            let root = self.path().join(runtime.name().replace(' ', "-"));
            for entry in fs::read_dir(root).into_iter().flatten().flatten() {
                let id = entry.file_name().to_string_lossy().into_owned();
                // A test that has failed may have left it in any state.
                let _ = self.command(runtime, &["delete", "--force", &id]).output();
            }
        }
    }
}

/// The descriptor that comes over a socket, as a runtime hands a terminal over.
///
/// # Panics
/// Where none comes.
#[must_use]
pub fn received(socket: &UnixStream) -> fs::File {
    let mut descriptors = Vec::new();
    let received = sys::receive(socket.as_fd(), &mut [0; 64], &mut descriptors);
    received.expect("a message can be received");
    descriptors.pop().expect("a descriptor comes with it").into()
}

fn config(cgroup: &str) -> Value {
    let capabilities = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["true"],
            "env": ["PATH=/bin", "HOME=/"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities
            },
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs" },
        "hostname": "bundle",
        "mounts": mounts(),
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" }
            ],
            "resources": { "devices": devices() },
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"]
        }
    })
}

/// As engines write them: everything is denied but making nodes and the harmless devices.
fn devices() -> Value {
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    for (kind, access) in [("c", "m"), ("b", "m")] {
        rules.push(json!({ "allow": true, "type": kind, "access": access }));
    }
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(json!(
            { "allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm" }
        ));
    }
    json!(rules)
}

fn mounts() -> Value {
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc",
          "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
          "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
          "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
        { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
          "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
        { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
          "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/sys", "type": "sysfs", "source": "sysfs",
          "options": ["nosuid", "noexec", "nodev", "ro"] }
    ])
}
