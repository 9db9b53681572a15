//! The kernel: its version, what it was built with, and what it allows.

use super::finding::Finding;
use super::host::Host;

/// The oldest kernel that everything that pods need is in: clone3 into a cgroup, the mount API, pidfds.
const OLDEST: (u32, u32) = (5, 10);

/// What the kernel was built with, where it says so: option, what it is for, whether pods cannot be without it.
const OPTIONS: [(&str, &str, bool); 14] = [
    ("OVERLAY_FS", "root file systems", true),
    ("CGROUPS", "limits", true),
    ("MEMCG", "memory limits", true),
    ("CGROUP_PIDS", "limits of processes", true),
    ("CPUSETS", "cpusets", true),
    ("CFS_BANDWIDTH", "CPU limits", true),
    ("NAMESPACES", "pods", true),
    ("NET_NS", "networks of pods", true),
    ("PID_NS", "process namespaces", true),
    ("SECCOMP_FILTER", "the filter of system calls", true),
    ("USER_NS", "pods with users of their own", false),
    ("VETH", "networks of pods", false),
    ("BRIDGE", "networks of pods", false),
    ("NF_TABLES", "host ports and masquerading of the built-in network", false),
];

pub fn look(host: &Host) -> Vec<Finding> {
    let mut findings = vec![version(&host.text("/proc/sys/kernel/osrelease"))];
    findings.extend(options(host));
    findings.push(seccomp(host));
    findings.push(users(host));
    findings.push(pressure(host));
    findings.push(apparmor(host));
    findings.push(privileges(host));
    findings
}

fn version(release: &str) -> Finding {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < OLDEST {
        let said = format!("Linux {release} is older than {}.{}", OLDEST.0, OLDEST.1);
        return Finding::bad("kernel", said, "install a newer kernel");
    }
    let said = format!("Linux {release}");
    if version < (5, 19) {
        let advice =
            "pods with users of their own need Linux 5.19, recursive read-only mounts 5.12";
        return Finding::warning("kernel", said, advice);
    }
    Finding::good("kernel", said)
}

/// The text of the kernel's configuration, where a distribution leaves it.
fn configuration(host: &Host) -> Option<String> {
    let release = host.text("/proc/sys/kernel/osrelease");
    let places = [format!("/boot/config-{release}"), format!("/lib/modules/{release}/config")];
    places.iter().map(|place| host.text(place)).find(|text| !text.is_empty())
}

fn options(host: &Host) -> Vec<Finding> {
    let Some(text) = configuration(host) else {
        return vec![Finding::good(
            "kernel",
            "its configuration is not in /boot; features are tried below",
        )];
    };
    let is_set = |option: &str| {
        text.lines().any(|line| {
            line == format!("CONFIG_{option}=y") || line == format!("CONFIG_{option}=m")
        })
    };
    let missing: Vec<_> = OPTIONS.iter().filter(|(option, ..)| !is_set(option)).collect();
    if missing.is_empty() {
        let said = format!("all of {} options are set that pods need", OPTIONS.len());
        return vec![Finding::good("kernel", said)];
    }
    let finding = |(option, purpose, needed): &(&str, &str, bool)| {
        let said = format!("CONFIG_{option} is not set: it is for {purpose}");
        let advice = "use a kernel that has it; distributions' kernels do";
        if *needed {
            Finding::bad("kernel", said, advice)
        } else {
            Finding::warning("kernel", said, advice)
        }
    };
    missing.into_iter().map(finding).collect()
}

fn seccomp(host: &Host) -> Finding {
    let actions = host.text("/proc/sys/kernel/seccomp/actions_avail");
    if actions.split_whitespace().any(|action| action == "errno") {
        return Finding::good("seccomp", format!("filters are there ({actions})"));
    }
    let said = "the kernel has no filters of system calls";
    Finding::bad("seccomp", said, "use a kernel with CONFIG_SECCOMP_FILTER")
}

fn users(host: &Host) -> Finding {
    let most = host.number("/proc/sys/user/max_user_namespaces").unwrap_or(0);
    if most == 0 {
        let said = "user namespaces are forbidden: pods cannot have users of their own";
        let advice =
            "set user.max_user_namespaces with sysctl where pods with hostUsers: false are to run";
        return Finding::warning("users", said, advice);
    }
    Finding::good("users", format!("up to {most} user namespaces"))
}

fn pressure(host: &Host) -> Finding {
    if host.has("/proc/pressure/cpu") {
        return Finding::good("pressure", "the kernel tells how long tasks wait (PSI)");
    }
    let said = "the kernel does not tell how long tasks wait (PSI)";
    Finding::warning("pressure", said, "boot with psi=1 where that is wanted in statistics")
}

fn apparmor(host: &Host) -> Finding {
    if host.text("/sys/module/apparmor/parameters/enabled").starts_with('Y') {
        return Finding::good("apparmor", "it is on; pods may name profiles that are loaded");
    }
    Finding::good("apparmor", "it is off; pods that name a profile are refused")
}

/// What a container engine around the daemon may have taken away (capabilities(7)).
fn privileges(host: &Host) -> Finding {
    let status = host.text("/proc/self/status");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let needed =
        [(21, "CAP_SYS_ADMIN"), (12, "CAP_NET_ADMIN"), (0, "CAP_CHOWN"), (27, "CAP_MKNOD")];
    let missing: Vec<&str> =
        needed.iter().filter(|(bit, _)| bits >> bit & 1 == 0).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Finding::good("privileges", "root's are all there");
    }
    let said = format!("{} missing", missing.join(", "));
    Finding::bad("privileges", said, "run the daemon, and this, as root of the machine")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    #[test]
    fn versions_are_graded() {
        for (release, grade) in [
            ("6.1.0-44-cloud-amd64", Grade::Good),
            ("5.15.0-x", Grade::Warning),
            ("4.19.0", Grade::Bad),
        ] {
            assert_eq!(version(release).grade, grade, "{release}");
        }
    }

    #[test]
    fn what_a_kernel_was_not_built_with_is_told_by_what_it_is_for() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        let write = |path: &str, text: String| {
            let path = host.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("/proc/sys/kernel/osrelease", "6.6.6\n".to_owned());
        let all: String = OPTIONS.iter().map(|(name, ..)| format!("CONFIG_{name}=y\n")).collect();
        write("/boot/config-6.6.6", all.replace("CONFIG_MEMCG=y", "# CONFIG_MEMCG is not set"));
        let told = options(&host);
        assert_eq!((told.len(), told[0].grade), (1, Grade::Bad));
        assert!(told[0].said.contains("memory limits"), "{told:?}");
        write("/proc/sys/user/max_user_namespaces", "0\n".to_owned());
        assert_eq!(users(&host).grade, Grade::Warning);
        assert_eq!(seccomp(&host).grade, Grade::Bad);
        write("/proc/self/status", "CapEff:\t0000000000000001\n".to_owned());
        assert!(privileges(&host).said.starts_with("CAP_SYS_ADMIN, CAP_NET_ADMIN"));
    }
}
