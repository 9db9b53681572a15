//! The lines of the screen.

use std::cmp::Reverse;

use super::usage::Rate;
use crate::cli::text::bytes;

/// By what lines are sorted, the most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    Cpu,
    Memory,
    Io,
    Network,
    Name,
}

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub struct View {
    pub of_pods: bool,
    pub sort: Sort,
    /// Lines at the top that are not shown.
    pub skip: usize,
}

const KEYS: &str =
    "q quit   p pods/containers   c m i n a: by CPU, memory, I/O, network, name   ↑ ↓";
/// Columns of figures: CPU, memory, I/O, network, processes, pressure.
const FIGURES: usize = 70;

/// Columns and rows that there are room for; all where there is no `size`.
pub fn text(rates: &[Rate], view: &View, size: Option<(usize, usize)>) -> Vec<String> {
    let (width, height) = size.unwrap_or((usize::MAX, usize::MAX));
    let mut shown: Vec<&Rate> = rates.iter().filter(|one| one.is_pod == view.of_pods).collect();
    sort(&mut shown, view.sort);
    let longest = shown.iter().map(|one| one.name.chars().count()).max().unwrap_or(0).max(9);
    let name = longest.min(width.saturating_sub(FIGURES).max(12));
    let mut lines = Vec::new();
    let pods = rates.iter().filter(|one| one.is_pod);
    let cores: u64 = pods.clone().filter_map(|one| one.millicores).sum();
    let memory: u64 = pods.clone().map(|one| one.memory).sum();
    let what = if view.of_pods { "POD" } else { "CONTAINER" };
    if size.is_some() {
        let all =
            format!("{} pods use {cores}m of CPU and {} of memory", pods.count(), bytes(memory));
        lines.extend([all, KEYS.to_owned(), String::new()]);
    }
    let title = ["CPU", "MEMORY", "I/O /s", "NET /s", "PIDS", "WAITS cpu mem io %"];
    lines.push(row(what, name, &title.map(str::to_owned)));
    let room = height.saturating_sub(lines.len() + 1);
    for rate in shown.into_iter().skip(view.skip).take(room) {
        lines.push(row(&rate.name, name, &figures(rate)));
    }
    lines
        .iter()
        .map(|line| line.chars().take(width).collect::<String>().trim_end().to_owned())
        .collect()
}

fn sort(rates: &mut [&Rate], by: Sort) {
    match by {
        Sort::Cpu => rates.sort_by_key(|one| Reverse(one.millicores)),
        Sort::Memory => rates.sort_by_key(|one| Reverse(one.memory)),
        Sort::Io => rates.sort_by_key(|one| Reverse(one.io)),
        Sort::Network => rates.sort_by_key(|one| Reverse(one.network)),
        Sort::Name => rates.sort_by(|a, b| a.name.cmp(&b.name)),
    }
}

fn figures(rate: &Rate) -> [String; 6] {
    let dash = || "-".to_owned();
    let amount = |value: Option<u64>| value.map_or_else(dash, bytes);
    [
        rate.millicores.map_or_else(dash, |cores| format!("{cores}m")),
        bytes(rate.memory),
        amount(rate.io),
        if rate.is_pod { amount(rate.network) } else { dash() },
        if rate.is_pod { rate.processes.to_string() } else { dash() },
        rate.pressure
            .map_or_else(dash, |[cpu, memory, io]| format!("{cpu:.0} {memory:.0} {io:.0}")),
    ]
}

/// Names come from whoever asked for the pod: what would move the cursor is not printed.
fn row(name: &str, width: usize, figures: &[String; 6]) -> String {
    let clean = name.chars().map(|c| if c.is_control() { '?' } else { c });
    let name: String = clean.take(width).collect();
    let [cpu, memory, io, network, processes, waits] = figures;
    format!("{name:<width$} {cpu:>8} {memory:>9} {io:>10} {network:>10} {processes:>6}  {waits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates() -> Vec<Rate> {
        let rate = |name: &str, is_pod, millicores, memory| Rate {
            name: name.to_owned(),
            is_pod,
            millicores,
            memory,
            ..Rate::default()
        };
        vec![
            rate("d/a", true, Some(5), 1000),
            rate("d/a/x", false, Some(5), 900),
            rate("d/b", true, Some(9), 10),
            rate("d/c\x1b[2J", true, None, 500),
        ]
    }

    #[test]
    fn the_most_comes_first_and_nothing_moves_the_cursor() {
        let view = View { of_pods: true, sort: Sort::Cpu, skip: 0 };
        let lines = text(&rates(), &view, None);
        assert!(lines[0].starts_with("POD"), "{lines:?}");
        let order: Vec<&str> = lines[1..].iter().map(|line| &line[..3]).collect();
        assert_eq!(order, ["d/b", "d/a", "d/c"]);
        assert!(!lines.concat().contains('\x1b'));
        let lines = text(&rates(), &View { sort: Sort::Memory, ..view }, None);
        assert!(lines[1].starts_with("d/a"));
        assert_eq!(text(&rates(), &View { of_pods: false, ..view }, None).len(), 2);
    }

    #[test]
    fn a_small_terminal_is_never_overrun() {
        let view = View { of_pods: true, sort: Sort::Name, skip: 1 };
        let lines = text(&rates(), &view, Some((40, 6)));
        assert!(
            lines.len() <= 6 && lines.iter().all(|line| line.chars().count() <= 40),
            "{lines:?}"
        );
        assert!(lines[4].starts_with("d/b"), "one is scrolled away: {lines:?}");
        text(&rates(), &view, Some((1, 1)));
    }
}
