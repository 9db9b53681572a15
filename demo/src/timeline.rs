//! Where the milliseconds went: the spans that a verbose status tells.

use std::time::Duration;

use cri_api::v1::{ContainerStatusRequest, PodSandboxStatusRequest};
use serde_json::Value;
use testkit::Daemon;

use crate::Failure;
use crate::paint::{Paint, milliseconds};

/// Columns of a bar.
const COLUMNS: usize = 36;
/// What takes less than this, in microseconds, is not shown.
const WORTH_A_LINE_US: u64 = 100;

/// Shows the timelines of a pod and of its containers, and what its monitor costs.
pub async fn show(
    daemon: &Daemon,
    paint: &Paint,
    pod_id: &str,
    containers: &[(&str, &str)],
) -> Result<(), Failure> {
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod_id.to_owned(), verbose: true };
    let answer = daemon.runtime().pod_sandbox_status(request).await?.into_inner();
    let info = parsed(answer.info.get("info"))?;
    paint.step("timeline", "where the milliseconds went");
    draw(paint, "pod", &info["timeline"]);
    for (name, id) in containers {
        let request = ContainerStatusRequest { container_id: (*id).to_owned(), verbose: true };
        let answer = daemon.runtime().container_status(request).await?.into_inner();
        draw(paint, name, &parsed(answer.info.get("info"))?["timeline"]);
    }
    let monitor = info["monitorPid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    if let Some(pid) = monitor {
        let cost = format!(
            "one for the pod, {}; the daemon: {}",
            proportional(pid),
            resident(daemon.pid())
        );
        paint.step("monitor", &cost);
    }
    Ok(())
}

fn parsed(text: Option<&String>) -> Result<Value, Failure> {
    Ok(serde_json::from_str(text.ok_or("a verbose status has no info")?)?)
}

/// A line for each phase; nested ones come where they begin.
fn draw(paint: &Paint, name: &str, timeline: &Value) {
    let number = |span: &Value, key: &str| span[key].as_u64().unwrap_or_default();
    let spans = timeline.as_array().map_or(&[][..], Vec::as_slice);
    let end = |span: &Value| number(span, "start_us") + number(span, "took_us");
    let whole = spans.iter().map(end).max().unwrap_or_default();
    paint.more(&format!("{name}, {}", milliseconds(Duration::from_micros(whole))));
    let mut seen: Vec<&Value> =
        spans.iter().filter(|span| number(span, "took_us") >= WORTH_A_LINE_US).collect();
    seen.sort_by_key(|span| (number(span, "start_us"), std::cmp::Reverse(number(span, "took_us"))));
    for span in seen {
        let (start, took) = (number(span, "start_us"), number(span, "took_us"));
        let phase = span["phase"].as_str().unwrap_or_default();
        let bar = paint.bar(start, took, whole, COLUMNS);
        let took = milliseconds(Duration::from_micros(took));
        paint.more(&format!("  {phase:<20} {bar} {took:>9}"));
    }
}

/// What a process has in memory, shared or not.
pub fn resident(pid: u32) -> String {
    told(pid, "status", "VmRSS:", "resident")
}

/// What a process costs: its own memory, and its part of what it shares.
fn proportional(pid: u32) -> String {
    told(pid, "smaps_rollup", "Pss:", "of memory")
}

fn told(pid: u32, file: &str, key: &str, what: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let kib: Option<f64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.map_or_else(String::new, |kib| format!("{:.1} MB {what}", kib * 1.024 / 1_000.0))
}
