//! What was found, and what to do.

use serde_json::{Value, json};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    /// As it should be.
    Good,
    /// Something is missing that some pods need, or that will be needed.
    Warning,
    /// Pods cannot run, or not all of them.
    Bad,
}

impl Grade {
    /// As it is printed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warn",
            Self::Bad => "BAD",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about, in one word.
    pub about: &'static str,
    /// How bad it is.
    pub grade: Grade,
    /// What was found.
    pub said: String,
    /// What to do; empty for what is good.
    pub advice: String,
}

impl Finding {
    /// As it should be.
    pub fn good(about: &'static str, said: impl Into<String>) -> Self {
        Self { about, grade: Grade::Good, said: said.into(), advice: String::new() }
    }

    /// Not as it should be.
    pub fn warning(
        about: &'static str,
        said: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { about, grade: Grade::Warning, said: said.into(), advice: advice.into() }
    }

    /// It keeps pods from running.
    pub fn bad(about: &'static str, said: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { about, grade: Grade::Bad, said: said.into(), advice: advice.into() }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "about": self.about,
            "grade": self.grade.word().to_lowercase(),
            "said": self.said,
            "advice": self.advice,
        })
    }
}
