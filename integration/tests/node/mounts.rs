//! Volumes.

use cri_api::v1::{ContainerConfig, ImageSpec, Mount};
use serde_json::json;
use testkit::{Compression, Layer, busybox};

use crate::around::with_pod;

fn bind(host: &std::path::Path, container: &str) -> Mount {
    Mount {
        host_path: host.to_string_lossy().into_owned(),
        container_path: container.to_owned(),
        ..Default::default()
    }
}

fn mounted(mut container: ContainerConfig, mounts: &[Mount]) -> ContainerConfig {
    container.mounts = mounts.to_vec();
    container
}

#[tokio::test]
async fn directories_and_files_of_the_host_are_mounted() {
    let with = with_pod().await;
    let host = with.daemon().directory().join("volume");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "from the host\n").unwrap();
    std::os::unix::fs::symlink(&host, with.daemon().directory().join("link")).unwrap();
    let mounts = [
        bind(&host, "/data"),
        Mount { readonly: true, ..bind(&with.daemon().directory().join("link"), "/ro") },
        bind(&host.join("file"), "/etc/one-file"),
    ];
    let script =
        "cat /data/file /etc/one-file; echo back > /data/written; (touch /ro/x) 2>&1; true";
    let said = with.output(&mounted(with.script("main", script), &mounts)).await;
    assert!(said.starts_with("from the host\nfrom the host\n"), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    assert_eq!(std::fs::read_to_string(host.join("written")).unwrap(), "back\n");
}

#[tokio::test]
async fn mount_options_and_recursive_read_only_are_held() {
    let with = with_pod().await;
    let host = with.daemon().directory().join("volume");
    std::fs::create_dir_all(host.join("sub")).unwrap();
    std::fs::copy("/bin/busybox", host.join("busybox")).unwrap();
    let _below = testkit::Mounted::tmpfs(&host.join("sub"), "1m");
    let mounts = [
        Mount { mount_options: vec!["noexec".to_owned()], ..bind(&host, "/noexec") },
        Mount { readonly: true, recursive_read_only: true, ..bind(&host, "/rro") },
    ];
    let script = "(/noexec/busybox true) 2>&1; (touch /rro/sub/x) 2>&1; true";
    let said = with.output(&mounted(with.script("main", script), &mounts)).await;
    assert!(said.contains("Permission denied"), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
}

#[tokio::test]
async fn a_host_path_that_is_not_there_is_an_error() {
    let with = with_pod().await;
    let missing = with.daemon().directory().join("missing");
    let container = mounted(with.script("main", "true"), &[bind(&missing, "/data")]);
    let refused = match with.daemon().create(&with.pod_id, &with.pod, &container).await {
        Err(status) => status,
        Ok(id) => with.daemon().start_container(&id).await.unwrap_err(),
    };
    assert!(refused.message().contains("missing"), "{refused}");
}

#[tokio::test]
async fn a_mount_target_that_is_a_link_stays_inside() {
    let with = with_pod().await;
    let layer = Layer::new().symlink("out", "/../../../../../../tmp").build(Compression::Gzip);
    with.around.registry.push(&busybox(Compression::Gzip).layer(layer), "test/link:1");
    let reference = with.around.registry.reference("test/link:1");
    with.daemon().pull(&reference).await.unwrap();
    let host = with.daemon().directory().join("volume");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("mark"), "").unwrap();
    let container = testkit::container("main", &reference, &["ls", "/tmp/inside"]);
    let said = with.output(&mounted(container, &[bind(&host, "/out/inside")])).await;
    assert_eq!(said, "mark\n");
    assert!(!std::path::Path::new("/tmp/inside").exists());
}

#[tokio::test]
async fn an_image_can_be_a_volume() {
    let with = with_pod().await;
    let data = Layer::new()
        .directory("models", 0o755)
        .file("models/one", 0o644, b"weights\n")
        .build(Compression::Gzip);
    with.around.registry.push(&testkit::Image::new(vec![data]), "test/data:1");
    let reference = with.around.registry.reference("test/data:1");
    let id = with.daemon().pull(&reference).await.unwrap();
    let volume = |path: &str, sub: &str| Mount {
        container_path: path.to_owned(),
        image: Some(ImageSpec { image: id.clone(), ..Default::default() }),
        image_sub_path: sub.to_owned(),
        readonly: true,
        ..Default::default()
    };
    let mounts = [volume("/all", ""), volume("/some", "models")];
    let script = "cat /all/models/one /some/one; (touch /all/x) 2>&1; true";
    let said = with.output(&mounted(with.script("main", script), &mounts)).await;
    assert!(said.starts_with("weights\nweights\n"), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
}

#[tokio::test]
async fn volumes_of_the_image_begin_with_its_content() {
    let with = with_pod().await;
    let layer = Layer::new()
        .directory("var", 0o755)
        .directory("var/data", 0o750)
        .owned_file("var/data/seed", 0o640, (1000, 1000), b"seed\n")
        .build(Compression::Gzip);
    let image = busybox(Compression::Gzip).layer(layer).set("Volumes", json!({ "/var/data": {} }));
    with.around.registry.push(&image, "test/volume:1");
    let reference = with.around.registry.reference("test/volume:1");
    with.daemon().pull(&reference).await.unwrap();
    let script = "cat /var/data/seed; stat -c '%u %a' /var/data/seed; grep -c ' /var/data ' /proc/self/mounts";
    let container = testkit::container("main", &reference, &["sh", "-c", script]);
    assert_eq!(with.output(&container).await, "seed\n1000 640\n1\n");
}

#[tokio::test]
async fn a_file_system_that_hangs_fails_its_container_in_time_and_no_other() {
    let set_up = |setup: testkit::Setup| {
        setup.network(testkit::Network::None).toml("deadlines.host_path = \"500ms\"\n")
    };
    let around = crate::around::around(set_up).await;
    let pod = testkit::host_network(testkit::pod(&around.daemon, "pod"));
    let pod_id = around.daemon.run_pod(&pod, "").await.unwrap();
    let with = crate::around::WithPod { around, pod, pod_id };
    let place = with.daemon().directory().join("volume");
    // What is asked of the file system is what is below its root.
    let deep = place.join("deep");
    std::fs::create_dir_all(&deep).unwrap();
    let hung = testkit::Mounted::hung(&place);
    let container = mounted(with.script("main", "ls -d /data"), &[bind(&deep, "/data")]);
    let refused = with.daemon().create(&with.pod_id, &with.pod, &container).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::DeadlineExceeded, "{refused}");
    let said =
        format!(": host paths: {} (mounts[0].host_path): not finished after 500ms", deep.display());
    assert!(refused.message().ends_with(&said), "{refused}");
    assert_eq!(with.output(&with.script("other", "echo fine")).await, "fine\n");
    drop(hung);
    assert_eq!(with.output(&container).await, "/data\n", "the same request, later");
}
