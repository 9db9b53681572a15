//! Maps of sparse files.

use super::numbers;

/// A piece of a sparse file that has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
}

/// The most pieces of one file that are taken; a map longer than this is no file's but a bomb's.
pub(crate) const MAX_SEGMENTS: usize = 100_000;

/// The pieces whose offsets and lengths are in `numbers` by turns, for a file of `real_size` bytes of
/// which the archive stores `stored`.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn from_numbers(
    numbers: &[u64],
    real_size: u64,
    stored: u64,
) -> Result<Vec<Segment>, &'static str> {
    if !numbers.len().is_multiple_of(2) {
        return Err("the map of a sparse file has an odd end");
    }
    if numbers.len() / 2 > MAX_SEGMENTS {
        return Err("the map of a sparse file is too long");
    }
    let mut end = 0_u64;
    let mut sum = 0_u64;
    let mut segments = Vec::with_capacity(numbers.len() / 2);
    for pair in numbers.chunks_exact(2) {
        let segment = Segment { offset: pair[0], length: pair[1] };
        let after = segment.offset.checked_add(segment.length).filter(|a| *a <= real_size);
        let Some(after) = after.filter(|_| segment.offset >= end) else {
            return Err("the map of a sparse file is not in order or leaves the file");
        };
        end = after;
        sum += segment.length;
        if segment.length > 0 {
            segments.push(segment);
        }
    }
    if sum == stored { Ok(segments) } else { Err("the map of a sparse file misses its data") }
}

/// Adds the pairs of one field of GNU tar's old format: offset and length of 12 bytes each, up to
/// the first that is empty.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn add_old_pairs(field: &[u8], numbers: &mut Vec<u64>) -> Result<(), &'static str> {
    for pair in field.chunks_exact(24) {
        if pair[0] == 0 {
            return Ok(());
        }
        for half in [&pair[..12], &pair[12..]] {
            numbers.push(numbers::unsigned(half).ok_or("the map of a sparse file has no numbers")?);
        }
    }
    if numbers.len() / 2 > MAX_SEGMENTS {
        return Err("the map of a sparse file is too long");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_must_be_in_order_inside_the_file_and_as_long_as_its_data() {
        assert_eq!(
            from_numbers(&[0, 5, 10, 3, 20, 0], 20, 8).unwrap(),
            [Segment { offset: 0, length: 5 }, Segment { offset: 10, length: 3 }]
        );
        for (numbers, real, stored) in [
            (&[0, 5, 10][..], 20, 5),
            (&[10, 3, 0, 5], 20, 8),
            (&[0, 5, 4, 5], 20, 10),
            (&[0, 21], 20, 21),
            (&[u64::MAX, 2], u64::MAX, 2),
            (&[0, 5], 20, 6),
        ] {
            assert!(from_numbers(numbers, real, stored).is_err(), "{numbers:?}");
        }
    }
}
