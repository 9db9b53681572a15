//! `isopod top`: what pods and containers use, live.
//!
//! Owns: the screen while it runs. Always: it asks only what any CRI runtime answers, so it works on each of
//! them; the terminal is as it was when it ends, also after a failure; where nobody looks at a terminal it
//! prints one table and ends.

mod keys;
mod screen;
mod table;
mod usage;

use std::io::IsTerminal as _;
use std::time::Duration;

use cri_api::v1::{ListPodSandboxMetricsRequest, ListPodSandboxStatsRequest};
use tokio::time::Instant;

use super::failure::{Doing, Failure, Outcome};
use super::node::Node;
use super::print;
use keys::{Key, Keys};
use screen::Screen;
use table::{Sort, View};
use usage::{Usage, between, read};

/// Until there are two samples, which a rate needs.
const FIRST: Duration = Duration::from_millis(1100);

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seconds between two looks
    #[arg(long, short, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..3600))]
    interval: u64,
    /// Print one table and end, also on a terminal
    #[arg(long)]
    once: bool,
    /// Show pods instead of containers
    #[arg(long)]
    pods: bool,
}

/// Shows what is used until somebody presses q.
pub async fn run(node: &Node, args: &Args) -> Outcome {
    let mut view = View { of_pods: args.pods, sort: Sort::Cpu, skip: 0 };
    let mut before = sample(node).await?;
    if args.once || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        tokio::time::sleep(FIRST).await;
        let now = sample(node).await?;
        print::line(&table::text(&between(&before, &now), &view, None).join("\n"))?;
        return Ok(0);
    }
    let screen = Screen::take().map_err(|error| Failure::caused("take the terminal", &error))?;
    let mut keys = Keys::read();
    let mut shown = between(&before, &before);
    let mut next = Instant::now() + FIRST;
    loop {
        let size = screen.size();
        let lines = table::text(&shown, &view, Some(size));
        screen.show(&lines).map_err(|error| Failure::caused("draw", &error))?;
        tokio::select! {
            key = keys.next() => match key {
                Some(Key::Quit) | None => return Ok(0),
                Some(Key::Sort(sort)) => view.sort = sort,
                Some(Key::Pods) => view.of_pods = !view.of_pods,
                Some(Key::Up) => view.skip = view.skip.saturating_sub(1),
                Some(Key::Down) => view.skip = (view.skip + 1).min(shown.len().saturating_sub(1)),
                Some(Key::Other) => {}
            },
            () = tokio::time::sleep_until(next) => {
                next = Instant::now() + Duration::from_secs(args.interval);
                let now = sample(node).await?;
                shown = between(&before, &now);
                before = now;
            }
        }
    }
}

async fn sample(node: &Node) -> Result<Vec<Usage>, Failure> {
    let mut runtime = node.runtime();
    let request = ListPodSandboxStatsRequest { filter: None };
    let stats = runtime.list_pod_sandbox_stats(request).await.doing("read statistics")?;
    // Bytes of block I/O are among the metrics alone; not every runtime has those.
    let metrics = runtime.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {}).await;
    let metrics = metrics.map(|answer| answer.into_inner().pod_metrics).unwrap_or_default();
    Ok(read(&stats.into_inner().stats, &metrics))
}
