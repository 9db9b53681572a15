//! What came of a run, and its forms.

mod junit;
mod tap;
mod text;

use serde::{Deserialize, Serialize};

/// How a case came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The rule is held.
    Passed,
    /// It is not.
    Failed,
    /// It could not be tried.
    Skipped,
}

impl Outcome {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One case's outcome, with all that a reader needs who does not have the suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    /// The case's name.
    pub name: String,
    /// Its rule.
    pub rule: String,
    /// Where the rule comes from.
    pub basis: String,
    /// The case's level.
    pub level: String,
    /// The calls, messages and fields that it is about.
    pub covers: Vec<String>,
    /// How it came out.
    pub outcome: Outcome,
    /// Why it failed or was skipped; empty where it passed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Where in the suite's source that was seen; empty where it did not fail.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub at: String,
    /// How long it took.
    pub seconds: f64,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The runtime's name, as it gives it.
    pub runtime: String,
    /// Its version.
    pub version: String,
    /// The handler that pods were run with; empty for the default.
    pub handler: String,
    /// The most that cases took for granted.
    pub level: String,
    /// How long the whole took.
    pub seconds: f64,
    /// One for each case, by name.
    pub results: Vec<CaseResult>,
}

/// The forms of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// JUnit's XML, as continuous integration reads it.
    Junit,
    /// The Test Anything Protocol, version 14.
    Tap,
    /// JSON, which [`crate::compare`] reads.
    Json,
}

impl Report {
    /// How many cases came out so.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.results.iter().filter(|result| result.outcome == outcome).count()
    }

    /// The cases that failed.
    pub fn failures(&self) -> impl Iterator<Item = &CaseResult> {
        self.results.iter().filter(|result| result.outcome == Outcome::Failed)
    }

    /// The report in a form.
    #[must_use]
    pub fn print(&self, form: Form) -> String {
        match form {
            Form::Text => text::print(self),
            Form::Junit => junit::print(self),
            Form::Tap => tap::print(self),
            // Strings and finite numbers can always be written.
            Form::Json => serde_json::to_string_pretty(self).unwrap_or_default() + "\n",
        }
    }

    /// What [`Form::Json`] printed.
    ///
    /// # Errors
    /// Where it is no such report.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The runtime, its version and handler, in a few words.
    #[must_use]
    pub fn title(&self) -> String {
        let handler = if self.handler.is_empty() {
            String::new()
        } else {
            format!(", handler {}", self.handler)
        };
        format!("{} {}{handler}", self.runtime, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let result = |name: &str, outcome, why: &str| CaseResult {
            name: name.to_owned(),
            rule: "A rule with <signs> & \"quotes\".".to_owned(),
            basis: "CRI api.proto".to_owned(),
            level: "api".to_owned(),
            covers: vec!["Version".to_owned()],
            outcome,
            why: why.to_owned(),
            at: String::new(),
            seconds: 0.25,
        };
        Report {
            runtime: "some".to_owned(),
            version: "1.0".to_owned(),
            handler: String::new(),
            level: "linux".to_owned(),
            seconds: 1.0,
            results: vec![
                result("a/good", Outcome::Passed, ""),
                result("a/bad", Outcome::Failed, "it is <this>,\nnot that\u{0}"),
                result("b/none", Outcome::Skipped, "no #such thing"),
            ],
        }
    }

    #[test]
    fn json_is_read_back() {
        let report = report();
        assert_eq!(Report::parse(&report.print(Form::Json)).unwrap(), report);
    }

    #[test]
    fn tap_has_a_plan_and_a_line_for_each() {
        let text = report().print(Form::Tap);
        assert!(
            text.starts_with("TAP version 14\n1..3\nok 1 - a/good\nnot ok 2 - a/bad\n"),
            "{text}"
        );
        assert!(text.contains("ok 3 - b/none # SKIP no \\#such thing\n"), "{text}");
    }

    #[test]
    fn junit_is_counted_and_escaped() {
        let text = report().print(Form::Junit);
        assert!(text.contains("tests=\"3\" failures=\"1\" skipped=\"1\""), "{text}");
        assert!(text.contains("&lt;this&gt;"), "{text}");
        assert!(!text.contains('\u{0}'), "{text}");
    }

    #[test]
    fn people_see_what_failed_and_why() {
        let text = report().print(Form::Text);
        assert!(text.contains("1 passed, 1 failed, 1 skipped"), "{text}");
        assert!(text.contains("a/bad"), "{text}");
        assert!(text.contains("A rule with"), "{text}");
    }
}
