//! The spec as a whole.

use std::path::{Path, PathBuf};

use model::{ContainerSecurity, IdMapping, Profile, Propagation, RunAsUser, UserNamespace};
use runtime_spec::{Linux, Pids, Process, Rlimit, Root, Spec, User};

use crate::capabilities::capabilities;
use crate::command::{command, environment, working_dir};
use crate::devices::devices;
use crate::error::SpecError;
use crate::files::{default_masked_paths, default_readonly_paths};
use crate::inputs::{Inputs, Launcher};
use crate::labels::{apparmor, selinux_labels};
use crate::mounts::mounts;
use crate::namespaces::{namespaces, sysctls};
use crate::resources::resources;

/// How many files a process may have open, where the configuration does not say.
const OPEN_FILES: u64 = 1 << 20;

/// The limits of every container where the configuration does not say: without one it would be an accident
/// of how the daemon was started.
#[must_use]
pub fn default_rlimits() -> Vec<Rlimit> {
    vec![Rlimit { kind: "RLIMIT_NOFILE".to_owned(), hard: OPEN_FILES, soft: OPEN_FILES }]
}

/// The seccomp profile that applies: none for a privileged container, whatever it says.
#[must_use]
pub const fn seccomp_profile(security: &ContainerSecurity) -> &Profile {
    if security.privileged { &Profile::Unconfined } else { &security.seccomp }
}

/// The spec of a container.
///
/// # Errors
/// What the request contradicts, or the host or the handler does not have.
pub fn container_spec(inputs: &Inputs<'_>) -> Result<Spec, SpecError> {
    let security = &inputs.container.security;
    if security.privileged && !inputs.sandbox.privileged {
        return Err(SpecError::PrivilegedInPlainSandbox);
    }
    in_user_namespace(inputs)?;
    let (process_label, mount_label) =
        selinux_labels(inputs.container, inputs.sandbox, inputs.host);
    Ok(Spec {
        oci_version: runtime_spec::VERSION.to_owned(),
        process: Some(process(inputs, process_label)?),
        root: Some(Root { path: inputs.root.to_owned(), readonly: security.readonly_rootfs }),
        mounts: mounts(inputs)?,
        linux: Some(linux(inputs, mount_label)?),
        ..Spec::default()
    })
}

/// Whoever runs in a pod with users of its own must be one of them.
fn in_user_namespace(inputs: &Inputs<'_>) -> Result<(), SpecError> {
    let UserNamespace::Pod { uids, gids } = inputs.sandbox.namespaces.user else { return Ok(()) };
    let is_in = |map: IdMapping, id: u32| {
        id.checked_sub(map.container_id).is_some_and(|offset| offset < map.length)
    };
    let last = |map: IdMapping| u64::from(map.container_id) + u64::from(map.length) - 1;
    let bad = |field: &str, what: &str, id: u32, map: IdMapping| SpecError::Bad {
        field: field.to_owned(),
        problem: format!(
            "{what} {id} is not in the pod's user namespace, which has {} to {}",
            map.container_id,
            last(map)
        ),
    };
    let security = &inputs.container.security;
    let user = &inputs.identity.user;
    let of_image = "the image's user";
    if !is_in(uids, user.uid) {
        let field = match &security.run_as.user {
            Some(RunAsUser::Id(_)) => "run_as_user",
            Some(RunAsUser::Name(_)) => "run_as_username",
            None => of_image,
        };
        return Err(bad(field, "user", user.uid, uids));
    }
    if !is_in(gids, user.gid) {
        let field = if security.run_as.group.is_some() { "run_as_group" } else { of_image };
        return Err(bad(field, "group", user.gid, gids));
    }
    match user.groups.iter().find(|gid| !is_in(gids, **gid)) {
        None => Ok(()),
        Some(gid) => {
            let asked = security.supplemental_groups.contains(gid);
            let field = if asked { "supplemental_groups" } else { "the image's groups" };
            Err(bad(field, "group", *gid, gids))
        }
    }
}

fn process(inputs: &Inputs<'_>, selinux_label: Option<String>) -> Result<Process, SpecError> {
    let security = &inputs.container.security;
    let user = &inputs.identity.user;
    let sets = capabilities(
        inputs.capabilities,
        &security.capabilities,
        security.privileged,
        &inputs.host.capabilities,
    )?;
    Ok(Process {
        terminal: inputs.container.stdio.tty,
        console_size: None,
        user: User {
            uid: user.uid,
            gid: user.gid,
            umask: None,
            additional_gids: user.groups.clone(),
        },
        args: command(inputs.container, inputs.image)?,
        env: environment(inputs),
        cwd: working_dir(inputs.container, inputs.image),
        capabilities: Some(sets),
        rlimits: rlimits(inputs),
        no_new_privileges: security.no_new_privs,
        apparmor_profile: apparmor(inputs)?,
        oom_score_adj: inputs.container.resources.oom_score_adj,
        selinux_label,
        exec_cpu_affinity: None,
    })
}

/// Where the host keeps CAP_SYS_RESOURCE back from the runtime, a limit above the daemon's own cannot be set.
/// The own launcher sets what it can and says the rest; an external runtime would start no container, so it is
/// given none.
fn rlimits(inputs: &Inputs<'_>) -> Vec<Rlimit> {
    let may_raise = inputs.host.capabilities.iter().any(|c| c == "CAP_SYS_RESOURCE");
    match inputs.features.launcher {
        Launcher::External if !may_raise => Vec::new(),
        Launcher::Own | Launcher::External => inputs.rlimits.to_vec(),
    }
}

fn linux(inputs: &Inputs<'_>, mount_label: String) -> Result<Linux, SpecError> {
    let security = &inputs.container.security;
    let (nodes, rules) = devices(inputs);
    let mut limits = resources(&inputs.container.resources, inputs.host)?;
    limits.devices = rules;
    limits.pids = inputs.pids_limit.map(|limit| Pids { limit });
    let seccomp = match (inputs.features.launcher, seccomp_profile(security)) {
        (Launcher::Own, _) | (Launcher::External, Profile::Unconfined) => None,
        (Launcher::External, Profile::RuntimeDefault | Profile::Localhost(_)) => {
            inputs.seccomp.cloned()
        }
    };
    Ok(Linux {
        namespaces: namespaces(inputs),
        devices: nodes,
        cgroups_path: inputs.cgroups_path.to_owned(),
        resources: Some(limits),
        sysctl: sysctls(inputs),
        seccomp,
        masked_paths: paths(inputs, &security.masked_paths, default_masked_paths)?,
        readonly_paths: paths(inputs, &security.readonly_paths, default_readonly_paths)?,
        mount_label,
        rootfs_propagation: root_propagation(inputs).to_owned(),
        ..Linux::default()
    })
}

/// What the mounts of a container's namespace are to those that they are copies of: an OCI runtime makes the
/// whole of them private or slaves before it binds a volume, and what was made private learns of nothing. The
/// own launcher binds from the host's namespace.
fn root_propagation(inputs: &Inputs<'_>) -> &'static str {
    let is = |wanted| inputs.mounts.iter().any(|mount| mount.propagation == wanted);
    match inputs.features.launcher {
        Launcher::Own => "",
        Launcher::External if is(Propagation::Bidirectional) => "rshared",
        Launcher::External if is(Propagation::HostToContainer) => "rslave",
        Launcher::External => "",
    }
}

/// Hidden or read-only paths: what the request lists. An empty list cannot be told from none on the wire.
/// It means none only in a pod with users of its own, the one place where Kubernetes lets /proc be
/// unmasked; elsewhere it means the default.
fn paths(
    inputs: &Inputs<'_>,
    listed: &[PathBuf],
    default: fn() -> Vec<PathBuf>,
) -> Result<Vec<PathBuf>, SpecError> {
    if inputs.container.security.privileged {
        return Ok(Vec::new());
    }
    if listed.is_empty() {
        return Ok(match inputs.sandbox.namespaces.user {
            UserNamespace::Node => default(),
            UserNamespace::Pod { .. } => Vec::new(),
        });
    }
    match listed.iter().find(|path| !is_plain(path)) {
        None => Ok(listed.to_vec()),
        Some(path) => Err(SpecError::Bad {
            field: "masked_paths and readonly_paths".to_owned(),
            problem: format!("{} is not absolute or has `..` in it", path.display()),
        }),
    }
}

fn is_plain(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|c| c == std::path::Component::ParentDir)
}

#[cfg(test)]
pub(crate) mod tests;
