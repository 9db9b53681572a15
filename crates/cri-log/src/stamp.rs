//! The time at the head of a record, formatted fast.

use std::fmt;

use crate::time::{Time, civil_from_days};

/// Length of `2016-10-06T00:17:09.669794202Z`.
pub(crate) const STAMP_BYTES: usize = 30;

/// A time as it stands in a record: RFC 3339 in UTC with nine digits of a fraction, always 30 bytes.
///
/// Times before 1970 and after 9999 are written as the nearest time between.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stamp([u8; STAMP_BYTES]);

impl Stamp {
    /// `time`, formatted. [`Stamper::stamp`] is faster for one time after the other.
    #[must_use]
    pub fn of(time: Time) -> Self {
        *Stamper::new().stamp(time)
    }

    /// The 30 characters, all of them ASCII.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; STAMP_BYTES] {
        &self.0
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Makes stamps of times that mostly fall into the second of the time before: then only the
/// fraction is written anew.
#[derive(Debug, Clone)]
pub struct Stamper {
    /// The second that `stamp` shows.
    second: i64,
    stamp: Stamp,
}

impl Default for Stamper {
    fn default() -> Self {
        Self::new()
    }
}

impl Stamper {
    /// A stamper that shows the epoch.
    #[must_use]
    pub const fn new() -> Self {
        Self { second: 0, stamp: Stamp(*b"1970-01-01T00:00:00.000000000Z") }
    }

    /// `time`, formatted.
    pub fn stamp(&mut self, time: Time) -> &Stamp {
        let time = time.clamp(Time::EPOCH, Time::MAX);
        if time.seconds() != self.second {
            self.second = time.seconds();
            self.write_second();
        }
        digits(&mut self.stamp.0[20..29], time.nanoseconds());
        &self.stamp
    }

    #[cold]
    fn write_second(&mut self) {
        let (year, month, day) = civil_from_days(self.second.div_euclid(86_400));
        let of_day = self.second.rem_euclid(86_400);
        let text = &mut self.stamp.0;
        for (at, value) in [
            (0..4, year),
            (5..7, month),
            (8..10, day),
            (11..13, of_day / 3600),
            (14..16, of_day / 60 % 60),
            (17..19, of_day % 60),
        ] {
            digits(&mut text[at], u32::try_from(value).unwrap_or(0));
        }
    }
}

/// Writes the last digits of `value`, as many as there is room for.
fn digits(room: &mut [u8], mut value: u32) {
    for place in room.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_that_four_digits_of_a_year_cannot_say_become_the_nearest_that_can() {
        for (time, text) in [
            (Time::new(i64::MIN, 5), "1970-01-01T00:00:00.000000000Z"),
            (Time::new(-1, 999_999_999), "1970-01-01T00:00:00.000000000Z"),
            (Time::new(i64::MAX, 0), "9999-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(Stamp::of(time).as_str(), text);
        }
    }

    proptest! {
        #[test]
        fn what_was_stamped_before_does_not_show(
            times in prop::collection::vec((0..4_000_000_000_i64, 0..1_000_000_000_u32), 1..20),
        ) {
            let mut stamper = Stamper::new();
            for (seconds, nanoseconds) in times {
                let time = Time::new(seconds, nanoseconds);
                prop_assert_eq!(*stamper.stamp(time), Stamp::of(time));
                prop_assert_eq!(Time::parse(Stamp::of(time).as_bytes()), Ok(time));
            }
        }
    }
}
