//! AppArmor profiles and SELinux labels.

use model::{ContainerConfig, Profile, SandboxConfig, SandboxMetadata, SelinuxOptions};

use crate::error::SpecError;
use crate::inputs::{HostFacts, Inputs};

/// The AppArmor profile of the process; `None` for unconfined.
pub(crate) fn apparmor(inputs: &Inputs<'_>) -> Result<Option<String>, SpecError> {
    let security = &inputs.container.security;
    match &security.apparmor {
        Profile::Unconfined => Ok(None),
        // Privileged means without the runtime's profile; one that was named is meant.
        Profile::RuntimeDefault if security.privileged || !inputs.host.apparmor => Ok(None),
        Profile::RuntimeDefault => Ok(inputs.apparmor_default.map(str::to_owned)),
        Profile::Localhost(name) if inputs.host.apparmor => Ok(Some(name.clone())),
        Profile::Localhost(name) => Err(SpecError::Unsupported {
            what: format!("the AppArmor profile {name:?}"),
            needs: "AppArmor on the host".to_owned(),
        }),
    }
}

/// The SELinux labels of a container's process and of its files; both empty where the host has none.
///
/// Without a level, a pod has two categories of its own, so that pods cannot reach each other's files. They
/// follow from who it is, so that the pod finds its volumes again; a privileged container has none.
#[must_use]
pub fn selinux_labels(
    container: &ContainerConfig,
    sandbox: &SandboxConfig,
    host: &HostFacts,
) -> (Option<String>, String) {
    if !host.selinux {
        return (None, String::new());
    }
    let security = &container.security;
    let given = security.selinux.clone().or_else(|| sandbox.selinux.clone());
    let given = given.unwrap_or_default();
    let or = |text: &str, default: &str| {
        if text.is_empty() { default.to_owned() } else { text.to_owned() }
    };
    let SelinuxOptions { user, role, kind, level } = given;
    let level = match level.as_str() {
        "" if security.privileged => "s0".to_owned(),
        "" => categories(&sandbox.metadata),
        said => said.to_owned(),
    };
    let user = or(&user, "system_u");
    let default_kind = if security.privileged { "spc_t" } else { "container_t" };
    let process = format!("{user}:{}:{}:{level}", or(&role, "system_r"), or(&kind, default_kind));
    let mount = format!("{user}:object_r:container_file_t:{level}");
    (Some(process), mount)
}

/// Two different ones of 1024 categories, of a hash of the pod's identity (FNV-1a).
fn categories(pod: &SandboxMetadata) -> String {
    let parts = [&pod.uid, &pod.namespace, &pod.name];
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let first = hash % 1024;
    let second = (first + 1 + (hash >> 32) % 1023) % 1024;
    format!("s0:c{},c{}", first.min(second), first.max(second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::Sample;

    #[test]
    fn an_apparmor_profile_that_was_named_must_be_possible_and_the_default_need_not() {
        let named = || Profile::Localhost("mine".to_owned());
        let some = |name: &str| Ok(Some(name.to_owned()));
        for (profile, privileged, host, expected) in [
            (Profile::Unconfined, false, true, Ok(None)),
            (Profile::RuntimeDefault, false, true, some("isopod-default")),
            (Profile::RuntimeDefault, true, true, Ok(None)),
            (Profile::RuntimeDefault, false, false, Ok(None)),
            (named(), true, true, some("mine")),
        ] {
            let mut sample = Sample::new();
            sample.container.security.apparmor = profile;
            sample.container.security.privileged = privileged;
            sample.host.apparmor = host;
            assert_eq!(apparmor(&sample.inputs()), expected);
        }
        let mut sample = Sample::new();
        sample.container.security.apparmor = named();
        assert!(apparmor(&sample.inputs()).is_err());
    }

    fn selinux(inputs: &Inputs<'_>) -> (Option<String>, String) {
        selinux_labels(inputs.container, inputs.sandbox, inputs.host)
    }

    #[test]
    fn a_pod_without_a_level_has_two_categories_of_its_own() {
        let mut sample = Sample::new();
        sample.host.selinux = true;
        let (process, mount) = selinux(&sample.inputs());
        let level = |label: &str| label.splitn(4, ':').nth(3).unwrap().to_owned();
        let (process, mount) = (process.unwrap(), mount);
        assert_eq!(level(&process), level(&mount));
        assert!(level(&mount).starts_with("s0:c") && level(&mount).contains(",c"), "{mount}");
        assert_eq!(selinux(&sample.inputs()).1, mount, "the same pod has the same ones again");
        sample.sandbox.metadata.uid.push('x');
        assert_ne!(selinux(&sample.inputs()).1, mount);
        sample.container.security.privileged = true;
        assert_eq!(selinux(&sample.inputs()).0.unwrap(), "system_u:system_r:spc_t:s0");
    }

    #[test]
    fn labels_are_made_where_the_host_has_them() {
        let mut sample = Sample::new();
        assert_eq!(selinux(&sample.inputs()), (None, String::new()));
        sample.host.selinux = true;
        let level = "s0:c1,c2".to_owned();
        sample.container.security.selinux =
            Some(SelinuxOptions { level, ..SelinuxOptions::default() });
        let (process, mount) = selinux(&sample.inputs());
        assert_eq!(process.unwrap(), "system_u:system_r:container_t:s0:c1,c2");
        assert_eq!(mount, "system_u:object_r:container_file_t:s0:c1,c2");
    }
}
