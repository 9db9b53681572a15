//! Kernel parameters of namespaces.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat};

use crate::attach::{PROC_MAGIC, is_on};
use crate::error::Failure;
use crate::paths::open_beneath;

/// Writes parameters by dotted name (sysctl(8)) in the namespaces of this thread. A name that itself
/// has dots in it is written with slashes between its parts: `net/ipv4/conf/eth0.1/forwarding`.
///
/// # Errors
/// The first that cannot be written, by name; one that does not exist in this kernel too.
pub fn write_sysctls<'a>(
    sysctls: impl IntoIterator<Item = (&'a String, &'a String)>,
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
        let file = open_beneath(dir.as_fd(), Path::new(&path), OFlags::WRONLY, resolve)
            .map_err(Failure::at(what()))?;
        File::from(file).write_all(value.as_bytes()).map_err(Failure::at(what()))?;
    }
    Ok(())
}
