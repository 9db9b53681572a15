//! A spec that has been checked: what the launcher will do, in its own terms.
//!
//! Owns: the reading of the OCI runtime spec. Always pure; a field that cannot be honoured is an error
//! here, before any process or mount exists. Callers: `create`, and the monitor for `exec`.

mod capability;
mod mount;
mod process;
mod sysctl;

use std::path::{Component, Path, PathBuf};

use runtime_spec::{Linux, NamespaceKind, Spec};
use sys::Namespaces;

use crate::hooks::HookState;

pub(crate) use capability::COUNT as CAPABILITY_COUNT;
pub use capability::names as capability_names;
pub use mount::{Attributes, MountIds, MountPlan, Source};
pub use process::{CapabilitySets, ProcessPlan, RlimitPlan, RlimitValues};

/// A spec that this launcher cannot carry out, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("config.json: {field}: {problem}")]
pub struct BadSpec {
    /// The field's path.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl BadSpec {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// A container to be, checked.
#[derive(Debug)]
pub struct Plan {
    /// Namespaces to make. Those that are neither here nor in `joined` are the launcher's own.
    pub new_namespaces: Namespaces,
    /// Namespaces to enter, by the file that stands for each.
    pub joined: Vec<(Namespaces, PathBuf)>,
    /// Host name to set in a new UTS namespace.
    pub hostname: Option<String>,
    /// Mounts in order.
    pub mounts: Vec<MountPlan>,
    /// Whether the root ends up read-only.
    pub readonly_root: bool,
    /// Device nodes beyond the standard ones.
    pub devices: Vec<runtime_spec::LinuxDevice>,
    /// Hidden paths.
    pub masked_paths: Vec<PathBuf>,
    /// Read-only paths.
    pub readonly_paths: Vec<PathBuf>,
    /// Kernel parameters of its own or joined namespaces, dotted names.
    pub sysctls: Vec<(String, String)>,
    /// Whether it asks for a user namespace, which the pod then must have.
    pub wants_users: bool,
    /// SELinux label of the file systems that are made for it; empty for none.
    pub mount_label: String,
    /// Programs to run at points of its life, if there are any.
    pub hooks: Option<Box<HookPlan>>,
    /// Class of caches and memory bandwidth.
    pub rdt: Option<runtime_spec::IntelRdt>,
    /// The process.
    pub process: ProcessPlan,
}

/// Hooks, and what they are told. The id and the bundle are for whoever reads the plan to fill in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HookPlan {
    /// The hooks.
    pub all: runtime_spec::Hooks,
    /// What they are told.
    pub state: HookState,
}

impl HookPlan {
    fn read(spec: &Spec) -> Result<Option<Box<Self>>, BadSpec> {
        let Some(all) = spec.hooks.as_ref().filter(|all| **all != runtime_spec::Hooks::default())
        else {
            return Ok(None);
        };
        for (name, hooks) in [
            ("prestart", &all.prestart),
            ("createRuntime", &all.create_runtime),
            ("createContainer", &all.create_container),
            ("startContainer", &all.start_container),
            ("poststart", &all.poststart),
            ("poststop", &all.poststop),
        ] {
            let bad = |problem: &str| Err(BadSpec::new(format!("hooks.{name}"), problem));
            if hooks.iter().any(|hook| !hook.path.is_absolute()) {
                return bad("a path is not absolute");
            }
            if hooks.iter().any(|hook| hook.timeout.is_some_and(|seconds| seconds <= 0)) {
                return bad("a timeout must be positive");
            }
        }
        let annotations = spec.annotations.clone();
        let state = HookState { annotations, ..HookState::default() };
        let mut all = all.clone();
        let env = spec.process.as_ref().map_or(&[][..], |process| &process.env);
        // The specification leaves it open; with runc they have always had what the program has.
        for hook in all.start_container.iter_mut().filter(|hook| hook.env.is_empty()) {
            hook.env = env.to_vec();
        }
        Ok(Some(Box::new(Self { all, state })))
    }

    /// Whether something is to run before the process stands in its root.
    #[must_use]
    pub fn before_pivot(&self) -> bool {
        let all = &self.all;
        [&all.prestart, &all.create_runtime, &all.create_container].iter().any(|l| !l.is_empty())
    }
}

impl Plan {
    /// Reads `spec`.
    ///
    /// # Errors
    /// [`BadSpec`] names the field that is missing, contradictory or not supported.
    pub fn read(spec: &Spec) -> Result<Self, BadSpec> {
        let linux = spec.linux.as_ref().ok_or_else(|| BadSpec::new("linux", "is missing"))?;
        let process = spec.process.as_ref().ok_or_else(|| BadSpec::new("process", "is missing"))?;
        refuse_unsupported(spec, linux)?;
        let (new_namespaces, joined) = namespaces(linux)?;
        let hostname = (!spec.hostname.is_empty()).then(|| spec.hostname.clone());
        if hostname.is_some() && !new_namespaces.contains(Namespaces::UTS) {
            return Err(BadSpec::new("hostname", "needs a new uts namespace"));
        }
        if !new_namespaces.contains(Namespaces::MOUNT) {
            return Err(BadSpec::new("linux.namespaces", "a new mount namespace is needed"));
        }
        let mounts = spec.mounts.iter().enumerate().map(|(i, m)| MountPlan::read(i, m));
        Ok(Self {
            new_namespaces,
            hostname,
            mounts: mounts.collect::<Result<_, _>>()?,
            readonly_root: spec.root.as_ref().is_some_and(|r| r.readonly),
            devices: devices(linux)?,
            masked_paths: absolute("linux.maskedPaths", &linux.masked_paths)?,
            readonly_paths: absolute("linux.readonlyPaths", &linux.readonly_paths)?,
            sysctls: sysctl::read(linux, new_namespaces, &joined)?,
            wants_users: linux.namespaces.iter().any(|n| n.kind == NamespaceKind::User),
            mount_label: linux.mount_label.clone(),
            hooks: HookPlan::read(spec)?,
            rdt: linux.intel_rdt.clone(),
            process: ProcessPlan::read(process)?,
            joined,
        })
    }
}

/// Paths inside, each of which must begin at the root.
fn absolute(field: &str, paths: &[PathBuf]) -> Result<Vec<PathBuf>, BadSpec> {
    match paths.iter().position(|path| !path.is_absolute()) {
        Some(index) => {
            let problem = format!("{:?} is not absolute", paths[index]);
            Err(BadSpec::new(format!("{field}[{index}]"), problem))
        }
        None => Ok(paths.to_vec()),
    }
}

fn refuse_unsupported(spec: &Spec, linux: &Linux) -> Result<(), BadSpec> {
    let refused = [
        ("domainname", !spec.domainname.is_empty()),
        (
            "linux.rootfsPropagation",
            !matches!(
                linux.rootfs_propagation.as_str(),
                "" | "private" | "rprivate" | "slave" | "rslave"
            ),
        ),
    ];
    match refused.iter().find(|(_, present)| *present) {
        Some((field, _)) => Err(BadSpec::new(*field, "is not supported by this launcher")),
        None => Ok(()),
    }
}

/// Device nodes are made on the container's own /dev, and nowhere in its root file system.
fn devices(linux: &Linux) -> Result<Vec<runtime_spec::LinuxDevice>, BadSpec> {
    let is_below_dev = |path: &Path| {
        let mut parts = path.components();
        let begins = [Component::RootDir, Component::Normal("dev".as_ref())];
        begins.into_iter().all(|part| parts.next() == Some(part))
            && parts.clone().next().is_some()
            && parts.all(|part| matches!(part, Component::Normal(_)))
    };
    match linux.devices.iter().enumerate().find(|(_, device)| !is_below_dev(&device.path)) {
        Some((i, device)) => Err(BadSpec::new(
            format!("linux.devices[{i}].path"),
            format!("{:?} is not below /dev, where this launcher makes devices", device.path),
        )),
        None => Ok(linux.devices.clone()),
    }
}

fn namespaces(linux: &Linux) -> Result<(Namespaces, Vec<(Namespaces, PathBuf)>), BadSpec> {
    let mut new = Namespaces::NONE;
    let mut joined = Vec::new();
    for namespace in &linux.namespaces {
        let field = || format!("linux.namespaces[{:?}]", namespace.kind);
        let kind = match namespace.kind {
            NamespaceKind::Pid => Namespaces::PID,
            NamespaceKind::Network => Namespaces::NETWORK,
            NamespaceKind::Mount => Namespaces::MOUNT,
            NamespaceKind::Ipc => Namespaces::IPC,
            NamespaceKind::Uts => Namespaces::UTS,
            NamespaceKind::Cgroup => Namespaces::CGROUP,
            // The pod's, whatever path is given: the launcher is told which.
            NamespaceKind::User => continue,
            NamespaceKind::Time if namespace.path.is_none() => {
                return Err(BadSpec::new(field(), "a new one is not supported by this launcher"));
            }
            NamespaceKind::Time => Namespaces::TIME,
        };
        let seen =
            new.contains(kind) || joined.iter().any(|(k, _): &(Namespaces, PathBuf)| *k == kind);
        match &namespace.path {
            _ if seen => return Err(BadSpec::new(field(), "is there twice")),
            None => new = new.with(kind),
            Some(_) if kind == Namespaces::MOUNT => {
                return Err(BadSpec::new(field(), "joining a mount namespace is not supported"));
            }
            Some(path) if path.is_absolute() => joined.push((kind, path.clone())),
            Some(_) => return Err(BadSpec::new(field(), "the path must be absolute")),
        }
    }
    Ok((new, joined))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Spec {
        serde_json::from_str(json).unwrap()
    }

    const PROCESS: &str = r#""process":{"user":{"uid":0,"gid":0},"args":["sh"],"cwd":"/"}"#;

    fn linux(rest: &str) -> Spec {
        spec(&format!(r#"{{{PROCESS},"linux":{{"namespaces":[{{"type":"mount"}}{rest}}}}}"#))
    }

    #[test]
    fn devices_are_below_dev() {
        let device = |path: &str| {
            let devices =
                format!(r#"],"devices":[{{"path":"{path}","type":"c","major":1,"minor":3}}]"#);
            Plan::read(&linux(&devices)).map(|plan| plan.devices.len())
        };
        assert_eq!(device("/dev/null").unwrap(), 1);
        assert_eq!(device("/dev/dir/of/mine").unwrap(), 1);
        for bad in ["/x/null", "/dev", "/dev/../x", "dev/null", "/device"] {
            let error = device(bad).unwrap_err();
            assert_eq!(error.field, "linux.devices[0].path");
            assert!(error.problem.contains(bad), "{error:?}");
        }
    }

    #[test]
    fn a_new_and_a_joined_namespace_are_told_apart() {
        let plan =
            Plan::read(&linux(r#",{"type":"pid"},{"type":"network","path":"/run/netns/a"}]"#))
                .unwrap();
        assert!(plan.new_namespaces.contains(Namespaces::PID));
        assert!(!plan.new_namespaces.contains(Namespaces::NETWORK));
        assert_eq!(plan.joined, [(Namespaces::NETWORK, PathBuf::from("/run/netns/a"))]);
        let plan = Plan::read(&linux(r#",{"type":"time","path":"/proc/1/ns/time"}]"#)).unwrap();
        assert_eq!(plan.joined, [(Namespaces::TIME, PathBuf::from("/proc/1/ns/time"))]);
    }

    #[test]
    fn parameters_of_new_and_of_joined_namespaces_are_set() {
        let rest = r#",{"type":"ipc"},{"type":"network","path":"/run/netns/a"}],
            "sysctl":{"net.ipv4.ip_forward":"1","kernel.shmmax":"5"}"#;
        assert_eq!(Plan::read(&linux(rest)).unwrap().sysctls.len(), 2);
    }

    #[test]
    fn hooks_in_the_container_have_its_environment_where_they_have_none_of_their_own() {
        let hooks = r#""hooks":{"startContainer":[{"path":"/a"},{"path":"/b","env":["C=d"]}],"poststop":[{"path":"/c"}]}"#;
        let process = r#""process":{"args":["sh"],"cwd":"/","env":["A=b"]}"#;
        let namespaces = r#""linux":{"namespaces":[{"type":"mount"}]}"#;
        let plan = Plan::read(&spec(&format!("{{{hooks},{process},{namespaces}}}"))).unwrap();
        let all = plan.hooks.unwrap().all;
        let of = |hooks: &[runtime_spec::Hook]| -> Vec<String> {
            hooks.iter().map(|hook| hook.env.join(" ")).collect()
        };
        assert_eq!(
            (of(&all.start_container), of(&all.poststop)),
            (vec!["A=b".into(), "C=d".into()], vec![String::new()])
        );
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (bad, field) in [
            (spec("{}"), "linux"),
            (spec(r#"{"linux":{}}"#), "process"),
            (spec(&format!(r#"{{{PROCESS},"linux":{{}}}}"#)), "linux.namespaces"),
            (linux(r#",{"type":"time"}]"#), "linux.namespaces[Time]"),
            (linux(r#",{"type":"pid"},{"type":"pid"}]"#), "linux.namespaces[Pid]"),
            (linux(r#",{"type":"ipc","path":"x"}]"#), "linux.namespaces[Ipc]"),
            (
                spec(
                    r#"{"hooks":{"poststop":[{"path":"h"}]},"process":{"args":["sh"],"cwd":"/"},"linux":{"namespaces":[{"type":"mount"}]}}"#,
                ),
                "hooks.poststop",
            ),
            (linux(r#"],"rootfsPropagation":"shared""#), "linux.rootfsPropagation"),
            (linux(r#"],"maskedPaths":["/proc/kcore","rel"]"#), "linux.maskedPaths[1]"),
            (linux(r#"],"readonlyPaths":["proc/sys"]"#), "linux.readonlyPaths[0]"),
            (
                linux(r#",{"type":"network"}],"sysctl":{"kernel.core_pattern":"|/x"}"#),
                r#"linux.sysctl["kernel.core_pattern"]"#,
            ),
            (
                linux(r#",{"type":"ipc"}],"sysctl":{"net.ipv4.ip_forward":"1"}"#),
                r#"linux.sysctl["net.ipv4.ip_forward"]"#,
            ),
        ] {
            assert_eq!(Plan::read(&bad).unwrap_err().field, field);
        }
    }
}
