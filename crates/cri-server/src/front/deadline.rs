//! How long a caller waits.

use std::time::Duration;

use tonic::codegen::http::HeaderValue;

/// What a caller says of it (gRPC over HTTP2, "Timeout"), less the moment that it takes to tell it.
pub(super) fn deadline(header: &HeaderValue) -> Option<Duration> {
    let (number, unit) = header.to_str().ok()?.split_at_checked(header.len().checked_sub(1)?)?;
    let digits = (1..=8).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| digits)?;
    let time = match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    Some(time.saturating_sub(Duration::from_millis(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_deadline_is_read() {
        for (text, want) in [
            ("1H", Some(Duration::from_millis(3_599_998))),
            ("100m", Some(Duration::from_millis(98))),
            ("5u", Some(Duration::ZERO)),
            ("99999999S", Some(Duration::from_millis(99_999_998_998))),
            ("123456789S", None),
            ("S", None),
            ("-1S", None),
            ("1x", None),
            ("", None),
        ] {
            assert_eq!(deadline(&HeaderValue::from_static(text)), want, "{text}");
        }
    }
}
