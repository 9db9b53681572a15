//! The daemon dies, and nothing in its pods notices.

use std::process::Stdio;
use std::time::Duration;

use cri_api::v1::{ContainerState, PodSandboxState};
use testkit::Network;

use crate::around::{Gate, around, with_pod};

#[tokio::test]
async fn containers_run_and_log_while_the_daemon_is_dead() {
    let mut with = with_pod().await;
    let counts = "n=0; while :; do echo line-$n; n=$((n+1)); sleep 0.01; done";
    let runs = with.launch(&with.script("runs", counts)).await;
    let gate = Gate::new(with.daemon());
    let ends = with.launch(&with.behind(&gate, "ends", 33)).await;
    let log = with.daemon().status(&runs).await.unwrap().log_path;
    let ends_log = with.daemon().status(&ends).await.unwrap();
    assert_eq!(ends_log.state(), ContainerState::ContainerRunning);

    with.around.daemon.kill();
    let lines = || std::fs::read_to_string(&log).unwrap().lines().count();
    let at_death = lines();
    gate.open();
    testkit::until("the log grows without a daemon", Duration::from_secs(20), async || {
        (lines() > at_death + 50).then_some(())
    })
    .await;
    let between = now();
    with.around.daemon.start().await;

    let daemon = with.daemon();
    let pod = daemon.pod_status(&with.pod_id).await.unwrap();
    assert_eq!(pod.state(), PodSandboxState::SandboxReady);
    let status = daemon.ended(&ends).await;
    assert_eq!(status.exit_code, 33, "{status:?}");
    assert!(status.finished_at < between, "it ended before the daemon was there again");
    let status = daemon.status(&runs).await.unwrap();
    assert_eq!(status.state(), ContainerState::ContainerRunning);
    let done = daemon.exec(&runs, &["echo", "still here"]).await.unwrap();
    assert_eq!(&done.stdout[..], b"still here\n");
    daemon.stop_container(&runs, 0).await.unwrap();
    let text = daemon.logged(&runs).await;
    for (n, line) in text.lines().enumerate() {
        assert_eq!(line, format!("line-{n}"), "no line is lost or repeated");
    }
}

#[tokio::test]
async fn a_daemon_that_is_told_to_end_leaves_its_pods() {
    let mut with = with_pod().await;
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;
    let before = with.daemon().status(&id).await.unwrap();
    assert!(with.around.daemon.terminate().success());
    with.around.daemon.start().await;
    let after = with.daemon().status(&id).await.unwrap();
    assert_eq!(before, after);
    let image = with.daemon().pull(&with.around.image).await.unwrap();
    assert_eq!(image, after.image_id);
}

#[tokio::test]
async fn addresses_and_ports_outlive_the_daemon() {
    let mut around = around(|setup| setup.network(Network::Bridge)).await;
    let pod = testkit::pod(&around.daemon, "pod");
    let id = around.daemon.run_pod(&pod, "").await.unwrap();
    let before = around.daemon.pod_status(&id).await.unwrap();
    around.daemon.kill();
    around.daemon.start().await;
    assert_eq!(around.daemon.pod_status(&id).await.unwrap(), before);
    let other = around.daemon.run_pod(&testkit::pod(&around.daemon, "other"), "").await.unwrap();
    let other = around.daemon.pod_status(&other).await.unwrap();
    assert_ne!(other.network, before.network, "an address in use is not given again");
}

#[tokio::test]
async fn a_daemon_killed_in_the_middle_of_its_work_recovers() {
    let mut with = with_pod().await;
    // Killed at ten places of the way to a pod that runs, whichever they are.
    for round in 0..10_u32 {
        let pod = testkit::host_network(testkit::pod(with.daemon(), &format!("round-{round}")));
        let container = testkit::sleeper("main", &with.around.image);
        {
            let daemon = &with.around.daemon;
            let work = async {
                let id = daemon.run_pod(&pod, "").await?;
                daemon.launch(&id, &pod, &container).await
            };
            // Not a wait for anything: the place of the cut.
            let cut = tokio::time::sleep(Duration::from_millis(u64::from(round) * 4));
            tokio::select! {
                _ = work => {}
                () = cut => {}
            }
        }
        with.around.daemon.kill();
        with.around.daemon.start().await;
        // What was begun can be done again, whatever was left.
        let daemon = &with.around.daemon;
        let id = daemon.run_pod(&pod, "").await.unwrap();
        let container = daemon.create(&id, &pod, &container).await.unwrap();
        if daemon.status(&container).await.unwrap().state() == ContainerState::ContainerCreated {
            daemon.start_container(&container).await.unwrap();
        }
        let status = daemon.status(&container).await.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerRunning, "round {round}: {status:?}");
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_nanos()).unwrap()
}

#[tokio::test]
async fn a_call_that_loses_its_daemon_says_what_may_have_happened() {
    let mut with = with_pod().await;
    let daemon = with.daemon();
    let id = with.launch(&with.script("c", "sleep 1000000")).await;
    let mut asks = daemon.cli(&["exec", "--timeout", "60", &id, "sleep", "987654"]);
    let asks = asks.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    testkit::until("the exec runs", Duration::from_secs(20), async || {
        let seen = daemon.cli(&["exec", &id, "ps"]).output().unwrap();
        String::from_utf8_lossy(&seen.stdout).contains("sleep 987654").then_some(())
    })
    .await;
    with.around.daemon.kill();
    let said = asks.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(1), "{text}");
    assert!(text.contains("connection to the runtime was lost"), "{text}");
    assert!(text.contains("may have been done"), "{text}");
    with.around.daemon.start().await;
}
