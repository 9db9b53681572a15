//! What cannot be done is refused with the right code, says why, and leaves nothing.

use cri_api::v1::{
    ContainerStatusRequest, CreateContainerRequest, ExecRequest, ExecSyncRequest,
    ListPodSandboxRequest, NamespaceMode, PodSandboxConfig, PodSandboxStatusRequest,
    ReopenContainerLogRequest, RunPodSandboxRequest, StartContainerRequest,
    UpdateContainerResourcesRequest,
};
use testkit::{Daemon, Setup};
use tonic::{Code, Status};

use crate::around::with_pod;

const UNKNOWN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn told(status: &Status, code: Code, what: &str) {
    assert_eq!(status.code(), code, "{what}: {status}");
    assert!(!status.message().is_empty(), "{what}: {status}");
}

#[tokio::test]
async fn unknown_ids_are_not_found() {
    testkit::isolate_network();
    let daemon = Setup::new().start().await;
    for (id, code) in
        [(UNKNOWN, Code::NotFound), ("../../etc", Code::NotFound), ("", Code::InvalidArgument)]
    {
        let container_id = id.to_owned();
        let right = |status: Status, what: &str| {
            // A text that cannot be an id is unknown or malformed; both say it.
            let malformed = status.code() == Code::InvalidArgument && id != UNKNOWN;
            assert!(status.code() == code || malformed, "{what} of {id:?}: {status}");
        };
        let mut runtime = daemon.runtime();
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        right(runtime.pod_sandbox_status(request).await.unwrap_err(), "pod status");
        let request = ContainerStatusRequest { container_id: container_id.clone(), verbose: false };
        right(runtime.container_status(request).await.unwrap_err(), "container status");
        let request = StartContainerRequest { container_id: container_id.clone() };
        right(runtime.start_container(request).await.unwrap_err(), "start");
        let request = ExecSyncRequest {
            container_id: container_id.clone(),
            cmd: vec!["true".to_owned()],
            timeout: 0,
        };
        right(runtime.exec_sync(request).await.unwrap_err(), "exec");
        let request = ReopenContainerLogRequest { container_id: container_id.clone() };
        right(runtime.reopen_container_log(request).await.unwrap_err(), "reopen");
        let request = UpdateContainerResourcesRequest {
            container_id: container_id.clone(),
            linux: Some(cri_api::v1::LinuxContainerResources::default()),
            ..Default::default()
        };
        right(runtime.update_container_resources(request).await.unwrap_err(), "update");
        let request = CreateContainerRequest {
            pod_sandbox_id: id.to_owned(),
            config: Some(testkit::container("c", "busybox", &["true"])),
            sandbox_config: Some(PodSandboxConfig::default()),
        };
        right(runtime.create_container(request).await.unwrap_err(), "create");
    }
}

async fn no_pods(daemon: &Daemon) {
    let list =
        daemon.runtime().list_pod_sandbox(ListPodSandboxRequest { filter: None }).await.unwrap();
    assert_eq!(list.into_inner().items, []);
}

#[tokio::test]
async fn malformed_pods_are_invalid_and_leave_nothing() {
    testkit::isolate_network();
    let daemon = Setup::new().start().await;
    let good = || testkit::host_network(testkit::pod(&daemon, "pod"));
    let changed = |change: &dyn Fn(&mut PodSandboxConfig)| {
        let mut pod = good();
        change(&mut pod);
        Some(pod)
    };
    let options = |pod: &mut PodSandboxConfig,
                   change: &dyn Fn(&mut cri_api::v1::NamespaceOption)| {
        let context = pod.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        change(context.namespace_options.as_mut().unwrap());
    };
    let table: [(&str, Option<PodSandboxConfig>, &str); 7] = [
        ("no config", None, ""),
        ("no metadata", changed(&|pod| pod.metadata = None), ""),
        ("no name", changed(&|pod| pod.metadata.as_mut().unwrap().name.clear()), ""),
        ("unknown handler", changed(&|_| {}), "no-such-handler"),
        (
            "a network of another container",
            changed(&|pod| options(pod, &|o| o.network = NamespaceMode::Container.into())),
            "",
        ),
        ("a network mode that is none", changed(&|pod| options(pod, &|o| o.network = 77)), ""),
        (
            "a port that is none",
            changed(&|pod| {
                pod.port_mappings = vec![cri_api::v1::PortMapping {
                    host_port: 99_999,
                    container_port: 1,
                    ..Default::default()
                }];
            }),
            "",
        ),
    ];
    for (what, config, handler) in table {
        let request = RunPodSandboxRequest { config, runtime_handler: handler.to_owned() };
        let Err(status) = daemon.runtime().run_pod_sandbox(request).await else {
            panic!("{what} is taken");
        };
        let right = [Code::InvalidArgument, Code::NotFound];
        assert!(right.contains(&status.code()), "{what}: {status}");
        if !handler.is_empty() {
            assert!(status.message().contains(handler), "{what}: {status}");
        }
    }
    no_pods(&daemon).await;
}

#[tokio::test]
async fn malformed_containers_are_invalid() {
    let with = with_pod().await;
    let good = || with.script("c", "true");
    let create = async |change: &dyn Fn(&mut cri_api::v1::ContainerConfig)| {
        let mut container = good();
        change(&mut container);
        with.daemon().create(&with.pod_id, &with.pod, &container).await.unwrap_err()
    };
    told(&create(&|c| c.metadata = None).await, Code::InvalidArgument, "no metadata");
    told(&create(&|c| c.image = None).await, Code::InvalidArgument, "no image");
    let status = create(&|c| c.image.as_mut().unwrap().image = "no/such:image".to_owned()).await;
    told(&status, Code::NotFound, "an image that is not there");
    let status = create(&|c| c.log_path = "../../../outside".to_owned()).await;
    told(&status, Code::InvalidArgument, "a log outside");
    let status = create(&|c| {
        let linux = c.linux.as_mut().unwrap();
        let context = linux.security_context.as_mut().unwrap();
        context.run_as_group = Some(cri_api::v1::Int64Value { value: 1 });
    })
    .await;
    told(&status, Code::InvalidArgument, "a group without a user");
    let status = create(&|c| {
        let linux = c.linux.as_mut().unwrap();
        let context = linux.security_context.as_mut().unwrap();
        context.capabilities = Some(cri_api::v1::Capability {
            add_capabilities: vec!["NO_SUCH_CAPABILITY".to_owned()],
            ..Default::default()
        });
    })
    .await;
    told(&status, Code::InvalidArgument, "an unknown capability");
    let status = create(&|c| {
        let linux = c.linux.as_mut().unwrap();
        let context = linux.security_context.as_mut().unwrap();
        context.run_as_username = "no-such-user".to_owned();
    })
    .await;
    assert!(status.message().contains("no-such-user"), "{status}");
    let list = cri_api::v1::ListContainersRequest { filter: None };
    let list = with.daemon().runtime().list_containers(list).await.unwrap();
    assert_eq!(list.into_inner().containers, []);
}

#[tokio::test]
async fn an_exec_without_a_command_is_invalid() {
    let with = with_pod().await;
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;
    told(&with.daemon().exec(&id, &[]).await.unwrap_err(), Code::InvalidArgument, "no command");
    let request = ExecRequest { container_id: id, ..Default::default() };
    let status = with.daemon().runtime().exec(request).await.unwrap_err();
    let right = [Code::InvalidArgument, Code::Unimplemented];
    assert!(right.contains(&status.code()), "{status}");
}

#[tokio::test]
async fn what_is_no_reference_is_invalid() {
    testkit::isolate_network();
    let daemon = Setup::new().start().await;
    for reference in
        ["", "docker.io/library/UPPER", "a b", "x@sha256:12", "host:99999/x:1", "../../etc/passwd"]
    {
        let status = daemon.pull(reference).await.unwrap_err();
        told(&status, Code::InvalidArgument, reference);
    }
}

#[tokio::test]
async fn a_second_daemon_leaves_the_first_ones_socket_alone() {
    testkit::isolate_network();
    let daemon = Setup::new().start().await;
    let second = daemon.command().output().unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("in use") || said.contains("another"), "{said}");
    no_pods(&daemon).await;
}

#[tokio::test]
async fn a_socket_of_a_dead_daemon_is_taken_over() {
    testkit::isolate_network();
    let mut daemon = Setup::new().start().await;
    daemon.kill();
    assert!(daemon.socket().exists());
    daemon.start().await;
    no_pods(&daemon).await;
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_with_all_its_mistakes() {
    let setup = Setup::new().toml("[network]\nmode = \"carrier-pigeon\"\n[log]\nlevl = \"info\"\n");
    let daemon = setup.prepare();
    let done = daemon.command().output().unwrap();
    assert!(!done.status.success());
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    for word in ["carrier-pigeon", "levl", "50-test.toml"] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
}
