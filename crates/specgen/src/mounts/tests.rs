use super::*;
use crate::inputs::Launcher;
use crate::spec::tests::Sample;

fn at(sample: &Sample) -> Vec<String> {
    let mounts = mounts(&sample.inputs()).unwrap();
    mounts.iter().map(|m| m.destination.display().to_string()).collect()
}

fn find(sample: &Sample, place: &str) -> Mount {
    let mut mounts = mounts(&sample.inputs()).unwrap();
    let at = mounts.iter().rposition(|m| m.destination == Path::new(place)).unwrap();
    mounts.swap_remove(at)
}

fn asked(destination: &str) -> ResolvedMount {
    ResolvedMount {
        destination: destination.into(),
        source: "/srv/data".into(),
        access: Access::ReadWrite,
        propagation: Propagation::Private,
        uid_mappings: Vec::new(),
        gid_mappings: Vec::new(),
        options: Vec::new(),
    }
}

#[test]
fn every_container_has_the_system_and_its_pods_files() {
    let sample = Sample::new();
    assert_eq!(
        at(&sample),
        [
            "/proc",
            "/dev",
            "/dev/pts",
            "/dev/mqueue",
            "/sys",
            "/sys/fs/cgroup",
            "/etc/hosts",
            "/etc/hostname",
            "/etc/resolv.conf",
            "/dev/shm",
        ]
    );
    assert_eq!(find(&sample, "/etc/hosts").options, ["rbind", "rprivate", "rw"]);
    assert_eq!(find(&sample, "/dev/shm").source, "/run/isopod/pod/shm");
    for place in ["/sys", "/sys/fs/cgroup"] {
        assert!(find(&sample, place).options.contains(&"ro".to_owned()));
    }
}

#[test]
fn a_privileged_container_may_write_to_sysfs_and_cgroups() {
    let mut sample = Sample::new();
    sample.container.security.privileged = true;
    for place in ["/sys", "/sys/fs/cgroup"] {
        assert!(find(&sample, place).options.contains(&"rw".to_owned()));
    }
}

#[test]
fn a_mount_of_the_request_takes_the_systems_place() {
    let mut sample = Sample::new();
    sample.mounts = vec![asked("/etc/hosts"), asked("/dev/shm"), asked("/sys/fs/cgroup")];
    let places = at(&sample);
    for place in ["/etc/hosts", "/dev/shm", "/sys/fs/cgroup"] {
        assert_eq!(places.iter().filter(|p| *p == place).count(), 1, "{place}");
        assert_eq!(find(&sample, place).source, "/srv/data");
    }
    sample.mounts = vec![asked("/dev/"), asked("/sys")];
    let places = at(&sample);
    assert_eq!(
        places,
        ["/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/shm",]
    );
}

#[test]
fn what_is_inside_of_another_mount_comes_after_it_and_else_the_order_stays() {
    let mut sample = Sample::new();
    let places = ["/a/b/c", "/z", "/a", "/b", "/a/b"];
    sample.mounts = places.iter().map(|place| asked(place)).collect();
    let found: Vec<String> =
        at(&sample).into_iter().filter(|p| places.contains(&p.as_str())).collect();
    assert_eq!(found, ["/z", "/a", "/b", "/a/b", "/a/b/c"]);
}

#[test]
fn access_propagation_and_options_are_the_specs_words() {
    let maps = vec![IdMapping { container_id: 0, host_id: 5, length: 9 }];
    for (access, propagation, options, expected) in [
        (Access::ReadWrite, Propagation::Private, &[][..], &["rbind", "rprivate", "rw"][..]),
        (Access::ReadOnly, Propagation::HostToContainer, &[], &["rbind", "rslave", "ro"]),
        (Access::ReadWrite, Propagation::Bidirectional, &[], &["rbind", "rshared", "rw"]),
        (Access::RecursiveReadOnly, Propagation::Private, &[], &["rbind", "rprivate", "rro"]),
        (
            Access::ReadWrite,
            Propagation::Private,
            &["noexec", "nosuid"],
            &["rbind", "rprivate", "rw", "noexec", "nosuid"],
        ),
    ] {
        let mut sample = Sample::new();
        sample.mounts = vec![ResolvedMount {
            access,
            propagation,
            options: options.iter().map(ToString::to_string).collect(),
            uid_mappings: maps.clone(),
            ..asked("/data")
        }];
        let mount = find(&sample, "/data");
        assert_eq!(mount.options, expected);
        assert_eq!(mount.uid_mappings, [IdMap { container_id: 0, host_id: 5, size: 9 }]);
        assert_eq!((mount.kind.as_str(), mount.source.as_str()), ("bind", "/srv/data"));
    }
}

#[test]
fn a_mount_that_cannot_be_is_refused_by_its_place() {
    type Spoil = fn(&mut ResolvedMount);
    let spoilt: [(Spoil, &str); 6] = [
        (|m| m.destination = "data".into(), "absolute"),
        (|m| m.destination = "/data/../x".into(), ".."),
        (|m| m.destination = "/.".into(), "root"),
        (|m| m.source = "srv".into(), "absolute"),
        (|m| m.options = vec!["suid".to_owned()], "suid"),
        (
            |m| {
                m.access = Access::RecursiveReadOnly;
                m.propagation = Propagation::HostToContainer;
            },
            "private",
        ),
    ];
    for (spoil, word) in spoilt {
        let mut sample = Sample::new();
        let mut mount = asked("/data");
        spoil(&mut mount);
        sample.mounts = vec![mount];
        let error = mounts(&sample.inputs()).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn what_the_handler_cannot_do_is_said_and_not_left_out() {
    let mut sample = Sample::new();
    sample.features.recursive_read_only = false;
    sample.mounts = vec![ResolvedMount { access: Access::RecursiveReadOnly, ..asked("/data") }];
    let error = mounts(&sample.inputs()).unwrap_err();
    assert!(error.to_string().starts_with("RROUnsupported"));
    sample.features.idmapped_mounts = false;
    let gid_mappings = vec![IdMapping { container_id: 0, host_id: 5, length: 9 }];
    sample.mounts = vec![ResolvedMount { gid_mappings, ..asked("/data") }];
    assert!(matches!(mounts(&sample.inputs()), Err(SpecError::Unsupported { .. })));
}

#[test]
fn shared_memory_is_the_pods_the_hosts_or_the_containers_own() {
    let mut sample = Sample::new();
    sample.container.security.namespaces.ipc = IpcMode::Node;
    assert_eq!(find(&sample, "/dev/shm").source, "/dev/shm");
    sample.container.security.namespaces.ipc = IpcMode::Container;
    let own = find(&sample, "/dev/shm");
    assert_eq!(own.kind, "tmpfs");
    assert!(own.options.contains(&"size=67108864".to_owned()));
}

#[test]
fn a_read_only_root_has_read_only_files_in_etc() {
    let mut sample = Sample::new();
    sample.container.security.readonly_rootfs = true;
    assert_eq!(find(&sample, "/etc/resolv.conf").options, ["rbind", "rprivate", "ro"]);
    sample.files.hosts = None;
    assert!(!at(&sample).contains(&"/etc/hosts".to_owned()));
}

#[test]
fn with_users_of_its_own_a_pod_binds_what_belongs_to_the_hosts_namespaces() {
    let mut sample = Sample::new();
    let ids = IdMapping { container_id: 0, host_id: 100_000, length: 65_536 };
    sample.sandbox.namespaces.user = UserNamespace::Pod { uids: ids, gids: ids };
    assert_eq!(find(&sample, "/sys").kind, "sysfs");
    sample.container.security.namespaces.network = NetworkMode::Node;
    sample.container.security.namespaces.ipc = IpcMode::Node;
    assert_eq!(find(&sample, "/sys").kind, "bind");
    assert_eq!(find(&sample, "/dev/mqueue").kind, "bind");
}

#[test]
fn an_external_runtime_leaves_mounts_in_touch_with_the_host_where_a_volume_wants_that() {
    for (propagation, expected) in [
        (Propagation::Private, ""),
        (Propagation::HostToContainer, "rslave"),
        (Propagation::Bidirectional, "rshared"),
    ] {
        let mut sample = Sample::new();
        sample.mounts = vec![ResolvedMount { propagation, ..asked("/data") }];
        assert_eq!(sample.linux().rootfs_propagation, "", "{propagation:?}");
        sample.features.launcher = Launcher::External;
        assert_eq!(sample.linux().rootfs_propagation, expected, "{propagation:?}");
    }
}
