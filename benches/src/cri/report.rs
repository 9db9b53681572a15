//! The figures as a table, as Markdown and as JSON.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::args::Wanted;
use super::figures::{Figure, Figures, Series};

type Machine = [(String, String)];

/// The most decimals that are written.
const DECIMALS: usize = 6;

/// A number with three digits that say something, below 1 with two.
pub fn number(value: f64) -> String {
    let mut digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let mut scaled = value;
    while scaled > 0.0 && scaled < 0.1 && digits < DECIMALS {
        (scaled, digits) = (scaled * 10.0, digits + 1);
    }
    format!("{value:.digits$}")
}

fn cell(figure: &Figure, endpoint: usize) -> String {
    let Some(series) = figure.series.get(&endpoint) else { return "–".to_owned() };
    let median = number(series.percentile(50));
    match figure.ratio(endpoint) {
        Some(ratio) if endpoint > 0 => format!("{median} ({}×)", number(ratio)),
        Some(_) | None => median,
    }
}

/// For a terminal.
pub fn table(figures: &Figures) -> String {
    let mut text = format!("{:<58}{:>8}", "", "unit");
    figures.endpoints.iter().for_each(|name| {
        let _ = write!(text, "{name:>22}");
    });
    for figure in &figures.all {
        let _ = write!(text, "\n{:<58}{:>8}", figure.what, figure.unit);
        for endpoint in 0..figures.endpoints.len() {
            let _ = write!(text, "{:>22}", cell(figure, endpoint));
        }
    }
    text
}

/// For docs/benchmarks.
pub fn markdown(figures: &Figures, machine: &Machine, wanted: &Wanted, title: &str) -> String {
    let mut text = format!("# {title}\n\nMedians; in brackets how many times better ");
    let _ = writeln!(text, "{} is. Written by the command in README.md.\n", figures.endpoints[0]);
    for (name, value) in machine {
        let _ = writeln!(text, "- {name}: {value}");
    }
    for (name, version) in figures.endpoints.iter().zip(&figures.versions) {
        let _ = writeln!(text, "- {name}: {version}");
    }
    let (rounds, pods) = (wanted.rounds, wanted.pods);
    let _ = writeln!(
        text,
        "- samples: {rounds} of each call, in turn; {pods} pods at each concurrency\n"
    );
    let _ = writeln!(text, "| | unit | {} |", figures.endpoints.join(" | "));
    let _ = writeln!(text, "|---|---|{}", "---:|".repeat(figures.endpoints.len()));
    for figure in &figures.all {
        let cells: Vec<String> =
            (0..figures.endpoints.len()).map(|endpoint| cell(figure, endpoint)).collect();
        let _ = writeln!(text, "| {} | {} | {} |", figure.what, figure.unit, cells.join(" | "));
    }
    text
}

/// For programs.
pub fn json(figures: &Figures, machine: &Machine, wanted: &Wanted, title: &str) -> String {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let machine: serde_json::Map<String, Value> =
        machine.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let series = |series: &Series| {
        json!({
            "median": series.percentile(50),
            "p95": series.percentile(95),
            "samples": series.count(),
        })
    };
    let all: Vec<Value> = figures
        .all
        .iter()
        .map(|figure| {
            let of = figure.series.iter().map(|(endpoint, one)| {
                let mut value = series(one);
                value["ratio"] = json!(figure.ratio(*endpoint));
                (figures.endpoints[*endpoint].clone(), value)
            });
            let endpoints: serde_json::Map<String, Value> = of.collect();
            json!({ "what": figure.what, "unit": figure.unit, "endpoints": endpoints })
        })
        .collect();
    let value = json!({
        "title": title,
        "at": at,
        "machine": machine,
        "endpoints": figures.endpoints,
        "versions": figures.versions,
        "rounds": wanted.rounds,
        "pods": wanted.pods,
        "figures": all,
    });
    serde_json::to_string_pretty(&value).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_keep_digits_that_say_something() {
        for (value, text) in [
            (1234.5, "1234"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.1, "0.10"),
            (0.0432, "0.043"),
            (0.000_432, "0.00043"),
            (0.000_000_1, "0.000000"),
            (0.0, "0.00"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
