//! The command line on a real daemon.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use testkit::Daemon;

use crate::around::{Around, plain, text, with_pod};

/// Runs a verb that must succeed, and gives what it printed.
fn cli(daemon: &Daemon, args: &[&str]) -> String {
    let done = daemon.cli(args).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}\n{}", done.status, text(&done.stderr));
    text(&done.stdout)
}

/// Runs a verb that must fail, and gives what it said.
fn refused(daemon: &Daemon, args: &[&str]) -> String {
    let done = daemon.cli(args).output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{args:?}: {}", text(&done.stderr));
    text(&done.stderr)
}

#[tokio::test]
async fn lists_are_tables_for_people_and_json_for_programs() {
    let with = with_pod().await;
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;
    let daemon = with.daemon();
    let images = cli(daemon, &["images"]);
    assert!(images.starts_with("IMAGE "), "{images}");
    assert!(images.contains(&with.around.image), "{images}");
    let pods = cli(daemon, &["pods"]);
    assert!(pods.contains("Ready") && pods.contains(&with.pod_id[..12]), "{pods}");
    let containers = cli(daemon, &["ps"]);
    assert!(containers.contains("Running") && containers.contains(&id[..12]), "{containers}");
    assert!(!pods.contains('\x1b'), "no colour where nobody sees it");
    let json: serde_json::Value =
        serde_json::from_str(&cli(daemon, &["ps", "-o", "json"])).unwrap();
    assert_eq!(json["containers"][0]["id"], id.as_str());
    assert!(cli(daemon, &["pods", "-o", "yaml"]).contains(&with.pod_id));
    assert_eq!(cli(daemon, &["ps", "-q"]).trim(), id);
    let inspected: serde_json::Value =
        serde_json::from_str(&cli(daemon, &["inspect", &id[..6]])).unwrap();
    assert_eq!(inspected["status"]["metadata"]["name"], "main");
    cli(daemon, &["inspectp", &with.pod_id[..8]]);
    cli(daemon, &["inspecti", &with.around.image]);
    assert!(cli(daemon, &["status"]).contains("RuntimeReady"));
    assert!(cli(daemon, &["version"]).contains("isopod"));
    cli(daemon, &["imagefsinfo"]);
    cli(daemon, &["operations"]);
    let of_pods = cli(daemon, &["stats", "--pods"]);
    assert!(of_pods.contains(&with.pod_id[..12]) && of_pods.contains("CPU (CORES)"), "{of_pods}");
    let stats = cli(daemon, &["stats"]);
    assert!(stats.lines().any(|line| line.contains(" main ") && line.contains(" pod ")), "{stats}");
    let json = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&cli(daemon, &[args, &["-o", "json"]].concat())).unwrap()
    };
    let families = json(&["metrics"]);
    let calls = families
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"].as_str().unwrap().starts_with("isopod_calls"));
    assert!(calls.is_some_and(|one| one["samples"][0]["value"].is_u64()), "{families}");
    let top = json(&["top"]);
    assert!(top.as_array().unwrap().iter().any(|one| one["name"] == "tests/pod/main"), "{top}");
    let doctor = daemon.cli(&["doctor", "-o", "json"]).output().unwrap();
    let doctor: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let root = daemon.root().display().to_string();
    let whose = doctor["findings"].as_array().unwrap().iter().any(|one| {
        one["about"] == "configuration" && one["said"].as_str().unwrap().contains(&root)
    });
    assert!(whose, "{doctor}");
    assert!(cli(daemon, &["completions", "bash"]).contains("isopod"));
}

#[tokio::test]
async fn objects_are_found_by_name_and_by_the_beginning_of_an_id() {
    let with = with_pod().await;
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;
    let daemon = with.daemon();
    assert_eq!(cli(daemon, &["exec", &id[..10], "echo", "by id"]), "by id\n");
    assert_eq!(cli(daemon, &["exec", "main", "echo", "by name"]), "by name\n");
    for name in ["pod/main", "tests/pod/main"] {
        assert_eq!(cli(daemon, &["exec", name, "echo", name]), format!("{name}\n"));
    }
    let done = daemon.cli(&["exec", "main", "sh", "-c", "exit 42"]).output().unwrap();
    assert_eq!(done.status.code(), Some(42), "exit codes are passed on");
    let said = refused(daemon, &["rm", "main"]);
    assert!(said.contains("isopod stop main"), "it says what to do: {said}");
    let said = refused(daemon, &["stop", "nobody"]);
    assert!(said.contains("\"nobody\"") && said.contains("isopod ps -a"), "{said}");
    cli(daemon, &["stop", "--timeout", "20", "main"]);
    assert!(cli(daemon, &["ps", "-a"]).contains("Exited (0)"));
    cli(daemon, &["rm", "main"]);
    cli(daemon, &["stopp", "pod"]);
    cli(daemon, &["rmp", "pod"]);
    assert_eq!(cli(daemon, &["pods", "-q"]).trim(), "");
    cli(daemon, &["tag", &with.around.image, "example.org/other:2"]);
    assert!(cli(daemon, &["images"]).contains("example.org/other:2"));
    cli(daemon, &["rmi", "example.org/other:2"]);
    assert_eq!(cli(daemon, &["images", "-q"]).trim(), "");
}

#[tokio::test]
async fn whoever_removes_an_image_is_told_who_goes_on_with_it() {
    let with = with_pod().await;
    let daemon = with.daemon();
    let id = with.launch(&with.script("goes-on", "sleep 1000000")).await;
    let done = daemon.cli(&["rmi", &with.around.image]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(text(&done.stdout).trim(), with.around.image);
    assert!(text(&done.stderr).contains(&id[..12]), "{done:?}");
    assert_eq!(cli(daemon, &["images", "-q"]).trim(), "");
    assert_eq!(cli(daemon, &["exec", "goes-on", "echo", "on"]), "on\n");
}

fn run(around: &Around, args: &[&str]) -> Output {
    let mut all = vec!["run", "--network", "host"];
    all.extend(args);
    around.daemon.cli(&all).output().unwrap()
}

#[tokio::test]
async fn run_follows_a_container_and_ends_as_it_does() {
    let around = plain().await;
    let script = "echo $GREETING; echo err >&2; exit 5";
    let args = ["--rm", "-e", "GREETING=hello", &around.image, "sh", "-c", script];
    let done = run(&around, &args);
    assert_eq!(done.status.code(), Some(5), "{}", text(&done.stderr));
    assert_eq!(text(&done.stdout), "hello\n");
    assert_eq!(text(&done.stderr), "err\n");
    assert_eq!(cli(&around.daemon, &["pods", "-q"]).trim(), "");

    let volume = format!("{}:/data:ro", around.daemon.directory().display());
    let args = ["--rm", "-v", &volume, "-u", "1000:1000", "-w", "/data", &around.image];
    let done = run(&around, &[&args[..], &["sh", "-c", "id -u; ls config.toml; pwd"]].concat());
    assert_eq!(text(&done.stdout), "1000\nconfig.toml\n/data\n", "{}", text(&done.stderr));
}

#[tokio::test]
async fn run_detached_leaves_it_running_and_logs_shows_it() {
    let around = plain().await;
    let script = "n=0; while [ $n -lt 100 ]; do echo line-$n; n=$((n+1)); done; sleep 1000";
    let args = ["-d", "--name", "job", &around.image, "sh", "-c", script];
    let done = run(&around, &args);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let daemon = &around.daemon;
    testkit::until("all lines are there", Duration::from_secs(20), async || {
        (cli(daemon, &["logs", "job"]).lines().count() == 100).then_some(())
    })
    .await;
    assert_eq!(cli(daemon, &["logs", "--tail", "2", "job"]), "line-98\nline-99\n");
    let stamped = cli(daemon, &["logs", "--tail", "1", "--timestamps", "job"]);
    assert!(stamped.ends_with("Z line-99\n"), "{stamped}");
    assert_eq!(cli(daemon, &["logs", "--since", "1h", "job"]).lines().count(), 100);
    assert_eq!(cli(daemon, &["logs", "--since", "2999-01-01T00:00:00Z", "job"]), "");
    cli(daemon, &["rmp", "-f", "job"]);
    assert!(!daemon.directory().join("run").read_dir().unwrap().any(|_| true), "nothing is left");
}

#[tokio::test]
async fn ctrl_c_stops_and_removes_the_pod() {
    let around = plain().await;
    let daemon = &around.daemon;
    let script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 1000 & wait $!; done";
    let args = ["run", "--network", "host", &around.image, "sh", "-c", script];
    let mut command = daemon.cli(&args);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    testkit::until("it runs", Duration::from_secs(20), async || {
        let id = cli(daemon, &["ps", "-q"]);
        let up = !id.trim().is_empty() && cli(daemon, &["logs", id.trim()]).contains("up");
        up.then_some(())
    })
    .await;
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(130), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("stopping and removing"), "{}", text(&done.stderr));
    assert_eq!(text(&done.stdout), "up\nbye\n", "what it says at its end is shown");
    assert_eq!(cli(daemon, &["pods", "-q"]).trim(), "");
}

#[tokio::test]
async fn a_manifest_is_run_and_what_it_cannot_have_is_named() {
    let around = plain().await;
    let image = &around.image;
    let manifest = format!(
        "apiVersion: v1
kind: Pod
metadata: {{ name: both }}
spec:
  restartPolicy: Never
  hostNetwork: true
  volumes: [{{ name: shared, emptyDir: {{}} }}]
  initContainers:
  - {{ name: first, image: {image}, command: [sh, -c, 'echo prepared > /shared/x'], volumeMounts: [{{ name: shared, mountPath: /shared }}] }}
  containers:
  - {{ name: reads, image: {image}, command: [cat, /shared/x], volumeMounts: [{{ name: shared, mountPath: /shared }}] }}
  - {{ name: fails, image: {image}, command: [sh, -c, 'echo no; exit 4'] }}
"
    );
    let file = around.daemon.directory().join("pod.yaml");
    std::fs::write(&file, &manifest).unwrap();
    let file = file.to_string_lossy().into_owned();
    let done = around.daemon.cli(&["run", "--rm", "-f", &file]).output().unwrap();
    assert_eq!(done.status.code(), Some(4), "{}", text(&done.stderr));
    let mut lines: Vec<String> = text(&done.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["fails | no", "reads | prepared"]);
    assert_eq!(cli(&around.daemon, &["pods", "-q"]).trim(), "");

    std::fs::write(&file, manifest.replace("restartPolicy: Never", "nodeName: x")).unwrap();
    let said = refused(&around.daemon, &["run", "-f", &file]);
    assert!(said.contains("spec.nodeName"), "{said}");
    assert_eq!(cli(&around.daemon, &["pods", "-q"]).trim(), "");
}

#[tokio::test]
async fn a_daemon_that_is_not_there_is_told_with_what_to_do() {
    let daemon = testkit::Setup::new().prepare();
    let said = refused(&daemon, &["ps"]);
    assert!(said.contains("isopod daemon") && said.contains("--endpoint"), "{said}");
}

#[tokio::test]
async fn an_image_that_cannot_be_had_leaves_no_pod() {
    let around = plain().await;
    let missing = around.registry.reference("test/missing:1");
    let done = run(&around, &["--pull", "never", &missing]);
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("isopod pull"), "{}", text(&done.stderr));
    let done = run(&around, &[&missing]);
    assert!(text(&done.stderr).contains(&missing), "{}", text(&done.stderr));
    let done = run(&around, &["--rm", &around.image, "/no/such/program"]);
    assert!(text(&done.stderr).contains("/no/such/program"), "{}", text(&done.stderr));
    assert_eq!(cli(&around.daemon, &["pods", "-q"]).trim(), "");
}
