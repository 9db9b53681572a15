//! What a container finds mounted.

use std::path::{Component, Path, PathBuf};

use model::{Access, IdMapping, IpcMode, NetworkMode, Propagation, UserNamespace};
use runtime_spec::{IdMap, Mount};

use crate::error::SpecError;
use crate::inputs::{Inputs, ResolvedMount};
use crate::namespaces::has_own_ipc;

/// Size of a container's own /dev/shm where nobody says otherwise.
const SHM_SIZE: u64 = 64 << 20;

/// All mounts, in the order in which they are to be made: the system's, then the request's and the pod's
/// files sorted by depth, so that nothing hides what was asked for inside of it. A mount of the request
/// takes the place of the system's at the same path, and one at /dev or /sys of all those below.
pub(crate) fn mounts(inputs: &Inputs<'_>) -> Result<Vec<Mount>, SpecError> {
    let mut asked = Vec::with_capacity(inputs.mounts.len() + 4);
    for mount in inputs.mounts {
        asked.push(volume(mount, inputs)?);
    }
    let is_taken =
        |asked: &[Mount], place: &str| asked.iter().any(|m| m.destination == Path::new(place));
    for (place, mount) in files_of_the_pod(inputs) {
        if !is_taken(&asked, place) {
            asked.push(mount);
        }
    }
    asked.sort_by_key(|mount| mount.destination.components().count());
    let hidden = |standard: &Mount| {
        let at = &standard.destination;
        let covers = |m: &Mount| {
            at == &m.destination
                || (at.starts_with(&m.destination)
                    && ["/dev", "/sys"].iter().any(|top| m.destination == Path::new(top)))
        };
        asked.iter().any(covers)
    };
    let mut all: Vec<Mount> = system(inputs).into_iter().filter(|m| !hidden(m)).collect();
    all.extend(asked);
    Ok(all)
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: PathBuf::from(destination),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: options.iter().map(ToString::to_string).collect(),
        ..Mount::default()
    }
}

fn system(inputs: &Inputs<'_>) -> Vec<Mount> {
    let access = if inputs.container.security.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mqueue(inputs),
        sys(inputs, access),
    ];
    let options = ["nosuid", "noexec", "nodev", "relatime", access];
    mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &options));
    mounts
}

/// A mqueue of another user namespace than the IPC namespace's cannot be mounted, but can be bound.
fn mqueue(inputs: &Inputs<'_>) -> Mount {
    let hosts = inputs.container.security.namespaces.ipc == IpcMode::Node;
    if hosts && has_users(inputs) {
        return mount(
            "/dev/mqueue",
            "bind",
            "/dev/mqueue",
            &["rbind", "nosuid", "noexec", "nodev"],
        );
    }
    mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])
}

/// The same holds for sysfs and the network namespace.
fn sys(inputs: &Inputs<'_>, access: &str) -> Mount {
    let hosts = inputs.container.security.namespaces.network == NetworkMode::Node;
    if hosts && has_users(inputs) {
        let options =
            ["rbind", "nosuid", "noexec", "nodev", if access == "ro" { "rro" } else { "rw" }];
        return mount("/sys", "bind", "/sys", &options);
    }
    mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access])
}

fn has_users(inputs: &Inputs<'_>) -> bool {
    match inputs.sandbox.namespaces.user {
        UserNamespace::Pod { .. } => true,
        UserNamespace::Node => false,
    }
}

fn files_of_the_pod(inputs: &Inputs<'_>) -> Vec<(&'static str, Mount)> {
    let files = inputs.files;
    let access = if inputs.container.security.readonly_rootfs { "ro" } else { "rw" };
    let etc = [
        ("/etc/hosts", &files.hosts),
        ("/etc/hostname", &files.hostname),
        ("/etc/resolv.conf", &files.resolv_conf),
    ];
    let mut mounts: Vec<_> = etc
        .into_iter()
        .filter_map(|(place, file)| Some((place, bind(place, file.as_deref()?, &[access]))))
        .collect();
    mounts.push(("/dev/shm", shm(inputs)));
    mounts
}

fn bind(place: &str, source: &Path, options: &[&str]) -> Mount {
    let mut all = vec!["rbind", "rprivate"];
    all.extend(options);
    mount(place, "bind", &source.to_string_lossy(), &all)
}

fn shm(inputs: &Inputs<'_>) -> Mount {
    const FLAGS: [&str; 3] = ["nosuid", "noexec", "nodev"];
    let own = has_own_ipc(inputs);
    let hosts = inputs.container.security.namespaces.ipc == IpcMode::Node;
    match &inputs.files.shm {
        Some(path) if !own && !hosts => bind("/dev/shm", path, &FLAGS),
        _ if hosts => bind("/dev/shm", Path::new("/dev/shm"), &FLAGS),
        Some(_) | None => {
            let size = match inputs.files.shm_size {
                0 => SHM_SIZE,
                size => size,
            };
            let size = format!("size={size}");
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size])
        }
    }
}

fn volume(given: &ResolvedMount, inputs: &Inputs<'_>) -> Result<Mount, SpecError> {
    let destination = cleaned(&given.destination)?;
    let bad = |problem: &str| SpecError::BadMount {
        destination: destination.clone(),
        problem: problem.to_owned(),
    };
    let source = given.source.to_str().ok_or_else(|| bad("the host path is not UTF-8"))?;
    if !given.source.is_absolute() {
        return Err(bad("the host path is not absolute"));
    }
    let mut options = vec!["rbind"];
    options.push(match given.propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    });
    match given.access {
        Access::ReadWrite => options.push("rw"),
        Access::ReadOnly => options.push("ro"),
        Access::RecursiveReadOnly if given.propagation != Propagation::Private => {
            return Err(bad("recursive_read_only needs private propagation"));
        }
        Access::RecursiveReadOnly if !inputs.features.recursive_read_only => {
            return Err(SpecError::RecursiveReadOnlyUnsupported { destination });
        }
        Access::RecursiveReadOnly => options.push("rro"),
    }
    for option in &given.options {
        match option.as_str() {
            "noexec" | "nodev" | "nosuid" => options.push(option),
            _ => return Err(bad(&format!("{option:?} is not one of noexec, nodev and nosuid"))),
        }
    }
    let is_mapped = !given.uid_mappings.is_empty() || !given.gid_mappings.is_empty();
    if is_mapped && !inputs.features.idmapped_mounts {
        return Err(SpecError::Unsupported {
            what: format!("mount {}: ids of its own", destination.display()),
            needs: "a runtime handler with idmapped mounts".to_owned(),
        });
    }
    Ok(Mount {
        kind: "bind".to_owned(),
        source: source.to_owned(),
        options: options.into_iter().map(str::to_owned).collect(),
        uid_mappings: given.uid_mappings.iter().map(id_map).collect(),
        gid_mappings: given.gid_mappings.iter().map(id_map).collect(),
        destination,
    })
}

fn id_map(given: &IdMapping) -> IdMap {
    IdMap { container_id: given.container_id, host_id: given.host_id, size: given.length }
}

/// Absolute and without `.`; a `..` has no meaning before the links on the way are known.
fn cleaned(destination: &Path) -> Result<PathBuf, SpecError> {
    let bad = |problem: &str| SpecError::BadMount {
        destination: destination.to_owned(),
        problem: problem.to_owned(),
    };
    if !destination.is_absolute() {
        return Err(bad("the container path is not absolute"));
    }
    let mut clean = PathBuf::from("/");
    for component in destination.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => return Err(bad("the container path has `..` in it")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if clean == Path::new("/") {
        return Err(bad("the container's root cannot be mounted over"));
    }
    Ok(clean)
}

#[cfg(test)]
mod tests;
