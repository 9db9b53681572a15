//! The audit log.

use cri_api::v1::{
    AttachRequest, ExecRequest, ExecSyncRequest, PortForwardRequest, StopContainerRequest,
};
use serde_json::Value;
use testkit::{Daemon, Network, until};

use crate::around::{WithPod, around};

async fn lines(daemon: &Daemon, name: &str, count: usize) -> Vec<Value> {
    let path = daemon.directory().join(name);
    until("the audit log is written", std::time::Duration::from_secs(30), async || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<Value> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        (lines.len() >= count).then_some(lines)
    })
    .await
}

async fn exec(daemon: &Daemon, container_id: &str, command: &[&str]) -> i32 {
    let cmd = command.iter().map(|word| (*word).to_owned()).collect();
    let request = ExecSyncRequest { container_id: container_id.to_owned(), cmd, timeout: 0 };
    daemon.runtime().exec_sync(request).await.map_or(-1, |done| done.into_inner().exit_code)
}

#[tokio::test]
async fn who_went_into_a_pod_is_written_down_without_what_they_said() {
    let around = around(|setup| {
        let path = setup.directory().join("audit.log").display().to_string();
        setup.network(Network::None).toml(&format!("audit.path = {path:?}"))
    })
    .await;
    let pod = testkit::host_network(testkit::pod(&around.daemon, "pod"));
    let pod_id = around.daemon.run_pod(&pod, "").await.unwrap();
    let with = WithPod { around, pod, pod_id };
    let daemon = with.daemon();
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;

    assert_eq!(exec(daemon, &id, &["sh", "-c", "exit 7 # hunter2"]).await, 7);
    let container_id = id.clone();
    let cmd = vec!["cat".to_owned(), "hunter2".to_owned()];
    let request = ExecRequest { container_id, cmd, stdout: true, ..Default::default() };
    daemon.runtime().exec(request).await.unwrap();
    let request = AttachRequest { container_id: id.clone(), stdout: true, ..Default::default() };
    daemon.runtime().attach(request).await.unwrap();
    let port = vec![80];
    let request = PortForwardRequest { pod_sandbox_id: with.pod_id.clone(), port };
    daemon.runtime().port_forward(request).await.unwrap();
    assert_eq!(exec(daemon, "0123", &["true"]).await, -1);
    let request = StopContainerRequest { container_id: id.clone(), timeout: 0 };
    daemon.runtime().stop_container(request).await.unwrap();

    let all = lines(daemon, "audit.log", 5).await;
    let calls: Vec<&str> = all.iter().map(|line| line["call"].as_str().unwrap()).collect();
    assert_eq!(calls, ["ExecSync", "Exec", "Attach", "PortForward", "ExecSync"]);
    let first = &all[0];
    assert_eq!(first["pid"], std::process::id());
    assert_eq!(first["uid"], 0);
    assert_eq!(first["sandbox"], with.pod_id.as_str());
    let metadata = with.pod.metadata.as_ref().unwrap();
    assert_eq!(first["pod"], format!("{}/{}", metadata.namespace, metadata.name));
    assert_eq!((&first["container"], &first["container_name"]), (&id.into(), &"main".into()));
    assert_eq!((&first["program"], &first["command_bytes"]), (&"sh".into(), &20.into()));
    assert_eq!((&first["result"], &first["exit_code"]), (&"Ok".into(), &7.into()));
    assert_eq!(all[3]["ports"], serde_json::json!([80]));
    assert_eq!(all[4]["result"], "NotFound");
    let text = std::fs::read_to_string(daemon.directory().join("audit.log")).unwrap();
    assert!(!text.contains("hunter2"), "{text}");

    // Rotation: moved away, then a new file after SIGHUP.
    let at = daemon.directory();
    std::fs::rename(at.join("audit.log"), at.join("audit.log.1")).unwrap();
    daemon.hang_up();
    until("there is a new file", std::time::Duration::from_secs(30), async || {
        at.join("audit.log").exists().then_some(())
    })
    .await;
    exec(daemon, "4567", &["true"]).await;
    let all = lines(daemon, "audit.log", 1).await;
    assert_eq!((all.len(), &all[0]["container"]), (1, &"4567".into()));
}
