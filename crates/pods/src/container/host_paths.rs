//! Paths of the host that a container is to see. What is looked at here may hang.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use model::{Class, ContainerConfig, Device, Mount, MountSource, Propagation};
use specgen::{ResolvedDevice, ResolvedMount};

use crate::error::Cause;
use crate::host;
use crate::pods::file_failed;

/// What of a container's request was found on the host.
#[derive(Debug, Default)]
pub(super) struct OnHost {
    /// One for each mount of the request, `None` for those that are not of the host.
    pub(super) mounts: Vec<Option<ResolvedMount>>,
    pub(super) devices: Vec<ResolvedDevice>,
    /// All device nodes, for a privileged container.
    pub(super) all_devices: Vec<specgen::HostDevice>,
}

/// Looks everything up. Blocks, and hangs with the file systems that it looks at.
pub(super) fn look_up(config: &ContainerConfig, log: Option<&Path>) -> Result<OnHost, Cause> {
    let mut found = OnHost::default();
    if let Some(directory) = log.and_then(Path::parent) {
        fs::create_dir_all(directory).map_err(file_failed("make", directory))?;
    }
    let propagates = |m: &Mount| m.propagation != Propagation::Private;
    let mountinfo = if config.mounts.iter().any(propagates) {
        let path = Path::new("/proc/self/mountinfo");
        fs::read(path).map_err(file_failed("read", path))?
    } else {
        Vec::new()
    };
    for mount in &config.mounts {
        found.mounts.push(match &mount.source {
            MountSource::HostPath(path) => Some(of_host(mount, path, &mountinfo)?),
            MountSource::Image { .. } => None,
        });
    }
    for device in &config.devices {
        resolve_device(device, &mut found.devices)?;
    }
    if config.security.privileged {
        found.all_devices = host::devices();
    }
    Ok(found)
}

fn of_host(mount: &Mount, path: &Path, mountinfo: &[u8]) -> Result<ResolvedMount, Cause> {
    let source = fs::canonicalize(path).map_err(|e| missing(path, e))?;
    let sharing = || Sharing::of(mountinfo, &source);
    let refused = |needs: &str| {
        let message = format!(
            "mount {}: {} is not on a {needs} mount of the host",
            mount.container_path.display(),
            path.display(),
        );
        Err(Cause::other(Class::FailedPrecondition, message))
    };
    match mount.propagation {
        Propagation::Private => {}
        Propagation::HostToContainer if sharing() == Sharing::Private => {
            return refused("shared or slave");
        }
        Propagation::Bidirectional if sharing() != Sharing::Shared => return refused("shared"),
        Propagation::HostToContainer | Propagation::Bidirectional => {}
    }
    Ok(resolved(mount, source))
}

/// `mount` with what it shows found at `source`.
pub(super) fn resolved(mount: &Mount, source: PathBuf) -> ResolvedMount {
    ResolvedMount {
        destination: mount.container_path.clone(),
        source,
        access: mount.access,
        propagation: mount.propagation,
        uid_mappings: mount.uid_mappings.clone(),
        gid_mappings: mount.gid_mappings.clone(),
        options: mount.options.clone(),
    }
}

fn missing(path: &Path, error: std::io::Error) -> Cause {
    if error.kind() == std::io::ErrorKind::NotFound {
        let message = format!("the host path {} does not exist", path.display());
        return Cause::other(Class::FailedPrecondition, message);
    }
    file_failed("look at the host path", path)(error)
}

/// A device node, or all of a directory.
fn resolve_device(device: &Device, found: &mut Vec<ResolvedDevice>) -> Result<(), Cause> {
    let path = fs::canonicalize(&device.host_path).map_err(|e| missing(&device.host_path, e))?;
    let metadata = fs::metadata(&path).map_err(|e| missing(&path, e))?;
    let resolved = |container_path: PathBuf, node| ResolvedDevice {
        container_path,
        access: device.access,
        device: node,
    };
    if let Some(node) = host::device(&path, &metadata) {
        found.push(resolved(device.container_path.clone(), node));
        return Ok(());
    }
    if metadata.is_dir() {
        let mut nodes = Vec::new();
        host::collect_devices(&path, &mut nodes);
        found.extend(nodes.into_iter().filter_map(|node| {
            let below = node.path.strip_prefix(&path).ok()?;
            Some(resolved(device.container_path.join(below), node))
        }));
        return Ok(());
    }
    let message = format!("{} is not a device", device.host_path.display());
    Err(Cause::other(Class::InvalidArgument, message))
}

/// Whether what is mounted below a path later is seen elsewhere (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// Neither way.
    Private,
    /// From elsewhere to here.
    Slave,
    /// Both ways.
    Shared,
}

impl Sharing {
    /// That of the mount that `path`, which has no links in it, lies on; of several at the same place the
    /// last one is on top.
    fn of(mountinfo: &[u8], path: &Path) -> Self {
        let mut best = (0, Self::Private);
        for line in mountinfo.split(|b| *b == b'\n') {
            let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
            let Some(place) = fields.get(4) else { continue };
            let place = PathBuf::from(OsString::from_vec(unescaped(place)));
            let depth = place.components().count();
            if depth < best.0 || !path.starts_with(&place) {
                continue;
            }
            // Optional fields stand between the mount options and a dash (proc_pid_mountinfo(5)).
            let optional = || fields[6..].iter().take_while(|field| **field != b"-");
            let has = |tag: &[u8]| fields.len() > 6 && optional().any(|f| f.starts_with(tag));
            let sharing = if has(b"shared:") {
                Self::Shared
            } else if has(b"master:") {
                Self::Slave
            } else {
                Self::Private
            };
            best = (depth, sharing);
        }
        best.1
    }
}

/// The kernel writes spaces, tabs, newlines and backslashes as three octal digits behind a backslash.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', more @ ..]) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = more;
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use model::{Access, DeviceAccess};

    use super::*;
    use crate::records::tests::container_config;

    const MOUNTINFO: &[u8] = b"\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:30 / /mnt/private rw,relatime - tmpfs tmpfs rw
31 21 0:31 / /mnt/slave rw,relatime master:7 - tmpfs tmpfs rw
32 21 0:32 / /mnt/with\\040space rw,relatime shared:9 master:7 - tmpfs tmpfs rw
33 21 0:33 / /mnt/twice rw,relatime - tmpfs tmpfs rw
34 21 0:34 / /mnt/twice rw,relatime shared:10 - tmpfs tmpfs rw
";

    #[test]
    fn the_mount_that_a_path_lies_on_says_how_it_is_shared() {
        for (path, expected) in [
            ("/home/x", Sharing::Shared),
            ("/mnt/private", Sharing::Private),
            ("/mnt/private/below", Sharing::Private),
            ("/mnt/privateer", Sharing::Shared),
            ("/mnt/slave/x", Sharing::Slave),
            ("/mnt/with space/x", Sharing::Shared),
            ("/mnt/twice", Sharing::Shared),
        ] {
            assert_eq!(Sharing::of(MOUNTINFO, Path::new(path)), expected, "{path}");
        }
        assert_eq!(Sharing::of(b"nonsense\n1 2 3 4 / x\n", Path::new("/a")), Sharing::Private);
    }

    fn mount(path: &Path) -> Mount {
        Mount {
            container_path: "/data".into(),
            source: MountSource::HostPath(path.to_owned()),
            access: Access::default(),
            propagation: Propagation::default(),
            selinux_relabel: false,
            uid_mappings: Vec::new(),
            gid_mappings: Vec::new(),
            options: Vec::new(),
        }
    }

    #[test]
    fn links_are_resolved_and_what_is_missing_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        fs::create_dir(&real).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let mut config = container_config("c", 0);
        config.mounts = vec![mount(&link)];
        let found = look_up(&config, None).unwrap();
        assert_eq!(found.mounts[0].as_ref().unwrap().source, real);
        let gone = dir.path().join("gone");
        config.mounts = vec![mount(&gone)];
        let error = look_up(&config, None).unwrap_err().to_string();
        assert!(error.contains("gone") && error.contains("does not exist"), "{error}");
        assert!(!gone.exists(), "what is missing is not made");
    }

    #[test]
    fn a_device_is_a_node_or_all_nodes_of_a_directory() {
        let mut config = container_config("c", 0);
        let access = DeviceAccess::parse("rw").unwrap();
        let device = |host: &str, inside: &str| Device {
            container_path: inside.into(),
            host_path: host.into(),
            access,
        };
        config.devices = vec![device("/dev/null", "/dev/x")];
        let found = look_up(&config, None).unwrap().devices;
        assert_eq!(found[0].container_path, Path::new("/dev/x"));
        assert_eq!((found[0].device.major, found[0].device.minor), (1, 3));
        config.devices = vec![device("/dev", "/d")];
        let found = look_up(&config, None).unwrap().devices;
        assert!(found.iter().any(|d| d.container_path == Path::new("/d/null")));
        config.devices = vec![device("/etc/passwd", "/d")];
        assert!(look_up(&config, None).unwrap_err().to_string().contains("not a device"));
    }
}
