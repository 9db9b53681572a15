//! Kernel parameters that a spec may set: those of a namespace that it makes or enters. All others are the host's.

use std::path::PathBuf;

use runtime_spec::Linux;
use sys::Namespaces;

use super::BadSpec;

/// The parameters of `linux`, each of which belongs to a namespace of the spec's.
pub(super) fn read(
    linux: &Linux,
    new: Namespaces,
    joined: &[(Namespaces, PathBuf)],
) -> Result<Vec<(String, String)>, BadSpec> {
    let has = |kind| new.contains(kind) || joined.iter().any(|(known, _)| *known == kind);
    let one = |(name, value): (&String, &String)| match namespace_of(name) {
        Some(kind) if has(kind) => Ok((name.clone(), value.clone())),
        Some(_) | None => Err(BadSpec::new(
            format!("linux.sysctl[{name:?}]"),
            "is of no namespace that is new or joined here, so it would be the host's",
        )),
    };
    linux.sysctl.iter().map(one).collect()
}

/// The namespace that a parameter belongs to; none for one of the whole machine, and for what is no name.
/// Parts stand between dots, or between slashes where one of them has dots in it (sysctl(8)).
fn namespace_of(name: &str) -> Option<Namespaces> {
    let separator = if name.contains('/') { '/' } else { '.' };
    let parts: Vec<&str> = name.split(separator).collect();
    // The name becomes a path, which must lead nowhere else.
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return None;
    }
    match parts.as_slice() {
        ["net", _, ..] => Some(Namespaces::NETWORK),
        ["kernel", "hostname" | "domainname"] => Some(Namespaces::UTS),
        ["kernel", "sem" | "sem_next_id" | "auto_msgmni"] => Some(Namespaces::IPC),
        ["kernel", name] if name.starts_with("msg") || name.starts_with("shm") => {
            Some(Namespaces::IPC)
        }
        ["fs", "mqueue", _] => Some(Namespaces::IPC),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_belongs_to_a_namespace_or_to_the_machine() {
        for (name, expected) in [
            ("net.ipv4.ip_forward", Some(Namespaces::NETWORK)),
            ("net/ipv4/conf/eth0.1/forwarding", Some(Namespaces::NETWORK)),
            ("kernel.shmmax", Some(Namespaces::IPC)),
            ("kernel.msgmnb", Some(Namespaces::IPC)),
            ("kernel.sem", Some(Namespaces::IPC)),
            ("fs.mqueue.msg_max", Some(Namespaces::IPC)),
            ("kernel.domainname", Some(Namespaces::UTS)),
            ("kernel.core_pattern", None),
            ("kernel.shm.more", None),
            ("vm.swappiness", None),
            ("user.max_user_namespaces", None),
            ("net/../kernel/core_pattern", None),
            ("net", None),
            ("net..x", None),
            ("/net/x", None),
            ("", None),
        ] {
            assert_eq!(namespace_of(name), expected, "{name}");
        }
    }
}
