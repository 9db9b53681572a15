//! Capabilities by name (capabilities(7), up to Linux 6.18).

/// Names in the order of their numbers.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// How many capabilities this table knows.
pub(crate) const COUNT: u32 = NAMES.len() as u32;

/// The names of all capabilities that can be given, with `CAP_`, in the order of their numbers.
pub fn names() -> impl Iterator<Item = String> {
    NAMES.iter().map(|name| format!("CAP_{name}"))
}

/// The bit of the capability `name` (with `CAP_`), `None` for one that is not known.
pub(crate) fn bit(name: &str) -> Option<u64> {
    let bare = name.strip_prefix("CAP_")?;
    NAMES.iter().position(|known| *known == bare).map(|n| 1 << n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_the_kernels_numbers() {
        for (name, number) in
            [("CAP_CHOWN", 0), ("CAP_SYS_ADMIN", 21), ("CAP_AUDIT_WRITE", 29), ("CAP_BPF", 39)]
        {
            assert_eq!(bit(name), Some(1 << number), "{name}");
            assert_eq!(names().nth(number).as_deref(), Some(name));
        }
        for bad in ["CHOWN", "CAP_", "CAP_NOPE", ""] {
            assert_eq!(bit(bad), None, "{bad:?}");
        }
    }
}
