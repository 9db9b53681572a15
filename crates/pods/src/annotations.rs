//! The annotations that are Isopod's own. Pure.
//!
//! Always: one under our prefix that nobody here knows, or that a handler's runtime is not shown either, is refused:
//! what it asks for would be missing without a word.

use std::collections::BTreeMap;

/// What their names begin with.
const PREFIX: &str = "isopod.dev/";
/// Of a container, or of a pod for all of its containers.
const OF_CONTAINERS: [&str; 4] = ["exec-cpus", "log-rate", "log-total", "writable-size"];
/// Of a pod alone.
const OF_PODS: [&str; 1] = ["infiniband-guid"];

/// Whose annotations they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// A pod's.
    Pod,
    /// A container's.
    Container,
}

/// Whether one of the `patterns` (names, with `*` at the end for anything) means `name`.
pub(crate) fn is_passed(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    })
}

/// What is wrong with the first annotation of ours that means nothing; `passed` are the patterns of those that
/// the handler's runtime is shown.
pub(crate) fn unknown(
    given: &BTreeMap<String, String>,
    whose: Whose,
    passed: &[String],
) -> Option<String> {
    let of_pods = match whose {
        Whose::Pod => &OF_PODS[..],
        Whose::Container => &[],
    };
    let is_known = |name: &str| OF_CONTAINERS.contains(&name) || of_pods.contains(&name);
    let ours = given.keys().filter_map(|key| Some((key, key.strip_prefix(PREFIX)?)));
    let (key, name) =
        ours.into_iter().find(|(key, name)| !is_known(name) && !is_passed(passed, key))?;
    let shown: String = key.chars().take(80).collect();
    if OF_PODS.contains(&name) {
        return Some(format!("annotation {shown}: it is a pod's and no container's"));
    }
    let known = OF_CONTAINERS.iter().chain(of_pods).copied().collect::<Vec<_>>().join(", ");
    Some(format!("annotation {shown} is not known; those of {PREFIX} are {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_of_ours_that_nobody_knows_is_told() {
        let told = |name: &str, whose, passed: &[&str]| {
            let given = [(name.to_owned(), "zz".to_owned())].into();
            let passed: Vec<String> = passed.iter().map(|one| (*one).to_owned()).collect();
            unknown(&given, whose, &passed)
        };
        let bad = told("isopod.dev/foo", Whose::Container, &[]).unwrap();
        assert!(bad.starts_with("annotation isopod.dev/foo is not known"), "{bad}");
        assert!(told("isopod.dev/", Whose::Pod, &["a.io/*"]).is_some());
        assert_eq!(told("isopod.dev/foo", Whose::Pod, &["isopod.dev/f*"]), None);
        for known in OF_CONTAINERS {
            let name = format!("{PREFIX}{known}");
            assert_eq!(told(&name, Whose::Container, &[]), None, "{name}");
            assert_eq!(told(&name, Whose::Pod, &[]), None, "{name}");
        }
        assert_eq!(told("isopod.dev/infiniband-guid", Whose::Pod, &[]), None);
        let bad = told("isopod.dev/infiniband-guid", Whose::Container, &[]).unwrap();
        assert!(bad.ends_with("a pod's and no container's"), "{bad}");
        assert_eq!(told("other.dev/foo", Whose::Container, &[]), None, "others say what they want");
    }
}
