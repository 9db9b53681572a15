//! Where in a request a field is, and what is wrong with it.

use std::borrow::Cow;
use std::fmt;

use model::{Class, Classified};

/// The most characters of a value that an error repeats.
const SHOWN: usize = 120;

/// A field that is not what the CRI allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {given}: {expected}")]
pub struct BadField {
    /// The field's path in the request.
    pub field: String,
    /// Its value, quoted, cut after 120 characters.
    pub given: String,
    /// What would be right.
    pub expected: Cow<'static, str>,
}

impl Classified for BadField {
    fn class(&self) -> Class {
        Class::InvalidArgument
    }
}

/// A field's place, as a list from the field to the request; spelled only when it is needed.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    up: Option<&'a At<'a>>,
    name: &'a str,
    index: Option<usize>,
}

impl<'a> At<'a> {
    /// A field of the request itself.
    pub(crate) const fn field(name: &'a str) -> Self {
        Self { up: None, name, index: None }
    }

    /// A field of the message that is here.
    pub(crate) const fn to(&'a self, name: &'a str) -> Self {
        Self { up: Some(self), name, index: None }
    }

    /// One element of a repeated field of the message that is here.
    pub(crate) const fn nth(&'a self, name: &'a str, index: usize) -> Self {
        Self { up: Some(self), name, index: Some(index) }
    }

    /// The error that the value here is `given` and should have been as `expected` says.
    pub(crate) fn bad(
        &self,
        given: impl fmt::Debug,
        expected: impl Into<Cow<'static, str>>,
    ) -> BadField {
        let text = format!("{given:?}");
        let given = if text.chars().count() > SHOWN {
            text.chars().take(SHOWN).chain("…".chars()).collect()
        } else {
            text
        };
        BadField { field: self.to_string(), given, expected: expected.into() }
    }

    /// The error that a value is missing here.
    pub(crate) fn missing(&self) -> BadField {
        BadField {
            field: self.to_string(),
            given: "missing".to_owned(),
            expected: "it is required".into(),
        }
    }

    /// The same for a value that must not be printed.
    pub(crate) fn bad_secret(&self, expected: impl Into<Cow<'static, str>>) -> BadField {
        BadField {
            field: self.to_string(),
            given: "not shown here".to_owned(),
            expected: expected.into(),
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(up) = self.up {
            write!(f, "{up}.")?;
        }
        f.write_str(self.name)?;
        if let Some(index) = self.index {
            write!(f, "[{index}]")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_whole_path_and_cuts_a_long_value() {
        let config = At::field("config");
        let mount = config.nth("mounts", 3);
        let bad = mount.to("host_path").bad("../x", "an absolute path");
        assert_eq!(bad.to_string(), "config.mounts[3].host_path is \"../x\": an absolute path");
        let long = config.bad("x".repeat(1000), "shorter");
        assert!(long.to_string().chars().count() < 160, "{long}");
    }
}
