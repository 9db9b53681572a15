//! Files of the vendors of devices.

use std::io;
use std::path::Path;

use cdi::{Catalogue, DeviceName, Node, NodeKind};
use runtime_spec::Spec;

/// Looks at a node of the host.
type Look<'a> = &'a dyn Fn(&Path) -> io::Result<Node>;

/// The same text as JSON and as YAML.
pub fn cdi(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let node = Node { kind: NodeKind::Char, major: 1, minor: 3, mode: 0o666, uid: 0, gid: 0 };
    let looks: [Look<'_>; 2] = [&|_| Ok(node), &|_| Err(io::ErrorKind::NotFound.into())];
    for path in ["x.json", "x.yaml"] {
        let Ok(catalogue) = Catalogue::of_file(Path::new(path), text) else { continue };
        let names: Vec<DeviceName> = catalogue
            .names()
            .map(|name| DeviceName::parse(&name).unwrap_or_else(|e| panic!("{name:?}: {e}")))
            .collect();
        assert!(!names.is_empty(), "a spec without a device");
        let edits = catalogue.edits(&names).unwrap_or_else(|e| panic!("its own devices: {e}"));
        for look in looks {
            let mut spec = Spec::default();
            if edits.apply(&mut spec, look).is_ok() {
                holds(&spec);
            }
        }
    }
}

fn holds(spec: &Spec) {
    let absolute = |path: &Path| path.is_absolute() && !path.components().any(is_up);
    for mount in &spec.mounts {
        assert!(absolute(&mount.destination), "a mount at {:?}", mount.destination);
    }
    for device in spec.linux.iter().flat_map(|linux| &linux.devices) {
        assert!(absolute(&device.path), "a device at {:?}", device.path);
    }
    let written = serde_json::to_vec(spec).unwrap_or_else(|e| panic!("not to be written: {e}"));
    let again = serde_json::from_slice::<Spec>(&written);
    assert!(again.is_ok_and(|again| again == *spec), "a spec changes when it is written");
}

fn is_up(part: std::path::Component<'_>) -> bool {
    part == std::path::Component::ParentDir
}
