//! The launcher's own command line, as `isopod oci` becomes it: what must not happen to the host, and what an exec
//! and a pause are.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use cgroups::{Cgroup, CgroupPath, Hierarchies};
use rustix::process::Pid;
use serde_json::{Value, json};

use crate::pod::{make_busybox, unique};

/// How long something may take to happen, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bundle, and what is made of it; all of it goes with it.
struct Bundle {
    dir: tempfile::TempDir,
    config: Value,
    /// The name of its cgroup, and of its container where that matters.
    name: String,
}

impl Bundle {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("isopod-test-{}-oci-{}", std::process::id(), unique());
        make_busybox(&dir.path().join("rootfs"));
        let capabilities = ["CAP_CHOWN", "CAP_KILL"];
        let config = json!({
            "ociVersion": runtime_spec::VERSION,
            "process": {
                "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["sh", "-c", script],
                "env": ["PATH=/bin", "HOME=/"], "capabilities": {
                    "bounding": capabilities, "effective": capabilities, "permitted": capabilities}
            },
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}
            ],
            "linux": {
                "cgroupsPath": format!("/{name}"),
                "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"},
                    {"type": "network"}, {"type": "uts"}]
            }
        });
        Self { dir, config, name }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn output(&self, args: &[&str]) -> Output {
        fs::write(self.path().join("config.json"), self.config.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_isopod-monitor"));
        command.arg0("isopod-oci").arg("--root").arg(self.path().join("state"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        if args[0] == "create" {
            // The container has them for as long as it lives.
            let out = fs::File::create(self.path().join("out")).unwrap();
            command.stdout(out.try_clone().unwrap()).stderr(out);
            let status = command.status().unwrap();
            let stderr = fs::read(self.path().join("out")).unwrap();
            return Output { status, stdout: Vec::new(), stderr };
        }
        command.output().unwrap()
    }

    fn done(&self, args: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.output(args);
        assert!(status.success(), "{args:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8_lossy(&stdout).into_owned()
    }

    fn refused(&self, args: &[&str]) -> String {
        let Output { status, stderr, .. } = self.output(args);
        let said = String::from_utf8_lossy(&stderr).into_owned();
        assert!(!status.success(), "{args:?} was to fail: {said}");
        said
    }

    /// Makes and starts a container.
    fn started(&self) {
        self.done(&["create", "--pid-file", "pid", "c"]);
        self.done(&["start", "c"]);
    }

    fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.done(&["state", "c"])).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    fn ended(&self) {
        let until = Instant::now() + PATIENCE;
        while self.status() != "stopped" {
            assert!(Instant::now() < until, "it does not end");
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.path().join("state")).into_iter().flatten().flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            // A test that has failed may have left it in any state.
            let _ = self.output(&["delete", "--force", &id]);
        }
    }
}

/// A cgroup that is there before a container, and a process that may be in it.
struct Found(Cgroup, Option<Child>);

impl Found {
    fn make(name: &str) -> Self {
        let path = CgroupPath::parse(name).unwrap();
        Self(Cgroup::create(&Hierarchies::detect().unwrap(), &path).unwrap(), None)
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        let _ = self.0.kill_all();
        if let Some(child) = &mut self.1 {
            let _ = child.wait();
        }
        let _ = self.0.remove();
    }
}

#[test]
fn a_cgroup_with_processes_in_it_is_refused_and_left_alone() {
    let mut bundle = Bundle::new("true");
    let name = format!("/{}-busy", bundle.name);
    let mut found = Found::make(&name);
    let child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
    let pid = Pid::from_child(&child);
    found.1 = Some(child);
    found.0.join(pid).unwrap();
    bundle.config["linux"]["cgroupsPath"] = json!(name);
    assert!(bundle.refused(&["create", "c"]).contains("not empty"));
    bundle.done(&["delete", "--force", "c"]);
    assert!(found.1.as_mut().unwrap().try_wait().unwrap().is_none(), "it was ended");
    assert_eq!(found.0.procs().unwrap(), [pid]);
}

#[test]
fn a_cgroup_that_was_there_stays_and_one_without_a_path_is_in_a_place_of_our_own() {
    let mut bundle = Bundle::new("sleep 1000");
    let name = format!("/{}-found", bundle.name);
    let found = Found::make(&name);
    bundle.config["linux"]["cgroupsPath"] = json!(name);
    bundle.started();
    assert!(!found.0.procs().unwrap().is_empty());
    bundle.done(&["delete", "--force", "c"]);
    assert!(found.0.exists() && found.0.procs().unwrap().is_empty());

    bundle.config["linux"]["cgroupsPath"] = json!("");
    bundle.done(&["create", "--pid-file", "pid", &bundle.name]);
    let pid = fs::read_to_string(bundle.path().join("pid")).unwrap();
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let own = format!("/isopod-oci/{}", bundle.name);
    assert!(table.lines().all(|line| line.ends_with(&own)), "{table}");
    bundle.done(&["delete", "--force", &bundle.name]);
    let at =
        |path: &str| Cgroup::at(&Hierarchies::detect().unwrap(), &CgroupPath::parse(path).unwrap());
    assert!(!at(&own).exists());
    // Nothing else is in it on a machine for tests; what is would keep it.
    let _ = at("/isopod-oci").occupants().unwrap().is_empty().then(|| at("/isopod-oci").remove());
}

// Since Linux 6.14 whoever is born in a cgroup that was killed more or less often than its parent's is killed at once.

#[test]
fn a_cgroup_that_was_there_is_used_also_when_all_in_it_were_killed_before() {
    let mut bundle = Bundle::new("sleep 1000");
    let name = format!("/{}-killed", bundle.name);
    let found = Found::make(&name);
    bundle.config["linux"]["cgroupsPath"] = json!(name);
    for _ in 0..2 {
        bundle.started();
        assert_eq!(bundle.done(&["exec", "c", "sh", "-c", "echo here"]), "here\n");
        bundle.done(&["kill", "--all", "c", "KILL"]);
        bundle.ended();
        let said = bundle.refused(&["create", "another"]);
        let whose = format!("the cgroup {name}: it is that of the container c, which is stopped");
        assert!(said.contains(&whose), "{said}");
        bundle.done(&["delete", "c"]);
    }
    assert!(found.0.exists());
}

#[test]
fn a_runtime_whose_own_cgroup_was_killed_before_makes_containers_nevertheless() {
    let bundle = Bundle::new("echo lives");
    let found = Found::make(&format!("/{}-own", bundle.name));
    found.0.kill_all().unwrap();
    fs::write(bundle.path().join("config.json"), bundle.config.to_string()).unwrap();
    let mut run = Command::new("bash");
    run.args(["-c", "read -r _ && exec -a isopod-oci \"$0\" \"$@\""]);
    run.arg(env!("CARGO_BIN_EXE_isopod-monitor")).arg("--root").arg(bundle.path().join("state"));
    run.args(["run", "c"]).current_dir(bundle.path()).stdin(Stdio::piped());
    let mut run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    found.0.join(Pid::from_child(&run)).unwrap();
    run.stdin.take().unwrap().write_all(b"\n").unwrap();
    let done = run.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout), "lives\n", "{done:?}");
}

#[test]
fn a_process_that_is_killed_while_it_is_set_up_is_told_with_what_it_lacked() {
    let mut bundle = Bundle::new("true");
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 4096}});
    let said = bundle.refused(&["create", "c"]);
    assert!(said.contains("killed by SIGKILL; its cgroup is out of memory"), "{said}");
    assert_eq!(fs::read_dir(bundle.path().join("state")).unwrap().count(), 0);
}

#[test]
fn a_version_that_is_another_and_fields_that_nothing_reads_are_refused_by_name() {
    let changes: [(&str, Value, &str); 9] = [
        ("/ociVersion", json!("9.0.0"), "ociVersion is \"9.0.0\""),
        ("/ociVersion", Value::Null, "ociVersion is missing"),
        ("/vm", json!({"kernel": {"path": "/k"}}), "vm is not supported here"),
        ("/linux/maskedPaths", json!(["rel"]), "linux.maskedPaths[0]: \"rel\" is not absolute"),
        ("/linux/readonlyPaths", json!(["rel"]), "linux.readonlyPaths[0]"),
        ("/linux/timeOffsets", json!({"monotonic": {"secs": 5}}), "linux.timeOffsets is not"),
        ("/linux/netDevices", json!({"eth0": {}}), "linux.netDevices is not"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND"}), "linux.memoryPolicy is not"),
        ("/process/apparmorProfile", json!("nope"), "AppArmor profile"),
    ];
    let mut bundle = Bundle::new("true");
    let good = bundle.config.clone();
    for (field, value, word) in changes {
        bundle.config = good.clone();
        let (place, name) = field.rsplit_once('/').unwrap();
        bundle.config.pointer_mut(place).unwrap()[name] = value;
        let said = bundle.refused(&["create", "c"]);
        assert!(said.contains(word), "{field}: {said}");
        assert_eq!(bundle.done(&["list", "--quiet"]), "", "{field}");
    }
    let features: Value = serde_json::from_str(&bundle.done(&["features"])).unwrap();
    let names = |of: &str| features["linux"][of].as_array().unwrap().clone();
    assert!(names("capabilities").contains(&json!("CAP_SYS_ADMIN")), "{features}");
    assert!(!names("namespaces").contains(&json!("time")), "no new one can be made");
}

#[test]
fn parameters_of_the_host_are_refused() {
    let mut bundle = Bundle::new("true");
    bundle.config["linux"]["sysctl"] = json!({"kernel.core_pattern": "core"});
    assert!(bundle.refused(&["run", "c"]).contains("kernel.core_pattern"));
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    bundle.config["linux"]["namespaces"] =
        json!([{"type": "mount"}, {"type": "network", "path": "/proc/self/ns/net"}]);
    assert!(bundle.refused(&["run", "c"]).contains("the host's"));
    assert_eq!(fs::read_dir(bundle.path().join("state")).unwrap().count(), 0);
}

#[test]
fn a_container_with_users_of_its_own_has_its_loopback_and_its_parameters() {
    let mut bundle = Bundle::new(
        "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start \
         /proc/self/uid_map; grep -q 127.0.0.1 /proc/net/fib_trie && echo up",
    );
    let linux = &mut bundle.config["linux"];
    linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    linux["uidMappings"] = ids.clone();
    linux["gidMappings"] = ids;
    linux["sysctl"] =
        json!({"kernel.shm_rmid_forced": "1", "net.ipv4.ip_unprivileged_port_start": "80"});
    let said = bundle.done(&["run", "c"]);
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["1", "80", "0", "100000", "65536", "up"]);
}

#[test]
fn a_user_namespace_by_path_is_entered_with_the_mappings_that_it_has() {
    let mut first = Bundle::new("sleep 1000");
    let linux = &mut first.config["linux"];
    linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    linux["uidMappings"] = ids.clone();
    linux["gidMappings"] = ids;
    first.started();
    let pid = fs::read_to_string(first.path().join("pid")).unwrap();
    let path = format!("/proc/{pid}/ns/user");
    let namespace = fs::read_link(&path).unwrap();

    let mut second = Bundle::new("sleep 1000");
    second.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "user", "path": path}));
    second.config["hostname"] = json!("second");
    second.started();
    let look = "readlink /proc/self/ns/user; cat /proc/self/uid_map; id -u; hostname; \
                grep -q 127.0.0.1 /proc/net/fib_trie && echo up";
    let said = second.done(&["exec", "c", "sh", "-c", look]);
    let words: Vec<&str> = said.split_whitespace().collect();
    let expected = [namespace.to_str().unwrap(), "0", "100000", "65536", "0", "second", "up"];
    assert_eq!(words, expected);
    let second_pid = fs::read_to_string(second.path().join("pid")).unwrap();
    let status = fs::read_to_string(format!("/proc/{second_pid}/status")).unwrap();
    assert!(status.contains("Uid:\t100000\t"), "{status}");

    second.done(&["delete", "--force", "c"]);
    second.config["linux"]["uidMappings"] =
        json!([{"containerID": 0, "hostID": 200_000, "size": 65_536}]);
    assert!(second.refused(&["create", "c"]).contains("other mappings"));
    second.config["linux"]["uidMappings"] = json!([]);
    let own = json!({"type": "user", "path": "/proc/self/ns/user"});
    *second.config["linux"]["namespaces"].as_array_mut().unwrap().last_mut().unwrap() = own;
    assert!(second.refused(&["create", "c"]).contains("the one that the runtime is in"));
    assert_eq!(fs::read_dir(second.path().join("state")).unwrap().count(), 0);
}

/// A time namespace in which the boot was a day earlier, held by a process.
struct Clocks {
    holder: Child,
    path: String,
}

impl Clocks {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--time", "--boottime", "86400", "--fork", "--kill-child"]);
        command.args(["sh", "-c", "echo $$; exec sleep 1000"]).stdout(Stdio::piped());
        let mut holder = command.spawn().unwrap();
        let mut pid = String::new();
        let _ = BufReader::new(holder.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        Self { holder, path: format!("/proc/{}/ns/time", pid.trim()) }
    }
}

impl Drop for Clocks {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn a_time_namespace_by_path_has_its_clocks_for_the_container_and_its_execs() {
    let clocks = Clocks::new();
    let theirs = fs::read_link(&clocks.path).unwrap();
    assert_ne!(theirs, fs::read_link("/proc/self/ns/time").unwrap());
    let mut bundle = Bundle::new("sleep 1000");
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "time", "path": clocks.path}));
    bundle.started();
    let pid = fs::read_to_string(bundle.path().join("pid")).unwrap();
    assert_eq!(fs::read_link(format!("/proc/{pid}/ns/time")).unwrap(), theirs);
    let look = "readlink /proc/self/ns/time; cat /proc/uptime";
    let said = bundle.done(&["exec", "c", "sh", "-c", look]);
    let (namespace, clock) = said.split_once('\n').unwrap();
    assert_eq!(Some(namespace), theirs.to_str());
    let host = fs::read_to_string("/proc/uptime").unwrap();
    let seconds = |text: &str| text.split('.').next().unwrap().parse::<u64>().unwrap();
    assert!(seconds(clock) + 3600 > seconds(&host) + 86_400, "{clock} where the host has {host}");
    assert_eq!(bundle.status(), "running", "its start is known by the host's clock");
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().last_mut().unwrap()["path"] =
        Value::Null;
    let refused = bundle.refused(&["create", "d"]);
    assert!(refused.contains("linux.namespaces[Time]"), "{refused}");
}

#[test]
fn an_exec_changes_what_is_given_and_nothing_else() {
    let mut bundle = Bundle::new("sleep 1000");
    bundle.config["process"]["user"] =
        json!({"uid": 0, "gid": 9, "umask": 0o27, "additionalGids": [8]});
    bundle.started();
    let options = "exec --env HOME=/tmp --user 5 -g 77 --cap CAP_NET_BIND_SERVICE c sh -c";
    let mut args: Vec<&str> = options.split(' ').collect();
    args.push("env | grep HOME; id -u; id -g; id -G; umask; grep CapBnd /proc/self/status");
    let said = bundle.done(&args);
    assert_eq!(said, "HOME=/tmp\n5\n9\n9 8 77\n0027\nCapBnd:\t0000000000000421\n");
    let process = ["exec", "--process", "p.json", "--cwd", "/tmp", "c"];
    assert!(bundle.refused(&process).contains("--cwd"));
    assert!(bundle.refused(&["exec", "--cgroup", "/x", "c", "true"]).contains("--cgroup"));
}

#[test]
fn who_stands_still_can_be_ended_and_who_only_waits_cannot_be_paused() {
    let bundle = Bundle::new("sleep 1000");
    bundle.done(&["create", "c"]);
    assert!(bundle.refused(&["pause", "c"]).contains("it is created"));
    bundle.done(&["start", "c"]);
    bundle.done(&["pause", "c"]);
    assert_eq!(bundle.status(), "paused");
    let said = bundle.refused(&["exec", "c", "true"]);
    assert!(said.contains("container not running: it is paused"), "{said}");
    let said = bundle.refused(&["kill", "c", "FOO"]);
    assert_eq!(said.matches("is not a signal").count(), 1, "{said}");
    bundle.done(&["kill", "c", "KILL"]);
    bundle.ended();
    bundle.done(&["delete", "c"]);
    bundle.started();
    bundle.done(&["pause", "c"]);
    let begun = Instant::now();
    bundle.done(&["delete", "--force", "c"]);
    assert!(begun.elapsed() < Duration::from_secs(10), "its process was waited for in vain");
}
