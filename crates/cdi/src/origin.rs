//! Which device brought what of a container, for failures that are only seen once the container is made.

use std::path::PathBuf;

use model::Class;
use runtime_spec::Spec;

use crate::apply::inside;
use crate::error::CdiError;
use crate::file::ContainerEdits;

/// Whose edits are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Whose {
    /// The device, or `vendor/class` for what all of a file's devices have.
    pub(crate) name: String,
    /// Where it is described.
    pub(crate) file: PathBuf,
}

/// What devices have brought, by the words in which a launcher tells of it.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    /// Beginnings of messages, or parts of them that nothing else has.
    words: Vec<(String, Whose)>,
    mounts: Vec<(PathBuf, Whose)>,
    devices: Vec<(PathBuf, Whose)>,
}

impl Origins {
    pub(crate) fn add(&mut self, whose: &Whose, edits: &ContainerEdits) {
        for hook in &edits.hooks {
            self.words
                .push((format!("the {} hook {}: ", hook.hook_name, hook.path), whose.clone()));
        }
        for mount in &edits.mounts {
            // It was taken before.
            let Ok(place) = inside(&mount.container_path) else { continue };
            self.mounts.retain(|(known, _)| *known != place);
            self.mounts.push((place, whose.clone()));
        }
        for node in &edits.device_nodes {
            let Ok(place) = inside(&node.path) else { continue };
            self.devices.retain(|(known, _)| *known != place);
            self.devices.push((place, whose.clone()));
        }
        if edits.intel_rdt.is_some() {
            self.words.retain(|(word, _)| word != RDT);
            self.words.push((RDT.to_owned(), whose.clone()));
        }
    }

    /// To be called once all are in `spec`, in the order in which the launcher counts them.
    pub(crate) fn number(&mut self, spec: &Spec) {
        for (place, whose) in &self.mounts {
            self.words.push((format!("mount {}: ", place.display()), whose.clone()));
            if let Some(index) = spec.mounts.iter().position(|mount| mount.destination == *place) {
                self.words.push((format!("mounts[{index}]."), whose.clone()));
            }
        }
        let devices = spec.linux.as_ref().map_or(&[][..], |linux| &linux.devices);
        for (place, whose) in &self.devices {
            if let Some(index) = devices.iter().position(|device| device.path == *place) {
                self.words.push((format!("linux.devices[{index}]."), whose.clone()));
            }
        }
    }

    /// The failure `problem` of making the container, if it is about something that a device has brought. Whoever
    /// asks for a device did not say how it is described: so what makes no sense or does not work in its description is
    /// the node's state, and not the request's fault.
    #[must_use]
    pub fn blame(&self, problem: &str, class: Class) -> Option<CdiError> {
        let (_, whose) = self.words.iter().find(|(word, _)| problem.contains(word.as_str()))?;
        let is_nodes = matches!(class, Class::InvalidArgument | Class::Internal);
        let class = if is_nodes { Class::FailedPrecondition } else { class };
        Some(CdiError::Failed {
            name: whose.name.clone(),
            file: whose.file.clone(),
            problem: problem.to_owned(),
            class,
        })
    }
}

/// How the launcher tells of a class of caches and bandwidth.
const RDT: &str = " RDT class ";

#[cfg(test)]
mod tests {
    use model::Classified as _;
    use runtime_spec::{Linux, LinuxDevice, Mount};

    use super::*;
    use crate::file::{Language, parse};

    #[test]
    fn a_failure_is_told_with_the_device_and_the_file_that_brought_what_failed() {
        let text = r#"{"cdiVersion": "1.0.0", "kind": "v/c", "devices": [{"name": "0", "containerEdits": {
            "mounts": [{"hostPath": "/no/such", "containerPath": "/acme/"}],
            "deviceNodes": [{"path": "/acme0"}],
            "hooks": [{"hookName": "createRuntime", "path": "/bin/h"}],
            "intelRdt": {"closID": "gold"}}}]}"#;
        let edits = parse(text, Language::Json).unwrap().devices[0].container_edits.clone();
        let mut origins = Origins::default();
        origins.add(&Whose { name: "v/c=0".to_owned(), file: "/etc/cdi/v.json".into() }, &edits);
        let mount = |path: &str| Mount { destination: path.into(), ..Mount::default() };
        let device = |path: &str| LinuxDevice { path: path.into(), ..LinuxDevice::default() };
        origins.number(&Spec {
            mounts: vec![mount("/proc"), mount("/acme"), mount("/data")],
            linux: Some(Linux {
                devices: vec![device("/dev/x"), device("/acme0")],
                ..Linux::default()
            }),
            ..Spec::default()
        });
        for problem in [
            "mounts: mount /acme: open /no/such: No such file or directory",
            "spec: config.json: mounts[1].options: \"bogus\" is not known",
            "spec: config.json: linux.devices[1].path: \"/acme0\" is not below /dev",
            "hooks: the createRuntime hook /bin/h: exit status: 9: no card",
            "cgroup: find the RDT class \"gold\": this machine has no resctrl",
        ] {
            for class in [Class::InvalidArgument, Class::Internal] {
                let error = origins.blame(problem, class).unwrap();
                assert_eq!(
                    error.to_string(),
                    format!("CDI device v/c=0 (/etc/cdi/v.json): {problem}")
                );
                assert_eq!(error.class(), Class::FailedPrecondition);
            }
            let error = origins.blame(problem, Class::ResourceExhausted).unwrap();
            assert_eq!(error.class(), Class::ResourceExhausted);
        }
        for other in [
            "mounts: mount /acme/deep: attach it",
            "spec: config.json: mounts[11].options: \"bogus\" is not known",
            "hooks: the createRuntime hook /bin/hh: exit status: 9",
            "exec: no such program",
        ] {
            assert!(origins.blame(other, Class::Internal).is_none(), "{other}");
        }
    }
}
