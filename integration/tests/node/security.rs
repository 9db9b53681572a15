//! What a container may not do.

use cri_api::v1::{
    Capability, Device, LinuxContainerSecurityContext, NamespaceMode, security_profile::ProfileType,
};

use crate::around::{WithPod, with_pod};

/// Runs a script in a container whose context `change` changes, and gives what it wrote.
async fn said(
    with: &WithPod,
    name: &str,
    script: &str,
    change: impl FnOnce(&mut LinuxContainerSecurityContext),
) -> String {
    let mut container = with.script(name, script);
    change(container.linux.as_mut().unwrap().security_context.as_mut().unwrap());
    with.run(&container).await.1
}

const STATUS: &str =
    "grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status";

fn field(status: &str, name: &str) -> String {
    let line = status.lines().find(|line| line.starts_with(name));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).rsplit('\t').next().unwrap().to_owned()
}

#[tokio::test]
async fn capabilities_are_the_default_ones_with_changes() {
    let with = with_pod().await;
    let by_default = said(&with, "default", STATUS, |_| {}).await;
    assert_eq!(field(&by_default, "CapEff"), "00000000a80425fb", "as every runtime has them");
    let none = said(&with, "none", STATUS, |context| {
        let drop_capabilities = vec!["ALL".to_owned()];
        context.capabilities = Some(Capability { drop_capabilities, ..Default::default() });
    });
    let none = none.await;
    assert_eq!(field(&none, "CapEff"), "0000000000000000");
    assert_eq!(field(&none, "CapBnd"), "0000000000000000");
    let one = said(&with, "one", STATUS, |context| {
        context.capabilities = Some(Capability {
            drop_capabilities: vec!["ALL".to_owned()],
            add_capabilities: vec!["NET_ADMIN".to_owned()],
            ..Default::default()
        });
    });
    assert_eq!(field(&one.await, "CapEff"), "0000000000001000");
    let ambient = said(&with, "ambient", STATUS, |context| {
        context.run_as_user = Some(cri_api::v1::Int64Value { value: 1000 });
        context.capabilities = Some(Capability {
            add_capabilities: vec!["NET_BIND_SERVICE".to_owned()],
            add_ambient_capabilities: vec!["NET_BIND_SERVICE".to_owned()],
            ..Default::default()
        });
    });
    let ambient = ambient.await;
    assert_eq!(field(&ambient, "CapAmb"), "0000000000000400");
    assert_eq!(field(&ambient, "CapEff"), "0000000000000400");
}

#[tokio::test]
async fn the_filter_follows_the_profile() {
    let with = with_pod().await;
    let by_default = said(&with, "default", STATUS, |_| {}).await;
    assert_eq!(field(&by_default, "Seccomp"), "2");
    assert_eq!(field(&by_default, "NoNewPrivs"), "0");
    let profile = |kind: ProfileType, path: &str| cri_api::v1::SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: path.to_owned(),
    };
    let open = said(&with, "open", STATUS, |context| {
        context.seccomp = Some(profile(ProfileType::Unconfined, ""));
        context.no_new_privs = true;
    });
    let open = open.await;
    assert_eq!(
        (field(&open, "Seccomp"), field(&open, "NoNewPrivs")),
        ("0".to_owned(), "1".to_owned())
    );
    let file = with.daemon().directory().join("profile.json");
    let text = r#"{ "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }] }"#;
    std::fs::write(&file, text).unwrap();
    let local = said(&with, "local", "mkdir /tmp/x; ls -d /tmp/x", |context| {
        context.seccomp = Some(profile(ProfileType::Localhost, &file.to_string_lossy()));
    });
    let local = local.await;
    assert!(local.contains("not supported"), "EOPNOTSUPP, as the profile says: {local}");
}

#[tokio::test]
async fn masked_and_read_only_paths_are_held() {
    let with = with_pod().await;
    let script = "cat /proc/keys | wc -c; ls /sys/firmware | wc -l; \
                  (echo 1 > /proc/sys/kernel/panic) 2>&1; true";
    let held = said(&with, "held", script, |context| {
        context.masked_paths = vec!["/proc/keys".to_owned(), "/sys/firmware".to_owned()];
        context.readonly_paths = vec!["/proc/sys".to_owned(), "/proc/no-such-file".to_owned()];
    });
    let held = held.await;
    assert!(held.starts_with("0\n0\n"), "{held}");
    assert_eq!(held.matches("Read-only file system").count(), 1, "{held}");
}

#[tokio::test]
async fn a_read_only_root_cannot_be_written_and_dev_shm_can() {
    let with = with_pod().await;
    let script = "(touch /x) 2>&1; touch /dev/shm/y && echo fine";
    let written = said(&with, "main", script, |context| context.readonly_rootfs = true).await;
    assert!(written.contains("Read-only file system"), "{written}");
    assert!(written.ends_with("fine\n"), "{written}");
}

#[tokio::test]
async fn a_container_sees_neither_the_hosts_files_nor_its_devices() {
    let with = with_pod().await;
    let outside = with.daemon().directory().to_string_lossy().into_owned();
    let script = format!(
        "ls -d {outside} 2>&1; ls /dev | tr '\\n' ' '; mknod /tmp/sda b 8 0; cat /tmp/sda 2>&1"
    );
    let seen = said(&with, "main", &script, |_| {}).await;
    assert!(seen.contains("No such file"), "{seen}");
    for device in ["null", "zero", "full", "random", "urandom", "tty", "fd", "stdin", "ptmx"] {
        assert!(seen.split_whitespace().any(|name| name == device), "{device} is not in {seen}");
    }
    assert!(!seen.contains("sda "), "{seen}");
    assert!(seen.contains("not permitted"), "device rules hold: {seen}");
}

#[tokio::test]
async fn a_device_takes_the_place_of_a_standard_one_and_has_none_outside_dev() {
    let with = with_pod().await;
    let device = |path: &str| Device {
        host_path: "/dev/zero".to_owned(),
        container_path: path.to_owned(),
        permissions: "rw".to_owned(),
    };
    let mut container = with.script("main", "stat -c '%t:%T' /dev/null /dev/deep/zero");
    container.devices = vec![device("/dev/null"), device("/dev/deep/zero")];
    assert_eq!(with.output(&container).await, "1:5\n1:5\n");
    container.metadata.as_mut().unwrap().name = "outside".to_owned();
    container.devices = vec![device("/mine/zero")];
    let created = with.daemon().create(&with.pod_id, &with.pod, &container).await;
    let error = created.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
    assert!(error.message().contains("/mine/zero") && error.message().contains("/dev"), "{error}");
}

#[tokio::test]
async fn only_a_container_of_the_same_pod_that_runs_shows_its_processes() {
    let with = with_pod().await;
    let other = testkit::host_network(testkit::pod(with.daemon(), "other"));
    let other_id = with.daemon().run_pod(&other, "").await.unwrap();
    let sleeper = testkit::sleeper("sleeper", &with.around.image);
    let of_other = with.daemon().launch(&other_id, &other, &sleeper).await.unwrap();
    let created = with.daemon().create(&with.pod_id, &with.pod, &sleeper).await.unwrap();
    for (target, code, says) in [
        (&of_other, tonic::Code::InvalidArgument, "no container of this pod"),
        (&"f".repeat(64), tonic::Code::InvalidArgument, "no container of this pod"),
        (&created, tonic::Code::FailedPrecondition, "does not run"),
    ] {
        let mut debugger = with.script("debugger", "true");
        let linux = debugger.linux.get_or_insert_default();
        let context = linux.security_context.get_or_insert_default();
        let options = context.namespace_options.get_or_insert_default();
        options.pid = NamespaceMode::Target.into();
        options.target_id = target.clone();
        let refused = with.daemon().create(&with.pod_id, &with.pod, &debugger).await;
        let error = refused.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(target) && error.message().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_privileged_container_has_everything() {
    let with = with_pod().await;
    // The pod has to be privileged for that, as the kubelet asks it to be.
    let mut pod = testkit::host_network(testkit::pod(with.daemon(), "privileged"));
    pod.linux.as_mut().unwrap().security_context.as_mut().unwrap().privileged = true;
    let pod_id = with.daemon().run_pod(&pod, "").await.unwrap();
    let mut container = with.script(
        "main",
        &format!("{STATUS}; ls /dev | wc -l; mount -t tmpfs t /tmp && echo mounted"),
    );
    container.linux.as_mut().unwrap().security_context.as_mut().unwrap().privileged = true;
    let (status, seen) = with.daemon().run_to_end(&pod_id, &pod, &container).await;
    assert_eq!(status.exit_code, 0, "{seen}");
    assert_eq!(field(&seen, "Seccomp"), "0");
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(field(&seen, "CapEff"), field(&own, "CapEff"));
    assert!(seen.ends_with("mounted\n"), "{seen}");
}

#[tokio::test]
async fn no_descriptor_of_ours_is_open_in_a_container() {
    let with = with_pod().await;
    let seen = said(&with, "main", "ls /proc/self/fd | tr '\\n' ' '", |_| {}).await;
    // 3 is the directory that ls has open itself.
    assert_eq!(seen.trim(), "0 1 2 3");
}
