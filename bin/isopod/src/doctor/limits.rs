//! Limits of the system, and its clock.

use super::finding::Finding;
use super::host::Host;

/// Least values of sysctls with which some hundred pods run.
const SYSCTLS: [(&str, u64, &str); 5] = [
    ("fs/inotify/max_user_instances", 512, "programs in pods watch files"),
    ("fs/inotify/max_user_watches", 65_536, "programs in pods watch files"),
    ("kernel/pid_max", 65_536, "each container has processes"),
    ("kernel/keys/maxkeys", 1_000, "each container has a keyring"),
    ("fs/file-max", 200_000, "pods open files"),
];

/// 2024-01-01: a clock before it is wrong, and certificates of registries would not be valid yet.
const SANE: u64 = 1_704_067_200;

pub fn look(host: &Host) -> Vec<Finding> {
    let mut findings: Vec<Finding> = SYSCTLS
        .iter()
        .filter_map(|(key, least, why)| {
            let now = host.number(&format!("/proc/sys/{key}"))?;
            (now < *least).then(|| {
                let name = key.replace('/', ".");
                let said = format!("{name} is {now}, and {why}");
                Finding::warning("limits", said, format!("sysctl -w {name}={least}"))
            })
        })
        .collect();
    if findings.is_empty() {
        findings.push(Finding::good("limits", "sysctls leave room for hundreds of pods"));
    }
    findings.push(descriptors(host));
    findings.push(clock(host));
    findings
}

/// The hard limit of this shell; a service has its own.
fn descriptors(host: &Host) -> Finding {
    let limits = host.text("/proc/self/limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let hard = line.and_then(|line| line.split_whitespace().nth(4)?.parse::<u64>().ok());
    match hard {
        Some(hard) if hard < 65_536 => Finding::warning(
            "limits",
            format!("at most {hard} descriptors in this shell"),
            "the systemd unit sets LimitNOFILE; raise it by hand where the daemon is started otherwise",
        ),
        Some(hard) => Finding::good("limits", format!("up to {hard} descriptors")),
        None => Finding::good("limits", "no limit of descriptors"),
    }
}

fn clock(host: &Host) -> Finding {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    if now.map_or(0, |since| since.as_secs()) < SANE {
        let said = "the clock is years behind";
        return Finding::bad("clock", said, "start a time service (systemd-timesyncd, chrony)");
    }
    // What systemd's time service leaves when it has heard of the time.
    if host.has("/run/systemd/system") && !host.has("/run/systemd/timesync/synchronized") {
        let said = "nobody has set it by the network since the start, as far as systemd knows";
        let advice = "timedatectl shows it; certificates and logs need a clock that is right";
        return Finding::warning("clock", said, advice);
    }
    Finding::good("clock", "it is not behind")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    #[test]
    fn a_small_limit_is_told_with_the_command_that_raises_it() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        let path = host.path("/proc/sys/fs/inotify/max_user_instances");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "128\n").unwrap();
        let told = look(&host);
        assert_eq!(told[0].grade, Grade::Warning);
        assert_eq!(told[0].advice, "sysctl -w fs.inotify.max_user_instances=512");
        assert_eq!(told[1].grade, Grade::Good, "what is not there is no finding");
    }
}
