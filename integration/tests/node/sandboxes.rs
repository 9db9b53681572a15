//! Pods: begun, asked for, stopped, removed.

use std::collections::BTreeMap;

use cri_api::v1::{
    DnsConfig, ListPodSandboxRequest, PodSandboxFilter, PodSandboxState, PodSandboxStateValue,
    RemovePodSandboxRequest, StopPodSandboxRequest,
};
use testkit::{Daemon, Setup};
use tonic::Code;

use crate::around::{plain, with_pod};

async fn listed(daemon: &Daemon, filter: PodSandboxFilter) -> Vec<String> {
    let request = ListPodSandboxRequest { filter: Some(filter) };
    let list = daemon.runtime().list_pod_sandbox(request).await.unwrap();
    list.into_inner().items.into_iter().map(|pod| pod.id).collect()
}

async fn stop(daemon: &Daemon, id: &str) {
    let request = StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
    daemon.runtime().stop_pod_sandbox(request).await.unwrap();
}

async fn remove(daemon: &Daemon, id: &str) {
    let request = RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
    daemon.runtime().remove_pod_sandbox(request).await.unwrap();
}

#[tokio::test]
async fn a_pod_goes_from_ready_to_not_ready_to_nothing() {
    testkit::isolate_network();
    let daemon = Setup::new().start().await;
    let mut pod = testkit::host_network(testkit::pod(&daemon, "pod"));
    pod.labels.insert("app".to_owned(), "x".to_owned());
    pod.annotations.insert("note/it".to_owned(), "multi\nline".to_owned());
    let id = daemon.run_pod(&pod, "").await.unwrap();
    let status = daemon.pod_status(&id).await.unwrap();
    assert_eq!(status.state(), PodSandboxState::SandboxReady);
    assert_eq!(status.metadata, pod.metadata);
    assert_eq!(status.labels, pod.labels);
    assert_eq!(status.annotations, pod.annotations);
    assert!(status.created_at > 1_700_000_000_000_000_000);

    stop(&daemon, &id).await;
    stop(&daemon, &id).await;
    let status = daemon.pod_status(&id).await.unwrap();
    assert_eq!(status.state(), PodSandboxState::SandboxNotready);

    remove(&daemon, &id).await;
    remove(&daemon, &id).await;
    stop(&daemon, &id).await;
    assert_eq!(daemon.pod_status(&id).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn lists_filter_by_id_state_and_labels_together() {
    testkit::isolate_network();
    let daemon = Setup::new().start().await;
    let mut ids = Vec::new();
    for (name, app) in [("one", "a"), ("two", "a"), ("three", "b")] {
        let mut pod = testkit::host_network(testkit::pod(&daemon, name));
        pod.labels.insert("app".to_owned(), app.to_owned());
        ids.push(daemon.run_pod(&pod, "").await.unwrap());
    }
    stop(&daemon, &ids[1]).await;
    let app = |app: &str| BTreeMap::from([("app".to_owned(), app.to_owned())]);
    let ready = PodSandboxStateValue { state: PodSandboxState::SandboxReady.into() };
    let filter = PodSandboxFilter { label_selector: app("a"), ..Default::default() };
    assert_eq!(listed(&daemon, filter.clone()).await.len(), 2);
    let filter = PodSandboxFilter { state: Some(ready), ..filter };
    assert_eq!(listed(&daemon, filter.clone()).await, [ids[0].as_str()]);
    let filter = PodSandboxFilter { id: ids[2].clone(), ..filter };
    assert_eq!(listed(&daemon, filter).await, Vec::<String>::new());
    assert_eq!(listed(&daemon, PodSandboxFilter::default()).await.len(), 3);
}

#[tokio::test]
async fn a_repeated_request_gives_the_same_pod() {
    testkit::isolate_network();
    let daemon = Setup::new().start().await;
    let pod = testkit::host_network(testkit::pod(&daemon, "pod"));
    let runs = futures_util::future::join_all((0..4).map(|_| daemon.run_pod(&pod, ""))).await;
    let ids: Vec<String> = runs.into_iter().map(Result::unwrap).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(daemon.run_pod(&pod, "").await.unwrap(), ids[0]);
    assert_eq!(listed(&daemon, PodSandboxFilter::default()).await, [ids[0].as_str()]);
}

#[tokio::test]
async fn a_pod_has_its_name_its_resolvers_and_its_sysctls() {
    let around = plain().await;
    let daemon = &around.daemon;
    let mut pod = testkit::pod(daemon, "named");
    pod.dns_config = Some(DnsConfig {
        servers: vec!["192.0.2.53".to_owned()],
        searches: vec!["a.example".to_owned(), "b.example".to_owned()],
        options: vec!["ndots:2".to_owned()],
    });
    let linux = pod.linux.as_mut().unwrap();
    linux.sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "80".to_owned());
    linux.sysctls.insert("kernel.shm_rmid_forced".to_owned(), "1".to_owned());
    let id = daemon.run_pod(&pod, "").await.unwrap();
    let script = "hostname; cat /etc/resolv.conf; grep -c named /etc/hosts; \
                  cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced";
    let container = testkit::container("main", &around.image, &["sh", "-c", script]);
    let (status, said) = daemon.run_to_end(&id, &pod, &container).await;
    assert_eq!(status.exit_code, 0, "{said}");
    for line in ["named", "nameserver 192.0.2.53", "search a.example b.example", "options ndots:2"]
    {
        assert!(said.lines().any(|l| l == line), "{line:?} is not in {said}");
    }
    assert!(said.ends_with("80\n1\n"), "{said}");
}

#[tokio::test]
async fn an_unknown_sysctl_is_an_error_that_leaves_no_pod() {
    testkit::isolate_network();
    let daemon = Setup::new().start().await;
    let mut pod = testkit::pod(&daemon, "pod");
    let linux = pod.linux.as_mut().unwrap();
    linux.sysctls.insert("net.no.such.thing".to_owned(), "1".to_owned());
    let status = daemon.run_pod(&pod, "").await.unwrap_err();
    assert!(status.message().contains("net.no.such.thing"), "{status}");
    assert_eq!(listed(&daemon, PodSandboxFilter::default()).await, Vec::<String>::new());
}

#[tokio::test]
async fn containers_of_a_pod_share_memory_and_nothing_of_their_processes() {
    let with = with_pod().await;
    with.output(&with.script("writes", "echo shared > /dev/shm/x")).await;
    let said =
        with.output(&with.script("reads", "cat /dev/shm/x; ls -d /proc/[0-9]*; echo $$")).await;
    assert!(said.starts_with("shared\n"), "{said}");
    assert!(said.ends_with("\n1\n"), "the shell is process 1: {said}");
}

#[tokio::test]
async fn stopping_a_pod_ends_its_containers() {
    let with = with_pod().await;
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;
    stop(with.daemon(), &with.pod_id).await;
    let status = with.daemon().ended(&id).await;
    assert!(status.finished_at > status.started_at);
    let late = with.script("late", "true");
    let refused = with.daemon().create(&with.pod_id, &with.pod, &late).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    remove(with.daemon(), &with.pod_id).await;
    assert_eq!(with.daemon().status(&id).await.unwrap_err().code(), Code::NotFound);
}
