//! The same life in the hands of other runtimes: a difference is a bug on one side.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use model::{ExitReason, Signal, Stdio};
use monitor_client::AttachStreams;
use monitor_client::api::{KillScope, PidChoice, Runtime, TerminalSize};
use serde_json::json;

use crate::pod::{Container, Pod, file_with, lines, read_until, within};

/// Where distributions put a runtime.
fn find(name: &str) -> PathBuf {
    let places = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    let found = places.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("these tests need {name}, of the package of this name"))
}

/// Older ones of crun refuse a machine that has controllers in both versions of cgroups; this one's are shown
/// the first only.
fn without_second_hierarchy(pod: &Pod, program: &Path) -> PathBuf {
    let path = pod.dir.path().join("runtime.sh");
    let script = "#!/bin/sh\nexec unshare --mount sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" \"$@\"'";
    std::fs::write(&path, format!("{script} {} \"$@\"\n", program.display())).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Gives `container` to the runtime `name`, which finds the pod's namespaces by path.
fn outside(pod: &Pod, container: &mut Container, name: &str) {
    let root = pod.dir.path().join("runtime");
    let program =
        if name == "crun" { without_second_hierarchy(pod, &find(name)) } else { find(name) };
    container.create.runtime = Runtime::External { program, options: Vec::new(), root };
    let monitor = pod.started.identity.pid;
    container.spec["linux"]["namespaces"] = json!([
        {"type": "pid"}, {"type": "mount"}, {"type": "cgroup"},
        {"type": "network", "path": format!("/proc/{monitor}/ns/net")},
        {"type": "ipc", "path": format!("/proc/{monitor}/ns/ipc")},
        {"type": "uts", "path": format!("/proc/{monitor}/ns/uts")}
    ]);
}

async fn lives(name: &str) {
    let mut pod = Pod::new().await;
    let mut container = pod
        .container("one", "hostname; trap 'exit 6' TERM; echo up; while true; do sleep 0.1; done");
    outside(&pod, &mut container, name);
    let log = container.log();
    let id = container.create_in(&pod).await.unwrap();
    within(pod.monitor().start(id.clone())).await.unwrap();
    file_with(&log, "up").await;
    assert_eq!(pod.exec(&id, &["sh", "-c", "echo in; exit 8"]).await, ("in\n".to_owned(), 8));
    // Not every runtime has the size set before the program begins.
    let script = "until stty size 2>/dev/null | grep '11 33'; do sleep 0.05; done; exit 5";
    let args = ["sh", "-c", script].map(str::to_owned).to_vec();
    let exec =
        pod.monitor().exec_with_terminal(id.clone(), args, TerminalSize { width: 33, height: 11 });
    let (mut exec, terminal) = within(exec).await.unwrap();
    read_until(&terminal, "11 33").await;
    assert_eq!(within(exec.ended()).await.unwrap(), 5);
    within(pod.monitor().kill(id.clone(), Signal::TERM, KillScope::First)).await.unwrap();
    let exit = pod.end_of(&id).await;
    assert_eq!((exit.code, exit.reason), (6, ExitReason::Error));
    assert_eq!(lines(&std::fs::read_to_string(&log).unwrap()), ["the-pod", "up"]);
    within(pod.monitor().remove(id.clone())).await.unwrap();
    assert_eq!(
        std::fs::read_dir(pod.dir.path().join("runtime")).unwrap().count(),
        0,
        "{name} forgot it"
    );
    assert!(within(pod.monitor().hello()).await.unwrap().containers.is_empty());
}

async fn fails_to_start(name: &str) {
    let mut pod = Pod::new().await;
    let mut container = pod.container("one", "");
    container.spec["process"]["args"] = json!(["/no/such/program"]);
    outside(&pod, &mut container, name);
    let id = container.create_in(&pod).await.unwrap();
    let error = within(pod.monitor().start(id.clone())).await.unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    let exit = pod.end_of(&id).await;
    assert_eq!((exit.code, exit.reason), (128, ExitReason::StartError));
    within(pod.monitor().remove(id)).await.unwrap();
}

async fn has_a_terminal(name: &str) {
    let mut pod = Pod::new().await;
    let mut container = pod.container("one", "tty; read word; echo got $word; exit 4");
    container.create.stdio = Stdio { tty: true, stdin: true, stdin_once: false };
    container.spec["process"]["terminal"] = true.into();
    outside(&pod, &mut container, name);
    let log = container.log();
    let id = container.create_in(&pod).await.unwrap();
    within(pod.monitor().start(id.clone())).await.unwrap();
    file_with(&log, "/dev/pts/0").await;
    let streams = AttachStreams { stdin: true, stdout: true, stderr: false };
    let attached = within(pod.monitor().attach(id.clone(), streams)).await.unwrap();
    rustix::io::write(attached.stdin.as_ref().unwrap(), b"hello\n").unwrap();
    read_until(attached.stdout.as_ref().unwrap(), "got hello").await;
    assert_eq!(pod.end_of(&id).await.code, 4);
}

async fn shares_the_pods_processes(name: &str) {
    let pod = Pod::with(|setup| setup.shared_pid = true).await;
    let mut own = pod.container("own", "sleep 1001");
    own.share_pids();
    pod.run(own).await;
    let mut container = pod.container("one", "ps; readlink /proc/self/ns/pid; sleep 1000");
    outside(&pod, &mut container, name);
    container.create.pid = PidChoice::Pod;
    container.spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "cgroup"}]);
    let log = container.log();
    let _id = pod.run(container).await;
    let log = file_with(&log, "pid:[").await;
    assert!(log.contains("isopod-init") && log.contains("sleep 1001"), "{log}");
}

async fn ends_at_once(name: &str) {
    let mut pod = Pod::new().await;
    for number in 0..5 {
        let mut container = pod.container(&format!("c{number}"), "exit 3");
        outside(&pod, &mut container, name);
        let id = container.create_in(&pod).await.unwrap();
        within(pod.monitor().start(id.clone())).await.unwrap();
        assert_eq!(pod.end_of(&id).await.code, 3);
        within(pod.monitor().remove(id)).await.unwrap();
    }
}

macro_rules! with_each {
    ($($case:ident),*) => { $(
        mod $case {
            #[tokio::test]
            async fn with_crun() {
                super::$case("crun").await;
            }

            #[tokio::test]
            async fn with_runc() {
                super::$case("runc").await;
            }
        }
    )* };
}

with_each!(lives, fails_to_start, has_a_terminal, shares_the_pods_processes, ends_at_once);
