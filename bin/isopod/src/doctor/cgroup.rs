//! Cgroups: which version, which controllers, who makes them.

use std::collections::BTreeSet;

use super::finding::Finding;
use super::host::Host;
use crate::config::CgroupChoice;

/// Controllers that pods need, and those that some need.
const NEEDED: [&str; 4] = ["cpu", "memory", "pids", "cpuset"];
const WANTED: [&str; 2] = ["io", "hugetlb"];

pub fn look(host: &Host) -> Vec<Finding> {
    if host.has("/sys/fs/cgroup/cgroup.controllers") {
        unified(&host.text("/sys/fs/cgroup/cgroup.controllers"))
    } else {
        legacy(&host.text("/proc/cgroups"), &host.text("/proc/self/mountinfo"))
    }
}

fn unified(controllers: &str) -> Vec<Finding> {
    let there: BTreeSet<&str> = controllers.split_whitespace().collect();
    let mut findings = vec![Finding::good("cgroups", format!("version 2 with {controllers}"))];
    for controller in NEEDED.iter().filter(|one| !there.contains(**one)) {
        let said = format!("the controller {controller} is not there");
        let advice = "it may be mounted as version 1, or switched off by cgroup_disable= at boot";
        findings.push(Finding::bad("cgroups", said, advice));
    }
    for controller in WANTED.iter().filter(|one| !there.contains(**one)) {
        let said = format!("the controller {controller} is not there");
        findings.push(Finding::warning("cgroups", said, "only pods that limit it need it"));
    }
    findings
}

/// Controllers of version 1 are there where they are mounted.
fn legacy(controllers: &str, mounts: &str) -> Vec<Finding> {
    let enabled: BTreeSet<&str> = controllers
        .lines()
        .filter(|line| !line.starts_with('#') && line.ends_with('1'))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let mounted: BTreeSet<&str> = mounts
        .lines()
        .filter_map(|line| line.split_once(" - cgroup "))
        .flat_map(|(_, rest)| rest.split_whitespace().last().unwrap_or_default().split(','))
        .collect();
    if mounted.is_empty() {
        let advice = "mount cgroup version 2 at /sys/fs/cgroup; systemd does it at boot";
        return vec![Finding::bad("cgroups", "no hierarchy is mounted", advice)];
    }
    let mut findings = vec![Finding::warning(
        "cgroups",
        "version 1",
        "it works; version 2 kills whole containers at once and tells pressure \
         (systemd.unified_cgroup_hierarchy=1 at boot)",
    )];
    for controller in
        NEEDED.iter().filter(|one| !enabled.contains(**one) || !mounted.contains(**one))
    {
        let said = format!("the controller {controller} is not mounted, or switched off");
        let advice =
            format!("mount it: mount -t cgroup -o {controller} cgroup /sys/fs/cgroup/{controller}");
        findings.push(Finding::bad("cgroups", said, advice));
    }
    findings
}

/// Who makes them.
pub fn driver(host: &Host, choice: CgroupChoice) -> Finding {
    let has_systemd = host.has("/run/systemd/system");
    match (choice, has_systemd) {
        (CgroupChoice::Systemd, false) => Finding::bad(
            "cgroups",
            "cgroup.driver is systemd, and systemd does not run here",
            "set cgroup.driver to auto",
        ),
        (CgroupChoice::Cgroupfs, true) => Finding::warning(
            "cgroups",
            "cgroup.driver is cgroupfs beside systemd: two make cgroups in one tree",
            "set cgroup.driver to auto; the kubelet asks which it is and follows",
        ),
        (CgroupChoice::Auto | CgroupChoice::Systemd, true) => {
            Finding::good("cgroups", "systemd makes them")
        }
        (CgroupChoice::Auto | CgroupChoice::Cgroupfs, false) => {
            Finding::good("cgroups", "the daemon makes them")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    #[test]
    fn a_missing_controller_is_told() {
        let bad = |findings: Vec<Finding>| -> Vec<String> {
            let bad = findings.into_iter().filter(|one| one.grade == Grade::Bad);
            bad.map(|one| one.said).collect()
        };
        assert!(bad(unified("cpuset cpu io memory hugetlb pids")).is_empty());
        assert_eq!(bad(unified("cpuset cpu io pids")), ["the controller memory is not there"]);
        let controllers = "#subsys_name hierarchy num_cgroups enabled\ncpu\t1\t9\t1\nmemory\t2\t9\t0\npids\t3\t9\t1\ncpuset\t4\t9\t1";
        let mounts = "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                      31 25 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      32 25 0:28 / /sys/fs/cgroup/m rw - cgroup cgroup rw,memory,cpuset";
        assert_eq!(bad(legacy(controllers, mounts)).len(), 1, "memory is switched off");
        assert_eq!(bad(legacy(controllers, "")), ["no hierarchy is mounted"]);
    }
}
