//! What a container gets beside the fields of its request: devices that vendors describe, classes, and the
//! annotations that its runtime is shown. Pure.

use std::path::{Path, PathBuf};

use cdi::{CdiError, DeviceName, Origins};
use model::{ContainerConfig, CpuList, Profile, SandboxConfig, with_causes};
use runtime_spec::Spec;

use super::classes::{Chosen, choose, passed};
use super::host_paths::{OnHost, Wanted};
use crate::config::{Classes, Handler};
use crate::error::Cause;

/// The extras of one container, as its request and its node's configuration say.
#[derive(Debug, Default)]
pub(super) struct Extras {
    devices: Vec<DeviceName>,
    classes: Chosen,
}

impl Extras {
    /// Those of `container` in `pod`, on a machine with the CPUs `online`.
    ///
    /// # Errors
    /// What is wrong with which field or annotation.
    pub(super) fn read(
        container: &ContainerConfig,
        pod: &SandboxConfig,
        classes: &Classes,
        online: Option<&CpuList>,
    ) -> Result<Self, String> {
        let named = container.cdi_devices.iter().map(|name| DeviceName::parse(name));
        let named = named.collect::<Result<Vec<_>, CdiError>>();
        let annotated = cdi::devices_of(&container.annotations);
        let mut devices = named.map_err(|e| with_causes(&e))?;
        devices.extend(annotated.map_err(|e| with_causes(&e))?);
        Ok(Self { devices, classes: choose(classes, container, &pod.annotations, online)? })
    }

    /// What is to be looked up on the host for them.
    pub(super) fn wanted(&self, cdi_dirs: &[PathBuf]) -> Wanted {
        Wanted {
            cdi_dirs: cdi_dirs.to_vec(),
            cdi: self.devices.clone(),
            block_io: self.classes.block_io.clone(),
            ..Wanted::default()
        }
    }

    /// Writes them into `spec`. What vendors describe comes last: it is the most particular; what of it came from
    /// which of them is returned.
    ///
    /// # Errors
    /// A description that cannot be honoured.
    pub(super) fn apply(
        &self,
        spec: &mut Spec,
        on_host: &OnHost,
        handler: &Handler,
        container: &ContainerConfig,
        pod: &SandboxConfig,
    ) -> Result<Origins, Cause> {
        spec.annotations.extend(passed(
            &handler.annotations,
            &container.annotations,
            &pod.annotations,
        ));
        self.classes.apply(spec, on_host.block_io.as_ref());
        if self.devices.is_empty() {
            return Ok(Origins::default());
        }
        let look = |path: &Path| match on_host.nodes.get(path) {
            Some(Ok(node)) => Ok(*node),
            Some(Err(why)) => Err(std::io::Error::other(why.clone())),
            None => Err(std::io::Error::other("nobody has looked at it")),
        };
        Ok(on_host.edits.apply(spec, &look)?)
    }
}

/// The AppArmor profile that the kernel must have; the runtime's own is not for privileged containers.
pub(super) const fn apparmor_needed(container: &ContainerConfig) -> &Profile {
    match (&container.security.apparmor, container.security.privileged) {
        (Profile::RuntimeDefault, true) => &Profile::Unconfined,
        (asked, _) => asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::tests::{container_config, sandbox_config};

    #[test]
    fn devices_come_from_the_field_and_from_annotations() {
        let mut container = container_config("c", 0);
        container.cdi_devices = vec!["v/c=0".to_owned()];
        container.annotations = [("cdi.k8s.io/plugin".to_owned(), "v/c=1,v/c=2".to_owned())].into();
        let pod = sandbox_config("p", 0);
        let extras = Extras::read(&container, &pod, &Classes::default(), None).unwrap();
        let names: Vec<String> = extras.devices.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["v/c=0", "v/c=1", "v/c=2"]);
        assert_eq!(extras.wanted(&["/etc/cdi".into()]).cdi.len(), 3);
        container.cdi_devices = vec!["gpu".to_owned()];
        assert!(Extras::read(&container, &pod, &Classes::default(), None).is_err());
    }

    #[test]
    fn a_privileged_container_does_without_the_default_profile_and_keeps_a_named_one() {
        let mut container = container_config("c", 0);
        container.security.privileged = true;
        container.security.apparmor = Profile::RuntimeDefault;
        assert_eq!(apparmor_needed(&container), &Profile::Unconfined);
        container.security.apparmor = Profile::Localhost("mine".to_owned());
        assert_eq!(apparmor_needed(&container), &Profile::Localhost("mine".to_owned()));
    }
}
