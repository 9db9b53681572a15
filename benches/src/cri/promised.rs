//! What the first endpoint's figures were to be, and what they are.
//!
//! The promises were made on a machine on which the bare floor, the system calls of a container and nothing else,
//! took [`FLOOR_V1`] or [`FLOOR_V2`], by the version of cgroups; it is measured again here, so that a slower machine
//! can be told from a slower runtime.

use std::fmt::Write as _;

use super::figures::{Figure, Figures};
use super::report::number;

/// Of a container from nothing to nothing, and of one more process in one, on the machine of the promises, in ms.
const FLOOR_V1: (f64, f64) = (3.7, 0.76);
/// The same with cgroup v2.
const FLOOR_V2: (f64, f64) = (2.8, 0.65);

/// Which floor a figure grows with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Container,
    Exec,
    /// That floor says nothing about it.
    Nothing,
}

/// The figures by their names, in their units.
const PROMISED: [(&str, f64, By); 21] = [
    ("pod up (three calls), host network", 10.0, By::Container),
    ("pod up (three calls), network of its own", 13.0, By::Container),
    ("ExecSync of true", 1.5, By::Exec),
    ("CPU time per exec", 1.5, By::Exec),
    ("StopContainer, ends on TERM, host network", 3.0, By::Container),
    ("StopPodSandbox, host network", 2.0, By::Container),
    ("RemovePodSandbox, host network", 2.0, By::Container),
    ("CPU time per pod life, host network", 15.0, By::Container),
    ("pods up, 8 at once, host network", 200.0, By::Container),
    ("pods up, 8 at once, network of its own", 120.0, By::Container),
    ("runtime's memory per pod (PSS) with 50", 150.0, By::Nothing),
    ("daemon's memory (PSS) before", 8.0, By::Nothing),
    ("daemon's memory (PSS) with 50 pods", 15.0, By::Nothing),
    ("machine's CPU time, idle, 50 pods", 0.1, By::Nothing),
    ("ListContainers of 50", 0.4, By::Nothing),
    ("ListContainers of 500", 5.0, By::Nothing),
    ("ListContainerStats of 50", 5.0, By::Nothing),
    ("ListContainerStats of 500", 50.0, By::Nothing),
    ("a container logs 200 MB of short lines", 0.6, By::Nothing),
    ("pull and unpack", 0.7, By::Nothing),
    ("CPU time of a pull, registry included", 1.3, By::Nothing),
];

/// The table, with a heading; nothing where none of these figures was measured. `floor` is this machine's, with this
/// `version` of cgroups.
pub fn markdown(figures: &Figures, floor: Option<(f64, f64)>, version: u8) -> String {
    let theirs = if version == 1 { FLOOR_V1 } else { FLOOR_V2 };
    let scale = floor.map(|(container, exec)| (container / theirs.0, exec / theirs.1));
    let rows = PROMISED.iter().filter_map(|(what, promised, by)| {
        let figure = figures.all.iter().find(|figure| figure.what == *what)?;
        row(figure, *promised, *by, scale)
    });
    let rows: Vec<String> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut text = format!("\n## What {} is to reach\n\n", figures.endpoints[0]);
    if let (Some((container, exec)), Some((slower, slower_exec))) = (floor, scale) {
        let _ = writeln!(
            text,
            "The bare floor of a container (`cargo xtask bench launcher`) takes {} ms here, of an exec {} ms: {} and \
             {} times what it took, with cgroup v{version} too, where these figures were set. The last \
             column is what is here by that machine's measure; where it is missing, that floor says nothing about the figure.\n",
            number(container),
            number(exec),
            number(slower),
            number(slower_exec)
        );
    }
    text.push_str("| | unit | to reach | here | | by the floor |\n|---|---|---:|---:|---|---:|\n");
    text.push_str(&rows.concat());
    text
}

fn row(figure: &Figure, promised: f64, by: By, scale: Option<(f64, f64)>) -> Option<String> {
    let here = figure.series.get(&0)?.percentile(50);
    let is_kept = |value: f64| {
        if figure.more_is_better { value >= promised } else { value <= promised }
    };
    let scaled = scale.and_then(|(container, exec)| {
        let scale = match by {
            By::Container => container,
            By::Exec => exec,
            By::Nothing => return None,
        };
        Some(if figure.more_is_better { here * scale } else { here / scale })
    });
    let verdict = match scaled {
        _ if is_kept(here) => "reached",
        Some(scaled) if is_kept(scaled) => "reached by the floor",
        Some(_) | None => "not reached",
    };
    Some(format!(
        "| {} | {} | {} | {} | {verdict} | {} |\n",
        figure.what,
        figure.unit,
        number(promised),
        number(here),
        scaled.map(number).unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slower_machine_is_told_from_a_slower_runtime() {
        let mut figures = Figures::new(vec!["a".into()]);
        for (what, unit, value) in [
            ("pod up (three calls), host network", "ms", 16.0),
            ("ExecSync of true", "ms", 1.4),
            ("pods up, 8 at once, host network", "pods/s", 90.0),
            ("daemon's memory (PSS) before", "MB", 9.0),
            ("something else", "ms", 9.0),
        ] {
            figures.add(what, unit, 0, value);
        }
        // Twice as slow as the machine of the promises.
        let text = markdown(&figures, Some((FLOOR_V1.0 * 2.0, FLOOR_V1.1 * 2.0)), 1);
        let row = |name: &str| text.lines().find(|line| line.contains(name)).unwrap_or_default();
        assert!(row("pod up").contains("| reached by the floor | 8.00 |"), "{text}");
        assert!(row("ExecSync").contains("| reached | 0.70 |"), "{text}");
        assert!(row("pods up").contains("| not reached | 180 |"), "{text}");
        assert!(row("memory").contains("| not reached |  |"), "{text}");
        assert_eq!(row("something else"), "");
        assert!(markdown(&Figures::new(vec!["a".into()]), None, 1).is_empty());
    }
}
