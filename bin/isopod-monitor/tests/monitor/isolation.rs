//! What containers see, and what they must not.

use std::path::Path;

use model::{Rootfs, Signal};
use monitor_client::api::{KillScope, PidChoice, Volume};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use serde_json::json;

use crate::pod::{Pod, file_with, lines, within};

/// Looks at every process again and again, and says so when one has a capability that no container has.
const LOOKOUT: &str = "echo looking; while true; do for s in /proc/[0-9]*/status; do \
    awk '/^Name|^CapEff/ {l=l\" \"$2} END {if (l ~ / 000001/) print \"SEEN\" l}' $s 2>/dev/null; done; done";

#[tokio::test]
async fn a_shared_pid_namespace_has_a_reaper_with_nothing_to_take() {
    let pod = Pod::with(|setup| setup.shared_pid = true).await;
    let mut one = pod.container("one", "sleep 1000");
    one.share_pids();
    let mut two = pod.container("two", "sleep 1001");
    two.share_pids();
    two.add_capabilities(&["CAP_SYS_PTRACE"]);
    let one = pod.run(one).await;
    let two = pod.run(two).await;
    let (processes, _) = pod.exec(&one, &["ps"]).await;
    for expected in ["isopod-init", "sleep 1000", "sleep 1001"] {
        assert!(processes.contains(expected), "{processes}");
    }
    let look = "cat /proc/1/status; ls /proc/1/fd | wc -l; ls -l /proc/1/root/ | wc -l; tr '\\0' '\\n' < /proc/1/environ";
    let (seen, _) = pod.exec(&two, &["sh", "-c", look]).await;
    let flat = seen.replace('\t', " ");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(flat.contains(&format!("{set}: 0000000000000000")), "{flat}");
    }
    assert!(flat.contains("NoNewPrivs: 1"), "{flat}");
    assert!(
        flat.contains("\n4\n1\n") || flat.contains("\n4\n0\n"),
        "three dead streams, a signalfd, no files: {flat}"
    );
    assert!(!flat.contains("PATH="), "{flat}");
}

#[tokio::test]
async fn nobody_with_the_power_to_trace_sees_a_process_of_the_hosts_privileges() {
    let mut pod = Pod::with(|setup| setup.shared_pid = true).await;
    let mut lookout = pod.container("lookout", LOOKOUT);
    lookout.share_pids();
    lookout.add_capabilities(&["CAP_SYS_PTRACE"]);
    let log = lookout.log();
    let id = pod.run(lookout).await;
    file_with(&log, "looking").await;
    for round in 0..10 {
        let mut other = pod.container(&format!("c{round}"), "true");
        other.share_pids();
        let other = pod.run(other).await;
        assert_eq!(pod.end_of(&other).await.code, 0);
        assert_eq!(pod.exec(&id, &["true"]).await.1, 0);
    }
    let log = std::fs::read_to_string(log).unwrap();
    assert!(!log.contains("SEEN"), "{log}");
}

#[tokio::test]
async fn a_debugging_container_sees_its_targets_processes() {
    let pod = Pod::new().await;
    let mut target = pod.container("target", "sleep 1234");
    target.add_capabilities(&["CAP_SYS_PTRACE"]);
    let target = pod.run(target).await;
    let mut debug = pod.container("debug", "ps; readlink /proc/self/ns/pid; sleep 1000");
    debug.create.pid = PidChoice::Target(target.clone());
    debug.spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "cgroup"}]);
    let log = debug.log();
    pod.run(debug).await;
    let log = file_with(&log, "pid:[").await;
    assert!(log.contains("sleep 1234"), "{log}");
    let (own, _) = pod.exec(&target, &["readlink", "/proc/self/ns/pid"]).await;
    assert!(log.contains(own.trim()), "{log} {own}");
}

#[tokio::test]
async fn a_debugging_container_of_an_ended_target_is_refused() {
    let pod = Pod::new().await;
    let target = pod.container("target", "true").create_in(&pod).await.unwrap();
    let mut debug = pod.container("debug", "true");
    debug.create.pid = PidChoice::Target(target);
    debug.spec["linux"]["namespaces"] = json!([{"type": "mount"}]);
    let error = debug.create_in(&pod).await.unwrap_err();
    assert!(error.to_string().contains("does not run"), "{error}");
}

/// A tmpfs on the host that goes with the test.
struct HostMount(std::path::PathBuf);

impl HostMount {
    fn new(place: &Path, propagation: MountPropagationFlags) -> Self {
        std::fs::create_dir_all(place).unwrap();
        mount("tmpfs", place, "tmpfs", MountFlags::empty(), None).unwrap();
        let mounted = Self(place.to_owned());
        mount_change(place, propagation).unwrap();
        mounted
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn what_the_host_mounts_later_is_seen_as_the_propagation_says() {
    let pod = Pod::new().await;
    let volumes = tempfile::tempdir().unwrap();
    // Private on the host and mounted after the pod's start: only the host's own mount namespace knows it.
    let private = HostMount::new(&volumes.path().join("private"), MountPropagationFlags::PRIVATE);
    std::fs::write(private.0.join("word"), "late\n").unwrap();
    let shared = HostMount::new(&volumes.path().join("shared"), MountPropagationFlags::SHARED);
    let mut container = pod.container("one", "sleep 1000");
    for (destination, source, option) in [
        ("/private", &private.0, "rprivate"),
        ("/slave", &shared.0, "rslave"),
        ("/closed", &shared.0, "rprivate"),
        ("/both", &shared.0, "rshared"),
    ] {
        container.add_mount(json!({"destination": destination, "type": "bind", "source": source,
            "options": ["rbind", option]}));
    }
    container.add_capabilities(&["CAP_SYS_ADMIN"]);
    let id = pod.run(container).await;
    assert_eq!(pod.exec(&id, &["cat", "/private/word"]).await.0, "late\n");
    let later = HostMount::new(&shared.0.join("later"), MountPropagationFlags::SHARED);
    std::fs::write(later.0.join("word"), "later\n").unwrap();
    assert_eq!(pod.exec(&id, &["cat", "/slave/later/word"]).await.0, "later\n");
    assert_ne!(pod.exec(&id, &["cat", "/closed/later/word"]).await.1, 0);
    let script =
        "mkdir /both/back && mount -t tmpfs none /both/back && echo back > /both/back/word";
    assert_eq!(pod.exec(&id, &["sh", "-c", script]).await, (String::new(), 0));
    assert_eq!(std::fs::read_to_string(shared.0.join("back/word")).unwrap(), "back\n");
}

#[tokio::test]
async fn both_ways_need_a_mount_that_is_shared_on_the_host() {
    let pod = Pod::new().await;
    let volumes = tempfile::tempdir().unwrap();
    let private = HostMount::new(&volumes.path().join("private"), MountPropagationFlags::PRIVATE);
    let mut container = pod.container("one", "true");
    container.add_mount(json!({"destination": "/data", "type": "bind", "source": private.0,
        "options": ["rbind", "rshared"]}));
    let error = container.create_in(&pod).await.unwrap_err();
    assert!(error.to_string().contains("not shared on the host"), "{error}");
}

#[tokio::test]
async fn a_part_of_an_image_is_found_inside_of_it_only() {
    let mut pod = Pod::new().await;
    let image = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(image.path().join("deep/er")).unwrap();
    std::fs::write(image.path().join("deep/er/file"), "content\n").unwrap();
    std::os::unix::fs::symlink("/deep/er", image.path().join("link")).unwrap();
    std::os::unix::fs::symlink("/etc", image.path().join("etc")).unwrap();
    let rootfs = Rootfs { lower: vec![image.path().to_owned()], upper: None };
    let volume = |name: &str, sub_path: &str| Volume {
        place: pod.dir.path().join("volumes").join(name),
        rootfs: rootfs.clone(),
        sub_path: sub_path.into(),
        shown: format!("mount /{name}"),
    };
    let mut container =
        pod.container("one", "cat /whole/deep/er/file /part/file /file; touch /whole/x /part/x");
    container.create.volumes =
        vec![volume("whole", ""), volume("part", "link"), volume("file", "link/file")];
    for name in ["whole", "part", "file"] {
        let source = pod.dir.path().join("volumes").join(name);
        container
            .add_mount(json!({"destination": format!("/{name}"), "type": "bind", "source": source,
            "options": ["rbind", "ro"]}));
    }
    let mut escaping = pod.container("two", "true");
    escaping.create.volumes = vec![volume("escaping", "etc")];
    let (log, id) = (container.log(), pod.run(container).await);
    assert_eq!(pod.end_of(&id).await.code, 1);
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(lines(&log)[..3], ["content"; 3], "{log}");
    assert_eq!(log.matches("Read-only file system").count(), 2, "{log}");
    within(pod.monitor().remove(id)).await.unwrap();
    assert_eq!(std::fs::read_dir(pod.dir.path().join("volumes")).unwrap().count(), 0);
    let error = escaping.create_in(&pod).await.unwrap_err();
    assert!(error.to_string().contains("mount /escaping: find etc in the image"), "{error}");
}

#[tokio::test]
async fn the_hosts_mount_table_stays_as_it_is() {
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let pod = Pod::new().await;
    let mine = pod.dir.path().to_owned();
    let id = pod.run(pod.container("one", "sleep 1000")).await;
    assert_eq!(pod.exec(&id, &["true"]).await.1, 0);
    let after = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!after.contains(mine.to_str().unwrap()), "{after}");
    let cgroups = |table: &str| -> Vec<String> {
        table
            .lines()
            .filter(|l| l.contains(" - cgroup"))
            .map(|l| l.split(" - ").nth(1).unwrap().to_owned())
            .collect()
    };
    assert_eq!(cgroups(&before), cgroups(&after), "options of the host's cgroups are the host's");
}

#[tokio::test]
async fn a_container_of_the_hosts_cgroup_namespace_does_not_reset_the_hosts_options() {
    let options = || {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = table.lines().find(|l| l.contains(" - cgroup2 ")).map(str::to_owned);
        line.map(|l| l.rsplit(' ').next().unwrap().to_owned())
    };
    let before = options();
    let mut pod = Pod::new().await;
    let mut container =
        pod.container("one", "ls /sys/fs/cgroup | wc -l; mkdir /sys/fs/cgroup/x 2>&1");
    container.spec["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "mount"}]);
    let log = container.log();
    let id = pod.run(container).await;
    pod.end_of(&id).await;
    let log = std::fs::read_to_string(log).unwrap();
    assert_ne!(lines(&log)[0], "0", "{log}");
    assert!(log.contains("Read-only file system"), "{log}");
    assert_eq!(options(), before);
}

#[tokio::test]
async fn the_program_that_enters_containers_cannot_be_changed_by_them() {
    let mut pod = Pod::with(|setup| setup.shared_pid = true).await;
    let mut container = pod.container(
        "one",
        "cat /bin/busybox > /proc/1/exe; echo write $?; ls /proc/1/root; exec sleep 1000",
    );
    container.share_pids();
    container.add_capabilities(&["CAP_SYS_PTRACE"]);
    let log = container.log();
    let id = pod.run(container).await;
    let text = file_with(&log, "write").await;
    assert!(!text.contains("write 0"), "{text}");
    // Inside it is a program as any other: one that is static runs, and ends without a socket to a daemon.
    let mut own = pod.container("own", "");
    own.spec["process"]["args"] = json!(["/proc/self/exe"]);
    let own = own.create_in(&pod).await.unwrap();
    let code = if within(pod.monitor().start(own.clone())).await.is_ok() { 1 } else { 128 };
    assert_eq!(pod.end_of(&own).await.code, code);
    assert_eq!(pod.exec(&id, &["true"]).await.1, 0);
}

#[tokio::test]
async fn a_fork_bomb_is_held_by_its_limit_and_ends_with_its_container() {
    let mut pod = Pod::with(|setup| setup.shared_pid = true).await;
    let mut bomb = pod.container("bomb", "echo lit; bomb() { bomb | bomb & }; bomb; sleep 1000");
    bomb.share_pids();
    bomb.spec["linux"]["resources"] = json!({"pids": {"limit": 64}});
    let log = bomb.log();
    let id = pod.run(bomb).await;
    file_with(&log, "lit").await;
    let hierarchies = cgroups::Hierarchies::detect().unwrap();
    let cgroup = cgroups::Cgroup::at(&hierarchies, &pod.cgroup.join("bomb").unwrap());
    assert!(cgroup.procs().unwrap().len() <= 64);
    within(pod.monitor().kill(id.clone(), Signal::KILL, KillScope::All)).await.unwrap();
    assert_eq!(pod.end_of(&id).await.code, 137);
    within(async {
        while !cgroup.procs().unwrap().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_container_that_stops_and_kills_what_it_sees_harms_its_pod_only() {
    let mut pod = Pod::with(|setup| setup.shared_pid = true).await;
    let mut other = pod.container("other", "sleep 1000");
    other.share_pids();
    let other = pod.run(other).await;
    let mut wild =
        pod.container("wild", "kill -STOP -1; kill -KILL -1; kill -KILL 1; echo did; sleep 1000");
    wild.share_pids();
    let log = wild.log();
    let wild = pod.run(wild).await;
    file_with(&log, "did").await;
    assert_eq!(pod.end_of(&other).await.code, 137);
    assert_eq!(pod.exec(&wild, &["cat", "/proc/1/comm"]).await, ("isopod-init\n".to_owned(), 0));
    within(pod.monitor().kill(wild.clone(), Signal::KILL, KillScope::All)).await.unwrap();
    assert_eq!(pod.end_of(&wild).await.code, 137);
}

#[tokio::test]
async fn many_mounts_of_a_container_go_with_it() {
    let mut pod = Pod::new().await;
    let script =
        "for i in $(seq 1000); do mount -t tmpfs none /tmp || exit 1; done; echo full; sleep 1000";
    let mut container = pod.container("one", script);
    container.add_capabilities(&["CAP_SYS_ADMIN"]);
    let log = container.log();
    let id = pod.run(container).await;
    file_with(&log, "full").await;
    assert_eq!(pod.exec(&id, &["true"]).await.1, 0);
    within(pod.monitor().kill(id.clone(), Signal::KILL, KillScope::All)).await.unwrap();
    assert_eq!(pod.end_of(&id).await.code, 137);
    within(pod.monitor().remove(id)).await.unwrap();
    let again = pod.run(pod.container("two", "true")).await;
    assert_eq!(pod.end_of(&again).await.code, 0);
}

#[tokio::test]
async fn a_container_cannot_leave_its_cgroup() {
    let mut pod = Pod::new().await;
    let script = "cat /proc/self/cgroup; for p in $(ls -d /sys/fs/cgroup /sys/fs/cgroup/*); do \
        echo 0 > $p/cgroup.procs && echo escaped $p; mkdir $p/new && echo made $p; done";
    let container = pod.container("one", script);
    let log = container.log();
    let id = pod.run(container).await;
    pod.end_of(&id).await;
    let text = std::fs::read_to_string(log).unwrap();
    assert!(!text.contains("escaped") && !text.contains("made"), "{text}");
    let own: Vec<_> =
        lines(&text).into_iter().filter(|l| l.contains(':') && !l.contains(' ')).collect();
    assert!(own.iter().all(|l| l.ends_with(":/")), "it sees its own cgroup as the root: {own:?}");
}
