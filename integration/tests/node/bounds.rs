//! What one client, or one pod, may have at once.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use cri_api::v1::{
    ContainerStatusRequest, GetEventsRequest, RemoveContainerRequest, VersionRequest,
};
use testkit::{Daemon, Mounted, Network, Setup, until};
use tonic::Code;

use crate::around::{WithPod, around, with_pod};

const PATIENCE: Duration = Duration::from_secs(30);

/// Another process asks for the version.
fn others_are_served(daemon: &Daemon) {
    let done = daemon.cli(&["version"]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
}

#[tokio::test]
async fn whoever_opens_too_many_connections_loses_its_own() {
    testkit::isolate_network();
    let daemon =
        Setup::new().toml("limits.connections = 64\nlimits.handshake = \"10m\"").start().await;
    let mut all: Vec<UnixStream> = Vec::new();
    for _ in 0..300 {
        // A backlog that is full for a moment is no refusal.
        let connection =
            until("a connection", PATIENCE, async || UnixStream::connect(daemon.socket()).ok())
                .await;
        all.push(connection);
    }
    others_are_served(&daemon);
    // The oldest ones have made room; the last one is still there.
    let mut oldest = all.swap_remove(0);
    oldest.set_read_timeout(Some(PATIENCE)).unwrap();
    // What the server said first, then the end.
    let ended = oldest.read_to_end(&mut Vec::new());
    assert!(!matches!(&ended, Err(e) if e.kind() == ErrorKind::WouldBlock), "{ended:?}");
    let count = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    assert!(count < 200, "{count} descriptors");
    drop(all);
    daemon.runtime().version(VersionRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_never_begins_is_closed() {
    testkit::isolate_network();
    let daemon = Setup::new().toml("limits.handshake = \"200ms\"").start().await;
    let mut silent = UnixStream::connect(daemon.socket()).unwrap();
    let mut slow = UnixStream::connect(daemon.socket()).unwrap();
    slow.write_all(b"PRI * HTTP").unwrap();
    for connection in [&mut silent, &mut slow] {
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut said = Vec::new();
        // Whatever it says first, it ends.
        let _ = connection.read_to_end(&mut said);
        let gone = connection.read(&mut [0; 1]);
        assert!(
            !matches!(&gone, Err(e) if e.kind() == ErrorKind::WouldBlock),
            "still open: {gone:?}"
        );
    }
    others_are_served(&daemon);
}

#[tokio::test]
async fn subscribers_have_places_of_their_own() {
    testkit::isolate_network();
    let daemon = Setup::new().toml("limits.event_streams = 6").start().await;
    let mut runtime = daemon.runtime();
    let mut kept = Vec::new();
    for _ in 0..3 {
        kept.push(runtime.get_container_events(GetEventsRequest {}).await.unwrap());
    }
    let refused = runtime.get_container_events(GetEventsRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("one process may have 3"), "{refused}");
    runtime.version(VersionRequest::default()).await.unwrap();
    drop(kept);
    until("their places are free again", PATIENCE, async || {
        runtime.get_container_events(GetEventsRequest {}).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_keeps_too_many_dead_containers_gets_no_more() {
    let around =
        around(|setup| setup.network(Network::None).toml("pods.dead_containers = 2")).await;
    let daemon = &around.daemon;
    let pod = testkit::host_network(testkit::pod(daemon, "pod"));
    let pod_id = daemon.run_pod(&pod, "").await.unwrap();
    let mut dead = Vec::new();
    for name in ["one", "two"] {
        let container = testkit::container(name, &around.image, &["true"]);
        dead.push(daemon.run_to_end(&pod_id, &pod, &container).await.0.id);
    }
    let third = testkit::container("three", &around.image, &["true"]);
    let refused = daemon.create(&pod_id, &pod, &third).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("pods.dead_containers"), "{refused}");
    let request = RemoveContainerRequest { container_id: dead.remove(0) };
    daemon.runtime().remove_container(request).await.unwrap();
    daemon.create(&pod_id, &pod, &third).await.unwrap();
}

#[tokio::test]
async fn a_size_of_the_writable_layer_that_cannot_be_kept_is_refused_or_told() {
    // A file system in memory has no project quotas.
    let disk = Mounted::disk("64m");
    let root = disk.path().join("root");
    let limits = "[pods]\nwritable_size = \"24MiB\"\n";
    let around = around(|setup| setup.network(Network::None).root(&root).toml(limits)).await;
    let pod = testkit::host_network(testkit::pod(&around.daemon, "pod"));
    let pod_id = around.daemon.run_pod(&pod, "").await.unwrap();
    let with = WithPod { around, pod, pod_id };
    let daemon = with.daemon();
    let mut container = with.script("main", "exec sleep 1000");
    for (size, code, told) in [
        ("much", Code::InvalidArgument, "bytes such as"),
        ("25Mi", Code::InvalidArgument, "at most 25165824"),
        ("8Mi", Code::FailedPrecondition, "has no project quotas"),
    ] {
        container.annotations.insert("isopod.dev/writable-size".to_owned(), size.to_owned());
        let refused = daemon.create(&with.pod_id, &with.pod, &container).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains("isopod.dev/writable-size"), "{refused}");
        assert!(refused.message().contains(told), "{refused}");
    }
    container.annotations.clear();
    let id = with.launch(&container).await;
    let request = ContainerStatusRequest { container_id: id, verbose: true };
    let status = daemon.runtime().container_status(request).await.unwrap().into_inner();
    let info: serde_json::Value = serde_json::from_str(&status.info["info"]).unwrap();
    let told = info["warnings"][0].as_str().unwrap_or_default();
    assert!(told.starts_with("pods.writable_size is not kept"), "{info}");
    assert!(daemon.log().contains("writable layers are not limited"));
}

#[tokio::test]
async fn an_annotation_bounds_what_a_container_logs() {
    let with = with_pod().await;
    let daemon = with.daemon();
    let mut container = with.script("main", "seq 1 2000; exec sleep 1000");
    let annotations = &mut container.annotations;
    annotations.insert("isopod.dev/log-total".to_owned(), "much".to_owned());
    let refused = daemon.create(&with.pod_id, &with.pod, &container).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("isopod.dev/log-total"), "{refused}");

    let annotations = &mut container.annotations;
    annotations.insert("isopod.dev/log-total".to_owned(), "1Ki".to_owned());
    let id = with.launch(&container).await;
    let dropped = until("lines are dropped", PATIENCE, async || {
        let request = ContainerStatusRequest { container_id: id.clone(), verbose: true };
        let status = daemon.runtime().container_status(request).await.unwrap().into_inner();
        let info: serde_json::Value = serde_json::from_str(&status.info["info"]).unwrap();
        info["logLines"]["dropped"].as_u64().filter(|dropped| *dropped > 1000)
    })
    .await;
    assert!(dropped < 2000, "some were logged");
    let logged = daemon.logged(&id).await;
    assert!(logged.starts_with("1\n2\n") && logged.len() < 2048, "{}", logged.len());
}
