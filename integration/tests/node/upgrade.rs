//! The program is replaced, the daemon started again, and nothing in its pods notices.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use cri_api::v1::{ContainerState, PodSandboxState};
use testkit::{Daemon, Network};

use crate::around::around;

/// Puts `bytes` in the place of a program, as a package manager does: whole or not at all.
fn replace(place: &Path, bytes: &[u8]) {
    let new = place.with_extension("new");
    let mut file = fs::File::create(&new).unwrap();
    file.write_all(bytes).unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o755)).unwrap();
    drop(file);
    fs::rename(&new, place).unwrap();
}

/// A start that is to fail, and what it says.
fn fails(daemon: &Daemon) -> String {
    let done = daemon.command().stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert!(!done.status.success(), "{:?}", done.status);
    String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout)
}

#[tokio::test]
async fn the_program_is_replaced_under_running_pods_and_a_start_that_fails_harms_nothing() {
    let mut around = around(|setup| setup.network(Network::Bridge)).await;
    let image = around.image.clone();
    let daemon = &mut around.daemon;
    let program = fs::read(daemon.installed()).unwrap();
    // A release has it inside.
    let beside = fs::read(daemon.installed().with_file_name("isopod-monitor")).unwrap();
    daemon.terminate();
    let place = daemon.directory().join("bin");
    fs::create_dir(&place).unwrap();
    daemon.install(&place.join("isopod"));
    replace(daemon.installed(), &program);
    replace(&place.join("isopod-monitor"), &beside);
    daemon.start().await;

    let pod = testkit::pod(daemon, "pod");
    let pod_id = daemon.run_pod(&pod, "").await.unwrap();
    let script = "nc -ll -p 7000 -e /bin/echo there & n=0; while :; do echo line-$n; n=$((n+1)); sleep 0.01; done";
    let container = testkit::container("main", &image, &["sh", "-c", script]);
    let id = daemon.launch(&pod_id, &pod, &container).await.unwrap();
    let before = daemon.status(&id).await.unwrap();
    let pod_before = daemon.pod_status(&pod_id).await.unwrap();
    let monitor = daemon.monitor(&pod_id).unwrap();
    assert!(daemon.terminate().success());

    // A version that cannot even run, then one that does not understand its configuration.
    replace(daemon.installed(), b"#!/bin/sh\necho this is no daemon >&2\nexit 1\n");
    assert!(fails(daemon).contains("this is no daemon"));
    // Another file with other bytes, as the next version is.
    replace(daemon.installed(), &[&program[..], b"the next version"].concat());
    replace(&place.join("isopod-monitor"), &[&beside[..], b"the next version"].concat());
    let drop_in = daemon.directory().join("config.d/90-new.toml");
    fs::write(&drop_in, "[no_such_table]\nkey = 1\n").unwrap();
    let said = fails(daemon);
    assert!(said.contains("no_such_table") && said.contains("90-new.toml"), "{said}");
    fs::remove_file(&drop_in).unwrap();
    let log = Path::new(&before.log_path);
    let lines = || fs::read_to_string(log).unwrap().lines().count();
    let so_far = lines();
    testkit::until("the pod goes on", Duration::from_secs(20), async || {
        (lines() > so_far + 10).then_some(())
    })
    .await;

    daemon.start().await;
    let running = fs::read_link(format!("/proc/{}/exe", daemon.pid())).unwrap();
    assert_eq!(running, daemon.installed());
    assert_eq!(daemon.status(&id).await.unwrap(), before);
    let pod_now = daemon.pod_status(&pod_id).await.unwrap();
    assert_eq!(pod_now, pod_before);
    assert_eq!(pod_now.state(), PodSandboxState::SandboxReady);
    assert_eq!(daemon.monitor(&pod_id), Some(monitor), "the monitor of the version before goes on");
    let done = daemon.exec(&id, &["sh", "-c", "nc 127.0.0.1 7000"]).await.unwrap();
    assert_eq!(&done.stdout[..], b"there\n");
    let next = testkit::pod(daemon, "next");
    let next_id = daemon.run_pod(&next, "").await.unwrap();
    let sleeper = testkit::sleeper("main", &image);
    let next = daemon.launch(&next_id, &next, &sleeper).await.unwrap();
    let state = daemon.status(&next).await.unwrap().state();
    assert_eq!(state, ContainerState::ContainerRunning);
    daemon.stop_container(&id, 0).await.unwrap();
    let text = daemon.logged(&id).await;
    for (n, line) in text.lines().enumerate() {
        assert_eq!(line, format!("line-{n}"), "no line is lost or repeated");
    }
}
