//! Contents of the pod's files, and paths that a container must not see or change.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

use model::Dns;

/// What tells about the host or changes it, and is hidden unless the request says otherwise (the list
/// of the kubelet).
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Paths that are hidden from a container unless the request says otherwise.
#[must_use]
pub fn default_masked_paths() -> Vec<PathBuf> {
    MASKED.iter().map(PathBuf::from).collect()
}

/// Paths that a container cannot change unless the request says otherwise.
#[must_use]
pub fn default_readonly_paths() -> Vec<PathBuf> {
    READ_ONLY.iter().map(PathBuf::from).collect()
}

/// The contents of resolv.conf(5).
#[must_use]
pub fn resolv_conf(dns: &Dns) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        line(&mut text, "search", &dns.searches.join(" "));
    }
    for server in &dns.servers {
        line(&mut text, "nameserver", server);
    }
    if !dns.options.is_empty() {
        line(&mut text, "options", &dns.options.join(" "));
    }
    text
}

/// A newline in a value would begin a line of its own, so what follows one is left out.
fn line(text: &mut String, word: &str, value: &str) {
    let value = value.lines().next().unwrap_or("");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{word} {value}");
}

/// The contents of hosts(5) for a pod: the loopback names, and its own name for its addresses.
#[must_use]
pub fn hosts_file(hostname: &str, addresses: &[IpAddr]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    for address in addresses.iter().filter(|_| !hostname.is_empty()) {
        let _ = writeln!(text, "{address}\t{hostname}");
    }
    text
}

/// The contents of hostname(5).
#[must_use]
pub fn hostname_file(hostname: &str) -> String {
    format!("{hostname}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_has_a_line_for_each_part_and_none_for_what_is_not_there() {
        let strings = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let dns = Dns {
            servers: strings(&["10.0.0.1", "fd00::1\nnameserver 6.6.6.6"]),
            searches: strings(&["a.svc", "b"]),
            options: strings(&["ndots:5"]),
        };
        let text = "search a.svc b\nnameserver 10.0.0.1\nnameserver fd00::1\noptions ndots:5\n";
        assert_eq!(resolv_conf(&dns), text);
        assert_eq!(resolv_conf(&Dns::default()), "");
    }

    #[test]
    fn a_pod_finds_itself_by_each_of_its_addresses() {
        let text = hosts_file("pod", &["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()]);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("10.0.0.2\tpod\nfd00::2\tpod\n"));
        assert_eq!(hostname_file("pod"), "pod\n");
    }
}
