//! JUnit's XML: one suite for each group.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{CaseResult, Outcome, Report};

pub(super) fn print(report: &Report) -> String {
    let mut groups: BTreeMap<&str, Vec<&CaseResult>> = BTreeMap::new();
    for result in &report.results {
        groups.entry(group(result)).or_default().push(result);
    }
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    // Writing to a string does not fail, here and below.
    let _ = writeln!(
        text,
        "<testsuites name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" time=\"{:.3}\">",
        escaped(&report.title()),
        report.results.len(),
        report.count(Outcome::Failed),
        report.count(Outcome::Skipped),
        report.seconds
    );
    for (name, results) in groups {
        let count = |wanted| results.iter().filter(|result| result.outcome == wanted).count();
        let _ = writeln!(
            text,
            "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" time=\"{:.3}\">",
            results.len(),
            count(Outcome::Failed),
            count(Outcome::Skipped),
            results.iter().map(|result| result.seconds).sum::<f64>()
        );
        for result in results {
            case(&mut text, result);
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

fn group(result: &CaseResult) -> &str {
    result.name.split('/').next().unwrap_or_default()
}

fn case(text: &mut String, result: &CaseResult) {
    let name = result.name.split_once('/').map_or(result.name.as_str(), |(_, name)| name);
    let _ = write!(
        text,
        "    <testcase classname=\"{}\" name=\"{name}\" time=\"{:.3}\"",
        group(result),
        result.seconds
    );
    let _ = match result.outcome {
        Outcome::Passed => writeln!(text, "/>"),
        Outcome::Skipped => writeln!(
            text,
            ">\n      <skipped message=\"{}\"/>\n    </testcase>",
            escaped(&result.why)
        ),
        Outcome::Failed => writeln!(
            text,
            ">\n      <failure message=\"{}\">{} ({})</failure>\n    </testcase>",
            escaped(&result.rule),
            escaped(&result.why),
            escaped(&result.at)
        ),
    };
}

/// As XML 1.0 takes it: signs escaped, and no characters that it has not.
fn escaped(words: &str) -> String {
    let mut text = String::with_capacity(words.len());
    for sign in words.chars() {
        match sign {
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '&' => text.push_str("&amp;"),
            '"' => text.push_str("&quot;"),
            '\n' => text.push_str("&#10;"),
            other if other < ' ' || matches!(other, '\u{fffe}' | '\u{ffff}') => {
                text.push('\u{fffd}')
            }
            other => text.push(other),
        }
    }
    text
}
