//! Ids of sandboxes and containers in requests.

use model::{ContainerId, SandboxId};

use super::{At, BadField};

/// What a request says about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Given<T> {
    /// An id that an object may have.
    Id(T),
    /// A text that is no id of ours, so that no object can have it. It is not malformed: a caller asks
    /// whether the object exists, and the answer is no.
    Nobody,
}

/// The sandbox that `text` names; only the empty text is malformed.
pub(crate) fn sandbox_id(at: At<'_>, text: &str) -> Result<Given<SandboxId>, BadField> {
    given(at, text, SandboxId::parse(text).ok())
}

/// The container that `text` names; only the empty text is malformed.
pub(crate) fn container_id(at: At<'_>, text: &str) -> Result<Given<ContainerId>, BadField> {
    given(at, text, ContainerId::parse(text).ok())
}

fn given<T>(at: At<'_>, text: &str, id: Option<T>) -> Result<Given<T>, BadField> {
    if text.is_empty() {
        return Err(at.missing());
    }
    Ok(id.map_or(Given::Nobody, Given::Id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_id_is_malformed_and_a_foreign_one_names_nobody() {
        let at = At::field("container_id");
        assert!(container_id(at, "").is_err());
        assert_eq!(container_id(at, "not-an-id"), Ok(Given::Nobody));
        let good = "ab".repeat(32);
        assert!(matches!(container_id(at, &good), Ok(Given::Id(id)) if id.as_str() == good));
    }
}
