//! Where a pod's and a container's cgroups are. Pure.

use cgroups::{BadPath, CgroupPath, Driver};
use model::{ContainerId, SandboxId};
use serde::{Deserialize, Serialize};

/// The cgroup that holds all containers of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodCgroup {
    /// Where it is.
    pub(crate) path: CgroupPath,
    /// The same as the driver names it: a path or a slice.
    pub(crate) name: String,
    /// Whether it is the pod's own, made and removed with it. The kubelet brings one that it made itself,
    /// with limits of its own.
    pub(crate) is_own: bool,
}

/// The cgroup of the pod `id`: the one that its request names, else one of its own in `default_parent`.
pub(crate) fn plan(
    driver: Driver,
    requested: Option<&str>,
    default_parent: &str,
    id: &SandboxId,
) -> Result<PodCgroup, BadPath> {
    if let Some(name) = requested.filter(|name| !name.is_empty()) {
        let path = driver.parent(name)?;
        return Ok(PodCgroup { path, name: name.to_owned(), is_own: false });
    }
    let parent = driver.parent(default_parent)?;
    let (path, name) = match driver {
        Driver::Cgroupfs => {
            let path = parent.join(id.as_str())?;
            let name = path.as_str().to_owned();
            (path, name)
        }
        Driver::Systemd => {
            let last = default_parent.trim_end_matches('/').rsplit('/').next().unwrap_or("");
            let stem = last.trim_end_matches(".slice");
            let name = format!("{stem}-{}.slice", id.short());
            (driver.parent(&name)?, name)
        }
    };
    Ok(PodCgroup { path, name, is_own: true })
}

/// What a container's spec is to say, and the cgroup that this names.
pub(crate) fn of_container(
    driver: Driver,
    pod: &PodCgroup,
    id: &ContainerId,
) -> Result<(String, CgroupPath), BadPath> {
    let text = driver.cgroups_path(&pod.name, id.as_str())?;
    let (_, path) = Driver::read_cgroups_path(&text)?;
    Ok((text, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_the_cgroup_of_its_request_or_one_of_its_own() {
        let id = SandboxId::from_random([0xab; 32]);
        let own = format!("/isopod/{id}");
        let slice = "/isopod.slice/isopod-abababababab.slice";
        let kube = "kubepods-pod1.slice";
        let kube_path = "/kubepods.slice/kubepods-pod1.slice";
        for (driver, requested, parent, path, is_own) in [
            (Driver::Cgroupfs, None, "/isopod", own.as_str(), true),
            (Driver::Cgroupfs, Some(""), "/isopod", own.as_str(), true),
            (Driver::Cgroupfs, Some("/kubepods/pod1"), "/isopod", "/kubepods/pod1", false),
            (Driver::Systemd, None, "isopod.slice", slice, true),
            (Driver::Systemd, Some(kube), "isopod.slice", kube_path, false),
        ] {
            let planned = plan(driver, requested, parent, &id).unwrap();
            assert_eq!((planned.path.as_str(), planned.is_own), (path, is_own));
        }
        assert!(plan(Driver::Systemd, Some("/no/slice"), "isopod.slice", &id).is_err());
    }

    #[test]
    fn a_containers_cgroup_lies_in_its_pods() {
        let (pod, container) = (SandboxId::from_random([1; 32]), ContainerId::from_random([2; 32]));
        for (driver, parent) in [(Driver::Cgroupfs, "/isopod"), (Driver::Systemd, "isopod.slice")] {
            let pod = plan(driver, None, parent, &pod).unwrap();
            let (text, path) = of_container(driver, &pod, &container).unwrap();
            assert_eq!(path.parent().as_ref(), Some(&pod.path), "{text}");
            assert!(path.as_str().contains(container.as_str()));
        }
    }
}
