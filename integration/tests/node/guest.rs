//! What takes a machine with systemd as process 1, cgroup v2 alone and AppArmor: `cargo xtask vm` has one,
//! and runs these tests in it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use cri_api::v1::security_profile::ProfileType;
use cri_api::v1::{
    Capability, ContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext,
    SecurityProfile, UpdateContainerResourcesRequest,
};
use testkit::{Network, Setup};

use crate::around::{WithPod, around};

mod quotas;

/// How long systemd may take to notice.
const NOTICES_WITHIN: Duration = Duration::from_secs(10);

/// Both drivers, by their names.
const DRIVERS: [&str; 2] = ["cgroupfs", "systemd"];

fn with_driver(driver: &str) -> impl FnOnce(Setup) -> Setup {
    move |setup| {
        let setup = setup.network(Network::None);
        if driver == "systemd" { setup.systemd() } else { setup }
    }
}

async fn with_pod(driver: &str) -> WithPod {
    let around = around(with_driver(driver)).await;
    let pod = testkit::host_network(testkit::pod(&around.daemon, "pod"));
    let pod_id = around.daemon.run_pod(&pod, "").await.unwrap();
    WithPod { around, pod, pod_id }
}

fn limited(mut container: ContainerConfig, limits: LinuxContainerResources) -> ContainerConfig {
    container.linux.as_mut().unwrap().resources = Some(limits);
    container
}

fn context(container: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    container.linux.as_mut().unwrap().security_context.as_mut().unwrap()
}

/// What a command prints, which must succeed.
fn output(program: &str, args: &[&str]) -> String {
    let done = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{program} {args:?}: {said}");
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

fn property(unit: &str, name: &str) -> String {
    output("systemctl", &["show", "--value", "--property", name, unit])
}

/// What a process in a container's cgroup prints.
async fn inside(with: &WithPod, id: &str, command: &[&str]) -> String {
    let done = with.daemon().exec(id, command).await.unwrap();
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// The directory of a container's cgroup, found by its id.
fn directory_of(id: &str) -> PathBuf {
    let found = output("find", &["/sys/fs/cgroup", "-type", "d", "-name", &format!("*{id}*")]);
    PathBuf::from(found.lines().next().unwrap_or_else(|| panic!("{id} has no cgroup")))
}

#[test]
#[ignore = "needs a guest: cargo xtask vm"]
fn the_guest_has_systemd_and_cgroup_v2_alone_and_apparmor() {
    assert_eq!(fs::read_to_string("/proc/1/comm").unwrap(), "systemd\n");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(
        mounts.contains(" /sys/fs/cgroup cgroup2 ") && !mounts.contains(" cgroup rw"),
        "{mounts}"
    );
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap();
    assert_eq!(enabled, "Y\n");
}

#[tokio::test]
#[ignore = "needs a guest: cargo xtask vm"]
async fn the_driver_of_a_machine_with_systemd_is_systemd_and_the_kubelet_is_told() {
    let around = around(|setup| {
        setup
            .network(Network::None)
            .toml("[cgroup]\ndriver = \"auto\"\nparent = \"isopod-auto.slice\"\n")
    });
    let around = around.await;
    let request = cri_api::v1::RuntimeConfigRequest {};
    let told = around.daemon.runtime().runtime_config(request).await.unwrap().into_inner();
    assert_eq!(told.linux.unwrap().cgroup_driver(), cri_api::v1::CgroupDriver::Systemd);
}

#[tokio::test]
#[ignore = "needs a guest: cargo xtask vm"]
async fn pods_are_slices_and_containers_are_delegated_scopes() {
    let with = with_pod("systemd").await;
    let limits = LinuxContainerResources {
        memory_limit_in_bytes: 64 << 20,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        ..Default::default()
    };
    let container = limited(testkit::sleeper("main", &with.around.image), limits);
    let id = with.launch(&container).await;
    let scope = format!("isopod-{id}.scope");
    assert_eq!(property(&scope, "ActiveState"), "active");
    assert_eq!(property(&scope, "Delegate"), "yes");
    assert_eq!(property(&scope, "MemoryMax"), (64 << 20).to_string());
    assert_eq!(property(&scope, "CPUQuotaPerSecUSec"), "500ms");
    let slice = property(&scope, "Slice");
    assert!(slice.starts_with("isopod-") && slice.ends_with(".slice"), "{slice}");
    assert_eq!(property(&slice, "ActiveState"), "active");
    let parent = with.daemon().cgroup();
    assert!(slice.starts_with(parent.trim_end_matches(".slice")), "{slice} in {parent}");

    // What systemd puts right at a reload is what we have told it.
    let update = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(LinuxContainerResources {
            memory_limit_in_bytes: 96 << 20,
            ..Default::default()
        }),
        ..Default::default()
    };
    with.daemon().runtime().update_container_resources(update).await.unwrap();
    output("systemctl", &["daemon-reload"]);
    assert_eq!(property(&scope, "MemoryMax"), (96 << 20).to_string());
    let directory = directory_of(&id);
    let limit = fs::read_to_string(directory.join("memory.max")).unwrap();
    assert_eq!(limit.trim(), (96 << 20).to_string());
    let quota = fs::read_to_string(directory.join("cpu.max")).unwrap();
    assert_eq!(quota.trim(), "50000 100000");

    with.daemon().stop_container(&id, 5).await.unwrap();
    testkit::until("the scope is gone", NOTICES_WITHIN, async || {
        (property(&scope, "ActiveState") == "inactive" && !directory.exists()).then_some(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a guest: cargo xtask vm"]
async fn a_pod_in_a_slice_of_the_kubelets_is_put_there() {
    let around = around(with_driver("systemd")).await;
    let parent = around.daemon.cgroup();
    let slice = format!("{}-burstable.slice", parent.trim_end_matches(".slice"));
    let mut pod = testkit::host_network(testkit::pod(&around.daemon, "pod"));
    // The kubelet gives a path whose last part is the slice.
    pod.linux.as_mut().unwrap().cgroup_parent = format!("/isopod.slice/{parent}/{slice}");
    output(
        "busctl",
        &[
            "call",
            "org.freedesktop.systemd1",
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
            "StartTransientUnit",
            "ssa(sv)a(sa(sv))",
            &slice,
            "replace",
            "1",
            "MemoryMax",
            "t",
            "268435456",
            "0",
        ],
    );
    let pod_id = around.daemon.run_pod(&pod, "").await.unwrap();
    let sleeper = testkit::sleeper("main", &around.image);
    let id = around.daemon.launch(&pod_id, &pod, &sleeper).await.unwrap();
    let scope = format!("isopod-{id}.scope");
    assert_eq!(property(&scope, "Slice"), slice);
    around.daemon.stop_container(&id, 5).await.unwrap();
    // It is not ours to end.
    assert_eq!(property(&slice, "ActiveState"), "active");
    output("systemctl", &["stop", &slice]);
}

#[tokio::test]
#[ignore = "needs a guest: cargo xtask vm"]
async fn limits_are_files_of_version_2_and_change_in_place() {
    for driver in DRIVERS {
        let with = with_pod(driver).await;
        let limits = LinuxContainerResources {
            memory_limit_in_bytes: 64 << 20,
            memory_swap_limit_in_bytes: 64 << 20,
            cpu_quota: 25_000,
            cpu_period: 50_000,
            cpu_shares: 512,
            cpuset_cpus: "0".to_owned(),
            unified: [("memory.high".to_owned(), (48 << 20).to_string())].into(),
            ..Default::default()
        };
        let container = limited(testkit::sleeper("main", &with.around.image), limits);
        let id = with.launch(&container).await;
        let read = async |file: &str| {
            let path = format!("/sys/fs/cgroup/{file}");
            inside(&with, &id, &["cat", &path]).await
        };
        for (file, expected) in [
            ("memory.max", (64 << 20).to_string()),
            ("memory.high", (48 << 20).to_string()),
            ("cpu.max", "25000 50000".to_owned()),
            ("cpuset.cpus", "0".to_owned()),
        ] {
            // An exec is in a cgroup below its container's, whose view begins at the container's.
            assert_eq!(read(file).await, expected, "{driver}: {file}");
        }
        let weight: u64 = read("cpu.weight").await.parse().unwrap();
        assert!((20..100).contains(&weight), "{driver}: half of the default shares are {weight}");
        let update = UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(LinuxContainerResources {
                memory_limit_in_bytes: 80 << 20,
                memory_swap_limit_in_bytes: 80 << 20,
                cpu_quota: -1,
                ..Default::default()
            }),
            ..Default::default()
        };
        with.daemon().runtime().update_container_resources(update).await.unwrap();
        assert_eq!(read("memory.max").await, (80 << 20).to_string(), "{driver}");
        assert!(read("cpu.max").await.starts_with("max "), "{driver}");
        let shown = inside(&with, &id, &["cat", "/proc/1/cgroup"]).await;
        assert_eq!(shown, "0::/", "{driver}: a container sees its own cgroup as the root");
    }
}

#[tokio::test]
#[ignore = "needs a guest: cargo xtask vm"]
async fn memory_that_runs_out_is_told_with_its_reason() {
    for driver in DRIVERS {
        let with = with_pod(driver).await;
        let limits = LinuxContainerResources {
            memory_limit_in_bytes: 24 << 20,
            memory_swap_limit_in_bytes: 24 << 20,
            ..Default::default()
        };
        // Of the first process, and of a child of it; systemd clears away a scope that is empty at once.
        for (name, script) in
            [("first", "exec tail /dev/zero"), ("child", "tail /dev/zero; exit 5")]
        {
            let (status, said) =
                with.run(&limited(with.script(name, script), limits.clone())).await;
            assert_eq!(status.reason, "OOMKilled", "{driver}, {name}: {said} {status:?}");
        }
        let (status, _) = with.run(&with.script("killed", "sh -c 'kill -9 $$'; exit $?")).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"), "{driver}");
    }
}

#[tokio::test]
#[ignore = "needs a guest: cargo xtask vm"]
async fn devices_are_kept_back_by_a_program_of_the_cgroup() {
    for driver in DRIVERS {
        let with = with_pod(driver).await;
        // The node can be made, and not opened: 1:11 is the kernel's log, 1:5 is /dev/zero.
        let script = "mknod /tmp/log c 1 11; mknod /tmp/zero c 1 5; \
                      head -c 1 /tmp/zero | wc -c; cat /tmp/log; echo $?";
        let mut container = with.script("main", script);
        context(&mut container).capabilities =
            Some(Capability { add_capabilities: vec!["SYSLOG".to_owned()], ..Default::default() });
        let (_, said) = with.run(&container).await;
        assert!(
            said.contains("1\n") && said.contains("Operation not permitted"),
            "{driver}: {said}"
        );

        let mut pod = testkit::host_network(testkit::pod(with.daemon(), "privileged"));
        let of_pod = pod.linux.get_or_insert_default();
        of_pod.security_context.get_or_insert_default().privileged = true;
        let pod_id = with.daemon().run_pod(&pod, "").await.unwrap();
        let mut privileged = with.script("privileged", "head -c 1 /dev/kmsg | wc -c");
        context(&mut privileged).privileged = true;
        let (_, said) = with.daemon().run_to_end(&pod_id, &pod, &privileged).await;
        assert!(!said.contains("not permitted"), "{driver}: {said}");
    }
}

#[tokio::test]
#[ignore = "needs a guest: cargo xtask vm"]
async fn processes_are_bounded_and_execs_are_in_their_containers_cgroup() {
    for driver in DRIVERS {
        let with = with_pod(driver).await;
        let limits = LinuxContainerResources {
            unified: [("pids.max".to_owned(), "12".to_owned())].into(),
            ..Default::default()
        };
        let container = limited(testkit::sleeper("main", &with.around.image), limits);
        let id = with.launch(&container).await;
        let bomb = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do sleep 100 & done; wait";
        let done = with.daemon().exec(&id, &["sh", "-c", bomb]).await.unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(said.contains("fork"), "{driver}: {said}");
        let directory = directory_of(&id);
        let below = inside(&with, &id, &["cat", "/proc/self/cgroup"]).await;
        assert!(below.starts_with("0::/exec-"), "{driver}: {below}");
        let counted = fs::read_to_string(directory.join("pids.current")).unwrap();
        assert!(counted.trim().parse::<u32>().unwrap() <= 12, "{driver}: {counted}");
    }
}

#[tokio::test]
#[ignore = "needs a guest: cargo xtask vm"]
async fn containers_outlive_their_daemon_and_systemds_reload() {
    let mut with = with_pod("systemd").await;
    let id = with.launch(&testkit::sleeper("main", &with.around.image)).await;
    with.around.daemon.kill();
    output("systemctl", &["daemon-reexec"]);
    with.around.daemon.start().await;
    let shown = inside(&with, &id, &["cat", "/proc/1/comm"]).await;
    assert_eq!(shown, "sh");
    with.daemon().stop_container(&id, 5).await.unwrap();
    let status = with.daemon().status(&id).await.unwrap();
    assert_eq!(status.exit_code, 0, "{status:?}");
}

#[tokio::test]
#[ignore = "needs a guest: cargo xtask vm"]
async fn runc_and_crun_make_scopes_too() {
    let handlers = "[handlers.runc]\nkind = \"oci\"\nprogram = \"/usr/sbin/runc\"\n\
                    [handlers.crun]\nkind = \"oci\"\nprogram = \"/usr/bin/crun\"\n";
    for driver in DRIVERS {
        let around = around(|setup| with_driver(driver)(setup).toml(handlers)).await;
        for handler in ["runc", "crun"] {
            let name = format!("{driver}-{handler}");
            let pod = testkit::host_network(testkit::pod(&around.daemon, &name));
            let pod_id = around.daemon.run_pod(&pod, handler).await.unwrap();
            let limits =
                LinuxContainerResources { memory_limit_in_bytes: 64 << 20, ..Default::default() };
            let script = "cat /sys/fs/cgroup/memory.max; exit 4";
            let container = testkit::container("main", &around.image, &["sh", "-c", script]);
            let container = limited(container, limits);
            let (status, said) = around.daemon.run_to_end(&pod_id, &pod, &container).await;
            assert_eq!((status.exit_code, said.as_str()), (4, "67108864\n"), "{name}: {status:?}");
        }
    }
}

/// A profile that lets everything be done but for one file.
const PROFILE: &str = "\
profile isopod-guest-test flags=(attach_disconnected,mediate_deleted) {
  capability, network, mount, umount, pivot_root, ptrace, signal, unix, dbus,
  file,
  deny /etc/passwd r,
}
";

fn with_profile(with: &WithPod, name: &str, profile: &str, script: &str) -> ContainerConfig {
    let mut container = with.script(name, script);
    context(&mut container).apparmor = Some(SecurityProfile {
        profile_type: ProfileType::Localhost.into(),
        localhost_ref: profile.to_owned(),
    });
    container
}

#[tokio::test]
#[ignore = "needs a guest: cargo xtask vm"]
async fn an_apparmor_profile_confines_a_container_and_its_execs() {
    let with = with_pod("systemd").await;
    let file = with.daemon().directory().join("profile");
    fs::write(&file, PROFILE).unwrap();
    output("apparmor_parser", &["--replace", "--skip-cache", file.to_str().unwrap()]);
    let script = "cat /proc/self/attr/current; cat /etc/passwd; sleep 1000";
    let container = with_profile(&with, "main", "isopod-guest-test", script);
    let id = with.launch(&container).await;
    let done = with.daemon().exec(&id, &["cat", "/proc/self/attr/current", "/etc/passwd"]).await;
    let done = done.unwrap();
    let (said, errors) =
        (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert_eq!(said, "isopod-guest-test (enforce)\n", "{errors}");
    assert!(errors.contains("Permission denied"), "{errors}");
    with.daemon().stop_container(&id, 0).await.unwrap();
    let logged = with.daemon().logged(&id).await;
    assert!(logged.starts_with("isopod-guest-test (enforce)\n"), "{logged}");
    assert!(logged.contains("Permission denied"), "{logged}");
    output("apparmor_parser", &["--remove", file.to_str().unwrap()]);
}

#[tokio::test]
#[ignore = "needs a guest: cargo xtask vm"]
async fn an_apparmor_profile_that_is_not_loaded_is_an_error_by_its_name() {
    let with = with_pod("systemd").await;
    let container = with_profile(&with, "main", "isopod-nowhere", "true");
    let created = with.daemon().launch(&with.pod_id, &with.pod, &container).await;
    let error = created.unwrap_err();
    assert!(error.message().contains("isopod-nowhere"), "{error:?}");
}
