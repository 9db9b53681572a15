//! `isopod top`: what pods and containers use, live.
//!
//! Owns: the screen while it runs. Always: it asks only what any CRI runtime answers, so it works on each of
//! them; keys and signals count whatever the runtime does, and one that does not answer is told of; the terminal
//! is as it was when it ends, also after a failure; where nobody looks at a terminal it prints one table and ends.

mod asking;
mod keys;
mod screen;
mod signals;
mod table;
mod usage;

use std::io::IsTerminal as _;
use std::time::Duration;

use cri_api::v1::{ListPodSandboxMetricsRequest, ListPodSandboxStatsRequest};
use tonic::Status;

use super::failure::{Doing, Outcome};
use super::node::Node;
use super::print::{self, Form};
use asking::Asking;
use keys::{Key, Keys};
use screen::Screen;
use signals::Signals;
use table::{Sort, View};
use usage::{Usage, between, read};

/// Until there are two samples, which a rate needs.
const FIRST: Duration = Duration::from_millis(1100);
/// How often the screen is drawn where nothing happens: what it says of the runtime's silence has an age.
const REDRAW: Duration = Duration::from_secs(1);

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seconds between two looks
    #[arg(long, short, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..3600))]
    interval: u64,
    /// Print one table and end, also on a terminal; --output does so too
    #[arg(long)]
    once: bool,
    /// Show pods instead of containers
    #[arg(long)]
    pods: bool,
}

/// Shows what is used until somebody presses q.
pub async fn run(node: &Node, args: &Args, form: Form) -> Outcome {
    let view = View { of_pods: args.pods, sort: Sort::Cpu, skip: 0 };
    let before = sample(node).await.doing("read statistics")?;
    let is_watched = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if is_watched && !args.once && form == Form::Table {
        return live(node.endless(), args, view, before).await;
    }
    tokio::time::sleep(FIRST).await;
    let now = sample(node).await.doing("read statistics")?;
    let rates = between(&before, &now);
    match form {
        Form::Table => print::line(&table::text(&rates, &view, None, None).join("\n"))?,
        Form::Json | Form::Yaml => print::value(&rates.iter().map(usage::json).collect(), form)?,
    }
    Ok(0)
}

async fn live(node: Node, args: &Args, mut view: View, mut before: Vec<Usage>) -> Outcome {
    let mut signals = Signals::watch().doing("watch for signals")?;
    let screen = Screen::take().doing("take the terminal")?;
    let mut keys = Keys::read();
    let mut asking = Asking::new(node, FIRST, Duration::from_secs(args.interval));
    let mut shown = between(&before, &before);
    loop {
        let size = screen.size();
        view.skip = view.skip.min(table::most_skipped(&shown, &view, size));
        let complaint = asking.complaint();
        let lines = table::text(&shown, &view, Some(size), complaint.as_deref());
        screen.show(&lines).doing("draw")?;
        tokio::select! {
            biased;
            key = keys.next() => match key {
                Some(Key::Quit) | None => return Ok(0),
                Some(Key::Sort(sort)) => view.sort = sort,
                Some(Key::Pods) => view.of_pods = !view.of_pods,
                Some(Key::Up) => view.skip = view.skip.saturating_sub(1),
                Some(Key::Down) => view.skip += 1,
                Some(Key::Other) => {}
            },
            code = signals.next() => if let Some(code) = code {
                return Ok(code);
            },
            answer = asking.answer() => {
                let now = answer.doing("read statistics")?;
                shown = between(&before, &now);
                before = now;
            }
            () = tokio::time::sleep(REDRAW) => {}
        }
    }
}

async fn sample(node: &Node) -> Result<Vec<Usage>, Status> {
    let mut runtime = node.runtime();
    let request = ListPodSandboxStatsRequest { filter: None };
    let stats = runtime.list_pod_sandbox_stats(request).await?;
    // Bytes of block I/O are among the metrics alone; not every runtime has those.
    let metrics = runtime.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {}).await;
    let metrics = metrics.map(|answer| answer.into_inner().pod_metrics).unwrap_or_default();
    Ok(read(&stats.into_inner().stats, &metrics))
}
