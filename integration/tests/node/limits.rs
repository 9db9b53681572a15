//! Limits, and what happens past them.

use cri_api::v1::{ContainerState, LinuxContainerResources, UpdateContainerResourcesRequest};

use crate::around::with_pod;

#[tokio::test]
async fn a_container_past_its_memory_is_killed_and_says_so() {
    let with = with_pod().await;
    let mut container = with.script("main", "head -c 200000000 /dev/zero | tail | wc -c; exit 5");
    container.linux.as_mut().unwrap().resources = Some(LinuxContainerResources {
        memory_limit_in_bytes: 32 << 20,
        memory_swap_limit_in_bytes: 32 << 20,
        ..Default::default()
    });
    // The shell itself is not the one that is killed, and yet the container's end is told as what it
    // was: its own limit.
    let (status, _) = with.run(&container).await;
    assert_eq!(status.state(), ContainerState::ContainerExited);
    assert_eq!(status.reason, "OOMKilled", "{status:?}");
}

#[tokio::test]
async fn a_kill_for_memory_that_a_container_outlived_is_not_why_it_was_stopped() {
    let with = with_pod().await;
    let mut container = testkit::sleeper("main", &with.around.image);
    container.linux.as_mut().unwrap().resources = Some(LinuxContainerResources {
        memory_limit_in_bytes: 32 << 20,
        memory_swap_limit_in_bytes: 32 << 20,
        ..Default::default()
    });
    let id = with.launch(&container).await;
    let done = with.daemon().exec(&id, &["sh", "-c", "tail /dev/zero; echo $?"]).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout), "137\n");
    with.daemon().stop_container(&id, 0).await.unwrap();
    let status = with.daemon().status(&id).await.unwrap();
    assert_eq!((status.exit_code, &*status.reason), (137, "Error"), "{status:?}");
}

#[tokio::test]
async fn a_memory_limit_that_is_too_low_to_start_with_is_named() {
    let with = with_pod().await;
    let mut container = testkit::sleeper("main", &with.around.image);
    container.linux.as_mut().unwrap().resources =
        Some(LinuxContainerResources { memory_limit_in_bytes: 4096, ..Default::default() });
    let created = with.daemon().create(&with.pod_id, &with.pod, &container).await;
    let error = created.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
    assert!(error.message().contains("memory limit is too low"), "{error}");
}

#[tokio::test]
async fn limits_are_in_the_cgroup_and_can_be_changed() {
    let with = with_pod().await;
    let mut container = testkit::sleeper("main", &with.around.image);
    container.linux.as_mut().unwrap().resources = Some(LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 50_000,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 << 20,
        oom_score_adj: 500,
        ..Default::default()
    });
    let id = with.launch(&container).await;
    let done =
        with.daemon().exec(&id, &["cat", "/proc/self/cgroup", "/proc/1/oom_score_adj"]).await;
    let said = String::from_utf8_lossy(&done.unwrap().stdout).into_owned();
    assert!(said.ends_with("500\n"), "{said}");

    let limit = || {
        // v1 and v2 name it differently; the test knows both, and finds it by the container's id.
        let find = |top: &str, file: &str| {
            let pattern = format!("*{}*/{file}", with.daemon().cgroup());
            let mut search = std::process::Command::new("find");
            let out = search.arg(top).arg("-path").arg(pattern).output().unwrap();
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            text.lines().find(|line| line.contains(&id)).map(str::to_owned)
        };
        let path = find("/sys/fs/cgroup", "memory.limit_in_bytes")
            .or_else(|| find("/sys/fs/cgroup", "memory.max"));
        let path = path.expect("the container has a memory cgroup");
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    };
    assert_eq!(limit(), (64 << 20).to_string());
    let request = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(LinuxContainerResources {
            memory_limit_in_bytes: 96 << 20,
            ..Default::default()
        }),
        ..Default::default()
    };
    with.daemon().runtime().update_container_resources(request).await.unwrap();
    assert_eq!(limit(), (96 << 20).to_string());
    let status = with.daemon().status(&id).await.unwrap();
    let told = status.resources.unwrap().linux.unwrap();
    assert_eq!((told.memory_limit_in_bytes, told.cpu_shares), (96 << 20, 512));
}
