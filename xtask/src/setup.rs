//! What tests and the demo need of a Debian machine beside Rust.

use std::process::Command;

use crate::run::{Outcome, run, succeeds};

/// Debian packages. Registry and image programs are for the tests' own checks only; the daemon calls
/// none of them, but for OCI runtimes and CNI plugins where a test configures them.
const PACKAGES: [&str; 14] = [
    "busybox-static",
    "iproute2",
    "openssl",
    "docker-registry",
    "skopeo",
    "umoci",
    "crun",
    "runc",
    "containernetworking-plugins",
    "iptables",
    "nftables",
    "conntrack",
    "podman",
    "tmux",
];

/// Installs the packages that are not there yet.
pub fn setup() -> Outcome {
    install(&PACKAGES)
}

/// Installs those of `packages` that are not there yet.
pub fn install(packages: &[&str]) -> Outcome {
    let missing: Vec<&str> = packages.iter().copied().filter(|name| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("to be installed: {}", missing.join(" "));
    run(&mut apt(&["update"]))?;
    let mut args = vec!["install", "--yes", "--no-install-recommends"];
    args.extend(missing);
    run(&mut apt(&args))
}

fn installed(package: &str) -> bool {
    let query = Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", package])
        .output();
    query.is_ok_and(|done| done.stdout == b"installed")
}

/// apt-get, as root, asking nothing, waiting for another one to end.
fn apt(args: &[&str]) -> Command {
    let mut command = if succeeds(Command::new("sh").args(["-c", "test \"$(id -u)\" = 0"])) {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("apt-get");
        sudo
    };
    command.args(["--quiet", "-o", "DPkg::Lock::Timeout=300"]).args(args);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
