//! Numbers as headers write them.

/// A number of a header field: octal digits between spaces and NULs, or base 256 with the top bit set.
/// `None` for anything else and for what does not fit.
pub(crate) fn field(bytes: &[u8]) -> Option<i64> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => base_256(bytes),
        _ => octal(bytes),
    }
}

/// As [`field`], for what cannot be negative.
pub(crate) fn unsigned(bytes: &[u8]) -> Option<u64> {
    field(bytes).and_then(|n| u64::try_from(n).ok())
}

fn base_256(bytes: &[u8]) -> Option<i64> {
    let negative = bytes[0] & 0x40 != 0;
    // The marker bit is no part of the number; a negative one is in two's complement.
    let first = if negative { bytes[0] } else { bytes[0] & 0x7f };
    let mut value: i128 = if negative { -1 } else { 0 };
    for byte in std::iter::once(first).chain(bytes[1..].iter().copied()) {
        value = value.checked_mul(256)? | i128::from(byte);
        if i64::try_from(value).is_err() {
            return None;
        }
    }
    i64::try_from(value).ok()
}

fn octal(bytes: &[u8]) -> Option<i64> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let text = bytes[..end].trim_ascii();
    let mut value: i64 = 0;
    for byte in text {
        let digit = match byte {
            b'0'..=b'7' => i64::from(byte - b'0'),
            _ => return None,
        };
        value = value.checked_mul(8)?.checked_add(digit)?;
    }
    Some(value)
}

/// A decimal number of a PAX record.
pub(crate) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// A time of a PAX record: seconds with a fraction, as whole seconds and nanoseconds after them.
pub(crate) fn time(bytes: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = i64::try_from(decimal(whole.as_bytes())?).ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut nanos: u32 = 0;
    for digit in fraction.bytes().chain(std::iter::repeat(b'0')).take(9) {
        nanos = nanos * 10 + u32::from(digit - b'0');
    }
    match (negative, nanos) {
        (false, nanos) => Some((whole, nanos)),
        (true, 0) => Some((-whole, 0)),
        (true, nanos) => Some((-whole - 1, 1_000_000_000 - nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_numbers_are_octal_or_base_256() {
        let minus_one = [0xff_u8; 12];
        let mut big = [0_u8; 12];
        big[0] = 0x80;
        big[4..].copy_from_slice(&(1_u64 << 40).to_be_bytes());
        let mut huge = [0xff_u8; 12];
        huge[0] = 0x80;
        for (bytes, number) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777777\0", Some(0o77_777_777_777)),
            (b"0000648\0", None),
            (b"-1\0", None),
            (b"0x10\0", None),
            (&minus_one, Some(-1)),
            (&big, Some(1 << 40)),
            (&huge, None),
        ] {
            assert_eq!(field(bytes), number, "{bytes:?}");
        }
    }

    #[test]
    fn pax_times_keep_their_nanoseconds_and_their_sign() {
        for (text, time_) in [
            ("1700000000.123456789", Some((1_700_000_000, 123_456_789))),
            ("1700000000.5", Some((1_700_000_000, 500_000_000))),
            ("1.1234567899", Some((1, 123_456_789))),
            ("7", Some((7, 0))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-3", Some((-3, 0))),
            ("", None),
            ("1e9", None),
            ("1.2.3", None),
            ("--1", None),
        ] {
            assert_eq!(time(text.as_bytes()), time_, "{text:?}");
        }
    }
}
