//! The namespaces that this monitor lives in, and with it its pod.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

use model::{SandboxId, Span};
use monitor_api::{ExitRecord, Refusal, Setup};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, unmount,
};
use store::{Durability, Store};
use sys::{Child, Namespaces, SingleThreaded};

use crate::init;
use crate::refusal::{failed, refuse, step_failed};

/// Where network namespaces are pinned. This monitor's copy of those mounts goes, so that it keeps none
/// of other pods' namespaces alive.
const NETNS_DIR: &str = "/run/netns";

/// A pod whose namespaces are there.
#[derive(Debug)]
pub struct Pod {
    pub sandbox: SandboxId,
    /// Its directory.
    pub directory: PathBuf,
    /// The host's mount namespace, for volumes whose mounts go back to it.
    pub host_mounts: OwnedFd,
    /// The first process of the shared PID namespace, if there is one.
    pub init: Option<Child>,
    /// Records of its containers' ends.
    pub exits: Store,
}

impl Pod {
    /// Makes the namespaces of `setup`. `netns` is the pod's network namespace, if it has one.
    pub fn set_up(
        proof: &SingleThreaded,
        setup: Setup,
        netns: Option<&OwnedFd>,
    ) -> Result<(Self, Vec<Span>), Refusal> {
        let mut spans = Spans::new();
        let host_mounts: OwnedFd = File::open("/proc/self/ns/mnt").map_err(failed("open the mount namespace"))?.into();
        if let Some(netns) = netns {
            sys::join_namespace(netns.as_fd(), Namespaces::NETWORK).map_err(failed("enter the network namespace"))?;
        }
        let own = Namespaces::MOUNT
            .with_if(setup.own_ipc, Namespaces::IPC)
            .with_if(setup.hostname.is_some(), Namespaces::UTS);
        sys::unshare(own).map_err(failed("make the pod's namespaces"))?;
        mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
            .map_err(failed("stop mounts here from reaching the host"))?;
        // It may not be a mount, and then there is nothing to let go.
        let _ = unmount(NETNS_DIR, UnmountFlags::DETACH);
        if let Some(name) = &setup.hostname {
            rustix::system::sethostname(name.as_bytes()).map_err(failed("set the host name"))?;
        }
        spans.ended("namespaces");
        if setup.own_ipc {
            mount_shm(&setup)?;
            spans.ended("shm");
        }
        launcher::write_sysctls(&setup.sysctls).map_err(|failure| Refusal {
            class: model::Class::InvalidArgument,
            ..step_failed(launcher::Phase::Kernel)(failure)
        })?;
        let init = if setup.shared_pid {
            Some(init::start(proof).map_err(failed("start the pod's init"))?)
        } else {
            None
        };
        spans.ended("kernel");
        let exits = Store::open(&setup.directory.join(ExitRecord::DIRECTORY), Durability::Boot)
            .map_err(|e| refuse(model::Classified::class(&e), e.to_string()))?;
        let pod = Self { sandbox: setup.sandbox, directory: setup.directory, host_mounts, init, exits };
        Ok((pod, spans.spans))
    }
}

/// Mounts the pod's /dev/shm at `shm` in its directory, where only this mount namespace sees it.
fn mount_shm(setup: &Setup) -> Result<(), Refusal> {
    let place = setup.directory.join("shm");
    match std::fs::create_dir(&place) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(failed(format!("make {}", place.display()))(e));
        }
        Ok(()) | Err(_) => {}
    }
    let mount = || -> rustix::io::Result<()> {
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(context.as_fd(), "source", "shm")?;
        fsconfig_set_string(context.as_fd(), "mode", "1777")?;
        fsconfig_set_string(context.as_fd(), "size", setup.shm_size.to_string())?;
        fsconfig_create(context.as_fd())?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let tree = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        move_mount(&tree, "", rustix::fs::CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
    };
    mount().map_err(failed(format!("mount the pod's shared memory at {}", place.display())))
}

/// Spans of the steps of one operation.
#[derive(Debug)]
pub struct Spans {
    origin: Instant,
    since: Instant,
    pub spans: Vec<Span>,
}

impl Spans {
    pub fn new() -> Self {
        let now = Instant::now();
        Self { origin: now, since: now, spans: Vec::new() }
    }

    pub fn ended(&mut self, phase: &'static str) {
        let now = Instant::now();
        let micros = |d: std::time::Duration| u32::try_from(d.as_micros()).unwrap_or(u32::MAX);
        self.spans.push(Span {
            phase: phase.into(),
            start_us: micros(self.since - self.origin),
            took_us: micros(now - self.since),
        });
        self.since = now;
    }
}
