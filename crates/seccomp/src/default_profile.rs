//! The default profile: what containers may call when nobody says otherwise.
//!
//! It means what Docker's and containerd's default means: images are built for that. It is said the other
//! way round: every call of the tables is allowed but for those listed here, so a call that enters the
//! tables must be looked at.

use runtime_spec::{Seccomp, SeccompArg, SeccompSyscall};

use crate::profile::Target;
use crate::table;

/// What no container may call: it reaches past its namespaces, has a history of faults in the kernel, or is
/// so old that only exploits use it.
const NEVER: [&str; 59] = [
    // The kernel's keyrings are not in any namespace.
    "add_key",
    "keyctl",
    "request_key",
    // Another kernel, another root, swap.
    "kexec_file_load",
    "kexec_load",
    "pivot_root",
    "swapoff",
    "swapon",
    // Large parts of the kernel behind one call, past what a filter can see.
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "userfaultfd",
    // Memory of other processes and nodes.
    "migrate_pages",
    "move_pages",
    // Tells of mounts and labels beyond the container's own.
    "listmount",
    "lsm_set_self_attr",
    "statmount",
    // Gone from the kernel, or of machines of long ago.
    "_sysctl",
    "afs_syscall",
    "bdflush",
    "break",
    "create_module",
    "ftime",
    "get_kernel_syms",
    "getpmsg",
    "gtty",
    "idle",
    "lock",
    "mpx",
    "nfsservctl",
    "oldfstat",
    "oldlstat",
    "oldolduname",
    "oldstat",
    "olduname",
    "pciconfig_iobase",
    "pciconfig_read",
    "pciconfig_write",
    "prof",
    "profil",
    "putpmsg",
    "query_module",
    "readdir",
    "security",
    "sgetmask",
    "ssetmask",
    "stty",
    "sysfs",
    "tuxcall",
    "ulimit",
    "uselib",
    "usr26",
    "usr32",
    "ustat",
    "vm86",
    "vm86old",
    "vserver",
    // Below, with conditions.
    "personality",
    "socket",
];

/// What needs one of these capabilities; a call may be in several lines.
const WITH: [(&str, &[&str]); 13] = [
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            // Among what it sets is a file's project: it would be another one's quota that it is counted under.
            "file_setattr",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            // Below, with a condition.
            "ioctl",
            "listmount",
            "lookup_dcookie",
            "lsm_set_self_attr",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "open_tree_attr",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "statmount",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_TIME", &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_BPF", &["bpf"]),
];
/// Older kernels, and so older profiles, know this one only as a part of CAP_SYS_ADMIN.
const PERFMON: (&str, &[&str]) = ("CAP_PERFMON", &["perf_event_open"]);

/// AF_VSOCK: the sockets between a machine and its host are not in the network namespace.
const VSOCK: u64 = 40;
/// Personalities that are harmless: Linux, with 32 bit's uname, with UNAME26 of old, both, and the question.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// All CLONE_NEW* of clone(2).
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// Argument of clone that has the flags on all of these architectures.
const CLONE_FLAGS: u32 = 0;
/// FS_IOC_FSSETXATTR, which moves a file into another project (ioctl_xfs_fsgetxattr(2)), the same for 32 bit programs.
/// Whoever owns the file may do that, and containers are kept apart and to their sizes by projects.
const SET_PROJECT: u64 = 0x401c_5820;
/// Argument of ioctl that has the request.
const REQUEST: u32 = 1;

const ENOSYS: u32 = 38;
const EPERM: u32 = 1;

/// What a container with these capabilities may call when its profile is the runtime's default.
#[must_use]
pub fn default_profile(target: &Target<'_>) -> Seccomp {
    let has = |capability: &str| target.capabilities.iter().any(|c| c == capability);
    let guarded = || WITH.iter().chain([&PERFMON]);
    let lists = |names: &[&str], name: &str| names.contains(&name);
    let may = |name: &str| {
        if guarded().any(|(capability, names)| lists(names, name) && has(capability)) {
            return true;
        }
        !NEVER.contains(&name) && !guarded().any(|(_, names)| lists(names, name))
    };
    let mut rules = vec![allow(table::names().filter(|name| may(name)), Vec::new())];
    let one = |name: &'static str, arg| allow([name].into_iter(), vec![arg]);
    rules.push(one("socket", condition(0, "SCMP_CMP_NE", VSOCK, 0)));
    for personality in PERSONALITIES {
        rules.push(one("personality", condition(0, "SCMP_CMP_EQ", personality, 0)));
    }
    if !has("CAP_SYS_ADMIN") {
        let no_namespaces = condition(CLONE_FLAGS, "SCMP_CMP_MASKED_EQ", NEW_NAMESPACES, 0);
        rules.push(one("clone", no_namespaces));
        rules.push(one("ioctl", condition(REQUEST, "SCMP_CMP_NE", SET_PROJECT, 0)));
        // What they are asked for lies in memory, where a filter cannot look. Programs fall back to clone, and to
        // the ioctl.
        rules.push(SeccompSyscall {
            action: "SCMP_ACT_ERRNO".to_owned(),
            errno_ret: Some(ENOSYS),
            ..allow(["clone3", "file_setattr"].into_iter(), Vec::new())
        });
    }
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".to_owned(),
        default_errno_ret: Some(EPERM),
        architectures: target.arch.family().iter().map(|a| a.name().to_owned()).collect(),
        syscalls: rules,
        ..Seccomp::default()
    }
}

fn allow<'a>(names: impl Iterator<Item = &'a str>, args: Vec<SeccompArg>) -> SeccompSyscall {
    SeccompSyscall {
        names: names.map(str::to_owned).collect(),
        action: "SCMP_ACT_ALLOW".to_owned(),
        errno_ret: None,
        args,
    }
}

fn condition(index: u32, op: &str, value: u64, value_two: u64) -> SeccompArg {
    SeccompArg { index, value, value_two, op: op.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arch, compile, interpret};

    fn answer(capabilities: &[&str], arch: Arch, name: &str, args: [u64; 6]) -> u32 {
        let capabilities: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
        let host = *Arch::X86_64
            .family()
            .iter()
            .find(|a| **a == arch)
            .map_or(&Arch::Aarch64, |_| &Arch::X86_64);
        let target = Target { arch: host, capabilities: &capabilities, kernel: (6, 18) };
        let filter = compile(&default_profile(&target), host).unwrap();
        let number = table::number(arch, name).unwrap();
        interpret::run(&filter.program, interpret::data(arch.audit(), number, args))
    }

    const ALLOWED: u32 = 0x7fff_0000;
    const REFUSED: u32 = 0x0005_0001;
    const ABSENT: u32 = 0x0005_0026;

    #[test]
    fn what_needs_a_capability_is_refused_without_it() {
        for (capabilities, name, expected) in [
            (&[][..], "read", ALLOWED),
            (&[], "mount", REFUSED),
            (&["CAP_SYS_ADMIN"], "mount", ALLOWED),
            (&[], "syslog", REFUSED),
            (&["CAP_SYSLOG"], "syslog", ALLOWED),
            (&["CAP_SYS_ADMIN"], "syslog", ALLOWED),
            (&["CAP_PERFMON"], "perf_event_open", ALLOWED),
            (&["CAP_BPF"], "bpf", ALLOWED),
            (&["CAP_SYS_CHROOT"], "chroot", ALLOWED),
            (&[], "chroot", REFUSED),
            (&["CAP_SYS_ADMIN"], "keyctl", REFUSED),
            (&["CAP_SYS_ADMIN"], "io_uring_setup", REFUSED),
            (&["CAP_SYS_ADMIN"], "statmount", ALLOWED),
            (&[], "statmount", REFUSED),
            (&[], "ptrace", ALLOWED),
            (&[], "clone3", ABSENT),
            (&["CAP_SYS_ADMIN"], "clone3", ALLOWED),
            (&[], "file_setattr", ABSENT),
            (&["CAP_SYS_ADMIN"], "file_setattr", ALLOWED),
            (&[], "file_getattr", ALLOWED),
        ] {
            assert_eq!(answer(capabilities, Arch::X86_64, name, [0; 6]), expected, "{name}");
            assert_eq!(answer(capabilities, Arch::Aarch64, name, [0; 6]), expected, "{name}");
        }
    }

    #[test]
    fn conditions_hold_on_every_architecture() {
        let new_user = 0x1000_0000 | 17;
        for (arch, name, first, expected) in [
            (Arch::X86_64, "clone", 17, ALLOWED),
            (Arch::X86_64, "clone", new_user, REFUSED),
            (Arch::X86, "clone", new_user, REFUSED),
            (Arch::Arm, "clone", new_user, REFUSED),
            (Arch::X86_64, "socket", 2, ALLOWED),
            (Arch::X86_64, "socket", VSOCK, REFUSED),
            (Arch::X86, "personality", 0xffff_ffff, ALLOWED),
            (Arch::X86_64, "personality", 0x8, ALLOWED),
            (Arch::X86_64, "personality", 0x40_0000, REFUSED),
        ] {
            let args = [first, 0, 0, 0, 0, 0];
            assert_eq!(answer(&[], arch, name, args), expected, "{arch:?} {name} {first:#x}");
        }
    }

    #[test]
    fn a_file_cannot_be_moved_into_another_project_and_bits_that_the_kernel_does_not_see_do_not_help()
     {
        let above = 0x1_0000_0000;
        for arch in [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm] {
            for (request, expected) in [
                (SET_PROJECT, REFUSED),
                // FS_IOC_FSGETXATTR, TCGETS, FS_IOC_SETFLAGS, and a request that musl extends with its sign.
                (0x801c_581f, ALLOWED),
                (0x5401, ALLOWED),
                (0x4008_6602, ALLOWED),
                (0xffff_ffff_8004_5430, ALLOWED),
                (SET_PROJECT | above, REFUSED),
                (SET_PROJECT | 0xffff_ffff_0000_0000, REFUSED),
            ] {
                let args = [3, request, 0, 0, 0, 0];
                assert_eq!(answer(&[], arch, "ioctl", args), expected, "{arch:?} {request:#x}");
                assert_eq!(answer(&["CAP_SYS_ADMIN"], arch, "ioctl", args), ALLOWED, "{arch:?}");
            }
            let args = [VSOCK | above, 1, 0, 0, 0, 0];
            assert_eq!(answer(&[], arch, "socket", args), REFUSED, "{arch:?}");
        }
    }

    #[test]
    fn every_name_of_the_lists_is_a_call_and_the_program_is_small() {
        let listed =
            NEVER.iter().chain(WITH.iter().chain([&PERFMON]).flat_map(|(_, names)| *names));
        for name in listed {
            // Some are other architectures' and not in these tables.
            let elsewhere = ["pciconfig_iobase", "pciconfig_read", "pciconfig_write"];
            let known = table::names().any(|n| n == *name);
            assert!(known || elsewhere.contains(name), "{name}");
        }
        let target = Target { arch: Arch::X86_64, capabilities: &[], kernel: (6, 18) };
        let filter = compile(&default_profile(&target), Arch::X86_64).unwrap();
        let length = filter.program.len() / 8;
        assert!(length < 800, "{length} instructions");
        for name in ["read", "openat", "futex", "epoll_wait"] {
            let number = table::number(Arch::X86_64, name).unwrap();
            let data = interpret::data(Arch::X86_64.audit(), number, [0; 6]);
            let (_, steps) = interpret::count(&filter.program, data);
            assert!(steps < 16, "{name} takes {steps} instructions");
        }
    }
}
