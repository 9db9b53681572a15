//! `PodSandboxConfig`.

use std::collections::BTreeMap;

use cri_api::v1;
use model::{HandlerName, RunAsUser, SandboxConfig, SandboxMetadata};

use super::namespaces::{Whose, namespaces};
use super::network::{dns, hostname, port_mappings};
use super::resources::resources;
use super::security::{apparmor, groups, id, policy, run_as, seccomp, selinux};
use super::text::{absolute_or_none, name, optional_name};
use super::{At, BadField};

/// A sandbox as `given` asks for it, to be run by `handler`.
pub(crate) fn sandbox_config(
    at: At<'_>,
    given: Option<v1::PodSandboxConfig>,
    handler: &str,
) -> Result<SandboxConfig, BadField> {
    let given = given.ok_or_else(|| at.missing())?;
    if given.windows.is_some() {
        return Err(at.to("windows").bad("set", "this is a Linux node"));
    }
    let linux = given.linux.unwrap_or_default();
    let below = at.to("linux");
    let security = linux.security_context.as_ref();
    let context = below.to("security_context");
    let nothing = v1::LinuxSandboxSecurityContext::default();
    let secured = security.unwrap_or(&nothing);
    let user = match secured.run_as_user {
        Some(user) => Some(RunAsUser::Id(id(context.to("run_as_user"), user.value)?)),
        None => None,
    };
    Ok(SandboxConfig {
        metadata: metadata(at.to("metadata"), given.metadata.as_ref())?,
        handler: handler_name(handler)?,
        hostname: hostname(at.to("hostname"), &given.hostname)?,
        log_directory: absolute_or_none(at.to("log_directory"), &given.log_directory)?,
        dns: dns(at.to("dns_config"), given.dns_config.as_ref())?,
        port_mappings: port_mappings(at, &given.port_mappings)?,
        labels: given.labels,
        annotations: given.annotations,
        cgroup_parent: cgroup_parent(below.to("cgroup_parent"), linux.cgroup_parent.clone())?,
        namespaces: namespaces(
            context.to("namespace_options"),
            secured.namespace_options.as_ref(),
            Whose::Sandbox,
        )?,
        privileged: secured.privileged,
        selinux: selinux(context.to("selinux_options"), secured.selinux_options.as_ref())?,
        run_as: run_as(context, user, secured.run_as_group)?,
        readonly_rootfs: secured.readonly_rootfs,
        supplemental_groups: groups(context, &secured.supplemental_groups)?,
        groups_policy: policy(
            context.to("supplemental_groups_policy"),
            secured.supplemental_groups_policy,
        )?,
        seccomp: seccomp(context, secured.seccomp.as_ref(), deprecated_seccomp(secured))?,
        apparmor: apparmor(context, secured.apparmor.as_ref(), "")?,
        sysctls: sysctls(below.to("sysctls"), &linux.sysctls)?,
        overhead: resources(below.to("overhead"), linux.overhead.as_ref())?,
        resources: resources(below.to("resources"), linux.resources.as_ref())?,
    })
}

#[expect(deprecated, reason = "callers older than the typed field still send it")]
fn deprecated_seccomp(given: &v1::LinuxSandboxSecurityContext) -> &str {
    &given.seccomp_profile_path
}

fn handler_name(given: &str) -> Result<HandlerName, BadField> {
    let at = At::field("runtime_handler");
    HandlerName::parse(given)
        .map_err(|_| at.bad(given, "at most 63 letters, digits, '-', '_' and '.' are allowed"))
}

fn metadata(
    at: At<'_>,
    given: Option<&v1::PodSandboxMetadata>,
) -> Result<SandboxMetadata, BadField> {
    let given = given.ok_or_else(|| at.missing())?;
    Ok(SandboxMetadata {
        name: name(at.to("name"), &given.name)?,
        uid: optional_name(at.to("uid"), &given.uid)?,
        namespace: optional_name(at.to("namespace"), &given.namespace)?,
        attempt: given.attempt,
    })
}

/// A path below the hierarchy's root, or a chain of systemd slices.
fn cgroup_parent(at: At<'_>, given: String) -> Result<Option<String>, BadField> {
    if given.is_empty() {
        return Ok(None);
    }
    let plain = given.split('/').all(|part| part != ".." && part != ".")
        && !given.chars().any(|c| c.is_control() || c.is_whitespace());
    if plain {
        Ok(Some(given))
    } else {
        Err(at.bad(given, "a path without '..', or a slice's name is needed"))
    }
}

/// Kernel parameters by dotted name. As sysctl(8) and systemd do it: where the first separator is a
/// slash, slashes separate and dots are part of a name.
fn sysctls(
    at: At<'_>,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, BadField> {
    let mut parsed = BTreeMap::new();
    for (key, value) in given {
        let slashes = key.find(['.', '/']).is_some_and(|first| key.as_bytes()[first] == b'/');
        let dotted: String = if slashes {
            key.chars()
                .map(|c| match c {
                    '/' => '.',
                    '.' => '/',
                    other => other,
                })
                .collect()
        } else {
            key.clone()
        };
        let ok = dotted.split('.').count() > 1
            && dotted.split('.').all(|part| !part.is_empty())
            && dotted.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b))
            && !dotted.split('/').any(|part| part.is_empty());
        if !ok {
            return Err(at.bad(key, "a dotted name is needed, such as net.ipv4.ip_forward"));
        }
        if value.contains('\0') {
            return Err(at.bad(value, "a NUL cannot be part of a value"));
        }
        parsed.insert(dotted, value.clone());
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut v1::PodSandboxConfig);

    fn config() -> v1::PodSandboxConfig {
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: "web".into(),
                uid: "u-1".into(),
                namespace: "default".into(),
                attempt: 2,
            }),
            ..Default::default()
        }
    }

    fn parsed(change: Change) -> Result<SandboxConfig, BadField> {
        let mut given = config();
        change(&mut given);
        sandbox_config(At::field("config"), Some(given), "")
    }

    #[test]
    fn the_least_that_makes_a_sandbox_is_its_name() {
        let got = parsed(|_| ()).unwrap();
        assert_eq!(got.metadata.to_string(), "default/web");
        assert!(got.handler.is_default() && got.dns.is_none() && got.cgroup_parent.is_none());
    }

    #[test]
    fn kernel_parameters_with_slashes_become_dotted() {
        let got = parsed(|c| {
            let sysctls =
                [("net/ipv4/conf/eth0.100/rp_filter", "1"), ("kernel.shm_rmid_forced", "1")];
            let sysctls = sysctls.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
            c.linux = Some(v1::LinuxPodSandboxConfig { sysctls, ..Default::default() });
        })
        .unwrap();
        assert!(got.sysctls.contains_key("net.ipv4.conf.eth0/100.rp_filter"));
        assert!(got.sysctls.contains_key("kernel.shm_rmid_forced"));
    }

    #[test]
    fn malformed_sandboxes_are_refused_by_field() {
        let table: &[(&str, Change)] = &[
            ("config.metadata", |c| c.metadata = None),
            ("config.metadata.name", |c| c.metadata.as_mut().unwrap().name.clear()),
            ("config.metadata.namespace", |c| {
                c.metadata.as_mut().unwrap().namespace = "a;K8S_POD_UID=b".into();
            }),
            ("config.hostname", |c| c.hostname = "a\nb".into()),
            ("config.log_directory", |c| c.log_directory = "logs".into()),
            ("config.windows", |c| c.windows = Some(Default::default())),
            ("config.linux.cgroup_parent", |c| {
                let cgroup_parent = "/kubepods/../..".into();
                c.linux = Some(v1::LinuxPodSandboxConfig { cgroup_parent, ..Default::default() });
            }),
            ("config.linux.sysctls", |c| {
                let sysctls = [("net..x".to_owned(), "1".to_owned())].into();
                c.linux = Some(v1::LinuxPodSandboxConfig { sysctls, ..Default::default() });
            }),
            ("config.linux.sysctls", |c| {
                let sysctls = [("hostname".to_owned(), "1".to_owned())].into();
                c.linux = Some(v1::LinuxPodSandboxConfig { sysctls, ..Default::default() });
            }),
        ];
        for (field, change) in table {
            let bad = parsed(*change).unwrap_err();
            assert_eq!(bad.field, *field, "{bad}");
        }
        let bad = sandbox_config(At::field("config"), Some(config()), "a/b").unwrap_err();
        assert_eq!(bad.field, "runtime_handler");
        assert_eq!(sandbox_config(At::field("config"), None, "").unwrap_err().field, "config");
    }
}
