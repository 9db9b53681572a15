//! Images and volumes that want to lead the launcher out of the root file system, and programs that want to
//! take something from it.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command};

use launcher::{ChildStdio, Exec, Filter, Plan, Report, Seat, Tracers, exec};
use sys::SingleThreaded;

use crate::bundle::{Bundle, wait};

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

pub fn a_mount_below_a_linked_directory_stays_inside(proof: &SingleThreaded) {
    let outside = tempfile::tempdir().unwrap();
    let volume = tempfile::tempdir().unwrap();
    std::fs::write(volume.path().join("hosts"), "content\n").unwrap();
    for target in ["/real", "../../../../../real"] {
        let mut bundle = Bundle::new();
        std::fs::remove_dir(bundle.lower().join("etc")).unwrap();
        std::fs::create_dir(bundle.lower().join("real")).unwrap();
        symlink(target, bundle.lower().join("etc")).unwrap();
        bundle.mount("/etc/hosts", &volume.path().join("hosts"), &["bind", "ro"]);
        bundle.sh("cat /real/hosts");
        assert_eq!(bundle.run(proof).unwrap().out, "content\n", "{target}");
    }
    let mut bundle = Bundle::new();
    std::fs::remove_dir(bundle.lower().join("etc")).unwrap();
    symlink(outside.path(), bundle.lower().join("etc")).unwrap();
    bundle.mount("/etc/hosts", &volume.path().join("hosts"), &["bind", "ro"]);
    assert!(bundle.run(proof).is_err(), "the link dangles inside");
    assert!(is_empty(outside.path()));
}

pub fn a_mount_at_a_place_that_is_a_link_stays_inside(proof: &SingleThreaded) {
    let volume = tempfile::tempdir().unwrap();
    std::fs::write(volume.path().join("file"), "content\n").unwrap();
    let mut bundle = Bundle::new();
    symlink("../../../../../home", bundle.lower().join("data")).unwrap();
    bundle.mount("/data", volume.path(), &["rbind"]);
    bundle.sh("cat /home/file");
    assert_eq!(bundle.run(proof).unwrap().out, "content\n");
}

/// A shell that swaps a directory for a link to `target` and back, until it is dropped.
struct Swapper(Child);

impl Swapper {
    fn start(directory: &Path, target: &Path) -> Self {
        // Whatever was made in its place in a moment without it is thrown away.
        let script = "cd \"$1\" && while true; do rm -rf real; mv sub real; ln -s \"$2\" sub; rm -f sub; \
            mv real sub || mkdir -p sub; done 2>/dev/null";
        let swapper = Command::new("/bin/busybox")
            .args(["sh", "-c", script, "sh"])
            .args([directory, target])
            .spawn();
        Self(swapper.unwrap())
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn a_place_that_is_swapped_while_it_is_mounted_on_leads_nowhere_outside(
    proof: &SingleThreaded,
) {
    let outside = tempfile::tempdir().unwrap();
    let shared = tempfile::tempdir().unwrap();
    let inner = tempfile::tempdir().unwrap();
    std::fs::create_dir(shared.path().join("sub")).unwrap();
    let mut bundle = Bundle::new();
    bundle.mount("/shared", shared.path(), &["rbind"]);
    bundle.mount("/shared/sub/deep", inner.path(), &["rbind"]);
    bundle.sh("echo ran");
    let swapper = Swapper::start(shared.path(), outside.path());
    let mut ran = 0;
    for _ in 0..40 {
        // It fails or not, as the swap has it; what it never does is to leave the root.
        ran += u32::from(bundle.run(proof).is_ok_and(|outcome| outcome.out == "ran\n"));
        assert!(is_empty(outside.path()), "a directory was made outside");
    }
    drop(swapper);
    println!("    {ran} of 40 came through");
}

pub fn a_volume_without_set_user_id_and_devices_says_so(proof: &SingleThreaded) {
    let volume = tempfile::tempdir().unwrap();
    let mut bundle = Bundle::new();
    bundle.mount("/data", volume.path(), &["rbind", "nosuid", "nodev", "noexec", "ro", "rro"]);
    bundle.sh("grep ' /data ' /proc/self/mountinfo");
    let out = bundle.run(proof).unwrap().out;
    let flags = out.split(' ').nth(5).unwrap();
    for flag in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(flags.split(',').any(|f| f == flag), "{flag} is not in {out}");
    }
}

pub fn names_with_line_breaks_are_names(proof: &SingleThreaded) {
    let volumes = tempfile::tempdir().unwrap();
    let source = volumes.path().join("so\nur ce\t\\040");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "content\n").unwrap();
    let mut bundle = Bundle::new();
    bundle.mount("/da\nta", &source, &["rbind"]);
    bundle.process().env.push("WORD=a\nb".into());
    bundle.sh("cat \"/da\nta/file\"; echo \"$WORD\"");
    assert_eq!(bundle.run(proof).unwrap().out, "content\na\nb\n");
}

pub fn no_descriptor_of_the_launcher_is_left_to_a_program(proof: &SingleThreaded) {
    // One that somebody has forgotten to mark, and that leads out.
    let leaked = File::open("/").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let mut bundle = Bundle::new();
    bundle.sh(
        "for fd in /proc/self/fd/*; do echo $fd; done; cat /proc/self/fd/*/etc/passwd 2>/dev/null",
    );
    let out = bundle.run(proof).unwrap().out;
    let numbers: Vec<_> = out.lines().map(|l| l.rsplit('/').next().unwrap().to_owned()).collect();
    // The shell itself has the directory open that it lists.
    assert_eq!(numbers[..3], ["0", "1", "2"], "{out}");
    assert!(numbers.len() <= 4, "{out}");
}

/// A filter that refuses mkdir (83 on x86_64, 34 mkdirat on others) with EPERM and allows all else.
pub fn no_mkdir() -> Vec<u8> {
    let number = if cfg!(target_arch = "x86_64") { 83 } else { 34 };
    let instruction = |code: u16, jt: u8, jf: u8, k: u32| {
        let mut bytes = code.to_ne_bytes().to_vec();
        bytes.extend([jt, jf]);
        bytes.extend(k.to_ne_bytes());
        bytes
    };
    [
        instruction(0x20, 0, 0, 0),
        instruction(0x15, 0, 1, number),
        instruction(0x06, 0, 0, 0x0005_0001),
        instruction(0x06, 0, 0, 0x7fff_0000),
    ]
    .concat()
}

pub fn an_exec_that_could_be_traced_has_its_filter_before_it_is_seen(proof: &SingleThreaded) {
    let mut bundle = Bundle::new();
    symlink("busybox", bundle.lower().join("bin/mkdir")).unwrap();
    let program = no_mkdir();
    bundle.filter = Some(program.clone());
    bundle.sh("sleep 1000");
    let (launched, _output, _) = bundle.ready(proof).unwrap();
    launched.control.start().unwrap();
    assert!(matches!(launched.control.report(), Report::Executed));
    let plan = Plan::read(&bundle.spec).unwrap();
    let script = "mkdir /tmp/x; grep -E '^(Seccomp|CapPrm|NoNewPrivs|NSsid)' /proc/self/status";
    let args = ["sh", "-c", script].map(str::to_owned);
    let process = plan.process.with_command(&args, None).unwrap();
    for tracers in [Tracers::Impossible, Tracers::Possible] {
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
            filter: Some(Filter { program: &program, flags: 0 }),
            seat: Seat::Stay,
            users: None,
            tracers,
            class: None,
        };
        let entered = exec(proof, &request).unwrap();
        assert!(matches!(entered.control.report(), Report::Executed));
        drop(write);
        let mut out = String::new();
        File::from(read).read_to_string(&mut out).unwrap();
        wait(&entered.child.pidfd);
        let heir = entered.hand_over.unwrap().heir().unwrap();
        let heir = rustix::process::pidfd_open(heir, rustix::process::PidfdFlags::empty()).unwrap();
        wait(&heir);
        let out = out.replace('\t', " ");
        for expected in
            ["Operation not permitted", "Seccomp: 2", "CapPrm: 0000000000000021", "NoNewPrivs: 0"]
        {
            assert!(out.contains(expected), "{tracers:?}: {expected} is not in {out}");
        }
    }
    rustix::process::pidfd_send_signal(&launched.child.pidfd, rustix::process::Signal::KILL)
        .unwrap();
    wait(&launched.child.pidfd);
}

pub fn a_mask_over_a_link_covers_what_it_leads_to_inside(proof: &SingleThreaded) {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "outside\n").unwrap();
    let mut bundle = Bundle::new();
    std::fs::write(bundle.lower().join("home/secret"), "inside\n").unwrap();
    symlink("../../../home/secret", bundle.lower().join("link")).unwrap();
    symlink(outside.path().join("secret"), bundle.lower().join("away")).unwrap();
    let masked = &mut bundle.spec.linux.as_mut().unwrap().masked_paths;
    masked.extend(["/link".into(), "/away".into(), "/bin/busybox/not/a/directory".into()]);
    bundle.sh("cat /home/secret; cat /link");
    let outcome = bundle.run(proof).unwrap();
    assert_eq!((outcome.out.as_str(), outcome.code), ("", 0));
    assert_eq!(std::fs::read_to_string(outside.path().join("secret")).unwrap(), "outside\n");
}
