//! PullImage, from a real registry.

use std::process::Command;

use cri_api::v1::{AuthConfig, ImageSpec, ListImagesRequest, PullImageRequest};
use testkit::{
    Compression, Daemon, Image, Index, Layer, Mounted, PASSWORD, Registry, Scheme, Setup, USER,
    busybox,
};
use tonic::{Code, Status};

use crate::around::plain;

async fn alone(scheme: Scheme) -> (Registry, Daemon) {
    testkit::isolate_network();
    let registry = Registry::start(scheme);
    let daemon = Setup::new().registry(&registry).start().await;
    (registry, daemon)
}

async fn names(daemon: &Daemon) -> Vec<String> {
    let list = daemon.images().list_images(ListImagesRequest { filter: None }).await.unwrap();
    list.into_inner().images.into_iter().flat_map(|image| image.repo_tags).collect()
}

async fn refused(daemon: &Daemon, reference: &str) -> Status {
    let status = daemon.pull(reference).await.unwrap_err();
    assert_eq!(names(daemon).await, Vec::<String>::new(), "nothing is named: {status}");
    status
}

#[tokio::test]
async fn a_tag_and_a_digest_lead_to_the_same_image() {
    let (registry, daemon) = alone(Scheme::Http).await;
    let image = busybox(Compression::Gzip);
    registry.push(&image, "test/busybox:1");
    let by_tag = daemon.pull(&registry.reference("test/busybox:1")).await.unwrap();
    let digest = image.manifest().digest;
    let reference = registry.reference(&format!("test/busybox@{digest}"));
    let by_digest = daemon.pull(&reference).await.unwrap();
    assert_eq!(by_tag, image.id());
    assert_eq!(by_digest, image.id());
    let list = daemon.images().list_images(ListImagesRequest { filter: None }).await.unwrap();
    let [one] = &list.get_ref().images[..] else { panic!("one image: {list:?}") };
    assert_eq!(one.repo_tags, [registry.reference("test/busybox:1")]);
    assert_eq!(one.repo_digests, [reference]);
    assert!(one.size > 100_000, "{}", one.size);
}

#[tokio::test]
async fn every_compression_is_unpacked() {
    let (registry, daemon) = alone(Scheme::Http).await;
    let pod = testkit::host_network(testkit::pod(&daemon, "pod"));
    let pod_id = daemon.run_pod(&pod, "").await.unwrap();
    for compression in [Compression::Gzip, Compression::Zstd, Compression::Plain] {
        let name = format!("test/{compression:?}:1").to_lowercase();
        let mark = format!("{compression:?}");
        let top = Layer::new().file("mark", 0o644, mark.as_bytes()).build(compression);
        registry.push(&busybox(compression).layer(top), &name);
        let reference = registry.reference(&name);
        daemon.pull(&reference).await.unwrap();
        let container = testkit::container(&mark, &reference, &["cat", "/mark"]);
        let (status, logged) = daemon.run_to_end(&pod_id, &pod, &container).await;
        assert_eq!((status.exit_code, logged.trim()), (0, mark.as_str()));
    }
}

/// Runs skopeo, which must succeed, and gives what it printed.
fn skopeo(args: &[&str]) -> String {
    let done = Command::new("skopeo").args(args).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "skopeo {args:?}: {said}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[tokio::test]
async fn a_layer_in_zstd_chunked_is_read_as_zstd() {
    let (registry, daemon) = alone(Scheme::Http).await;
    let long: Vec<u8> = (0..1_500_000_u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
    let top = Layer::new()
        .directory("data", 0o755)
        .file("data/long", 0o640, &long)
        .file("data/zeros", 0o644, &[0; 3 << 20])
        .file("data/empty", 0o600, b"")
        .hard_link("data/again", "data/long")
        .symlink("data/link", "long")
        .whiteout("bin", "nothing")
        .build(Compression::Gzip);
    let image = busybox(Compression::Gzip).layer(top);
    registry.push(&image, "test/gzip:1");
    let [from, to] = ["test/gzip:1", "test/chunked:1"]
        .map(|name| format!("docker://{}", registry.reference(name)));
    skopeo(&[
        "copy",
        "--insecure-policy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--dest-compress-format=zstd:chunked",
        &from,
        &to,
    ]);
    // Each layer ends in frames that tell where each file is, and that zstd skips.
    let manifest = skopeo(&["inspect", "--raw", "--tls-verify=false", &to]);
    assert_eq!(manifest.matches("zstd-chunked.manifest-position").count(), 2, "{manifest}");
    assert_eq!(manifest.matches("tar+zstd").count(), 2, "{manifest}");

    let reference = registry.reference("test/chunked:1");
    let id = daemon.pull(&reference).await.unwrap();
    assert_eq!(id, image.id(), "what it is compressed by is no part of what an image is");
    let pod = testkit::host_network(testkit::pod(&daemon, "pod"));
    let pod_id = daemon.run_pod(&pod, "").await.unwrap();
    let script = "cd /data; sha256sum long zeros empty; stat -c '%n %a %h %s' *; readlink link";
    let container = testkit::container("main", &reference, &["sh", "-c", script]);
    let (status, logged) = daemon.run_to_end(&pod_id, &pod, &container).await;
    assert_eq!(status.exit_code, 0, "{logged}");
    let sum = |name: &str, bytes: &[u8]| {
        format!("{}  {name}\n", testkit::digest(bytes).trim_start_matches("sha256:"))
    };
    let wanted = [
        sum("long", &long),
        sum("zeros", &[0; 3 << 20]),
        sum("empty", b""),
        "again 640 2 6000000\nempty 600 1 0\nlink 777 1 4\nlong 640 2 6000000\n".to_owned(),
        "zeros 644 1 3145728\nlong\n".to_owned(),
    ];
    assert_eq!(logged, wanted.concat());
}

#[tokio::test]
async fn an_index_gives_the_image_of_this_platform() {
    let (registry, daemon) = alone(Scheme::Http).await;
    let here = busybox(Compression::Gzip);
    let other = busybox(Compression::Gzip).for_architecture("s390x");
    registry.push_index(&Index(vec![other.clone(), here.clone()]), "test/many:1");
    assert_eq!(daemon.pull(&registry.reference("test/many:1")).await.unwrap(), here.id());

    registry.push_index(&Index(vec![other]), "test/foreign:1");
    let status = daemon.pull(&registry.reference("test/foreign:1")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
    assert!(status.message().contains("s390x"), "it says what there is: {status}");
}

#[tokio::test]
async fn https_is_checked_against_the_hosts_own_authority() {
    let (registry, daemon) = alone(Scheme::Https).await;
    registry.push(&busybox(Compression::Gzip), "test/busybox:1");
    daemon.pull(&registry.reference("test/busybox:1")).await.unwrap();

    // Another daemon, to which the authority is unknown.
    let host = registry.host();
    let hosts_toml = format!("server = \"https://{host}\"\n");
    let stranger = Setup::new().hosts_toml(&host, &hosts_toml).start().await;
    let status = stranger.pull(&registry.reference("test/busybox:1")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().to_lowercase().contains("certificate"), "{status}");
}

#[tokio::test]
async fn credentials_are_used_and_never_told() {
    let (registry, daemon) = alone(Scheme::HttpWithPassword).await;
    registry.push(&busybox(Compression::Gzip), "test/busybox:1");
    let reference = registry.reference("test/busybox:1");
    let status = refused(&daemon, &reference).await;
    assert!(matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied), "{status}");

    let spec = ImageSpec { image: reference, ..Default::default() };
    let with = |password: &str| {
        let auth = AuthConfig {
            username: USER.to_owned(),
            password: password.to_owned(),
            ..Default::default()
        };
        PullImageRequest { image: Some(spec.clone()), auth: Some(auth), sandbox_config: None }
    };
    let status = daemon.images().pull_image(with("wrong-secret")).await.unwrap_err();
    assert!(matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied), "{status}");
    daemon.images().pull_image(with(PASSWORD)).await.unwrap();
    let log = daemon.log();
    for secret in [PASSWORD, "wrong-secret"] {
        assert!(!status.message().contains(secret), "{status}");
        assert!(!log.contains(secret), "a password is in the log");
    }
}

#[tokio::test]
async fn bytes_that_do_not_match_their_digest_are_refused() {
    let (registry, daemon) = alone(Scheme::Http).await;
    let broken = busybox(Compression::Gzip);
    registry.push(&broken, "test/broken:1");
    registry.corrupt(&broken.layers[0].digest);
    let status = refused(&daemon, &registry.reference("test/broken:1")).await;
    assert!(
        status.message().contains(&broken.layers[0].digest[..15]),
        "it names the blob: {status}"
    );

    let short = busybox(Compression::Zstd);
    registry.push(&short, "test/short:1");
    registry.cut(&short.layers[0].digest);
    refused(&daemon, &registry.reference("test/short:1")).await;
}

#[tokio::test]
async fn images_and_registries_that_are_not_there_are_told_apart() {
    let (registry, daemon) = alone(Scheme::Http).await;
    let status = refused(&daemon, &registry.reference("test/nothing:1")).await;
    assert_eq!(status.code(), Code::NotFound, "{status}");

    let nowhere = registry.reference("test/busybox:1");
    drop(registry);
    let status = refused(&daemon, &nowhere).await;
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().starts_with("RegistryUnavailable"), "{status}");
}

#[tokio::test]
async fn a_layer_cannot_write_outside_its_root() {
    let (registry, daemon) = alone(Scheme::Http).await;
    let evil = |path: &str| Layer::new().file(path, 0o644, b"escaped");
    let layers = [
        ("dotdot", evil("../../../../../../../../tmp/isopod-escaped")),
        ("absolute", evil("/tmp/isopod-escaped")),
        ("symlink", Layer::new().symlink("out", "/tmp").file("out/isopod-escaped", 0o644, b"x")),
        (
            "hardlink",
            Layer::new().hard_link("passwd", "../../../../../../../../../../../etc/passwd"),
        ),
    ];
    for (name, layer) in layers {
        let image = Image::new(vec![layer.build(Compression::Gzip)]);
        let name = format!("test/{name}:1");
        registry.push(&image, &name);
        // Refused, or kept inside; both are right.
        if let Err(status) = daemon.pull(&registry.reference(&name)).await {
            let right = [Code::InvalidArgument, Code::FailedPrecondition, Code::DataLoss];
            assert!(right.contains(&status.code()), "{name}: {status}");
        }
        assert!(!std::path::Path::new("/tmp/isopod-escaped").exists(), "{name} has escaped");
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing() {
    testkit::isolate_network();
    let registry = Registry::start(Scheme::Http);
    // What does not compress: 24 MiB of noise.
    let mut noise = vec![0_u8; 24 << 20];
    let mut state = 1_u64;
    for byte in &mut noise {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    let big = Layer::new().file("noise", 0o644, &noise).build(Compression::Plain);
    registry.push(&Image::new(vec![big]), "test/big:1");
    registry.push(&busybox(Compression::Gzip), "test/busybox:1");

    let disk = Mounted::disk("16m");
    let daemon = Setup::new().registry(&registry).root(disk.path()).start().await;
    let status = refused(&daemon, &registry.reference("test/big:1")).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");

    // It goes on, and what had been written is gone: the other image fits.
    daemon.pull(&registry.reference("test/busybox:1")).await.unwrap();
    drop(daemon);
}

#[tokio::test]
async fn the_same_pull_twice_at_once_is_one() {
    let (registry, daemon) = alone(Scheme::Http).await;
    let image = busybox(Compression::Gzip);
    registry.push(&image, "test/busybox:1");
    let reference = registry.reference("test/busybox:1");
    let pulls = (0..8).map(|_| daemon.pull(&reference));
    for id in futures_util::future::join_all(pulls).await {
        assert_eq!(id.unwrap(), image.id());
    }
}

#[tokio::test]
async fn a_pull_again_takes_what_the_tag_means_now() {
    let around = plain().await;
    let newer = busybox(Compression::Zstd);
    around.registry.push(&newer, "test/busybox:1");
    assert_eq!(around.daemon.pull(&around.image).await.unwrap(), newer.id());
    assert_eq!(names(&around.daemon).await, std::slice::from_ref(&around.image));
}
