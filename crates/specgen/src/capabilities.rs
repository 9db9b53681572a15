//! What a process may do (capabilities(7)).

use model::CapabilityChanges;
use runtime_spec::Capabilities;

use crate::error::SpecError;

/// What a container has when nobody says otherwise: the set that Docker, containerd and CRI-O's users
/// build their images for.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The capabilities of a container whose request does not change them.
#[must_use]
pub fn default_capabilities() -> Vec<String> {
    DEFAULT.iter().map(ToString::to_string).collect()
}

/// The sets of a container's process.
///
/// `defaults` are changed by `changes`: `ALL` in `add` or `drop` is applied first, then what is named. A
/// capability that is named in both is dropped, unless `drop` has it only by `ALL`. Privileged is all
/// that `host` can give. The inheritable set stays empty (a file's inheritable capabilities would make an
/// unprivileged user privileged), but for ambient ones, which the kernel demands there.
///
/// # Errors
/// [`SpecError::UnknownCapability`] for a name that `host` does not have, if it is to be added.
pub fn capabilities(
    defaults: &[String],
    changes: &CapabilityChanges,
    privileged: bool,
    host: &[String],
) -> Result<Capabilities, SpecError> {
    let known = |name: &String| -> Result<String, SpecError> {
        let full = full_name(name);
        if host.contains(&full) {
            Ok(full)
        } else {
            Err(SpecError::UnknownCapability { name: name.clone() })
        }
    };
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let named = |names: &[String]| -> Vec<String> {
        names.iter().filter(|n| !is_all(n)).map(|n| full_name(n)).collect()
    };
    let mut set: Vec<String> = if privileged || changes.add.iter().any(is_all) {
        host.to_vec()
    } else if changes.drop.iter().any(is_all) {
        Vec::new()
    } else {
        defaults.iter().filter(|name| host.contains(name)).cloned().collect()
    };
    let mut ambient = Vec::new();
    if !privileged {
        for name in changes.add.iter().filter(|n| !is_all(n)) {
            push(&mut set, known(name)?);
        }
        for name in changes.add_ambient.iter().filter(|n| !is_all(n)) {
            let name = known(name)?;
            push(&mut set, name.clone());
            push(&mut ambient, name);
        }
        if changes.add_ambient.iter().any(is_all) {
            ambient.clone_from(&set);
        }
        // A name that this kernel does not have is dropped already.
        let dropped = named(&changes.drop);
        set.retain(|name| !dropped.contains(name));
        ambient.retain(|name| !dropped.contains(name));
    }
    Ok(Capabilities {
        bounding: set.clone(),
        effective: set.clone(),
        permitted: set,
        inheritable: ambient.clone(),
        ambient,
    })
}

fn full_name(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
}

fn push(set: &mut Vec<String>, name: String) {
    if !set.contains(&name) {
        set.push(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    /// What a host of the tests can give.
    fn host() -> Vec<String> {
        let mut all = default_capabilities();
        all.extend(strings(&["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_PTRACE"]));
        all
    }

    #[test]
    fn changes_are_all_first_then_names_and_dropping_wins() {
        let without = |gone: &[&str]| -> Vec<String> {
            default_capabilities().into_iter().filter(|n| !gone.contains(&n.as_str())).collect()
        };
        let with = |mut set: Vec<String>, more: &[&str]| {
            set.extend(strings(more));
            set
        };
        for (add, drop, expected) in [
            (&[][..], &[][..], default_capabilities()),
            (&["SYS_ADMIN"], &[], with(default_capabilities(), &["CAP_SYS_ADMIN"])),
            (&["cap_sys_admin"], &[], with(default_capabilities(), &["CAP_SYS_ADMIN"])),
            (&["KILL"], &[], default_capabilities()),
            (&[], &["KILL", "NOT_OF_THIS_KERNEL"], without(&["CAP_KILL"])),
            (&["KILL"], &["KILL"], without(&["CAP_KILL"])),
            (&["KILL"], &["ALL"], strings(&["CAP_KILL"])),
            (&["KILL", "CHOWN"], &["ALL", "KILL"], strings(&["CAP_CHOWN"])),
            (&[], &["all"], vec![]),
            (&["ALL"], &[], host()),
            (&["ALL"], &["ALL"], host()),
            (
                &["ALL"],
                &["SYS_ADMIN"],
                host().into_iter().filter(|n| n != "CAP_SYS_ADMIN").collect(),
            ),
        ] {
            let changes = CapabilityChanges {
                add: strings(add),
                drop: strings(drop),
                add_ambient: Vec::new(),
            };
            let sets = capabilities(&default_capabilities(), &changes, false, &host()).unwrap();
            assert_eq!(sets.bounding, expected, "add {add:?} drop {drop:?}");
            assert_eq!((&sets.effective, &sets.permitted), (&expected, &expected));
            assert!(sets.inheritable.is_empty() && sets.ambient.is_empty());
        }
    }

    #[test]
    fn ambient_capabilities_are_in_every_set() {
        let changes = CapabilityChanges {
            drop: strings(&["ALL"]),
            add_ambient: strings(&["NET_ADMIN"]),
            ..Default::default()
        };
        let sets = capabilities(&default_capabilities(), &changes, false, &host()).unwrap();
        let only = strings(&["CAP_NET_ADMIN"]);
        for set in [sets.bounding, sets.effective, sets.permitted, sets.inheritable, sets.ambient] {
            assert_eq!(set, only);
        }
    }

    #[test]
    fn privileged_is_all_that_the_host_gives_whatever_is_dropped() {
        let changes = CapabilityChanges { drop: strings(&["ALL"]), ..Default::default() };
        let sets = capabilities(&default_capabilities(), &changes, true, &host()).unwrap();
        assert_eq!(sets.effective, host());
    }

    #[test]
    fn an_unknown_name_to_add_is_an_error_and_a_default_that_the_host_lacks_is_left_out() {
        let changes = CapabilityChanges { add: strings(&["NOPE"]), ..Default::default() };
        let error = capabilities(&default_capabilities(), &changes, false, &host()).unwrap_err();
        assert_eq!(error, SpecError::UnknownCapability { name: "NOPE".to_owned() });
        let poor = strings(&["CAP_KILL"]);
        let sets =
            capabilities(&default_capabilities(), &Default::default(), false, &poor).unwrap();
        assert_eq!(sets.bounding, poor);
    }
}
