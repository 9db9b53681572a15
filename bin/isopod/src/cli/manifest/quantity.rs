//! Quantities as Kubernetes writes them: `250m`, `64Mi`, `1e3`.

/// Suffixes of bytes, with what they multiply by.
const UNITS: [(&str, f64); 17] = [
    // As the configuration file writes them.
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("PiB", 1_125_899_906_842_624.0),
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("k", 1e3),
    ("K", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("", 1.0),
];

/// CPU, in thousandths of a core, rounded up.
pub fn cores(text: &str) -> Result<i64, String> {
    let (digits, factor) = match text.strip_suffix('m') {
        Some(digits) => (digits, 1.0),
        None => (text, 1_000.0),
    };
    whole(digits, factor)
        .ok_or_else(|| format!("{text:?} is no number of cores such as 2, 0.5 or 250m"))
}

/// Memory, in bytes, rounded up.
pub fn memory(text: &str) -> Result<i64, String> {
    let found = UNITS.iter().find_map(|(unit, factor)| {
        let digits = text.strip_suffix(unit)?;
        whole(digits, *factor)
    });
    found.ok_or_else(|| format!("{text:?} is no amount of memory such as 64Mi, 1G or 1048576"))
}

/// A positive number times a factor, rounded up.
fn whole(digits: &str, factor: f64) -> Option<i64> {
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let value: f64 = digits.parse().ok()?;
    let value = (value * factor).ceil();
    // 2^63 is the first that does not fit, and is exact in a float.
    (value > 0.0 && value < 9_223_372_036_854_775_808.0).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_counted_in_thousandths() {
        let table = [("1", 1_000), ("0.5", 500), ("250m", 250), ("1e1", 10_000), ("0.0001", 1)];
        for (text, expected) in table {
            assert_eq!(cores(text), Ok(expected), "{text}");
        }
        for wrong in ["", "m", "-1", "0", "nan", "inf", "1c", "1e300"] {
            assert!(cores(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn memory_has_binary_and_decimal_units() {
        let table = [
            ("64Mi", 64 << 20),
            ("64MiB", 64 << 20),
            ("1G", 1_000_000_000),
            ("1048576", 1 << 20),
            ("1.5Ki", 1_536),
            ("5e3", 5_000),
        ];
        for (text, expected) in table {
            assert_eq!(memory(text), Ok(expected), "{text}");
        }
        for wrong in ["", "Mi", "64MB", "64Mib", "-1Mi", "0", "9000000000Gi"] {
            assert!(memory(wrong).is_err(), "{wrong}");
        }
    }
}
