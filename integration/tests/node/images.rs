//! Images that are on the node: listed, asked for, removed, loaded.

use cri_api::v1::{
    Image, ImageFsInfoRequest, ImageSpec, ImageStatusRequest, ListImagesRequest, RemoveImageRequest,
};
use serde_json::json;
use testkit::{Compression, Daemon, Layer, Registry, Scheme, Setup, busybox};
use tonic::Code;

use crate::around::{plain, with_pod};

async fn status(daemon: &Daemon, name: &str) -> Option<Image> {
    let image = ImageSpec { image: name.to_owned(), ..Default::default() };
    let request = ImageStatusRequest { image: Some(image), verbose: false };
    daemon.images().image_status(request).await.unwrap().into_inner().image
}

async fn remove(daemon: &Daemon, name: &str) -> Result<(), tonic::Status> {
    let image = ImageSpec { image: name.to_owned(), ..Default::default() };
    daemon.images().remove_image(RemoveImageRequest { image: Some(image) }).await.map(|_| ())
}

async fn count(daemon: &Daemon) -> usize {
    let list = daemon.images().list_images(ListImagesRequest { filter: None }).await.unwrap();
    list.into_inner().images.len()
}

#[tokio::test]
async fn an_image_is_found_by_name_and_id_and_is_no_error_when_absent() {
    let around = plain().await;
    let found = status(&around.daemon, &around.image).await.unwrap();
    let by_id = status(&around.daemon, &found.id).await.unwrap();
    assert_eq!(by_id.repo_tags, [around.image.as_str()]);
    assert!(status(&around.daemon, "docker.io/library/nothing:1").await.is_none());
}

#[tokio::test]
async fn the_images_user_is_told_as_number_or_name() {
    testkit::isolate_network();
    let registry = Registry::start(Scheme::Http);
    let daemon = Setup::new().registry(&registry).start().await;
    for (user, uid, name) in [("1000:1000", Some(1000), ""), ("worker", None, "worker")] {
        let reference = registry.reference("test/user:1");
        registry.push(&busybox(Compression::Gzip).set("User", json!(user)), "test/user:1");
        daemon.pull(&reference).await.unwrap();
        let image = status(&daemon, &reference).await.unwrap();
        assert_eq!(image.uid.map(|uid| uid.value), uid, "{user}");
        assert_eq!(image.username, name, "{user}");
    }
}

#[tokio::test]
async fn removing_takes_all_names_and_is_repeatable() {
    let around = plain().await;
    remove(&around.daemon, &around.image).await.unwrap();
    assert_eq!(count(&around.daemon).await, 0);
    remove(&around.daemon, &around.image).await.unwrap();
    let status = remove(&around.daemon, "").await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}

#[tokio::test]
async fn a_container_keeps_the_data_of_its_image() {
    let with = with_pod().await;
    let id = with.launch(&testkit::sleeper("keeps", &with.around.image)).await;
    remove(with.daemon(), &with.around.image).await.unwrap();
    let done = with.daemon().exec(&id, &["cat", "/etc/group"]).await.unwrap();
    assert!(String::from_utf8_lossy(&done.stdout).contains("worker"));
}

#[tokio::test]
async fn disk_usage_grows_with_images() {
    testkit::isolate_network();
    let registry = Registry::start(Scheme::Http);
    registry.push(&busybox(Compression::Gzip), "test/busybox:1");
    let daemon = Setup::new().registry(&registry).start().await;
    let used = async || {
        let info = daemon.images().image_fs_info(ImageFsInfoRequest {}).await.unwrap();
        let usage = info.into_inner().image_filesystems.swap_remove(0);
        assert!(!usage.fs_id.unwrap().mountpoint.is_empty());
        usage.used_bytes.unwrap().value
    };
    let before = used().await;
    daemon.pull(&registry.reference("test/busybox:1")).await.unwrap();
    let after = used().await;
    assert!(after >= before + 500_000, "{before} → {after}");
}

#[tokio::test]
async fn archives_of_both_kinds_are_loaded_and_run() {
    testkit::isolate_network();
    let daemon = Setup::new().start().await;
    let pod = testkit::host_network(testkit::pod(&daemon, "pod"));
    let pod_id = daemon.run_pod(&pod, "").await.unwrap();
    let marked = |mark: &str, compression| {
        busybox(compression)
            .layer(Layer::new().file("mark", 0o644, mark.as_bytes()).build(compression))
    };
    let oci = marked("oci", Compression::Zstd);
    let docker = marked("docker", Compression::Plain);
    let archives = [
        ("oci", testkit::archive::oci_layout(&[(&oci, "example.org/test/oci:1")])),
        ("docker", testkit::archive::docker_save(&docker, "example.org/test/docker:1")),
    ];
    for (name, bytes) in archives {
        let path = daemon.directory().join(format!("{name}.tar"));
        std::fs::write(&path, bytes).unwrap();
        let path = path.to_string_lossy().into_owned();
        let loaded = daemon.cli(&["load", &path]).output().unwrap();
        assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
        let reference = format!("example.org/test/{name}:1");
        assert!(String::from_utf8_lossy(&loaded.stdout).contains(&reference));
        let container = testkit::container(name, &reference, &["cat", "/mark"]);
        let (status, logged) = daemon.run_to_end(&pod_id, &pod, &container).await;
        assert_eq!((status.exit_code, logged.trim()), (0, name));
    }
}

#[tokio::test]
async fn what_is_saved_can_be_loaded_elsewhere() {
    let around = plain().await;
    let file = around.daemon.directory().join("saved.tar");
    let file = file.to_string_lossy().into_owned();
    let saved = around.daemon.cli(&["save", "--file", &file, &around.image]).output().unwrap();
    assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    let other = Setup::new().start().await;
    let loaded = other.cli(&["load", &file]).output().unwrap();
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    let there = status(&other, &around.image).await.unwrap();
    let here = status(&around.daemon, &around.image).await.unwrap();
    assert_eq!((&there.id, &there.repo_tags), (&here.id, &here.repo_tags));
    let pod = testkit::host_network(testkit::pod(&other, "pod"));
    let pod_id = other.run_pod(&pod, "").await.unwrap();
    let container =
        testkit::container("main", &there.id, &["sh", "-c", "echo $FROM_IMAGE; id -un"]);
    let (ended, said) = other.run_to_end(&pod_id, &pod, &container).await;
    assert_eq!((ended.exit_code, said.as_str()), (0, "yes\nroot\n"));
}

#[tokio::test]
async fn upper_layers_replace_and_remove_what_is_below() {
    let with = with_pod().await;
    let below = Layer::new()
        .directory("d", 0o755)
        .file("d/kept", 0o644, b"old")
        .file("d/removed", 0o644, b"x")
        .directory("o", 0o755)
        .file("o/hidden", 0o644, b"x")
        .build(Compression::Gzip);
    let above = Layer::new()
        .directory("d", 0o755)
        .file("d/kept", 0o644, b"new")
        .whiteout("d", "removed")
        .directory("o", 0o755)
        .file("o/.wh..wh..opq", 0o644, b"")
        .file("o/shown", 0o600, b"x")
        .owned_file("o/owned", 0o640, (1000, 2000), b"x")
        .build(Compression::Gzip);
    let image = busybox(Compression::Gzip).layer(below).layer(above);
    with.around.registry.push(&image, "test/stack:1");
    let reference = with.around.registry.reference("test/stack:1");
    with.daemon().pull(&reference).await.unwrap();
    let script =
        "cat /d/kept; echo; ls /d; ls /o; stat -c '%u:%g %a' /o/owned; touch /d/removed; ls /d";
    let container = testkit::container("stack", &reference, &["sh", "-c", script]);
    let said = with.output(&container).await;
    assert_eq!(said, "new\nkept\nowned\nshown\n1000:2000 640\nkept\nremoved\n");
}
