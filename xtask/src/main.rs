//! The project's own commands, run as `cargo xtask VERB`.
//!
//! Owns: what a checkout needs of the machine, and the order in which things are built and run.
//! Always: each verb does all its own set-up; a verb that fails says which command failed.
//! Callers: people, and `.ci/run`.

mod bench;
mod clients;
mod demo;
mod disk;
mod fuzz;
mod hours;
mod leftovers;
mod lint;
mod run;
mod setup;
mod test;
mod vm;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask VERB

  setup            install the Debian packages that tests and the demo need, and npm's streaming clients
  test [ARGS…]     set up, build, run all tests (ARGS go to the test runner), look for leftovers
  vm [--all] [TEST…]
                   tests in a guest with systemd, cgroup v2 alone and AppArmor: those of each change, all, or
                   those with such a name. --list names them, --narrow builds no more than they need,
                   --selinux boots with SELinux, --prepare makes the guest, --shell COMMAND runs
                   that in it, --conformance writes the report of the suite there
  lint             format, clippy, cargo-deny, documentation; all without a warning
  bench [WHAT…]    build a release and measure what SPECIFICATION.md promises
  bench cri --endpoint [NAME=]SOCKET[,HANDLER] … --image REFERENCE
                   the same work on any CRI endpoints in turn, with ratios
  bench peers      the same on Isopod and on Debian's containerd with runc and crun,
                   all started for this; writes docs/benchmarks/peers.{md,json,svg}
  conformance [PATTERN…]
                   the conformance suite on Isopod with each handler and on Debian's containerd; writes
                   docs/conformance
  faults           kill the daemon and its monitors at every point, fill and break the disk at each
  fuzz [TARGET…] [--seconds N]
                   libFuzzer on each of fuzz/corpus, or these, for three minutes or so long; inputs that fail
                   are kept in target/fuzz/findings, and belong into the corpus once they are mended
  model [--minutes N] [--seed N]
                   random calls and deaths beside a model of what must be true
  soak [--pods N]  pods that come and go on a release; fails where memory, files or mounts grow
  demo             build, start a daemon in a temporary directory, run a pod, show it, clean up
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (verb, rest) = match args.split_first() {
        Some((verb, rest)) => (verb.as_str(), rest),
        None => ("help", &[][..]),
    };
    let outcome = match verb {
        "setup" => setup::setup().and_then(|()| clients::fetch()),
        "test" => test::test(rest),
        "vm" => vm::vm(rest),
        "lint" => lint::lint(),
        "bench" => bench::bench(rest),
        "conformance" => bench::conformance(rest),
        "demo" => demo::demo(rest),
        "fuzz" => fuzz::fuzz(rest),
        "faults" => hours::faults(rest),
        "model" => hours::model(rest),
        "soak" => hours::soak(rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => Err(format!("no verb {other:?}\n\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("xtask {verb}: {reason}");
            ExitCode::FAILURE
        }
    }
}
