//! Points in time and the calendar (RFC 3339, proleptic Gregorian, UTC).

use std::fmt;

use crate::stamp::Stamp;

/// A point in time, to the nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds since 1970-01-01T00:00:00Z, leap seconds not counted.
    seconds: i64,
    /// Nanoseconds after that, below 1,000,000,000.
    nanoseconds: u32,
}

/// A text that is not a time of RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time such as 2016-10-06T00:17:09.669794202Z")]
pub struct BadTime;

const NANOSECONDS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

impl Time {
    /// 9999-12-31T23:59:59.999999999Z: the last that can be written with a year of four digits.
    pub const MAX: Self = Self { seconds: 253_402_300_799, nanoseconds: 999_999_999 };
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self { seconds: 0, nanoseconds: 0 };

    /// The time `seconds` and `nanoseconds` after the epoch, as clock_gettime(2) gives them.
    /// Nanoseconds beyond a second are cut off at its end.
    #[must_use]
    pub const fn new(seconds: i64, nanoseconds: u32) -> Self {
        let nanoseconds = if nanoseconds > 999_999_999 { 999_999_999 } else { nanoseconds };
        Self { seconds, nanoseconds }
    }

    /// The time `nanoseconds` after the epoch, as the CRI counts them.
    #[must_use]
    pub const fn from_nanoseconds(nanoseconds: i64) -> Self {
        let seconds = nanoseconds.div_euclid(NANOSECONDS);
        // What is left of a second is below 1e9.
        Self { seconds, nanoseconds: nanoseconds.rem_euclid(NANOSECONDS) as u32 }
    }

    /// Whole seconds since the epoch.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds in the second, below 1,000,000,000.
    #[must_use]
    pub const fn nanoseconds(self) -> u32 {
        self.nanoseconds
    }

    /// The time that `text` says, in any form of RFC 3339: with or without a fraction of up to nine
    /// digits (more are cut off), in UTC or with an offset. A leap second counts as the second
    /// after it.
    ///
    /// # Errors
    /// [`BadTime`] for anything else.
    pub fn parse(text: &[u8]) -> Result<Self, BadTime> {
        let (date, rest) = text.split_at_checked(19).ok_or(BadTime)?;
        let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T' | b't', rest_of_day @ ..] = date
        else {
            return Err(BadTime);
        };
        let [h1, h2, b':', n1, n2, b':', s1, s2] = rest_of_day else { return Err(BadTime) };
        let year = number(&[*y1, *y2, *y3, *y4])?;
        let (month, day) = (number(&[*m1, *m2])?, number(&[*d1, *d2])?);
        let (hour, minute, second) =
            (number(&[*h1, *h2])?, number(&[*n1, *n2])?, number(&[*s1, *s2])?);
        let in_range = (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second <= 60;
        if !in_range {
            return Err(BadTime);
        }
        let (nanoseconds, zone) = fraction(rest)?;
        let seconds = days_from_civil(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
        Ok(Self { seconds: seconds - offset(zone)?, nanoseconds })
    }
}

/// In the fixed form of [`Stamp`].
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Stamp::of(*self).as_str())
    }
}

fn number(digits: &[u8]) -> Result<i64, BadTime> {
    digits.iter().try_fold(0, |n, d| match d {
        b'0'..=b'9' => Ok(n * 10 + i64::from(d - b'0')),
        _ => Err(BadTime),
    })
}

/// Nanoseconds of `.123…`, and what follows them.
fn fraction(text: &[u8]) -> Result<(u32, &[u8]), BadTime> {
    let Some(digits) = text.strip_prefix(b".") else { return Ok((0, text)) };
    let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    if count == 0 {
        return Err(BadTime);
    }
    let (fraction, zone) = digits.split_at(count);
    let nine = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    Ok((nine.fold(0, |n, digit| n * 10 + u32::from(digit - b'0')), zone))
}

/// Seconds that local time is ahead of UTC.
fn offset(zone: &[u8]) -> Result<i64, BadTime> {
    match zone {
        b"Z" | b"z" => Ok(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return Err(BadTime);
            }
            let ahead = hours * 3600 + minutes * 60;
            Ok(if *sign == b'+' { ahead } else { -ahead })
        }
        _ => Err(BadTime),
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

// Both directions count years from March, so that the leap day is a year's last day and the lengths
// of months follow the one line (153 m + 2) / 5; 400 years, an era, have 146,097 days.
const ERA_DAYS: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const TO_EPOCH: i64 = 719_468;

/// Days from the epoch to a date.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * ERA_DAYS + day_of_era - TO_EPOCH
}

/// Year, month and day of a count of days from the epoch.
pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + TO_EPOCH;
    let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    // Takes out the leap days of 4, 100 and 400 years; then every year has 365.
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_of_rfc_3339_parses() {
        for (text, seconds, nanoseconds) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2016-10-06T00:17:09.669794202Z", 1_475_713_029, 669_794_202),
            ("2016-10-06T02:17:09.66+02:00", 1_475_713_029, 660_000_000),
            ("2016-10-05T18:47:09.5-05:30", 1_475_713_029, 500_000_000),
            ("2016-10-06T00:17:09.1234567899Z", 1_475_713_029, 123_456_789),
            ("2000-02-29t00:00:00z", 951_782_400, 0),
            ("2016-12-31T23:59:60Z", 1_483_228_800, 0),
            ("9999-12-31T23:59:59.999999999Z", 253_402_300_799, 999_999_999),
            ("1969-12-31T23:59:59Z", -1, 0),
        ] {
            assert_eq!(Time::parse(text.as_bytes()), Ok(Time { seconds, nanoseconds }), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2016-10-06",
            "2016-10-06T00:17:09",
            "2016-10-06 00:17:09Z",
            "2016-10-06T00:17:09.Z",
            "2016-10-06T00:17:09.1",
            "2016-10-06T00:17:09Zx",
            "2016-10-06T00:17:09+0200",
            "2016-10-06T00:17:09+24:00",
            "2016-13-06T00:17:09Z",
            "2016-00-06T00:17:09Z",
            "2016-04-31T00:17:09Z",
            "1900-02-29T00:00:00Z",
            "2016-10-06T24:00:00Z",
            "2016-10-06T00:60:00Z",
            "2016-10-06T00:00:61Z",
            "+016-10-06T00:00:00Z",
        ] {
            assert_eq!(Time::parse(text.as_bytes()), Err(BadTime), "{text:?}");
        }
    }

    #[test]
    fn nanoseconds_before_the_epoch_belong_to_the_second_before() {
        assert_eq!(Time::from_nanoseconds(-1), Time { seconds: -1, nanoseconds: 999_999_999 });
        assert_eq!(Time::from_nanoseconds(1_500_000_000), Time::new(1, 500_000_000));
    }

    #[test]
    fn days_and_dates_are_each_others_inverse_over_two_eras() {
        let mut next = (1970, 1, 1);
        for days in 0..2 * ERA_DAYS {
            let (year, month, day) = civil_from_days(days);
            assert_eq!((year, month, day), next, "day {days}");
            assert_eq!(days_from_civil(year, month, day), days);
            next = if day < days_in_month(year, month) {
                (year, month, day + 1)
            } else if month < 12 {
                (year, month + 1, 1)
            } else {
                (year + 1, 1, 1)
            };
        }
    }

    proptest! {
        #[test]
        fn a_date_far_in_the_future_is_found_again(days in 0..i64::MAX / DAY) {
            let (year, month, day) = civil_from_days(days);
            prop_assert!((1..=12).contains(&month));
            prop_assert!((1..=days_in_month(year, month)).contains(&day));
            prop_assert_eq!(days_from_civil(year, month, day), days);
        }

        #[test]
        fn times_print_as_a_calendar_library_prints_them(
            seconds in 0..253_402_207_200_i64,
            nanoseconds in 0..1_000_000_000_u32,
        ) {
            let ours = Time::new(seconds, nanoseconds);
            let theirs = jiff::Timestamp::new(seconds, i32::try_from(nanoseconds).unwrap()).unwrap();
            prop_assert_eq!(ours.to_string(), format!("{theirs:.9}"));
            prop_assert_eq!(Time::parse(theirs.to_string().as_bytes()), Ok(ours));
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            if let Ok(time) = Time::parse(&bytes) {
                prop_assert!(time.nanoseconds() < 1_000_000_000);
            }
        }
    }
}
