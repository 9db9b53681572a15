//! How much a container may log: what the node allows, and what its annotations take of that. Pure.

use std::collections::BTreeMap;

use super::amounts::bytes;
use crate::config::LogLimits;

/// Bytes in a second.
const RATE: &str = "isopod.dev/log-rate";
/// Bytes in all.
const TOTAL: &str = "isopod.dev/log-total";

/// The limits of a container: its own annotations win over its pod's, and neither gives more than the node
/// does.
///
/// # Errors
/// What is wrong with which annotation.
pub(crate) fn log_limits(
    node: LogLimits,
    container: &BTreeMap<String, String>,
    pod: &BTreeMap<String, String>,
) -> Result<LogLimits, String> {
    let wanted = |name: &str| {
        let given = container.get(name).or_else(|| pod.get(name));
        given.map(|text| bytes(name, text)).transpose()
    };
    Ok(LogLimits {
        bytes_per_second: less(node.bytes_per_second, wanted(RATE)?),
        total_bytes: less(node.total_bytes, wanted(TOTAL)?),
    })
}

fn less(node: Option<u64>, wanted: Option<u64>) -> Option<u64> {
    match (node, wanted) {
        (Some(node), Some(wanted)) => Some(node.min(wanted)),
        (Some(one), None) | (None, Some(one)) => Some(one),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    fn limits(rate: u64, total: u64) -> LogLimits {
        let some = |number| Some(number).filter(|number| *number > 0);
        LogLimits { bytes_per_second: some(rate), total_bytes: some(total) }
    }

    #[test]
    fn an_annotation_takes_less_and_never_more() {
        for (node, container, pod, want) in [
            (limits(0, 0), &[][..], &[][..], limits(0, 0)),
            (limits(100, 0), &[], &[], limits(100, 0)),
            (limits(0, 0), &[(RATE, "64Ki")], &[], limits(65_536, 0)),
            (limits(0, 0), &[(RATE, "7")], &[(RATE, "9"), (TOTAL, "1MiB")], limits(7, 1 << 20)),
            (limits(100, 50), &[(RATE, "1Gi"), (TOTAL, "20")], &[], limits(100, 20)),
        ] {
            let got = log_limits(node, &annotations(container), &annotations(pod));
            assert_eq!(got, Ok(want), "{container:?} {pod:?}");
        }
    }

    #[test]
    fn what_is_no_number_of_bytes_is_told_with_its_annotation() {
        for text in
            ["", "0", "-1", "1.5Mi", "1M", "Ki", "99999999999999999999", "18446744073709551615Ki"]
        {
            let told = log_limits(limits(0, 0), &annotations(&[]), &annotations(&[(TOTAL, text)]));
            let told = told.unwrap_err();
            assert!(told.starts_with("annotation isopod.dev/log-total is"), "{told}");
        }
        let long = "x".repeat(1000);
        let told = log_limits(limits(0, 0), &annotations(&[(RATE, &long)]), &annotations(&[]));
        assert!(told.unwrap_err().len() < 150);
    }
}
