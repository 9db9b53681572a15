//! Logs, as the kubelet and people read them.

use cri_api::v1::ReopenContainerLogRequest;
use cri_log::{Record, Records, Stream, Tag};

use crate::around::{WithPod, with_pod};

async fn records<T>(with: &WithPod, id: &str, each: impl Fn(&Record<'_>) -> T) -> Vec<T> {
    let status = with.daemon().status(id).await.unwrap();
    let log = std::fs::read(status.log_path).unwrap();
    Records::new(&log).map(|record| each(&record.unwrap())).collect()
}

#[tokio::test]
async fn both_streams_are_logged_line_by_line() {
    let with = with_pod().await;
    let script = "echo one; echo two >&2; printf 'no end'";
    let (status, _) = with.run(&with.script("main", script)).await;
    let mut all = records(&with, &status.id, |r| {
        (r.stream, r.tag, String::from_utf8_lossy(r.content).into_owned())
    })
    .await;
    all.sort_by_key(|(_, _, text)| text.clone());
    let expected = [
        (Stream::Stdout, Tag::Partial, "no end"),
        (Stream::Stdout, Tag::Full, "one"),
        (Stream::Stderr, Tag::Full, "two"),
    ];
    assert_eq!(all, expected.map(|(stream, tag, text)| (stream, tag, text.to_owned())));
}

#[tokio::test]
async fn a_long_line_is_cut_and_can_be_put_together() {
    let with = with_pod().await;
    let script = "head -c 50000 /dev/zero | tr '\\0' x; echo; echo after";
    let (status, _) = with.run(&with.script("main", script)).await;
    let all = records(&with, &status.id, |r| (r.tag, r.content.len())).await;
    let line: usize = all.iter().map(|(_, len)| len).sum::<usize>() - "after".len();
    assert_eq!(line, 50_000);
    assert!(all.iter().all(|(_, len)| *len <= cri_log::MAX_CONTENT), "{all:?}");
    assert_eq!(all.iter().filter(|(tag, _)| *tag == Tag::Full).count(), 2, "{all:?}");
}

#[tokio::test]
async fn what_a_container_wrote_last_is_in_the_log_when_it_has_ended() {
    let with = with_pod().await;
    for round in 0..10 {
        let script = format!("seq 1 2000; echo last-{round}");
        let (_, logged) = with.run(&with.script(&format!("c{round}"), &script)).await;
        assert_eq!(logged.lines().count(), 2001, "round {round}");
        assert_eq!(logged.lines().last(), Some(format!("last-{round}").as_str()));
    }
}

#[tokio::test]
async fn reopening_loses_and_repeats_nothing() {
    let with = with_pod().await;
    let script = "n=0; while [ $n -lt 3000 ]; do echo line-$n; n=$((n+1)); done";
    let id = with.launch(&with.script("main", script)).await;
    let path = with.daemon().status(&id).await.unwrap().log_path;
    let mut text = String::new();
    for round in 0..5 {
        let rotated = format!("{path}.{round}");
        std::fs::rename(&path, &rotated).unwrap();
        let request = ReopenContainerLogRequest { container_id: id.clone() };
        match with.daemon().runtime().reopen_container_log(request).await {
            // After that nothing is written to the old file any more.
            Ok(_) => text.push_str(&std::fs::read_to_string(&rotated).unwrap()),
            // It may have ended in between: then the old file is the last one.
            Err(_) => {
                text.push_str(&std::fs::read_to_string(&rotated).unwrap());
                break;
            }
        }
    }
    with.daemon().ended(&id).await;
    text.push_str(&std::fs::read_to_string(&path).unwrap_or_default());
    let lines: Vec<&str> = text.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    let expected: Vec<String> = (0..3000).map(|n| format!("line-{n}")).collect();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_container_without_a_log_path_runs() {
    let with = with_pod().await;
    let mut container = with.script("main", "seq 1 100000");
    container.log_path.clear();
    let id = with.launch(&container).await;
    assert_eq!(with.daemon().ended(&id).await.exit_code, 0);
}
