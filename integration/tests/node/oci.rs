//! `isopod oci`: the launcher as podman and containerd call an OCI runtime.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Bundle, Runtime};

const OWN: Runtime = Runtime::Own;
/// How long a process may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

fn state(bundle: &Bundle, id: &str) -> Value {
    serde_json::from_str(&bundle.done(OWN, &["state", id])).unwrap()
}

fn status(bundle: &Bundle, id: &str) -> String {
    state(bundle, id)["status"].as_str().unwrap().to_owned()
}

/// Makes a container whose output goes into a file of the bundle.
fn create(bundle: &Bundle, id: &str) {
    let out = fs::File::create(bundle.path().join("out")).unwrap();
    let mut command = bundle.command(OWN, &["create", "--pid-file", "pid", id]);
    let made = command.stdout(out.try_clone().unwrap()).stderr(out).status().unwrap();
    let said = fs::read_to_string(bundle.path().join("out")).unwrap();
    assert!(made.success(), "{said}");
}

fn ended(bundle: &Bundle, id: &str) {
    let over = testkit::eventually(ENDS_WITHIN, || (status(bundle, id) == "stopped").then_some(()));
    over.unwrap_or_else(|| panic!("{id} does not end: {}", state(bundle, id)));
}

/// Where hierarchies of cgroups are mounted, one of version 2 first.
fn hierarchies() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let of = |kind: &str| {
        let lines = table.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines.filter(|f| f[2] == kind).map(|f| PathBuf::from(f[1])).collect::<Vec<_>>()
    };
    [of("cgroup2"), of("cgroup")].concat()
}

/// Directories of cgroups that a test has made itself, and a process that may be in one; gone at its end.
struct Cgroups(Vec<PathBuf>, Option<Child>);

impl Drop for Cgroups {
    fn drop(&mut self) {
        if let Some(child) = &mut self.1 {
            let _ = child.kill();
            let _ = child.wait();
        }
        for directory in &self.0 {
            let _ = testkit::eventually(ENDS_WITHIN, || {
                let gone = fs::remove_dir(directory);
                (gone.is_ok() || !directory.exists()).then_some(())
            });
        }
    }
}

fn refused(bundle: &Bundle, args: &[&str]) -> String {
    let done = bundle.output(OWN, args);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success(), "{args:?} was to fail: {said}");
    said
}

#[test]
fn a_container_goes_from_created_to_deleted_and_says_what_it_is_at() {
    let mut bundle = Bundle::new();
    bundle.config["annotations"] = json!({ "a": "b" });
    bundle.script("echo ran; sleep 1000");
    create(&bundle, "c");
    let created = state(&bundle, "c");
    assert_eq!(
        (&created["status"], &created["annotations"]["a"]),
        (&json!("created"), &json!("b"))
    );
    let pid = fs::read_to_string(bundle.path().join("pid")).unwrap();
    assert_eq!(created["pid"].to_string(), pid);
    assert_eq!(fs::read_to_string(bundle.path().join("out")).unwrap(), "", "nothing has run yet");
    assert!(refused(&bundle, &["create", "c"]).contains("already exists"));
    assert!(refused(&bundle, &["pause", "c"]).contains("it is created"));

    let _ = bundle.done(OWN, &["start", "c"]);
    assert_eq!(status(&bundle, "c"), "running");
    assert!(refused(&bundle, &["start", "c"]).contains("it is running"));
    assert!(refused(&bundle, &["delete", "c"]).contains("not stopped"));
    let listed: Value = serde_json::from_str(&bundle.done(OWN, &["list", "-f", "json"])).unwrap();
    assert_eq!(listed[0]["id"], "c");
    let pids: Vec<u32> =
        serde_json::from_str(&bundle.done(OWN, &["ps", "-f", "json", "c"])).unwrap();
    assert!(pids.contains(&pid.parse().unwrap()), "{pids:?}");

    let _ = bundle.done(OWN, &["kill", "c", "KILL"]);
    ended(&bundle, "c");
    assert!(refused(&bundle, &["kill", "c"]).contains("container not running"));
    let _ = bundle.done(OWN, &["delete", "c"]);
    assert!(refused(&bundle, &["state", "c"]).contains("does not exist"));
    assert_eq!(fs::read_to_string(bundle.path().join("out")).unwrap(), "ran\n");
}

#[test]
fn a_container_that_is_not_started_ends_with_its_deletion_and_so_does_its_keeper() {
    let mut bundle = Bundle::new();
    bundle.script("echo ran");
    create(&bundle, "c");
    let _ = bundle.done(OWN, &["delete", "c"]);
    // Its keeper had the output open for as long as it had not let go of what was the caller's.
    assert_eq!(fs::read_to_string(bundle.path().join("out")).unwrap(), "");
    let socket = bundle.path().join("isopod-oci/c");
    assert!(!socket.exists());
    let _ = bundle.done(OWN, &["delete", "--force", "c"]);
}

#[test]
fn a_run_gives_the_exit_code_and_leaves_nothing() {
    let mut bundle = Bundle::new();
    bundle.script("echo out; echo err >&2; exit 7");
    let done = bundle.output(OWN, &["run", "c"]);
    assert_eq!(done.status.code(), Some(7));
    assert_eq!((&done.stdout[..], &done.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    assert!(refused(&bundle, &["state", "c"]).contains("does not exist"));
    let left = fs::read_dir(bundle.path().join("isopod-oci")).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn an_exec_has_what_its_container_has_and_tells_its_exit_code() {
    let mut bundle = Bundle::new();
    bundle.config["process"]["user"] =
        json!({ "uid": 0, "gid": 9, "umask": 0o27, "additionalGids": [8] });
    bundle.script("sleep 1000");
    create(&bundle, "c");
    let _ = bundle.done(OWN, &["start", "c"]);
    let options = "exec --env HOME=/tmp --user 5 -g 77 --cap CAP_NET_BIND_SERVICE c sh -c";
    let script = "env | grep HOME; id -u; id -g; id -G; umask; grep CapBnd /proc/self/status";
    let mut args: Vec<&str> = options.split(' ').collect();
    args.push(script);
    let said = bundle.done(OWN, &args);
    assert_eq!(said, "HOME=/tmp\n5\n9\n9 8 77\n0027\nCapBnd:\t00000000000004e3\n");
    assert!(refused(&bundle, &["exec", "--cgroup", "/x", "c", "true"]).contains("--cgroup"));
    let script = "grep -E '^(CapEff|NoNewPrivs):' /proc/self/status; cat /proc/1/comm; exit 5";
    let done = bundle.output(OWN, &["exec", "c", "sh", "-c", script]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(5), "{said}");
    assert_eq!(said, "CapEff:\t00000000000000e3\nNoNewPrivs:\t1\nsleep\n");
    // As containerd's shim does it: a document, a file for the number, and nobody who waits.
    let process = json!({
        "user": { "uid": 1000, "gid": 1000 }, "cwd": "/tmp", "env": ["PATH=/bin"],
        "args": ["sh", "-c", "id -u; pwd; sleep 1000"]
    });
    fs::write(bundle.path().join("process.json"), process.to_string()).unwrap();
    let out = fs::File::create(bundle.path().join("exec-out")).unwrap();
    let args = ["exec", "--process", "process.json", "--detach", "--pid-file", "exec-pid", "c"];
    let mut exec = bundle.command(OWN, &args);
    assert!(exec.stdout(out).status().unwrap().success());
    let pid = fs::read_to_string(bundle.path().join("exec-pid")).unwrap();
    let pids: Vec<String> =
        serde_json::from_str::<Vec<u32>>(&bundle.done(OWN, &["ps", "-f", "json", "c"]))
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
    assert!(pids.contains(&pid), "{pid} in {pids:?}");
    let said = testkit::eventually(ENDS_WITHIN, || {
        let said = fs::read_to_string(bundle.path().join("exec-out")).unwrap();
        said.contains('/').then_some(said)
    });
    assert_eq!(said.unwrap(), "1000\n/tmp\n");
    let missing = bundle.output(OWN, &["exec", "c", "no-such-program"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no-such-program"));
    let _ = bundle.done(OWN, &["delete", "--force", "c"]);
}

#[test]
fn limits_change_and_processes_stand_still_while_they_are_paused() {
    let mut bundle = Bundle::new();
    bundle.config["linux"]["resources"]["pids"] = json!({ "limit": 30 });
    bundle.script("while :; do echo; sleep 0.01; done");
    create(&bundle, "c");
    let _ = bundle.done(OWN, &["start", "c"]);
    let _ = bundle.done(OWN, &["pause", "c"]);
    assert_eq!(status(&bundle, "c"), "paused");
    let length = || fs::metadata(bundle.path().join("out")).unwrap().len();
    let still = length();
    assert!(refused(&bundle, &["exec", "c", "true"]).contains("not running"));
    assert_eq!(length(), still, "it writes while it is paused");
    let _ = bundle.done(OWN, &["resume", "c"]);
    let goes_on = testkit::eventually(ENDS_WITHIN, || (length() > still).then_some(()));
    goes_on.expect("it goes on");
    let mut update = bundle.command(OWN, &["update", "--resources", "-", "c"]);
    let mut update = update.stdin(Stdio::piped()).spawn().unwrap();
    let limits = json!({ "pids": { "limit": 40 } }).to_string();
    std::io::Write::write_all(&mut update.stdin.take().unwrap(), limits.as_bytes()).unwrap();
    assert!(update.wait().unwrap().success());
    let found = std::process::Command::new("find")
        .args(["/sys/fs/cgroup", "-path", &format!("*{}/pids.max", bundle.cgroup())])
        .output()
        .unwrap();
    let path = String::from_utf8(found.stdout).unwrap();
    let limit = fs::read_to_string(path.lines().next().expect("it has a limit of processes"));
    assert_eq!(limit.unwrap(), "40\n");
    // What stands still can be ended, by a signal and with all that there is of it.
    let _ = bundle.done(OWN, &["pause", "c"]);
    let _ = bundle.done(OWN, &["kill", "c", "KILL"]);
    ended(&bundle, "c");
    let _ = bundle.done(OWN, &["delete", "c"]);
    create(&bundle, "c");
    let _ = bundle.done(OWN, &["start", "c"]);
    let _ = bundle.done(OWN, &["pause", "c"]);
    let _ = bundle.done(OWN, &["delete", "--force", "c"]);
}

#[test]
fn a_terminal_is_handed_over_through_the_console_socket() {
    let mut bundle = Bundle::new();
    bundle.config["process"]["terminal"] = json!(true);
    bundle.script("test -t 0 && stty_is=yes; echo is a terminal: $stty_is");
    assert!(refused(&bundle, &["create", "c"]).contains("--console-socket"));
    let listener = std::os::unix::net::UnixListener::bind(bundle.path().join("console")).unwrap();
    let _ = bundle.done(OWN, &["create", "--console-socket", "console", "c"]);
    let (socket, _) = listener.accept().unwrap();
    let mut terminal = testkit::received(&socket);
    let _ = bundle.done(OWN, &["start", "c"]);
    let mut said = Vec::new();
    let mut buffer = [0; 256];
    // The end of a terminal whose other side is closed is an error, EIO.
    while let Ok(length @ 1..) = std::io::Read::read(&mut terminal, &mut buffer) {
        said.extend_from_slice(&buffer[..length]);
    }
    assert_eq!(String::from_utf8_lossy(&said), "is a terminal: yes\r\n");
    ended(&bundle, "c");
}

#[test]
fn what_it_cannot_do_is_named_and_leaves_nothing() {
    for (change, word) in [
        (json!({ "hooks": { "prestart": [{ "path": "/bin/true" }] } }), "hooks"),
        (json!({ "root": { "path": "" } }), "root.path"),
        (
            json!({ "hostname": "", "linux": { "namespaces": [{ "type": "mount" }, { "type": "ipc" }],
                "sysctl": { "kernel.core_pattern": "core" } } }),
            "kernel.core_pattern",
        ),
        (
            json!({ "hostname": "", "linux": { "sysctl": { "net.ipv4.ip_forward": "1" },
                "namespaces": [{ "type": "mount" }, { "type": "network", "path": "/proc/self/ns/net" }] } }),
            "the host's",
        ),
        (
            json!({ "hostname": "", "linux": { "namespaces": [{ "type": "pid" }] } }),
            "linux.namespaces",
        ),
        (
            json!({ "process": { "args": ["nowhere"], "cwd": "/", "user": { "uid": 0, "gid": 0 } } }),
            "nowhere",
        ),
    ] {
        let mut bundle = Bundle::new();
        for (name, value) in change.as_object().unwrap() {
            bundle.config[name] = value.clone();
        }
        let said = refused(&bundle, &["run", "c"]);
        assert!(said.contains(word), "{word}: {said}");
        let left = fs::read_dir(bundle.path().join("isopod-oci")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{word}");
    }
    let bundle = Bundle::new();
    let log = bundle.path().join("log.json");
    let args = ["--log", "log.json", "--log-format", "json", "state", "nobody"];
    let _ = refused(&bundle, &args);
    let line: Value = serde_json::from_str(&fs::read_to_string(log).unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().contains("does not exist"), "{line}");
}

#[test]
fn a_cgroup_with_processes_in_it_is_refused_and_left_alone() {
    let mut bundle = Bundle::new();
    let name = format!("{}-busy", bundle.cgroup());
    let at = |hierarchy: &PathBuf| hierarchy.join(&name[1..]);
    let all: Vec<PathBuf> = hierarchies().iter().map(at).collect();
    fs::create_dir(&all[0]).unwrap();
    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = child.id().to_string();
    let mut there = Cgroups(all.clone(), Some(child));
    fs::write(all[0].join("cgroup.procs"), &pid).unwrap();
    bundle.config["linux"]["cgroupsPath"] = json!(name);
    assert!(refused(&bundle, &["create", "c"]).contains("not empty"));
    let _ = bundle.done(OWN, &["delete", "--force", "c"]);
    assert!(there.1.as_mut().unwrap().try_wait().unwrap().is_none(), "it was ended");
    assert_eq!(fs::read_to_string(all[0].join("cgroup.procs")).unwrap(), format!("{pid}\n"));
    assert!(all[1..].iter().all(|other| !other.exists()), "something of it was made");
}

#[test]
fn a_cgroup_that_was_there_stays_and_one_without_a_path_is_in_a_place_of_our_own() {
    let mut bundle = Bundle::new();
    let name = format!("{}-found", bundle.cgroup());
    let all: Vec<PathBuf> = hierarchies().iter().map(|h| h.join(&name[1..])).collect();
    let _there = Cgroups(all.clone(), None);
    all.iter().for_each(|directory| fs::create_dir(directory).unwrap());
    bundle.config["linux"]["cgroupsPath"] = json!(name);
    bundle.script("sleep 1000");
    create(&bundle, "c");
    let _ = bundle.done(OWN, &["delete", "--force", "c"]);
    assert!(all.iter().all(|directory| directory.is_dir()), "what it has found is gone");

    let id = bundle.cgroup()[1..].to_owned();
    bundle.config["linux"]["cgroupsPath"] = json!("");
    let _place = Cgroups(hierarchies().iter().map(|h| h.join("isopod-oci")).collect(), None);
    create(&bundle, &id);
    let pid = fs::read_to_string(bundle.path().join("pid")).unwrap();
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let own = format!("/isopod-oci/{id}");
    assert!(table.lines().all(|line| line.ends_with(&own)), "{table}");
    let _ = bundle.done(OWN, &["delete", "--force", &id]);
    assert!(hierarchies().iter().all(|hierarchy| !hierarchy.join(&own[1..]).exists()));
}

#[test]
fn a_container_with_users_of_its_own_has_its_loopback_and_its_parameters() {
    let mut bundle = Bundle::new();
    let linux = &mut bundle.config["linux"];
    linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    let ids = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    linux["uidMappings"] = ids.clone();
    linux["gidMappings"] = ids;
    linux["sysctl"] =
        json!({ "kernel.shm_rmid_forced": "1", "net.ipv4.ip_unprivileged_port_start": "80" });
    bundle.script(
        "cd /proc/sys; cat kernel/shm_rmid_forced net/ipv4/ip_unprivileged_port_start; \
         cat /proc/self/uid_map; grep -q 127.0.0.1 /proc/net/fib_trie && echo up",
    );
    let said = bundle.done(OWN, &["run", "c"]);
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["1", "80", "0", "100000", "65536", "up"]);
}

#[test]
fn its_features_and_a_config_to_begin_with_are_documents() {
    let bundle = Bundle::new();
    let features: Value = serde_json::from_str(&bundle.done(OWN, &["features"])).unwrap();
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    let empty = bundle.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let _ = bundle.done(OWN, &["spec", "--bundle", "empty"]);
    let config: Value =
        serde_json::from_slice(&fs::read(empty.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["process"]["args"], json!(["sh"]));
    assert!(refused(&bundle, &["spec", "--bundle", "empty"]).contains("config.json"));
}
