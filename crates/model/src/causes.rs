//! What an error tells, with all that is behind it.

use std::error::Error;

/// What `error` and its causes say, outermost first, parted by `: `. A cause that the text ends with already is not
/// said again: transparent errors, and those that repeat their cause, would say it twice.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Said(&'static str, #[source] Option<Box<Said>>);

    #[test]
    fn each_cause_is_said_once() {
        let inner = Said("no space", None);
        let told = Said("cannot write: no space", Some(Box::new(inner)));
        let outer = Said("the record", Some(Box::new(told)));
        assert_eq!(with_causes(&outer), "the record: cannot write: no space");
        let transparent = std::io::Error::other(std::io::Error::other("disk on fire"));
        assert_eq!(with_causes(&transparent), "disk on fire");
    }
}
