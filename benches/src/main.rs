//! The figures that SPECIFICATION.md promises, measured on a daemon of one's own.
//!
//! Owns: what is measured, and how it is printed. Always: each figure comes with its count of samples; what is
//! compared is measured in one run, turn by turn. Run as `cargo xtask bench [VERB]`, which builds a release.

#![expect(clippy::expect_used, reason = "a measurement that cannot be made ends the program")]

mod images;
mod lists;
mod memory;
mod pods;
mod restart;
mod samples;
mod soak;

use std::process::ExitCode;

use testkit::{Compression, Daemon, Network, Registry, Scheme, Setup, busybox};

const USAGE: &str = "usage: bench [pods | images | memory | restart | recovery [PODS] | lists [CONTAINERS] | soak [PODS]]   (pods, memory and restart where none is named)";

fn main() -> ExitCode {
    // Before there are threads: only this one moves, and what it starts goes with it.
    testkit::isolate_network();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let count = |text: &str| text.parse::<usize>().ok().filter(|n| (1..=5000).contains(n));
    runtime.block_on(async {
        match words[..] {
            [] => {
                pods::measure().await;
                memory::measure().await;
                restart::measure(10, 10).await;
            }
            ["pods"] => pods::measure().await,
            ["images"] => images::measure().await,
            ["memory"] => memory::measure().await,
            ["restart"] => restart::measure(10, 10).await,
            ["recovery"] => restart::measure(500, 3).await,
            ["recovery", pods] if count(pods).is_some() => {
                restart::measure(count(pods).unwrap_or(500), 3).await
            }
            ["lists"] => lists::measure(500).await,
            ["lists", containers] if count(containers).is_some() => {
                lists::measure(count(containers).unwrap_or(500)).await;
            }
            ["soak"] => return soak::measure(2000).await,
            ["soak", pods] if count(pods).is_some() => {
                return soak::measure(count(pods).unwrap_or(2000)).await;
            }
            [..] => {
                eprintln!("{USAGE}");
                return ExitCode::FAILURE;
            }
        }
        ExitCode::SUCCESS
    })
}

/// A daemon with an image, and the image's name. All of it is in memory: a disk that others use as well, and
/// what its file system does about what they deleted, would be measured otherwise.
async fn daemon(network: Network) -> (Daemon, Registry, String) {
    let registry = Registry::start(Scheme::Http);
    registry.push(&busybox(Compression::Gzip), "bench/busybox:1");
    let daemon = Setup::new()
        .registry(&registry)
        .network(network)
        .in_memory()
        .toml("[log]\nlevel = \"warn\"")
        .start()
        .await;
    let image = registry.reference("bench/busybox:1");
    daemon.pull(&image).await.expect("the image is pulled");
    (daemon, registry, image)
}
