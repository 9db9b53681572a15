//! Writable layers that are kept to a size: the guest's kernel has project quotas.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use cri_api::v1::security_profile::ProfileType;
use cri_api::v1::{
    Capability, ContainerConfig, ContainerStatsRequest, Mount, RemoveContainerRequest,
    SecurityProfile,
};
use serde_json::json;
use testkit::{Compression, Layer, Mounted, Network, busybox, until};
use tonic::Code;

use super::{context, output};
use crate::around::{WithPod, around, text};

const PATIENCE: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;

/// Where a container has 24 MiB and may ask for 48.
const LIMITED: &str = "[pods]\nwritable_size = \"24MiB\"\nwritable_max = \"48MiB\"\n\
                       writable_projects = \"700-799\"\n";

/// A daemon on a disk with project quotas.
async fn on(disk: &Mounted, limits: &str) -> WithPod {
    let root = disk.path().join("root");
    let around = around(|setup| setup.network(Network::None).root(&root).toml(limits)).await;
    let pod = testkit::host_network(testkit::pod(&around.daemon, "pod"));
    let pod_id = around.daemon.run_pod(&pod, "").await.unwrap();
    WithPod { around, pod, pod_id }
}

fn asking(mut container: ContainerConfig, size: &str) -> ContainerConfig {
    container.annotations.insert("isopod.dev/writable-size".to_owned(), size.to_owned());
    container
}

/// Writes so many MiB in a container; what `dd` said where it failed.
async fn write(with: &WithPod, id: &str, file: &str, mib: u64) -> Result<(), String> {
    let (to, count) = (format!("of={file}"), format!("count={mib}"));
    let command = ["dd", "if=/dev/zero", &to, "bs=1M", &count, "conv=fsync"];
    let done = with.daemon().exec(id, &command).await.unwrap();
    if done.exit_code == 0 { Ok(()) } else { Err(text(&done.stderr)) }
}

async fn used(with: &WithPod, id: &str) -> u64 {
    let request = ContainerStatsRequest { container_id: id.to_owned() };
    let stats = with.daemon().runtime().container_stats(request).await.unwrap().into_inner();
    let layer = stats.stats.unwrap().writable_layer;
    layer.and_then(|layer| layer.used_bytes).map_or(0, |bytes| bytes.value)
}

/// The project of a file or directory.
fn project(path: &std::path::Path) -> u32 {
    let said = output("lsattr", &["-pd", path.to_str().unwrap()]);
    said.split_whitespace().next().unwrap().parse().unwrap()
}

/// Projects of the containers' directories.
fn projects(with: &WithPod) -> BTreeSet<u32> {
    let all = with.daemon().root().join("containers");
    let ids = fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path());
    let ids = ids.filter(|path| !path.ends_with(".trash"));
    ids.flat_map(|path| ["upper", "work"].map(|part| project(&path.join(part)))).collect()
}

/// What lies in the containers' trash.
fn trash(with: &WithPod) -> usize {
    fs::read_dir(with.daemon().root().join("containers/.trash")).unwrap().count()
}

/// What is removed is gone, and its project with it.
async fn remove(with: &WithPod, id: &str) {
    with.daemon().stop_container(id, 0).await.unwrap();
    let request = RemoveContainerRequest { container_id: id.to_owned() };
    with.daemon().runtime().remove_container(request).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a guest: cargo xtask vm"]
async fn a_container_on_ext4_writes_no_more_than_its_size_and_is_in_nobodys_way() {
    on_a_disk_with_quotas("ext4", "quota exceeded").await;
}

#[tokio::test]
#[ignore = "needs a guest: cargo xtask vm"]
async fn a_container_on_xfs_writes_no_more_than_its_size_and_is_in_nobodys_way() {
    on_a_disk_with_quotas("xfs", "No space left").await;
}

/// One daemon for all of it: a guest is slow.
async fn on_a_disk_with_quotas(kind: &str, refusal: &str) {
    let disk = Mounted::with_project_quotas(kind);
    let mut with = on(&disk, LIMITED).await;
    let beyond = asking(with.script("beyond", "true"), "49Mi");
    let refused = with.daemon().create(&with.pod_id, &with.pod, &beyond).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("pods.writable_max"), "{refused}");

    let usual = with.launch(&with.script("usual", "exec sleep 1000")).await;
    // Not even with the privilege that goes past quotas on the host.
    let mut small = asking(with.script("small", "exec sleep 1000"), "8Mi");
    let added = vec!["SYS_RESOURCE".to_owned()];
    context(&mut small).capabilities =
        Some(Capability { add_capabilities: added, ..Default::default() });
    let small = with.launch(&small).await;
    assert_eq!(projects(&with), [700, 701].into());
    let full = write(&with, &small, "/big", 12).await.unwrap_err();
    assert!(full.contains(refusal), "{full}");
    write(&with, &usual, "/big", 16).await.unwrap();
    let full = write(&with, &usual, "/more", 12).await.unwrap_err();
    assert!(full.contains(refusal), "{full}");

    // What each takes is known without a walk, and `df` shows the limit.
    let now = until("the statistics have it", PATIENCE, async || {
        Some(used(&with, &usual).await).filter(|bytes| *bytes >= 16 * MIB)
    });
    assert!(now.await <= 24 * MIB);
    assert!((4 * MIB..=8 * MIB).contains(&used(&with, &small).await));
    let shown = with.daemon().exec(&usual, &["df", "-m", "/"]).await.unwrap();
    let shown = text(&shown.stdout);
    assert!(shown.contains(" 24 "), "{shown}");

    // The next daemon knows whose projects they are; what was removed can be written again.
    with.around.daemon.kill();
    with.around.daemon.start().await;
    let removed = with.daemon().exec(&small, &["rm", "/big"]).await.unwrap();
    assert_eq!(removed.exit_code, 0);
    write(&with, &small, "/again", 6).await.unwrap();
    write(&with, &small, "/more", 6).await.unwrap_err();
    remove(&with, &usual).await;
    let last = with.launch(&asking(with.script("last", "exec sleep 1000"), "4Mi")).await;
    // 700 is free, and comes last again.
    assert_eq!(projects(&with), [701, 702].into());
    write(&with, &last, "/big", 6).await.unwrap_err();
    with_too_much_in_a_volume(&with).await;
    into_a_neighbours_project(&with, &small).await;
}

/// An image that brings more than its container may write is refused, and nothing of it stays.
async fn with_too_much_in_a_volume(with: &WithPod) {
    let data = vec![7; 12 << 20];
    let layer = Layer::new().directory("data", 0o755).file("data/seed", 0o644, &data);
    let image = busybox(Compression::Gzip).layer(layer.build(Compression::Gzip));
    let image = image.set("Volumes", json!({ "/data": {} }));
    with.around.registry.push(&image, "test/heavy:1");
    let reference = with.around.registry.reference("test/heavy:1");
    with.daemon().pull(&reference).await.unwrap();
    let heavy = testkit::container("heavy", &reference, &["sleep", "1000"]);
    let before = projects(with);
    let create = async |size| {
        with.daemon().create(&with.pod_id, &with.pod, &asking(heavy.clone(), size)).await
    };
    let refused = create("8Mi").await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    for part in [reference.as_str(), "8388608"] {
        assert!(refused.message().contains(part), "{refused}");
    }
    assert_eq!((projects(with), trash(with)), (before, 0));
    let fits = create("16Mi").await.unwrap();
    remove(with, &fits).await;
}

/// Files go into a neighbour's project only where nothing filters the call that takes them there.
async fn into_a_neighbours_project(with: &WithPod, neighbour: &str) {
    let theirs = with.daemon().root().join("containers").join(neighbour).join("upper");
    let theirs = project(&theirs).to_string();
    for (profile, moves) in [(ProfileType::RuntimeDefault, false), (ProfileType::Unconfined, true)]
    {
        let name = profile.as_str_name().to_lowercase();
        let mut container = with.script(&name, "exec sleep 1000");
        container.mounts = ["/usr", "/lib", "/lib64"]
            .map(|path| Mount {
                host_path: path.to_owned(),
                container_path: path.to_owned(),
                readonly: true,
                ..Default::default()
            })
            .to_vec();
        context(&mut container).seccomp =
            Some(SecurityProfile { profile_type: profile.into(), ..Default::default() });
        let id = with.launch(&container).await;
        let command = ["sh", "-c", "touch /file && exec /usr/bin/chattr -p $0 /file", &theirs];
        let done = with.daemon().exec(&id, &command).await.unwrap();
        let file = with.daemon().root().join("containers").join(&id).join("upper/file");
        let said = text(&done.stderr);
        assert_eq!(done.exit_code == 0, moves, "{name}: {said}");
        assert_eq!(project(&file).to_string() == theirs, moves, "{name}: {said}");
        if !moves {
            assert!(said.contains("Operation not permitted"), "{said}");
        }
    }
}

#[tokio::test]
#[ignore = "needs a guest: cargo xtask vm"]
async fn under_a_project_of_the_administrators_containers_come_and_go() {
    let disk = Mounted::with_project_quotas("ext4");
    let root = disk.path().join("root");
    fs::create_dir(&root).unwrap();
    let into_theirs = |path: &std::path::Path| {
        output("chattr", &["-p", "300", "+P", path.to_str().unwrap()]);
    };
    into_theirs(&root);
    let with = on(&disk, "[pods]\nwritable_projects = \"700-799\"\n").await;
    let all = with.daemon().root().join("containers");
    assert_eq!((project(&all), project(&all.join(".trash"))), (300, 0));
    // Nobody limits the first: it stays where the administrator counts it.
    let free = with.launch(&with.script("free", "exec sleep 1000")).await;
    assert_eq!(projects(&with), [300].into());
    let limited = asking(with.script("limited", "exec sleep 1000"), "8Mi");
    let limited = with.launch(&limited).await;
    assert_eq!(projects(&with), [300, 700].into());
    write(&with, &limited, "/big", 12).await.unwrap_err();
    remove(&with, &free).await;
    // The trash was put back there meanwhile.
    into_theirs(&all.join(".trash"));
    remove(&with, &limited).await;
    assert_eq!((projects(&with), trash(&with)), (BTreeSet::new(), 0));
}
