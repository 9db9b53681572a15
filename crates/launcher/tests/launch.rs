//! The launcher on real namespaces: each case launches a busybox container and looks from inside.
//!
//! It has a main of its own because the launcher needs a process with one thread. It needs root and
//! /bin/busybox (Debian's busybox-static).

#![expect(clippy::unwrap_used, reason = "a test ends where something unforeseen happens")]

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use launcher::{
    CgroupView, ChildStdio, Create, Exec, LaunchError, Launched, PidHome, Plan, Report, Seat,
    Tracers, create, exec,
};
use model::Rootfs;
use runtime_spec::Spec;
use sys::SingleThreaded;

/// A root file system and a spec, ready to be changed by a case.
struct Bundle {
    dir: tempfile::TempDir,
    spec: Spec,
    filter: Option<Vec<u8>>,
}

/// What a container left behind.
#[derive(Debug)]
struct Outcome {
    out: String,
    code: i32,
    warnings: Vec<String>,
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
    fn new() -> Self {
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

    fn lower(&self) -> PathBuf {
        self.dir.path().join("lower")
    }

    /// With a new writable layer: a volatile overlay is mounted once.
    fn rootfs(&self) -> Rootfs {
        let at = |name: &str| self.dir.path().join(name);
        for sub in ["upper", "work"] {
            let _ = std::fs::remove_dir_all(at(sub));
            std::fs::create_dir(at(sub)).unwrap();
        }
        Rootfs { lower: vec![at("lower")], upper: Some((at("upper"), at("work"))) }
    }

    fn sh(&mut self, script: &str) -> &mut Self {
        self.process().args = vec!["sh".into(), "-c".into(), script.into()];
        self
    }

    fn process(&mut self) -> &mut runtime_spec::Process {
        self.spec.process.as_mut().unwrap()
    }

    fn mount(&mut self, destination: &str, source: &Path, options: &[&str]) {
        self.spec.mounts.push(runtime_spec::Mount {
            destination: destination.into(),
            kind: "bind".into(),
            source: source.to_str().unwrap().into(),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            ..Default::default()
        });
    }

    /// Launches up to the point where the process waits for its start.
    fn ready(&self, proof: &SingleThreaded) -> Result<(Launched, File, Vec<String>), LaunchError> {
        let plan = Plan::read(&self.spec)?;
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let null = File::open("/dev/null").unwrap();
        let host = File::open("/proc/self/ns/mnt").unwrap();
        let request = Create {
            plan: &plan,
            rootfs: &self.rootfs(),
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
            own_tree: self.dir.path(),
        };
        let launched = create(proof, &request)?;
        match launched.control.report() {
            Report::Ready { warnings, .. } => Ok((launched, read.into(), warnings)),
            Report::Failed(error) => {
                wait(&launched.child.pidfd);
                Err(error)
            }
            Report::Executed => {
                panic!("the child ended without a word: {}", wait(&launched.child.pidfd))
            }
        }
    }

    fn run(&self, proof: &SingleThreaded) -> Result<Outcome, LaunchError> {
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

fn wait(pidfd: &OwnedFd) -> i32 {
    let mut poll = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut poll, Some(&patience)).unwrap(), 1, "it does not end");
    sys::wait_exit(pidfd.as_fd()).unwrap().unwrap()
}

fn it_runs_in_namespaces_of_its_own_and_its_exit_code_is_told(proof: &SingleThreaded) {
    let mut bundle = Bundle::new();
    bundle.sh(
        "echo pid $$; for n in pid mnt ipc uts net; do readlink /proc/self/ns/$n; done; exit 3",
    );
    let outcome = bundle.run(proof).unwrap();
    assert_eq!(outcome.code, 3);
    assert!(outcome.out.starts_with("pid 1\n"), "{}", outcome.out);
    for kind in ["pid", "mnt", "ipc", "uts", "net"] {
        let ours = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert!(!outcome.out.contains(ours.to_str().unwrap()), "{kind} is shared: {}", outcome.out);
        assert!(outcome.out.contains(&format!("{kind}:[")), "{}", outcome.out);
    }
}

fn it_sees_its_root_and_nothing_of_the_hosts(proof: &SingleThreaded) {
    let mut bundle = Bundle::new();
    bundle.sh("ls / | tr '\\n' ' '; ls /proc/self/fd | tr '\\n' ' '; cat /proc/self/mountinfo; echo hello > /tmp/file; cat /proc/1/environ");
    symlink("busybox", bundle.lower().join("bin/tr")).unwrap();
    let outcome = bundle.run(proof).unwrap();
    // The fourth descriptor is the directory that ls itself reads.
    assert!(outcome.out.starts_with("bin dev etc home proc sys tmp 0 1 2 3 "), "{}", outcome.out);
    assert!(!outcome.out.contains("ext4"), "{}", outcome.out);
    assert!(outcome.out.contains("overlay"), "{}", outcome.out);
    assert_eq!(
        std::fs::read_to_string(bundle.dir.path().join("upper/tmp/file")).unwrap(),
        "hello\n"
    );
    assert!(outcome.out.contains("A=b\0") && !outcome.out.contains("HOME="), "{:?}", outcome.out);
}

fn it_has_the_user_the_groups_and_the_capabilities_that_were_asked_for(proof: &SingleThreaded) {
    let mut bundle = Bundle::new();
    bundle.sh("grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Umask)' /proc/self/status");
    let root = bundle.run(proof).unwrap().out.replace('\t', " ");
    for line in [
        "CapPrm: 0000000000000021",
        "CapEff: 0000000000000021",
        "CapBnd: 0000000000000021",
        "NoNewPrivs: 0",
        "Umask: 0022",
    ] {
        assert!(root.contains(line), "{line} is not in {root}");
    }
    let process = bundle.process();
    process.user =
        runtime_spec::User { uid: 1000, gid: 1001, additional_gids: vec![7, 8], umask: Some(0o77) };
    process.no_new_privileges = true;
    process.capabilities.as_mut().unwrap().ambient = vec!["CAP_KILL".into()];
    process.capabilities.as_mut().unwrap().inheritable = vec!["CAP_KILL".into()];
    let user = bundle.run(proof).unwrap().out.replace('\t', " ");
    for line in [
        "Uid: 1000 1000 1000 1000",
        "Gid: 1001 1001 1001 1001",
        "Groups: 7 8",
        "CapEff: 0000000000000020",
        "CapAmb: 0000000000000020",
        "CapBnd: 0000000000000021",
        "NoNewPrivs: 1",
        "Umask: 0077",
    ] {
        assert!(user.contains(line), "{line} is not in {user}");
    }
}

fn a_filter_applies_with_and_without_new_privileges(proof: &SingleThreaded) {
    // One rule: mkdir (83 on x86_64) fails with EPERM, all else is allowed.
    let instruction = |code: u16, jt: u8, jf: u8, k: u32| {
        let mut bytes = code.to_ne_bytes().to_vec();
        bytes.extend([jt, jf]);
        bytes.extend(k.to_ne_bytes());
        bytes
    };
    let program = [
        instruction(0x20, 0, 0, 0),
        instruction(0x15, 0, 1, 83),
        instruction(0x06, 0, 0, 0x0005_0001),
        instruction(0x06, 0, 0, 0x7fff_0000),
    ];
    for no_new_privileges in [false, true] {
        let mut bundle = Bundle::new();
        symlink("busybox", bundle.lower().join("bin/mkdir")).unwrap();
        bundle.filter = Some(program.concat());
        bundle.process().no_new_privileges = no_new_privileges;
        bundle.sh("mkdir /tmp/x; grep -E '^(Seccomp|CapPrm)' /proc/self/status");
        let out = bundle.run(proof).unwrap().out.replace('\t', " ");
        assert!(out.contains("Operation not permitted"), "{out}");
        assert!(out.contains("Seccomp: 2"), "{out}");
        assert!(out.contains("CapPrm: 0000000000000021"), "the filter's privilege was kept: {out}");
    }
}

fn masked_and_read_only_paths_hold(proof: &SingleThreaded) {
    let mut bundle = Bundle::new();
    bundle.sh("cat /proc/keys | wc -c; ls /sys/firmware | wc -l; \
         touch /proc/sys/kernel/hostname 2>&1; echo x > /proc/sys/kernel/domainname; echo $?");
    symlink("busybox", bundle.lower().join("bin/wc")).unwrap();
    let out = bundle.run(proof).unwrap().out;
    assert!(out.starts_with("0\n0\n"), "{out}");
    assert!(out.contains("Read-only file system"), "{out}");
}

fn a_read_only_root_cannot_be_written_but_its_volumes_can(proof: &SingleThreaded) {
    let mut bundle = Bundle::new();
    let volume = tempfile::tempdir().unwrap();
    bundle.mount("/data", volume.path(), &["rbind", "rw"]);
    bundle.mount("/fixed", volume.path(), &["rbind", "ro"]);
    bundle.mount("/etc/one", &volume.path().join("file"), &["bind", "ro"]);
    std::fs::write(volume.path().join("file"), "content\n").unwrap();
    bundle.spec.root.as_mut().unwrap().readonly = true;
    bundle.sh("touch /x /fixed/x; echo more > /data/more; cat /etc/one");
    let out = bundle.run(proof).unwrap().out;
    assert_eq!(out.matches("Read-only file system").count(), 2, "{out}");
    assert!(out.ends_with("content\n"), "{out}");
    assert!(volume.path().join("more").exists());
}

fn links_in_the_image_lead_nowhere_outside(proof: &SingleThreaded) {
    let outside = tempfile::tempdir().unwrap();
    for place in ["/proc", "/sys", "/dev"] {
        let bundle = Bundle::new();
        symlink(outside.path(), bundle.lower().join(&place[1..])).unwrap();
        let error = bundle.run(proof).unwrap_err();
        assert_eq!(error.phase.as_str(), "mounts", "{error}");
        assert!(error.message.contains(place), "{error}");
    }
    let mut bundle = Bundle::new();
    let volume = tempfile::tempdir().unwrap();
    symlink(outside.path(), bundle.lower().join("link")).unwrap();
    bundle.mount("/link/inner", volume.path(), &["rbind"]);
    bundle.sh("ls /link");
    // The link's target does not exist inside, so it dangles there, whatever is outside.
    assert!(bundle.run(proof).unwrap_err().message.contains("/link"), "a link was followed");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

fn a_working_directory_is_made_and_one_outside_is_refused(proof: &SingleThreaded) {
    let mut bundle = Bundle::new();
    bundle.process().cwd = "/made/here".into();
    bundle.sh("pwd");
    assert_eq!(bundle.run(proof).unwrap().out, "/made/here\n");
    for leak in ["/proc/self/fd/7", "/proc/self/fd/8", "/proc/1/cwd/../..", "/proc/self/root"] {
        bundle.process().cwd = leak.into();
        if let Ok(outcome) = bundle.run(proof) {
            let cwd = outcome.out.trim_end();
            assert!(!cwd.starts_with(bundle.dir.path().to_str().unwrap()), "{leak} led to {cwd}");
            assert!(!Path::new(cwd).join("lower").exists(), "{leak} led to {cwd}");
        }
    }
}

fn a_program_that_cannot_be_executed_is_named(proof: &SingleThreaded) {
    let mut bundle = Bundle::new();
    std::fs::write(bundle.lower().join("etc/text"), "no program").unwrap();
    for (program, says) in [
        ("nope", "PATH"),
        ("/bin/nope", "/bin/nope"),
        ("/etc", "/etc"),
        ("/etc/text", "Permission denied"),
    ] {
        bundle.process().args = vec![program.into()];
        let error = bundle.run(proof).unwrap_err();
        assert_eq!(error.phase.as_str(), "exec", "{error}");
        assert!(error.message.contains(says), "{program}: {error}");
    }
}

fn a_missing_source_is_an_error_that_names_it(proof: &SingleThreaded) {
    let mut bundle = Bundle::new();
    bundle.mount("/data", Path::new("/no/such/volume"), &["rbind"]);
    let error = bundle.run(proof).unwrap_err();
    assert!(
        error.message.contains("/data") && error.message.contains("/no/such/volume"),
        "{error}"
    );
}

fn an_exec_has_the_identity_of_its_container(proof: &SingleThreaded) {
    let mut bundle = Bundle::new();
    bundle.process().user.uid = 1000;
    bundle.sh("sleep 1000");
    let (launched, _output, _) = bundle.ready(proof).unwrap();
    launched.control.start().unwrap();
    assert!(matches!(launched.control.report(), Report::Executed));
    let plan = Plan::read(&bundle.spec).unwrap();
    let process = plan
        .process
        .with_command(
            &[
            "sh".into(),
            "-c".into(),
            "id -u; cat /proc/1/comm; readlink /proc/1/ns/pid; readlink /proc/self/ns/pid; ls /proc/self/fd"
                .into(),
            ],
            None,
        )
        .unwrap();
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let null = File::open("/dev/null").unwrap();
    let request = Exec {
        process: &process,
        container: launched.child.pidfd.as_fd(),
        stdio: ChildStdio::Streams {
            stdin: null.as_fd(),
            stdout: write.as_fd(),
            stderr: write.as_fd(),
        },
        filter: None,
        seat: Seat::Stay,
        users: None,
        tracers: Tracers::Impossible,
    };
    let exec = exec(proof, &request).unwrap();
    assert!(matches!(exec.control.report(), Report::Executed));
    drop(write);
    let mut out = String::new();
    File::from(read).read_to_string(&mut out).unwrap();
    assert_eq!(wait(&exec.child.pidfd), 0, "whoever entered has handed over: {out}");
    let heir = exec.hand_over.unwrap().heir().unwrap();
    let heir = rustix::process::pidfd_open(heir, rustix::process::PidfdFlags::empty()).unwrap();
    assert_eq!(wait(&heir), 0, "{out}");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[..2], ["1000", "sleep"], "{out}");
    assert_eq!(lines[2], lines[3], "{out}");
    assert_eq!(lines[4..], ["0", "1", "2", "3"], "{out}");
    let ours = std::fs::read_link("/proc/self/ns/pid").unwrap();
    assert_eq!(
        ours,
        std::fs::read_link("/proc/self/ns/pid_for_children").unwrap(),
        "the launcher came home"
    );
    rustix::process::pidfd_send_signal(&launched.child.pidfd, rustix::process::Signal::KILL)
        .unwrap();
    assert_eq!(wait(&launched.child.pidfd), 137);
}

fn a_container_that_is_never_started_can_be_killed(proof: &SingleThreaded) {
    let (launched, _output, _) = Bundle::new().ready(proof).unwrap();
    rustix::process::pidfd_send_signal(&launched.child.pidfd, rustix::process::Signal::KILL)
        .unwrap();
    assert_eq!(wait(&launched.child.pidfd), 137);
    assert!(matches!(launched.control.report(), Report::Executed));
}

fn nothing_is_mounted_here_afterwards(_proof: &SingleThreaded) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("/rootfs"), "{mounts}");
}

fn a_capability_that_the_host_keeps_back_is_said_and_not_fatal(proof: &SingleThreaded) {
    let own = rustix::thread::capabilities(None).unwrap().permitted;
    let mut bundle = Bundle::new();
    let capabilities = bundle.process().capabilities.as_mut().unwrap();
    capabilities.bounding.push("CAP_SYS_RESOURCE".into());
    capabilities.effective.push("CAP_SYS_RESOURCE".into());
    capabilities.permitted.push("CAP_SYS_RESOURCE".into());
    let outcome = bundle.run(proof).unwrap();
    let kept_back = !own.contains(rustix::thread::CapabilitySet::SYS_RESOURCE);
    assert_eq!(
        outcome.warnings.iter().any(|w| w.contains("SYS_RESOURCE")),
        kept_back,
        "{:?}",
        outcome.warnings
    );
    assert_eq!(outcome.code, 0);
}

type Case = (&'static str, fn(&SingleThreaded));

macro_rules! cases {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), $name as fn(&SingleThreaded))),*] };
}

const CASES: [Case; 14] = cases![
    it_runs_in_namespaces_of_its_own_and_its_exit_code_is_told,
    it_sees_its_root_and_nothing_of_the_hosts,
    it_has_the_user_the_groups_and_the_capabilities_that_were_asked_for,
    a_filter_applies_with_and_without_new_privileges,
    masked_and_read_only_paths_hold,
    a_read_only_root_cannot_be_written_but_its_volumes_can,
    links_in_the_image_lead_nowhere_outside,
    a_working_directory_is_made_and_one_outside_is_refused,
    a_program_that_cannot_be_executed_is_named,
    a_missing_source_is_an_error_that_names_it,
    an_exec_has_the_identity_of_its_container,
    a_container_that_is_never_started_can_be_killed,
    a_capability_that_the_host_keeps_back_is_said_and_not_fatal,
    nothing_is_mounted_here_afterwards,
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // What cargo-nextest asks a test program without the standard harness.
    if args.iter().any(|a| a == "--list") {
        if !args.iter().any(|a| a == "--ignored") {
            CASES.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    let exact = args.iter().any(|a| a == "--exact");
    let filters: Vec<_> = args.iter().filter(|a| !a.starts_with("--")).collect();
    let proof = SingleThreaded::check().expect("this program has one thread");
    let mut failed = 0;
    for (name, case) in CASES {
        let wanted =
            |f: &&&String| if exact { f.as_str() == name } else { name.contains(f.as_str()) };
        if !filters.is_empty() && !filters.iter().any(|f| wanted(&f)) {
            continue;
        }
        let passed = catch_unwind(AssertUnwindSafe(|| case(&proof))).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += u32::from(!passed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
