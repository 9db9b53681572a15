//! The conformance suite on Isopod with each of its handlers, and on containerd: reports for docs/conformance.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use testkit::{Compression, Daemon, Network, Registry, Scheme, Setup, busybox};

use crate::peers;

/// A runtime that is checked.
struct Checked<'a> {
    name: &'a str,
    socket: &'a Path,
    handler: &'a str,
    cgroup: &'a str,
    directory: &'a Path,
}

/// Checks all of them and writes their reports to `out`; `programs` is where containerd and its shim are, and
/// `patterns` choose the cases. Whether Isopod holds them all with its own launcher.
pub async fn measure(programs: &Path, out: &Path, patterns: &[&str]) -> bool {
    fs::create_dir_all(out).expect("a directory for reports");
    let isopod = Setup::new();
    let crun = testkit::crun(isopod.directory());
    let handlers = format!(
        "[handlers.runc]\nkind = \"oci\"\nprogram = \"/usr/sbin/runc\"\n\
         [handlers.crun]\nkind = \"oci\"\nprogram = \"{}\"\n",
        crun.display()
    );
    let isopod = isopod.network(Network::Bridge).toml(&handlers).start().await;
    let mut holds = true;
    for (name, handler) in [("isopod", ""), ("isopod-runc", "runc"), ("isopod-crun", "crun")] {
        let (socket, cgroup) = (isopod.socket(), isopod.cgroup());
        let directory = isopod.directory();
        let checked = Checked { name, socket: &socket, handler, cgroup: &cgroup, directory };
        let passed = check(&isopod, &checked, out, patterns);
        holds &= passed || !handler.is_empty();
    }
    let registry = Registry::start(Scheme::Http);
    let image = registry.reference("bench/pause:1");
    let pause = ["/bin/busybox", "sleep", "2147483647"].map(serde_json::Value::from).to_vec();
    let pause = busybox(Compression::Gzip).set("Cmd", serde_json::Value::Array(pause));
    registry.push(&pause, "bench/pause:1");
    let peer = Box::pin(peers::containerd(programs, "runc", &registry, &image)).await;
    let checked = Checked {
        name: "containerd-runc",
        socket: &peer.socket,
        handler: "",
        cgroup: &peer.cgroup,
        directory: peer.socket.parent().expect("a socket is in a directory"),
    };
    check(&isopod, &checked, out, patterns);
    peer.clear().await;
    let [ours, theirs] = ["isopod.json", "containerd-runc.json"].map(|name| out.join(name));
    let compared = isopod.cli(&["check", "--compare"]).arg(ours).arg(theirs).output();
    let compared = compared.expect("the reports can be compared");
    fs::write(out.join("compared.txt"), compared.stdout).expect("the comparison can be written");
    holds
}

/// Runs the suite; whether every case held.
fn check(program: &Daemon, checked: &Checked<'_>, out: &Path, patterns: &[&str]) -> bool {
    eprintln!("checking {}", checked.name);
    let json = out.join(format!("{}.json", checked.name));
    let mut command = program.cli(&["check", "--report", "json", "--to"]);
    command.arg(&json).arg("--endpoint").arg(checked.socket);
    command.args(["--handler", checked.handler, "--cgroup-parent", checked.cgroup]);
    command.arg("--directory").arg(checked.directory).args(patterns).stdin(Stdio::null());
    let done = command.output().expect("isopod check can be run");
    let text = out.join(format!("{}.txt", checked.name));
    fs::write(&text, &done.stdout).expect("the report can be written");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    eprintln!("{}", said.lines().rfind(|line| !line.is_empty()).unwrap_or("it said nothing"));
    eprint!("{}", String::from_utf8_lossy(&done.stderr));
    done.status.success()
}
