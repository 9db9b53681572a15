//! Where the time of operations went, as bars.
//!
//! Always: bars have the same scale within one operation; what was shorter than a character has one still.

use std::fmt::Write as _;

use admin_api::v1::{ListOperationsRequest, Operation, Phase};

use super::failure::{Doing, Failure};
use super::node::Node;

/// Characters of the longest bar.
const WIDTH: usize = 40;

/// Operations of one call of the command line, as the daemon remembers them; empty where it took none.
pub async fn of_call(node: &Node, trace: &str) -> Result<String, Failure> {
    let request = ListOperationsRequest { ended: true, trace: trace.to_owned() };
    let answer = node.admin().list_operations(request).await.doing("read the timeline")?;
    let mut operations = answer.into_inner().operations;
    operations.sort_by_key(|one| one.started_at);
    let Some(first) = operations.first().map(|one| one.started_at) else {
        return Ok("no operation of the daemon was needed for this\n".to_owned());
    };
    let mut text = String::new();
    for operation in &operations {
        let after = ms(u64::try_from(operation.started_at.saturating_sub(first)).unwrap_or(0));
        let end = operation.end.clone().unwrap_or_default();
        let took = ms(u64::try_from(end.took).unwrap_or(0));
        let (kind, object) = (&operation.kind, &operation.object);
        let _ = writeln!(text, "{kind} {object}: {took} ms, from {after} ms on");
        if !end.error.is_empty() {
            let _ = writeln!(text, "  failed: {}", end.error);
        }
        text.push_str(&bars(&operation.phases, all_of(operation)));
    }
    Ok(text)
}

/// How long an operation that has ended took, in microseconds.
pub fn all_of(operation: &Operation) -> u64 {
    let took = operation.end.as_ref().map_or(0, |end| end.took);
    u64::try_from(took).unwrap_or(0) / 1000
}

/// A line for each phase: its begin, its bar, its name and how long it took. `all_us` is the whole, which
/// may be longer than the phases together.
pub fn bars(phases: &[Phase], all_us: u64) -> String {
    let end = |phase: &Phase| u64::from(phase.start_us) + u64::from(phase.took_us);
    let all = phases.iter().map(end).max().unwrap_or(0).max(all_us).max(1);
    let place = |us: u64| usize::try_from(us * WIDTH as u64 / all).unwrap_or(WIDTH).min(WIDTH);
    let mut text = String::new();
    for phase in phases {
        let from = place(phase.start_us.into()).min(WIDTH - 1);
        let length = place(end(phase)).saturating_sub(from).max(1);
        let bar = format!("{}{}", " ".repeat(from), "█".repeat(length));
        let start = ms(u64::from(phase.start_us) * 1000);
        let took = ms(u64::from(phase.took_us) * 1000);
        let _ = writeln!(text, "  {start:>9} ms │{bar:<WIDTH$}│ {took:>9} ms  {}", phase.name);
    }
    text
}

/// Nanoseconds in milliseconds with three digits behind the point.
pub fn ms(nanoseconds: u64) -> String {
    format!("{:.3}", nanoseconds as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_have_one_scale_and_the_shortest_is_seen() {
        let phase = |name: &str, start_us, took_us| Phase { name: name.into(), start_us, took_us };
        let text =
            bars(&[phase("netns", 0, 1000), phase("network", 1000, 3000), phase("x", 4000, 0)], 0);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            format!("      0.000 ms │{}{}│     1.000 ms  netns", "█".repeat(10), " ".repeat(30))
        );
        assert!(lines[1].contains(&format!("│{}{}│", " ".repeat(10), "█".repeat(30))), "{text}");
        assert!(lines[2].contains('█') && lines[2].ends_with("  x"), "{text}");
        assert_eq!(bars(&[], 5), "");
    }
}
