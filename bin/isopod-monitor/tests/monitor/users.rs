//! Pods with a user namespace.

use std::os::unix::fs::MetadataExt as _;

use model::IdMapping;
use monitor_client::api::Users;
use serde_json::json;

use crate::pod::{Pod, file_with, lines};

const BASE: u32 = 700_000;

fn mapping() -> Vec<IdMapping> {
    vec![IdMapping { container_id: 0, host_id: BASE, length: 65_536 }]
}

async fn pod() -> Pod {
    Pod::with(|setup| setup.users = Some(Users { uids: mapping(), gids: mapping() })).await
}

#[tokio::test]
async fn root_inside_is_nobody_outside_and_owns_what_the_image_has() {
    let mut pod = pod().await;
    let script = "id -u; cat /proc/self/uid_map | tr -s ' '; stat -c '%u %n' / /bin/sh /dev/null /dev /proc/self/ \
        /dev/shm; touch /tmp/new; stat -c %u /tmp/new; mount -t tmpfs none /root 2>/dev/null && echo mounted; \
        cat /proc/sys/kernel/hostname > /dev/null; echo x > /dev/null && echo written; touch /dev/shm/y && echo shm; \
        chown 5 /tmp/new && stat -c %u /tmp/new";
    let container = pod.container("one", script);
    let (log, upper) = (container.log(), container.create.rootfs.upper.clone().unwrap().0);
    let id = pod.run(container).await;
    assert_eq!(pod.end_of(&id).await.code, 0, "{}", std::fs::read_to_string(&log).unwrap());
    let log = std::fs::read_to_string(log).unwrap();
    let seen = lines(&log);
    let map = format!(" 0 {BASE} 65536");
    assert_eq!(
        seen,
        [
            "0",
            &map,
            "0 /",
            "0 /bin/sh",
            "0 /dev/null",
            "0 /dev",
            "0 /proc/self/",
            "0 /dev/shm",
            "0",
            "written",
            "shm",
            "5"
        ],
        "{log}"
    );
    assert_eq!(std::fs::metadata(upper.join("tmp/new")).unwrap().uid(), BASE + 5);
}

#[tokio::test]
async fn an_exec_is_in_the_same_user_namespace() {
    let pod = pod().await;
    let id = pod.run(pod.container("one", "sleep 1000")).await;
    let (own, _) = pod.exec(&id, &["readlink", "/proc/1/ns/user"]).await;
    let (execs, _) = pod.exec(&id, &["readlink", "/proc/self/ns/user"]).await;
    assert_eq!(own, execs);
    let hosts = std::fs::read_link("/proc/self/ns/user").unwrap();
    assert_ne!(own.trim(), hosts.to_str().unwrap());
    let pid = pod.exec(&id, &["id", "-u"]).await;
    assert_eq!(pid, ("0\n".to_owned(), 0));
}

#[tokio::test]
async fn its_network_belongs_to_it_so_that_its_root_binds_low_ports() {
    let pod = pod().await;
    assert!(
        pod.started.netns.is_some(),
        "the monitor hands over the network namespace that it has made"
    );
    let script = "nc -l -p 80 -e true & until cat /proc/net/tcp /proc/net/tcp6 | grep -q ':0050 .* 0A '; do \
        sleep 0.05; done; echo bound; sleep 1000";
    let container = pod.container("one", script);
    let log = container.log();
    let _id = pod.run(container).await;
    file_with(&log, "bound").await;
}

#[tokio::test]
async fn a_volume_shows_its_ids_as_the_pods_where_it_is_asked_to() {
    let mut pod = pod().await;
    let volume = tempfile::tempdir().unwrap();
    std::fs::write(volume.path().join("file"), "").unwrap();
    let mut container = pod.container(
        "one",
        "stat -c %u /mapped/file /plain/file; touch /mapped/new; stat -c %u /mapped/new",
    );
    let map = json!([{"containerID": 0, "hostID": BASE, "size": 65536}]);
    container.add_mount(json!({"destination": "/mapped", "type": "bind", "source": volume.path(),
        "options": ["rbind"], "uidMappings": map, "gidMappings": map}));
    container.add_mount(json!({"destination": "/plain", "type": "bind", "source": volume.path(), "options": ["rbind"]}));
    let log = container.log();
    let id = pod.run(container).await;
    assert_eq!(pod.end_of(&id).await.code, 0, "{}", std::fs::read_to_string(&log).unwrap());
    assert_eq!(lines(&std::fs::read_to_string(log).unwrap()), ["0", "65534", "0"]);
    assert_eq!(std::fs::metadata(volume.path().join("new")).unwrap().uid(), 0);
}

#[tokio::test]
async fn a_volume_shows_other_ids_also_in_a_pod_without_users_of_its_own() {
    let mut pod = Pod::new().await;
    let volume = tempfile::tempdir().unwrap();
    std::fs::write(volume.path().join("file"), "").unwrap();
    let map = json!([{"containerID": 0, "hostID": BASE, "size": 65536}]);
    let mut container = pod.container("one", "stat -c %u /mapped/file");
    container.add_mount(json!({"destination": "/mapped", "type": "bind", "source": volume.path(),
        "options": ["rbind"], "uidMappings": map, "gidMappings": map}));
    let log = container.log();
    let id = pod.run(container).await;
    assert_eq!(pod.end_of(&id).await.code, 0, "{}", std::fs::read_to_string(&log).unwrap());
    assert_eq!(lines(&std::fs::read_to_string(log).unwrap()), [BASE.to_string()]);
}

#[tokio::test]
async fn processes_are_shared_in_it_too() {
    let pod = Pod::with(|setup| {
        setup.users = Some(Users { uids: mapping(), gids: mapping() });
        setup.shared_pid = true;
    })
    .await;
    let mut one = pod.container("one", "sleep 1000");
    one.share_pids();
    let one = pod.run(one).await;
    let (comm, code) = pod.exec(&one, &["cat", "/proc/1/comm"]).await;
    assert_eq!((comm.as_str(), code), ("isopod-init\n", 0));
    assert_eq!(pod.exec(&one, &["stat", "-c", "%u", "/proc/2/"]).await.0, "0\n");
}
