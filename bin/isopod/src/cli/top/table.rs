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
/// Where there is no room for that.
const FEW_KEYS: &str = "q quit  p pods  c m i n a sort  ↑ ↓";
/// Lines above the rows: sums, keys, what is wrong, titles.
const HEAD: usize = 4;
/// Characters of a name that are always shown.
const LEAST_NAME: usize = 12;

/// A column of figures: its title, its width with the gap before it, and what it is sorted by.
struct Column {
    title: &'static str,
    width: usize,
    sort: Option<Sort>,
    figure: fn(&Rate) -> Option<String>,
}

/// The most important first: where there is no room, the last ones are left out.
const COLUMNS: [Column; 8] = [
    Column {
        title: "CPU cores",
        width: 11,
        sort: Some(Sort::Cpu),
        figure: |rate| rate.millicores.map(|cores| format!("{cores}m")),
    },
    Column {
        title: "MEMORY",
        width: 10,
        sort: Some(Sort::Memory),
        figure: |rate| Some(bytes(rate.memory)),
    },
    Column { title: "I/O /s", width: 10, sort: Some(Sort::Io), figure: |rate| rate.io.map(bytes) },
    Column {
        title: "NET /s",
        width: 10,
        sort: Some(Sort::Network),
        figure: |rate| rate.network.filter(|_| rate.is_pod).map(bytes),
    },
    Column {
        title: "PIDS",
        width: 7,
        sort: None,
        figure: |rate| rate.processes.map(|count| count.to_string()),
    },
    Column { title: "WAIT% cpu", width: 11, sort: None, figure: |rate| waits(rate, 0) },
    Column { title: "mem", width: 5, sort: None, figure: |rate| waits(rate, 1) },
    Column { title: "io", width: 5, sort: None, figure: |rate| waits(rate, 2) },
];

fn waits(rate: &Rate, which: usize) -> Option<String> {
    rate.pressure.map(|all| format!("{:.0}", all[which]))
}

/// Columns and rows that there are room for; all where there is no `size`. `trouble` is said above them.
pub fn text(
    rates: &[Rate],
    view: &View,
    size: Option<(usize, usize)>,
    trouble: Option<&str>,
) -> Vec<String> {
    let (width, height) = size.unwrap_or((usize::MAX, usize::MAX));
    let mut shown: Vec<&Rate> = rates.iter().filter(|one| one.is_pod == view.of_pods).collect();
    sort(&mut shown, view.sort);
    let longest = shown.iter().map(|one| one.name.chars().count()).max().unwrap_or(0).max(10);
    let columns = fitting(width);
    let figures: usize = columns.iter().map(|column| column.width).sum();
    let name = longest.min(width.saturating_sub(figures).max(LEAST_NAME));
    let mut lines = Vec::new();
    if size.is_some() {
        let keys = if KEYS.chars().count() <= width { KEYS } else { FEW_KEYS };
        lines.extend([sums(rates), keys.to_owned(), trouble.unwrap_or_default().to_owned()]);
    }
    lines.push(titles(columns, view, name));
    let room = size.map_or(usize::MAX, |_| room(height));
    for rate in shown.into_iter().skip(view.skip).take(room) {
        let figures = columns.iter().map(|column| {
            let figure = (column.figure)(rate).unwrap_or_else(|| "-".to_owned());
            format!("{figure:>0$}", column.width)
        });
        let cut: String = rate.name.chars().take(name).collect();
        lines.push(format!("{cut:<name$}{}", figures.collect::<String>()));
    }
    // Names come from whoever asked for the pod: what would move the cursor is not printed.
    let clean = |line: &String| {
        let line = line.chars().map(|c| if c.is_control() { '?' } else { c });
        line.take(width).collect::<String>().trim_end().to_owned()
    };
    lines.iter().map(clean).collect()
}

/// How many lines can be scrolled away until the last one is seen.
pub fn most_skipped(rates: &[Rate], view: &View, (_, height): (usize, usize)) -> usize {
    let all = rates.iter().filter(|one| one.is_pod == view.of_pods).count();
    all.saturating_sub(room(height))
}

/// Rows that fit: the last line stays free.
fn room(height: usize) -> usize {
    height.saturating_sub(HEAD + 1)
}

/// The columns that there is room for beside a short name.
fn fitting(width: usize) -> &'static [Column] {
    let mut used = LEAST_NAME;
    let fits = |column: &&Column| {
        used = used.saturating_add(column.width);
        used <= width
    };
    let count = COLUMNS.iter().take_while(fits).count();
    &COLUMNS[..count.max(1)]
}

fn titles(columns: &[Column], view: &View, name: usize) -> String {
    let what = if view.of_pods { "POD" } else { "CONTAINER" };
    let what = if view.sort == Sort::Name { format!("{what}▲") } else { what.to_owned() };
    let titles = columns.iter().map(|column| {
        let mark = if column.sort == Some(view.sort) { "▼" } else { "" };
        format!("{:>1$}", format!("{}{mark}", column.title), column.width)
    });
    format!("{what:<name$}{}", titles.collect::<String>())
}

fn sums(rates: &[Rate]) -> String {
    let pods = rates.iter().filter(|one| one.is_pod);
    let cores: u64 = pods.clone().filter_map(|one| one.millicores).sum();
    let memory: u64 = pods.clone().map(|one| one.memory).sum();
    let memory = bytes(memory);
    format!("{} pods use {cores}m (thousandths of a core) and {memory} of memory", pods.count())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rates() -> Vec<Rate> {
        let rate = |name: &str, is_pod, millicores, memory| Rate {
            name: name.to_owned(),
            is_pod,
            millicores,
            memory,
            pressure: Some([1.0, 20.0, 100.0]),
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
        let lines = text(&rates(), &view, None, None);
        assert!(lines[0].starts_with("POD ") && lines[0].contains("CPU cores▼"), "{lines:?}");
        let order: Vec<&str> = lines[1..].iter().map(|line| &line[..3]).collect();
        assert_eq!(order, ["d/b", "d/a", "d/c"]);
        assert!(
            lines[1].ends_with("          1   20  100"),
            "figures stand below titles: {lines:?}"
        );
        assert!(lines[0].ends_with("  WAIT% cpu  mem   io"), "{lines:?}");
        assert!(!lines.concat().contains('\x1b'));
        let lines = text(&rates(), &View { sort: Sort::Memory, ..view }, None, None);
        assert!(lines[1].starts_with("d/a") && lines[0].contains("MEMORY▼"));
        let by_name = text(&rates(), &View { sort: Sort::Name, ..view }, None, None);
        assert!(by_name[0].starts_with("POD▲") && !by_name[0].contains('▼'));
        assert_eq!(text(&rates(), &View { of_pods: false, ..view }, None, None).len(), 2);
    }

    #[test]
    fn a_small_terminal_is_never_overrun_and_shows_whole_columns() {
        let view = View { of_pods: true, sort: Sort::Name, skip: 1 };
        let lines = text(&rates(), &view, Some((40, 6)), Some("NO ANSWER\n for 5s"));
        assert!(
            lines.len() <= 6 && lines.iter().all(|line| line.chars().count() <= 40),
            "{lines:?}"
        );
        assert!(lines[1].ends_with("↑ ↓"), "the keys fit: {lines:?}");
        assert_eq!(lines[2], "NO ANSWER? for 5s");
        assert!(lines[3].ends_with("MEMORY"), "a column is whole or not there: {lines:?}");
        assert!(lines[4].starts_with("d/b"), "one is scrolled away: {lines:?}");
        text(&rates(), &view, Some((1, 1)), None);
    }

    #[test]
    fn nothing_is_scrolled_away_where_all_fits() {
        let view = View { of_pods: true, sort: Sort::Name, skip: 0 };
        assert_eq!(most_skipped(&rates(), &view, (80, 24)), 0);
        assert_eq!(most_skipped(&rates(), &view, (80, 6)), 2);
    }
}
