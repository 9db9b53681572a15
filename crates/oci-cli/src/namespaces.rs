//! The namespaces that a verb is in itself, so that a container comes into its own.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use launcher::{OwnedNamespaces, Plan};
use rustix::mount::{MountPropagationFlags, mount_change};
use sys::{Namespaces, SingleThreaded};

use crate::config::{WantedUsers, launcher_refuses};
use crate::error::OciError;
use crate::record::Mappings;

/// Has this process's next children born in the PID namespace that the plan names by path, if it does; returns its
/// own one.
pub(crate) fn join_pids(plan: &mut Plan) -> Result<Option<File>, OciError> {
    let Some(at) = plan.joined.iter().position(|(kind, _)| *kind == Namespaces::PID) else {
        return Ok(None);
    };
    let (_, path) = plan.joined.remove(at);
    let join = || -> io::Result<File> {
        let own = File::open("/proc/self/ns/pid")?;
        sys::join_namespace(File::open(&path)?.as_fd(), Namespaces::PID)?;
        Ok(own)
    };
    join().map(Some).map_err(OciError::io(format!("enter the PID namespace {}", path.display())))
}

/// A mount namespace of this process's own, from which no mount reaches the host.
pub(crate) fn own_mounts() -> Result<(), OciError> {
    let make = || -> io::Result<()> {
        sys::unshare(Namespaces::MOUNT)?;
        mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
        Ok(())
    };
    make().map_err(OciError::io("make a mount namespace"))
}

/// Makes or opens the user namespace that is asked for, makes those of the plan's new ones that shall belong to it, and
/// enters the latter.
pub(crate) fn enter(
    proof: &SingleThreaded,
    wanted: &WantedUsers,
    plan: &mut Plan,
) -> Result<(OwnedNamespaces, Mappings), OciError> {
    let kinds = [Namespaces::NETWORK, Namespaces::IPC, Namespaces::UTS];
    let others = kinds.into_iter().filter(|kind| plan.new_namespaces.contains(*kind));
    let others = others.fold(Namespaces::NONE, Namespaces::with);
    let (made, users) = match wanted {
        WantedUsers::New(users) => {
            let made = launcher::new_user_namespace(proof, &users.uids, &users.gids, others)?;
            (made, users.clone())
        }
        WantedUsers::At(path, said) => join_users(proof, path, said, others)?,
    };
    for (namespace, kind) in made.owned() {
        sys::join_namespace(namespace, kind)
            .map_err(OciError::io("enter the container's namespaces"))?;
        plan.new_namespaces = plan.new_namespaces.without(kind);
    }
    if made.network.is_some() {
        // It is not new any more to whoever sets the container up.
        sys::bring_loopback_up().map_err(OciError::io("bring the loopback interface up"))?;
    }
    Ok((made, users))
}

fn join_users(
    proof: &SingleThreaded,
    path: &Path,
    said: &Mappings,
    others: Namespaces,
) -> Result<(OwnedNamespaces, Mappings), OciError> {
    let refuse = |problem: String| launcher_refuses("linux.namespaces[User]", &problem);
    let failed = || OciError::io::<io::Error>(format!("open the namespace {}", path.display()));
    let namespace = File::open(path).map_err(failed())?;
    if is_own(&namespace, "user").map_err(failed())? {
        // Its root would be the host's.
        return Err(refuse(format!("{} is the one that the runtime is in", path.display())));
    }
    let (made, [uids, gids]) = launcher::join_user_namespace(proof, namespace.as_fd(), others)?;
    let is_said = |said: &[_], is: &[_]| said.is_empty() || said == is;
    if !is_said(&said.uids, &uids) || !is_said(&said.gids, &gids) {
        return Err(refuse(format!("{} has other mappings", path.display())));
    }
    Ok((made, Mappings { uids, gids }))
}

/// Has this process, and whoever it makes, see the clocks of the process `pid`, if those are not its own.
pub(crate) fn join_time(pid: i32) -> Result<(), OciError> {
    let join = || -> io::Result<()> {
        let namespace = match File::open(format!("/proc/{pid}/ns/time")) {
            // A kernel without such namespaces.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        if is_own(&namespace, "time")? {
            return Ok(());
        }
        sys::join_namespace(namespace.as_fd(), Namespaces::TIME)
    };
    join().map_err(OciError::io("enter the container's time namespace"))
}

/// Whether `namespace` is this process's own of that kind.
fn is_own(namespace: &File, kind: &str) -> io::Result<bool> {
    let own = std::fs::metadata(format!("/proc/self/ns/{kind}"))?;
    let it = namespace.metadata()?;
    Ok((own.dev(), own.ino()) == (it.dev(), it.ino()))
}
