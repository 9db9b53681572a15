//! The figures that SPECIFICATION.md promises, measured on a daemon of one's own.
//!
//! Owns: what is measured, and how it is printed. Always: each figure comes with its count of samples; what is
//! compared is measured in one run, turn by turn. Run as `cargo xtask bench [VERB]`, which builds a release.

#![expect(clippy::expect_used, reason = "a measurement that cannot be made ends the program")]

mod conformance;
mod cri;
mod floor;
mod images;
mod launcher;
mod lists;
mod memory;
mod network;
mod peers;
mod pods;
mod restart;
mod samples;
mod soak;
mod streaming;
mod works;

use std::process::ExitCode;

use testkit::{Compression, Daemon, Network, Registry, Scheme, Setup, busybox};

const USAGE: &str = "\
usage: bench [pods | network | images [PROGRAMS] | streaming | launcher | floor | memory | restart | recovery [PODS] | lists [CONTAINERS] | soak [PODS]]
                 (pods, memory and restart where none is named)
       bench cri --endpoint [NAME=]SOCKET[,HANDLER] … --image REFERENCE [OPTIONS]
       bench peers PROGRAMS [OPTIONS]
       bench conformance PROGRAMS DIRECTORY [PATTERN…]
OPTIONS: --works calls,throughput,exec,lists,logs,pull,start  --rounds N  --pods N  --counts 10,50,500
         --log-mb N  --own-network  --pull REFERENCE  --out FILE-WITHOUT-ENDING  --brief";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // Before there are threads: only this one moves, and what it starts goes with it. Daemons of others are
    // where they are.
    if args.first().is_none_or(|verb| verb != "cri") {
        testkit::isolate_network();
    }
    // Before there is anything else in this process: it is cloned from.
    if args == ["launcher"] {
        launcher::measure();
    }
    if args == ["floor"] {
        launcher::floor();
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let count = |text: &str| text.parse::<usize>().ok().filter(|n| (1..=5000).contains(n));
    runtime.block_on(async {
        match words[..] {
            [] => {
                Box::pin(pods::measure()).await;
                memory::measure().await;
                restart::measure(10, 10).await;
            }
            ["launcher"] => Box::pin(memory::monitor()).await,
            ["pods"] => Box::pin(pods::measure()).await,
            ["network"] => Box::pin(network::measure()).await,
            ["images"] => Box::pin(images::measure(None)).await,
            ["images", programs] => {
                Box::pin(images::measure(Some(std::path::Path::new(programs)))).await;
            }
            ["streaming"] => Box::pin(streaming::measure()).await,
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
            ["cri", ref rest @ ..] => return of_others(rest).await,
            ["peers", programs, ref rest @ ..] => match cri::Wanted::parse(rest) {
                Ok(wanted) => {
                    Box::pin(peers::measure(std::path::Path::new(programs), wanted)).await
                }
                Err(wrong) => {
                    eprintln!("{wrong}\n{USAGE}");
                    return ExitCode::FAILURE;
                }
            },
            ["conformance", programs, out, ref patterns @ ..] => {
                let (programs, out) = (std::path::Path::new(programs), std::path::Path::new(out));
                let holds = Box::pin(conformance::measure(programs, out, patterns)).await;
                return if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            }
            [..] => {
                eprintln!("{USAGE}");
                return ExitCode::FAILURE;
            }
        }
        ExitCode::SUCCESS
    })
}

/// Endpoints that others run.
async fn of_others(args: &[&str]) -> ExitCode {
    let wanted = match cri::Wanted::parse(args) {
        Ok(wanted) if wanted.endpoints.is_empty() || wanted.image.is_empty() => {
            eprintln!("--endpoint and --image are needed\n{USAGE}");
            return ExitCode::FAILURE;
        }
        Ok(wanted) => wanted,
        Err(wrong) => {
            eprintln!("{wrong}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    let logs = tempfile::Builder::new().prefix("isopod-bench-").tempdir();
    let logs = logs.expect("a temporary directory");
    let mut endpoints = Vec::new();
    for (name, socket, handler) in &wanted.endpoints {
        let endpoint = cri::endpoint::Endpoint {
            name: name.clone(),
            socket: socket.clone(),
            channel: testkit::channel(socket),
            handler: handler.clone(),
            image: wanted.image.clone(),
            cgroup: String::new(),
            logs: logs.path().join(name),
            restart: None,
        };
        endpoint.have(&wanted.image).await;
        endpoints.push(endpoint);
    }
    Box::pin(cri::measure(&mut endpoints, &wanted, "CRI endpoints")).await;
    ExitCode::SUCCESS
}

/// A daemon with an image, and the image's name: records in memory, images and writable layers on the disk, as
/// a node has them.
async fn daemon(network: Network) -> (Daemon, Registry, String) {
    let registry = Registry::start(Scheme::Http);
    registry.push(&busybox(Compression::Gzip), "bench/busybox:1");
    let daemon = Setup::new()
        .registry(&registry)
        .network(network)
        .state_in_memory()
        .toml("[log]\nlevel = \"warn\"")
        .start()
        .await;
    let image = registry.reference("bench/busybox:1");
    daemon.pull(&image).await.expect("the image is pulled");
    (daemon, registry, image)
}
