//! For people: what failed first, with the rule and the reason; then what was skipped, by reason.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Outcome, Report};

pub(super) fn print(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string does not fail, here and below.
    for result in report.failures() {
        let _ = writeln!(text, "FAILED {}", result.name);
        let _ = writeln!(
            text,
            "  rule: {} ({}: {})",
            result.rule,
            result.basis,
            result.covers.join(", ")
        );
        let _ =
            writeln!(text, "  {} ({})\n", result.why.trim_end().replace('\n', "\n  "), result.at);
    }
    let mut skipped: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for result in &report.results {
        if result.outcome == Outcome::Skipped {
            skipped.entry(&result.why).or_default().push(&result.name);
        }
    }
    for (reason, names) in skipped {
        let _ = writeln!(text, "skipped {}: {reason}\n  {}\n", names.len(), names.join(" "));
    }
    let count = |outcome| report.count(outcome);
    let _ = writeln!(
        text,
        "{}: {} passed, {} failed, {} skipped, of {}, in {:.1} s",
        report.title(),
        count(Outcome::Passed),
        count(Outcome::Failed),
        count(Outcome::Skipped),
        report.results.len(),
        report.seconds
    );
    text
}
