//! From a request of the CRI to an OCI runtime spec.

use std::path::{Component, Path};

use cri_api::v1::CreateContainerRequest;
use model::{Access, ContainerConfig, DeviceAccess, MountSource, SandboxConfig};
use oci_image::ImageConfig;
use prost::Message as _;
use runtime_spec::Spec;
use specgen::{
    DeviceKind, Features, HostDevice, HostFacts, Inputs, Launcher, PodFiles, RequestedGroups,
    ResolvedDevice, ResolvedMount,
};

/// A CreateContainerRequest with both configurations; its `pod_sandbox_id` stands for the image's user, command and
/// files of users.
pub fn request(data: &[u8]) {
    let Ok(request) = CreateContainerRequest::decode(data) else { return };
    let image_text = request.pod_sandbox_id.clone();
    let Ok((sandbox, container)) = cri_server::read_request(request) else { return };
    is_recorded(&sandbox, &container);
    let image = ImageConfig {
        user: image_text.lines().next().unwrap_or_default().to_owned(),
        entrypoint: vec!["/bin/true".to_owned()],
        ..ImageConfig::default()
    };
    for launcher in [Launcher::Own, Launcher::External] {
        if let Some(spec) = spec(&sandbox, &container, &image, &image_text, launcher) {
            holds(&spec, &container);
        }
    }
}

/// Both are written into records.
fn is_recorded(sandbox: &SandboxConfig, container: &ContainerConfig) {
    let written = serde_json::to_vec(&(sandbox, container))
        .unwrap_or_else(|e| panic!("a request that cannot be recorded: {e}"));
    let (pod, one): (SandboxConfig, ContainerConfig) = serde_json::from_slice(&written)
        .unwrap_or_else(|e| panic!("a record of a request that cannot be read: {e}"));
    assert!(pod == *sandbox && one == *container, "a request changes when it is recorded");
}

fn spec(
    sandbox: &SandboxConfig,
    container: &ContainerConfig,
    image: &ImageConfig,
    accounts: &str,
    launcher: Launcher,
) -> Option<Spec> {
    let security = &container.security;
    let groups = RequestedGroups {
        supplemental: &security.supplemental_groups,
        policy: security.groups_policy,
    };
    let files = (Some(accounts), Some(accounts));
    let identity =
        specgen::resolve_user(&security.run_as, &image.user, files.0, files.1, groups).ok()?;
    let features = Features {
        launcher,
        recursive_read_only: true,
        idmapped_mounts: true,
        privileged_without_host_devices: false,
    };
    let host = host();
    let devices = container.devices.iter().map(|device| ResolvedDevice {
        container_path: device.container_path.clone(),
        access: device.access,
        device: null(),
    });
    let inputs = Inputs {
        sandbox,
        container,
        image,
        identity: &identity,
        host: &host,
        files: &PodFiles { hosts: Some("/run/pod/hosts".into()), ..PodFiles::default() },
        cgroups_path: "/pods/c",
        root: Path::new("rootfs"),
        mounts: &resolved(container),
        devices: &devices.collect::<Vec<_>>(),
        features,
        seccomp: None,
        rlimits: &specgen::default_rlimits(),
        pids_limit: Some(100),
        capabilities: &specgen::default_capabilities(),
        apparmor_default: Some("isopod-default"),
    };
    specgen::container_spec(&inputs).ok()
}

fn resolved(container: &ContainerConfig) -> Vec<ResolvedMount> {
    let mounts = container.mounts.iter().map(|mount| ResolvedMount {
        destination: mount.container_path.clone(),
        source: match &mount.source {
            MountSource::HostPath(path) => path.clone(),
            MountSource::Image { .. } => "/run/pod/volume".into(),
        },
        access: mount.access,
        propagation: mount.propagation,
        uid_mappings: mount.uid_mappings.clone(),
        gid_mappings: mount.gid_mappings.clone(),
        options: mount.options.clone(),
    });
    mounts.collect()
}

fn host() -> HostFacts {
    let mut capabilities = specgen::default_capabilities();
    capabilities.extend(["CAP_SYS_ADMIN", "CAP_SYS_RESOURCE"].map(str::to_owned));
    HostFacts {
        hostname: "node".to_owned(),
        capabilities,
        devices: vec![null()],
        cgroup_unified: true,
        swap_limit: true,
        hugepage_sizes: vec!["2MB".to_owned()],
        cpus: None,
        memory_nodes: None,
        apparmor: true,
        selinux: true,
    }
}

fn null() -> HostDevice {
    let path = "/dev/null".into();
    HostDevice { path, kind: DeviceKind::Char, major: 1, minor: 3, mode: 0o666, uid: 0, gid: 0 }
}

fn holds(spec: &Spec, container: &ContainerConfig) {
    let Some(process) = &spec.process else { panic!("a spec without a process") };
    assert!(process.args.first().is_some_and(|word| !word.is_empty()), "no program");
    let words = process.args.iter().chain(&process.env);
    assert!(!words.into_iter().any(|word| word.contains('\0')), "a NUL for execve");
    assert!(process.env.iter().all(|word| word.find('=').is_some_and(|at| at > 0)), "no NAME=");
    assert!(Path::new(&process.cwd).is_absolute(), "{:?} to work in", process.cwd);
    for mount in &spec.mounts {
        assert!(is_plain(&mount.destination), "a mount at {:?}", mount.destination);
        let at = |m: &model::Mount| m.container_path == mount.destination;
        let asked = container.mounts.iter().rev().find(|m| at(m));
        if asked.is_some_and(|m| m.access != Access::ReadWrite) {
            let is_ro = |option: &String| option == "ro" || option == "rro";
            assert!(mount.options.iter().any(is_ro), "{mount:?} can be written to");
        }
    }
    let Some(linux) = &spec.linux else { panic!("a spec without a Linux") };
    if !container.security.privileged {
        let known = host().capabilities;
        let sets = process.capabilities.clone().unwrap_or_default();
        assert!(sets.bounding.iter().all(|c| known.contains(c)), "{:?}", sets.bounding);
        let allowed = linux.resources.iter().flat_map(|r| &r.devices).filter(|rule| rule.allow);
        for rule in allowed {
            let all =
                rule.access == DeviceAccess { read: true, write: true, mknod: true }.to_string();
            assert!(!(all && rule.major.is_none() && rule.minor.is_none()), "all devices");
        }
    }
    let written = serde_json::to_vec(spec).unwrap_or_else(|e| panic!("not to be written: {e}"));
    let again = serde_json::from_slice::<Spec>(&written);
    assert!(again.is_ok_and(|again| again == *spec), "a spec changes when it is written");
}

fn is_plain(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}
