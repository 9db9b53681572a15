//! `isopod oci`: the launcher as podman and containerd call an OCI runtime.

use std::fs;
use std::process::Stdio;
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
    bundle.script("sleep 1000");
    create(&bundle, "c");
    let _ = bundle.done(OWN, &["start", "c"]);
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
        (json!({ "hooks": { "prestart": [{ "path": "true" }] } }), "hooks.prestart"),
        (json!({ "hooks": { "poststop": [{ "path": "/x", "timeout": 0 }] } }), "hooks.poststop"),
        (json!({ "root": { "path": "" } }), "root.path"),
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
fn its_features_and_a_config_to_begin_with_are_documents() {
    let bundle = Bundle::new();
    let features: Value = serde_json::from_str(&bundle.done(OWN, &["features"])).unwrap();
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    assert_eq!(features["hooks"].as_array().map(Vec::len), Some(6));
    let empty = bundle.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let _ = bundle.done(OWN, &["spec", "--bundle", "empty"]);
    let config: Value =
        serde_json::from_slice(&fs::read(empty.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["process"]["args"], json!(["sh"]));
    assert!(refused(&bundle, &["spec", "--bundle", "empty"]).contains("config.json"));
}

#[test]
fn a_process_namespace_by_path_is_that_of_whoever_is_in_it() {
    let mut bundle = Bundle::new();
    bundle.script("sleep 1000");
    create(&bundle, "first");
    let _ = bundle.done(OWN, &["start", "first"]);
    let pid = fs::read_to_string(bundle.path().join("pid")).unwrap();
    for namespace in bundle.config["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "pid" {
            namespace["path"] = json!(format!("/proc/{pid}/ns/pid"));
        }
    }
    // Beside the other's: in version 2 a cgroup with processes has no room for others below it.
    bundle.config["linux"]["cgroupsPath"] = json!(format!("{}-second", bundle.cgroup()));
    bundle.script("cat /proc/1/cmdline | tr '\\0' ' '; echo; echo $$");
    let out = bundle.done(OWN, &["run", "second"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0].trim(), "sleep 1000");
    assert_ne!(lines[1], "1");
    assert_eq!(status(&bundle, "first"), "running", "it outlives whoever came to it");
    let _ = bundle.done(OWN, &["delete", "--force", "first"]);
}

#[test]
fn a_tmpfs_begins_with_what_the_image_has_there_if_that_is_asked_for() {
    let mut bundle = Bundle::new();
    fs::create_dir_all(bundle.rootfs().join("data/sub")).unwrap();
    fs::write(bundle.rootfs().join("data/sub/file"), "of the image\n").unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs",
                        "options": ["rw", "tmpcopyup"] }));
    fs::create_dir(bundle.rootfs().join("fixed")).unwrap();
    fs::write(bundle.rootfs().join("fixed/file"), "as it is\n").unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({ "destination": "/fixed", "type": "tmpfs", "source": "tmpfs",
                        "options": ["ro", "tmpcopyup"] }));
    bundle.script(
        "cat /data/sub/file; echo x >/data/sub/file; cat /data/sub/file; \
         cat /fixed/file; touch /fixed/new 2>&1 | grep -o 'Read-only.*'",
    );
    let said = "of the image\nx\nas it is\nRead-only file system\n";
    assert_eq!(bundle.done(OWN, &["run", "c"]), said);
    let kept = fs::read_to_string(bundle.rootfs().join("data/sub/file")).unwrap();
    assert_eq!(kept, "of the image\n");
}

#[test]
fn a_program_that_is_not_there_is_told_before_the_start() {
    let mut bundle = Bundle::new();
    bundle.config["process"]["args"] = json!(["/nosuch"]);
    let said = refused(&bundle, &["create", "c"]);
    assert!(said.contains("/nosuch") && said.contains("No such file"), "{said}");
    assert!(refused(&bundle, &["state", "c"]).contains("does not exist"), "nothing is left");
}
