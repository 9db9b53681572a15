//! Device filters of cgroup v2: BPF programs of the type BPF_PROG_TYPE_CGROUP_DEVICE (bpf(2)).

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

// From linux/bpf.h.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 1 << 1;

/// How many programs one cgroup may have (BPF_CGROUP_MAX_PROGS).
const MAX_PROGRAMS: usize = 64;

// The parts of `union bpf_attr` that each command reads; the kernel takes a shorter one as if the rest
// were zero.

#[repr(C)]
struct Load {
    program_type: u32,
    instructions: u32,
    program: u64,
    license: u64,
}

#[repr(C)]
struct Attach {
    cgroup: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[repr(C)]
struct Query {
    cgroup: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    /// To a multiple of eight bytes, and no padding that nobody has written.
    unused: u32,
}

#[repr(C)]
struct ById {
    id: u32,
    next_id: u32,
    flags: u32,
}

/// Makes `program` (eBPF instructions, 8 bytes each, in the host's byte order) what decides on the use of
/// devices in `cgroup`, together with the programs of the cgroups above. What was attached here before is
/// taken off, once the new one is on: in between both must agree.
///
/// # Errors
/// What bpf(2) says: EPERM without CAP_BPF or CAP_SYS_ADMIN, EINVAL for a program that the kernel refuses or
/// a kernel without CONFIG_CGROUP_BPF. InvalidInput for a program of broken length.
pub fn set_device_program(cgroup: BorrowedFd<'_>, program: &[u8]) -> io::Result<()> {
    let before = attached(cgroup)?;
    let new = load(program)?;
    attach(PROG_ATTACH, cgroup, new.as_raw_fd(), ALLOW_MULTI)?;
    for id in before {
        // A program that is gone already has left this cgroup too.
        if let Ok(old) = by_id(id) {
            attach(PROG_DETACH, cgroup, old.as_raw_fd(), 0)?;
        }
    }
    Ok(())
}

fn load(program: &[u8]) -> io::Result<OwnedFd> {
    let count = program.len() / 8;
    if count == 0 || !program.len().is_multiple_of(8) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a BPF program"));
    }
    // The kernel copies from this aligned copy.
    let aligned: Vec<u64> =
        program.as_chunks::<8>().0.iter().map(|i| u64::from_ne_bytes(*i)).collect();
    let mut attr = Load {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        instructions: u32::try_from(count).map_err(io::Error::other)?,
        program: aligned.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
    };
    // SAFETY: for this command the pointers are to `instructions` whole instructions and to a C string; both
    // outlive the call and are only read. The kernel checks the program before it takes it.
    let fd = unsafe { bpf(PROG_LOAD, &mut attr)? };
    // SAFETY: on success the kernel has opened a new descriptor, close-on-exec, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn attach(
    command: libc::c_int,
    cgroup: BorrowedFd<'_>,
    program: RawFd,
    flags: u32,
) -> io::Result<()> {
    let mut attr = Attach {
        cgroup: cgroup.as_raw_fd().cast_unsigned(),
        program: program.cast_unsigned(),
        kind: CGROUP_DEVICE,
        flags,
    };
    // SAFETY: these commands read four integers and follow no pointer; both descriptors are open.
    unsafe { bpf(command, &mut attr) }.map(drop)
}

fn attached(cgroup: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; MAX_PROGRAMS];
    let mut attr = Query {
        cgroup: cgroup.as_raw_fd().cast_unsigned(),
        kind: CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: MAX_PROGRAMS as u32,
        unused: 0,
    };
    // SAFETY: the kernel writes at most `count` numbers to `ids`, which has room for them and outlives the
    // call, and the flags and the count into `attr`.
    unsafe { bpf(PROG_QUERY, &mut attr)? };
    let count = usize::try_from(attr.count).unwrap_or(0).min(MAX_PROGRAMS);
    Ok(ids[..count].to_vec())
}

fn by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = ById { id, next_id: 0, flags: 0 };
    // SAFETY: this command reads integers and follows no pointer.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &mut attr)? };
    // SAFETY: on success the kernel has opened a new descriptor, close-on-exec, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// `attr` must be the beginning of a `bpf_attr` for `command`, without padding, and its pointers valid for
/// what the command reads and writes there.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<RawFd> {
    // SAFETY: `attr` is valid for reads and writes of its size; what its pointers lead to is the caller's
    // promise.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}
