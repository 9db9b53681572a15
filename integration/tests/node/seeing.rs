//! Answers to "why": explain, timelines, metrics.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use cri_api::v1::Mount;
use testkit::{Compression, Daemon, Layer, Mounted, Network, busybox, until};

use crate::around::{around, plain, text, with_pod};

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a verb that must succeed, and gives what it printed and what it said beside.
fn cli(daemon: &Daemon, args: &[&str]) -> (String, String) {
    let done = daemon.cli(args).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}\n{}", done.status, text(&done.stderr));
    (text(&done.stdout), text(&done.stderr))
}

/// The value of the one series that begins so.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(series));
    let line = line.unwrap_or_else(|| panic!("{series} is not in\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Waits for a file `go` beside it before it says that it cannot.
const PLUGIN: &str = r#"#!/bin/sh
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
ADD)
  while [ ! -e "${0%/*}/go" ]; do sleep 0.02; done
  echo '{"cniVersion":"1.0.0","code":11,"msg":"no free address"}'
  exit 1 ;;
esac
"#;

#[tokio::test]
async fn a_pod_that_waits_for_a_plugin_says_so_and_its_failure_is_remembered() {
    let mut plugins = std::path::PathBuf::new();
    let around = around(|setup| {
        plugins = setup.directory().join("plugins");
        std::fs::create_dir(&plugins).unwrap();
        let program = plugins.join("slow");
        std::fs::write(&program, PLUGIN).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let list = r#"{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"slow"}]}"#;
        let dirs = format!("network.cni.plugin_dirs = [{:?}]", plugins.display().to_string());
        setup.cni(list).network(Network::Cni).toml(&dirs)
    })
    .await;
    let daemon = &around.daemon;
    let pod = testkit::pod(daemon, "stuck");
    let mut runtime = daemon.runtime();
    let request = cri_api::v1::RunPodSandboxRequest {
        config: Some(pod.clone()),
        runtime_handler: String::new(),
    };
    let run = tokio::spawn(async move { runtime.run_pod_sandbox(request).await });
    let said = until("the plugin runs", PATIENCE, async || {
        let done = daemon.cli(&["explain", "tests/stuck"]).output().unwrap();
        let said = String::from_utf8(done.stdout).unwrap();
        said.contains("slow ADD").then_some(said)
    })
    .await;
    assert!(said.contains("RunPodSandbox tests/stuck"), "{said}");
    assert!(said.contains("it is at: network, since"), "{said}");
    assert!(said.contains("    asked: the default handler, a network of its own"), "{said}");
    assert!(said.contains(&format!("(pid {}, uid 0)", std::process::id())), "{said}");
    let (json, _) = cli(daemon, &["explain", "tests/stuck", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let number = json["operations"][0]["id"].to_string();
    assert_eq!(json["operations"][0]["phase"], "network");
    assert!(cli(daemon, &["explain", &number]).0.contains("tests/stuck"));

    std::fs::write(plugins.join("go"), "").unwrap();
    let refused = run.await.unwrap().unwrap_err();
    assert!(refused.message().contains("no free address"), "{refused}");
    let (said, _) = cli(daemon, &["explain", "tests/stuck"]);
    assert!(said.contains("nothing is being done to it now"), "{said}");
    let failed = said.split_once("what failed of late:").unwrap().1;
    assert!(failed.contains("no free address"), "{said}");
    assert!(failed.contains("s ago after ") && failed.contains(" ms  network\n"), "{said}");
    assert!(failed.contains(&format!("(pid {}, uid 0)", std::process::id())), "{said}");
    assert!(cli(daemon, &["operations", "--all"]).0.contains("(failed)"));
    let (metrics, _) = cli(daemon, &["metrics"]);
    let series = "isopod_plugin_seconds_count{plugin=\"slow\",verb=\"ADD\",outcome=\"failure\"}";
    assert!(value(&metrics, series) >= 1.0, "{metrics}");

    let done = daemon.cli(&["explain", "no/such/thing"]).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    let said = text(&done.stderr);
    assert!(said.contains("no sandbox, container or operation"), "{said}");
}

#[tokio::test]
async fn a_container_is_explained_its_stop_has_a_timeline_and_its_lines_are_counted() {
    let with = with_pod().await;
    let daemon = with.daemon();
    with.output(&with.script("short", "echo one; echo two; echo three")).await;
    with.launch(&testkit::sleeper("main", &with.around.image)).await;
    let (said, _) = cli(daemon, &["explain", "main"]);
    for part in
        ["container tests/pod/main", ": Running", "asked for by", " create", "StartContainer"]
    {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    let (said, _) = cli(daemon, &["explain", "pod"]);
    for part in
        ["sandbox tests/pod", "short Exited (0, Completed)", "main Running", "RunPodSandbox"]
    {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    let (metrics, _) = cli(daemon, &["metrics"]);
    assert!(value(&metrics, "isopod_log_lines_total") >= 3.0, "{metrics}");
    assert!(value(&metrics, "isopod_log_bytes_total") >= 100.0, "{metrics}");
    assert!(value(&metrics, "isopod_monitors_memory_bytes") >= 50_000.0, "{metrics}");
    assert!(value(&metrics, "isopod_unpacked_layers_total") >= 1.0, "{metrics}");
    assert!((value(&metrics, "isopod_leaks_found_total{found=\"pod\"}")).abs() < 0.5, "{metrics}");
    let (of_pods, _) = cli(daemon, &["metrics", "--pods"]);
    assert!(of_pods.contains("# TYPE container_cpu_usage_seconds_total counter"), "{of_pods}");
    assert!(of_pods.lines().any(|l| l.contains("container=\"main\"") && l.contains("pod=\"pod\"")));

    let (_, timeline) = cli(daemon, &["--timeline", "stop", "main"]);
    assert!(timeline.contains("StopContainer tests/pod/main: "), "{timeline}");
    assert!(timeline.contains('█') && timeline.contains(" ms  "), "{timeline}");

    // An exec is no operation, and has a timeline all the same.
    with.launch(&testkit::sleeper("again", &with.around.image)).await;
    let (_, timeline) = cli(daemon, &["--timeline", "exec", "again", "true"]);
    let has = |of: &str, part: &str| of.lines().any(|line| line.ends_with(part));
    assert!(timeline.contains("Exec tests/pod/again: "), "{timeline}");
    assert!(has(&timeline, "  exec") && has(&timeline, "  run"), "{timeline}");
    let timed = ["--timeline", "exec", "--timeout", "60", "again", "true"];
    let (_, timeline) = cli(daemon, &timed);
    assert!(timeline.contains("ExecSync tests/pod/again: "), "{timeline}");
    assert!(has(&timeline, "  run"), "{timeline}");
    // One that nobody asks about leaves nothing behind.
    cli(daemon, &["exec", "--timeout", "60", "again", "true"]);
    let (all, _) = cli(daemon, &["operations", "--all"]);
    assert_eq!(all.lines().filter(|line| line.contains("ExecSync")).count(), 1, "{all}");
}

#[tokio::test]
async fn what_hangs_is_named_a_path_or_a_monitor() {
    let with = with_pod().await;
    let daemon = with.daemon();
    let volume = daemon.directory().join("volume");
    // What is asked of the file system is what is below its root.
    let deep = volume.join("deep");
    std::fs::create_dir_all(&deep).unwrap();
    let hung = Mounted::hung(&volume);
    let bind = |source: &std::path::Path, at: &str| Mount {
        host_path: source.display().to_string(),
        container_path: at.to_owned(),
        ..Default::default()
    };
    let mut first = testkit::sleeper("first", &with.around.image);
    first.mounts = vec![bind(daemon.directory(), "/a"), bind(&deep, "/b")];
    let creation = |container: &cri_api::v1::ContainerConfig| {
        let request = testkit::create_request(&with.pod_id, &with.pod, container);
        let mut runtime = daemon.runtime();
        tokio::spawn(async move { runtime.create_container(request).await })
    };
    let waits_for = async |object: &str, on: &str| {
        until(on, PATIENCE, async || {
            let done = daemon.cli(&["explain", object]).output().unwrap();
            text(&done.stdout).contains(&format!("it waits for {on}: ")).then_some(())
        })
        .await;
    };
    let hangs = creation(&first);
    waits_for("tests/pod/first", &format!("{} (mounts[1].host_path)", deep.display())).await;
    drop(hung);
    let failed = hangs.await.unwrap().unwrap_err();
    assert!(failed.message().contains(": host paths: "), "{failed}");

    let monitor = daemon.monitor(&with.pod_id).unwrap().to_string();
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &monitor]).status().unwrap().success());
    };
    signal("-STOP");
    let creation = creation(&testkit::sleeper("second", &with.around.image));
    waits_for("tests/pod/second", &format!("the monitor (pid {monitor})")).await;
    signal("-CONT");
    creation.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_asked_is_known_after_a_restart_and_a_name_of_two_is_refused() {
    let mut with = with_pod().await;
    let own = format!("(pid {}, uid 0)", std::process::id());
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;
    let other = testkit::host_network(testkit::pod(with.daemon(), "other"));
    let other_id = with.daemon().run_pod(&other, "").await.unwrap();
    let main = testkit::sleeper("main", &with.around.image);
    with.daemon().launch(&other_id, &other, &main).await.unwrap();
    let refused = with.daemon().cli(&["explain", "main"]).output().unwrap();
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("tests/other/main (") && said.contains("tests/pod/main ("), "{said}");

    cli(with.daemon(), &["stop", &id]);
    let by_us = |said: &str| {
        let line = said.lines().find(|line| line.starts_with("asked for by ")).unwrap();
        assert!(line.ends_with(&own), "{said}");
    };
    let (said, _) = cli(with.daemon(), &["explain", "pod"]);
    by_us(&said);
    let stop = said.lines().find(|line| line.contains("StopContainer tests/pod/main: done in"));
    assert!(stop.is_some_and(|line| line.contains(", by isopod (pid ")), "{said}");
    assert!(said.contains("\n    in ms: signal "), "{said}");
    with.around.daemon.kill();
    with.around.daemon.start().await;
    for object in ["pod", "pod/main"] {
        by_us(&cli(with.daemon(), &["explain", object]).0);
    }
    let (said, _) = cli(with.daemon(), &["explain", "pod/main"]);
    let asked = format!("what was asked: image {}, command sh -c ", with.around.image);
    assert!(said.contains(&asked), "{said}");
}

#[tokio::test]
async fn a_pull_is_told_with_its_layers_and_all_their_phases() {
    let around = plain().await;
    let daemon = &around.daemon;
    let layer = Layer::new().file("extra", 0o644, b"extra").build(Compression::Gzip);
    around.registry.push(&busybox(Compression::Gzip).layer(layer), "test/extra:1");
    let image = around.registry.reference("test/extra:1");
    let (_, timeline) = cli(daemon, &["--timeline", "pull", &image]);
    let (said, _) = cli(daemon, &["explain", &image]);
    for part in ["PullImage ", "PullLayer sha256:", "resolve", "connect", "fetch and unpack"] {
        assert!(timeline.contains(part), "{part:?} is not in\n{timeline}");
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    let missing = around.registry.reference("test/none:1");
    assert!(!daemon.cli(&["pull", &missing]).output().unwrap().status.success());
    let (said, _) = cli(daemon, &["explain", &missing]);
    let failed = said.split_once("what failed of late:").unwrap().1;
    assert!(failed.contains(", by isopod (pid ") && failed.contains(" ms  resolve\n"), "{said}");
}
