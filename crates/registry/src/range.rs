//! Range requests: what came back, and whether it is what was asked for (RFC 9110, section 14).

/// `Content-Range: bytes first-last/total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) total: Option<u64>,
}

impl ContentRange {
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let rest = header.trim().strip_prefix("bytes")?.trim_start();
        let (range, total) = rest.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let number = |s: &str| s.trim().parse::<u64>().ok();
        let (first, last) = (number(first)?, number(last)?);
        let total = if total.trim() == "*" { None } else { Some(number(total)?) };
        (first <= last && total.is_none_or(|t| last < t)).then_some(Self { first, last, total })
    }
}

/// What to make of an answer to a request for a blob of `size` bytes from `offset` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Its bytes begin at `offset`.
    AsAsked,
    /// It begins at the blob's start: skip what is there already.
    FromStart,
    /// The server does ranges wrongly: ask once more, without one.
    BadRange,
    /// The server has content of another size.
    WrongSize(u64),
}

/// Judges an answer by its status (200, 206 or 416) and headers.
pub(crate) fn judge(
    offset: u64,
    size: u64,
    status: u16,
    content_range: Option<&str>,
    content_length: Option<u64>,
) -> Answer {
    let range = content_range.and_then(ContentRange::parse);
    match (status, range) {
        (206, Some(r)) if offset > 0 => {
            let length_fits = content_length.is_none_or(|l| l == r.last - r.first + 1);
            if r.first != offset || !length_fits {
                Answer::BadRange
            } else {
                match r.total {
                    Some(total) if total != size => Answer::WrongSize(total),
                    // A server may send less than was asked for; the rest is asked for again.
                    Some(_) | None if r.last < size => Answer::AsAsked,
                    Some(_) | None => Answer::WrongSize(r.last + 1),
                }
            }
        }
        (206 | 416, _) => Answer::BadRange,
        _ => match content_length {
            Some(length) if length != size => Answer::WrongSize(length),
            Some(_) | None if offset == 0 => Answer::AsAsked,
            Some(_) | None => Answer::FromStart,
        },
    }
}

/// Whether an answer is exactly the part from `first` to `last` of a blob of `size` bytes.
pub(crate) fn is_part(
    (first, last): (u64, u64),
    size: u64,
    status: u16,
    content_range: Option<&str>,
    content_length: Option<u64>,
) -> bool {
    let wanted =
        |r: ContentRange| (r.first, r.last) == (first, last) && r.total.is_none_or(|t| t == size);
    status == 206
        && content_range.and_then(ContentRange::parse).is_some_and(wanted)
        && content_length.is_none_or(|l| l == last - first + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_parse_or_are_refused() {
        let range = |first, last, total| Some(ContentRange { first, last, total });
        for (text, want) in [
            ("bytes 0-9/10", range(0, 9, Some(10))),
            ("bytes 5-9/*", range(5, 9, None)),
            ("bytes 5-10/10", None),
            ("bytes 9-5/10", None),
            ("bytes */10", None),
            ("bytes -1-9/10", None),
            ("lines 0-9/10", None),
            ("", None),
        ] {
            assert_eq!(ContentRange::parse(text), want, "{text:?}");
        }
    }

    #[test]
    fn only_the_bytes_that_were_asked_for_are_taken() {
        for (offset, status, range, length, want) in [
            (0, 200, None, Some(10), Answer::AsAsked),
            (0, 200, None, None, Answer::AsAsked),
            (0, 200, None, Some(9), Answer::WrongSize(9)),
            (4, 200, None, Some(10), Answer::FromStart),
            (4, 206, Some("bytes 4-9/10"), Some(6), Answer::AsAsked),
            (4, 206, Some("bytes 4-6/10"), Some(3), Answer::AsAsked),
            (4, 206, Some("bytes 4-9/*"), None, Answer::AsAsked),
            (4, 206, Some("bytes 0-9/10"), Some(10), Answer::BadRange),
            (4, 206, Some("bytes 4-9/10"), Some(10), Answer::BadRange),
            (4, 206, Some("bytes 4-11/12"), Some(8), Answer::WrongSize(12)),
            (4, 206, Some("bytes 4-11/*"), Some(8), Answer::WrongSize(12)),
            (4, 206, None, Some(6), Answer::BadRange),
            (0, 206, Some("bytes 0-9/10"), Some(10), Answer::BadRange),
            (4, 416, Some("bytes */10"), None, Answer::BadRange),
        ] {
            let got = judge(offset, 10, status, range, length);
            assert_eq!(got, want, "{offset} {status} {range:?} {length:?}");
        }
    }

    #[test]
    fn a_part_is_exactly_what_was_asked_for() {
        for (status, range, length, want) in [
            (206, Some("bytes 4-7/10"), Some(4), true),
            (206, Some("bytes 4-7/*"), None, true),
            (206, Some("bytes 4-7/11"), Some(4), false),
            (206, Some("bytes 4-6/10"), Some(3), false),
            (206, Some("bytes 4-7/10"), Some(5), false),
            (206, None, Some(4), false),
            (200, Some("bytes 4-7/10"), Some(4), false),
        ] {
            assert_eq!(is_part((4, 7), 10, status, range, length), want, "{status} {range:?}");
        }
    }
}
