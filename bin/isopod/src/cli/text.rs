//! Numbers, times and ids as people read them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Digits of an id that people see.
const SHORT: usize = 12;

/// The beginning of an id.
pub fn short(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}

/// Now, in nanoseconds since 1970, as the CRI counts.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// How long ago `at` was, in one unit: `42s`, `7m`, `3h`, `12d`. A dash for a time that was not set.
pub fn age(at: i64, now: i64) -> String {
    if at <= 0 {
        return "-".to_owned();
    }
    let seconds = now.saturating_sub(at).max(0) / 1_000_000_000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A number of bytes in decimal units, three digits at most: `4.27 MB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1_000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1_000.0;
    let mut unit = 0;
    // 999.5 and more would be printed as 1000.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A time in RFC 3339, UTC; a dash for one that was not set.
pub fn moment(nanoseconds: i64) -> String {
    if nanoseconds <= 0 {
        return "-".to_owned();
    }
    cri_log::Stamp::of(cri_log::Time::from_nanoseconds(nanoseconds)).as_str().to_owned()
}

/// Whether a map has all of these `KEY=VALUE` pairs.
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("a label is KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_a_unit() {
        let table = [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.00 kB"),
            (4_266_000, "4.27 MB"),
            (42_660_000, "42.7 MB"),
            (426_600_000, "427 MB"),
            (999_600, "1.00 MB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (count, text) in table {
            assert_eq!(bytes(count), text, "{count}");
        }
    }

    #[test]
    fn ages_have_one_unit() {
        let second = 1_000_000_000;
        let now = 100 * 86_400 * second;
        let table = [(0, "0s"), (119, "119s"), (120, "2m"), (7_200, "2h"), (172_800, "2d")];
        for (ago, text) in table {
            assert_eq!(age(now - ago * second, now), text, "{ago}");
        }
        assert_eq!(age(0, now), "-");
        assert_eq!(age(now + second, now), "0s", "clocks differ");
    }
}
