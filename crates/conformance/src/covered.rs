//! What there is to cover: every call, message and field of the API, from its own descriptors.

use prost::Message as _;
use prost_types::FileDescriptorSet;

/// A call or a field of package `runtime.v1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// `StopContainer`, or `StopContainerRequest.timeout`.
    pub name: String,
    /// For a call: its service, and the messages that it takes and gives. Empty for a field.
    pub call: Option<Call>,
}

/// A call's messages.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// The service.
    pub service: String,
    /// What it takes.
    pub request: String,
    /// What it gives.
    pub answer: String,
}

/// Every call, then every field, in the order of the API's own file.
#[must_use]
pub fn items() -> Vec<Item> {
    // The descriptors are our own, compiled in.
    let set = FileDescriptorSet::decode(cri_api::FILE_DESCRIPTOR_SET).unwrap_or_default();
    let mut items = Vec::new();
    let short = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    for service in set.file.iter().flat_map(|file| &file.service) {
        for method in &service.method {
            let call = Call {
                service: service.name().to_owned(),
                request: short(method.input_type()),
                answer: short(method.output_type()),
            };
            items.push(Item { name: method.name().to_owned(), call: Some(call) });
        }
    }
    for message in set.file.iter().flat_map(|file| &file.message_type) {
        items.push(Item { name: message.name().to_owned(), call: None });
        for field in &message.field {
            let name = format!("{}.{}", message.name(), field.name());
            items.push(Item { name, call: None });
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn cases_cover_only_what_the_api_has_and_their_names_are_their_own() {
        let known: BTreeSet<String> = items().into_iter().map(|item| item.name).collect();
        assert!(known.contains("StopContainer") && known.contains("StopContainerRequest.timeout"));
        let mut names = BTreeSet::new();
        for case in crate::all() {
            assert!(names.insert(case.name), "{} is there twice", case.name);
            assert!(case.rule.ends_with('.'), "{}: a rule is a sentence: {}", case.name, case.rule);
            for name in case.covers {
                assert!(
                    known.contains(*name),
                    "{} covers {name}, which is not in the API",
                    case.name
                );
            }
        }
        for name in crate::OPTIONAL {
            assert!(known.contains(name), "{name}");
        }
    }

    #[test]
    fn every_call_has_a_case() {
        let covered: BTreeSet<&str> = crate::all().flat_map(|case| case.covers).copied().collect();
        for item in items().iter().filter(|item| item.call.is_some()) {
            assert!(covered.contains(item.name.as_str()), "no case is about {}", item.name);
        }
    }
}
