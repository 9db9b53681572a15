//! ExecSync.

use std::time::{Duration, Instant};

use cri_api::v1::ExecSyncRequest;
use tonic::Code;

use crate::around::with_pod;

#[tokio::test]
async fn output_error_output_and_exit_code_come_apart() {
    let with = with_pod().await;
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;
    let done =
        with.daemon().exec(&id, &["sh", "-c", "echo out; echo err >&2; exit 7"]).await.unwrap();
    assert_eq!(
        (&done.stdout[..], &done.stderr[..], done.exit_code),
        (&b"out\n"[..], &b"err\n"[..], 7)
    );
    let done = with.daemon().exec(&id, &["sh", "-c", "kill -9 $$"]).await.unwrap();
    assert_eq!(done.exit_code, 137);
}

#[tokio::test]
async fn an_exec_is_in_the_containers_surroundings() {
    let with = with_pod().await;
    let mut container = testkit::sleeper("main", &with.around.image);
    container.working_dir = "/tmp".to_owned();
    let security = container.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    security.run_as_user = Some(cri_api::v1::Int64Value { value: 1000 });
    security.no_new_privs = true;
    let id = with.launch(&container).await;
    let script = "pwd; id -u; echo $FROM_IMAGE; grep -E '^(NoNewPrivs|Seccomp|CapEff)' /proc/self/status; cat /proc/1/cmdline | tr '\\0' ' '";
    let done = with.daemon().exec(&id, &["sh", "-c", script]).await.unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.starts_with("/tmp\n1000\nyes\n"), "{said}");
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000"] {
        assert!(said.lines().any(|l| l == line), "{line:?} is not in {said}");
    }
    assert!(said.contains("trap"), "process 1 is the container's own: {said}");
}

#[tokio::test]
async fn a_time_limit_kills_the_command_and_its_children() {
    let with = with_pod().await;
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;
    let request = ExecSyncRequest {
        container_id: id.clone(),
        cmd: ["sh", "-c", "sleep 4242 & sleep 4242"].map(str::to_owned).to_vec(),
        timeout: 1,
    };
    let begun = Instant::now();
    let status = with.daemon().runtime().exec_sync(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(begun.elapsed() >= Duration::from_secs(1));
    testkit::until("the children are gone", Duration::from_secs(10), async || {
        let done = with.daemon().exec(&id, &["ps", "-o", "args"]).await.unwrap();
        (!String::from_utf8_lossy(&done.stdout).contains("4242")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_grandchild_with_the_pipe_open_does_not_hold_the_answer() {
    let with = with_pod().await;
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;
    let begun = Instant::now();
    let done = with.daemon().exec(&id, &["sh", "-c", "sleep 600 & echo done"]).await.unwrap();
    assert_eq!((&done.stdout[..], done.exit_code), (&b"done\n"[..], 0));
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn much_output_is_whole_and_endless_output_is_cut() {
    let with = with_pod().await;
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;
    let done = with.daemon().exec(&id, &["dd", "if=/dev/zero", "bs=1M", "count=5"]).await.unwrap();
    assert_eq!(done.stdout.len(), 5 << 20);
    let done = with.daemon().exec(&id, &["sh", "-c", "dd if=/dev/zero bs=1M count=20 2>/dev/null"]);
    let done = done.await.unwrap();
    assert!(done.stdout.len() <= cri_api::MAX_EXEC_OUTPUT_BYTES, "{}", done.stdout.len());
}

#[tokio::test]
async fn many_at_once_are_all_answered() {
    let with = with_pod().await;
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;
    let words: Vec<String> = (0..32).map(|n| n.to_string()).collect();
    let all = words.iter().map(async |word| with.daemon().exec(&id, &["echo", word]).await);
    for (word, done) in words.iter().zip(futures_util::future::join_all(all).await) {
        assert_eq!(String::from_utf8_lossy(&done.unwrap().stdout).trim(), word);
    }
}

/// The cgroup of an exec, below the container's.
async fn seat(daemon: &testkit::Daemon, id: &str, then: &str) -> String {
    let script = format!("cat /proc/self/cgroup; {then}");
    let done = daemon.exec(id, &["sh", "-c", &script]).await.unwrap();
    assert_eq!(done.exit_code, 0, "{done:?}");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let at = said.find("/exec-").unwrap_or_else(|| panic!("no cgroup of its own in {said}"));
    said[at + 1..].lines().next().unwrap().to_owned()
}

/// The directories of execs' cgroups.
fn seats(daemon: &testkit::Daemon) -> Vec<String> {
    let path = format!("*{}*/exec-*", daemon.cgroup());
    let mut find = std::process::Command::new("find");
    let found = find.args(["/sys/fs/cgroup", "-type", "d", "-path", &path]).output().unwrap();
    String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect()
}

async fn until_none_is_kept(daemon: &testkit::Daemon) {
    testkit::until("no place is kept", Duration::from_secs(20), async || {
        seats(daemon).is_empty().then_some(())
    })
    .await;
}

/// Executes until a place is kept: one in which whoever entered is about to end still is not, and is there for some
/// moments more.
async fn until_one_is_kept(daemon: &testkit::Daemon, id: &str) {
    testkit::until("a place is kept", Duration::from_secs(20), async || {
        seat(daemon, id, "").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        (seats(daemon).len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn execs_take_the_place_of_the_one_before_unless_that_left_somebody_there() {
    let with = with_pod().await;
    let daemon = with.daemon();
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;
    // Whoever entered for an exec may be about to end still when the exec has ended.
    testkit::until("two in a row have one place", Duration::from_secs(20), async || {
        (seat(daemon, &id, "").await == seat(daemon, &id, "").await).then_some(())
    })
    .await;
    let meet = |own: &str, other: &str| {
        format!("touch /tmp/{own}; while [ ! -e /tmp/{other} ]; do sleep 0.05; done")
    };
    let (one, other) = (meet("one", "other"), meet("other", "one"));
    let (one, other) = tokio::join!(seat(daemon, &id, &one), seat(daemon, &id, &other));
    assert_ne!(one, other, "two at once are apart");
    // Whoever is left behind is killed, and looked for until it is gone; the next one is somebody else.
    let left = seat(daemon, &id, "(trap '' TERM; exec sleep 4243) & true").await;
    let next = seat(daemon, &id, "sleep 1; echo alive").await;
    assert_ne!(next, left);
    testkit::until("who was left is gone", Duration::from_secs(20), async || {
        let done = daemon.exec(&id, &["ps", "-o", "args"]).await.unwrap();
        (!String::from_utf8_lossy(&done.stdout).contains("4243")).then_some(())
    })
    .await;
    let request = cri_api::v1::StopContainerRequest { container_id: id.clone(), timeout: 0 };
    daemon.runtime().stop_container(request).await.unwrap();
    until_none_is_kept(daemon).await;
}

#[tokio::test]
async fn a_place_that_was_killed_or_replaced_harms_no_exec_but_its_own() {
    let with = with_pod().await;
    let daemon = with.daemon();
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;
    for _ in 0..3 {
        let request = ExecSyncRequest {
            container_id: id.clone(),
            cmd: ["sleep", "4244"].map(str::to_owned).to_vec(),
            timeout: 1,
        };
        let status = daemon.runtime().exec_sync(request).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        for _ in 0..5 {
            seat(daemon, &id, "").await;
        }
    }
    until_one_is_kept(daemon, &id).await;
    for is_made_again in [false, true] {
        let kept = seats(daemon).remove(0);
        std::fs::remove_dir(&kept).unwrap();
        if is_made_again {
            std::fs::create_dir(&kept).unwrap();
        }
        for _ in 0..3 {
            let now = seat(daemon, &id, "").await;
            assert!(!kept.ends_with(&format!("/{now}")), "{now} is kept as {kept}");
        }
        if is_made_again {
            std::fs::remove_dir(&kept).unwrap();
        }
        until_one_is_kept(daemon, &id).await;
    }
    // Somebody makes cgroups in it.
    let below = format!("{}/below", seats(daemon).remove(0));
    std::fs::create_dir(&below).unwrap();
    seat(daemon, &id, "").await;
    std::fs::remove_dir(&below).unwrap();
}

#[tokio::test]
async fn what_cannot_be_executed_is_told() {
    let with = with_pod().await;
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;
    match with.daemon().exec(&id, &["/no/such/program"]).await {
        Err(status) => assert!(status.message().contains("/no/such/program"), "{status}"),
        Ok(done) => {
            assert!([126, 127].contains(&done.exit_code), "{done:?}");
            assert!(String::from_utf8_lossy(&done.stderr).contains("/no/such/program"), "{done:?}");
        }
    }
    let (ended, _) = with.run(&with.script("ended", "true")).await;
    let status = with.daemon().exec(&ended.id, &["true"]).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
}
