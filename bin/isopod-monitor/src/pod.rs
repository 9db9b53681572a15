//! The namespaces that this monitor lives in, and with it its pod.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use launcher::RuntimeNamespaces;
use model::{SandboxId, Span};
use monitor_api::{ExitRecord, Refusal, Setup, Users};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, unmount,
};
use store::{Durability, Store};
use sys::{Child, Namespaces, SingleThreaded};

use crate::cgroup::Machine;
use crate::init;
use crate::refusal::{failed, refuse, step_failed};

/// Where network namespaces are pinned.
const NETNS_DIR: &str = "/run/netns";

/// A pod whose namespaces are there.
#[derive(Debug)]
pub struct Pod {
    pub sandbox: SandboxId,
    /// Its directory.
    pub directory: PathBuf,
    /// The namespaces that this monitor came from and has left, for paths and programs of the host.
    pub host: RuntimeNamespaces,
    /// The first process of the shared PID namespace, if there is one.
    pub init: Option<Child>,
    /// Records of its containers' ends.
    pub exits: Store,
    /// Its user namespace, if it has one of its own.
    pub users: Option<PodUsers>,
    /// The cgroup hierarchies.
    pub machine: Rc<Machine>,
}

/// A pod's user namespace.
#[derive(Debug)]
pub struct PodUsers {
    pub namespace: OwnedFd,
    pub ids: Users,
}

impl PodUsers {
    pub fn as_users(&self) -> launcher::Users<'_> {
        launcher::Users {
            namespace: self.namespace.as_fd(),
            uids: &self.ids.uids,
            gids: &self.ids.gids,
        }
    }
}

/// A pod that was set up.
#[derive(Debug)]
pub struct SetUp {
    pub pod: Pod,
    pub spans: Vec<Span>,
    /// The network namespace, if it was made here.
    pub netns: Option<OwnedFd>,
}

/// The first port that anybody may bind (ip(7)).
const LOW_PORTS: &str = "net.ipv4.ip_unprivileged_port_start";

/// Where the proc file system of the pod's PID namespace is mounted, below its directory.
const PROC: &str = "proc";

impl Pod {
    /// Makes the namespaces of `setup`. `netns` is the pod's network namespace, if it has one that is there.
    pub fn set_up(
        proof: &SingleThreaded,
        setup: Setup,
        netns: Option<&OwnedFd>,
    ) -> Result<SetUp, Refusal> {
        let mut spans = Spans::new();
        let host = RuntimeNamespaces::of_this().map_err(failed("open the host's namespaces"))?;
        let (users, made_netns) = enter_namespaces(proof, &setup, netns)?;
        mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
            .map_err(failed("stop mounts here from reaching the host"))?;
        if let Some(name) = &setup.hostname {
            rustix::system::sethostname(name.as_bytes()).map_err(failed("set the host name"))?;
        }
        spans.ended("namespaces");
        if setup.own_ipc {
            mount_shm(&setup)?;
            spans.ended("shm");
        }
        let pod_users = users.as_ref().map(PodUsers::as_users);
        let mut sysctls = setup.sysctls.clone();
        if users.is_some() && netns.is_some() {
            // That network belongs to the host's users, so that no capability of the pod's counts there.
            sysctls.entry(LOW_PORTS.to_owned()).or_insert_with(|| "0".to_owned());
        }
        launcher::write_sysctls(&sysctls, pod_users).map_err(|failure| Refusal {
            class: model::Class::InvalidArgument,
            ..step_failed(launcher::Phase::Kernel)(failure)
        })?;
        let init = if setup.shared_pid {
            let place = setup.directory.join(PROC);
            let started = init::start(proof, &place, users.as_ref().map(|u| &u.namespace));
            Some(started.map_err(failed("start the pod's init"))?)
        } else {
            None
        };
        spans.ended("kernel");
        let exits = Store::open(&setup.directory.join(ExitRecord::DIRECTORY), Durability::Boot)
            .map_err(|e| refuse(model::Classified::class(&e), e.to_string()))?;
        let machine = Rc::new(Machine::detect()?);
        let Setup { sandbox, directory, .. } = setup;
        let pod = Self { sandbox, directory, host, init, exits, users, machine };
        Ok(SetUp { pod, spans: spans.spans, netns: made_netns })
    }

    /// Lets this monitor's copy of other pods' network namespaces go, which it would keep alive. The kernel takes some
    /// milliseconds for that, so it is done when the daemon has its answer.
    pub fn let_others_go() {
        // It may not be a mount, and then there is nothing to let go.
        let _ = unmount(NETNS_DIR, UnmountFlags::DETACH);
    }

    /// Where the proc file system of the shared PID namespace is mounted.
    pub fn proc(&self) -> PathBuf {
        self.directory.join(PROC)
    }
}

/// Makes and enters what the pod has of its own; returns its user namespace, and its network namespace if
/// that was made here.
fn enter_namespaces(
    proof: &SingleThreaded,
    setup: &Setup,
    netns: Option<&OwnedFd>,
) -> Result<(Option<PodUsers>, Option<OwnedFd>), Refusal> {
    if let Some(netns) = netns {
        sys::join_namespace(netns.as_fd(), Namespaces::NETWORK)
            .map_err(failed("enter the network namespace"))?;
    }
    let makes_network = setup.own_network && netns.is_none();
    let own = Namespaces::NONE
        .with_if(makes_network, Namespaces::NETWORK)
        .with_if(setup.own_ipc, Namespaces::IPC)
        .with_if(setup.hostname.is_some(), Namespaces::UTS);
    let users = match &setup.users {
        None => {
            sys::unshare(Namespaces::MOUNT.with(own))
                .map_err(failed("make the pod's namespaces"))?;
            None
        }
        Some(ids) => {
            let made = launcher::new_user_namespace(proof, &ids.uids, &ids.gids, own)
                .map_err(step_failed(launcher::Phase::JoinNamespaces))?;
            for (namespace, kind) in made.owned() {
                sys::join_namespace(namespace, kind)
                    .map_err(failed("enter the pod's namespaces"))?;
            }
            sys::unshare(Namespaces::MOUNT).map_err(failed("make the pod's mount namespace"))?;
            Some(PodUsers { namespace: made.users, ids: ids.clone() })
        }
    };
    if !makes_network {
        return Ok((users, None));
    }
    sys::bring_loopback_up().map_err(failed("bring the pod's loopback interface up"))?;
    let netns = File::open("/proc/self/ns/net").map_err(failed("open the network namespace"))?;
    Ok((users, Some(netns.into())))
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
        if let Some(users) = &setup.users {
            let root = |map: &[model::IdMapping]| {
                map.iter().find(|m| m.container_id == 0).map_or(0, |m| m.host_id)
            };
            fsconfig_set_string(context.as_fd(), "uid", root(&users.uids).to_string())?;
            fsconfig_set_string(context.as_fd(), "gid", root(&users.gids).to_string())?;
        }
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
