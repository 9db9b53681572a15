//! Images are looked after by the command line.

use std::process::Output;

use cri_api::v1::{ImageSpec, Mount};
use testkit::{Compression, Daemon, Layer, busybox};

use crate::around::with_pod;

fn cli(daemon: &Daemon, args: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = daemon.cli(args).output().unwrap();
    let said = [stdout, stderr].concat();
    (status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn the_command_line_checks_mends_prunes_and_pushes() {
    let with = with_pod().await;
    let (daemon, registry) = (with.daemon(), &with.around.registry);
    let layer = Layer::new().file("data", 0o644, b"content").build(Compression::Gzip);
    registry.push(&busybox(Compression::Gzip).layer(layer), "test/data:1");
    let name = registry.reference("test/data:1");
    daemon.pull(&name).await.unwrap();
    // The lower layer is in use by nobody either: the pod has no container yet.
    let (code, said) = cli(daemon, &["image", "check"]);
    assert!(code == 0 && said.contains("0 were damaged"), "{said}");
    let layers = daemon.directory().join("root/layers");
    let file = std::fs::read_dir(layers)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("fs/data"))
        .find(|path| path.is_file())
        .unwrap();
    std::fs::write(&file, "CONTENT").unwrap();
    let (code, said) = cli(daemon, &["image", "check"]);
    assert!(code == 1 && said.contains("data: its content has changed"), "{said}");
    let (code, said) = cli(daemon, &["image", "check", "--repair"]);
    assert!(code == 0 && said.contains("it is whole again, from"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "content");

    let copy = registry.reference("copy/data:2");
    let (code, said) = cli(daemon, &["push", &name, &copy]);
    assert!(code == 0 && said.starts_with(&format!("{copy}@sha256:")), "{said}");
    daemon.pull(&copy).await.unwrap();
    let (code, said) = cli(daemon, &["images", "--pulling"]);
    assert!(code == 0 && said.starts_with("IMAGE"), "{said}");

    // What a container uses stays, all others go.
    with.launch(&testkit::sleeper("main", &with.around.image)).await;
    let (code, said) = cli(daemon, &["image", "prune"]);
    assert!(code == 0 && said.starts_with("0 images"), "{said}");
    let collected = || {
        let (_, text) = cli(daemon, &["metrics"]);
        let line =
            text.lines().find_map(|line| line.strip_prefix("isopod_collected_layers_total "));
        line.unwrap_or_else(|| panic!("it is not in {text}")).parse::<u64>().unwrap()
    };
    let before = collected();
    let (code, said) = cli(daemon, &["image", "prune", "--all"]);
    assert!(code == 0 && said.contains(&name) && said.contains(&copy), "{said}");
    assert!(collected() > before, "the layer with the data is counted");
    let (_, said) = cli(daemon, &["images", "--quiet"]);
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[tokio::test]
async fn an_artifact_can_be_a_volume_as_a_whole_or_in_part() {
    let with = with_pod().await;
    let files: [(&str, &[u8]); 2] = [("models/one", b"weights\n"), ("LICENSE", b"free\n")];
    with.around.registry.push_artifact("application/x-model", &files, "test/model:1");
    let reference = with.around.registry.reference("test/model:1");
    with.daemon().pull(&reference).await.unwrap();
    let volume = |path: &str, sub: &str| Mount {
        container_path: path.to_owned(),
        image: Some(ImageSpec { image: reference.clone(), ..Default::default() }),
        image_sub_path: sub.to_owned(),
        readonly: true,
        ..Default::default()
    };
    let script = "cat /all/models/one /all/LICENSE /part/one; (touch /all/x) 2>&1; true";
    let mut container = with.script("main", script);
    container.mounts = vec![volume("/all", ""), volume("/part", "models")];
    let said = with.output(&container).await;
    assert!(said.starts_with("weights\nfree\nweights\n"), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
}
