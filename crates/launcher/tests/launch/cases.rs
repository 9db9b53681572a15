//! What a container and an exec look like from inside.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use launcher::{ChildStdio, Exec, Plan, Report, Seat, Tracers, exec};
use sys::SingleThreaded;

use crate::adversary::no_mkdir;
use crate::bundle::{Bundle, wait, wait_for_name};

pub fn it_runs_in_namespaces_of_its_own_and_its_exit_code_is_told(proof: &SingleThreaded) {
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

pub fn it_sees_its_root_and_nothing_of_the_hosts(proof: &SingleThreaded) {
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

pub fn it_has_the_user_the_groups_and_the_capabilities_that_were_asked_for(proof: &SingleThreaded) {
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

pub fn a_filter_applies_with_and_without_new_privileges(proof: &SingleThreaded) {
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

pub fn masked_and_read_only_paths_hold(proof: &SingleThreaded) {
    let mut bundle = Bundle::new();
    bundle.sh("cat /proc/keys | wc -c; ls /sys/firmware | wc -l; \
         touch /proc/sys/kernel/hostname 2>&1; echo x > /proc/sys/kernel/domainname; echo $?");
    symlink("busybox", bundle.lower().join("bin/wc")).unwrap();
    let out = bundle.run(proof).unwrap().out;
    assert!(out.starts_with("0\n0\n"), "{out}");
    assert!(out.contains("Read-only file system"), "{out}");
}

pub fn a_read_only_root_cannot_be_written_but_its_volumes_can(proof: &SingleThreaded) {
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

pub fn links_in_the_image_lead_nowhere_outside(proof: &SingleThreaded) {
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

pub fn a_working_directory_is_made_and_one_outside_is_refused(proof: &SingleThreaded) {
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

pub fn a_program_that_cannot_be_executed_is_named(proof: &SingleThreaded) {
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

pub fn a_missing_source_is_an_error_that_names_it(proof: &SingleThreaded) {
    let mut bundle = Bundle::new();
    bundle.mount("/data", Path::new("/no/such/volume"), &["rbind"]);
    let error = bundle.run(proof).unwrap_err();
    assert!(
        error.message.contains("/data") && error.message.contains("/no/such/volume"),
        "{error}"
    );
}

pub fn an_exec_has_the_identity_of_its_container(proof: &SingleThreaded) {
    let mut bundle = Bundle::new();
    bundle.process().user.uid = 1000;
    bundle.sh("sleep 1000");
    let (launched, _output, _) = bundle.ready(proof).unwrap();
    launched.control.start().unwrap();
    assert!(matches!(launched.control.report(), Report::Executed));
    wait_for_name(&launched.child, "sleep");
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
    // A class of caches: whoever enters does it before anything is born of it.
    let resctrl = tempfile::tempdir().unwrap();
    std::fs::write(resctrl.path().join("schemata"), "L3:0=ff\n").unwrap();
    let gold = runtime_spec::IntelRdt { clos_id: "gold".to_owned(), ..Default::default() };
    std::fs::create_dir(resctrl.path().join("gold")).unwrap();
    std::fs::write(resctrl.path().join("gold/tasks"), "").unwrap();
    let class = launcher::RdtGroup::make(resctrl.path(), &gold, "c").unwrap().door().unwrap();
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
        class: Some(class.as_fd()),
    };
    let exec = exec(proof, &request).unwrap();
    assert!(matches!(exec.control.report(), Report::Executed));
    assert_eq!(std::fs::read_to_string(resctrl.path().join("gold/tasks")).unwrap(), "0");
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

pub fn an_exec_that_cannot_be_executed_is_named_in_lent_memory_too(proof: &SingleThreaded) {
    let mut bundle = Bundle::new();
    bundle.sh("sleep 1000");
    let (launched, _output, _) = bundle.ready(proof).unwrap();
    launched.control.start().unwrap();
    assert!(matches!(launched.control.report(), Report::Executed));
    let plan = Plan::read(&bundle.spec).unwrap();
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    for (tracers, program) in [
        (Tracers::Impossible, "/bin/nope"),
        (Tracers::Possible, "/bin/nope"),
        (Tracers::Impossible, "/etc"),
    ] {
        let process = plan.process.with_command(&[program.to_owned()], None).unwrap();
        let request = Exec {
            process: &process,
            container: launched.child.pidfd.as_fd(),
            stdio: ChildStdio::Streams {
                stdin: null.as_fd(),
                stdout: null.as_fd(),
                stderr: null.as_fd(),
            },
            filter: None,
            seat: Seat::Stay,
            users: None,
            tracers,
            class: None,
        };
        let exec = exec(proof, &request).unwrap();
        match exec.control.report() {
            Report::Failed(error) => {
                assert_eq!(error.phase.as_str(), "exec", "{error}");
                assert!(error.message.contains(program), "{tracers:?}: {error}");
            }
            report @ (Report::Ready { .. } | Report::AtHooks | Report::Executed) => {
                panic!("{tracers:?}, {program}: {report:?}")
            }
        }
        assert_eq!(wait(&exec.child.pidfd), 0, "whoever entered has handed over");
        let heir = exec.hand_over.unwrap().heir().unwrap();
        let heir = rustix::process::pidfd_open(heir, rustix::process::PidfdFlags::empty()).unwrap();
        assert_eq!(wait(&heir), 1, "{tracers:?}");
    }
    rustix::process::pidfd_send_signal(&launched.child.pidfd, rustix::process::Signal::KILL)
        .unwrap();
    assert_eq!(wait(&launched.child.pidfd), 137);
}

pub fn a_container_that_is_never_started_can_be_killed(proof: &SingleThreaded) {
    let (launched, _output, _) = Bundle::new().ready(proof).unwrap();
    rustix::process::pidfd_send_signal(&launched.child.pidfd, rustix::process::Signal::KILL)
        .unwrap();
    assert_eq!(wait(&launched.child.pidfd), 137);
    assert!(matches!(launched.control.report(), Report::Executed));
}

pub fn nothing_is_mounted_here_afterwards(_proof: &SingleThreaded) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    // Other runtimes of the machine have theirs elsewhere.
    let own = std::env::temp_dir();
    let place = |line: &str| line.split(' ').nth(4).map(std::path::PathBuf::from);
    let is_ours = |place: std::path::PathBuf| place.starts_with(&own) && place.ends_with("rootfs");
    let left = mounts.lines().filter(|line| place(line).is_some_and(is_ours));
    assert_eq!(left.count(), 0, "{mounts}");
}

pub fn a_capability_that_the_host_keeps_back_is_said_and_not_fatal(proof: &SingleThreaded) {
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

pub fn hooks_run_before_the_program_and_in_the_container(proof: &SingleThreaded) {
    let mut bundle = Bundle::new();
    let reached = bundle.dir.path().join("reached");
    let hook = |path: &str, args: &[&str]| runtime_spec::Hook {
        path: path.into(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: vec!["PATH=/bin".to_owned()],
        timeout: Some(20),
    };
    // The process that runs them is seen by them, and so has nothing more than they have.
    let script = "cat > /tmp/state; id -u > /tmp/who; for of in self $PPID; do \
                  grep -E '^(CapPrm|CapEff|Seccomp):' /proc/$of/status >> /tmp/who; done";
    bundle.filter = Some(no_mkdir());
    bundle.spec.hooks = Some(runtime_spec::Hooks {
        create_runtime: vec![hook(reached.to_str().unwrap(), &[])],
        start_container: vec![hook("/bin/sh", &["sh", "-c", script])],
        ..Default::default()
    });
    bundle.sh("cat /tmp/state; echo; cat /tmp/who");
    let outcome = bundle.run(proof).unwrap();
    assert!(reached.exists(), "nobody waited for the hooks of the runtime");
    let (state, rest) = outcome.out.split_once('\n').unwrap();
    let state: serde_json::Value = serde_json::from_str(state).unwrap();
    assert_eq!((&state["status"], &state["pid"]), (&"created".into(), &1.into()), "{state}");
    let own = "CapPrm:\t0000000000000021\nCapEff:\t0000000000000021\nSeccomp:\t2\n";
    assert_eq!(rest, format!("0\n{own}{own}"), "they have the container's privileges and filter");
    bundle.spec.hooks.as_mut().unwrap().start_container =
        vec![hook("/bin/sh", &["sh", "-c", "echo not today >&2; exit 4"])];
    let error = bundle.run(proof).unwrap_err();
    assert!(error.message.contains("not today"), "{error}");
}

pub fn an_exec_is_kept_to_its_cpus_and_the_container_is_not(proof: &SingleThreaded) {
    let mut bundle = Bundle::new();
    let list = "grep Cpus_allowed_list /proc/self/status";
    bundle.sh(&format!("{list}; sleep 1000"));
    // CPUs that the runtime cannot have matter to nobody once the process has left the runtime's cgroup.
    bundle.process().exec_cpu_affinity =
        Some(runtime_spec::CpuAffinity { initial: "1000".to_owned(), final_: "0".to_owned() });
    let plan = Plan::read(&bundle.spec).unwrap();
    let (launched, _output, _) = bundle.ready(proof).unwrap();
    launched.control.start().unwrap();
    assert!(matches!(launched.control.report(), Report::Executed));
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let null = File::open("/dev/null").unwrap();
    let args = ["sh", "-c", list].map(str::to_owned);
    let process = plan.process.with_command(&args, None).unwrap();
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
        class: None,
    };
    let added = exec(proof, &request).unwrap();
    drop(write);
    assert!(matches!(added.control.report(), Report::Executed));
    let mut out = String::new();
    File::from(read).read_to_string(&mut out).unwrap();
    assert_eq!(wait(&added.child.pidfd), 0, "whoever entered has handed over: {out}");
    let heir = added.hand_over.unwrap().heir().unwrap();
    let heir = rustix::process::pidfd_open(heir, rustix::process::PidfdFlags::empty()).unwrap();
    assert_eq!(wait(&heir), 0, "{out}");
    assert_eq!(out, "Cpus_allowed_list:\t0\n");
    rustix::process::pidfd_send_signal(&launched.child.pidfd, rustix::process::Signal::KILL)
        .unwrap();
    wait(&launched.child.pidfd);
}

pub fn limits_are_lowered_and_one_that_is_refused_is_said(proof: &SingleThreaded) {
    let mut bundle = Bundle::new();
    let limit = |kind: &str, soft, hard| runtime_spec::Rlimit { kind: kind.to_owned(), soft, hard };
    // The kernel allows nobody as many open files (fs.nr_open).
    bundle.process().rlimits =
        vec![limit("RLIMIT_NOFILE", 1 << 40, 1 << 40), limit("RLIMIT_FSIZE", 512 << 10, 1 << 20)];
    bundle.sh("grep 'Max file size' /proc/self/limits");
    let outcome = bundle.run(proof).unwrap();
    let words: Vec<&str> = outcome.out.split_whitespace().collect();
    assert_eq!(words[3..5], ["524288", "1048576"], "{}", outcome.out);
    let told = |word: &str| outcome.warnings.iter().any(|warning| warning.contains(word));
    assert!(told("Nofile") && !told("Fsize"), "{:?}", outcome.warnings);
}
