//! What the first endpoint's figures were to be, and what they are.
//!
//! The promises were made on a machine on which the bare floor, the system calls of a container and nothing else,
//! took [`FLOOR_V1`] or [`FLOOR_V2`], by the version of cgroups; it is measured again here, so that a slower machine
//! can be told from a slower runtime. On that machine a peer had figures too: how many times better than the
//! peer was promised can be compared with how many times better it is here, as far as the peer is the same.

use std::fmt::Write as _;

use super::figures::{Figure, Figures};
use super::report::number;

/// Of a container from nothing to nothing, and of one more process in one, on the machine of the promises, in ms.
const FLOOR_V1: (f64, f64) = (3.7, 0.76);
/// The same with cgroup v2.
const FLOOR_V2: (f64, f64) = (2.8, 0.65);

/// The peer, as an endpoint of a run is called.
const PEER: &str = "containerd+runc";

/// Which floor a figure grows with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Container,
    Exec,
    /// That floor says nothing about it.
    Nothing,
}

/// A figure by its name, in its unit: what was promised, which floor it grows with, and what it was of the peer's
/// where the promises were made.
type Promise = (&'static str, f64, By, Option<f64>);

const PROMISED: [Promise; 21] = [
    ("pod up (three calls), host network", 10.0, By::Container, Some(128.0)),
    ("pod up (three calls), network of its own", 13.0, By::Container, Some(176.0)),
    ("ExecSync of true", 1.5, By::Exec, Some(32.0)),
    ("CPU time per exec", 1.5, By::Exec, Some(34.0)),
    ("StopContainer, ends on TERM, host network", 3.0, By::Container, Some(24.0)),
    ("StopPodSandbox, host network", 2.0, By::Container, Some(33.0)),
    ("RemovePodSandbox, host network", 2.0, By::Container, Some(3.0)),
    ("CPU time per pod life, host network", 15.0, By::Container, Some(197.0)),
    ("pods up, 8 at once, host network", 200.0, By::Container, Some(13.0)),
    ("pods up, 8 at once, network of its own", 120.0, By::Container, Some(8.0)),
    ("runtime's memory per pod (PSS) with 50", 150.0, By::Nothing, Some(5400.0)),
    ("daemon's memory (PSS), fresh", 8.0, By::Nothing, Some(27.0)),
    ("daemon's memory (PSS) with 50 pods", 15.0, By::Nothing, Some(76.0)),
    ("runtime's CPU time, idle, 50 pods", 0.1, By::Nothing, Some(106.0)),
    ("ListContainers of 50", 0.4, By::Nothing, Some(0.4)),
    ("ListContainers of 500", 5.0, By::Nothing, None),
    ("ListContainerStats of 50", 5.0, By::Nothing, Some(85.0)),
    ("ListContainerStats of 500", 50.0, By::Nothing, None),
    ("a container logs 200 MB of short lines", 0.6, By::Nothing, Some(4.8)),
    ("pull and unpack", 0.7, By::Nothing, Some(1.3)),
    ("CPU time of a pull, registry included", 1.3, By::Nothing, Some(1.4)),
];

/// The table, with a heading; nothing where none of these figures was measured. `floor` is this machine's, with this
/// `version` of cgroups.
pub fn markdown(figures: &Figures, floor: Option<(f64, f64)>, version: u8) -> String {
    let theirs = if version == 1 { FLOOR_V1 } else { FLOOR_V2 };
    let scale = floor.map(|(container, exec)| (container / theirs.0, exec / theirs.1));
    let peer = figures.endpoints.iter().skip(1).position(|name| name == PEER).map(|at| at + 1);
    let rows = PROMISED.iter().filter_map(|promise| {
        let figure = figures.all.iter().find(|figure| figure.what == promise.0)?;
        row(figure, promise, scale, peer)
    });
    let rows: Vec<String> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut text = format!("\n## What {} is to reach\n\n", figures.endpoints[0]);
    if let (Some(floor), Some(scale)) = (floor, scale) {
        text.push_str(&about_floor(floor, scale, version));
    }
    text.push_str(&about_peer(figures, peer));
    let _ = writeln!(
        text,
        "| | unit | to reach | here | | by the floor | times better than {PEER}, to reach | here |\n\
         |---|---|---:|---:|---|---:|---:|---:|"
    );
    text.push_str(&rows.concat());
    text
}

fn about_floor(floor: (f64, f64), scale: (f64, f64), version: u8) -> String {
    format!(
        "The bare floor of a container (`cargo xtask bench launcher`) takes {} ms here, of an exec {} ms: {} and \
         {} times what it took, with cgroup v{version} too, where these figures were set. The column \
         \"by the floor\" is what is here by that machine's measure; where it is missing, that floor says \
         nothing about the figure.\n\n",
        number(floor.0),
        number(floor.1),
        number(scale.0),
        number(scale.1)
    )
}

/// What the ratios can say: the peer of a run is hardly the one that was measured when they were set.
fn about_peer(figures: &Figures, peer: Option<usize>) -> String {
    let Some(peer) = peer else {
        return format!("The last two columns are empty: {PEER} was not measured in this run.\n\n");
    };
    let version =
        figures.versions.get(peer).map_or("of a version that is not known", String::as_str);
    format!(
        "The last two columns say how many times better {} is than {PEER}. Those to reach are what was promised \
         by what containerd 2.4-beta with runc took where these figures were set; those here are by {version}. \
         Debian 12 has containerd 1.6.20, which is older by years: a ratio to it is not one to 2.4-beta. \
         This is why the absolute figure stands first, and why what is reached by the ratio alone is called \
         so.\n\n",
        figures.endpoints[0]
    )
}

fn row(
    figure: &Figure,
    promise: &Promise,
    scale: Option<(f64, f64)>,
    peer: Option<usize>,
) -> Option<String> {
    let (_, promised, by, peers) = *promise;
    let here = figure.series.get(&0)?.percentile(50);
    let scaled = scale.and_then(|(container, exec)| {
        let scale = match by {
            By::Container => container,
            By::Exec => exec,
            By::Nothing => return None,
        };
        Some(if figure.more_is_better { here * scale } else { here / scale })
    });
    let ratio_here = peer.and_then(|peer| figure.ratio(peer));
    let ratio = peer.and(peers).and_then(|peers| figure.times_better(promised, peers));
    let verdict = Found { here, scaled, ratio: ratio_here.zip(ratio) }.verdict(figure, promised);
    let cell = |value: Option<f64>| value.map(number).unwrap_or_default();
    let times = |value: Option<f64>| value.map(|value| number(value) + "×").unwrap_or_default();
    Some(format!(
        "| {} | {} | {} | {} | {verdict} | {} | {} | {} |\n",
        figure.what,
        figure.unit,
        number(promised),
        number(here),
        cell(scaled),
        times(ratio),
        times(ratio_here)
    ))
}

/// What a promise is held against.
#[derive(Debug, Clone, Copy)]
struct Found {
    /// What is here.
    here: f64,
    /// That by the measure of the machine of the promises.
    scaled: Option<f64>,
    /// How many times better than the peer it is here, and was to be.
    ratio: Option<(f64, f64)>,
}

impl Found {
    /// The first of three ways in which it is as good as promised.
    fn verdict(&self, figure: &Figure, promised: f64) -> &'static str {
        let is_kept = |value: f64| {
            if figure.more_is_better { value >= promised } else { value <= promised }
        };
        if is_kept(self.here) {
            "reached"
        } else if self.scaled.is_some_and(is_kept) {
            "reached by the floor"
        } else if self.ratio.is_some_and(|(here, promised)| here >= promised) {
            "reached by the ratio"
        } else {
            "not reached"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures of `a`, of another one, and of the peer where there is one.
    fn figures(measured: &[(&str, &'static str, f64, Option<f64>)]) -> Figures {
        let mut figures = Figures::new(vec!["a".into(), "b".into(), PEER.into()]);
        figures.versions = ["a 1", "b 2", "containerd 1.6.20"].map(str::to_owned).to_vec();
        for (what, unit, value, peers) in measured {
            figures.add(what, unit, 0, *value);
            figures.add(what, unit, 1, 1e9);
            if let Some(peers) = peers {
                figures.add(what, unit, 2, *peers);
            }
        }
        figures
    }

    /// The cells behind the unit of the row with this name.
    fn row<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
        let line = text.lines().find(|line| line.starts_with(&format!("| {name}")));
        line.unwrap_or_default().split('|').map(str::trim).skip(3).collect()
    }

    #[test]
    fn a_slower_machine_is_told_from_a_slower_runtime() {
        let figures = figures(&[
            ("pod up (three calls), host network", "ms", 16.0, None),
            ("ExecSync of true", "ms", 1.4, None),
            ("pods up, 8 at once, host network", "pods/s", 90.0, None),
            ("daemon's memory (PSS), fresh", "MB", 9.0, None),
            ("something else", "ms", 9.0, None),
        ]);
        // Twice as slow as the machine of the promises.
        let text = markdown(&figures, Some((FLOOR_V1.0 * 2.0, FLOOR_V1.1 * 2.0)), 1);
        assert_eq!(row(&text, "pod up")[2..4], ["reached by the floor", "8.00"], "{text}");
        assert_eq!(row(&text, "ExecSync")[2..4], ["reached", "0.70"], "{text}");
        assert_eq!(row(&text, "pods up")[2..4], ["not reached", "180"], "{text}");
        assert_eq!(row(&text, "daemon's memory")[2..4], ["not reached", ""], "{text}");
        assert!(row(&text, "something else").is_empty());
        assert!(markdown(&Figures::new(vec!["a".into()]), None, 1).is_empty());
    }

    #[test]
    fn a_ratio_counts_where_nothing_else_does() {
        let figures = figures(&[
            // 12.8 times better is promised, here it is 13 times.
            ("pod up (three calls), host network", "ms", 26.0, Some(338.0)),
            // As good a ratio, but kept by the floor, and kept.
            ("StopContainer, ends on TERM, host network", "ms", 5.0, Some(500.0)),
            ("StopPodSandbox, host network", "ms", 1.0, Some(500.0)),
            // 36 times is promised, here it is 30 times.
            ("runtime's memory per pod (PSS) with 50", "KiB", 200.0, Some(6000.0)),
            // More is better: 15 times is promised, here it is 16 times.
            ("pods up, 8 at once, network of its own", "pods/s", 48.0, Some(3.0)),
            // Nobody promised a ratio, or the peer has no figure here.
            ("ListContainers of 500", "ms", 6.0, Some(600.0)),
            ("pull and unpack", "s", 0.8, None),
        ]);
        let text = markdown(&figures, Some((FLOOR_V2.0 * 2.0, FLOOR_V2.1)), 2);
        let rows = [
            ("pod up", ["reached by the ratio", "13.0", "12.8×", "13.0×"]),
            ("StopContainer", ["reached by the floor", "2.50", "8.00×", "100×"]),
            ("StopPodSandbox", ["reached", "0.50", "16.5×", "500×"]),
            ("runtime's memory", ["not reached", "", "36.0×", "30.0×"]),
            ("pods up", ["reached by the ratio", "96.0", "15.0×", "16.0×"]),
            ("ListContainers", ["not reached", "", "", "100×"]),
            ("pull", ["not reached", "", "1.86×", ""]),
        ];
        for (name, cells) in rows {
            assert_eq!(row(&text, name)[2..6], cells, "{name}: {text}");
        }
        assert!(text.contains("those here are by containerd 1.6.20."), "{text}");
    }

    #[test]
    fn without_the_peer_there_are_no_ratios() {
        let mut figures =
            figures(&[("pod up (three calls), host network", "ms", 16.0, Some(900.0))]);
        figures.endpoints[2] = "containerd+crun".into();
        let text = markdown(&figures, None, 2);
        assert_eq!(row(&text, "pod up")[2..6], ["not reached", "", "", ""], "{text}");
        assert!(text.contains("was not measured in this run"), "{text}");
        // Nor is it compared with itself.
        figures.endpoints[0] = PEER.into();
        let text = markdown(&figures, None, 2);
        assert_eq!(row(&text, "pod up")[2..6], ["not reached", "", "", ""], "{text}");
    }
}
