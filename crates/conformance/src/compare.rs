//! Two reports, side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::report::{CaseResult, Outcome, Report};

/// What differs between two runs, as a table in Markdown with both reasons; then the counts.
#[must_use]
pub fn compare(left: &Report, right: &Report) -> String {
    let by_name = |report: &'_ Report| -> BTreeMap<String, CaseResult> {
        report.results.iter().map(|result| (result.name.clone(), result.clone())).collect()
    };
    let (ours, theirs) = (by_name(left), by_name(right));
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let mut text =
        format!("| case | {} | {} | why |\n|---|---|---|---|\n", left.title(), right.title());
    let mut equal = 0;
    for name in names {
        let (a, b) = (ours.get(name), theirs.get(name));
        let (was, is) = (a.map(|r| r.outcome), b.map(|r| r.outcome));
        if was == is {
            equal += 1;
            continue;
        }
        let word = |outcome: Option<Outcome>| outcome.map_or("not run", Outcome::name);
        let reasons: Vec<String> =
            [a, b].iter().flatten().filter(|r| !r.why.is_empty()).map(|r| cell(&r.why)).collect();
        // Writing to a string does not fail.
        let _ =
            writeln!(text, "| {name} | {} | {} | {} |", word(was), word(is), reasons.join("; "));
    }
    let _ = writeln!(text, "\n{equal} cases come out the same.\n");
    for report in [left, right] {
        let _ = writeln!(
            text,
            "- {}: {} passed, {} failed, {} skipped, in {:.1} s",
            report.title(),
            report.count(Outcome::Passed),
            report.count(Outcome::Failed),
            report.count(Outcome::Skipped),
            report.seconds
        );
    }
    text
}

/// Words in a cell of a table.
fn cell(words: &str) -> String {
    let line = words.replace('\n', " ").replace('|', "\\|");
    line.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_shown() {
        let result = |name: &str, outcome, why: &str| CaseResult {
            name: name.to_owned(),
            rule: String::new(),
            basis: String::new(),
            level: String::new(),
            covers: Vec::new(),
            outcome,
            why: why.to_owned(),
            at: String::new(),
            seconds: 0.0,
        };
        let report = |name: &str, results| Report {
            runtime: name.to_owned(),
            version: "1".to_owned(),
            handler: String::new(),
            level: String::new(),
            seconds: 0.0,
            results,
        };
        let left = report(
            "a",
            vec![result("x/same", Outcome::Passed, ""), result("x/other", Outcome::Passed, "")],
        );
        let right = report(
            "b",
            vec![
                result("x/same", Outcome::Passed, ""),
                result("x/other", Outcome::Failed, "one | two"),
                result("x/new", Outcome::Skipped, "none"),
            ],
        );
        let text = compare(&left, &right);
        assert!(!text.contains("x/same"), "{text}");
        assert!(text.contains("| x/other | passed | failed | one \\| two |"), "{text}");
        assert!(text.contains("| x/new | not run | skipped | none |"), "{text}");
        assert!(text.contains("1 cases come out the same"), "{text}");
    }
}
