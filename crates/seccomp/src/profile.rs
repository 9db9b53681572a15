//! Profiles as files: the shape of the runtime specification, and Docker's, which has conditions on rules
//! and a map of architectures.

use runtime_spec::{Seccomp, SeccompArg, SeccompSyscall};
use serde::Deserialize;

use crate::arch::Arch;
use crate::error::BadProfile;

/// The longest profile, in bytes.
const MAX_LENGTH: usize = 1 << 20;

/// What a profile's conditions are about.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The machine.
    pub arch: Arch,
    /// The container's bounding set, with `CAP_`.
    pub capabilities: &'a [String],
    /// The kernel's version, major and minor.
    pub kernel: (u32, u32),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<SeccompArg>>,
    includes: Option<Conditions>,
    excludes: Option<Conditions>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Conditions {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Reads a profile for `target`: rules whose conditions do not hold are left out.
///
/// # Errors
/// [`BadProfile::Json`], [`BadProfile::TooLong`], [`BadProfile::Bad`] for a kernel's version that is none.
pub fn parse_profile(json: &[u8], target: &Target<'_>) -> Result<Seccomp, BadProfile> {
    if json.len() > MAX_LENGTH {
        return Err(BadProfile::TooLong { length: json.len(), limit: MAX_LENGTH });
    }
    let file: File = serde_json::from_slice(json).map_err(BadProfile::Json)?;
    let mut syscalls = Vec::new();
    for (index, rule) in file.syscalls.unwrap_or_default().into_iter().enumerate() {
        if applies(&rule, index, target)? {
            syscalls.push(SeccompSyscall {
                names: rule.name.into_iter().chain(rule.names.unwrap_or_default()).collect(),
                action: rule.action,
                errno_ret: rule.errno_ret,
                args: rule.args.unwrap_or_default(),
            });
        }
    }
    Ok(Seccomp {
        default_action: file.default_action,
        default_errno_ret: file.default_errno_ret,
        architectures: architectures(file.architectures, file.arch_map, target.arch),
        flags: file.flags.unwrap_or_default(),
        listener_path: file.listener_path.unwrap_or_default(),
        listener_metadata: file.listener_metadata.unwrap_or_default(),
        syscalls,
    })
}

fn architectures(plain: Option<Vec<String>>, map: Option<Vec<ArchMap>>, arch: Arch) -> Vec<String> {
    let of_this_machine = |entry: &ArchMap| entry.architecture == arch.name();
    match map.unwrap_or_default().into_iter().find(of_this_machine) {
        Some(entry) => std::iter::once(entry.architecture)
            .chain(entry.sub_architectures.unwrap_or_default())
            .collect(),
        None => plain.unwrap_or_default(),
    }
}

/// Included means that all of it holds, excluded that any of it does.
fn applies(rule: &Rule, index: usize, target: &Target<'_>) -> Result<bool, BadProfile> {
    let is_here = |arches: &[String]| arches.iter().any(|arch| arch == target.arch.go_name());
    let has = |capability: &String| target.capabilities.contains(capability);
    let reached = |field: &str, version: &Option<String>| match version {
        None => Ok(None),
        Some(text) => kernel_version(text)
            .map(|version| Some(target.kernel >= version))
            .ok_or_else(|| BadProfile::Bad {
                field: format!("syscalls[{index}].{field}.minKernel"),
                problem: "is not a kernel's version".to_owned(),
            }),
    };
    if let Some(includes) = &rule.includes {
        let arches = includes.arches.as_deref().unwrap_or_default();
        let capabilities = includes.caps.as_deref().unwrap_or_default();
        let kernel = reached("includes", &includes.min_kernel)?;
        if !(arches.is_empty() || is_here(arches))
            || !capabilities.iter().all(has)
            || kernel == Some(false)
        {
            return Ok(false);
        }
    }
    if let Some(excludes) = &rule.excludes {
        let arches = excludes.arches.as_deref().unwrap_or_default();
        let capabilities = excludes.caps.as_deref().unwrap_or_default();
        let kernel = reached("excludes", &excludes.min_kernel)?;
        if is_here(arches) || capabilities.iter().any(has) || kernel == Some(true) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn kernel_version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let minor = rest.split('.').next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(json: &str, capabilities: &[&str], arch: Arch) -> Vec<String> {
        let capabilities: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
        let target = Target { arch, capabilities: &capabilities, kernel: (5, 10) };
        let profile = parse_profile(json.as_bytes(), &target).unwrap();
        profile.syscalls.into_iter().flat_map(|rule| rule.names).collect()
    }

    const CONDITIONAL: &str = r#"{
      "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
      "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                  {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null}],
      "syscalls": [
        {"names": ["always"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "x", "includes": {}, "excludes": {}},
        {"name": "old-form", "action": "SCMP_ACT_ALLOW"},
        {"names": ["new"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.11"}},
        {"names": ["old"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["admin"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["both"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}},
        {"names": ["plain"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390"]}},
        {"names": ["x86"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}}
      ]}"#;

    #[test]
    fn rules_are_there_under_their_conditions() {
        let x86 = Arch::X86_64;
        assert_eq!(names(CONDITIONAL, &[], x86), ["always", "old-form", "old", "plain", "x86"]);
        assert_eq!(
            names(CONDITIONAL, &["CAP_SYS_ADMIN"], Arch::Aarch64),
            ["always", "old-form", "old", "admin"]
        );
        assert!(
            names(CONDITIONAL, &["CAP_SYS_ADMIN", "CAP_BPF"], x86).contains(&"both".to_owned())
        );
    }

    #[test]
    fn the_map_of_architectures_is_read_for_this_machine() {
        for (arch, expected) in [
            (Arch::X86_64, &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"][..]),
            (Arch::Aarch64, &["SCMP_ARCH_AARCH64"]),
        ] {
            let target = Target { arch, capabilities: &[], kernel: (5, 10) };
            let profile = parse_profile(CONDITIONAL.as_bytes(), &target).unwrap();
            assert_eq!(profile.architectures, expected);
        }
    }

    #[test]
    fn a_profile_of_the_runtime_specification_is_read_as_it_is() {
        let json = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
          "flags": ["SECCOMP_FILTER_FLAG_LOG"],
          "syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5,
            "args": [{"index": 1, "value": 18446744073709551615, "valueTwo": 2, "op": "SCMP_CMP_EQ"}]}]}"#;
        let target = Target { arch: Arch::X86_64, capabilities: &[], kernel: (5, 10) };
        let profile = parse_profile(json.as_bytes(), &target).unwrap();
        let expected: Seccomp = serde_json::from_str(json).unwrap();
        assert_eq!(profile, expected);
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        let target = Target { arch: Arch::X86_64, capabilities: &[], kernel: (5, 10) };
        let version = r#"{"defaultAction":"x","syscalls":[{"names":[],"action":"x","includes":{"minKernel":"six"}}]}"#;
        for bad in ["", "{}", "[]", r#"{"defaultAction": 5}"#, version] {
            assert!(parse_profile(bad.as_bytes(), &target).is_err(), "{bad}");
        }
        let long = vec![b' '; MAX_LENGTH + 1];
        assert!(matches!(parse_profile(&long, &target), Err(BadProfile::TooLong { .. })));
    }
}
