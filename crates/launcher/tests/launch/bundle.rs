//! A root file system, a spec, and what comes of launching it.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use launcher::{
    CgroupView, ChildStdio, Create, LaunchError, Launched, PidHome, Plan, Report, RootSource, Seat,
    create,
};
use model::Rootfs;
use runtime_spec::Spec;
use sys::SingleThreaded;

/// A root file system and a spec, ready to be changed by a case.
pub struct Bundle {
    pub dir: tempfile::TempDir,
    pub spec: Spec,
    pub filter: Option<Vec<u8>>,
}

/// What a container left behind.
#[derive(Debug)]
pub struct Outcome {
    pub out: String,
    pub code: i32,
    pub warnings: Vec<String>,
}

const SPEC: &str = r#"{
  "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh", "-c", "true"], "cwd": "/",
    "env": ["PATH=/bin", "A=b"],
    "capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN", "CAP_KILL"],
      "permitted": ["CAP_CHOWN", "CAP_KILL"]}},
  "root": {"path": "rootfs"},
  "mounts": [
    {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
      "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}
  ],
  "linux": {
    "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}, {"type": "cgroup"}],
    "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware", "/does/not/exist"],
    "readonlyPaths": ["/proc/sys", "/proc/bus"]
  }
}"#;

impl Bundle {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lower = dir.path().join("lower");
        for sub in ["bin", "etc", "tmp", "home"] {
            std::fs::create_dir_all(lower.join(sub)).unwrap();
        }
        std::fs::copy("/bin/busybox", lower.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "id", "ls", "mount", "stat", "sleep", "readlink", "test", "env", "touch",
            "grep",
        ] {
            symlink("busybox", lower.join("bin").join(applet)).unwrap();
        }
        std::fs::create_dir(dir.path().join("rootfs")).unwrap();
        Self { dir, spec: serde_json::from_str(SPEC).unwrap(), filter: None }
    }

    pub fn lower(&self) -> PathBuf {
        self.dir.path().join("lower")
    }

    /// With a new writable layer: a volatile overlay is mounted once.
    pub fn rootfs(&self) -> Rootfs {
        let at = |name: &str| self.dir.path().join(name);
        for sub in ["upper", "work"] {
            let _ = std::fs::remove_dir_all(at(sub));
            std::fs::create_dir(at(sub)).unwrap();
        }
        Rootfs { lower: vec![at("lower")], upper: Some((at("upper"), at("work"))) }
    }

    pub fn sh(&mut self, script: &str) -> &mut Self {
        self.process().args = vec!["sh".into(), "-c".into(), script.into()];
        self
    }

    pub fn process(&mut self) -> &mut runtime_spec::Process {
        self.spec.process.as_mut().unwrap()
    }

    pub fn mount(&mut self, destination: &str, source: &Path, options: &[&str]) {
        self.spec.mounts.push(runtime_spec::Mount {
            destination: destination.into(),
            kind: "bind".into(),
            source: source.to_str().unwrap().into(),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            ..Default::default()
        });
    }

    /// Launches up to the point where the process waits for its start.
    pub fn ready(
        &self,
        proof: &SingleThreaded,
    ) -> Result<(Launched, File, Vec<String>), LaunchError> {
        let plan = Plan::read(&self.spec)?;
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let null = File::open("/dev/null").unwrap();
        let host = File::open("/proc/self/ns/mnt").unwrap();
        let request = Create {
            plan: &plan,
            root: RootSource::Layers(&self.rootfs()),
            place: &self.dir.path().join("rootfs"),
            stdio: ChildStdio::Streams {
                stdin: null.as_fd(),
                stdout: write.as_fd(),
                stderr: write.as_fd(),
            },
            filter: self.filter.as_ref().map(|program| launcher::Filter { program, flags: 0 }),
            host_mounts: host.as_fd(),
            seat: Seat::Stay,
            cgroup_view: &CgroupView::Unified,
            pid_home: PidHome::Planned,
            users: None,
            finds_program: false,
            own_tree: self.dir.path(),
        };
        let launched = create(proof, &request)?;
        let mut report = launched.control.report();
        if matches!(report, Report::AtHooks) {
            // What stands beside a launcher runs the others; here they only leave a trace.
            for hook in &plan.hooks.as_ref().unwrap().all.create_runtime {
                std::fs::write(&hook.path, "reached").unwrap();
            }
            launched.control.hooks_run().unwrap();
            report = launched.control.report();
        }
        match report {
            Report::Ready { warnings, .. } => Ok((launched, read.into(), warnings)),
            Report::Failed(error) => {
                wait(&launched.child.pidfd);
                Err(error)
            }
            Report::Executed | Report::AtHooks => {
                panic!("the child ended without a word: {}", wait(&launched.child.pidfd))
            }
        }
    }

    pub fn run(&self, proof: &SingleThreaded) -> Result<Outcome, LaunchError> {
        let (launched, mut output, warnings) = self.ready(proof)?;
        launched.control.start().unwrap();
        if let Report::Failed(error) = launched.control.report() {
            wait(&launched.child.pidfd);
            return Err(error);
        }
        let mut out = String::new();
        output.read_to_string(&mut out).unwrap();
        Ok(Outcome { out, code: wait(&launched.child.pidfd), warnings })
    }
}

pub fn wait(pidfd: &OwnedFd) -> i32 {
    let mut poll = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut poll, Some(&patience)).unwrap(), 1, "it does not end");
    sys::wait_exit(pidfd.as_fd()).unwrap().unwrap()
}

/// Waits until the process has this name: a shell becomes its last command, and busybox takes the name after that.
pub fn wait_for_name(child: &sys::Child, name: &str) {
    let comm = format!("/proc/{}/comm", child.pid.as_raw_nonzero());
    let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
    for _ in 0..6000 {
        if std::fs::read_to_string(&comm).unwrap().trim_end() == name {
            return;
        }
        let mut poll = [rustix::event::PollFd::new(&child.pidfd, rustix::event::PollFlags::IN)];
        assert_eq!(rustix::event::poll(&mut poll, Some(&pause)).unwrap(), 0, "it has ended");
    }
    panic!("the process is not called {name}");
}
