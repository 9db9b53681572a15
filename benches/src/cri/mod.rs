//! The same work on several CRI endpoints in turn, and the ratios between them.
//!
//! Owns: which work is done on whom, in which order, and what becomes of the figures. Always: endpoints take
//! turns sample by sample, so what disturbs the machine disturbs all; whatever was made on an endpoint is
//! removed; nothing that was there before is touched. Runs on any endpoint; what needs more than its socket
//! (a restart, its memory) is measured where it can be.

mod args;
pub mod cpu;
pub mod endpoint;
pub mod figures;
pub mod machine;
mod promised;
mod report;
mod svg;

use std::path::Path;

pub use args::Wanted;
use endpoint::Endpoint;
use figures::Figures;

use crate::works;

/// Measures `endpoints`, prints a table, and writes `NAME.{md,json,svg}` where that is asked for.
pub async fn measure(endpoints: &mut [Endpoint], wanted: &Wanted, title: &str) {
    let mut figures = Figures::new(endpoints.iter().map(|one| one.name.clone()).collect());
    for endpoint in endpoints.iter() {
        figures.versions.push(endpoint.version().await);
    }
    for work in &wanted.works {
        eprintln!("measuring: {work}");
        match work.as_str() {
            "calls" => works::calls::measure(endpoints, wanted, &mut figures).await,
            "throughput" => works::throughput::measure(endpoints, wanted, &mut figures).await,
            "exec" => works::exec::measure(endpoints, wanted, &mut figures).await,
            "lists" => works::lists::measure(endpoints, wanted, &mut figures).await,
            "logs" => works::logs::measure(endpoints, wanted, &mut figures).await,
            "pull" => works::pull::measure(endpoints, wanted, &mut figures).await,
            "start" => works::start::measure(endpoints, wanted, &mut figures).await,
            other => eprintln!("no such work: {other}"),
        }
        for endpoint in endpoints.iter() {
            endpoint.clear().await;
        }
    }
    let machine = machine::describe();
    println!("{}", report::table(&figures));
    if let Some(at) = &wanted.out {
        let promised = promised::markdown(&figures, machine::floor(), machine::cgroup_version());
        write(at, "md", &(report::markdown(&figures, &machine, wanted, title) + &promised));
        write(at, "json", &report::json(&figures, &machine, wanted, title));
        write(at, "svg", &svg::bars(&figures, title));
    }
}

fn write(at: &Path, ending: &str, text: &str) {
    let path = at.with_extension(ending);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).expect("a directory for the results");
    }
    std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    eprintln!("written: {}", path.display());
}
