//! The Test Anything Protocol, version 14.

use std::fmt::Write as _;

use super::{Outcome, Report};

pub(super) fn print(report: &Report) -> String {
    let mut text = format!("TAP version 14\n1..{}\n", report.results.len());
    for (index, result) in report.results.iter().enumerate() {
        let number = index + 1;
        let name = &result.name;
        // Writing to a string does not fail.
        let _ = match result.outcome {
            Outcome::Passed => writeln!(text, "ok {number} - {name}"),
            Outcome::Skipped => {
                writeln!(text, "ok {number} - {name} # SKIP {}", line(&result.why))
            }
            Outcome::Failed => {
                let quoted = |words: &str| serde_json::Value::from(words).to_string();
                let (why, rule) = (quoted(&result.why), quoted(&result.rule));
                writeln!(
                    text,
                    "not ok {number} - {name}\n  ---\n  message: {why}\n  rule: {rule}\n  at: {}\n  ...",
                    quoted(&result.at)
                )
            }
        };
    }
    text
}

/// One line, in which `#` begins nothing.
fn line(words: &str) -> String {
    words.replace('\n', " ").replace('\\', "\\\\").replace('#', "\\#")
}
