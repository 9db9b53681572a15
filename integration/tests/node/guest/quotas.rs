//! Writable layers that are kept to a size: the guest's kernel has project quotas.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use cri_api::v1::{Capability, ContainerConfig, ContainerStatsRequest, RemoveContainerRequest};
use testkit::{Mounted, Network, until};
use tonic::Code;

use super::{context, output};
use crate::around::{WithPod, around, text};

const PATIENCE: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;

/// A daemon on a disk with project quotas, where a container has 24 MiB and may ask for 48.
async fn on(disk: &Mounted) -> WithPod {
    let limits = "[pods]\nwritable_size = \"24MiB\"\nwritable_max = \"48MiB\"\n\
                  writable_projects = \"700-799\"\n";
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

/// Projects of the containers' directories.
fn projects(with: &WithPod) -> BTreeSet<u32> {
    let all = with.daemon().root().join("containers");
    let ids = fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path());
    let ids = ids.filter(|path| !path.ends_with(".trash"));
    let mut found = BTreeSet::new();
    for path in ids {
        for part in ["upper", "work"] {
            let said = output("lsattr", &["-pd", path.join(part).to_str().unwrap()]);
            found.insert(said.split_whitespace().next().unwrap().parse().unwrap());
        }
    }
    found
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
    let mut with = on(&disk).await;
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
    let of_both = projects(&with);
    assert!(of_both.len() == 2 && of_both.contains(&701), "{of_both:?}");
    write(&with, &last, "/big", 6).await.unwrap_err();
}
