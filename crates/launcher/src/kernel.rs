//! Kernel parameters of namespaces.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstatfs, openat, openat2};

use crate::error::Failure;

/// PROC_SUPER_MAGIC of linux/magic.h.
const PROC_MAGIC: u64 = 0x9fa0;

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
    let found = fstatfs(dir.as_fd()).map_err(Failure::at("look at /proc/sys"))?;
    if u64::try_from(found.f_type).ok() != Some(PROC_MAGIC) {
        return Err(Failure::new("open /proc/sys", "it is not on a proc file system"));
    }
    for (name, value) in sysctls {
        let path = if name.contains('/') { name.clone() } else { name.replace('.', "/") };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let what = || format!("set the kernel parameter {name}");
        let file = openat2(&dir, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve)
            .map_err(Failure::at(what()))?;
        File::from(file).write_all(value.as_bytes()).map_err(Failure::at(what()))?;
    }
    Ok(())
}
