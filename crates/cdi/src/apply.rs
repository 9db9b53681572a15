//! What devices change in a runtime spec. Pure: nodes of the host are looked up by whoever calls.

use std::io;
use std::path::{Component, Path, PathBuf};

use model::DeviceAccess;
use runtime_spec::{DeviceCgroup, Hook, Hooks, IntelRdt, LinuxDevice, Mount, Spec};

use crate::error::CdiError;
use crate::file::{self, ContainerEdits};
use crate::origin::{Origins, Whose};

/// Kinds of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// Character device.
    Char,
    /// Block device.
    Block,
    /// Named pipe.
    Pipe,
}

impl file::DeviceNode {
    fn on_host(&self) -> &str {
        if self.host_path.is_empty() { &self.path } else { &self.host_path }
    }
}

impl NodeKind {
    const fn letter(self) -> &'static str {
        match self {
            Self::Char => "c",
            Self::Block => "b",
            Self::Pipe => "p",
        }
    }
}

/// A device node of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Kind.
    pub kind: NodeKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The changes of some devices, in order, each with whose they are.
#[derive(Debug, Clone, Default)]
pub struct Edits(Vec<(Whose, ContainerEdits)>);

impl Edits {
    /// Those that `file` has for the device `name`, or for all of its kind.
    pub(crate) fn add(&mut self, name: String, file: &Path, edits: ContainerEdits) {
        self.0.push((Whose { name, file: file.to_owned() }, edits));
    }

    /// Paths of the host whose nodes [`Edits::apply`] asks for.
    pub fn nodes(&self) -> impl Iterator<Item = &Path> {
        let all = self.0.iter().flat_map(|(_, edits)| &edits.device_nodes);
        all.map(|node| Path::new(node.on_host()))
    }

    #[cfg(test)]
    pub(crate) fn environment(&self) -> Vec<String> {
        self.0.iter().flat_map(|(_, edits)| edits.env.clone()).collect()
    }

    /// Changes `spec`, and gives what of it came from where. `look` tells the node of the host at one of the paths of
    /// [`Edits::nodes`].
    ///
    /// # Errors
    /// [`CdiError::Bad`] for what makes no sense, is not on the host, or cannot be honoured here.
    pub fn apply(
        &self,
        spec: &mut Spec,
        look: &dyn Fn(&Path) -> io::Result<Node>,
    ) -> Result<Origins, CdiError> {
        let mut origins = Origins::default();
        for (whose, edits) in &self.0 {
            let applied = environment(spec, edits)
                .and_then(|()| nodes(spec, edits, look))
                .and_then(|()| mounts(spec, edits))
                .and_then(|()| hooks(spec, edits))
                .and_then(|()| rdt(spec, edits))
                .and_then(|()| interfaces(edits));
            applied.map_err(|(field, problem)| CdiError::Bad {
                name: whose.name.clone(),
                file: whose.file.clone(),
                field: field.to_owned(),
                problem,
            })?;
            groups(spec, edits);
            origins.add(whose, edits);
        }
        // What lies in a mount is made after it.
        spec.mounts.sort_by_key(|mount| mount.destination.components().count());
        origins.number(spec);
        Ok(origins)
    }
}

/// A field, and what is wrong with it.
type Bad = (&'static str, String);

fn environment(spec: &mut Spec, edits: &ContainerEdits) -> Result<(), Bad> {
    let process = spec.process.get_or_insert_default();
    for variable in &edits.env {
        let Some((name, _)) = variable.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            // A value may be a secret, so that the text is not shown.
            return Err(("env", "an entry is not NAME=value".to_owned()));
        };
        process.env.retain(|known| known.split_once('=').is_none_or(|(other, _)| other != name));
        process.env.push(variable.clone());
    }
    Ok(())
}

fn nodes(
    spec: &mut Spec,
    edits: &ContainerEdits,
    look: &dyn Fn(&Path) -> io::Result<Node>,
) -> Result<(), Bad> {
    let linux = spec.linux.get_or_insert_default();
    for given in &edits.device_nodes {
        let device = node(given, look).map_err(|problem| ("deviceNodes", problem))?;
        let access = DeviceAccess::parse(&given.permissions).ok_or_else(|| {
            ("deviceNodes", format!("permissions {:?}: letters of r, w and m", given.permissions))
        })?;
        if device.kind != NodeKind::Pipe.letter() {
            let rules = &mut linux.resources.get_or_insert_default().devices;
            rules.push(DeviceCgroup {
                allow: true,
                kind: device.kind.clone(),
                major: Some(device.major),
                minor: Some(device.minor),
                access: access.to_string(),
            });
        }
        linux.devices.retain(|known| known.path != device.path);
        linux.devices.push(device);
    }
    Ok(())
}

/// A node; what its description leaves out is as it is on the host.
fn node(
    given: &file::DeviceNode,
    look: &dyn Fn(&Path) -> io::Result<Node>,
) -> Result<LinuxDevice, String> {
    let path = inside(&given.path)?;
    let on_host = given.on_host();
    let kind = match given.kind.as_str() {
        "" => None,
        "c" | "u" => Some(NodeKind::Char),
        "b" => Some(NodeKind::Block),
        "p" => Some(NodeKind::Pipe),
        other => return Err(format!("{}: {other:?} is not a type of device", given.path)),
    };
    // Whoever owns it on the host owns it inside, unless the file says otherwise; so the host is asked even
    // where the numbers are said.
    let found = look(on_host.as_ref());
    let is_whole = kind.is_some() && (given.major, given.minor) != (0, 0);
    let found = match found {
        Ok(found) => Some(found),
        Err(_) if is_whole || kind == Some(NodeKind::Pipe) => None,
        Err(e) => return Err(format!("look at {on_host}: {e}")),
    };
    if let (Some(kind), Some(found)) = (kind, &found)
        && kind != found.kind
    {
        return Err(format!("{on_host} is not of type {:?}", kind.letter()));
    }
    let numbers = match &found {
        Some(found) if (given.major, given.minor) == (0, 0) => {
            (i64::from(found.major), i64::from(found.minor))
        }
        Some(_) | None => (given.major, given.minor),
    };
    let kind = kind.or(found.map(|f| f.kind)).unwrap_or(NodeKind::Char);
    Ok(LinuxDevice {
        kind: kind.letter().to_owned(),
        path,
        major: numbers.0,
        minor: numbers.1,
        file_mode: given.file_mode.or(found.map(|f| f.mode)).map(|mode| mode & 0o7777),
        uid: given.uid.or(found.map(|f| f.uid)),
        gid: given.gid.or(found.map(|f| f.gid)),
    })
}

fn mounts(spec: &mut Spec, edits: &ContainerEdits) -> Result<(), Bad> {
    for given in &edits.mounts {
        let bad = |problem: String| ("mounts", problem);
        let destination = inside(&given.container_path).map_err(bad)?;
        let binds = |option: &String| option == "bind" || option == "rbind";
        let is_bind = matches!(given.kind.as_str(), "" | "bind" | "none");
        if is_bind && !Path::new(&given.host_path).is_absolute() {
            return Err(bad(format!("hostPath {:?} is not absolute", given.host_path)));
        }
        let mut options = given.options.clone();
        if is_bind && !options.iter().any(binds) {
            options.insert(0, "rbind".to_owned());
        }
        spec.mounts.retain(|known| known.destination != destination);
        spec.mounts.push(Mount {
            destination,
            kind: if is_bind { "bind".to_owned() } else { given.kind.clone() },
            source: given.host_path.clone(),
            options,
            ..Mount::default()
        });
    }
    Ok(())
}

fn hooks(spec: &mut Spec, edits: &ContainerEdits) -> Result<(), Bad> {
    for given in &edits.hooks {
        let bad = |problem: String| ("hooks", problem);
        if !Path::new(&given.path).is_absolute() {
            return Err(bad(format!("path {:?} is not absolute", given.path)));
        }
        if given.timeout.is_some_and(|seconds| seconds <= 0) {
            return Err(bad(format!("{}: a timeout must be positive", given.path)));
        }
        let all: &mut Hooks = spec.hooks.get_or_insert_default();
        let list = match given.hook_name.as_str() {
            "prestart" => &mut all.prestart,
            "createRuntime" => &mut all.create_runtime,
            "createContainer" => &mut all.create_container,
            "startContainer" => &mut all.start_container,
            "poststart" => &mut all.poststart,
            "poststop" => &mut all.poststop,
            other => return Err(bad(format!("hookName {other:?} is not known"))),
        };
        list.push(Hook {
            path: given.path.clone().into(),
            args: given.args.clone(),
            env: given.env.clone(),
            timeout: given.timeout,
        });
    }
    Ok(())
}

fn rdt(spec: &mut Spec, edits: &ContainerEdits) -> Result<(), Bad> {
    let Some(given) = &edits.intel_rdt else { return Ok(()) };
    if given.enable_cmt || given.enable_mbm || given.enable_monitoring {
        return Err(("intelRdt", "monitoring groups are not supported".to_owned()));
    }
    spec.linux.get_or_insert_default().intel_rdt = Some(IntelRdt {
        clos_id: given.clos_id.clone(),
        l3_cache_schema: given.l3_cache_schema.clone(),
        mem_bw_schema: given.mem_bw_schema.clone(),
        schemata: given.schemata.clone(),
    });
    Ok(())
}

fn interfaces(edits: &ContainerEdits) -> Result<(), Bad> {
    match edits.net_devices.first() {
        None => Ok(()),
        Some(one) => {
            let problem = format!(
                "the interface {:?} as {:?}: interfaces are moved by CNI plugins only",
                one.host_interface_name, one.name
            );
            Err(("netDevices", problem))
        }
    }
}

fn groups(spec: &mut Spec, edits: &ContainerEdits) {
    let user = &mut spec.process.get_or_insert_default().user;
    for gid in edits.additional_gids.iter().filter(|gid| **gid != 0) {
        if !user.additional_gids.contains(gid) {
            user.additional_gids.push(*gid);
        }
    }
}

/// A path inside: absolute and without `..`.
pub(crate) fn inside(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let is_plain = path.is_absolute()
        && path.parent().is_some()
        && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if is_plain {
        Ok(path.components().collect())
    } else {
        Err(format!("{text:?} is no path inside: it must be absolute, without `..`, and not `/`"))
    }
}

#[cfg(test)]
mod tests {
    use runtime_spec::{Linux, Process, User};

    use super::*;
    use crate::file::{Language, parse};

    fn look(path: &Path) -> io::Result<Node> {
        match path.to_str() {
            Some("/dev/gpu0") => Ok(Node {
                kind: NodeKind::Char,
                major: 195,
                minor: 3,
                mode: 0o660,
                uid: 0,
                gid: 44,
            }),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn applied(edits: &str) -> Result<Spec, CdiError> {
        let text = format!(
            r#"{{"cdiVersion": "1.0.0", "kind": "v/c", "devices": [{{"name": "0", "containerEdits": {edits}}}]}}"#
        );
        let file = parse(&text, Language::Json).unwrap();
        let mut all = Edits::default();
        let edits = file.devices[0].container_edits.clone();
        all.add("v/c=0".to_owned(), Path::new("/etc/cdi/v.json"), edits);
        let mount = |path: &str| Mount { destination: path.into(), ..Mount::default() };
        let mut spec = Spec {
            process: Some(Process {
                env: vec!["PATH=/bin".to_owned(), "GPU=old".to_owned()],
                user: User { additional_gids: vec![5], ..User::default() },
                ..Process::default()
            }),
            mounts: vec![mount("/proc"), mount("/data/deep")],
            linux: Some(Linux::default()),
            ..Spec::default()
        };
        all.apply(&mut spec, &look).map(|_| spec)
    }

    #[test]
    fn a_node_is_as_on_the_host_unless_the_file_says_otherwise() {
        let spec = applied(
            r#"{"deviceNodes": [{"path": "/dev/gpu", "hostPath": "/dev/gpu0", "permissions": "rw"},
                {"path": "/dev/x", "type": "b", "major": 7, "minor": 9, "fileMode": 384, "uid": 3, "gid": 4}]}"#,
        )
        .unwrap();
        let linux = spec.linux.unwrap();
        let [gpu, x] = linux.devices.as_slice() else { panic!("{:?}", linux.devices) };
        assert_eq!((gpu.kind.as_str(), gpu.major, gpu.minor), ("c", 195, 3));
        assert_eq!((gpu.file_mode, gpu.gid), (Some(0o660), Some(44)));
        assert_eq!((x.kind.as_str(), x.major, x.minor, x.file_mode), ("b", 7, 9, Some(0o600)));
        let rules = linux.resources.unwrap().devices;
        let rules: Vec<_> =
            rules.iter().map(|r| (r.kind.as_str(), r.major, r.minor, r.access.as_str())).collect();
        assert_eq!(rules, [("c", Some(195), Some(3), "rw"), ("b", Some(7), Some(9), "rwm")]);
    }

    #[test]
    fn everything_else_is_added_and_replaces_what_has_the_same_name() {
        let spec = applied(
            r#"{"env": ["GPU=new"], "additionalGids": [5, 44, 0],
                "mounts": [{"hostPath": "/usr/lib/x", "containerPath": "/data", "options": ["ro"]}],
                "hooks": [{"hookName": "createContainer", "path": "/bin/h", "args": ["h", "-x"], "timeout": 4}],
                "intelRdt": {"closID": "gold"}}"#,
        )
        .unwrap();
        let process = spec.process.unwrap();
        assert_eq!(process.env, ["PATH=/bin", "GPU=new"]);
        assert_eq!(process.user.additional_gids, [5, 44]);
        let places: Vec<_> = spec.mounts.iter().map(|m| m.destination.to_str().unwrap()).collect();
        assert_eq!(places, ["/proc", "/data", "/data/deep"], "what lies inside comes after");
        assert_eq!(spec.mounts[1].options, ["rbind", "ro"]);
        assert_eq!(spec.hooks.unwrap().create_container[0].timeout, Some(4));
        assert_eq!(spec.linux.unwrap().intel_rdt.unwrap().clos_id, "gold");
    }

    #[test]
    fn what_cannot_be_honoured_is_an_error_that_names_device_file_and_field() {
        for (edits, field) in [
            (r#"{"env": ["x"]}"#, "env"),
            (r#"{"deviceNodes": [{"path": "/dev/none"}]}"#, "deviceNodes"),
            (r#"{"deviceNodes": [{"path": "dev/gpu0"}]}"#, "deviceNodes"),
            (r#"{"deviceNodes": [{"path": "/dev/gpu0", "type": "b"}]}"#, "deviceNodes"),
            (r#"{"deviceNodes": [{"path": "/dev/gpu0", "type": "q"}]}"#, "deviceNodes"),
            (r#"{"deviceNodes": [{"path": "/dev/gpu0", "permissions": "x"}]}"#, "deviceNodes"),
            (r#"{"mounts": [{"hostPath": "/a", "containerPath": "/b/../c"}]}"#, "mounts"),
            (r#"{"mounts": [{"hostPath": "a", "containerPath": "/b"}]}"#, "mounts"),
            (r#"{"hooks": [{"hookName": "later", "path": "/bin/h"}]}"#, "hooks"),
            (r#"{"hooks": [{"hookName": "poststop", "path": "h"}]}"#, "hooks"),
            (r#"{"hooks": [{"hookName": "poststop", "path": "/h", "timeout": 0}]}"#, "hooks"),
            (r#"{"intelRdt": {"enableCMT": true}}"#, "intelRdt"),
            (r#"{"netDevices": [{"hostInterfaceName": "eth1", "name": "net0"}]}"#, "netDevices"),
        ] {
            let error = applied(edits).unwrap_err().to_string();
            let whose = "CDI device v/c=0 (/etc/cdi/v.json): ";
            assert!(error.starts_with(whose) && error.contains(field), "{error}");
        }
    }
}
