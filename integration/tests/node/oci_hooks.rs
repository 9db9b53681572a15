//! Hooks of `isopod oci`: the six points of the runtime specification's lifecycle, with runc as the model.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Bundle, Runtime, eventually};

const OWN: Runtime = Runtime::Own;
/// How long a process may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
const POINTS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

fn hook(script: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/bin"] })
}

/// One that notes that it has run.
fn note(bundle: &Bundle, word: &str) -> Value {
    hook(&format!("echo {word} >> {}", at(bundle, "notes").display()))
}

fn at(bundle: &Bundle, name: &str) -> PathBuf {
    bundle.path().join(name)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn notes(bundle: &Bundle) -> String {
    read(&at(bundle, "notes"))
}

/// Makes a container whose output goes into a file of the bundle, which a pipe's reader would wait for.
fn create(bundle: &Bundle, runtime: Runtime) {
    let out = fs::File::create(at(bundle, "out")).unwrap();
    let mut command = bundle.command(runtime, &["create", "--pid-file", "pid", "c"]);
    let made = command.stdout(out.try_clone().unwrap()).stderr(out).status().unwrap();
    assert!(made.success(), "{}: {}", runtime.name(), read(&at(bundle, "out")));
}

/// What a command says that fails.
fn refused(bundle: &Bundle, args: &[&str]) -> String {
    let done = bundle.output(OWN, args);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success(), "{args:?} was to fail: {said}");
    said
}

fn nothing_is_left(bundle: &Bundle) {
    assert!(refused(bundle, &["state", "c"]).contains("does not exist"));
    let left = fs::read_dir(at(bundle, "isopod-oci")).unwrap().count();
    assert_eq!(left, 0, "a record is left");
    let pattern = format!("*{}", bundle.cgroup());
    let found = std::process::Command::new("find")
        .args(["/sys/fs/cgroup", "-maxdepth", "3", "-type", "d", "-path", &pattern])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "a cgroup is left");
}

/// What each point is told and where it runs, in words that do not change from run to run.
fn life(runtime: Runtime) -> (Bundle, BTreeMap<&'static str, String>) {
    let mut bundle = Bundle::new();
    bundle.config["annotations"] = json!({ "org.example.a": "b c" });
    bundle.script("sleep 1000");
    let namespaces = "for n in mnt net ipc uts pid; do readlink /proc/self/ns/$n; done";
    for point in POINTS {
        // The container's own hooks see its files.
        let inside = point == "startContainer";
        let state = if inside { "/tmp/startContainer".into() } else { at(&bundle, point) };
        let script = format!("cat > {0}; {namespaces} > {0}.ns", state.display());
        let last =
            if inside { hook("echo startContainer >> /tmp/notes") } else { note(&bundle, point) };
        bundle.config["hooks"][point] = json!([hook(&script), last]);
    }
    // Without an environment of its own it has the program's.
    let bare = json!({ "path": "/bin/sh", "args": ["sh", "-c", "echo $HOME > /tmp/home"] });
    bundle.config["hooks"]["startContainer"].as_array_mut().unwrap().push(bare);

    create(&bundle, runtime);
    let pid = read(&at(&bundle, "pid"));
    let namespaces = |pid: &str| -> Vec<String> {
        ["mnt", "net", "ipc", "uts", "pid"]
            .map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap())
            .map(|link| link.to_string_lossy().into_owned())
            .into()
    };
    let (ours, its) = (namespaces("thread-self"), namespaces(&pid));
    let before = notes(&bundle);
    let _ = bundle.done(runtime, &["start", "c"]);
    let after = notes(&bundle);
    if runtime == OWN {
        // runc 1.1 runs the next ones with the create already.
        assert_eq!(before, "prestart\ncreateRuntime\ncreateContainer\n");
    }
    assert_eq!(after, "prestart\ncreateRuntime\ncreateContainer\npoststart\n");
    let inside = |name: &str| bundle.rootfs().join("tmp").join(name);
    let ran = || inside("home").exists().then_some(());
    eventually(ENDS_WITHIN, ran).expect("hooks in the container run");
    assert_eq!(
        (read(&inside("notes")), read(&inside("home"))),
        ("startContainer\n".into(), "/\n".into())
    );
    assert!(!at(&bundle, "poststop").exists());
    let _ = bundle.done(runtime, &["delete", "--force", "c"]);
    assert_eq!(notes(&bundle), "prestart\ncreateRuntime\ncreateContainer\npoststart\npoststop\n");

    let mut told = BTreeMap::new();
    for point in POINTS {
        let file = if point == "startContainer" { inside(point) } else { at(&bundle, point) };
        let state: Value = serde_json::from_str(&read(&file)).unwrap();
        assert_eq!(state["id"], "c", "{point}");
        assert_eq!(state["bundle"], bundle.path().to_str().unwrap(), "{point}");
        assert_eq!(state["annotations"]["org.example.a"], "b c", "{point}");
        assert!(state["ociVersion"].as_str().is_some_and(|v| v.starts_with("1.")), "{point}");
        let number = match state["pid"].as_i64() {
            Some(number) if number.to_string() == pid => "as the host sees it",
            Some(1) => "as it sees itself",
            Some(0) | None => "none",
            Some(_) => "of another",
        };
        let status = state["status"].as_str().unwrap();
        let spaces = read(&file.with_file_name(format!("{point}.ns")));
        let place = |(name, (is, (ours, its)))| {
            let place = if is == ours {
                "the host's"
            } else if is == its {
                "its"
            } else {
                "another"
            };
            format!("{name} {place}")
        };
        let kinds = ["mount", "network", "ipc", "uts"];
        let places: Vec<_> =
            kinds.into_iter().zip(spaces.lines().zip(ours.iter().zip(&its))).map(place).collect();
        told.insert(point, format!("{status}, process {number}; {}", places.join(", ")));
    }
    (bundle, told)
}

#[test]
fn hooks_run_at_their_six_points_and_are_told_what_runc_tells_them() {
    let (bundle, told) = life(OWN);
    let (host, its) = (
        "mount the host's, network the host's, ipc the host's, uts the host's",
        "mount its, network its, ipc its, uts its",
    );
    let expected = BTreeMap::from([
        ("prestart", format!("creating, process as the host sees it; {host}")),
        ("createRuntime", format!("creating, process as the host sees it; {host}")),
        ("createContainer", format!("creating, process as it sees itself; {its}")),
        ("startContainer", format!("created, process as it sees itself; {its}")),
        ("poststart", format!("running, process as the host sees it; {host}")),
        ("poststop", format!("stopped, process none; {host}")),
    ]);
    assert_eq!(told, expected);
    nothing_is_left(&bundle);
    let mut of_runc = life(Runtime::Runc).1;
    // By 1.1 it has not come that far when it runs them; the specification and runc's later versions are with us.
    let started = of_runc.get_mut("poststart").unwrap();
    *started = started.replace("created, ", "running, ");
    assert_eq!(of_runc, expected, "runc does otherwise");
}

#[test]
fn what_hooks_mount_before_the_start_is_in_the_container_and_not_on_the_host() {
    for runtime in [OWN, Runtime::Runc] {
        let mut bundle = Bundle::new();
        bundle.script("cat /mnt/by-pid/file /mnt/inside/file");
        for name in ["by-pid", "inside"] {
            fs::create_dir_all(bundle.rootfs().join("mnt").join(name)).unwrap();
        }
        if runtime == OWN {
            // runc refuses one that is a link.
            std::os::unix::fs::symlink("rootfs", at(&bundle, "link")).unwrap();
            bundle.config["root"]["path"] = json!("link");
        }
        let mount = |name: &str| {
            let place = bundle.rootfs().join("mnt").join(name);
            let place = place.display();
            format!("mount -t tmpfs none {place} && echo {name} > {place}/file")
        };
        // As programs of vendors do it: by the number that they are told, or where they are.
        let by_pid = format!(
            "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); nsenter --target $pid --mount sh -c '{}'",
            mount("by-pid")
        );
        bundle.config["hooks"] = json!({
            "createRuntime": [hook(&by_pid)], "createContainer": [hook(&mount("inside"))]
        });
        assert_eq!(bundle.done(runtime, &["run", "c"]), "by-pid\ninside\n", "{}", runtime.name());
        let host = bundle.rootfs().join("mnt/inside/file");
        assert!(!host.exists(), "{}", runtime.name());
    }
}

#[test]
fn a_hook_that_fails_before_the_start_refuses_the_container_with_what_it_says() {
    for point in ["prestart", "createRuntime", "createContainer"] {
        let mut bundle = Bundle::new();
        bundle.script("echo ran > /tmp/ran");
        bundle.config["hooks"][point] =
            json!([hook("echo no such card >&2; exit 3"), note(&bundle, "after")]);
        bundle.config["hooks"]["poststop"] = json!([note(&bundle, "poststop")]);
        for verb in ["create", "run"] {
            let said = refused(&bundle, &[verb, "c"]);
            for word in [point, "/bin/sh", "3", "no such card"] {
                assert!(said.contains(word), "{point}: {word} is not in {said}");
            }
            nothing_is_left(&bundle);
        }
        assert_eq!(
            notes(&bundle),
            "poststop\npoststop\n",
            "{point}: it is destroyed, and that is told"
        );
        assert!(!bundle.rootfs().join("tmp/ran").exists());
    }
    let mut bundle = Bundle::new();
    bundle.config["hooks"] = json!({ "createRuntime": [{ "path": "/no/such/hook" }] });
    let said = refused(&bundle, &["create", "c"]);
    assert!(said.contains("/no/such/hook") && said.contains("No such file"), "{said}");
    nothing_is_left(&bundle);
}

#[test]
fn a_hook_that_fails_at_the_start_destroys_the_container() {
    let mut bundle = Bundle::new();
    bundle.script("echo ran > /tmp/ran");
    bundle.config["hooks"] = json!({
        "startContainer": [hook("echo not today >&2; exit 4"), hook("echo after > /tmp/ran")],
        "poststart": [note(&bundle, "poststart")],
        "poststop": [note(&bundle, "poststop")]
    });
    create(&bundle, OWN);
    // What is in the bundle by now is not the container's.
    let hooks = bundle.config["hooks"].take();
    let said = refused(&bundle, &["start", "c"]);
    assert!(said.contains("startContainer") && said.contains("not today"), "{said}");
    nothing_is_left(&bundle);
    bundle.config["hooks"] = hooks;
    assert!(refused(&bundle, &["run", "c"]).contains("not today"));
    nothing_is_left(&bundle);
    assert_eq!(notes(&bundle), "poststop\npoststop\n");
    assert!(!bundle.rootfs().join("tmp/ran").exists(), "the program has not run");
    // Whoever deletes it by force nevertheless is content.
    let _ = bundle.done(OWN, &["delete", "--force", "c"]);
}

#[test]
fn hooks_that_fail_after_the_start_are_warned_of_and_the_rest_run() {
    let mut bundle = Bundle::new();
    bundle.script("sleep 1000");
    for point in ["poststart", "poststop"] {
        bundle.config["hooks"][point] =
            json!([hook("echo nobody listens >&2; exit 5"), note(&bundle, point)]);
    }
    create(&bundle, OWN);
    for (args, point) in
        [(vec!["start", "c"], "poststart"), (vec!["delete", "--force", "c"], "poststop")]
    {
        let log = ["--log", "log.json", "--log-format", "json"];
        let done = bundle.output(OWN, &[&log[..], &args].concat());
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{said}");
        assert!(said.starts_with("warning: ") && said.contains("nobody listens"), "{said}");
        let logged = read(&at(&bundle, "log.json"));
        let line: Value = serde_json::from_str(logged.lines().last().unwrap()).unwrap();
        assert_eq!(line["level"], "warning");
        assert!(line["msg"].as_str().unwrap().contains(point), "{line}");
    }
    assert_eq!(notes(&bundle), "poststart\npoststop\n");
    nothing_is_left(&bundle);
}

#[test]
fn a_hook_past_its_time_ends_with_all_that_it_has_started() {
    let mut bundle = Bundle::new();
    let file = at(&bundle, "sleeper");
    let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
    let mut late = hook(&script);
    late["timeout"] = json!(1);
    bundle.config["hooks"] =
        json!({ "createRuntime": [late], "poststop": [note(&bundle, "poststop")] });
    let said = refused(&bundle, &["create", "c"]);
    assert!(said.contains("createRuntime") && said.contains("killed after 1 s"), "{said}");
    nothing_is_left(&bundle);
    assert_eq!(notes(&bundle), "poststop\n");
    sleeper_has_ended(&file);
}

fn sleeper_has_ended(file: &Path) {
    let command = PathBuf::from(format!("/proc/{}/cmdline", read(file).trim()));
    // One that nobody has waited for has no command line any more.
    let over = eventually(ENDS_WITHIN, || (!read(&command).contains("sleep")).then_some(()));
    over.expect("what a hook has started outlives it");
}

/// A `create` that waits for a hook which does not end; where the number of what sleeps is told.
fn create_that_waits(bundle: &mut Bundle, sleep: &str) -> (Child, PathBuf) {
    let file = at(bundle, "sleeper");
    let script = sleep.replace("TELL", &format!("> {0}.new; mv {0}.new {0}", file.display()));
    bundle.config["hooks"] =
        json!({ "createRuntime": [hook(&script)], "poststop": [note(bundle, "poststop")] });
    let mut command = bundle.command(OWN, &["create", "c"]);
    let create = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    eventually(ENDS_WITHIN, || file.exists().then_some(())).expect("the hook runs");
    (create, file)
}

#[test]
fn a_container_that_is_being_made_can_be_deleted_by_force_and_ends_its_hooks() {
    let mut bundle = Bundle::new();
    let (create, sleeper) = create_that_waits(&mut bundle, "sleep 1000 & echo $! TELL; wait");
    let state: Value = serde_json::from_str(&bundle.done(OWN, &["state", "c"])).unwrap();
    assert_eq!(state["status"], "creating");
    for args in [&["delete", "c"][..], &["kill", "c"], &["start", "c"], &["exec", "c", "true"]] {
        let said = refused(&bundle, args);
        assert!(said.contains("creating") || said.contains("not running"), "{args:?}: {said}");
    }
    let _ = bundle.done(OWN, &["delete", "--force", "c"]);
    let done = create.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(notes(&bundle), "poststop\n", "it is told once");
    sleeper_has_ended(&sleeper);
    nothing_is_left(&bundle);
}

#[test]
fn a_create_that_is_killed_takes_its_hooks_with_it_and_what_is_left_can_be_deleted() {
    let mut bundle = Bundle::new();
    let (mut create, sleeper) = create_that_waits(&mut bundle, "echo $$ TELL; exec sleep 1000");
    create.kill().unwrap();
    assert_eq!(create.wait().unwrap().signal(), Some(9));
    let stopped = eventually(ENDS_WITHIN, || {
        bundle.done(OWN, &["state", "c"]).contains("\"stopped\"").then_some(())
    });
    stopped.expect("its process ends with whoever made it");
    sleeper_has_ended(&sleeper);
    assert_eq!(notes(&bundle), "");
    let _ = bundle.done(OWN, &["delete", "c"]);
    assert_eq!(notes(&bundle), "poststop\n");
    nothing_is_left(&bundle);
}
