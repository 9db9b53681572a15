//! Paths of the host that a container is to see. What is looked at here may hang.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use cdi::{Catalogue, DeviceName, Edits, Node, NodeKind};
use model::{Class, ContainerConfig, Device, Mount, MountSource, Propagation};
use operations::Spot;
use runtime_spec::{BlockIo, ThrottleDevice};
use rustix::fs::{Mode, OFlags};
use specgen::{DeviceKind, HostDevice, ResolvedDevice, ResolvedMount};

use super::relabel::{LABEL, relabel};
use crate::config::BlockIoClass;
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
    pub(super) all_devices: Vec<HostDevice>,
    /// What its CDI devices change.
    pub(super) edits: Edits,
    /// The nodes that they are about.
    pub(super) nodes: Nodes,
    /// Its block I/O class, with the devices by number.
    pub(super) block_io: Option<BlockIo>,
}

/// Nodes of the host by path, or why there is none.
type Nodes = BTreeMap<PathBuf, Result<Node, String>>;

/// What beside the request is to be looked up.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// The container's log.
    pub(super) log: Option<PathBuf>,
    /// Directories of CDI specs.
    pub(super) cdi_dirs: Vec<PathBuf>,
    /// CDI devices.
    pub(super) cdi: Vec<DeviceName>,
    /// The block I/O class.
    pub(super) block_io: Option<BlockIoClass>,
    /// The label of the container's files; empty where the host has none.
    pub(super) mount_label: String,
}

/// Looks everything up. Blocks, and hangs with the file systems that it looks at; `spot` says which path it is at.
pub(super) fn look_up(
    config: &ContainerConfig,
    wanted: &Wanted,
    spot: &Spot,
) -> Result<OnHost, Cause> {
    let mut found = OnHost::default();
    let at = |path: &Path, what: &str| spot.set(format!("{} ({what})", path.display()));
    if let Some(directory) = wanted.log.as_deref().and_then(Path::parent) {
        at(directory, "log_path");
        fs::create_dir_all(directory).map_err(file_failed("make", directory))?;
    }
    if !wanted.cdi.is_empty() {
        let dirs: Vec<_> = wanted.cdi_dirs.iter().map(|dir| dir.display().to_string()).collect();
        spot.set(format!("{} (CDI specs)", dirs.join(", ")));
        let catalogue = Catalogue::read(&wanted.cdi_dirs)?;
        for problem in catalogue.left_out() {
            tracing::warn!(problem, "of the CDI specs something is left out");
        }
        found.edits = catalogue.edits(&wanted.cdi)?;
        let node = |path: &Path| {
            at(path, "a CDI device");
            (path.to_owned(), cdi_node(path))
        };
        found.nodes = found.edits.nodes().map(node).collect();
    }
    if let Some(class) = &wanted.block_io {
        spot.set("the devices of its block I/O class");
        found.block_io = Some(block_io(class)?);
    }
    for (i, mount) in config.mounts.iter().enumerate() {
        found.mounts.push(match &mount.source {
            MountSource::HostPath(path) => {
                at(path, &format!("mounts[{i}].host_path"));
                Some(of_host(mount, path)?)
            }
            MountSource::Image { .. } => None,
        });
    }
    for (i, device) in config.devices.iter().enumerate() {
        at(&device.host_path, &format!("devices[{i}].host_path"));
        resolve_device(device, &mut found.devices)?;
    }
    if config.security.privileged {
        spot.set("/dev (privileged)");
        found.all_devices = host::devices();
    }
    // Only once the request is known to be sound.
    if !wanted.mount_label.is_empty() {
        let sources = config.mounts.iter().zip(&found.mounts).filter(|(m, _)| m.selinux_relabel);
        for source in sources.filter_map(|(_, found)| Some(&found.as_ref()?.source)) {
            at(source, "its SELinux label");
            relabel(source, LABEL, &wanted.mount_label)?;
        }
    }
    Ok(found)
}

/// The node at `path`, which a CDI device is about.
fn cdi_node(path: &Path) -> Result<Node, String> {
    let metadata = fs::metadata(path).map_err(|e| e.to_string())?;
    if metadata.file_type().is_fifo() {
        let (mode, uid, gid) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
        return Ok(Node { kind: NodeKind::Pipe, major: 0, minor: 0, mode, uid, gid });
    }
    let device = host::device(path, &metadata).ok_or("it is not a device")?;
    let HostDevice { kind, major, minor, mode, uid, gid, .. } = device;
    let kind = match kind {
        DeviceKind::Char => NodeKind::Char,
        DeviceKind::Block => NodeKind::Block,
    };
    Ok(Node { kind, major, minor, mode, uid, gid })
}

/// A class with its devices by number.
fn block_io(class: &BlockIoClass) -> Result<BlockIo, Cause> {
    let found = |devices: &[(PathBuf, u64)]| -> Result<Vec<ThrottleDevice>, Cause> {
        let one = |(path, rate): &(PathBuf, u64)| {
            let metadata = fs::metadata(path).map_err(|e| missing(path, e))?;
            match host::device(path, &metadata) {
                Some(HostDevice { kind: DeviceKind::Block, major, minor, .. }) => {
                    let (major, minor) = (i64::from(major), i64::from(minor));
                    Ok(ThrottleDevice { major, minor, rate: *rate })
                }
                Some(_) | None => {
                    let message = format!("{} is not a block device", path.display());
                    Err(Cause::other(Class::FailedPrecondition, message))
                }
            }
        };
        devices.iter().map(one).collect()
    };
    Ok(BlockIo {
        weight: class.weight,
        throttle_read_bps_device: found(&class.read_bps)?,
        throttle_write_bps_device: found(&class.write_bps)?,
        throttle_read_iops_device: found(&class.read_iops)?,
        throttle_write_iops_device: found(&class.write_iops)?,
    })
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

    fn looked_up(config: &ContainerConfig, wanted: &Wanted) -> Result<OnHost, Cause> {
        look_up(config, wanted, &Spot::default())
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
        let found = looked_up(&config, &Wanted::default()).unwrap();
        assert_eq!(found.mounts[0].as_ref().unwrap().source, real);
        let gone = dir.path().join("gone");
        config.mounts = vec![mount(&gone)];
        let error = looked_up(&config, &Wanted::default()).unwrap_err().to_string();
        assert!(error.contains("gone") && error.contains("does not exist"), "{error}");
        assert!(!gone.exists(), "what is missing is not made");
    }

    #[test]
    fn the_path_that_is_looked_at_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = container_config("c", 0);
        let gone = dir.path().join("gone");
        config.mounts = vec![mount(dir.path()), mount(&gone), mount(dir.path())];
        let spot = Spot::default();
        assert!(look_up(&config, &Wanted::default(), &spot).is_err());
        assert_eq!(spot.said(), format!("{} (mounts[1].host_path)", gone.display()));
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
        let found = looked_up(&config, &Wanted::default()).unwrap().devices;
        assert_eq!(found[0].container_path, Path::new("/dev/x"));
        assert_eq!((found[0].device.major, found[0].device.minor), (1, 3));
        config.devices = vec![device("/dev", "/d")];
        let found = looked_up(&config, &Wanted::default()).unwrap().devices;
        assert!(found.iter().any(|d| d.container_path == Path::new("/d/null")));
        config.devices = vec![device("/etc/passwd", "/d")];
        assert!(
            looked_up(&config, &Wanted::default())
                .unwrap_err()
                .to_string()
                .contains("not a device")
        );
    }

    #[test]
    fn cdi_devices_are_found_with_their_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let spec = r#"{"cdiVersion": "0.6.0", "kind": "v/c", "devices": [{"name": "0",
            "containerEdits": {"deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/null"},
                {"path": "/dev/no-such-device"}]}}]}"#;
        fs::write(dir.path().join("v.json"), spec).unwrap();
        let wanted = |name: &str| Wanted {
            cdi_dirs: vec![dir.path().to_owned()],
            cdi: vec![DeviceName::parse(name).unwrap()],
            ..Wanted::default()
        };
        let found = looked_up(&container_config("c", 0), &wanted("v/c=0")).unwrap();
        let null = found.nodes[Path::new("/dev/null")].as_ref().unwrap();
        assert_eq!((null.kind, null.major, null.minor), (NodeKind::Char, 1, 3));
        assert!(found.nodes[Path::new("/dev/no-such-device")].is_err());
        let error = looked_up(&container_config("c", 0), &wanted("v/c=1")).unwrap_err().to_string();
        assert!(error.contains("v/c=1 is not known"), "{error}");
    }

    #[test]
    fn a_block_io_class_is_about_block_devices() {
        let class = |path: &str| Wanted {
            block_io: Some(BlockIoClass {
                weight: Some(10),
                read_bps: vec![(path.into(), 5)],
                ..BlockIoClass::default()
            }),
            ..Wanted::default()
        };
        for (path, problem) in [("/dev/null", "not a block device"), ("/dev/none", "not exist")] {
            let error = looked_up(&container_config("c", 0), &class(path)).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        let block = host::devices().into_iter().find(|d| d.kind == DeviceKind::Block);
        // A machine without a single block device has none to limit.
        let Some(block) = block else { return };
        let found =
            looked_up(&container_config("c", 0), &class(block.path.to_str().unwrap())).unwrap();
        let limits = found.block_io.unwrap();
        let numbers = (i64::from(block.major), i64::from(block.minor));
        let one = limits.throttle_read_bps_device[0];
        assert_eq!(
            (one.major, one.minor, one.rate, limits.weight),
            (numbers.0, numbers.1, 5, Some(10))
        );
    }
}
