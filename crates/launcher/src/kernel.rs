//! Kernel parameters of namespaces.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, Uid, openat};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::set_thread_res_uid;

use crate::attach::{PROC_MAGIC, is_on};
use crate::error::Failure;
use crate::paths::open_beneath;
use crate::users::Users;

/// Writes parameters by dotted name (sysctl(8)) in the namespaces of this thread. A name that itself
/// has dots in it is written with slashes between its parts: `net/ipv4/conf/eth0.1/forwarding`.
///
/// Parameters of namespaces that belong to a user namespace may be for the root of `users` only.
///
/// # Errors
/// The first that cannot be written, by name; one that does not exist in this kernel too.
pub fn write_sysctls<'a>(
    sysctls: impl IntoIterator<Item = (&'a String, &'a String)>,
    users: Option<Users<'_>>,
) -> Result<(), Failure> {
    let mut sysctls = sysctls.into_iter().peekable();
    if sysctls.peek().is_none() {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let dir =
        openat(CWD, "/proc/sys", flags, Mode::empty()).map_err(Failure::at("open /proc/sys"))?;
    if !is_on(dir.as_fd(), PROC_MAGIC).map_err(Failure::at("look at /proc/sys"))? {
        return Err(Failure::new("open /proc/sys", "it is not on a proc file system"));
    }
    for (name, value) in sysctls {
        let path = if name.contains('/') { name.clone() } else { name.replace('.', "/") };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let what = || format!("set the kernel parameter {name}");
        let write = || -> std::io::Result<()> {
            let file = open_beneath(dir.as_fd(), Path::new(&path), OFlags::WRONLY, resolve)?;
            File::from(file).write_all(value.as_bytes())
        };
        let written = match (write(), users) {
            (Err(e), Some(users)) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                as_root_of(users, write)
                    .map_err(Failure::at("become the pod's root for a moment, and come back"))?
            }
            (written, _) => written,
        };
        written.map_err(Failure::at(what()))?;
    }
    Ok(())
}

/// Does something as the root of `users`, and comes back.
fn as_root_of<T>(users: Users<'_>, action: impl FnOnce() -> T) -> rustix::io::Result<T> {
    let root = Uid::from_raw(users.root().0);
    set_thread_res_uid(None, Some(root), None)?;
    let done = action();
    set_thread_res_uid(None, Some(Uid::ROOT), None)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(done)
}
