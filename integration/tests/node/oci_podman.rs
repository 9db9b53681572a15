//! podman, a caller that nobody here wrote, with `isopod oci` as its runtime.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use serde_json::json;
use testkit::Bundle;

/// podman with everything of its own in the bundle's directory.
struct Podman {
    bundle: Bundle,
}

impl Podman {
    fn new() -> Self {
        let bundle = Bundle::new();
        symlink(testkit::program(), bundle.path().join("isopod-oci")).unwrap();
        // Its locks would be in /dev/shm otherwise.
        fs::write(bundle.path().join("containers.conf"), "[engine]\nlock_type = \"file\"\n")
            .unwrap();
        let hook = |point: &str| {
            let script = format!("echo {point} >> {}", bundle.path().join("hooked").display());
            let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
            let file = json!({ "version": "1.0.0", "hook": hook, "when": { "always": true }, "stages": [point] });
            fs::write(bundle.path().join(format!("hooks/{point}.json")), file.to_string()).unwrap();
        };
        fs::create_dir(bundle.path().join("hooks")).unwrap();
        for point in ["createRuntime", "poststart", "poststop"] {
            hook(point);
        }
        Self { bundle }
    }

    fn run(&self, verb: &str, args: &[&str]) -> Output {
        let at = |name: &str| self.bundle.path().join(name);
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", at("containers.conf")).current_dir(self.bundle.path());
        for (option, name) in [
            ("--root", "storage"),
            ("--runroot", "state"),
            ("--tmpdir", "tmp"),
            ("--runtime", "isopod-oci"),
            ("--hooks-dir", "hooks"),
        ] {
            command.arg(option).arg(at(name));
        }
        command.args(["--storage-driver", "vfs", "--events-backend", "none"]);
        command.args(["--cgroup-manager", "cgroupfs", verb]);
        if verb == "run" {
            command.args(["--network", "none", "--cgroups", "no-conmon", "--cgroup-parent"]);
            command.arg(self.bundle.cgroup());
        }
        command.args(args).output().expect("podman, of the package of that name")
    }

    fn done(&self, verb: &str, args: &[&str]) -> String {
        let done = self.run(verb, args);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "podman {verb} {args:?}: {}: {said}", done.status);
        String::from_utf8_lossy(&done.stdout).into_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // A test that has failed may have left some.
        let _ = self.run("rm", &["--force", "--all", "--time", "0"]);
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        for hierarchy in hierarchies {
            let name = self.bundle.cgroup().trim_start_matches('/').to_owned();
            let _ = fs::remove_dir(hierarchy.path().join(name));
        }
    }
}

#[test]
fn podman_runs_looks_into_and_ends_containers() {
    let podman = Podman::new();
    let rootfs = podman.bundle.rootfs();
    let rootfs = rootfs.to_str().unwrap();

    let once = podman.run("run", &["--rm", "--rootfs", rootfs, "sh", "-c", "echo out; exit 3"]);
    assert_eq!((once.status.code(), once.stdout.as_slice()), (Some(3), b"out\n".as_slice()));
    let hooked = fs::read_to_string(podman.bundle.path().join("hooked")).unwrap();
    assert_eq!(hooked, "createRuntime\npoststart\npoststop\n");
    let absent = podman.run("run", &["--rm", "--rootfs", rootfs, "/nosuch"]);
    assert_eq!(absent.status.code(), Some(127), "what podman says of a program that is not there");

    let script = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.1; done";
    let _ =
        podman.done("run", &["--detach", "--name", "a", "--rootfs", rootfs, "sh", "-c", script]);
    let inside = podman.run("exec", &["a", "sh", "-c", "echo in; exit 5"]);
    assert_eq!((inside.status.code(), inside.stdout.as_slice()), (Some(5), b"in\n".as_slice()));
    let beside = ["--rm", "--pid", "container:a", "--rootfs", rootfs, "cat", "/proc/1/comm"];
    assert_eq!(podman.done("run", &beside), "sh\n");
    let _ = podman.done("pause", &["a"]);
    assert_eq!(podman.done("inspect", &["--format", "{{.State.Status}}", "a"]), "paused\n");
    let _ = podman.done("unpause", &["a"]);
    let _ = podman.done("stop", &["--time", "20", "a"]);
    assert_eq!(podman.done("inspect", &["--format", "{{.State.ExitCode}}", "a"]), "7\n");
    assert_eq!(podman.done("logs", &["a"]), "up\nbye\n");
    let _ = podman.done("rm", &["a"]);
    let limited = ["--rm", "--read-only", "--memory", "32m", "--user", "1000", "--rootfs", rootfs];
    let script = ["sh", "-c", "id -u; touch /x 2>/dev/null || echo refused"];
    assert_eq!(podman.done("run", &[&limited[..], &script].concat()), "1000\nrefused\n");
}
