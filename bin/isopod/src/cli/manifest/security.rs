//! Security contexts of pods and containers.

use cri_api::v1::security_profile::ProfileType;
use cri_api::v1::{
    Capability, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext,
    SecurityProfile, SupplementalGroupsPolicy,
};

use super::fields::Fields;
use crate::cli::run::{UserRule, privilege, profile};

/// What a pod's context sets for its containers, unless they set it themselves.
#[derive(Debug, Clone, Default)]
pub struct OfPod {
    user: Option<i64>,
    group: Option<i64>,
    not_root: bool,
    groups: Vec<i64>,
    policy: SupplementalGroupsPolicy,
    seccomp: Option<SecurityProfile>,
    apparmor: Option<SecurityProfile>,
}

/// Reads the pod's context, sets what concerns the sandbox, and gives what is passed on.
pub fn of_pod(
    spec: &mut Fields<'_>,
    sandbox: &mut LinuxSandboxSecurityContext,
    sysctls: &mut std::collections::BTreeMap<String, String>,
) -> OfPod {
    let Some(mut context) = spec.object("securityContext") else { return OfPod::default() };
    let policy = match context.text("supplementalGroupsPolicy") {
        None | Some("Merge") => SupplementalGroupsPolicy::Merge,
        Some("Strict") => SupplementalGroupsPolicy::Strict,
        Some(_) => {
            context.refuse("supplementalGroupsPolicy", "this is Merge or Strict");
            SupplementalGroupsPolicy::Merge
        }
    };
    for mut sysctl in context.objects("sysctls") {
        sysctls.insert(sysctl.required("name").to_owned(), sysctl.required("value").to_owned());
    }
    let pod = OfPod {
        user: id(&mut context, "runAsUser"),
        group: id(&mut context, "runAsGroup"),
        not_root: context.flag("runAsNonRoot"),
        groups: context.numbers("supplementalGroups"),
        policy,
        seccomp: read_profile(&mut context, "seccompProfile"),
        apparmor: read_profile(&mut context, "appArmorProfile"),
    };
    sandbox.run_as_user = pod.user.map(|value| Int64Value { value });
    sandbox.run_as_group = pod.user.and(pod.group).map(|value| Int64Value { value });
    sandbox.supplemental_groups.clone_from(&pod.groups);
    sandbox.supplemental_groups_policy = policy.into();
    if pod.seccomp.is_some() {
        sandbox.seccomp.clone_from(&pod.seccomp);
    }
    pod
}

/// Reads a container's context over its pod's, and whether it may be root.
pub fn of_container(
    fields: &mut Fields<'_>,
    pod: &OfPod,
    target: &mut LinuxContainerSecurityContext,
) -> UserRule {
    let mut pod = pod.clone();
    target.supplemental_groups = std::mem::take(&mut pod.groups);
    target.supplemental_groups_policy = pod.policy.into();
    if let Some(mut context) = fields.object("securityContext") {
        pod.user = id(&mut context, "runAsUser").or(pod.user);
        pod.group = id(&mut context, "runAsGroup").or(pod.group);
        pod.not_root = context.maybe_flag("runAsNonRoot").unwrap_or(pod.not_root);
        pod.seccomp = read_profile(&mut context, "seccompProfile").or(pod.seccomp);
        pod.apparmor = read_profile(&mut context, "appArmorProfile").or(pod.apparmor);
        own(&mut context, target);
    }
    if !target.privileged && pod.seccomp.is_some() {
        target.seccomp = pod.seccomp;
    }
    target.apparmor = pod.apparmor;
    target.run_as_user = pod.user.map(|value| Int64Value { value });
    target.run_as_group = pod.group.map(|value| Int64Value { value });
    if pod.group.is_some() && pod.user.is_none() {
        fields.refuse("securityContext.runAsGroup", "a group needs runAsUser beside it");
    }
    if pod.not_root { UserRule::NotRoot } else { UserRule::Any }
}

/// What only a container's context has.
fn own(context: &mut Fields<'_>, target: &mut LinuxContainerSecurityContext) {
    target.readonly_rootfs = context.flag("readOnlyRootFilesystem");
    target.no_new_privs = context.maybe_flag("allowPrivilegeEscalation") == Some(false);
    if context.flag("privileged") {
        if target.no_new_privs {
            context.refuse("allowPrivilegeEscalation", "a privileged container always may");
        }
        privilege(target);
    }
    if let Some(mut capabilities) = context.object("capabilities") {
        target.capabilities = Some(Capability {
            add_capabilities: capabilities.texts("add"),
            drop_capabilities: capabilities.texts("drop"),
            add_ambient_capabilities: Vec::new(),
        });
    }
    match context.text("procMount") {
        None | Some("Default") => {}
        Some("Unmasked") => {
            target.masked_paths.clear();
            target.readonly_paths.clear();
        }
        Some(_) => context.refuse("procMount", "this is Default or Unmasked"),
    }
}

fn id(context: &mut Fields<'_>, key: &'static str) -> Option<i64> {
    let id = context.number(key)?;
    if u32::try_from(id).is_err() {
        context.refuse(key, "this is a number from 0 to 4294967295");
    }
    Some(id)
}

fn read_profile(context: &mut Fields<'_>, key: &'static str) -> Option<SecurityProfile> {
    let mut fields = context.object(key)?;
    let localhost = fields.text("localhostProfile");
    match (fields.required("type"), localhost) {
        ("RuntimeDefault", None) => Some(profile(ProfileType::RuntimeDefault, "")),
        ("Unconfined", None) => Some(profile(ProfileType::Unconfined, "")),
        ("Localhost", Some(path)) => Some(profile(ProfileType::Localhost, path)),
        ("Localhost", None) => {
            fields.refuse("localhostProfile", "this is missing: type is Localhost");
            None
        }
        (_, Some(_)) => {
            fields.refuse("localhostProfile", "this goes with type Localhost only");
            None
        }
        (_, None) => {
            fields.refuse("type", "this is RuntimeDefault, Localhost or Unconfined");
            None
        }
    }
}
