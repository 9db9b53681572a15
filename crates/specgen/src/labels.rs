//! AppArmor profiles and SELinux labels.

use model::{Profile, SelinuxOptions};

use crate::error::SpecError;
use crate::inputs::Inputs;

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

/// The SELinux labels of the process and of its mounts; both empty where the host has none.
pub(crate) fn selinux(inputs: &Inputs<'_>) -> (Option<String>, String) {
    if !inputs.host.selinux {
        return (None, String::new());
    }
    let security = &inputs.container.security;
    let given = security.selinux.clone().or_else(|| inputs.sandbox.selinux.clone());
    let given = given.unwrap_or_default();
    let or = |text: &str, default: &str| {
        if text.is_empty() { default.to_owned() } else { text.to_owned() }
    };
    let SelinuxOptions { user, role, kind, level } = given;
    let level = or(&level, "s0");
    let user = or(&user, "system_u");
    let default_kind = if security.privileged { "spc_t" } else { "container_t" };
    let process = format!("{user}:{}:{}:{level}", or(&role, "system_r"), or(&kind, default_kind));
    let mount = format!("{user}:object_r:container_file_t:{level}");
    (Some(process), mount)
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
