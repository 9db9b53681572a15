//! What the node's configuration and annotations give to containers beside their requests.

use cri_api::v1::{
    LinuxContainerResources, LinuxContainerSecurityContext, SecurityProfile,
    UpdateContainerResourcesRequest, security_profile::ProfileType,
};
use testkit::{Network, Setup};
use tonic::Code;

use crate::around::{WithPod, around};

const CONFIGURATION: &str = "\
[pods]
ulimits = [\"nofile=111:222\", \"core=0\"]
pids_limit = 77
exec_cpus = \"0\"
[rdt.classes.gold]
l3 = \"L3:0=f\"
[block_io.classes.slow]
read_rate = [\"/dev/no-such-disk=1MiB\"]
";

async fn with_pod() -> WithPod {
    let set_up = |setup: Setup| setup.network(Network::None).toml(CONFIGURATION);
    let around = around(set_up).await;
    let pod = testkit::host_network(testkit::pod(&around.daemon, "pod"));
    let pod_id = around.daemon.run_pod(&pod, "").await.unwrap();
    WithPod { around, pod, pod_id }
}

#[tokio::test]
async fn limits_of_the_configuration_hold_in_every_container() {
    let with = with_pod().await;
    let script = "ulimit -Sn; ulimit -Hn; ulimit -c; trap 'exit 0' TERM; \
                  while :; do sleep 1000 & wait $!; done";
    let id = with.launch(&with.script("main", script)).await;
    // They are lower than the daemon's: no power is needed for that.
    let expected = "111\n222\n0\n";
    testkit::until("it has said its limits", std::time::Duration::from_secs(30), async || {
        with.daemon().logged(&id).await.contains(expected).then_some(())
    })
    .await;
    let found = std::process::Command::new("find")
        .args(["/sys/fs/cgroup", "-path", &format!("*{id}*/pids.max")])
        .output()
        .unwrap();
    let path = String::from_utf8(found.stdout).unwrap();
    let path = path.lines().next().expect("the container has a pids cgroup");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "77\n");
    let exec = with.daemon().exec(&id, &["grep", "Cpus_allowed_list", "/proc/self/status"]).await;
    assert_eq!(&exec.unwrap().stdout[..], b"Cpus_allowed_list:\t0\n");
}

#[tokio::test]
async fn classes_that_the_node_has_not_are_errors() {
    let with = with_pod().await;
    let resctrl = std::path::Path::new("/sys/fs/resctrl/schemata").exists();
    for (key, value, code, part) in [
        ("io.kubernetes.cri.rdt-class", "lead", Code::InvalidArgument, "RDT class \"lead\""),
        ("io.kubernetes.cri.blockio-class", "lead", Code::InvalidArgument, "I/O class \"lead\""),
        ("io.kubernetes.cri.blockio-class", "slow", Code::FailedPrecondition, "no-such-disk"),
        ("isopod.dev/exec-cpus", "all", Code::InvalidArgument, "exec-cpus"),
        ("io.kubernetes.cri.rdt-class", "gold", Code::Internal, "no resctrl"),
    ] {
        if part == "no resctrl" && resctrl {
            // This machine has what the last one is to lack.
            continue;
        }
        let mut container = with.script("main", "true");
        container.annotations.insert(key.to_owned(), value.to_owned());
        let refused = with.daemon().create(&with.pod_id, &with.pod, &container).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(part), "{refused}");
    }
}

#[tokio::test]
async fn apparmor_profiles_are_given_or_refused() {
    let with = with_pod().await;
    let has_apparmor = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.starts_with('Y'));
    let with_profile = |name: &str, kind: ProfileType, reference: &str| {
        let mut container = with.script(name, "cat /proc/self/attr/current 2>/dev/null; true");
        let context = container.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        let localhost_ref = reference.to_owned();
        context.apparmor = Some(SecurityProfile { profile_type: kind.into(), localhost_ref });
        container
    };
    let named = with_profile("named", ProfileType::Localhost, "no-such-profile");
    let refused = with.daemon().create(&with.pod_id, &with.pod, &named).await.unwrap_err();
    assert!(refused.message().contains("no-such-profile"), "{refused}");
    let open = with_profile("open", ProfileType::Unconfined, "");
    let open = with.output(&open).await;
    let default = with_profile("default", ProfileType::RuntimeDefault, "");
    if has_apparmor {
        assert_eq!(open, "unconfined\n");
        assert_eq!(with.output(&default).await, "isopod-default (enforce)\n");
    } else {
        // The default is the best that the node has.
        with.output(&default).await;
    }
}

#[tokio::test]
async fn the_oom_score_of_a_running_container_can_be_changed() {
    let with = with_pod().await;
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;
    let linux = LinuxContainerResources { oom_score_adj: 600, ..Default::default() };
    let request = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(linux),
        ..Default::default()
    };
    with.daemon().runtime().update_container_resources(request).await.unwrap();
    let exec = with.daemon().exec(&id, &["cat", "/proc/1/oom_score_adj"]).await.unwrap();
    assert_eq!(&exec.stdout[..], b"600\n");
    let status = with.daemon().status(&id).await.unwrap();
    assert_eq!(status.resources.unwrap().linux.unwrap().oom_score_adj, 600);
}

#[tokio::test]
async fn namespaces_that_the_pod_has_not_are_refused() {
    let with = with_pod().await;
    let mut container = with.script("main", "true");
    let context: &mut LinuxContainerSecurityContext =
        container.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    context.namespace_options = Some(cri_api::v1::NamespaceOption {
        ipc: cri_api::v1::NamespaceMode::Node.into(),
        pid: cri_api::v1::NamespaceMode::Container.into(),
        ..Default::default()
    });
    let refused = with.daemon().create(&with.pod_id, &with.pod, &container).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}

#[tokio::test]
async fn an_update_for_windows_is_refused() {
    let with = with_pod().await;
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;
    let plain = UpdateContainerResourcesRequest { container_id: id, ..Default::default() };
    let windows =
        UpdateContainerResourcesRequest { windows: Some(Default::default()), ..plain.clone() };
    let annotated = UpdateContainerResourcesRequest {
        annotations: [("isopod.dev/log-rate".to_owned(), "1Ki".to_owned())].into(),
        ..plain
    };
    for (request, field) in [(windows, "windows"), (annotated, "annotations")] {
        let refused =
            with.daemon().runtime().update_container_resources(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(field), "{refused}");
    }
}
