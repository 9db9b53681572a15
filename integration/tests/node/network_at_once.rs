//! Many pods join networks of plugins at once.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::around::around;

const PODS: usize = 20;
const AT_ONCE: usize = 3;
/// The plugins of a chain.
const CHAIN: [&str; 3] = ["first", "second", "third"];

/// Notes when it begins and ends at ADD, a file each: the order of all is that of the times.
const PLUGIN: &str = r#"#!/bin/sh
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
ADD) began=$(date +%s%N); sleep 0.01
echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.9.2/24"}]}'
echo "$began $(date +%s%N) $CNI_CONTAINERID" > "${0%/*}/calls/$$" ;;
esac
"#;

/// A call of a plugin, in nanoseconds.
#[derive(Debug, Clone)]
struct Call {
    began: u64,
    ended: u64,
    sandbox: String,
}

fn calls(plugins: &Path) -> Vec<Call> {
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        let [began, ended, sandbox] = words[..] else { panic!("{text}") };
        let number = |word: &str| word.parse().unwrap();
        Call { began: number(began), ended: number(ended), sandbox: sandbox.to_owned() }
    };
    let files = std::fs::read_dir(plugins.join("calls")).unwrap();
    let mut calls: Vec<Call> = files.map(|entry| read(&entry.unwrap().path())).collect();
    calls.sort_by_key(|call| call.began);
    calls
}

#[tokio::test]
async fn pods_at_once_share_the_plugins_that_may_run_and_none_is_passed_over() {
    let mut plugins = std::path::PathBuf::new();
    let around = around(|setup| {
        plugins = setup.directory().join("plugins");
        std::fs::create_dir_all(plugins.join("calls")).unwrap();
        for kind in CHAIN {
            std::fs::write(plugins.join(kind), PLUGIN).unwrap();
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(plugins.join(kind), mode).unwrap();
        }
        let kinds = CHAIN.map(|kind| format!(r#"{{"type":"{kind}"}}"#)).join(",");
        let list = format!(r#"{{"cniVersion":"1.0.0","name":"net","plugins":[{kinds}]}}"#);
        let keys = format!(
            "network.cni.plugin_dirs = [{:?}]\nnetwork.cni.plugins_at_once = {AT_ONCE}",
            plugins.display().to_string()
        );
        setup.cni(&list).toml(&keys)
    })
    .await;
    let daemon = &around.daemon;
    let pods: Vec<_> = (0..PODS).map(|n| testkit::pod(daemon, &format!("pod-{n}"))).collect();
    let runs = pods.iter().map(|pod| daemon.run_pod(pod, ""));
    for ran in futures_util::future::join_all(runs).await {
        ran.unwrap();
    }

    let calls = calls(&plugins);
    assert_eq!(calls.len(), PODS * CHAIN.len());
    for call in &calls {
        let runs = |one: &&Call| one.began <= call.began && one.ended > call.began;
        let together = calls.iter().filter(runs).count();
        assert!(together <= AT_ONCE, "{together} at once: {calls:#?}");
    }
    let mut of_pod: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in &calls {
        of_pod.entry(&call.sandbox).or_default().push(call);
    }
    assert_eq!(of_pod.len(), PODS);
    for (pod, own) in &of_pod {
        for pair in own.windows(2) {
            // First come, first served: while a pod waits, each other one is called for what it had asked for
            // before, and once more where it asked between this pod's plugin's end and this pod's own asking.
            let mut passed: BTreeMap<&str, usize> = BTreeMap::new();
            let between = |one: &&Call| one.began > pair[0].ended && one.began < pair[1].began;
            for other in calls.iter().filter(between) {
                *passed.entry(&other.sandbox).or_default() += 1;
            }
            let most = passed.values().max().copied().unwrap_or_default();
            assert!(most <= 2, "{pod} was passed by {most} times by one other: {calls:#?}");
        }
    }
}
