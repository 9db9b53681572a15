//! How much a container may write: what the node says, and what its annotations ask for. Pure.

use std::collections::BTreeMap;

use super::amounts::bytes;
use crate::config::WritableLimits;

/// Bytes of the writable layer and of the image's volumes.
const SIZE: &str = "isopod.dev/writable-size";

/// What a container may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writable {
    /// As much as there is.
    Unlimited,
    /// So many bytes, because the node says so.
    Usual(u64),
    /// So many bytes, because an annotation says so.
    Asked(u64),
}

impl Writable {
    pub(crate) const fn bytes(self) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::Usual(bytes) | Self::Asked(bytes) => Some(bytes),
        }
    }

    /// What is kept where the file system has project quotas only if `has_quotas`, and what is to be told about
    /// the rest.
    ///
    /// # Errors
    /// An annotation cannot be kept.
    pub(crate) fn kept(self, has_quotas: bool) -> Result<(Self, Option<String>), String> {
        const LACK: &str = "the file system of the images has no project quotas";
        match self {
            Self::Asked(_) if !has_quotas => {
                Err(format!("annotation {SIZE} cannot be kept: {LACK}"))
            }
            Self::Usual(_) if !has_quotas => {
                let told = format!("pods.writable_size is not kept: {LACK}");
                Ok((Self::Unlimited, Some(told)))
            }
            Self::Unlimited | Self::Usual(_) | Self::Asked(_) => Ok((self, None)),
        }
    }
}

/// The limit of a container: its own annotation wins over its pod's. None asks for more than the node gives.
///
/// # Errors
/// What is wrong with the annotation.
pub(crate) fn writable(
    node: WritableLimits,
    container: &BTreeMap<String, String>,
    pod: &BTreeMap<String, String>,
) -> Result<Writable, String> {
    let Some(text) = container.get(SIZE).or_else(|| pod.get(SIZE)) else {
        return Ok(node.size.map_or(Writable::Unlimited, Writable::Usual));
    };
    let asked = bytes(SIZE, text)?;
    match node.max.or(node.size) {
        Some(most) if asked > most => Err(format!(
            "annotation {SIZE} asks for {asked} bytes: this node gives at most {most} \
             (pods.writable_max)"
        )),
        Some(_) | None => Ok(Writable::Asked(asked)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(all: &[&str]) -> BTreeMap<String, String> {
        all.iter().map(|text| (SIZE.to_owned(), (*text).to_owned())).collect()
    }

    fn node(size: u64, max: u64) -> WritableLimits {
        let some = |number| Some(number).filter(|number| *number > 0);
        WritableLimits { size: some(size), max: some(max) }
    }

    #[test]
    fn an_annotation_chooses_within_what_the_node_gives() {
        for (limits, container, pod, want) in [
            (node(0, 0), &[][..], &[][..], Ok(Writable::Unlimited)),
            (node(100, 0), &[], &[], Ok(Writable::Usual(100))),
            (node(0, 100), &[], &[], Ok(Writable::Unlimited)),
            (node(0, 0), &["10Gi"], &[], Ok(Writable::Asked(10 << 30))),
            (node(0, 0), &["1Ki"], &["2Ki"], Ok(Writable::Asked(1024))),
            (node(100, 0), &[], &["50"], Ok(Writable::Asked(50))),
            (node(100, 200), &["200"], &[], Ok(Writable::Asked(200))),
            (node(100, 0), &["101"], &[], Err("101 bytes: this node gives at most 100")),
            (node(100, 200), &[], &["201"], Err("201 bytes: this node gives at most 200")),
            (node(0, 0), &["much"], &[], Err("annotation isopod.dev/writable-size is \"much\"")),
            (node(0, 0), &["0"], &[], Err("annotation isopod.dev/writable-size is \"0\"")),
        ] {
            let got = writable(limits, &annotations(container), &annotations(pod));
            match (&got, want) {
                (Ok(got), Ok(want)) => assert_eq!(*got, want, "{container:?} {pod:?}"),
                (Err(told), Err(part)) => assert!(told.contains(part), "{told}"),
                (Ok(_) | Err(_), _) => panic!("{container:?} {pod:?}: {got:?}"),
            }
        }
    }

    #[test]
    fn without_quotas_an_annotation_is_refused_and_what_the_node_says_is_told() {
        for (limit, has_quotas, want) in [
            (Writable::Unlimited, false, Some(Writable::Unlimited)),
            (Writable::Usual(5), true, Some(Writable::Usual(5))),
            (Writable::Usual(5), false, Some(Writable::Unlimited)),
            (Writable::Asked(5), true, Some(Writable::Asked(5))),
            (Writable::Asked(5), false, None),
        ] {
            let kept = limit.kept(has_quotas);
            assert_eq!(kept.as_ref().ok().map(|(kept, _)| *kept), want, "{limit:?}");
            let is_told = kept.map_or(true, |(_, told)| told.is_some());
            assert_eq!(is_told, limit != Writable::Unlimited && !has_quotas, "{limit:?}");
        }
    }
}
