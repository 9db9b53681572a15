//! Containers: what they run, how they end, what is told of them.

use cri_api::v1::{
    ContainerFilter, ContainerState, ContainerStateValue, KeyValue, ListContainersRequest,
    RemoveContainerRequest,
};
use serde_json::json;
use testkit::{Compression, busybox};
use tonic::Code;

use crate::around::with_pod;

#[tokio::test]
async fn exit_codes_and_reasons_are_true() {
    let with = with_pod().await;
    let table = [
        ("zero", "exit 0", 0, "Completed"),
        ("three", "exit 3", 3, "Error"),
        ("killed", "kill -9 $$", 137, "Error"),
        ("ended", "kill -TERM $$; sleep 9", 143, "Error"),
    ];
    for (name, script, code, reason) in table {
        // The shell is not process 1, which signals that it has no handler for do not reach.
        let script = format!("sh -c '{script}'; exit $?");
        let (status, _) = with.run(&with.script(name, &script)).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (code, reason), "{name}");
        assert!(status.created_at <= status.started_at, "{status:?}");
        assert!(status.started_at < status.finished_at, "{status:?}");
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_executed_is_a_start_error() {
    let with = with_pod().await;
    let table = [("missing", "/no/such/program"), ("not-executable", "/etc/passwd")];
    for (name, command) in table {
        let container = testkit::container(name, &with.around.image, &[command]);
        let id = with.daemon().create(&with.pod_id, &with.pod, &container).await.unwrap();
        let refused = with.daemon().start_container(&id).await.unwrap_err();
        assert!(refused.message().contains(command), "{refused}");
        let status = with.daemon().status(&id).await.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerExited);
        assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"), "{status:?}");
        assert!(status.message.contains(command), "{status:?}");
    }
}

#[tokio::test]
async fn commands_and_arguments_combine_as_kubernetes_says() {
    let with = with_pod().await;
    let image = busybox(Compression::Gzip)
        .set("Entrypoint", json!(["echo", "entry"]))
        .set("Cmd", json!(["cmd"]));
    with.around.registry.push(&image, "test/entry:1");
    let reference = with.around.registry.reference("test/entry:1");
    with.daemon().pull(&reference).await.unwrap();
    let table: [(&str, &[&str], &[&str], &str); 4] = [
        ("image", &[], &[], "entry cmd\n"),
        ("args", &[], &["args"], "entry args\n"),
        ("command", &["echo", "command"], &[], "command\n"),
        ("both", &["echo", "command"], &["args"], "command args\n"),
    ];
    for (name, command, args, expected) in table {
        let mut container = testkit::container(name, &reference, command);
        container.args = args.iter().map(|&arg| arg.to_owned()).collect();
        assert_eq!(with.output(&container).await, expected, "{name}");
    }
}

#[tokio::test]
async fn environment_and_directory_come_from_the_image_and_the_request() {
    let with = with_pod().await;
    let mut container =
        with.script("env", "pwd; env | sort | grep -E '^(FROM_IMAGE|PATH|MINE|HOSTNAME)='");
    let variable =
        |key: &str, value: &str| KeyValue { key: key.to_owned(), value: value.to_owned().into() };
    container.envs = vec![variable("MINE", "a b"), variable("FROM_IMAGE", "replaced")];
    container.working_dir = "/made/for/it".to_owned();
    let said = with.output(&container).await;
    assert!(said.starts_with("/made/for/it\n"), "{said}");
    for line in ["FROM_IMAGE=replaced", "MINE=a b", "PATH=/bin"] {
        assert!(said.lines().any(|l| l == line), "{line} is not in {said}");
    }
}

#[tokio::test]
async fn users_are_found_in_the_images_own_files() {
    let with = with_pod().await;
    let ids = "id -u; id -g; id -G; cat /proc/self/status | grep ^Groups";
    let mut by_name = with.script("by-name", ids);
    let context =
        |c: &mut cri_api::v1::ContainerConfig| c.linux.clone().unwrap().security_context.unwrap();
    let mut security = context(&mut by_name);
    security.run_as_username = "worker".to_owned();
    security.supplemental_groups = vec![3000];
    by_name.linux.as_mut().unwrap().security_context = Some(security);
    let (status, said) = with.run(&by_name).await;
    assert!(said.starts_with("1000\n1000\n"), "{said}");
    let user = status.user.unwrap().linux.unwrap();
    assert_eq!((user.uid, user.gid), (1000, 1000));
    let mut groups = user.supplemental_groups;
    groups.sort_unstable();
    assert_eq!(groups, [1000, 2000, 3000], "the file's and the request's");

    let mut by_number = with.script("by-number", ids);
    let mut security = context(&mut by_number);
    security.run_as_user = Some(cri_api::v1::Int64Value { value: 4000 });
    security.run_as_group = Some(cri_api::v1::Int64Value { value: 5000 });
    by_number.linux.as_mut().unwrap().security_context = Some(security);
    let said = with.output(&by_number).await;
    assert!(said.starts_with("4000\n5000\n"), "{said}");
}

#[tokio::test]
async fn stopping_gives_time_and_then_kills() {
    let with = with_pod().await;
    let polite = "trap 'exit 0' TERM; echo ready; while :; do sleep 1000 & wait $!; done";
    let polite = with.launch(&with.script("polite", polite)).await;
    // A first process that has no handler yet does not even get the signal (pid_namespaces(7)).
    testkit::until("it can be asked to end", std::time::Duration::from_secs(30), async || {
        (with.daemon().logged(&polite).await == "ready\n").then_some(())
    })
    .await;
    with.daemon().stop_container(&polite, 30).await.unwrap();
    let status = with.daemon().status(&polite).await.unwrap();
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 0));

    // Deaf to SIGTERM, with a child that would outlive it.
    let deaf = with.script("deaf", "trap '' TERM; sleep 1000 & while :; do wait; done");
    let deaf = with.launch(&deaf).await;
    with.daemon().stop_container(&deaf, 1).await.unwrap();
    let status = with.daemon().status(&deaf).await.unwrap();
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 137));
    with.daemon().stop_container(&deaf, 1).await.unwrap();

    let at_once = with.launch(&testkit::sleeper("at-once", &with.around.image)).await;
    with.daemon().stop_container(&at_once, 0).await.unwrap();
    assert_eq!(with.daemon().status(&at_once).await.unwrap().exit_code, 137);
}

#[tokio::test]
async fn removing_kills_and_is_repeatable() {
    let with = with_pod().await;
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;
    for _ in 0..2 {
        let request = RemoveContainerRequest { container_id: id.clone() };
        with.daemon().runtime().remove_container(request).await.unwrap();
    }
    assert_eq!(with.daemon().status(&id).await.unwrap_err().code(), Code::NotFound);
    with.daemon().stop_container(&id, 0).await.unwrap();
}

#[tokio::test]
async fn lists_filter_by_pod_and_state() {
    let with = with_pod().await;
    let running = with.launch(&testkit::sleeper("running", &with.around.image)).await;
    let (ended, _) = with.run(&with.script("ended", "true")).await;
    let list = async |state: Option<ContainerState>| {
        let filter = ContainerFilter {
            pod_sandbox_id: with.pod_id.clone(),
            state: state.map(|state| ContainerStateValue { state: state.into() }),
            ..Default::default()
        };
        let request = ListContainersRequest { filter: Some(filter) };
        let list = with.daemon().runtime().list_containers(request).await.unwrap();
        let mut ids: Vec<String> = list.into_inner().containers.into_iter().map(|c| c.id).collect();
        ids.sort();
        ids
    };
    assert_eq!(list(Some(ContainerState::ContainerRunning)).await, [running.as_str()]);
    assert_eq!(list(Some(ContainerState::ContainerExited)).await, [ended.id.as_str()]);
    assert_eq!(list(None).await.len(), 2);
}

#[tokio::test]
async fn a_repeated_request_gives_the_same_container() {
    let with = with_pod().await;
    let container = testkit::sleeper("main", &with.around.image);
    let create = || with.daemon().create(&with.pod_id, &with.pod, &container);
    let (first, second) = (create().await.unwrap(), create().await.unwrap());
    assert_eq!(first, second);
    with.daemon().start_container(&first).await.unwrap();
    let refused = with.run(&with.script("other", "true")).await;
    assert_eq!(refused.0.exit_code, 0);
}

#[tokio::test]
async fn an_ended_container_is_not_started_again() {
    let with = with_pod().await;
    let (status, _) = with.run(&with.script("once", "true")).await;
    let refused = with.daemon().start_container(&status.id).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
}

#[tokio::test]
async fn the_beginning_of_an_id_names_its_object() {
    let with = with_pod().await;
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;
    let daemon = with.daemon();
    assert_eq!(daemon.status(&id[..13]).await.unwrap().id, id);
    assert_eq!(daemon.pod_status(&with.pod_id[..13]).await.unwrap().id, with.pod_id);
    let filter = ContainerFilter { id: id[..13].to_owned(), ..ContainerFilter::default() };
    let request = ListContainersRequest { filter: Some(filter) };
    let listed = daemon.runtime().list_containers(request).await.unwrap().into_inner().containers;
    assert_eq!(listed.len(), 1);
    assert_eq!(daemon.status(&id[..3]).await.unwrap_err().code(), Code::NotFound, "too short");
    // What changes something needs as much as tools show: a call that is repeated would else hit another one.
    for call in [daemon.stop_container(&id[..11], 0).await, daemon.start_container(&id[..4]).await]
    {
        let refused = call.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    let request = RemoveContainerRequest { container_id: id[..4].to_owned() };
    let refused = daemon.runtime().remove_container(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert_eq!(daemon.status(&id).await.unwrap().state(), ContainerState::ContainerRunning);
    daemon.stop_container(&id[..13], 0).await.unwrap();
    assert_eq!(daemon.status(&id).await.unwrap().state(), ContainerState::ContainerExited);
    let request = RemoveContainerRequest { container_id: id[..13].to_owned() };
    daemon.runtime().remove_container(request).await.unwrap();
    assert_eq!(daemon.status(&id).await.unwrap_err().code(), Code::NotFound);
}
