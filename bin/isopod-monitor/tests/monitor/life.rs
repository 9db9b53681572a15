//! A container's life in a real monitor: from its creation to its exit record.

use model::{ExitReason, Signal, State};
use monitor_client::api::{ExitRecord, KillScope};
use monitor_client::{MonitorError, MonitorEvent};
use serde_json::json;

use crate::pod::{Pod, end_of, file_with, lines, within};

#[tokio::test]
async fn a_container_runs_logs_and_ends_and_its_end_is_on_record() {
    let mut pod = Pod::new().await;
    let container = pod.container("one", "echo out; echo err >&2; hostname; exit 3");
    let log = container.log();
    let id = container.create_in(&pod).await.unwrap();
    assert_eq!(within(pod.monitor().hello()).await.unwrap().containers[0].state, State::Created);
    let started_at = within(pod.monitor().start(id.clone())).await.unwrap();
    let exit = pod.end_of(&id).await;
    assert_eq!((exit.code, exit.reason), (3, ExitReason::Error));
    assert!(exit.finished_at >= started_at);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains(" stdout F out\n") && log.contains(" stderr F err\n"), "{log}");
    assert!(log.contains(" stdout F the-pod\n"), "{log}");
    let exits =
        store::Store::open(&pod.dir.path().join(ExitRecord::DIRECTORY), store::Durability::Boot);
    let key = store::Key::parse(id.as_str()).unwrap();
    let record: ExitRecord = exits.unwrap().get(&key).unwrap().unwrap();
    assert_eq!((record.exit, record.started_at), (exit, started_at));
    within(pod.monitor().remove(id.clone())).await.unwrap();
    within(pod.monitor().remove(id)).await.unwrap();
    assert!(within(pod.monitor().hello()).await.unwrap().containers.is_empty());
}

#[tokio::test]
async fn a_program_that_is_not_there_ends_its_container_with_128_and_is_named() {
    let mut pod = Pod::new().await;
    let mut container = pod.container("one", "");
    container.spec["process"]["args"] = json!(["/no/such/program"]);
    let id = container.create_in(&pod).await.unwrap();
    let refused = within(pod.monitor().start(id.clone())).await.unwrap_err();
    assert!(refused.to_string().contains("/no/such/program"), "{refused}");
    let exit = pod.end_of(&id).await;
    assert_eq!((exit.code, exit.reason), (128, ExitReason::StartError));
    assert!(exit.message.contains("/no/such/program"), "{exit:?}");
}

#[tokio::test]
async fn a_container_that_cannot_be_set_up_leaves_nothing_and_can_be_tried_again() {
    let mut pod = Pod::new().await;
    let mut bad = pod.container("one", "true");
    let id = bad.id.clone();
    bad.add_mount(json!({"destination": "/data", "type": "bind", "source": "/no/such/volume", "options": ["rbind"]}));
    let error = bad.create_in(&pod).await.unwrap_err();
    assert!(error.to_string().contains("/no/such/volume"), "{error}");
    assert!(within(pod.monitor().hello()).await.unwrap().containers.is_empty());
    let mut good = pod.container("two", "true");
    good.create.container = id.clone();
    good.id = id.clone();
    pod.run(good).await;
    assert_eq!(pod.end_of(&id).await.reason, ExitReason::Completed);
}

#[tokio::test]
async fn two_containers_share_what_is_the_pods_and_nothing_else() {
    let pod = Pod::new().await;
    let one = pod
        .run(pod.container("one", "echo shared > /dev/shm/word; echo own > /tmp/word; sleep 1000"))
        .await;
    let two = pod.run(pod.container("two", "sleep 1000")).await;
    within(async {
        while pod.exec(&two, &["cat", "/dev/shm/word"]).await != ("shared\n".to_owned(), 0) {}
    })
    .await;
    assert_ne!(pod.exec(&two, &["cat", "/tmp/word"]).await.1, 0);
    let of = |kind: &'static str| {
        let (pod, one, two) = (&pod, one.clone(), two.clone());
        async move {
            let path = format!("/proc/self/ns/{kind}");
            (
                pod.exec(&one, &["readlink", &path]).await.0,
                pod.exec(&two, &["readlink", &path]).await.0,
            )
        }
    };
    for (kind, shared) in [
        ("net", true),
        ("ipc", true),
        ("uts", true),
        ("pid", false),
        ("mnt", false),
        ("cgroup", false),
    ] {
        let (first, second) = of(kind).await;
        assert_eq!(first == second, shared, "{kind}: {first} {second}");
        let hosts = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(first.trim(), hosts.to_str().unwrap(), "{kind}");
    }
}

#[tokio::test]
async fn a_client_that_dies_loses_its_execs_and_nothing_else() {
    let pod = Pod::new().await;
    let container =
        pod.container("one", "trap 'exit 7' TERM; echo up; while true; do sleep 1; done");
    let log = container.log();
    let id = pod.run(container).await;
    file_with(&log, "up").await;
    let directory = pod.dir.path().to_owned();
    let identity = pod.started.identity;
    let connect = || async { within(monitor_client::connect(&directory, identity)).await.unwrap() };
    let (second, events, welcome) = connect().await;
    assert!(matches!(welcome.containers[0].state, State::Running { .. }));
    let (streams, output) = crate::pod::streams();
    let exec = second.exec(id.clone(), vec!["sleep".into(), "1000".into()], streams);
    let exec = within(exec).await.unwrap();
    drop((exec, second, events));
    assert_eq!(
        within(crate::pod::read_all(output)).await,
        "",
        "the exec ended with its connection"
    );
    let (third, mut events, _) = connect().await;
    within(third.kill(id.clone(), Signal::TERM, KillScope::First)).await.unwrap();
    assert_eq!(end_of(&mut events, &id).await.code, 7);
    let wrong = monitor_client::Identity { start_time: identity.start_time + 1, ..identity };
    let error = within(monitor_client::connect(&directory, wrong)).await.unwrap_err();
    assert!(matches!(error, MonitorError::Impostor { .. }), "{error}");
}

#[tokio::test]
async fn killing_all_takes_what_the_first_process_leaves_behind() {
    let mut pod = Pod::with(|setup| setup.shared_pid = true).await;
    let mut container =
        pod.container("one", "(trap '' TERM HUP; echo child; sleep 1000) & sleep 1000");
    container.share_pids();
    let log = container.log();
    let id = pod.run(container).await;
    file_with(&log, "child").await;
    within(pod.monitor().kill(id.clone(), Signal::KILL, KillScope::All)).await.unwrap();
    assert_eq!(pod.end_of(&id).await.code, 137);
    within(pod.monitor().kill(id.clone(), Signal::KILL, KillScope::All)).await.unwrap();
    within(pod.monitor().remove(id)).await.unwrap();
    let hierarchies = cgroups::Hierarchies::detect().unwrap();
    let cgroup = cgroups::Cgroup::at(&hierarchies, &pod.cgroup.join("one").unwrap());
    within(async {
        while cgroup.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_kill_at_its_own_memory_limit_is_told_and_an_ordinary_kill_is_not() {
    let mut pod = Pod::new().await;
    let mut hungry = pod
        .container("hungry", "x=$(dd if=/dev/zero bs=1M count=200 | tr '\\0' x); echo not reached");
    hungry.spec["linux"]["resources"] = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    let id = pod.run(hungry).await;
    let exit = pod.end_of(&id).await;
    assert_eq!((exit.code, exit.reason), (137, ExitReason::OOMKilled), "{exit:?}");
    let mut modest = pod.container("modest", "sleep 1000");
    modest.spec["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}});
    let id = pod.run(modest).await;
    within(pod.monitor().kill(id.clone(), Signal::KILL, KillScope::All)).await.unwrap();
    let exit = pod.end_of(&id).await;
    assert_eq!((exit.code, exit.reason), (137, ExitReason::Error));
}

#[tokio::test]
async fn shutting_down_ends_everything_and_then_the_monitor() {
    let mut pod = Pod::new().await;
    let one = pod.run(pod.container("one", "sleep 1000")).await;
    let two = pod.container("two", "true").create_in(&pod).await.unwrap();
    within(pod.monitor().shut_down()).await.unwrap();
    let mut ended = Vec::new();
    while let Some(MonitorEvent::Exited { container, exit }) =
        within(pod.started.events.recv()).await
    {
        assert_eq!(exit.code, 137);
        ended.push(container);
    }
    ended.sort();
    let mut expected = vec![one, two];
    expected.sort();
    assert_eq!(ended, expected);
}

#[tokio::test]
async fn a_rotated_log_goes_on_and_a_limited_one_drops_lines_and_says_so() {
    let mut pod = Pod::new().await;
    let mut container = pod.container("one", "seq 1 2000; echo last; sleep 1000");
    container.create.log_limits.total_bytes = Some(4000);
    let log = container.log();
    let id = pod.run(container).await;
    file_with(&log, " 10\n").await;
    let rotated = log.with_extension("old");
    std::fs::rename(&log, &rotated).unwrap();
    within(pod.monitor().reopen_log(id.clone())).await.unwrap();
    let dropped =
        || async { within(pod.monitor().hello()).await.unwrap().containers[0].log_lines_dropped };
    let mut count = dropped().await;
    while count < 1900 {
        tokio::task::yield_now().await;
        count = dropped().await;
    }
    within(pod.monitor().kill(id.clone(), Signal::KILL, KillScope::All)).await.unwrap();
    pod.end_of(&id).await;
    let all = std::fs::read_to_string(&rotated).unwrap() + &std::fs::read_to_string(&log).unwrap();
    let kept = lines(&all);
    assert!(all.len() <= 4000, "{}", all.len());
    let count = within(pod.monitor().hello()).await.unwrap().containers[0].log_lines_dropped;
    assert_eq!(kept.len() as u64 + count, 2001);
    assert!(kept.iter().enumerate().all(|(i, line)| *line == (i + 1).to_string()), "{kept:?}");
}

#[tokio::test]
async fn a_container_that_ends_while_its_hooks_run_ends_them_before_it_is_gone() {
    let pod = Pod::new().await;
    let mut container = pod.container("one", "true");
    let at = |name: &str| pod.dir.path().join(name);
    let (hook, state, after) = (at("hook"), at("state"), at("after"));
    let script = |script: String| json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    // What the hook has started is told by the number of a process of its own.
    let running = format!(
        "cat > {}; sleep 1000 & echo $! > {1}.new; mv {1}.new {1}; sleep 1000",
        state.display(),
        hook.display()
    );
    let afterwards = format!(
        "is=alive; for i in $(seq 300); do grep -q sleep /proc/$(cat {})/cmdline || is=dead; \
         [ $is = dead ] && break; sleep 0.01; done; echo $is > {1}.new; mv {1}.new {1}",
        hook.display(),
        after.display()
    );
    container.spec["hooks"] =
        json!({"createRuntime": [script(running)], "poststop": [script(afterwards)]});
    let id = container.id.clone();
    let killed = async {
        file_with(&hook, "\n").await;
        within(pod.monitor().kill(id.clone(), Signal::KILL, KillScope::All)).await.unwrap();
    };
    let (created, ()) = tokio::join!(container.create_in(&pod), killed);
    let refused = created.unwrap_err().to_string();
    assert!(refused.contains("while it was being set up"), "{refused}");
    assert_eq!(file_with(&after, "\n").await, "dead\n", "its hooks outlive it");
    assert!(std::fs::read_to_string(&state).unwrap().contains("creating"));
    assert!(within(pod.monitor().hello()).await.unwrap().containers.is_empty());
}

#[tokio::test]
async fn an_exec_has_the_oom_score_that_its_container_has_by_now() {
    let pod = Pod::new().await;
    let mut container = pod.container("one", "sleep 1000");
    container.spec["process"]["oomScoreAdj"] = json!(300);
    let id = pod.run(container).await;
    let pid = within(pod.monitor().hello()).await.unwrap().containers[0].pid.unwrap();
    // As an update does it.
    std::fs::write(format!("/proc/{pid}/oom_score_adj"), "600").unwrap();
    let said = pod.exec(&id, &["cat", "/proc/self/oom_score_adj"]).await;
    assert_eq!(said, ("600\n".to_owned(), 0));
}
