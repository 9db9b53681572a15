//! What networks of pods leave on a machine: links, namespaces, rules, addresses.

use std::process::Command;

use testkit::Daemon;

/// All that there is in this test's network namespace and of this daemon's, a line each. Chains that plugins keep for
/// good are named after the pod that was first, so of rules beside those that are the daemon's own only the number
/// counts.
pub fn inventory(daemon: &Daemon) -> Vec<String> {
    let mut all = Vec::new();
    let mut links: Vec<String> = lines("ip", &["-brief", "link"])
        .iter()
        .filter_map(|line| line.split_whitespace().next().map(|name| format!("link {name}")))
        .collect();
    all.append(&mut links);
    let rules = lines("nft", &["--stateless", "list", "ruleset"]);
    all.push(format!("{} lines of nftables", rules.len()));
    for program in ["iptables-save", "ip6tables-save"] {
        let rules = lines(program, &[]);
        let rules = rules.iter().filter(|line| !line.starts_with('#')).count();
        all.push(format!("{rules} lines of {program}"));
    }
    let leases = std::fs::read_dir(daemon.directory().join("cni/data/tests"));
    let leases = leases.into_iter().flatten().flatten().map(|entry| entry.file_name());
    let leases = leases.filter_map(|name| name.into_string().ok());
    let is_address = |name: &String| name.parse::<std::net::IpAddr>().is_ok();
    all.extend(leases.filter(is_address).map(|address| format!("lease of {address}")));
    all.sort();
    all
}

fn lines(program: &str, args: &[&str]) -> Vec<String> {
    let done = Command::new(program).args(args).output();
    let done = done.unwrap_or_else(|e| panic!("{program}: {e}"));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program}: {said}");
    String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect()
}
