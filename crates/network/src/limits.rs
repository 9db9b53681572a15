//! The bandwidth that a pod's annotations ask for.

use std::collections::BTreeMap;

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";
/// What Kubernetes accepts (its bandwidth package): from 1k to 1P.
const LEAST: u64 = 1_000;
const MOST: u64 = 1_000_000_000_000_000;

/// Bits per second; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Limits {
    /// What the pod receives.
    pub(crate) ingress: Option<u64>,
    /// What the pod sends.
    pub(crate) egress: Option<u64>,
}

/// Why an annotation is no bandwidth.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("annotation {name} is {value:?}, not a bandwidth from 1k to 1P")]
pub(crate) struct BadLimit {
    name: &'static str,
    value: String,
}

impl Limits {
    /// What these annotations ask for.
    pub(crate) fn read(annotations: &BTreeMap<String, String>) -> Result<Self, BadLimit> {
        let one = |name: &'static str| {
            let Some(text) = annotations.get(name) else { return Ok(None) };
            quantity(text)
                .filter(|bits| (LEAST..=MOST).contains(bits))
                .map(Some)
                .ok_or_else(|| BadLimit { name, value: text.chars().take(40).collect() })
        };
        Ok(Self { ingress: one(INGRESS)?, egress: one(EGRESS)? })
    }
}

/// A Kubernetes quantity as a whole number, rounded up: digits, perhaps a fraction, and a suffix or an
/// exponent.
fn quantity(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || whole.len() > 18 || fraction.len() > 9 {
        return None;
    }
    if fraction.contains('.') {
        return None;
    }
    let (multiplier, divisor): (u128, u128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let digits = exponent.strip_prefix(['e', 'E'])?;
            (10_u128.checked_pow(digits.parse::<u8>().ok().filter(|e| *e <= 18)?.into())?, 1)
        }
    };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let value = digits.checked_mul(multiplier)?.div_ceil(scale * divisor);
    u64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, expected) in [
            ("10M", Some(10_000_000)),
            ("1Gi", Some(1 << 30)),
            ("1.5k", Some(1500)),
            ("2e6", Some(2_000_000)),
            ("2E3", Some(2000)),
            ("1500m", Some(2)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("0", Some(0)),
            ("", None),
            ("M", None),
            ("-1", None),
            ("1.2.3", None),
            ("1x", None),
            ("1e99", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(quantity(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_limit_outside_of_what_kubernetes_accepts_is_an_error() {
        let with = |value: &str| BTreeMap::from([(EGRESS.to_owned(), value.to_owned())]);
        assert_eq!(Limits::read(&with("1M")).unwrap().egress, Some(1_000_000));
        assert_eq!(Limits::read(&BTreeMap::new()).unwrap(), Limits::default());
        for bad in ["10", "2P", "fast"] {
            assert!(Limits::read(&with(bad)).is_err(), "{bad}");
        }
    }
}
