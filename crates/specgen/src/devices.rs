//! Device nodes, and which devices may be used.

use runtime_spec::{DeviceCgroup, LinuxDevice};

use crate::inputs::{HostDevice, Inputs};

/// Nodes and rules of a container. The standard nodes are not listed: the launcher makes them.
pub(crate) fn devices(inputs: &Inputs<'_>) -> (Vec<LinuxDevice>, Vec<DeviceCgroup>) {
    let mut nodes: Vec<LinuxDevice> = Vec::new();
    let privileged = inputs.container.security.privileged;
    if privileged && !inputs.features.privileged_without_host_devices {
        nodes.extend(inputs.host.devices.iter().map(|d| node(d, &d.path)));
    }
    for asked in inputs.devices {
        // What was asked for by name wins over what is there anyway.
        nodes.retain(|known| known.path != asked.container_path);
        nodes.push(node(&asked.device, &asked.container_path));
    }
    if privileged {
        return (nodes, vec![everything(true)]);
    }
    let asked = inputs.devices.iter().map(|asked| DeviceCgroup {
        allow: true,
        kind: asked.device.kind.letter().to_owned(),
        major: Some(i64::from(asked.device.major)),
        minor: Some(i64::from(asked.device.minor)),
        access: asked.access.to_string(),
    });
    (
        nodes,
        std::iter::once(everything(false)).chain(DeviceCgroup::standard()).chain(asked).collect(),
    )
}

fn everything(allow: bool) -> DeviceCgroup {
    DeviceCgroup { allow, kind: "a".to_owned(), major: None, minor: None, access: "rwm".to_owned() }
}

fn node(device: &HostDevice, path: &std::path::Path) -> LinuxDevice {
    LinuxDevice {
        kind: device.kind.letter().to_owned(),
        path: path.to_owned(),
        major: i64::from(device.major),
        minor: i64::from(device.minor),
        file_mode: Some(device.mode & 0o7777),
        uid: Some(device.uid),
        gid: Some(device.gid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::DeviceAccess;

    use crate::inputs::{DeviceKind, ResolvedDevice};
    use crate::spec::tests::Sample;

    fn kvm() -> HostDevice {
        HostDevice {
            path: "/dev/kvm".into(),
            kind: DeviceKind::Char,
            major: 10,
            minor: 232,
            mode: 0o660,
            uid: 0,
            gid: 104,
        }
    }

    #[test]
    fn a_container_may_use_what_it_asked_for_and_nothing_else_but_the_standard_devices() {
        let mut sample = Sample::new();
        sample.host.devices = vec![HostDevice { path: "/dev/sda".into(), ..kvm() }];
        let access = DeviceAccess::parse("rw").unwrap();
        sample.devices =
            vec![ResolvedDevice { container_path: "/dev/kvm0".into(), access, device: kvm() }];
        let (nodes, rules) = devices(&sample.inputs());
        assert_eq!(nodes.len(), 1);
        assert_eq!(nodes[0].path, std::path::Path::new("/dev/kvm0"));
        assert_eq!((nodes[0].file_mode, nodes[0].gid), (Some(0o660), Some(104)));
        assert_eq!(rules[0], everything(false));
        assert_eq!(rules.len(), 1 + DeviceCgroup::standard().len() + 1);
        let last = rules.last().unwrap();
        assert_eq!((last.major, last.minor, last.access.as_str()), (Some(10), Some(232), "rw"));
        assert!(rules[1..].iter().all(|rule| rule.allow));
    }

    #[test]
    fn a_privileged_container_gets_the_hosts_devices_unless_the_handler_keeps_them() {
        let mut sample = Sample::new();
        sample.host.devices = vec![kvm()];
        sample.container.security.privileged = true;
        let (nodes, rules) = devices(&sample.inputs());
        assert_eq!(nodes.len(), 1);
        assert_eq!(rules, [everything(true)]);
        sample.features.privileged_without_host_devices = true;
        assert!(devices(&sample.inputs()).0.is_empty());
    }
}
