//! What is wrong with a request is told by its field, and with a code that says who can mend it.

use std::os::unix::fs::FileTypeExt as _;

use cri_api::v1::{
    ContainerConfig, ImageSpec, LinuxContainerResources, Mount, NamespaceMode, SecurityProfile,
    UpdateContainerResourcesRequest, UserNamespace, security_profile::ProfileType,
};
use testkit::Network;
use tonic::{Code, Status};

use crate::around::{WithPod, around, with_pod};

type Change = fn(&mut LinuxContainerResources);

fn resources(container: &mut ContainerConfig) -> &mut LinuxContainerResources {
    container.linux.as_mut().unwrap().resources.get_or_insert_default()
}

async fn refused(with: &WithPod, change: impl FnOnce(&mut ContainerConfig)) -> Status {
    let mut container = with.script("main", "true");
    change(&mut container);
    with.daemon().create(&with.pod_id, &with.pod, &container).await.unwrap_err()
}

#[track_caller]
fn told(status: &Status, code: Code, parts: &[&str]) {
    assert_eq!(status.code(), code, "{status}");
    for part in parts {
        assert!(status.message().contains(part), "{part}: {status}");
    }
}

fn bind(host: &str, container: &str) -> Vec<Mount> {
    let (host_path, container_path) = (host.to_owned(), container.to_owned());
    vec![Mount { host_path, container_path, ..Default::default() }]
}

fn make_pipe(path: &std::path::Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    assert!(std::fs::metadata(path).unwrap().file_type().is_fifo());
}

#[tokio::test]
async fn a_seccomp_profile_is_a_regular_file_that_is_there() {
    let with = with_pod().await;
    let pipe = with.daemon().directory().join("profile");
    make_pipe(&pipe);
    let profile = |path: &str| {
        let localhost_ref = path.to_owned();
        Some(SecurityProfile { profile_type: ProfileType::Localhost.into(), localhost_ref })
    };
    for (path, code, part) in [
        (pipe.to_str().unwrap(), Code::FailedPrecondition, "is no regular file"),
        ("/no/such/profile.json", Code::FailedPrecondition, "does not exist"),
        ("foo.json", Code::InvalidArgument, "seccomp.localhost_ref is \"foo.json\""),
    ] {
        let status = refused(&with, |container| {
            let linux = container.linux.as_mut().unwrap();
            linux.security_context.as_mut().unwrap().seccomp = profile(path);
        });
        told(&status.await, code, &[path, part]);
    }
}

#[tokio::test]
async fn annotations_of_ours_are_known_and_sound() {
    let with = with_pod().await;
    for (name, value, cpus, parts) in [
        ("isopod.dev/exec-cpus", "4000-4001", "", ["isopod.dev/exec-cpus", "4000"]),
        ("isopod.dev/exec-cpus", "0-4000", "", ["isopod.dev/exec-cpus", "may use"]),
        ("isopod.dev/exec-cpus", "1", "0", ["isopod.dev/exec-cpus", "the CPUs 0, and 1"]),
        ("isopod.dev/foo", "zz", "", ["isopod.dev/foo", "not known"]),
    ] {
        let status = refused(&with, |container| {
            container.annotations.insert(name.to_owned(), value.to_owned());
            resources(container).cpuset_cpus = cpus.to_owned();
        });
        told(&status.await, Code::InvalidArgument, &parts);
    }
    let mut pod = testkit::host_network(testkit::pod(with.daemon(), "other"));
    pod.annotations.insert("isopod.dev/foo".to_owned(), "zz".to_owned());
    let status = with.daemon().run_pod(&pod, "").await.unwrap_err();
    told(&status, Code::InvalidArgument, &["isopod.dev/foo"]);
}

#[tokio::test]
async fn an_exec_goes_on_where_an_update_has_taken_its_cpus() {
    let with = with_pod().await;
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    if !online.starts_with("0-") {
        eprintln!("skipped: it needs the CPUs 0 and 1, and there are {online}");
        return;
    }
    let mut container = testkit::sleeper("main", &with.around.image);
    container.annotations.insert("isopod.dev/exec-cpus".to_owned(), "1".to_owned());
    resources(&mut container).cpuset_cpus = "0-1".to_owned();
    let id = with.launch(&container).await;
    let cpus = async || {
        let read = ["grep", "Cpus_allowed_list", "/proc/self/status"];
        let done = with.daemon().exec(&id, &read).await.unwrap();
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    assert_eq!(cpus().await, "Cpus_allowed_list:\t1\n");
    let update = |linux| UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(linux),
        ..Default::default()
    };
    let less = LinuxContainerResources { cpuset_cpus: "0".to_owned(), ..Default::default() };
    with.daemon().runtime().update_container_resources(update(less)).await.unwrap();
    assert_eq!(cpus().await, "Cpus_allowed_list:\t0\n");
    let bad = LinuxContainerResources { memory_limit_in_bytes: -5, ..Default::default() };
    let status = with.daemon().runtime().update_container_resources(update(bad)).await;
    let parts = ["linux.memory_limit_in_bytes is -5"];
    told(&status.unwrap_err(), Code::InvalidArgument, &parts);
}

#[tokio::test]
async fn limits_that_cannot_be_are_told_by_field() {
    let with = with_pod().await;
    let table: [(&str, Change); 6] = [
        ("memory_limit_in_bytes is -5", |r| r.memory_limit_in_bytes = -5),
        ("cpu_quota is -5", |r| r.cpu_quota = -5),
        ("memory_swap_limit_in_bytes is 4096", |r| r.memory_swap_limit_in_bytes = 4096),
        ("resources.cpuset_cpus: \"0-60000\"", |r| r.cpuset_cpus = "0-60000".to_owned()),
        ("resources.cpuset_mems: \"60000\"", |r| r.cpuset_mems = "60000".to_owned()),
        ("hugepage_limits[0].page_size", |r| {
            let page_size = "2Mi".to_owned();
            r.hugepage_limits = vec![cri_api::v1::HugepageLimit { page_size, limit: 1 }];
        }),
    ];
    for (part, change) in table {
        let status = refused(&with, |container| change(resources(container)));
        told(&status.await, Code::InvalidArgument, &[part]);
    }
}

#[tokio::test]
async fn mounts_and_the_working_directory_are_told_by_their_places() {
    let with = with_pod().await;
    let host = with.daemon().directory().join("volume");
    std::fs::create_dir(&host).unwrap();
    let file = host.join("file");
    std::fs::write(&file, "").unwrap();
    let (host, file) = (host.to_str().unwrap(), file.to_str().unwrap());
    let status = refused(&with, |c| c.mounts = bind(host, "/etc/passwd")).await;
    let parts = ["mount /etc/passwd: ", host, "is a directory, and its place is none"];
    told(&status, Code::InvalidArgument, &parts);
    let status = refused(&with, |c| c.mounts = bind(file, "/etc")).await;
    let parts = ["mount /etc: ", file, "is a file, and its place is a directory"];
    told(&status, Code::InvalidArgument, &parts);
    for directory in ["/etc/passwd", "/etc/passwd/below"] {
        let status = refused(&with, |c| c.working_dir = directory.to_owned()).await;
        told(&status, Code::InvalidArgument, &[directory]);
    }
    let image = |name: &str, sub_path: &str| {
        let image = Some(ImageSpec { image: name.to_owned(), ..Default::default() });
        let image_sub_path = sub_path.to_owned();
        let container_path = "/data".to_owned();
        vec![Mount { image, image_sub_path, container_path, ..Default::default() }]
    };
    let status = refused(&with, |c| c.mounts = image("no/such:image", "")).await;
    let parts = ["ImageVolumeMountFailed", "mount /data: ", "no/such:image"];
    told(&status, Code::FailedPrecondition, &parts);
    let name = with.around.image.clone();
    let status = refused(&with, |c| c.mounts = image(&name, "nix/da")).await;
    told(&status, Code::InvalidArgument, &["mount /data: ", &name, "nix/da"]);
}

#[tokio::test]
async fn kernel_parameters_that_cannot_be_set_are_told_by_why() {
    let with = with_pod().await;
    for (name, part) in [
        ("net.foo.bar", "in a pod on the host's network"),
        ("vm.swappiness", "belongs to no namespace"),
    ] {
        let mut pod = testkit::host_network(testkit::pod(with.daemon(), "other"));
        pod.linux.as_mut().unwrap().sysctls = [(name.to_owned(), "abc".to_owned())].into();
        let status = with.daemon().run_pod(&pod, "").await.unwrap_err();
        told(&status, Code::InvalidArgument, &["sysctls", name, part]);
    }
    let mut pod = testkit::host_network(testkit::pod(with.daemon(), "other"));
    let sysctls = [("kernel.shm_foo".to_owned(), "1".to_owned())];
    pod.linux.as_mut().unwrap().sysctls = sysctls.into();
    let status = with.daemon().run_pod(&pod, "").await.unwrap_err();
    told(&status, Code::InvalidArgument, &["kernel.shm_foo"]);
}

#[tokio::test]
async fn users_that_a_pods_namespace_has_not_are_told_by_field() {
    let with = with_pod().await;
    let mut pod = testkit::host_network(testkit::pod(with.daemon(), "users"));
    let range = vec![cri_api::v1::IdMapping { host_id: 900_000, container_id: 0, length: 65_536 }];
    let linux = pod.linux.as_mut().unwrap();
    let options = linux.security_context.as_mut().unwrap().namespace_options.as_mut().unwrap();
    options.userns_options = Some(UserNamespace {
        mode: NamespaceMode::Pod.into(),
        uids: range.clone(),
        gids: range.clone(),
    });
    let pod_id = with.daemon().run_pod(&pod, "").await.unwrap();
    let of_users = WithPod { around: with.around, pod, pod_id };
    let status = refused(&of_users, |container| {
        let linux = container.linux.as_mut().unwrap();
        linux.security_context.as_mut().unwrap().supplemental_groups = vec![70_000];
    });
    told(&status.await, Code::InvalidArgument, &["supplemental_groups: group 70000", "65535"]);
    let status = refused(&of_users, |container| {
        let linux = container.linux.as_mut().unwrap();
        let user = Some(cri_api::v1::Int64Value { value: 70_000 });
        linux.security_context.as_mut().unwrap().run_as_user = user;
    });
    told(&status.await, Code::InvalidArgument, &["run_as_user: user 70000"]);
    let status = refused(&of_users, |container| {
        container.mounts = bind("/sys/kernel", "/a");
        container.mounts[0].uid_mappings.clone_from(&range);
        container.mounts[0].gid_mappings.clone_from(&range);
    });
    let parts = ["mount /a: ", "uidMappings", "no idmapped mounts"];
    told(&status.await, Code::FailedPrecondition, &parts);
}

#[tokio::test]
async fn an_exec_beyond_the_limit_of_processes_says_so() {
    let set_up = |setup: testkit::Setup| setup.network(Network::None).toml("pods.pids_limit = 2\n");
    let around = around(set_up).await;
    let pod = testkit::host_network(testkit::pod(&around.daemon, "pod"));
    let pod_id = around.daemon.run_pod(&pod, "").await.unwrap();
    let with = WithPod { around, pod, pod_id };
    let script = "trap 'exit 0' TERM; sleep 1000 & echo ready; wait $!";
    let id = with.launch(&with.script("main", script)).await;
    testkit::until("both are there", std::time::Duration::from_secs(30), async || {
        with.daemon().logged(&id).await.contains("ready").then_some(())
    })
    .await;
    let status = with.daemon().exec(&id, &["true"]).await.unwrap_err();
    told(&status, Code::ResourceExhausted, &["pids.max"]);
}
