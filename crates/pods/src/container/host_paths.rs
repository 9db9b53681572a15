//! Paths of the host that a container is to see. What is looked at here may hang.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use model::{Class, ContainerConfig, Device, Mount, MountSource, Propagation};
use rustix::fs::{Mode, OFlags};
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
    for mount in &config.mounts {
        found.mounts.push(match &mount.source {
            MountSource::HostPath(path) => Some(of_host(mount, path)?),
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

fn of_host(mount: &Mount, path: &Path) -> Result<ResolvedMount, Cause> {
    let source = fs::canonicalize(path).map_err(|e| missing(path, e))?;
    let sharing = || Sharing::of(&source).map_err(file_failed("find the mount of", &source));
    let lacking = match mount.propagation {
        Propagation::Private => None,
        Propagation::HostToContainer => {
            (sharing()? == Sharing::Private).then_some("shared or slave")
        }
        Propagation::Bidirectional => (sharing()? != Sharing::Shared).then_some("shared"),
    };
    if let Some(needs) = lacking {
        let message = format!(
            "mount {}: {} is not on a {needs} mount of the host",
            mount.container_path.display(),
            path.display(),
        );
        return Err(Cause::other(Class::FailedPrecondition, message));
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

fn missing(path: &Path, error: io::Error) -> Cause {
    if error.kind() == io::ErrorKind::NotFound {
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
    /// That of the mount that `path` lies on. The mount is told by its number (proc_pid_fdinfo(5)): the table
    /// has mounts that others cover, at the same paths.
    fn of(path: &Path) -> io::Result<Self> {
        let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let info = fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", fd.as_raw_fd()))?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
        let id = id.map(str::trim).ok_or_else(|| io::Error::other("no mnt_id in fdinfo"))?;
        Ok(Self::in_table(&fs::read("/proc/thread-self/mountinfo")?, id))
    }

    /// That of the mount with this number. Optional fields stand between the mount options and a dash
    /// (proc_pid_mountinfo(5)).
    fn in_table(mountinfo: &[u8], id: &str) -> Self {
        let mut lines = mountinfo.split(|b| *b == b'\n').map(|line| line.split(|b| *b == b' '));
        let line = lines.find_map(|mut fields| {
            (fields.next() == Some(id.as_bytes())).then(|| fields.skip(5).collect::<Vec<_>>())
        });
        let fields = line.unwrap_or_default();
        let optional = fields.iter().take_while(|field| **field != b"-");
        let has = |tag: &[u8]| optional.clone().any(|field| field.starts_with(tag));
        if has(b"shared:") {
            Self::Shared
        } else if has(b"master:") {
            Self::Slave
        } else {
            Self::Private
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{Access, DeviceAccess};

    use super::*;
    use crate::records::tests::container_config;

    const MOUNTINFO: &[u8] = b"\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:30 / /mnt/private rw,relatime - tmpfs shared:tmpfs rw
31 21 0:31 / /mnt/slave rw,relatime master:7 - tmpfs tmpfs rw
32 21 0:32 / /mnt/both rw,relatime shared:9 master:7 - tmpfs tmpfs rw
33 21 0:33 / /mnt/twice rw,relatime - tmpfs tmpfs rw
34 21 0:34 / /mnt/twice rw,relatime shared:10 - tmpfs tmpfs rw
";

    #[test]
    fn the_mount_that_a_path_lies_on_says_how_it_is_shared() {
        for (id, expected) in [
            ("21", Sharing::Shared),
            ("30", Sharing::Private),
            ("31", Sharing::Slave),
            ("32", Sharing::Shared),
            ("33", Sharing::Private),
            ("34", Sharing::Shared),
            ("3", Sharing::Private),
        ] {
            assert_eq!(Sharing::in_table(MOUNTINFO, id), expected, "{id}");
        }
        assert_eq!(Sharing::in_table(b"nonsense\n1 2 3\n", "1"), Sharing::Private);
        assert!(Sharing::of(Path::new("/proc/self")).is_ok());
        assert!(Sharing::of(Path::new("/no/such/path")).is_err());
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
