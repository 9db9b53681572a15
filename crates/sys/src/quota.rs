//! Project quotas: quotactl_fd(2), and the project of a directory (FS_IOC_FSSETXATTR in linux/fs.h).

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// What a file system knows of projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectQuotas {
    /// Nothing.
    Absent,
    /// It counts what each one takes.
    Counted,
    /// It counts, and keeps each one to its limit.
    Enforced,
}

/// What a project takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProjectUsage {
    /// Bytes of disk.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
    /// The most bytes that it may take; what has CAP_SYS_RESOURCE in the first user namespace takes more on ext4.
    pub limit: Option<u64>,
}

/// The kind of quota: projects.
const PRJQUOTA: u32 = 2;
const Q_GETQUOTA: u32 = 0x80_0007;
const Q_SETQUOTA: u32 = 0x80_0008;
const Q_XGETQSTATV: u32 = 0x5808;
/// Limits of bytes and of inodes are valid.
const QIF_LIMITS: u32 = 1 | 4;
/// The unit of limits.
const LIMIT_UNIT: u64 = 1024;
const FS_QSTATV_VERSION1: i8 = 1;
const PROJECTS_COUNTED: u16 = 1 << 4;
const PROJECTS_ENFORCED: u16 = 1 << 5;

/// struct if_dqblk.
#[repr(C)]
#[derive(Default)]
struct Dqblk {
    bytes_hard: u64,
    bytes_soft: u64,
    bytes: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    inodes: u64,
    bytes_time: u64,
    inodes_time: u64,
    valid: u32,
}

/// struct fs_quota_statv: its beginning, and room for the rest.
#[repr(C)]
struct Statv {
    version: i8,
    pad: u8,
    flags: u16,
    rest: [u32; 39],
}

/// struct fsxattr.
#[repr(C)]
#[derive(Default)]
struct Fsxattr {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    project: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

/// _IOR('X', 31, struct fsxattr) and _IOW('X', 32, struct fsxattr), as every architecture but those has them
/// whose direction bits are others (MIPS, PowerPC, SPARC).
const FS_IOC_FSGETXATTR: u64 = 0x801c_581f;
const FS_IOC_FSSETXATTR: u64 = 0x401c_5820;
/// What is made inside is of the same project.
const PROJECT_INHERIT: u32 = 0x200;

/// What the file system that `file` is on knows of projects.
///
/// # Errors
/// What quotactl_fd(2) says, but for what it says where there are none.
pub fn project_quotas(file: BorrowedFd<'_>) -> io::Result<ProjectQuotas> {
    let mut state = Statv { version: FS_QSTATV_VERSION1, pad: 0, flags: 0, rest: [0; 39] };
    // SAFETY: `state` has the layout and the size of struct fs_quota_statv (160 bytes), which this command
    // fills in, and lives for the call.
    match unsafe { quotactl(file, Q_XGETQSTATV, 0, (&raw mut state).cast()) } {
        Ok(()) if state.flags & PROJECTS_ENFORCED != 0 => Ok(ProjectQuotas::Enforced),
        Ok(()) if state.flags & PROJECTS_COUNTED != 0 => Ok(ProjectQuotas::Counted),
        Ok(()) => Ok(ProjectQuotas::Absent),
        Err(e) => match e.raw_os_error() {
            // No kinds of quota at all, not this one, none turned on.
            Some(libc::ENOSYS | libc::EINVAL | libc::ESRCH | libc::EOPNOTSUPP) => {
                Ok(ProjectQuotas::Absent)
            }
            Some(_) | None => Err(e),
        },
    }
}

/// Lets a project take at most `bytes`, rounded up to what the file system counts in; `None` for no limit.
/// A limit of inodes is taken away.
///
/// # Errors
/// What quotactl_fd(2) says.
pub fn set_project_limit(file: BorrowedFd<'_>, project: u32, bytes: Option<u64>) -> io::Result<()> {
    let hard = bytes.map_or(0, |bytes| bytes.div_ceil(LIMIT_UNIT).max(1));
    let mut quota = Dqblk { bytes_hard: hard, valid: QIF_LIMITS, ..Dqblk::default() };
    // SAFETY: `quota` has the layout of struct if_dqblk, which this command reads, and lives for the call.
    unsafe { quotactl(file, Q_SETQUOTA, project, (&raw mut quota).cast()) }
}

/// What a project takes now.
///
/// # Errors
/// What quotactl_fd(2) says.
pub fn project_usage(file: BorrowedFd<'_>, project: u32) -> io::Result<ProjectUsage> {
    let mut quota = Dqblk::default();
    // SAFETY: `quota` has the layout of struct if_dqblk, which this command fills in, and lives for the call.
    match unsafe { quotactl(file, Q_GETQUOTA, project, (&raw mut quota).cast()) } {
        Ok(()) => {
            let limit = Some(quota.bytes_hard).filter(|hard| *hard > 0);
            let limit = limit.map(|hard| hard.saturating_mul(LIMIT_UNIT));
            Ok(ProjectUsage { bytes: quota.bytes, inodes: quota.inodes, limit })
        }
        // Nothing was ever counted for it (xfs).
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(ProjectUsage::default()),
        Err(e) => Err(e),
    }
}

/// The project of a file or directory; 0 where its file system knows none.
///
/// # Errors
/// What ioctl(2) says, but for what it says where there are none.
pub fn project_of(file: BorrowedFd<'_>) -> io::Result<u32> {
    match attributes(file) {
        Ok(attributes) => Ok(attributes.project),
        Err(e) if has_none(&e) => Ok(0),
        Err(e) => Err(e),
    }
}

/// Makes a directory, and all that is made in it from now on, a part of a project.
///
/// # Errors
/// What ioctl(2) says: `EOPNOTSUPP` or `ENOTTY` where there are no projects.
pub fn set_project(directory: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let found = attributes(directory)?;
    set(directory, &Fsxattr { project, xflags: found.xflags | PROJECT_INHERIT, ..found })
}

/// Takes a directory out of its project. What is made in it from now on is in none, and what is in one can be
/// renamed into it. Nothing is done where there are no projects.
///
/// # Errors
/// What ioctl(2) says: `EINVAL` in a user namespace.
pub fn leave_project(directory: BorrowedFd<'_>) -> io::Result<()> {
    leave(directory, |found| Fsxattr { project: 0, ..found })
}

/// Leaves a directory in its project, but what is made in it from now on is in none, and what is in another
/// can be renamed into it. Nothing is done where there are no projects.
///
/// # Errors
/// What ioctl(2) says: `EINVAL` in a user namespace.
pub fn stop_project_here(directory: BorrowedFd<'_>) -> io::Result<()> {
    leave(directory, |found| found)
}

fn leave(directory: BorrowedFd<'_>, change: impl Fn(Fsxattr) -> Fsxattr) -> io::Result<()> {
    let found = match attributes(directory) {
        Ok(found) => found,
        Err(e) if has_none(&e) => return Ok(()),
        Err(e) => return Err(e),
    };
    let (project, xflags) = (found.project, found.xflags);
    let wanted = change(Fsxattr { xflags: xflags & !PROJECT_INHERIT, ..found });
    if (wanted.project, wanted.xflags) == (project, xflags) {
        return Ok(());
    }
    set(directory, &wanted)
}

/// Whether an error says that a file system knows no projects.
fn has_none(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EOPNOTSUPP | libc::EINVAL))
}

fn set(file: BorrowedFd<'_>, wanted: &Fsxattr) -> io::Result<()> {
    // SAFETY: `wanted` has the layout of struct fsxattr, which this request reads, and lives for the call.
    let result = unsafe {
        libc::ioctl(file.as_raw_fd(), FS_IOC_FSSETXATTR as _, std::ptr::from_ref(wanted))
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn attributes(file: BorrowedFd<'_>) -> io::Result<Fsxattr> {
    let mut found = Fsxattr::default();
    // SAFETY: `found` has the layout of struct fsxattr, which this request fills in, and lives for the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSGETXATTR as _, &raw mut found) };
    if result == 0 { Ok(found) } else { Err(io::Error::last_os_error()) }
}

/// # Safety
/// `data` must be what `command` takes, for the time of the call.
unsafe fn quotactl(
    file: BorrowedFd<'_>,
    command: u32,
    id: u32,
    data: *mut libc::c_void,
) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call; the caller answers for `data`.
    let result = unsafe {
        libc::syscall(libc::SYS_quotactl_fd, file.as_raw_fd(), (command << 8) | PRJQUOTA, id, data)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn what_the_kernel_takes_has_its_sizes() {
        let sizes = (size_of::<Dqblk>(), size_of::<Statv>(), size_of::<Fsxattr>());
        assert_eq!(sizes, (72, 160, 28));
    }

    #[test]
    fn a_file_system_without_project_quotas_says_so() {
        let kernel = File::open("/proc").unwrap();
        assert_eq!(project_quotas(kernel.as_fd()).unwrap(), ProjectQuotas::Absent);
        assert_eq!(project_of(kernel.as_fd()).unwrap(), 0);
        assert!(set_project(kernel.as_fd(), 7).is_err());
        assert!(leave_project(kernel.as_fd()).is_ok());
        assert!(stop_project_here(kernel.as_fd()).is_ok());
        assert!(set_project_limit(kernel.as_fd(), 7, Some(1)).is_err());
        assert!(project_usage(kernel.as_fd(), 7).is_err());
    }
}
