//! Lists of CPUs and of memory nodes.

use std::fmt;

/// Numbers in the list format of cpuset(7), such as `0-2,5`: not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList {
    /// Sorted, with a gap between each two.
    ranges: Vec<(u32, u32)>,
}

impl CpuList {
    /// More than any kernel has (NR_CPUS).
    const END: u32 = 65_536;

    /// Reads a list; `None` for a text that is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u32>().ok().filter(|number| digits && *number < Self::END)
        };
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = number(first).zip(number(last));
            range.filter(|(first, last)| first <= last)
        };
        let mut given = text.split(',').map(range).collect::<Option<Vec<_>>>()?;
        given.sort_unstable();
        let mut ranges: Vec<(u32, u32)> = Vec::with_capacity(given.len());
        for (first, last) in given {
            match ranges.last_mut() {
                Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
                Some(_) | None => ranges.push((first, last)),
            }
        }
        Some(Self { ranges })
    }

    /// The least.
    #[must_use]
    pub fn first(&self) -> u32 {
        self.ranges.first().map_or(0, |range| range.0)
    }

    /// The least that `other` has not.
    #[must_use]
    pub fn first_outside(&self, other: &Self) -> Option<u32> {
        self.ranges.iter().find_map(|(first, last)| {
            let around = other.ranges.iter().find(|range| range.0 <= *first && *first <= range.1);
            match around {
                None => Some(*first),
                Some(range) => (range.1 < *last).then(|| range.1 + 1),
            }
        })
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.ranges.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{first}")?;
            if first < last {
                write!(f, "-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_sorted_and_each_number_is_in_it_once() {
        for (text, shown, first) in [
            ("0", "0", 0),
            ("5,0-2", "0-2,5", 0),
            ("3-4,5,4-6,9", "3-6,9", 3),
            ("2-9,3", "2-9", 2),
            ("65535", "65535", 65_535),
        ] {
            let list = CpuList::parse(text).unwrap();
            assert_eq!((list.to_string().as_str(), list.first()), (shown, first), "{text}");
        }
        for text in ["", "x", "1-", "-1", "2-1", "0,", "+1", " 1", "65536", "1-2-3"] {
            assert_eq!(CpuList::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_first_number_that_another_list_has_not_is_found() {
        for (list, other, outside) in [
            ("0-1", "0-3", None),
            ("1,3", "0-1,3", None),
            ("0-99", "0-1", Some(2)),
            ("50-60", "0-1", Some(50)),
            ("0,2", "0-1,3", Some(2)),
            ("0-3", "1-3", Some(0)),
        ] {
            let [list, other] = [list, other].map(|text| CpuList::parse(text).unwrap());
            assert_eq!(list.first_outside(&other), outside, "{list} in {other}");
        }
    }
}
