//! CPU time for each second, from two measurements.
//!
//! Owns: the last measurement of each object that somebody asked for. Always: two measurements lie at least
//! [`WINDOW`] apart, so several callers do not spoil each other's rate; what nobody asks for any more is
//! forgotten.
//! Callers: the statistics calls.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The shortest time between two measurements, in nanoseconds.
const WINDOW: i64 = 1_000_000_000;
/// How long a measurement is remembered, in nanoseconds.
const KEPT: i64 = 600_000_000_000;

#[derive(Debug, Clone, Copy)]
struct Last {
    at: i64,
    used: u64,
    rate: Option<u64>,
}

/// The last measurements, by the object's id.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    table: Mutex<HashMap<String, Last>>,
}

impl Rates {
    /// Nanoseconds of CPU time for each second of late, `used` being all of it at the time `at`; `None`
    /// until there are two measurements.
    pub(crate) fn nano_cores(&self, id: &str, at: i64, used: u64) -> Option<u64> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let last = match table.get(id).copied() {
            // Less than before: the cgroup is a new one.
            Some(last) if used < last.used => Last { at, used, rate: None },
            Some(last) if at - last.at < WINDOW => return last.rate,
            Some(last) => {
                let nanoseconds = u128::from((at - last.at).unsigned_abs());
                let rate = u128::from(used - last.used) * 1_000_000_000 / nanoseconds;
                Last { at, used, rate: Some(u64::try_from(rate).unwrap_or(u64::MAX)) }
            }
            None => {
                table.retain(|_, last| at - last.at < KEPT);
                Last { at, used, rate: None }
            }
        };
        table.insert(id.to_owned(), last);
        last.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_two_measurements_that_lie_apart() {
        let rates = Rates::default();
        let second = 1_000_000_000;
        for (at, used, want) in [
            (0, 0, None),
            (second / 2, 400, None),
            (2 * second, 1_000_000_000, Some(500_000_000)),
            (2 * second + 1, 9_000_000_000, Some(500_000_000)),
            (3 * second, 1_500_000_000, Some(500_000_000)),
            (4 * second, 1_500_000_000, Some(0)),
            (5 * second, 3, None),
        ] {
            assert_eq!(rates.nano_cores("a", at, used), want, "at {at}");
        }
        assert_eq!(rates.nano_cores("b", 5 * second, 7), None, "objects are apart");
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let rates = Rates::default();
        rates.nano_cores("a", 0, 1);
        rates.nano_cores("b", 2 * KEPT, 1);
        assert_eq!(rates.table.lock().unwrap().len(), 1);
    }
}
