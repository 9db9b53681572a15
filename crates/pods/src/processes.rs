//! What the processes of a cgroup have open.
//!
//! Always: a process that ends meanwhile is no error; only so much is counted that it does not take long, and
//! what is more than that is not told rather than told wrong.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use cgroups::{Cgroup, CgroupError};
use rustix::io::Errno;

use crate::status::{Descriptors, Processes};

/// Processes and descriptors that are counted at most: each of them costs a call of the kernel.
const COUNTED_MAX: u32 = 65_536;
/// What a process' table of limits calls the number of its descriptors.
const OPEN_FILES: &str = "Max open files";

/// Counts the processes in and below a cgroup.
pub(crate) fn count(cgroup: &Cgroup) -> Result<Processes, CgroupError> {
    let count = cgroup.procs()?.len() as u64;
    Ok(Processes { count, ..Processes::default() })
}

/// The same, with what they have open, and with what the process `first` may have, if it is one of them.
pub(crate) fn look(cgroup: &Cgroup, first: Option<i32>) -> Result<Processes, CgroupError> {
    let pids: Vec<i32> = cgroup.procs()?.iter().map(|pid| pid.as_raw_nonzero().get()).collect();
    let first = first.filter(|first| pids.contains(first));
    let limits = first.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/limits")).ok());
    Ok(Processes {
        count: pids.len() as u64,
        descriptors: descriptors(Path::new("/proc"), &pids, COUNTED_MAX),
        max_open_files: limits.and_then(|text| soft_limit(&text, OPEN_FILES)),
    })
}

/// `None` where they are more than `most`, or not to be seen.
fn descriptors(proc: &Path, pids: &[i32], most: u32) -> Option<Descriptors> {
    let (mut found, mut left) = (Descriptors::default(), most);
    for pid in pids {
        left = left.checked_sub(1)?;
        let entries = match fs::read_dir(proc.join(pid.to_string()).join("fd")) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => continue,
            Err(_) => return None,
        };
        for entry in entries {
            // It has ended while it was looked at.
            let Ok(entry) = entry else { break };
            left = left.checked_sub(1)?;
            found.all += 1;
            let is_socket = |target: &Path| target.as_os_str().as_bytes().starts_with(b"socket:");
            if fs::read_link(entry.path()).is_ok_and(|target| is_socket(&target)) {
                found.sockets += 1;
            }
        }
    }
    Some(found)
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// The soft limit in a line of /proc/PID/limits; none is the largest number, as for the kernel.
fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn descriptors_and_sockets_are_counted_up_to_a_bound() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, name, target) in [
            ("1", "0", "/dev/null"),
            ("1", "1", "socket:[7]"),
            ("1", "2", "pipe:[8]"),
            ("2", "0", "socket:[9]"),
        ] {
            let dir = proc.path().join(pid).join("fd");
            fs::create_dir_all(&dir).unwrap();
            std::os::unix::fs::symlink(target, dir.join(name)).unwrap();
        }
        let whole = Descriptors { all: 4, sockets: 2 };
        assert_eq!(descriptors(proc.path(), &[1, 2, 3], 7), Some(whole), "3 has ended");
        assert_eq!(descriptors(proc.path(), &[1, 2, 3], 6), None);
        assert_eq!(descriptors(proc.path(), &[3], 1), Some(Descriptors::default()));
    }

    #[test]
    fn a_process_of_this_machine_is_seen() {
        let own = i32::try_from(std::process::id()).unwrap();
        let _pair = UnixStream::pair().unwrap();
        let found = descriptors(Path::new("/proc"), &[own], COUNTED_MAX).unwrap();
        assert!(found.sockets >= 2 && found.all > found.sockets, "{found:?}");
        let limits = fs::read_to_string("/proc/self/limits").unwrap();
        let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        assert_eq!(soft_limit(&limits, OPEN_FILES), Some(own.unwrap_or(u64::MAX)));
    }

    #[test]
    fn no_limit_is_the_largest_number() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            unlimited            1048576              files     \n";
        assert_eq!(soft_limit(text, OPEN_FILES), Some(u64::MAX));
        assert_eq!(soft_limit(text, "Max open"), None);
        assert_eq!(soft_limit("", OPEN_FILES), None);
    }
}
