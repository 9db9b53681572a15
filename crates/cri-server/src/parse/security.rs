//! Security contexts of sandboxes and containers.

use std::path::PathBuf;

use cri_api::v1;
use model::{
    CapabilityChanges, ContainerSecurity, GroupsPolicy, Profile, RunAs, RunAsUser, SelinuxOptions,
};

use super::namespaces::{Whose, namespaces};
use super::text::absolute;
use super::{At, BadField};

/// A container's security context.
pub(super) fn container_security(
    at: At<'_>,
    given: Option<&v1::LinuxContainerSecurityContext>,
) -> Result<ContainerSecurity, BadField> {
    let nothing = v1::LinuxContainerSecurityContext::default();
    let given = given.unwrap_or(&nothing);
    let user = match (given.run_as_user, given.run_as_username.as_str()) {
        (Some(user), "") => Some(RunAsUser::Id(id(at.to("run_as_user"), user.value)?)),
        (None, "") => None,
        (None, name) => Some(RunAsUser::Name(user_name(at.to("run_as_username"), name)?)),
        (Some(_), name) => {
            return Err(at.to("run_as_username").bad(name, "only one of it and run_as_user"));
        }
    };
    Ok(ContainerSecurity {
        capabilities: capabilities(at.to("capabilities"), given.capabilities.as_ref())?,
        privileged: given.privileged,
        namespaces: namespaces(
            at.to("namespace_options"),
            given.namespace_options.as_ref(),
            Whose::Container,
        )?,
        selinux: selinux(at.to("selinux_options"), given.selinux_options.as_ref())?,
        run_as: run_as(at, user, given.run_as_group)?,
        readonly_rootfs: given.readonly_rootfs,
        supplemental_groups: groups(at, &given.supplemental_groups)?,
        groups_policy: policy(
            at.to("supplemental_groups_policy"),
            given.supplemental_groups_policy,
        )?,
        no_new_privs: given.no_new_privs,
        masked_paths: paths(at, "masked_paths", &given.masked_paths)?,
        readonly_paths: paths(at, "readonly_paths", &given.readonly_paths)?,
        seccomp: seccomp(at, given.seccomp.as_ref(), deprecated_seccomp(given))?,
        apparmor: apparmor(at, given.apparmor.as_ref(), deprecated_apparmor(given))?,
    })
}

#[expect(deprecated, reason = "callers older than the typed field still send it")]
fn deprecated_seccomp(given: &v1::LinuxContainerSecurityContext) -> &str {
    &given.seccomp_profile_path
}

#[expect(deprecated, reason = "callers older than the typed field still send it")]
fn deprecated_apparmor(given: &v1::LinuxContainerSecurityContext) -> &str {
    &given.apparmor_profile
}

/// Who to run as; a group is only allowed with a user.
pub(super) fn run_as(
    at: At<'_>,
    user: Option<RunAsUser>,
    group: Option<v1::Int64Value>,
) -> Result<RunAs, BadField> {
    let group = match group {
        Some(group) if user.is_none() => {
            return Err(at
                .to("run_as_group")
                .bad(group.value, "only allowed together with a user"));
        }
        Some(group) => Some(id(at.to("run_as_group"), group.value)?),
        None => None,
    };
    Ok(RunAs { user, group })
}

/// A user's or group's number; 4294967295 is no id but the kernel's "unchanged".
pub(super) fn id(at: At<'_>, given: i64) -> Result<u32, BadField> {
    u32::try_from(given)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| at.bad(given, "an id from 0 to 4294967294 is needed"))
}

fn user_name(at: At<'_>, given: &str) -> Result<String, BadField> {
    let ok = given.len() <= 256 && !given.chars().any(|c| c == ':' || c.is_control());
    if ok { Ok(given.to_owned()) } else { Err(at.bad(given, "a user's name is needed")) }
}

pub(super) fn groups(at: At<'_>, given: &[i64]) -> Result<Vec<u32>, BadField> {
    let parsed = given.iter().enumerate();
    parsed.map(|(index, gid)| id(at.nth("supplemental_groups", index), *gid)).collect()
}

pub(super) fn policy(at: At<'_>, given: i32) -> Result<GroupsPolicy, BadField> {
    match v1::SupplementalGroupsPolicy::try_from(given) {
        Ok(v1::SupplementalGroupsPolicy::Merge) => Ok(GroupsPolicy::Merge),
        Ok(v1::SupplementalGroupsPolicy::Strict) => Ok(GroupsPolicy::Strict),
        Err(_) => Err(at.bad(given, "Merge or Strict is needed")),
    }
}

/// An SELinux label. A message without any text is what callers send that mean none.
pub(super) fn selinux(
    at: At<'_>,
    given: Option<&v1::SeLinuxOption>,
) -> Result<Option<SelinuxOptions>, BadField> {
    let Some(given) = given else { return Ok(None) };
    for (name, part) in [
        ("user", &given.user),
        ("role", &given.role),
        ("type", &given.r#type),
        ("level", &given.level),
    ] {
        if part.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(at.to(name).bad(part, "a part of a label has no blanks"));
        }
    }
    let label = SelinuxOptions {
        user: given.user.clone(),
        role: given.role.clone(),
        kind: given.r#type.clone(),
        level: given.level.clone(),
    };
    Ok(Some(label).filter(|label| *label != SelinuxOptions::default()))
}

fn paths(at: At<'_>, name: &'static str, given: &[String]) -> Result<Vec<PathBuf>, BadField> {
    given.iter().enumerate().map(|(index, path)| absolute(at.nth(name, index), path)).collect()
}

fn capabilities(at: At<'_>, given: Option<&v1::Capability>) -> Result<CapabilityChanges, BadField> {
    let Some(given) = given else { return Ok(CapabilityChanges::default()) };
    let list = |name: &'static str, words: &[String]| -> Result<Vec<String>, BadField> {
        let words = words.iter().enumerate();
        words.map(|(index, word)| capability(at.nth(name, index), word)).collect()
    };
    Ok(CapabilityChanges {
        add: list("add_capabilities", &given.add_capabilities)?,
        drop: list("drop_capabilities", &given.drop_capabilities)?,
        add_ambient: list("add_ambient_capabilities", &given.add_ambient_capabilities)?,
    })
}

/// The capabilities of capabilities(7) as of Linux 6.12, in the order of their numbers.
const CAPABILITIES: [&str; 41] = [
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

fn capability(at: At<'_>, given: &str) -> Result<String, BadField> {
    let upper = given.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if name == "ALL" || CAPABILITIES.contains(&name) {
        Ok(name.to_owned())
    } else {
        Err(at.bad(given, "a capability's name or ALL is needed"))
    }
}

/// The seccomp profile: the typed field, else the text of older callers. A localhost profile is a file.
pub(super) fn seccomp(
    at: At<'_>,
    typed: Option<&v1::SecurityProfile>,
    old: &str,
) -> Result<Profile, BadField> {
    let profile = profile(at, "seccomp", typed, "seccomp_profile_path", old)?;
    match (&profile, typed) {
        (Profile::Localhost(file), Some(_)) => {
            absolute(at.to("seccomp").to("localhost_ref"), file)?;
        }
        (Profile::Localhost(file), None) => {
            absolute(At::field(""), file).map_err(|_| {
                let expected = "behind localhost/ an absolute path without '..' is needed";
                at.to("seccomp_profile_path").bad(old, expected)
            })?;
        }
        (Profile::RuntimeDefault | Profile::Unconfined, _) => {}
    }
    Ok(profile)
}

/// The AppArmor profile, by the same rule. A localhost profile is the name of one that is loaded.
pub(super) fn apparmor(
    at: At<'_>,
    typed: Option<&v1::SecurityProfile>,
    old: &str,
) -> Result<Profile, BadField> {
    match profile(at, "apparmor", typed, "apparmor_profile", old)? {
        Profile::Localhost(given) => {
            let name = given.strip_prefix("localhost/").unwrap_or(&given);
            if name.is_empty() || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
                let expected = "the name of a loaded profile is needed";
                return Err(match typed {
                    Some(_) => at.to("apparmor").to("localhost_ref").bad(given, expected),
                    None => at.to("apparmor_profile").bad(old, expected),
                });
            }
            Ok(Profile::Localhost(name.to_owned()))
        }
        other @ (Profile::RuntimeDefault | Profile::Unconfined) => Ok(other),
    }
}

fn profile(
    at: At<'_>,
    typed_name: &'static str,
    typed: Option<&v1::SecurityProfile>,
    old_name: &'static str,
    old: &str,
) -> Result<Profile, BadField> {
    use v1::security_profile::ProfileType as Kind;
    let Some(typed) = typed else { return old_profile(at.to(old_name), old) };
    let at = at.to(typed_name);
    let reference = typed.localhost_ref.as_str();
    match (Kind::try_from(typed.profile_type), reference) {
        (Ok(Kind::RuntimeDefault), "") => Ok(Profile::RuntimeDefault),
        (Ok(Kind::Unconfined), "") => Ok(Profile::Unconfined),
        (Ok(Kind::Localhost), "") => Err(at.to("localhost_ref").missing()),
        (Ok(Kind::Localhost), reference) => Ok(Profile::Localhost(reference.to_owned())),
        (Ok(Kind::RuntimeDefault | Kind::Unconfined), reference) => {
            Err(at.to("localhost_ref").bad(reference, "only with the profile type Localhost"))
        }
        (Err(_), _) => Err(at.to("profile_type").bad(typed.profile_type, "not a profile type")),
    }
}

fn old_profile(at: At<'_>, old: &str) -> Result<Profile, BadField> {
    match old {
        "" | "unconfined" => Ok(Profile::Unconfined),
        "runtime/default" | "docker/default" => Ok(Profile::RuntimeDefault),
        other => match other.strip_prefix("localhost/") {
            Some(reference) if !reference.is_empty() => {
                Ok(Profile::Localhost(reference.to_owned()))
            }
            Some(_) | None => {
                Err(at.bad(other, "runtime/default, unconfined or localhost/… is needed"))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut v1::LinuxContainerSecurityContext);

    fn parsed(change: Change) -> Result<ContainerSecurity, BadField> {
        let mut given = v1::LinuxContainerSecurityContext::default();
        change(&mut given);
        container_security(At::field("s"), Some(&given))
    }

    fn profile_of(kind: v1::security_profile::ProfileType, reference: &str) -> v1::SecurityProfile {
        v1::SecurityProfile { profile_type: kind.into(), localhost_ref: reference.into() }
    }

    #[test]
    fn names_of_capabilities_lose_their_prefix() {
        let got = parsed(|s| {
            s.capabilities = Some(v1::Capability {
                add_capabilities: vec!["cap_net_admin".into(), "ALL".into()],
                drop_capabilities: vec!["CAP_MKNOD".into()],
                add_ambient_capabilities: vec!["NET_RAW".into()],
            });
        })
        .unwrap();
        assert_eq!(got.capabilities.add, ["NET_ADMIN", "ALL"]);
        assert_eq!(got.capabilities.drop, ["MKNOD"]);
        assert_eq!(got.capabilities.add_ambient, ["NET_RAW"]);
    }

    #[test]
    fn profiles_of_new_and_old_callers_mean_the_same() {
        use v1::security_profile::ProfileType::{Localhost, RuntimeDefault, Unconfined};
        let at = At::field("s");
        for (typed, old, want) in [
            (None, "", Profile::Unconfined),
            (None, "runtime/default", Profile::RuntimeDefault),
            (None, "localhost//p.json", Profile::Localhost("/p.json".into())),
            (Some(profile_of(RuntimeDefault, "")), "unconfined", Profile::RuntimeDefault),
            (Some(profile_of(Unconfined, "")), "runtime/default", Profile::Unconfined),
            (Some(profile_of(Localhost, "/p.json")), "", Profile::Localhost("/p.json".into())),
        ] {
            assert_eq!(seccomp(at, typed.as_ref(), old).unwrap(), want, "{typed:?} {old}");
        }
        let named = profile_of(Localhost, "localhost/mine");
        assert_eq!(apparmor(at, Some(&named), "").unwrap(), Profile::Localhost("mine".into()));
    }

    #[test]
    fn a_bad_profile_of_an_old_caller_is_told_by_the_field_that_it_set() {
        let at = At::field("s");
        let bad = seccomp(at, None, "localhost/foo").unwrap_err().to_string();
        assert!(bad.starts_with("s.seccomp_profile_path is \"localhost/foo\": "), "{bad}");
        let bad = apparmor(at, None, "localhost/a b").unwrap_err().to_string();
        assert!(bad.starts_with("s.apparmor_profile is \"localhost/a b\": "), "{bad}");
    }

    #[test]
    fn malformed_contexts_are_refused_by_field() {
        use v1::security_profile::ProfileType::{Localhost, Unconfined};
        let table: &[(&str, Change)] = &[
            ("s.run_as_user", |s| s.run_as_user = Some(v1::Int64Value { value: -1 })),
            ("s.run_as_user", |s| s.run_as_user = Some(v1::Int64Value { value: 4_294_967_295 })),
            ("s.run_as_group", |s| s.run_as_group = Some(v1::Int64Value { value: 1 })),
            ("s.run_as_username", |s| {
                s.run_as_user = Some(v1::Int64Value { value: 1 });
                s.run_as_username = "root".into();
            }),
            ("s.run_as_username", |s| s.run_as_username = "a:b".into()),
            ("s.supplemental_groups[1]", |s| s.supplemental_groups = vec![0, -4]),
            ("s.supplemental_groups_policy", |s| s.supplemental_groups_policy = 7),
            ("s.masked_paths[0]", |s| s.masked_paths = vec!["proc/x".into()]),
            ("s.readonly_paths[0]", |s| s.readonly_paths = vec!["/proc/../x".into()]),
            ("s.capabilities.add_capabilities[0]", |s| {
                let add_capabilities = vec!["FLY".into()];
                s.capabilities = Some(v1::Capability { add_capabilities, ..Default::default() });
            }),
            ("s.seccomp.localhost_ref", |s| s.seccomp = Some(profile_of(Localhost, ""))),
            ("s.seccomp.localhost_ref", |s| s.seccomp = Some(profile_of(Unconfined, "/x"))),
            ("s.seccomp.localhost_ref", |s| {
                s.seccomp = Some(profile_of(Localhost, "relative.json"));
            }),
            ("s.apparmor.localhost_ref", |s| s.apparmor = Some(profile_of(Localhost, "a b"))),
            ("s.apparmor.profile_type", |s| {
                s.apparmor = Some(v1::SecurityProfile { profile_type: 5, ..Default::default() });
            }),
            ("s.selinux_options.type", |s| {
                let r#type = "a b".into();
                s.selinux_options = Some(v1::SeLinuxOption { r#type, ..Default::default() });
            }),
        ];
        for (field, change) in table {
            let bad = parsed(*change).unwrap_err();
            assert_eq!(bad.field, *field, "{bad}");
        }
    }
}
