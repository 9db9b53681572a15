//! Records that are damaged: told, set aside, and nobody else is the worse for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cri_api::v1::{ContainerState, ListPodSandboxRequest};
use testkit::Network;

use crate::around::around;

/// What stands at the beginning of every record.
const HEAD: &[u8] = b"isopod-record ";

/// Each way in which a record can be bad, made of a good one.
fn damages(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let end = good.iter().position(|b| *b == b'\n').unwrap();
    let header = String::from_utf8(good[..end].to_vec()).unwrap();
    let words: Vec<&str> = header.split(' ').collect();
    let with = |at: usize, word: &str| {
        let mut words = words.clone();
        words[at] = word;
        [words.join(" ").as_bytes(), &good[end..]].concat()
    };
    let mut flipped = good.to_vec();
    flipped[end + (good.len() - end) / 2] ^= 0x20;
    vec![
        ("empty", Vec::new()),
        ("header-only", good[..=end].to_vec()),
        ("truncated", good[..end + (good.len() - end) / 2].to_vec()),
        ("without-its-last-byte", good[..good.len() - 1].to_vec()),
        ("with-more-behind", [good, b"more\n"].concat()),
        ("flipped", flipped),
        ("of-another-kind", with(1, "teapot")),
        ("of-a-later-version", with(2, "99")),
        ("with-a-wrong-checksum", with(3, "00000000")),
        ("with-a-wrong-length", with(4, "3")),
        // CRC-32 of `{}`.
        (
            "without-its-fields",
            [words[0], words[1], words[2], "a3aac8bc", "2\n{}\n"].join(" ").into(),
        ),
        ("no-text", vec![0; 4096]),
        ("large", vec![b'x'; 1 << 20]),
    ]
}

/// The directories that hold records of the daemon, with a good one of each. A pod's own, which its monitor
/// writes, is not among them.
fn stores(directory: &Path, depth: u32, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && depth > 0 {
            stores(&entry.path(), depth - 1, found);
        } else if kind.is_file() {
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            if bytes.starts_with(HEAD) {
                found.insert(directory.to_owned(), bytes);
            }
        }
    }
}

#[tokio::test]
async fn a_bad_record_of_any_kind_is_set_aside_and_told_and_the_pods_go_on() {
    let mut around = around(|setup| setup.network(Network::Bridge)).await;
    let pod = testkit::pod(&around.daemon, "pod");
    let id = around.daemon.run_pod(&pod, "").await.unwrap();
    let sleeper = testkit::sleeper("main", &around.image);
    let container = around.daemon.launch(&id, &pod, &sleeper).await.unwrap();
    around.daemon.kill();
    let mut found = BTreeMap::new();
    for place in ["state", "root"] {
        stores(&around.daemon.directory().join(place), 2, &mut found);
    }
    let mut tried = Vec::new();
    for (directory, good) in &found {
        for (name, bytes) in damages(good) {
            std::fs::write(directory.join(name), bytes).unwrap();
            tried.push((directory.clone(), name));
        }
    }
    let kinds: Vec<_> = found.keys().map(|d| d.display().to_string()).collect();
    assert!(kinds.len() >= 6, "sandboxes, containers, networks, layers, images, names: {kinds:?}");

    around.daemon.start().await;
    let done = around.daemon.exec(&container, &["echo", "here"]).await.unwrap();
    assert_eq!(&done.stdout[..], b"here\n");
    around.daemon.pull(&around.image).await.unwrap();
    testkit::until("all is told", Duration::from_secs(20), async || {
        let log = around.daemon.log();
        let is_told = |(directory, name): &(PathBuf, &str)| {
            log.contains(&format!("{}/.bad/{name}", directory.display()))
        };
        tried.iter().all(is_told).then_some(())
    })
    .await;
    for (directory, name) in &tried {
        assert!(!directory.join(name).exists(), "{}: {name} is still there", directory.display());
        let aside = directory.join(".bad").join(name);
        assert!(aside.exists(), "{}: {name} is nowhere", directory.display());
    }
    println!("bad records: {} tried in {} stores, all set aside", tried.len(), found.len());
}

#[tokio::test]
async fn what_a_lost_record_told_of_is_cleared_away() {
    let mut around = around(|setup| setup.network(Network::Bridge)).await;
    let sleeper = testkit::sleeper("main", &around.image);
    let mut pods = Vec::new();
    for name in ["whole", "no-sandbox", "no-container"] {
        let pod = testkit::pod(&around.daemon, name);
        let id = around.daemon.run_pod(&pod, "").await.unwrap();
        let container = around.daemon.launch(&id, &pod, &sleeper).await.unwrap();
        pods.push((id, container));
    }
    around.daemon.kill();
    let records = around.daemon.directory().join("state");
    let records = [records.join("records"), records];
    let records = records.into_iter().find(|path| path.join("containers").is_dir()).unwrap();
    std::fs::write(records.join("sandboxes").join(&pods[1].0), "torn").unwrap();
    std::fs::write(records.join("containers").join(&pods[2].1), "torn").unwrap();
    around.daemon.start().await;
    let daemon = &around.daemon;
    testkit::until("the pod without a record is gone", Duration::from_secs(20), async || {
        daemon.monitor(&pods[1].0).is_none().then_some(())
    })
    .await;
    let request = ListPodSandboxRequest { filter: None };
    let list = daemon.runtime().list_pod_sandbox(request).await.unwrap().into_inner().items;
    let mut ids: Vec<_> = list.iter().map(|pod| pod.id.as_str()).collect();
    ids.sort_unstable();
    let mut left = [pods[0].0.as_str(), pods[2].0.as_str()];
    left.sort_unstable();
    assert_eq!(ids, left);
    let status = daemon.status(&pods[0].1).await.unwrap();
    assert_eq!(status.state(), ContainerState::ContainerRunning, "{status:?}");
    // The pod whose container is unknown can have it again.
    daemon.status(&pods[2].1).await.unwrap_err();
    let again = testkit::pod(daemon, "no-container");
    daemon.launch(&pods[2].0, &again, &sleeper).await.unwrap();
}
