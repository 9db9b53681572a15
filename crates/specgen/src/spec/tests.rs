use std::collections::BTreeMap;

use model::{
    CapabilityChanges, ContainerConfig, ContainerMetadata, EnvVar, GroupsPolicy, HandlerName,
    IdMapping, ImageSpec, Namespaces, Resources, RunAs, SandboxConfig, SandboxMetadata, Secret,
    Stdio,
};
use oci_image::ImageConfig;
use runtime_spec::Seccomp;

use super::*;
use crate::capabilities::default_capabilities;
use crate::inputs::{Features, HostFacts, PodFiles, ResolvedDevice, ResolvedMount};
use crate::user::Identity;

/// Everything that an [`Inputs`] borrows: a plain container of a plain pod, to be changed by each test.
pub(crate) struct Sample {
    pub(crate) sandbox: SandboxConfig,
    pub(crate) container: ContainerConfig,
    pub(crate) image: ImageConfig,
    pub(crate) identity: Identity,
    pub(crate) host: HostFacts,
    pub(crate) files: PodFiles,
    pub(crate) mounts: Vec<ResolvedMount>,
    pub(crate) devices: Vec<ResolvedDevice>,
    pub(crate) features: Features,
    pub(crate) seccomp: Option<Seccomp>,
    rlimits: Vec<Rlimit>,
    capabilities: Vec<String>,
}

impl Sample {
    pub(crate) fn new() -> Self {
        let user = model::User { uid: 1000, gid: 1000, groups: vec![1000] };
        let mut host_capabilities = default_capabilities();
        host_capabilities.extend(["CAP_SYS_ADMIN", "CAP_SYS_RESOURCE"].map(str::to_owned));
        Self {
            sandbox: sandbox(),
            container: container(),
            image: ImageConfig {
                entrypoint: vec!["/bin/true".to_owned()],
                ..ImageConfig::default()
            },
            identity: Identity { user, home: "/home/u".into() },
            host: HostFacts {
                hostname: "node".to_owned(),
                capabilities: host_capabilities,
                ..HostFacts::default()
            },
            files: PodFiles {
                hosts: Some("/run/isopod/pod/hosts".into()),
                hostname: Some("/run/isopod/pod/hostname".into()),
                resolv_conf: Some("/run/isopod/pod/resolv.conf".into()),
                shm: Some("/run/isopod/pod/shm".into()),
                shm_size: 0,
            },
            mounts: Vec::new(),
            devices: Vec::new(),
            features: Features {
                recursive_read_only: true,
                idmapped_mounts: true,
                ..Features::default()
            },
            seccomp: None,
            rlimits: default_rlimits(),
            capabilities: default_capabilities(),
        }
    }

    pub(crate) fn env(&mut self, variables: &[(&str, &str)]) {
        let variable = |(name, value): &(&str, &str)| EnvVar {
            name: (*name).to_owned(),
            value: Secret::new((*value).to_owned()),
        };
        self.container.envs = variables.iter().map(variable).collect();
    }

    pub(crate) fn inputs(&self) -> Inputs<'_> {
        Inputs {
            sandbox: &self.sandbox,
            container: &self.container,
            image: &self.image,
            identity: &self.identity,
            host: &self.host,
            files: &self.files,
            cgroups_path: "/kubepods/pod1/c1",
            root: Path::new("rootfs"),
            mounts: &self.mounts,
            devices: &self.devices,
            features: self.features,
            seccomp: self.seccomp.as_ref(),
            rlimits: &self.rlimits,
            pids_limit: Some(100),
            capabilities: &self.capabilities,
            apparmor_default: Some("isopod-default"),
        }
    }

    fn spec(&self) -> Spec {
        container_spec(&self.inputs()).unwrap()
    }

    pub(crate) fn linux(&self) -> Linux {
        self.spec().linux.unwrap()
    }
}

fn sandbox() -> SandboxConfig {
    SandboxConfig {
        metadata: SandboxMetadata {
            name: "p".to_owned(),
            uid: "u".to_owned(),
            namespace: "n".to_owned(),
            attempt: 0,
        },
        handler: HandlerName::default(),
        hostname: "pod".to_owned(),
        log_directory: None,
        dns: None,
        port_mappings: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        cgroup_parent: None,
        namespaces: Namespaces::default(),
        privileged: true,
        selinux: None,
        run_as: RunAs::default(),
        readonly_rootfs: false,
        supplemental_groups: Vec::new(),
        groups_policy: GroupsPolicy::default(),
        seccomp: Profile::default(),
        apparmor: Profile::default(),
        sysctls: BTreeMap::new(),
        overhead: Resources::default(),
        resources: Resources::default(),
    }
}

fn container() -> ContainerConfig {
    ContainerConfig {
        metadata: ContainerMetadata { name: "c".to_owned(), attempt: 0 },
        image: ImageSpec::default(),
        command: Vec::new(),
        args: Vec::new(),
        working_dir: None,
        envs: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        cdi_devices: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        log_path: None,
        stdio: Stdio::default(),
        stop_signal: None,
        resources: Resources::default(),
        security: ContainerSecurity::default(),
    }
}

#[test]
fn a_plain_container_is_confined() {
    let spec = Sample::new().spec();
    let process = spec.process.unwrap();
    assert_eq!(process.args, ["/bin/true"]);
    assert_eq!((process.user.uid, process.user.additional_gids), (1000, vec![1000]));
    assert_eq!(process.capabilities.unwrap().bounding, default_capabilities());
    assert_eq!(process.rlimits[0].kind, "RLIMIT_NOFILE");
    assert!(!process.terminal && !process.no_new_privileges);
    assert_eq!(spec.root.unwrap().path, Path::new("rootfs"));
    assert!(spec.hostname.is_empty(), "the pod's host name is the monitor's to set");
    let linux = spec.linux.unwrap();
    assert_eq!(linux.masked_paths, default_masked_paths());
    assert_eq!(linux.readonly_paths, default_readonly_paths());
    assert_eq!(linux.cgroups_path, "/kubepods/pod1/c1");
    assert_eq!(linux.resources.unwrap().pids, Some(Pids { limit: 100 }));
}

#[test]
fn a_privileged_container_is_not_and_needs_a_sandbox_that_allows_it() {
    let mut sample = Sample::new();
    sample.container.security.privileged = true;
    sample.container.security.masked_paths = vec!["/proc/kcore".into()];
    sample.container.security.seccomp = Profile::RuntimeDefault;
    sample.features.launcher = Launcher::External;
    sample.seccomp = Some(Seccomp::default());
    let linux = sample.linux();
    assert!(linux.masked_paths.is_empty() && linux.readonly_paths.is_empty());
    assert_eq!(linux.seccomp, None);
    let sets = sample.spec().process.unwrap().capabilities.unwrap();
    assert_eq!(sets.effective, sample.host.capabilities);
    sample.sandbox.privileged = false;
    let refused = container_spec(&sample.inputs());
    assert_eq!(refused, Err(SpecError::PrivilegedInPlainSandbox));
}

#[test]
fn an_empty_list_of_paths_is_meant_only_where_the_pod_has_users_of_its_own() {
    let mut sample = Sample::new();
    let ids = IdMapping { container_id: 0, host_id: 100_000, length: 65_536 };
    sample.sandbox.namespaces.user = UserNamespace::Pod { uids: ids, gids: ids };
    assert!(sample.linux().masked_paths.is_empty());
    sample.container.security.masked_paths = vec!["/proc/kcore".into()];
    assert_eq!(sample.linux().masked_paths, [PathBuf::from("/proc/kcore")]);
    sample.container.security.masked_paths = vec!["/proc/../etc".into()];
    assert!(container_spec(&sample.inputs()).is_err());
}

#[test]
fn who_runs_in_a_pod_with_users_of_its_own_is_one_of_them() {
    let mut sample = Sample::new();
    let ids = IdMapping { container_id: 0, host_id: 100_000, length: 65_536 };
    let told = |sample: &Sample| match container_spec(&sample.inputs()) {
        Ok(_) => "none".to_owned(),
        Err(error) => error.to_string(),
    };
    sample.identity.user.groups.push(70_000);
    sample.container.security.supplemental_groups = vec![70_000];
    assert_eq!(told(&sample), "none", "without such a namespace it may");
    sample.sandbox.namespaces.user = UserNamespace::Pod { uids: ids, gids: ids };
    let of_group = told(&sample);
    assert!(of_group.starts_with("supplemental_groups: group 70000 is not in"), "{of_group}");
    assert!(of_group.ends_with("which has 0 to 65535"), "{of_group}");
    sample.container.security.supplemental_groups.clear();
    assert!(told(&sample).starts_with("the image's groups: group 70000"));
    sample.identity.user.uid = 65_536;
    assert!(told(&sample).starts_with("the image's user: user 65536"));
    sample.container.security.run_as.user = Some(RunAsUser::Id(65_536));
    assert!(told(&sample).starts_with("run_as_user: user 65536"));
    sample.identity.user = model::User { uid: 65_535, gid: 65_535, groups: vec![65_535] };
    assert_eq!(told(&sample), "none");
}

#[test]
fn only_an_external_runtime_is_not_asked_for_limits_that_it_may_not_set() {
    let mut sample = Sample::new();
    sample.host.capabilities.retain(|c| c != "CAP_SYS_RESOURCE");
    assert_eq!(sample.spec().process.unwrap().rlimits, default_rlimits());
    sample.features.launcher = Launcher::External;
    assert!(sample.spec().process.unwrap().rlimits.is_empty());
}

#[test]
fn a_profile_goes_into_the_spec_only_for_an_external_runtime() {
    let mut sample = Sample::new();
    sample.container.security.seccomp = Profile::RuntimeDefault;
    sample.seccomp = Some(Seccomp::default());
    assert_eq!(sample.linux().seccomp, None);
    sample.features.launcher = Launcher::External;
    assert_eq!(sample.linux().seccomp, Some(Seccomp::default()));
    sample.container.security.seccomp = Profile::Unconfined;
    assert_eq!(sample.linux().seccomp, None);
}

#[test]
fn what_the_request_says_of_its_process_is_there() {
    let mut sample = Sample::new();
    sample.container.security.no_new_privs = true;
    sample.container.security.readonly_rootfs = true;
    sample.container.resources.oom_score_adj = Some(-997);
    sample.container.stdio.tty = true;
    let drop = vec!["ALL".to_owned()];
    sample.container.security.capabilities = CapabilityChanges { drop, ..Default::default() };
    let spec = sample.spec();
    let process = spec.process.unwrap();
    assert!(process.no_new_privileges && process.terminal);
    assert_eq!(process.oom_score_adj, Some(-997));
    assert!(process.capabilities.unwrap().bounding.is_empty());
    assert!(spec.root.unwrap().readonly);
}
